"""Files that a model script names: the JSON of `nms_postprocess`, read, and brought under a scope.

The rule: in a joined network every layer is named with its scope, in such a file as in the script.

The keys are those of the configurations in Hailo's Model Zoo (`cfg/postprocess_config/`) and in public projects: each
entry of `bbox_decoders` has a `name` and its layers under `reg_layer`, `cls_layer`, `encoded_layer` and the like; an
empty text leaves the choice to the compiler. Both spellings, with and without scope, are in use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hefjoin.errors import InputError
from hefjoin.formats.model_script import Command, Glob, Script, Word

LIMIT_BYTES = 1 << 20
LAYER_SUFFIX = "_layer"
PATH_KEYWORD = "config_path"


def named_file(command: Command) -> str:
    """Return the path that a command gives, in first place or as `config_path`; empty where it gives none."""
    if command.name != "nms_postprocess":
        return ""
    given = command.get(PATH_KEYWORD, command.args[0] if command.args else None)
    return given if isinstance(given, str) and not isinstance(given, Word | Glob) else ""


def with_files(script: Script, names: Mapping[str, str]) -> Script:
    """Return the script with each path in `names` replaced by the name it is given there."""
    return Script(tuple(_renamed(command, names) for command in script.commands))


def _renamed(command: Command, names: Mapping[str, str]) -> Command:
    path = named_file(command)
    name = names.get(path, path)
    if command.get(PATH_KEYWORD) is not None:
        return replace(command, kwargs=tuple((k, name if k == PATH_KEYWORD else v) for k, v in command.kwargs))
    return replace(command, args=(name, *command.args[1:])) if path else command


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        InputError: It is missing, too large, no JSON, or no object.
    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > LIMIT_BYTES:
            raise InputError(f"{path} has {size_bytes:,} bytes, a configuration has at most {LIMIT_BYTES:,}")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, a JSON object is wanted")
    return content


def config_layers(config: Any) -> Iterator[str]:
    """Yield the layers of the network that a configuration names.

    >>> list(config_layers({"bbox_decoders": [{"name": "bbox_decoder41", "reg_layer": "conv41", "cls_layer": ""}]}))
    ['conv41']
    """
    if isinstance(config, dict):
        named = (value for key, value in config.items() if key.endswith(LAYER_SUFFIX))
        yield from (value for value in named if isinstance(value, str) and value)
    for value in _inside(config):
        yield from config_layers(value)


def scoped_config(config: Any, scope: str) -> Any:
    """Return a configuration with every layer and decoder that has no scope put under `scope`.

    >>> scoped_config({"name": "d41", "stride": 8, "reg_layer": "conv41", "cls_layer": "right/conv42"}, "left")
    {'name': 'left/d41', 'stride': 8, 'reg_layer': 'left/conv41', 'cls_layer': 'right/conv42'}
    """
    if isinstance(config, list):
        return [scoped_config(item, scope) for item in config]
    if not isinstance(config, dict):
        return config
    is_decoder = any(key.endswith(LAYER_SUFFIX) for key in config)
    return {
        key: f"{scope}/{value}"
        if is_decoder and (key == "name" or key.endswith(LAYER_SUFFIX)) and _lacks_scope(value)
        else scoped_config(value, scope)
        for key, value in config.items()
    }


def _lacks_scope(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "/" not in value


def _inside(config: Any) -> Iterator[Any]:
    if isinstance(config, dict):
        yield from config.values()
    elif isinstance(config, list):
        yield from config
