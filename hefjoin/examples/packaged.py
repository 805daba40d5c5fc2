"""Files that lie inside installed packages, found without importing the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from hefjoin.errors import InputError


def packaged_file(package: str, file: str, distribution: str) -> Path:
    """Return the path of `file` in the installed `package`; `distribution` is what pip calls the package.

    Raises:
        InputError: The package is not installed, or has no such file.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"{package}: not installed, and the example needs its {file}; pip install 'hefjoin[examples]' "
            f"brings {distribution}"
        )
    path = Path(found.submodule_search_locations[0]) / file
    if not path.is_file():
        raise InputError(
            f"{package}: the installed {distribution} has no {file}; pip install --upgrade 'hefjoin[examples]'"
        )
    return path
