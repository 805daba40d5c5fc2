"""Network groups of every nesting, streams of every kind: content that no file at hand has, built in code."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hefjoin.errors import InputError
from hefjoin.formats import hef
from hefjoin.formats.hef import Edge
from hefjoin.formats.hef_listing import like_hailortcli
from tests.hef_protobuf import description, emulated, listed, message_class, rich


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
    assert [op.kind for op in group.host_ops] == ["SSD", "ARGMAX"]
    assert [op.title for op in group.host_ops if op.is_nms] == ["SSD-Post-Process"]


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


def test_on_chip_suppression_has_the_size_of_the_chip_and_of_the_host(tmp_path: Path) -> None:
    proto = description(emulated(resources={}))
    base = proto.network_groups[0].contexts[0].metadata.edge_layers[1].layer_info.edge_layer_base
    base.format, nms = 6, base.additional_info.nms_info
    nms.number_of_classes, nms.max_output_size, nms.bbox_size, nms.input_division_factor = 80, 100, 10, 2
    found = listed(proto, tmp_path / "a.hef")
    hardware, virtual = found.groups[0].streams[1], found.groups[0].outputs[0]
    assert (virtual.order, virtual.shape, virtual.dtype) == ("HAILO NMS BY CLASS", (80, 5, 200), "FLOAT32")
    assert (hardware.order, hardware.dtype) == ("HAILO NMS ON CHIP", "UINT8")
    chip_bytes = 2 * 80 * (2 + 10 * 100) + 10
    assert f"pair/a/fc1 UINT8, HAILO NMS ON CHIP(maximum frame size: {chip_bytes})" in like_hailortcli(found)
    nms.burst_size = 150
    assert f"size: {2 * 80 * (2 + 10 * 150) + 10 * 150})" in like_hailortcli(listed(proto, tmp_path / "a.hef"))


def test_numbers_that_nobody_knows_are_listed(tmp_path: Path) -> None:
    proto = description(emulated(resources={}))
    proto.header.hw_arch = 77
    proto.network_groups[0].contexts[0].metadata.edge_layers[2].layer_info.edge_layer_base.format = 99
    found = listed(proto, tmp_path / "a.hef")
    assert (found.hw_arch, found.groups[0].outputs[1].order) == ("UNKNOWN", "FORMAT 99")


def test_features_have_scales_of_their_own_where_the_extension_says_so(tmp_path: Path) -> None:
    proto = description(emulated(outputs=[Edge("o", (4, 4, 3))], resources={}))
    numeric = proto.network_groups[0].contexts[0].metadata.edge_layers[1].layer_info.numeric_info
    assert (list(numeric.qp_zps), list(numeric.qp_scales)) == ([0, 0, 0], [1, 1, 1]), "as in the vendor's, all equal"
    numeric.qp_zps[:] = [1, 2, 3]
    numeric.qp_scales[:] = [0.5, 0.25, 0.125]
    (output,) = listed(proto, tmp_path / "a.hef").groups[0].outputs
    assert (output.zero_points, output.scales) == ((), ())
    proto.extensions.add(type_index=25)
    (output,) = listed(proto, tmp_path / "a.hef").groups[0].outputs
    assert (output.zero_points, output.scales) == ((1, 2, 3), (0.5, 0.25, 0.125))
    del numeric.qp_zps[:]
    (output,) = listed(proto, tmp_path / "a.hef").groups[0].outputs
    assert (output.zero_points, output.scales) == ((), ())


def test_estimates_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    proto = rich()
    op = proto.network_groups[0].ops[0].core_op
    op.metadata.bottleneck_fps, op.metadata.latency = math.nan, math.inf
    (group,) = listed(proto, tmp_path / "a.hef").groups
    assert (group.compiler_fps, group.compiler_latency_ms) == (None, None)


def test_the_sdk_version_is_found_in_the_text_of_newer_compilers(tmp_path: Path) -> None:
    proto = description(emulated(resources={}))
    proto.header.sdk_version_str = "sdk-version: 5.4.0, git-branch: HEAD, git-commit: 8d6e"
    assert listed(proto, tmp_path / "a.hef").sdk_version == "5.4.0"
    proto.header.sdk_version_str = ""
    proto.header.sdk_version.major, proto.header.sdk_version.minor = 5, 3
    assert listed(proto, tmp_path / "a.hef").sdk_version == "5.3.0"


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


def test_more_inputs_and_outputs_than_any_chip_has_are_refused(tmp_path: Path) -> None:
    proto = description(emulated(resources={}))
    edges = proto.network_groups[0].contexts[0].metadata.edge_layers
    for _ in range(998):
        edges.add()
    with pytest.raises(InputError, match="'pair' has 1,001 networks or inputs and outputs"):
        listed(proto, tmp_path / "a.hef")
    del edges[3:]
    proto.network_groups[0].networks_names.extend(["n"] * 1000)
    with pytest.raises(InputError, match="'pair' has 1,001 networks"):
        listed(proto, tmp_path / "a.hef")


def test_streams_are_listed_under_their_network(tmp_path: Path) -> None:
    content = emulated(
        networks=["a", "b"],
        inputs=[Edge("b/in", (4, 4, 3), network="b"), Edge("a/in", (4, 4, 3), network="a")],
        outputs=[Edge("b/out", (9,), network="b"), Edge("a/out", (9,), network="a")],
    )
    path = tmp_path / "a.hef"
    path.write_bytes(content)
    lines = [line.split() for line in like_hailortcli(hef.read(path)).splitlines()]
    names = [line[2] if line[0] == "Network" else line[1] for line in lines[2:] if line[1] != "infos:"]
    assert names == ["pair/a", *["a/in", "a/out"] * 2, "pair/b", *["b/in", "b/out"] * 2]
