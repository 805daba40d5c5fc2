"""The stand-in for the Dataflow Compiler is what it claims: alone in its environment, strict, and switchable."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from hefjoin.formats import har as har_file
from hefjoin.formats import hef as hef_file
from hefjoin.formats import model_script
from tests.fakes.dfc_environment import interpreter
from tests.tiny import images, write_pair

REAL_HAR = Path(__file__).resolve().parents[3] / "shared" / "data" / "har" / "whisper_hailo8l_hailo_model.har"
REAL_HEF = Path(__file__).resolve().parents[3] / "shared" / "data" / "hef" / "mnist_cnn_head.hef"
SECONDS = 30.0

PROLOGUE = """
import sys
import numpy as np
from hailo_sdk_client import ClientRunner, JoinAction
AUTO = JoinAction.AUTO_JOIN_INPUTS
def load(name):
    return ClientRunner(har=name + ".har")
"""
MAKE = """
for name in ("left", "right"):
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(name + ".onnx", name)
    runner.save_har(name + ".har")
runner = load("left")
runner.join(load("right"), "left", "right", AUTO)
runner.load_model_script("left/n = normalization([120, 115, 105], [60, 58, 57], left/input_layer1)")
runner.save_har("joined.har")
runner.optimize("images.npy")
runner.analyze_noise("images.npy", data_count=2)
runner.save_har("quantized.har")
runner.load_model_script("performance_param(fps=30)")
open("joined.hef", "wb").write(runner.compile())
runner.save_har("compiled.har")
"""


class Fake:
    """Runs lines of Python in the stand-in's interpreter, in a folder with the tiny pair and its HARs."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.folder = python, folder

    def start(self, code: str, switches: dict[str, Any], **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.python), "-c", PROLOGUE + code], cwd=self.folder, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, "FAKE_DFC": json.dumps(switches)},
            **{"stdin": subprocess.DEVNULL, **options},
        )  # fmt: skip

    def says(self, code: str, **switches: Any) -> str:
        """Return what a run prints; one that fails ends with the exception's name and message."""
        return self.start(code, switches).communicate(timeout=60)[0]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Fake:
    folder = tmp_path_factory.mktemp("fake")
    write_pair(folder, count=4)
    np.save(folder / "images.npy", images(4).astype(np.float32))
    made = Fake(interpreter(folder / "venv"), folder)
    assert "Error" not in made.says(MAKE)
    return made


def compiled(fake: Fake, script: str, **switches: Any) -> str:
    return fake.says(
        f"r = load('quantized'); r.load_model_script({script!r}); h = r.compile(); print(len(h))", **switches
    )


class TestEnvironment:
    def test_the_vendors_pins_and_nothing_of_ours(self, fake: Fake) -> None:
        found = fake.says(
            "import importlib.util as u, onnx, google.protobuf as p\nfrom importlib.metadata import version\n"
            "print([m for m in ('hefjoin', 'hailo_platform', 'prefect', 'pydantic') if u.find_spec(m)])\n"
            "print(version('hailo-dataflow-compiler'), np.__version__, p.__version__, onnx.__version__)"
        )
        assert found.splitlines()[-2:] == ["[]", "3.33.0 1.26.4 3.20.3 1.17.0"]

    def test_a_question_that_nobody_answers_ends_it(self, fake: Fake) -> None:
        process = fake.start("print('imported')", {"asks_at_import": True})
        assert "Continue? [Y/n]" in process.communicate(timeout=60)[0]
        assert process.returncode == 1

    def test_a_question_that_is_answered_does_not(self, fake: Fake) -> None:
        process = fake.start("print('imported')", {"asks_at_import": True}, stdin=subprocess.PIPE)
        assert "imported" in process.communicate("y\n", timeout=60)[0]

    def test_a_switch_that_does_not_exist_is_refused(self, fake: Fake) -> None:
        assert "TypeError" in fake.says("", gpu=True)

    def test_exceptions_live_where_tracebacks_show_them(self, fake: Fake) -> None:
        found = fake.says(
            "from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import BackendAllocatorException\n"
            "from hailo_sdk_client.model_translator.exceptions import MisspellNodeError, UnsupportedModelError as a\n"
            "from hailo_sdk_common.hailo_nn.exceptions import UnsupportedModelError as b\n"
            "from hailo_sdk_client.runner.client_runner import InvalidArgumentsException\n"
            "from hailo_model_optimization.acceleras.utils.acceleras_exceptions import BadInputsShape\n"
            "print(a is b)"
        )
        assert found.splitlines()[-1] == "True"


