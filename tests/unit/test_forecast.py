"""Fit, speed and changes: what has to hold of any forecast, and what a script may say of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.forecast.allocate import Constants, constants, need, pace
from hefjoin.forecast.changes import Change, changes
from hefjoin.forecast.count import Work
from hefjoin.forecast.demand import Demand, joined
from hefjoin.forecast.fit import forecast_fit
from hefjoin.forecast.fps import Features, by_formula
from hefjoin.forecast.limits import PERFORMANCE, default_limits, limits_of, target_fps
from hefjoin.forecast.speed import speed
from hefjoin.formats.model_script import parse

CHIPS = ("hailo8", "hailo8l")


def conv(name: str, macs: int = 20_000_000, parameters: int = 10_000, data: int = 100_000) -> Work:
    return Work(name, "conv", parameters, macs, 1000, data, data)


def network(layers: int, name: str = "net", *, parameters: int = 10_000, macs: int = 20_000_000) -> Demand:
    works = tuple(conv(f"{name}/conv{index}", macs, parameters) for index in range(1, layers + 1))
    return Demand(works, pixels=224 * 224, input_bytes=224 * 224 * 3, output_bytes=1000)


class TestFit:
    @pytest.mark.parametrize("chip", CHIPS)
    @given(layers=st.integers(0, 400), parameters=st.integers(0, 100_000_000), more=st.integers(1, 50))
    def test_more_of_anything_is_never_more_likely_to_fit(
        self, chip: str, layers: int, parameters: int, more: int
    ) -> None:
        here = forecast_fit(chip, layers, parameters).probability_of_more_contexts
        assert forecast_fit(chip, layers + more, parameters).probability_of_more_contexts >= here
        assert forecast_fit(chip, layers, parameters + 100_000 * more).probability_of_more_contexts >= here

    @given(layers=st.integers(0, 200), parameters=st.integers(0, 40_000_000))
    def test_half_the_chip_and_half_the_limits_never_make_it_likelier_to_fit(
        self, layers: int, parameters: int
    ) -> None:
        whole = forecast_fit("hailo8", layers, parameters)
        default = forecast_fit("hailo8", layers, parameters, default_limits())
        assert default.probability_of_more_contexts >= whole.probability_of_more_contexts
        assert forecast_fit("hailo8l", layers, parameters).layer_limit == whole.layer_limit / 2

    def test_weights_beyond_the_memory_do_not_fit_however_few_the_layers(self) -> None:
        assert forecast_fit("hailo8", 20, 26_100_000).verdict == "does not fit"
        assert forecast_fit("hailo8", 20, 25_500_000).verdict == "fits"  # as RepVGG-A2 does

    @pytest.mark.parametrize(
        ("layers", "parameters", "verdict"),
        [
            (23, 11_684_712, "fits"),  # ResNet-18
            (95, 3_151_888, "fits"),  # YOLOv8n
            (147, 68_200_000, "does not fit"),  # YOLOv8x
            (190, 6_300_000, "does not fit"),  # two YOLOv8n
            (118, 14_836_600, "uncertain"),  # YOLOv8n and ResNet-18
        ],
    )
    def test_known_networks(self, layers: int, parameters: int, verdict: str) -> None:
        assert forecast_fit("hailo8", layers, parameters).verdict == verdict


class TestLimits:
    @pytest.mark.parametrize(
        ("script", "control", "mode"),
        [
            ("", 0.75, "default"),
            ("performance_param(fps=30)", 0.75, "default"),
            ("performance_param(compiler_optimization_level=1)", 0.75, "default"),
            ("performance_param(compiler_optimization_level=max)", 1.0, "performance mode"),
            ("resources_param(max_control_utilization=0.9)", 0.9, "the script's limits"),
            ("resources_param(max_utilization=0.8)", 0.8, "the script's limits"),
            ("resources_param(max_utilization=0.8, max_control_utilization=0.6)", 0.6, "the script's limits"),
            ("resources_param(max_compute_utilization=0.9)", 0.75, "the script's limits"),
        ],
    )
    def test_a_script_says_what_a_compile_may_take(self, script: str, control: float, mode: str) -> None:
        found = limits_of(parse(script))
        assert (found.control, found.mode) == (control, mode)

    def test_a_chip_has_no_more_controllers_than_it_has(self) -> None:
        limits = limits_of(parse("resources_param(max_control_utilization=1.2)"))
        assert forecast_fit("hailo8", 60, 1000, limits).layer_limit == 128

    @pytest.mark.parametrize(
        ("script", "fps"), [("", 0.0), ("performance_param(fps=30)", 30.0), ("performance_param(fps=null)", 0.0)]
    )
    def test_a_script_says_what_a_compile_aims_for(self, script: str, fps: float) -> None:
        assert target_fps(parse(script)) == fps


def is_enough(works: Sequence[Work], fps: float, given: Constants) -> bool:
    """The rule of the sketch, worked out anew: 8 subclusters of 64 at 400 MHz to a controller."""
    controllers = subclusters = 0
    for work in works:
        share = given.depthwise_efficiency if work.kind == "dw" else given.conv_efficiency
        parts = max(math.ceil(work.macs * fps / (64 * 400e6 * share)), 1)
        controllers += 1 if parts <= 8 else math.ceil(parts / 8) + 1
        subclusters += parts
    return controllers <= 128 and subclusters <= 512


class TestSketch:
    @given(macs=st.lists(st.integers(200_000_000, 2_000_000_000), min_size=1, max_size=60), is_depthwise=st.booleans())
    def test_the_rate_is_the_highest_that_the_chip_is_enough_for(self, macs: list[int], is_depthwise: bool) -> None:
        given_constants = constants("hailo8")._replace(layer_bytes_per_second=1e15, link_bytes_per_second=1e15)
        works = [
            Work(str(i), "dw" if is_depthwise and i % 2 else "conv", 1, each, 1, 1, 1) for i, each in enumerate(macs)
        ]
        found = pace(works, 1, 1, "hailo8", given_constants).fps
        assert is_enough(works, 0.99 * found, given_constants)
        assert not is_enough(works, 1.01 * found, given_constants)

    @given(share=st.floats(1.0, 8.0))
    def test_more_work_is_never_faster(self, share: float) -> None:
        slow, fast = (network(30, macs=round(factor * 10_000_000)) for factor in (share, 1.0))
        assert pace(slow.works, 1, 1, "hailo8").fps <= pace(fast.works, 1, 1, "hailo8").fps * 1.0001

    def test_neither_a_layers_data_nor_the_link_is_outrun(self) -> None:
        found, wide = constants("hailo8"), conv("wide", macs=1000, data=50_000_000)
        assert pace([wide], 1, 1, "hailo8").fps <= found.layer_bytes_per_second / 50_000_000
        slow_link = pace([conv("small", macs=1000)], 1, 40_000_000, "hailo8")
        assert slow_link.fps <= found.link_bytes_per_second / 40_000_000
        assert slow_link.limited_by == "the host link"

    def test_a_layer_of_more_than_eight_subclusters_takes_one_controller_more_than_its_parts(self) -> None:
        given_constants = Constants(1.0, 1.0, 1.0, 1.0)
        one_subcluster = 64 * 400_000_000
        taken = [need([conv("c", macs=count * one_subcluster)], 1.0, given_constants) for count in (1, 8, 9, 24)]
        assert taken == [(1, 1), (1, 8), (3, 9), (4, 24)]

    def test_more_layers_than_controllers_are_still_foretold(self) -> None:
        assert pace(network(140).works, 1, 1, "hailo8").fps > 1


class TestSpeed:
    def test_a_sure_answer_has_one_kind_of_speed(self) -> None:
        demand = network(30)
        found = speed(demand, forecast_fit("hailo8", 30, 300_000))
        assert found.batch1 is not None
        assert found.batch1 == found.batch8
        assert found.batch1.low_fps < found.batch1.fps < found.batch1.high_fps
        assert found.batch1.networks > 0

    def test_an_uncertain_answer_has_the_range_of_both(self) -> None:
        demand = network(118, parameters=120_000)
        fit = forecast_fit("hailo8", demand.layers, demand.parameters)
        assert fit.verdict == "uncertain"
        both = speed(demand, fit)
        ways = [speed(demand, fit.model_copy(update={"probability_of_more_contexts": p})) for p in (0.0, 1.0)]
        assert both.batch1 is not None
        assert both.batch1.low_fps == min(way.batch1.low_fps for way in ways if way.batch1)
        assert both.batch1.high_fps == max(way.batch1.high_fps for way in ways if way.batch1)
        assert both.latency is not None
        assert all(both.latency.low_ms <= way.latency.low_ms for way in ways if way.latency)

    def test_a_target_is_not_outrun(self) -> None:
        found = speed(network(30), forecast_fit("hailo8", 30, 300_000), target_fps=25.0).batch1
        assert found is not None
        assert (found.fps, found.high_fps, found.limited_by) == (25.0, 25.0, "the target")

    def test_a_default_compile_is_slower_and_less_known(self) -> None:
        demand = network(30)
        fast, slow = (
            speed(demand, forecast_fit("hailo8", 30, 300_000, limits)).batch1
            for limits in (PERFORMANCE, default_limits())
        )
        assert fast is not None
        assert slow is not None
        assert slow.fps < fast.fps
        assert slow.high_fps / slow.fps > fast.high_fps / fast.fps

    def test_a_network_unlike_all_published_ones_has_no_speed(self) -> None:
        found = speed(network(3, macs=1000), forecast_fit("hailo8", 3, 100))
        assert found[:3] == (None, None, None)
        assert "outside the networks that the rule was fitted on" in found.note

    @pytest.mark.parametrize("chip", CHIPS)
    def test_in_several_contexts_a_batch_is_faster_than_single_frames(self, chip: str) -> None:
        features = Features(gops=50.0, parameters=25_000_000, pixels=640 * 640, layers=180)
        assert by_formula(chip, "multi8", features) > by_formula(chip, "multi", features)


class TestJoined:
    def test_joined_networks_add_up_but_for_the_image(self) -> None:
        one, two = network(10, "a"), network(20, "b")
        both = joined([one, two])
        assert (both.layers, both.parameters, both.input_bytes, both.output_bytes) == (30, 300_000, 150_528, 2000)
        assert both.gops == pytest.approx(one.gops + two.gops)

    def test_bits_change_weights_work_and_data(self) -> None:
        wide = network(1).in_precision("a16_w16").works[0]
        packed = network(1).in_precision("a8_w4").works[0]
        assert (wide.parameters, wide.macs, wide.input_bytes) == (20_000, 80_000_000, 200_000)
        assert (packed.parameters, packed.macs, packed.input_bytes) == (5_000, 20_000_000, 100_000)

    def test_only_the_named_layers_change(self) -> None:
        found = network(2).in_precision("a8_w4", {"net/conv2"})
        assert [work.parameters for work in found.works] == [10_000, 5_000]


def by_how(found: Sequence[Change], start: str) -> Change:
    (change,) = (each for each in found if each.how.startswith(start))
    return change


class TestChanges:
    def test_what_fits_needs_none(self) -> None:
        assert changes({"a": network(20, "a"), "b": network(20, "b")}, "hailo8", PERFORMANCE) == ()

    def test_they_stand_in_the_order_of_what_is_lost(self) -> None:
        pair = {"a": network(40, "a", parameters=300_000), "b": network(40, "b", parameters=300_000)}
        found = [each.how.partition(":")[0].partition(" ")[0] for each in changes(pair, "hailo8", default_limits())]
        order = ["compile.performance_mode", "compile.target_fps", "script", "another", "compile.single_context", "a"]
        assert found == [each for each in order if each in found for _ in range(found.count(each))]
        assert {"compile.performance_mode", "script", "compile.single_context"} <= set(found)

    def test_a_mode_that_is_not_enough_by_far_is_not_named(self) -> None:
        found = changes({"a": network(200, "a")}, "hailo8", default_limits())
        assert [each.how for each in found if each.fit and each.outcome != "needs no fit"] == ["another source for a"]

    def test_where_performance_mode_is_enough_nothing_is_packed_beside_it(self) -> None:
        found = changes({"a": network(94, "a", parameters=30_000)}, "hailo8", default_limits())
        assert found[0].is_enough
        assert "performance mode" not in " ".join(each.what for each in found[1:])

    def test_the_fewest_layers_are_packed_that_are_enough(self) -> None:
        whole = network(60, "a", parameters=450_000)  # 27 M
        change = by_how(changes({"a": whole}, "hailo8", PERFORMANCE), "script")
        packed = change.how.count("a/conv")
        assert change.outcome == "fits"
        fewer = whole.in_precision("a8_w4", {f"a/conv{index}" for index in range(1, packed)})
        assert forecast_fit("hailo8", fewer.layers, fewer.parameters).verdict != "fits"
        parse(change.how.removeprefix("script: "))  # a command that the compiler takes

    def test_a_smaller_model_is_as_large_as_it_may_be(self) -> None:
        pair = {"large": network(110, "large"), "small": network(20, "small")}
        change = by_how(changes(pair, "hailo8", PERFORMANCE), "another source for large")
        assert change.fit is not None
        assert change.fit.verdict == "fits"
        assert forecast_fit("hailo8", change.fit.layers + 1, change.fit.parameters).verdict != "fits"

    def test_at_a_modest_rate_no_layer_is_split(self) -> None:
        works = (conv("a/large", macs=900_000_000), *network(92, "a", macs=60_000_000).works)
        whole = replace(network(1), works=works)
        change = by_how(changes({"a": whole}, "hailo8", default_limits()), "compile.target_fps")
        rate = float(change.how.rpartition(" ")[2])
        assert need(whole.works, rate, constants("hailo8")).controllers == 93
        assert need(whole.works, 1.2 * rate, constants("hailo8")).controllers > 93

    def test_no_rate_is_named_where_no_layer_is_split_at_any(self) -> None:
        found = changes({"a": network(90, "a", macs=60_000_000)}, "hailo8", default_limits())
        assert not [each for each in found if "target_fps" in each.how]

    def test_two_networks_may_always_take_turns(self) -> None:
        pair = {"a": network(70, "a"), "b": network(70, "b")}
        found = changes(pair, "hailo8", PERFORMANCE)
        apart, together = by_how(found, "a spec for each"), by_how(found, "compile.single_context")
        assert apart.fit is None
        assert (apart.is_enough, together.is_enough) == (True, True)
        assert apart.fps is not None
        assert apart.fps_batch8 is not None
        assert apart.fps_batch8.fps > apart.fps.fps
        alone = pace(pair["a"].works, 150_528, 1000, "hailo8").fps
        assert apart.fps_batch8.fps < alone / 2

    def test_one_network_is_not_told_to_take_turns(self) -> None:
        assert not [each for each in changes({"a": network(160, "a")}, "hailo8", PERFORMANCE) if "a spec" in each.how]
