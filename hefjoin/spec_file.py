"""Reads a spec from where it lies: a file on this machine, or an object in S3.

The rule: what a spec names without saying where lies beside the spec, wherever that is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hefjoin.errors import InputError, Problem, SpecError, StoreError
from hefjoin.service import source_refusal
from hefjoin.spec import BuildSpec, validate_spec

S3 = "s3://"
MOST_BYTES = 16 * 2**20
"""Larger than the longest list of images that a set may be."""
MOST_VALUES = 200_000
"""A list of 65,536 images twice, and some more; YAML can say a billion in ten lines."""
_FILE_ARGUMENT = re.compile(r"""(\bnms_postprocess\s*\(\s*["'])([^"'\n]+)(["'])""")
"""The file that a model script refers to."""


def read_spec(uri: str | Path) -> BuildSpec:
    """Read a spec in YAML or JSON; relative paths in it are made absolute, seen from its place.

    Args:
        uri: A path, or `s3://bucket/key`.

    Raises:
        SpecError: Nothing lies there, a service may not read it, it is not YAML, or has wrong fields, all of which are
            listed.
        StoreError: S3 cannot be reached, or refuses.
    """
    where = str(uri)
    if refusal := source_refusal(where):
        raise _refused(where, refusal)
    if where.startswith(S3):
        text, beside = _in_s3(where), partial(_beside_in_s3, where.rpartition("/")[0])
    elif "://" in where:
        raise _refused(where, "is neither a path nor s3://bucket/key")
    else:
        path = Path(uri).expanduser()
        text, beside = _on_this_machine(path, where), partial(_beside_file, path.resolve().parent)
    return _resolved(validate_spec(_parsed(text, where), where), beside)


def text_of(path: Path) -> str:
    """Return the text of a spec on this machine; raises as `read_spec` does."""
    return _on_this_machine(path.expanduser(), str(path))


def spec_of(text: str, path: Path) -> BuildSpec:
    """Return the spec that a text says which is to lie at a path; raises as `read_spec` does."""
    return _resolved(validate_spec(_parsed(text, str(path)), str(path)), partial(_beside_file, path.resolve().parent))


def one_spec(spec: Any, spec_file: str) -> BuildSpec:
    """Return the spec that was given in one of two ways.

    Args:
        spec: A BuildSpec, what JSON gave of one, or None.
        spec_file: What `read_spec` takes, or nothing.

    Raises:
        SpecError: Both were given or none, or the spec is wrong.
        StoreError: S3 cannot be reached, or refuses.
    """
    if spec is not None and spec_file:
        raise _refused("the request", f"both spec and spec_file ({spec_file}) are given; leave one of them out")
    if spec_file:
        return read_spec(spec_file)
    if spec is None:
        raise _refused("the request", "neither spec nor spec_file is given; fill in one of them")
    return spec if isinstance(spec, BuildSpec) else validate_spec(spec)


def _refused(where: str, message: str) -> SpecError:
    return SpecError([Problem("", message)], where)


def _on_this_machine(path: Path, where: str) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise _too_large(where)
        return content.decode("utf-8")
    except FileNotFoundError as error:
        message = "no such file; `hefjoin example resnet-pair` writes one to start from"
        raise _refused(where, message) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(where, f"cannot be read: {error}") from error


def _in_s3(uri: str) -> str:
    from hefjoin.sources.bucket import Server
    from hefjoin.stores.s3 import split_uri

    try:
        if not split_uri(uri)[1]:
            raise _refused(uri, "names no key; write s3://bucket/key.yaml")
        server = Server(uri)
        version = server.version(uri)
        if version and version.size_bytes > MOST_BYTES:
            raise _too_large(uri)
        text = server.text(uri) if version else None
    except UnicodeDecodeError as error:
        raise _refused(uri, f"cannot be read: {error}") from error
    except SpecError:
        raise
    except InputError as error:
        raise _refused(uri, error.message) from error
    except StoreError as error:
        if error.reason != "bucket":
            raise
        raise _refused(uri, error.message) from error
    if text is None:
        raise _refused(uri, "no such object")
    return text


def _too_large(where: str) -> SpecError:
    return _refused(where, f"has more than {MOST_BYTES:,} bytes and is no spec, which is a short text in YAML or JSON")


def _parsed(text: str, where: str) -> Any:
    import yaml

    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2024-13-45 looks like a date
        raise _refused(where, f"is not YAML: {' '.join(str(error).split())}") from error
    count, values = 0, [raw]
    while values:
        value = values.pop()
        count += 1
        if count > MOST_VALUES:
            raise _refused(where, f"says more than {MOST_VALUES:,} values, perhaps by aliases within aliases")
        values += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return raw


def _beside_file(folder: Path, source: str) -> str:
    return str(folder / Path(source).expanduser())


def _beside_in_s3(folder: str, source: str) -> str:
    """Return the address of what lies beside a spec in S3; a path from the root stays one of this machine.

    >>> _beside_in_s3("s3://nets/specs", "../images/"), _beside_in_s3("s3://nets/specs", "/mnt/a.onnx")
    ('s3://nets/images/', '/mnt/a.onnx')
    """
    if source.startswith(("/", "~")):
        return str(Path(source).expanduser())
    parts, bucket = folder.split("/"), 3
    for part in source.split("/"):
        if part == "..":
            parts = parts[: max(bucket, len(parts) - 1)]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _resolved(spec: BuildSpec, beside: Callable[[str], str]) -> BuildSpec:
    """Return the spec with what is named relative to it made absolute."""

    def absolute(source: str) -> str:
        return source if not source or "://" in source or "\n" in source else beside(source)

    def referring(script: str) -> str:
        return _FILE_ARGUMENT.sub(lambda found: f"{found[1]}{absolute(found[2])}{found[3]}", script)

    return spec.model_copy(
        update={
            "models": [
                m.model_copy(update={"source": absolute(m.source), "script": referring(m.script)}) for m in spec.models
            ],
            "script": referring(spec.script),
            "dfc_python": absolute(spec.dfc_python) if "/" in spec.dfc_python else spec.dfc_python,
            "calibration": spec.calibration.model_copy(update={"source": absolute(spec.calibration.source)}),
            "evaluation": spec.evaluation.model_copy(update={"source": absolute(spec.evaluation.source)}),
        }
    )
