"""CenterNet: objects as points. A heat map for each class shows the boxes' centres; at each centre the network gives the size of the box.

Zhou, Wang and Kraehenbuehl (2019), Objects as Points, arXiv:1904.07850, sections 3 and 4: maps at a quarter of the image's size; a peak of
the heat is a box, which needs neither anchors nor non-maximum suppression. `task=detection`; the loss is in `pbl.training.box_loss`.

Different from the paper: a small network of our own, which reduces the image to a sixteenth and doubles it back to a quarter, in place of
Hourglass-104, DLA-34 or ResNet-18; or any classifier of this package (`encoder="resnet20"`), with the weights of a run or of ImageNet,
frozen until `fine_tune_epochs`. Normal convolutions where the paper has deformable ones. The three heads share one 3x3 convolution. No
second prediction on the flipped image. Images whose sides the network cannot halve are padded with black at the right and at the bottom.

Sizes are in cells of the maps, as in the paper's code ("raw" in the paper: neither normalised nor a logarithm). So the paper's weight of .1
in the loss applies, and the numbers stay small for images of any size.
"""

import math
from typing import Any

import keras
from keras import layers, ops

from pbl.errors import InputError
from pbl.models.card import Card, check_size
from pbl.models.left_side import check_encoder, find_border, pad, take_left

CARDS = {
    "center_net": Card("Functional", 2019, "Zhou et al. 2019, arXiv:1904.07850", (64, 64, 1), 10, 280_158, 23_576_576, smallest=16, task="detection"),
}  # fmt: skip
STRIDE = 4  # pixels per cell of the maps, to the right and down; the paper's R
MOST_FOUND = 100  # boxes per image; the number of the paper, and of COCO
WIDEST = 4  # most channels, as a multiple of the first convolution's; a detector of small images needs no more
PRIOR = 0.1  # heat everywhere at the start, 0 to 1: otherwise a thousand empty cells outweigh each centre (Lin et al. 2017, section 4.1; the paper's too)


