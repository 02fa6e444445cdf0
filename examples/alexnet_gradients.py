"""How the gradient shrinks on its way through 8 layers, and through 22.

    python examples/alexnet_gradients.py

AlexNet and GoogLeNet, both as wide as in their papers, look at eight handwritten digits
with four kinds of initial weights: normal with deviation 0.01 and Xavier's, as in 2014,
He's, and He's with batch normalization. The table has the norm of the gradient that the
loss at the end sends to each stage.
"""

import keras
from keras import layers

import keras_inception as ki
from keras_inception.gradients import reinitialized
from keras_inception.layers import LocalResponseNormalization

CLASSES, PICTURES = 10, 8

# Krizhevsky et al. 2012, section 3.5, as one tower; maps for 227x227 pixels.
# fmt: off
CONVOLUTIONS = (
    # stage  filters size strides  norm   pool
    ("conv1",     96,  11,      4, True,  True),   # 55x55, 27x27
    ("conv2",    256,   5,      1, True,  True),   # 27x27, 13x13
    ("conv3",    384,   3,      1, False, False),  # 13x13
    ("conv4",    384,   3,      1, False, False),  # 13x13
    ("conv5",    256,   3,      1, False, True),   # 13x13, 6x6
)
DENSE = ("fc6", "fc7")  # of 4096 units each
# fmt: on


def alexnet(batch_norm: bool) -> keras.Model:
    """AlexNet with the pixels, and the response normalization, of our GoogLeNet."""

    def activated(x, stage: str):
        if batch_norm:
            x = layers.BatchNormalization(name=f"{stage}_bn")(x)
        return layers.ReLU(name=f"{stage}_relu")(x)

    he = {"kernel_initializer": "he_normal"}
    x = inputs = keras.Input((227, 227, 3))
    x = layers.Rescaling(1 / 64, [-123 / 64, -117 / 64, -104 / 64])(x)
    for stage, filters, size, strides, norm, pool in CONVOLUTIONS:
        padding = "valid" if strides > 1 else "same"
        x = layers.Conv2D(filters, size, strides, padding, name=stage, **he)(x)
        x = activated(x, stage)
        x = LocalResponseNormalization(name=f"{stage}_norm")(x) if norm else x
        x = layers.MaxPooling2D(3, 2, name=f"{stage}_pool")(x) if pool else x
    x = layers.Flatten(name="flatten")(x)
    for stage in DENSE:
        x = activated(layers.Dense(4096, name=stage, **he)(x), stage)
    outputs = layers.Dense(CLASSES, activation="softmax", name="main")(x)
    return keras.Model(inputs, outputs)


def googlenet(batch_norm: bool) -> keras.Model:
    """GoogLeNet without its heads."""
    return ki.GoogLeNet(
        (224, 224, 3), CLASSES, auxiliary=(), batch_norm=batch_norm, name="googlenet"
    )


# Each network, and the layers between the last stage and the first. GoogLeNet's modules
# are two layers deep.
NETWORKS = {"AlexNet": (alexnet, 6), "GoogLeNet": (googlenet, 20)}
WEIGHTS = {
    "gaussian": ("gaussian", False),
    "xavier": ("xavier", False),
    "he": ("he", False),
    "batch norm": ("he", True),
}


def norms(build, init: str, batch_norm: bool) -> dict[str, float]:
    """The norm of the gradient of each stage with weights before the classifier."""
    model = reinitialized(build(batch_norm), init)
    data = ki.data.load("digits", model.input.shape[1], batch_size=PICTURES)
    images, labels = next(iter(data.validation.as_numpy_iterator()))
    rows = ki.gradient_flow(model, images, labels, training=batch_norm)
    found = {row.stage: row.norm for row in rows if row.loss == "main"}
    del found["main"]
    return found


for network, (build, steps) in NETWORKS.items():
    columns = {name: norms(build, *weights) for name, weights in WEIGHTS.items()}
    print(f"{network:<18}" + "".join(f"{name:>12}" for name in columns))
    for stage in columns["he"]:
        print(f"{stage:<18}" + "".join(f"{c[stage]:>12.2g}" for c in columns.values()))
    shrinking = []
    for norm_by_stage in columns.values():
        first, *_, last = norm_by_stage.values()
        shrinking.append((first / last) ** (1 / steps))
    label = f"per layer ({steps})"
    print(f"{label:<18}" + "".join(f"{factor:>12.2f}" for factor in shrinking) + "\n")
