"""Class activation maps: where in a picture each output finds its class."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled, gradients_of
from keras_inception.graph import layer_of, narrow_endpoints, steps_to, unfold
from keras_inception.outputs import MAIN, Output, logits_of, outputs_by_name

METHODS = ("gradcam", "layercam")


class OutputMaps(NamedTuple):
    """Where one output of a model looks in some pictures.

    Attributes:
        maps: float32 `(pictures, height, width)`, at the pictures' size, from 0 to 1:
            a map's maximum is 1, or it is 0 everywhere, where nothing supports the
            class.
        classes: The class explained in each picture, an index into this output's
            columns, `(pictures,)`.
        probabilities: Its probability, float32 `(pictures,)`.
    """

    maps: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray


class NoFeatureMap(ValueError):
    """Raised for a model with an output that reads no feature map."""


def activation_maps(
    model: keras.Model,
    images: np.ndarray,
    classes: int | Sequence[int] | np.ndarray | None = None,
    method: str = "gradcam",
) -> dict[str, np.ndarray]:
    """Maps where in a picture each output of a model finds its class.

    An output's map is read at the last feature map before it: a head's at its
    endpoint, main's before the global pooling. Its values are weighted by the
    gradient of the class's logit, since a probability's gradient vanishes where the
    softmax is sure. A map is as coarse as its feature map, and is enlarged to the
    picture.

    Args:
        model: A functional classifier of pictures, with auxiliary heads or without.
        images: A batch of the model's input, `(pictures, height, width, channels)`.
        classes: The class to explain: one for all pictures, or one for each, indices
            of main's classes; a head with superclasses explains the superclass.
            Defaults to `None`: each output explains the class that it finds most
            probable.
        method: `"gradcam"` (default), which weights each channel by its mean gradient
            (Selvaraju et al. 2017, Grad-CAM, arXiv 1610.02391); or `"layercam"`, which
            weights each value by its own gradient where that is positive (Jiang et al.
            2021, LayerCAM, doi 10.1109/TIP.2021.3089943).

    Returns:
        For each output a float32 array `(pictures, height, width)` from 0 to 1.

    Raises:
        NoFeatureMap: If an output reads no feature map, as of vectors or sequences. It
            is a `ValueError`.
        ValueError: If the model has no graph, images of another shape, an output that
            is neither probabilities nor logits or is not finite; or `classes` does not
            fit.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3)
    >>> maps = activation_maps(model, np.zeros((2, 64, 64, 3)))
    >>> list(maps), maps["aux_4a"].shape
    (['main', 'aux_4a', 'aux_4d'], (2, 64, 64))
    """
    found = Explainer(model, method)(images, classes)
    return {name: output.maps for name, output in found.items()}


class Explainer:
    """`activation_maps` for many batches of one model, with the same errors.

    It follows the model's training, except for a classifier of one layer with its
    softmax, `Dense(activation="softmax")`, whose weights are copied.
    """

    def __init__(self, model: keras.Model, method: str = "gradcam"):
        if method not in METHODS:
            raise ValueError(
                f"method must be one of {', '.join(METHODS)}. Received: {method!r}"
            )
        outputs = _flat_outputs(model)
        features = feature_maps(model, outputs)
        self._model, self._method = model, method
        self._outputs = outputs_by_name(model)
        logits = {name: logits_of(output) for name, output in outputs.items()}
        self._tails = [keras.Model(features[name], logits[name]) for name in features]
        parts = [*features.values(), *logits.values()]
        self._forward = compiled(keras.Model(model.inputs, parts))

    def __call__(
        self,
        images: np.ndarray,
        classes: int | Sequence[int] | np.ndarray | None = None,
    ) -> dict[str, OutputMaps]:
        """Explains one batch; see `activation_maps`."""
        images = self._checked(images)
        (model_input,) = self._model.inputs
        batch = ops.convert_to_tensor(images, dtype=model_input.dtype)
        results = self._forward([batch])
        count = len(self._outputs)
        features, logits = results[:count], list(map(_flat, results[count:]))
        chosen = [
            self._classes(name, one, classes)
            for name, one in zip(self._outputs, logits, strict=True)
        ]
        weights = self._gradients(features, chosen, logits)
        found = {}
        for name, feature, weight, one, best in zip(
            self._outputs, features, weights, logits, chosen, strict=True
        ):
            maps = _combine(feature, weight, self._method)
            maps = _enlarged(maps, images.shape[1:3])
            probabilities = ops.convert_to_numpy(ops.softmax(one))
            if not (np.isfinite(maps).all() and np.isfinite(probabilities).all()):
                raise ValueError(
                    f"The output {name!r} of {self._model.name} is not finite for "
                    "these pictures, so nothing explains it."
                )
            of_class = np.take_along_axis(probabilities, best[:, None], axis=1)
            found[name] = OutputMaps(maps, best, of_class[:, 0])
        return found

    def _checked(self, images: np.ndarray) -> np.ndarray:
        (model_input,) = self._model.inputs
        shape = tuple(model_input.shape)
        images = np.asarray(images)
        fits = len(images.shape) == len(shape) and all(
            own in (None, given)
            for own, given in zip(shape[1:], images.shape[1:], strict=True)
        )
        if not fits or not len(images):
            raise ValueError(
                f"activation_maps needs a batch of pictures of the shape {shape}. "
                f"Received the shape: {images.shape}"
            )
        return images

    def _classes(
        self, name: str, logits: keras.KerasTensor, classes: object
    ) -> np.ndarray:
        """The class that an output explains in each picture."""
        pictures, columns = logits.shape
        if classes is None:
            return ops.convert_to_numpy(ops.argmax(logits, axis=1))
        given = np.asarray(classes)
        if given.shape not in ((), (pictures,)) or given.dtype.kind not in "iu":
            raise ValueError(
                "classes must be a class index, or one for each of the "
                f"{pictures} pictures. Received: {classes!r}"
            )
        layer = layer_of(self._outputs[name])
        superclasses = layer.superclasses if isinstance(layer, Output) else None
        most = columns if superclasses is None else len(superclasses)
        if given.min() < 0 or given.max() >= most:
            raise ValueError(
                f"classes must be from 0 to {most - 1}, the classes of "
                f"{self._model.name}. Received: {classes!r}"
            )
        given = np.broadcast_to(given, (pictures,))
        if isinstance(layer, Output):
            given = ops.convert_to_numpy(layer.own_labels(given))
        return given.astype("int64")

    def _gradients(self, features: list, chosen: list, logits: list) -> Sequence:
        """The gradient of each output's chosen logits in its feature map."""
        masks = [
            ops.one_hot(best, one.shape[1], dtype="float32")
            for best, one in zip(chosen, logits, strict=True)
        ]

        # Each output depends on its own map, and each picture on its own row: one sum.
        def total(maps: list) -> list:
            sums = [
                ops.sum(_flat(tail(one, training=False)) * mask)
                for tail, one, mask in zip(self._tails, maps, masks, strict=True)
            ]
            return [sum(sums)]

        return next(gradients_of(total, features))


