"""The models that are served, by name."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

from keras_inception.server.manager import Manager, ModelSpec
from keras_inception.server.servable import Servable
from keras_inception.server.version_policy import ModelConfig


class Load(Protocol):
    """Loads the version at a path in a runtime, by default the one of its files."""

    def __call__(self, path: Path, *, runtime: str | None) -> Servable: ...


class Models:
    """Loads and unloads the versions of several models, and lends them to requests."""

    def __init__(self, configs: Iterable[ModelConfig], load: Load):
        self._load = load
        self._managers: dict[str, Manager] = {}
        self._updating = threading.Lock()
        self.configure(configs)

    def configure(self, configs: Iterable[ModelConfig]) -> None:
        """Replaces the models to serve; the next `update` loads and unloads them.

        Raises:
            ValueError: If a model changes its runtime, as in TF Serving.
        """
        managers = dict(self._managers)
        wanted = {config.name: config for config in configs}
        for name, config in wanted.items():
            known = managers[name].config if name in managers else config
            if known.runtime != config.runtime and not known.retired:
                raise ValueError(
                    f"Illegal to change a model's platform. For model {name} it was "
                    f"{known.runtime}; requested is {config.runtime}"
                )
        for name, manager in managers.items():
            manager.config = wanted.pop(name, manager.config.retire())
        for name, config in wanted.items():
            load = partial(self._load, runtime=config.runtime)
            managers[name] = Manager(config, load)
        self._managers = managers

    def update(self) -> None:
        """Loads and unloads versions, model by model."""
        with self._updating:
            for manager in self._managers.values():
                with contextlib.suppress(OSError):  # unreadable for a while
                    manager.update()

    @contextlib.contextmanager
    def following(self, seconds: float) -> Iterator[None]:
        """Updates at this interval, in a thread, while the block runs."""
        with repeating(seconds, self.update):
            yield

    def managers(self) -> list[Manager]:
        """The models to serve, in their order."""
        return [m for m in self._managers.values() if not m.config.retired]

    def of(self, name: str) -> Manager:
        """The manager of a model; of an unknown one, a manager without versions."""
        unknown = ModelConfig(name, Path(), latest=0)
        return self._managers.get(name) or Manager(unknown, self._no_load)

    def servable(
        self, spec: ModelSpec
    ) -> contextlib.AbstractContextManager[tuple[int, Servable]]:
        """The version that answers a request, kept loaded while a block runs.

        Raises:
            ServingError: If no version that is served fits `spec`.
        """
        return self.of(spec.name).servable(spec)

    def status(self, spec: ModelSpec) -> list[dict]:
        """The state of one version of a model, or of all, highest first.

        Raises:
            ServingError: If no version that was seen fits `spec`.
        """
        return self.of(spec.name).status(spec)

    def available(self) -> dict[str, list[int]]:
        """The version numbers that are being served, by model."""
        return {manager.name: manager.available() for manager in self.managers()}

    def ready(self) -> bool:
        """Whether a version of every model is served."""
        return all(m.available() for m in self.managers())

    @staticmethod
    def _no_load(path: Path) -> Servable:
        raise AssertionError(f"{path} belongs to no model")


@contextlib.contextmanager
def repeating(seconds: float, function: Callable[[], None]) -> Iterator[None]:
    """Calls a function at an interval, in a thread, while the block runs."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(seconds):
            function()

    thread = threading.Thread(target=repeat, name=function.__name__, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
