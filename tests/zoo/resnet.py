"""ResNet v1 (He et al. 2015), ResNeXt (Xie et al. 2016), and what the Model Zoo builds on a ResNet-18."""

from __future__ import annotations

from tests.zoo.net import Net

WIDTHS = (64, 128, 256, 512)


def basic(net: Net, source: str, features: int, stride: int) -> str:
    """Append a block of two 3x3 convolutions."""
    inner = net.conv(net.conv(source, features, stride=stride, act="relu"), features)
    if stride > 1 or net.shape[source][0] != features:
        source = net.conv(source, features, 1, stride)
    return net.add(inner, source, act="relu")


def bottleneck(net: Net, source: str, features: int, stride: int, groups: int = 32) -> str:
    """Append ResNeXt's block, 4 channels a group in the first stage: 1x1, grouped 3x3, 1x1 to twice the width."""
    inner = net.conv(net.conv(source, 2 * features, 1, act="relu"), 2 * features, 3, stride, act="relu", groups=groups)
    inner = net.conv(inner, 4 * features, 1)
    if stride > 1 or net.shape[source][0] != 4 * features:
        source = net.conv(source, 4 * features, 1, stride)
    return net.add(inner, source, act="relu")


def stages(net: Net, blocks: tuple[int, ...] = (2, 2, 2, 2)) -> list[str]:
    """Append the stem and the stages of basic blocks; returns the stem's end and that of each stage."""
    stem = net.conv(net.image, 64, 7, 2, act="relu")
    found = [stem]
    last = net.max_pool(stem, 3, 2, 1)
    for index, (features, count) in enumerate(zip(WIDTHS, blocks, strict=True)):
        for block in range(count):
            last = basic(net, last, features, 2 if index and not block else 1)
        found.append(last)
    return found


def classifier(
    blocks: tuple[int, ...] = (2, 2, 2, 2),
    size: tuple[int, int] = (224, 224),
    classes: int = 1000,
    hidden: tuple[int, ...] = (),
) -> Net:
    """Return ResNet-18 and -34 with their heads."""
    net = Net(*size)
    last = net.mean(stages(net, blocks)[-1])
    for features in hidden:
        last = net.dense(last, features, act="relu")
    net.output(net.dense(last, classes))
    return net


def resnext26() -> Net:
    """Return ResNeXt-26 32x4d."""
    net = Net(224, 224)
    last = net.max_pool(net.conv(net.image, 64, 7, 2, act="relu"), 3, 2, 1)
    for index, features in enumerate(WIDTHS):
        for block in range(2):
            last = bottleneck(net, last, features, 2 if index and not block else 1)
    net.output(net.dense(net.mean(last), 1000))
    return net


def fcn8() -> Net:
    """Return FCN-8 (Long et al. 2015) on a ResNet-18, without the last enlargement and its argmax."""
    net = Net(1024, 1920)
    _, _, eighth, sixteenth, last = stages(net)
    scores = net.conv(last, 19, 1)
    for skip in (sixteenth, eighth):
        scores = net.add(net.conv(skip, 19, 1), net.resize(scores, 2, "linear"))
    net.output(scores)
    return net


def centernet() -> Net:
    """Return CenterNet (Zhou et al. 2019, as in GluonCV) with the search for peaks behind the heat map."""
    net = Net(512, 512)
    last = stages(net)[-1]
    for features in (256, 128, 64):
        last = net.deconv(net.conv(last, features, act="relu"), features, 4, act="relu")
    heat = net.conv(net.conv(last, 64, act="relu"), 80, 1, act="sigmoid")
    net.output(_peaks(net, heat))
    for _ in ("size", "offset"):
        net.output(net.conv(net.conv(last, 64, act="relu"), 2, 1))
    return net


def _peaks(net: Net, heat: str) -> str:
    highest = net.max_pool(heat, 3, 1, 1)
    is_peak = net.activated(net.scaled(net.combine("Sub", heat, highest), 1.0), "relu")
    return net.combine("Mul", is_peak, heat)


def scdepth() -> Net:
    """Return SC-DepthV3 (Sun et al. 2022): Monodepth2's decoder with the finest of its four outputs."""
    net = Net(256, 320)
    *skips, last = stages(net)
    for features in (256, 128, 64, 32, 16):
        last = net.resize(net.conv(last, features, act="elu"))
        last = net.concat(last, skips.pop()) if skips else last
        last = net.conv(last, features, act="elu")
    net.output(net.conv(last, 1, act="sigmoid"))
    return net
