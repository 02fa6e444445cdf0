"""What a network will see of some pictures, as one picture."""

from pathlib import Path

import tensorflow as tf

from keras_inception.data.augmentation import augmented
from keras_inception.data.pictures import fit_square
from keras_inception.data.splits import Source
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
    """Draws one picture of each class, at most eight, as a PNG file.

    Each row is a picture as validation sees it, then as training does, seven times.

    Args:
        source: Whose pictures to learn from.
        path: The file.
        image_size: Side in pixels.
        seed: Of the augmentation.
        augment: `"none"`, `"basic"`, `"paper"`; by default what fits.
        mirror: Whether augmentation mirrors; by default what fits.

    Returns:
        The augmentation that was drawn.
    """
    from matplotlib.figure import Figure

    augmentation = augment or default_augmentation(source.picture_size)
    rows = []
    for position, element, label in _one_of_each_class(source):
        views = [
            augmented(
                augmentation,
                lambda element=element: source.read(*element),
                lambda window, side, element=element: source.read_window(
                    *element, window, side
                ),
                image_size,
                tf.random.fold_in(
                    tf.constant([seed, view], tf.int64), position, alg="philox"
                ),
                mirror=source.mirror if mirror is None else mirror,
                shift=source.shift,
            )
            for view in range(_VIEWS)
        ]
        rows.append((label, [fit_square(source.read(*element), image_size), *views]))
    figure = Figure(figsize=(1.6 * (_VIEWS + 1), 1.7 * len(rows)), layout="constrained")
    for row, (label, views) in enumerate(rows):
        for column, view in enumerate(views):
            place = row * (_VIEWS + 1) + column + 1
            axes = figure.add_subplot(len(rows), _VIEWS + 1, place)
            axes.axis("off")
            axes.imshow(view.numpy().round().astype("uint8"), interpolation="nearest")
            if column == 0:
                axes.set_title(f"{source.class_names[label]}:", fontsize=8)
            elif row == 0:
                axes.set_title(f"{augmentation} {column}", fontsize=8)
    figure.savefig(path, dpi=120, format="png")
    return augmentation


def _one_of_each_class(source: Source) -> list[tuple[int, tuple, int]]:
    wanted = set(range(min(_MOST_CLASSES, len(source.class_names))))
    found = []
    for position, *element, label in source.train.examples():
        if not wanted:
            break
        if int(label) in wanted:
            try:
                source.read(*element)
            except tf.errors.OpError:
                continue  # damaged: the next of its class
            wanted.remove(int(label))
            found.append((int(position), tuple(element), int(label)))
    return sorted(found, key=lambda row: row[-1])
