"""Each failure of the compiler becomes the error that says its cause, its numbers and the next step.

The messages are those of public logs and tracebacks of DFC 3.28–3.34, with names and paths made up.
"""

from __future__ import annotations

import pickle
from typing import NamedTuple

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
    StoreError,
    ToolchainError,
    UnsupportedOpError,
)
from hefjoin.sdk import failures
from hefjoin.sdk.failures import of_death, overflow, to_error

NO_FIT = """Mapping Failed (allocation time: 1m 2s)
Context switch is disabled, but model could not fit in single context. Detailed error is: Failed to save enough \
resources: SCs: 326/384, 16bit SCs: 0/384, APUs: 149/120, IAs: 149/192, L3 weights: 138/768, L3 ios: 200/768, \
LCUs: 149/96"""
UNSUPPORTED = """Parsing of net failed. The errors found in the graph are:
 UnsupportedOperationError in op /nz/NonZero: NonZero operation is unsupported
 UnsupportedOperationError in op /head/det: Det operation is unsupported
Please try to parse the model again, using these end node names: /relu, /head/conv"""
TAIL = "  [info] Compiling\n  the last line"
NO_FIT_LINES = "  [error] " + NO_FIT.replace("context. ", "context.\n").replace("\n", "\n  ")
"""The same in the log, the numbers on a line of their own."""
GPU_LINE = "  failed to allocate 2.00G from device: CUDA_ERROR_OUT_OF_MEMORY: out of memory"
"""TensorFlow prints it and may go on."""
ASSERTION = "  compiler: solver.cpp:713: Assertion `!slots.empty()' failed."


class Case(NamedTuple):
    """A failure: the table's entry for it, what was raised, what it becomes, what its text must say."""

    name: str
    kind: str
    message: str
    error: type[HefJoinError]
    says: tuple[str, ...]
    log_tail: str = TAIL


