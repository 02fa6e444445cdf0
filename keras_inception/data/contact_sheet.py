"""A contact sheet: pictures as validation and training will see them."""

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from keras_inception.data.augmentation import augmented
from keras_inception.data.pictures import fit_square
from keras_inception.data.sources import Source
from keras_inception.defaults import default_augmentation

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

    Each row shows a picture as validation sees it, then seven times as training does.

    Args:
        source: Its training split is drawn.
        path: The file to write.
        image_size: Height and width of the pictures in pixels.
        seed: Determines the augmentation.
        augment: `"none"`, `"basic"` or `"paper"`; `None` for the default of `load`.
        mirror: Whether augmentation mirrors; `None` for the default of `load`.

    Returns:
        The name of the augmentation.
    """
    from matplotlib.figure import Figure

    augmentation = augment or default_augmentation(source.picture_size)
    mirror = source.mirror if mirror is None else mirror

    def train_view(position: int, element: tuple, view: int) -> tf.Tensor:
        key = tf.constant([seed, view], tf.int64)
        return augmented(
            augmentation,
            lambda: source.read(*element),
            lambda window, side: source.read_window(*element, window, side),
            image_size,
            tf.random.fold_in(key, position, alg="philox"),
            mirror=mirror,
            shift=source.shift,
        )

    rows = sorted(_one_of_each_class(source), key=lambda row: row[-1])
    columns = _VIEWS + 1
    figure = Figure(figsize=(1.6 * columns, 1.7 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for row, (position, element, label) in enumerate(rows):
        views = [train_view(position, element, view) for view in range(_VIEWS)]
        views = [fit_square(source.read(*element), image_size), *views]
        for column, (axes, view) in enumerate(zip(grid[row], views, strict=True)):
            axes.axis("off")
            axes.imshow(view.numpy().round().astype("uint8"), interpolation="nearest")
            if column == 0:
                axes.set_title(f"{source.class_names[label]}:", fontsize=8)
            elif row == 0:
                axes.set_title(f"{augmentation} {column}", fontsize=8)
    figure.savefig(path, dpi=120, format="png")
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
