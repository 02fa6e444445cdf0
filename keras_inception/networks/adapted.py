"""A classifier from anywhere, for other classes, a fixed input size and raw pixels."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_inception.graph import all_layers, call_again, steps_to, unfold
from keras_inception.outputs import may_have_classes
from keras_inception.supervision import DeeplySupervised, detach_auxiliary
from keras_inception.supervision.nesting import inputs_of, unfold_around


def adapted(
    model: keras.Model,
    classes: int,
    input_size: int | None,
    class_names: Sequence[str] | None = None,
) -> keras.Model:
    """Returns a classifier for `classes` classes on the trunk of another classifier.

    The other's heads are left out. All layers are trainable, even if they were frozen.
    A KerasHub task, whose own `fit` and `predict` prepare the pixels, gets the scale
    and offset of its preprocessor as a layer; any other model must take raw pixels
    0..255.

    Args:
        model: A functional classifier of pictures. It keeps its weights, which the
            result shares.
        classes: Number of classes. The classifier layer is kept if it has as many,
            unless the model carries other names than `class_names`.
        input_size: Height and width of the pictures for a model that leaves them open;
            `None` for a model that has them.
        class_names: Names in label order. Defaults to none.

    Raises:
        ValueError: If the model is not such a classifier, or has another input size.
    """
    keep = may_have_classes(model, class_names)
    if isinstance(model, DeeplySupervised):
        model = detach_auxiliary(model)
    model = with_classes(_on_raw_pixels(model, input_size), classes, keep)
    for layer in [model, *all_layers(model)]:
        layer.trainable = True
    return model


def with_classes(model: keras.Model, classes: int, keep: bool = True) -> keras.Model:
    """Replaces a classifier's last layer with weights by a new one, if necessary.

    It is necessary if the number of classes differs, or if `keep` is false.

    Raises:
        ValueError: If that layer is not a dense or convolutional layer with as many
            outputs as the model has.
    """
    old = model.outputs[0].shape[-1]
    if old == classes and keep:
        return model
    whole = unfold(model)
    used = {id(step) for step in steps_to(*whole.outputs)}
    trained = [
        (path, step)
        for path, step in whole.steps
        if id(step) in used and getattr(step.operation, "weights", None)
    ]
    path, last = trained[-1] if trained else ("", None)
    layer = last and last.operation
    size = {keras.layers.Dense: "units", keras.layers.Conv2D: "filters"}
    if type(layer) not in size or getattr(layer, size[type(layer)]) != old:
        raise ValueError(
            f"The model answers {old} classes, not {classes}, and its classifier can't "
            "be replaced: its last layer with weights must be a Dense or Conv2D layer "
            f"with {old} outputs. "
            + (f"It is {path!r}, a {type(layer).__name__}." if last else "It has none.")
        )
    flat = unfold_around(model, [path])
    now: dict[int, Any] = {}
    for step in steps_to(*flat.outputs):
        given = [now.get(id(tensor), tensor) for tensor in step.input_tensors]
        if step.operation is layer:
            config = layer.get_config() | {size[type(layer)]: classes}
            made = [type(layer).from_config(config)(*given)]
        elif not any(id(tensor) in now for tensor in step.input_tensors):
            continue
        elif type(step.operation).__name__ == "Reshape":  # to the old classes
            made = [keras.layers.Flatten(name=step.operation.name)(*given)]
        else:
            made = call_again(step, given)
        now.update(zip(map(id, step.output_tensors), made, strict=True))
    (output,) = flat.outputs
    return keras.Model(inputs_of(model), now[id(output)], name=model.name)


def _on_raw_pixels(model: keras.Model, size: int | None) -> keras.Model:
    """Fixes the input size, and adds a KerasHub preprocessor's scale and offset."""
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    match shapes:
        case [(_, height, width, 3)] if height == width:
            pass
        case _:
            raise ValueError(
                "A network for pictures has one input (batch, size, size, 3). This "
                f"one has inputs of the shapes {shapes}."
            )
    preprocessor = getattr(model, "preprocessor", None)
    converter = getattr(preprocessor, "image_converter", None)
    scale, offset = (getattr(converter, name, None) for name in ("scale", "offset"))
    if height is not None and size not in (None, height):
        raise ValueError(
            f"The model takes pictures of {height}x{height} pixels, not {size}x{size}: "
            "leave out the input size."
        )
    if height is not None and scale is None and offset is None:
        return model
    pixels = keras.Input((height or size, height or size, 3), name="images")
    x = pixels
    if scale is not None or offset is not None:
        scale = 1.0 if scale is None else scale
        offset = 0.0 if offset is None else offset
        x = keras.layers.Rescaling(scale, offset, name="pixels")(x)
    flat = unfold(model, [x], only=())
    return keras.Model(pixels, flat.outputs[0], name=model.name)
