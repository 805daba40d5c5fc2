"""Layers as the chip places them, and what each does: against figures worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hefjoin.forecast.count import Work, count, fused
from hefjoin.formats.har_layers import HarLayer


def layer(
    name: str, kind: str, *, inputs: list[str], shapes: list[list[int]], out: list[int], **params: Any
) -> HarLayer:
    return HarLayer.model_validate(
        {
            "name": name,
            "type": kind,
            "input": inputs,
            "output": [f"reader of {name}"],
            "input_shapes": [[-1, *shape] for shape in shapes],
            "output_shapes": [[-1, *out]],
            "params": params,
        }
    )


WORKS = [
    # A 3x3 convolution of 8x10 pixels from 4 to 6 features: 8·10 · 3·3·4·6, three rows of ten pixels.
    (
        layer("c", "conv", inputs=["i"], shapes=[[8, 10, 4]], out=[8, 10, 6], kernel_shape=[3, 3, 4, 6]),
        Work("c", "conv", 216 + 6, 80 * 216, 3 * 10 * 4, 320, 480),
    ),
    # One kernel a feature.
    (
        layer("d", "dw", inputs=["i"], shapes=[[8, 10, 4]], out=[4, 5, 4], kernel_shape=[5, 5, 4, 1]),
        Work("d", "dw", 100 + 4, 20 * 100, 5 * 10 * 4, 320, 80),
    ),
    # Applied once to each pixel that comes in.
    (
        layer("e", "deconv", inputs=["i"], shapes=[[4, 4, 8]], out=[8, 8, 2], kernel_shape=[2, 2, 8, 2]),
        Work("e", "deconv", 64 + 2, 16 * 64, 2 * 4 * 8, 128, 128),
    ),
    (
        layer("f", "dense", inputs=["i"], shapes=[[512]], out=[10], kernel_shape=[512, 10]),
        Work("f", "dense", 5130, 5120, 0, 512, 10),
    ),
    # A window has no weights.
    (
        layer("g", "maxpool", inputs=["i"], shapes=[[8, 10, 4]], out=[4, 5, 4], kernel_shape=[1, 3, 3, 1]),
        Work("g", "maxpool", 0, 0, 3 * 10 * 4, 320, 80),
    ),
    (
        layer("h", "concat", inputs=["i", "j"], shapes=[[4, 4, 8], [4, 4, 2]], out=[4, 4, 10]),
        Work("h", "concat", 0, 0, 4 * 8 + 4 * 2, 160, 160),
    ),
]


@pytest.mark.parametrize(("given", "wanted"), WORKS, ids=lambda value: getattr(value, "kind", ""))
def test_the_work_of_a_layer_is_what_its_shapes_say(given: HarLayer, wanted: Work) -> None:
    assert count([given]) == [wanted]


def test_what_only_stands_at_the_border_is_no_work() -> None:
    border = [layer(kind, kind, inputs=[], shapes=[[8]], out=[8]) for kind in ("input_layer", "format_conversion")]
    assert count(border) == []


def sliced(images: tuple[str, ...]) -> list[HarLayer]:
    """Slices of images, each twice in a row, that meet in one concatenation."""
    found = []
    for index, image in enumerate(images):
        found.append(layer(f"rows{index}", "slice", inputs=[image], shapes=[[8, 8, 3]], out=[4, 8, 3]))
        found.append(layer(f"slice{index}", "slice", inputs=[f"rows{index}"], shapes=[[4, 8, 3]], out=[4, 4, 3]))
    names = [f"slice{index}" for index in range(len(images))]
    return [*found, layer("concat", "concat", inputs=names, shapes=[[4, 4, 3]] * len(images), out=[4, 4, 12])]


def test_the_slices_of_one_image_are_one_layer_with_their_concatenation() -> None:
    layers = sliced(("image",) * 4)
    assert [work.layer for work in count(layers)] == ["concat"]


def test_slices_of_several_images_take_their_own_places() -> None:
    assert fused(sliced(("image", "image", "other", "image"))) == frozenset()


def test_a_concatenation_of_a_slice_and_something_else_is_no_space_to_depth() -> None:
    layers = sliced(("image",) * 2)
    other = layers[-1].model_copy(update={"inputs": ("slice0", "image")})
    assert fused([*layers[:-1], other]) == frozenset()
