"""The HAR reader on a real archive, on our own and on hostile ones."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hefjoin.artifacts import Ref
from hefjoin.errors import InputError, StoreError
from hefjoin.forecast.count import fused
from hefjoin.formats import har
from hefjoin.formats.har_layers import HarLayer
from hefjoin.results.networks import Network
from hefjoin.stages import network

REAL = Path(__file__).parents[3] / "shared" / "data" / "har" / "whisper_hailo8l_hailo_model.har"
needs_real_file = pytest.mark.skipif(not REAL.exists(), reason="the real HAR is not beside the repository")
fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

METADATA = {"state": "hailo_model", "sdk_version": "0.1.0-emulator", "hw_arch": "hailo8"}
HN: dict[str, Any] = {
    "name": "net",
    "net_params": {"net_scopes": ["net"], "output_layers_order": ["net/fc1"]},
    "layers": {
        "net/input_layer1": {"type": "input_layer", "output": ["net/dw1"], "output_shapes": [[-1, 8, 8, 4]]},
        "net/dw1": {
            "type": "dw",
            "input": ["net/input_layer1"],
            "output": ["net/fc1"],
            "output_shapes": [[-1, 8, 8, 4]],
            "params": {"kernel_shape": [3, 3, 4, 1]},
        },
        "net/fc1": {
            "type": "dense",
            "input": ["net/dw1"],
            "output": ["net/output_layer1"],
            "output_shapes": [[-1, 10]],
            "original_names": ["MatMul_7"],
            "params": {"kernel_shape": [256, 10]},
        },
        "net/output_layer1": {"type": "output_layer", "input": ["net/fc1"], "input_shapes": [[-1, 10]]},
    },
}


def write(path: Path, **changes: Any) -> Path:
    arguments: dict[str, Any] = {"model_name": "net", "metadata": METADATA, "hn": HN, "members": {".alls": b"n()"}}
    har.write(path, **{**arguments, **changes})
    return path


def archive(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def whole(**replaced: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    contents = {"metadata": json.dumps(METADATA).encode(), "hn": json.dumps(HN).encode(), **replaced}
    return [(entry("net.metadata.json"), contents["metadata"]), (entry("net.hn"), contents["hn"])]


@needs_real_file
def test_reads_a_real_har() -> None:
    found = har.read(REAL)
    assert (found.model_name, found.state, found.hw_arch) == ("whisper-hailo8l", "hailo_model", "hailo8l")
    assert (found.sdk_version, found.is_emulated, found.scopes) == ("3.33.0", False, ("whisper-hailo8l",))
    assert [(layer.name, layer.output_shapes) for layer in found.inputs] == [
        ("whisper-hailo8l/input_layer1", ((-1, 3000, 1, 80),))
    ]
    assert [(layer.original_names, layer.input_shapes) for layer in found.outputs] == [
        (("logits",), ((-1, 1500, 1, 1000),))
    ]
    assert sum(found.layer_counts.values()) == len(found.layers) == 50
    assert next(iter(found.layer_counts.items())) == ("conv", 15)
    assert {layer.scope for layer in found.layers} == {"whisper-hailo8l"}


@needs_real_file
def test_parameters_equal_the_weights_of_the_layers_with_a_kernel() -> None:
    numpy = pytest.importorskip("numpy")
    found = har.read(REAL)
    weights = numpy.load(io.BytesIO(har.read_member(REAL, ".npz")))
    kernels = [layer.name for layer in found.layers if "kernel_shape" in layer.params]
    counted = sum(weights[f"{name}/{kind}:0"].size for name in kernels for kind in ("kernel", "bias"))
    assert found.parameters == counted == 604_648


@needs_real_file
def test_residual_additions_of_a_real_network_take_no_place() -> None:
    found = network.describe(REAL, Ref(uri="file:///real.har", sha256="0" * 64, size_bytes=1, media="har"))
    fused = [layer.name.partition("/")[2] for layer in found.layers if layer.is_fused]
    assert fused == ["ew_add2", "ew_add3", "ew_add4", "ew_add5"]  # the first adds a constant to an activation
    assert found.layers_on_chip == len(found.layers) - 4


@pytest.mark.parametrize(
    ("changes", "is_fused"),
    [
        ({}, True),
        ({"type": "dw"}, True),
        ({"type": "maxpool"}, False),
        ({"params": {"activation": "relu"}}, False),
        ({"output": ["net/ew_add1", "net/output_layer1"]}, False),
    ],
)
def test_an_addition_is_fused_into_a_plain_convolution_that_feeds_it_alone(
    changes: dict[str, Any], is_fused: bool
) -> None:
    image = [-1, 8, 8, 4]
    branch = {"name": "net/conv1", "type": "conv", "output": ["net/ew_add1"], "output_shapes": [image]} | changes
    total = {"name": "net/ew_add1", "type": "ew_add", "input": ["net/maxpool1", "net/conv1"]}
    shapes = ([image, image], [image, [-1, 1, 1, 4]])
    found = [
        fused(HarLayer.model_validate(layer) for layer in (branch, total | {"input_shapes": given})) for given in shapes
    ]
    assert found == [frozenset({"net/ew_add1"} if is_fused else ()), frozenset()]  # the second broadcasts


def test_what_is_written_is_read(tmp_path: Path) -> None:
    weights = tmp_path / "weights.onnx"
    weights.write_bytes(b"w" * 3_000_000)
    path = write(tmp_path / "net.har", members={".alls": b"n()", ".onnx": weights})
    found = har.read(path)
    assert (found.model_name, found.state, found.is_emulated, found.scopes) == (
        "net",
        "hailo_model",
        True,
        ("net",),
    )
    assert [layer.name for layer in found.layers] == list(HN["layers"])
    assert found.layers[2].inputs == ("net/dw1",)
    assert found.layer_counts == {"input_layer": 1, "dw": 1, "dense": 1, "output_layer": 1}
    assert found.parameters == (36 + 4) + (2560 + 10)
    assert found.members == ("net.alls", "net.hn", "net.metadata.json", "net.onnx")
    assert har.read_member(path, ".alls") == b"n()"
    assert json.loads(har.read_member(path, ".metadata.json")) == {**METADATA, "model_name": "net", "hn": "net.hn"}
    assert har.read_member(path, ".onnx") == weights.read_bytes()


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    one = write(tmp_path / "a.har", members={".alls": b"1", ".onnx": b"2"})
    two = write(tmp_path / "b.har", members={".onnx": b"2", ".alls": b"1"}, metadata=dict(reversed(METADATA.items())))
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as tar:
        assert {(member.mtime, member.uid, member.gid, member.uname) for member in tar} == {(0, 0, 0, "")}


def test_a_failed_write_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path / "net.har")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="cannot be written"):
        write(path, members={".onnx": tmp_path / "absent"})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(StoreError, match="choose another directory"):
        write(tmp_path / "absent" / "net.har")


@pytest.mark.parametrize("changes", [{"model_name": "../net"}, {"model_name": ""}, {"members": {".hn": b"{}"}}])
def test_names_that_would_not_be_found_again_are_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        write(tmp_path / "net.har", **changes)


def test_a_compressed_archive_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "net.har"
    path.write_bytes(gzip.compress(archive(whole())))
    assert har.read(path).parameters == 2610


def test_the_graph_named_in_the_metadata_is_the_one_read(tmp_path: Path) -> None:
    path = tmp_path / "net.har"
    metadata = json.dumps({**METADATA, "hn": "net.native.hn"}).encode()
    native = json.dumps({"layers": {"other/conv1": {"type": "conv"}}}).encode()
    path.write_bytes(archive([*whole(metadata=metadata), (entry("net.native.hn"), native)]))
    found = har.read(path)
    assert (found.scopes, found.layer_counts) == (("other",), {"conv": 1})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no tar archive"),
        (b"version https://git-lfs.github.com/spec/v1", "no tar archive"),
        (b"\x1f\x8b" + bytes(50), "no tar archive"),
        (archive(whole())[:700], "damaged"),
        (gzip.compress(archive(whole()))[:200], "damaged"),
        (archive(whole()[1:]), "0 members end in .metadata.json"),
        (archive([*whole(), (entry("b.metadata.json"), b"{}")]), "2 members end in"),
        (archive(whole()[:1]), "no member 'net.hn', it has net.metadata.json"),
        (archive(whole(metadata=b"{")), "net.metadata.json is no JSON"),
        (archive(whole(metadata=b"\xff")), "net.metadata.json is no JSON"),
        (archive(whole(metadata=b"[" * 100_000)), "net.metadata.json is no JSON"),
        (archive(whole(metadata=b"{}")), "state: Field required"),
        (archive(whole(hn=b"[]")), "net.hn is not what a HAR holds"),
        (archive(whole(hn=b'{"layers": {"a": {}, "b": {"type": 1}}}')), r"layers\.0\.type.*layers\.1\.type"),
        (archive([*whole(), (entry("/etc/passwd"), b"")]), "'/etc/passwd' is no plain file"),
        (archive([*whole(), (entry("a/../../b"), b"")]), "is no plain file"),
        (archive([*whole(), (entry("l", tarfile.SYMTYPE, "/etc/passwd"), b"")]), "is no plain file"),
        (archive([*whole(), (entry("l", tarfile.LNKTYPE, "net.hn"), b"")]), "is no plain file"),
        (archive([*whole(), (entry("d", tarfile.CHRTYPE), b"")]), "is no plain file"),
        (archive([(entry(str(number)), b"") for number in range(1001)]), "more than 1000 members"),
    ],
)
def test_what_is_no_har_is_refused_and_named(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "net.har"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        har.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["absent.har", "."])
def test_no_file_is_an_input_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file there"):
        har.read(tmp_path / name)


def test_a_member_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "net.har", members={".npz": bytes(1000)})
    assert har.read_member(path, ".npz", limit_bytes=1000) == bytes(1000)
    with pytest.raises(InputError, match="takes 1,000 bytes, at most 999"):
        har.read_member(path, ".npz", limit_bytes=999)


def test_a_graph_larger_than_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.har"
    path.write_bytes(archive(whole(hn=bytes(har.GRAPH_LIMIT_BYTES + 1))))
    with pytest.raises(InputError, match="at most 16,777,216"):
        har.read(path)


@pytest.mark.parametrize("size", [b"77777777777\0", b"\xff" * 10 + b"\xfc\0"], ids=["8 GiB", "-1 KiB"])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE])
def test_a_header_that_lies_about_its_size_is_refused(kind: bytes, size: bytes, tmp_path: Path) -> None:
    header = bytearray(archive([(entry("x", kind), b"")])[:512])
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "net.har"
    path.write_bytes(bytes(header) + archive(whole()))
    with pytest.raises(InputError):
        har.read(path)


IN: dict[str, Any] = {"type": "input_layer", "output_shapes": [[-1, 8, 8, 4]]}
OUT: dict[str, Any] = {"type": "output_layer", "input": ["in"], "input_shapes": [[-1, 10]]}
CONV: dict[str, Any] = {"type": "conv", "output_shapes": [[-1, 4, 4, 8]], "params": {"kernel_shape": [3, 3, 4, 8]}}


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({**IN, "output_shapes": []}, "input_layer 'x' has no whole shape (none at all)"),
        ({**IN, "output_shapes": [[-1]]}, "input_layer 'x' has no whole shape ((-1,))"),
        ({**IN, "output_shapes": [[-1, -1, 8, 3]]}, "input_layer 'x' has no whole shape ((-1, -1, 8, 3))"),
        ({**OUT, "input": []}, "output layer 'x' has no input"),
        ({**OUT, "input_shapes": []}, "output_layer 'x' has no whole shape (none at all)"),
        ({**CONV, "output_shapes": []}, "conv 'x' has no whole shape (none at all)"),
        ({**CONV, "type": "deconv"}, "deconv 'x' has no whole shape (none at all)"),
        ({**CONV, "output_shapes": [[]]}, "output_shapes.0: Tuple should have at least 1 item"),
        ({**CONV, "output_shapes": [[-1, 2**40]]}, "output_shapes.0.1: Input should be less than"),
        ({**CONV, "output_shapes": [[1] * 9]}, "output_shapes.0: Tuple should have at most 8 items"),
    ],
)
def test_a_layer_without_what_is_counted_of_it_is_refused_by_name(
    layer: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.har"
    path.write_bytes(archive(whole(hn=json.dumps({"layers": {"in": IN, "x": layer}}).encode())))
    with pytest.raises(InputError) as caught:
        har.read(path)
    assert said in str(caught.value)


def test_all_layers_that_lack_something_are_told(tmp_path: Path) -> None:
    path = tmp_path / "net.har"
    layers = {f"x{number}": {**OUT, "input": []} for number in range(12)}
    path.write_bytes(archive(whole(hn=json.dumps({"layers": layers}).encode())))
    with pytest.raises(InputError, match=r"'x0' has no input; .*'x9' has no input and 2 more"):
        har.read(path)


def described(path: Path) -> Network:
    """What the stages make of a HAR."""
    return network.describe(path, Ref(uri="file:///net.har", sha256="0" * 64, size_bytes=0, media="har"))


def test_work_is_counted_per_output_pixel_and_for_a_deconvolution_per_input_pixel(tmp_path: Path) -> None:
    path = tmp_path / "net.har"
    deconv = {**CONV, "type": "deconv", "input_shapes": [[-1, 2, 2, 4]]}
    path.write_bytes(archive(whole(hn=json.dumps({"layers": {"in": IN, "a": CONV, "b": deconv}}).encode())))
    assert [layer.macs for layer in described(path).layers] == [288 * 16, 288 * 4]


def read_or_refuse(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    try:
        found = har.read(path)
    except InputError:
        return
    assert described(path).parameters <= found.parameters == sum(layer.parameters for layer in found.layers)


@fuzz
@given(content=st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused(content: bytes, tmp_path: Path) -> None:
    read_or_refuse(content, tmp_path / "a.har")


compressions: list[Callable[[bytes], bytes]] = [bytes, lambda content: gzip.compress(content, 1, mtime=0)]


@fuzz
@given(
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=8),
    length=st.integers(0, 1 << 16),
    compress=st.sampled_from(compressions),
)
def test_any_damage_is_read_or_refused(
    changes: list[tuple[int, int]], length: int, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    long_name = entry("n" * 200 + ".npz")
    content = bytearray(compress(archive([(long_name, b"w"), *whole()])))
    for place, byte in changes:
        content[place % len(content)] = byte
    read_or_refuse(bytes(content[: length or None]), tmp_path / "a.har")


headers = st.builds(
    lambda name, kind, size, mode: (name, kind, size, mode),
    st.binary(max_size=100),
    st.sampled_from([*b"01234567", *b"LKSxgXDVMN", 0]),
    st.one_of(st.integers(0, 5000).map(lambda n: b"%011o\0" % n), st.binary(min_size=12, max_size=12)),
    st.binary(min_size=8, max_size=8),
)


@fuzz
@given(blocks=st.lists(st.tuples(headers, st.binary(max_size=700)), max_size=6))
def test_any_headers_with_good_checksums_are_read_or_refused(
    blocks: list[tuple[tuple[bytes, int, bytes, bytes], bytes]], tmp_path: Path
) -> None:
    content = b""
    for (name, kind, size, mode), body in blocks:
        header = bytearray(512)
        header[: len(name)], header[100:108], header[124:136], header[156] = name, mode, size, kind
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        content += bytes(header) + body + bytes(-len(body) % 512)
    read_or_refuse(content + archive(whole()), tmp_path / "a.har")


kernels = st.fixed_dictionaries({"kernel_shape": st.lists(st.integers(-1, 4), max_size=5)})
some_shapes = st.lists(st.lists(st.integers(-1, 9), max_size=4), max_size=2)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*HN, "type", "a"]), inner, max_size=3),
)


@fuzz
@given(layer=json_values, params=kernels | json_values, shapes=some_shapes | json_values, metadata=json_values)
def test_any_json_is_read_or_refused(layer: Any, params: Any, shapes: Any, metadata: Any, tmp_path: Path) -> None:
    kinds = ("conv", "deconv", "input_layer", "output_layer")
    given = {"params": params, "input": ["a"], "input_shapes": shapes, "output_shapes": shapes}
    inner = {f"b{kind}": {**given, "type": kind} for kind in kinds}
    hn = {"layers": {"a": layer, **inner}}
    texts = {"hn": json.dumps(hn).encode(), "metadata": json.dumps(METADATA).encode()}
    read_or_refuse(archive(whole(**texts)), tmp_path / "a.har")
    read_or_refuse(archive(whole(metadata=json.dumps(metadata).encode())), tmp_path / "a.har")
