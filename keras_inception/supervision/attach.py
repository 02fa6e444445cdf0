"""Attaches auxiliary classifiers to a graph, and detaches them."""

import difflib
from collections.abc import Mapping, Sequence

import keras

from keras_inception.graph import all_layers, steps_to
from keras_inception.outputs import MAIN, Output, output_activation
from keras_inception.supervision.head_placement import evenly_placed
from keras_inception.supervision.heads import AuxiliaryHead, as_head, head_logits
from keras_inception.supervision.model import DeeplySupervised


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
            divide the computation evenly. A head given by name or number has batch
            normalization if the model has it. A head reads feature maps
            `(batch, height, width, channels)` of any size, sequences
            `(batch, steps, features)` or vectors `(batch, features)`.

    Returns:
        A `DeeplySupervised` model, not compiled. `detach_auxiliary` returns the plain
        one.

    Raises:
        ValueError: If the model is not such a classifier, or a head can't read its
            endpoint.

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
        raise ValueError(f"heads is a list of endpoints or a number, not {heads!r}.")
    if isinstance(heads, int):
        heads = evenly_placed(model, heads)
    normalization = keras.layers.BatchNormalization
    batch_norm = any(isinstance(layer, normalization) for layer in all_layers(model))
    described = [as_head(head, batch_norm=batch_norm) for head in heads]
    # The outputs of steps, since a sub-model's `output` belongs to its own graph.
    endpoints: dict[str, keras.KerasTensor] = {}
    for step in steps_to(main):
        if len(step.output_tensors) == 1:  # of a layer called twice, the first call
            endpoints.setdefault(step.operation.name, step.output_tensors[0])
    for head in described:
        _check_endpoint(head, model, endpoints)
    # A Sequential that was never called has no `input`.
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    supervised = supervise(inputs, main, endpoints, described, name=model.name)
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
    logits. The model has an output called `main`, or a single output.
    """
    main = detach_auxiliary(model) if isinstance(model.output, dict) else model
    if output_activation(main.output) != "linear":
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
    return keras.Model(model.input, outputs[MAIN], name=model.name)


def _classifier_output(model: keras.Model) -> keras.KerasTensor:
    """Returns the only output of a functional classifier, after checking it."""
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
    return main


def _check_endpoint(
    head: AuxiliaryHead, model: keras.Model, endpoints: Mapping[str, keras.KerasTensor]
) -> None:
    """Raises an error for a layer inside a sub-model and for channels_first."""
    if head.at not in endpoints:
        inside = head.at.rsplit("/", 1)[-1]
        sub_models = [m for m in model.layers if isinstance(m, keras.Model)]
        for sub_model in sub_models:
            if inside in [layer.name for layer in all_layers(sub_model)]:
                raise ValueError(
                    f"Head {head.name!r}: {inside!r} is inside the sub-model "
                    f"{sub_model.name!r}, where a head can't read it. Use the output "
                    f"of {sub_model.name!r}, or build the network flat, as "
                    "keras.applications does when called with input_tensor=..."
                )
    elif (
        len(endpoints[head.at].shape) == 4
        and keras.config.image_data_format() == "channels_first"
    ):
        raise ValueError(
            "Heads read maps of shape (height, width, channels), but Keras is set to "
            "channels_first: keras.config.set_image_data_format('channels_last')"
        )


def _alternatives(name: str, names: list[str]) -> str:
    """Lists the endpoints; of more than 40, those with the most similar names."""
    if len(names) <= 40:
        return f"Endpoints: {', '.join(names)}"
    similar = difflib.get_close_matches(name, names, n=10, cutoff=0.3)
    return f"The most similar of {len(names)}: {', '.join(similar) or 'none'}"
