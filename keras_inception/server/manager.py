"""The versions of a model: which are loaded, and which one answers.

TF Serving's policy. The directory is polled. New versions are loaded
before old ones are unloaded, and an old one first finishes the requests that it is
answering, so that a version can answer at every moment.
"""

import contextlib
import dataclasses
import enum
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from keras_inception.export.versioning import path_of, versions
from keras_inception.server.limits import ServingError
from keras_inception.server.servable import Servable


class ModelSpec(NamedTuple):
    """The model a request is for: its highest version if it names no other."""

    name: str
    version: int | None = None
    label: str | None = None  # in place of a version number


class State(enum.StrEnum):
    """The states of a version, with TF Serving's names."""

    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclasses.dataclass
class Version:
    """A version that was seen; it has a servable while it is available."""

    state: State = State.LOADING
    error: str = ""
    servable: Servable | None = None
    users: int = 0

    def status(self, number: int) -> dict:
        """The entry of TF Serving's GetModelStatusResponse."""
        code = "UNKNOWN" if self.error else "OK"
        return {
            "version": str(number),
            "state": self.state,
            "status": {"error_code": code, "error_message": self.error},
        }


class Manager:
    """Loads and unloads the versions of one model, and lends them to requests.

    Args:
        directory: The directory of versions.
        load: Loads the version at a path as a servable that answers requests.
        name: The model's name in requests. Defaults to the directory's name.
        wanted: The versions to serve: `"latest"`, `"all"`, or their numbers.
        labels: Version number by label; labeled versions are always served.
    """

    def __init__(
        self,
        directory: str | Path,
        load: Callable[[Path], Servable],
        *,
        name: str | None = None,
        wanted: str | Sequence[int] = "latest",
        labels: Mapping[str, int] | None = None,
    ):
        self.directory = Path(directory)
        self.name = name or self.directory.resolve().name
        self.labels = dict(labels or {})
        self._load = load
        self._wanted = wanted
        self._versions: dict[int, Version] = {}
        self._changed = threading.Condition()
        self._stop = threading.Event()

    def update(self) -> None:
        """Loads the wanted versions that are not loaded, then unloads the others.

        A version that fails to load is reported in the status and not retried; what was
        served before continues to be served.
        """
        present = versions(self.directory)
        wanted = self._select(present)
        for number in wanted:
            known = self._versions.get(number)
            if known is None or (known.state == State.END and not known.error):
                self._start(number)
        available = set(self.available())
        if available.intersection(wanted):
            for number in available.difference(wanted):
                self._finish(self._versions[number])
        # A version that failed and was removed is tried again when it returns.
        for number in set(self.failures()).difference(present):
            with self._changed:
                del self._versions[number]

    @contextlib.contextmanager
    def following(self, seconds: float) -> Iterator[None]:
        """Updates at this interval, in a thread, while the block runs."""

        def follow() -> None:
            while not self._stop.wait(seconds):
                with contextlib.suppress(OSError):  # unreadable for a while
                    self.update()

        thread = threading.Thread(target=follow, name="versions", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    @contextlib.contextmanager
    def servable(self, spec: ModelSpec) -> Iterator[tuple[int, Servable]]:
        """Yields the version that answers a request, kept loaded while the block runs.

        Raises:
            ServingError: If no version that is served fits `spec`.
        """
        own = spec.name == self.name
        version = self._version_of(spec) if own else spec.version
        with self._changed:
            number = max(self.available(), default=0) if version is None else version
            entry = self._versions.get(number) if own else None
            if entry is None or entry.servable is None:
                wanted = f"Latest({spec.name})"
                if version is not None:
                    wanted = f"Specific({spec.name}, {version})"
                raise ServingError(f"Servable not found for request: {wanted}", 404)
            servable = entry.servable
            entry.users += 1
        try:
            yield number, servable
        finally:
            with self._changed:
                entry.users -= 1
                self._changed.notify_all()

    def status(self, spec: ModelSpec) -> list[dict]:
        """The state of one version, or of all that were seen, highest first.

        Raises:
            ServingError: If no version that was seen fits `spec`.
        """
        version = self._version_of(spec)
        with self._changed:
            seen = self._versions if spec.name == self.name else {}
            numbers = sorted(seen, reverse=True) if version is None else [version]
            if not numbers or numbers[0] not in seen:
                which = "any versions" if version is None else f"version {version}"
                raise ServingError(f"Could not find {which} of model {spec.name}", 404)
            return [seen[number].status(number) for number in numbers]

    def available(self) -> list[int]:
        """The version numbers that are being served, ascending."""
        with self._changed:
            return sorted(n for n, v in self._versions.items() if v.servable)

    def failures(self) -> dict[int, str]:
        """The reason why each version that failed to load did so, by number."""
        with self._changed:
            return {n: v.error for n, v in self._versions.items() if v.error}

    def _version_of(self, spec: ModelSpec) -> int | None:
        if spec.label is None:
            return spec.version
        if spec.label not in self.labels:
            raise ServingError(f"Unrecognized servable version label: {spec.label}")
        return self.labels[spec.label]

    def _select(self, present: list[int]) -> list[int]:
        if self._wanted == "all":
            return present
        wanted = {*self.labels.values()}
        wanted |= {*present[-1:]} if self._wanted == "latest" else {*self._wanted}
        return [number for number in present if number in wanted]

    def _start(self, number: int) -> None:
        with self._changed:
            entry = self._versions[number] = Version()
        try:
            servable = self._load(path_of(self.directory, number))
        except Exception as error:  # a directory can hold anything
            with self._changed:
                entry.state = State.END
                entry.error = str(error).strip().split("\n")[0] or type(error).__name__
            return
        with self._changed:
            entry.servable, entry.state = servable, State.AVAILABLE

    def _finish(self, entry: Version) -> None:
        with self._changed:
            entry.servable, entry.state = None, State.UNLOADING
            self._changed.wait_for(lambda: entry.users == 0)
            entry.state = State.END
