"""Plots of a search: accuracy by setting, by endpoint and by weight."""

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

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
    figure.suptitle(
        f"{search.choices['name']}: {len(trials)} settings of the heads, "
        f"{seeds_of(search.choices)} each"
    )
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
        heads = [endpoints.index(name) for name in trial.setting.weight_by_endpoint]
        accuracies, color = [trial.accuracy] * len(heads), _color(search, trial)
        axes.plot(heads, accuracies, "-", c=color, lw=1, alpha=0.6)
        axes.errorbar(
            heads, accuracies, trial.spread, fmt="o", ms=5, c=color, elinewidth=0.8
        )
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
        weights, accuracies, depths = zip(*points, strict=True)
        drawn = axes.scatter(
            weights,
            accuracies,
            c=depths,
            cmap="viridis_r",
            vmin=0,
            vmax=max(1, len(endpoints) - 1),
            s=30,
            zorder=3,
        )
        bar = axes.figure.colorbar(drawn, ax=axes, ticks=range(len(endpoints)))
        bar.ax.set_yticklabels(map(short, endpoints))
    if search.paper:
        weight_by_endpoint = search.paper.setting.weight_by_endpoint
        axes.plot(
            list(weight_by_endpoint.values()),
            [search.paper.accuracy] * len(weight_by_endpoint),
            "o",
            ms=11,
            mfc="none",
            c=PAPER,
        )
    _draw_references(axes.axhline, axes.axhspan, search)
    axes.set(
        xscale="log", xlim=(0.008, 1.25), title="by weight", xlabel="a head's weight"
    )
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
