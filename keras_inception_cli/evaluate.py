"""Measure trained models on held-out pictures.

Prints loss and accuracy of every output of each MODEL. With --crops, --output or
several MODELs, which vote by the mean of their probabilities, top-1 and top-5 of the
main outputs together as well.
"""

import argparse
import csv
import json
from pathlib import Path

from keras_inception_cli import common, console, data_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `evaluate` takes."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="a .keras file")
    parser.add_argument("data", metavar="DATA", help=data_options.DATA_HELP)
    parser.add_argument(
        "--crops",
        type=int,
        choices=(1, 10, 144),
        help="squares that each picture is judged by (default: 1, the centred one)",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="(default: 32)")
    data_options.add_seed_argument(parser)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures there as well"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write evaluation.json, predictions.csv, per_class.csv, confusion.csv, "
        "confusion.png and mistakes.png there",
    )
    data_options.add_data_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Prints loss and accuracy of every output on the validation pictures."""
    common.check_at_least(options, {"batch_size": 1})
    common.check_folders(options, "json")
    with console.quiet_start():
        from keras_inception import DeeplySupervised, data
        from keras_inception.defaults import input_size_of

    models = [common.load_model(path) for path in options.models]
    for model, path in zip(models, options.models, strict=True):
        if not isinstance(model, DeeplySupervised):
            raise ValueError(
                f"{path} has no output called 'main' to evaluate. GoogLeNet() and "
                "attach_auxiliary() make models that have."
            )
    data_options.settle_seed(options, options.models[0])
    source = data_options.find_data(options)
    by_model = {}
    for path, model in zip(options.models, models, strict=True):
        side = input_size_of(model)
        pictures = data.load(source, side, options.batch_size, augment="none")
        data_options.check_class_names(model, pictures)
        model.compile()  # for loss and accuracy, whatever it was trained with
        figures = model.evaluate(pictures.validation, verbose=0, return_dict=True)
        by_model[path] = {name: float(value) for name, value in figures.items()}
    source.bad.check()
    print(f"{len(source.validation)} held-out pictures")
    for path, model in zip(options.models, models, strict=True):
        if len(models) > 1:
            print(path)
        print("output      loss  accuracy")
        for name in model.output:
            loss, accuracy = (
                by_model[path][f"{name}_{x}"] for x in ("loss", "accuracy")
            )
            print(f"{name:<8} {loss:>7.4f}    {accuracy:.4f}{_among(model, name)}")
    written = by_model[options.models[0]] if len(models) == 1 else {"models": by_model}
    if options.crops or options.output or len(models) > 1:
        written |= _together(models, source, options)
    if options.json:
        options.json.write_text(json.dumps(written, indent=2) + "\n")
    if options.output:
        text = json.dumps(written, indent=2) + "\n"
        (options.output / "evaluation.json").write_text(text)
        print(f"wrote {options.output}")


def _together(models, source, options) -> dict:
    """Top-1 and top-5 of the main outputs, averaged over crops and models."""
    from keras_inception import data, evaluation

    crops = options.crops or 1
    names = []
    pictures = _counted(
        data.whole_pictures(source, source.validation), len(source.validation), names
    )
    found = evaluation.evaluate(
        models, pictures, source.class_names, crops, options.batch_size
    )
    of = f", {len(models)} models together" if len(models) > 1 else ""
    print(
        f"main, {crops} crop{'s' * (crops > 1)}{of}: "
        f"top-1 {found.top(1):.4f}  top-5 {found.top(5):.4f}"
    )
    figures = {
        "crops": crops,
        "top_1": found.top(1),
        "top_5": found.top(5),
        "pictures": len(found.labels),
    }
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        _write_tables(found, names, options.output)
        evaluation.draw_confusion(found, options.output / "confusion.png")
        evaluation.draw_mistakes(found, options.output / "mistakes.png")
    return figures


def _write_tables(found, pictures: list[str], directory: Path) -> None:
    names = found.class_names

    def write(name, header, rows):
        with (directory / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])

    best = found.probabilities.max(axis=1)
    write(
        "predictions.csv",
        ("picture", "true", "predicted", "probability"),
        (
            (picture, names[label], names[predicted], f"{probability:.6f}")
            for picture, label, predicted, probability in zip(
                pictures, found.labels, found.predicted, best, strict=True
            )
        ),
    )
    counts = found.confusion.sum(axis=1)
    write(
        "per_class.csv",
        ("class", "pictures", "accuracy"),
        (
            (name, count, f"{accuracy:.6f}" if count else "")
            for name, count, accuracy in zip(
                names, counts, found.per_class_accuracy, strict=True
            )
        ),
    )
    write(
        "confusion.csv",
        ("true \\ predicted", *names),
        ((name, *row) for name, row in zip(names, found.confusion, strict=True)),
    )


def _counted(pictures, count: int, names: list[str]):
    """Counts them on a terminal while they pass, and keeps their names."""
    with console.progress_bar("evaluating", count) as bar:
        for picture, label, name in pictures:
            names.append(name)
            yield picture, label
            bar.update()


def _among(model, output: str) -> str:
    """What a head tells apart, if that is not what main does."""
    names = getattr(model, "output_class_names", {})
    if names.get(output) == names.get("main"):
        return ""
    return f"  among {', '.join(names[output])}"
