"""Compares the converted model with TF-Slim's network in TensorFlow's operations."""

import numpy as np
import pytest
from comparing import endpoints, relative_difference

import keras_inception as ki
from keras_inception.weights import slim as slim_module
from keras_inception.weights import slim_file

tf = pytest.importorskip("tensorflow")

# tf-slim's nets/inception_v1.py: stage, and the widths in its order of definition
MODULES = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "MaxPool_4a_3x3": 3,
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "MaxPool_5a_2x2": 2,
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
OURS = {
    "Conv2d_1a_7x7": "conv1_7x7_s2",
    "Conv2d_2b_1x1": "conv2_3x3_reduce",
    "Conv2d_2c_3x3": "conv2_3x3",
    "Mixed_3b": "inception_3a",
    "Mixed_3c": "inception_3b",
    "MaxPool_4a_3x3": "pool3_3x3_s2",
    "Mixed_4b": "inception_4a",
    "Mixed_4c": "inception_4b",
    "Mixed_4d": "inception_4c",
    "Mixed_4e": "inception_4d",
    "Mixed_4f": "inception_4e",
    "MaxPool_5a_2x2": "pool4_3x3_s2",
    "Mixed_5b": "inception_5a",
    "Mixed_5c": "inception_5b",
    "Predictions": "main",
}
CLASSES = 1001


class Slim:
    """The network as in slim's source; each variable is drawn at its first use."""

    def __init__(self):
        self.random = np.random.default_rng(5)
        self.variables = {}

    def variable(self, name, shape, low, high):
        if name not in self.variables:
            value = self.random.uniform(low, high, shape).astype("float32")
            self.variables[name] = value
        return self.variables[name]

    def conv(self, x, filters, size, scope, stride=1):
        scope = f"InceptionV1/{scope}"
        fan_in = size * size * int(x.shape[-1])
        limit = (6 / fan_in) ** 0.5
        shape = (size, size, int(x.shape[-1]), filters)
        x = tf.nn.conv2d(
            x, self.variable(f"{scope}/weights", shape, -limit, limit), stride, "SAME"
        )
        norm = f"{scope}/BatchNorm"
        x = tf.nn.batch_normalization(
            x,
            self.variable(f"{norm}/moving_mean", (filters,), -0.2, 0.2),
            self.variable(f"{norm}/moving_variance", (filters,), 0.5, 1.5),
            self.variable(f"{norm}/beta", (filters,), -0.1, 0.3),
            None,  # slim's networks have no gamma
            0.001,
        )
        return tf.nn.relu(x)

    def module(self, x, scope, widths):
        def conv(x, filters, size, name):
            return self.conv(x, filters, size, f"{scope}/{name}")

        one, reduce_three, three, reduce_five, five, pool = widths
        # a misspelled name in slim
        last = "Conv2d_0a_3x3" if scope == "Mixed_5b" else "Conv2d_0b_3x3"
        b1 = conv(x, reduce_three, 1, "Branch_1/Conv2d_0a_1x1")
        b2 = conv(x, reduce_five, 1, "Branch_2/Conv2d_0a_1x1")
        b3 = tf.nn.max_pool2d(x, 3, 1, "SAME")
        return tf.concat(
            [
                conv(x, one, 1, "Branch_0/Conv2d_0a_1x1"),
                conv(b1, three, 3, "Branch_1/Conv2d_0b_3x3"),
                conv(b2, five, 3, f"Branch_2/{last}"),
                conv(b3, pool, 1, "Branch_3/Conv2d_0b_1x1"),
            ],
            3,
        )

    def __call__(self, images):
        ends = {}
        x = (images / 255 - 0.5) * 2
        ends["Conv2d_1a_7x7"] = x = self.conv(x, 64, 7, "Conv2d_1a_7x7", 2)
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        ends["Conv2d_2b_1x1"] = x = self.conv(x, 64, 1, "Conv2d_2b_1x1")
        ends["Conv2d_2c_3x3"] = x = self.conv(x, 192, 3, "Conv2d_2c_3x3")
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        for scope, row in MODULES.items():
            if isinstance(row, int):
                x = tf.nn.max_pool2d(x, row, 2, "SAME")
            else:
                x = self.module(x, scope, row)
            ends[scope] = x
        x = tf.nn.avg_pool2d(x, 7, 1, "VALID")
        scope = "InceptionV1/Logits/Conv2d_0c_1x1"
        kernel = self.variable(f"{scope}/weights", (1, 1, 1024, CLASSES), -0.05, 0.05)
        bias = self.variable(f"{scope}/biases", (CLASSES,), -1, 1)
        logits = tf.squeeze(tf.nn.conv2d(x, kernel, 1, "SAME"), [1, 2]) + bias
        return ends | {"Logits": logits, "Predictions": tf.nn.softmax(logits)}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3)).astype("float32")


