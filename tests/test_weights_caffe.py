"""Compares the converted model with OpenCV's, which reads the same .caffemodel."""

import struct

import h5py
import numpy as np
import pytest
from comparing import endpoints, relative_difference

import keras_inception as ki
from keras_inception.architecture import (
    Conv,
    Dropout,
    GlobalAveragePool,
    Inception,
    LocalResponseNorm,
    MaxPool,
)

cv2 = pytest.importorskip("cv2")

CLASSES = 7
V1, PRESENT = 2, 100  # fields of NetParameter that hold layers


class Network:
    """BVLC's network as a prototxt and random blobs, from the table of the paper."""

    def __init__(self):
        self.random = np.random.default_rng(3)
        self.text = ['name: "GoogleNet"', 'input: "data"']
        self.text += [f"input_dim: {dim}" for dim in (1, 3, 224, 224)]
        self.blobs: dict[str, list[np.ndarray]] = {}
        self.graph: list[tuple[str, list[str], str]] = []  # name, bottoms, top
        self.tops = {}  # our stage to the name of its blob
        top, channels = "data", 3
        for stage, row in ki.GOOGLENET.rows.items():
            top, channels = self.row(stage, row, top, channels)
            self.tops[stage] = top
            if stage in ("inception_4a", "inception_4d"):
                self.head(stage, top, channels)
        self.dense("loss3/classifier", top, channels, CLASSES)
        self.softmax("main", "loss3/classifier")

    def layer(self, name, kind, bottoms, parameters=""):
        self.graph.append((name, list(bottoms), name))
        bottoms = "".join(f' bottom: "{bottom}"' for bottom in bottoms)
        self.text.append(
            f'layer {{ name: "{name}" type: "{kind}"{bottoms} top: "{name}" '
            f"{parameters} }}"
        )
        return name

    def conv(self, name, bottom, channels, filters, size, stride=1):
        # values of a few units in every layer: He's initialization, and for the first
        # one pixels of about a hundred
        spread = (2 / (channels * size * size)) ** 0.5
        spread *= 0.02 if bottom == "data" else 1
        kernel = self.random.normal(0, spread, (filters, channels, size, size))
        self.blobs[name] = [kernel, self.random.normal(0.1, 0.1, filters)]
        top = self.layer(
            name,
            "Convolution",
            [bottom],
            f"convolution_param {{ num_output: {filters} kernel_size: {size} "
            f"stride: {stride} pad: {size // 2} }}",
        )
        return self.layer(f"{name}_relu", "ReLU", [top])

    def dense(self, name, bottom, inputs, outputs):
        kernel = self.random.normal(0, (1 / inputs) ** 0.5, (outputs, inputs))
        self.blobs[name] = [kernel, self.random.normal(0, 0.1, outputs)]
        parameters = f"inner_product_param {{ num_output: {outputs} }}"
        return self.layer(name, "InnerProduct", [bottom], parameters)

    def pool(self, name, bottom, kind, size, stride, pad=0):
        return self.layer(
            name,
            "Pooling",
            [bottom],
            f"pooling_param {{ pool: {kind} kernel_size: {size} stride: {stride} "
            f"pad: {pad} }}",
        )

    def softmax(self, name, bottom):
        self.tops[name] = self.layer(name, "Softmax", [bottom])

    def row(self, stage, row, top, channels):
        group, _, rest = stage.partition("_")
        name = f"{group}/{rest}"
        match row:
            case Conv():
                filters, size, stride = row.filters, row.size, row.strides
                return self.conv(name, top, channels, filters, size, stride), filters
            case MaxPool():
                return self.pool(name, top, "MAX", row.size, row.strides), channels
            case LocalResponseNorm():
                parameters = (
                    f"lrn_param {{ local_size: {row.size} alpha: {row.alpha} "
                    f"beta: {row.beta} }}"
                )
                return self.layer(name, "LRN", [top], parameters), channels
            case GlobalAveragePool():
                return self.pool(name, top, "AVE", 7, 1), channels
            case Dropout():
                return top, channels
            case Inception():
                return self.inception(stage, row, top, channels)

    def inception(self, stage, row, top, channels):
        def conv(part, bottom, channels, filters, size):
            return self.conv(f"{stage}/{part}", bottom, channels, filters, size)

        three = conv("3x3_reduce", top, channels, row.reduce_3x3, 1)
        five = conv("5x5_reduce", top, channels, row.reduce_5x5, 1)
        pool = self.pool(f"{stage}/pool", top, "MAX", 3, 1, 1)
        branches = [
            conv("1x1", top, channels, row.conv_1x1, 1),
            conv("3x3", three, row.reduce_3x3, row.conv_3x3, 3),
            conv("5x5", five, row.reduce_5x5, row.conv_5x5, 5),
            conv("pool_proj", pool, channels, row.pool_proj, 1),
        ]
        filters = row.conv_1x1 + row.conv_3x3 + row.conv_5x5 + row.pool_proj
        return self.layer(f"{stage}/output", "Concat", branches), filters

    def head(self, stage, top, channels):
        loss = {"inception_4a": "loss1", "inception_4d": "loss2"}[stage]
        pool = self.pool(f"{loss}/ave_pool", top, "AVE", 5, 3)
        conv = self.conv(f"{loss}/conv", pool, channels, 128, 1)
        fc = self.dense(f"{loss}/fc", conv, 2048, 1024)
        fc = self.layer(f"{loss}/relu_fc", "ReLU", [fc])
        self.dense(f"{loss}/classifier", fc, 1024, CLASSES)
        self.softmax(f"aux_{stage.removeprefix('inception_')}", f"{loss}/classifier")

    def renamed(self, names):
        """A copy whose layers have other names; None leaves a layer's weights out."""
        copy = Network.__new__(Network)
        new = {name: names.get(name, name) for name in self.blobs}
        copy.blobs = {new[name]: blobs for name, blobs in self.blobs.items()}
        copy.blobs.pop(None, None)
        copy.graph = [
            (new.get(name) or name, bottoms, top) for name, bottoms, top in self.graph
        ]
        return copy

    def write(self, path, layers=PRESENT, graph=False):
        """Writes the blobs as a .caffemodel, in the first format or the current one.

        With `graph` it writes what each layer reads and makes; as in Caffe's snapshots
        ReLU works in place.
        """
        name_field, bottom_field, top_field, blobs_field = {
            V1: (4, 2, 3, 6),
            PRESENT: (1, 3, 4, 7),
        }[layers]
        net = field(1, b"GoogleNet")
        net += field(layers, field(name_field, b"data"))  # a layer without weights
        listed = self.graph if graph else [(name, [], "") for name in self.blobs]
        in_place = {top: bottoms[0] for _, bottoms, top in listed if "relu" in top}
        for name, bottoms, top in listed:
            content = field(name_field, name.encode())
            for bottom in bottoms:
                bottom = in_place.get(bottom, bottom)
                content += field(bottom_field, bottom.encode())
            if graph:
                content += field(top_field, in_place.get(top, top).encode())
            for blob in self.blobs.get(name, []):
                content += field(blobs_field, message(blob, layers))
            net += field(layers, content)
        path.write_bytes(net)
        return path

    def write_hdf5(self, path):
        with h5py.File(path, "w") as file:
            for name, blobs in self.blobs.items():
                for index, blob in enumerate(blobs):
                    file[f"data/{name}/{index}"] = blob.astype("float32")
        return path


