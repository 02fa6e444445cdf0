"""Activation maps: where the evidence is, and that commands and pages show them."""

import base64
import contextlib
import http.client
import io
import json
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import keras
import numpy as np
import pytest
import tensorflow as tf
import uvicorn
from conftest import logged, small_pictures, small_supervised, tiny_googlenet
from PIL import Image

import keras_inception as ki
import keras_inception_cli
from keras_inception.activation_maps import Explainer, NoFeatureMap, feature_maps
from keras_inception.evaluation import draw_maps, overlay
from keras_inception.outputs import logits_of
from keras_inception.server import Limits, Models, build_app
from keras_inception.server.explanations import Explanations
from keras_inception.server.limits import ServingError
from keras_inception.server.servable import Servable
from keras_inception.supervision import supervise
from keras_inception.training import TensorBoard

SIZE, HALF = 32, 16
NAMES = ["red", "green", "blue"]


def patched(count: int, seed: int):
    """Almost black, with a patch of the class's color in a quadrant (row, column)."""
    random = np.random.default_rng(seed)
    images = np.repeat(random.uniform(0, 20, (count, SIZE, SIZE, 1)), 3, axis=-1)
    labels = random.integers(0, 3, count)
    quadrants = random.integers(0, 2, (count, 2))
    for image, label, (row, column) in zip(images, labels, quadrants, strict=True):
        top, left = HALF * row + 4, HALF * column + 4
        image[top : top + 8, left : left + 8, label] = 255
    return images.astype("float32"), labels, quadrants


def convolutional(superclasses=None, activation="softmax") -> ki.DeeplySupervised:
    """Three convolutions with a head on the second.

    Without biases, so that all evidence for a class comes from bright pixels.
    """
    images = keras.Input((SIZE, SIZE, 3), name="images")
    x = keras.layers.Rescaling(1 / 255)(images)
    conv = {"padding": "same", "activation": "relu", "use_bias": False}
    x = keras.layers.Conv2D(8, 3, 2, **conv, name="zero")(x)
    first = keras.layers.Conv2D(12, 3, 2, **conv, name="first")(x)
    second = keras.layers.Conv2D(12, 3, **conv, name="second")(first)
    x = keras.layers.GlobalAveragePooling2D()(second)
    x = keras.layers.Dense(3, name="classifier")(x)
    main = ki.outputs.Output(activation, name="main")(x)
    head = ki.AuxiliaryHead(
        "first", "aux", filters=8, units=16, dropout=0.0, superclasses=superclasses
    )
    model = supervise(images, main, {"first": first}, [head])
    model.class_names = NAMES
    return model


@pytest.fixture(scope="module")
def trained():
    model = convolutional()
    model.compile(keras.optimizers.Adam(0.01))
    images, labels, _ = patched(256, seed=0)
    model.fit(images, labels, epochs=12, batch_size=32, verbose=0)
    return model


def share_in(quadrant, heat) -> float:
    row, column = quadrant
    rows, columns = (slice(HALF * n, HALF * (n + 1)) for n in (row, column))
    return float(heat[rows, columns].sum() / heat.sum())