@pytest.fixture(scope="module")
def slim():
    return Slim()


@pytest.fixture(scope="module")
def theirs(slim, images):
    return {name: value.numpy() for name, value in slim(tf.constant(images)).items()}


def write(variables, path):
    """Writes a checkpoint as TensorFlow 1 did, with the variables of training."""
    first = next(iter(variables))
    extra = {"global_step": np.int64(7), f"{first}/Momentum": variables[first]}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        saved = {
            name: tf.compat.v1.get_variable(name, initializer=tf.constant(value))
            for name, value in (variables | extra).items()
        }
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(saved).save(session, str(path))
    return path


def save(variables, path):
    """Writes the files of a checkpoint at once, without a graph of variables."""
    tensors = [tf.constant(value) for value in variables.values()]
    slices = [""] * len(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(variables),
        shape_and_slices=slices,
        tensors=tensors,
    )
    return path


def trained_state(variables, optimizers=("Adagrad",)):
    """The tensors that optimizers add to a checkpoint, by TensorFlow's names."""
    slots = {
        f"{name}/{slot}": np.full_like(value, 9)
        for name, value in variables.items()
        for slot in optimizers
    }
    return slots | {"beta1_power": np.float32(0.9), "OptimizeLoss/lr": np.float32(0.1)}


@pytest.fixture(scope="module")
def checkpoint(slim, theirs, tmp_path_factory):
    path = tmp_path_factory.mktemp("slim") / "inception_v1.ckpt"
    return write(slim.variables, path)


@pytest.fixture(scope="module")
def published(checkpoint):
    """The model of the plain file."""
    return ki.weights.load_slim(checkpoint)


def test_every_endpoint_and_output_equals_slims(published, theirs, images):
    model = published
    ours = endpoints(model, ki.GOOGLENET_SLIM, images)
    assert list(model.output) == ["main"]
    for name, stage in OURS.items():
        assert relative_difference(ours[stage], theirs[name]) < 1e-4, name
    assert model.class_names[:2] == ["background", "tench (n01440764)"]


def test_the_background_class_can_be_dropped(checkpoint, theirs, images):
    model = ki.weights.load_slim(checkpoint, drop_background=True)
    expected = tf.nn.softmax(theirs["Logits"][:, 1:]).numpy()
    ours = model.predict(images, verbose=0)["main"]
    assert relative_difference(ours, expected) < 1e-4
    assert model.class_names[0] == "tench (n01440764)"


