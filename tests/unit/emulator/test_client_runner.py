"""`ClientRunner` is strict: every call in every state, every argument, and what it prints."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import pytest
import runners
from graphs import conv, conv_weights, network, node, normal

from hefjoin.emulator import CalibrationDataType, ClientRunner, InferenceContext, JoinAction, States, exceptions

REAL = Path(__file__).parents[4] / "shared" / "data" / "har" / "whisper_hailo8l_hailo_model.har"
needs_real_file = pytest.mark.skipif(not REAL.exists(), reason="the real HAR is not beside the repository")

U, H, F, Q, C = States  # uninitialized, hailo_model, fp_optimized_model, quantized_model, compiled_model
FRAMES = graphs.frames(3)
SCRIPT = "n = normalization([120, 110, 100], [60, 50, 40])"


@pytest.fixture(scope="module")
def hars(tmp_path_factory: pytest.TempPathFactory) -> dict[States, Path]:
    """A HAR of one network in each state, each saved on its way."""
    folder = tmp_path_factory.mktemp("hars")
    runner = runners.parsed(graphs.small_net(), folder)
    runner.load_model_script(SCRIPT)
    saved = {state: folder / f"{state.value}.har" for state in (H, F, Q, C)}
    runner.save_har(saved[H])
    runner.optimize_full_precision()
    runner.save_har(saved[F])
    runner.optimize(FRAMES)
    runner.save_har(saved[Q])
    runner.compile()
    runner.save_har(saved[C])
    return saved


def in_state(state: States, hars: dict[States, Path]) -> ClientRunner:
    runner = ClientRunner() if state is U else ClientRunner(har=str(hars[state]))
    assert runner.state is state
    return runner


def open_context(runner: ClientRunner, how: InferenceContext) -> None:
    with runner.infer_context(how):
        pass


Call = Callable[[ClientRunner, Path], object]
GUARDED: dict[str, tuple[Call, set[States]]] = {
    "translate_onnx_model": (lambda r, f: r.translate_onnx_model(graphs.save(graphs.small_net(), f)), {U}),
    "save_har": (lambda r, f: r.save_har(f / "out.har"), {H, F, Q, C}),
    "load_model_script": (lambda r, f: r.load_model_script("allocator_param(timeout=1)"), {H, F, Q, C}),
    "get_hn_dict": (lambda r, f: r.get_hn_dict(), {H, F, Q, C}),
    "join": (lambda r, f: r.join(r, "a", "b"), {H, F, Q}),
    "optimize_full_precision": (lambda r, f: r.optimize_full_precision(), {H}),
    "optimize": (lambda r, f: r.optimize(FRAMES), {H, F}),
    "analyze_noise": (lambda r, f: r.analyze_noise(FRAMES), {Q, C}),
    "infer_context native": (lambda r, f: open_context(r, InferenceContext.SDK_NATIVE), {H, F, Q, C}),
    "infer_context optimized": (lambda r, f: open_context(r, InferenceContext.SDK_FP_OPTIMIZED), {F, Q, C}),
    "infer_context quantized": (lambda r, f: open_context(r, InferenceContext.SDK_QUANTIZED), {Q, C}),
}


@pytest.mark.parametrize("state", States)
@pytest.mark.parametrize("call", GUARDED)
def test_each_call_is_allowed_in_its_states_only(
    call: str, state: States, hars: dict[States, Path], tmp_path: Path
) -> None:
    act, allowed = GUARDED[call]
    runner = in_state(state, hars)
    if state in allowed:
        act(runner, tmp_path)
        return
    with pytest.raises(exceptions.InvalidStateException, match=f"the runner is in {state.value}"):
        act(runner, tmp_path)
    assert runner.state is state
    assert not list(tmp_path.glob("*.har"))


@pytest.mark.parametrize("state", States)
def test_compile_needs_quantized_weights(state: States, hars: dict[States, Path]) -> None:
    runner = in_state(state, hars)
    if state in (Q, C):
        assert runner.compile() == runner.hef
        assert runner.state is C
        return
    with pytest.raises(exceptions.BackendRuntimeException, match="requires quantized weights"):
        runner.compile()


@pytest.mark.parametrize(
    ("call", "state"),
    [
        (lambda r: r.translate_onnx_model("x.onnx", surprise=1), U),
        (lambda r: r.load_har("x.har", surprise=1), U),
        (lambda r: r.save_har("x.har", surprise=1), H),
        (lambda r: r.join(r, surprise=1), H),
        (lambda r: r.load_model_script("", surprise=1), H),
        (lambda r: r.optimize_full_precision(surprise=1), H),
        (lambda r: r.optimize(FRAMES, surprise=1), H),
        (lambda r: r.analyze_noise(FRAMES, surprise=1), Q),
        (lambda r: r.infer_context(InferenceContext.SDK_NATIVE, surprise=1), H),
        (lambda r: r.compile(surprise=1), Q),
        (lambda r: type(r)(har_path="x.har"), U),
    ],
)
def test_an_unknown_keyword_is_an_error(call: Callable[[Any], object], state: States, hars: dict[States, Path]) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        call(in_state(state, hars))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.infer_context("sdk_native").__enter__(), "'sdk_native' is no InferenceContext"),
        (lambda r: r.optimize(FRAMES, data_type="np_array"), "must be a CalibrationDataType"),
        (lambda r: r.optimize(FRAMES, data_type=CalibrationDataType.npy_file), "data_type is npy_file"),
        (lambda r: r.optimize("x.npy", data_type=CalibrationDataType.np_array), "data_type is np_array"),
        (lambda r: r.optimize([FRAMES]), "array, a dictionary of arrays or the path"),
        (lambda r: r.optimize("absent.npy"), "absent.npy is not a readable"),
        (lambda r: r.join(r, "a", "b", JoinAction.AUTO_JOIN_INPUTS, {"c": "d"}), "join_action_info"),
        (lambda r: ClientRunner(hw_arch="hailo9"), "hw_arch 'hailo9' is not supported; one of hailo8, hailo8l is"),
        (lambda r: ClientRunner().translate_onnx_model("x.onnx", "a/b"), "net_name 'a/b'"),
        (lambda r: runners.infer(r, np.zeros((0, 8, 8, 3))), "Data shape"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_an_error(
    call: Callable[[Any], object], message: str, hars: dict[States, Path]
) -> None:
    runner = in_state(H, hars)
    with pytest.raises((exceptions.InvalidArgumentsException, exceptions.BadInputsShape), match=message):
        call(runner)
    assert runner.state is H


def test_a_calibration_set_of_another_shape_is_refused(hars: dict[States, Path]) -> None:
    runner = in_state(H, hars)
    text = "Data shape (3, 3, 8, 8) for layer net/input_layer1 doesn't match network's input shape (8, 8, 3)"
    with pytest.raises(exceptions.BadInputsShape, match=re.escape(text)):
        runner.optimize(FRAMES.transpose(0, 3, 1, 2))
    assert runner.state is H


@pytest.mark.parametrize("form", ["array", "dictionary", "path", "path in a dictionary"])
@pytest.mark.parametrize("data_type", [CalibrationDataType.auto, None])
def test_frames_come_in_several_forms(
    form: str, data_type: CalibrationDataType | None, hars: dict[States, Path], tmp_path: Path
) -> None:
    path = tmp_path / "frames.npy"
    np.save(path, FRAMES)
    data = {
        "array": FRAMES,
        "dictionary": {"net/input_layer1": FRAMES},
        "path": str(path),
        "path in a dictionary": {"net/input_layer1": path},
    }[form]
    named = CalibrationDataType.npy_file if "path" in form else CalibrationDataType.np_array
    runner, wanted = in_state(H, hars), in_state(Q, hars)
    runner.optimize(data, data_type=data_type or named)
    for how in ("SDK_NATIVE", "SDK_QUANTIZED"):
        np.testing.assert_array_equal(runners.infer(runner, data, how), runners.infer(wanted, FRAMES, how))


@pytest.mark.parametrize("state", [H, F, Q, C])
def test_a_har_gives_back_what_was_saved(state: States, hars: dict[States, Path], tmp_path: Path) -> None:
    runner = in_state(state, hars)
    runner.save_har(tmp_path / "again.har")
    assert (tmp_path / "again.har").read_bytes() == hars[state].read_bytes()
    again = ClientRunner(har=tmp_path / "again.har")
    fresh = runners.quantized(graphs.small_net(), tmp_path, FRAMES, SCRIPT)
    fresh.compile()
    known = {H: ["SDK_NATIVE"], F: ["SDK_NATIVE", "SDK_FP_OPTIMIZED"]}
    for how in known.get(state, [item.name for item in InferenceContext]):
        np.testing.assert_array_equal(runners.infer(again, FRAMES, how), runners.infer(fresh, FRAMES, how))
    wanted = runners.parsed(graphs.small_net(), tmp_path) if state is H else fresh
    assert (again.model_script, again.get_hn_dict()) == (fresh.model_script, wanted.get_hn_dict())
    assert again.hef == (fresh.hef if state is C else None)


def test_loading_a_har_forgets_the_network_before(hars: dict[States, Path]) -> None:
    runner = in_state(C, hars)
    runner.load_har(hars[H])
    assert (runner.state, runner.hef) == (H, None)
    with pytest.raises(exceptions.BackendRuntimeException):
        runner.compile()


@pytest.mark.parametrize(("given", "found"), [(None, "hailo8l"), ("hailo8", "hailo8")])
def test_the_architecture_is_that_of_the_har_unless_given(given: str | None, found: str, tmp_path: Path) -> None:
    runner = ClientRunner(hw_arch="hailo8l")
    runner.translate_onnx_model(graphs.save(graphs.small_net(), tmp_path), "net")
    runner.save_har(tmp_path / "net.har")
    assert ClientRunner(hw_arch=given, har=tmp_path / "net.har").hw_arch == found


@needs_real_file
def test_a_har_of_the_vendor_is_refused_with_the_reason() -> None:
    runner = ClientRunner()
    with pytest.raises(exceptions.InvalidArgumentsException, match=r"made by DFC 3\.33\.0; the emulator reads its own"):
        runner.load_har(REAL)
    assert runner.state is U


def test_a_script_for_compile_changes_no_numbers_any_more(hars: dict[States, Path]) -> None:
    """The vendor's tools load one script for `optimize` and another for `compile`."""
    runner, untouched = in_state(Q, hars), in_state(Q, hars)
    runner.load_model_script("context_switch_param(mode=disabled)")
    for how in ("SDK_FP_OPTIMIZED", "SDK_QUANTIZED"):
        np.testing.assert_array_equal(runners.infer(runner, FRAMES, how), runners.infer(untouched, FRAMES, how))
    for item in (runner, untouched):
        item.analyze_noise(FRAMES)
    assert runner.get_params_statistics() == untouched.get_params_statistics()
    assert runner.compile() == untouched.compile()


