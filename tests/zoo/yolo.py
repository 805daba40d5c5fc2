"""YOLOv5 (releases 2.0 and 6), YOLOv6 0.1, YOLOv8 and YOLOX, cut before the decoding of their boxes.

Sources: the model files of the public repositories ultralytics/yolov5, ultralytics/ultralytics, meituan/YOLOv6 and
Megvii-BaseDetection/YOLOX; the widths and depths of each size are in the calls.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.zoo.net import Net

CLASSES = 80
Block = Callable[[Net, str, int, int, bool], str]
"""Of source, features, repeats and whether it has shortcuts."""


def bottlenecks(net: Net, source: str, features: int, repeats: int, shortcut: bool, act: str) -> str:
    """Append a row of 1x1 and 3x3 convolutions with sums around them."""
    for _ in range(repeats):
        inner = net.conv(net.conv(source, features, 1, act=act), features, act=act)
        source = net.add(source, inner) if shortcut else inner
    return source


def csp2(net: Net, source: str, features: int, repeats: int, shortcut: bool) -> str:
    """Append YOLOv5 2.0's block: batch normalization and activation stand behind the concatenation."""
    half = features // 2
    inner = bottlenecks(net, net.conv(source, half, 1, act="leaky"), half, repeats, shortcut, "leaky")
    joined = net.concat(net.conv(inner, half, 1), net.conv(source, half, 1))
    return net.conv(net.activated(net.scaled(joined, 0.1), "leaky"), features, 1, act="leaky")


def csp3(act: str) -> Block:
    """Return the block of YOLOv5 6 and YOLOX."""

    def block(net: Net, source: str, features: int, repeats: int, shortcut: bool) -> str:
        half = features // 2
        inner = bottlenecks(net, net.conv(source, half, 1, act=act), half, repeats, shortcut, act)
        return net.conv(net.concat(inner, net.conv(source, half, 1, act=act)), features, 1, act=act)

    return block


def c2f(net: Net, source: str, features: int, repeats: int, shortcut: bool) -> str:
    """Append YOLOv8's block: every bottleneck goes into the concatenation."""
    half = features // 2
    parts = [*net.halves(net.conv(source, features, 1, act="silu"))]
    for _ in range(repeats):
        inner = net.conv(net.conv(parts[-1], half, act="silu"), half, act="silu")
        parts.append(net.add(parts[-1], inner) if shortcut else inner)
    return net.conv(net.concat(*parts), features, 1, act="silu")


