"""Show how much gradient each stage gets from the main loss and from each head.

Prints a table and explains it; with --output also writes gradients.csv, gradients.png
and report.html. --compare trains the network with its heads and without them for some
steps and compares the two.
"""

import argparse
from pathlib import Path

from keras_inception_cli import common, console, data_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `gradients`."""
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="a .keras file, or an architecture for an untrained network: googlenet, "
        "googlenet_small, googlenet_torchvision, googlenet_slim",
    )
    add("data", metavar="DATA", help=data_options.DATA_HELP)
    add(
        "--output", type=Path, metavar="DIR", help="write table, picture and page there"
    )
    add("--overwrite", action="store_true", help="replace the report in DIR")
    add("--pictures", type=int, default=32, help="pictures to measure on (default: 32)")
    add(
        "--training",
        action="store_true",
        help="measure as in a training step: with dropout and the batch's statistics",
    )
    add(
        "--init",
        choices=("he", "gaussian", "xavier"),
        help="draw new weights: he; or as in 2014: gaussian (deviation 0.01), xavier",
    )
    add("--seed", type=int, default=0, help="(default: 0)")
    data_options.add_data_arguments(parser)
    add = parser.add_argument_group("an untrained network").add_argument
    add("--width", type=float, default=1.0, help="factor on all filters (default: 1)")
    add(
        "--batch-norm",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="batch normalization (default: off, as in the paper)",
    )
    add("--image-size", type=int, help="input size in pixels (default: suits the data)")
    add = parser.add_argument_group("with and without heads").add_argument
    add(
        "--compare",
        action="store_true",
        help="train a copy with heads and one without, from MODEL's weights, or new "
        "ones if --init is given",
    )
    add("--steps", type=int, default=100, help="batches to train on (default: 100)")
    add("--batch-size", type=int, default=32, help="(default: 32)")
    add("--learning-rate", type=float, default=0.01, help="of SGD (default: 0.01)")


def run(options: argparse.Namespace) -> None:
    """Measures, prints and writes."""
    common.check_at_least(options, {"pictures": 1, "steps": 1, "batch_size": 1})
    common.check_output_folder(options)
    page = options.output and options.output / "report.html"
    if page and page.exists() and not options.overwrite:
        raise FileExistsError(f"{page} already exists; pass --overwrite to replace it.")
    with console.quiet_start():
        from keras_inception import ARCHITECTURES, data, gradients
        from keras_inception.defaults import input_size_of

    model = listing = None
    if options.model not in ARCHITECTURES:
        model = common.load_model(options.model)
        names = getattr(model, "class_names", None)
        listing = data_options.list_known(options.data, names)
    # Nothing is validated, and a class may have a single picture.
    source = data_options.find_data(options, listing, validation_share=0.0)
    if model is None:
        model = _untrained(options, source)
    if options.init:
        model = gradients.reinitialized(model, options.init, options.seed)
    size = input_size_of(model)
    pictures = data.load(source, size, options.batch_size, seed=options.seed)
    data_options.check_class_names(model, pictures)
    measured = pictures.train.unbatch().batch(options.pictures)
    images, labels = next(measured.as_numpy_iterator())
    comparison = None
    if options.compare:
        with console.progress_bar("training both", options.steps, "step") as bar:
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
    columns, lines = gradients.flow_table(rows)
    console.print_table(lines, columns)
    history = [] if options.model in ARCHITECTURES else _history(options.model)
    for finding in [*gradients.explain(rows), *history]:
        print(f"\n{finding}")
    if comparison:
        print("\n" + "\n".join(gradients.explain_comparison(comparison)))
    if options.output:
        files = gradients.write_report(
            options.output,
            rows,
            model=model.name,
            data=source.name,
            history=history,
            details=_details(options, f"{len(images)} pictures of {source.name}"),
            comparison=comparison,
        )
        print("\nwrote " + ", ".join(map(str, files)))


def _untrained(options, source):
    """Builds an untrained network that suits the data."""
    import keras

    import keras_inception as ki
    from keras_inception.defaults import default_input_size

    architecture = ki.ARCHITECTURES[options.model]
    keras.utils.set_random_seed(options.seed)
    size = options.image_size or default_input_size(architecture, source.picture_size)
    model = ki.GoogLeNet(
        (size, size, 3),
        classes=len(source.class_names),
        architecture=architecture,
        width=options.width,
        batch_norm=options.batch_norm,
    )
    model.class_names = source.class_names
    return model


def _history(model: str) -> list[str]:
    """Sentences from the account of the losses that the model's run kept, if any."""
    from keras_inception.attribution import explain_attribution, read_attribution
    from keras_inception.training import RunDirectory

    run = RunDirectory.of_model(model)
    if run is None or not run.attribution.is_file():
        return []
    return explain_attribution(read_attribution(run.attribution))


def _details(options, pictures: str) -> list[str]:
    """Sentences on how the gradients were measured."""
    import keras

    from keras_inception import ARCHITECTURES

    mode = "training mode" if options.training else "inference mode (no dropout)"
    weights = {
        "he": "The weights are new, by He's initialization.",
        "gaussian": "The weights are new: normal, standard deviation 0.01; biases 0.",
        "xavier": "The weights are new: uniform, variance 1 / fan-in; biases 0.",
    }
    new = options.model in ARCHITECTURES
    kept = "The network is untrained." if new else "The weights are the file's."
    details = [
        f"Measured on {pictures}, in {mode}. {weights.get(options.init, kept)} Seed "
        f"{options.seed}.",
        f"keras {keras.__version__} on {keras.backend.backend()}.",
    ]
    if options.compare:
        details.append(
            f"Both networks: {options.steps} batches of {options.batch_size}, SGD with "
            f"momentum 0.9, learning rate {options.learning_rate}."
        )
    return details
