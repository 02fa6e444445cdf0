"""Training with heads: labels, losses, weights, saving."""

import copy
import pickle
import zipfile
from types import MappingProxyType

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    CLASSES,
    short_googlenet,
    small_pictures,
    small_supervised,
    tiny_googlenet,
)
from keras import ops

import keras_inception as ki
from keras_inception.export.preparation import classifier_and_names
from keras_inception.supervision import SmoothedCrossentropy, output_name
from keras_inception.weights.selection import keep_heads

OUTPUTS = ("main", "aux_4a", "aux_4d")


@pytest.fixture
def model():
    model = short_googlenet()
    model.compile(keras.optimizers.SGD(0.01))
    return model


def evaluate(model, *data, **arguments):
    return model.evaluate(*data, verbose=0, return_dict=True, **arguments)


def test_fit_on_plain_labels_logs_every_output(model, pictures):
    history = model.fit(*pictures, validation_data=pictures, verbose=0).history
    names = ["loss", *(f"{o}_{m}" for o in OUTPUTS for m in ("loss", "accuracy"))]
    assert set(history) == {*names, *(f"val_{name}" for name in names)}


def test_log_names_do_not_change_without_heads(pictures):
    model = short_googlenet(auxiliary=())
    model.compile("sgd")
    history = model.fit(*pictures, validation_data=pictures, verbose=0).history
    assert set(history) == {
        f"{prefix}{name}"
        for prefix in ("", "val_")
        for name in ("loss", "main_loss", "main_accuracy")
    }


def test_loss_is_main_plus_three_tenths_of_each_head(model, pictures):
    logs = evaluate(model, *pictures)
    # the crossentropies by hand, from the probabilities
    images, labels = pictures
    probabilities = model.predict(images, verbose=0)
    by_hand = {
        name: -np.mean(np.log(p[np.arange(len(labels)), labels]))
        for name, p in probabilities.items()
    }
    for name in OUTPUTS:
        assert logs[f"{name}_loss"] == pytest.approx(by_hand[name], rel=1e-5)
    expected = by_hand["main"] + 0.3 * (by_hand["aux_4a"] + by_hand["aux_4d"])
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["loss"] == pytest.approx(
        logs["main_loss"] + 0.3 * (logs["aux_4a_loss"] + logs["aux_4d_loss"]), abs=1e-6
    )


def test_the_explicit_form_equals_the_short_one(model, pictures):
    images, labels = pictures
    short = evaluate(model, images, labels)
    model.compile(
        "sgd",
        loss=dict.fromkeys(OUTPUTS, "sparse_categorical_crossentropy"),
        loss_weights={"main": 1.0, "aux_4a": 0.3, "aux_4d": 0.3},
        metrics={name: ["accuracy"] for name in OUTPUTS},
    )
    assert evaluate(model, images, dict.fromkeys(OUTPUTS, labels)) == short


def test_weights_by_name_reach_their_heads(model, pictures):
    model.compile("sgd", loss_weights={"aux_4a": 0.5, "aux_4d": 0.125})
    logs = evaluate(model, *pictures)
    expected = (
        logs["main_loss"] + 0.5 * logs["aux_4a_loss"] + 0.125 * logs["aux_4d_loss"]
    )
    assert logs["loss"] == pytest.approx(expected, abs=1e-6)


def test_one_hot_labels(model, pictures):
    images, labels = pictures
    sparse = evaluate(model, images, labels)
    model.compile("sgd", loss="categorical_crossentropy")
    one_hot = evaluate(model, images, np.eye(CLASSES)[labels])
    assert one_hot == pytest.approx(sparse, rel=1e-5)


class Focal(keras.losses.Loss):
    """A loss as people write it: Keras's own configuration leaves out its argument."""

    def __init__(self, gamma=2.0, **arguments):
        super().__init__(**arguments)
        self.gamma = gamma

    def call(self, labels, probabilities):
        return self.gamma * ops.mean(probabilities[:, 0])


class Share(keras.metrics.Mean):
    """A metric of which the same is true."""

    def __init__(self, of=0, **arguments):
        super().__init__(**arguments)
        self.of = of

    def update_state(self, labels, probabilities, sample_weight=None):
        super().update_state(probabilities[:, self.of], sample_weight)