class TestFiles:
    def test_a_har_has_the_members_and_keys_of_the_vendors(self, fake: Fake) -> None:
        if not REAL_HAR.is_file():
            pytest.skip("no HAR of the vendor's compiler here")
        ours, real = har_file.read(fake.folder / "left.har"), har_file.read(REAL_HAR)
        suffixes = [
            {member.removeprefix(har.model_name) for member in har.members if ".fake." not in member}
            for har in (ours, real)
        ]
        assert suffixes[0] == suffixes[1]
        layers = []
        for path, har in ((fake.folder / "left.har", ours), (REAL_HAR, real)):
            with tarfile.open(path) as archive:
                keys = json.loads(_member(archive, f"{har.model_name}.metadata.json")).keys()
                hn = json.loads(_member(archive, f"{har.model_name}.hn"))
            layers.append((keys, hn["net_params"].keys(), *_layer_keys(hn)))
        assert layers[0] == layers[1]

    def test_a_compiled_har_has_the_hef_and_the_compilers_decisions(self, fake: Fake) -> None:
        path = fake.folder / "compiled.har"
        assert har_file.read(path).state == "compiled_model"
        assert har_file.read_member(path, ".hef") == (fake.folder / "joined.hef").read_bytes()
        script = model_script.parse(har_file.read_member(path, ".auto.alls").decode())
        assert {command.name for command in script.commands} == {"performance_param", "place"}

    def test_a_hef_says_of_itself_what_the_vendors_do(self, fake: Fake) -> None:
        if not REAL_HEF.is_file():
            pytest.skip("no HEF of the vendor's compiler here")
        ours, real = (hef_file.read(path, verify=True) for path in (fake.folder / "joined.hef", REAL_HEF))
        assert (ours.hw_arch, ours.hw_arch_number) == (real.hw_arch, real.hw_arch_number)
        assert [stream.order for stream in ours.groups[0].streams] == ["NHCW", "NC", "NC"]
        assert [stream.shape for stream in ours.groups[0].streams] == [(16, 16, 3), (8,), (8,)]

    def test_a_hef_for_the_8l_has_two_halves_of_which_one_counts(self, fake: Fake) -> None:
        fake.says("r = ClientRunner(hw_arch='hailo8l', har='quantized.har'); open('8l.hef', 'wb').write(r.compile())")
        hef = hef_file.read(fake.folder / "8l.hef", verify=True)
        assert hef.hw_arch == "HAILO8L"
        assert hef.groups[0].contexts == 1
        assert len(hef.groups[0].outputs) == 2

    def test_logs_lie_in_the_working_directory(self, fake: Fake) -> None:
        assert {path.name for path in fake.folder.glob("*.log")} == {"allocator.log", "hailo_sdk.client.log"}


