"""Writes a SavedModel: signatures, labels, warm-up requests, model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from keras_inception.early_exit import EarlyExit
from keras_inception.export import warmup
from keras_inception.export.folding import inference_model
from keras_inception.export.model_card import write_card
from keras_inception.export.preparation import (
    check_backend,
    classifier_and_names,
    exits_of,
    write_labels,
)
from keras_inception.export.signatures import CLASSIFY, Signature, build_signatures
from keras_inception.export.versioning import being_written, check_version, publish
from keras_inception.layers import LocalResponseNormalization
from keras_inception.supervision import plain_classifier

EXITS_FILE = Path("assets.extra/exits.json")


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
    - `serving_bytes`: `image_bytes`, string `(batch,)`, JPEG, PNG, GIF, BMP or WebP
      files of any size, to `classes` (names) and `scores`, both `(batch, top)`, best
      first;
    - `classify`: the same from `inputs`, serialized `tf.Example`s with the feature
      `image_bytes`, the form of TF Serving's Classify API;
    - `serving_early_exit`, only with `early_exit`: as `serving_default`, to `main` and
      `exit`, string `(batch,)`, the name of the output that answered;
    - `serving_bytes_early_exit`, only with `early_exit`: as `serving_bytes`, with
      `exit` as well;
    - `serving_early_exit_at` and `serving_bytes_early_exit_at`, only with `early_exit`:
      the same with `thresholds`, float32 `(batch, exits)` in network order, in place of
      the exported ones.

    The version contains no optimizer, no dropout, and no heads except those of
    `early_exit`. `assets/labels.txt` lists the class names, `assets.extra/` has a
    warm-up request for each signature, which the written model has answered, and
    `exits.json` with exits. `model_card.md` describes the model. The version appears
    whole or not at all.

    Args:
        model: A `DeeplySupervised` model, or a functional classifier of pictures with
            a single output.
        directory: `saved_models/NAME`; versions are numbered directories in it.
        class_names: Names in label order. Defaults to those the model carries, else the
            class indices.
        version: A number from 1 that does not exist yet. Defaults to the highest plus
            one.
        top: How many classes `serving_bytes` and `classify` return. Defaults to all.
        early_exit: Exits of this model, or the file `exits.json` with them. Their heads
            are exported as well. Defaults to none.
        dtype: `"bfloat16"` uses it between the scaled pixels and the last dense layer:
            little more than half the bytes, and faster on processors with instructions
            for it (AVX512-BF16, AMX, GPUs since 2020), with 8 significant bits.
            Exits then come from a file that `calibrate --dtype bfloat16` wrote.
            Defaults to the model's own dtypes.
        facts: Rows for the model card, such as `{"data": ..., "accuracy": ...}`.

    Returns:
        The path of the new version.

    Raises:
        ValueError: If there is not one name for each class, `version` is below 1, `top`
            is not from 1 to the number of classes, the model does not take pictures of
            a fixed size, `dtype` is not supported (at all, or with a model within the
            model), or the exits were calibrated in another one.
        FileExistsError: If the version exists already.
        RuntimeError: If Keras does not run on TensorFlow, or if the written model's
            answers differ from the model's.

    Example:
    >>> import tempfile
    >>> images = keras.Input((8, 8, 3))
    >>> scores = keras.layers.Dense(2)(keras.layers.Flatten()(images))
    >>> model = keras.Model(images, scores)
    >>> with tempfile.TemporaryDirectory() as saved_models:
    ...     path = export_saved_model(
    ...         model, f"{saved_models}/pets", class_names=["cat", "dog"]
    ...     )
    >>> path.name
    '1'
    """
    check_backend("A SavedModel")
    directory = Path(directory)
    classifier, class_names = classifier_and_names(model, class_names)
    if top is not None and not 1 <= top <= len(class_names):
        raise ValueError(
            f"top must be from 1 to the {len(class_names)} classes. Received: {top}"
        )
    check_version(directory, version)
    served, facts = classifier, dict(facts or {})
    if dtype is not None:
        # float16 overflows in the squares that response normalization adds up.
        if dtype != "bfloat16":
            raise ValueError(
                "dtype must be None, for the model's own, or bfloat16. Received: "
                f"{dtype!r}"
            )
        if isinstance(early_exit, EarlyExit):
            raise ValueError(
                "The thresholds of early_exit were calibrated for the model as it is, "
                f"not in {dtype}. Pass the file that calibrate --dtype {dtype} wrote."
            )
        whole = model if early_exit is not None else classifier
        rewritten = inference_model(whole, LocalResponseNormalization, dtype)
        exits = exits_of(rewritten, early_exit)
        served = plain_classifier(rewritten)
        facts["computes in"] = (
            f"{dtype}; parameters and accuracy are those of the model as it was trained"
        )
    else:
        exits = exits_of(model, early_exit)
    signatures = build_signatures(served, class_names, top, exits)
    with being_written(directory) as partial:
        _save(partial, signatures)
        write_labels(partial / "assets", class_names)
        warmup.write_requests(partial, directory.name, signatures)
        warmup.replay(partial, signatures)
        if exits is not None:
            exits.save(partial / EXITS_FILE)
        write_card(partial, directory.name, classifier, class_names, signatures, facts)
        return publish(partial, directory, version)


def _save(path: Path, signatures: list[Signature]) -> None:
    functions = {signature.name: signature.function for signature in signatures}
    servable = tf.Module()
    # Only the variables: tracking the Keras model as well would write them twice.
    used = (f.get_concrete_function().variables for f in functions.values())
    servable.weights = list({id(v): v for group in used for v in group}.values())
    tf.saved_model.save(servable, path, signatures=functions)
    # TensorFlow 2 marks every signature as predict, and TF Serving refuses to classify
    # with one. A signature marked as classify still answers predict requests.
    names = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(path))
    names.replace_method_name(CLASSIFY, "tensorflow/serving/classify")
    names.save()
