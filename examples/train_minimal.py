"""A network from its table to answers, top to bottom, in this one file.

    python examples/train_minimal.py

A small GoogLeNet with two auxiliary heads learns handwritten digits in about half a
minute on two cores, is exported for TF Serving, and the export answers.
"""

import keras
import tensorflow as tf

import keras_inception as ki
from keras_inception.architecture import (
    Architecture,
    Conv,
    Dropout,
    GlobalAveragePool,
    Inception,
    MaxPool,
)

# 1. The network is a table: a row per stage. Shapes are for 32x32 pixels.
# fmt: off
TABLE = Architecture(
    name="minimal",
    rows={
        "conv1_3x3":         Conv(32, 3),                          # 32x32x32
        "pool1_3x3_s2":      MaxPool(3, strides=2),                # 16x16x32
        #                              1x1 3x3r 3x3 5x5r 5x5 proj
        "inception_3a":      Inception(16,  16, 24,   4,  8,   8), # 16x16x56
        "pool3_3x3_s2":      MaxPool(3, strides=2),                # 8x8x56
        "inception_4a":      Inception(24,  16, 32,   8, 16,  16), # 8x8x88
        "inception_4b":      Inception(24,  24, 48,   8, 16,  16), # 8x8x104
        "pool5_8x8_s1":      GlobalAveragePool(),                  # 104
        "pool5_drop_8x8_s1": Dropout(0.2),                         # 104
    },
    input_mean=(127.5, 127.5, 127.5),
    input_scale=1 / 127.5,
    smallest_input=32,
)
# fmt: on

keras.utils.set_random_seed(0)

# 2. The table becomes a Keras model: the main classifier, and a head on two endpoints.
model = ki.GoogLeNet(
    input_shape=(32, 32, 3),
    classes=10,
    architecture=TABLE,
    auxiliary=[
        ki.AuxiliaryHead(endpoint, filters=32, units=64, dropout=0.3, batch_norm=True)
        for endpoint in ("inception_3a", "inception_4a")
    ],
    batch_norm=True,
)

# 3. One label per picture trains all three outputs; each head's loss counts 0.3.
data = ki.data.load("digits", image_size=32)
model.compile(keras.optimizers.Adam(0.003), loss_weights=0.3)
model.fit(data.train, epochs=4, verbose=2, shuffle=False)  # data.train shuffles

# 4. Accuracy of every output on the validation split.
scores = model.evaluate(data.validation, return_dict=True, verbose=0)
for output in model.output:
    print(f"{output:<8} accuracy {scores[f'{output}_accuracy']:.3f}")

# 5. The export holds the main output alone and takes picture files.
path = ki.export.export_saved_model(
    model, "saved_models/digits", class_names=data.class_names
)
print(f"wrote {path}")

# 6. The exported model answers without keras_inception, as in TF Serving.
classify = tf.saved_model.load(path).signatures["serving_bytes"]
for picture, label in data.validation.unbatch().take(8).as_numpy_iterator():
    answer = classify(image_bytes=tf.io.encode_png(picture.astype("uint8"))[None])
    best, score = answer["classes"][0, 0].numpy(), answer["scores"][0, 0].numpy()
    print(f"true {label}  predicted {best.decode()} ({score:.3f})")
