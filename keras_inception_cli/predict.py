"""Classify picture files with a .keras model or an exported directory."""

import argparse
import json
from pathlib import Path

from keras_inception_cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `predict` takes."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a .keras file, an exported version, or the directory of its versions",
    )
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="picture files")
    parser.add_argument(
        "--top", type=int, default=3, help="classes shown for each (default: 3)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object per picture instead"
    )


def run(options: argparse.Namespace) -> None:
    """Prints the likeliest classes of each picture, best first."""
    common.check_at_least(options, {"top": 1})
    with common.quiet_start():
        from keras_inception import data, export

    path = Path(options.model)
    if path.is_dir():
        classify = export.load_classifier(path)
    else:
        model = common.load_model(options.model)
        classify = _classifier(model, data.load_picture)
    for image in options.images:
        ranked = classify(image)[: options.top]
        if options.json:
            print(json.dumps({"image": image, "classes": dict(ranked)}))
        else:
            listed = ", ".join(f"{name} {score:.3f}" for name, score in ranked)
            print(f"{image}: {listed}")


def _classifier(model, load_picture):
    import numpy as np

    side = common.picture_side(model)

    def classify(image):
        outputs = model.predict(load_picture(image, side)[None], verbose=0)
        scores = outputs["main"] if isinstance(outputs, dict) else outputs
        names = getattr(model, "class_names", None) or range(scores.shape[-1])
        order = np.argsort(-scores[0])
        return [(str(names[index]), float(scores[0, index])) for index in order]

    return classify
