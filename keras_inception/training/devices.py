"""Training on several devices or machines, as the command line chooses them.

In your own code on one machine, build the model in the scope of
`tf.distribute.MirroredStrategy()` (TensorFlow) or `keras.distribution.DataParallel()`
(JAX); nothing here is needed.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import keras

from keras_inception.graph import owner_of
from keras_inception.training.multi_worker import multi_worker_strategy

ALL = "all"


class Devices:
    """The devices that a model trains on.

    Every device computes its part of each batch with a copy of the weights; gradients
    are averaged. If the environment variable `TF_CONFIG` names several workers
    (TensorFlow only), every worker runs the same program on all of its devices; make
    this object before TensorFlow computes anything.

    Args:
        count: Number of GPUs of this machine (of CPUs if it has none), or `"all"`.
            Defaults to 1. Must not be given with several workers.

    Raises:
        ValueError: If there are fewer devices, or the backend supports only one.
        RuntimeError: As `multi_worker_strategy`.

    Attributes:
        replicas: Number of devices, those of other workers included.
        workers: Number of processes.
        worker: Index of this process; 0 is the chief.

    Example:
    >>> devices = Devices()
    >>> with devices.scope():
    ...     model = GoogLeNet((64, 64, 3), classes=3)
    >>> devices.replicas
    1
    """

    def __init__(self, count: int | str | None = None):
        self.worker, self.workers = _index_among_workers()
        self._strategy: Any = None
        if self.workers > 1:
            if count is not None:
                raise ValueError(
                    "With TF_CONFIG every worker trains on all of its devices: leave "
                    f"out the number (--devices). Received: {count}"
                )
            self._strategy = multi_worker_strategy()
            self.replicas = self._strategy.num_replicas_in_sync
            return
        self.replicas = 1
        if count not in (None, 1):
            chosen = _choose(count)
            self.replicas = len(chosen)
        if self.replicas > 1:
            import tensorflow as tf

            self._strategy = tf.distribute.MirroredStrategy(chosen)

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the run directory."""
        return self.worker == 0

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Models and optimizers made in the block live on all devices."""
        if self._strategy is None:
            yield
            return
        with self._strategy.scope(), self._explaining_lost_workers():
            yield

    def share(self, dataset: Any, examples: int, batch_size: int) -> Any:
        """Rebatches a `tf.data` dataset so that every device gets part of each batch.

        No example is lost, but the last two batches may have other sizes. Each worker
        reads the whole dataset, in the same order, and takes its part of each batch.
        """
        if self.replicas == 1:
            return dataset
        import tensorflow as tf

        sizes = shareable_batches(examples, batch_size, self.replicas)
        options = tf.data.Options()
        policy = tf.data.experimental.AutoShardPolicy.DATA
        options.experimental_distribute.auto_shard_policy = policy
        dataset = dataset.rebatch(sizes).with_options(options)
        return dataset.apply(tf.data.experimental.assert_cardinality(len(sizes)))

    @property
    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Callbacks that `fit` needs on several devices, before all others."""
        return [AveragedStatistics(self._strategy)] if self._strategy else []

    def check_agreement(self, number: int, what: str) -> None:
        """Raises a `RuntimeError` unless all workers have the same number."""
        if self.workers == 1:
            return
        import tensorflow as tf

        with self._explaining_lost_workers():
            run = tf.function(self._strategy.run)
            each = run(lambda: tf.constant([number]))
            numbers = set(self._strategy.gather(each, axis=0).numpy().tolist())
        if len(numbers) > 1:
            raise RuntimeError(
                f"The workers differ in {what}: {sorted(numbers)}. Every worker must "
                "see the chief's files."
            )

    @contextlib.contextmanager
    def _explaining_lost_workers(self):
        if self.workers == 1:
            yield
            return
        import tensorflow as tf

        lost = (tf.errors.UnavailableError, tf.errors.AbortedError)
        try:
            yield
        except lost as error:
            raise RuntimeError(
                f"Another of the {self.workers} workers has stopped, and none can "
                "continue alone. Start all of them again with --resume: the run "
                "continues after its last finished epoch."
            ) from error


