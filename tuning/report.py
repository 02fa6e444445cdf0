"""The report of a search; `python -m tuning.report DIR` writes it again."""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from keras_inception import html_report
from keras_inception.files import write_whole
from tuning import results
from tuning.plots import CAPTION, draw
from tuning.results import Search


def conclusions(search: Search) -> list[str]:
    """Summarizes a search in sentences: the best, the references, and the noise."""
    best = search.best
    if best is None:
        return ["No trial is finished."]
    count, seeds = len(search.finished), len(best.accuracies)
    sentences = [
        f"The best of {count} settings is trial {best.number} "
        f"({best.setting.summary}): {best.figure} "
        + (f"over {seeds} seeds." if seeds > 1 else "with one seed.")
    ]
    references = {
        name: trial
        for name, trial in (
            ("the paper's setting", search.paper),
            ("no heads", search.no_heads),
        )
        if trial is not None
    }
    for name, trial in references.items():
        sentences.append(f"{name.capitalize()}: {trial.figure}.")
    detectable = search.detectable_difference
    if detectable is None:
        return [
            *sentences,
            "With one seed for each setting a difference between settings can't be "
            "distinguished from chance. Use --executions 3 or more.",
        ]
    sentences.append(
        f"Between seeds the accuracy of one setting varies by {search.noise:.4f} "
        f"(standard deviation), so differences below {detectable:.4f} are not "
        "detectable here."
    )
    for name, trial in references.items():
        if trial != best:
            ahead = best.accuracy - trial.accuracy
            verdict = "a" if ahead > detectable else "not a"
            sentences.append(
                f"The best is {ahead:.4f} above {name}: {verdict} detectable "
                "difference."
            )
    if search.selection_bias is not None:
        mean = statistics.fmean(trial.accuracy for trial in search.finished)
        sentences.append(
            "The best was selected for its accuracy, which is therefore biased: if "
            f"all {count} settings were equally good, the best of them would still be "
            f"about {search.selection_bias:.4f} above their mean; it is "
            f"{best.accuracy - mean:.4f} above. Train it with new seeds for an "
            "unbiased accuracy."
        )
    return sentences


def write(search: Search, directory: str | Path) -> Path:
    """Writes `report.png` and `report.html`; returns the path of the page."""
    directory = Path(directory)
    picture = html_report.png(draw(search))
    write_whole(directory / "report.png", lambda file: file.write_bytes(picture))
    text = page(search, picture)
    html = directory / "report.html"
    write_whole(html, lambda file: file.write_text(text, encoding="utf-8"))
    return html


def page(search: Search, picture: bytes) -> str:
    """The page as HTML, with the plots as a PNG inside it."""
    choices, table = search.choices, results.rows(search)
    columns = [name for name in table[0] if any(row[name] != "" for row in table)]
    if all(trial.status == "COMPLETED" for trial in search.trials):
        columns.remove("status")
    facts = [
        f"{choices['name']}: {choices['train']:,} training pictures, "
        f"{choices['validation']:,} validation pictures, {choices['classes']} classes. "
        f"{choices['architecture']} at {choices['image_size']}x"
        f"{choices['image_size']}, width {choices['width']:g}, "
        f"{'with' if choices['batch_norm'] else 'without'} batch normalization; recipe "
        f"{choices['recipe']}, {choices['epochs']} epochs; "
        f"{results.seeds_of(choices)} from {choices['seed']} up for each setting. "
        f"{choices['tuner'].capitalize()} search.",
        "Accuracy is that of main on the validation pictures, at the best epoch. Every "
        "trial is validated on the same pictures, so the accuracies compare settings; "
        "they do not estimate the accuracy on new pictures.",
    ]
    return html_report.page(
        f"Endpoints and weights of the heads: {choices['name']}",
        html_report.paragraphs(conclusions(search)),
        html_report.figure(picture, CAPTION),
        html_report.heading("All trials"),
        html_report.table(columns, [[row[name] for name in columns] for row in table]),
        html_report.heading("The search"),
        html_report.paragraphs(facts),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes `trials.csv`, `best.json` and the report of each search again."""
    parser = argparse.ArgumentParser(
        prog="python -m tuning.report",
        description="Write trials.csv, best.json and the report of searches again.",
    )
    parser.add_argument(
        "directories",
        nargs="*",
        default=["."],
        metavar="DIR",
        help="directories of searches (default: the current one)",
    )
    for directory in parser.parse_args(arguments).directories:
        search = results.read(directory)
        results.write(search, directory)
        print(f"wrote {write(search, directory)}")


if __name__ == "__main__":
    main()
