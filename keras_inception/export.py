"""SavedModels for TF Serving: the main output alone, labels inside."""

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from keras_inception.data.pictures import decode, fit_square
from keras_inception.early_exit import EarlyExit
from keras_inception.early_exit.serving import serving_early_exit
from keras_inception.supervision import MAIN, DeeplySupervised, detach_auxiliary


def export_saved_model(
    model: keras.Model,
    directory: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    version: int | None = None,
    early_exit: EarlyExit | str | Path | None = None,
) -> Path:
    """Writes the main output of a model as a new version that TF Serving can load.

    Signatures, all with a free batch dimension:

    - `serving_default`: `images`, float32 `(batch, height, width, 3)` raw RGB pixels
      0..255, to `main`, float32 `(batch, classes)` probabilities;
    - `serving_uint8`: the same from uint8 pixels, a quarter of the bytes to send;
    - `serving_bytes`: `image_bytes`, string `(batch,)`, JPEG or PNG files of any size,
      to `classes` (names) and `scores`, both `(batch, classes)`, best first;
    - `serving_early_exit`, only where exits are given: as `serving_default`, to `main`
      and `exit`, string `(batch,)`, the name of the output that answered.

    No optimizer and no dropout is inside, and no head but the exits. The version is
    written beside its place and renamed into it: it appears whole or not at all.

    Args:
        model: A `DeeplySupervised` model, or a functional classifier of pictures with
            a single output.
        directory: `saved_models/NAME`; versions are written as numbers below it.
        class_names: Names in label order. Defaults to those that the model carries,
            else the class indices.
        version: A number that is not there yet; by default the highest plus one.
        early_exit: Exits of this model, or the file `exits.json` with them. Their heads
            are exported as well. Defaults to none.

    Returns:
        The path of the new version.

    Raises:
        ValueError: If the names are not one per class, the version is no positive
            number, or the model takes no pictures of a fixed size.
        FileExistsError: If the version exists already.
        RuntimeError: If Keras does not run on TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "A SavedModel is written by TensorFlow, but Keras runs on "
            f"{keras.backend.backend()}. Save the model as .keras and export it with "
            "KERAS_BACKEND=tensorflow: the file loads on every backend."
        )
    if class_names is None:
        class_names = getattr(model, "class_names", None)
    main = detach_auxiliary(model) if isinstance(model, DeeplySupervised) else model
    servable, signatures = _servable(main, _checked_names(class_names, main))
    if early_exit is not None:
        if not isinstance(early_exit, EarlyExit):
            early_exit = EarlyExit.load(early_exit, model)
        serve, servable.exit_weights = serving_early_exit(early_exit)
        signatures["serving_early_exit"] = serve
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # No number, so that TF Serving passes over it; on the same filesystem, so that it
    # can be renamed.
    partial = directory / f".partial-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        tf.saved_model.save(servable, partial, signatures=signatures)
        return _publish(partial, directory, version)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def versions(directory: str | Path) -> list[int]:
    """The versions in a model's directory, in rising order."""
    names = (entry.name for entry in Path(directory).iterdir() if entry.is_dir())
    return sorted(int(name) for name in names if name.isdecimal())