class TestScriptsAfterOptimization:
    """The vendor's tools load one file before every step; what has acted may be said again, and nothing new."""

    STEERING = "quantization_param(conv1, precision_mode=a16_w16)"

    @pytest.mark.parametrize("state", [F, Q, C])
    def test_the_same_script_is_taken_again_with_a_warning(self, state: States, hars: dict[States, Path]) -> None:
        runner, untouched = in_state(state, hars), in_state(state, hars)
        with redirect_stdout(io.StringIO()) as log:
            runner.load_model_script(f"{SCRIPT}\nallocator_param(timeout=9)")
        assert log.getvalue().count("[warning] 1 commands have acted already") == 1
        assert runner.model_script == f"{SCRIPT}\nallocator_param(timeout=9)\n"
        np.testing.assert_array_equal(
            runners.infer(runner, FRAMES, "SDK_FP_OPTIMIZED"), runners.infer(untouched, FRAMES, "SDK_FP_OPTIMIZED")
        )

    @pytest.mark.parametrize("append", [False, True])
    @pytest.mark.parametrize(
        ("state", "command"),
        [
            (F, "change_output_activation(sigmoid)"),
            (Q, "change_output_activation(sigmoid)"),
            (C, SCRIPT.replace("120", "121").replace("n =", "m =")),
            (Q, STEERING),
        ],
    )
    def test_a_new_command_comes_too_late(
        self, state: States, command: str, append: bool, hars: dict[States, Path]
    ) -> None:
        runner = in_state(state, hars)
        before = runner.model_script
        with pytest.raises(exceptions.AllocatorScriptParserException):
            runner.load_model_script(command, append=append)
        assert runner.model_script == before

    def test_the_message_says_why(self, hars: dict[States, Path]) -> None:
        late = f"allocator_param(timeout=9)\n{self.STEERING}"
        wanted = re.escape(f"string:2:1: `{self.STEERING}` comes too late, the model is a quantized_model")
        with pytest.raises(exceptions.AllocatorScriptParserException, match=wanted):
            in_state(Q, hars).load_model_script(late)

    def test_between_both_optimizations_modifications_stay(self, hars: dict[States, Path]) -> None:
        """A script that steers quantization only may follow one that modified."""
        runner, wanted = in_state(F, hars), in_state(H, hars)
        steering = f"{self.STEERING}\nquantization_param({{n*}}, precision_mode=a16_w16)"
        runner.load_model_script(steering)
        wanted.load_model_script(f"{SCRIPT}\n{steering}")
        for item in (runner, wanted):
            item.optimize(FRAMES)
        assert runner.model_script == wanted.model_script
        for how in ("SDK_FP_OPTIMIZED", "SDK_QUANTIZED"):
            np.testing.assert_array_equal(runners.infer(runner, FRAMES, how), runners.infer(wanted, FRAMES, how))


