"""Early exits: the same answers, really skipped, calibrated and served."""

import dataclasses
import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import bright_and_dark, small_pictures, small_supervised
from keras import layers

import keras_inception as ki
from keras_inception.early_exit import search
from keras_inception.early_exit.answers import collect_answers, stratified_halves
from keras_inception.early_exit.confidence import (
    MEASURES,
    fit_temperature,
    softmax,
    tempered,
)
from keras_inception.export.folding import inference_model
from keras_inception.export.signatures import build_signatures

CLASSES = 3
HEAD = {"filters": 4, "units": 8}


@pytest.fixture(scope="module")
def model():
    """An untrained GoogLeNet without its later modules, with two heads.

    Its answers vary, so that every exit is confident of some pictures.
    """
    keras.utils.set_random_seed(3)
    kept = ("conv1", "pool1", "inception_3a", "inception_3b", "inception_4a", "pool5")
    rows = {k: v for k, v in ki.GOOGLENET_SMALL.rows.items() if k.startswith(kept)}
    short = dataclasses.replace(ki.GOOGLENET_SMALL, rows=rows)
    return ki.GoogLeNet(
        (32, 32, 3),
        classes=CLASSES,
        auxiliary=[ki.AuxiliaryHead(f"inception_3{x}", **HEAD) for x in "ab"],
        architecture=short,
        width=0.125,
    )


@pytest.fixture(scope="module")
def images():
    return bright_and_dark()


@pytest.fixture(scope="module")
def alone(model, images):
    """Every output's answers to every picture."""
    return model.predict(images, verbose=0)


def thresholds_at(alone, share, names=("aux_3a", "aux_3b"), measure="max_probability"):
    return {
        name: float(np.quantile(MEASURES[measure](alone[name]), share))
        for name in names
    }


@pytest.mark.parametrize("measure", list(MEASURES))
def test_every_answer_is_that_of_its_exit_computed_alone(model, images, alone, measure):
    random = np.random.default_rng(1)
    seen = set()
    for _ in range(6):
        thresholds = {
            name: thresholds_at(alone, random.uniform(), [name], measure)[name]
            for name in ("aux_3a", "aux_3b")
        }
        early = ki.EarlyExit(model, thresholds, confidence=measure)
        for batch_size in (1, int(random.integers(2, 30))):
            probabilities, exits = early.predict(images, batch_size)
            seen |= set(exits)
            for row, name in enumerate(exits):
                np.testing.assert_allclose(
                    probabilities[row], alone[name][row], atol=1e-5
                )
                # and it left at the first exit that was confident
                for other in ("aux_3a", "aux_3b"):
                    confidence = MEASURES[measure](alone[other][row])
                    if other == name:
                        assert confidence >= thresholds[other] - 1e-5
                        break
                    assert confidence < thresholds[other] + 1e-5
    assert seen == {"aux_3a", "aux_3b", "main"}


def test_where_nothing_leaves_the_answers_are_the_models(model, images, alone):
    for thresholds in ({}, {"aux_3a": 1.1, "aux_3b": np.inf}):
        probabilities, exits = ki.EarlyExit(model, thresholds).predict(images)
        assert set(exits) == {"main"}
        np.testing.assert_array_equal(probabilities, alone["main"])
    probabilities, exits = ki.EarlyExit(model, {"aux_3b": 0}).predict(images)
    assert set(exits) == {"aux_3b"}
    np.testing.assert_array_equal(probabilities, alone["aux_3b"])


