"""Checks what `graph.py` assumes about Keras, so that an upgrade that breaks it fails.

`graph.py` uses private names of Keras and a few undocumented values. A private name
that disappears raises an error by itself; a value that changes would go unnoticed: a
mask not found, a bias taken for a kernel, softmax taken for logits. Each test builds a
small model for one of these and compares with what the model is known to contain.
"""

import inspect

import keras
import numpy as np
import pytest
from conftest import small_pictures, small_supervised
from keras import layers, ops

from keras_inception import graph, keras_behavior
from keras_inception.outputs import output_activation


def shared_twice():
    """A dense layer that is called twice, on the input and on its own output."""
    shared = layers.Dense(4, name="shared")
    inputs = keras.Input((4,), name="inputs")
    first = shared(inputs)
    second = shared(first)
    return inputs, shared, first, second


def test_a_tensor_knows_its_layer_and_the_call_that_made_it():
    inputs, shared, first, second = shared_twice()
    assert graph.layer_of(first) is graph.layer_of(second) is shared
    assert graph.layer_of(inputs).name == "inputs"
    one, other = graph.step_of(first), graph.step_of(second)
    assert one is not other
    assert one.operation is other.operation is shared
    assert [x is y for x, y in zip(one.input_tensors, [inputs], strict=True)] == [True]
    assert [x is y for x, y in zip(other.input_tensors, [first], strict=True)] == [True]
    assert one.output_tensors[0] is first
    assert other.output_tensors[0] is second
    assert graph.step_of(inputs).is_input
    assert not one.is_input


def test_steps_are_every_call_each_after_what_it_needs():
    inputs, _, first, second = shared_twice()
    total = layers.Add(name="add")([first, second])
    steps = graph.steps_to(total)
    assert [step.operation.name for step in steps] == [
        "inputs",
        "shared",
        "shared",
        "add",
    ]
    made = set()
    for step in steps:
        assert {id(tensor) for tensor in step.input_tensors} <= made
        made |= {id(tensor) for tensor in step.output_tensors}
    beside = graph.steps_to(layers.Dense(2, name="beside")(inputs))
    assert [step.operation.name for step in beside] == ["inputs", "beside"]


def test_a_step_of_several_inputs_and_outputs_lists_them_all():
    sequence = keras.Input((5, 3))
    values, hidden, cell = layers.LSTM(2, return_state=True, name="lstm")(sequence)
    step = graph.step_of(cell)
    assert [id(x) for x in step.output_tensors] == [id(values), id(hidden), id(cell)]
    joined = layers.Concatenate()([hidden, cell])
    assert [id(x) for x in graph.step_of(joined).input_tensors] == [
        id(hidden),
        id(cell),
    ]


def test_a_sub_model_is_one_step_of_the_outer_graph():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3)], name="inner")
    output = layers.Dense(2, name="last")(inner(keras.Input((4,), name="inputs")))
    names = [step.operation.name for step in graph.steps_to(output)]
    assert names == ["inputs", "inner", "last"]


def test_all_layers_reaches_into_sub_models_and_wrappers():
    inner = keras.Sequential(
        [
            keras.Input((5, 3)),
            layers.TimeDistributed(layers.Dense(2, name="each"), name="per_step"),
            layers.Bidirectional(layers.LSTM(2, name="lstm"), name="both"),
        ],
        name="inner",
    )
    deeper = keras.Sequential([keras.Input((5, 3)), inner], name="deeper")
    model = keras.Sequential([keras.Input((5, 3)), deeper, layers.Dense(2, name="end")])
    found = graph.all_layers(model)
    assert not any(layer is model for layer in found)
    assert {"deeper", "inner", "per_step", "each", "both", "end"} <= {
        layer.name for layer in found
    }
    assert sum(isinstance(layer, layers.LSTM) for layer in found) == 2


