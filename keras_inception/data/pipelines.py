"""tf.data pipelines over a source: for training, for validation, and whole pictures.

They contain no Python and no variables: where operations must be deterministic, as in
`train`, tf.data runs a pipeline with either of them one picture at a time.
"""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from keras_inception.data.decoding import fit_square
from keras_inception.data.sources import AnySplit, Source
from keras_inception.data.splits import order

_PICTURES_AHEAD = 16


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
    """Batches `(images, labels)` of the training split, in a new order each epoch.

    The order and every crop are functions of the seed and the epoch. An epoch always
    has as many pictures as the split: a picture that can't be decoded is replaced by
    the next one in the epoch's order, and the last ones by the first.

    The last batch may be smaller. `augmentation` is `"none"`, `"basic"` or `"paper"`;
    `first_epoch` is the number of the epoch that the first pass counts as, from 0.
    """
    split = source.train

    def examples_of(draw: tf.Tensor) -> tf.data.Dataset:
        examples = _with_successors(source, split.examples(_key(seed, draw)))
        return examples.enumerate().map(lambda place, rest: (draw, place, *rest))

    def read(draw: tf.Tensor, place: tf.Tensor, position: tf.Tensor, *example) -> tuple:
        *element, label = example
        key = tf.random.fold_in(_key(seed, draw), position, alg="philox")
        image = source.read_augmented(
            element, augmentation, image_size, key, mirror=mirror
        )
        return draw, place, image, label

    dataset = draw_per_pass(seed, first_epoch).flat_map(examples_of)
    dataset = dataset.map(read, tf.data.AUTOTUNE)
    if source.may_be_damaged:

        def path_of(draw: int, place: int) -> str:
            positions = order(len(split), _key(seed, draw))
            return split.name_of(int(positions[place % len(split)]))

        dataset = source.bad.skip_bad(dataset, path_of).take(len(split))
    dataset = dataset.map(lambda draw, place, image, label: (image, label))
    batches = tf.data.experimental.assert_cardinality(_batches(split, batch_size))
    return dataset.batch(batch_size).apply(batches).prefetch(tf.data.AUTOTUNE)


def pipeline(
    source: Source, split: AnySplit, image_size: int, batch_size: int
) -> tf.data.Dataset:
    """Batches `(images, labels)` of one split, in a fixed order, not augmented.

    A picture that can't be decoded is left out and added to `source.bad`; its batch is
    smaller by one. The last batch may be smaller, too.
    """
    batches = _batches(split, batch_size)
    dataset = _in_order(
        source, split, lambda *element: fit_square(source.read(*element), image_size)
    )
    if source.may_be_damaged:
        # Keras requires the number of batches in advance, so bad pictures must not move
        # later ones into other batches. A batch without any good picture is replaced by
        # a repetition of the first.
        dataset = dataset.group_by_window(
            lambda place, *_: place // batch_size,
            lambda _, window: window.batch(batch_size),
            window_size=batch_size,
        )
        dataset = dataset.repeat().take(batches)
    else:
        dataset = dataset.batch(batch_size)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(batches))
    dataset = dataset.map(lambda place, position, images, labels: (images, labels))
    return dataset.prefetch(tf.data.AUTOTUNE)


def whole_pictures(
    source: Source, split: AnySplit, image_size: int | None = None
) -> Iterator[tuple[np.ndarray, int, str]]:
    """Reads every picture of a split, in its own size unless `image_size` is given.

    A picture that can't be decoded is left out and added to `source.bad`.

    Yields:
        Pixels, uint8 `(height, width, 3)`, or as `fit_square` resizes them; the label;
        the file's path, or the picture's position if there are no files.
    """

    def read(*element: tf.Tensor) -> tf.Tensor:
        picture = source.read(*element)
        return picture if image_size is None else fit_square(picture, image_size)

    dataset = _in_order(source, split, read)
    for _, position, picture, label in dataset.prefetch(_PICTURES_AHEAD):
        yield picture.numpy(), int(label), split.name_of(int(position))


def sample(
    source: Source, split: AnySplit, count: int, image_size: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a few pictures from a split, the same ones for the same seed.

    Returns:
        float32 pixels 0..255 `(count, image_size, image_size, 3)`, and class indices
        `(count,)`; fewer than `count` if the split has fewer good pictures.

    Raises:
        ValueError: If none can be decoded.
    """

    def read(position: tf.Tensor, *example: tf.Tensor) -> tuple:
        *element, label = example
        return fit_square(source.read(*element), image_size), label

    pictures = split.examples(_key(seed, 0)).map(read).ignore_errors()
    for images, labels in pictures.take(count).batch(count):
        return images.numpy(), labels.numpy()
    raise ValueError(
        f"There is no picture to sample: of the split's {len(split)} files none can be "
        "decoded. Repair or replace them."
    )


def draw_per_pass(seed: int, first_pass: int = 0) -> tf.data.Dataset:
    """A dataset of one number, a function of the seed and of the passes before."""
    draws = tf.data.experimental.from_variant(
        # tf.data.Dataset.random would mix in TensorFlow's global seed
        tf.raw_ops.RandomDatasetV2(
            seed=tf.constant(seed, tf.int64),
            seed2=tf.constant(1, tf.int64),  # two zeros would mean "no seed"
            seed_generator=tf.raw_ops.DummySeedGenerator(),
            rerandomize_each_iteration=True,
            output_types=[tf.int64],
            output_shapes=[tf.TensorShape(())],
        ),
        tf.TensorSpec((), tf.int64),
    ).take(1)
    for _ in range(first_pass):
        next(iter(draws))
    # Inside flat_map a pass begins when its first element is requested: Keras creates
    # iterators that it never uses.
    return tf.data.Dataset.range(1).flat_map(lambda _: draws)


def _in_order(
    source: Source, split: AnySplit, read: Callable[..., tf.Tensor]
) -> tf.data.Dataset:
    """Yields `(place, position, picture, label)` of good pictures in stored order.

    Records are stored in another order than the files that they were made from.
    """

    def read_example(place: tf.Tensor, example: tuple) -> tuple:
        position, *element, label = example
        return tf.constant(0, tf.int64), place, position, read(*element), label

    examples = _with_successors(source, split.examples())
    dataset = examples.enumerate().map(read_example, tf.data.AUTOTUNE)
    if source.may_be_damaged:
        dataset = source.bad.skip_bad(
            dataset, lambda draw, place: split.name_of(place % len(split))
        )
        dataset = dataset.take_while(lambda draw, place, *_: place < len(split))
    return dataset.map(lambda draw, *example: example)


def _with_successors(source: Source, examples: tf.data.Dataset) -> tf.data.Dataset:
    """Repeats the examples: only a later good picture reveals that one was skipped."""
    return examples.repeat(2) if source.may_be_damaged else examples


def _key(seed: int, draw: tf.Tensor | int) -> tf.Tensor:
    return tf.stack([tf.constant(seed, tf.int64), tf.cast(draw, tf.int64)])


def _batches(split: AnySplit, batch_size: int) -> int:
    return -(-len(split) // batch_size)