def decode(maps, size: tuple[int, int], stride: int = STRIDE):
    """Turns maps into boxes: each peak of the heat is the centre of a box (section 3, "From points to bounding boxes").

    A peak is a cell whose heat is the highest of its 3x3 cells, found with a maximum filter. The 100 highest peaks of all classes together
    are kept. Neighbouring peaks of equal heat are all kept.

    Args:
        maps: `float [batch, rows, columns, classes + 4]`: heat from 0 to 1, width and height in cells, and the position of the centre in its
            cell, to the right and down, from 0 to 1.
        size: (height, width) of the images, in pixels: boxes are cut at the border.
        stride: Pixels per cell.

    Returns:
        `float32 [batch, 100, 6]`, rows `left, top, right, bottom, class, score` in pixels, the highest score first; rows without a box have
        class -1 and score 0.
    """
    maps = ops.cast(maps, "float32")
    rows, columns, channels = maps.shape[1:]
    classes = channels - 4
    heat = maps[..., :classes]
    highest = ops.max_pool(heat, 3, strides=1, padding="same")
    peaks = ops.reshape(ops.where(heat >= highest, heat, 0.0), (-1, rows * columns * classes))
    found = min(MOST_FOUND, rows * columns * classes)
    score, place = ops.top_k(peaks, found)  # [batch, found]; of equal values the first
    cell, kind = place // classes, ops.cast(place % classes, "float32")
    here = ops.take_along_axis(ops.reshape(maps[..., classes:], (-1, rows * columns, 4)), cell[..., None], axis=1)
    x = ops.cast(cell % columns, "float32") + here[..., 2]
    y = ops.cast(cell // columns, "float32") + here[..., 3]
    half_width, half_height = ops.maximum(here[..., 0], 0.0) / 2, ops.maximum(here[..., 1], 0.0) / 2
    height, width = (float(side) for side in size)
    boxes = ops.stack(
        [
            ops.clip(stride * (x - half_width), 0.0, width),
            ops.clip(stride * (y - half_height), 0.0, height),
            ops.clip(stride * (x + half_width), 0.0, width),
            ops.clip(stride * (y + half_height), 0.0, height),
            kind,
            score,
        ],
        axis=-1,
    )
    nothing = ops.convert_to_tensor([0.0, 0.0, 0.0, 0.0, -1.0, 0.0], "float32")
    boxes = ops.where(score[..., None] > 0, boxes, nothing)
    if found == MOST_FOUND:
        return boxes
    return ops.concatenate([boxes, ops.broadcast_to(nothing, (ops.shape(boxes)[0], MOST_FOUND - found, 6))], axis=1)


@keras.saving.register_keras_serializable("pbl")
class CenterNet(keras.Model):
    """A Functional model that returns maps when it is called, trained or evaluated, and boxes from `predict`; see `decode`."""

    def predict_step(self, data):
        images, *_ = keras.utils.unpack_x_y_sample_weight(data)
        return decode(super().predict_step(data), tuple(images.shape[1:3]))


def center_net(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int = 16,
    depth: int = 4,
    head: int = 64,
    encoder: str | None = None,
    encoder_options: dict[str, Any] | None = None,
    weights: str | None = None,
) -> keras.Model:
    """Builds a centre network (Zhou et al. 2019).

    Args:
        input_shape: (height, width, channels) of the images, at least 16x16, pixels 0 to 255.
        num_classes: Number of classes; there is no background class.
        width: Channels of the first convolution; each halving doubles them, up to 4 times as many.
        depth: How often the image is halved, at least 2: the maps are at a quarter, and deeper levels see a larger part of the image. 4 is enough
            for objects of about 50 pixels.
        head: Channels of the convolution before the maps; the paper has 64 (DLA-34, ResNet) or 256.
        encoder: A classifier of this package in place of the left side, such as "resnet20" or "efficientnetv2_transfer"; `depth` is
            then how often its maps halve.
        encoder_options: The classifier's own options, such as {"variant": "b1"}.
        weights: Weights of the encoder: the folder of a run of that classifier, or of `task=contrast` with it as encoder; "imagenet" if the
            classifier has such weights. None: random, and it is trained from the first epoch on.

    Returns:
        A `CenterNet`, not compiled: `[batch, *input_shape]` to maps `float32 [batch, height / 4, width / 4, num_classes + 4]`, rounded up;
        its `predict` returns boxes.

    Raises:
        InputError: An option does not fit; there is no such run, or it is of another classifier.

    Example:
        >>> from pbl import models
        >>> model = models.center_net((64, 64, 1), 10)
        >>> models.count_trainable_weights(model)
        280158
    """
    check_size("center_net", input_shape, CARDS["center_net"].smallest)
    check_encoder(encoder, encoder_options, weights)
    images = keras.Input(input_shape)
    if encoder is not None:
        maps, _ = take_left(images, encoder, encoder_options, weights, num_classes)
    else:
        if depth < 2:
            raise InputError("model_options.depth={depth}: center_net halves the images at least twice.", depth=depth)
        maps = _make_left(images, width, depth)

    lowest = max(maps)
    x = maps[lowest]
    while lowest < 2:
        lowest += 1
        x = _convolve(x, width * _widen(lowest), 2, f"down{lowest}")
    for level in reversed(range(2, lowest)):
        filters = width * _widen(level)
        x = layers.Conv2DTranspose(filters, 2, strides=2, name=f"up{level}")(x)
        if level in maps:
            x = layers.Concatenate()([maps[level], x])
        x = _convolve(x, filters, 1, f"up{level}")

    x = _convolve(x, head, 1, "head")
    cells = [math.ceil(side / STRIDE) for side in input_shape[:2]]
    border = [x.shape[1 + axis] - cells[axis] for axis in range(2)]
    if any(border):
        x = layers.Cropping2D(tuple((0, extra) for extra in border), name="cut_back")(x)
    prior = keras.initializers.Constant(-math.log((1 - PRIOR) / PRIOR))
    outputs = [
        layers.Conv2D(num_classes, 1, activation="sigmoid", kernel_initializer=keras.initializers.RandomNormal(stddev=0.001), bias_initializer=prior, dtype="float32", name="heat"),
        layers.Conv2D(2, 1, dtype="float32", name="sizes"),
        layers.Conv2D(2, 1, bias_initializer=keras.initializers.Constant(0.5), dtype="float32", name="offsets"),
    ]  # fmt: skip
    maps = layers.Concatenate(dtype="float32", name="maps")([layer(x) for layer in outputs])
    return CenterNet(images, maps, name="center_net")


def _make_left(images, width: int, depth: int) -> dict[int, Any]:
    """Maps by how often they were halved: `[batch, h / 2^level, w / 2^level, width * 2^level]`, at most 4 times `width`."""
    x = pad(layers.Rescaling(1 / 127.5, offset=-1)(images), find_border(tuple(images.shape[1:]), 2**depth))
    maps = {}
    for level in range(1, depth + 1):
        x = _convolve(x, width * _widen(level), 2, f"down{level}")
        if level > 1:
            x = _convolve(x, width * _widen(level), 1, f"left{level}")
        maps[level] = x
    return maps


def _widen(level: int) -> int:
    return min(WIDEST, 2 ** (level - 1))


def _convolve(x, filters: int, strides: int, name: str):
    x = layers.Conv2D(
        filters, 3, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
