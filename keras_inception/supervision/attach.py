"""Attaches auxiliary classifiers to a graph, and detaches them."""

import difflib
from collections.abc import Mapping, Sequence

import keras

from keras_inception.graph import Unfolded, all_layers, has_batch_norm, unfold
from keras_inception.outputs import MAIN, Output, main_output, output_activation
from keras_inception.supervision.head_placement import evenly_placed
from keras_inception.supervision.heads import AuxiliaryHead, as_heads, head_logits
from keras_inception.supervision.model import DeeplySupervised
from keras_inception.supervision.nesting import (
    Nesting,
    check_names,
    inputs_of,
    unfold_around,
)


def attach_auxiliary(
    model: keras.Model, heads: int | Sequence[str | AuxiliaryHead]
) -> DeeplySupervised:
    """Attaches auxiliary classifiers to any functional Keras classifier.

    The result shares the layers of `model`: training one trains the other. Its outputs
    are `main`, the model's own, and one for each head: probabilities if the model's are
    probabilities, logits if the model's are logits.

    Args:
        model: A functional or `Sequential` classifier with one output
            `(batch, classes)`, probabilities or logits.
        heads: Names of endpoints (layers), or `AuxiliaryHead` objects for other sizes,
            names or superclasses; or a number, for that many heads at endpoints that
            divide the computation evenly. A layer of a sub-model is named by its path,
            `"backbone/conv1"`. A head given by name or number has batch normalization
            if the model has it. A head reads feature maps
            `(batch, height, width, channels)` of any size, sequences
            `(batch, steps, features)` or vectors `(batch, features)`.

    Returns:
        A `DeeplySupervised` model, not compiled. `detach_auxiliary` returns the plain
        one. A sub-model with a head inside is dissolved: its layers are the model's
        own, so that early exits can split it.

    Raises:
        ValueError: If the model is not such a classifier, a head can't read its
            endpoint, or layers of two sub-models have the same name.

    Example:
    >>> inputs = keras.Input((32, 32, 3))
    >>> x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="one")(inputs)
    >>> x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="two")(x)
    >>> x = keras.layers.GlobalAveragePooling2D()(x)
    >>> model = keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(x))
    >>> sorted(attach_auxiliary(model, ["one"]).output)
    ['aux_one', 'main']
    """
    _check_classifier(model)
    if isinstance(heads, int):
        heads = evenly_placed(model, heads)
    batch_norm = has_batch_norm(model)
    described = as_heads("heads", heads, batch_norm=batch_norm)
    flat = unfold_around(model, [head.at for head in described])
    for head in described:
        _check_endpoint(head, model, flat)
    check_names(flat)
    (main,) = flat.outputs
    supervised = supervise(
        inputs_of(model), main, flat.endpoints, described, name=model.name
    )
    if any("/" in head.at for head in described):
        endpoints = {head.at: flat.endpoints[head.at] for head in described}
        Nesting.of(model, endpoints, supervised.output).keep_in(supervised)
    if names := getattr(model, "class_names", None):
        supervised.class_names = names
    return supervised


def supervise(
    inputs: keras.KerasTensor | list[keras.KerasTensor],
    main: keras.KerasTensor,
    endpoints: Mapping[str, keras.KerasTensor],
    heads: Sequence[AuxiliaryHead],
    *,
    adaptive_pool: bool = False,
    name: str | None = None,
) -> DeeplySupervised:
    """Attaches `heads` to a graph from `inputs` to `main`.

    Args:
        inputs: The input tensor or tensors.
        main: Probabilities or logits `(batch, classes)`.
        endpoints: The tensors that heads can read, by name.
        heads: The heads.
        adaptive_pool: As `Architecture.adaptive_head_pool`. Defaults to False.
        name: Name of the model.

    Raises:
        ValueError: If an endpoint does not exist, two heads share a name, or a head
            does not have one superclass for each class.
    """
    classes, activation = main.shape[-1], output_activation(main)
    outputs = {MAIN: main}
    for head in heads:
        if head.at not in endpoints:
            known = _alternatives(head.at, list(endpoints))
            raise ValueError(f"There is no endpoint {head.at!r} for a head. {known}")
        if head.name in outputs:
            raise ValueError(
                f"Two heads are called {head.name!r}. Give one of them another `name`."
            )
        superclasses = head.superclasses
        if superclasses is not None and len(superclasses) != classes:
            raise ValueError(
                f"Head {head.name!r}: `superclasses` must name one superclass for each "
                f"of the {classes} classes. Received: {len(superclasses)} superclasses"
            )
        logits = head_logits(endpoints[head.at], head, classes, adaptive_pool)
        output = Output(activation, superclasses=superclasses, name=head.name)
        outputs[head.name] = output(logits)
    return DeeplySupervised(inputs, outputs, name=name)


