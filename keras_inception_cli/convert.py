"""Convert trained weights of torchvision, Caffe or TF-Slim to a .keras model."""

import argparse
from pathlib import Path
from typing import Any

from keras_inception_cli.console import quiet_start

KINDS = {
    "torchvision": "a .pth or .safetensors file with a googlenet's state dict, or a "
    "checkpoint that has one",
    "caffe": "a .caffemodel or .caffemodel.h5 file with BVLC's layer names",
    "slim": "inception_v1.ckpt, the prefix of .index and .data files, or the directory "
    "of a training",
}
# the kinds of file that an option is for
OPTIONS = {
    "no_transform_input": ["torchvision"],
    "drop_background": ["slim"],
    "no_heads": ["torchvision", "caffe"],
    "averages": ["torchvision", "slim"],
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
        "--no-heads",
        action="store_true",
        help="torchvision, caffe: leave the file's heads out, as when they have other "
        "classes than the main output",
    )
    parser.add_argument(
        "--averages",
        action="store_true",
        help="torchvision, slim: take the averages of the weights that training kept "
        "beside them",
    )
    parser.add_argument(
        "--classifier",
        metavar="[OUTPUT=]NAME",
        action="append",
        default=[],
        help="the file's name of the last layer, if fine-tuning renamed it and it is "
        "not found by its place; of a head: aux_4a=NAME",
    )
    parser.add_argument(
        "--ignore",
        metavar="NAME",
        action="append",
        default=[],
        help="leave out a tensor or all tensors below NAME; takes *",
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
    for option, kinds in OPTIONS.items():
        if getattr(options, option) and kind not in kinds:
            flag, files = option.replace("_", "-"), " and ".join(kinds)
            raise ValueError(f"--{flag} is for {files} files, not {kind}.")
    arguments: dict[str, Any] = {
        "ignore": options.ignore,
        "classifier": _by_output(options.classifier),
    }
    if options.no_heads:
        arguments["auxiliary"] = ()
    if options.averages:
        arguments["averages"] = True
    with quiet_start():
        from keras_inception import weights
        from keras_inception.files import write_whole

    if kind == "torchvision":
        arguments["transform_input"] = not options.no_transform_input
        model = weights.load_torchvision(options.file, **arguments)
    elif kind == "caffe":
        model = weights.load_caffe(options.file, **arguments)
    else:
        arguments["drop_background"] = options.drop_background
        model = weights.load_slim(options.file, **arguments)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, model.save)
    classes = f"{model.output['main'].shape[-1]:,} classes"
    if model.class_names and model.class_names[0] == "background":
        classes += ", class 0 is 'background' (--drop-background)"
    heads = ", ".join(model.heads) or (
        "none" if options.no_heads else "none in the file"
    )
    print(f"{model.name}: {model.count_params():,} parameters, {classes}, ", end="")
    print(f"auxiliary heads: {heads}\nwrote {out}")


def _by_output(classifiers: list[str]) -> dict[str, str]:
    """Reads `[OUTPUT=]NAME` of `--classifier`; without an output it is main's."""
    pairs = [name.rpartition("=") for name in classifiers]
    names = {output or "main": name for output, _, name in pairs}
    if len(names) < len(classifiers):
        raise ValueError(
            "--classifier names one layer for each output: --classifier NAME, and for "
            f"a head --classifier aux_4a=NAME. Received: {', '.join(classifiers)}"
        )
    return names
