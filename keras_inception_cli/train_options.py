"""What `train` can be told, and what it settles on.

A choice comes from the command line, else from `--hyperparameters FILE`, else from
`--config FILE` (or, with `--resume`, from the run itself), else from the recipe, else
from the default shown by `--help`.
"""

import argparse
import json
from pathlib import Path

from keras_inception_cli import coarse, found
from keras_inception_cli.common import check_at_least
from keras_inception_cli.data_options import (
    DATA_HELP,
    add_augmentation_arguments,
    add_data_arguments,
)

# Option and field of the recipe that it stands for.
FROM_RECIPE = {
    "epochs": "epochs",
    "batch_size": "batch_size",
    "learning_rate": "learning_rate",
    "batch_norm": "batch_norm",
    "layer_decay": "layer_decay",
    "aux_weight": "aux_weight",
    "aux_schedule": "aux_schedule",
    "augment": "augment",
}
# What belongs to one call and not to the run that it makes.
OF_THE_CALL = (
    "run",
    "not_given",
    "name",
    "runs",
    "overwrite",
    "resume",
    "config",
    "devices",
    "hyperparameters",
)
# What the network of `--weights FILE` has of its own.
OF_THE_NETWORK = ("architecture", "width", "batch_norm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `train` takes."""
    parser.add_argument("data", metavar="DATA", nargs="?", help=DATA_HELP)
    run = parser.add_argument_group("the run")
    run.add_argument("--name", help="name of the run (default: the data's)")
    run.add_argument("--runs", type=Path, default=Path("runs"), help="(default: runs)")
    run.add_argument(
        "--overwrite", action="store_true", help="delete an earlier run of this name"
    )
    run.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run --name, killed or interrupted, at the beginning of "
        "the epoch it was in; its choices are its own",
    )
    run.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the choices of another run's config.json; what is given beside it wins",
    )
    run.add_argument(
        "--hyperparameters",
        type=Path,
        metavar="FILE",
        help="the heads, their weights and the rest that a search found, its best.json "
        "(tuning/README.md); what is given beside it wins",
    )
    run.add_argument("--seed", type=int, default=0, help="(default: 0)")
    run.add_argument(
        "--devices",
        type=_devices,
        metavar="N",
        help="GPUs of this machine to share each batch among, or 'all' (default: 1); "
        "several machines: docs/several-devices.md",
    )
    how = parser.add_argument_group("how it is trained")
    how.add_argument(
        "--recipe",
        default="small",
        help="paper, caffe-quick, small or finetune: what the options below are where "
        "they are not given (default: small)",
    )
    how.add_argument("--epochs", type=int, help="(small: 10)")
    how.add_argument("--batch-size", type=int, help="(small: 32)")
    how.add_argument(
        "--learning-rate", type=float, help="at the start (small: 0.02, to 0 by cosine)"
    )
    how.add_argument(
        "--clip-norm", type=float, help="of all gradients together (default: none)"
    )
    how.add_argument(
        "--accumulate",
        type=int,
        default=1,
        metavar="STEPS",
        help="gradients of so many steps make one update (default: 1)",
    )
    how.add_argument(
        "--mixed-precision", choices=("float16", "bfloat16"), help="(default: none)"
    )
    how.add_argument(
        "--jit-compile",
        action=argparse.BooleanOptionalAction,
        help="XLA (default: Keras decides)",
    )
    board = parser.add_argument_group("TensorBoard, in RUNS/NAME/tensorboard")
    board.add_argument(
        "--gradients",
        action="store_true",
        help="log after each epoch how much gradient each stage gets from each loss",
    )
    board.add_argument(
        "--profile",
        nargs=2,
        type=int,
        metavar=("FIRST", "LAST"),
        help="profile these training steps (needs tensorboard-plugin-profile to view)",
    )
    pictures = parser.add_argument_group("the pictures")
    add_augmentation_arguments(pictures)
    pictures.add_argument(
        "--class-weights",
        choices=("balanced",),
        help="let every class count alike, however many pictures it has",
    )
    add_data_arguments(pictures)
    network = parser.add_argument_group("the network")
    network.add_argument(
        "--architecture",
        choices=(
            "googlenet",
            "googlenet_small",
            "googlenet_torchvision",
            "googlenet_slim",
        ),
        help="(default: googlenet_small for pictures below 112 pixels, else googlenet)",
    )
    network.add_argument(
        "--image-size",
        type=int,
        help="side in pixels (default: 32 or 64 for small pictures, else 224)",
    )
    network.add_argument(
        "--width", type=float, default=1.0, help="times the filters (default: 1)"
    )
    network.add_argument(
        "--batch-norm",
        action=argparse.BooleanOptionalAction,
        help="batch normalisation, which the paper's network has not (small: on)",
    )
    tuning = parser.add_argument_group("fine-tuning a trained network")
    tuning.add_argument(
        "--weights",
        metavar="FILE",
        help="start from this .keras file (as train and convert write), or from "
        "'imagenet'; the network is the file's",
    )
    tuning.add_argument(
        "--freeze",
        metavar="STAGE",
        help="this stage and all before it don't learn; inception_5b is the whole "
        "trunk",
    )
    tuning.add_argument(
        "--layer-decay",
        type=float,
        metavar="SHARE",
        help="each stage learns at this share of the next one's rate (small: 1, "
        "finetune: 0.8)",
    )
    heads = parser.add_argument_group("the auxiliary heads")
    heads.add_argument(
        "--heads",
        nargs="*",
        default=["inception_4a", "inception_4d"],
        metavar="ENDPOINT",
        help="where they hang; nothing after --heads for none "
        "(default: inception_4a inception_4d)",
    )
    heads.add_argument(
        "--aux-schedule",
        nargs="+",
        metavar="SCHEDULE",
        help="constant, linear or cosine: how the weights fall to 0 over the run; or "
        "for some heads, as in aux_4a=linear (small: constant)",
    )
    found.add_arguments(heads)
    coarse.add_arguments(heads)
    # None stands for what was not typed, until `settle` knows all that may fill it in.
    defaults = vars(parser.parse_args([]))
    parser.set_defaults(
        not_given=defaults,
        **{option: None for option in defaults if option not in OF_THE_CALL},
    )


