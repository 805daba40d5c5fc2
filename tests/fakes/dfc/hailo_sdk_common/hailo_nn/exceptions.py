"""What the graph library raises."""


class UnsupportedModelError(Exception):
    """The file cannot be translated at all."""
