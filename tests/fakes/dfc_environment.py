"""Make an interpreter in which the stand-in for the Dataflow Compiler is installed, as the vendor's wheel would be.

The packages it needs, with the vendor's old pins, lie in `.venv-dfc`, which `make test` builds once.
"""

from __future__ import annotations

import sys
import venv
from pathlib import Path

FAKES = Path(__file__).resolve().parent
BASE = FAKES.parents[1] / ".venv-dfc"
SITE_PACKAGES = Path("lib", f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")


def interpreter(folder: Path, version: str = "3.33.0") -> Path:
    """Return the Python of a new environment in `folder`: old pins, a DFC of that version, nothing of hefjoin.

    Raises:
        RuntimeError: `make test` has not built what it rests on.
    """
    if not (BASE / "ready").exists():
        raise RuntimeError(f"{BASE} is not there or not whole; run make test")
    venv.EnvBuilder(symlinks=True).create(folder)
    packages = folder / SITE_PACKAGES
    (packages / "dfc.pth").write_text(f"{BASE / SITE_PACKAGES}\n{FAKES / 'dfc'}\n", encoding="utf-8")
    about = packages / f"hailo_dataflow_compiler-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: hailo-dataflow-compiler\nVersion: {version}\n", encoding="utf-8"
    )
    return folder / "bin" / "python"