def load_classifier(path: str | Path) -> Callable[[str], list[tuple[str, float]]]:
    """An exported model as a function from a picture file to ranked classes.

    Args:
        path: A version, or the directory of versions, whose highest is taken.

    Returns:
        A function that takes a picture file's path and returns `(class, score)` pairs,
        best first. It raises a `ValueError` for a file that is no picture.

    Raises:
        ValueError: If there is no exported model with a `serving_bytes` signature.
    """
    path = Path(path)
    if not (path / "saved_model.pb").is_file():
        found = versions(path)
        path = path / str(found[-1]) if found else path
    if not (path / "saved_model.pb").is_file():
        raise ValueError(
            f"{path} holds no exported model: neither saved_model.pb nor a numbered "
            "version with one, as keras-inception export writes."
        )
    loaded = tf.saved_model.load(path)
    if "serving_bytes" not in loaded.signatures:
        raise ValueError(
            f"{path} has no signature serving_bytes, which takes picture files. It "
            f"has: {', '.join(loaded.signatures) or 'none'}"
        )
    signature = loaded.signatures["serving_bytes"]

    def classify(image):
        try:
            answer = signature(image_bytes=tf.io.read_file(str(image))[None])
        except tf.errors.NotFoundError:
            raise FileNotFoundError(f"There is no picture file {image}") from None
        except tf.errors.InvalidArgumentError:
            raise ValueError(
                f"{image} can't be read as a picture: it is neither JPEG nor PNG, or "
                "damaged"
            ) from None
        classes, scores = answer["classes"][0].numpy(), answer["scores"][0].numpy()
        return [(c.decode(), float(s)) for c, s in zip(classes, scores, strict=True)]

    return classify


def _publish(partial: Path, directory: Path, version: int | None) -> Path:
    if version is not None and version < 1:
        raise ValueError(f"A version is a number from 1. Received: {version}")
    while True:
        number = version or max(versions(directory), default=0) + 1
        place = directory / str(number)
        try:
            if not place.exists():  # rename would replace an empty directory
                return partial.rename(place)
        except OSError:
            if not place.exists():
                raise
        if version is not None:
            raise FileExistsError(
                f"{place} exists, and a version is never overwritten: TF Serving may "
                "be reading it. Choose another number, or leave it out for the next."
            )


def _checked_names(class_names, main: keras.Model) -> list[str]:
    classes = main.output.shape[-1]
    if class_names is None:
        return [str(index) for index in range(classes)]
    if len(class_names) != classes:
        raise ValueError(
            f"The model has {classes} classes; class_names must name each of them. "
            f"Received {len(class_names)} names."
        )
    return [str(name) for name in class_names]


def _servable(
    main: keras.Model, class_names: list[str]
) -> tuple[tf.Module, dict[str, Callable]]:
    """The weights alone, without anything of Keras, and the signatures on them."""
    if len(main.inputs) != 1 or len(main.input.shape) != 4:
        raise ValueError(
            "Only a model with one input of pictures (batch, height, width, 3) can be "
            f"exported. Received inputs of shapes {[x.shape for x in main.inputs]}"
        )
    height, width = main.input.shape[1:3]
    if height is None or height != width:
        raise ValueError(
            "serving_bytes fits pictures to a square of a fixed size, but this model "
            f"takes {height}x{width} pixels."
        )

    def probabilities(images):
        # oneDNN's convolutions fail on an empty batch: it gets one picture for a while.
        batch = tf.shape(images)[0]
        missing = tf.cast(tf.equal(batch, 0), tf.int32)
        images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        outputs = main(tf.cast(images, tf.float32), training=False)
        if isinstance(outputs, dict):
            outputs = outputs[MAIN]
        return outputs[:batch]

    pixels = (None, height, width, 3)

    @tf.function(input_signature=[tf.TensorSpec(pixels, tf.float32, "images")])
    def serving_default(images):
        return {MAIN: probabilities(images)}

    @tf.function(input_signature=[tf.TensorSpec(pixels, tf.uint8, "images")])
    def serving_uint8(images):
        return {MAIN: probabilities(images)}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")])
    def serving_bytes(image_bytes):
        images = tf.map_fn(
            lambda contents: fit_square(decode(contents), height),
            image_bytes,
            fn_output_signature=tf.TensorSpec(pixels[1:], tf.float32),
        )
        scores, order = tf.math.top_k(probabilities(images), len(class_names))
        return {"classes": tf.gather(tf.constant(class_names), order), "scores": scores}

    servable = tf.Module()
    # The variables themselves: tracking the Keras model as well would write the
    # weights twice.
    servable.weights = [variable.value for variable in main.weights]
    return servable, {
        "serving_default": serving_default,
        "serving_uint8": serving_uint8,
        "serving_bytes": serving_bytes,
    }