@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_every_output_looks_at_the_patch(trained, method):
    images, labels, quadrants = patched(12, seed=1)
    found = Explainer(trained, method)(images)
    assert list(found) == ["main", "aux"]
    for name, (maps, classes, probabilities) in found.items():
        assert (maps.shape, maps.dtype) == ((12, SIZE, SIZE), "float32")
        assert maps.min() >= 0
        assert maps.max(axis=(1, 2)) == pytest.approx(np.ones(12))
        assert (classes == labels).all(), name
        for quadrant, heat in zip(quadrants, maps, strict=True):
            highest = np.unravel_index(heat.argmax(), heat.shape)
            assert tuple(np.array(highest) // HALF) == tuple(quadrant)
        assert np.mean(list(map(share_in, quadrants, maps))) > 0.5, name  # chance: 0.25
        answers = trained.predict(images, verbose=0)[name]
        assert probabilities == pytest.approx(answers.max(axis=1), abs=1e-5)


def test_the_class_that_is_asked_for_decides_where(trained):
    """A red patch in one corner, a blue one in the opposite: each map has its own."""
    images = np.full((2, SIZE, SIZE, 3), 10, "float32")
    images[:, 4:12, 4:12, 0] = 255
    images[:, 20:28, 20:28, 2] = 255
    for corner, classes in ((0, 0), (1, [2, 2])):
        for maps in ki.activation_maps(trained, images, classes).values():
            assert share_in((corner, corner), maps[0]) > 0.5
    mixed = ki.activation_maps(trained, images, np.array([2, 0]))["main"]
    assert share_in((1, 1), mixed[0]) > 0.5
    assert share_in((0, 0), mixed[1]) > 0.5


def test_maps_equal_the_formulas(trained):
    """Main's gradient is known in closed form; the head's comes from TensorFlow."""
    images, labels, _ = patched(3, seed=2)
    images = tf.constant(images)
    feature = keras.Model(trained.input, trained.get_layer("second").output)(images)
    kernel = trained.get_layer("classifier").kernel.numpy()[:, labels]
    weights = kernel.T[:, None, None] / np.prod(feature.shape[1:3])
    head = keras.Model(
        trained.get_layer("first").output, trained.get_layer("aux_classifier").output
    )
    endpoint = keras.Model(trained.input, trained.get_layer("first").output)(images)
    with tf.GradientTape() as tape:
        tape.watch(endpoint)
        logits = tf.gather(head(endpoint), labels, batch_dims=1)
    slopes = tape.gradient(logits, endpoint).numpy()
    for method, weigh in (
        ("layercam", lambda slope: np.maximum(slope, 0)),
        ("gradcam", lambda slope: slope.mean(axis=(1, 2), keepdims=True)),
    ):
        found = ki.activation_maps(trained, images, labels, method=method)
        for name, values, slope in (
            ("main", feature.numpy(), np.broadcast_to(weights, feature.shape)),
            ("aux", endpoint.numpy(), slopes),
        ):
            coarse = np.maximum((weigh(slope) * values).sum(axis=-1), 0)
            expected = tf.image.resize(coarse[..., None], (SIZE, SIZE))[..., 0].numpy()
            expected /= expected.max(axis=(1, 2), keepdims=True)
            np.testing.assert_allclose(found[name], expected, atol=1e-4)


def test_a_head_of_superclasses_explains_the_superclass():
    model = convolutional(superclasses=["warm", "cold", "cold"])
    images, _, _ = patched(2, seed=3)
    green = Explainer(model)(images, 1)
    blue = Explainer(model)(images, 2)
    assert green["aux"].classes.tolist() == blue["aux"].classes.tolist() == [0, 0]
    assert green["main"].classes.tolist() == [1, 1]
    np.testing.assert_array_equal(green["aux"].maps, blue["aux"].maps)


def classifiers():
    """The same network with every form of softmax, and as logits."""
    images = keras.Input((16, 16, 3))
    conv = keras.layers.Conv2D(6, 3, activation="relu")
    pool = keras.layers.GlobalAveragePooling2D()
    features = conv(images)
    vectors = pool(features)
    dense = keras.layers.Dense(3)
    logits = dense(vectors)
    fused = keras.layers.Dense(3, activation="softmax")
    probabilities = fused(vectors)
    fused.set_weights(dense.get_weights())
    inner = keras.Input((6,))
    nested = keras.Model(inner, keras.layers.Softmax()(dense(inner)))
    point = keras.layers.Conv2D(3, 1, activation="softmax")
    grid = point(keras.layers.GlobalAveragePooling2D(keepdims=True)(features))
    kernel, bias = dense.get_weights()
    point.set_weights([kernel[None, None], bias])
    outputs = {
        "logits": logits,
        "activation": keras.layers.Activation("softmax")(logits),
        "layer": keras.layers.Softmax()(logits),
        "operation": keras.ops.softmax(logits),
        "fused": probabilities,
        "then reshaped": keras.layers.Reshape((3,))(probabilities),
        "convolution": keras.layers.Flatten()(grid),
        "in a sub-model": nested(vectors),
    }
    models = {name: keras.Model(images, output) for name, output in outputs.items()}
    again = keras.Input((16, 16, 3))
    whole = models["activation"](keras.layers.Identity()(again))
    return models | {"all in a sub-model": keras.Model(again, whole)}


def test_every_form_of_softmax_has_the_same_logits_and_maps():
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    models = classifiers()
    expected = Explainer(models["logits"])(images)["main"]
    logits = models["logits"].predict(images, verbose=0)
    assert expected.maps.max() == 1
    for name, model in models.items():
        (output,) = model.outputs
        part = keras.Model(model.inputs, logits_of(output))
        got = part.predict(images, verbose=0).reshape(2, 3)
        np.testing.assert_allclose(got, logits, rtol=1e-4, err_msg=name)
        found = Explainer(model)(images)["main"]
        for value, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, other, atol=1e-5, err_msg=name)


