"""Tables of trainings with several seeds: kept, gone on with, summed up."""

import csv
import statistics
from pathlib import Path


def read(path: Path) -> list[dict[str, str]]:
    """The rows that are there already."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, row: dict) -> None:
    """Adds a row to the table, and tells it; the columns may be other than before."""
    rows = [*read(path), row]
    columns = dict.fromkeys(name for each in rows for name in each)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)
    print(row, flush=True)


def refuse_other_settings(path: Path, settings: dict[str, float]) -> None:
    """Ends the program if the table's rows were made with other settings."""
    for row in read(path):
        if any(float(row[name]) != value for name, value in settings.items()):
            raise SystemExit(
                f"{path} holds a study with other settings; give it another file"
            )


def table(rows: list[dict[str, str]]) -> str:
    """Mean and standard deviation of every accuracy over an arm's seeds."""
    names = [name for name in rows[0] if name.endswith("accuracy")]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    width = max(map(len, arms))
    lines = [f"{'arm':<{width}} seeds  " + "  ".join(f"{name:>20}" for name in names)]
    for arm in arms:
        of_arm = [row for row in rows if row["arm"] == arm]
        cells = []
        for name in names:
            values = [float(row[name]) for row in of_arm if row[name]]
            text = f"{statistics.mean(values):.4f}" if values else "-"
            if len(values) > 1:
                text += f" +- {statistics.stdev(values):.4f}"
            cells.append(f"{text:>20}")
        lines.append(f"{arm:<{width}} {len(of_arm):>5}  " + "  ".join(cells))
    return "\n".join(lines)
