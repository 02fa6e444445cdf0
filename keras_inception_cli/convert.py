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
    """Declares the arguments of `convert`."""
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
    kind, out = options.kind, options.out
    if out.suffix != ".keras":
        raise ValueError(f"OUT.keras must end in .keras. Received: {out}")
    if out.exists() and not options.overwrite:
        raise FileExistsError(f"{out} already exists; pass --overwrite to replace it.")
    if options.no_transform_input and kind != "torchvision":
        raise ValueError(f"--no-transform-input is for torchvision files, not {kind}.")
    if options.drop_background and kind != "slim":
        raise ValueError(f"--drop-background is for slim files, not {kind}.")
    with quiet_start():
        from keras_inception import weights
        from keras_inception.files import write_whole

    if kind == "torchvision":
        model = weights.load_torchvision(options.file, not options.no_transform_input)
    elif kind == "caffe":
        model = weights.load_caffe(options.file)
    else:
        model = weights.load_slim(options.file, options.drop_background)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, model.save)
    classes = f"{model.output['main'].shape[-1]:,} classes"
    if model.class_names and model.class_names[0] == "background":
        classes += ", class 0 is 'background' (--drop-background)"
    heads = ", ".join(model.heads) or "none in the file"
    print(f"{model.name}: {model.count_params():,} parameters, {classes}, ", end="")
    print(f"auxiliary heads: {heads}\nwrote {out}")
