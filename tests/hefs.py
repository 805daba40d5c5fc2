"""HEFs as the Dataflow Compiler would describe them, without microcode: enough for all that is done before a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hefjoin.formats import hef_messages as messages
from hefjoin.formats import hef_wire
from hefjoin.formats.hef import Edge, write_emulated
from hefjoin.formats.hef_container import open_container, pack
from tests.tiny import SIZE

HAILO8L = 3


def write_hef(
    path: Path,
    *,
    hw_arch: int = 1,
    sdk_version: str = "3.31.0",
    groups: int = 1,
    inputs: int = 1,
    shape: tuple[int, ...] = (SIZE, SIZE, 3),
) -> Path:
    """Write a HEF of one network, `pair`, with two outputs.

    Args:
        path: Where to.
        hw_arch: The number in its header: 1 for `hailo8`, 3 for `hailo8l`.
        sdk_version: The compiler's.
        groups: How often the network group is in it.
        inputs: Number of inputs, UINT8, all of `shape`.
        shape: (height, width, channels).
    """
    content = write_emulated(
        group="pair",
        networks=["pair"],
        inputs=[Edge(f"pair/input_layer{index + 1}", shape) for index in range(inputs)],
        outputs=[Edge("pair/left", (4,)), Edge("pair/right", (6,))],
        contexts=1,
        sdk_version=f"{sdk_version}-emulator",
        resources={},
    )
    path.write_bytes(content)
    container = open_container(path)
    with path.open("rb") as stream:
        written = hef_wire.decode(messages.Hef, stream, container.header_bytes, container.description_end)
    (group,) = written.network_groups
    if hw_arch == HAILO8L:  # the group lies in alternatives, one for each part of the chip
        group = messages.NetworkGroup(partials=(messages.Partial(network_group=group),))
    described = replace(
        written,
        header=replace(written.header, hw_arch=hw_arch, sdk_version_str=sdk_version),
        network_groups=(group,) * groups,
    )
    path.write_bytes(pack(hef_wire.encode(described), {}))
    return path
