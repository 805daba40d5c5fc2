"""Large constants stay outside the graph from the file to the HAR, and what is computed with them is the same."""

from __future__ import annotations

import gzip
import json
import mmap
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import conv, conv_weights, network, node, norm_weights, normal
from onnx import TensorProto

from hefjoin.emulator import ClientRunner, JoinAction, exceptions, weights
from hefjoin.emulator.translate import translate
from hefjoin.errors import InputError
from hefjoin.formats import har

SHARED = JoinAction.AUTO_JOIN_INPUTS
W = conv_weights("c", 8, 3, 3, 3) | norm_weights("n", 8) | {"w": normal(512, 16), "b": normal(16)}
NODES = [
    conv("x", "a", "c"),
    node("BatchNormalization", "a n_g n_h n_m n_v", "n"),
    node("Relu", "n", "r"),
    node("Flatten", "r", "f"),
    node("Gemm", "f w b", "y"),
]


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels of the tests' networks count as large."""
    monkeypatch.setattr(weights, "LARGE_BYTES", 256)


def save_outside(model: onnx.ModelProto, folder: Path, name: str = "net") -> Path:
    """Write a model with all it can beside it, as exporters do, the small constants too."""
    path = folder / f"{name}.onnx"
    copy = onnx.ModelProto()  # `onnx.save` empties what it is given
    copy.CopyFrom(model)
    onnx.save(copy, path, save_as_external_data=True, location=f"{name}.data", size_threshold=0)
    return path


def classifier(seed: int = 0, opset: int = 17) -> onnx.ModelProto:
    return network(NODES, W | {"w": normal(512, 16, seed=seed)}, opset=opset)


def shared_weight() -> onnx.ModelProto:
    """One kernel read twice, the second time through two Identities, and once turned round."""
    nodes = [
        node("Identity", "k", "k1"),
        node("Identity", "k1", "k2"),
        node("Conv", "x k", "a"),
        node("Conv", "a k2", "p"),
        node("Transpose", "k", "k3", perm=[1, 0, 2, 3]),
        node("Conv", "p k3", "y"),
    ]
    return network(nodes, {"k": normal(3, 3, 3, 3, spread=0.3)})


def old_network() -> onnx.ModelProto:
    """Opset 9: sizes of the Upsample are a constant, which lies outside too."""
    nodes = [conv("x", "a", "c"), node("Upsample", "a scales", "u", mode="nearest"), node("Relu", "u", "y")]
    weights = conv_weights("c", 8, 3, 3, 3) | {"scales": np.array([1, 1, 2, 2], np.float32)}
    return network(nodes, weights, opset=9, ir_version=4)


MODELS = {"classifier": classifier(), "shared weight": shared_weight(), "opset 9": old_network()}


