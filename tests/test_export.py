"""The exported directory, loaded the ways that servers load it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_googlenet

import keras_inception as ki

NAMES = ["ant", "bee", "cat"]


@pytest.fixture(scope="module")
def model():
    model = tiny_googlenet(batch_norm=True)
    model.compile("adam")
    images = np.random.default_rng(0).uniform(0, 255, (8, 64, 64, 3))
    model.fit(images, np.arange(8) % 3, verbose=0)  # gives the optimizer its variables
    model.class_names = NAMES
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return ki.export.export_saved_model(model, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3)).astype("uint8")


def test_signatures_equal_the_keras_model(model, exported, images):
    expected = model.predict(images.astype("float32"), verbose=0)["main"]
    signatures = tf.saved_model.load(exported).signatures
    assert set(signatures) == {"serving_default", "serving_uint8", "serving_bytes"}
    for count in (5, 1, 0):  # other batch sizes than any that was traced
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
        png = keras.utils.array_to_img(images[0])
        import io

        file = io.BytesIO()
        png.save(file, "png")
        (scores,) = session.run(
            [signature.outputs["scores"].name],
            {signature.inputs["image_bytes"].name: [file.getvalue()]},
        )
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    np.testing.assert_allclose(scores[0], -np.sort(-expected[0]), atol=1e-5)


def test_nothing_of_the_training_is_inside(model, exported):
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


def test_the_1000_class_model_is_smaller_than_30_mb(tmp_path):
    path = ki.export.export_saved_model(ki.GoogLeNet(), tmp_path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert 4 * 6_998_552 < size < 30e6


def test_versions_rise_and_are_never_overwritten(model, tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "no-version").mkdir()
    first = ki.export.export_saved_model(model, tmp_path)
    assert first == tmp_path / "8"
    with pytest.raises(FileExistsError, match="never overwritten"):
        ki.export.export_saved_model(model, tmp_path, version=8)
    with pytest.raises(FileExistsError, match="never overwritten"):
        ki.export.export_saved_model(model, tmp_path, version=7)
    assert ki.export.versions(tmp_path) == [7, 8]
    leftovers = {entry.name for entry in tmp_path.iterdir()}
    assert leftovers == {"7", "8", "no-version"}


def test_plain_functional_models_can_be_exported(tmp_path):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    plain = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    path = ki.export.export_saved_model(plain, tmp_path, class_names=["a", "b"])
    signatures = tf.saved_model.load(path).signatures
    assert signatures["serving_default"](images=tf.zeros((1, 32, 32, 3)))["main"].shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ["a"]}, "3 classes.*Received 1"),
        ({"version": 0}, "from 1"),
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
