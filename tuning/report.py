"""A search as one picture and one page; `python -m tuning.report DIR` draws them."""

import sys
from pathlib import Path

from keras_inception import html_report
from keras_inception.files import write_whole
from tuning import results
from tuning.results import Search, Trial
from tuning.settings import short

PAPER, BARE, BEST, OTHER = "#c0392b", "#1c2430", "#007a53", "#7d8fa6"
CAPTION = (
    "Left: every setting, the best on top; a dot is one seed, a bar their mean. Top "
    "right: each setting's heads, joined by a line. Below: the weight of each head, "
    "the darker the deeper it sits. Dashed: the paper's setting; dotted: no heads; "
    "their bands are one standard error, from the variation between seeds."
)


def write(search: Search, directory: str | Path) -> Path:
    """Writes `report.png` and `report.html`, and returns the page."""
    directory = Path(directory)
    picture = html_report.png(draw(search))
    write_whole(directory / "report.png", lambda file: file.write_bytes(picture))
    text = page(search, picture)
    html = directory / "report.html"
    write_whole(html, lambda file: file.write_text(text, encoding="utf-8"))
    return html


def page(search: Search, picture: bytes) -> str:
    """The page as HTML."""
    chosen, table = search.choices, results.rows(search)
    columns = [name for name in table[0] if any(row[name] != "" for row in table)]
    if all(trial.status == "COMPLETED" for trial in search.trials):
        columns.remove("status")
    facts = [
        f"{chosen['name']}: {chosen['train']:,} pictures to learn from, "
        f"{chosen['validation']:,} held out, {chosen['classes']} classes. "
        f"{chosen['architecture']} at {chosen['image_size']}x{chosen['image_size']}, "
        f"width {chosen['width']:g}, {'with' if chosen['batch_norm'] else 'without'} "
        f"batch normalisation; recipe {chosen['recipe']}, {chosen['epochs']} epochs; "
        f"{chosen['executions']} seed{'s' if chosen['executions'] > 1 else ''} from "
        f"{chosen['seed']} on for each setting. {chosen['tuner'].capitalize()} search.",
        "Accuracy is that of main on the held-out pictures, of the best epoch. The "
        "trials never see other pictures than these, so the figures compare settings; "
        "they are no estimate for new pictures.",
    ]
    return html_report.page(
        f"Where the heads should sit: {chosen['name']}",
        html_report.paragraphs(search.conclusions()),
        html_report.figure(picture, CAPTION),
        html_report.heading("Every trial"),
        html_report.table(columns, [[row[name] for name in columns] for row in table]),
        html_report.heading("What was searched"),
        html_report.paragraphs(facts),
    )


def draw(search: Search):
    """The picture, a matplotlib figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    trials = sorted(search.finished, key=lambda trial: trial.accuracy)
    height = min(14, max(7, 1.6 + 0.24 * len(trials)))
    figure = Figure(figsize=(11, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic([["ranking", "place"], ["ranking", "weight"]])
    _draw_ranking(panels["ranking"], search, trials)
    _draw_placement(panels["place"], search, trials)
    _draw_weights(panels["weight"], search, trials)
    for axes in panels.values():
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"{search.choices['name']}: {len(trials)} settings of the heads, "
        f"{search.choices['executions']} "
        f"seed{'s' if search.choices['executions'] > 1 else ''} each"
    )
    return figure


def _draw_ranking(axes, search: Search, trials: list[Trial]) -> None:
    for rank, trial in enumerate(trials):
        colour = _colour(search, trial)
        axes.plot(trial.accuracies, [rank] * len(trial.accuracies), "o", ms=4, c=colour)
        axes.plot(trial.accuracy, rank, "|", ms=13, mew=2.2, c=colour)
    names = [f"{search.label(t) or t.setting.places}  ({t.number})" for t in trials]
    axes.set_yticks(range(len(trials)), names, fontsize=8)
    for label, trial in zip(axes.get_yticklabels(), trials, strict=True):
        label.set_color(_colour(search, trial))
    _draw_references(axes.axvline, axes.axvspan, search)
    axes.set(xlabel="validation accuracy of main", title="settings (trial), by mean")
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)


def _draw_placement(axes, search: Search, trials: list[Trial]) -> None:
    places = search.choices["places"]
    for trial in trials:
        heads = [places.index(at) for at in trial.setting.heads]
        colour = _colour(search, trial)
        axes.plot(heads, [trial.accuracy] * len(heads), "-", c=colour, lw=1, alpha=0.6)
        axes.errorbar(
            heads,
            [trial.accuracy] * len(heads),
            yerr=trial.spread,
            fmt="o",
            ms=5,
            c=colour,
            elinewidth=0.8,
        )
    axes.set_xticks(range(len(places)), map(short, places))
    axes.set_xlim(-0.5, len(places) - 0.5)
    _draw_references(axes.axhline, axes.axhspan, search)
    axes.set(title="against placement", xlabel="heads on Inception ...")
    axes.legend(fontsize=8)


def _draw_weights(axes, search: Search, trials: list[Trial]) -> None:
    places = search.choices["places"]
    points = [
        (weight, trial.accuracy, places.index(at))
        for trial in trials
        for at, weight in trial.setting.heads.items()
    ]
    if points:
        weights, accuracies, depths = zip(*points, strict=True)
        drawn = axes.scatter(
            weights,
            accuracies,
            c=depths,
            cmap="viridis_r",
            vmin=0,
            vmax=max(1, len(places) - 1),
            s=30,
            zorder=3,
        )
        bar = axes.figure.colorbar(drawn, ax=axes, ticks=range(len(places)))
        bar.ax.set_yticklabels(map(short, places))
    if search.paper:
        axes.plot(
            list(search.paper.setting.heads.values()),
            [search.paper.accuracy] * len(search.paper.setting.heads),
            "o",
            ms=11,
            mfc="none",
            c=PAPER,
        )
    _draw_references(axes.axhline, axes.axhspan, search)
    axes.set(
        xscale="log",
        xlim=(0.008, 1.25),
        title="against weight",
        xlabel="a head's weight",
    )
    ticks = (0.01, 0.03, 0.1, 0.3, 1)
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()


def _draw_references(line, band, search: Search) -> None:
    for name, trial, colour, style in (
        ("the paper's", search.paper, PAPER, "--"),
        ("no heads", search.bare, BARE, ":"),
    ):
        if trial is None:
            continue
        line(trial.accuracy, color=colour, linestyle=style, linewidth=1, label=name)
        spread = search.noise
        if spread:
            spread /= len(trial.accuracies) ** 0.5
            band(
                trial.accuracy - spread,
                trial.accuracy + spread,
                color=colour,
                alpha=0.08,
                linewidth=0,
            )


def _colour(search: Search, trial: Trial) -> str:
    if trial == search.paper:
        return PAPER
    if trial == search.bare:
        return BARE
    return BEST if trial == search.best else OTHER


if __name__ == "__main__":
    for place in sys.argv[1:] or ["."]:
        found = results.read(place)
        results.write(found, place)
        print(f"wrote {write(found, place)}")
