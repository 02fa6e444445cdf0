"""The operations of a JAX program by the time that they take on the card."""

import collections
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax


def operations_by_time(path: str, step: Callable, steps: int = 10) -> None:
    """Profiles `steps` calls; writes a JSON file of milliseconds a step."""
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            for _ in range(steps):
                step()
        files = Path(directory).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(next(files)))
        totals: dict = {}
        for plane in data.planes:
            for line in plane.lines:
                times = totals.setdefault(
                    f"{plane.name} / {line.name}", collections.Counter()
                )
                for event in line.events:
                    stats = {k: str(v) for k, v in event.stats if k}
                    source = stats.get("tf_op") or stats.get("hlo_op") or ""
                    times[f"{event.name} | {source}"] += event.duration_ns
    table = {
        line: [[name[:200], ns / 1e6 / steps] for name, ns in times.most_common(150)]
        for line, times in totals.items()
        if "GPU" in line
    }
    Path(path).write_text(json.dumps(table, indent=0))
    for line, rows in table.items():
        print("==", line, sum(ms for _, ms in rows))
        for name, ms in rows[:25]:
            print(f"{ms:8.3f} {name}")