def test_faults_are_named(slim, checkpoint, tmp_path):
    variables = dict(slim.variables)
    del variables["InceptionV1/Mixed_5b/Branch_2/Conv2d_0a_3x3/weights"]
    variables["InceptionV1/Mixed_9z/weights"] = np.zeros(2, "float32")
    with pytest.raises(ValueError, match="Nothing was loaded") as raised:
        ki.weights.load_slim(save(variables, tmp_path / "faulty.ckpt"))
    assert "Mixed_5b/Branch_2/Conv2d_0a_3x3/weights" in str(raised.value)
    assert "has unexpected tensors: 'InceptionV1/Mixed_9z/weights'" in str(raised.value)

    other = write({"InceptionV2/x": np.zeros(2, "float32")}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="is not TF-Slim's inception_v1"):
        ki.weights.load_slim(other)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        ki.weights.load_slim(tmp_path / "nowhere.ckpt")

    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(checkpoint.with_name(f"{checkpoint.name}.index").read_bytes()[:99])
    with pytest.raises(ValueError, match="can't be read as a TensorFlow checkpoint"):
        ki.weights.load_slim(cut)


def weights_of(model):
    return {weight.path: weight.numpy() for weight in model.weights}


def assert_equal(model, other):
    weights = weights_of(other)
    for path, value in weights_of(model).items():
        if "seed_generator" not in path:
            np.testing.assert_array_equal(value, weights[path], path)


def test_the_state_of_training_is_left_out(
    slim, checkpoint, published, tmp_path, caplog
):
    """Slots of any name, below a wrapper's scope; averages on request alone."""
    caplog.set_level("INFO", "keras_inception")
    average = "ExponentialMovingAverage"
    plain = {f"model/{name}": value for name, value in slim.variables.items()}
    optimizers = ("Adagrad", "Adadelta", "Adadelta_1", "Ftrl_1", "RMSProp_2", "adam_m")
    state = trained_state(plain, optimizers)
    state |= {f"OptimizeLoss/{name}/Lamb": np.zeros((2, 2)) for name in plain}
    state |= {"model/InceptionV1/Conv2d_1a_7x7/weights/vr": np.zeros(3)}
    averages = {
        f"{name}/{average}": value * 2
        for name, value in plain.items()
        if "/moving_" not in name
    }
    path = save(plain | state | averages, tmp_path / "model.ckpt-400")
    assert_equal(ki.weights.load_slim(path), published)
    assert "--averages loads its averages" in caplog.text
    assert "left out the state of training" in caplog.text

    averaged = weights_of(ki.weights.load_slim(path, averages=True))
    last = weights_of(published)
    for name in ("main_classifier/kernel", "inception_3a_1x1_bn/beta"):
        np.testing.assert_array_equal(averaged[name], last[name] * 2)
    name = "inception_3a_1x1_bn/moving_mean"
    np.testing.assert_array_equal(averaged[name], last[name])
    with pytest.raises(ValueError, match=r"has no averages of its weights"):
        ki.weights.load_slim(checkpoint, averages=True)


def test_averages_are_known_in_both_spellings(slim, tmp_path):
    variables = slim.variables
    before = {f"ExponentialMovingAverage/{name}": x for name, x in variables.items()}
    after = {f"{name}/ExponentialMovingAverage_1": x for name, x in variables.items()}
    for index, averages in enumerate((before, after)):
        path = tmp_path / f"averages{index}.ckpt"
        save(averages, path)
        with pytest.raises(ValueError, match=r"has only averages.*--averages"):
            ki.weights.load_slim(path)
        found = slim_module.network_tensors(
            slim_file.read_checkpoint(path), True, [], "file"
        )
        assert set(found) - {"InceptionV1/Conv2d_1a_7x7/weights/Momentum"} >= {
            *variables
        }
    name = next(iter(after))
    after.pop(name)
    with pytest.raises(ValueError, match=r"no averages of .*Conv2d_1a_7x7/weights"):
        ki.weights.load_slim(
            save(variables | after, tmp_path / "some.ckpt"), averages=True
        )


