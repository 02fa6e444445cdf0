"""GoogLeNet as data: Table 1 of the paper, and the networks derived from it.

Going Deeper with Convolutions, Szegedy et al., arXiv 1409.4842, Table 1. Stage names
are BVLC's (`models/bvlc_googlenet/train_val.prototxt` of Caffe) with `/` as `_`. A
table says what the network *is*; `rows.py` builds each kind of row.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple


class Conv(NamedTuple):
    """A convolution with ReLU; its output is `ceil(input / strides)` wide.

    `padding` is `"even"`, as Caffe and torch pad, or `"same"`, as TensorFlow does: with
    strides the odd pixel goes to the bottom and the right.
    """

    filters: int
    size: int
    strides: int = 1
    padding: str = "even"


class MaxPool(NamedTuple):
    """Max pooling whose last window may reach beyond the edge (Caffe's ceil mode)."""

    size: int
    strides: int


class LocalResponseNorm(NamedTuple):
    """Normalization across channels, as in Krizhevsky et al. 2012, section 3.3.

    `alpha` is divided by `size`, as in Caffe.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75


class Inception(NamedTuple):
    """An Inception module: the filters of its six convolutions (Figure 2b).

    `wide_size` is the kernel size of the column that the paper calls "5x5"; TF-Slim,
    and the ports made from it, use 3.
    """

    conv_1x1: int
    reduce_3x3: int
    conv_3x3: int
    reduce_5x5: int
    conv_5x5: int
    pool_proj: int
    wide_size: int = 5


class GlobalAveragePool(NamedTuple):
    """The mean over all positions (7x7 at the paper's 224 pixels)."""


class Dropout(NamedTuple):
    """Dropout of this fraction of the values, in training only."""

    rate: float


Row = Conv | MaxPool | LocalResponseNorm | Inception | GlobalAveragePool | Dropout


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network without its classifier, as a table.

    Attributes:
        name: Its name in commands and in `config.json`.
        rows: Stage name to row, in network order. A stage has the name of the layer
            whose output is the stage's output: the endpoint.
        input_mean: Subtracted from the R, G and B of pixels 0..255.
        input_scale: The factor on the difference.
        smallest_input: The smallest height and width in pixels; below it the maps of
            the last modules would be empty.
        adaptive_head_pool: Whether heads average-pool every map to a 4x4 grid
            (torchvision) instead of in 5x5 windows with stride 3 (the paper).
    """

    name: str
    rows: Mapping[str, Row]
    input_mean: tuple[float, float, float]
    input_scale: float
    smallest_input: int
    adaptive_head_pool: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", MappingProxyType(dict(self.rows)))

    def __reduce__(self) -> tuple:  # a mapping proxy can't be pickled or copied
        fields = [getattr(self, field.name) for field in dataclasses.fields(self)]
        fields[1] = dict(self.rows)
        return Architecture, tuple(fields)


# Outputs at 224x224; 3x3r and 5x5r are the columns "#3x3 reduce" and "#5x5 reduce".
# fmt: off
GOOGLENET = Architecture(
    name="googlenet",
    rows={
        "conv1_7x7_s2":      Conv(64, 7, strides=2),                   # 112x112x64
        "pool1_3x3_s2":      MaxPool(3, strides=2),                    # 56x56x64
        "pool1_norm1":       LocalResponseNorm(),                      # 56x56x64
        "conv2_3x3_reduce":  Conv(64, 1),                              # 56x56x64
        "conv2_3x3":         Conv(192, 3),                             # 56x56x192
        "conv2_norm2":       LocalResponseNorm(),                      # 56x56x192
        "pool2_3x3_s2":      MaxPool(3, strides=2),                    # 28x28x192
        #                              1x1 3x3r  3x3 5x5r  5x5 proj
        "inception_3a":      Inception( 64,  96, 128,  16,  32,  32),  # 28x28x256
        "inception_3b":      Inception(128, 128, 192,  32,  96,  64),  # 28x28x480
        "pool3_3x3_s2":      MaxPool(3, strides=2),                    # 14x14x480
        "inception_4a":      Inception(192,  96, 208,  16,  48,  64),  # 14x14x512
        "inception_4b":      Inception(160, 112, 224,  24,  64,  64),  # 14x14x512
        "inception_4c":      Inception(128, 128, 256,  24,  64,  64),  # 14x14x512
        "inception_4d":      Inception(112, 144, 288,  32,  64,  64),  # 14x14x528
        "inception_4e":      Inception(256, 160, 320,  32, 128, 128),  # 14x14x832
        "pool4_3x3_s2":      MaxPool(3, strides=2),                    # 7x7x832
        "inception_5a":      Inception(256, 160, 320,  32, 128, 128),  # 7x7x832
        "inception_5b":      Inception(384, 192, 384,  48, 128, 128),  # 7x7x1024
        "pool5_7x7_s1":      GlobalAveragePool(),                      # 1024
        "pool5_drop_7x7_s1": Dropout(0.4),                             # 1024
    },
    input_mean=(123.0, 117.0, 104.0),  # BVLC's (104, 117, 123), which are B, G, R
    input_scale=1 / 64,  # about one standard deviation; exact in floating point
    smallest_input=32,
)
# fmt: on

AUXILIARY_ENDPOINTS = ("inception_4a", "inception_4d")  # the paper, section 5


def _small(paper: Architecture) -> Architecture:
    """Derives the network for inputs of 32 to 64 pixels.

    The modules are the same; the last maps have an eighth of the input size, where the
    paper's have a 32nd.
    """
    stem: dict[str, Row] = {
        "conv1_3x3": Conv(64, 3),  # 32x32x64 at 32x32
        "pool1_3x3_s2": MaxPool(3, strides=2),  # 16x16x64
        "conv2_3x3_reduce": Conv(64, 1),  # 16x16x64
        "conv2_3x3": Conv(192, 3),  # 16x16x192; then 3a at 16x16, 4a at 8x8, 5a at 4x4
    }
    start = list(paper.rows).index("inception_3a")
    return dataclasses.replace(
        paper,
        name="googlenet_small",
        rows=stem | dict(itertools.islice(paper.rows.items(), start, None)),
        input_mean=(127.5, 127.5, 127.5),
        input_scale=1 / 127.5,
        smallest_input=16,
    )


def _torchvision(paper: Architecture) -> Architecture:
    """Derives torchvision's `googlenet`, which is meant for `batch_norm=True`.

    It is a port of TF-Slim's: no response normalization, 3x3 in place of 5x5, a 2x2
    pool before 5a, 20 % dropout.
    """
    rows: dict[str, Row] = {
        name: row._replace(wide_size=3) if isinstance(row, Inception) else row
        for name, row in paper.rows.items()
        if not isinstance(row, LocalResponseNorm)
    }
    rows |= {"pool4_3x3_s2": MaxPool(2, strides=2), "pool5_drop_7x7_s1": Dropout(0.2)}
    return dataclasses.replace(
        paper,
        name="googlenet_torchvision",
        rows=rows,
        input_mean=(127.5, 127.5, 127.5),
        input_scale=1 / 127.5,
        adaptive_head_pool=True,
    )


def _slim(torchvision: Architecture) -> Architecture:
    """Derives TF-Slim's `inception_v1`, from which torchvision's weights were ported.

    Its first convolution is padded as TensorFlow pads: one pixel less at the top and
    the left.
    """
    first = torchvision.rows["conv1_7x7_s2"]
    assert isinstance(first, Conv)
    return dataclasses.replace(
        torchvision,
        name="googlenet_slim",
        rows={**torchvision.rows, "conv1_7x7_s2": first._replace(padding="same")},
    )


GOOGLENET_SMALL = _small(GOOGLENET)
GOOGLENET_TORCHVISION = _torchvision(GOOGLENET)
GOOGLENET_SLIM = _slim(GOOGLENET_TORCHVISION)

_TABLES = (GOOGLENET, GOOGLENET_SMALL, GOOGLENET_TORCHVISION, GOOGLENET_SLIM)
ARCHITECTURES = MappingProxyType({table.name: table for table in _TABLES})


def stage_of(layer: str, stages: Iterable[str]) -> str | None:
    """Returns the one of `stages` that a layer belongs to by its name, or `None`.

    It is the longest of the names that the layer's name begins with. A head's layers
    begin with the name of their output, so `stages` may hold outputs as well.

    >>> stage_of("conv2_3x3_reduce_bn", ["conv2_3x3", "conv2_3x3_reduce"])
    'conv2_3x3_reduce'
    """
    fitting = [stage for stage in stages if f"{layer}_".startswith(f"{stage}_")]
    return max(fitting, key=len, default=None)


def stages_in(layer_names: Iterable[str]) -> dict[str, str]:
    """Finds the stages of all known tables among a model's layers, in network order.

    Returns stage to the layer whose output is the stage's output: the layer of that
    name or, where batch normalization follows a convolution, the ReLU after it.

    >>> stages_in(["conv1_7x7_s2", "conv1_7x7_s2_bn", "conv1_7x7_s2_relu", "pool1"])
    {'conv1_7x7_s2': 'conv1_7x7_s2_relu'}
    """
    names = dict.fromkeys(layer_names)
    known = {stage for table in _TABLES for stage in table.rows}
    return {
        name: relu if (relu := f"{name}_relu") in names else name
        for name in names
        if name in known
    }