class CountsRows(layers.Layer):
    """Passes its input on and notes how many rows each batch really had."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.batches = []

    def call(self, x):
        def note(values):
            self.batches.append(len(values))
            return values

        noted = tf.numpy_function(note, [x], x.dtype)
        noted.set_shape(x.shape)
        return noted


def test_later_segments_compute_only_the_pictures_that_stay(images):
    inputs = keras.Input((32, 32, 3))
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 64)(inputs))
    counters = [CountsRows(name=f"count{i}") for i in range(3)]
    for index, counter in enumerate(counters[:2]):
        x = layers.Dense(4, name=f"dense{index}")(counter(x))
    plain = keras.Model(inputs, layers.Dense(CLASSES)(counters[2](x)))
    heads = [ki.AuxiliaryHead(f"dense{i}", units=32) for i in range(2)]
    model = ki.attach_auxiliary(plain, heads)
    alone = {name: softmax(np.array(logits)) for name, logits in model(images).items()}

    def predict(thresholds, batch_size):
        early = ki.EarlyExit(model, thresholds)
        counts = [model.get_layer(counter.name).batches for counter in counters]
        for count in counts:
            count.clear()
        _, exits = early.predict(images, batch_size)
        return counts, [int(np.sum(exits == name)) for name in model.output]

    thresholds = thresholds_at(alone, 0.6, ["aux_dense0"])
    stay = MEASURES["max_probability"](alone["aux_dense0"]) < thresholds["aux_dense0"]
    rest = {"aux_dense1": alone["aux_dense1"][stay]}
    thresholds |= thresholds_at(rest, 0.6, ["aux_dense1"])
    counts, (main, first, second) = predict(thresholds, batch_size=23)
    assert min(main, first, second) > 0
    assert counts == [[23], [23 - first], [main]]
    # those that stay wait until they fill a batch
    counts, _ = predict(thresholds, batch_size=3)
    assert [sum(count) for count in counts] == [23, 23 - first, main]
    assert set(counts[1][:-1] + counts[2][:-1]) == {3}
    # where all leave, the rest of the network does not run
    assert predict({"aux_dense0": 0.0}, batch_size=23)[0] == [[23], [], []]


def test_segments_share_layers_and_compute_each_once(model):
    early = ki.EarlyExit(model, {"aux_3b": 0.5, "aux_3a": 0.5})
    assert [segment.name for segment in early.segments] == ["aux_3a", "aux_3b", "main"]
    names = [
        layer.name
        for segment in early.segments
        for layer in segment.model.layers
        if not isinstance(layer, layers.InputLayer)
    ]
    assert len(names) == len(set(names))
    assert set(names) == {
        x.name for x in model.layers if not isinstance(x, layers.InputLayer)
    }
    for segment in early.segments:
        for layer in segment.model.layers:
            if layer.weights:
                assert layer is model.get_layer(layer.name)
    # the head that isn't an exit isn't computed
    (first, last) = ki.EarlyExit(model, {"aux_3b": 0.5}).segments
    assert not any("aux_3a" in x.name for x in first.model.layers + last.model.layers)


def test_training_in_between_counts(images):
    inputs = keras.Input((32, 32, 3))
    x = layers.GlobalAveragePooling2D(name="mean")(inputs)
    plain = keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x))
    model = ki.attach_auxiliary(plain, [ki.AuxiliaryHead("mean", units=4)])
    early = ki.EarlyExit(model, {"aux_mean": 0.0})
    early.predict(images)
    model.set_weights([weight * 0.5 for weight in model.get_weights()])
    expected = model.predict(images, verbose=0)["aux_mean"]
    np.testing.assert_allclose(early.predict(images)[0], expected, atol=1e-6)


def test_exits_inside_of_residual_blocks_and_logits(images):
    """A head within a block: more than one tensor goes from segment to segment."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    for index in range(2):
        inside = layers.Conv2D(3, 3, padding="same", name=f"inside{index}")(x)
        more = layers.Conv2D(3, 3, padding="same", activation="relu")(inside)
        x = layers.Add(name=f"sum{index}")([x, more])
    x = layers.Concatenate()([x, inputs])
    x = layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x))
    heads = [ki.AuxiliaryHead(f"inside{i}", **HEAD) for i in range(2)]
    model = ki.attach_auxiliary(keras.Model(inputs, x), heads)
    alone = {n: softmax(v) for n, v in model.predict(images, verbose=0).items()}
    thresholds = thresholds_at(alone, 0.6, model.heads)
    probabilities, exits = ki.EarlyExit(model, thresholds).predict(images, 7)
    assert set(exits) == {"aux_inside0", "aux_inside1", "main"}
    for row, name in enumerate(exits):
        np.testing.assert_allclose(probabilities[row], alone[name][row], atol=1e-5)