def test_where_maps_are_read():
    model = tiny_googlenet()
    places = feature_maps(model)
    for output, layer in {
        "main": "inception_5b",
        "aux_4a": "inception_4a",
        "aux_4d": "inception_4d",
    }.items():
        assert places[output] is model.get_layer(layer).output


def test_outputs_may_read_one_map(trained):
    plain = ki.detach_auxiliary(trained)
    model = ki.attach_auxiliary(plain, ["second"])
    places = feature_maps(model)
    assert places["main"] is places["aux_second"] is model.get_layer("second").output
    maps = ki.activation_maps(model, np.ones((1, SIZE, SIZE, 3)), 0)
    assert maps["main"].shape == maps["aux_second"].shape == (1, SIZE, SIZE)


def test_a_backbone_within_the_model_and_mixed_precision():
    inner = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inner)
    backbone = keras.Model(inner, x, name="backbone")
    images = keras.Input((16, 16, 3))
    policy = keras.dtype_policies.DTypePolicy("mixed_float16")
    x = keras.layers.Conv2D(4, 3, dtype=policy)(backbone(images))
    x = keras.layers.GlobalAveragePooling2D(dtype=policy)(x)
    x = keras.layers.Dense(2, activation="softmax", dtype=policy)(x)
    (maps,) = ki.activation_maps(
        keras.Model(images, x),
        np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3)),
    ).values()
    assert (maps.shape, maps.dtype) == ((2, 16, 16), "float32")
    assert maps.max() <= 1


def test_maps_follow_training(trained):
    images, _, _ = patched(2, seed=4)
    model = keras.models.clone_model(trained)
    model.set_weights(trained.get_weights())
    explainer = Explainer(model)
    before = [explainer(images, label)["main"].maps for label in range(3)]
    layer = model.get_layer("classifier")
    layer.set_weights([np.roll(w, 1, axis=-1) for w in layer.get_weights()])
    for label, maps in enumerate(before):
        after = explainer(images, (label + 1) % 3)["main"].maps
        np.testing.assert_array_equal(after, maps)
    assert np.abs(before[0] - before[1]).max() > 0.1


def of_sequences():
    inputs = keras.Input((12, 2))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.LSTM(3)(inputs)))


def of_two_inputs():
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    x = keras.layers.Conv2D(2, 3)(keras.layers.Concatenate()(inputs))
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x)


def of_sigmoids():
    images = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(images))
    return keras.Model(images, keras.layers.Dense(2, activation="sigmoid")(x))


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (small_supervised, {}, "'main' of .* reads no feature map"),
        (of_sequences, {"images": np.zeros((1, 12, 2))}, "reads no feature map"),
        (of_two_inputs, {}, "one input, of pictures"),
        (of_sigmoids, {}, "an output with the activation 'sigmoid'"),
        (Subclassed, {}, "need a functional model"),
        (convolutional, {"method": "cam"}, "gradcam, layercam. Received: 'cam'"),
        (convolutional, {"images": np.zeros((1, 8, 8, 3))}, r"\(None, 32, 32, 3\)"),
        (convolutional, {"images": np.zeros((0, 32, 32, 3))}, r"\(0, 32, 32, 3\)"),
        (convolutional, {"images": np.zeros((32, 32, 3))}, r"shape: \(32, 32, 3\)"),
        (convolutional, {"images": np.full((1, 32, 32, 3), np.nan)}, "is not finite"),
        (convolutional, {"classes": 3}, "from 0 to 2"),
        (convolutional, {"classes": [-1]}, "from 0 to 2"),
        (convolutional, {"classes": [0, 1]}, "for each of the 1 pictures"),
        (convolutional, {"classes": 0.5}, "must be a class index"),
    ],
)
def test_what_can_not_be_explained_is_one_clear_error(build, arguments, message):
    arguments = {"images": np.zeros((1, SIZE, SIZE, 3))} | arguments
    with pytest.raises(ValueError, match=message):
        ki.activation_maps(build(), **arguments)


