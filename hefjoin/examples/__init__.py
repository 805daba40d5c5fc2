"""Ready builds to start from, each with everything it needs.

`resnet-pair` is the article's own pair with random weights, `mnist-pair` two trained networks with labelled
images, `ocr-pair` two published text detectors. The rule: a person's edits are never overwritten, and the same
call writes the same bytes.
"""

from __future__ import annotations

import difflib
import importlib
import tempfile
from pathlib import Path

from hefjoin.errors import InputError

__all__ = ["NAMES", "write"]

_MODULES = {"resnet-pair": "resnet", "ocr-pair": "ocr", "mnist-pair": "mnist"}
NAMES: tuple[str, ...] = tuple(_MODULES)


def write(name: str, directory: Path) -> Path:
    """Write the spec `<name>.yaml` and, beside it, the folder `<name>` with its models and images.

    An example that is there already, its spec unedited, is left as it is.

    Args:
        name: One of `NAMES`.
        directory: Created if absent.

    Returns:
        The path of the spec.

    Raises:
        InputError: The name is unknown, a package of the extra `examples` is missing, the directory cannot be
            written, or it holds files of these names that were not written here.
    """
    if name not in _MODULES:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(NAMES)}"
        raise InputError(f"no example is named {name!r}; {hint}", names=list(NAMES))
    spec, folder = directory / f"{name}.yaml", directory / name
    content = (Path(__file__).parent / "specs" / spec.name).read_bytes()
    try:
        if _is_written(spec, folder, content):
            return spec
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=directory) as scratch:
            draft = Path(scratch) / name
            draft.mkdir()
            importlib.import_module(f"{__name__}.{_MODULES[name]}").write_files(draft)
            (Path(scratch) / spec.name).write_bytes(content)
            draft.rename(folder)
            (Path(scratch) / spec.name).rename(spec)
    except OSError as error:
        raise InputError(f"{directory}: the example cannot be written: {error}; choose another directory") from error
    return spec


def _is_written(spec: Path, folder: Path, content: bytes) -> bool:
    """Return whether nothing is left to write; refuse to touch what was not written here."""
    if spec.exists() and spec.read_bytes() != content:
        raise InputError(f"{spec}: exists and is not what the example says; rename it or choose another directory")
    if folder.exists() and not spec.exists():
        raise InputError(f"{folder}: exists without its spec {spec.name}; rename it or choose another directory")
    return folder.exists()
