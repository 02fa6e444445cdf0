"""A ranking of endpoints for people: recommendations, a table and a picture."""

from collections.abc import Sequence
from pathlib import Path

from keras_inception.endpoints.ranking import EndpointRow, Ranking
from keras_inception.files import write_csv, write_whole


def write_ranking(directory: Path, ranking: Ranking) -> list[Path]:
    """Writes `endpoints.csv` and `endpoints.png`; returns their paths.

    The directory is created. The last line of the table is main.
    """
    directory.mkdir(parents=True, exist_ok=True)
    table, picture = directory / "endpoints.csv", directory / "endpoints.png"
    write_csv(table, EndpointRow._fields, [*ranking.rows, ranking.main])
    draw_ranking(ranking, picture)
    return [table, picture]


def ranking_table(ranking: Ranking) -> tuple[list[str], list[list[str]]]:
    """The columns' names, and a line for each endpoint and for main."""
    columns = ["endpoint", "accuracy", "multiply-adds", "share", "ms", "saving"]
    columns += ["gradient"]
    lines = [
        [
            row.endpoint,
            f"{row.accuracy:.4f}",
            f"{row.multiply_adds:,}",
            f"{row.share:.1%}",
            f"{row.milliseconds:.2f}",
            f"{row.saving:.1%}",
            "-" if row.gradient is None else f"{row.gradient:.2f}",
        ]
        for row in [*ranking.rows, ranking.main]
    ]
    return columns, lines


def recommend(ranking: Ranking) -> list[str]:
    """Sentences on where heads for exits, and heads for training, could sit."""
    exit_at = max(ranking.rows, key=lambda row: row.saving)
    sentences = [
        f"For an exit: {exit_at.endpoint}. Answering as the probe, an exit there would "
        f"save {exit_at.saving:.0%} of the multiply-adds for half a point of accuracy "
        "on these pictures. keras-inception exits trains heads for exits."
        if exit_at.saving
        else "For exits: none of the probes saves computation within half a point of "
        "accuracy. Heads may answer better: keras-inception exits trains them."
    ]
    if sending := [row for row in ranking.rows if row.gradient is not None]:
        strongest = max(sending, key=lambda row: row.gradient or 0.0)
        sentences.append(
            f"For training: a head at {strongest.endpoint} would send the most "
            f"gradient to the weights before it, {strongest.gradient:.1f} times "
            "main's. It is not yet measured whether this ranking foretells trainings; "
            "python -m tuning.search compares trainings."
        )
    return sentences


def draw_ranking(ranking: Ranking, path: Path) -> None:
    """Draws accuracy against multiply-adds, and gradients, to a PNG file."""
    from matplotlib.figure import Figure

    rows: Sequence[EndpointRow] = ranking.rows
    names = [row.endpoint for row in rows]
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    shares, accuracies = [r.share for r in rows], [r.accuracy for r in rows]
    left.plot(shares, accuracies, "o-", color="tab:blue", label="linear probes")
    left.plot(1.0, ranking.main.accuracy, "s", color="black", label="main")
    for name, share, accuracy in zip(names, shares, accuracies, strict=True):
        left.annotate(
            name,
            (share, accuracy),
            xytext=(4, -3),
            textcoords="offset points",
            rotation=-45,
            rotation_mode="anchor",
            va="top",
            fontsize=7,
            parse_math=False,
        )
    left.set(xlabel="share of main's multiply-adds", ylabel="accuracy, held-out")
    left.set_xlim(0, 1.15)
    left.legend(loc="lower right", frameon=False)
    sent = [0.0 if row.gradient is None else row.gradient for row in rows]
    right.barh(range(len(rows)), sent, color="tab:red")
    right.axvline(1, color="0.4", linewidth=1, linestyle=":")
    right.set_yticks(range(len(rows)), names, fontsize=8, parse_math=False)
    right.invert_yaxis()
    right.set(xlabel="gradient that a head would send, times main's")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    write_whole(path, lambda partial: figure.savefig(partial, format="png", dpi=150))