def test_a_mask_is_found_where_there_is_one_and_nowhere_else():
    words = keras.Input((6,), dtype="int32")
    masked = layers.Embedding(9, 4, mask_zero=True)(words)
    unmasked = layers.Embedding(9, 4)(words)
    mask = graph.mask_of(masked)
    assert mask is not None
    assert mask.dtype == "bool"
    assert mask.shape == (None, 6)
    assert graph.mask_of(layers.LSTM(3, return_sequences=True)(masked)) is not None
    assert graph.mask_of(layers.LSTM(3)(masked)) is None
    assert graph.mask_of(unmasked) is None
    assert graph.mask_of(words) is None


def test_compile_arguments_come_back_by_name():
    inputs = keras.Input((4,))
    outputs = {name: layers.Dense(2, name=name)(inputs) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    given = {
        "optimizer": keras.optimizers.SGD(0.5),
        "loss": {"a": "mse", "b": "mae"},
        "loss_weights": {"a": 1.0, "b": 0.25},
        "metrics": {"a": ["accuracy"]},
        "jit_compile": False,
    }
    model.compile(**given)
    arguments = graph.compile_arguments(model)
    assert {name: arguments[name] for name in given} == given
    arguments["loss_weights"] = None  # a copy: the model keeps its own
    assert graph.compile_arguments(model)["loss_weights"] == {"a": 1.0, "b": 0.25}


def test_an_optimizer_lists_the_variables_it_was_built_for():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(3)(inputs)))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    found = graph.optimized_variables(optimizer)
    assert [id(v) for v in found] == [id(v) for v in model.trainable_variables]


def weighted_layers():
    """A layer of each kind with weights that we build, with its weights' names."""
    return {
        "conv": (layers.Conv2D(4, 3), ["kernel", "bias"]),
        "norm": (
            layers.BatchNormalization(),
            ["gamma", "beta", "moving_mean", "moving_variance"],
        ),
        "depthwise": (layers.DepthwiseConv2D(3), ["kernel", "bias"]),
        "separable": (
            layers.SeparableConv2D(4, 3),
            ["depthwise_kernel", "pointwise_kernel", "bias"],
        ),
        "dense": (layers.Dense(2), ["kernel", "bias"]),
    }


def expected_owners():
    return {
        (name, weight)
        for name, (_, kinds) in weighted_layers().items()
        for weight in kinds
    }


def built_from(kinds, name, sequential):
    for layer_name, (layer, _) in kinds.items():
        layer.name = layer_name
    stack = [layer for layer, _ in kinds.values()]
    if sequential:
        return keras.Sequential([keras.Input((8, 8, 3)), *stack], name=name)
    x = inputs = keras.Input((8, 8, 3))
    for layer in stack:
        x = layer(x)
    return keras.Model(inputs, x, name=name)


@pytest.mark.parametrize("sequential", [False, True])
def test_a_variable_names_its_layer_and_its_role(sequential, tmp_path):
    inner = built_from(weighted_layers(), "network", sequential)
    outer = keras.Sequential([keras.Input((8, 8, 3)), inner], name="outer")
    outer.save(tmp_path / "outer.keras")
    again = keras.saving.load_model(tmp_path / "outer.keras")
    clone = keras.models.clone_model(inner)
    for model in (inner, outer, again, clone):
        assert {graph.owner_of(v) for v in model.weights} == expected_owners()
    for layer, weights in (
        (inner.get_layer("dense"), ("kernel", "bias")),
        (inner.get_layer("norm"), ("gamma", "beta", "moving_mean", "moving_variance")),
    ):
        for weight in weights:  # the role is the layer's own attribute
            variable = getattr(layer, weight)
            assert graph.owner_of(variable) == (layer.name, weight)


def test_a_layer_outside_any_model_is_named_too():
    layer = layers.Dense(2, name="alone")
    layer.build((None, 3))
    assert graph.owner_of(layer.kernel) == ("alone", "kernel")
    assert graph.owner_of(layer.bias) == ("alone", "bias")


