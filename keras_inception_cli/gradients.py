"""Show how much gradient each stage gets from the main loss and from each head.

Prints a table; with --output also writes gradients.csv, gradients.png and report.html,
a page that says in plain words what is seen. --compare trains the network with its
heads and without them for some steps and shows both.
"""

import argparse
from pathlib import Path

from keras_inception_cli import common, console, data_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `gradients` takes."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a .keras file, or an architecture for an untrained network: googlenet, "
        "googlenet_small, googlenet_torchvision, googlenet_slim",
    )
    parser.add_argument("data", metavar="DATA", help=data_options.DATA_HELP)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write table, picture and page there"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier report in DIR"
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=32,
        help="to measure on, from those to learn from (default: 32)",
    )
    parser.add_argument(
        "--training",
        action="store_true",
        help="as in a training step: with dropout and the batch's own statistics",
    )
    parser.add_argument(
        "--init",
        choices=("he", "gaussian"),
        help="begin with new weights: today's, or the paper's time's (deviation 0.01)",
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    data_options.add_data_arguments(parser)
    untrained = parser.add_argument_group("an untrained network")
    untrained.add_argument(
        "--width", type=float, default=1.0, help="times the filters (default: 1)"
    )
    untrained.add_argument(
        "--batch-norm",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="batch normalisation (default: off, as in the paper)",
    )
    untrained.add_argument(
        "--image-size", type=int, help="side in pixels (default: what fits the data)"
    )
    compare = parser.add_argument_group("with and without heads")
    compare.add_argument(
        "--compare",
        action="store_true",
        help="train both for some steps, from new weights unless MODEL is a file and "
        "no --init is given",
    )
    compare.add_argument("--steps", type=int, default=100, help="(default: 100)")
    compare.add_argument("--batch-size", type=int, default=32, help="(default: 32)")
    compare.add_argument(
        "--learning-rate", type=float, default=0.01, help="(default: 0.01)"
    )


def run(options: argparse.Namespace) -> None:
    """Measures, prints and writes."""
    common.check_at_least(options, {"pictures": 1, "steps": 1, "batch_size": 1})
    page = options.output and options.output / "report.html"
    if page and page.exists() and not options.overwrite:
        raise FileExistsError(
            f"{page} is there already; --overwrite it, or choose another --output."
        )
    with console.quiet_start():
        import keras

        from keras_inception import data, gradients
        from keras_inception.defaults import input_size_of
        from keras_inception.gradients import report

    source = data_options.find_data(options)
    model = _model(options, source)
    if options.init:
        model = gradients.reinitialized(model, options.init, options.seed)
    pictures = data.load(
        source, input_size_of(model), options.batch_size, seed=options.seed
    )
    data_options.check_class_names(model, pictures)
    images, labels = next(
        iter(pictures.train.unbatch().batch(options.pictures).as_numpy_iterator())
    )
    comparison = None
    if options.compare:
        label = "training both networks"
        with console.progress_bar(label, options.steps, "step") as bar:
            comparison = gradients.compare_without_heads(
                model,
                pictures.train,
                images,
                labels,
                steps=options.steps,
                learning_rate=options.learning_rate,
                on_step=lambda done: bar.update(done - bar.n),
            )
    rows = gradients.gradient_flow(model, images, labels, options.training)
    print(report.text_table(rows))
    for finding in gradients.explain(rows):
        print(f"\n{finding}")
    if comparison:
        print("\n" + "\n".join(report.read_comparison(comparison)))
    if not options.output:
        return
    how = f"{len(images)} pictures of {source.name}, in "
    how += "training mode." if options.training else "inference mode (no dropout)."
    weights = {
        None: "The weights are the file's."
        if Path(options.model).exists()
        else "The network is untrained.",
        "he": "The weights are new, by He's initialisation.",
        "gaussian": "The weights are new: normal, deviation 0.01; biases 0.",
    }[options.init]
    details = [
        f"Measured on {how} {weights} Seed {options.seed}.",
        f"keras {keras.__version__} on {keras.backend.backend()}.",
    ]
    if comparison:
        details.append(
            f"Both networks: {options.steps} batches of {options.batch_size}, SGD with "
            f"momentum 0.9, learning rate {options.learning_rate}."
        )
    files = report.write_report(
        options.output,
        rows,
        model=model.name,
        data=source.name,
        details=details,
        comparison=comparison,
    )
    print("\nwrote " + ", ".join(str(file) for file in files))


def _model(options, source):
    """The file's model, or an untrained network that fits the data."""
    import keras_inception as ki
    from keras_inception.defaults import default_input_size

    if options.model not in ki.ARCHITECTURES:
        return common.load_model(options.model)
    import keras

    architecture = ki.ARCHITECTURES[options.model]
    keras.utils.set_random_seed(options.seed)
    side = options.image_size or default_input_size(architecture, source.picture_size)
    model = ki.GoogLeNet(
        (side, side, 3),
        classes=len(source.class_names),
        architecture=architecture,
        width=options.width,
        batch_norm=options.batch_norm,
    )
    model.class_names = source.class_names
    return model
