"""What is fuzzed: each target reads one file as a person's command would, and shows what it found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from flows.views import inspect, inspect_text
from hefjoin.artifacts import Ref
from hefjoin.formats import har, hef, hef_listing, model_script, onnx_file, onnx_head
from hefjoin.formats.model_script_commands import COMMANDS
from hefjoin.stages import network
from tests.fuzz import mutators, seeds


@dataclass(frozen=True)
class Target:
    """One reader under test."""

    read: Callable[[Path], None]
    """Raises `InputError` for what is no such file; anything else is a finding."""
    seeds: Callable[[Path], Iterable[bytes]]
    """Takes a folder to write in."""
    mutate: Callable[[bytes, int, Random, mutators.Change], bytes]
    limit_bytes: int
    """Of one input."""
    suffix: str
    """Of the file that it lies in."""
    words: tuple[str, ...] = ()
    """What the fuzzer may insert."""


def read_hef(path: Path) -> None:
    """List a HEF in every way and take its resources out."""
    found = hef.read(path)
    hef_listing.like_hailortcli(found)
    for name in found.resources[:4]:
        hef.resource(path, name)
    show(path)


def read_har(path: Path) -> None:
    """Read the graph of a HAR, count its weights and its work, and take one member out."""
    found = har.read(path)
    assert found.parameters == sum(layer.parameters for layer in found.layers)
    network.describe(path, Ref(uri="file:///input", sha256="0" * 64, size_bytes=0, media="har"))
    show(path)
    har.read_member(path, har.METADATA_SUFFIX)
    har.read_member(path, ".alls")


def show(path: Path) -> None:
    """Do what `hefjoin inspect` does, as JSON and as text."""
    found = inspect.describe(path)
    json.dumps(found, allow_nan=False)
    inspect_text.show(found).encode()


def read_onnx(path: Path) -> None:
    """Summarize an ONNX file."""
    assert f"{onnx_file.read(path).parameters:,}"
    json.dumps(onnx_head.read_head(path).model_dump(mode="json"), allow_nan=False)


def read_script(path: Path) -> None:
    """Parse a model script; what is printed again must parse to the same."""
    script = model_script.parse(path.read_text(encoding="utf-8", errors="replace"))
    assert model_script.parse(str(script)) == script


SCRIPT_WORDS = (*COMMANDS, *sorted({word for known in COMMANDS.values() for word in known.keywords or ()}))
HN_WORDS = ("layers", "net_params", "net_scopes", "params", "kernel_shape", "input_shapes", "type", "dw", "state", "hn")

TARGETS = {
    "hef": Target(read_hef, lambda _: seeds.hefs(), mutators.mutate_hef, 1 << 16, ".hef"),
    "har": Target(read_har, seeds.hars, mutators.mutate_har, 1 << 16, ".har", HN_WORDS),
    "onnx": Target(read_onnx, lambda _: seeds.onnx_files(), mutators.mutate_onnx, 1 << 14, ".onnx"),
    "script": Target(read_script, lambda _: seeds.scripts(), mutators.mutate_text, 1 << 15, ".alls", SCRIPT_WORDS),
}
