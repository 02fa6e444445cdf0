"""Classify picture files with a .keras model, an exported directory or a server."""

import argparse
import json
from pathlib import Path

from keras_inception_cli import common, console, remote


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `predict` takes."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a .keras file, an exported version, or the directory of its versions; "
        "left out with --url",
    )
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="picture files")
    parser.add_argument(
        "--url",
        help="ask a running server instead, TF Serving or keras-inception serve: "
        "http://HOST:PORT/v1/models/NAME",
    )
    parser.add_argument(
        "--top", type=int, default=3, help="classes shown for each (default: 3)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object per picture instead"
    )


def run(options: argparse.Namespace) -> None:
    """Prints the likeliest classes of each picture, best first."""
    common.check_at_least(options, {"top": 1})
    images = options.images
    if options.url:
        images = [options.model, *images]
        classify = remote.remote_classifier(options.url)
    elif not images:
        raise ValueError("predict needs a MODEL and at least one IMAGE")
    else:
        classify = _local_classifier(options.model)
    for image in images:
        ranked = classify(image)[: options.top]
        if options.json:
            print(json.dumps({"image": image, "classes": dict(ranked)}))
        else:
            listed = ", ".join(f"{name} {score:.3f}" for name, score in ranked)
            print(f"{image}: {listed}")


def _local_classifier(path):
    with console.quiet_start():
        from keras_inception import data, export

    if Path(path).is_dir():
        return export.load_classifier(path)
    return _classifier(common.load_model(path), data.load_picture)


def _classifier(model, load_picture):
    import numpy as np

    from keras_inception.defaults import input_size_of
    from keras_inception.supervision import plain_classifier

    side = input_size_of(model)
    main = plain_classifier(model)

    def classify(image):
        scores = main.predict(load_picture(image, side)[None], verbose=0)
        names = getattr(model, "class_names", None) or range(scores.shape[-1])
        order = np.argsort(-scores[0])
        return [(str(names[index]), float(scores[0, index])) for index in order]

    return classify
