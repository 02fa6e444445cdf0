"""Export a model's main output for TF Serving, without its auxiliary heads.

Writes the next version to SAVED_MODELS/NAME/VERSION, whole or not at all; for another
runtime (--format) to SAVED_MODELS/NAME/FORMAT/VERSION.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from keras_inception_cli import common, console, data_options, splits

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from keras_inception.data import Data
    from keras_inception.export.formats import Predict
    from keras_inception.training import RunDirectory

FORMATS = ("onnx", "openvino", "litert")
INT8_FORMATS = ("onnx", "openvino")  # the same formats support early exits
CALIBRATION_BATCHES, BATCH_SIZE = 8, 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `export`."""
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", help="a .keras file; not with --rollback")
    add("--name", help="the served model's name (default: the run's, or the file's)")
    add(
        "--saved-models",
        type=Path,
        default=Path("saved_models"),
        help="directory of all exported models (default: saved_models)",
    )
    add("--version", type=int, help="version number (default: the highest plus 1)")
    add(
        "--early-exit",
        type=Path,
        metavar="FILE",
        help="exits.json, as calibrate writes it: adds the signatures "
        "serving_early_exit and serving_bytes_early_exit, and the heads that they "
        "need; with --format onnx or openvino, the file skips and takes thresholds",
    )
    add(
        "--top",
        type=int,
        metavar="K",
        help="return only the best K classes for picture files (default: all)",
    )
    add(
        "--format",
        choices=FORMATS,
        help="write for ONNX Runtime, OpenVINO or LiteRT instead; each needs the extra "
        "of its name",
    )
    add(
        "--dtype",
        choices=("bfloat16",),
        help="store weights and compute in this type: little more than half the bytes, "
        "faster where supported, slightly less exact (default: the model's own); "
        "--early-exit then needs what calibrate wrote with the same --dtype",
    )
    integers = parser.add_argument_group("8-bit integers, with --format")
    integers.add_argument(
        "--int8",
        dest="data",
        metavar="DATA",
        help="compute in 8-bit integers, calibrated on training pictures of DATA, and "
        f"print the accuracy on validation pictures ({' or '.join(INT8_FORMATS)} only);"
        " with --early-exit, half of those choose the thresholds anew",
    )
    data_options.add_data_arguments(integers)
    splits.add_seed_argument(integers)
    add(
        "--keep",
        type=int,
        metavar="N",
        help="after the export, delete all but the N highest versions",
    )
    add(
        "--rollback",
        action="store_true",
        help="export nothing; withdraw --name's highest version, so that servers "
        "return to the one before it",
    )


def run(options: argparse.Namespace) -> None:
    """Exports and prints the path of the new version."""
    _check_options(options)
    with console.quiet_start():
        from keras_inception import export
        from keras_inception.data import pipeline
        from keras_inception.defaults import input_size_of
        from keras_inception.training import RunDirectory

    if options.rollback:
        directory = Path(options.saved_models, options.name, options.format or "")
        withdrawn, highest = export.rollback(directory)
        print(f"renamed {directory / str(withdrawn)} to withdrawn-{withdrawn}")
        print(f"version {highest} is the highest now")
        return
    model = common.load_model(options.model)
    data = _load_data(options, model) if options.data else None
    file = Path(options.model).resolve()
    run = RunDirectory.of_model(file) if file.name == "model.keras" else None
    name = options.name or (run.path.name if run else file.stem)
    directory = Path(options.saved_models, name, options.format or "")
    held_out, judged = None, data.validation if data else None
    if data and options.early_exit:
        held_out, judged = (
            pipeline(data.source, half, input_size_of(model), BATCH_SIZE)
            for half in splits.halves(data.source.validation)
        )
    if options.format:
        calibration = data.train.take(CALIBRATION_BATCHES) if data else None
        path = export.export_format(
            model,
            directory,
            options.format,
            version=options.version,
            calibration=calibration and (images for images, _ in calibration),
            early_exit=options.early_exit,
            held_out=held_out,
        )
    else:
        path = export.export_saved_model(
            model,
            directory,
            version=options.version,
            top=options.top,
            early_exit=options.early_exit,
            dtype=options.dtype,
            facts=_facts(run) if run else None,
        )
    print(f"wrote {path}")
    if judged is not None:
        _print_accuracies(model, export.open_file(path), judged)
    if options.keep is not None:
        for version in export.prune(directory, options.keep):
            print(f"deleted {directory / str(version)}")


def _check_options(options: argparse.Namespace) -> None:
    if options.keep is not None:
        common.check_at_least(options, {"keep": 1})
    if options.rollback:
        if options.keep is not None:
            raise ValueError("--rollback deletes nothing; leave out --keep")
        if not options.name or options.model:
            raise ValueError("--rollback needs --name NAME, and no MODEL")
        return
    if not options.model:
        raise ValueError("export needs a MODEL, a .keras file")
    for name in ("top", "dtype") if options.format else ():
        if getattr(options, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} applies to a SavedModel only; leave it or "
                "--format out"
            )
    if options.early_exit and options.format not in (None, *INT8_FORMATS):
        raise ValueError(
            f"{options.format} files can't skip; leave out --early-exit, or use "
            f"--format {' or '.join(INT8_FORMATS)}"
        )
    if options.data and options.format not in INT8_FORMATS:
        raise ValueError(f"--int8 needs --format {' or '.join(INT8_FORMATS)}")


def _load_data(options: argparse.Namespace, model: "keras.Model") -> "Data":
    """Loads the pictures for calibrating and evaluating `--int8`."""
    from keras_inception import data
    from keras_inception.defaults import input_size_of

    options.split = "validation"
    source = splits.find_judged(options, {options.model: model}).source
    return data.load(
        source,
        input_size_of(model),
        BATCH_SIZE,
        augment="none",
        mirror=False,
        seed=options.seed or 0,
    )


def _print_accuracies(
    model: "keras.Model", integers: "Predict", pictures: "tf.data.Dataset"
) -> None:
    """Prints the accuracy of a model and of its 8-bit form on validation pictures."""
    from keras_inception.outputs import main_of

    correct, count = {"float32": 0, "int8": 0}, 0
    for images, labels in pictures.as_numpy_iterator():
        floats = main_of(model.predict_on_batch(images))
        for name, answer in (("float32", floats), ("int8", integers(images))):
            correct[name] += int((answer.argmax(-1) == labels).sum())
        count += len(labels)
    accuracies = "  ".join(f"{name} {n / count:.4f}" for name, n in correct.items())
    print(f"accuracy on {count} validation pictures: {accuracies}")


def _facts(run: "RunDirectory") -> dict[str, str]:
    """Rows of the model card from a model's run."""
    facts, result = {"data": run.read_config().data}, run.read_result()
    if result:
        facts["accuracy"] = (
            f"{result['val_main_accuracy']:.4f} on validation pictures "
            f"(val_main_accuracy, epoch {result['best_epoch']})"
        )
    return facts
