"""What a model costs to compute, counted from its layers."""

import math

import keras


def multiply_adds(model: keras.Model) -> dict[str, int]:
    """Counts the multiply-adds of one example's forward pass, layer by layer.

    Convolutions (also depthwise and transposed ones) and dense layers are counted, as
    is the custom of the field; additions, pools and normalisations are not.

    Args:
        model: A functional model whose input has fixed sizes but for the batch.

    Returns:
        Layer name to multiply-adds, in network order, for the layers that have any.

    Raises:
        ValueError: If a size that counts is not known.

    Example:
    >>> model = detach_auxiliary(GoogLeNet())
    >>> round(sum(multiply_adds(model).values()) / 1e9, 2)
    1.58
    """
    counts = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            for name, count in multiply_adds(layer).items():
                counts[f"{layer.name}/{name}"] = count
            continue
        if not isinstance(layer, _COUNTED):
            continue
        # Each position of the output (of the input, where the convolution is
        # transposed) uses every weight of the kernel once.
        over = layer.input if isinstance(layer, _TRANSPOSED) else layer.output
        positions = over.shape[1:-1]
        if None in positions:
            raise ValueError(
                f"The multiply-adds of {layer.name!r} depend on the input's size, "
                f"which the model leaves open: {model.input_shape}. Build it for one."
            )
        counts[layer.name] = math.prod(positions) * math.prod(layer.kernel.shape)
    return counts


_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose)
_COUNTED = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dense,
    *_TRANSPOSED,
)
