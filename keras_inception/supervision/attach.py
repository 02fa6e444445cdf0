"""Hanging auxiliary classifiers on a graph, and taking them off again."""

import difflib
from collections.abc import Mapping, Sequence

import keras

from keras_inception.graph import all_layers, layer_of, steps_to
from keras_inception.layers import head_logits
from keras_inception.outputs import MAIN, Output, output_activation
from keras_inception.supervision.head_placement import evenly_placed
from keras_inception.supervision.heads import AuxiliaryHead, as_head
from keras_inception.supervision.model import DeeplySupervised


def attach_auxiliary(
    model: keras.Model, heads: int | Sequence[str | AuxiliaryHead]
) -> DeeplySupervised:
    """Puts auxiliary classifiers on any functional Keras classifier.

    The result holds the very layers of `model`: their names, weights and preprocessing
    stay as they are, and training one trains the other. Its outputs are `main`, the
    model's own, and one for each head; a head puts out probabilities if the model does,
    logits if the model does.

    Args:
        model: A functional or `Sequential` classifier with one output
            `(batch, classes)`, probabilities or logits.
        heads: Names of layers, or `AuxiliaryHead` objects for more say; or a number,
            for that many heads placed so that they divide the computation evenly. A
            head given by name or number has batch normalisation if the model has it.
            It reads feature maps `(batch, height, width, channels)` of any size,
            sequences `(batch, steps, features)` or vectors `(batch, features)`.

    Returns:
        A `DeeplySupervised` model, not compiled. `detach_auxiliary` gives back the
        plain one.

    Raises:
        ValueError: If the model is no such classifier, or a head names no layer that
            it can read.

    Example:
    >>> inputs = keras.Input((32, 32, 3))
    >>> x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="one")(inputs)
    >>> x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="two")(x)
    >>> x = keras.layers.GlobalAveragePooling2D()(x)
    >>> model = keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(x))
    >>> sorted(attach_auxiliary(model, ["one"]).output)
    ['aux_one', 'main']
    """
    main = _classifier_output(model)
    if isinstance(heads, str):
        raise ValueError(f"heads is a list of layers, or a number. Received: {heads!r}")
    if isinstance(heads, int):
        heads = evenly_placed(model, heads)
    batch_norm = any(
        isinstance(layer, keras.layers.BatchNormalization)
        for layer in all_layers(model)
    )
    heads = [as_head(head, batch_norm=batch_norm) for head in heads]
    # by step, since a sub-model's own `output` is inside of it, not in this graph
    endpoints = {
        step.operation.name: step.output_tensors[0]
        for step in reversed(steps_to(main))
        if len(step.output_tensors) == 1
    }
    endpoints = dict(reversed(endpoints.items()))  # in network order, the first calls
    for head in heads:
        _check_endpoint(head, model, endpoints)
    # a Sequential that was never called has no `input`
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    supervised = supervise(inputs, main, endpoints, heads, name=model.name)
    supervised.class_names = getattr(model, "class_names", None)
    return supervised


def supervise(
    inputs,
    main,
    endpoints: Mapping[str, keras.KerasTensor],
    heads: Sequence[AuxiliaryHead],
    *,
    adaptive_pool: bool = False,
    name: str | None = None,
) -> DeeplySupervised:
    """Hangs `heads` on a graph that ends in `main`.

    Args:
        inputs: The graph's input tensor or tensors.
        main: Its output: probabilities or logits `(batch, classes)`.
        endpoints: Tensors that heads can read, by name.
        heads: The heads.
        adaptive_pool: See `Architecture.adaptive_head_pool`.
        name: Name of the model.

    Raises:
        ValueError: If a head sits on no endpoint, two heads share a name, or a head's
            superclasses are not one per class.
    """
    classes = main.shape[-1]
    activation = output_activation(layer_of(main))
    outputs = {MAIN: main}
    for head in heads:
        if head.at not in endpoints:
            raise ValueError(
                f"There is no endpoint {head.at!r} for a head. "
                f"{_near(head.at, endpoints)}"
            )
        if head.name in outputs:
            raise ValueError(
                f"Two heads are called {head.name!r}; give one of them another `name`."
            )
        width = classes
        if head.superclasses is not None:
            width = len(set(head.superclasses))
            if len(head.superclasses) != classes:
                raise ValueError(
                    f"Head {head.name!r}: `superclasses` must name one superclass for "
                    f"each of the {classes} classes. Received "
                    f"{len(head.superclasses)}."
                )
        logits = head_logits(
            endpoints[head.at],
            head.name,
            width,
            filters=head.filters,
            units=head.units,
            dropout=head.dropout,
            batch_norm=head.batch_norm,
            adaptive_pool=adaptive_pool,
        )
        outputs[head.name] = Output(
            activation, superclasses=head.superclasses, name=head.name
        )(logits)
    return DeeplySupervised(inputs, outputs, name=name)


