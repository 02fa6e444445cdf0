"""A setting of the heads, as a search tries it and as `train` takes it."""

import dataclasses
from collections.abc import Mapping, Sequence

import keras_inception as ki
from keras_inception.supervision import AUXILIARY_WEIGHT


@dataclasses.dataclass(frozen=True)
class Setting:
    """Heads, their weights and how they are built.

    Attributes:
        heads: Endpoint to the weight of its head, in network order; empty for none.
        schedule: What becomes of the weights: `"constant"`, `"linear"`, `"cosine"`.
        head_dropout: Share dropped in every head.
        head_width: Multiplies the heads' filters (128) and units (1024).
        head_batch_norm: Whether the heads have batch normalisation.
        learning_rate: At the start; `None`: the recipe's.

    Example:
    >>> paper_setting(batch_norm=False).summary
    '4a 0.3, 4d 0.3, constant, dropout 0.7, width 1'
    """

    heads: dict[str, float]
    schedule: str = "constant"
    head_dropout: float = 0.7
    head_width: float = 1.0
    head_batch_norm: bool = False
    learning_rate: float | None = None

    @property
    def auxiliary(self) -> list[ki.AuxiliaryHead]:
        """The heads, as `GoogLeNet` takes them."""
        how = {"dropout": self.head_dropout, "batch_norm": self.head_batch_norm}
        return [
            ki.AuxiliaryHead(at, **how).widened(self.head_width) for at in self.heads
        ]

    @property
    def loss_weights(self) -> dict[str, float]:
        """The weights, as `compile` takes them."""
        return {ki.AuxiliaryHead(at).name: w for at, w in self.heads.items()}

    @property
    def places(self) -> str:
        """Where the heads hang, for people: `"4a 4d"`, `"none"`."""
        return " ".join(map(short, self.heads)) or "none"

    @property
    def summary(self) -> str:
        """All of it in one line for people."""
        parts = [f"{short(at)} {weight:g}" for at, weight in self.heads.items()]
        if self.heads:
            parts += [
                self.schedule,
                f"dropout {self.head_dropout:g}",
                f"width {self.head_width:g}",
            ]
            parts += ["batch norm"] if self.head_batch_norm else []
        else:
            parts = ["no heads"]
        if self.learning_rate is not None:
            parts.append(f"rate {self.learning_rate:g}")
        return ", ".join(parts)

    @property
    def hyperparameters(self) -> dict:
        """As `keras-inception train --hyperparameters` reads it."""
        choices = {"heads": list(self.heads)}
        if self.heads:
            choices |= {
                "aux_weight": self.loss_weights,
                "aux_schedule": self.schedule,
                "head_dropout": self.head_dropout,
                "head_width": self.head_width,
                "head_batch_norm": self.head_batch_norm,
            }
        if self.learning_rate is not None:
            choices["learning_rate"] = self.learning_rate
        return choices

    def hparams(self, places: Sequence[str]) -> dict[str, str | float | bool | None]:
        """Its columns in TensorBoard's HParams tab, `None` where it leaves one empty.

        Args:
            places: Every endpoint that has a head in some setting of the search.
        """
        columns = {"heads": self.places}
        columns |= {f"weight {short(at)}": self.heads.get(at) for at in places}
        of_heads = {
            "schedule": self.schedule,
            "head dropout": self.head_dropout,
            "head width": self.head_width,
            "head batch norm": self.head_batch_norm,
        }
        columns |= of_heads if self.heads else dict.fromkeys(of_heads)
        if self.learning_rate is not None:
            columns["learning rate"] = self.learning_rate
        return columns


def paper_setting(batch_norm: bool, learning_rate: float | None = None) -> Setting:
    """Inception (4a) and (4d) with weight 0.3: arXiv 1409.4842, section 5."""
    return Setting(
        dict.fromkeys(ki.AUXILIARY_ENDPOINTS, AUXILIARY_WEIGHT),
        head_batch_norm=batch_norm,
        learning_rate=learning_rate,
    )


def setting_of(values: Mapping[str, object]) -> Setting:
    """What a trial's values mean.

    Numbers are rounded to what a person would write, which also undoes the rounding to
    32 bits on the way between KerasTuner's chief and its workers.
    """
    count = int(values["heads"])
    rate = values.get("learning_rate")
    rate = None if rate is None else _rounded(rate)
    if count == 0:
        return Setting({}, learning_rate=rate)
    places = str(values[f"places_{count}"]).split()
    return Setting(
        {
            at: _rounded(values[f"weight_{head}"])
            for head, at in enumerate(places, start=1)
        },
        schedule=str(values["schedule"]),
        head_dropout=round(float(values["head_dropout"]), 2),
        head_width=float(values["head_width"]),
        head_batch_norm=bool(values["head_batch_norm"]),
        learning_rate=rate,
    )


def values_of(setting: Setting) -> dict:
    """The values of a trial that tries this setting."""
    values = {"heads": len(setting.heads)}
    if setting.heads:
        values[f"places_{len(setting.heads)}"] = " ".join(setting.heads)
        for head, weight in enumerate(setting.heads.values(), start=1):
            values[f"weight_{head}"] = weight
        values |= {
            "schedule": setting.schedule,
            "head_dropout": setting.head_dropout,
            "head_width": setting.head_width,
            "head_batch_norm": setting.head_batch_norm,
        }
    if setting.learning_rate is not None:
        values["learning_rate"] = setting.learning_rate
    return values


def short(endpoint: str) -> str:
    """`"4a"` for `"inception_4a"`."""
    return endpoint.removeprefix("inception_")


def _rounded(value) -> float:
    return float(f"{float(value):.3g}")
