"""A model with exits as a chain of segments, each computing what the next one needs.

The segments are Keras models over the layers of the whole model: they share its
weights, and each step of the graph is in one of them at most.
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

    Tensors that go from segment to segment are kept in a dict. Its keys are the
    identities (`id`) of the symbolic tensors in the model's graph.

    Attributes:
        name: The output that answers at the segment's end.
        input_ids: The tensors that the segment takes: the model's input, or made by
            any segment before.
        output_ids: The tensors that it makes for any segment after it.
        needed_later: Every tensor that some later segment takes; it may come from
            before and only pass by.
        model: From the list of `input_ids` to the list of the answer and `output_ids`.
    """

    name: str
    input_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    needed_later: frozenset[int]
    model: keras.Model

    def inputs_from(self, tensors: Mapping[int, Any]) -> list[Any]:
        """The inputs of `model`, picked from the tensors that are known so far."""
        return [tensors[tensor_id] for tensor_id in self.input_ids]

    def tensors_after(
        self, tensors: Mapping[int, Any], outputs: Sequence[Any]
    ) -> dict[int, Any]:
        """The tensors that later segments need.

        Args:
            tensors: Those known before this segment.
            outputs: Those that `model` returned after the answer.
        """
        known = {**tensors, **dict(zip(self.output_ids, outputs, strict=True))}
        return {key: known[key] for key in known if key in self.needed_later}


def split_at_exits(model: keras.Model, exits: Sequence[str]) -> list[Segment]:
    """Splits a model at its exits.

    Args:
        model: A functional model with one input and a dict of outputs, `main` among
            them.
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
                f"A mask (of an Embedding with mask_zero=True, or of a Masking layer) "
                f"is used beyond the exit {name!r}; exits do not carry masks."
            )
        segment_model = keras.Model(
            list(inputs.values()),
            [model.output[name], *passed_on.values()],
            name=f"up_to_{name}",
        )
        segments.append(
            Segment(
                name,
                tuple(inputs),
                tuple(passed_on),
                frozenset(needed_later),
                segment_model,
            )
        )
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
