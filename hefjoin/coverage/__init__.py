"""How much of the ranges of several networks one calibration set gives, and which of its frames give it."""
