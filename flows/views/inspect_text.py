"""The description of a file as lines for a person. The one rule: shapes look the same everywhere, 320×320×3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

INDENT = "  "
NMS_WITH_MASK = "HAILO NMS WITH BYTE MASK"


def show(found: dict[str, Any]) -> str:
    """Return what `inspect.describe` found as lines for a person; what no terminal should get is replaced."""
    lines = {"ONNX": _onnx, "HAR": _har, "HEF": _hef}[found["kind"]](found)
    return "".join(f"{''.join(letter if letter.isprintable() else '�' for letter in line)}\n" for line in lines)


def _onnx(found: dict[str, Any]) -> Iterator[str]:
    opsets = ", ".join(f"{domain} {version}" for domain, version in found["opsets"].items())
    yield from _facts(
        ("file", f"{found['file']}, ONNX, {found['size_bytes']:,} bytes"),
        ("producer", found["producer"]),
        ("format", f"IR version {found['ir_version']}, operators of {opsets}"),
        ("operators", _counts(found["operators"])),
        ("parameters", f"{found['parameters']:,}"),
    )
    for side in ("inputs", "outputs"):
        yield side
        yield from _table((tensor["name"], _shape(tensor["shape"]), tensor["dtype"]) for tensor in found[side])


def _har(found: dict[str, Any]) -> Iterator[str]:
    yield from _facts(
        ("file", f"{found['file']}, HAR, {found['size_bytes']:,} bytes"),
        ("model", f"{found['model_name']}, state {found['state']}"),
        ("chip", found["hw_arch"]),
        ("compiler", _compiler(found)),
        ("scopes", ", ".join(found["scopes"])),
        ("layers", _counts(found["layers"])),
        ("parameters", f"{found['parameters']:,}"),
        ("members", ", ".join(found["members"])),
    )
    for side in ("inputs", "outputs"):
        yield side
        yield from _table(
            (tensor["name"], _shape(tensor["shape"]), _originals(tensor["original_names"])) for tensor in found[side]
        )


def _hef(found: dict[str, Any]) -> Iterator[str]:
    if found["is_truncated"]:
        cut = "; extensions and resources are unknown, and names or paddings may differ with them"
        yield (
            f"truncated: {found['size_bytes']:,} of {found['expected_bytes']:,} bytes are there, HailoRT refuses it"
            f"{cut if found['is_description_cut'] else ''}; fetch or compile it again. What is left says:"
        )
    compiled = f", compiled {found['compiled_at']}" if found["compiled_at"] else ""
    container = f"container version {found['container_version']}, {found['size_bytes']:,} bytes"
    parts = [f"{name.removesuffix('_bytes')} {size:,}" for name, size in found["parts"].items() if size]
    yield from _facts(
        ("file", f"{found['file']}, HEF, {container}"),
        ("chip", f"{found['hw_arch']} (hw_arch {found['hw_arch_number']})"),
        ("compiler", f"{_compiler(found)}{compiled}"),
        ("bytes", ", ".join(parts)),
        ("checksum", found["checksum"]),
        ("resources", ", ".join(found["resources"])),
    )
    for group in found["groups"]:
        yield from _group(group)


def _group(group: dict[str, Any]) -> Iterator[str]:
    forecast = " (forecast)" if group["contexts_source"] == "forecast" else ""
    yield ""
    yield f"network group {group['name']}: {group['contexts']} context{'s' * (group['contexts'] > 1)}{forecast}"
    estimates = (("{:,.1f} FPS at the bottleneck", "compiler_fps"), ("latency {:,.2f} ms", "compiler_latency_ms"))
    told = [form.format(group[key]) for form, key in estimates if group[key] is not None]
    if told:
        yield f"{INDENT}{', '.join(told)}: the compiler's own estimate, nothing was measured"
    for side in ("inputs", "outputs"):
        yield f"{INDENT}{side}"
        yield from _table((_stream(stream) for stream in group[side]), depth=2)
    for op in group["host_ops"]:
        yield f"{INDENT}on the host: {op['title']}"
        yield from _table(((label, _number(value)) for label, value in op["settings"].items()), depth=2)


def _stream(stream: dict[str, Any]) -> Sequence[str]:
    """Return name, shape, order, type, dequantization and original names."""
    nms, shape = stream["nms"], _shape(stream["shape"])
    if nms is not None:
        boxes = "in all" if stream["order"] == NMS_WITH_MASK else "each"
        shape = f"{nms['classes']:,} classes, {nms['boxes']:,} boxes {boxes}, {nms['frame_bytes']:,} bytes"
    dequantized = f"(q - {_number(stream['zero_point'])}) * {_number(stream['scale'])}"
    if stream["dtype"] == "FLOAT32":
        dequantized = "real values"
    elif stream["scales"]:
        dequantized = f"a scale for each of {len(stream['scales']):,} features"
    return stream["name"], shape, stream["order"], stream["dtype"], dequantized, _originals(stream["original_names"])


def _compiler(found: dict[str, Any]) -> str:
    return f"emulator {found['sdk_version']}" if found["is_emulated"] else f"DFC {found['sdk_version']}"


def _facts(*facts: tuple[str, str]) -> Iterator[str]:
    """Yield a line for each fact that there is, values under each other."""
    told = [(label, value) for label, value in facts if value]
    width = max(len(label) for label, _ in told)
    yield from (f"{label:<{width}}  {value}" for label, value in told)


def _table(rows: Iterable[Sequence[str]], depth: int = 1) -> Iterator[str]:
    """Yield rows, columns under each other."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield (depth * INDENT + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))).rstrip()


def _shape(sizes: Sequence[int | str] | None) -> str:
    if sizes is None:
        return "any shape"
    return "×".join(map(str, sizes)) or "a number"


def _originals(names: Sequence[str]) -> str:
    return f"from {', '.join(names)}" if names else ""


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _number(value: float | bool | None) -> str:
    if value is None or isinstance(value, bool):
        return {None: "no number", True: "yes", False: "no"}[value]
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
