"""Classify picture files with a .keras model, an exported directory or a server."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from keras_inception_cli import common, console, remote


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `predict`."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a .keras file, an exported version, or the directory of its versions; "
        "omitted with --url",
    )
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="picture files")
    parser.add_argument(
        "--url",
        help="use a running server instead, TF Serving or keras-inception serve: "
        "http://HOST:PORT/v1/models/NAME",
    )
    parser.add_argument(
        "--top", type=int, default=3, help="classes per picture (default: 3)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object per picture instead"
    )


def run(options: argparse.Namespace) -> None:
    """Prints the most probable classes of each picture, best first."""
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
            answer = ", ".join(f"{name} {score:.3f}" for name, score in ranked)
            print(f"{image}: {answer}")


def _local_classifier(path: str) -> Callable[[str], list[tuple[str, float]]]:
    """Makes a function from a picture file to its classes and scores, best first."""
    with console.quiet_start():
        import numpy as np

        from keras_inception import data, export
        from keras_inception.defaults import input_size_of
        from keras_inception.supervision import plain_classifier

    if Path(path).is_dir():
        return export.load_classifier(path)
    model = common.load_model(path)
    input_size, main = input_size_of(model), plain_classifier(model)

    def classify(image: str) -> list[tuple[str, float]]:
        pixels = data.load_picture(image, input_size)
        scores = main.predict(pixels[None], verbose=0)[0]
        names = getattr(model, "class_names", None) or range(len(scores))
        best_first = np.argsort(-scores)
        return [(str(names[index]), float(scores[index])) for index in best_first]

    return classify