CASES = [
    Case(
        "full disk", "OSError", "[Errno 28] No space left on device: 'joined.har'", StoreError,
        ("'joined.har'", "HEFJOIN_WORK"),
    ),
    Case(
        "question at start", "EOFError", "EOF when reading a line", ToolchainError,
        ("nobody answers", "hefjoin doctor"), "  RAM(GB)   7   16   X\n  Continue? [Y/n]",
    ),
    Case(
        "check of the machine cannot run", "RuntimeError", "first initialization error 127", ToolchainError,
        ("missing", "wheel again"),
    ),
    Case(
        "library clash of the compiler program", "BackendAllocatorException",
        "Compilation failed with unexpected crash", ToolchainError, ("symbol lookup error", "conda", "LD_LIBRARY_PATH"),
        "  hailo_tools/build/compiler: symbol lookup error: undefined symbol: _ZN6google14FlagRegistererC1\n  x",
    ),
    Case(
        "processor without AVX", "ImportError",
        "The TensorFlow library was compiled to use AVX instructions, but these aren't available on your machine.",
        ToolchainError, ("no AVX", "hefjoin doctor"),
    ),
    Case(
        "GPU memory", "AccelerasResourceError", "GPU memory has been exhausted", ToolchainError,
        ("GPU memory", "batch_size=4", "quantization.optimization_level"),
    ),
    Case(
        "GPU memory, TensorFlow's words", "InternalError",
        "OOM when allocating tensor with shape[8,64,608,1088] and type float", ToolchainError,
        ("shape[8,64,608,1088]", "batch_size=4"),
    ),
    Case("memory", "MemoryError", "", ToolchainError, ("ran out of memory", "calibration.count")),
    Case(
        "memory, C++'s and the system's words", "BackendAllocatorException", "Compilation failed with unexpected crash",
        ToolchainError, ("std::bad_alloc", "a machine with more"),
        "  terminate called after throwing an instance of 'std::bad_alloc'",
    ),
    Case(
        "unsupported operators", "ParsingWithRecommendationException", UNSUPPORTED, UnsupportedOpError,
        ("NonZero (node /nz/NonZero)", "Det (node /head/det)", "end_nodes: [/relu, /head/conv]"),
    ),
    Case(
        "parser recommends end nodes", "ParsingWithRecommendationException",
        "UnsupportedShuffleLayerError in op /dfl: failed. Try again, using these end node names: /a/Conv, /b/Conv",
        InputError, ("in op /dfl", "end_nodes: [/a/Conv, /b/Conv]"),
    ),
    Case(
        "misspelt node", "MisspellNodeError", "Unable to find nodes in the model: /relu9", InputError,
        ("/relu9", "start_nodes and end_nodes"),
    ),
    Case(
        "unsupported model", "UnsupportedModelError", "the model has no input", InputError,
        ("the model has no input", "fixed shapes"),
    ),
    Case(
        "calibration shape", "BadInputsShape",
        "Data shape (16, 16, 1) doesn't match network shape (16, 16, 3) at left/input_layer1", CalibrationError,
        ("(16, 16, 1)", "(16, 16, 3)", "left/input_layer1", "calibration.source"),
    ),
    Case(
        "models that differ", "InvalidArgumentsException", "inputs differ: (8, 8, 3), (16, 16, 3)", JoinError,
        ("(8, 8, 3), (16, 16, 3)",),
    ),
    Case(
        "too large for the emulator", "InvalidArgumentsException",
        "2,415,919,104 bytes of weights (a 1,207,959,552, b 1,207,959,552) are too many to be optimized; the emulator",
        InputError, ("2,415,919,104", "join smaller models"),
    ),
    Case(
        "invalid argument", "InvalidArgumentsException", "net_input_shapes names y; the inputs are x", InputError,
        ("the inputs are x", "input_shape"),
    ),
    Case(
        "NMS configuration", "NMSConfigPostprocessException", "The layer conv41 in the config is no output", SpecError,
        ("conv41", "NMS JSON"),
    ),
    Case(
        "model script", "BackendScriptParserException", "Expected end of text, found '>!<normalization' (at char 0)",
        SpecError, ("the model script of left+right", ">!<normalization"),
    ),
    Case(
        "model script", "AllocatorScriptParserException", "Cannot find layer conv9", SpecError,
        ("Cannot find layer conv9",),
    ),
    Case(
        "numbers overflow", "AccelerasNumerizationError", "Shift delta in conv1/conv_op is 2.0", CompileError,
        ("conv1/conv_op", "a16_w16"),
    ),
    Case(
        "not quantized", "BackendRuntimeException",
        "Failed to compile the model: Model requires quantized weights in order to run on HW, but none were given.",
        CompileError, ("no quantized weights", "--force"),
    ),
    Case(
        "single context impossible", "BackendAllocatorException", NO_FIT, FitError,
        ("APUs 149 of 120 (29 too many), LCUs 149 of 96 (53 too many)", "75 %", "compile.attempts",
         "compile.target_fps", "compile.single_context"),
    ),
    Case(
        "single context impossible", "BackendAllocatorException",
        "Model uses too many resources: 143 Layer-Controllers", FitError, ("143 Layer-Controllers", "compile.attempts"),
    ),
    Case(
        "no partition", "BackendAllocatorException",
        "Compilation failed: Compiler could not find a valid partition to contexts. Most commom error is: "
        "Memory units capacity exceeded with 12/40 failures.",
        FitError, ("Memory units capacity exceeded with 12/40 failures", "compile.target_fps"),
    ),
    Case(
        "no place for a layer", "BackendAllocatorException", "No successful assignments for: conv14_sd0, conv15",
        FitError, ("conv14_sd0, conv15", "compile.attempts"),
    ),
    Case(
        "no place for a layer", "BackendAllocatorException", "conv3 errors: Agent infeasible", FitError,
        ("conv3", "Agent infeasible"),
    ),
    Case(
        "capacity exceeded", "BackendAllocatorException", "Compilation failed", FitError,
        ("Memory units capacity exceeded", "compile.attempts"),
        "  [error] Mapping Failed (allocation time: 2m 1s)\n  Memory units capacity exceeded",
    ),
    Case(
        "capacity exceeded", "BackendAllocatorException", "conv3: microcode exceeded size", FitError,
        ("conv3: microcode exceeded size",),
    ),
    Case(
        "mapping failed", "BackendAllocatorException", "Compilation failed", FitError,
        ("could not be mapped", "allocation time: 59m 59s", "compile.attempts"),
        "  [error] Mapping Failed (allocation time: 59m 59s)\n  [error] Failed to produce compiled graph",
    ),
    Case(
        "crash of the compiler program", "BackendAllocatorException", "Compilation failed with unexpected crash",
        ToolchainError, ("crashed", "allocator_param(seed=7)"),
    ),
]  # fmt: skip
DEATHS = {"processor without AVX, killed": "SIGILL", "killed": "SIGKILL"}


def fail(kind: str, message: str, log_tail: str = TAIL) -> HefJoinError:
    return to_error(kind, message, "left+right", log_tail)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}: {case.kind}")
