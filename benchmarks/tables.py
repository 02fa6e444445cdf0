"""What measured rows become: a table for people, a CSV file, and a picture."""

import csv
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.alternation import ratios
from benchmarks.environment import environment

RESULTS = Path(__file__).parent / "results"
PEERS = ("torch", "torchvision", "onnxruntime", "openvino")


def finish(name: str, rows: list[dict], peer: str, threads: int) -> None:
    """Prints rows of `in_turns` with their ratios, and writes NAME.csv and NAME.png."""
    for row, ratio in zip(rows, ratios(rows, peer), strict=True):
        row["times_as_fast"] = ratio
        del row["seconds"]
        print(
            f"{row['candidate']:<38} {row['batch']:>2}  {row['median_ms']:7.1f} ms "
            f"({row['lower_quartile_ms']:.1f} to {row['upper_quartile_ms']:.1f})  "
            f"{row['pictures_per_second']:6.1f} pictures/s  {ratio:5.2f}  "
            f"{row['peak_mb']:5} MB, idle {row['idle_mb']}"
        )
    about = {"peer": peer, "threads": threads, **environment(), **versions(PEERS)}
    write(RESULTS / f"{name}.csv", [row | about for row in rows])
    draw(RESULTS / f"{name}.png", rows, peer)


def versions(packages) -> dict[str, str]:
    """Which of these packages are installed, and in which version."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def write(path: Path, rows: list[dict]) -> None:
    """Writes a table of results."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {path}")


def draw(path: Path, rows: list[dict], peer: str) -> None:
    """Bars of pictures per second with quartiles; a panel for each batch size."""
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
        # a short time is a high speed: the quartiles change places
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
    figure.suptitle(f"Beside {peer} = 1.00x; orange: peers; whiskers: quartiles")
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(f"wrote {path}")


def _is_peer(name: str) -> bool:
    return name.startswith(("torchvision", "InceptionV3"))
