"""The report of the paired studies: tables, figures and what they allow to say."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.paired_plots import NO_HEADS, draw_curves, draw_differences
from benchmarks.paired_statistics import (
    NOT_SHOWN,
    hold_together,
    paired_difference,
    rank_correlation,
    verdict,
)
from benchmarks.tables import read, write
from keras_inception import html_report
from keras_inception_cli.console import print_table

# Each arm is compared with no heads, and a variant also with what it varies.
VARIANTS = (
    ("4a", "paper"),
    ("4d", "paper"),
    ("4d", "4a"),
    ("falling", "paper"),
    ("batch norm in heads", "paper"),
    ("coarse 4a", "4a"),
)
PLACEMENTS = {name: f"inception_{name}" for name in ("3b", "4a", "4d", "5a")}
FIRST_STAGE, LAST_STAGE = "conv1_3x3", "inception_5b"

Cell = tuple[str, str, str]  # dataset, regime, arm
BySeed = dict[int, float]


def report(out: Path) -> None:
    """Prints the tables, and writes them and the figures beside OUT's own."""
    trainings = read(out / "trainings.csv")
    if not trainings:
        raise SystemExit(f"{out} has no trainings.csv: run the studies first.")
    check_pairs(trainings)
    accuracies = by_cell(trainings, "main_accuracy")
    differences = difference_rows(accuracies)
    attribution = attribution_rows(read(out / "attribution.csv"))
    gradients = gradient_rows(read(out / "gradients.csv"))
    predictions = prediction_rows(out, accuracies)
    show("Accuracy, in percent: mean and deviation over seeds", level_rows(trainings))
    for name, title, rows in (
        (
            "differences",
            "Main's accuracy, in points: differences within seeds, 95 % intervals",
            differences,
        ),
        ("gradient_summary", "Gradient of main's loss, and of the heads'", gradients),
        (
            "attribution_summary",
            "The heads' share of the way that the weights went",
            attribution,
        ),
        ("predictions", "What predicts which head helps", predictions),
    ):
        if rows:
            show(title, rows)
            write(out / f"{name}.csv", rows)
    shown = sum(row["claim"] not in (NOT_SHOWN, "too few seeds") for row in differences)
    print(
        f"{shown} of {len(differences)} intervals exclude 0; if there were no "
        f"difference at all, about {0.05 * len(differences):.0f} would. 'together' "
        "says which differences are shown all at once (Holm's procedure)."
    )
    for name, figure in (
        ("curves", draw_curves(trainings)),
        ("differences", draw_differences(differences)),
    ):
        (out / f"{name}.png").write_bytes(html_report.png(figure))
        print(f"wrote {out / name}.png")


def check_pairs(trainings: Sequence[dict[str, str]]) -> None:
    """Stops unless trainings of a seed share their order and initial trunk."""
    seen: dict[tuple, tuple] = {}
    for row in trainings:
        key = row["dataset"], row["regime"], row["seed"]
        pair = row["order"], row["trunk"]
        if seen.setdefault(key, pair) != pair:
            raise SystemExit(f"The trainings of {', '.join(key)} are not paired.")


def by_cell(rows: Iterable[dict[str, str]], column: str) -> dict[Cell, BySeed]:
    """A column's numbers by dataset, regime and arm, and then by seed."""
    found: dict[Cell, BySeed] = defaultdict(dict)
    for row in rows:
        if row.get(column):
            cell = row["dataset"], row["regime"], row["arm"]
            found[cell][int(row["seed"])] = float(row[column])
    return found


def level_rows(trainings: Sequence[dict[str, str]]) -> list[dict]:
    """The accuracy of every output of every cell."""
    columns = ["main_accuracy", *sorted({c for r in trainings for c in r})]
    columns = [c for c in dict.fromkeys(columns) if c.endswith("_accuracy")]
    rows: dict[Cell, dict] = {}
    for column in columns:
        for cell, values in by_cell(trainings, column).items():
            row = rows.setdefault(cell, _named(cell) | {"seeds": len(values)})
            numbers = 100 * np.array(list(values.values()))
            spread = f" +- {numbers.std(ddof=1):.1f}" if len(numbers) > 1 else ""
            row[column.removesuffix("_accuracy")] = f"{numbers.mean():.1f}{spread}"
    return [rows[cell] for cell in sorted(rows, key=lambda c: c[:2])]


