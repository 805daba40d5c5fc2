"""A person's own metric: the one door through which a spec's text becomes code that runs.

The rule: nothing else imports what a spec names. A service lets through only what its `HEFJOIN_SERVICE_METRICS` lists.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from hefjoin.artifacts import file_sha256
from hefjoin.errors import InputError
from hefjoin.service import metric_refusal

_SOURCES: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()
"""Digests of the loaded modules' files: a file that changes during the hours of a build is not what judges it."""


def load(reference: str) -> Callable[[Any, Any], Any]:
    """Return the function that `package.module:function` names, found as any Python import is.

    Raises:
        InputError: A service does not allow it, there is no such module or function, or the module's own code fails.
    """
    if refusal := metric_refusal(reference):
        raise InputError(refusal)
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module's own code may raise anything
        raise InputError(
            f"{reference}: the module {module_name} cannot be imported: {type(error).__name__}: {error}. Install it "
            "beside hefjoin, or add its folder to PYTHONPATH"
        ) from error
    if module not in _SOURCES:
        path = getattr(module, "__file__", None)
        _SOURCES[module] = file_sha256(Path(path)) if path else ""
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"{reference}: the module {module_name} has no function {name}")
    return function  # type: ignore[no-any-return]


def source_sha256(reference: str) -> str:
    """Return the digest of the file that a function was loaded from, as it was then; empty where it has none."""
    return _SOURCES[sys.modules[reference.partition(":")[0]]]