@pytest.mark.parametrize("case", MODELS)
def test_a_network_computes_what_its_file_does_with_its_weights_left_where_they_are(case: str, tmp_path: Path) -> None:
    path = save_outside(MODELS[case], tmp_path)
    translated = translate(path, "net")
    large = {item.name for item in translated.model.graph.initializer if item.data_location == TensorProto.EXTERNAL}
    assert large == translated.weights.keys()
    assert large
    frames = graphs.frames(1)
    (got,) = runners.infer(runners.parsed(path, tmp_path), frames)
    # The file with its weights inside: of small ones outside, ONNX Runtime cannot read sizes.
    (exact,) = graphs.run(MODELS[case], graphs.nchw(frames))
    np.testing.assert_array_equal(got, exact if exact.ndim == 2 else exact.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("offset", [0, 3, 5000])
def test_values_and_pieces_are_those_of_the_file_from_any_byte_on(
    offset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "PIECE_BYTES", 4096)
    values = normal(50, 60)
    (tmp_path / "data").write_bytes(bytes(offset) + values.tobytes() + b"behind")
    weight = weights.Weight(weights.mapped(tmp_path / "data"), offset, values.dtype, values.shape)
    assert weight.array().flags.aligned
    np.testing.assert_array_equal(weight.array(), values)
    assert b"".join(weight.chunks()) == values.tobytes()


def test_a_weight_that_only_has_another_name_is_not_read(tmp_path: Path) -> None:
    found = translate(save_outside(shared_weight(), tmp_path), "net").weights
    kinds = {name.rpartition("::")[2]: type(weight.source) for name, weight in found.items()}
    assert kinds == {"k": mmap.mmap, "k2": mmap.mmap, "k3": bytes}


def test_a_har_is_whole_without_the_files_it_was_made_of(tmp_path: Path) -> None:
    path = save_outside(classifier(), tmp_path)
    frames = graphs.frames(2)
    runner = runners.parsed(path, tmp_path)
    (exact,) = runners.infer(runner, frames)
    for file in (path, tmp_path / "net.data"):
        file.unlink()
    runner.save_har(tmp_path / "net.har")
    again = ClientRunner(har=tmp_path / "net.har")
    np.testing.assert_array_equal(runners.infer(again, frames)[0], exact)
    # Written over the very file that its weights are in, and then without that file.
    again.save_har(tmp_path / "net.har")
    np.testing.assert_array_equal(runners.infer(ClientRunner(har=tmp_path / "net.har"), frames)[0], exact)
    (tmp_path / "net.har").unlink()
    np.testing.assert_array_equal(runners.infer(again, frames)[0], exact)


def test_graph_and_weights_of_a_har_unpacked_are_a_plain_model(tmp_path: Path) -> None:
    runners.parsed(save_outside(classifier(), tmp_path), tmp_path).save_har(tmp_path / "net.har")
    with tarfile.open(tmp_path / "net.har") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    x = normal(*graphs.IMAGE)
    (got,) = graphs.run(tmp_path / "unpacked" / "net.native.onnx", x)
    np.testing.assert_array_equal(got, graphs.run(classifier(), x)[0])


def test_a_shared_weight_is_in_the_har_once(tmp_path: Path) -> None:
    runners.parsed(save_outside(shared_weight(), tmp_path), tmp_path).save_har(tmp_path / "net.har")
    _, size_bytes = har.member_place(tmp_path / "net.har", ".weights")
    assert size_bytes == 384 + 324, "k and its transpose, 324 bytes each, the second at a multiple of 64"


def test_equal_networks_give_equal_bytes(tmp_path: Path) -> None:
    path = save_outside(classifier(), tmp_path)
    for name in "ab":
        runners.parsed(path, tmp_path).save_har(tmp_path / f"{name}.har")
    assert (tmp_path / "a.har").read_bytes() == (tmp_path / "b.har").read_bytes()


@pytest.mark.parametrize("outside", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("opsets", [(17, 17), (13, 17), (18, 11)])
def test_joined_each_gives_what_it_gives_alone(
    outside: tuple[bool, bool], opsets: tuple[int, int], tmp_path: Path
) -> None:
    models = [classifier(seed, opset) for seed, opset in enumerate(opsets)]
    paths = [
        (save_outside if is_out else graphs.save)(model, tmp_path, name)
        for model, is_out, name in zip(models, outside, "ab", strict=True)
    ]
    for path in paths:
        runners.parsed(path, tmp_path, path.stem).save_har(path.with_suffix(".har"))
    runner, other = (ClientRunner(har=path.with_suffix(".har")) for path in paths)
    runner.join(other, {"a": "left"}, "right", SHARED)
    runner.save_har(tmp_path / "joined.har")
    frames = graphs.frames(1)
    for side in (runner, ClientRunner(har=tmp_path / "joined.har")):
        for got, path in zip(runners.infer(side, frames), paths, strict=True):
            np.testing.assert_array_equal(got, graphs.run(path, graphs.nchw(frames))[0])


def test_quantized_it_is_what_the_same_network_with_its_weights_inside_is(tmp_path: Path) -> None:
    calibration, frames = graphs.frames(8), graphs.frames(3, seed=4)
    inside = runners.quantized(classifier(), tmp_path, calibration)
    outside = runners.parsed(save_outside(classifier(), tmp_path, "out"), tmp_path)
    outside.optimize(calibration)
    for how in ("SDK_FP_OPTIMIZED", "SDK_QUANTIZED"):
        np.testing.assert_array_equal(runners.infer(outside, frames, how), runners.infer(inside, frames, how))
    outside.save_har(tmp_path / "out.har")
    again = ClientRunner(har=tmp_path / "out.har")
    for how in ("SDK_NATIVE", "SDK_QUANTIZED"):
        np.testing.assert_array_equal(runners.infer(again, frames, how), runners.infer(inside, frames, how))


class TestTooLargeForOneGraph:
    @pytest.fixture
    def pair(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientRunner:
        """Two networks of 34,048 bytes of weights each, joined where a graph may have 60,000."""
        for room in ("weights", "join"):
            monkeypatch.setattr(f"hefjoin.emulator.{room}.INLINE_LIMIT_BYTES", 60_000)
        runner = runners.parsed(classifier(0), tmp_path, "a")
        runner.join(runners.parsed(classifier(1), tmp_path, "b"), join_action=SHARED)
        return runner

    def test_their_large_weights_leave_the_joined_graph(self, pair: ClientRunner, tmp_path: Path) -> None:
        assert len(pair._model.SerializeToString()) < 10_000
        pair.save_har(tmp_path / "joined.har")
        x = normal(*graphs.IMAGE)
        for got, seed in zip(runners.infer(ClientRunner(har=tmp_path / "joined.har"), nhwc(x)), (0, 1), strict=True):
            np.testing.assert_array_equal(got, graphs.run(classifier(seed), x)[0])

    @pytest.mark.parametrize("call", ["optimize", "optimize_full_precision"])
    def test_optimizing_is_refused_at_once_with_the_sizes(self, call: str, pair: ClientRunner) -> None:
        message = (
            r"^67,\d{3} bytes of weights \(a 33,632, b 33,632 of the large ones\) are too many to be optimized; the "
            "emulator optimizes and quantizes networks of at most 60,000"
        )
        with pytest.raises(exceptions.InvalidArgumentsException, match=message):
            getattr(pair, call)(np.zeros((1, 8, 8, 3), np.float32))
        assert pair.state.value == "hailo_model"

    def test_so_is_a_join_of_quantized_ones(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        left, right = (runners.quantized(classifier(), tmp_path, graphs.frames(2), name=name) for name in "ab")
        monkeypatch.setattr("hefjoin.emulator.join.INLINE_LIMIT_BYTES", 10_000)
        with pytest.raises(exceptions.InvalidArgumentsException, match=r"quantized networks have [\d,]+ and .* 10,000"):
            left.join(right)
        assert left.model_name == "a"


def nhwc(array: graphs.Array) -> graphs.Array:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


class TestDamaged:
    def test_weights_that_are_not_there_are_named(self, tmp_path: Path) -> None:
        path = save_outside(classifier(), tmp_path)
        with (tmp_path / "net.data").open("r+b") as stream:
            stream.truncate(1000)
        with pytest.raises(InputError, match=r"net\.data: tensor 'w' takes 32,768 bytes from byte [\d,]+ on, \d+ are"):
            translate(path, "net")

    def test_a_compressed_har_has_no_place_for_weights(self, tmp_path: Path) -> None:
        runners.parsed(save_outside(classifier(), tmp_path), tmp_path).save_har(tmp_path / "net.har")
        (tmp_path / "net.har").write_bytes(gzip.compress((tmp_path / "net.har").read_bytes()))
        assert har.read(tmp_path / "net.har").model_name == "net"
        with pytest.raises(InputError, match=r"net\.weights is used where it lies, but the archive is compressed"):
            ClientRunner(har=tmp_path / "net.har")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"offset": "1000000"}, r"tensor 'net/onnx::c_w' takes 864 bytes from byte 1,000,000 on, net.weights has"),
            ({"location": "net.hn"}, "net.hn: tensor"),
            ({"location": "/etc/passwd"}, "no file below"),
            ({"length": "4"}, "takes 864 bytes by shape and type, the model says 4"),
        ],
    )
    def test_a_har_that_points_elsewhere_is_refused(self, change: dict[str, str], message: str, tmp_path: Path) -> None:
        runners.parsed(save_outside(classifier(), tmp_path), tmp_path).save_har(tmp_path / "net.har")
        members = {
            suffix: har.read_member(tmp_path / "net.har", suffix)
            for suffix in (".native.onnx", ".weights", ".emulator.json", ".hn", ".metadata.json")
        }
        graph = onnx.load_from_string(members[".native.onnx"])
        for entry in next(item for item in graph.graph.initializer if item.name.endswith("c_w")).external_data:
            entry.value = change.get(entry.key, entry.value)
        changed: dict[str, Any] = {**members, ".native.onnx": graph.SerializeToString()}
        hn, metadata = (json.loads(changed.pop(suffix)) for suffix in (".hn", ".metadata.json"))
        har.write(tmp_path / "odd.har", model_name="net", metadata=metadata, hn=hn, members=changed)
        with pytest.raises(InputError, match=message):
            ClientRunner(har=tmp_path / "odd.har")


