"""A model with exits as a chain of segments, each computing what the next one needs.

The segments are Keras models over the model's own layers, and share its weights. Each
step of the graph is in one segment at most.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_inception.graph import mask_of, steps_to
from keras_inception.outputs import MAIN


@dataclasses.dataclass(frozen=True)
class Segment:
    """The part of a model between one exit and the next.

    Tensors that go from segment to segment are known by the identity (`id`) of the
    symbolic tensor in the model's graph.

    Attributes:
        name: The output that answers at the segment's end.
        input_ids: The tensors it takes: the model's input, or made by earlier segments.
        output_ids: The tensors it makes for later segments.
        needed_later: All tensors that later segments take, some from before this one.
        model: From the list of `input_ids` to the list of the answer and `output_ids`.
    """

    name: str
    input_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    needed_later: frozenset[int]
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
    """Splits a model at its exits.

    Args:
        model: A functional model with one input and a dict of outputs with `main`.
        exits: The outputs that may answer before `main`, in any order. Other heads are
            in no segment.

    Returns:
        A segment for each exit, in network order, and one for `main`.

    Raises:
        ValueError: If a mask goes from one segment to the next.
    """
    segments: list[Segment] = []
    needed_later: dict[int, keras.KerasTensor] = {}
    # backwards, since a segment returns what those after it need
    for name, steps in reversed(_steps_by_output(model, exits).items()):
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
    """Sorts outputs by how much of the network comes before them."""
    return sorted(outputs, key=lambda name: len(steps_to(model.output[name])))


def _steps_by_output(model: keras.Model, exits: Sequence[str]) -> dict[str, list]:
    """The steps that each exit, then `main`, needs beyond those of the ones before."""
    new_steps, seen = {}, set[int]()
    for name in [*in_network_order(model, exits), MAIN]:
        steps = [s for s in steps_to(model.output[name]) if id(s) not in seen]
        seen.update(map(id, steps))
        new_steps[name] = [step for step in steps if not step.is_input]
    return new_steps
