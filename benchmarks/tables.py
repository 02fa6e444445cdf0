"""Result tables of the benchmarks: CSV files, printed tables, plots, environment."""

import csv
import datetime
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.alternation import ratios
from keras_inception.files import write_csv
from keras_inception_cli.console import print_table

RESULTS = Path(__file__).parent / "results"
PEERS = ("torch", "torchvision", "onnxruntime", "openvino")


def environment() -> dict[str, str | int]:
    """Date, processor, cores, and versions, for every row that a benchmark writes."""
    import keras

    return {
        "date": datetime.date.today().isoformat(),
        "processor": platform.machine(),
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        **versions(["tensorflow"]),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The version of each package, empty if it is not installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def read(path: Path) -> list[dict[str, str]]:
    """Reads a table; a file that does not exist has no rows."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes a table of results; rows may lack some of the columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_csv(path, columns, [[row.get(name, "") for name in columns] for row in rows])
    print(f"wrote {path}", flush=True)


def finish(name: str, rows: list[dict], peer: str, threads: int) -> None:
    """Prints rows of `in_turns` with their ratios; writes NAME.csv and NAME.png.

    Args:
        name: Name of the results.
        rows: From `in_turns`.
        peer: The candidate that the ratios compare with.
        threads: Threads of every candidate.
    """
    for row, ratio in zip(rows, ratios(rows, peer), strict=True):
        row["times_as_fast"] = ratio
        del row["seconds"]
    columns = {
        "candidate": "candidate",
        "batch": "batch",
        "median_ms": "ms",
        "lower_quartile_ms": "from",
        "upper_quartile_ms": "to",
        "pictures_per_second": "pictures/s",
        "times_as_fast": "ratio",
        "peak_mb": "peak MB",
        "idle_mb": "idle MB",
    }
    cells = [[row[column] for column in columns] for row in rows]
    print_table(cells, list(columns.values()))
    about = {"peer": peer, "threads": threads, **environment(), **versions(PEERS)}
    write(RESULTS / f"{name}.csv", [row | about for row in rows])
    draw(RESULTS / f"{name}.png", rows, peer)


def draw(path: Path, rows: list[dict], peer: str) -> None:
    """Draws bars of pictures per second with quartiles, a panel for each batch size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    batches = sorted({row["batch"] for row in rows})
    names = list(dict.fromkeys(row["candidate"] for row in rows))
    figure, panels = plt.subplots(
        1,
        len(batches),
        figsize=(3 + 3 * len(batches), 1 + 0.3 * len(names)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for batch, panel in zip(batches, panels[0], strict=True):
        of_batch = [row for row in rows if row["batch"] == batch]
        speeds = [row["pictures_per_second"] for row in of_batch]
        # A short time is a high speed, so the quartiles swap.
        low = [1000 * batch / row["upper_quartile_ms"] for row in of_batch]
        high = [1000 * batch / row["lower_quartile_ms"] for row in of_batch]
        errors = [
            [max(0, speed - end) for speed, end in zip(speeds, low, strict=True)],
            [max(0, end - speed) for speed, end in zip(speeds, high, strict=True)],
        ]
        colors = ["tab:orange" if _is_peer(name) else "tab:blue" for name in names]
        panel.barh(names, speeds, xerr=errors, color=colors, height=0.7)
        panel.bar_label(
            panel.containers[-1],
            [f"{row['times_as_fast']:.2f}x" for row in of_batch],
            padding=4,
        )
        panel.margins(x=0.2)
        panel.set_title(f"batch {batch}")
        panel.set_xlabel("pictures/s")
    panels[0][0].invert_yaxis()
    # Two lines: one is wider than a figure with one panel, and would be cut off.
    figure.suptitle(
        f"Relative to {peer} = 1.00x\norange: peers; whiskers: quartiles", fontsize=10
    )
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(f"wrote {path}")


def _is_peer(name: str) -> bool:
    return name.startswith(("torchvision", "InceptionV3", "earlyon"))
