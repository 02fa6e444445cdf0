"""Measure trained models on labeled pictures.

Prints loss and accuracy of every output of each MODEL, with the accuracy's 95 %
interval: other pictures of the same kind would give an accuracy within it 19 times in
20. With --crops, --output or several MODELs, it also prints top-1 and top-5 accuracy of
the main output, from the mean of the probabilities over all crops and MODELs.
"""

import argparse
import math
from pathlib import Path
from typing import Any

from keras_inception_cli import common, console, data_options, splits

MOST_CLASSES = 20
EXPLAINED = 8  # mistakes whose maps are drawn
OUTPUT_COLUMNS = ("output", "loss", "accuracy", "95 % interval", "")


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
    splits.add_split_arguments(parser)
    add("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="write evaluation.json, predictions.csv, per_class.csv, confusion.csv, "
        "confusion.png, mistakes.png and report.html into DIR; of one MODEL also "
        "maps.png: where each output looks in the worst mistakes",
    )
    data_options.add_data_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the figures of every output on a split and writes them."""
    common.check_at_least(options, {"batch_size": 1})
    common.check_folders(options, "json")
    common.check_output_folder(options)
    with console.quiet_start():
        from keras_inception import DeeplySupervised
        from keras_inception.files import write_json

    models = {path: common.load_model(path) for path in options.models}
    for path, model in models.items():
        if not isinstance(model, DeeplySupervised):
            raise ValueError(
                f"{path} has no output called 'main' to evaluate. GoogLeNet() and "
                "attach_auxiliary() make models that have one."
            )
    judged = splits.find_judged(options, models)
    by_model = {
        path: _evaluate_outputs(model, judged, options.batch_size)
        for path, model in models.items()
    }
    judged.source.bad.check()
    pictures = len(judged.split)
    noun = "picture" if pictures == 1 else "pictures"
    print(f"{pictures} {judged.name}{noun} of {judged.source.name}")
    outputs = []
    for path, model in models.items():
        if len(models) > 1:
            print(path)
        rows = _output_rows(model.output_class_names, by_model[path])
        console.print_table(rows, OUTPUT_COLUMNS, left=(0, 4))
        outputs += [[path, *row] for row in rows]
    figures: dict[str, Any] = {"models": by_model}
    if len(models) == 1:
        (figures,) = by_model.values()
    figures |= {"split": judged.name.strip() or "all", "pictures": pictures}
    if options.crops or options.output or len(models) > 1:
        figures |= _evaluate_main(list(models.values()), judged, options, outputs)
    if options.json:
        write_json(options.json, figures)
    if options.output:
        write_json(options.output / "evaluation.json", figures)
        print(f"wrote {options.output}")


def _evaluate_outputs(model, judged: splits.Judged, batch_size: int) -> dict[str, Any]:
    """Loss, accuracy and the accuracy's interval of every output, by Keras."""
    from keras_inception import data
    from keras_inception.defaults import input_size_of
    from keras_inception.evaluation import accuracy_interval

    model.compile()  # with the default loss and metrics, not those of its training
    size, count = input_size_of(model), len(judged.split)
    pictures = data.pipeline(judged.source, judged.split, size, batch_size)
    figures = model.evaluate(pictures, verbose=0, return_dict=True)
    intervals = {
        f"{name}_interval": accuracy_interval(value, count)
        for name, value in figures.items()
        if name.endswith("_accuracy")
    }
    return {name: float(value) for name, value in figures.items()} | intervals


def _output_rows(names_of_outputs, figures: dict[str, Any]) -> list[list[str]]:
    """The cells of `OUTPUT_COLUMNS` for every output."""
    rows = []
    for output, names in names_of_outputs.items():
        loss, accuracy = figures[f"{output}_loss"], figures[f"{output}_accuracy"]
        interval = _shown(figures[f"{output}_accuracy_interval"])
        # only superclasses differ from the classes of main
        note = "" if names == names_of_outputs["main"] else f"among {', '.join(names)}"
        rows.append([output, f"{loss:.4f}", f"{accuracy:.4f}", interval, note])
    return rows


def _shown(interval: tuple[float, float]) -> str:
    return "{:.4f} to {:.4f}".format(*interval)


