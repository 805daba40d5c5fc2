"""Networks for small images: MobileNet v1, EfficientNet-Lite, SqueezeNet, Inception v1, RegNetX, RepVGG, DnCNN."""

from __future__ import annotations

import math

from tests.zoo.net import Net


def mobilenet(size: int = 224, outputs: int = 1000) -> Net:
    """Return MobileNet v1 (Howard et al. 2017)."""
    net = Net(size, size)
    last = net.conv(net.image, 32, 3, 2, act="relu6")
    strides = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
    for features, stride in strides:
        last = net.conv(net.depthwise(last, 3, stride, act="relu6"), features, 1, act="relu6")
    net.output(net.dense(net.mean(last), outputs))
    return net


STAGES = (
    # repeats, kernel, stride, expansion, features
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def efficientnet_lite(size: int, width: float, depth: float) -> Net:
    """Return EfficientNet-Lite: no gates, ReLU6, stem, head and the number of its first and last blocks not scaled."""
    net = Net(size, size)
    last = net.conv(net.image, 32, 3, 2, act="relu6")
    for index, (repeats, kernel, stride, expansion, features) in enumerate(STAGES):
        repeats = repeats if index in (0, len(STAGES) - 1) else math.ceil(repeats * depth)
        for block in range(repeats):
            step = 1 if block else stride
            last = inverted(net, last, kernel, step, expansion, _rounded(features * width))
    net.output(net.dense(net.mean(net.conv(last, 1280, 1, act="relu6")), 1000))
    return net


def _rounded(features: float) -> int:
    found = max(8, int(features + 4) // 8 * 8)
    return found + 8 if found < 0.9 * features else found


def inverted(net: Net, source: str, kernel: int, stride: int, expansion: int, features: int) -> str:
    """Append MobileNet v2's inverted residual."""
    channels = net.shape[source][0]
    inner = net.conv(source, channels * expansion, 1, act="relu6") if expansion > 1 else source
    inner = net.conv(net.depthwise(inner, kernel, stride, act="relu6"), features, 1)
    return net.add(inner, source) if stride == 1 and channels == features else inner


def squeezenet() -> Net:
    """Return SqueezeNet v1.1 (Iandola et al. 2016)."""
    net = Net(224, 224)
    last = net.max_pool(net.conv(net.image, 64, 3, 2, act="relu", pad=0), 3, 2)
    for index, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if index in (2, 4):
            last = net.max_pool(last, 3, 2)
        inner = net.conv(last, squeeze, 1, act="relu")
        last = net.concat(net.conv(inner, 4 * squeeze, 1, act="relu"), net.conv(inner, 4 * squeeze, 3, act="relu"))
    net.output(net.mean(net.conv(last, 1000, 1, act="relu")))
    return net


INCEPTIONS = (
    # 1x1, 3x3 reduced, 3x3, "5x5" reduced, "5x5" (a 3x3 in TF-Slim), behind the pool; None: a pool of stride 2
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    None,
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    None,
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


def inception() -> Net:
    """Return Inception v1 (Szegedy et al. 2014) as in TF-Slim."""
    net = Net(224, 224)
    last = net.max_pool(net.conv(net.image, 64, 7, 2, act="relu"), 3, 2)
    last = net.max_pool(net.conv(net.conv(last, 64, 1, act="relu"), 192, act="relu"), 3, 2)
    for widths in INCEPTIONS:
        if widths is None:
            last = net.max_pool(last, 3, 2)
            continue
        one, reduce3, three, reduce5, five, pooled = widths
        last = net.concat(
            net.conv(last, one, 1, act="relu"),
            net.conv(net.conv(last, reduce3, 1, act="relu"), three, act="relu"),
            net.conv(net.conv(last, reduce5, 1, act="relu"), five, act="relu"),
            net.conv(net.max_pool(last, 3, 1, 1), pooled, 1, act="relu"),
        )
    net.output(net.dense(net.mean(last), 1001))
    return net


def regnetx(widths: tuple[int, ...], depths: tuple[int, ...], group: int) -> Net:
    """Return RegNetX (Radosavovic et al. 2020)."""
    net = Net(224, 224)
    last = net.conv(net.image, 32, 3, 2, act="relu")
    for features, depth in zip(widths, depths, strict=True):
        for block in range(depth):
            stride = 1 if block else 2
            inner = net.conv(last, features, 1, act="relu")
            inner = net.conv(inner, features, 3, stride, act="relu", groups=features // group)
            inner = net.conv(inner, features, 1)
            skip = last if block else net.conv(last, features, 1, 2)
            last = net.add(inner, skip, act="relu")
    net.output(net.dense(net.mean(last), 1000))
    return net


def repvgg(
    widths: tuple[int, ...],
    size: tuple[int, int] = (224, 224),
    depths: tuple[int, ...] = (2, 4, 14, 1),
    out: int = 1000,
) -> Net:
    """Return RepVGG-A (Ding et al. 2021) as it is deployed: one 3x3 convolution for each block."""
    net = Net(*size)
    last = net.conv(net.image, min(64, widths[0]), 3, 2, act="relu")
    for features, depth in zip(widths, depths, strict=True):
        for block in range(depth):
            last = net.conv(last, features, 3, 1 if block else 2, act="relu")
    net.output(net.dense(net.mean(last), out))
    return net


def dncnn(channels: int) -> Net:
    """Return DnCNN (Zhang et al. 2016) of 20 layers: it subtracts the noise that it finds."""
    net = Net(321, 481, channels)
    last = net.image
    for _ in range(19):
        last = net.conv(last, 64, act="relu")
    net.output(net.combine("Sub", net.image, net.conv(last, channels)))
    return net
