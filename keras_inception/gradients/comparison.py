"""The same network trained with its heads and without them, side by side."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np

from keras_inception.gradients.flow import GradientRow, Probe
from keras_inception.outputs import MAIN
from keras_inception.supervision import DeeplySupervised

INITIALIZERS = ("he", "gaussian", "xavier")
GAUSSIAN_STDDEV = 0.01  # Krizhevsky et al. 2012, section 5, and Caffe's examples


class TrainingCurve(NamedTuple):
    """The gradients and losses of one network.

    Attributes:
        before: `gradient_flow` at the weights that both networks begin with.
        after: `gradient_flow` after the last step.
        main_losses: The loss of `main` alone on each training batch, in order.
    """

    before: list[GradientRow]
    after: list[GradientRow]
    main_losses: list[float]


def compare_without_heads(
    model: DeeplySupervised,
    batches: Iterable[tuple],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    steps: int,
    learning_rate: float = 0.01,
    on_step: Callable[[int], None] = lambda step: None,
) -> dict[str, TrainingCurve]:
    """Trains a copy of a model with its heads and one without, side by side.

    Both begin with the model's weights and train on the same batches, by SGD with
    momentum 0.9. The model itself does not change.

    Args:
        model: A model with at least one head.
        batches: Training batches `(images, labels)`, repeated from the start when they
            run out.
        images, labels: The pictures to measure the gradients on, and their labels.
        steps: How many batches each network trains on.
        learning_rate: Defaults to 0.01.
        on_step: Called with the number of steps done, to show progress.

    Returns:
        `{"with heads": TrainingCurve, "without heads": TrainingCurve}`.

    Raises:
        ValueError: If the model has no heads, `steps` is below 1, or there are no
            batches.
    """
    if not isinstance(model, DeeplySupervised) or not model.heads:
        raise ValueError(
            f"A comparison needs a model with auxiliary heads; {model.name!r} has none."
        )
    if steps < 1:
        raise ValueError(f"steps must be at least 1. Received: {steps}")
    with_heads, base = reinitialized(model), reinitialized(model)
    for copy in (with_heads, base):
        copy.set_weights(model.get_weights())
    networks = {
        "with heads": with_heads,
        "without heads": DeeplySupervised(base.input, {MAIN: base.output[MAIN]}),
    }
    for network in networks.values():
        network.compile(keras.optimizers.SGD(learning_rate, momentum=0.9))
    probes = {name: Probe(network) for name, network in networks.items()}
    before = {name: probe(images, labels) for name, probe in probes.items()}
    losses: dict[str, list[float]] = {name: [] for name in networks}
    for step, batch in enumerate(_repeated(batches, steps), start=1):
        for name, network in networks.items():
            network.reset_metrics()  # otherwise logs are running means
            logs = network.train_on_batch(*batch, return_dict=True)
            losses[name].append(float(logs[f"{MAIN}_loss"]))
        on_step(step)
    return {
        name: TrainingCurve(before[name], probe(images, labels), losses[name])
        for name, probe in probes.items()
    }


def reinitialized(model: keras.Model, init: str = "he", seed: int = 0) -> keras.Model:
    """Returns the same network with new weights.

    Args:
        model: A functional model.
        init: `"he"` (default): every layer's own initializer, which is that of He et
            al. (2015) in this package's networks; `"gaussian"`: as was usual in 2014, a
            normal distribution of standard deviation 0.01 for kernels, and biases 0;
            `"xavier"`: Caffe's, as in BVLC's GoogLeNet: uniform, variance 1 / fan-in.
        seed: Determines the weights. Defaults to 0.

    Raises:
        ValueError: If `init` is unknown.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3, width=0.125)
    >>> kernel = reinitialized(model, "gaussian").get_layer("conv2_3x3").kernel
    >>> round(float(np.std(kernel)), 3)
    0.01
    """
    if init not in INITIALIZERS:
        known = ", ".join(map(repr, INITIALIZERS))
        raise ValueError(f"init must be one of {known}. Received: {init!r}")
    keras.utils.set_random_seed(seed)
    new = type(model).from_config(model.get_config())
    if init != "he":
        random = np.random.default_rng(seed)
        for variable in new.trainable_variables:
            if variable.name == "kernel":
                variable.assign(draw_kernel(init, variable.shape, random))
            elif variable.name == "bias":
                variable.assign(np.zeros(variable.shape))
    return new


def draw_kernel(
    init: str, shape: Sequence[int], random: np.random.Generator
) -> np.ndarray:
    """Draws initial weights of 2014, `init` as in `reinitialized`, but not `"he"`."""
    if init == "gaussian":
        return random.normal(0, GAUSSIAN_STDDEV, shape)
    reach = math.sqrt(3 / math.prod(shape[:-1]))
    return random.uniform(-reach, reach, shape)


def _repeated(batches: Iterable[tuple], steps: int) -> Iterator[tuple]:
    done = 0
    while done < steps:
        before = done
        for batch in itertools.islice(batches, steps - done):
            yield batch
            done += 1
        if done == before:
            raise ValueError(
                f"There are no batches to train on after {done} of {steps} steps. Pass "
                "batches that can be iterated again, such as a list or a dataset."
            )
