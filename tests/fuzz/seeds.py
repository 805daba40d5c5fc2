"""What the fuzzer starts from: small files of our own writers, and the real files cut down to their descriptions."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from hefjoin.formats import har, hef, hef_container
from hefjoin.formats.hef import Edge
from hefjoin.formats.model_script_commands import COMMANDS
from tests.hef_protobuf import message_class, rich
from tests.tiny import classifier

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Files of the vendor's compiler; seeds without them are fewer, not none."""

SCRIPT = """
# comment
a/normalization1, b/normalization1 = normalization([123.675, -1.5, .5], [1e-3, 5., +2])
reshape, yuv1 = input_conversion(input_layer1, nv12_to_rgb, emulator_support = True)
post_quantization_optimization(finetune, policy=enabled,
    loss_layer_names=[conv14, conv15])
nms_postprocess("../cfg/a#b.json", meta_arch='ssd')
allocator_param(timeout=25m)
quantization_param({scope/conv[0-9]*_[2-3]}, precision_mode=a16_w16)
context_0 = context([])
context_0.place(1, [conv1, demuxer-shortcut_6])
"""


def hefs() -> Iterator[bytes]:
    """Yield an emulated HEF, an NMS op over a muxed edge in each container version, and the real descriptions."""
    yield hef.write_emulated(
        group="pair",
        networks=["pair"],
        inputs=[Edge("pair/input_layer1", (224, 224, 3), original_names=("image",))],
        outputs=[Edge("pair/a/fc1", (1000,), 1, 12.0, 0.5), Edge("pair/b/conv9", (20, 24, 351), 2, 31000.0, 0.001)],
        contexts=2,
        sdk_version="0.1.0-emulator",
        resources={"joined.onnx": b"graph", "alls": b"normalization()"},
    )
    description = _every_message().SerializeToString()
    for version in hef_container.SPECIFIC:
        yield container(version, description)
    yield hef_container.pack(rich().SerializeToString(), {})
    for path in sorted(DATA.glob("hef/*.hef")):
        proto = message_class("Hef").FromString(_description(path))
        proto.DiscardUnknownFields()
        yield hef_container.pack(proto.SerializeToString(), {})


def _description(path: Path) -> bytes:
    found = hef_container.open_container(path)
    return hef_container.read_slice(found, found.header_bytes, found.parts.description_bytes)


def container(version: int, description: bytes) -> bytes:
    """Return a HEF of any container version without payload; its checksum is zero."""
    layout = hef_container.SPECIFIC[version]
    return b"".join(
        (
            hef_container.COMMON.pack(hef_container.MAGIC, version, len(description)),
            bytes(layout.size),
            description,
        )
    )


def _every_message() -> Any:
    """Return a description with a partial group, a mux, planes, a post-processing op and fused layers."""
    proto = message_class("Hef")()
    proto.header.hw_arch, proto.header.sdk_version_str = 3, "sdk-version: 3.30.0, git-branch: x"
    proto.extensions.add(type_index=13)
    group = proto.network_groups.add()
    group.metadata.network_group_name = "g"
    group.partials.add().network_group.metadata.network_group_name = "g"
    group.pad_edges.add(src=1, dst=2)
    core = group.ops.add(name="core").core_op
    core.networks_names.append("n")
    core.fused_layers.network_has_fused_layers = True
    core.fused_layers.updated_sorted_output_names.append("nms")
    edges = core.contexts.add().metadata.edge_layers
    plain = edges.add(direction=1, pad_index=1)
    plain.layer_info.name = "conv1"
    plain.layer_info.edge_layer_base.height = 4
    mux = edges.add(direction=1, edge_layer_type=1, pad_index=7).layer_mux
    mux.predecessors.add().layer_mux.predecessors.add().layer_info.edge_layer_base.format = 6
    planes = edges.add(edge_layer_type=2).layer_planes
    planes.planes.add().layer_info.name = "y"
    op = group.ops.add(name="nms")
    op.input_pads.add(index=2)
    op.output_pads.add(name="nms")
    op.nms_op.classes, op.nms_op.yolov8.image_height = 80, 640
    return proto


def hars(folder: Path) -> Iterator[bytes]:
    """Yield a HAR of our own, plain and compressed, and the real one without its weights."""
    path = folder / "seed.har"
    layers = {
        "net/input_layer1": {"type": "input_layer", "output": ["net/dw1"], "output_shapes": [[-1, 8, 8, 4]]},
        "net/dw1": {
            "type": "dw",
            "input": ["net/input_layer1"],
            "output_shapes": [[-1, 8, 8, 4]],
            "params": {"kernel_shape": [3, 3, 4, 1]},
        },
        "net/out": {
            "type": "output_layer",
            "input": ["net/dw1"],
            "input_shapes": [[-1, 8, 8, 4]],
            "original_names": ["relu"],
        },
    }
    metadata = {"state": "hailo_model", "sdk_version": "0.1.0-emulator", "hw_arch": "hailo8"}
    hn = {"net_params": {"net_scopes": ["net"]}, "layers": layers}
    har.write(path, model_name="net", metadata=metadata, hn=hn, members={".alls": b"n()", "x" * 120: b""})
    yield path.read_bytes()
    yield gzip.compress(path.read_bytes(), mtime=0)
    for real in sorted(DATA.glob("har/*.har")):
        texts = [json.loads(har.read_member(real, suffix)) for suffix in (har.METADATA_SUFFIX, har.HN_SUFFIX)]
        har.write(path, model_name="real", metadata=texts[0], hn=texts[1], members={".alls": b""})
        yield path.read_bytes()
    path.unlink()


def onnx_files() -> Iterator[bytes]:
    """Yield a plain classifier, and a graph with a branch, a symbolic axis and an optional input."""
    yield classifier(0, 2, size=4).SerializeToString()
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["image"], ["out"])], "branch", [], [out])
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, None]),
        helper.make_value_info("maybe", helper.make_optional_type_proto(helper.make_sequence_type_proto(out.type))),
    ]
    choice = helper.make_node("If", ["flag"], ["out"], then_branch=branch, else_branch=branch)
    model = helper.make_model(helper.make_graph([choice], "net", inputs, [out]), producer_name="seed")
    yield onnx.ModelProto.SerializeToString(model)


def scripts() -> Iterator[bytes]:
    """Yield a script with every form, and one with every command."""
    yield SCRIPT.encode()
    yield "\n".join(f"{'x = ' if known.creates else ''}{name}()" for name, known in COMMANDS.items()).encode()
