"""What several commands share."""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

DATA_HELP = (
    "'digits' (embedded handwritten digits), or a folder: train/ and val/ with a "
    "folder of pictures per class, or just a folder of pictures per class; or "
    "tfds:NAME[:VERSION] (TensorFlow Datasets)"
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


def check_folders(options, *names: str) -> None:
    """Refuses files to be written into folders that are not there, before any work."""
    for name in names:
        path = getattr(options, name)
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(
                f"There is no folder {path.parent} for --{name.replace('_', '-')} "
                f"{path}. Make it first."
            )
        if path is not None and path.is_dir():
            raise IsADirectoryError(
                f"--{name.replace('_', '-')} names a file to write; {path} is a folder."
            )


def add_data_arguments(parser) -> None:
    """Declares how DATA is found, for the commands that take it."""
    parser.add_argument(
        "--max-bad-fraction",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="of a folder's files that may be no pictures or damaged: they are skipped "
        "and named (default: 0.01)",
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where TensorFlow Datasets keeps records (default: ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--cache",
        action="store_true",
        help="write a folder's pictures as records into --data-dir once, and read them "
        "from there",
    )


def add_seed_argument(parser) -> None:
    """Declares `--seed` for commands that need what a training held out."""
    parser.add_argument(
        "--seed",
        type=int,
        help="of the held-out share (default: that of the run that MODEL lies in, "
        "else 0)",
    )


def settle_seed(options, model_path: str) -> None:
    """Without `--seed`: what the model's own training held out, and no other share."""
    if options.seed is None:
        config = Path(model_path).resolve().with_name("config.json")
        run = json.loads(config.read_text()) if config.is_file() else {}
        options.seed = run.get("seed", 0)


def add_augmentation_arguments(parser) -> None:
    """Declares what is done to pictures, for the commands that show or learn them."""
    parser.add_argument(
        "--augment",
        choices=("none", "basic", "paper"),
        help="what training does to them: nothing; shift and mirror; the paper's crops "
        "of 8 to 100 %% of the area, other light and mirror (default: basic below 112 "
        "pixels, else paper)",
    )
    parser.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="whether basic and paper mirror (default: yes, but not digits)",
    )


def find_data(options, *, tell: bool = True):
    """What DATA names, found and checked; tells what was skipped."""
    from keras_inception import data

    source = data.find(
        options.data,
        seed=options.seed,
        max_bad_fraction=options.max_bad_fraction,
        data_dir=options.data_dir,
        cache=options.cache,
    )
    if tell and source.bad:
        print(f"skipping {len(source.bad)} bad pictures: {source.bad.listed()}")
    return source


def show_progress(line: str) -> None:
    """Writes a line over the last one, on a terminal alone; an empty one ends it."""
    if sys.stderr.isatty():
        print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)


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


def fitting_architecture(name: str | None, source):
    """The architecture of a name, by default the one that suits some pictures' size."""
    import keras_inception as ki

    small = source.image_size < 224
    return ki.ARCHITECTURES[name or ("googlenet_small" if small else "googlenet")]


def fitting_side(source, architecture) -> int:
    """The side in pixels that suits an architecture and the size of some pictures."""
    if architecture.name != "googlenet_small":
        return 224
    return min(64, source.image_size)


def picture_side(model) -> int:
    """The side in pixels of the square pictures that a model takes."""
    height, width = model.input.shape[1:3]
    if height is None or height != width:
        raise ValueError(
            f"The model takes pictures of {height}x{width} pixels; the commands "
            "prepare square ones."
        )
    return height


def check_class_names(model, data):
    """Refuses data whose classes are not those that the model learnt."""
    from keras_inception.outputs import outputs_by_name

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