def difference_rows(accuracies: dict[Cell, BySeed]) -> list[dict]:
    """Every arm against no heads, and the variants."""
    rows = []
    for dataset, regime in dict.fromkeys(cell[:2] for cell in accuracies):
        arms = [a for d, r, a in accuracies if (d, r) == (dataset, regime)]
        pairs = [(arm, NO_HEADS) for arm in arms if arm != NO_HEADS]
        for arm, other in (*pairs, *VARIANTS):
            cells = ((dataset, regime, name) for name in (arm, other))
            ours, theirs = (
                {seed: 100 * value for seed, value in accuracies.get(cell, {}).items()}
                for cell in cells
            )
            found = paired_difference(ours, theirs)
            if found.pairs:
                row = _named((dataset, regime, arm)) | {"against": other}
                row |= {name: _short(value) for name, value in found._asdict().items()}
                rows.append(row | {"claim": verdict(found)})
    together = hold_together([float(row["p"] or np.nan) for row in rows])
    return [
        row | {"together": "yes" if held else ""}
        for row, held in zip(rows, together, strict=True)
    ]


def gradient_rows(gradients: Sequence[dict[str, str]]) -> list[dict]:
    """Main's gradient at both ends of the trunk, and the heads' at the first stage."""
    norms: dict[tuple, dict[tuple, float]] = defaultdict(dict)
    for row in gradients:
        key = (*(row[n] for n in ("dataset", "regime", "arm")), row["moment"])
        place = row["stage"], row["loss"]
        norms[key][int(row["seed"]), *place] = float(row["norm"])
    rows = []
    for (*cell, moment), found in norms.items():
        medians = defaultdict(list)
        for (_, stage, loss), norm in found.items():
            if stage in (FIRST_STAGE, LAST_STAGE) and loss != "total":
                medians[loss, stage].append(norm)
        row = _named(cell) | {"moment": moment}
        row["seeds"] = len({seed for seed, *_ in found})
        for (loss, stage), values in medians.items():
            if stage == FIRST_STAGE or loss == "main":
                row[f"{loss} at {stage}"] = f"{np.median(values):.2g}"
        rows.append(row)
    return sorted(rows, key=lambda row: (row["dataset"], row["regime"], row["moment"]))


def attribution_rows(attribution: Sequence[dict[str, str]]) -> list[dict]:
    """Each head's share of the first stage, and on average of the trunk before it.

    The mean over the seeds, with the least and the most of them. Of two heads also
    their sum, on average of the trunk before the first of them.
    """
    by_head = _trunk_shares(attribution)
    heads: dict[tuple, list[str]] = defaultdict(list)
    for *cell, loss in by_head:
        heads[tuple(cell)].append(loss)
    for cell, losses in heads.items():
        if len(losses) > 1:
            # the stages that the second head reaches alone have no sum
            by_head[*cell, "together"] = {
                seed: [
                    sum(shares)
                    for shares in zip(
                        *(by_head[*cell, loss][seed] for loss in losses), strict=False
                    )
                ]
                for seed in by_head[*cell, losses[0]]
            }
    rows = []
    for (*cell, loss), shares in by_head.items():
        row = _named(cell) | {"loss": loss, "seeds": len(shares)}
        for name, values in (
            (f"% of {FIRST_STAGE}", [of_seed[0] for of_seed in shares.values()]),
            ("% of the trunk before it", [np.mean(s) for s in shares.values()]),
        ):
            row[name] = f"{100 * np.mean(values):.0f}"
            if len(values) > 1:  # too few seeds for an interval
                row[name] += f" ({100 * min(values):.0f} to {100 * max(values):.0f})"
        rows.append(row)
    return rows


