"""What `hefjoin inspect` says of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from flows.views.inspect import describe
from flows.views.inspect_text import show
from hefjoin.errors import InputError
from hefjoin.formats import har
from hefjoin.formats.hef import Edge
from tests.hef_protobuf import DATA, LISTINGS, description, emulated, listed

needs_real_files = pytest.mark.skipif(not LISTINGS.exists(), reason="real files are not beside the repository")
REAL_HAR = DATA.parent / "har" / "whisper_hailo8l_hailo_model.har"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def words(text: str, start: str) -> list[list[str]]:
    """Return the lines that start so, cut at two or more blanks."""
    found = (line.strip() for line in text.splitlines())
    return [[cell.strip() for cell in line.split("  ") if cell] for line in found if line.startswith(start)]


@needs_real_files
def test_a_real_hef_in_plain_words() -> None:
    text = run(DATA / "rpicam_yolov5n_seg_h8.hef").stdout
    assert words(text, "chip") == [["chip", "HAILO8 (hw_arch 1)"]]
    assert words(text, "compiler") == [["compiler", "DFC 3.29.0, compiled 2024-09-19T17:16:04Z"]]
    assert words(text, "bytes") == [["bytes", "header 28, description 2,006,194, microcode 1,958,008"]]
    assert "network group yolov5n_seg: 1 context" in text.splitlines()
    estimates = "184.4 FPS at the bottleneck, latency 47.21 ms: the compiler's own estimate, nothing was measured"
    assert words(text, "184.4") == [[estimates]]
    assert words(text, "yolov5n_seg/conv48") == [
        ["yolov5n_seg/conv48", "80×80×351", "FCR", "UINT16", "(q - 25797) * 0.000953822", "from Conv_209"]
    ]
    columns = {line.index("×") for line in text.splitlines() if "conv5" in line or "conv6" in line}
    assert len(columns) <= 2, "columns stand under each other, but for the width of the first number"


@needs_real_files
def test_a_real_har_in_plain_words() -> None:
    text = run(REAL_HAR).stdout
    assert words(text, "model") == [["model", "whisper-hailo8l, state hailo_model"]]
    assert words(text, "compiler") == [["compiler", "DFC 3.33.0"]]
    assert words(text, "parameters") == [["parameters", "604,648"]]
    assert words(text, "whisper-hailo8l/input_layer1") == [["whisper-hailo8l/input_layer1", "3000×1×80", "from mel"]]
    assert words(text, "layers")[0][1].startswith("conv 15, ew_mult 8")


@needs_real_files
def test_the_vendors_listing() -> None:
    blocks = dict(block.split("\n", 1) for block in LISTINGS.read_text().split("######## ")[1:])
    done = run(DATA / "takumi_yolov8n.hef", "--like-hailortcli")
    assert done.stdout == blocks["takumi_yolov8n.hef"].removesuffix("exit=0\n")


def test_an_emulated_hef_says_that_its_contexts_are_a_forecast(tmp_path: Path) -> None:
    path = tmp_path / "pair.hef"
    path.write_bytes(emulated(contexts=2))
    text = run(path).stdout
    assert "network group pair: 2 contexts (forecast)" in text
    assert words(text, "compiler") == [["compiler", "emulator 0.1.0-emulator"]]
    assert words(text, "resources") == [["resources", "alls, joined.onnx"]]
    assert words(text, "pair/a/fc1") == [["pair/a/fc1", "1000", "NC", "UINT8", "(q - 12) * 0.5"]]
    assert "the compiler's own estimate" not in text


def test_a_truncated_file_says_so_first_and_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "pair.hef"
    path.write_bytes(emulated()[:-10])
    done = run(path)
    assert done.exit_code == 0
    size = len(emulated())
    assert done.stdout.startswith(f"truncated: {size - 10:,} of {size:,} bytes are there, HailoRT refuses it;")
    assert "pair/b/conv9" in done.stdout
    assert json.loads(run(path, "--json").stdout)["is_truncated"] is True


def test_verify_compares_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "pair.hef"
    path.write_bytes(emulated())
    assert words(run(path).stdout, "checksum") == [["checksum", "not compared"]]
    assert words(run(path, "--verify").stdout, "checksum") == [["checksum", "holds"]]
    path.write_bytes(emulated()[:-1] + b"?")
    assert run(path).exit_code == 0
    for options in (["--verify"], ["--verify", "--like-hailortcli"], ["--verify", "--json"]):
        done = run(path, *options)
        assert (done.exit_code, "its header says" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("name", "option", "said"),
    [
        ("net.har", "--like-hailortcli", "lists a HEF, this is an ONNX or HAR file"),
        ("net.har", "--verify", "compares the checksum of a HEF"),
        ("net.txt", "--like-hailortcli", "starts with 6e 65 74"),
        ("net.txt", "--json", "is none of .onnx, .har, .hef"),
        ("absent.hef", "--like-hailortcli", "no file there"),
        ("absent.hef", "--verify", "is not a file"),
    ],
)
def test_what_an_option_is_not_for_is_said(name: str, option: str, said: str, tmp_path: Path) -> None:
    write_har(tmp_path / "net.har")
    (tmp_path / "net.txt").write_bytes(b"net\x00\x01\x02")
    done = run(tmp_path / name, option)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


def write_har(path: Path, name: str = "net/in") -> None:
    layers = {
        name: {"type": "input_layer", "output_shapes": [[-1, 8, 8, 3]]},
        "net/out": {"type": "output_layer", "input": [name], "input_shapes": [[-1, 10]]},
    }
    metadata = {"state": "hailo_model", "sdk_version": "3.33.0", "hw_arch": "hailo8"}
    har.write(path, model_name="net", metadata=metadata, hn={"layers": layers}, members={})


def test_an_output_without_an_output_shape_is_shown_with_what_it_takes(tmp_path: Path) -> None:
    write_har(tmp_path / "net.har")
    found = describe(tmp_path / "net.har")
    assert [tensor["shape"] for tensor in (*found["inputs"], *found["outputs"])] == [[8, 8, 3], [10]]


def test_what_no_terminal_should_get_is_replaced(tmp_path: Path) -> None:
    write_har(tmp_path / "net.har", name="net/\x1b[2J")
    text = show(describe(tmp_path / "net.har"))
    assert "\x1b" not in text
    assert "net/�[2J" in text


def test_numbers_that_are_none_are_valid_json(tmp_path: Path) -> None:
    proto = description(emulated(outputs=[Edge("o", (4,))], resources={}))
    proto.header.timestamp = 2**63
    edges: Any = proto.network_groups[0].contexts[0].metadata.edge_layers
    edges[1].layer_info.numeric_info.qp_scale = float("nan")
    listed(proto, tmp_path / "pair.hef")
    found = json.loads(run(tmp_path / "pair.hef", "--json").stdout, parse_constant=pytest.fail)
    assert (found["groups"][0]["outputs"][0]["scale"], found["compiled_at"]) == (None, None)
    assert "(q - 0) * no number" in run(tmp_path / "pair.hef").stdout


def test_a_file_that_is_none_of_the_three_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file"):
        describe(tmp_path)