def test_tensors_of_unknown_use_are_named_or_ignored(slim, published, tmp_path):
    """Two networks, a classifier of another name, and variables of something else."""
    other = {f"teacher/{name}": value + 1 for name, value in slim.variables.items()}
    renamed = {
        name.replace("InceptionV1/Logits/Conv2d_0c_1x1", "flowers"): value
        for name, value in slim.variables.items()
    }
    renamed["flowers/weights"] = renamed["flowers/weights"][0, 0]
    path = save(renamed | other | {"queue/sizes": np.ones(4)}, tmp_path / "two.ckpt")
    with pytest.raises(ValueError, match=r"several networks: .*'teacher/InceptionV1/'"):
        ki.weights.load_slim(path)
    with pytest.raises(
        ValueError, match=r"unexpected tensors: 'queue/sizes'.*--ignore"
    ):
        ki.weights.load_slim(path, ignore=["teacher"])
    model = ki.weights.load_slim(path, ignore=["teacher", "queue/*"])
    assert_equal(model, published)


def test_a_checkpoint_is_found_however_it_is_pointed_at(tmp_path):
    variables = {"InceptionV1/x": np.arange(3.0), "layer": np.ones(2)}
    path = write(variables, tmp_path / "run" / "model.ckpt-7")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    for name in (
        "model.ckpt-7",
        "model.ckpt-7.index",
        "model.ckpt-7.data-00000-of-00001",
        "model.ckpt-7.meta",
        "checkpoint",
        "",
    ):
        assert set(slim_file.read_checkpoint(moved / name)) >= set(variables), name
    with pytest.raises(FileNotFoundError, match=r"does not exist.*'model\.ckpt-7'"):
        slim_file.read_checkpoint(moved / "model.ckpt")
    (moved / "checkpoint").unlink()
    assert "layer" in slim_file.read_checkpoint(moved)
    (moved / "model.ckpt-7.data-00000-of-00001").unlink()
    with pytest.raises(FileNotFoundError, match=r"no \.data file beside"):
        slim_file.read_checkpoint(moved / path.name)
    with pytest.raises(FileNotFoundError, match=r"Pass one of its checkpoints: none"):
        slim_file.read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["model.ckpt", "model[1].ckpt"])
def test_a_path_is_not_a_pattern(tmp_path, name):
    """TensorFlow's own reader takes brackets as a pattern, and then finds nothing."""
    variables = {"InceptionV1/x": np.arange(3.0), "layer": np.ones(2)}
    write(variables, tmp_path / "run" / "model.ckpt")
    folder = (tmp_path / "run").rename(tmp_path / "run [1]*")
    for file in folder.glob("model.ckpt.*"):
        file.rename(folder / file.name.replace("model.ckpt", name))
    (folder / f"{name}-2.index").write_bytes(b"of another")
    found = slim_file.read_checkpoint(folder / name)
    assert found["InceptionV1/x"].tolist() == [0, 1, 2]
    (folder / f"{name}-2.index").unlink()
    if name == "model.ckpt":
        assert set(slim_file.read_checkpoint(folder)) >= set(variables)


def test_checkpoints_of_objects_have_the_same_names(tmp_path):
    """`tf.train.Checkpoint` escapes names and adds to them."""
    name = "InceptionV1/Conv2d_1a_7x7/weights"
    objects = {name: tf.Variable(np.ones((2, 2), "float32")), "a.b": tf.Variable(1.0)}
    saved = tf.train.Checkpoint(**objects).save(str(tmp_path / "objects"))
    tensors = slim_file.read_checkpoint(saved)
    assert set(tensors) == {name, "a.b", "save_counter"}


def test_classes_without_background_have_none_to_drop(slim, tmp_path):
    variables = dict(slim.variables)
    scope = "InceptionV1/Logits/Conv2d_0c_1x1"
    variables[f"{scope}/weights"] = variables[f"{scope}/weights"][..., :5]
    variables[f"{scope}/biases"] = variables[f"{scope}/biases"][:5]
    path = save(variables, tmp_path / "flowers.ckpt")
    with pytest.raises(ValueError, match="has 5 classes and no background"):
        ki.weights.load_slim(path, drop_background=True)
    assert ki.weights.load_slim(path).class_names is None