def varint(number):
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes(data) + bytes([number])


def field(number, content: bytes):
    return varint(number << 3 | 2) + varint(len(content)) + content


def message(blob, layers):
    """A BlobProto, whose shape is four numbers in the first format, else a message."""
    if layers == V1:
        old = [1] * (4 - blob.ndim) + list(blob.shape)
        shape = b"".join(
            varint(n << 3) + varint(dim) for n, dim in enumerate(old, start=1)
        )
    else:
        shape = field(7, field(1, b"".join(varint(dim) for dim in blob.shape)))
    return shape + field(5, struct.pack(f"<{blob.size}f", *blob.ravel()))


def assert_equal(model, other):
    """Whether two models have the same weights, layer by layer."""
    weights = {weight.path: weight.numpy() for weight in other.weights}
    assert model.weights
    for weight in model.weights:
        if "seed_generator" not in weight.path:
            np.testing.assert_array_equal(weight, weights[weight.path], weight.path)


CLASSIFIERS = ("loss1/classifier", "loss2/classifier", "loss3/classifier")
FLOWERS = {name: f"{name}_flowers" for name in CLASSIFIERS}  # as in Caffe's guide


@pytest.fixture(scope="module")
def network():
    return Network()


@pytest.fixture(scope="module")
def caffemodel(network, tmp_path_factory):
    return network.write(tmp_path_factory.mktemp("caffe") / "bvlc.caffemodel")


