"""A contact sheet: pictures as validation and training will see them."""

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from keras_inception.data.decoding import fit_square
from keras_inception.data.sources import Source
from keras_inception.defaults import default_augmentation
from keras_inception.files import write_whole

_MOST_CLASSES = 8
_VIEWS = 7


def draw_contact_sheet(
    source: Source,
    path: str | Path,
    image_size: int,
    *,
    seed: int = 0,
    augment: str | None = None,
    mirror: bool | None = None,
) -> str:
    """Draws one picture of each class, at most eight, into a PNG file.

    Each row shows a training picture as validation would see it, then seven times as
    training does. `augment` and `mirror` are those of `load`, with the same defaults.

    Returns:
        The name of the augmentation.
    """
    from matplotlib.figure import Figure

    augmentation = augment or default_augmentation(source.picture_size)
    mirror = source.mirror if mirror is None else mirror
    examples = sorted(_one_of_each_class(source), key=lambda example: example[-1])
    columns = _VIEWS + 1
    figure = Figure(figsize=(1.6 * columns, 1.7 * len(examples)), layout="constrained")
    grid = figure.subplots(len(examples), columns, squeeze=False)
    for row, (position, element, label) in enumerate(examples):
        for column, axes in enumerate(grid[row]):
            if column == 0:
                view = fit_square(source.read(*element), image_size)
                axes.set_title(f"{source.class_names[label]}:", fontsize=8)
            else:
                key = tf.constant([seed, column - 1], tf.int64)
                key = tf.random.fold_in(key, position, alg="philox")
                view = source.read_augmented(
                    element, augmentation, image_size, key, mirror=mirror
                )
                if row == 0:
                    axes.set_title(f"{augmentation} {column}", fontsize=8)
            axes.axis("off")
            axes.imshow(view.numpy().round().astype("uint8"), interpolation="nearest")
    write_whole(Path(path), lambda file: figure.savefig(file, format="png", dpi=120))
    return augmentation


def _one_of_each_class(source: Source) -> Iterator[tuple[int, tuple, int]]:
    """Yields `(position, element, label)` of the first good picture of each class."""
    wanted = set(range(min(_MOST_CLASSES, len(source.class_names))))
    for position, *element, label in source.train.examples():
        if not wanted:
            return
        if int(label) in wanted:
            try:
                source.read(*element)
            except tf.errors.OpError:
                continue  # damaged: use the next picture of its class
            wanted.remove(int(label))
            yield int(position), tuple(element), int(label)
