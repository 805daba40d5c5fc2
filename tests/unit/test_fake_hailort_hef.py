"""What the fake of `hailo_platform` reads in a HEF, by code of its own: against the vendor's listings, refusals."""

from __future__ import annotations

import ast
import importlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hefjoin.formats import hef as hef_file
from hefjoin.formats.hef import Edge
from tests import hefs, runtime

ROOT = Path(__file__).resolve().parents[2]
FAKES = ROOT / "tests" / "fakes"
DATA = ROOT.parent / "shared" / "data" / "hef"
LISTINGS = DATA / "hailortcli_parse_hef.txt"
ARCHITECTURES = {1: "HAILO8", 3: "HAILO8L", 103: "HAILO15H"}
needs_real_files = pytest.mark.skipif(not LISTINGS.exists(), reason="real HEFs are not beside the repository")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Any]:
    with runtime.installed(tmp_path, frame_ms=0.1):
        yield importlib.import_module("hailo_platform")


@pytest.fixture
def errors(api: Any) -> Any:
    return importlib.import_module("hailo_platform.pyhailort.pyhailort")


def listings() -> dict[str, list[str]]:
    """Return what the vendor's command says of each HEF about its group and virtual streams, without indentation."""
    found: dict[str, list[str]] = {}
    for block in LISTINGS.read_text(encoding="utf-8").split("######## ")[1:]:
        name, *lines = (line.strip() for line in block.splitlines())
        hardware, virtual = lines.index("Stream infos:"), lines.index("VStream infos:")
        streams = [line for line in lines[virtual + 1 :] if line.startswith(("Input", "Output"))]
        found[name] = [*lines[:hardware], *streams]
    return found


def listing(hef: Any) -> list[str]:
    """Say the same by the fake."""
    (group,) = hef.get_network_groups_infos()
    contexts = hef._groups[0].contexts
    assert group.is_multi_context == (contexts > 1)
    count = f"Multi Context - Number of contexts: {contexts}" if contexts > 1 else "Single Context"
    return [
        f"Architecture HEF was compiled for: {ARCHITECTURES[hef._hw_arch]}",
        f"Network group name: {group.name}, {count}",
        *(f"Network name: {name}" for name in hef.get_networks_names()),
        *(f"Input  {stream(info)}" for info in hef.get_input_vstream_infos()),
        *(f"Output {stream(info)}" for info in hef.get_output_vstream_infos()),
    ]


def stream(info: Any) -> str:
    text = f"{info.name} {info.format.type.name}, {info.format.order.name.replace('_', ' ')}"
    if not hasattr(info, "nms_shape"):
        return f"{text}({'x'.join(map(str, info.shape))})"
    classes, boxes = info.nms_shape.number_of_classes, info.nms_shape.max_bboxes_per_class
    return (
        f"{text}(number of classes: {classes}, maximum bounding boxes per class: {boxes}, "
        f"maximum frame size: {classes * (4 + 20 * boxes)})"
    )


def view(info: Any) -> tuple[Any, ...]:
    quant = info.quant_info
    return info.name, info.shape, info.format.type.name, info.format.order.name, quant.qp_zp, quant.qp_scale


def view_of_hefjoin(stream: hef_file.Stream) -> tuple[Any, ...]:
    order = stream.order.replace(" ", "_")
    return stream.name, stream.shape, stream.dtype, order, stream.zero_point, stream.scale


def test_nothing_in_the_fakes_imports_hefjoin() -> None:
    sources = [path for path in FAKES.rglob("*") if path.suffix == ".py" or (not path.suffix and path.is_file())]
    assert {FAKES / "hailortcli", FAKES / "dfc" / "hailo_tools" / "build" / "compiler"} <= set(sources)
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.partition(".")[0] == "hefjoin"], path


