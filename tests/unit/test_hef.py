"""The HEF reader against the vendor's own listings, and the emulator's writer against the reader."""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hefjoin.errors import InputError
from hefjoin.formats import hef, hef_container
from hefjoin.formats.hef import Edge
from hefjoin.formats.hef_schema import message_class

DATA = Path(__file__).parents[3] / "shared" / "data" / "hef"
LISTINGS = DATA / "hailortcli_parse_hef.txt"
REAL = [
    "arcface_dilakshan_v3.hef",
    "h10h_face_landmarks_lite.hef",
    "mnist_cnn_head.hef",
    "rpicam_yolov5n_seg_h8.hef",
    "soramimi_model_3x640x640.hef",
    "takumi_yolov8n.hef",
    "zero_dce_400x600.hef",
]
needs_real_files = pytest.mark.skipif(not LISTINGS.exists(), reason="real HEFs are not beside the repository")
fuzz = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def emulated(**changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "group": "pair",
        "networks": ["pair"],
        "inputs": [Edge("pair/input_layer1", (224, 224, 3), original_names=("image",))],
        "outputs": [
            Edge("pair/a/fc1", (1000,), 1, 12.0, 0.5),
            Edge("pair/b/conv9", (20, 24, 351), 2, 31000.0, 0.001),
        ],
        "contexts": 1,
        "sdk_version": "0.1.0-emulator",
        "resources": {"joined.onnx": b"graph" * 1000, "alls": b"normalization()"},
    }
    return hef.write_emulated(**{**arguments, **changes})


def description(content: bytes) -> Any:
    """The protobuf of a version 3 container."""
    return message_class("Hef").FromString(content[56 : 56 + struct.unpack_from(">I", content, 8)[0]])


def listed(proto: Any, path: Path) -> hef.Hef:
    path.write_bytes(hef_container.pack(proto.SerializeToString(), {}))
    return hef.read(path)


# --- real files -------------------------------------------------------------------------------------------------


@needs_real_files
@pytest.mark.parametrize("name", REAL)
def test_lists_a_real_file_as_the_vendor_does(name: str) -> None:
    blocks = dict(block.split("\n", 1) for block in LISTINGS.read_text().split("######## ")[1:])
    expected = blocks[name].removesuffix("exit=0\n")
    assert hef.like_hailortcli(hef.read(DATA / name)).splitlines() == expected.splitlines()


@needs_real_files
def test_every_listing_of_the_vendor_is_tested() -> None:
    assert [block.split("\n", 1)[0] for block in LISTINGS.read_text().split("######## ")[1:]] == REAL


@needs_real_files
@pytest.mark.parametrize(
    ("name", "container", "arch", "sdk", "contexts", "fps", "latency_ms"),
    [
        ("mnist_cnn_head.hef", 0, ("HAILO8", 1), "3.27.0", 1, 141093.47, 0.06014),
        ("rpicam_yolov5n_seg_h8.hef", 1, ("HAILO8", 1), "3.29.0", 1, 184.4437, 47.2147),
        ("soramimi_model_3x640x640.hef", 1, ("HAILO8L", 3), "3.29.0", 1, 767.7794, 10.42898),
        ("takumi_yolov8n.hef", 2, ("HAILO8", 1), "3.31.0", 1, 973.1721, 9.97747),
        ("h10h_face_landmarks_lite.hef", 3, ("HAILO15H", 103), "5.4.0", 2, 5341.167, 0.54097),
    ],
)
def test_reads_header_and_the_compilers_estimates(
    name: str, container: int, arch: tuple[str, int], sdk: str, contexts: int, fps: float, latency_ms: float
) -> None:
    found = hef.read(DATA / name)
    (group,) = found.groups
    assert (found.container_version, (found.hw_arch, found.hw_arch_number), found.sdk_version) == (
        container,
        arch,
        sdk,
    )
    assert group.contexts == contexts
    assert group.compiler_fps == pytest.approx(fps, rel=1e-4)
    assert group.compiler_latency_ms == pytest.approx(latency_ms, rel=1e-4)
    assert not found.is_emulated
    assert not found.is_truncated
    assert 1.7e12 < (found.timestamp_ms or 0) < 1.8e12


