"""Which versions are loaded, and who is answered by which: TF Serving's policy.

The directory is looked at again and again. What is wanted is loaded first; what is no
longer wanted goes afterwards, once the requests that it is answering are done. So there
is a version to answer at every moment.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from keras_inception.export.versioning import path_of, versions
from keras_inception.server.errors import ServingError
from keras_inception.server.servable import Servable

START, LOADING, AVAILABLE, UNLOADING, END = (
    "START",
    "LOADING",
    "AVAILABLE",
    "UNLOADING",
    "END",
)


class Version:
    """A version that was seen: its state, and the servable while it is loaded."""

    def __init__(self):
        self.state = START
        self.error = ""
        self.servable: Servable | None = None
        self.users = 0

    def status(self, number: int) -> dict:
        """As TF Serving's GetModelStatusResponse has it."""
        code = "UNKNOWN" if self.error else "OK"
        return {
            "version": str(number),
            "state": self.state,
            "status": {"error_code": code, "error_message": self.error},
        }


class Manager:
    """The versions of one model.

    Args:
        directory: Of the versions.
        load: From a version's path to what answers requests.
        name: Under which it is served; by default the directory's.
        wanted: `"latest"`, `"all"`, or the numbers to serve.
        labels: Names for versions, which are then wanted as well.
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

    def look(self) -> None:
        """Loads what has become wanted and unloads what is no longer.

        A version that can't be loaded is told in its status and not tried again; what
        was served before goes on being served.
        """
        there = versions(self.directory)
        wanted = self._select(there)
        for number in wanted:
            known = self._versions.get(number)
            if known is None or (known.state == END and not known.error):
                self._start(number)
        if any(self._is_available(number) for number in wanted):
            for number in set(self._versions) - set(wanted):
                if self._is_available(number):
                    self._finish(number)
        # A number that was withdrawn after it failed may come back mended.
        for number in set(self._versions) - set(there):
            if self._versions[number].error:
                with self._changed:
                    del self._versions[number]

    @contextlib.contextmanager
    def following(self, seconds: float) -> Iterator[None]:
        """Looks every so many seconds, in a thread, while the block runs."""

        def follow():
            while not self._stop.wait(seconds):
                # an unreadable directory for a while is no reason to stop looking
                with contextlib.suppress(OSError):
                    self.look()

        thread = threading.Thread(target=follow, name="versions", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    @contextlib.contextmanager
    def servable(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> Iterator[Servable]:
        """The servable for a request, kept loaded while the block runs."""
        if label is not None:
            if name == self.name and label not in self.labels:
                raise ServingError(f"Unrecognized servable version label: {label}")
            version = self.labels.get(label)
        with self._changed:
            if version is None:
                number = max(self.available(), default=None)
            else:
                number = version if self._is_available(version) else None
            if name != self.name or number is None:
                asked = f"Latest({name})"
                if version is not None:
                    asked = f"Specific({name}, {version})"
                raise ServingError(f"Servable not found for request: {asked}", 404)
            entry = self._versions[number]
            entry.users += 1
        try:
            yield entry.servable
        finally:
            with self._changed:
                entry.users -= 1
                self._changed.notify_all()

    def number_of(self, version: int | None, label: str | None) -> int | None:
        """The version that a request's version or label means, if there is one."""
        if label is not None:
            return self.labels.get(label)
        return version if version is not None else max(self.available(), default=None)

    def status(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> list[dict]:
        """The states of all versions that were seen, highest first, or of one."""
        if label is not None:
            if label not in self.labels:
                raise ServingError(f"Unrecognized servable version label: {label}")
            version = self.labels[label]
        with self._changed:
            seen = self._versions if name == self.name else {}
            if version is None and not seen:
                raise ServingError(f"Could not find any versions of model {name}", 404)
            if version is not None and version not in seen:
                raise ServingError(
                    f"Could not find version {version} of model {name}", 404
                )
            numbers = sorted(seen, reverse=True) if version is None else [version]
            return [seen[number].status(number) for number in numbers]

    def available(self) -> list[int]:
        """The numbers that are being served, rising."""
        with self._changed:
            return sorted(n for n in self._versions if self._is_available(n))

    def failures(self) -> dict[int, str]:
        """Why versions could not be loaded, by number."""
        with self._changed:
            return {n: v.error for n, v in self._versions.items() if v.error}

    def _select(self, there: list[int]) -> list[int]:
        if self._wanted == "all":
            return there
        wanted = {*self.labels.values()}
        wanted |= {*there[-1:]} if self._wanted == "latest" else {*self._wanted}
        return [number for number in there if number in wanted]

    def _is_available(self, number: int) -> bool:
        return number in self._versions and self._versions[number].state == AVAILABLE

    def _start(self, number: int) -> None:
        entry = Version()
        entry.state = LOADING
        with self._changed:
            self._versions[number] = entry
        try:
            servable = self._load(path_of(self.directory, number))
        # Whatever a directory holds that calls itself a version, the others go on.
        except Exception as error:
            with self._changed:
                entry.state = END
                entry.error = str(error).strip().split("\n")[0] or type(error).__name__
            return
        with self._changed:
            entry.servable, entry.state = servable, AVAILABLE

    def _finish(self, number: int) -> None:
        entry = self._versions[number]
        with self._changed:
            entry.state = UNLOADING
            self._changed.wait_for(lambda: entry.users == 0)
            entry.servable, entry.state = None, END
