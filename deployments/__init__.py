"""hefjoin as a service: what is deployed, how server and workers are set up, and the commands that do it."""