class TestSwitches:
    def test_dictionaries_of_scopes(self, fake: Fake) -> None:
        code = "r = load('left'); r.join(load('right'), {}, {}, AUTO); print(r.model_name)"
        code = code.replace("{}, {}", "{'left': 'a'}, {'right': 'b'}")
        assert fake.says(code).endswith("joined_a_b\n")
        assert "InvalidArgumentsException: Scope name must be a string" in fake.says(code, refuses_dict_scopes=True)

    def test_where_join_action_is(self, fake: Fake) -> None:
        code = "import hailo_sdk_client.exposed_definitions as e; print(hasattr(e, 'JoinAction'), JoinAction.NONE.name)"
        assert fake.says(code).endswith("True NONE\n")
        assert fake.says(code, join_action_at_root_only=True).endswith("False NONE\n")

    def test_inputs_that_stay_two(self, fake: Fake) -> None:
        code = "r = load('left'); r.join(load('right'), join_action=AUTO); print(*r.get_hn_dict()['layers'])"
        assert "right/input_layer1" not in fake.says(code)
        assert "right/input_layer1" in fake.says(code, keeps_both_inputs=True)

    @pytest.mark.parametrize("has_gpu", [False, True])
    def test_a_gpu(self, fake: Fake, has_gpu: bool) -> None:
        text = fake.says("load('joined').optimize('images.npy')", has_gpu=has_gpu)
        assert ("Selected GPU 0" in text) == has_gpu
        assert ("[warning] Reducing optimization level to 0" in text) != has_gpu

    def test_decimals(self, fake: Fake) -> None:
        assert "| 5.5%  " in compiled(fake, "")
        assert "| 5,5%  " in compiled(fake, "", decimal_comma=True)

    def test_outputs_in_16_bits_and_their_demotion(self, fake: Fake) -> None:
        code = (
            "r = load('joined'); r.load_model_script('quantization_param({*/output_layer*}, precision_mode=a16_w16)')\n"
            "r.optimize('images.npy'); open('wide.hef', 'wb').write(r.compile())"
        )
        for demotes, dtype in ((False, "UINT16"), (True, "UINT8")):
            fake.says(code, demotes_16_bit_outputs=demotes)
            outputs = hef_file.read(fake.folder / "wide.hef", verify=True).groups[0].outputs
            assert {stream.dtype for stream in outputs} == {dtype}

    @pytest.mark.parametrize(
        ("needed", "script"),
        [
            ({"fps": 30}, "performance_param(fps=30)"),
            ({"max_utilization": 0.9}, "resources_param(max_control_utilization=0.95)"),
            ({"seed": 7}, "allocator_param(seed=7)"),
            ({"compiler_optimization_level": "max"}, "performance_param(compiler_optimization_level=max)"),
        ],
    )
    def test_what_a_network_needs_to_fit(self, fake: Fake, needed: dict[str, Any], script: str) -> None:
        single = "context_switch_param(mode=disabled)\n"
        refused = compiled(fake, single, fits_when=needed)
        assert "BackendAllocatorException: Mapping Failed (allocation time: " in refused
        assert "LCUs: 149/96" in refused
        assert "Using Single-context flow" in compiled(fake, single + script, fits_when=needed)

    def test_contexts_where_one_does_not_do(self, fake: Fake) -> None:
        text = compiled(fake, "", fits_when={"seed": 7}, contexts=2)
        assert "Single context flow failed: Recoverable single context error" in text
        assert "joined_left_right_context_1 utilization:" in text

    def test_recorded_decisions_spare_the_search(self, fake: Fake) -> None:
        script = har_file.read_member(fake.folder / "compiled.har", ".auto.alls").decode()
        assert "Validating layers feasibility" in compiled(fake, "")
        assert "Validating layers feasibility" not in compiled(fake, script, fits_when={"seed": 7})


class TestStrictness:
    def test_modifications_come_before_optimization(self, fake: Fake) -> None:
        assert "AllocatorScriptParserException: normalization" in fake.says(
            "load('quantized').load_model_script('left/n = normalization([0, 0, 0], [1, 1, 1], left/input_layer1)')"
        )

    def test_a_model_is_named_by_text(self, fake: Fake) -> None:
        code = "from pathlib import Path; ClientRunner().translate_onnx_model(Path('left.onnx'), 'left')"
        assert "TypeError" in fake.says(code)

    def test_a_missing_nms_file_is_refused(self, fake: Fake) -> None:
        code = "load('joined').load_model_script('nms_postprocess(\"absent.json\", meta_arch=yolov8)')"
        assert "NMSConfigPostprocessException: NMS config file absent.json not found" in fake.says(code)

    def test_the_compiler_outlives_the_one_that_started_it(self, fake: Fake) -> None:
        (fake.folder / "allocator.log").unlink(missing_ok=True)
        process = fake.start("load('quantized').compile()", {"compiler_seconds": 60})
        child = _pid_of_compiler(fake.folder / "allocator.log")
        try:
            process.kill()
            process.wait(SECONDS)
            assert psutil.Process(child).status() != psutil.STATUS_ZOMBIE
            ignored = re.search(r"SigIgn:\s*(\w+)", Path(f"/proc/{child}/status").read_text(encoding="utf-8"))
            assert ignored is not None
            assert int(ignored[1], 16) & 1 << signal.SIGTERM - 1
        finally:
            os.kill(child, signal.SIGKILL)
            process.communicate(timeout=SECONDS)


def _pid_of_compiler(log: Path) -> int:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if log.exists() and "pid " in (text := log.read_text(encoding="utf-8")):
            return int(text.split("pid ")[1])
        time.sleep(0.02)
    raise AssertionError("the external compiler did not start")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    assert stream is not None
    return stream.read()


def _layer_keys(hn: dict[str, Any]) -> list[Any]:
    found: dict[str, Any] = {}
    for layer in hn["layers"].values():
        found.setdefault(layer["type"], layer.keys())
    return [found[kind] for kind in ("input_layer", "conv", "output_layer")]
