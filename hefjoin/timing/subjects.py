"""What is to be timed: HEF files, and builds by name.

The rule: before a device is asked for anything, everything that keeps the sides from being compared is said at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hefjoin.artifacts import file_sha256
from hefjoin.builds.find import find_manifest
from hefjoin.errors import InputError
from hefjoin.formats import hef as hef_file
from hefjoin.formats.hef import Hef
from hefjoin.manifest import Manifest
from hefjoin.stores import Store

RANDOM_FRAMES = 8
SEED = 8


class Subject(NamedTuple):
    """A HEF to time."""

    name: str
    path: Path
    sha256: str
    hef: Hef
    manifest: Manifest | None
    """Of the build it is from."""

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of its inputs: (height, width, channels)."""
        return [stream.shape for stream in self.hef.groups[0].inputs]


def subject(given: str, store: Store, folder: Path) -> Subject:
    """Return a HEF by its file, or by the name or id of its build.

    Args:
        given: A path; or what `hefjoin.builds.find` finds a build by.
        store: Where builds are.
        folder: Where the HEF of a build is laid.

    Raises:
        InputError: There is no such file or build, or it is no HEF.
        StoreError: The store cannot be read, or has lost the HEF.
    """
    path = Path(given)
    if path.is_file() and path.suffix != ".json":
        return Subject(given, path, file_sha256(path), hef_file.read(path), None)
    if path.suffix == ".hef":
        raise InputError(f"{given}: there is no such file; give a HEF, or a build by its name with --store")
    manifest = find_manifest(given, store)
    number = len(list(folder.iterdir()))
    path = store.get(manifest.compiled.hef, folder / f"{number}-{manifest.spec.name}.{manifest.compiled.hef.media}")
    return Subject(given, path, manifest.compiled.hef.sha256, hef_file.read(path), manifest)


def require_comparable(sides: Sequence[Sequence[Subject]]) -> None:
    """Check that sides can be timed against each other on one device.

    Raises:
        InputError: They cannot, with all reasons.
    """
    problems = list(_problems([subject for side in sides for subject in side]))
    if problems:
        raise InputError("\n  ".join([f"{_names(sides)} cannot be timed:", *problems]))


def _problems(subjects: Sequence[Subject]) -> Iterator[str]:
    for each in subjects:
        if len(each.shapes) != 1:
            yield f"{each.name} has {len(each.shapes)} inputs, one is fed: join the networks first"
    shapes = {each.name: each.shapes for each in subjects}
    if len({str(shape) for shape in shapes.values()}) > 1:
        listed = ", ".join(f"{name} takes {_shape(shape)}" for name, shape in shapes.items())
        yield f"{listed}: the same frames must go into all; compare HEFs of one input shape"
    emulated = [each.name for each in subjects if each.hef.is_emulated]
    if emulated and len(emulated) < len(subjects):
        real = ", ".join(each.name for each in subjects if not each.hef.is_emulated)
        yield (
            f"{', '.join(emulated)} was made by the emulator and runs on this CPU, {real} by the DFC for the chip: "
            "compare two of a kind"
        )


def frames_for(sides: Sequence[Sequence[Subject]], store: Store, folder: Path) -> tuple[Path, str]:
    """Return the frames to send, .npy, uint8, (frames, height, width, channels), and which they are, in words.

    Those of the evaluation set of the first build among the subjects, else random ones.
    """
    for each in (subject for side in sides for subject in side):
        if each.manifest is not None:
            path = store.get(each.manifest.check.evaluation.npy, folder / "frames.npy")
            return path, f"evaluation set of {each.manifest.spec.name}"
    shape = sides[0][0].shapes[0]
    frames = np.random.default_rng(SEED).integers(0, 256, (RANDOM_FRAMES, *shape), np.uint8)
    np.save(folder / "frames.npy", frames)
    return folder / "frames.npy", f"{RANDOM_FRAMES} random ones"


def _names(sides: Sequence[Sequence[Subject]]) -> str:
    return " against ".join(" + ".join(each.name for each in side) for side in sides)


def _shape(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join("×".join(map(str, shape)) for shape in shapes)