class TestTable:
    def test_it_becomes_its_error_with_cause_numbers_and_next_step(self, case: Case) -> None:
        error = fail(case.kind, case.message, case.log_tail)
        assert type(error) is case.error
        assert "left+right" in str(error)
        assert [words for words in case.says if words not in str(error)] == []
        assert error.attributes.get("log_tail", case.log_tail) == case.log_tail
        assert not error.is_transient

    def test_it_is_found_by_its_own_entry(self, case: Case) -> None:
        found = failures.recognized(failures.Report(case.kind, case.message, "left+right", case.log_tail))
        assert found is not None
        assert found[0].name == case.name


def test_every_entry_of_the_table_has_a_case_here() -> None:
    assert {entry.name for entry in failures.table()} == {case.name for case in CASES} | DEATHS.keys()


class TestFit:
    def test_need_and_have_are_numbers(self) -> None:
        error = fail("BackendAllocatorException", NO_FIT)
        assert isinstance(error, FitError)
        assert error.need == {
            "SCs": 326, "16bit SCs": 0, "APUs": 149, "IAs": 149, "L3 weights": 138, "L3 ios": 200, "LCUs": 149,
        }  # fmt: skip
        assert error.have == {
            "SCs": 384, "16bit SCs": 384, "APUs": 120, "IAs": 192, "L3 weights": 768, "L3 ios": 768, "LCUs": 96,
        }  # fmt: skip

    def test_only_what_is_exceeded_is_shown(self) -> None:
        assert "SCs" not in str(fail("BackendAllocatorException", NO_FIT))

    def test_all_are_shown_where_none_is_exceeded(self) -> None:
        assert overflow({"SCs": 326, "LCUs": 95}, {"SCs": 384, "LCUs": 96}) == "SCs 326 of 384, LCUs 95 of 96"

    def test_the_older_wording_says_what_is_needed(self) -> None:
        error = fail("BackendAllocatorException", "Model uses too many resources: 143 Layer-Controllers")
        assert isinstance(error, FitError)
        assert (error.need, error.have) == ({"Layer-Controllers": 143}, {})
        assert "limits in force" not in str(error)

    def test_the_reason_is_kept_apart_from_the_advice(self) -> None:
        error = fail("BackendAllocatorException", "No successful assignment for: conv1")
        assert error.attributes["reason"] == "No successful assignment for: conv1"

    def test_the_numbers_may_stand_in_the_log_alone(self) -> None:
        error = fail("BackendAllocatorException", "Compilation failed", f"{NO_FIT_LINES}\n{TAIL}")
        assert isinstance(error, FitError)
        assert (error.need["LCUs"], error.have["LCUs"]) == (149, 96)
        assert error.reason == "APUs 149 of 120 (29 too many), LCUs 149 of 96 (53 too many)"

    def test_numbers_in_the_log_complete_a_reason_that_has_none(self) -> None:
        error = fail("BackendAllocatorException", "No successful assignment for: conv1", NO_FIT_LINES)
        assert isinstance(error, FitError)
        assert error.reason.startswith("No successful assignment for: conv1; APUs 149 of 120")

    def test_what_else_has_a_slash_in_the_log_is_no_resource(self) -> None:
        log = "  [error] Mapping Failed (allocation time: 1s)\n  Context:0/3 Iteration 4: Trying parallel mapping..."
        error = fail("BackendAllocatorException", "Compilation failed", log)
        assert isinstance(error, FitError)
        assert (error.need, error.have) == ({}, {})

    def test_what_an_unknown_exception_says_is_told_beside_the_log(self) -> None:
        error = fail("BackendAllocatorException", "Something new in 3.35", "  [error] Mapping Failed (1s)")
        assert isinstance(error, FitError)
        assert error.reason == "Mapping Failed (1s); Something new in 3.35"


class TestOrder:
    @pytest.mark.parametrize(
        ("kind", "message", "log", "name"),
        [
            ("AccelerasNumerizationError", "Shift delta in conv1/conv_op is 2.0", "", "numbers overflow"),
            ("BackendAllocatorException", NO_FIT, "", "single context impossible"),
            ("BackendAllocatorException", "Compilation failed", NO_FIT_LINES, "single context impossible"),
            ("BackendAllocatorException", "Compilation failed with unexpected crash", ASSERTION,
             "crash of the compiler program"),
            ("BadInputsShape", "Data shape (16, 16, 1)", "  std::bad_alloc", "calibration shape"),
            ("SIGABRT", "the quantize step ended with SIGABRT", "", "GPU memory, TensorFlow's words"),
        ],
    )  # fmt: skip
    def test_a_line_of_tensorflow_hides_nothing(self, kind: str, message: str, log: str, name: str) -> None:
        found = failures.recognized(failures.Report(kind, message, "net", f"{GPU_LINE}\n{log}"))
        assert found is not None
        assert found[0].name == name

    def test_a_crash_is_no_lack_of_room_although_the_log_tells_of_one_before(self) -> None:
        error = fail("BackendAllocatorException", "Compilation failed with unexpected crash", NO_FIT_LINES)
        assert type(error) is ToolchainError

    def test_only_an_allocator_speaks_of_room(self) -> None:
        assert type(fail("KeyError", "'net_params'", NO_FIT_LINES)) is ToolchainError


