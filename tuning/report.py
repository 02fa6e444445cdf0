"""The report of a search with its plots; `python -m tuning.report DIR` repeats it."""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from keras_inception import html_report
from keras_inception.files import write_bytes, write_text
from tuning import results
from tuning.results import Search, Trial, seeds_of
from tuning.settings import short

PAPER, NO_HEADS, BEST, OTHER = "#c0392b", "#1c2430", "#007a53", "#7d8fa6"
CAPTION = (
    "Left: every setting, the best on top; a dot is one seed, a bar the mean. Top "
    "right: the heads of each setting, connected by a line. Below: the weight of each "
    "head, darker where it is deeper in the network. Dashed: the paper's setting; "
    "dotted: no heads; their bands are one standard error, from the variation between "
    "seeds."
)


def conclusions(search: Search) -> list[str]:
    """Summarizes a search in sentences: the best, the references, and the noise."""
    best = search.best
    if best is None:
        return ["No trial is finished."]
    count, seeds = len(search.finished), len(best.accuracies)
    named = {"the paper's setting": search.paper, "no heads": search.no_heads}
    references = {name: trial for name, trial in named.items() if trial is not None}
    sentences = [
        f"The best of {count} settings is trial {best.number} "
        f"({best.setting.summary}): {best.figure} "
        + (f"over {seeds} seeds." if seeds > 1 else "with one seed."),
        *(
            f"{name.capitalize()}: {trial.figure}."
            for name, trial in references.items()
        ),
    ]
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
        ahead = best.accuracy - trial.accuracy
        verdict = "a detectable" if ahead > detectable else "not a detectable"
        if trial != best:
            sentences.append(
                f"The best is {ahead:.4f} above {name}: {verdict} difference."
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
    """Writes `report.png`, and `report.html`, which contains it; returns its path."""
    directory, choices, table = Path(directory), search.choices, results.rows(search)
    columns = [name for name in table[0] if any(row[name] != "" for row in table)]
    if all(trial.status == "COMPLETED" for trial in search.trials):
        columns.remove("status")
    facts = [
        f"{choices['name']}: {choices['train']:,} training and "
        f"{choices['validation']:,} validation pictures, {choices['classes']} classes. "
        f"{choices['architecture']} at {choices['image_size']}x"
        f"{choices['image_size']}, width {choices['width']:g}, "
        f"{'with' if choices['batch_norm'] else 'without'} batch normalization; recipe "
        f"{choices['recipe']}, {choices['epochs']} epochs; "
        f"{seeds_of(choices)} from {choices['seed']} up for each setting. "
        f"{choices['tuner'].capitalize()} search.",
        "Accuracy is that of main on the validation pictures, at the best epoch. Every "
        "trial is validated on the same pictures, so the accuracies compare settings; "
        "they do not estimate the accuracy on new pictures.",
    ]
    picture = html_report.png(draw(search))
    text = html_report.page(
        f"Endpoints and weights of the heads: {choices['name']}",
        html_report.paragraphs(conclusions(search)),
        html_report.figure(picture, CAPTION),
        html_report.heading("All trials"),
        html_report.table(columns, [[row[name] for name in columns] for row in table]),
        html_report.heading("The search"),
        html_report.paragraphs(facts),
    )
    html = directory / "report.html"
    write_bytes(directory / "report.png", picture)
    write_text(html, text)
    return html


def draw(search: Search) -> Figure:
    """Draws the three plots of a search."""
    trials = sorted(search.finished, key=lambda trial: trial.accuracy)
    height = min(14, max(7, 1.6 + 0.24 * len(trials)))
    figure = Figure(figsize=(11, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic([["ranking", "endpoint"], ["ranking", "weight"]])
    _draw_ranking(panels["ranking"], search, trials)
    _draw_endpoints(panels["endpoint"], search, trials)
    _draw_weights(panels["weight"], search, trials)
    for axes in panels.values():
        axes.spines[["top", "right"]].set_visible(False)
    seeds = f"{seeds_of(search.choices)} each"
    title = f"{search.choices['name']}: {len(trials)} settings of the heads, {seeds}"
    figure.suptitle(title)
    return figure


def _draw_ranking(axes: Axes, search: Search, trials: list[Trial]) -> None:
    for rank, trial in enumerate(trials):
        color = _color(search, trial)
        axes.plot(trial.accuracies, [rank] * len(trial.accuracies), "o", ms=4, c=color)
        axes.plot(trial.accuracy, rank, "|", ms=13, mew=2.2, c=color)
    names = [f"{search.label(t) or t.setting.endpoints}  ({t.number})" for t in trials]
    axes.set_yticks(range(len(trials)), names, fontsize=8)
    for label, trial in zip(axes.get_yticklabels(), trials, strict=True):
        label.set_color(_color(search, trial))
    _draw_references(axes.axvline, axes.axvspan, search)
    axes.set(xlabel="validation accuracy of main", title="settings (trial), by mean")
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)


def _draw_endpoints(axes: Axes, search: Search, trials: list[Trial]) -> None:
    endpoints = search.choices["places"]
    for trial in trials:
        x = [endpoints.index(name) for name in trial.setting.weight_by_endpoint]
        y, color = [trial.accuracy] * len(x), _color(search, trial)
        axes.plot(x, y, "-", c=color, lw=1, alpha=0.6)
        axes.errorbar(x, y, trial.spread, fmt="o", ms=5, c=color, elinewidth=0.8)
    axes.set_xticks(range(len(endpoints)), map(short, endpoints))
    axes.set_xlim(-0.5, len(endpoints) - 0.5)
    _draw_references(axes.axhline, axes.axhspan, search)
    axes.set(title="by endpoint", xlabel="heads on Inception ...")
    axes.legend(fontsize=8)


def _draw_weights(axes: Axes, search: Search, trials: list[Trial]) -> None:
    endpoints = search.choices["places"]
    points = [
        (weight, trial.accuracy, endpoints.index(endpoint))
        for trial in trials
        for endpoint, weight in trial.setting.weight_by_endpoint.items()
    ]
    if points:
        x, y, depths = zip(*points, strict=True)
        norm = Normalize(0, max(1, len(endpoints) - 1))
        drawn = axes.scatter(x, y, 30, depths, cmap="viridis_r", norm=norm, zorder=3)
        bar = axes.figure.colorbar(drawn, ax=axes, ticks=range(len(endpoints)))
        bar.ax.set_yticklabels(map(short, endpoints))
    if search.paper:
        weights = search.paper.setting.weights
        accuracies = [search.paper.accuracy] * len(weights)
        axes.plot(weights, accuracies, "o", ms=11, mfc="none", c=PAPER)
    _draw_references(axes.axhline, axes.axhspan, search)
    axes.set(xscale="log", xlim=(0.008, 1.25))
    axes.set(title="by weight", xlabel="a head's weight")
    ticks = (0.01, 0.03, 0.1, 0.3, 1)
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()


def _draw_references(line: Callable, band: Callable, search: Search) -> None:
    for name, trial, color, style in (
        ("the paper's", search.paper, PAPER, "--"),
        ("no heads", search.no_heads, NO_HEADS, ":"),
    ):
        if trial is None:
            continue
        line(trial.accuracy, color=color, linestyle=style, linewidth=1, label=name)
        if search.noise:
            error = search.noise / len(trial.accuracies) ** 0.5
            low, high = trial.accuracy - error, trial.accuracy + error
            band(low, high, color=color, alpha=0.08, linewidth=0)


def _color(search: Search, trial: Trial) -> str:
    if trial == search.paper:
        return PAPER
    if trial == search.no_heads:
        return NO_HEADS
    return BEST if trial == search.best else OTHER


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
