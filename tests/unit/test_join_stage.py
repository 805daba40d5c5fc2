"""The join stage's promises, and that the order of the models is part of what it is."""

from __future__ import annotations

from typing import Any

import pytest

from hefjoin.artifacts import Ref
from hefjoin.errors import CompileError, InputError, JoinError
from hefjoin.results.networks import Equality, Joined, Network, Tensor
from hefjoin.results.sources import Sdk
from hefjoin.stages.join import Join

REF = Ref(uri="file:///x", sha256="0" * 64, size_bytes=1, media="har")


def network(*outputs: str) -> Network:
    tensor = Tensor(layer="z/input_layer1", original_name="x", shape=(8, 8, 3))
    made = tuple(Tensor(layer=layer, original_name=layer, shape=(4,)) for layer in outputs)
    return Network(
        har=REF, scopes=("z",), state="hailo_model", hw_arch="hailo8", sdk_version="1", inputs=(tensor,), outputs=made,
        layers=(),
    )  # fmt: skip


def stage(provider: Any = "emulator", order: tuple[str, ...] = ("z", "a")) -> Join:
    pairs = tuple((name, network(f"{name}/conv9")) for name in order)
    return Join(networks=pairs, frames=REF, mean=(), std=(), sdk=Sdk(provider=provider, version="1"))


def joined(*rows: Equality) -> Joined:
    return Joined(
        name="joined_z_a",
        network=network("z/conv9", "z/conv10", "a/fc1"),
        input_layer="z/input_layer1",
        output_layers=("z/conv9", "z/conv10", "a/fc1"),
        equality=rows,
    )


def rows(difference: float = 0.0, largest: float = 1.0, exact: bool = True) -> list[Equality]:
    return [
        Equality(
            model=layer[0], layer=layer, frames=8, max_abs_difference=difference, largest_value=largest,
            is_bit_equal=exact,
        )
        for layer in ("z/conv9", "z/conv10", "a/fc1")
    ]  # fmt: skip


def test_outputs_keep_their_order_and_belong_to_their_scope() -> None:
    text = joined(*rows()).model_dump_json()
    read = Joined.model_validate_json(text).model_of_output
    assert list(read.items()) == [("z/conv9", "z"), ("z/conv10", "z"), ("a/fc1", "a")]


def test_models_in_another_order_are_another_join() -> None:
    assert stage(order=("z", "a")).key != stage(order=("a", "z")).key


def test_the_emulator_is_held_to_the_bit_and_the_dfc_to_a_share_of_the_output() -> None:
    stage().ensures(joined(*rows()))
    with pytest.raises(CompileError, match="changed float outputs"):
        stage().ensures(joined(*rows(1e-9, exact=False)))
    stage("dfc").ensures(joined(*rows(6e-4, largest=600.0, exact=False)))
    with pytest.raises(CompileError, match="changed float outputs"):
        stage("dfc").ensures(joined(*rows(6e-4, largest=1.0, exact=False)))


def test_an_output_that_was_not_compared_is_not_proved() -> None:
    with pytest.raises(CompileError, match="nothing was compared for a/fc1"):
        stage().ensures(joined(*rows()[:2]))


def test_an_output_that_is_not_finite_alone_is_the_models_fault() -> None:
    with pytest.raises(InputError, match="z/conv9 is not finite"):
        stage().ensures(joined(*rows(float("nan"), largest=float("nan"), exact=False)))


@pytest.mark.parametrize(
    ("order", "left"),
    [(("z", "a", "q"), "outputs of a, z, those of a, q, z"), (("z", "b"), "outputs of a, z, those of b, z")],
)
def test_scopes_that_were_not_kept_are_named(order: tuple[str, ...], left: str) -> None:
    with pytest.raises(JoinError, match=left):
        stage(order=order).ensures(joined())


def test_a_join_that_left_both_inputs_is_refused_with_their_names() -> None:
    result = joined()
    inputs = tuple(Tensor(layer=f"{scope}/input_layer1", original_name="x", shape=(8, 8, 3)) for scope in "za")
    apart = result.model_copy(update={"network": result.network.model_copy(update={"inputs": inputs})})
    with pytest.raises(JoinError, match=r"left 2 inputs \(z/input_layer1, a/input_layer1\)"):
        stage().ensures(apart)
