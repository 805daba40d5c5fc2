"""Coverage-guided fuzzing of the readers: any bytes give a result or an `InputError`, in bounded time and memory."""
