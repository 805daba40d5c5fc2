"""The counter on the Model Zoo's networks, against what is published of them and against counts made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from hefjoin.forecast.allocate import constants, pace
from hefjoin.forecast.chip import fitted
from hefjoin.forecast.fit import forecast_fit
from tests.zoo.catalogue import NETWORKS
from tests.zoo.counted import Counted, counted
from tests.zoo.tables import TABLES, Row, rows

needs_tables = pytest.mark.skipif(not TABLES.is_dir(), reason="needs the published tables, which are not committed")

WITHOUT = {"scdepthv3": 512 * 1000 + 1000}
"""Parameters that are published and in no layer: the classifier of its encoder, which nothing reads."""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Counted]:
    folder = tmp_path_factory.mktemp("zoo")
    return {name: counted(name, folder) for name in NETWORKS}


@pytest.fixture(scope="module")
def published() -> dict[str, Row]:
    return {row.model: row for row in rows() if row.layers_from == "rebuilt"}


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet_v1_18", 20 + 1 + 2),  # convolutions, dense, pools; each addition is in a convolution
        ("mobilenet_v1", 14 + 13 + 1 + 1),  # convolutions, depthwise, dense, pool
        ("squeezenet_v1.1", 26 + 8 + 4),  # convolutions, concatenations, pools
        ("tiny_yolov4", 21 + 3 + 7 + 3 + 1),  # convolutions, splits, concatenations, pools, resize
        ("yolov3_416", 75 + 23 + 2 + 2),  # an activation before each addition keeps it apart
        ("yolov8n", 63 + 8 + 6 + 13 + 3 + 2),  # convolutions, splits, additions, concatenations, pools, resizes
        ("yolox_l_leaky", 131 + 1 + 21 + 13 + 3 + 2),  # the four slices of the focus are one layer
    ],
)
def test_layers_are_those_that_the_architecture_has(zoo: dict[str, Counted], name: str, layers: int) -> None:
    assert len(zoo[name].works) == layers


def test_the_operations_of_a_resnet_18_are_the_known_ones(zoo: dict[str, Counted]) -> None:
    assert zoo["resnet_v1_18"].gops == pytest.approx(2 * 1.814, rel=0.001)


@needs_tables
def test_every_network_that_was_rebuilt_is_built(published: dict[str, Row]) -> None:
    assert set(NETWORKS) == set(published)


@needs_tables
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_the_published_parameters_and_about_the_given_layers(
    zoo: dict[str, Counted], published: dict[str, Row], name: str
) -> None:
    found, row = zoo[name], published[name]
    assert found.parameters + WITHOUT.get(name, 0) == pytest.approx(row.parameters, rel=0.02)
    assert len(found.works) == pytest.approx(row.layers, rel=0.1)


@needs_tables
def test_contexts_of_the_built_networks_are_foretold(zoo: dict[str, Counted], published: dict[str, Row]) -> None:
    right = [
        forecast_fit("hailo8", len(found.works), found.parameters).fits_one_context is not row.is_multi["hailo8"]
        for name, row in published.items()
        if (found := zoo[name])
    ]
    assert sum(right) >= 0.95 * len(right)


@needs_tables
def test_rates_of_those_in_one_context_are_foretold(zoo: dict[str, Counted], published: dict[str, Row]) -> None:
    factors = []
    for name, row in published.items():
        if row.is_multi["hailo8"] is False and row.fps["hailo8"]:
            found = zoo[name]
            foretold = pace(found.works, found.input_bytes, found.output_bytes, "hailo8", constants("hailo8")).fps
            factors.append(max(foretold / row.fps["hailo8"][0], row.fps["hailo8"][0] / foretold))
    factors.sort()
    assert factors[len(factors) // 2] < 1.25
    assert factors[int(0.9 * len(factors))] < 2.1


def test_the_coefficients_were_worth_what_is_promised() -> None:
    eight, small = (fitted()["fit"][chip] for chip in ("hailo8", "hailo8l"))
    assert (eight["accuracy"] >= 0.92, eight["auc"] >= 0.975, eight["calibration_error"] <= 0.03) == (True,) * 3
    assert small["accuracy"] >= 0.90
    sketch = fitted()["pace"]["hailo8"]
    assert (sketch["median_error"] <= 0.20, sketch["factor"] <= 2.1) == (True, True)


def test_networks_are_small_files_with_large_weights(tmp_path: Path) -> None:
    path = NETWORKS["yolov8x"]().save(tmp_path / "yolov8x.onnx")
    assert path.stat().st_size < 100_000