def test_a_map_lies_over_its_picture(trained):
    picture = np.full((4, 4, 3), 100, "uint8")
    heat = np.zeros((4, 4), "float32")
    heat[0, 0] = 1
    laid = overlay(picture, heat)
    assert (laid.shape, laid.dtype) == ((4, 4, 3), "uint8")
    hot, cold = laid[0, 0].astype(int), laid[3, 3].astype(int)
    assert hot[0] > 150 > hot[2]  # yellow
    assert cold[2] > cold[1]  # purple
    images, _, _ = patched(2, seed=5)
    figure = draw_maps(images, Explainer(trained)(images), {"main": NAMES}, ["a", "$b"])
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 6
    assert titles[0] == "a"
    assert titles[1].startswith("main\n")
    assert titles[1].split("\n")[1].split(" ")[0] in NAMES
    assert titles[2].split("\n")[1][0] in "012"  # without names


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    """The model as a file, and folders of pictures."""
    root = tmp_path_factory.mktemp("explain")
    trained.save(root / "model.keras")
    small_supervised().save(root / "dense.keras")
    images, labels, _ = patched(8, seed=6)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / "data" / NAMES[(label + (index == 7)) % 3] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype("uint8")).save(path)
    for name in ("pics/a.png", "pics/sub/A.png", "pics/b\n日.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[0].astype("uint8")).save(root / name)
    return root


def command(*words):
    return keras_inception_cli.main([str(word) for word in words])


def test_predict_explains_every_picture(place, capsys, tmp_path):
    maps = place / "pics" / "maps"
    words = ["predict", place / "model.keras", place / "pics", "--explain", maps]
    broken, table = tmp_path / "broken.png", tmp_path / "answers.csv"
    broken.write_text("words")
    for run in range(2):
        assert command(*words, broken, "--json", "--csv", table) == 1
        captured = capsys.readouterr()
        *answers, fault = map(json.loads, captured.out.splitlines())
        assert list(fault) == ["image", "error"]
        names = [answer["maps"].removeprefix(f"{maps}/") for answer in answers]
        assert names == ["a-maps.png", "b\n日-maps.png", "A-2-maps.png"]
        assert all(answer["classes"] for answer in answers)
        assert captured.err.endswith(f"wrote {table}\nwrote {maps}\n")
        # the maps of the first run are not pictures of the second
        assert ("3 maps by --explain" in captured.err) == (run == 1)
    with Image.open(maps / "a-maps.png") as picture:
        assert picture.width > 2.5 * picture.height > 0
    assert "b\n日-maps.png" in table.read_text(encoding="utf-8")
    assert sorted(path.name for path in maps.iterdir()) == sorted(names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{place}/dense.keras {place}/pics/a.png", "reads no feature map"),
        ("{place}/pics {place}/pics/a.png", "--explain needs MODEL as a .keras file"),
        ("--url http://h/v1/models/m a.png", "--explain needs MODEL as a .keras file"),
    ],
)
def test_predict_says_what_it_can_not_explain(place, capsys, tmp_path, words, message):
    words = words.format(place=place).split()
    assert command("predict", *words, "--explain", tmp_path / "maps") == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "maps").exists()
    file = place / "model.keras"
    assert command("predict", file, place / "pics/a.png", "--explain", file) == 1
    assert "is a file" in capsys.readouterr().err


def test_evaluate_draws_the_mistakes_maps_in_a_report(place, capsys, tmp_path):
    words = ["evaluate", place / "model.keras", place / "data", "--output", tmp_path]
    assert command(*words, "--split", "all") == 0
    capsys.readouterr()
    with Image.open(tmp_path / "maps.png") as picture:  # one mistake, made above
        assert picture.width > 2 * picture.height > 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 3
    for text in ("aux", "top-1 0.8750", "true class", "where each output", "F1"):
        assert text.lower() in page.lower(), text
    # two models have no maps in common, and the old ones go
    words.insert(1, shutil.copy(place / "model.keras", tmp_path / "again.keras"))
    assert command(*words, "--split", "all") == 0
    assert not (tmp_path / "maps.png").exists()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 2