@needs_real_files
class TestRealFiles:
    def test_each_is_seen_as_the_vendors_command_lists_it(self, api: Any) -> None:
        assert {name: listing(api.HEF(str(DATA / name))) for name in listings()} == listings()

    def test_what_the_listing_leaves_out_is_read_as_hefjoin_reads_it(self, api: Any) -> None:
        for name in listings():
            (group,) = hef_file.read(DATA / name).groups
            hef = api.HEF(str(DATA / name))
            infos = [*hef.get_input_vstream_infos(), *hef.get_output_vstream_infos()]
            assert [view(info) for info in infos] == [view_of_hefjoin(each) for each in (*group.inputs, *group.outputs)]

    def test_detections_come_by_class_as_an_array_or_as_they_are(self, api: Any) -> None:
        params = api.VDevice.create_params()
        params.scheduling_algorithm = api.HailoSchedulingAlgorithm.ROUND_ROBIN
        with api.VDevice(params) as vdevice:
            model = vdevice.create_infer_model(str(DATA / "takumi_yolov8n.hef"))
            output = model.output()
            assert (output.is_nms, output.shape) == (True, [110 * (1 + 5 * 100)])
            with model.configure() as configured:
                image = np.zeros(model.input().shape, np.uint8)
                flat = np.zeros(output.shape, np.float32)
                frame = configured.create_bindings({model.input().name: image}, {output.name: flat})
                configured.run([frame], 1000)
                by_class, array = (frame.output().get_buffer(tf_format=value) for value in (False, True))
                assert frame.output().get_buffer(tf_format=None) is flat
                assert frame.input().get_buffer(tf_format=True) is image
        assert array.shape == (110, 5, 100)
        assert sum(map(len, by_class)) > 0
        for found, boxes in zip(by_class, array, strict=True):
            np.testing.assert_array_equal(boxes[:, : len(found)], found.T)
            assert not boxes[:, len(found) :].any()


