"""Heads inside sub-models: the graph is flat, the config holds the nested model.

A head can only read a tensor of the graph that it is in, so the sub-models around its
endpoint are unfolded: their layers become the model's own, with the same weights. The
model as it was is kept beside the graph, for `detach_auxiliary` and for files.
"""

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Self

import keras

from keras_inception.graph import Unfolded, all_layers, steps_to, unfold
from keras_inception.outputs import MAIN


@dataclasses.dataclass(frozen=True)
class Nesting:
    """The parts of a model with heads inside sub-models.

    Attributes:
        plain: The model without heads, its sub-models as they were.
        endpoints: Paths of the endpoints that heads read.
        heads: A model from the list of the endpoints' tensors to the heads' outputs.
    """

    plain: keras.Model
    endpoints: list[str]
    heads: keras.Model

    @classmethod
    def of(
        cls,
        plain: keras.Model,
        endpoints: Mapping[str, keras.KerasTensor],
        outputs: Mapping[str, keras.KerasTensor],
    ) -> Self:
        """Makes it from a model, its endpoints' tensors and all outputs by name."""
        of_heads = {name: made for name, made in outputs.items() if name != MAIN}
        heads = keras.Model(list(endpoints.values()), of_heads, name="heads")
        return cls(plain, list(endpoints), heads)

    def build(self, kind: type[keras.Model], **arguments: Any) -> Any:
        """Builds a model of class `kind` with all outputs by name, its graph flat."""
        flat = unfold_around(self.plain, self.endpoints)
        read = [flat.endpoints[path] for path in self.endpoints]
        made = unfold(self.heads, read).outputs
        of_heads = keras.tree.pack_sequence_as(self.heads.output, made)
        outputs = {name: of_heads[name] for name in self.heads.output}
        outputs = {MAIN: flat.outputs[0]} | outputs
        model = kind(inputs_of(self.plain), outputs, **arguments)
        self.keep_in(model)
        return model

    def keep_in(self, model: Any) -> None:
        """Stores these parts in the model that has the flat graph."""
        model.nesting = self
        inside = {id(weight) for weight in model.weights}
        # Layers whose weights are not in the graph: only an attribute saves them.
        model.layers_beside = [
            layer
            for layer in all_layers(self.plain)
            if layer.weights and inside.isdisjoint(map(id, layer.weights))
        ]

    def config(self) -> dict[str, Any]:
        """The part of the model's config that replaces the flat graph."""
        plain = keras.saving.serialize_keras_object(self.plain)
        plain.pop("compile_config", None)
        return {
            "plain": plain,
            "endpoints": self.endpoints,
            "heads": self.heads.get_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None) -> Self:
        """Makes it from `config()`."""
        config = copy.deepcopy(config)  # building a model changes its config
        return cls(
            keras.saving.deserialize_keras_object(config["plain"], custom_objects),
            config["endpoints"],
            keras.Model.from_config(config["heads"], custom_objects),
        )


def inputs_of(model: keras.Model) -> Any:
    """The inputs of a functional model, in the form that it takes them.

    For a model that takes a list of one, that one, which Keras takes as well.
    """
    # A Sequential that was never called has no `input`.
    inputs = model.inputs if isinstance(model, keras.Sequential) else model.input
    return inputs[0] if isinstance(inputs, list) and len(inputs) == 1 else inputs


def unfold_around(model: keras.Model, endpoints: Iterable[str]) -> Unfolded:
    """Unfolds the sub-models that these endpoints are in, and no others."""
    parts = [endpoint.split("/")[:-1] for endpoint in endpoints]
    paths = {"/".join(p[: n + 1]) for p in parts for n in range(len(p))}
    return unfold(model, only=paths)


def check_names(flat: Unfolded) -> None:
    """Raises a `ValueError` if two layers of a flat graph have the same name."""
    used = {id(step.operation) for step in steps_to(*flat.outputs)}
    paths: dict[str, dict[int, str]] = {}
    for path, step in flat.steps:
        if id(step.operation) in used:
            same_name = paths.setdefault(step.operation.name, {})
            same_name.setdefault(id(step.operation), path)
    for name, found in paths.items():
        if len(found) > 1:
            first, second, *_ = sorted(found.values(), key=lambda p: p.count("/"))
            raise ValueError(
                f"Heads inside a sub-model make its layers the model's own, whose "
                f"names must differ; {first!r} and {second!r} are both called "
                f"{name!r}. Give one another name first: {_renaming(second)}"
            )


def _renaming(path: str) -> str:
    *models, name = path.split("/")
    model = "model" + "".join(f".get_layer({name!r})" for name in models)
    new = path.replace("/", "_")
    # `get_layer` does not find operations that are not layers, such as sums.
    return f"[x for x in {model}.operations if x.name == {name!r}][0].name = {new!r}"
