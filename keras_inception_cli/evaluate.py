"""Measure trained models on the validation pictures.

Prints loss and accuracy of every output of each MODEL. With --crops, --output or
several MODELs, it also prints top-1 and top-5 accuracy of the main output, from the
mean of the probabilities over all crops and MODELs.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from keras_inception_cli import common, console, data_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `evaluate`."""
    add = parser.add_argument
    add("models", metavar="MODEL", nargs="+", help="a .keras file")
    add("data", metavar="DATA", help=data_options.DATA_HELP)
    add(
        "--crops",
        type=int,
        choices=(1, 10, 144),
        help="crops of each picture to average over (default: 1, the centered square)",
    )
    add("--batch-size", type=int, default=32, help="pictures per batch (default: 32)")
    data_options.add_seed_argument(parser)
    add("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="write evaluation.json, predictions.csv, per_class.csv, confusion.csv, "
        "confusion.png and mistakes.png into DIR",
    )
    data_options.add_data_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the figures of every output on the validation split and writes them."""
    common.check_at_least(options, {"batch_size": 1})
    common.check_folders(options, "json")
    with console.quiet_start():
        from keras_inception import DeeplySupervised

    models = {path: common.load_model(path) for path in options.models}
    for path, model in models.items():
        if not isinstance(model, DeeplySupervised):
            raise ValueError(
                f"{path} has no output called 'main' to evaluate. GoogLeNet() and "
                "attach_auxiliary() make models that have one."
            )
    data_options.settle_seed(options, options.models[0])
    source = data_options.find_data(options)
    by_model = {
        path: _evaluate_outputs(model, source, options.batch_size)
        for path, model in models.items()
    }
    source.bad.check()
    print(f"{len(source.validation)} validation pictures")
    for path, model in models.items():
        if len(models) > 1:
            print(path)
        _print_outputs(model.output_class_names, by_model[path])
    figures: dict[str, Any] = {"models": by_model}
    if len(models) == 1:
        (figures,) = by_model.values()
    if options.crops or options.output or len(models) > 1:
        figures |= _evaluate_main(list(models.values()), source, options)
    text = json.dumps(figures, indent=2) + "\n"
    if options.json:
        options.json.write_text(text)
    if options.output:
        (options.output / "evaluation.json").write_text(text)
        print(f"wrote {options.output}")


def _evaluate_outputs(model, source, batch_size: int) -> dict[str, float]:
    """Loss and accuracy of every output, by Keras."""
    from keras_inception import data
    from keras_inception.defaults import input_size_of

    data_options.check_class_names(model, source)
    model.compile()  # with the default loss and metrics, not those of its training
    size = input_size_of(model)
    pictures = data.pipeline(source, source.validation, size, batch_size)
    figures = model.evaluate(pictures, verbose=0, return_dict=True)
    return {name: float(value) for name, value in figures.items()}


def _print_outputs(names_of_outputs, figures: dict[str, float]) -> None:
    rows = []
    for output, names in names_of_outputs.items():
        loss, accuracy = figures[f"{output}_loss"], figures[f"{output}_accuracy"]
        # only superclasses differ from the classes of main
        note = "" if names == names_of_outputs["main"] else f"among {', '.join(names)}"
        rows.append([output, f"{loss:.4f}", f"{accuracy:.4f}", note])
    console.print_table(rows, ("output", "loss", "accuracy", ""), left=(0, 3))


def _evaluate_main(models, source, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of main, averaged over crops and models; also written to `--output`."""
    from keras_inception import data, evaluation

    crops = options.crops or 1
    names: list[str] = []

    def pictures():
        with console.progress_bar("evaluating", len(source.validation)) as bar:
            for *example, name in data.whole_pictures(source, source.validation):
                names.append(name)
                yield example
                bar.update()

    result = evaluation.evaluate(
        models, pictures(), source.class_names, crops, options.batch_size
    )
    top_1, top_5 = result.top(1), result.top(5)
    ensemble = f", {len(models)} models together" if len(models) > 1 else ""
    averaged = f"{crops} crop{'s' * (crops > 1)}{ensemble}"
    print(f"main, {averaged}: top-1 {top_1:.4f}  top-5 {top_5:.4f}")
    figures = {"crops": crops, "top_1": top_1, "top_5": top_5, "pictures": len(names)}
    if options.output:
        averages = result.macro_averages
        print(
            "main, mean over classes: precision {precision:.4f}  recall {recall:.4f}  "
            "F1 {f1:.4f}".format(**averages)
        )
        figures |= {f"macro_{name}": value for name, value in averages.items()}
        options.output.mkdir(parents=True, exist_ok=True)
        _write_tables(result, names, options.output)
        evaluation.draw_confusion(result, options.output / "confusion.png")
        evaluation.draw_mistakes(result, options.output / "mistakes.png")
    return figures


def _write_tables(result, pictures: list[str], directory: Path) -> None:
    from keras_inception.files import write_csv

    names = result.class_names
    best = result.probabilities.max(axis=1)
    rows = zip(pictures, result.labels, result.predicted, best, strict=True)
    write_csv(
        directory / "predictions.csv",
        ("picture", "true", "predicted", "probability"),
        (
            (picture, names[true], names[predicted], f"{probability:.6f}")
            for picture, true, predicted, probability in rows
        ),
    )
    scores = result.per_class
    # a class's accuracy is its recall
    columns = ("pictures", "recall", "precision", "recall", "f1")
    table = zip(names, *(scores[column] for column in columns), strict=True)
    write_csv(
        directory / "per_class.csv",
        ("class", "pictures", "accuracy", "precision", "recall", "f1"),
        (
            # recall and F1 of a class without pictures are NaN
            (name, count, *("" if math.isnan(x) else f"{x:.6f}" for x in figures))
            for name, count, *figures in table
        ),
    )
    write_csv(
        directory / "confusion.csv",
        ("true \\ predicted", *names),
        ((name, *row) for name, row in zip(names, result.confusion, strict=True)),
    )