class TestWrittenFiles:
    @pytest.mark.parametrize("hw_arch", [1, hefs.HAILO8L])
    def test_streams_have_the_shape_of_the_host_and_the_quantization_of_the_file(
        self, api: Any, tmp_path: Path, hw_arch: int
    ) -> None:
        path = runtime.write_dfc_hef(tmp_path / "pair.hef", hw_arch, [Edge("pair/input_layer1", (16, 24, 3))])
        hef = api.HEF(str(path))
        (group,) = hef_file.read(path).groups
        assert hef._hw_arch == hw_arch
        assert hef.get_networks_names() == list(group.networks) == ["pair/pair"]
        found = [view(info) for info in (*hef.get_input_vstream_infos(), *hef.get_output_vstream_infos())]
        assert found == [
            ("pair/input_layer1", (16, 24, 3), "UINT8", "NHWC", 0.0, 1.0),
            ("left/fc1", (4,), "UINT8", "NC", 12.0, 0.5),
            ("right/conv9", (5, 6, 2), "UINT16", "NHWC", 31000.0, pytest.approx(0.001)),
        ]
        assert found == [view_of_hefjoin(each) for each in (*group.inputs, *group.outputs)]

    def test_a_mux_gives_its_layers_transposed_and_with_scales_of_their_own(self, api: Any) -> None:
        proto = described(api)
        (group,) = proto.network_groups
        proto.extensions.add(type_index=25)
        image, *outputs = group.contexts[0].metadata.edge_layers
        del group.contexts[0].metadata.edge_layers[:]
        mux = outputs[0].__class__(direction=1)
        for edge, transposed in zip(outputs, (False, True), strict=True):
            mux.layer_mux.predecessors.add().layer_info.CopyFrom(edge.layer_info)
            mux.layer_mux.predecessors[-1].layer_info.transposed = transposed
        scaled = mux.layer_mux.predecessors[1].layer_info.numeric_info
        scaled.qp_zps.extend([1.0, 2.0])
        scaled.qp_scales.extend([0.25, 0.75])
        group.contexts[0].metadata.edge_layers.extend([image, mux])
        group.sorted_outputs_order[:] = ["right/conv9", "left/fc1"]
        hef = api.HEF(hefs.contained(proto.SerializeToString(), b""))
        assert [view(info) for info in hef.get_output_vstream_infos()] == [
            ("right/conv9", (6, 5, 2), "UINT16", "NHWC", 1.0, 0.25),
            ("left/fc1", (4,), "UINT8", "NC", 12.0, 0.5),
        ]
        assert hef._groups[0].outputs[0].scales == (0.25, 0.75)

    def test_what_passes_between_contexts_is_no_stream(self, api: Any) -> None:
        proto = described(api)
        (group,) = proto.network_groups
        first, second = group.contexts[0].metadata, group.contexts.add().metadata
        second.edge_layers.add().CopyFrom(first.edge_layers[1])
        for edge in (first.edge_layers[1], second.edge_layers[0]):
            edge.context_switch_info.edge_connection_type = 1
        hef = api.HEF(hefs.contained(proto.SerializeToString(), b""))
        assert hef.get_network_groups_infos()[0].is_multi_context
        assert hef.get_sorted_output_names() == ["right/conv9"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("container", "release", "oldest"), [(0, (3, 27), "4.16.0"), (1, (3, 29), "4.18.0"), (2, (3, 33), "4.20.0")]
    )
    def test_a_container_is_read_from_its_release_on(
        self, tmp_path: Path, container: int, release: tuple[int, int], oldest: str
    ) -> None:
        content = hefs.hef(runtime.INPUTS, runtime.OUTPUTS, sdk_version="{}.{}.0".format(*release))
        assert struct.unpack_from(">I", content, 4) == (container,)
        for version, is_read in (
            ("4.17.0", container < 1),
            ("4.19.0", container < 2),
            (oldest, True),
            ("4.23.0", True),
        ):
            with runtime.installed(tmp_path, version=version):
                api = importlib.import_module("hailo_platform")
                if is_read:
                    assert api.HEF(content).get_network_group_names() == ["pair"]
                else:
                    with pytest.raises(api.HailoRTException, match=r"92 \(HAILO_HEF_NOT_SUPPORTED\)"):
                        api.HEF(content)

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            (lambda proto: proto.extensions.add(type_index=33), r"92 \("),
            (lambda proto: proto.extensions.__delitem__(2), r"92 \("),
            (lambda proto: proto.header.ClearField("version"), r"92 \("),
            (lambda proto: proto.network_groups[0].ClearField("contexts"), "Invalid HEF"),
            (lambda proto: proto.network_groups[0].ClearField("sorted_outputs_order"), "Invalid HEF"),
            (lambda proto: proto.network_groups[0].contexts[0].metadata.edge_layers.__delitem__(0), "not found"),
            (lambda proto: set_data_bytes(proto, 4), "Invalid argument"),
        ],
    )
    def test_what_hailort_refuses_in_a_description_is_refused(
        self, api: Any, errors: Any, change: Any, status: str
    ) -> None:
        proto = described(api)
        change(proto)
        with pytest.raises(errors.HailoRTException, match=status):
            api.HEF(hefs.contained(proto.SerializeToString(), b""))

    def test_a_protobuf_that_cannot_be_read_is_a_corrupted_file(self, api: Any) -> None:
        with pytest.raises(api.HailoRTException, match=r"91 \(HAILO_HEF_FILE_CORRUPTED\)"):
            api.HEF(hefs.contained(b"\x0a\xff", b""))

    def test_an_infer_model_is_of_one_group(self, api: Any, errors: Any, tmp_path: Path) -> None:
        path = hefs.write_hef(tmp_path / "two.hef", groups=2)
        with api.VDevice() as vdevice, pytest.raises(errors.HailoRTInvalidHEFException):
            vdevice.create_infer_model(str(path)).configure()

    def test_a_group_that_is_not_there_is_a_raw_status_of_its_streams(self, api: Any, errors: Any) -> None:
        hef = api.HEF(hefs.hef(runtime.INPUTS, runtime.OUTPUTS))
        raw = importlib.import_module("hailo_platform.pyhailort._pyhailort").HailoRTStatusException
        with pytest.raises(raw, match="61"):
            hef.get_input_vstream_infos("other")
        with pytest.raises(errors.HailoRTNotFoundException):
            hef.get_networks_names("other")


def described(api: Any) -> Any:
    """Return the description in the HEF of `runtime.write_dfc_hef`, as a message of the fake's own declarations."""
    fake = importlib.import_module(f"{api.__name__}.pyhailort.hef_file")
    return fake.read(hefs.hef(runtime.INPUTS, runtime.OUTPUTS))


def set_data_bytes(proto: Any, size: int) -> None:
    proto.network_groups[0].contexts[0].metadata.edge_layers[0].layer_info.edge_layer_base.data_bytes = size
