"""Join neural networks that look at the same image into one HEF for the Hailo-8."""

__version__ = "0.1.0"
