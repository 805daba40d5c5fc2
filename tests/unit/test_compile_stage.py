"""What a compile may try, what is wrong with an attempt, and how it is told that none fitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from hefjoin.artifacts import Ref
from hefjoin.errors import SpecError
from hefjoin.formats.model_script import parse
from hefjoin.results.compiled import Attempt
from hefjoin.results.networks import LayerView, Network, Tensor
from hefjoin.sdk.toolchain import resolve
from hefjoin.stages.compile import does_not_fit, graph_sha256, kept_decisions
from hefjoin.stages.contract import Workplace
from hefjoin.stages.ladder import AS_DECLARED, ladder, put_over
from hefjoin.stages.precision import asked_for_16_bits
from hefjoin.stores import open_store
from hefjoin.stores.sealed import seal

BASE = "performance_param(fps=90)\ncontext_switch_param(mode=disabled)\n"
MAX = "performance_param(compiler_optimization_level=max)"
OUTPUTS = ("left/fc1", "right/conv9", "right/fc1")


def problems(base: str, *attempts: str) -> dict[str, str]:
    """Return what is wrong, by place."""
    with pytest.raises(SpecError) as caught:
        ladder(base, attempts)
    return dict(caught.value.problems)


class TestLadder:
    def test_the_declared_script_comes_first_then_each_attempt_over_it(self) -> None:
        rungs = ladder(BASE, ["performance_param(fps=30)", "allocator_param(seed=7)\nperformance_param(fps=30)"])
        assert rungs == (
            (AS_DECLARED, BASE),
            ("performance_param(fps=30)", "context_switch_param(mode=disabled)\nperformance_param(fps=30)\n"),
            (
                "allocator_param(seed=7); performance_param(fps=30)",
                "context_switch_param(mode=disabled)\nallocator_param(seed=7)\nperformance_param(fps=30)\n",
            ),
        )

    def test_attempts_are_over_the_declared_script_and_not_over_each_other(self) -> None:
        *_, last = ladder(BASE, ["allocator_param(seed=7)", "performance_param(fps=30)"])
        assert "allocator_param" not in last.script

    @pytest.mark.parametrize(
        ("base", "over", "expected"),
        [
            ("", "allocator_param(seed=7)", ["allocator_param(seed=7)"]),
            ("allocator_param(seed=7)", "allocator_param(seed=8)", ["allocator_param(seed=8)"]),
            (
                "allocator_param(seed=7, timeout=5h)",
                "allocator_param(seed=8)",
                ["allocator_param(timeout=5h)", "allocator_param(seed=8)"],
            ),
            (
                "performance_param(compiler_optimization_level=max)\nperformance_param(fps=90)",
                "performance_param(compiler_optimization_level=1)",
                ["performance_param(fps=90)", "performance_param(compiler_optimization_level=1)"],
            ),
            (
                "compilation_param(left/conv1, buffer_in_l4=enabled)",
                "compilation_param(left/conv2, buffer_in_l4=disabled)",
                [
                    "compilation_param(left/conv1, buffer_in_l4=enabled)",
                    "compilation_param(left/conv2, buffer_in_l4=disabled)",
                ],
            ),
        ],
    )
    def test_an_argument_set_again_replaces_the_one_before(self, base: str, over: str, expected: list[str]) -> None:
        assert str(put_over(parse(base), parse(over))).splitlines() == expected

    def test_all_that_is_wrong_is_told_at_once_with_its_place(self) -> None:
        found = problems(
            BASE, "performance_param(fps=30", "quantization_param({*}, precision_mode=a8_w4)",
            "allocator_param(sead=7)", "context_switch_param(mode=enabled)",
        )  # fmt: skip
        assert [place.partition(":")[0] for place in found] == [f"compile.attempts[{index}]" for index in range(4)]
        told = ("is still open", "no compile command", "`seed`", "single context")
        assert [words for words, text in zip(told, found.values(), strict=True) if words not in text] == []

    @pytest.mark.parametrize(
        ("base", "attempt", "where"),
        [
            (MAX, "resources_param(max_utilization=0.9)", "attempts[0]"),
            ("resources_param(max_utilization=0.9)", MAX, "attempts[0]"),
            ("", f"resources_param(strategy=greedy)\n{MAX}", "attempts[0]"),
            (
                f"resources_param(strategy=greedy)\n{MAX}",
                "performance_param(compiler_optimization_level=1)",
                "the compile script",
            ),
        ],
    )
    def test_limits_are_refused_at_the_highest_level(self, base: str, attempt: str, where: str) -> None:
        (place,) = problems(base, attempt)
        assert where in place

    def test_an_attempt_may_lower_the_level_to_set_limits(self) -> None:
        attempt = "performance_param(compiler_optimization_level=1)\nresources_param(max_utilization=0.9)"
        assert len(ladder(MAX, [attempt])) == 2


class TestSixteenBits:
    @pytest.mark.parametrize(
        ("script", "expected"),
        [
            ("", ()),
            ("quantization_param({*}, precision_mode=a16_w16)", OUTPUTS),
            ("quantization_param({fc*}, precision_mode=a16_w16)", ("left/fc1", "right/fc1")),
            ("quantization_param({right/*}, precision_mode=a16_w16)", ("right/conv9", "right/fc1")),
            ("quantization_param([left/fc1, left/conv1], precision_mode=a16_w16)", ("left/fc1",)),
            ("quantization_param(left/conv1, precision_mode=a16_w16)", ()),
            ("quantization_param(right/output_layer2, precision_mode=a16_w16)", ("right/fc1",)),
            ("quantization_param({*output_layer*}, precision_mode=a16_w16)", OUTPUTS),
            ("quantization_param({*}, precision_mode=a8_w4)", ()),
            ("quantization_param({*}, bias_mode=double_scale_initialization)", ()),
            (
                "quantization_param({*}, precision_mode=a16_w16)\n"
                "quantization_param({left/*}, precision_mode=a8_w8)",
                ("right/conv9", "right/fc1"),
            ),
        ],
    )  # fmt: skip
    def test_outputs_are_found_by_their_layer_and_by_their_output_layer(
        self, script: str, expected: tuple[str, ...]
    ) -> None:
        assert asked_for_16_bits(parse(script), OUTPUTS) == expected


def ref(name: str) -> Ref:
    return Ref(uri=f"s3://bucket/{name}", sha256=f"{sum(name.encode()):064x}", size_bytes=1, media="log")


def attempt(label: str, message: str, need: float, have: float = 96) -> Attempt:
    return Attempt(
        script="", label=label, outcome="did not fit", message=message, need={"LCUs": need}, have={"LCUs": have},
        seconds=3720.4, log=ref(f"{label}.log"),
    )  # fmt: skip


class TestRefusal:
    def test_each_attempt_stands_with_its_numbers_its_time_and_its_log(self) -> None:
        error = does_not_fit(
            "left_right",
            [
                attempt(AS_DECLARED, "LCUs 149 of 96 (53 too many)", 149),
                attempt("performance_param(fps=30)", "LCUs 99 of 96 (3 too many)", 99),
            ],
        )
        lines = str(error).splitlines()
        assert "2 attempts" in lines[0]
        assert " ".join(lines[1].split()) == "as declared 3720.4 s LCUs 149 of 96 (53 too many)"
        assert lines[2].strip() == "s3://bucket/as declared.log"
        assert lines[3].index("3720.4") == lines[1].index("3720.4")
        assert "compile.attempts" in lines[-1]
        assert (error.need, error.have) == ({"LCUs": 99}, {"LCUs": 96})
        assert [row["label"] for row in error.attributes["attempts"]] == [AS_DECLARED, "performance_param(fps=30)"]

    def test_a_single_one_needs_no_table(self) -> None:
        error = does_not_fit("left_right", [attempt(AS_DECLARED, "LCUs 149 of 96 (53 too many)", 149)])
        assert str(error).startswith(
            "left_right does not fit a single context: LCUs 149 of 96 (53 too many) (its log is s3://bucket/as"
        )


class TestGraph:
    def network(self, har: str = "a", layer: str = "net/conv1") -> Network:
        view = LayerView(name=layer, type="conv", inputs=("net/input_layer1",), parameters=10, macs=100)
        edge = Tensor(layer="net/input_layer1", original_name="x", shape=(8, 8, 3))
        return Network(
            har=ref(har), scopes=("net",), state="hailo_model", hw_arch="hailo8", sdk_version="3.33.0", inputs=(edge,),
            outputs=(edge,), layers=(view,),
        )  # fmt: skip

    def test_other_weights_leave_the_graph_as_it_is(self) -> None:
        assert graph_sha256(self.network("a")) == graph_sha256(self.network("b"))

    def test_another_layer_is_another_graph(self) -> None:
        assert graph_sha256(self.network()) != graph_sha256(self.network(layer="net/conv2"))


class TestKeptDecisions:
    @pytest.fixture
    def place(self, tmp_path: Path) -> Workplace:
        store = open_store(str(tmp_path / "store"))
        return Workplace(store=store, root=tmp_path / "work", toolchain=resolve("emulator"))

    def keep(self, place: Workplace, folder: Path) -> Ref:
        (folder / "joined.auto.alls").write_text("context_0.place(0, [net/conv1])\n")
        kept = place.store.put(folder / "joined.auto.alls", "alls")
        place.store.replace_record("auto/0", {"auto_script": kept.model_dump(mode="json")})
        return kept

    def test_they_are_found(self, place: Workplace, tmp_path: Path) -> None:
        assert kept_decisions("auto/0", place) is None
        kept = self.keep(place, tmp_path)
        assert kept_decisions("auto/0", place) == kept

    @pytest.mark.parametrize("content", [b"{half", seal({}), seal({"auto_script": 3})])
    def test_a_record_that_cannot_be_read_is_passed_over(
        self, place: Workplace, tmp_path: Path, content: bytes
    ) -> None:
        self.keep(place, tmp_path)
        (tmp_path / "store" / "auto" / "0.json").write_bytes(content)
        assert kept_decisions("auto/0", place) is None

    def test_a_script_that_is_gone_is_passed_over(self, place: Workplace, tmp_path: Path) -> None:
        kept = self.keep(place, tmp_path)
        (tmp_path / "store" / "objects" / "sha256" / kept.sha256[:2] / f"{kept.sha256}.alls").unlink()
        assert kept_decisions("auto/0", place) is None