def pyramid(net: Net, source: str, features: int, act: str, *, in_row: bool) -> str:
    """Append the pooling at three sizes, in a row of equal windows or side by side."""
    first = net.conv(source, net.shape[source][0] // 2, 1, act=act)
    parts = [first]
    for window in (5, 5, 5) if in_row else (5, 9, 13):
        parts.append(net.max_pool(parts[-1] if in_row else first, window, 1, window // 2))
    return net.conv(net.concat(*parts), features, 1, act=act)


def yolov5_2(width: float, depth: float) -> Net:
    """Return YOLOv5 of release 2.0."""
    net = Net(640, 640)
    wide, deep = _scales(width, depth)
    last = net.conv(net.focus(net.image), wide(64), act="leaky")
    ends = []
    for features, repeats in ((128, 3), (256, 9), (512, 9)):
        last = csp2(net, net.conv(last, wide(features), 3, 2, act="leaky"), wide(features), deep(repeats), True)
        ends.append(last)
    last = pyramid(net, net.conv(last, wide(1024), 3, 2, act="leaky"), wide(1024), "leaky", in_row=False)
    last = csp2(net, last, wide(1024), deep(3), False)
    for end in _path(net, [*ends[1:], last], (wide(256), wide(512), wide(1024)), deep(3), csp2, "leaky"):
        net.output(net.conv(end, 3 * (CLASSES + 5), 1))
    return net


def yolov5_6(width: float, depth: float, *, masks: bool = False) -> Net:
    """Return YOLOv5 of releases 6 and 7, for boxes or for masks too."""
    net = Net(640, 640)
    wide, deep = _scales(width, depth)
    block = csp3("silu")
    last = net.conv(net.image, wide(64), 6, 2, act="silu", pad=2)
    ends = []
    for features, repeats in ((128, 3), (256, 6), (512, 9), (1024, 3)):
        last = block(net, net.conv(last, wide(features), 3, 2, act="silu"), wide(features), deep(repeats), True)
        ends.append(last)
    last = pyramid(net, last, wide(1024), "silu", in_row=True)
    found = _path(net, [ends[1], ends[2], last], (wide(256), wide(512), wide(1024)), deep(3), block, "silu")
    for end in found:
        net.output(net.conv(end, 3 * (CLASSES + 5 + 32 * masks), 1))
    if masks:
        features = wide(256)
        enlarged = net.conv(net.resize(net.conv(found[0], features, act="silu")), features, act="silu")
        net.output(net.conv(enlarged, 32, 1, act="silu"))
    return net


def _scales(width: float, depth: float) -> tuple[Callable[[int], int], Callable[[int], int]]:
    return lambda features: -(-int(features * width) // 8) * 8, lambda repeats: max(round(repeats * depth), 1)


def _path(
    net: Net, ends: list[str], widths: tuple[int, int, int], repeats: int, block: Block, act: str
) -> tuple[str, str, str]:
    """Append the way up and down again of YOLOv5 and YOLOX; returns an eighth, a sixteenth and a thirty-second."""
    eighth, sixteenth, last = ends
    small, middle, large = widths
    top = net.conv(last, middle, 1, act=act)
    inner = block(net, net.concat(net.resize(top), sixteenth), middle, repeats, False)
    side = net.conv(inner, small, 1, act=act)
    first = block(net, net.concat(net.resize(side), eighth), small, repeats, False)
    second = block(net, net.concat(net.conv(first, small, 3, 2, act=act), side), middle, repeats, False)
    third = block(net, net.concat(net.conv(second, middle, 3, 2, act=act), top), large, repeats, False)
    return first, second, third


def yolox(width: float, depth: float, act: str) -> Net:
    """Return YOLOX."""
    net = Net(640, 640)
    wide, deep = _scales(width, depth)
    block = csp3(act)
    last = net.conv(net.focus(net.image), wide(64), act=act)
    ends = []
    for features, repeats in ((128, 3), (256, 9), (512, 9)):
        last = block(net, net.conv(last, wide(features), 3, 2, act=act), wide(features), deep(repeats), True)
        ends.append(last)
    last = pyramid(net, net.conv(last, wide(1024), 3, 2, act=act), wide(1024), act, in_row=False)
    last = block(net, last, wide(1024), deep(3), False)
    for end in _path(net, [*ends[1:], last], (wide(256), wide(512), wide(1024)), deep(3), block, act):
        stem = net.conv(end, wide(256), 1, act=act)
        classes, boxes = (
            net.conv(net.conv(stem, wide(256), act=act), wide(256), act=act) for _ in ("classes", "boxes")
        )
        net.output(net.conv(boxes, 4, 1), net.conv(boxes, 1, 1, act="sigmoid"))
        net.output(net.conv(classes, CLASSES, 1, act="sigmoid"))
    return net


def yolov8(width: float, depth: float, largest: int, task: str = "detect") -> Net:
    """Return YOLOv8 for `detect`, `pose` or `segment`; no stage has more features than `largest` times the width."""
    net = Net(640, 640)
    scale, deep = _scales(width, depth)

    def wide(features: int) -> int:
        return scale(min(features, largest))

    last = net.conv(net.image, wide(64), 3, 2, act="silu")
    ends = []
    for features, repeats in ((128, 3), (256, 6), (512, 6), (1024, 3)):
        last = c2f(net, net.conv(last, wide(features), 3, 2, act="silu"), wide(features), deep(repeats), True)
        ends.append(last)
    last = pyramid(net, last, wide(1024), "silu", in_row=True)
    inner = c2f(net, net.concat(net.resize(last), ends[2]), wide(512), deep(3), False)
    first = c2f(net, net.concat(net.resize(inner), ends[1]), wide(256), deep(3), False)
    second = c2f(net, net.concat(net.conv(first, wide(256), 3, 2, act="silu"), inner), wide(512), deep(3), False)
    third = c2f(net, net.concat(net.conv(second, wide(512), 3, 2, act="silu"), last), wide(1024), deep(3), False)
    if task == "segment":
        enlarged = net.deconv(net.conv(first, wide(256), act="silu"), wide(256), 2)
        net.output(net.conv(net.conv(enlarged, wide(256), act="silu"), 32, 1, act="silu"))
    for end in (first, second, third):
        _heads(
            net, end, net.shape[first][0], {"pose": 51, "segment": 32}.get(task, 0), 1 if task == "pose" else CLASSES
        )
    return net


def _heads(net: Net, end: str, narrowest: int, extras: int, classes: int) -> None:
    """Append YOLOv8's heads of one scale: boxes, classes, and keypoints or mask coefficients."""
    widths = {
        "boxes": (max(16, narrowest // 4, 64), 64),
        "classes": (max(narrowest, min(classes, 100)), classes),
        "extras": (max(narrowest // 4, extras), extras),
    }
    for head, (features, outputs) in widths.items():
        if outputs:
            inner = net.conv(net.conv(end, features, act="silu"), features, act="silu")
            net.output(net.conv(inner, outputs, 1, act="sigmoid" if head == "classes" else ""))


def yolov6n() -> Net:
    """Return YOLOv6-N of release 0.1, its blocks as they are deployed: one 3x3 convolution each."""
    net = Net(640, 640)
    last = net.conv(net.image, 16, 3, 2, act="relu")
    ends = []
    for features, repeats in ((32, 2), (64, 4), (128, 6), (256, 2)):
        last = _row(net, net.conv(last, features, 3, 2, act="relu"), features, repeats)
        ends.append(last)
    last = pyramid(net, last, 256, "relu", in_row=True)
    top = net.conv(last, 64, 1, act="relu")
    inner = _row(net, net.concat(net.deconv(top, 64, 2), ends[2]), 64, 4)
    side = net.conv(inner, 32, 1, act="relu")
    first = _row(net, net.concat(net.deconv(side, 32, 2), ends[1]), 32, 4)
    second = _row(net, net.concat(net.conv(first, 32, 3, 2, act="relu"), side), 64, 4)
    third = _row(net, net.concat(net.conv(second, 64, 3, 2, act="relu"), top), 128, 4)
    for end in (first, second, third):
        features = net.shape[end][0]
        stem = net.conv(end, features, 1, act="silu")
        classes, boxes = (net.conv(stem, features, act="silu") for _ in ("classes", "boxes"))
        net.output(net.conv(boxes, 4, 1), net.conv(boxes, 1, 1, act="sigmoid"))
        net.output(net.conv(classes, CLASSES, 1, act="sigmoid"))
    return net


def _row(net: Net, source: str, features: int, repeats: int) -> str:
    for _ in range(repeats):
        source = net.conv(source, features, act="relu")
    return source