def test_grid_counts_what_a_loop_counts():
    random = np.random.default_rng(0)
    confidences = [np.round(random.uniform(size=40), 2) for _ in range(2)]
    right = [random.uniform(size=40) < share for share in (0.5, 0.6, 0.7)]

    def cost(used, answer):
        return 10 * (answer + 1) + sum(used[: answer + 1])

    grid = search.evaluate_grid(confidences, right, cost)
    for cell in random.choice(grid.cost.size, 50):
        thresholds = grid.thresholds(cell)
        used = [t != search.NEVER for t in thresholds]
        answers = [
            next((k for k in range(2) if confidences[k][i] >= thresholds[k]), 2)
            for i in range(40)
        ]
        hits = np.mean([right[k][i] for i, k in enumerate(answers)])
        costs = np.mean([cost(used, k) for k in answers])
        assert grid.accuracy.ravel()[cell] == pytest.approx(hits)
        assert grid.cost.ravel()[cell] == pytest.approx(costs)
        for k in range(3):
            share = np.mean([answer == k for answer in answers])
            assert grid.shares[k].ravel()[cell] == pytest.approx(share)
    cells = grid.pareto_front()
    assert np.all(np.diff(grid.cost.ravel()[cells]) > 0)
    assert np.all(np.diff(grid.accuracy.ravel()[cells]) > 0)
    assert grid.accuracy.ravel()[cells[-1]] == grid.accuracy.max()


def test_halves_hold_half_of_every_class():
    labels = np.repeat([0, 1, 2], [10, 7, 1])
    chooses, checks = stratified_halves(labels, seed=0)
    assert sorted([*chooses, *checks]) == list(range(18))
    assert list(np.bincount(labels[chooses])) == [5, 3, 1]
    assert list(np.bincount(labels[checks], minlength=3)) == [5, 4, 0]
    assert not np.array_equal(checks, stratified_halves(labels, seed=1)[1])


def test_one_picture_of_each_class_calibrates(model, images):
    labels = np.array([0, 1, 2])
    for level in (None, 0.9):
        early = ki.EarlyExit.calibrate(
            model, (images[:3], labels), confidence_level=level
        )
        assert early.calibration.examples == 3
    with pytest.raises(ValueError, match="at least 2 are needed"):
        ki.EarlyExit.calibrate(model, (images[:1], labels[:1]))


@pytest.mark.parametrize("measure", list(MEASURES))
def test_confidence_of_arrays_and_of_tensors_is_the_same(measure):
    logits = np.random.default_rng(0).normal(0, 9, (500, 10)).astype("float32")

    def confidence(logits):
        return MEASURES[measure](tempered(softmax(logits), 1.7))

    expected = confidence(logits)
    assert expected.dtype == "float32"
    for function in (confidence, tf.function(confidence)):
        found = function(tf.constant(logits))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_temperature_corrects_overconfidence():
    random = np.random.default_rng(0)
    calibrated_answers = softmax(random.normal(size=(4000, CLASSES)) * 2)
    labels = np.array([random.choice(CLASSES, p=p) for p in calibrated_answers])
    assert fit_temperature(calibrated_answers, labels) == pytest.approx(1, abs=0.1)
    overconfident = tempered(calibrated_answers, 1 / 3)
    assert fit_temperature(overconfident, labels) == pytest.approx(3, rel=0.1)
    np.testing.assert_allclose(
        tempered(overconfident, 3), calibrated_answers, atol=1e-6
    )


@pytest.fixture(scope="module")
def calibrated(model, images, alone):
    """Exits for labels of which main gets 20 of 23 right, and those labels."""
    labels = alone["main"].argmax(-1)
    labels[:3] = (labels[:3] + 1) % CLASSES
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(5)
    return ki.EarlyExit.calibrate(model, dataset, 0.05), labels


def test_calibration_keeps_its_promise(model, images, alone, calibrated):
    early, labels = calibrated
    found = early.calibration
    probabilities, exits = early.predict(images)
    accuracy = np.mean(probabilities.argmax(-1) == labels)
    assert found.main.accuracy == pytest.approx(20 / 23)
    assert accuracy == pytest.approx(found.chosen.accuracy)
    assert accuracy >= found.main.accuracy - 0.05
    shares = {name: np.mean(exits == name) for name in set(exits)}
    assert shares == pytest.approx(found.chosen.shares)
    assert found.exit_accuracy["aux_3a"] == pytest.approx(
        np.mean(alone["aux_3a"].argmax(-1) == labels)
    )
    # the counted cost, from the segments themselves
    costs = np.cumsum([sum(ki.multiply_adds(s.model).values()) for s in early.segments])
    by_name = dict(zip([s.name for s in early.segments], costs, strict=True))
    mean = np.mean([by_name[name] for name in exits])
    assert found.chosen.multiply_adds == pytest.approx(mean)
    main = ki.multiply_adds(ki.detach_auxiliary(model))
    assert found.main.multiply_adds == sum(main.values())
    assert found.chosen.multiply_adds <= found.main.multiply_adds
    assert found.best.accuracy >= found.main.accuracy


