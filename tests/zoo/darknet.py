"""YOLOv3 and its small relatives (Redmon and Farhadi 2018, Bochkovskiy et al. 2020), cut before their decoding."""

from __future__ import annotations

from tests.zoo.net import Net

OUTPUTS = 3 * 85
"""Of three anchors: a box, its score, 80 classes."""


def tiny_yolov3() -> Net:
    """Return tiny YOLOv3."""
    net = Net(416, 416)
    last = skip = net.image
    for features in (16, 32, 64, 128, 256, 512):
        last = net.conv(last, features, act="leaky")
        skip = last if features == 256 else skip
        last = net.max_pool(last, 2, 2 if features < 512 else 1)
    last = net.conv(net.conv(last, 1024, act="leaky"), 256, 1, act="leaky")
    net.output(net.conv(net.conv(last, 512, act="leaky"), OUTPUTS, 1))
    joined = net.concat(net.resize(net.conv(last, 128, 1, act="leaky")), skip)
    net.output(net.conv(net.conv(joined, 256, act="leaky"), OUTPUTS, 1))
    return net


def tiny_yolov4() -> Net:
    """Return tiny YOLOv4."""
    net = Net(416, 416)
    last = net.conv(net.conv(net.image, 32, 3, 2, act="leaky"), 64, 3, 2, act="leaky")
    skip = last
    for features in (64, 128, 256):
        whole = net.conv(last, features, act="leaky")
        first = net.conv(net.halves(whole)[1], features // 2, act="leaky")
        second = net.conv(first, features // 2, act="leaky")
        skip = net.conv(net.concat(second, first), features, 1, act="leaky")
        last = net.max_pool(net.concat(whole, skip), 2, 2)
    last = net.conv(net.conv(last, 512, act="leaky"), 256, 1, act="leaky")
    net.output(net.conv(net.conv(last, 512, act="leaky"), OUTPUTS, 1))
    joined = net.concat(net.resize(net.conv(last, 128, 1, act="leaky")), skip)
    net.output(net.conv(net.conv(joined, 256, act="leaky"), OUTPUTS, 1))
    return net


def yolov3(size: int) -> Net:
    """Return YOLOv3 on Darknet-53."""
    net = Net(size, size)
    last = net.conv(net.image, 32, act="leaky")
    ends = []
    for features, count in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        last = net.conv(last, features, 3, 2, act="leaky")
        for _ in range(count):
            inner = net.conv(net.conv(last, features // 2, 1, act="leaky"), features, act="leaky")
            last = net.add(last, inner)
        ends.append(last)
    for features in (512, 256, 128):
        skip = ends.pop()
        if features < 512:
            skip = net.concat(net.resize(net.conv(last, features, 1, act="leaky")), skip)
        last = skip
        for _ in range(2):
            last = net.conv(net.conv(last, features, 1, act="leaky"), 2 * features, act="leaky")
        last = net.conv(last, features, 1, act="leaky")
        net.output(net.conv(net.conv(last, 2 * features, act="leaky"), OUTPUTS, 1))
    return net