def test_random_states_are_those_of_the_random_layers_alone():
    inner = keras.Sequential(
        [keras.Input((8,)), layers.Dropout(0.5), layers.Dense(8)], name="inner"
    )
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.BatchNormalization(),  # its statistics are not random states
            inner,
            layers.GaussianNoise(0.1),
            layers.Dropout(0.2, seed=3),
        ]
    )
    random = [
        layer
        for layer in graph.all_layers(model)
        if isinstance(layer, (layers.Dropout, layers.GaussianNoise))
    ]
    expected = {id(layer.seed_generator.state) for layer in random}
    assert len(expected) == 3
    assert {id(state) for state in graph.random_states(model)} == expected
    images = np.ones((2, 8))
    before = [np.array(state) for state in graph.random_states(model)]
    model(images, training=True)
    after = [np.array(state) for state in graph.random_states(model)]
    assert all((a != b).any() for a, b in zip(before, after, strict=True))


X = (1, 6)


@pytest.mark.parametrize(
    "passes_on",
    [
        layers.Reshape((6,)),
        layers.Flatten(),
        layers.Identity(),
        layers.Dropout(0.5),
        layers.Activation("linear"),
        lambda x: ops.reshape(x, (-1, 6)),
        lambda x: ops.squeeze(x, 1),
        lambda x: ops.cast(x, "float16"),
    ],
)
def test_what_only_passes_values_on_is_seen_through(passes_on):
    """Layers by class; operations by the name that Keras gives their class."""
    inputs = keras.Input(X)
    for start, activation in (
        (layers.Softmax(), "softmax"),
        (layers.Dense(6, activation="softmax"), "softmax"),
        (layers.Dense(6), "linear"),
    ):
        assert output_activation(passes_on(start(inputs))) == activation


@pytest.mark.parametrize(
    ("end", "activation"),
    [
        (ops.softmax, "softmax"),
        (keras.activations.softmax, "softmax"),
        (layers.Softmax(), "softmax"),
        (layers.Activation("softmax"), "softmax"),
        (layers.Dense(3, activation="sigmoid"), "sigmoid"),
        (layers.GlobalAveragePooling1D(), "linear"),
        (lambda x: x + 1, "linear"),
    ],
)
def test_the_last_operation_says_what_comes_out(end, activation):
    assert output_activation(end(layers.Dense(6)(keras.Input(X)))) == activation


tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a patch for TensorFlow"
)


@tensorflow_only
def test_the_trainer_has_the_functions_that_several_workers_replace():
    from keras.src.backend.tensorflow import trainer

    def parameters(function):
        return [
            (name, parameter.default)
            for name, parameter in inspect.signature(function).parameters.items()
        ]

    required = inspect.Parameter.empty
    assert parameters(trainer.reduce_per_replica) == [
        ("values", required),
        ("strategy", required),
        ("reduction", required),
    ]
    for method in ("_maybe_symbolic_build", "_symbolic_build"):
        assert parameters(getattr(trainer.TensorFlowTrainer, method)) == [
            ("self", required),
            ("iterator", None),
            ("data_batch", None),
        ]


@tensorflow_only
def test_a_model_knows_whether_it_was_made_under_a_strategy():
    import tensorflow as tf

    assert not graph.is_distributed(small_supervised())
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        assert graph.is_distributed(small_supervised())


