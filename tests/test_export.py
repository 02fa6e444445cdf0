"""The exported SavedModel, loaded as servers load it."""

import io
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_googlenet
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

import keras_inception as ki
from keras_inception.export import warmup
from keras_inception.export.classifier import ModelClassifier
from keras_inception.export.model_card import checksums
from keras_inception.export.signatures import build_signatures, on_images
from keras_inception.supervision import plain_classifier

NAMES = ["ant", "bee", "cat"]
SIGNATURES = {"serving_default", "serving_uint8", "serving_bytes", "classify"}


@pytest.fixture(scope="module")
def model():
    model = tiny_googlenet(batch_norm=True)
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    model.class_names = NAMES
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    facts = {"data": "insects", "accuracy": "0.5 of 8 pictures"}
    directory = tmp_path_factory.mktemp("models") / "insects"
    return ki.export.export_saved_model(model, directory, facts=facts)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3)).astype("uint8")


def test_signatures_equal_the_keras_model(model, exported, images):
    expected = model.predict(images.astype("float32"), verbose=0)["main"]
    signatures = tf.saved_model.load(exported).signatures
    assert set(signatures) == SIGNATURES
    for count in (5, 1, 0):  # no batch size was traced
        floats = tf.constant(images[:count], tf.float32)
        answer = signatures["serving_default"](images=floats)
        assert list(answer) == ["main"]
        np.testing.assert_allclose(answer["main"], expected[:count], atol=1e-5)
    answer = signatures["serving_uint8"](images=tf.constant(images))
    np.testing.assert_allclose(answer["main"], expected, atol=1e-5)


def test_bytes_give_classes_best_first(model, exported, images):
    expected = model.predict(images.astype("float32"), verbose=0)["main"]
    files = tf.stack([tf.io.encode_png(image) for image in images])
    signature = tf.saved_model.load(exported).signatures["serving_bytes"]
    answer = signature(image_bytes=files)
    np.testing.assert_allclose(answer["scores"], -np.sort(-expected), atol=1e-5)
    names = [[name.decode() for name in row] for row in answer["classes"].numpy()]
    assert names == [[NAMES[i] for i in row] for row in np.argsort(-expected)]


def test_classify_takes_serialized_examples(exported, images):
    signatures = tf.saved_model.load(exported).signatures
    files = [tf.io.encode_png(image).numpy() for image in images]
    answer = signatures["classify"](inputs=tf.constant([example(f) for f in files]))
    same = signatures["serving_bytes"](image_bytes=tf.constant(files))
    assert set(answer) == {"classes", "scores"}
    np.testing.assert_array_equal(answer["classes"], same["classes"])
    np.testing.assert_allclose(answer["scores"], same["scores"], atol=1e-6)
    # TF Serving's conditions for :classify (classifier.cc)
    graph = SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    definition = graph.meta_graphs[0].signature_def["classify"]
    assert definition.method_name == "tensorflow/serving/classify"
    assert list(definition.inputs) == ["inputs"]


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_an_empty_batch_has_an_empty_answer(exported, name):
    signature = tf.saved_model.load(exported).signatures[name]
    (specification,) = signature.structured_input_signature[1].values()
    shape = (0, *specification.shape[1:])
    answer = signature(**{specification.name: tf.zeros(shape, specification.dtype)})
    assert all(tensor.shape[0] == 0 for tensor in answer.values())


def test_every_signature_is_warmed_up(exported):
    """The records are valid requests, and `read_requests` reads the same ones."""
    requests = dict(warmup.read_requests(exported))
    records = tf.data.TFRecordDataset(str(exported / warmup.FILE))
    signatures = tf.saved_model.load(exported).signatures
    warmed = set()
    for record in records.as_numpy_iterator():
        log = PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "insects"
        name = request.model_spec.signature_name
        inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
        answer = signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
        assert {len(tensor) for tensor in answer.values()} == {1}
        np.testing.assert_equal(requests.pop(name), inputs)
        warmed.add(name)
    assert not requests
    assert warmed == SIGNATURES


def test_a_warm_up_record_of_another_kind_is_refused(tmp_path):
    (tmp_path / warmup.FILE).parent.mkdir()
    log = PredictionLog()
    log.session_run_log.request.model_spec.name = "insects"
    with tf.io.TFRecordWriter(str(tmp_path / warmup.FILE)) as writer:
        writer.write(log.SerializeToString())
    with pytest.raises(ValueError, match="record of type session_run_log"):
        list(warmup.read_requests(tmp_path))


