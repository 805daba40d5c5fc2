"""What the compiler says is read right: lines as DFC 3.28–3.34 print them in public logs, and as the emulator does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.errors import (
    CalibrationError,
    CompileError,
    FitError,
    HefJoinError,
    InputError,
    JoinError,
    SpecError,
    ToolchainError,
    UnsupportedOpError,
)
from hefjoin.sdk.log import Progress, clean, effective_level, progress, to_error, warnings

NO_FIT = """Mapping Failed (allocation time: 1m 2s)
Context switch is disabled, but model could not fit in single context. Detailed error is: Failed to save enough \
resources: SCs: 326/384, 16bit SCs: 0/384, APUs: 149/120, IAs: 149/192, L3 weights: 138/768, L3 ios: 200/768, \
LCUs: 149/96"""
UNSUPPORTED = """Parsing of net failed. The errors found in the graph are:
 UnsupportedOperationError in op /nz/NonZero: NonZero operation is unsupported
 UnsupportedOperationError in op /head/det: Det operation is unsupported
Please try to parse the model again, using these end node names: /relu, /head/conv"""


class TestLines:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("[info] Calibration: 25% 16/64", Progress("Calibration", 16, 64)),
            (
                "Calibration: 100%|██████████| 64/64 [00:12<00:00,  5.21entries/s]",
                Progress("Calibration", 64, 64),
            ),
            ("Calibration:   5%|▍         | 3/64 [00:01<00:31,  1.92entries/s]", Progress("Calibration", 3, 64)),
            (
                "Full Quant Analysis:  50%|█████     | 1/2 [00:30<00:30, 30.11s/iterations]",
                Progress("Full Quant Analysis", 1, 2),
            ),
        ],
    )
    def test_progress_of_the_emulator_and_of_tqdm(self, line: str, expected: Progress) -> None:
        assert progress(line) == expected

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "[info] Using dataset with 64 entries for calibration",
            "[info] Partitioner finished after 3 iterations, Time it took: 45m 13s 95ms",
            "[info] | cluster_0 | 68.8%               | 40.6%               | 15.6%              |",
            "[info] | Total     | 75%                 | 62.9%               | 47.8%              |",
            "[info] Resources optimization params: max_control_utilization=75%, max_compute_utilization=75%",
            "[info] Validating net_context_0 layer by layer (100%)",
            "[info] Context:1/2 Iteration 4: Trying parallel mapping...",
            "SCs: 326/384, APUs: 149/120",
        ],
    )
    def test_other_lines_are_no_progress(self, line: str) -> None:
        assert progress(line) is None

    @pytest.mark.parametrize(
        ("line", "seen"),
        [
            ("plain\n", "plain"),
            ("windows\r\n", "windows"),
            ("  1%|\r 50%|\r100%| 64/64", "100%| 64/64"),
            ("overwritten\rlast\r\n", "last"),
            ("\x1b[32m[info]\x1b[0m Building HEF...\x1b[K", "[info] Building HEF..."),
            ("[...<==>...] Duration: 00:01:02\r[....<==>..] Duration: 00:01:03  ", "[....<==>..] Duration: 00:01:03"),
            ("\n", ""),
        ],
    )
    def test_a_line_is_what_a_person_saw_last(self, line: str, seen: str) -> None:
        assert clean(line) == seen

    @given(st.text())
    def test_no_line_breaks_a_reader(self, line: str) -> None:
        seen = clean(line)
        assert "\r" not in seen
        progress(seen)
        warnings([seen])
        effective_level([seen], 2)

    def test_each_warning_counts_once_and_in_order(self) -> None:
        lines = ["[warning] second thoughts", "[info] fine", "[warning] other", "[warning] second thoughts"]
        assert warnings(lines) == ("second thoughts", "other")


class TestEffectiveLevel:
    DROP = "[warning] Reducing optimization level to {} (the accuracy won't be optimized) because there's no GPU"

    def test_is_the_requested_one_where_nothing_was_said(self) -> None:
        assert effective_level(["[info] Starting Model Optimization"], 2) == 2

    @pytest.mark.parametrize(("said", "requested", "used"), [([0], 2, 0), ([2, 1], 4, 1), ([3], 2, 2)])
    def test_is_the_lowest_that_was_said(self, said: list[int], requested: int, used: int) -> None:
        assert effective_level([self.DROP.format(level) for level in said], requested) == used


def fail(kind: str, message: str) -> HefJoinError:
    return to_error(kind, message, "left+right", "  the tail")


class TestFailures:
    def test_a_pair_that_does_not_fit_says_need_and_have_and_shows_what_is_over(self) -> None:
        error = fail("BackendAllocatorException", NO_FIT)
        assert isinstance(error, FitError)
        assert error.need["LCUs"] == 149
        assert error.have["LCUs"] == 96
        assert error.need == {
            "SCs": 326, "16bit SCs": 0, "APUs": 149, "IAs": 149, "L3 weights": 138, "L3 ios": 200, "LCUs": 149,
        }  # fmt: skip
        assert "APUs 149 of 120, LCUs 149 of 96." in str(error)
        assert "SCs" not in str(error)
        assert "compile.single_context" in str(error)
        assert error.log_tail == "  the tail"

    def test_the_older_wording_of_the_same(self) -> None:
        error = fail("BackendAllocatorException", "Model uses too many resources: 143 Layer-Controllers")
        assert isinstance(error, FitError)
        assert error.need == {"Layer-Controllers": 143}
        assert "143 Layer-Controllers" in str(error)

    def test_unsupported_operators_are_listed_with_node_model_and_where_to_end(self) -> None:
        error = fail("ParsingWithRecommendationException", UNSUPPORTED)
        assert isinstance(error, UnsupportedOpError)
        assert error.model == "left+right"
        assert error.operators == [["NonZero", "/nz/NonZero"], ["Det", "/head/det"]]
        assert error.nearest_supported == ["/relu", "/head/conv"]
        for text in (
            "left+right",
            "NonZero (node /nz/NonZero)",
            "Det (node /head/det)",
            "end_nodes: [/relu, /head/conv]",
        ):
            assert text in str(error)

    def test_without_a_recommendation_the_next_step_is_still_said(self) -> None:
        error = fail("UnsupportedModelError", UNSUPPORTED.rsplit("\n", 1)[0])
        assert isinstance(error, UnsupportedOpError)
        assert error.nearest_supported == []
        assert "replace them in the model" in str(error)

    @pytest.mark.parametrize(
        "message",
        [
            "Compilation failed: Compiler could not find a valid partition to contexts. Most commom error is: "
            "Memory units capacity exceeded with 12/40 failures.",
            "No successful assignments for: conv14_sd0, conv15",
            "Agent infeasible",
            "Compilation failed with unexpected crash",
        ],
    )
    def test_other_refusals_of_the_compiler_keep_its_words_and_log(self, message: str) -> None:
        error = fail("BackendAllocatorException", message)
        assert type(error) is CompileError
        assert message in str(error)
        assert error.log_tail == "  the tail"

    @pytest.mark.parametrize(
        ("kind", "message", "expected"),
        [
            ("BackendRuntimeException", "Model requires quantized weights in order to run on HW", CompileError),
            ("AccelerasNumerizationError", "Shift delta in conv1 is 2.0", CompileError),
            (
                "BadInputsShape",
                "Data shape (16, 16, 1) doesn't match network shape (16, 16, 3) at left/input_layer1",
                CalibrationError,
            ),
            ("MisspellNodeError", "Unable to find nodes in the model: /relu9", InputError),
            ("UnsupportedModelError", "the model has no input", InputError),
            ("InvalidArgumentsException", "inputs differ: (8, 8, 3), (16, 16, 3)", JoinError),
            ("InvalidArgumentsException", "net_input_shapes names y; the inputs are x", InputError),
            ("NMSConfigPostprocessException", "the config has 3 outputs", SpecError),
            ("MemoryError", "", ToolchainError),
            ("KeyError", "'net_params'", ToolchainError),
        ],
    )
    def test_each_exception_has_its_place_in_the_tree(
        self, kind: str, message: str, expected: type[HefJoinError]
    ) -> None:
        error = fail(kind, message)
        assert type(error) is expected
        assert message in str(error)
        assert "left+right" in str(error)

    @pytest.mark.parametrize("kind", ["MemoryError", "AccelerasResourceError"])
    def test_exhausted_memory_says_what_to_do(self, kind: str) -> None:
        assert "use a machine with more" in str(fail(kind, "GPU memory has been exhausted"))

    def test_the_nodes_that_the_parser_recommends_are_offered(self) -> None:
        message = (
            "UnsupportedShuffleLayerError in op /dfl: failed. Try again, using these end node names: /a/Conv, /b/Conv"
        )
        error = fail("ParsingWithRecommendationException", message)
        assert type(error) is InputError
        assert "end_nodes: [/a/Conv, /b/Conv]" in str(error)

    @pytest.mark.parametrize("kind", ["BackendScriptParserException", "AllocatorScriptParserException"])
    def test_a_wrong_model_script_is_a_spec_error_line_by_line(self, kind: str) -> None:
        error = fail(kind, "script:1:1: unknown command\n\nscript:2:1: no layer conv9")
        assert isinstance(error, SpecError)
        assert [text for _, text in error.problems] == ["script:1:1: unknown command", "script:2:1: no layer conv9"]
        assert "the model script of left+right" in str(error)

    def test_a_full_disk_is_no_fault_of_the_sdk(self) -> None:
        error = fail("OSError", "[Errno 28] No space left on device: 'joined.har'")
        assert error.exit_code == 5
        assert error.attributes["reason"] == "full"
        assert not error.is_transient
        assert "HEFJOIN_WORK" in str(error)
