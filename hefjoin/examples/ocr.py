"""The OCR pair: two published text detectors, read from the installed packages that ship them.

The rule: real photographs with text come first; as there are only two in the packages, the rest are photographs
with words drawn on them, and the spec says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hefjoin.examples import photos
from hefjoin.examples.packaged import packaged_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

MODEL_FILES = (
    ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx", "rapidocr-onnxruntime"),
    ("rapidocr", "models/PP-OCRv6_det_small.onnx", "rapidocr"),
)
SIZE = 320
TEXT_PHOTOGRAPHS = (
    photos.Photograph("skimage", "data/page.png", "scikit-image"),
    photos.Photograph("skimage", "data/text.png", "scikit-image"),
)
PHOTOGRAPHED = 24
"""Crops of photographs with text, in each set."""
DRAWN = 40
"""Crops of photographs with words drawn on them, in each set."""
MARGIN = 6
"""Of the plate around the words, pixels."""
WORDS = (
    "EXIT", "Open 24 h", "Platform 3", "No parking", "Gate B12", "PUSH", "Coffee", "Ticket office", "Line 7",
    "SALE -30%", "Please wait here", "Museum", "www.example.org", "Tel. 555-0199", "Lot 4471", "12:45",
)  # fmt: skip


def text_images(is_evaluation: bool, seed: int) -> NDArray[np.uint8]:
    """Return one set of images with text; the two sets share no pixel of a photograph.

    Args:
        is_evaluation: Take the right halves of the photographs with text, and the evaluation photographs to
            draw on; else the left halves and the calibration photographs.
        seed: Of the crops and of what is drawn on them.

    Returns:
        uint8, shape (64, 320, 320, 3), RGB, 0–255: 24 photographed, then 40 drawn.

    Raises:
        InputError: A package with the photographs is not installed.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    halves = [_half(photos.open_photograph(photograph), is_evaluation) for photograph in TEXT_PHOTOGRAPHS]
    photographed = [photos.random_crop(halves[i % len(halves)], SIZE, rng) for i in range(PHOTOGRAPHED)]
    backgrounds = photos.EVALUATION_PHOTOGRAPHS if is_evaluation else photos.CALIBRATION_PHOTOGRAPHS
    drawn = [_with_words(pixels, rng) for pixels in photos.photo_crops(SIZE, DRAWN, seed, backgrounds)]
    return np.stack([*photographed, *drawn])


def _half(image: Image.Image, is_right: bool) -> Image.Image:
    left = image.width // 2 if is_right else 0
    return image.crop((left, 0, left + image.width // 2, image.height))


def _with_words(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one to four signs, one below the other, on an image, uint8 (320, 320, 3)."""
    import numpy as np
    from PIL import Image

    image = Image.fromarray(pixels)
    for top in range(0, SIZE, SIZE // 4)[: rng.integers(1, 5)]:
        sign = _sign(WORDS[rng.integers(len(WORDS))], rng)
        left = int(rng.integers(0, max(1, SIZE - sign.width)))
        image.paste(sign, (left, top + int(rng.integers(0, SIZE // 16))), sign)
    return np.asarray(image)


def _sign(words: str, rng: np.random.Generator) -> Image.Image:
    """Return the words, dark or light, in a random size and slant, on a plate or without one, as RGBA."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=float(rng.integers(14, 44)))
    left, top, right, bottom = font.getbbox(words)
    ink, plate = (tuple(rng.integers(lowest, lowest + 70, 3).tolist()) for lowest in (0, 185))
    if rng.random() < 0.5:
        ink, plate = plate, ink
    alpha = 255 if rng.random() < 0.5 else 0
    sign = Image.new("RGBA", (int(right - left) + 2 * MARGIN, int(bottom - top) + 2 * MARGIN), (*plate, alpha))
    ImageDraw.Draw(sign).text((MARGIN - left, MARGIN - top), words, (*ink, 255), font)
    return sign.rotate(float(rng.uniform(-12, 12)), Image.Resampling.BICUBIC, expand=True)


def write_files(folder: Path) -> None:
    """Write the `calibration` and `evaluation` images; the models stay in their packages."""
    for file in MODEL_FILES:
        packaged_file(*file)
    photos.save_images(text_images(is_evaluation=False, seed=3), folder / "calibration")
    photos.save_images(text_images(is_evaluation=True, seed=4), folder / "evaluation")
