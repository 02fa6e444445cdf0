"""Checks and completes the arguments of `DeeplySupervised.compile` and `fit`."""

import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from keras_inception.text import list_names


def check_by_output(
    argument: str, given: Any, outputs: Iterable[str], required: Iterable[str] = ()
) -> None:
    """Raises an error for wrong names in a dict, and for a list or tuple.

    Args:
        argument: Its name, for the message.
        given: Its value: a dict by output, or one value for all outputs.
        outputs: The names of the model's outputs.
        required: Those that a dict must have.
    """
    if isinstance(given, (list, tuple)):
        raise ValueError(
            f"{argument} takes a single value for all outputs or a dict by output "
            f"({list_names(outputs)}). Received a {type(given).__name__} of "
            f"{len(given)}, which does not name the outputs."
        )
    if not isinstance(given, Mapping):
        return
    unknown = [name for name in given if name not in outputs]
    missing = [name for name in required if name not in given]
    faults = [f"has unknown outputs: {list_names(unknown)}"] if unknown else []
    faults += [f"leaves out: {list_names(missing)}"] if missing else []
    if faults:
        known = list_names(outputs)
        raise ValueError(f"{argument} {'; it '.join(faults)}. Outputs: {known}")


def with_every_class(
    arguments: dict[str, Any], classes: int, x: Any, y: Any
) -> dict[str, Any]:
    """Adds the classes that `class_weight` leaves out, among `fit`'s arguments, as 1.

    Keras itself reads past the end of its table for classes above the last one named.
    Raises a ValueError for anything that is not the number of a class, for weights
    that are negative or not finite, and for labels by output, in `y` or in the
    `tf.data` pipeline `x`: Keras says of those that the model has several outputs.
    """
    class_weight, known = arguments.get("class_weight"), range(classes)
    if class_weight is None:
        return arguments
    batch = getattr(x, "element_spec", None)
    labels = batch[1] if isinstance(batch, tuple) and len(batch) > 1 else y
    if isinstance(labels, Mapping):
        raise ValueError(
            "class_weight needs one label for each picture, from which those of every "
            f"output follow. Received labels by output ({list_names(labels)}): give "
            "main's alone, or weigh the pictures with sample_weight."
        )
    if not isinstance(class_weight, Mapping):
        raise ValueError(
            "class_weight is a dict from class number to weight, such as {0: 2.0}. "
            f"Received: {class_weight!r} of type {type(class_weight).__name__}"
        )
    if unknown := [c for c in class_weight if isinstance(c, str) or c not in known]:
        raise ValueError(
            f"class_weight names unknown classes: {list_names(unknown)}. The classes "
            f"are numbered 0 to {classes - 1}, in label order."
        )
    given = {int(number): weight for number, weight in class_weight.items()}
    whole = {n: checked_weight(f"class {n}", given.get(n, 1.0)) for n in known}
    return arguments | {"class_weight": whole}


def checked_weight(output: str, weight: Any) -> float:
    """Returns a loss weight as a float; raises a ValueError if it can't be one."""
    try:
        number = float(weight)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(
            f"The loss weight of {output!r} must be a finite number of at least 0. "
            f"Received: {weight!r}"
        )
    return number


def own_copy(loss_or_metric: Any) -> Any:
    """Copies a metric for one more output, since each keeps its own state.

    Outputs share a loss, which has no state.

    Raises:
        ValueError: If a metric's configuration does not say how it was made.
    """
    if not isinstance(loss_or_metric, keras.metrics.Metric):
        return loss_or_metric
    config = loss_or_metric.get_config()
    added = _added_arguments(type(loss_or_metric))
    if lost := [name for name in added if name not in config]:
        raise ValueError(
            f"{type(loss_or_metric).__name__} needs a `get_config` that returns what "
            f"its __init__ takes ({list_names(lost)}), since every output gets a copy "
            "of a metric. Or pass a metric for each output, in a dict by output."
        )
    return type(loss_or_metric).from_config(config)


def _added_arguments(metric: type) -> list[str]:
    """What a class's __init__ takes, if `get_config` is that of a class above it."""
    for kind in metric.__mro__:
        if "get_config" in vars(kind):
            break
        if "__init__" in vars(kind):
            parameters = inspect.signature(vars(kind)["__init__"]).parameters.values()
            named = (
                x for x in parameters if x.kind not in (x.VAR_POSITIONAL, x.VAR_KEYWORD)
            )
            return [x.name for x in named if x.name not in ("self", "name", "dtype")]
    return []
