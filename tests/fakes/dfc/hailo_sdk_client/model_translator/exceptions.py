"""What the translation of a model raises."""

from hailo_sdk_common.hailo_nn.exceptions import UnsupportedModelError as UnsupportedModelError


class ParsingWithRecommendationException(Exception):
    """Operators are unsupported; the text ends with `: node, node, …`, the end nodes to try instead."""


class MisspellNodeError(Exception):
    """A start or end node does not exist."""
