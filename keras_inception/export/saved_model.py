"""Writes a SavedModel: signatures, labels, warm-up requests, model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from keras_inception.early_exit import EarlyExit
from keras_inception.export import warmup
from keras_inception.export.card import write_card
from keras_inception.export.folding import for_runtimes
from keras_inception.export.signatures import CLASSIFY, Signature, gather
from keras_inception.export.versioning import being_written, check_version, publish
from keras_inception.layers import LocalResponseNormalization
from keras_inception.supervision import plain_classifier

# float16 can't hold the squares that response normalisation adds up.
DTYPES = ("bfloat16",)


def export_saved_model(
    model: keras.Model,
    directory: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    version: int | None = None,
    top: int | None = None,
    early_exit: EarlyExit | str | Path | None = None,
    dtype: str | None = None,
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Writes the main output of a model as a new version that TF Serving can load.

    Signatures, all with a free batch dimension:

    - `serving_default`: `images`, float32 `(batch, height, width, 3)` raw RGB pixels
      0..255, to `main`, float32 `(batch, classes)` probabilities;
    - `serving_uint8`: the same from uint8 pixels, a quarter of the bytes to send;
    - `serving_bytes`: `image_bytes`, string `(batch,)`, JPEG or PNG files of any size,
      to `classes` (names) and `scores`, both `(batch, top)`, best first;
    - `classify`: the same from `inputs`, serialized `tf.Example`s with the feature
      `image_bytes`, which is the form of TF Serving's Classify API;
    - `serving_early_exit`, only where exits are given: as `serving_default`, to `main`
      and `exit`, string `(batch,)`, the name of the output that answered.

    No optimizer and no dropout is inside, and no head but the exits.
    `assets/labels.txt` holds the names, `assets.extra/` a warm-up request for each
    signature, which the written model has answered, `model_card.md` what there is to
    know. The version is written beside its place and renamed into it: it appears whole
    or not at all.

    Args:
        model: A `DeeplySupervised` model, or a functional classifier of pictures with
            a single output.
        directory: `saved_models/NAME`; versions are written as numbers below it.
        class_names: Names in label order. Defaults to those that the model carries,
            else the class indices.
        version: A number that is not there yet; by default the highest plus one.
        top: How many classes `serving_bytes` and `classify` return; by default all.
        early_exit: Exits of this model, or the file `exits.json` with them. Their heads
            are exported as well. Defaults to none.
        dtype: `"bfloat16"` computes in it between scaled pixels and the last dense
            layer: little more than half the bytes, and faster where processors know it
            (AVX512-BF16, AMX, GPUs since 2020); numbers keep 8 significant bits.
            Defaults to the model's own.
        facts: Lines for the model card, such as `{"data": ..., "accuracy": ...}`.

    Returns:
        The path of the new version.

    Raises:
        ValueError: If the names are not one per class, the version is no positive
            number, `top` is not from 1 to the number of classes, the model takes no
            pictures of a fixed size, or there is no such dtype, or none with exits or
            with a model within the model.
        FileExistsError: If the version exists already.
        RuntimeError: If Keras does not run on TensorFlow, or if what was written does
            not answer as the model does.
    """
    check_backend("A SavedModel")
    directory = Path(directory)
    main, class_names = main_and_names(model, class_names)
    if top is not None and not 1 <= top <= len(class_names):
        raise ValueError(
            f"top must be from 1 to the {len(class_names)} classes. Received: {top}"
        )
    check_version(directory, version)
    if early_exit is not None and not isinstance(early_exit, EarlyExit):
        early_exit = EarlyExit.load(early_exit, model)
    if early_exit is not None and early_exit.model is not model:
        raise ValueError(
            "early_exit belongs to another model than the one to export. Give "
            "EarlyExit(model, thresholds) of this model, or its exits.json."
        )
    served, facts = main, dict(facts or {})
    if dtype is not None:
        _check_dtype(dtype, early_exit)
        served = for_runtimes(main, LocalResponseNormalization, dtype)
        facts["computes in"] = (
            f"{dtype}; parameters and accuracy are those of the model as it was trained"
        )
    signatures = gather(served, class_names, top, early_exit)
    with being_written(directory) as partial:
        _save(partial, signatures)
        write_labels(partial / "assets", class_names)
        warmup.write_requests(partial, directory.name, signatures)
        warmup.replay(partial, signatures)
        write_card(partial, directory.name, main, class_names, signatures, facts)
        return publish(partial, directory, version)


def _check_dtype(dtype: str, early_exit: EarlyExit | None) -> None:
    if dtype not in DTYPES:
        raise ValueError(
            f"dtype must be None, for the model's own, or {' or '.join(DTYPES)}. "
            f"Received: {dtype!r}"
        )
    if early_exit is not None:
        raise ValueError(
            f"The thresholds of early_exit were chosen for the model as it is, not for "
            f"one in {dtype}. Leave out one of the two."
        )


def check_backend(what: str) -> None:
    """Refuses to export from a backend that can't."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"{what} is written by TensorFlow, but Keras runs on "
            f"{keras.backend.backend()}. Save the model as .keras and export it with "
            "KERAS_BACKEND=tensorflow: the file loads on every backend."
        )


def main_and_names(
    model: keras.Model, class_names: Sequence[str] | None
) -> tuple[keras.Model, list[str]]:
    """What of a model is exported, and a name for each of its classes."""
    if class_names is None:
        class_names = getattr(model, "class_names", None)
    main = plain_classifier(model)
    classes = main.output.shape[-1]
    if class_names is None:
        return main, [str(index) for index in range(classes)]
    if len(class_names) != classes:
        raise ValueError(
            f"The model has {classes} classes; class_names must name each of them. "
            f"Received {len(class_names)} names."
        )
    names = [str(name) for name in class_names]
    broken = [name for name in names if len(name.splitlines()) > 1]
    if broken:
        raise ValueError(
            f"A class name is one line of labels.txt. Received: {broken[0]!r}"
        )
    return main, names


def write_labels(directory: Path, class_names: Sequence[str]) -> None:
    """Writes labels.txt, a class name a line, in label order."""
    directory.mkdir(exist_ok=True)
    lines = "".join(f"{name}\n" for name in class_names)
    (directory / "labels.txt").write_text(lines, encoding="utf-8")


def _save(path: Path, signatures: list[Signature]) -> None:
    functions = {signature.name: signature.function for signature in signatures}
    servable = tf.Module()
    # The variables themselves: tracking the Keras model as well would write the
    # weights twice.
    used = (f.get_concrete_function().variables for f in functions.values())
    servable.weights = list({id(v): v for group in used for v in group}.values())
    tf.saved_model.save(servable, path, signatures=functions)
    # TensorFlow 2 calls every signature a predict signature; a TF Serving that checks
    # would then refuse :classify. Predict requests may name a classify signature.
    names = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(path))
    names.replace_method_name(CLASSIFY, "tensorflow/serving/classify")
    names.save()