@pytest.fixture(scope="module")
def published(caffemodel):
    """The model of the plain file."""
    return ki.weights.load_caffe(caffemodel)


def test_every_endpoint_and_output_equals_opencvs(network, caffemodel, published):
    images = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3))
    images = images.astype("float32")
    prototxt = caffemodel.with_suffix(".prototxt")
    prototxt.write_text("\n".join(network.text))
    theirs = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    # Fused layers would hide endpoints.
    theirs.enableFusion(False)
    theirs.enableWinograd(False)
    mean = np.array([104, 117, 123], "float32")  # of B, G, R
    theirs.setInput((images[..., ::-1] - mean).transpose(0, 3, 1, 2))
    tops = dict(network.tops)
    values = dict(zip(tops, theirs.forward(list(tops.values())), strict=True))

    model = published
    ours = endpoints(model, ki.GOOGLENET, images)

    assert list(model.output) == ["main", "aux_4a", "aux_4d"]
    assert set(values) == set(ours)
    for name, value in values.items():
        if value.ndim == 4:
            value = value.transpose(0, 2, 3, 1).reshape(ours[name].shape)
        assert relative_difference(ours[name], value) < 1e-4, name


def test_layers_of_the_first_format_give_the_same_weights(network, published, tmp_path):
    flowers = network.renamed(FLOWERS)
    path = flowers.write(tmp_path / "v1.caffemodel", V1, graph=True)
    assert_equal(ki.weights.load_caffe(path), published)


