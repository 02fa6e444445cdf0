"""The TensorBoard callback, read back with TensorBoard's own reader."""

import keras
import numpy as np
import pytest
from conftest import hparams, logged, small_pictures, small_supervised

import keras_inception as ki
from keras_inception import GradientFlow
from keras_inception.training import TensorBoard
from keras_inception.training.plots import draw_predictions

CURVES = {
    "loss/total",
    "loss/main",
    "loss/aux",
    "accuracy/main",
    "accuracy/aux",
}


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("board")
    model = small_supervised(loss_weights=0.3)
    pictures = small_pictures()
    hparams = {"width": 0.5, "heads": "aux", "batch_norm": True, "rate": None}
    board = TensorBoard(directory, pictures[0][:5], pictures[1][:5], hparams)
    model.fit(
        *pictures, validation_data=pictures, epochs=3, callbacks=[board], verbose=0
    )
    return directory


def test_tags_are_these_and_no_others(log_dir):
    runs = logged(log_dir)
    assert set(runs) == {".", "train", "validation"}
    assert set(runs["train"]) == CURVES | {
        "loss_weight/aux",
        "schedule/learning_rate",
        "graph",
    }
    assert set(runs["validation"]) == CURVES | {"examples/predictions"}
    assert set(runs["."]) == {
        "_hparams_/experiment",
        "_hparams_/session_start_info",
    }
    columns, filled = hparams(log_dir)
    assert filled == {"width", "heads", "batch_norm"}
    assert columns == filled | {"rate"}  # which other runs have
    for run in ("train", "validation"):
        for tag, steps in runs[run].items():
            assert tag == "graph" or steps == [1, 2, 3], (run, tag)


def test_curves_hold_what_keras_logs(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    model = small_supervised(loss_weights=0.125)
    pictures = small_pictures()
    history = model.fit(
        *pictures,
        validation_data=pictures,
        epochs=2,
        callbacks=[TensorBoard(tmp_path)],
        verbose=0,
    ).history
    for run, tag, log in (
        ("train", "loss/total", "loss"),
        ("train", "accuracy/main", "main_accuracy"),
        ("validation", "loss/aux", "val_aux_loss"),
    ):
        events = EventAccumulator(str(tmp_path / run)).Reload().Tensors(tag)
        values = [float(tensor_util.make_ndarray(e.tensor_proto)) for e in events]
        assert values == pytest.approx(history[log], rel=1e-6)
    events = EventAccumulator(str(tmp_path / "train")).Reload()
    weight = events.Tensors("loss_weight/aux")[0].tensor_proto
    assert float(tensor_util.make_ndarray(weight)) == pytest.approx(0.125)


def test_wrong_predictions_are_red():
    model = small_supervised()
    model.class_names = ["ant", "bee", "cat"]
    images, labels = small_pictures(3)
    said = model.predict(images, verbose=0)
    right = {name: said[name].argmax(-1) for name in said}
    picture = draw_predictions(model, images, labels)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    # with the labels that the outputs give, nothing is drawn in the color of mistakes
    agreeing = draw_predictions(model, images, right["main"])
    wrong = right["aux"] != right["main"]
    assert _has_color(agreeing, (192, 57, 43)) == wrong.any()
    others = (right["main"] + 1) % 3
    assert _has_color(draw_predictions(model, images, others), (192, 57, 43))


def _has_color(picture, color):
    return bool((np.abs(picture.astype(int) - color).max(-1) < 3).any())


def test_coarse_heads_are_compared_with_the_superclass():
    """A prediction is red if it is wrong, and only then."""
    model = small_supervised(superclasses=["insect", "insect", "mammal"])
    images, _ = small_pictures(1)
    classes = model.predict(images, verbose=0)["main"].shape[-1]
    head = model.get_layer("aux_classifier")
    head.set_weights([np.zeros_like(w) for w in head.get_weights()])
    head.bias.assign([5.0, 0.0])  # always "insect", whose classes are 0 and 1
    main = model.get_layer("main")
    for label in range(classes):
        main.set_weights([np.zeros_like(w) for w in main.get_weights()])
        main.bias.assign(5.0 * np.eye(classes)[label])  # main is always right
        picture = draw_predictions(model, images, [label])
        assert _has_color(picture, (192, 57, 43)) == (label == 2)
        assert _has_color(picture, (0, 122, 83))


def test_outputs_whose_names_share_a_beginning_have_tags_of_their_own(tmp_path):
    """Keras's default layer names give heads such as `aux_lstm` and `aux_lstm_1`."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(images)
    first = keras.layers.Dense(4, activation="relu", name="lstm")(x)
    second = keras.layers.Dense(4, activation="relu", name="lstm_1")(first)
    main = keras.layers.Dense(3, activation="softmax")(second)
    model = ki.attach_auxiliary(keras.Model(images, main), ["lstm", "lstm_1"])
    model.compile("sgd")
    model.fit(*small_pictures(), callbacks=[TensorBoard(tmp_path)], verbose=0)
    tags = set(logged(tmp_path)["train"])
    outputs = ("main", "aux_lstm", "aux_lstm_1")
    assert {f"{log}/{o}" for log in ("loss", "accuracy") for o in outputs} <= tags
    assert not any(tag.startswith("1_") for tag in tags)


def test_a_profile_is_written_on_request(tmp_path):
    model = small_supervised()
    board = TensorBoard(tmp_path, profile_steps=(2, 3))
    model.fit(*small_pictures(), batch_size=3, callbacks=[board], verbose=0)
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_steps_to_profile_are_in_order(tmp_path):
    with pytest.raises(ValueError, match=r"Received: \(3, 2\)"):
        TensorBoard(tmp_path, profile_steps=(3, 2))
    model = small_supervised()
    board = TensorBoard(tmp_path, profile_steps=(2, 99))  # there are fewer
    model.fit(*small_pictures(), batch_size=3, callbacks=[board], verbose=0)
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_a_resumed_run_logs_every_point_once(tmp_path):
    """Curves by epoch and curves by step, after a kill behind the checkpoint."""
    data, model = small_pictures(), small_supervised()
    for first, steps_done in ((0, 0), (1, 3)):
        model.optimizer.iterations.assign(steps_done)  # as in the checkpoint
        callbacks = [
            TensorBoard(tmp_path),
            GradientFlow(*data, tmp_path / "by epoch"),
            GradientFlow(*data, tmp_path / "by step", every_steps=1),
        ]
        run = {"initial_epoch": first, "epochs": 3, "callbacks": callbacks}
        model.fit(*data, batch_size=4, verbose=0, **run)
    found = logged(tmp_path)
    assert found["train"]["loss/main"] == [1, 2, 3]
    stage = "gradient_norm/first"
    assert found["by epoch/gradients/main"][stage] == [0, 1, 2, 3]
    assert found["by step/gradients/main"][stage] == list(range(10))