def test_a_loss_of_ones_own_keeps_its_arguments(pictures):
    model = small_supervised(loss=Focal(gamma=0.0))
    images, labels = small_pictures()
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["loss"] == 0


def test_a_metric_that_cannot_be_copied_is_refused():
    with pytest.raises(ValueError, match=r"Share needs a `get_config`.*\('of'\)"):
        small_supervised(metrics=[Share(of=1)])
    small_supervised(metrics={"main": [Share(of=1)]})


@pytest.mark.parametrize("loss", ["sparse", "categorical", "smoothed"])
def test_logits_get_the_loss_for_logits(pictures, loss):
    images, labels = pictures
    softmax = short_googlenet()
    logits = short_googlenet(classifier_activation=None)
    logits.set_weights(softmax.get_weights())
    if loss == "categorical":
        labels = np.eye(CLASSES)[labels]
    loss = {
        "sparse": "sparse_categorical_crossentropy",
        "categorical": "categorical_crossentropy",
        "smoothed": SmoothedCrossentropy(0.1),
    }[loss]
    for model in (softmax, logits):
        model.compile("sgd", loss=loss)
    a, b = evaluate(softmax, images, labels), evaluate(logits, images, labels)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


def test_smoothed_labels_train_every_output(tmp_path):
    model = small_supervised(superclasses=["x", "y", "x"], dropout=0.0)
    model.compile("sgd", loss=SmoothedCrossentropy(0.2), metrics=None)
    images, labels = small_pictures()
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    members = {"main": np.eye(3), "aux": np.eye(2)[[0, 1, 0]]}
    one_hot, losses = np.eye(3)[labels], {}
    for name, answer in again.predict(images, verbose=0).items():
        own = one_hot @ members[name]
        smooth = 0.8 * own + 0.2 / own.shape[1]
        losses[name] = -(smooth * np.log(answer)).sum(axis=1)
    for given in (labels, labels[:, None], one_hot):
        # one compiled step would see labels of any shape
        again = keras.saving.load_model(tmp_path / "m.keras")
        logs = evaluate(again, images, given)
        for name, loss in losses.items():
            assert logs[f"{name}_loss"] == pytest.approx(loss.mean(), rel=1e-5)
    rows = [ki.gradient_flow(again, images, given) for given in (labels, one_hot)]
    for one, other in zip(*rows, strict=True):
        assert one.norm == pytest.approx(other.norm, rel=1e-4)
    logs = again.train_on_batch(images, labels, class_weight={1: 3.0}, return_dict=True)
    weighed = np.where(labels == 1, 3, 1) * losses["main"]
    assert logs["main_loss"] == pytest.approx(weighed.mean(), rel=1e-5)