class AveragedStatistics(keras.callbacks.Callback):
    """Averages batch normalization's statistics over the devices before validation.

    Keras lets each device keep the moving mean and variance of its own part of the
    batches and saves those of the first: the validated model would differ from the
    saved one, and a resumed run from an uninterrupted one.
    """

    def __init__(self, strategy: Any):
        super().__init__()
        self._strategy = strategy

    def on_train_begin(self, logs: Any = None) -> None:
        import tensorflow as tf

        self._own = [
            variable
            for variable in self.model.non_trainable_variables
            if owner_of(variable)[1] in ("moving_mean", "moving_variance")
        ]
        self._read = tf.function(
            lambda: self._strategy.run(
                lambda: [tf.identity(v.value) for v in self._own]
            )
        )

    def on_test_begin(self, logs: Any = None) -> None:
        for variable, values in zip(self._own, self._read(), strict=True):
            variable.assign(self._strategy.reduce("MEAN", values, axis=None))


def _index_among_workers() -> tuple[int, int]:
    """This process's index among the workers of `TF_CONFIG`, and their number."""
    text = os.environ.get("TF_CONFIG")
    if not text or keras.backend.backend() != "tensorflow":
        return 0, 1
    try:
        config = json.loads(text)
        workers = len(config.get("cluster", {}).get("worker", ()))
        task = config.get("task", {})
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
    except (ValueError, AttributeError, TypeError):
        raise ValueError(
            'TF_CONFIG must be JSON like {"cluster": {"worker": ["host0:2222", '
            '"host1:2222"]}, "task": {"type": "worker", "index": 0}}. Received: '
            f"{text}"
        ) from None
    if workers < 2:
        return 0, 1
    if kind != "worker" or set(config["cluster"]) != {"worker"}:
        raise ValueError(
            "TF_CONFIG must name only workers, of which the first is the chief. "
            f"Received: {text}"
        )
    return index, workers


def _choose(count: int | str) -> list[str]:
    """The names of `count` GPUs, or CPUs if there are no GPUs."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Several devices need the TensorFlow backend; this is "
            f"{keras.backend.backend()}. See docs/several-devices.md for what Keras "
            "offers on it."
        )
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU")
    found = found or tf.config.list_logical_devices("CPU")
    names = [device.name for device in found]
    wanted = len(names) if count == ALL else int(count)
    if wanted > len(names):
        raise ValueError(
            f"Requested {wanted} devices; only {len(names)} available "
            f"({', '.join(names)}). Use --devices all, or at most that many."
        )
    return names[:wanted]


def shareable_batches(examples: int, batch_size: int, replicas: int) -> list[int]:
    """Batch sizes for which TensorFlow gives every device a part of each batch.

    TensorFlow cuts a batch into pieces of equal size, rounded up: a small batch leaves
    the last devices without any picture. That weights the gradients wrongly, and on
    CPUs oneDNN's convolutions fail on empty batches.

    Example:
    >>> shareable_batches(100, 32, 4)
    [32, 32, 32, 4]
    >>> shareable_batches(97, 32, 4)
    [32, 32, 4, 29]
    """
    if batch_size % replicas:
        raise ValueError(
            f"A batch of {batch_size} cannot be divided evenly among {replicas} "
            "devices: make --batch-size a multiple of their number."
        )
    most = min(batch_size, examples)
    last = most - (most - examples) % replicas if examples % replicas else 0
    piece = -(-last // replicas)
    if last and (replicas - 1) * piece >= last:
        raise ValueError(
            f"{examples} pictures in batches of {batch_size} leave one of {replicas} "
            f"devices without any picture: use --batch-size {replicas * replicas} or "
            "more, or fewer devices."
        )
    whole, rest = divmod(examples - last, batch_size)
    return [batch_size] * whole + [size for size in (rest, last) if size]