@tensorflow_only
def test_training_calls_the_functions_that_several_workers_replace(monkeypatch):
    """They are looked up at each call, so replacing them in Keras's module works."""
    import tensorflow as tf
    from keras.src.backend.tensorflow import trainer

    called = set()

    def spy(place, name):
        original = getattr(place, name)

        def replacement(*args, **kwargs):
            called.add(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(place, name, replacement)

    spy(trainer, "reduce_per_replica")
    spy(trainer.TensorFlowTrainer, "_maybe_symbolic_build")
    spy(trainer.TensorFlowTrainer, "_symbolic_build")
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        model = small_supervised()
    model.fit(*small_pictures(), verbose=0)
    assert called == {"reduce_per_replica", "_maybe_symbolic_build", "_symbolic_build"}
    called.clear()
    model.evaluate(*small_pictures(), verbose=0)
    assert {"reduce_per_replica", "_maybe_symbolic_build"} <= called


@tensorflow_only
def test_the_patch_leaves_other_strategies_alone(monkeypatch):
    from keras.src.backend.tensorflow import trainer

    monkeypatch.setattr(trainer, "_patched_for_workers", True, raising=False)
    monkeypatch.delattr(trainer, "_patched_for_workers")  # restored afterwards
    for place, name in (
        (trainer, "reduce_per_replica"),
        (trainer.TensorFlowTrainer, "_maybe_symbolic_build"),
    ):
        monkeypatch.setattr(place, name, getattr(place, name))  # undone afterwards
    model = small_supervised(dropout=0.0)
    before = model.evaluate(*small_pictures(), verbose=0, return_dict=True)
    keras_behavior.patch_multi_worker_trainer()
    patched = trainer.reduce_per_replica
    keras_behavior.patch_multi_worker_trainer()
    assert trainer.reduce_per_replica is patched  # a second call does nothing
    after = model.evaluate(*small_pictures(), verbose=0, return_dict=True)
    assert after == before


def test_the_steps_of_a_sub_model_are_called_again_as_keras_would():
    inner_inputs = keras.Input((4,), dtype="float16", name="inner_inputs")
    normed = layers.BatchNormalization(name="norm")(inner_inputs)
    inner = keras.Model(inner_inputs, 2.0 * normed, name="inner")
    inputs = keras.Input((4,), name="inputs")
    outer = keras.Model(inputs, layers.Dense(2, name="last")(inner(inputs)))
    flat = graph.unfold(outer)
    assert [path for path, _ in flat.steps] == [
        "inner/norm",
        f"inner/{inner.operations[-1].name}",
        "last",
    ]
    names = [step.operation.name for step in graph.steps_to(*flat.outputs)]
    assert names[:2] == ["inputs", "inner_inner_inputs_cast"]
    steps = dict(flat.steps)
    assert steps["inner/norm"].operation is outer.get_layer("inner").get_layer("norm")
    assert "training" not in steps["inner/norm"].arguments.kwargs
    frozen = keras.Model(inputs, inner(inputs, training=False))
    steps = dict(graph.unfold(frozen).steps)
    assert steps["inner/norm"].arguments.kwargs["training"] is False
    # a graph without sub-models is not called again
    same = keras.Model(inputs, layers.Dense(2, name="alone")(inputs))
    assert graph.unfold(same).outputs[0] is same.outputs[0]
    assert graph.unfold(outer, only=()).outputs[0] is outer.outputs[0]


def test_a_model_with_a_call_of_its_own_is_not_its_graph():
    class Doubled(keras.Model):
        def call(self, x, training=None, mask=None):
            return 2.0 * super().call(x)

    inputs = keras.Input((4,))
    made = layers.Dense(2, name="dense")(inputs)
    for kind, runs in ((keras.Model, True), (Doubled, False)):
        outer = kind(inputs, made, name="inner")(keras.Input((4,)))
        assert graph.runs_its_graph(graph.step_of(outer)) is runs
    with pytest.warns(UserWarning, match="destroy the mask"):
        masked = keras.Model(inputs, made)(
            keras.Input((4,)), mask=keras.Input((4,)) > 0
        )
    assert not graph.runs_its_graph(graph.step_of(masked))


def test_layers_are_numbered_as_in_a_new_process_and_then_on():
    before = layers.Dense(1).name
    with keras_behavior.names_of_a_new_process():
        assert [layers.Dense(1).name for _ in range(2)] == ["dense", "dense_1"]
    after = layers.Dense(1).name
    assert int(after.split("_")[1]) == 1 + int(before.partition("_")[2] or 0)


def test_a_variable_lists_the_layers_around_it():
    inner = keras.Sequential([layers.Dense(2, name="dense")], name="inner")
    inner.build((None, 3))
    assert graph.owners_of(inner.weights[0])[:1] == ["dense"]
    attention = layers.MultiHeadAttention(1, 2, name="attention")
    attention.build((None, 3, 4), (None, 3, 4))
    assert graph.owners_of(attention.weights[0])[:2] == ["query", "attention"]
