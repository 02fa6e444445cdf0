"""Training on more than one device, for programs that leave the choice to the user.

In a program of your own Keras needs no help on one machine: make the model in the scope
of `tf.distribute.MirroredStrategy()` (TensorFlow) or of
`keras.distribution.DataParallel()` (JAX).
"""

import contextlib
import json
import os

import keras

from keras_inception.graph import owner_of
from keras_inception.training.multi_worker import multi_worker_strategy

ALL = "all"


class Devices:
    """The devices that a model trains on.

    Every device computes its part of each batch with a copy of the weights, and the
    gradients are averaged. If the environment variable `TF_CONFIG` names several
    workers (TensorFlow only), they are all devices of all of them, and each worker runs
    the same program; make this object first then, before TensorFlow computes anything.

    Args:
        count: How many GPUs of this machine (CPUs, if there are none), or `"all"`.
            Defaults to 1. Must not be given with several workers.

    Raises:
        ValueError: If there are fewer devices, or the backend can't use more than one.
        RuntimeError: As `multi_worker_strategy`.

    Attributes:
        replicas: How many devices take part, those of other workers included.
        workers: How many processes do.
        worker: Which of them this is, from 0, the chief.

    Example:
    >>> devices = Devices()
    >>> with devices.scope():
    ...     model = GoogLeNet((64, 64, 3), classes=3)
    >>> devices.replicas
    1
    """

    def __init__(self, count: int | str | None = None):
        self.worker, self.workers = _place_among_workers()
        self._strategy = None
        if self.workers > 1:
            if count is not None:
                raise ValueError(
                    "With TF_CONFIG every worker trains on all of its devices: a "
                    f"number of them can't be chosen. Received: {count}"
                )
            self._strategy = multi_worker_strategy()
            self.replicas = self._strategy.num_replicas_in_sync
            return
        chosen = _choose(1 if count is None else count)
        self.replicas = len(chosen)
        if self.replicas > 1:
            import tensorflow as tf

            self._strategy = tf.distribute.MirroredStrategy(chosen)

    @property
    def is_chief(self) -> bool:
        """Whether this worker is the one that writes what is kept."""
        return self.worker == 0

    @contextlib.contextmanager
    def scope(self):
        """Models and optimizers made within the block live on all devices.

        Raises:
            RuntimeError: If another worker is gone.
        """
        if self._strategy is None:
            yield
            return
        with self._strategy.scope(), self._told_of_lost_workers():
            yield

    def share(self, dataset, examples: int, batch_size: int):
        """A `tf.data` dataset whose batches can be shared among the devices.

        No picture is lost, but the last two batches may be of other sizes. Each worker
        reads the whole dataset, in the same order, and takes its part of each batch.

        Args:
            dataset: Batches.
            examples: How many examples are in them.
            batch_size: Of all devices together.

        Raises:
            ValueError: If the devices can't have about the same share each.
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
        """What `fit` needs on several devices, before all others."""
        return [AveragedStatistics(self._strategy)] if self._strategy else []

    def check_agreement(self, number: int, what: str) -> None:
        """Refuses to go on if the workers don't have the same number.

        Raises:
            RuntimeError: If they differ.
        """
        if self.workers == 1:
            return
        import tensorflow as tf

        with self._told_of_lost_workers():
            run = tf.function(self._strategy.run)
            each = run(lambda: tf.constant([number]))
            numbers = set(self._strategy.gather(each, axis=0).numpy().tolist())
        if len(numbers) > 1:
            raise RuntimeError(
                f"The workers differ in {what}: {sorted(numbers)}. All of them must "
                "see the chief's files."
            )

    @contextlib.contextmanager
    def _told_of_lost_workers(self):
        if self.workers == 1:
            yield
            return
        import tensorflow as tf

        lost = (tf.errors.UnavailableError, tf.errors.AbortedError)
        try:
            yield
        except lost as error:
            raise RuntimeError(
                f"Another of the {self.workers} workers is gone, and none can go on "
                "alone. Start all of them again with --resume: the run goes on after "
                "the last epoch that it finished."
            ) from error


class AveragedStatistics(keras.callbacks.Callback):
    """Gives all devices the same statistics of batch normalisation before validation.

    Keras lets each device keep the moving mean and variance of its own part of the
    batches, and saves those of the first: what is validated would not be what is kept,
    and a run that goes on would not be what it was.

    Args:
        strategy: A `tf.distribute` strategy, in whose scope `fit` is called.
    """

    def __init__(self, strategy):
        super().__init__()
        self._strategy = strategy

    def on_train_begin(self, logs=None):
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

    def on_test_begin(self, logs=None):
        for variable, values in zip(self._own, self._read(), strict=True):
            variable.assign(self._strategy.reduce("MEAN", values, axis=None))


def _place_among_workers() -> tuple[int, int]:
    """This process's number among the workers of `TF_CONFIG`, and how many they are."""
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
            "The TF_CONFIG of a training has workers alone, the first of which is the "
            f"chief; every task is a worker. Received: {text}"
        )
    return index, workers


def _choose(count: int | str) -> list[str]:
    """The names of so many devices, GPUs before CPUs."""
    if count == 1:
        return ["the default"]
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "More than one device is for the TensorFlow backend here; this is "
            f"{keras.backend.backend()}. docs/several-devices.md says what Keras "
            "offers on it."
        )
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU")
    found = found or tf.config.list_logical_devices("CPU")
    names = [device.name for device in found]
    if count == ALL:
        return names
    if count > len(names):
        raise ValueError(
            f"There are not {count} devices to train on, but {len(names)}: "
            f"{', '.join(names)}."
        )
    return names[:count]


def shareable_batches(examples: int, batch_size: int, replicas: int) -> list[int]:
    """Sizes of batches of which TensorFlow gives every device a part.

    It cuts a batch into pieces of the same size, rounded up, as far as they go: a small
    batch leaves the last devices without any, which weighs the gradients wrongly, and
    on CPUs convolutions of no picture at all fail (oneDNN's).

    Raises:
        ValueError: If there is no way.

    Example:
    >>> shareable_batches(100, 32, 4)
    [32, 32, 32, 4]
    >>> shareable_batches(97, 32, 4)
    [32, 32, 4, 29]
    """
    if batch_size % replicas:
        raise ValueError(
            f"A batch of {batch_size} can't be shared evenly among {replicas} devices: "
            "make --batch-size a multiple of it."
        )
    most = min(batch_size, examples)
    last = most - (most - examples) % replicas if examples % replicas else 0
    piece = -(-last // replicas)
    if last and (replicas - 1) * piece >= last:
        raise ValueError(
            f"{examples} pictures in batches of {batch_size} leave one of {replicas} "
            f"devices without any: try --batch-size {replicas * replicas} or more, or "
            "fewer devices."
        )
    whole, rest = divmod(examples - last, batch_size)
    return [batch_size] * whole + [size for size in (rest, last) if size]