@pytest.fixture(scope="module")
def small():
    """Any functional classifier; quicker to export than GoogLeNet."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))


def test_a_warm_up_request_that_fails_stops_the_export(small, tmp_path):
    exported = ki.export.export_saved_model(small, tmp_path)
    signatures = build_signatures(small, ["0", "1", "2"], None)
    other = on_images("other", lambda x: {"y": x}, 32, "float32", "")
    with pytest.raises(RuntimeError, match=r"'other'.*nothing was exported"):
        warmup.replay(exported, [*signatures, other])
    altered = signatures[0]._replace(function=lambda images: {"main": tf.zeros((1, 3))})
    with pytest.raises(RuntimeError, match="'serving_default' with another 'main'"):
        warmup.replay(exported, [altered])


def test_the_card_and_the_labels_describe_the_model(exported):
    assert (exported / "assets/labels.txt").read_text() == "ant\nbee\ncat\n"
    card = (exported / "model_card.md").read_text()
    assert card.startswith("# insects\n")
    for line in ("| data | insects |", "| accuracy | 0.5 of 8 pictures |", "keras 3."):
        assert line in card
    assert all(f"| `{name}` |" in card for name in SIGNATURES)
    listed = dict(re.findall(r"\| `(\S+)` \| [\d,]+ \| `([0-9a-f]{64})` \|", card))
    found = {file: checksum for file, (_, checksum) in checksums(exported).items()}
    assert listed == found
    assert "variables/variables.index" in listed


def test_top_limits_the_answers_by_name(small, tmp_path, images):
    images = images[:, :32, :32]
    path = ki.export.export_saved_model(small, tmp_path, top=2)
    signatures = tf.saved_model.load(path).signatures
    files = tf.stack([tf.io.encode_png(image) for image in images[:2]])
    assert signatures["serving_bytes"](image_bytes=files)["scores"].shape == (2, 2)
    assert signatures["serving_uint8"](images=images[:2])["main"].shape == (2, 3)


def example(contents: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[contents]))
    features = tf.train.Features(feature={"image_bytes": feature})
    return tf.train.Example(features=features).SerializeToString()


def test_saved_model_cli_runs_it(model, exported, images, tmp_path):
    expected = model.predict(images.astype("float32"), verbose=0)["main"]
    np.save(tmp_path / "images.npy", images.astype("float32"))
    words = ["run", "--dir", exported, "--tag_set", "serve"]
    words += ["--signature_def", "serving_default", "--outdir", tmp_path]
    words += ["--inputs", f"images={tmp_path / 'images.npy'}"]
    cli = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    subprocess.run([*cli, *words], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "main.npy"), expected, atol=1e-5)


def test_openvino_reads_it(model, exported, images):
    openvino = pytest.importorskip("openvino", reason="extra openvino")
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(str(exported), "CPU", exact)
    answer = compiled({"images": images.astype("float32")})["main"]
    expected = model.predict(images.astype("float32"), verbose=0)["main"]
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_bytes_of_any_size_are_fitted_as_in_training(model, exported, tmp_path):
    photo = np.random.default_rng(2).integers(0, 256, (90, 150, 3)).astype("uint8")
    path = tmp_path / "photo.png"
    path.write_bytes(tf.io.encode_png(photo).numpy())
    pixels = ki.data.load_picture(path, 64)
    expected = model.predict(pixels[None], verbose=0)["main"][0]
    ranked = dict(ki.export.load_classifier(exported)(path))
    np.testing.assert_allclose([ranked[n] for n in NAMES], expected, atol=1e-5)


def test_a_tf1_session_loads_it_by_tag(model, exported, images):
    expected = model.predict(images.astype("float32"), verbose=0)["main"]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(exported))
        signature = meta.signature_def["serving_default"]
        (answer,) = session.run(
            [signature.outputs["main"].name],
            {signature.inputs["images"].name: images.astype("float32")},
        )
        signature = meta.signature_def["serving_bytes"]
        file = io.BytesIO()
        keras.utils.array_to_img(images[0]).save(file, "png")
        (scores,) = session.run(
            [signature.outputs["scores"].name],
            {signature.inputs["image_bytes"].name: [file.getvalue()]},
        )
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    np.testing.assert_allclose(scores[0], -np.sort(-expected[0]), atol=1e-5)


def test_nothing_of_training_is_inside(model, exported):
    reader = tf.train.load_checkpoint(str(exported / "variables/variables"))
    saved = {
        name: shape
        for name, shape in reader.get_variable_to_shape_map().items()
        if not name.startswith(("_CHECKPOINTABLE", "save_counter"))
    }
    main = ki.detach_auxiliary(model)
    assert len(saved) == len(main.weights)
    assert sum(int(np.prod(s)) for s in saved.values()) == main.count_params()
    loaded = tf.saved_model.load(exported)
    paths = [variable.name for variable in loaded.weights]
    assert len(paths) == len(main.weights)
    graph = (exported / "saved_model.pb").read_bytes()
    for part in (b"aux", b"Adam", b"dropout", b"seed_generator"):
        assert not any(part.decode() in path for path in paths)
        assert part not in graph


def test_the_1000_class_model_is_smaller_than_31_mb(tmp_path):
    path = ki.export.export_saved_model(ki.GoogLeNet(), tmp_path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert 4 * 6_998_552 < size < 31e6  # the decoder's graph takes half a megabyte


def test_bfloat16_computes_in_half_the_bytes(model, exported, tmp_path):
    path = ki.export.export_saved_model(model, tmp_path / "b", dtype="bfloat16")
    weights, halved = (
        (version / "variables/variables.data-00000-of-00001").stat().st_size
        for version in (exported, path)
    )
    assert halved < 0.51 * weights
    card = (path / "model_card.md").read_text()
    assert "| computes in | bfloat16; parameters and accuracy are those of" in card
    parameters = re.search(r"([\d,]+) parameters", card)[1]
    assert parameters in (exported / "model_card.md").read_text()
    signatures = tf.saved_model.load(path).signatures
    default = signatures["serving_default"]
    convolutions = [
        operation
        for function in default.graph._functions.values()
        for operation in function.graph.get_operations()
        if operation.type == "Conv2D"
    ]
    assert convolutions
    assert {operation.outputs[0].dtype for operation in convolutions} == {tf.bfloat16}
    random = np.random.default_rng(2)
    pictures = random.uniform(0, 255, (16, 1, 1, 3)) + random.normal(
        0, 20, (16, 64, 64, 3)
    )
    pictures = pictures.clip(0, 255).astype("float32")
    expected = model.predict(pictures, verbose=0)["main"]
    answer = default(images=tf.constant(pictures))["main"].numpy()
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer.sum(-1), 1, atol=1e-5)
    assert expected.std(axis=0).min() > 0.02  # the pictures differ
    assert 0 < abs(answer - expected).max() < 0.03  # 0 would be float32


def test_plain_functional_models_can_be_exported(small, tmp_path):
    # dark colors, since `small` does not scale pixels and its softmax saturates
    colors = np.random.default_rng(4).integers(0, 9, (8, 1, 1, 3))
    images = np.tile(colors, (1, 32, 32, 1)).astype("float32")
    path = ki.export.export_saved_model(small, tmp_path, class_names=NAMES)
    signatures = tf.saved_model.load(path).signatures
    answer = signatures["serving_default"](images=tf.constant(images))["main"]
    expected = small.predict(images, verbose=0)
    np.testing.assert_allclose(answer, expected, atol=1e-6)
    assert expected.std(axis=0).min() > 1e-3  # the pictures differ
    files = tf.stack([tf.io.encode_png(image.astype("uint8")) for image in images])
    ranked = signatures["serving_bytes"](image_bytes=files)["classes"].numpy()
    best = [NAMES[index].encode() for index in expected.argmax(-1)]
    assert ranked[:, 0].tolist() == best


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ["a"]}, "3 classes.*Received 1"),
        ({"class_names": ["a", "b", "c\nd"]}, "single line"),
        ({"class_names": ["a\n", "b\n", "c\n"]}, "single line"),
        ({"version": 0}, "from 1"),
        ({"top": 4}, "from 1 to the 3 classes. Received: 4"),
        ({"dtype": "float16"}, "or bfloat16. Received: 'float16'"),
    ],
)
def test_bad_arguments_leave_nothing(model, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        ki.export.export_saved_model(model, tmp_path / "m", **arguments)
    assert not list(tmp_path.rglob("*.pb"))


def test_open_sizes_are_refused(tmp_path):
    model = tiny_googlenet(input_shape=(None, None, 3), auxiliary=())
    with pytest.raises(ValueError, match="fixed size"):
        ki.export.export_saved_model(model, tmp_path)


def test_a_directory_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no exported model"):
        ki.export.load_classifier(tmp_path)


def test_logits_are_served_as_probabilities(tmp_path):
    logits = small_supervised_logits()
    path = ki.export.export_saved_model(logits, tmp_path / "logits")
    images = np.random.default_rng(3).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
    signatures = tf.saved_model.load(path).signatures
    answer = signatures["serving_default"](images=tf.constant(images))["main"].numpy()
    expected = tf.nn.softmax(logits.predict(images, verbose=0)["main"]).numpy()
    np.testing.assert_allclose(answer, expected, atol=1e-6)
    files = tf.stack([tf.io.encode_png(image.astype("uint8")) for image in images])
    scores = signatures["serving_bytes"](image_bytes=files)["scores"].numpy()
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-6)


def test_a_list_of_one_is_a_single_input_and_output(tmp_path):
    images = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    keras.Model([images], [keras.layers.Dense(3, activation="softmax")(x)]).save(
        tmp_path / "listed.keras"
    )
    model = keras.saving.load_model(tmp_path / "listed.keras")
    assert isinstance(model.output, list)
    picture = np.full((1, 8, 8, 3), 99, "float32")
    path = ki.export.export_saved_model(model, tmp_path / "saved", class_names=NAMES)
    answer = tf.saved_model.load(path).signatures["serving_default"](
        images=tf.constant(picture)
    )["main"]
    expected = model.predict(picture, verbose=0)
    np.testing.assert_allclose(answer, np.reshape(expected, (1, 3)), atol=1e-6)
    for classifier in (ki.export.load_classifier(path), ModelClassifier(model)):
        assert classifier.rank([]) == []
    with pytest.raises(ValueError, match="a single output, or one that is called"):
        plain_classifier(keras.Model(images, [x, x]))


def test_16_bit_answers_are_exported_as_float32(tmp_path):
    images = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    x = keras.layers.Dense(5, activation="relu", name="first")(x)
    main = keras.layers.Dense(3, activation="softmax", dtype="bfloat16")(x)
    model = ki.attach_auxiliary(keras.Model(images, main), ["first"])
    early = ki.EarlyExit(model, {"aux_first": 0.34})
    path = ki.export.export_saved_model(model, tmp_path, early_exit=early)
    signatures = tf.saved_model.load(path).signatures
    pictures = np.random.default_rng(3).uniform(0, 255, (9, 8, 8, 3)).astype("float32")
    for name in ("serving_default", "serving_early_exit"):
        answer = signatures[name](images=tf.constant(pictures))["main"]
        assert answer.dtype == tf.float32
        np.testing.assert_allclose(tf.reduce_sum(answer, -1), 1, atol=0.01)


def small_supervised_logits():
    images = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    x = keras.layers.Dense(5, activation="relu", name="first")(x)
    plain = keras.Model(images, keras.layers.Dense(3)(x))
    return ki.attach_auxiliary(plain, ["first"])


def test_exits_of_another_model_are_refused(tmp_path):
    early = ki.EarlyExit(small_supervised_logits(), {"aux_first": 0.5})
    with pytest.raises(ValueError, match="belongs to another model"):
        ki.export.export_saved_model(
            small_supervised_logits(), tmp_path / "x", early_exit=early
        )
    assert not (tmp_path / "x").exists()


def test_a_model_within_the_model_is_refused_in_another_dtype(tmp_path):
    base = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()], name="b")
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(3, activation="softmax")(base(inputs))
    model = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match=r"called 'b', .* Build .*`base\.output`"):
        ki.export.export_saved_model(model, tmp_path / "x", dtype="bfloat16")
    assert not (tmp_path / "x").exists()


def test_exits_are_refused_in_another_dtype(tmp_path):
    model = small_supervised_logits()
    early = ki.EarlyExit(model, {"aux_first": 0.5})
    with pytest.raises(ValueError, match="calibrated for the model as it is"):
        ki.export.export_saved_model(
            model, tmp_path / "x", early_exit=early, dtype="bfloat16"
        )
    assert not (tmp_path / "x").exists()
