"""The configuration of `train`, resolved once from everything that can set it.

Each setting comes from the command line, else from a search's result
(`--hyperparameters`), else from another run (`--config`, or with `--resume` the run
itself), else from the recipe, else from the default in `TrainConfig`.
"""

import argparse
import dataclasses
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_type_hints

from keras_inception.networks import known_name
from keras_inception.schema import Range, check
from keras_inception.training import RECIPES, RunConfig, RunDirectory
from keras_inception_cli import head_names
from keras_inception_cli.head_names import NETWORK
from keras_inception_cli.train_options import run_path


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Every setting of a run, as in `config.json`. See `train --help`.

    Settings without a default come from the recipe.
    """

    data: str
    epochs: int
    batch_size: int
    learning_rate: float
    batch_norm: bool
    layer_decay: float
    aux_weight: float | Mapping[str, float]  # by output
    aux_schedule: str | Mapping[str, str]  # by output
    augment: str | None
    label_smoothing: float = 0.0
    recipe: str = "small"
    seed: int = 0
    patience: int | None = None
    time_limit: float | None = None  # seconds
    clip_norm: float | None = None
    accumulate: int = 1
    mixed_precision: Literal["float16", "bfloat16"] | None = None
    jit_compile: bool | None = None
    gradients: bool = False
    attribution: bool = False
    profile: tuple[int, int] | None = None
    mirror: bool | None = None
    class_weights: Literal["balanced"] | None = None
    max_bad_fraction: float = 0.01
    data_dir: str | None = None
    cache: bool = False
    drop_duplicates: bool = False
    network: str | None = None  # of `keras.applications`, or a .keras file
    architecture: str | None = None
    image_size: int | None = None
    width: float = 1.0
    weights: str | None = None
    freeze: str | None = None
    feature_copies: int | None = None
    heads: tuple[str, ...] = ("inception_4a", "inception_4d")  # endpoints
    head_dropout: float = 0.7
    head_width: float = 1.0
    head_batch_norm: bool | None = None
    distillation: float = 0.0
    temperature: float = 3.0
    superclasses: str | None = None
    coarse_heads: tuple[str, ...] = ()  # outputs

    @classmethod
    def resolve(
        cls, options: argparse.Namespace, planned: Mapping[str, Any] | None = None
    ) -> Self:
        """Combines the command line with files, plan, recipe and defaults.

        Args:
            options: The command line.
            planned: Settings that suit the pictures, for what nothing else decides.
        """
        if not options.resume:
            return cls._combine(dict(planned or {}) | cls.given(options))
        typed = _typed(options)
        file = _config_to_resume(options, typed)
        config = cls._combine(_from_config(file))
        moved = {"data": typed.pop("data", config.data)}
        if not file.with_name("pictures.csv").is_file():
            typed |= moved
        config._check_unchanged(cls._combine(_from_config(file) | typed), typed, file)
        # The pictures are compared with those of the run when they are found.
        return dataclasses.replace(config, **moved)

    @staticmethod
    def given(options: argparse.Namespace) -> dict[str, Any]:
        """The settings of a new run that the command line and its files decide."""
        typed = _typed(options)
        given: dict[str, Any] = {}
        if options.config:
            found = head_names.without_other_network(
                _from_config(options.config), typed
            )
            given |= head_names.without_other_heads(found, typed)
        if options.hyperparameters:
            found = head_names.read_search_result(options.hyperparameters)
            given |= head_names.without_other_heads(found, typed)
            given.setdefault("recipe", "small")  # the search's
        given |= typed
        for name in ("network", "weights"):
            described = [one for one in NETWORK if one in typed]
            if described and given.get(name):
                names = ", ".join(f"--{one.replace('_', '-')}" for one in described)
                raise ValueError(
                    f"--{name} {given[name]} brings its own network: leave out "
                    f"{names}, or --{name} to start with a new network."
                )
        return given

    @classmethod
    def _combine(cls, chosen: dict[str, Any]) -> Self:
        """Adds recipe and defaults to the settings given, and normalizes them."""
        if "data" not in chosen:
            raise ValueError(
                "train needs DATA, the pictures to train on, for example: "
                "keras-inception train digits"
            )
        recipe = chosen.get("recipe", cls.recipe)
        if recipe not in RECIPES:
            raise ValueError(
                f"--recipe must be one of {', '.join(RECIPES)}. Received: {recipe}"
            )
        defaults = dataclasses.asdict(RECIPES[recipe])
        values = {name: defaults[name] for name in _NAMES & defaults.keys()} | chosen
        if network := values.get("network"):
            values.setdefault("heads", ("2",))
            if not network.endswith(".keras"):
                values["network"] = known_name(network)
        heads = tuple(map(head_names.endpoint_of, values.get("heads", cls.heads)))
        if network:  # whose layers have other names than a GoogLeNet's
            heads = tuple(head.removeprefix("aux_") for head in heads)

        def by_output(value: Any) -> Any:
            if not isinstance(value, Mapping):
                return value
            if value and head_names.number_in(heads) is not None:
                raise ValueError(
                    f"--heads {heads[0]} leaves the endpoints open, so that no head "
                    "can have settings of its own: name the endpoints."
                )
            return head_names.by_output(value, heads)

        schedule = head_names.parse_schedule(values["aux_schedule"])
        coarse = dict.fromkeys(values.get("coarse_heads", ()))
        values |= {
            "heads": heads,
            "aux_weight": by_output(values["aux_weight"]),
            "aux_schedule": by_output(schedule),
            "coarse_heads": tuple(by_output(coarse)),
        }
        return cls(**values)

    def _check_unchanged(self, other: Self, typed: Iterable[str], file: Path) -> None:
        """Refuses typed options that differ from those of the run to resume."""
        for name in typed:
            own, new = getattr(self, name), getattr(other, name)
            if str(own) != str(new):
                raise ValueError(
                    f"--resume uses the run's own settings: its {name} is {own!r}, not "
                    f"{new!r}. Start a new run with --config {file} to change it."
                )

    def __post_init__(self):
        if self.network and self.weights not in (None, "imagenet"):
            raise ValueError(
                f"--weights {self.weights} is for a GoogLeNet. To start from another "
                "trained network, name its file: --network FILE.keras"
            )
        if self.network and self.network.endswith(".keras"):
            if self.weights:
                raise ValueError(
                    f"--network {self.network} brings its own weights: leave out "
                    "--weights."
                )
            if self.mixed_precision:
                raise ValueError(
                    f"--mixed-precision would not reach the layers of {self.network}, "
                    "which keep their types: leave it out."
                )
        for name in ("epochs", "batch_size", "accumulate", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(
                    f"--{name.replace('_', '-')} must be at least 1. Received: {value}"
                )
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                "--label-smoothing must be at least 0 and below 1. Received: "
                f"{self.label_smoothing}"
            )
        if not self.learning_rate > 0:
            raise ValueError(
                f"--learning-rate must be above 0. Received: {self.learning_rate}"
            )
        if self.feature_copies is not None:
            if self.feature_copies < 0:
                raise ValueError(
                    "--feature-copies must be at least 0. Received: "
                    f"{self.feature_copies}"
                )
            if self.feature_copies and not self.freeze:
                raise ValueError(
                    "--feature-copies keeps the features of a frozen trunk: add "
                    "--freeze STAGE, such as --freeze inception_5b."
                )
        if self.profile and not 1 <= self.profile[0] <= self.profile[1]:
            raise ValueError(
                "--profile takes FIRST and LAST with 1 <= FIRST <= LAST. Received: "
                f"{' '.join(map(str, self.profile))}"
            )
        if bool(self.coarse_heads) != bool(self.superclasses):
            raise ValueError(
                "--superclasses FILE and --coarse-heads HEAD belong together: the "
                "superclasses, and the heads that learn them."
            )

    def weight_by_output(self, outputs: Iterable[str]) -> dict[str, float]:
        """The loss weight of each head."""
        if isinstance(self.aux_weight, Mapping):
            return dict(self.aux_weight)
        return dict.fromkeys(outputs, self.aux_weight)

    def as_json(self) -> dict[str, Any]:
        """The settings as `config.json` holds them."""
        return dataclasses.asdict(self)


def _typed(options: argparse.Namespace) -> dict[str, Any]:
    return _with_weights({n: v for n, v in vars(options).items() if n in _NAMES})


def _with_weights(settings: dict[str, Any]) -> dict[str, Any]:
    """Replaces the word `none`, which asks for random weights, by `None`."""
    if settings.get("weights") == "none":
        settings["weights"] = None
    return settings


_NAMES = {field.name for field in dataclasses.fields(TrainConfig)}


def _config_to_resume(options: argparse.Namespace, typed: Collection[str]) -> Path:
    """The config.json of the run that `--resume` continues."""
    if options.overwrite or options.config or options.hyperparameters:
        raise ValueError(
            "--resume cannot be combined with --overwrite, --config or "
            "--hyperparameters."
        )
    # A folder's run has its name; what other DATA is called, only reading it tells.
    is_folder = "data" in typed and not str(options.data).startswith("tfds:")
    if options.name is None and not (is_folder and not options.data.endswith(".csv")):
        raise ValueError("--resume needs the --name of the run to continue.")
    return RunDirectory.open(run_path(options)).config


def _from_config(file: Path) -> dict[str, Any]:
    """The settings in a run's config.json."""
    choices = RunConfig.read(file).as_json()
    if choices.get("freeze") is not None:  # may be from before there were copies
        choices = {"feature_copies": 0} | choices
    found = {
        name: value
        for name, value in choices.items()
        if name in _NAMES and value is not None
    }
    forms = get_type_hints(TrainConfig) | {
        "aux_schedule": str | list[str] | dict[str, str],  # as it was typed
        "width": Annotated[float, Range(0, 100)],
        "head_width": Annotated[float, Range(0, 100)],
        "image_size": Annotated[int, Range(1, 10_000)],
    }
    check(found, forms, f"{file} is not the config.json of a run")
    return _with_weights(found)