def settle(options: argparse.Namespace) -> None:
    """Fills in, in place, what was not given on the command line.

    Raises:
        FileNotFoundError: If there is no such config, or no run to resume.
        ValueError: If a choice is out of its range, unknown, or missing.
    """
    typed = [n for n in OF_THE_NETWORK if getattr(options, n) is not None]
    if options.resume:
        _check_resume(options)
        options.config = run_path(options) / "config.json"
    if options.hyperparameters:
        found.take(options.hyperparameters, options)
    if options.config:
        _take_from(options.config, options)
    if options.weights and typed and not options.resume:
        known = ", ".join(f"--{name.replace('_', '-')}" for name in typed)
        raise ValueError(
            f"--weights {options.weights} brings its network: leave out {known}, or "
            "--weights, to begin with a new one."
        )
    typed_or_taken = options.recipe or options.not_given["recipe"]
    if options.data is None:
        raise ValueError(
            "train needs DATA, the pictures to learn from, for example: "
            "keras-inception train digits"
        )
    from keras_inception.training import RECIPES

    if typed_or_taken not in RECIPES:
        raise ValueError(
            f"--recipe must be one of {', '.join(RECIPES)}. Received: {typed_or_taken}"
        )
    recipe = RECIPES[typed_or_taken]
    fallback = options.not_given | {
        option: getattr(recipe, field) for option, field in FROM_RECIPE.items()
    }
    for option, value in fallback.items():
        if getattr(options, option) is None:
            setattr(options, option, value)
    if isinstance(options.aux_schedule, str):
        options.aux_schedule = [options.aux_schedule]
    check_at_least(options, {"epochs": 1, "batch_size": 1, "accumulate": 1})
    if not options.learning_rate > 0:
        raise ValueError(
            f"--learning-rate must be above 0. Received: {options.learning_rate}"
        )


def _devices(text: str) -> int | str:
    if text == "all":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a number of at least 1, or 'all'. Received: {text}"
        )
    return int(text)


def run_path(options: argparse.Namespace, name: str | None = None) -> Path:
    """The run's directory."""
    return options.runs / (options.name or name or Path(str(options.data)).name)


def schedule(options: argparse.Namespace) -> str | dict[str, str]:
    """`--aux-schedule` as `training.AuxiliarySchedule` takes it."""
    by_head = dict(word.split("=", 1) for word in options.aux_schedule if "=" in word)
    for_all = [word for word in options.aux_schedule if "=" not in word]
    if len(for_all) + bool(by_head) != 1:
        raise ValueError(
            "--aux-schedule takes one schedule for every head, or HEAD=SCHEDULE for "
            f"some. Received: {' '.join(options.aux_schedule)}"
        )
    return by_head or for_all[0]


def as_config(options: argparse.Namespace) -> dict:
    """The settled choices as JSON, for `config.json`."""
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in vars(options).items()
        if key not in OF_THE_CALL
    }


def _check_resume(options: argparse.Namespace) -> None:
    if options.overwrite or options.config or options.hyperparameters:
        raise ValueError(
            "--resume goes with neither --overwrite, --config nor --hyperparameters."
        )
    if options.name is None and options.data is None:
        raise ValueError("--resume needs the --name of the run to go on with.")
    path = run_path(options) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no run to resume in {path.parent}: it has no config.json. Give "
            "the --name of a run that was begun, or leave --resume out."
        )


def _take_from(config: Path, options: argparse.Namespace) -> None:
    """A config's choices, where the command line does not say otherwise."""
    try:
        chosen = json.loads(config.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no config {config}") from None
    except ValueError:
        chosen = None
    if not isinstance(chosen, dict) or "data" not in chosen:
        raise ValueError(f"{config} is no config.json of a run.")
    for option in options.not_given:
        if option in OF_THE_CALL or option not in chosen:
            continue
        value, typed = chosen[option], getattr(options, option)
        if typed is None:
            setattr(options, option, value)
        elif options.resume and str(typed) != str(value):
            raise ValueError(
                f"--resume goes on with the run's own choices: its {option} is "
                f"{value!r}, not {typed!r}. Begin a new run with --config {config} to "
                "change it."
            )
