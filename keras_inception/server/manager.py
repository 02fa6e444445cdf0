"""The versions of a model: which are loaded, and which one answers.

TF Serving's policy. The directory is polled. New versions are loaded before old ones
are unloaded, and an old one first finishes the requests that it is answering, so that a
version can answer at every moment.
"""

import contextlib
import dataclasses
import enum
import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import grpc

from keras_inception.server.limits import ServingError, code_of
from keras_inception.server.servable import Servable
from keras_inception.server.version_policy import ModelConfig, versions_in


class ModelSpec(NamedTuple):
    """The model a request is for; its highest version unless a version is given."""

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
    code: grpc.StatusCode = grpc.StatusCode.OK
    error: str = ""
    servable: Servable | None = None
    users: int = 0

    def status(self, number: int) -> dict:
        """The entry of TF Serving's GetModelStatusResponse."""
        return {
            "version": str(number),
            "state": self.state,
            "status": {"error_code": self.code.name, "error_message": self.error},
        }


class Manager:
    """Loads and unloads the versions of one model, and lends them to requests.

    Args:
        config: The model; may be replaced before an `update`.
        load: Loads the version at a path as a servable that answers requests.
    """

    def __init__(self, config: ModelConfig, load: Callable[[Path], Servable]):
        self.config = config
        self._load = load
        self._labels: dict[str, int] = {}
        self._versions: dict[int, Version] = {}
        self._changed = threading.Condition()

    @property
    def name(self) -> str:
        """The model's name in requests."""
        return self.config.name

    def update(self) -> None:
        """Loads the wanted versions that are not loaded, then unloads the others.

        A version that fails to load is reported in the status and not retried; what was
        served before continues to be served.
        """
        config = self.config
        present = versions_in(config.directory)
        wanted = config.select(present)
        for number in wanted:
            known = self._versions.get(number)
            if known is None or (known.state == State.END and not known.error):
                self._start(number, present[number])
        available = set(self.available())
        self._assign_labels(config.labels, available)
        # A directory that is empty for a moment leaves what is served.
        if config.retired or available.intersection(wanted):
            for number in available.difference(wanted):
                self._finish(self._versions[number])
        # A version that failed and was removed is tried again when it returns.
        for number in set(self.failures()).difference(present):
            with self._changed:
                del self._versions[number]

    @contextlib.contextmanager
    def servable(self, spec: ModelSpec) -> Iterator[tuple[int, Servable]]:
        """Yields the version that answers a request, kept loaded while the block runs.

        Raises:
            ServingError: If no version that is served fits `spec`.
        """
        with self._changed:
            version = self._version_of(spec)
            number = max(self.available(), default=0) if version is None else version
            entry = self._versions.get(number)
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

        A label in place of a number is ignored, as in TF Serving
        (get_model_status_impl.cc): the answer is that for all versions.

        Raises:
            ServingError: If no version that was seen fits `spec`.
        """
        with self._changed:
            seen = self._versions
            numbers = sorted(seen, reverse=True)
            if spec.version is not None:
                numbers = [spec.version]
            if not numbers or numbers[0] not in seen:
                all_ = spec.version is None
                which = "any versions" if all_ else f"version {spec.version}"
                raise ServingError(f"Could not find {which} of model {spec.name}", 404)
            return [seen[number].status(number) for number in numbers]

    def available(self) -> list[int]:
        """The version numbers that are being served, ascending."""
        with self._changed:
            return sorted(n for n, v in self._versions.items() if v.servable)

    def servables(self) -> dict[int, Servable]:
        """The versions that are being served, by number; for their counts only."""
        with self._changed:
            return {n: v.servable for n, v in self._versions.items() if v.servable}

    def failures(self) -> dict[int, str]:
        """The reason why each version that failed to load did so, by number."""
        with self._changed:
            return {n: v.error for n, v in self._versions.items() if v.error}

    def unassigned_labels(self) -> dict[str, int]:
        """The labels that do not point to their version, since it is not served."""
        with self._changed:
            labels = self.config.labels.items()
            return {k: number for k, number in labels if self._labels.get(k) != number}

    def _assign_labels(self, labels: Mapping[str, int], available: set[int]) -> None:
        """TF Serving's rule (server_core.cc): a label goes to an available version."""
        with self._changed:
            self._labels = {
                label: number if number in available else self._labels[label]
                for label, number in labels.items()
                if number in available or label in self._labels
            }

    def _version_of(self, spec: ModelSpec) -> int | None:
        if spec.label is None:
            return spec.version
        if spec.label not in self._labels:
            raise ServingError(f"Unrecognized servable version label: {spec.label}")
        return self._labels[spec.label]

    def _start(self, number: int, path: Path) -> None:
        with self._changed:
            entry = self._versions[number] = Version()
        try:
            servable = self._load(path)
        except Exception as error:  # a directory can hold anything
            with self._changed:
                entry.state, entry.code = State.END, code_of(error)
                entry.error = str(error).strip().split("\n")[0] or type(error).__name__
            return
        with self._changed:
            entry.servable, entry.state = servable, State.AVAILABLE

    def _finish(self, entry: Version) -> None:
        with self._changed:
            servable, entry.servable = entry.servable, None
            entry.state = State.UNLOADING
            self._changed.wait_for(lambda: entry.users == 0)
        if servable is not None:
            servable.close()
        del servable
        gc.collect()  # TensorFlow's graphs refer to themselves
        with self._changed:
            entry.state = State.END