@needs_real_files
def test_a_padded_16_bit_output_has_both_shapes_and_its_quantization() -> None:
    (group,) = hef.read(DATA / "rpicam_yolov5n_seg_h8.hef").groups
    hardware = next(stream for stream in group.streams if stream.name == "yolov5n_seg/conv48")
    virtual = next(stream for stream in group.outputs if stream.name == "yolov5n_seg/conv48")
    assert (hardware.shape, virtual.shape, virtual.dtype) == ((80, 80, 352), (80, 80, 351), "UINT16")
    assert (virtual.zero_point, virtual.scale) == (25797.0, pytest.approx(9.538221e-4))
    assert virtual.original_names == ("Conv_209",)


@needs_real_files
@pytest.mark.parametrize("name", REAL)
def test_checksums_of_real_files_hold_until_one_byte_changes(name: str, tmp_path: Path) -> None:
    hef.read(DATA / name, verify=True)
    content = bytearray((DATA / name).read_bytes())
    content[-1] ^= 1
    damaged = tmp_path / name
    damaged.write_bytes(content)
    with pytest.raises(InputError, match="its header says"):
        hef.read(damaged, verify=True)


@needs_real_files
def test_a_file_truncated_behind_its_description_is_listed_and_says_so(tmp_path: Path) -> None:
    whole = DATA / "arcface_dilakshan_v3.hef"
    cut = tmp_path / "cut.hef"
    cut.write_bytes(whole.read_bytes()[:1_000_000])
    found = hef.read(cut)
    assert found.is_truncated
    assert (found.actual_bytes, found.expected_bytes) == (1_000_000, whole.stat().st_size)
    assert found.groups == hef.read(whole).groups
    with pytest.raises(InputError, match="truncated, 1,000,000 of 2,663,880 bytes"):
        hef.read(cut, verify=True)


# --- containers -------------------------------------------------------------------------------------------------


