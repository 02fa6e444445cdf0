"""The training step of the same networks in PyTorch, for `benchmarks.gpu`.

Channels last, bfloat16 by autocast, SGD with momentum by its fused kernel, on a batch
that is on the card; eager, compiled, and compiled with CUDA graphs.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn

import keras_inception as ki
from benchmarks.gpu_keras import Task, random_batch, rounds, speed, task_of
from benchmarks.torchvision_import import import_torchvision
from keras_inception import architecture as table
from keras_inception.rows import scaled

WAYS = {
    "eager": lambda network: network,
    "compiled": torch.compile,
    "CUDA graphs": lambda network: torch.compile(network, mode="reduce-overhead"),
}


def measure_torch(emit: Callable, options: argparse.Namespace, task: str) -> None:
    """Writes a row for each way of running a training step."""
    chosen = task_of(task, options)
    for way in options.ways or WAYS:
        torch._dynamo.reset()
        began = time.perf_counter()
        step = training_step(chosen, WAYS[way])
        wait(step())
        first = time.perf_counter() - began
        seconds = rounds(step, wait, chosen.steps)
        columns = speed(f"torch, {way}", chosen, seconds, operations=0) | {
            "seconds": first
        }
        del columns["tflops"], step
        emit(**columns, peak_gb=peak_bytes() / 1e9)


def training_step(task: Task, prepare: Callable) -> Callable:
    """Makes the function that trains a step on one batch, and returns the loss."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    network = network_of(task).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, fused=True)
    images, labels = map(torch.from_numpy, random_batch(task))
    # The pictures are channels-last in memory already.
    images, labels = images.permute(0, 3, 1, 2).to(device), labels.long().to(device)
    forward = prepare(network)

    def step():
        torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16):
            outputs = forward(images.float().div(127.5).sub(1))
            loss = weighted_loss(outputs, labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def weighted_loss(outputs, labels):
    """The loss of all outputs, main first, with the paper's weights."""
    return sum(
        weight * nn.functional.cross_entropy(logits.float(), labels)
        for weight, logits in zip((1, 0.3, 0.3), outputs, strict=True)
    )


def wait(loss) -> None:
    if loss.is_cuda:
        torch.cuda.synchronize()


def peak_bytes() -> int:
    if not torch.cuda.is_available():
        return 0
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return peak


def network_of(task: Task) -> nn.Module:
    """The task's network: torchvision's own, or the small one built from our table."""
    if task.architecture == "googlenet_torchvision":
        googlenet = import_torchvision().models.googlenet
        return googlenet(weights=None, aux_logits=True, init_weights=False)
    return Network(ki.ARCHITECTURES[task.architecture], task.classes)


class Network(nn.Module):
    """A network of ours with its two heads, for 32 pixels; logits, main first."""

    def __init__(self, architecture: ki.Architecture, classes: int, width: float = 1.0):
        super().__init__()
        self.stages, channels = nn.ModuleDict(), 3
        self.heads = nn.ModuleDict()
        for name, row in architecture.rows.items():
            match row:
                case table.Conv():
                    filters = scaled(row.filters, width)
                    self.stages[name] = convolution(channels, filters, row.size)
                    channels = filters
                case table.Inception():
                    self.stages[name] = Module(channels, row, width)
                    channels = self.stages[name].channels
                case table.MaxPool():
                    self.stages[name] = nn.MaxPool2d(
                        row.size, row.strides, ceil_mode=True
                    )
                case table.GlobalAveragePool():
                    self.stages[name] = nn.Sequential(
                        nn.AdaptiveAvgPool2d(1), nn.Flatten()
                    )
                case table.Dropout():
                    self.stages[name] = nn.Dropout(row.rate)
            if name in table.AUXILIARY_ENDPOINTS:
                self.heads[name] = head(channels, classes)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        auxiliary = []
        for name, stage in self.stages.items():
            x = stage(x)
            if name in self.heads:
                auxiliary.append(self.heads[name](x))
        return self.classifier(x), *auxiliary


class Module(nn.Module):
    """An Inception module."""

    def __init__(self, channels: int, row: table.Inception, width: float):
        super().__init__()
        one, reduce_3x3, three, reduce_5x5, five, pool = (
            scaled(filters, width)
            for filters in (
                *(row.conv_1x1, row.reduce_3x3, row.conv_3x3),
                *(row.reduce_5x5, row.conv_5x5, row.pool_proj),
            )
        )
        self.branches = nn.ModuleList(
            [
                convolution(channels, one, 1),
                nn.Sequential(
                    convolution(channels, reduce_3x3, 1),
                    convolution(reduce_3x3, three, 3),
                ),
                nn.Sequential(
                    convolution(channels, reduce_5x5, 1),
                    convolution(reduce_5x5, five, row.wide_size),
                ),
                nn.Sequential(
                    nn.MaxPool2d(3, 1, padding=1), convolution(channels, pool, 1)
                ),
            ]
        )
        self.channels = one + three + five + pool

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def convolution(channels: int, filters: int, size: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, filters, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(filters, eps=1e-3),
        nn.ReLU(inplace=True),
    )


def head(channels: int, classes: int) -> nn.Module:
    """A head of the paper on a map of 8x8: a 2x2 grid of averages."""
    return nn.Sequential(
        nn.AvgPool2d(5, 3),
        convolution(channels, 128, 1),
        nn.Flatten(),
        nn.Linear(128 * 2 * 2, 1024),
        nn.ReLU(inplace=True),
        nn.Dropout(0.7),
        nn.Linear(1024, classes),
    )