def feature_maps(
    model: keras.Model, outputs: Mapping[str, keras.KerasTensor] | None = None
) -> dict[str, keras.KerasTensor]:
    """Finds the last feature map that each output reads, in the order of the outputs.

    It is the last tensor `(batch, height, width, channels)` of more than one position
    that everything on the way to the output passes through. For a head, main must
    depend on it as well, which excludes the head's own pool and convolution. `outputs`
    are the model's in a graph without sub-models; they are found by default.

    Raises:
        NoFeatureMap, ValueError: As in `activation_maps`.
    """
    outputs = outputs or _flat_outputs(model)
    of_main = steps_to(outputs[MAIN]) if MAIN in outputs else []
    shared = {id(made) for step in of_main for made in step.output_tensors}
    found = {}
    for name, output in outputs.items():
        steps = steps_to(output)
        learned = [_has_kernel(step.operation) for step in steps]
        candidates = [
            tensor
            for index, tensor in narrow_endpoints(output)
            if _is_map(tensor)
            and any(learned[: index + 1])
            and (not shared or id(tensor) in shared)
        ]
        if not candidates:
            raise NoFeatureMap(
                f"The output {name!r} of {model.name} reads no feature map (batch, "
                "height, width, channels) of a convolution, so no map can say where "
                "it looks."
            )
        found[name] = candidates[-1]
    return found


def _flat_outputs(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """The outputs by name, with the layers of sub-models in place of the sub-models."""
    inputs = getattr(model, "inputs", None)
    if not isinstance(model, keras.Model) or not inputs:
        raise ValueError(
            "Activation maps need a functional model, built from keras.Input. Received "
            f"{model!r} of type {type(model).__name__}"
        )
    if len(inputs) != 1 or keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "Activation maps need a model with one input, of pictures (batch, height, "
            f"width, channels). {model.name} takes the shapes "
            f"{[tuple(tensor.shape) for tensor in inputs]}, and Keras is set to "
            f"{keras.config.image_data_format()}."
        )
    flat = dict(zip(map(id, model.outputs), unfold(model).outputs, strict=True))
    return {name: flat[id(x)] for name, x in outputs_by_name(model).items()}


def _is_map(tensor: keras.KerasTensor) -> bool:
    return len(tensor.shape) == 4 and tuple(tensor.shape[1:3]) != (1, 1)


def _has_kernel(operation: keras.Operation) -> bool:
    """Whether it combines values; a normalization of pixels learns only vectors."""
    weights = getattr(operation, "weights", [])
    return any(len(weight.shape) > 1 for weight in weights)


def _combine(features, gradients, method: str):
    """A map `(pictures, height, width, 1)` from a feature map and its gradient."""
    features, gradients = (ops.cast(x, "float32") for x in (features, gradients))
    if method == "gradcam":
        weights = ops.mean(gradients, axis=(1, 2), keepdims=True)
    else:
        weights = ops.relu(gradients)
    return ops.relu(ops.sum(weights * features, axis=-1, keepdims=True))


def _enlarged(maps, size: tuple[int, int]) -> np.ndarray:
    """Maps at the pictures' size, each divided by its maximum."""
    maps = ops.image.resize(maps, size, "bilinear", data_format="channels_last")
    maps = ops.convert_to_numpy(maps)[..., 0].astype("float32")
    highest = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest != 0)


def _flat(logits):
    return ops.cast(ops.reshape(logits, (logits.shape[0], -1)), "float32")
