"""Export a model's main output for TF Serving, without its auxiliary heads.

Writes the next version to SAVED_MODELS/NAME/VERSION, whole or not at all; for another
runtime (--format) to SAVED_MODELS/NAME/FORMAT/VERSION.
"""

import argparse
import json
from pathlib import Path

from keras_inception_cli import common, console, data_options

FORMATS = ("onnx", "openvino", "litert")
INT8_FORMATS = ("onnx", "openvino")
CALIBRATION_BATCHES, BATCH_SIZE = 8, 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `export` takes."""
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="a .keras file; not for --rollback"
    )
    parser.add_argument(
        "--name", help="name of the served model (default: the run's, or the file's)"
    )
    parser.add_argument(
        "--saved-models",
        type=Path,
        default=Path("saved_models"),
        help="(default: saved_models)",
    )
    parser.add_argument(
        "--version", type=int, help="a number (default: the highest plus 1)"
    )
    parser.add_argument(
        "--early-exit",
        type=Path,
        metavar="FILE",
        help="exits.json, as calibrate writes it: adds the signature "
        "serving_early_exit, and the heads that it needs",
    )
    parser.add_argument(
        "--top",
        type=int,
        metavar="K",
        help="the answers to picture files name the best K classes (default: all)",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="write for ONNX Runtime, OpenVINO or LiteRT instead (extras of that name)",
    )
    parser.add_argument(
        "--dtype",
        choices=("bfloat16",),
        help="compute in it, in little more than half the bytes: faster where the "
        "processor knows it, and a little less exact (default: as the model was "
        "trained)",
    )
    integers = parser.add_argument_group("8-bit integers, with --format")
    integers.add_argument(
        "--int8",
        dest="data",
        metavar="DATA",
        help="compute in integers, calibrated on pictures that DATA trains with, and "
        f"tell the accuracy on those held out; for {' and '.join(INT8_FORMATS)}",
    )
    data_options.add_data_arguments(integers)
    data_options.add_seed_argument(integers)
    parser.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help="afterwards delete all but the N highest versions",
    )
    parser.add_argument(
        "--rollback",
        action="store_true",
        help="export nothing; withdraw --name's highest version, so that servers go "
        "back to the one before it",
    )


def run(options: argparse.Namespace) -> None:
    """Exports and prints the path of the new version."""
    if options.keep is not None:
        common.check_at_least(options, {"keep": 1})
    if options.rollback:
        if options.keep is not None:
            raise ValueError("--rollback goes without --keep: it deletes nothing")
        _roll_back(options)
        return
    if not options.model:
        raise ValueError("export needs a MODEL, a .keras file")
    if options.format and options.early_exit:
        raise ValueError(
            "--early-exit is a signature of the SavedModel, not of --format"
        )
    if options.format and options.top:
        raise ValueError(
            f"--top is of answers to picture files; {options.format} files take pixels."
        )
    if options.dtype and options.format:
        raise ValueError("--dtype is of the SavedModel, not of --format")
    if options.dtype and options.early_exit:
        raise ValueError(
            f"--early-exit has thresholds of the model as it is, not in {options.dtype}"
        )
    if options.data and options.format not in INT8_FORMATS:
        raise ValueError(f"--int8 needs --format {' or '.join(INT8_FORMATS)}")
    with console.quiet_start():
        from keras_inception import export

    model = common.load_model(options.model)
    pictures = _pictures(options, model) if options.data else None
    file = Path(options.model).resolve()
    run = file.parent if file.name == "model.keras" else None
    directory = options.saved_models / (
        options.name or (run.name if run else file.stem)
    )
    if options.format:
        directory /= options.format
        path = export.export_format(
            model,
            directory,
            options.format,
            version=options.version,
            calibration=pictures and _calibration(pictures),
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
    if pictures:
        _tell_accuracy(model, export.open_file(path), pictures)
    if options.keep is not None:
        for version in export.prune(directory, options.keep):
            print(f"deleted {directory / str(version)}")


def _roll_back(options: argparse.Namespace) -> None:
    if not options.name or options.model:
        raise ValueError("--rollback needs --name NAME, and no MODEL")
    with console.quiet_start():
        from keras_inception import export

    directory = options.saved_models / options.name
    if options.format:
        directory /= options.format
    withdrawn, served = export.rollback(directory)
    print(
        f"withdrew {directory / str(withdrawn)} to withdrawn-{withdrawn}; "
        f"version {served} is the highest now"
    )


def _pictures(options: argparse.Namespace, model):
    """What `--int8` calibrates with, and is judged by."""
    from keras_inception import data
    from keras_inception.defaults import input_size_of

    data_options.settle_seed(options, options.model)
    source = data_options.find_data(options)
    side = input_size_of(model)
    pictures = data.load(
        source, side, BATCH_SIZE, augment="none", mirror=False, seed=options.seed
    )
    data_options.check_class_names(model, pictures)
    return pictures


def _calibration(pictures):
    """Some batches of the pictures that a model learnt from, without their labels."""
    return (images for images, _ in pictures.train.take(CALIBRATION_BATCHES))


def _tell_accuracy(model, integers, pictures) -> None:
    """Prints how often the model and its form in integers are right."""
    right, count = {"float32": 0, "int8": 0}, 0
    for images, labels in pictures.validation.as_numpy_iterator():
        floats = model.predict_on_batch(images)
        floats = floats["main"] if isinstance(floats, dict) else floats
        for name, answer in (("float32", floats), ("int8", integers(images))):
            right[name] += int((answer.argmax(-1) == labels).sum())
        count += len(labels)
    accuracies = "  ".join(f"{name} {of / count:.4f}" for name, of in right.items())
    print(f"accuracy on {count} held-out pictures: {accuracies}")


def _facts(run: Path) -> dict[str, str]:
    """Lines for the model card from the run directory that a model lies in."""
    facts = {}
    if (run / "config.json").is_file():
        config = json.loads((run / "config.json").read_text())
        facts["data"] = str(config.get("data", "not recorded"))
    if (run / "result.json").is_file():
        result = json.loads((run / "result.json").read_text())
        facts["accuracy"] = (
            f"{result['val_main_accuracy']:.4f} on held-out pictures "
            f"(val_main_accuracy, epoch {result['best_epoch']})"
        )
    return facts