def _trunk_shares(attribution: Sequence[dict[str, str]]) -> dict[tuple, dict]:
    """By cell and head: by seed the shares of the stages before it, in order."""
    shares: dict[tuple, dict] = defaultdict(lambda: defaultdict(list))
    for row in attribution:
        loss, stage = row["loss"], row["stage"]
        reached = loss != "main" and float(row["path_share"]) > 0
        if reached and not stage.startswith("aux_"):
            key = *(row[n] for n in ("dataset", "regime", "arm")), loss
            shares[key][int(row["seed"])].append(float(row["share"]))
    return shares


def prediction_rows(out: Path, accuracies: dict[Cell, BySeed]) -> list[dict]:
    """Correlates, over single heads, the benefit with what could predict it."""
    predictors = dict(_predictors(out))
    rows = []
    for name, values in predictors.items():
        points = []
        for dataset, regime, arm in values:
            plain = accuracies.get((dataset, regime, NO_HEADS), {})
            found = paired_difference(accuracies.get((dataset, regime, arm), {}), plain)
            if found.pairs:
                cell = dataset, regime, arm
                points.append((cell[:2], values[cell], found.mean))
        over_all = rank_correlation([p[1] for p in points], [p[2] for p in points])
        within, groups = _centered(points)
        inside = rank_correlation(
            [p[0] for p in within], [p[1] for p in within], len(within) - groups
        )
        for scope, found in (("all", over_all), ("within a regime", inside)):
            numbers = {key: _short(value) for key, value in found._asdict().items()}
            row = {"predictor": name, "scope": scope, "settings": len(points)}
            rows.append(row | numbers | {"claim": found.verdict})
    return rows


def _centered(points: Sequence[tuple]) -> tuple[list[tuple[float, float]], int]:
    """Values less their mean over the placements of their group, and the groups."""
    by_group: dict[tuple, list] = defaultdict(list)
    for group, *values in points:
        by_group[group].append(values)
    groups = [np.array(values) for values in by_group.values() if len(values) > 1]
    centered = [tuple(pair) for values in groups for pair in values - values.mean(0)]
    return centered, len(groups)


def _predictors(out: Path) -> Iterator[tuple[str, dict[Cell, float]]]:
    """For each predictor its mean over seeds, by cell of a single head."""
    probes = defaultdict(list)
    for row in read(out / "probes.csv"):
        for arm, endpoint in PLACEMENTS.items():
            if row["endpoint"] == endpoint:
                cell = row["dataset"], row["regime"], arm
                probes[cell].append(float(row["accuracy"]))
    yield "probe's accuracy there, trained without heads", _means(probes)
    ratios = defaultdict(list)
    norms: dict[tuple, dict[str, float]] = defaultdict(dict)
    for row in read(out / "gradients.csv"):
        if (row["moment"], row["stage"]) == ("start", FIRST_STAGE):
            key = tuple(row[name] for name in ("dataset", "regime", "arm", "seed"))
            norms[key][row["loss"]] = float(row["norm"])
    for (*cell, _), by_loss in norms.items():
        if cell[-1] in PLACEMENTS and len(by_loss) == 3:
            head = by_loss[f"aux_{cell[-1]}"]
            ratios[tuple(cell)].append(np.log(head / by_loss["main"]))
    yield (
        f"log of its gradient at {FIRST_STAGE} over main's, at the start",
        _means(ratios),
    )
    shares = _trunk_shares(read(out / "attribution.csv"))
    yield (
        "its share of the way of the trunk before it",
        _means(
            {
                tuple(cell): [np.mean(s) for s in by_seed.values()]
                for (*cell, _), by_seed in shares.items()
                if cell[-1] in PLACEMENTS
            }
        ),
    )


def _means(values: dict) -> dict[Cell, float]:
    return {cell: float(np.mean(numbers)) for cell, numbers in values.items()}


def show(title: str, rows: Sequence[dict]) -> None:
    """Prints rows that may lack columns."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    print(f"\n{title}\n")
    print_table([[row.get(c, "") for c in columns] for row in rows], columns, (0, 1, 2))


def _named(cell: Sequence[str]) -> dict[str, str]:
    return dict(zip(("dataset", "regime", "arm"), cell, strict=True))


def _short(value: float) -> str | int:
    """A number of a table; nothing for NaN."""
    if isinstance(value, int):
        return value
    return "" if np.isnan(value) else f"{value:.3g}"
