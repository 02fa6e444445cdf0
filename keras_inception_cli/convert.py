"""Convert trained weights of torchvision, Caffe or TF-Slim to a .keras model."""

import argparse
from pathlib import Path

from keras_inception_cli.console import quiet_start

KINDS = {
    "torchvision": "a .pth or .safetensors file with a googlenet's state dict",
    "caffe": "a .caffemodel file with BVLC's layer names",
    "slim": "inception_v1.ckpt, or the prefix of .index and .data files",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `convert` to its parser."""
    listed = "; ".join(f"{kind}: {file}" for kind, file in KINDS.items())
    parser.add_argument("kind", metavar="KIND", choices=KINDS, help=", ".join(KINDS))
    parser.add_argument("file", metavar="FILE", help=listed)
    parser.add_argument("out", metavar="OUT.keras", type=Path, help="the file to write")
    parser.add_argument(
        "--no-transform-input",
        action="store_true",
        help="torchvision: the network was trained with transform_input=False",
    )
    parser.add_argument(
        "--drop-background",
        action="store_true",
        help="slim: drop class 0 of 1001, 'background'",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace OUT.keras if it exists"
    )


def run(options: argparse.Namespace) -> None:
    """Writes OUT.keras, whole or not at all."""
    if options.out.suffix != ".keras":
        raise ValueError(f"OUT.keras must end in .keras. Received: {options.out}")
    if options.out.exists() and not options.overwrite:
        raise FileExistsError(
            f"{options.out} already exists; pass --overwrite to replace it."
        )
    for option, kind in (
        ("no_transform_input", "torchvision"),
        ("drop_background", "slim"),
    ):
        if getattr(options, option) and options.kind != kind:
            raise ValueError(
                f"--{option.replace('_', '-')} is an option for {kind} files. "
                f"Received: {options.kind}"
            )
    with quiet_start():
        from keras_inception import weights
        from keras_inception.files import write_whole

    if options.kind == "torchvision":
        model = weights.load_torchvision(options.file, not options.no_transform_input)
    elif options.kind == "caffe":
        model = weights.load_caffe(options.file)
    else:
        model = weights.load_slim(options.file, options.drop_background)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.out, model.save)
    classes = model.output["main"].shape[-1]
    background = (model.class_names or [""])[0] == "background"
    print(
        f"{model.name}: {model.count_params():,} parameters, {classes:,} classes"
        + (", class 0 is 'background' (--drop-background)" if background else "")
        + f", auxiliary heads: {', '.join(model.heads) or 'none in the file'}\n"
        f"wrote {options.out}"
    )
