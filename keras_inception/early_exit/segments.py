"""A model with exits as a chain of parts, each computing what the next one needs.

The parts are Keras models over the very layers of the whole: they share its weights and
compute each of its steps once.
"""

import dataclasses

import keras

from keras_inception.graph import mask_of, steps_to
from keras_inception.outputs import MAIN


@dataclasses.dataclass(frozen=True)
class Segment:
    """What has to be computed for one more answer.

    Attributes:
        name: The output that answers.
        takes: Identities of the tensors that it needs from before.
        gives: Identities of the tensors that later segments need from it.
        model: From the list of `takes` to the list of the answer and `gives`.
    """

    name: str
    takes: tuple[int, ...]
    gives: tuple[int, ...]
    model: keras.Model


def split(model: keras.Model, exits: list[str]) -> list[Segment]:
    """Splits a model at its exits.

    Args:
        model: A functional model with one input and a dict of outputs, `main` among
            them.
        exits: The outputs that may answer before `main`, in any order. Other heads are
            not in any segment.

    Returns:
        A segment for every exit, in network order, and one for `main`.

    Raises:
        ValueError: If a mask goes from one segment to the next.
    """
    names = [*in_network_order(model, exits), MAIN]
    parts, done = [], set()
    for name in names:
        new = [s for s in steps_to(model.output[name]) if id(s) not in done]
        done.update(map(id, new))
        parts.append([step for step in new if not step.is_input])
    segments = []
    for index, (name, part) in enumerate(zip(names, parts, strict=True)):
        made = {id(tensor) for step in part for tensor in step.output_tensors}
        takes = _needed(part, lambda tensor, made=made: id(tensor) not in made)
        later = [step for other in parts[index + 1 :] for step in other]
        gives = _needed(later, lambda tensor, made=made: id(tensor) in made)
        for tensor in gives.values():
            if mask_of(tensor) is not None:
                raise ValueError(
                    f"A mask reaches beyond the exit {name!r} (from an Embedding with "
                    "mask_zero=True or a Masking layer), and exits don't carry masks."
                )
        inputs, outputs = list(takes.values()), [model.output[name], *gives.values()]
        part_model = keras.Model(inputs, outputs, name=f"up_to_{name}")
        segments.append(Segment(name, tuple(takes), tuple(gives), part_model))
    return segments


def in_network_order(model: keras.Model, outputs: list[str]) -> list[str]:
    """Outputs in the order in which their answers can be had."""
    return sorted(outputs, key=lambda name: len(steps_to(model.output[name])))


def _needed(steps, where) -> dict[int, keras.KerasTensor]:
    """What these steps take in, by identity, as far as `where` says so."""
    return {
        id(tensor): tensor
        for step in steps
        for tensor in step.input_tensors
        if where(tensor)
    }