def plain_classifier(model: keras.Model) -> keras.Model:
    """From a model's input to the probabilities of its classes, whatever it is.

    Args:
        model: A model with an output called `main`, or with a single output.

    Returns:
        The model without heads, a softmax behind it if it puts out logits; it shares
        its layers with `model`.

    Raises:
        ValueError: As `detach_auxiliary`.
    """
    main = detach_auxiliary(model) if isinstance(model.output, dict) else model
    if output_activation(layer_of(main.output)) != "linear":
        return main
    # in float32, as `Output`
    softmax = keras.layers.Softmax(dtype="float32", name="probabilities")
    return keras.Model(main.input, softmax(main.output), name=main.name)


def detach_auxiliary(model: DeeplySupervised) -> keras.Model:
    """The plain model without heads: one input, one output, the same weights.

    Args:
        model: A model with an output called `main`.

    Returns:
        A functional model from the same input to `main` alone. It shares its layers
        with `model`: training one changes the other.

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
    return keras.Model(model.input, outputs[MAIN], name=model.name)


def _classifier_output(model) -> keras.KerasTensor:
    """The one output of a functional classifier, checked."""
    outputs = getattr(model, "outputs", None)
    if not isinstance(model, keras.Model) or not outputs:
        raise ValueError(
            "attach_auxiliary needs a functional model, built from keras.Input, whose "
            "layers' outputs a head can read: in a subclassed or unbuilt model they "
            f"can't be found. Received: {model!r} of type {type(model).__name__}"
        )
    if len(outputs) != 1:
        raise ValueError(
            "attach_auxiliary needs a classifier with one output; this model has "
            f"{len(outputs)}: {', '.join(model.output_names)}. Give it the part with "
            "one, keras.Model(model.input, model.output[...]) or, where it has heads "
            "already, detach_auxiliary(model)."
        )
    main = outputs[0]
    shape = tuple(main.shape)
    if len(shape) != 2 or shape[1] is None or shape[1] < 2:
        raise ValueError(
            "attach_auxiliary needs a classifier: its output must be (batch, classes), "
            f"with at least two classes. Received the output shape: {shape}"
        )
    activation = output_activation(layer_of(main))
    if activation not in ("softmax", "linear"):
        raise ValueError(
            "attach_auxiliary needs a classifier that puts out softmax probabilities "
            f"or logits. This one ends in the activation {activation!r}."
        )
    return main


def _check_endpoint(head, model, endpoints) -> None:
    """Refuses what a head can't read: insides of sub-models, unfit shapes."""
    if head.at not in endpoints:
        inside = head.at.rsplit("/", 1)[-1]
        for layer in model.layers:
            if isinstance(layer, keras.Model) and any(
                part.name == inside for part in all_layers(layer)
            ):
                raise ValueError(
                    f"Head {head.name!r}: {inside!r} lies inside the sub-model "
                    f"{layer.name!r}, where a head can't read it: a head can read the "
                    f"sub-model's own output, {layer.name!r}. Build the network flat "
                    "to reach its layers; a network of keras.applications is when it "
                    "is called with input_tensor=..."
                )
    elif len(endpoints[head.at].shape) == 4 and (
        keras.config.image_data_format() != "channels_last"
    ):
        raise ValueError(
            "Heads read feature maps (height, width, channels), but Keras is set to "
            "channels_first."
        )


def _near(name: str, endpoints) -> str:
    """The endpoints, or of very many the ones with the most similar names."""
    if len(endpoints) <= 40:
        return f"Endpoints: {', '.join(endpoints)}"
    similar = difflib.get_close_matches(name, endpoints, n=10, cutoff=0.3)
    return f"Of {len(endpoints)} the most similar: {', '.join(similar) or 'none'}"
