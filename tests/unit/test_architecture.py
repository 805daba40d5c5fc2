"""The house stands as design.md draws it: imports run one way, and what is heavy is imported where it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "spec": {"errors"},
    "spec_file": {"errors", "service", "sources", "spec", "stores"},
    "errors": set(),
    "sessions": set(),
    "folders": set(),
    "service": {"errors"},
    "artifacts": set(),
    "formats": {"artifacts", "spec", "errors"},
    "forecast": {"artifacts", "errors", "formats"},
    "calibration": {"calibration_sources", "artifacts", "errors"},
    "calibration_sources": {"artifacts", "errors"},
    "metrics": {"artifacts", "errors", "service"},
    "labels": {"artifacts", "calibration", "calibration_sources", "errors", "metrics", "spec"},
    "scores": {"artifacts", "metrics"},
    "coverage": {"formats", "sessions"},
    "results": {"artifacts", "spec", "errors", "calibration", "forecast", "formats", "scores"},
    "manifest": {"artifacts", "results", "scores", "spec"},
    "builds": {"artifacts", "errors", "manifest", "results", "scores", "spec", "stores"},
    "stores": {"artifacts", "errors"},
    "catalogue": {
        "artifacts", "builds", "calibration", "calibration_sources", "errors", "folders", "formats", "manifest",
        "results", "sdk", "service", "sources", "spec", "spec_file", "stages", "stores",
    },
    "housekeeping": {"artifacts", "folders", "sources"},
    "sources": {"artifacts", "calibration_sources", "errors", "service", "stores"},
    "compatibility": {"artifacts"},
    "sdk": {"artifacts", "compatibility", "errors", "results"},
    "doctor": {"artifacts", "compatibility", "devices", "sdk", "folders"},
    "devices": {"artifacts", "compatibility", "errors", "folders", "results", "spec", "formats", "sessions"},
    "report": {"artifacts", "errors", "manifest", "results", "spec", "forecast", "calibration", "metrics", "scores"},
    "emulator": {"forecast", "formats", "errors", "sessions"},
    "examples": {"errors", "artifacts"},
    "timing": {"artifacts", "builds", "devices", "errors", "formats", "manifest", "results", "spec", "stores"},
    "loader": {"compatibility", "manifest", "results"},
    "conformance": {"artifacts", "devices", "errors", "folders", "formats", "results", "sdk"},
    "joining": {"artifacts", "calibration", "calibration_sources", "errors", "formats", "metrics", "results", "spec"},
    "stages": {
        "artifacts", "builds", "calibration", "calibration_sources", "compatibility", "coverage", "devices", "errors",
        "forecast", "formats", "joining", "labels", "manifest", "metrics", "report", "sources", "results", "scores",
        "sdk", "service", "spec", "stores",
    },
}  # fmt: skip


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in (ROOT / "hefjoin").rglob("*.py"):
        parts = path.relative_to(ROOT / "hefjoin").with_suffix("").parts
        if parts != ("__init__",):
            found.setdefault(parts[0], []).append(path)
    return found


def test_every_room_is_in_the_plan() -> None:
    assert set(rooms()) == set(ALLOWED)


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_inside_hefjoin_run_one_way(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in rooms()[room]
        for name in imports(path)
        if name.startswith("hefjoin.") and name.split(".")[1] not in {room, "__version__", *ALLOWED[room]}
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("hefjoin", ("prefect", "deployments", "tasks", "flows", "hailo_sdk_client", "hailo_platform")),
        ("tasks", ("deployments", "flows", "hailo_sdk_client", "hailo_platform")),
        ("flows", ("deployments", "hailo_sdk_client", "hailo_platform", "hefjoin.emulator")),
        ("deployments", ("hailo_sdk_client", "hailo_platform", "hefjoin.emulator")),
    ],
)
def test_layers_import_downwards_only(folder: str, forbidden: tuple[str, ...]) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name in imports(path)
        if any(name == banned or name.startswith(f"{banned}.") for banned in forbidden)
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("hefjoin", ["prefect", "onnx", "onnxruntime", "boto3", "numpy", "pydantic"]),
        ("flows.cli", ["prefect", "onnx", "onnxruntime", "boto3", "numpy", "pydantic", "rich"]),
        ("hefjoin.spec_file", ["prefect", "onnx", "onnxruntime", "boto3", "numpy"]),
        ("hefjoin.doctor", ["prefect", "onnx", "onnxruntime", "boto3", "hefjoin.emulator"]),
        ("hefjoin.stages.parse", ["prefect", "onnxruntime", "boto3", "hefjoin.emulator"]),
        ("hefjoin.stages.duet", ["prefect", "onnxruntime", "boto3", "matplotlib", "hefjoin.emulator"]),
        ("hefjoin.timing.run", ["prefect", "onnx", "onnxruntime", "boto3", "scipy", "hefjoin.emulator"]),
        ("hefjoin.stages.examine", ["prefect", "onnx", "onnxruntime", "boto3", "ruamel", "rich", "hefjoin.emulator"]),
        ("hefjoin.stages.foretell", ["prefect", "onnxruntime", "boto3", "scipy", "hefjoin.emulator"]),
    ],
)
def test_heavy_packages_are_imported_where_they_are_used(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
