"""Writes the Python module with which an application loads the HEF of a build and gets outputs by model and name.

The module stands alone: it is made from a manifest, and on the machine that runs it needs numpy and HailoRT, or for
an emulated HEF hefjoin itself. Both kinds are one template, `module.py.j2`, with a backend each. The one rule: text of
a manifest goes into the module as a literal, never as code.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hefjoin.manifest import Manifest
    from hefjoin.results.compiled import HefStream

NMS_ORDERS = ("HAILO NMS BY CLASS",)
"""Outputs that HailoRT holds as lists of boxes and hands out as an array only when asked to."""


def render(manifest: Manifest) -> str:
    """Return the source text of a build's loader: Python 3.8 for a device, hefjoin's own for the emulator."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hefjoin.loader", "."),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["literal"] = literal
    template = "emulated.py.j2" if manifest.compiled.is_emulated else "hailort.py.j2"
    return environment.get_template(template).render(_names(manifest))


def module_name(manifest: Manifest) -> str:
    """Return the name the module is imported by: `faces_v2_loader` for the build `faces-v2`."""
    return _identifier(re.sub(r"\W+", "_", manifest.spec.name) + "_loader")


def class_name(manifest: Manifest) -> str:
    """Return the name of the class in it: `FacesV2Net` for the build `faces-v2`."""
    words = re.split(r"[\W_]+", manifest.spec.name)
    return _identifier("".join(word.capitalize() for word in words) + "Net")


def literal(value: Any) -> str:
    """Return a Python literal in double quotes where that is the same text.

    >>> print(literal("scores"), literal("größe"), literal((4, 23)))
    "scores" 'größe' (4, 23)
    """
    return json.dumps(value) if isinstance(value, str) and value.isascii() else repr(value)


def _names(manifest: Manifest) -> dict[str, Any]:
    from hefjoin.compatibility import table

    compiled, check = manifest.compiled, manifest.check
    deployed = compiled.deployment
    image, least = deployed.input, deployed.least_hailort
    below = table().supported.hailo8_hailort.removeprefix("<")
    return {
        "class_name": class_name(manifest),
        "build_id": manifest.build_id,
        "hef": f"{manifest.spec.name}.{'emulated.hef' if compiled.is_emulated else 'hef'}",
        "sha256": compiled.hef.sha256,
        "chip": deployed.hw_arch,
        "sdk": deployed.sdk_version,
        "hailort": f"{least} or newer, below {below}" if least else f"one below {below}",
        "least_hailort": _numbers(least or "0"),
        "below_hailort": _numbers(below),
        "input": image.name,
        "frame_shape": image.shape,
        "color": check.color.upper() if check.channels == 3 else "grey" if check.channels == 1 else "",
        "mean": check.mean,
        "std": check.std,
        "takes_pixels": (image.dtype, image.scale, image.zero_point) == ("UINT8", 1.0, 0.0),
        "outputs": list(_outputs(deployed.outputs)),
        "boxes": tuple(stream.name for stream in deployed.outputs if stream.order in NMS_ORDERS),
    }


def _outputs(streams: tuple[HefStream, ...]) -> Iterator[tuple[str, tuple[str, str, tuple[int, ...]]]]:
    """Yield each output of the HEF with its model, its key there and its shape.

    The key is the name in the ONNX file; without one, or where a model has it twice, the layer without its scope.
    """
    uses = Counter((stream.model, stream.original_name) for stream in streams)
    for stream in streams:
        is_known = stream.original_name and uses[stream.model, stream.original_name] == 1
        key = stream.original_name if is_known else stream.name.removeprefix(f"{stream.model}/")
        yield stream.name, (stream.model, key, stream.shape)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def _identifier(name: str) -> str:
    return name if name.isidentifier() else f"_{name}"
