"""What several commands share."""

import contextlib
import os
import sys
import tempfile

DATA_HELP = (
    "'digits' (embedded handwritten digits), or a folder: train/ and val/ with a "
    "folder of pictures per class, or just a folder of pictures per class"
)


@contextlib.contextmanager
def quiet_start():
    """Holds back what TensorFlow writes to stderr while it is imported.

    Its first lines (which instructions the processor has, that there is no GPU) come
    before or in spite of any log level. If the block fails they are shown after all.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
            if "tensorflow" in sys.modules:  # looks for GPUs, and says so
                sys.modules["tensorflow"].config.list_physical_devices()
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def check_at_least(options, least: dict[str, int]) -> None:
    """Refuses options below their least value, as the user typed them."""
    for name, value in least.items():
        if getattr(options, name) < value:
            raise ValueError(
                f"--{name.replace('_', '-')} must be at least {value}. Received: "
                f"{getattr(options, name)}"
            )


def load_model(path: str):
    """A `.keras` file as a model, with one clear error for what is none."""
    import zipfile

    import keras

    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no model {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is no .keras model file, which is what model.save() and "
            "keras-inception train write."
        )
    return keras.saving.load_model(path)


class Counter:
    """Shows how far a long step of a command is, where the output is a terminal.

    Args:
        label: What is counted.
        total: How many there are.
    """

    def __init__(self, label: str, total: int):
        self.label, self.total = label, total

    def __call__(self, done: int) -> None:
        if sys.stdout.isatty():
            end = "\033[K" if done < self.total else "\r\033[K"
            print(f"\r{self.label} {done}/{self.total}", end=end, flush=True)


def fitting_side(source, architecture) -> int:
    """The side in pixels that suits an architecture and the size of some pictures."""
    if architecture.name != "googlenet_small":
        return 224
    return 32 if source.picture_side <= 40 else 64


def picture_side(model) -> int:
    """The side in pixels of the square pictures that a model takes."""
    height, width = model.input.shape[1:3]
    if height != width:
        raise ValueError(
            f"The model takes pictures of {height}x{width} pixels; the commands "
            "prepare square ones."
        )
    return height


def check_class_names(model, data):
    """Refuses data whose classes are not those that the model learnt."""
    from keras_inception.gradients.stages import outputs_by_name

    known = getattr(model, "class_names", None)
    classes = outputs_by_name(model)["main"].shape[-1]
    if known is not None and list(known) != list(data.class_names):
        raise ValueError(
            f"The model's classes are {_some(known)}, those of the data are "
            f"{_some(data.class_names)}. They must be the same."
        )
    if classes != len(data.class_names):
        raise ValueError(
            f"The model has {classes} classes, the data {len(data.class_names)}."
        )


def _some(names) -> str:
    listed = ", ".join(map(str, names[:5]))
    return f"{listed}, ... ({len(names)})" if len(names) > 5 else listed