@pytest.mark.parametrize(
    ("names", "graph", "arguments"),
    [
        # nothing in the names says where they belong
        (dict(zip(CLASSIFIERS, "xyz", strict=True)), True, {}),
        pytest.param(FLOWERS, False, {}, marks=pytest.mark.slow),
        pytest.param(
            {name: f"categories_{name}" for name in CLASSIFIERS},
            True,
            {"auxiliary": ["aux_4d"]},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            dict(zip(CLASSIFIERS, "xyz", strict=True)),
            False,
            {"classifier": {"aux_4a": "x", "inception_4d": "y", "main": "z"}},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_renamed_classifiers_are_found_by_what_they_read(
    network, published, tmp_path, names, graph, arguments
):
    path = network.renamed(names).write(tmp_path / "flowers.caffemodel", graph=graph)
    model = ki.weights.load_caffe(path, **arguments)
    assert len(model.heads) == (1 if "auxiliary" in arguments else 2)
    assert_equal(model, published)


@pytest.mark.slow
def test_hdf5_files_give_the_same_weights(network, published, tmp_path):
    path = network.renamed({CLASSIFIERS[-1]: "loss3/flowers"}).write_hdf5(
        tmp_path / "net.caffemodel.h5"
    )
    assert_equal(ki.weights.load_caffe(path), published)


def test_heads_of_other_classes_are_named_or_left_out(network, tmp_path):
    tuned = network.renamed({})
    tuned.blobs["loss3/classifier"] = [np.ones((3, 1024)), np.ones(3)]
    path = tuned.write(tmp_path / "tuned.caffemodel")
    with pytest.raises(ValueError, match=r"main 3, aux_4a 7, aux_4d 7.*--no-heads"):
        ki.weights.load_caffe(path)
    model = ki.weights.load_caffe(path, auxiliary=())
    assert model.output["main"].shape == (None, 3)
    assert list(model.output) == ["main"]


def test_a_classifier_that_is_not_clear_is_asked_for(network, tmp_path):
    several = network.renamed({"loss3/classifier": "loss3/color"})
    several.blobs["loss3/shape"] = several.blobs["loss3/color"]
    path = several.write(tmp_path / "several.caffemodel")
    for arguments, message in (
        ({}, r"several layers.*'loss3/color', 'loss3/shape'.*--classifier NAME"),
        ({"classifier": "loss3/color"}, r"unexpected tensors: 'loss3/shape\[0\]'"),
        ({"classifier": "loss4"}, "no layer 'loss4'.*Candidates: 'loss3/color'"),
        ({"ignore": ["loss3/size"]}, "no tensor 'loss3/size' to ignore"),
        (
            {"auxiliary": ["3a"], "ignore": ["loss3/shape"]},
            "no output or endpoint '3a'",
        ),
        ({"ignore": ["loss3/*"]}, "it lacks .* loss3/classifier.*Its layers: 'conv1"),
    ):
        with pytest.raises(ValueError, match=message):
            ki.weights.load_caffe(path, **arguments)
    partial = network.renamed({"loss2/fc": None}).write(tmp_path / "part.caffemodel")
    with pytest.raises(ValueError, match=r"lacks 'loss2/fc\[0\]'.*--no-heads"):
        ki.weights.load_caffe(partial)


def test_other_files_of_caffe_are_told_apart(network, tmp_path):
    blob = message(np.zeros((1, 3, 2, 2)), V1)
    state = varint(1 << 3) + varint(400) + field(2, b"net.caffemodel") + field(3, blob)
    (tmp_path / "net.solverstate").write_bytes(state)
    (tmp_path / "mean.binaryproto").write_bytes(blob)
    (tmp_path / "net.prototxt").write_text('name: "GoogleNet"\nlayer { name: "é" }\n')
    with h5py.File(tmp_path / "net.solverstate.h5", "w") as file:
        file["learned_net"], file["iter"] = "net.caffemodel.h5", 400
    for name, message_of in {
        "net.solverstate": r"solver's state.*in net\.caffemodel.*Pass the \.caffemodel",
        "net.solverstate.h5": r"solver's state.*in net\.caffemodel\.h5",
        "mean.binaryproto": "mean image",
        "net.prototxt": r"is text, as a prototxt.*has no weights",
    }.items():
        with pytest.raises(ValueError, match=message_of):
            ki.weights.load_caffe(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="is a directory"):
        ki.weights.load_caffe(tmp_path)


def test_a_file_without_heads_gives_a_model_without(network, tmp_path):
    without_heads = network.renamed(
        {name: None for name in network.blobs if name.startswith(("loss1", "loss2"))}
    )
    model = ki.weights.load_caffe(
        without_heads.write(tmp_path / "without_heads.caffemodel")
    )
    assert list(model.output) == ["main"]


def test_faults_are_named_and_nothing_is_loaded(network, caffemodel, tmp_path):
    faulty = network.renamed({"inception_4b/5x5": None})
    faulty.blobs["fire2/squeeze1x1"] = [np.zeros((2, 2, 1, 1))]
    faulty.blobs["conv1/7x7_s2"] = [np.zeros((64, 1, 7, 7)), np.zeros(64)]
    with pytest.raises(ValueError, match="Nothing was loaded") as raised:
        ki.weights.load_caffe(faulty.write(tmp_path / "faulty.caffemodel"))
    message = str(raised.value)
    assert "lacks 'inception_4b/5x5[0]', 'inception_4b/5x5[1]'" in message
    assert "has unexpected tensors: 'fire2/squeeze1x1[0]'" in message
    assert "conv1/7x7_s2[0] (64, 1, 7, 7) (does not fit (7, 7, 3, 64)" in message


def test_truncated_files_and_other_kinds_are_rejected(caffemodel, tmp_path):
    data = caffemodel.read_bytes()
    cut = tmp_path / "cut.caffemodel"
    for kept in (100_000, len(data) - 7, len(data) // 2):
        cut.write_bytes(data[:kept])
        with pytest.raises(ValueError, match=r"cut\.caffemodel can't be read"):
            ki.weights.load_caffe(cut)
    for content in (b"", b"PK\x03\x04 a zip file, say", b"\x89PNG\r\n\x1a\n" * 9):
        cut.write_bytes(content)
        with pytest.raises(ValueError, match=r"can't be read|is not BVLC's GoogLeNet"):
            ki.weights.load_caffe(cut)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        ki.weights.load_caffe(tmp_path / "nowhere.caffemodel")
