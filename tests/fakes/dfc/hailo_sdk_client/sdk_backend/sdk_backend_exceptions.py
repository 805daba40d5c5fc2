"""What the backend raises. AllocatorScript… and NMSConfig…: public logs name the classes, not their module."""


class BackendRuntimeException(Exception):
    """`compile` on a model that is not quantized."""


class BackendScriptParserException(Exception):
    """A model script that does not parse; `>!<` marks the place."""


class AllocatorScriptParserException(Exception):
    """A model script that parses and makes no sense for this model, or comes too late."""


class NMSConfigPostprocessException(Exception):
    """An NMS configuration that does not match."""


class BackendAllocatorException(Exception):
    """Mapping or compiling failed."""
