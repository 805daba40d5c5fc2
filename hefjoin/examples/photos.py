"""Real pictures without a download: random crops of the photographs that scikit-image and scikit-learn ship.

The rule: only files inside the installed packages are read (scikit-image's loaders may download), and the same
arguments give the same pixels. Drawings, test charts, masks and microscope pictures are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hefjoin.examples.packaged import packaged_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


class Photograph(NamedTuple):
    """A picture inside an installed package."""

    package: str
    file: str
    distribution: str


def _skimage(file: str) -> Photograph:
    return Photograph("skimage", f"data/{file}", "scikit-image")


def _sklearn(file: str) -> Photograph:
    return Photograph("sklearn", f"datasets/images/{file}", "scikit-learn")


CALIBRATION_PHOTOGRAPHS = (
    _skimage("astronaut.png"),
    _skimage("coffee.png"),
    _skimage("motorcycle_left.png"),
    _sklearn("china.jpg"),
    _skimage("camera.png"),
    _skimage("coins.png"),
    _skimage("grass.png"),
    _skimage("hubble_deep_field.jpg"),
)
EVALUATION_PHOTOGRAPHS = (
    _skimage("chelsea.png"),
    _skimage("rocket.jpg"),
    _sklearn("flower.jpg"),
    _skimage("retina.jpg"),
    _skimage("brick.png"),
    _skimage("gravel.png"),
    _skimage("moon.png"),
)
"""None of these shows what a calibration photograph shows."""

SMALLEST_CROP = 0.4
"""Of the photograph's shorter side."""


def photo_crops(
    size: int, count: int, seed: int, photographs: Sequence[Photograph] = CALIBRATION_PHOTOGRAPHS
) -> NDArray[np.uint8]:
    """Return square random crops of the photographs, taken in turn and resized.

    Args:
        size: Height and width of every crop, pixels.
        count: How many crops.
        seed: Of their places, sizes and mirroring.
        photographs: Where to crop.

    Returns:
        uint8, shape (frames, height, width, 3), RGB, 0–255.

    Raises:
        InputError: A package with the photographs is not installed.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    opened = [open_photograph(photograph) for photograph in photographs]
    crops = np.empty((count, size, size, 3), np.uint8)
    for frame in range(count):
        crop = random_crop(opened[frame % len(opened)], size, rng)
        crops[frame] = crop[:, ::-1] if rng.random() < 0.5 else crop
    return crops


def open_photograph(photograph: Photograph) -> Image.Image:
    """Return the decoded photograph as RGB; a grey one has three equal channels.

    Raises:
        InputError: Its package is not installed.
    """
    from PIL import Image

    with Image.open(packaged_file(*photograph)) as image:
        return image.convert("RGB")


def random_crop(image: Image.Image, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a square of the RGB image, resized, as uint8 (size, size, 3); `rng` chooses its place and side."""
    import numpy as np
    from PIL import Image

    shorter = min(image.size)
    side = int(rng.integers(int(SMALLEST_CROP * shorter), shorter + 1))
    left = int(rng.integers(0, image.width - side + 1))
    top = int(rng.integers(0, image.height - side + 1))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side)))


def save_images(images: NDArray[np.uint8], folder: Path) -> None:
    """Write the images, uint8 (frames, height, width, 3), as `000.png`, `001.png`, … into a new folder."""
    from PIL import Image

    folder.mkdir()
    for frame, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{frame:03d}.png", compress_level=1)
