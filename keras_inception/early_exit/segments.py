"""A model with exits as a chain of segments, each computing what the next one needs.

The segments are Keras models over the model's own layers, and share its weights. Each
step of the graph is in one segment at most. A queue holds the pictures before each.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiles_each_batch_size
from keras_inception.graph import mask_of, steps_to
from keras_inception.outputs import MAIN


@dataclasses.dataclass(frozen=True)
class Segment:
    """The part of a model between one exit and the next.

    Tensors that go from segment to segment are known by the identity (`id`) of the
    symbolic tensor in the model's graph. `model` goes from the list of `input_ids` to
    the list of the answer and `output_ids`.
    """

    name: str  # of the output that answers at its end
    input_ids: tuple[int, ...]
    output_ids: tuple[int, ...]  # made for later segments
    needed_later: frozenset[int]  # by later segments; some are from before this one
    model: keras.Model

    def inputs_from(self, tensors: Mapping[int, Any]) -> list[Any]:
        """The inputs of `model`, picked from the tensors known so far."""
        return [tensors[key] for key in self.input_ids]

    def tensors_after(
        self, tensors: Mapping[int, Any], made: Sequence[Any]
    ) -> dict[int, Any]:
        """The tensors later segments need, of those known before and those `made`."""
        known = {**tensors, **dict(zip(self.output_ids, made, strict=True))}
        return {key: known[key] for key in known if key in self.needed_later}


def split_at_exits(model: keras.Model, exits: Sequence[str]) -> list[Segment]:
    """Makes a segment for each exit, in network order, and one for `main`.

    Heads that are not exits are in no segment.
    """
    new_steps, seen = {}, set[int]()
    for name in [*in_network_order(model, exits), MAIN]:
        steps = [s for s in steps_to(model.output[name]) if id(s) not in seen]
        seen.update(map(id, steps))
        new_steps[name] = [step for step in steps if not step.is_input]
    segments: list[Segment] = []
    needed_later: dict[int, keras.KerasTensor] = {}
    # Backwards, since a segment returns the tensors that those after it need.
    for name, steps in reversed(new_steps.items()):
        made = {id(tensor) for step in steps for tensor in step.output_tensors}
        taken = {id(tensor): tensor for step in steps for tensor in step.input_tensors}
        inputs = {key: tensor for key, tensor in taken.items() if key not in made}
        passed_on = {key: tensor for key, tensor in needed_later.items() if key in made}
        if any(mask_of(tensor) is not None for tensor in passed_on.values()):
            raise ValueError(
                f"A mask (of a Masking layer, or an Embedding with mask_zero=True) is "
                f"used beyond the exit {name!r}; exits do not carry masks."
            )
        outputs = [model.output[name], *passed_on.values()]
        part = keras.Model(list(inputs.values()), outputs, name=f"up_to_{name}")
        ids = tuple(inputs), tuple(passed_on), frozenset(needed_later)
        segments.append(Segment(name, *ids, part))
        needed_later = inputs | needed_later
    return segments[::-1]


def in_network_order(model: keras.Model, outputs: Sequence[str]) -> list[str]:
    """Sorts outputs by how much of the network, heads left out, comes before them."""
    trunk = set(map(id, steps_to(model.output[MAIN])))

    def steps_of_trunk(name: str) -> int:
        return sum(id(step) in trunk for step in steps_to(model.output[name]))

    return sorted(outputs, key=steps_of_trunk)


class BatchQueue:
    """The pictures before a segment.

    Few pictures of a batch reach the later segments. On so few a segment would spend
    its time on starting operations, so they wait for more. A picture is kept as the
    index of its row in the answer, and a row of each tensor that later segments need.
    """

    def __init__(self) -> None:
        self._rows: np.ndarray = np.empty(0, int)
        self._tensors: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, rows: np.ndarray, tensors: Mapping[int, Any]) -> None:
        """Appends pictures: their rows in the answer, and their tensors by identity."""
        if len(self):
            old = self._tensors
            tensors = {k: ops.concatenate([old[k], new]) for k, new in tensors.items()}
        self._rows = np.concatenate([self._rows, rows])
        self._tensors = dict(tensors)

    def take(self, count: int) -> tuple[np.ndarray, dict[int, Any]]:
        """Removes and returns the first `count` pictures, or all if there are fewer."""
        rows, tensors = self._rows, self._tensors
        if count >= len(rows):
            self._rows, self._tensors = rows[:0], {}
            return rows, tensors
        self._rows = rows[count:]
        self._tensors = {key: tensor[count:] for key, tensor in tensors.items()}
        return rows[:count], {key: tensor[:count] for key, tensor in tensors.items()}


def padded(values: np.ndarray) -> np.ndarray:
    """Repeats the last value up to a power of two, where each batch size is compiled.

    Those backends then compile a few sizes only; the others get the values unchanged.
    """
    if not compiles_each_batch_size():
        return values
    surplus = 2 ** int(np.ceil(np.log2(len(values)))) - len(values)
    return np.concatenate([values, np.repeat(values[-1:], surplus, axis=0)])