JOIN = """
import sys
from pathlib import Path
from hefjoin.emulator import ClientRunner, JoinAction
left, right = ClientRunner(har=sys.argv[1]), ClientRunner(har=sys.argv[1])
left.join(right, "a", "b", JoinAction.AUTO_JOIN_INPUTS)
left.save_har(sys.argv[2])
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""
"""The peak is that of this process; `ru_maxrss` would begin with that of the one that started it."""
NET_BYTES = 160 << 20


def test_a_join_takes_far_less_memory_than_the_weights(tmp_path: Path) -> None:
    har_path, joined = tmp_path / "net.har", tmp_path / "joined.har"
    runners.parsed(sparse_network(tmp_path, NET_BYTES), tmp_path).save_har(har_path)
    (tmp_path / "net.data").unlink()
    command = [sys.executable, "-c", JOIN, str(har_path), str(joined)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, peak, unit = done.stdout.splitlines()[-1].split()
    assert unit == "kB"
    assert int(peak) * 1024 < NET_BYTES
    assert joined.stat().st_size > 2 * NET_BYTES
    har_path.unlink()
    joined.unlink()


def sparse_network(folder: Path, size_bytes: int) -> Path:
    """Write a network with one kernel of that size, which lies in a file with a hole."""
    features = size_bytes // 4 // 192
    model = network([node("Flatten", "x", "f"), node("Gemm", "f w", "y")])
    kernel = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[192, features])
    kernel.data_location = TensorProto.EXTERNAL
    kernel.external_data.append(onnx.StringStringEntryProto(key="location", value="net.data"))
    with (folder / "net.data").open("wb") as stream:
        stream.truncate(192 * features * 4)
    return graphs.save(model, folder)