def test_the_hn_shows_what_the_script_made_once_it_has_acted(hars: dict[States, Path]) -> None:
    layers = {state: list(in_state(state, hars).get_hn_dict()["layers"]) for state in (H, F, Q, C)}
    assert "net/n" not in layers[H]
    assert layers[F] == layers[Q] == layers[C] == [layers[H][0], "net/n", *layers[H][1:]]


@pytest.mark.parametrize(("level", "drops"), [(None, False), (-100, False), (0, False), (1, True), (4, True)])
def test_without_a_gpu_an_optimization_level_drops_to_zero_and_says_so_once(
    level: int | None, drops: bool, hars: dict[States, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEFJOIN_EMULATE_NO_GPU", "1")
    runner = in_state(H, hars)
    if level is not None:
        runner.load_model_script(f"model_optimization_flavor(optimization_level={level})", append=True)
    with redirect_stdout(io.StringIO()) as log:
        runner.optimize(FRAMES)
        runner.compile()
    assert log.getvalue().count("[warning] Reducing optimization level to 0 ") == int(drops)


def test_the_log_names_what_is_calibrated_and_what_is_not_emulated(hars: dict[States, Path]) -> None:
    runner = in_state(H, hars)
    script = "model_optimization_config(calibration, calibset_size=2)\nallocator_param(timeout=9)"
    runner.load_model_script(script, append=True)
    with redirect_stdout(io.StringIO()) as log:
        runner.optimize(FRAMES)
    lines = log.getvalue().splitlines()
    assert "[info] Using dataset with 2 entries for calibration" in lines
    assert "[warning] Not emulated, kept for the real compiler: allocator_param(timeout=9)" in lines
    assert [line for line in lines if "Calibration" in line] == [
        "[info] Calibration: 50% 1/2", "[info] Calibration: 100% 2/2",
    ]  # fmt: skip


def test_only_the_calibration_set_of_the_script_is_seen(tmp_path: Path) -> None:
    calibration = np.concatenate([graphs.frames(2), 100 * graphs.frames(1, seed=1)])
    script = "model_optimization_config(calibration, calibset_size=2)"
    two = runners.quantized(graphs.small_net(), tmp_path, calibration, script)
    three = runners.quantized(graphs.small_net(), tmp_path, calibration)
    wanted = runners.quantized(graphs.small_net(), tmp_path, calibration[:2])
    assert two._encodings == wanted._encodings != three._encodings


def outputs_of_every_rank() -> Any:
    nodes = [
        conv("x", "a", "c"),
        node("Reshape", "a s", "b"),
        node("GlobalAveragePool", "a", "g"),
        node("Flatten", "g", "f"),
    ]
    weights = conv_weights("c", 4, 3, 3, 3) | {"s": np.array([1, 4, -1])}
    return network(nodes, weights, inputs={"x": (1, 3, 6, 8)}, outputs=["f", "a", "b"])


def test_outputs_are_nhwc_in_the_order_of_the_output_layers(tmp_path: Path) -> None:
    frames = graphs.frames(2, 6, 8)
    runner = runners.parsed(outputs_of_every_rank(), tmp_path)
    exact = [graphs.run(outputs_of_every_rank(), graphs.nchw(frame[np.newaxis])) for frame in frames]
    f, a, b = (np.concatenate(arrays) for arrays in zip(*exact, strict=True))
    wanted = [f, a.transpose(0, 2, 3, 1), b.transpose(0, 2, 1)[:, np.newaxis]]
    for got, array in zip(runners.infer(runner, frames), wanted, strict=True):
        np.testing.assert_array_equal(got, array)
        assert got.dtype == np.float32
    shapes = [layer["output_shapes"][0][1:] for layer in runner.get_hn_dict()["layers"].values()]
    assert shapes[-3:] == [list(array.shape[1:]) for array in wanted]


def test_infer_runs_inside_an_open_context_only(hars: dict[States, Path]) -> None:
    runner = in_state(H, hars)
    with runner.infer_context(InferenceContext.SDK_NATIVE) as context:
        assert runner.infer(context, FRAMES, data_count=2).shape == (2, 8, 8, 4)  # type: ignore[union-attr]
        with pytest.raises(exceptions.InvalidArgumentsException, match="data_count must be at least 1, is 0"):
            runner.infer(context, FRAMES, data_count=0)
    with pytest.raises(exceptions.InvalidArgumentsException, match="open `with infer_context`"):
        runner.infer(context, FRAMES)
    with pytest.raises(exceptions.InvalidArgumentsException, match="open `with infer_context`"):
        runner.infer(InferenceContext.SDK_NATIVE, FRAMES)  # type: ignore[arg-type]


def test_several_inputs_take_a_dictionary(tmp_path: Path) -> None:
    model = network(
        [node("Concat", "x z", "k", axis=1), node("Conv", "k w", "y")],
        {"w": normal(2, 4, 1, 1)},
        inputs={"x": ("N", 3, 8, 8), "z": ("N", 1, 8, 8)},
    )
    data = {"net/input_layer1": FRAMES, "net/input_layer2": graphs.frames(3, 8, 8, 1)}
    runner = runners.quantized(model, tmp_path, data)
    (got,) = runners.infer(runner, data)
    wanted = graphs.run(model, *(graphs.nchw(item) for item in data.values()))[0]
    np.testing.assert_array_equal(graphs.nchw(got), wanted)
    (rough,) = runners.infer(runner, data, "SDK_QUANTIZED")
    assert graphs.snr_db(got, rough) > 30