def test_tensorboard_shows_the_maps_at_the_end(trained, tmp_path):
    images, labels, _ = patched(8, seed=7)
    board = TensorBoard(tmp_path / "maps", images[:4], labels[:4])
    trained.fit(images, labels, epochs=2, callbacks=[board], verbose=0)
    tags = logged(tmp_path / "maps")["validation"]
    assert tags["examples/maps"] == [2]
    assert tags["examples/predictions"] == [1, 2]
    board = TensorBoard(tmp_path / "none", *small_pictures(3))
    small_supervised().fit(*small_pictures(), callbacks=[board], verbose=0)
    assert "examples/maps" not in logged(tmp_path / "none")["validation"]


def test_a_model_without_maps_can_be_told_apart():
    with pytest.raises(NoFeatureMap):
        feature_maps(small_supervised())


def decoded(png: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        return np.asarray(picture)


def ask(port, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET" if body is None else "POST", path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()


@contextlib.contextmanager
def serving(explanations):
    """Runs a server without models in a thread; yields its port."""
    app = build_app(Models([], Servable), Limits(), explanations=explanations)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, lifespan="off", log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def check_explained(port, trained, place):
    picture = (place / "pics/a.png").read_bytes()
    assert b'$("switch").hidden = !true;' in ask(port, "/")[1]
    status, body = ask(port, "/explain", picture)
    assert status == 200, body
    pixels = np.asarray(Image.open(io.BytesIO(picture)))
    expected = Explainer(trained)(pixels[None])
    for one, (name, found) in zip(json.loads(body), expected.items(), strict=True):
        assert one["output"] == name
        assert one["class"] == NAMES[int(found.classes[0])]
        assert one["probability"] == pytest.approx(found.probabilities[0], abs=1e-3)
        laid = overlay(pixels, found.maps[0]).astype(int)
        assert np.abs(decoded(one["png"]) - laid).max() <= 2


def test_the_page_shows_where_each_output_looks(trained, place):
    with serving(Explanations(trained, 10_000)) as port:
        check_explained(port, trained, place)
        status, fault = ask(port, "/explain", b"words")
        assert (status, "is not a picture" in json.loads(fault)["error"]) == (400, True)
        status, _ = ask(port, "/explain", bytes(Limits().body_bytes + 1))
        assert status == 413
    with serving(None) as port:
        assert b'$("switch").hidden = !false;' in ask(port, "/")[1]
        assert ask(port, "/explain", b"words")[0] == 404


@pytest.mark.slow
def test_serve_explains_beside_an_export(trained, place, tmp_path):
    ki.export.export_saved_model(trained, tmp_path / "colors")
    command = [sys.executable, "-m", "keras_inception_cli", "serve"]
    command += [str(tmp_path / "colors"), "--port", "0", "--grpc-port", "0"]
    command += ["--explain", str(place / "model.keras")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stdout.readline, "")
            address = next(line for line in lines if "for people" in line)
            port = int(address.strip().rstrip("/").rpartition(":")[2])
            check_explained(port, trained, place)
        finally:
            process.terminate()


def test_explanations_are_bounded(trained, place):
    explanations = Explanations(trained, picture_pixels=100)
    picture = (place / "pics/a.png").read_bytes()
    with pytest.raises(ServingError, match="has 1,024 pixels") as error:
        explanations.explain(picture)
    assert error.value.status == 413
    explanations = Explanations(trained, picture_pixels=10_000)
    with ThreadPoolExecutor(8) as pool:
        with explanations._turn:  # as if one took long
            running = [pool.submit(explanations.explain, picture) for _ in range(8)]
            done, waiting = wait(running, 20, FIRST_EXCEPTION)
            while len(done) < 4:
                more, waiting = wait(waiting, 20, FIRST_EXCEPTION)
                done |= more
        assert {future.exception().status for future in done} == {503}
        assert all(json.loads(future.result(60)) for future in waiting)


def test_a_file_without_maps_is_refused_before_serving(place, capsys, tmp_path):
    (tmp_path / "colors").mkdir()
    words = ["serve", tmp_path / "colors", "--explain", place / "dense.keras"]
    assert command(*words, "--port", "0") == 1
    assert "reads no feature map" in capsys.readouterr().err