def test_class_weight_and_sample_weight_reach_every_head(model, pictures):
    images, labels = pictures
    class_weight = {0: 0.0, 1: 2.0, 2: 0.5}
    sample_weight = np.array([class_weight[label] for label in labels])
    by_sample = evaluate(model, images, labels, sample_weight=sample_weight)
    probabilities = model.predict(images, verbose=0)
    for name, p in probabilities.items():
        losses = -np.log(p[np.arange(len(labels)), labels]) * sample_weight
        assert by_sample[f"{name}_loss"] == pytest.approx(losses.mean(), rel=1e-5)

    def trained(**weights):
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        for layer in copy.layers:  # dropout would make the two trainings differ
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
        copy.compile(keras.optimizers.SGD(0.01))
        copy.fit(images, labels, batch_size=8, verbose=0, **weights)
        return copy.get_weights()

    for a, b in zip(
        trained(class_weight=class_weight),
        trained(sample_weight=sample_weight),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def weights_after_a_step(form, **weights):
    """All weights after one step on the same pictures, given in some form."""
    keras.utils.set_random_seed(3)
    images, labels = small_pictures()
    model = small_supervised(superclasses=["pet", "tool", "pet"], dropout=0.0)
    loss = "categorical_crossentropy" if form == "one-hot" else None
    model.compile(keras.optimizers.SGD(0.1), **({"loss": loss} if loss else {}))
    if form == "one-hot":
        labels = np.eye(CLASSES, dtype="float32")[labels]
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(len(images))
    match form:
        case "dataset":
            model.fit(data, shuffle=False, verbose=0, **weights)
        case "one batch":
            model.train_on_batch(images, labels, **weights)
        case _:
            model.fit(images, labels, verbose=0, **weights)
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


@pytest.mark.parametrize("form", ["arrays", "dataset", "one batch", "one-hot"])
def test_classes_without_a_class_weight_weigh_one(form):
    _, labels = small_pictures()
    by_class = weights_after_a_step(form, class_weight={np.int64(0): 2})
    by_sample = weights_after_a_step("arrays", sample_weight=1.0 + (labels == 0))
    np.testing.assert_allclose(by_class, by_sample, atol=1e-7)
    assert not np.allclose(by_class, weights_after_a_step("arrays"), atol=1e-4)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({0: 1.0, 3: 2.0}, "unknown classes: 3. The classes are numbered 0 to 2"),
        ({"ant": 2.0}, "unknown classes: 'ant'"),
        ({0: -1.0}, "weight of 'class 0' must be a finite number of at least 0"),
        ([1.0, 2.0, 3.0], "is a dict from class number.*of type list"),
    ],
)
def test_class_weight_names_what_is_wrong(class_weight, message):
    model = small_supervised()
    images, labels = small_pictures()
    with pytest.raises(ValueError, match=message):
        model.fit(images, labels, class_weight=class_weight, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.train_on_batch(images, labels, class_weight=class_weight)


def test_class_weight_goes_with_one_label_for_each_picture():
    model, (images, labels) = small_supervised(), small_pictures()
    by_output = dict.fromkeys(model.output, labels)
    data = tf.data.Dataset.from_tensor_slices((images, by_output)).batch(4)
    weights = {"class_weight": {0: 2.0}}
    message = r"Received labels by output \('main', 'aux'\): give main's alone"
    for train, given in (
        (model.fit, (images, by_output)),
        (model.fit, (data,)),
        (model.train_on_batch, (images, by_output)),
    ):
        with pytest.raises(ValueError, match=message):
            train(*given, **weights)
    model.fit(images, by_output, verbose=0)


def test_dicts_by_output_may_be_other_mappings(tmp_path):
    model = small_supervised()
    loss = dict.fromkeys(model.output, "sparse_categorical_crossentropy")
    accuracy = {name: ["accuracy"] for name in model.output}
    given = {"loss_weights": {"aux": 0.5}, "loss": loss, "metrics": accuracy}
    given["weighted_metrics"] = accuracy
    model.compile("sgd", **{n: MappingProxyType(x) for n, x in given.items()})
    assert float(model.auxiliary_weights["aux"]) == 0.5
    model.fit(*small_pictures(), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert float(again.auxiliary_weights["aux"]) == 0.5
    with pytest.raises(ValueError, match="loss_weights has unknown outputs: 'aux_4a'"):
        model.compile("sgd", loss_weights=MappingProxyType({"aux_4a": 0.5}))


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("auxiliary", lambda: short_googlenet(auxiliary="abc")),
        ("auxiliary", lambda: keep_heads({}, {}, "abc", "a file")),
        ("class_names", lambda: short_googlenet(class_names="abc")),
        ("class_names", lambda: setattr(small_supervised(), "class_names", "abc")),
        ("class_names", lambda: classifier_and_names(small_supervised(), "abc")),
        (
            "exits",
            lambda: ki.EarlyExit.calibrate(
                small_supervised(), small_pictures(), exits="abc"
            ),
        ),
    ],
)
def test_a_string_is_no_list_of_names(argument, call):
    """Its letters would be three names, as many as there are classes."""
    message = rf"{argument} is a list of names; write \['abc'\] for one"
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("heads", [True, False])
def test_callbacks_know_which_logs_should_rise(heads, tmp_path):
    """Keras's own callbacks, without `mode`."""
    images, labels = small_pictures()
    model = small_supervised()
    if not heads:
        model = ki.attach_auxiliary(ki.detach_auxiliary(model), [])
    top2 = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top_2")
    entropy = keras.metrics.SparseCategoricalCrossentropy(name="entropy")
    model.compile("sgd", metrics=["accuracy", top2], weighted_metrics=[entropy])
    logs = {"val_main_accuracy": "max", "main_top_2": "max", "val_main_loss": "min"}
    logs |= {"val_loss": "min", "val_main_entropy": "min"}
    logs |= {"val_aux_accuracy": "max", "val_aux_loss": "min"} if heads else {}
    callbacks = []
    for log, mode in logs.items():
        one = keras.callbacks.EarlyStopping(log, patience=9)
        same = keras.callbacks.EarlyStopping(log, patience=9, mode=mode)
        callbacks += [one, same, keras.callbacks.ReduceLROnPlateau(log)]
    path = tmp_path / "best.keras"
    callbacks += [
        keras.callbacks.ModelCheckpoint(path, "val_main_accuracy", save_best_only=True)
    ]
    history = model.fit(
        images,
        labels,
        validation_data=(images, labels),
        epochs=2,
        verbose=0,
        callbacks=callbacks,
    ).history
    assert set(logs) <= set(history)
    assert not any("directions" in name for name in history)
    for one, same, reduce in zip(*[iter(callbacks[:-1])] * 3, strict=True):
        assert one.monitor_op is same.monitor_op is reduce.monitor_op, one.monitor
        assert one.best == same.best
    assert path.exists()
    unknown = keras.callbacks.EarlyStopping("val_main_f1")
    with pytest.raises(ValueError, match="Pass `mode='max'`"):
        model.fit(images, labels, verbose=0, callbacks=[unknown])