def test_no_allowance_costs_no_accuracy(model, images, calibrated):
    _, labels = calibrated
    early = ki.EarlyExit.calibrate(model, (images, np.eye(CLASSES)[labels]), 0.0)
    probabilities, _ = early.predict(images)
    assert np.mean(probabilities.argmax(-1) == labels) >= 20 / 23
    everything = ki.EarlyExit.calibrate(model, (images, labels), 0.99)
    assert set(everything.predict(images)[1]) == {"aux_3a"}


def test_an_exit_that_knows_better_raises_accuracy(model, images, alone):
    labels = alone["aux_3a"].argmax(-1)
    early = ki.EarlyExit.calibrate(model, (images, labels), 0.0)
    assert early.calibration.raises_accuracy
    wrong = np.mean(alone["main"].argmax(-1) != labels)
    assert early.calibration.overthought == pytest.approx(wrong)


def test_a_deep_exit_comes_last_though_its_head_has_fewer_layers():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(2, 3, activation="relu", name="early")(inputs)
    x = layers.Dense(4, activation="relu", name="late")(layers.Flatten()(x))
    plain = keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x))
    model = ki.attach_auxiliary(plain, ["early", "late"])
    early = ki.EarlyExit(model, {"aux_late": 0.5, "aux_early": 0.5})
    order = [segment.name for segment in early.segments]
    assert order == ["aux_early", "aux_late", "main"]


def test_a_threshold_divides_neighboring_floats_as_they_were_counted():
    below = np.nextafter(np.float32(1), np.float32(0))
    values = np.array([np.nextafter(below, np.float32(0)), below, 1], "float32")
    right = [np.array([False, True, True]), np.array([True, True, True])]
    grid = search.evaluate_grid([values], right, lambda used, answer: float(answer))
    for level, share in zip(grid.levels[0], grid.shares[0], strict=True):
        assert np.mean(values >= float(level)) == pytest.approx(float(share))


