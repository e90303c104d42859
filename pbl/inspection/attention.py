"""Attention of a vision transformer: the patches of an image from which its answer comes."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from pbl.errors import InputError
from pbl.inspection.calls import ATTENTION, BATCH, Call, call_watched, check_pixels, is_map
from pbl.inspection.gradcam import make_heat_maps
from pbl.models.calls import replaced_calls
from pbl.models.keras_private import flatten_layers


def find_attention(model: keras.Model) -> list[keras.Layer]:
    """Returns the attention layers of a model."""
    return [layer for layer in flatten_layers(model) if isinstance(layer, ATTENTION)]


def attention_maps(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Computes from which patches of an image the prediction of a vision transformer comes (attention rollout).

    Abnar and Zuidema (2020), Quantifying Attention Flow in Transformers, arXiv:2005.00928, section 3. The attention W of each
    block is the mean over its heads. The residual connection adds the identity: A = W/2 + I/2. The A of all blocks are
    multiplied. The row of the class token tells how much comes from each patch; without a class token the mean of all rows does.
    The result shows the places, not the class for which they are evidence.

    Args:
        model: A model whose patches come from a convolution, and whose blocks have `keras.layers.MultiHeadAttention` over the
            patches, with or without a class token in front.
        pixels: `[n, height, width, channels]`, as the model takes them.

    Returns:
        `float32 [n, height, width]`, resized (bilinear) to the images, the highest value of each 1.

    Raises:
        InputError: The model has no attention, or not over the patches of the image.

    Example:
        >>> import pbl
        >>> data = pbl.load_data("digits")
        >>> model = pbl.models.vit_tiny(data.input_shape, data.num_classes, patch=2, depth=1)
        >>> pbl.attention_maps(model, data.images("val").pixels[:2]).shape
        (2, 8, 8)
    """
    pixels = check_pixels(pixels)
    attending = find_attention(model)
    if not attending:
        raise InputError("{model} has no attention. Use grad_cam(model, pixels).", model=model.name)
    scores: list[Any] = []

    def watch(layer: keras.Layer, original: Callable) -> Callable:
        def call(*arguments: Any, return_attention_scores: bool = False, **options: Any) -> Any:
            output, score = original(*arguments, return_attention_scores=True, **options)
            scores.append(score)
            return (output, score) if return_attention_scores else output

        return call

    grids: list[tuple[int, int]] = []

    def see(number: int, call: Call) -> None:
        if is_map(call):
            grids.append(tuple(call.output.shape[1:3]))

    heats = []
    for begin in range(0, len(pixels), BATCH):
        scores.clear()
        with replaced_calls(attending, watch):
            call_watched(model, pixels[begin : begin + BATCH], see)
        grid = _find_patches(model, grids, scores)
        rollout: Any = None
        for score in scores:
            score = ops.mean(ops.cast(score, "float32"), axis=1)
            score = (score + ops.eye(score.shape[-1])) / 2
            rollout = score if rollout is None else ops.matmul(score, rollout)
        patches = grid[0] * grid[1]
        rows = rollout[:, 0, 1:] if rollout.shape[-1] == patches + 1 else ops.mean(rollout, axis=1)
        heats.append(ops.reshape(rows, (-1, *grid)))
    return make_heat_maps(heats, pixels.shape[1:3])


def _find_patches(model: keras.Model, grids: list[tuple[int, int]], scores: list[Any]) -> tuple[int, int]:
    """Returns rows and columns of the patches: those of the first map with as many places as the attention has tokens."""
    shapes = {tuple(score.shape[2:]) for score in scores}  # [n, heads, tokens, tokens]
    tokens = max((shape[0] for shape in shapes), default=0)
    grids = [grid for grid in grids if grid[0] * grid[1] in (tokens, tokens - 1)]
    if shapes != {(tokens, tokens)} or not grids:
        raise InputError(
            "{model}: its attention is not over the patches of a convolution, the same in all blocks, so a rollout cannot be drawn over the image. "
            "Use grad_cam with the name of a layer.",
            model=model.name,
        )
    return grids[0]
