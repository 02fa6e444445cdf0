"""tf.data pipelines over a source: for training, for validation, and whole pictures.

No operation in them has a state of its own that TensorFlow does not know to be
harmless: where operations must be deterministic, as in `train`, tf.data runs a pipeline
with Python or a variable in it one picture at a time.
"""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from keras_inception.data.augmentation import augmented
from keras_inception.data.pictures import fit_square
from keras_inception.data.splits import Source, Split, order


def training_pipeline(
    source: Source,
    image_size: int,
    batch_size: int,
    *,
    seed: int = 0,
    augmentation: str = "none",
    mirror: bool = True,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Batches of the pictures to learn from, in an order drawn anew for each epoch.

    The order and every crop are functions of the seed and the epoch. An epoch always
    has as many pictures as the split: for one that can't be decoded the next in the
    epoch's order moves up, and at the end the first ones come once more.

    Args:
        source: Whose `train` split, and how it is read.
        image_size: Side in pixels.
        batch_size: Pictures per batch; the last batch may be smaller.
        seed: Of the order and the crops.
        augmentation: `"none"`, `"basic"` or `"paper"`.
        mirror: Whether augmentation mirrors.
        first_epoch: Which epoch the first pass is, from 0.
    """
    split = source.train

    def examples_of(draw):
        examples = _to_the_end(source, split.examples(_key(seed, draw)))
        return examples.enumerate().map(lambda place, rest: (draw, place, *rest))

    def picture_and_label(draw, place, position, *example):
        *element, label = example
        image = augmented(
            augmentation,
            lambda: source.read(*element),
            lambda window, side: source.read_window(*element, window, side),
            image_size,
            tf.random.fold_in(_key(seed, draw), position, alg="philox"),
            mirror=mirror,
            shift=source.shift,
        )
        return draw, place, image, label

    dataset = draw_per_pass(seed, first_epoch).flat_map(examples_of)
    dataset = dataset.map(picture_and_label, tf.data.AUTOTUNE)
    if source.may_be_damaged:

        def path_of(draw, place):
            positions = order(len(split), _key(seed, draw))
            return split.elements[0][int(positions[place % len(split)])]

        dataset = source.bad.skip_bad(dataset, path_of).take(len(split))
    dataset = dataset.map(_image_and_label).batch(batch_size)
    batches = _batches(split, batch_size)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(batches))
    return dataset.prefetch(tf.data.AUTOTUNE)


def pipeline(
    source: Source, split: Split, image_size: int, batch_size: int
) -> tf.data.Dataset:
    """Batches of one split in a fixed order, read and fitted in parallel.

    A picture that can't be decoded is left out and named in `source.bad`; its batch is
    smaller by one.

    Args:
        source: Knows how its elements are read.
        split: Which examples.
        image_size: Side in pixels.
        batch_size: Pictures per batch; the last batch may be smaller.
    """
    batches = _batches(split, batch_size)
    dataset = _in_order(
        source, split, lambda *element: fit_square(source.read(*element), image_size)
    )
    if source.may_be_damaged:
        # Keras wants to know the number of batches beforehand: a gap stays where it is,
        # and only for a batch that is bad from end to end another comes a second time
        dataset = dataset.group_by_window(
            lambda place, *_: place // batch_size,
            lambda _, window: window.batch(batch_size),
            window_size=batch_size,
        )
        dataset = dataset.repeat().take(batches)
    else:
        dataset = dataset.batch(batch_size)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(batches))
    dataset = dataset.map(lambda place, images, labels: (images, labels))
    return dataset.prefetch(tf.data.AUTOTUNE)


def whole_pictures(
    source: Source, split: Split
) -> Iterator[tuple[np.ndarray, int, str]]:
    """Every picture of a split as it is, uint8 `(height, width, 3)`, label and name.

    The name is the file's path, or the picture's number where there are no files. A
    picture that can't be decoded is left out and named in `source.bad`.
    """
    dataset = _in_order(source, split, source.read)
    for place, picture, label in dataset.prefetch(2):
        yield picture.numpy(), int(label), split.name_of(int(place))


def spread(
    source: Source, split: Split, count: int, image_size: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A few pictures from all over a split, and their labels; always the same.

    Args:
        source: Knows how its elements are read.
        split: Which examples.
        count: How many, or fewer if the split has no more that can be decoded.
        image_size: Side in pixels.
        seed: Chooses them.

    Returns:
        float32 pixels 0..255 `(count, image_size, image_size, 3)`, and class indices
        `(count,)`.

    Raises:
        ValueError: If none can be decoded.
    """

    def picture_and_label(position, *example):
        *element, label = example
        return fit_square(source.read(*element), image_size), label

    some = split.examples(_key(seed, 0)).map(picture_and_label).ignore_errors()
    for images, labels in some.take(count).batch(count):
        return images.numpy(), labels.numpy()
    raise ValueError(
        f"Pictures of a split are to be shown, but none of its {len(split)} can be "
        "decoded. Give it at least one that can."
    )


def draw_per_pass(seed: int, first_pass: int = 0) -> tf.data.Dataset:
    """A dataset of one number, another each time that it is iterated over.

    The number is a function of the seed and of how many passes there were before.
    """
    draws = tf.data.experimental.from_variant(
        # tf.data.Dataset.random would mix TensorFlow's global seed in
        tf.raw_ops.RandomDatasetV2(
            seed=tf.constant(seed, tf.int64),
            seed2=tf.constant(1, tf.int64),  # two zeros would mean: no seed
            seed_generator=tf.raw_ops.DummySeedGenerator(),
            rerandomize_each_iteration=True,
            output_types=[tf.int64],
            output_shapes=[tf.TensorShape(())],
        ),
        tf.TensorSpec((), tf.int64),
    ).take(1)
    for _ in range(first_pass):
        next(iter(draws))
    # Within flat_map the pass begins when its first element is asked for: Keras makes
    # iterators that it never uses.
    return tf.data.Dataset.range(1).flat_map(lambda _: draws)


def _in_order(
    source: Source, split: Split, read: Callable[..., tf.Tensor]
) -> tf.data.Dataset:
    """`(place, picture, label)` of what can be decoded, as it comes."""

    def picture_and_label(place, example):
        _, *element, label = example
        return tf.constant(0, tf.int64), place, read(*element), label

    examples = _to_the_end(source, split.examples())
    dataset = examples.enumerate().map(picture_and_label, tf.data.AUTOTUNE)
    if source.may_be_damaged:
        paths = split.elements[0]
        dataset = source.bad.skip_bad(
            dataset, lambda draw, place: paths[place % len(split)]
        )
        dataset = dataset.take_while(lambda draw, place, *_: place < len(split))
    return dataset.map(lambda draw, place, picture, label: (place, picture, label))


def _to_the_end(source: Source, examples: tf.data.Dataset) -> tf.data.Dataset:
    """Twice the examples: something comes after the last one, whatever is bad."""
    return examples.repeat(2) if source.may_be_damaged else examples


def _image_and_label(draw, place, image, label):
    return image, label


def _key(seed: int, draw: tf.Tensor | int) -> tf.Tensor:
    return tf.stack([tf.constant(seed, tf.int64), tf.cast(draw, tf.int64)])


def _batches(split: Split, batch_size: int) -> int:
    return -(-len(split) // batch_size)