def _evaluate_main(
    models, judged: splits.Judged, options: argparse.Namespace, outputs: list[list[str]]
) -> dict[str, Any]:
    """Figures of main, averaged over crops and models; also written to `--output`.

    `outputs` are the rows of every output, for the report.
    """
    from keras_inception import data, evaluation
    from keras_inception.defaults import input_size_of

    source, split, _ = judged
    crops = options.crops or 1
    names: list[str] = []
    sizes = set(map(input_size_of, models))
    # The one crop that the pipeline itself makes is faster there.
    size = sizes.pop() if crops == 1 and len(sizes) == 1 else None

    def pictures():
        with console.progress_bar("evaluating", len(split)) as bar:
            for *example, name in data.whole_pictures(source, split, size):
                names.append(name)
                yield example
                bar.update()

    result = evaluation.evaluate(
        models, pictures(), source.class_names, crops, options.batch_size
    )
    top_1, top_5 = result.top(1), result.top(5)
    ensemble = f", {len(models)} models together" if len(models) > 1 else ""
    averaged = f"{crops} crop{'s' * (crops > 1)}{ensemble}"
    intervals = [evaluation.accuracy_interval(x, len(names)) for x in (top_1, top_5)]
    figures = {"crops": crops, "top_1": top_1, "top_5": top_5, "pictures": len(names)}
    figures |= {"top_1_interval": intervals[0], "top_5_interval": intervals[1]}
    sentences = [
        f"main, {averaged}: top-1 {top_1:.4f} ({_shown(intervals[0])})  "
        f"top-5 {top_5:.4f} ({_shown(intervals[1])})"
    ]
    print(sentences[0])
    if options.output:
        averages = result.macro_averages
        sentences.append(
            "main, mean over classes: precision {precision:.4f}  recall {recall:.4f}  "
            "F1 {f1:.4f}".format(**averages)
        )
        print(sentences[1])
        figures |= {f"macro_{name}": value for name, value in averages.items()}
        _print_classes(result)
        options.output.mkdir(parents=True, exist_ok=True)
        _write_tables(result, names, options.output)
        evaluation.draw_confusion(result, options.output / "confusion.png")
        evaluation.draw_mistakes(result, options.output / "mistakes.png")
        drawings = ["confusion.png", "mistakes.png"]
        drawings += _draw_maps(models, result.mistakes, options.output / "maps.png")
        evaluation.write_report(
            options.output,
            result,
            f"{', '.join(options.models)} on {len(names)} {judged.name}pictures of "
            f"{source.name}",
            (("model", *OUTPUT_COLUMNS), outputs),
            sentences,
            drawings,
        )
    return figures


def _draw_maps(models, mistakes, path: Path) -> list[str]:
    """Draws where the outputs of a single model look; returns the file's name, listed.

    The list is empty if nothing is drawn. The file of an earlier evaluation is deleted.
    """
    import numpy as np

    from keras_inception import evaluation, html_report
    from keras_inception.activation_maps import Explainer, NoFeatureMap
    from keras_inception.files import write_bytes

    mistakes = mistakes[:EXPLAINED]
    path.unlink(missing_ok=True)
    if len(models) > 1 or not mistakes:
        return []
    (model,), pictures = models, np.stack([mistake.picture for mistake in mistakes])
    try:
        found = Explainer(model)(pictures)
    except NoFeatureMap as error:
        print(f"no maps.png: {error}")
        return []
    names = model.output_class_names
    true = [names["main"][x.label] if names["main"] else x.label for x in mistakes]
    titles = [f"true class\n{name}" for name in true]
    figure = evaluation.draw_maps(pictures, found, names, titles)
    write_bytes(path, html_report.png(figure))
    return [path.name]


def _print_classes(result) -> None:
    """Prints the figures of every class, or of those with the lowest F1."""
    scores = result.per_class
    rows = [
        (name, int(count), *(f"{figure:.4f}" for figure in figures))
        for name, count, *figures in zip(
            result.class_names,
            *(scores[x] for x in ("pictures", "precision", "recall", "f1")),
            strict=True,
        )
        if count
    ]
    if len(rows) > MOST_CLASSES:
        rows = sorted(rows, key=lambda row: float(row[-1]))[:MOST_CLASSES]
        print(f"the {MOST_CLASSES} classes with the lowest F1:")
    console.print_table(rows, ("class", "pictures", "precision", "recall", "F1"))


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
