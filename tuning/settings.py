"""A setting of the heads, as a search tries it and as `train` takes it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras_inception as ki
from keras_inception.supervision import AUXILIARY_WEIGHT

# KerasTuner's parameter for the endpoints of `count` heads. Files of searches have it.
ENDPOINTS = "places_{count}"


class Field(NamedTuple):
    """A field of `Setting`, and how it appears elsewhere."""

    name: str  # also KerasTuner's parameter and the column of trials.csv
    option: str  # of `keras-inception train`, as in best.json
    parse: Callable[[Any], Any]  # converts KerasTuner's value
    text: Callable[[Any], str]  # describes a value to people; "" is skipped


def _digits(value: float) -> float:
    """Three significant digits; undoes KerasTuner's rounding to 32 bits for workers."""
    return float(f"{float(value):.3g}")


def _decimals(value: float) -> float:
    return round(float(value), 2)


# fmt: off
HEAD_FIELDS = (  # these have no effect without heads
    Field("schedule",        "aux_schedule",    str,       str),
    Field("head_dropout",    "head_dropout",    _decimals, "dropout {:g}".format),
    Field("head_width",      "head_width",      float,     "width {:g}".format),
    Field("head_batch_norm", "head_batch_norm", bool,      lambda x: "batch norm" * x),
)
RATE = Field("learning_rate", "learning_rate",  _digits,   "rate {:g}".format)
# fmt: on


@dataclasses.dataclass(frozen=True)
class Setting:
    """Endpoints and weights of the heads, and how the heads are built.

    Example:
    >>> paper_setting(batch_norm=False).summary
    '4a 0.3, 4d 0.3, constant, dropout 0.7, width 1'
    """

    weight_by_endpoint: dict[str, float]  # in network order; empty for no heads
    schedule: str = "constant"  # of the weights: "constant", "linear" or "cosine"
    head_dropout: float = 0.7
    head_width: float = 1.0  # multiplies the heads' filters (128) and units (1024)
    head_batch_norm: bool = False
    learning_rate: float | None = None  # at the start; `None`: the recipe's

    @property
    def heads(self) -> list[ki.AuxiliaryHead]:
        """The heads, as `GoogLeNet` takes them."""
        return [
            ki.AuxiliaryHead(
                endpoint, dropout=self.head_dropout, batch_norm=self.head_batch_norm
            ).widened(self.head_width)
            for endpoint in self.weight_by_endpoint
        ]

    @property
    def weight_by_output(self) -> dict[str, float]:
        """The weights, as `compile` takes them."""
        names = [str(head.name) for head in self.heads]
        return dict(zip(names, self.weights, strict=True))

    @property
    def weights(self) -> list[float]:
        """The weights in network order."""
        return list(self.weight_by_endpoint.values())

    @property
    def endpoints(self) -> str:
        """The heads' endpoints for people: `"4a 4d"`, `"none"`."""
        return " ".join(map(short, self.weight_by_endpoint)) or "none"

    @property
    def effective(self) -> list[tuple[Field, Any]]:
        """The fields that affect the model, except the weights, with their values."""
        fields = [*HEAD_FIELDS] if self.weight_by_endpoint else []
        fields += [RATE] if self.learning_rate is not None else []
        return [(field, getattr(self, field.name)) for field in fields]

    @property
    def summary(self) -> str:
        """The whole setting on one line, for people."""
        weights = self.weight_by_endpoint.items()
        heads = [f"{short(endpoint)} {weight:g}" for endpoint, weight in weights]
        fields = [field.text(value) for field, value in self.effective]
        return ", ".join(filter(None, [*(heads or ["no heads"]), *fields]))

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The setting as `keras-inception train --hyperparameters` reads it."""
        choices: dict[str, Any] = {"heads": list(self.weight_by_endpoint)}
        if self.weight_by_endpoint:
            choices["aux_weight"] = self.weight_by_output
        return choices | {field.option: value for field, value in self.effective}

    def hparams(self, endpoints: Sequence[str]) -> dict[str, Any]:
        """The columns of TensorBoard's HParams tab for a space with these endpoints."""
        weights = self.weight_by_endpoint
        columns = {f"weight {short(name)}": weights.get(name) for name in endpoints}
        fields = dict.fromkeys(field.name for field in HEAD_FIELDS)
        fields |= {field.name: value for field, value in self.effective}
        columns |= {name.replace("_", " "): value for name, value in fields.items()}
        return {"heads": self.endpoints} | columns


def paper_setting(batch_norm: bool, learning_rate: float | None = None) -> Setting:
    """Inception (4a) and (4d) with weight 0.3: arXiv 1409.4842, section 5."""
    return Setting(
        dict.fromkeys(ki.AUXILIARY_ENDPOINTS, AUXILIARY_WEIGHT),
        head_batch_norm=batch_norm,
        learning_rate=learning_rate,
    )


def setting_of(values: Mapping[str, Any]) -> Setting:
    """Converts a trial's values to a setting, rounded as a person would write it."""
    count = int(values["heads"])
    endpoints = values[ENDPOINTS.format(count=count)].split() if count else []
    weights = {
        endpoint: _digits(values[f"weight_{head}"])
        for head, endpoint in enumerate(endpoints, start=1)
    }
    fields = [*(HEAD_FIELDS if count else ()), *([RATE] if RATE.name in values else ())]
    return Setting(weights, **{f.name: f.parse(values[f.name]) for f in fields})


def values_of(setting: Setting) -> dict[str, Any]:
    """Converts a setting to the values of a trial, the reverse of `setting_of`."""
    weights = setting.weight_by_endpoint
    values: dict[str, Any] = {"heads": len(weights)}
    if weights:
        values[ENDPOINTS.format(count=len(weights))] = " ".join(weights)
    for head, weight in enumerate(weights.values(), start=1):
        values[f"weight_{head}"] = weight
    return values | {field.name: value for field, value in setting.effective}


def short(endpoint: str) -> str:
    """`"4a"` for `"inception_4a"`."""
    return endpoint.removeprefix("inception_")
