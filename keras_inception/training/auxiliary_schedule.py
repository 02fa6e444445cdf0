"""The heads' loss weights as a function of the epoch."""

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import keras

SCHEDULES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "constant": lambda done: 1.0,
        "linear": lambda done: 1.0 - done,  # Wang et al. 2015, arXiv 1505.02496
        "cosine": lambda done: (1.0 + math.cos(math.pi * done)) / 2,
    }
)


class AuxiliarySchedule(keras.callbacks.Callback):
    """Decays the heads' loss weights from their compiled values.

    Sets the weights before each epoch, without retracing: in epoch `e` of `n`, counted
    from 0, to `start * schedule(e / n)`: the last epoch still has some weight.

    Args:
        schedule: `"constant"`, `"linear"` or `"cosine"` for every head, or a dict by
            output; heads that it does not name stay constant.
        start: Each output's weight in the first epoch. Defaults to the weights when
            training begins; a resumed run gives those of its first start.

    Raises:
        ValueError: If a schedule or an output is unknown. Outputs are checked at once
            if `start` is given, otherwise when training begins.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3, auxiliary=("inception_4a",))
    >>> model.compile("sgd", loss_weights=0.3)
    >>> images, labels = np.zeros((2, 64, 64, 3)), np.array([0, 1])
    >>> decay = AuxiliarySchedule("linear")
    >>> history = model.fit(images, labels, epochs=3, callbacks=[decay], verbose=0)
    >>> round(float(model.auxiliary_weights["aux_4a"]), 3)
    0.1
    """

    def __init__(
        self,
        schedule: str | Mapping[str, str],
        start: Mapping[str, float] | None = None,
    ):
        super().__init__()
        named = schedule if isinstance(schedule, Mapping) else {"every head": schedule}
        for head, name in named.items():
            if name not in SCHEDULES:
                raise ValueError(
                    f"The schedule of {head} must be one of {', '.join(SCHEDULES)}. "
                    f"Received: {name!r}"
                )
        self.schedule = schedule
        self.start = start
        if start is not None:
            self._check_heads(start)

    def on_train_begin(self, logs: Any = None) -> None:
        weights = self.model.auxiliary_weights
        self._check_heads(weights)
        self._start = self.start or {
            head: float(keras.ops.convert_to_numpy(weight))
            for head, weight in weights.items()
        }

    def _check_heads(self, heads: Iterable[str]):
        scheduled = self.schedule if isinstance(self.schedule, Mapping) else ()
        unknown = sorted(set(scheduled) - set(heads))
        if unknown:
            raise ValueError(
                f"There is no head {', '.join(unknown)} to schedule. Heads: "
                f"{', '.join(heads) or 'none'}"
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        done = epoch / self.params["epochs"]
        for head, weight in self.model.auxiliary_weights.items():
            name = self.schedule
            if isinstance(name, Mapping):
                name = name.get(head, "constant")
            weight.assign(self._start[head] * SCHEDULES[name](done))
