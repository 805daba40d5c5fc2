"""What a HEF asks of the machine that runs it, and what it gives back: the part of the manifest that travels with it.

The rule: shapes, types and scales are the HEF's own, names from before the compiler are the HAR's.
"""

from __future__ import annotations

from hefjoin.compatibility import table
from hefjoin.formats.hef import Hef, Stream
from hefjoin.results.compiled import Deployment, HefStream
from hefjoin.results.networks import Joined
from hefjoin.spec import HwArch


def deployment(hef: Hef, joined: Joined, hw_arch: HwArch) -> Deployment:
    """Return what must be known to deploy the first network group of a HEF.

    Args:
        hef: The listing of a HEF with one input.
        joined: The network it was compiled from; an output belongs to the model whose scope its name begins with,
            also one that post-processing on the host put in the place of joined outputs.
        hw_arch: The chip that it was compiled for.
    """
    group = hef.groups[0]
    original_names = {tensor.layer: tensor.original_name for tensor in joined.network.outputs}
    scopes = set(joined.model_of_output.values())

    def output(stream: Stream) -> HefStream:
        scope = stream.name.partition("/")[0]
        return _stream(stream, scope if scope in scopes else "", original_names.get(stream.name, ""))

    return Deployment(
        hw_arch=hw_arch,
        sdk_version=hef.sdk_version,
        least_hailort="" if hef.is_emulated else table().least_hailort(hef.sdk_version),
        group=group.name,
        input=_stream(group.inputs[0], "", joined.network.inputs[0].original_name),
        outputs=tuple(output(stream) for stream in group.outputs),
    )


def _stream(stream: Stream, model: str, original_name: str) -> HefStream:
    return HefStream(
        name=stream.name,
        model=model,
        original_name=original_name,
        shape=stream.shape,
        dtype=stream.dtype,
        order=stream.order,
        scale=stream.scale,
        zero_point=stream.zero_point,
        scales=stream.scales,
        zero_points=stream.zero_points,
    )