def test_a_threshold_that_nothing_reaches_is_strict_json(model, tmp_path):
    ki.EarlyExit(model, {"aux_3a": np.inf}).save(tmp_path / "exits.json")
    text = (tmp_path / "exits.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["thresholds"] == {"aux_3a": 2}
    assert ki.EarlyExit.load(tmp_path / "exits.json", model).thresholds == {"aux_3a": 2}


def test_exits_survive_their_file(model, images, calibrated, tmp_path):
    early, _ = calibrated
    early.save(tmp_path / "exits.json")
    again = ki.EarlyExit.load(tmp_path / "exits.json", model)
    for a, b in zip(early.predict(images), again.predict(images), strict=True):
        np.testing.assert_array_equal(a, b)
    content = json.loads((tmp_path / "exits.json").read_text())
    assert content["calibration"]["examples"] == 23
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no early exits"):
        ki.EarlyExit.load(tmp_path / "bad.json", model)


def test_exits_belong_to_the_weights_that_they_were_calibrated_for(tmp_path):
    model, pictures = small_supervised(), small_pictures()
    early = ki.EarlyExit(model, {"aux": 0.5})
    early.save(tmp_path / "exits.json")
    model.predict(pictures[0], verbose=0)
    model.evaluate(*pictures, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert ki.EarlyExit.load(tmp_path / "exits.json", again).thresholds == {"aux": 0.5}
    again.fit(*pictures, verbose=0)
    with pytest.raises(ValueError, match="for a model with other weights"):
        ki.EarlyExit.load(tmp_path / "exits.json", again)
    content = json.loads((tmp_path / "exits.json").read_text())
    del content["weights"]  # as an earlier version wrote it
    (tmp_path / "exits.json").write_text(json.dumps(content))
    assert ki.EarlyExit.load(tmp_path / "exits.json", again).thresholds == {"aux": 0.5}


def test_labels_in_a_column_calibrate_as_in_a_row(model, images):
    labels = np.arange(len(images)) % 3
    flat = ki.EarlyExit.calibrate(model, (images, labels), 0.5)
    column = ki.EarlyExit.calibrate(model, (images, labels[:, None]), 0.5)
    assert column.thresholds == flat.thresholds
    assert column.calibration.chosen == flat.calibration.chosen


@pytest.mark.parametrize("measure", list(MEASURES))
def test_in_a_graph_exits_answer_alike(model, images, alone, measure):
    early = ki.EarlyExit(
        model,
        thresholds_at(alone, 0.6, measure=measure),
        confidence=measure,
        temperatures={"aux_3a": 1.7},
    )
    expected, exits = early.predict(images)
    assert len(set(exits)) == 3
    names = [str(index) for index in range(model.output["main"].shape[-1])]
    signatures = build_signatures(ki.detach_auxiliary(model), names, None, early)
    serve = signatures[-1].function
    for count in (23, 1, 0):
        answer = serve(tf.constant(images[:count]))
        assert set(answer) == {"main", "exit"}
        np.testing.assert_allclose(answer["main"], expected[:count], atol=1e-5)
        assert [x.decode() for x in answer["exit"].numpy()] == list(exits[:count])


def test_the_served_signature_skips(model, images, alone, tmp_path):
    early = ki.EarlyExit(model, thresholds_at(alone, 0.6))
    early.save(tmp_path / "exits.json")
    path = ki.export.export_saved_model(
        model, tmp_path / "saved", early_exit=tmp_path / "exits.json"
    )
    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_early_exit"]
    answer = serve(images=tf.constant(images))
    expected, exits = early.predict(images)
    np.testing.assert_allclose(answer["main"], expected, atol=1e-5)
    assert [x.decode() for x in answer["exit"].numpy()] == list(exits)
    pixels = images.astype("uint8")
    files = tf.constant([tf.io.encode_png(image).numpy() for image in pixels])
    ranked = loaded.signatures["serving_bytes_early_exit"](image_bytes=files)
    assert set(ranked) == {"classes", "scores", "exit"}
    expected, exits = early.predict(pixels.astype("float32"))
    np.testing.assert_allclose(ranked["scores"][:, 0], expected.max(-1), atol=1e-5)
    assert [x.decode() for x in ranked["exit"].numpy()] == list(exits)
    # Each segment's convolutions are in a function that only the condition before it
    # calls.
    convolutions = [
        sum(node.op == "Conv2D" for node in function.node_def)
        for function in serve.graph.as_graph_def().library.function
    ]
    by_segment = [
        sum(isinstance(layer, layers.Conv2D) for layer in segment.model.layers)
        for segment in early.segments
    ]
    assert sorted(filter(None, convolutions)) == sorted(by_segment)
    # the export with exits holds every weight once, the default one main's alone
    plain = ki.export.export_saved_model(model, tmp_path / "saved")
    assert "serving_early_exit" not in tf.saved_model.load(plain).signatures
    assert exported_weights(path) == weights_of(model)
    assert exported_weights(plain) == weights_of(ki.detach_auxiliary(model))


def exported_weights(path):
    reader = tf.train.load_checkpoint(str(path / "variables/variables"))
    names = reader.get_variable_to_shape_map()
    names = [name for name in names if name.endswith("VARIABLE_VALUE")]
    return sorted(reader.get_tensor(name).tobytes() for name in names)


def weights_of(model):
    return sorted(np.array(weight).tobytes() for weight in model.weights)


def test_thresholds_hold_in_the_dtype_that_they_were_calibrated_in(tmp_path):
    model, (images, labels) = small_supervised(), small_pictures()
    halved = inference_model(model, ki.LocalResponseNormalization, "bfloat16")
    for name, one in (("float32", model), ("bfloat16", halved)):
        early = ki.EarlyExit.calibrate(one, (images, labels), 0.99)
        early.save(tmp_path / f"{name}.json")
    export = functools.partial(ki.export.export_saved_model, model, tmp_path / "saved")
    path = export(dtype="bfloat16", early_exit=tmp_path / "bfloat16.json")
    serve = tf.saved_model.load(path).signatures["serving_early_exit"]
    answer, (expected, exits) = serve(images=images), early.predict(images)
    same = answer["exit"].numpy().astype(str) == exits
    assert same.mean() > 0.8
    np.testing.assert_allclose(answer["main"][same], expected[same], atol=0.01)
    for settings in (
        {"dtype": "bfloat16", "early_exit": tmp_path / "float32.json"},
        {"early_exit": tmp_path / "bfloat16.json"},
    ):
        with pytest.raises(ValueError, match=r"calibrated in .*Calibrate them again"):
            export(**settings)


@pytest.mark.parametrize(
    ("thresholds", "arguments", "message"),
    [
        ({"aux_3c": 0.5}, {}, "no head 'aux_3c'.*'aux_3a', 'aux_3b'"),
        ({"main": 0.5}, {}, "no head 'main'"),
        ({"aux_3a": -1}, {}, "threshold of 'aux_3a'.*at least 0"),
        ({"aux_3a": float("nan")}, {}, "must be a number"),
        ({"aux_3a": "high"}, {}, "must be a number"),
        ({"aux_3a": 0.5}, {"temperatures": {"aux_3a": 0}}, "above 0"),
        (
            {"aux_3a": 0.5},
            {"temperatures": {"aux_3b": 1}},
            "without a threshold: 'aux_3b'",
        ),
        (
            {"aux_3a": 0.5},
            {"confidence": "margin"},
            "one of max_probability, entropy. Received: 'margin'",
        ),
    ],
)
def test_wrong_exits_and_settings_are_refused(model, thresholds, arguments, message):
    with pytest.raises(ValueError, match=message):
        ki.EarlyExit(model, thresholds, **arguments)


def test_bad_data_is_refused(model, images):
    early = ki.EarlyExit(model, {"aux_3a": 0.5})
    with pytest.raises(ValueError, match=r"\(None, 32, 32, 3\). Received: \(32, 32, 3"):
        early.predict(images[0])
    with pytest.raises(ValueError, match="batch_size"):
        early.predict(images, 0)
    assert early.predict(images[:0])[0].shape == (0, CLASSES)
    with pytest.raises(ValueError, match="no pictures"):
        ki.EarlyExit.calibrate(model, (images[:0], np.zeros(0)))
    with pytest.raises(ValueError, match="23 pictures and 22 labels"):
        ki.EarlyExit.calibrate(model, (images, np.zeros(22)))
    with pytest.raises(ValueError, match="names no head"):
        ki.EarlyExit.calibrate(model, (images, np.zeros(23)), exits=[])
    broken = np.full((23, CLASSES), 1 / CLASSES)
    broken[3, 0] = np.nan
    with pytest.raises(ValueError, match="answers 1 of 23 pictures with numbers that"):
        collect_answers(
            model, ["main"], (images, np.zeros(23)), lambda given: {"main": broken}
        )
    with pytest.raises(ValueError, match=r"half a percentage point\. Received: 5"):
        ki.EarlyExit.calibrate(model, (images, np.zeros(23)), 5)


def test_coarse_heads_cannot_be_exits(images):
    inputs = keras.Input((32, 32, 3))
    x = layers.GlobalAveragePooling2D(name="mean")(inputs)
    plain = keras.Model(inputs, layers.Dense(CLASSES)(x))
    coarse = ki.AuxiliaryHead("mean", superclasses=["pet", "pet", "tool"])
    model = ki.attach_auxiliary(plain, [coarse])
    with pytest.raises(ValueError, match="superclasses"):
        ki.EarlyExit(model, {"aux_mean": 0.5})
    for exits in (None, ["aux_mean"]):
        with pytest.raises(ValueError, match="superclasses"):
            ki.EarlyExit.calibrate(model, (images, np.zeros(23)), exits=exits)


def test_masks_between_segments_are_refused():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(4, 3, mask_zero=True, name="words")(inputs)
    x = layers.LSTM(3, return_sequences=True, name="one")(x)
    x = layers.LSTM(3)(x)
    plain = keras.Model(inputs, layers.Dense(CLASSES)(x))
    model = ki.attach_auxiliary(plain, [ki.AuxiliaryHead("one", units=2)])
    with pytest.raises(ValueError, match="mask"):
        ki.EarlyExit(model, {"aux_one": 0.5})
