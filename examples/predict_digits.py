"""Ask an exported digits model about validation pictures; compare with the truth.

python examples/predict_digits.py saved_models/digits
"""

import sys
from pathlib import Path

import tensorflow as tf

import keras_inception as ki


def main(directory: str) -> None:
    version = max(ki.export.versions(directory))
    exported = tf.saved_model.load(Path(directory) / str(version))
    classify = exported.signatures["serving_bytes"]
    digits = ki.data.find("digits")
    pixels, labels = digits.validation.elements[0], digits.validation.labels
    print(f"{directory}, version {version}, asked about validation digits as PNG:")
    for picture, label in zip(pixels[:8], labels[:8], strict=True):
        answer = classify(image_bytes=tf.io.encode_png(picture)[None])
        best, score = answer["classes"][0, 0].numpy(), answer["scores"][0, 0].numpy()
        truth = digits.class_names[label]
        print(f"  true {truth}   predicted {best.decode()} ({score:.3f})")


if __name__ == "__main__":
    main(sys.argv[1])