def test_the_trunk_after_4a_gets_no_gradient_from_aux_4a(pictures):
    model = tiny_googlenet()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(pictures[0])["aux_4a"][:, 0])
    trunk = [
        v for v in model.trainable_variables if not v.path.startswith(("aux_", "main_"))
    ]
    gradients = tape.gradient(loss, [v.value for v in trunk])
    reached = {
        v.path.split("/")[0]
        for v, gradient in zip(trunk, gradients, strict=True)
        if gradient is not None
    }
    # modules 3a, 3b and 4a with six convolutions each, and the stem's three
    assert len(reached) == 3 + 3 * 6
    assert {name[:12] for name in reached if name.startswith("inception")} == {
        "inception_3a",
        "inception_3b",
        "inception_4a",
    }


def test_every_parameter_gets_a_gradient(pictures):
    model = tiny_googlenet()
    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_sum(p[:, 0]) for p in model(pictures[0]).values())
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert all(gradient is not None for gradient in gradients)


class SetWeight(keras.callbacks.Callback):
    """Sets the loss weight of aux_4a to 0 from the second epoch on."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.auxiliary_weights["aux_4a"].assign(0.0)


def test_weights_change_while_training_without_another_trace(pictures):
    traced = []

    def loss(y_true, y_pred):
        traced.append(y_pred)  # called when the step is traced, not when it runs
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

    class CountTraces(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            counts.append(len(traced))

    counts = []
    model = short_googlenet()
    model.compile(keras.optimizers.SGD(0.0), loss=loss)
    history = model.fit(
        *pictures, epochs=2, verbose=0, callbacks=[SetWeight(), CountTraces()]
    ).history
    assert counts[0] == counts[1] > 0
    for epoch, weight in enumerate((0.3, 0.0)):
        logs = {name: values[epoch] for name, values in history.items()}
        expected = (
            logs["main_loss"] + weight * logs["aux_4a_loss"] + 0.3 * logs["aux_4d_loss"]
        )
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_loss_weights_are_not_parameters(model):
    before = short_googlenet().count_params()
    assert model.count_params() == before
    assert not any("loss_weight" in v.path for v in model.variables)


def test_keras_file_keeps_everything(model, pictures, tmp_path):
    model.class_names = ["ant", "bee", "cat"]
    model.compile("sgd", loss_weights={"aux_4a": 0.5, "aux_4d": 0.25})
    model.fit(*pictures, verbose=0)
    model.auxiliary_weights["aux_4d"].assign(0.125)
    expected = evaluate(model, *pictures)
    path = tmp_path / "model.keras"
    model.save(path)
    assert "pickle" not in " ".join(zipfile.ZipFile(path).namelist())
    again = keras.saving.load_model(path, safe_mode=True)
    assert type(again) is ki.DeeplySupervised
    assert again.class_names == ["ant", "bee", "cat"]
    assert again.heads == ["aux_4a", "aux_4d"]
    assert evaluate(again, *pictures) == expected
    weights = {name: float(v) for name, v in again.auxiliary_weights.items()}
    assert weights == {"aux_4a": 0.5, "aux_4d": 0.125}
    iterations = [int(m.optimizer.iterations) for m in (again, model)]
    assert iterations[0] == iterations[1]
    again.fit(*pictures, verbose=0)


def test_clone_of_a_compiled_model(model, pictures):
    clone = keras.models.clone_model(model)
    assert type(clone) is ki.DeeplySupervised
    clone.set_weights(model.get_weights())
    assert evaluate(clone, *pictures) == evaluate(model, *pictures)


@pytest.mark.parametrize("compiled", [True, False])
def test_copies_keep_class_names_superclasses_and_weights(compiled):
    model = small_supervised(superclasses=["pet", "tool", "pet"], loss_weights=0.5)
    if not compiled:
        model = type(model).from_config(model.get_config())
    model.class_names = ["cat", "saw", "dog"]
    copies = {
        "clone_model": keras.models.clone_model(model),
        "from_config": type(model).from_config(model.get_config()),
        "deepcopy": copy.deepcopy(model),
        "pickle": pickle.loads(pickle.dumps(model)),
        "json": keras.models.model_from_json(model.to_json()),
    }
    for name, one in copies.items():
        assert type(one) is ki.DeeplySupervised, name
        assert one.output_class_names == {
            "main": ["cat", "saw", "dog"],
            "aux": ["pet", "tool"],
        }, name
        one.class_names = None
        if compiled and name != "from_config":  # a configuration of layers alone
            assert float(one.auxiliary_weights["aux"]) == 0.5, name
    assert model.class_names == ["cat", "saw", "dog"]


def test_models_that_share_layers_share_class_names(model):
    model.class_names = ["ant", "bee", "cat"]
    attached = ki.attach_auxiliary(ki.detach_auxiliary(model), ["inception_5b"])
    assert attached.class_names == model.class_names == ["ant", "bee", "cat"]


def test_hdf5_is_refused_in_one_line(tmp_path):
    model = small_supervised()
    for save in (model.save, lambda path: keras.saving.save_model(model, path)):
        for name in ("model.h5", "model.hdf5"):
            with pytest.raises(
                ValueError, match=r"model\.save\('model\.keras'\)"
            ) as no:
                save(tmp_path / name)
            assert "\n" not in str(no.value)
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").compiled


def test_weights_files_fit_compiled_and_uncompiled_models(model, tmp_path):
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    fresh = short_googlenet()
    fresh.load_weights(path)
    for a, b in zip(fresh.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_head_with_superclasses_trains_on_them(pictures, tmp_path):
    images, labels = pictures
    superclass_head = ki.AuxiliaryHead(
        "inception_4a", superclasses=["pet", "tool", "pet"]
    )
    model = short_googlenet(auxiliary=(superclass_head, "inception_4d"))
    assert model.output["aux_4a"].shape == (None, 2)
    model.compile("sgd")
    sparse = evaluate(model, images, labels)
    p = model.predict(images, verbose=0)["aux_4a"]
    own = np.array([0, 1, 0])[labels]
    by_hand = -np.mean(np.log(p[np.arange(len(own)), own]))
    assert sparse["aux_4a_loss"] == pytest.approx(by_hand, rel=1e-5)
    model.compile("sgd", loss="categorical_crossentropy")
    one_hot = evaluate(model, images, np.eye(CLASSES)[labels])
    assert one_hot == pytest.approx(sparse, rel=1e-5)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.get_layer("aux_4a").superclass_names == ["pet", "tool"]
    assert evaluate(again, images, np.eye(CLASSES)[labels]) == one_hot


def test_detached_model_shares_weights_and_answers_alike(model, pictures):
    main = ki.detach_auxiliary(model)
    images = pictures[0]
    np.testing.assert_array_equal(
        main.predict(images, verbose=0), model.predict(images, verbose=0)["main"]
    )
    kernel = "conv1_7x7_s2"
    assert main.get_layer(kernel) is model.get_layer(kernel)
    assert not any(layer.name.startswith("aux") for layer in main.layers)
    with pytest.raises(ValueError, match="main"):
        ki.detach_auxiliary(main)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss_weights": {"aux_4a": 0.3}}, "leaves out: 'aux_4d'"),
        (
            {"loss_weights": {"aux_4a": 1, "aux_4d": 1, "Main": 1}},
            "unknown outputs: 'Main'",
        ),
        ({"loss_weights": [1, 0.3, 0.3]}, "list of 3, which does not name the outputs"),
        ({"loss_weights": -0.3}, "at least 0"),
        ({"loss_weights": float("nan")}, "at least 0"),
        ({"loss_weights": "much"}, "at least 0"),
        ({"loss": {"main": "mse"}}, "leaves out: 'aux_4a', 'aux_4d'"),
        ({"loss": ["mse", "mse", "mse"]}, "or a dict by output.*'aux_4a'"),
        ({"metrics": {"mian": "accuracy"}}, "'mian'"),
        ({"distillation": -1}, "weight of 'distillation' must be .* at least 0"),
        ({"distillation": 0.5, "temperature": 0}, "temperature must be .* above 0"),
    ],
)
def test_compile_names_what_is_wrong(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.compile("sgd", **arguments)


def test_coarse_heads_do_not_learn_mains_answers():
    model = small_supervised(superclasses=["pet", "tool", "pet"])
    with pytest.raises(ValueError, match="needs a head that predicts main's classes"):
        model.compile("sgd", distillation=0.5)


def test_labels_by_name_must_be_whole(model, pictures):
    images, labels = pictures
    with pytest.raises(ValueError, match="leaves out: 'aux_4a', 'aux_4d'"):
        model.fit(images, {"main": labels}, verbose=0)
    with pytest.raises(ValueError, match="labels takes a single value for all outputs"):
        model.fit(images, (labels, labels, labels), verbose=0)


def test_metric_instances_are_not_shared(model, pictures):
    top2 = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top_2")
    model.compile("sgd", metrics=["accuracy", top2])
    logs = evaluate(model, *pictures)
    assert {f"{name}_top_2" for name in OUTPUTS} <= set(logs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dropout": 1.0}, "dropout"),
        ({"units": 0}, "units"),
        ({"name": "main"}, "can't be the name of a head"),
        ({"superclasses": ["a", "a", "a"]}, "at least two"),
        ({"superclasses": ["a", 1, "b"]}, "all names or all numbers"),
    ],
)
def test_heads_refuse_bad_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        ki.AuxiliaryHead("inception_4a", **arguments)


def test_superclasses_must_be_one_per_class():
    head = ki.AuxiliaryHead("inception_4a", superclasses=["a", "b"])
    with pytest.raises(ValueError, match="each of the 3 classes"):
        short_googlenet(auxiliary=(head,))


def test_a_head_is_found_by_its_endpoint_or_its_output():
    outputs = ["main", "aux_4a", "aux_conv3", "early"]
    assert output_name("inception_4a", outputs) == "aux_4a"
    assert output_name("conv3", outputs) == "aux_conv3"
    for name in outputs:
        assert output_name(name, outputs) == name
    with pytest.raises(ValueError, match="'inception_4d'") as raised:
        output_name("inception_4d", outputs)
    listed = "main, aux_4a (inception_4a), aux_conv3 (conv3), early"
    assert str(raised.value).endswith(listed)


def test_auxiliary_weights_need_compile():
    with pytest.raises(ValueError, match="before compile"):
        _ = short_googlenet().auxiliary_weights
