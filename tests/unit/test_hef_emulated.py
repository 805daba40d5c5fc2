"""What the emulator writes: what the vendor's reader needs, and what ours reads of it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hefjoin.errors import InputError
from hefjoin.formats import hef
from hefjoin.formats import hef_messages as messages
from hefjoin.formats.hef import Edge, HostStep
from hefjoin.formats.hef_listing import like_hailortcli
from tests.hef_protobuf import description, emulated

fuzz = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_an_emulated_hef_lists_like_a_real_one(tmp_path: Path) -> None:
    path = tmp_path / "pair.emulated.hef"
    path.write_bytes(emulated(contexts=3))
    found = hef.read(path, verify=True)
    assert found.is_emulated
    assert like_hailortcli(found).splitlines() == [
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


HEADS = [Edge("net/conv1", (8, 6, 64), 1, 3.0, 0.5), Edge("net/fc1", (10,)), Edge("net/conv2", (8, 6, 3), 1)]
DETECTOR = messages.Yolov8NmsOp(64.0, 48.0, (messages.Yolov8BboxDecoder(8, 1, 3),), 16)
NMS = messages.NmsOp(
    nms_score_th=0.2, nms_iou_th=0.7, max_proposals_per_class=100, classes=3, yolov8=DETECTOR
)  # fmt: skip
BOXES = HostStep("net/yolov8_nms_postprocess", (0, 2), NMS)
SOFTMAX = HostStep("net/x", (1,), messages.LogitsOp(type=1))


def test_what_the_host_does_lists_as_in_a_real_hef(tmp_path: Path) -> None:
    """The lines are those of the vendor's listing of a YOLOv8 network of its compiler; of several ops it shows one."""
    path = tmp_path / "net.hef"
    path.write_bytes(emulated(outputs=HEADS, host_steps=[SOFTMAX, BOXES], contexts=2))
    found = hef.read(path, verify=True)
    assert [line.strip() for line in like_hailortcli(found).splitlines()[3:]] == [
        "Stream infos:",
        "Input  pair/input_layer1 UINT8, NHWC(224x224x3)",
        "Output net/conv1 UINT8, NHCW(8x6x64)",
        "Output net/fc1 UINT8, NC(10)",
        "Output net/conv2 UINT8, NHCW(8x6x3)",
        "VStream infos:",
        "Input  pair/input_layer1 UINT8, NHWC(224x224x3)",
        "Output net/yolov8_nms_postprocess FLOAT32, HAILO NMS BY CLASS(number of classes: 3, "
        "maximum bounding boxes per class: 100, maximum frame size: 6012)",
        "Output net/x FLOAT32, NC(10)",
        "Operation:",
        "Op YOLOV8",
        "Name: YOLOV8-Post-Process",
        "Score threshold: 0.200",
        "IoU threshold: 0.70",
        "Classes: 3",
        "Max bboxes per class: 100",
        "Image height: 64",
        "Image width: 48",
    ]
    assert found.groups[0].contexts == 2


def test_the_description_of_what_the_host_does_is_that_of_real_files() -> None:
    """Contexts lie in the core's op; an op's pad leads to the output's; the order is that of what is left."""
    proto = description(emulated(outputs=HEADS, host_steps=[BOXES, SOFTMAX]))
    (group,) = proto.network_groups
    assert {extension.type_index for extension in proto.extensions} == {13, 22, 26, 27, 31}
    assert not group.contexts
    core, boxes, softmax = group.ops
    assert list(group.sorted_outputs_order) == list(core.core_op.sorted_outputs_order) == [BOXES.name, SOFTMAX.name]
    edges = [edge for edge in core.core_op.contexts[0].metadata.edge_layers if edge.direction]
    sources = {pad_edge.dst: pad_edge.src for pad_edge in group.pad_edges}
    pads = {edge.pad_index: edge.layer_info.name for edge in edges}
    assert [pads[sources[pad.index]] for pad in boxes.input_pads] == ["net/conv1", "net/conv2"]
    assert [pads[sources[pad.index]] for pad in softmax.input_pads] == ["net/fc1"]
    (decoder,) = boxes.nms_op.yolov8.bbox_decoders
    assert (pads[decoder.reg_pad_index], pads[decoder.cls_pad_index]) == ("net/conv1", "net/conv2")
    numbers = [pad.index for op in group.ops for pad in (*op.input_pads, *op.output_pads)]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([HostStep("net/x", (3,), NMS)], r"takes \(3,\) of 3 outputs"),
        ([HostStep("net/x", (), NMS)], r"takes \(\) of 3 outputs"),
        ([BOXES, HostStep("net/x", (2,), NMS)], "output 2 is taken 2 times"),
        ([HostStep("net/fc1", (0,), NMS)], "name 'net/fc1' is an output's too"),
    ],
)
def test_steps_that_do_not_fit_are_refused(steps: list[HostStep], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        emulated(outputs=HEADS, host_steps=steps)
