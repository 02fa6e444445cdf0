"""Export a model's main output for TF Serving, without its auxiliary heads.

Writes the next version to SAVED_MODELS/NAME/VERSION, whole or not at all.
"""

import argparse
from pathlib import Path

from keras_inception_cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `export` takes."""
    parser.add_argument("model", metavar="MODEL", help="a .keras file")
    parser.add_argument(
        "--name", help="name of the served model (default: the run's, or the file's)"
    )
    parser.add_argument(
        "--saved-models",
        type=Path,
        default=Path("saved_models"),
        help="(default: saved_models)",
    )
    parser.add_argument(
        "--version", type=int, help="a number (default: the highest plus 1)"
    )
    parser.add_argument(
        "--early-exit",
        type=Path,
        metavar="FILE",
        help="exits.json, as calibrate writes it: adds the signature "
        "serving_early_exit, and the heads that it needs",
    )


def run(options: argparse.Namespace) -> None:
    """Exports and prints the path of the new version."""
    with common.quiet_start():
        from keras_inception.export import export_saved_model

    model = common.load_model(options.model)
    file = Path(options.model).resolve()
    name = options.name or (
        file.parent.name if file.name == "model.keras" else file.stem
    )
    path = export_saved_model(
        model,
        options.saved_models / name,
        version=options.version,
        early_exit=options.early_exit,
    )
    print(f"wrote {path}")
