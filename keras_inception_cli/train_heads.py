"""The auxiliary heads that a configuration describes."""

import dataclasses

from keras_inception import AuxiliaryHead, read_superclasses
from keras_inception_cli.train_config import TrainConfig


def build_heads(
    config: TrainConfig, class_names: list[str], batch_norm: bool
) -> list[str | AuxiliaryHead]:
    """The heads for `GoogLeNet(auxiliary=...)`.

    Heads with default settings are passed as endpoints: `GoogLeNet` then gives them
    batch normalization if the network has it, which `batch_norm` says.
    """
    superclasses = None
    if config.superclasses:
        superclasses = read_superclasses(config.superclasses, class_names)
    if config.head_batch_norm is not None:
        batch_norm = config.head_batch_norm
    heads: list[str | AuxiliaryHead] = []
    for endpoint in config.heads:
        default = AuxiliaryHead(endpoint, batch_norm=batch_norm)
        head = dataclasses.replace(
            default.widened(config.head_width),
            dropout=config.head_dropout,
            superclasses=superclasses if default.name in config.coarse_heads else None,
        )
        unchanged = head == default and config.head_batch_norm is None
        heads.append(endpoint if unchanged else head)
    return heads
