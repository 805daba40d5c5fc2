"""Equal models, frames and scripts give equal bytes, in one process and in another."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import graphs
import pytest
import runners
from graphs import conv, conv_weights, network, node

SCRIPT = "model_optimization_flavor(optimization_level={}, compression_level=1)"


def har_sha256(level: int, folder: Path) -> str:
    """Quantize and compile a small network at a level; returns the digest of its HAR and HEF."""
    folder.mkdir()
    weights = conv_weights("c", 8, 3, 3, 3) | conv_weights("d", 8, 1, 3, 3) | conv_weights("e", 4, 8, 3, 3)
    nodes = [
        conv("x", "a", "c"), node("Relu", "a", "r"), conv("r", "b", "d", group=8), node("Relu", "b", "s"),
        conv("s", "y", "e"),
    ]  # fmt: skip
    runner = runners.quantized(network(nodes, weights), folder, graphs.frames(8), SCRIPT.format(level))
    runner.analyze_noise(graphs.frames(4))
    runner.save_har(folder / "net.har")
    return hashlib.sha256((folder / "net.har").read_bytes() + runner.compile()).hexdigest()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_same_bytes_again(level: int, tmp_path: Path) -> None:
    assert har_sha256(level, tmp_path / "first") == har_sha256(level, tmp_path / "second")


def test_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import contextlib, io, pathlib, test_determinism\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    found = test_determinism.har_sha256(2, pathlib.Path({str(tmp_path / 'other')!r}))\n"
        "print(found)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == har_sha256(2, tmp_path / "here")
