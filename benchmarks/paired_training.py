"""One training of the paired studies: initial weights, and what is noted.

Everything random is a function of the seed and a name: the weights of a layer, the
order, shifts and mirroring of an epoch, the masks of a dropout. So trainings of the
same seed share all that they can, whatever their heads.
"""

import dataclasses
import json
import time
import zlib
from collections.abc import Sequence

import keras
import numpy as np

import keras_inception as ki
from benchmarks.paired_pictures import IMAGE_SIZE, Epochs, Pictures
from keras_inception.endpoints.features import PooledFeatures
from keras_inception.endpoints.ranking import find_endpoints, fit_probes, judge_probes
from keras_inception.gradients import draw_kernel, gradient_flow, weights_by_stage
from keras_inception.training import AuxiliarySchedule

MEASURED = 32  # pictures, for the gradients


@dataclasses.dataclass(frozen=True)
class Regime:
    """How a network begins and learns.

    Attributes:
        init: As in `ki.gradients.reinitialized`.
        batch_norm: Whether batch normalization follows the trunk's convolutions.
        learning_rate: At the first step; it falls to 0 along a cosine.
        epochs: Passes over the training pictures.
        width, batch: Of the network, and pictures a step.
        dtype: The policy of the layers.
    """

    init: str
    batch_norm: bool
    learning_rate: float
    epochs: int
    width: float = 0.125
    batch: int = 32
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class Arm:
    """The heads of a training.

    Attributes:
        endpoints: Where they are.
        schedule: Of their weight, 0.3 at the start: a key of `SCHEDULES`.
        batch_norm: Whether their convolutions have batch normalization.
        coarse: Whether they learn superclasses.
    """

    endpoints: tuple[str, ...] = ()
    schedule: str = "constant"
    batch_norm: bool = False
    coarse: bool = False


def build(regime: Regime, arm: Arm, superclasses: Sequence[str], seed: int):
    """The network of an arm. Every layer's weights depend on seed and name alone."""
    heads = [
        ki.AuxiliaryHead(
            endpoint,
            batch_norm=arm.batch_norm,
            superclasses=superclasses if arm.coarse else None,
        )
        for endpoint in arm.endpoints
    ]
    model = ki.GoogLeNet(
        (IMAGE_SIZE, IMAGE_SIZE, 3),
        classes=len(superclasses),
        auxiliary=heads,
        architecture=ki.GOOGLENET_SMALL,
        width=regime.width,
        batch_norm=regime.batch_norm,
    )
    for layer in model.layers:
        random = np.random.default_rng([seed, zlib.crc32(layer.name.encode())])
        own = int(random.integers(2**31))
        if isinstance(layer, keras.layers.Dropout):
            layer.seed_generator.state.assign([own, 0])
        elif hasattr(layer, "kernel"):
            shape, init = layer.kernel.shape, layer.kernel_initializer
            if regime.init == "he":  # the layer's own
                seeded = type(init).from_config(init.get_config() | {"seed": own})
                layer.kernel.assign(seeded(shape))
            else:
                layer.kernel.assign(draw_kernel(regime.init, shape, random))
    return model


def train(
    pictures: Pictures,
    regime: Regime,
    arm: Arm,
    seed: int,
    *,
    attribution: bool = False,
    probes: bool = False,
) -> tuple[dict[str, object], dict[str, list[dict]]]:
    """Trains one arm with one seed.

    Args:
        pictures: From `read_pictures`.
        regime, arm, seed: What to train.
        attribution: Whether to keep an account of who moved the weights.
        probes: Whether to fit a linear probe to every endpoint afterwards.

    Returns:
        The columns of the training's row; and the rows of `gradients`, `attribution`
        and `probes`.
    """
    started = time.perf_counter()
    keras.utils.clear_session()
    keras.config.set_dtype_policy(regime.dtype)
    keras.utils.set_random_seed(seed)
    model = build(regime, arm, pictures.superclasses, seed)
    batches = Epochs(*pictures.training, seed, regime.batch)
    order, trunk = zlib.crc32(batches.order.tobytes()), trunk_checksum(model)
    compile_for(model, regime, len(batches))
    images, labels = pictures.held_out
    images = images.astype("float32")
    few = np.linspace(0, len(labels) - 1, MEASURED).astype(int)
    measured = images[few], labels[few]
    tables = {"gradients": _gradients(model, measured, "start")}
    account = ki.LossAttribution() if attribution else None
    callbacks = [AuxiliarySchedule(arm.schedule)] if arm.endpoints else []
    history = model.fit(
        batches,
        epochs=regime.epochs,
        validation_data=(images, labels),
        validation_batch_size=regime.batch,
        callbacks=[*callbacks, *([account] if account else [])],
        verbose=0,
    ).history
    figures: dict[str, object] = {
        "epochs": regime.epochs,
        "order": order,
        "trunk": trunk,
    }
    for name in model.output:
        curve = history[f"val_{name}_accuracy"]
        figures[f"{name}_accuracy"] = round(curve[-1], 5)
        figures[f"{name}_curve"] = json.dumps([round(value, 5) for value in curve])
    figures["main_losses"] = json.dumps([round(v, 4) for v in history["val_main_loss"]])
    tables["gradients"] += _gradients(model, measured, "end")
    if account is not None:
        tables["attribution"] = [_rounded(row._asdict()) for row in account.rows]
    figures["seconds"] = round(time.perf_counter() - started)
    if probes:
        tables["probes"] = _probe(model, pictures)
    return figures, tables


def compile_for(model, regime: Regime, steps: int) -> None:
    """Compiles a model for a training of `steps` steps per epoch."""
    rate = keras.optimizers.schedules.CosineDecay(
        regime.learning_rate, regime.epochs * steps
    )
    # On a CPU, XLA's code for small convolutions takes twice as long.
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, nesterov=True), jit_compile=False
    )


def trunk_checksum(model) -> int:
    """A number that two models share if their layers outside the heads are equal."""
    found = 0
    for stage, weights in weights_by_stage(model).items():
        if stage not in model.heads:
            for weight in weights:
                values = keras.ops.convert_to_numpy(weight)
                found = zlib.crc32(np.ascontiguousarray(values).tobytes(), found)
    return found


def _gradients(model, measured: tuple, moment: str) -> list[dict]:
    """`gradient_flow` as in a training step, with dropout and batch statistics."""
    rows = gradient_flow(model, *measured, training=True)
    return [
        {"moment": moment, **_rounded(row._asdict())} for row in rows if row.norm > 0
    ]


def _rounded(row: dict) -> dict:
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}


def _probe(model, pictures: Pictures) -> list[dict]:
    """As `ki.rank_endpoints`, without the times: what each endpoint's features tell."""
    model, main, endpoints = find_endpoints(model)
    features = PooledFeatures(model, main, endpoints)
    training, held_out = (
        (images.astype("float32"), labels)
        for images, labels in (pictures.training, pictures.held_out)
    )
    probes = fit_probes(model, features, training)
    correct = judge_probes(model, features, probes, held_out).correct.mean(-1)
    return [
        {"endpoint": endpoint.name, "accuracy": round(float(accuracy), 5)}
        for endpoint, accuracy in zip(endpoints, correct, strict=True)
    ]