def container(version: int, proto: bytes, payload: bytes) -> bytes:
    """A container of any version; v3 puts 100 bytes of padding before the payload."""
    padding = bytes(100 if version == 3 else 0)
    body = proto + padding + payload
    checksum = {
        0: lambda: struct.pack(">I", 0) + hashlib.md5(body).digest(),
        1: lambda: struct.pack(">IQI", zlib.crc32(body), len(payload), 0),
        2: lambda: struct.pack(">QQQQ", xxhash.xxh3_64_intdigest(body), len(payload), 0, 0),
        3: lambda: struct.pack(">QQIQQQ", xxhash.xxh3_64_intdigest(body), 100, 100, len(payload), 0, 0),
    }[version]()
    return struct.pack(">III", 0x01484546, version, len(proto)) + checksum + body


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_reads_every_container_version(version: int, tmp_path: Path) -> None:
    proto = description(emulated(resources={}))
    proto.external_resources.add(name="notes", offset=3, size=4)
    path = tmp_path / "a.hef"
    path.write_bytes(container(version, proto.SerializeToString(), b"" if version == 0 else b"abcnote"))
    found = hef.read(path, verify=True)
    assert (found.container_version, found.groups[0].name, found.is_truncated) == (version, "pair", False)
    if version == 0:
        with pytest.raises(InputError, match="no external resource"):
            hef.resource(path, "notes")
    else:
        assert hef.resource(path, "notes") == b"note"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty, 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"DUMMY_HEF_CONTENT_Mon", "plain text"),
        (b'{"mock": "hef"}', "JSON text"),
        (b"HEF\0ONNX mock", "stand-in"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0", "starts with 7f 45 4c 46"),
        (b"\x01HE", "cut off inside its header"),
        (b"\x01HEF\0\0\0\x03\0\0", "cut off inside its header"),
        (b"\x01HEF\0\0\0\x03\0\0\0\x08" + bytes(8), "20 of 56 bytes"),
        (b"\x01HEF\0\0\0\x09\0\0\0\x08" + bytes(60), "version 9, known are 0 to 3"),
        (b"\x01HEF\0\0\0\x03\xff\xff\xff\xff" + bytes(60), "cut off inside its description"),
        (b"\x01HEF\0\0\0\0\0\0\0\x04" + bytes(20) + b"\xff\xff\xff\xff", "no protobuf of a HEF"),
        (emulated() + b"!", "the file is damaged|it is damaged"),
    ],
)
def test_junk_is_named_for_what_it_is(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.hef"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        hef.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["absent.hef", "."])
def test_no_file_is_an_input_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file there"):
        hef.read(tmp_path / name)


def test_only_the_front_of_a_huge_file_is_read(tmp_path: Path) -> None:
    content = bytearray(emulated(resources={}))
    struct.pack_into(">Q", content, 32, 64 << 30)
    path = tmp_path / "huge.hef"
    path.write_bytes(content)
    with path.open("r+b") as stream:
        stream.truncate(len(content) + (64 << 30))
    found = hef.read(path)
    assert (found.actual_bytes, found.is_truncated) == (len(content) + (64 << 30), False)


# --- what the emulator writes -----------------------------------------------------------------------------------


def test_an_emulated_hef_lists_like_a_real_one(tmp_path: Path) -> None:
    path = tmp_path / "pair.emulated.hef"
    path.write_bytes(emulated(contexts=3))
    found = hef.read(path, verify=True)
    assert found.is_emulated
    assert hef.like_hailortcli(found).splitlines() == [
        "Architecture HEF was compiled for: HAILO8",
        "Network group name: pair, Multi Context - Number of contexts: 3",
        "    Network name: pair/pair",
        "        Stream infos:",
        "            Input  pair/input_layer1 UINT8, NHWC(224x224x3)",
        "            Output pair/a/fc1 UINT8, NC(1000)",
        "            Output pair/b/conv9 UINT16, NHWC(20x24x351)",
        "        VStream infos:",
        "            Input  pair/input_layer1 UINT8, NHWC(224x224x3)",
        "            Output pair/a/fc1 UINT8, NC(1000)",
        "            Output pair/b/conv9 UINT16, NHWC(20x24x351)",
    ]
    assert (found.groups[0].compiler_fps, found.timestamp_ms) == (None, None)


@pytest.mark.parametrize("contexts", [1, 2, 4])
def test_an_emulated_hef_has_what_the_vendors_reader_needs(contexts: int) -> None:
    proto = description(emulated(contexts=contexts))
    assert proto.header.SerializeToString().startswith(b"\x1a"), "hw_arch 0 and no timestamp before the SDK version"
    assert proto.header.version == 5
    extensions = {extension.type_index for extension in proto.extensions}
    assert extensions == {26, 31} | ({4} if contexts > 1 else set())
    assert [extension.type_index for extension in proto.optional_extensions] == [8]
    (group,) = proto.network_groups
    assert [context.context_index for context in group.contexts] == list(range(contexts))
    assert all(context.HasField("metadata") for context in group.contexts)
    outputs = ["pair/a/fc1", "pair/b/conv9"]
    assert list(group.sorted_outputs_order) == list(group.contexts[-1].metadata.sorted_outputs_order) == outputs
    edges = [edge for context in group.contexts for edge in context.metadata.edge_layers]
    assert [edge.direction for edge in edges] == [0, 1, 1]
    for edge in edges:
        base = edge.layer_info.edge_layer_base
        assert len(base.buffer_indices) == 1
        assert 0 < base.core_bytes_per_buffer < 1 << 16
        assert 0 < base.core_buffers_per_frame < 1 << 16


def test_a_row_too_long_for_16_bits_is_split() -> None:
    (edge,) = (
        description(emulated(outputs=[Edge("o", (80, 80, 512), 2)]))
        .network_groups[0]
        .contexts[0]
        .metadata.edge_layers[1:]
    )
    base = edge.layer_info.edge_layer_base
    assert (base.core_bytes_per_buffer, base.core_buffers_per_frame) == (40960, 160)


def test_emulated_containers_are_padded_and_their_checksums_hold() -> None:
    content = emulated()
    _, version, proto_bytes = struct.unpack_from(">III", content)
    whole, padded, padding, additional, proto_hash, _ = struct.unpack_from(">QQIQQQ", content, 12)
    assert version == 3
    assert (56 + proto_bytes + padding) % 4096 == 0
    assert (padded, additional) == (padding, 5000 + len(b"normalization()"))
    assert whole == xxhash.xxh3_64_intdigest(content[56:])
    assert proto_hash == xxhash.xxh3_64_intdigest(content[56 : 56 + proto_bytes])


def test_equal_arguments_give_equal_bytes_whatever_the_order_of_resources() -> None:
    assert emulated(resources={"b": b"2", "a": b"1"}) == emulated(resources={"a": b"1", "b": b"2"})


def test_resources_come_back_and_absent_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.hef"
    path.write_bytes(emulated())
    assert hef.resource(path, "joined.onnx") == b"graph" * 1000
    assert hef.resource(path, "alls") == b"normalization()"
    with pytest.raises(InputError, match=r"'weights' \(it has: alls, joined\.onnx\)"):
        hef.resource(path, "weights")
    path.write_bytes(emulated()[:-1])
    with pytest.raises(InputError, match=r"resource 'joined\.onnx' ends at byte"):
        hef.resource(path, "joined.onnx")


def test_what_hailort_would_refuse_is_not_written_and_all_reasons_are_listed() -> None:
    with pytest.raises(ValueError) as caught:
        emulated(
            sdk_version="3.33.0",
            contexts=0,
            networks=["pair", "lone"],
            inputs=[Edge("in", (224, 224)), Edge("in", (1,), 4)],
            outputs=[Edge("o" * 128, (1, 70000, 1)), Edge("p", (70000, 1, 1), network="other")],
        )
    for reason in (
        "must end in '-emulator'",
        "0 contexts",
        "edge name 'in' is there 2 times",
        "takes 128 bytes",
        "in: shape (224, 224)",
        "in: 4 bytes a value",
        "p: shape (70000, 1, 1) needs 70000 buffers",
        "network 'other' is none of",
        "network 'lone' has no input",
        "network 'lone' has no output",
    ):
        assert reason in str(caught.value)


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
shapes = st.one_of(
    st.tuples(st.integers(1, 1000), st.integers(1, 2000), st.integers(1, 1000)), st.tuples(st.integers(1, 100_000))
)
edges = st.builds(
    Edge,
    name=names,
    shape=shapes,
    data_bytes=st.sampled_from([1, 2]),
    zero_point=st.integers(0, 65535).map(float),
    scale=st.floats(2**-20, 2**20, width=32),
    original_names=st.lists(names, max_size=3).map(tuple),
)


@fuzz
@given(
    edges=st.lists(edges, min_size=2, max_size=8, unique_by=lambda edge: edge.name),
    inputs=st.integers(1, 7),
    contexts=st.integers(1, 6),
    group=names,
    resources=st.dictionaries(names, st.binary(max_size=50), max_size=3),
)
def test_what_is_written_is_read(
    edges: list[Edge], inputs: int, contexts: int, group: str, resources: dict[str, bytes], tmp_path: Path
) -> None:
    inputs = min(inputs, len(edges) - 1)
    content = hef.write_emulated(
        group=group,
        networks=["net"],
        inputs=edges[:inputs],
        outputs=edges[inputs:],
        contexts=contexts,
        sdk_version="1.2.3-emulator",
        resources=resources,
    )
    path = tmp_path / "a.hef"
    path.write_bytes(content)
    found = hef.read(path, verify=True)
    assert (found.sdk_version, found.hw_arch_number, found.is_emulated) == ("1.2.3-emulator", 0, True)
    (read_group,) = found.groups
    assert (read_group.name, read_group.networks, read_group.contexts) == (group, (f"{group}/net",), contexts)
    assert [stream.direction for stream in read_group.vstreams].count("input") == inputs
    for edge, stream in zip(edges, read_group.vstreams, strict=True):
        assert (stream.name, stream.shape, stream.original_names) == (edge.name, edge.shape, edge.original_names)
        assert (stream.zero_point, stream.scale) == (edge.zero_point, edge.scale)
        assert stream.dtype == {1: "UINT8", 2: "UINT16"}[edge.data_bytes]
    assert {name: hef.resource(path, name) for name in found.resources} == resources


# --- rarer content, built in code -------------------------------------------------------------------------------


def rich() -> Any:
    """A net-flow group: NMS on two outputs, argmax on a third, a mux of two layers, an NV12 image as input."""
    proto = description(emulated(resources={}))
    proto.extensions.add(type_index=13)
    (group,) = proto.network_groups
    op = group.ops.add(name="core").core_op
    op.metadata.network_group_name = "pair"
    context = op.contexts.add().metadata
    planes = context.edge_layers.add(edge_layer_type=2).layer_planes
    planes.name, planes.height, planes.width, planes.features = "pair/image", 64, 48, 3
    for name, features in (("pair/y", 1), ("pair/uv", 2)):
        fill(planes.planes.add().layer_info, name, (64, 48, features), order=0, original=name)
    for pad, name in enumerate(("pair/boxes", "pair/scores", "pair/mask"), start=1):
        edge = context.edge_layers.add(direction=1, pad_index=pad)
        fill(edge.layer_info, name, (8, 6, 10 * pad), order=1)
    mux = context.edge_layers.add(direction=1, edge_layer_type=1, pad_index=9).layer_mux
    mux.name = "pair/mux"
    mux.edge_layer_base.data_bytes, mux.edge_layer_base.format = 1, 1
    fill(mux.predecessors.add().layer_info, "pair/left", (4, 3, 2), order=1, is_transposed=True)
    fill(mux.predecessors.add().layer_mux.predecessors.add().layer_info, "pair/right", (1, 1, 7), order=2)
    nms = group.ops.add(name="nms")
    nms.input_pads.add(index=21)
    nms.input_pads.add(index=22)
    nms.output_pads.add(name="pair/nms")
    nms.nms_op.classes, nms.nms_op.max_proposals_per_class, nms.nms_op.background_removal = 81, 50, True
    nms.nms_op.score_threshold, nms.nms_op.iou_threshold = 0.3, 0.6
    nms.nms_op.ssd.image_height, nms.nms_op.ssd.image_width = 64, 48
    argmax = group.ops.add(name="argmax")
    argmax.input_pads.add(index=23)
    argmax.output_pads.add(name="pair/labels", format_type=2)
    argmax.logits_op.SetInParent()
    for source, target in ((1, 21), (2, 22), (3, 23)):
        group.pad_edges.add(src=source, dst=target)
    del group.contexts[:]
    del group.sorted_outputs_order[:]
    group.sorted_outputs_order.extend(["pair/labels", "pair/right", "pair/nms", "pair/left"])
    return proto


def fill(
    info: Any, name: str, shape: tuple[int, int, int], order: int, original: str = "", is_transposed: bool = False
) -> None:
    base = info.edge_layer_base
    info.name, info.transposed, base.format, base.data_bytes = name, is_transposed, order, 1
    base.height, base.width, base.features = shape
    base.padded_height, base.padded_width, base.padded_features = shape
    info.original_names.extend([original] if original else [])


def test_postprocessing_muxes_and_planes_become_what_an_application_sees(tmp_path: Path) -> None:
    (group,) = listed(rich(), tmp_path / "a.hef").groups
    assert [(s.name, s.order, s.shape, s.dtype) for s in group.vstreams] == [
        ("pair/image", "NV12", (64, 48, 3), "UINT8"),
        ("pair/labels", "NHW", (8, 6), "UINT16"),
        ("pair/right", "NC", (7,), "UINT8"),
        ("pair/nms", "HAILO NMS BY CLASS", (80, 5, 50), "FLOAT32"),
        ("pair/left", "NHWC", (3, 4, 2), "UINT8"),
    ]
    assert group.inputs[0].original_names == ("pair/y", "pair/uv")
    hardware = ["pair/y", "pair/uv", "pair/boxes", "pair/scores", "pair/mask", "pair/mux"]
    assert [stream.name for stream in group.streams] == hardware
    (op,) = group.nms_ops
    assert (op.kind, op.classes, op.image_height, op.image_width) == ("ssd", 81, 64, 48)
    assert "Score threshold: 0.300" in hef.like_hailortcli(listed(rich(), tmp_path / "a.hef"))


def test_an_op_that_nothing_feeds_is_an_error(tmp_path: Path) -> None:
    proto = rich()
    del proto.network_groups[0].pad_edges[:]
    with pytest.raises(InputError, match="nothing feeds the post-processing op 'nms'"):
        listed(proto, tmp_path / "a.hef")


def test_one_of_the_alternatives_for_parts_of_a_chip_is_counted(tmp_path: Path) -> None:
    whole = description(emulated(contexts=2, resources={}))
    parts = description(emulated(resources={}))
    (group,) = parts.network_groups
    group.Clear()
    for _ in range(2):
        group.partials.add().network_group.CopyFrom(whole.network_groups[0])
    parts.header.hw_arch = 3
    found = listed(parts, tmp_path / "a.hef")
    assert (found.hw_arch, found.groups[0].name, found.groups[0].contexts) == ("HAILO8L", "pair", 2)
    assert found.groups[0].vstreams == listed(whole, tmp_path / "b.hef").groups[0].vstreams


def test_a_group_without_contexts_is_an_error(tmp_path: Path) -> None:
    proto = description(emulated(resources={}))
    del proto.network_groups[0].contexts[:]
    with pytest.raises(InputError, match="'pair' has no context"):
        listed(proto, tmp_path / "a.hef")


def test_without_hardware_padding_a_row_wise_stream_keeps_its_plain_shape(tmp_path: Path) -> None:
    proto = description(emulated(outputs=[Edge("o", (20, 20, 110))], resources={}))
    base = proto.network_groups[0].contexts[0].metadata.edge_layers[1].layer_info.edge_layer_base
    base.format, base.padded_width, base.core_buffers_per_frame = 1, 24, 20
    assert listed(proto, tmp_path / "a.hef").groups[0].streams[1].shape == (20, 20, 110)
    proto.optional_extensions.add(type_index=11)
    assert listed(proto, tmp_path / "a.hef").groups[0].streams[1].shape == (20, 24, 110)


def test_on_chip_nms_and_unknown_numbers_are_listed(tmp_path: Path) -> None:
    proto = description(emulated(resources={}))
    proto.header.hw_arch = 77
    base = proto.network_groups[0].contexts[0].metadata.edge_layers[1].layer_info.edge_layer_base
    base.format, nms = 6, base.additional_info.nms_info
    nms.number_of_classes, nms.max_output_size = 80, 100
    proto.network_groups[0].contexts[0].metadata.edge_layers[2].layer_info.edge_layer_base.format = 99
    found = listed(proto, tmp_path / "a.hef")
    first, second = found.groups[0].outputs
    assert (found.hw_arch, first.order, first.shape) == ("UNKNOWN", "HAILO NMS BY CLASS", (80, 5, 100))
    assert second.order == "FORMAT 99"


def test_estimates_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    proto = rich()
    op = proto.network_groups[0].ops[0].core_op
    op.metadata.bottleneck_fps, op.metadata.latency = math.nan, math.inf
    proto.network_groups[0].ops[1].nms_op.ssd.image_height = math.inf
    (group,) = listed(proto, tmp_path / "a.hef").groups
    assert (group.compiler_fps, group.compiler_latency_ms, group.nms_ops[0].image_height) == (None, None, None)


def test_the_sdk_version_is_found_in_the_text_of_newer_compilers(tmp_path: Path) -> None:
    proto = description(emulated(resources={}))
    proto.header.sdk_version_str = "sdk-version: 5.4.0, git-branch: HEAD, git-commit: 8d6e"
    assert listed(proto, tmp_path / "a.hef").sdk_version == "5.4.0"
    proto.header.sdk_version_str = ""
    proto.header.sdk_version.major, proto.header.sdk_version.minor = 5, 3
    assert listed(proto, tmp_path / "a.hef").sdk_version == "5.3.0"


# --- any bytes --------------------------------------------------------------------------------------------------


def test_a_long_run_of_digits_is_no_version_and_takes_no_time(tmp_path: Path) -> None:
    """A search that starts anew at each digit would take hours."""
    proto = message_class("Hef")()
    proto.header.sdk_version_str = "1" * 1_000_000
    assert listed(proto, tmp_path / "a.hef").sdk_version == "1" * 1_000_000


def test_a_name_longer_than_hailort_takes_is_refused(tmp_path: Path) -> None:
    """Every network carries the name of its group, so a long one would be multiplied in memory."""
    proto = message_class("Hef")()
    group = proto.network_groups.add()
    group.contexts.add()
    group.metadata.network_group_name = "n" * 127
    assert listed(proto, tmp_path / "a.hef").groups[0].name == "n" * 127
    group.metadata.network_group_name = "n" * 128
    with pytest.raises(InputError, match="a name of 128 bytes, HailoRT takes 127"):
        listed(proto, tmp_path / "a.hef")


def test_streams_are_listed_under_their_network(tmp_path: Path) -> None:
    content = emulated(
        networks=["a", "b"],
        inputs=[Edge("b/in", (4, 4, 3), network="b"), Edge("a/in", (4, 4, 3), network="a")],
        outputs=[Edge("b/out", (9,), network="b"), Edge("a/out", (9,), network="a")],
    )
    path = tmp_path / "a.hef"
    path.write_bytes(content)
    lines = [line.split() for line in hef.like_hailortcli(hef.read(path)).splitlines()]
    names = [line[2] if line[0] == "Network" else line[1] for line in lines[2:] if line[1] != "infos:"]
    assert names == ["pair/a", *["a/in", "a/out"] * 2, "pair/b", *["b/in", "b/out"] * 2]


def read_or_refuse(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    try:
        found = hef.read(path)
    except InputError:
        return
    assert hef.like_hailortcli(found).startswith("Architecture HEF was compiled for: ")


@fuzz
@given(version=st.integers(0, 4), rest=st.binary(max_size=200))
def test_any_bytes_behind_the_magic_are_read_or_refused(version: int, rest: bytes, tmp_path: Path) -> None:
    read_or_refuse(b"\x01HEF" + version.to_bytes(4) + rest, tmp_path / "a.hef")


@fuzz
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=20))
def test_any_damage_to_a_description_is_read_or_refused(changes: list[tuple[int, int]], tmp_path: Path) -> None:
    proto = bytearray(rich().SerializeToString())
    for place, byte in changes:
        proto[place % len(proto)] = byte
    read_or_refuse(hef_container.pack(bytes(proto), {}), tmp_path / "a.hef")


@fuzz
@given(place=st.integers(0, 1 << 20), byte=st.integers(0, 255), length=st.integers(0, 1 << 20))
def test_any_damage_to_a_file_is_read_or_refused(place: int, byte: int, length: int, tmp_path: Path) -> None:
    content = bytearray(emulated())
    content[place % 80] = byte
    read_or_refuse(bytes(content[: length % (len(content) + 1)]), tmp_path / "a.hef")