def plain_classifier(model: keras.Model) -> keras.Model:
    """Returns a model without heads whose output is the probabilities of its classes.

    It shares its layers with `model`; a softmax, in float32 as `Output`'s, is added to
    logits.

    Raises:
        ValueError: If the model has no output called `main`, and not a single one.
    """
    main, inputs, output = model, inputs_of(model), main_output(model)
    is_plain = not isinstance(model, keras.Sequential) and model.output is output
    if not is_plain or model.input is not inputs:
        main = keras.Model(inputs, output, name=model.name)
    if output_activation(output) != "linear":
        return main
    softmax = keras.layers.Softmax(dtype="float32", name="probabilities")
    return keras.Model(main.input, softmax(main.output), name=main.name)


def detach_auxiliary(model: DeeplySupervised) -> keras.Model:
    """Returns the plain model without heads: one output, the same weights.

    The result goes from the same input to `main` alone. It shares its layers with
    `model`: training one trains the other.

    Raises:
        ValueError: If `model` has no output called `main`.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3, auxiliary=("inception_4a",))
    >>> detach_auxiliary(model).output.shape
    (None, 3)
    """
    outputs = model.output
    if not isinstance(outputs, dict) or MAIN not in outputs:
        raise ValueError(
            f"detach_auxiliary needs a model whose outputs are a dict with {MAIN!r}, "
            f"as GoogLeNet() and attach_auxiliary() make. Received outputs: {outputs}"
        )
    if (nesting := getattr(model, "nesting", None)) is not None:
        plain = nesting.plain
    else:
        plain = keras.Model(model.input, outputs[MAIN], name=model.name)
    if names := getattr(model, "class_names", None):
        plain.class_names = names  # not in its file: a plain model stores no names
    return plain


def _check_classifier(model: keras.Model) -> None:
    """Raises a `ValueError` unless a model is a functional classifier."""
    outputs = getattr(model, "outputs", None)
    if not isinstance(model, keras.Model) or not outputs:
        raise ValueError(
            "attach_auxiliary needs a functional model, built from keras.Input; a "
            "subclassed or unbuilt model has no graph of endpoints. Received: "
            f"{model!r} of type {type(model).__name__}"
        )
    if len(outputs) != 1:
        raise ValueError(
            "attach_auxiliary needs a classifier with one output; this model has "
            f"{len(outputs)}: {', '.join(model.output_names)}. Pass a keras.Model with "
            "one of them, or detach_auxiliary(model) if it has heads already."
        )
    (main,), shape = outputs, tuple(outputs[0].shape)
    if len(shape) != 2 or shape[1] is None or shape[1] < 2:
        raise ValueError(
            "attach_auxiliary needs a classifier: its output must be (batch, classes), "
            f"with at least two classes. Received the output shape: {shape}"
        )
    activation = output_activation(main)
    if activation not in ("softmax", "linear"):
        raise ValueError(
            "attach_auxiliary needs a classifier whose output is softmax "
            f"probabilities or logits. Its last activation is {activation!r}."
        )


def _check_endpoint(head: AuxiliaryHead, model: keras.Model, flat: Unfolded) -> None:
    """Raises an error for a layer that a head can't reach, and for channels_first."""
    if head.at in flat.endpoints:
        rank = len(flat.endpoints[head.at].shape)
        if rank == 4 and keras.config.image_data_format() == "channels_first":
            raise ValueError(
                "Heads read maps of shape (height, width, channels), but Keras is set "
                "to channels_first. First call "
                "keras.config.set_image_data_format('channels_last')."
            )
        return
    name, whole = head.at.rpartition("/")[2], unfold(model)
    paths = [path for path in whole.endpoints if path.endswith(f"/{name}")]
    if paths:
        raise ValueError(
            f"Head {head.name!r}: {name!r} is inside a sub-model. Name its path: "
            f"{' or '.join(map(repr, paths))}"
        )
    for path, step in whole.steps:
        inside = getattr(step.operation, "weights", ()) and all_layers(step.operation)
        if name in [layer.name for layer in inside]:
            kind = type(step.operation).__name__
            raise ValueError(
                f"Head {head.name!r}: {name!r} is inside {path!r}, a {kind} that "
                f"computes in its own `call` and shows no graph. Use the output of "
                f"{path!r}, or build that part as a functional model."
            )
    raise ValueError(
        f"There is no endpoint {head.at!r} for a head. "
        f"{_alternatives(head.at, list(whole.endpoints))}"
    )


def _alternatives(name: str, names: list[str]) -> str:
    """Lists the endpoints; of more than 40, those with the most similar names."""
    if len(names) <= 40:
        return f"Endpoints: {', '.join(names)}"
    similar = difflib.get_close_matches(name, names, n=10, cutoff=0.3)
    return f"The most similar of {len(names)}: {', '.join(similar) or 'none'}"