class TestWhyUnmapped:
    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("BackendAllocatorException", "Compilation failed with unexpected crash"),
            ("BackendAllocatorException", "Something new in 3.35"),
        ],
    )
    def test_another_script_may_do_better(self, kind: str, message: str) -> None:
        assert fail(kind, message).attributes["why_unmapped"] == message

    @pytest.mark.parametrize(
        ("kind", "message", "log"),
        [
            ("BackendRuntimeException", "Something new in 3.35", TAIL),
            ("BackendAllocatorException", "Compilation failed with unexpected crash", "  std::bad_alloc"),
            ("KeyError", "'net_params'", TAIL),
        ],
    )
    def test_or_not(self, kind: str, message: str, log: str) -> None:
        assert not fail(kind, message, log).attributes.get("why_unmapped")


class TestParser:
    def test_operators_and_end_nodes_are_lists(self) -> None:
        error = fail("ParsingWithRecommendationException", UNSUPPORTED)
        assert isinstance(error, UnsupportedOpError)
        assert error.model == "left+right"
        assert error.operators == [["NonZero", "/nz/NonZero"], ["Det", "/head/det"]]
        assert error.nearest_supported == ["/relu", "/head/conv"]

    def test_without_a_recommendation_the_next_step_is_still_said(self) -> None:
        error = fail("UnsupportedModelError", UNSUPPORTED.rsplit("\n", 1)[0])
        assert isinstance(error, UnsupportedOpError)
        assert error.nearest_supported == []
        assert "replace them in the model" in str(error)

    def test_the_nodes_recommended_for_another_trouble_are_there_for_machines_too(self) -> None:
        error = fail("ParsingWithRecommendationException", "failed, end it at: /a/Conv, /b/Conv\n")
        assert error.attributes["end_nodes"] == ["/a/Conv", "/b/Conv"]

    def test_a_sentence_after_a_colon_is_no_list_of_nodes(self) -> None:
        error = fail("ParsingWithRecommendationException", "failed: it has no end")
        assert error.attributes["end_nodes"] == []


def test_a_wrong_model_script_is_told_line_by_line() -> None:
    error = fail("AllocatorScriptParserException", "script:1:1: unknown command\n\nscript:2:1: no layer conv9")
    assert isinstance(error, SpecError)
    assert [text for _, text in error.problems] == ["script:1:1: unknown command", "script:2:1: no layer conv9"]


class TestUnknown:
    def test_what_the_compiler_refused_is_a_compile_error_with_its_words_and_log(self) -> None:
        error = fail("BackendAllocatorException", "Something new in 3.35")
        assert type(error) is CompileError
        assert "Something new in 3.35" in str(error)
        assert error.log_tail == TAIL

    def test_everything_else_is_the_tool_chains(self) -> None:
        error = fail("KeyError", "'net_params'")
        assert type(error) is ToolchainError
        assert "KeyError: 'net_params'" in str(error)
        assert error.log_tail == TAIL

    @given(st.text(), st.text(), st.text())
    def test_no_text_breaks_the_table(self, kind: str, message: str, log_tail: str) -> None:
        error = to_error(kind, message, "net", log_tail)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)

    @given(st.sampled_from(CASES), st.text())
    def test_nor_does_a_text_around_what_it_knows(self, case: Case, text: str) -> None:
        assert isinstance(to_error(case.kind, case.message + text, "net", text), HefJoinError)


class TestDeath:
    @pytest.mark.parametrize(("how", "says"), [("SIGKILL", "ran out of memory"), ("SIGILL", "AVX")])
    def test_a_signal_that_has_a_usual_cause_says_it(self, how: str, says: str) -> None:
        error = of_death("compile", how, "net", TAIL)
        assert type(error) is ToolchainError
        for words in ("net", "compile", how, says):
            assert words in str(error)

    def test_the_log_says_the_cause_of_an_exit_code(self) -> None:
        error = of_death("parse", "exit code 1", "net", "  [Errno 28] No space left on device: 'net.har'")
        assert type(error) is StoreError
        assert error.reason == "full"
        assert "'net.har'" in str(error)

    def test_without_a_cause_the_log_is_shown(self) -> None:
        error = of_death("parse", "exit code 3", "net", TAIL)
        assert type(error) is ToolchainError
        assert "exit code 3" in str(error)
        assert TAIL in str(error)
