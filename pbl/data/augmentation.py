"""Augmentation of training images: outside the model, on batches, with given random numbers.

`draw` makes the random numbers of an image only from the seed, the epoch and the image's place in it. So the same augmented
batch can be made again at any time, on any machine.

Boxes move with their images. The box of a turned object is the box around the four turned corners of its own box, so it is a little too large.
It is cut at the border, and left out if less than a third of its area remains (`pbl.data.boxes.KEPT_SHARE`). A turn, or a zoom that
shrinks the image, mirrors the image at the border: a part of an object that appears again there has no box.
"""

import numpy as np
import tensorflow as tf

from pbl.config import Augmentation
from pbl.data.boxes import KEPT_SHARE, NO_BOX

# The random numbers of one image, each between 0 and 1, by their place in a row.
FLIP, DOWN, RIGHT, ANGLE, ZOOM, BRIGHTNESS, CONTRAST, SATURATION, CUT_Y, CUT_X, PARTNER, WHICH, SHARE = range(13)


def draw(n: int, augmentation: Augmentation, seed: int, epoch: int, view: int = 0) -> np.ndarray:
    """Draws the random numbers for `n` images: `float32 [n, 13]`, a function of `seed`, `epoch` and `view` (from 0) only."""
    random = np.random.default_rng([seed, epoch, 1 + view])
    numbers = random.random((n, SHARE + 1), np.float32)
    shares = [random.beta(alpha, alpha, n) for alpha in (augmentation.mixup, augmentation.cutmix) if alpha]
    if shares:
        numbers[:, SHARE] = np.where(numbers[:, WHICH] < 0.5, shares[0], shares[-1])
    return numbers


def augment(
    images: tf.Tensor, labels: tf.Tensor, numbers: tf.Tensor, augmentation: Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Augments a batch.

    Args:
        images: `uint8 [batch, height, width, channels]`.
        labels: `int32 [batch]`, or one-hot `float32 [batch, classes]`, which MixUp and CutMix need; or masks, `uint8 [batch, height,
            width]`, which move with their images, by nearest neighbour; what a crop takes from beyond the border is background; or boxes,
            `float32 [batch, most, 5]`, which move likewise, but stay if `cutout` covers them.
        numbers: What `draw` returns for these images.
        augmentation: What to do.

    Returns:
        Images and labels of the same shapes and types.

    Example:
        >>> import pbl
        >>> from pbl.config import Augmentation
        >>> from pbl.data.augmentation import augment, draw
        >>> flip = Augmentation(flip=True)
        >>> images, labels = next(iter(pbl.load_data("digits", batch_size=4).val))
        >>> augmented, _ = augment(images, labels, draw(4, flip, seed=0, epoch=0), flip)
        >>> tuple(augmented.shape)
        (4, 8, 8, 1)
    """
    a = augmentation
    n, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    has_masks = len(labels.shape) == 3 and labels.dtype == tf.uint8
    if len(labels.shape) == 3 and not has_masks:
        labels = _move_boxes(labels, numbers, augmentation, height, width)
    if has_masks:
        images = tf.concat([images, labels[..., None]], axis=-1)  # images and masks move together
    if a.flip:
        images = tf.where(numbers[:, FLIP, None, None, None] < 0.5, images[:, :, ::-1], images)
    if a.crop:
        padded = tf.pad(images, [(0, 0), (a.crop, a.crop), (a.crop, a.crop), (0, 0)])
        places = tf.cast(numbers[:, DOWN : RIGHT + 1] * (2 * a.crop + 1), tf.int32)
        rows, columns = places[:, :1] + tf.range(height), places[:, 1:] + tf.range(width)
        images = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    if has_masks:
        images, labels = images[..., :-1], images[..., -1]
    if not (a.rotation or a.zoom or a.brightness or a.contrast or a.saturation or a.cutout or a.mixes_labels):
        return images, labels
    x = tf.cast(images, tf.float32)
    if a.rotation or a.zoom:
        how = (2 * numbers[:, ANGLE] - 1) * a.rotation * np.pi / 180, 1 + (2 * numbers[:, ZOOM] - 1) * a.zoom
        x = _turn_and_zoom(x, *how)
        if has_masks:
            labels = _turn_and_zoom(labels[..., None], *how, interpolation="NEAREST")[..., 0]

    def around_one(column: int, reach: float) -> tf.Tensor:
        return 1 + (2 * numbers[:, column, None, None, None] - 1) * reach

    if a.brightness:
        x += 255 * (around_one(BRIGHTNESS, a.brightness) - 1)
    if a.contrast:
        mean = tf.reduce_mean(x, axis=[1, 2, 3], keepdims=True)
        x = mean + (x - mean) * around_one(CONTRAST, a.contrast)
    if a.saturation and images.shape[3] == 3:
        grey = tf.reduce_sum(x * [0.299, 0.587, 0.114], axis=3, keepdims=True)  # ITU-R 601, as in `fit_image`
        x = grey + (x - grey) * around_one(SATURATION, a.saturation)
    x = tf.clip_by_value(x, 0.0, 255.0)
    if a.cutout:
        x = tf.where(
            _box(numbers, height, width, tf.fill([n], float(a.cutout)), tf.fill([n], float(a.cutout))), 128.0, x
        )
    if a.mixes_labels:
        partner = tf.argsort(numbers[:, PARTNER])
        other, share = tf.gather(x, partner), numbers[:, SHARE]  # the image's own share
        mixed = [_mix_up(x, other, share)] if a.mixup else []
        mixed += [_cut_mix(x, other, share, numbers)] if a.cutmix else []
        x, share = mixed[0]
        if len(mixed) == 2:
            is_mixup = numbers[:, WHICH] < 0.5
            x, share = tf.where(is_mixup[:, None, None, None], x, mixed[1][0]), tf.where(is_mixup, share, mixed[1][1])
        labels = share[:, None] * labels + (1 - share[:, None]) * tf.gather(labels, partner)
    return tf.cast(tf.round(x), tf.uint8), labels


def _move_boxes(boxes: tf.Tensor, numbers: tf.Tensor, a: Augmentation, height: int, width: int) -> tf.Tensor:
    """Moves boxes as `augment` moves their images, with the same random numbers: `float32 [batch, most, 5]`."""
    if not (a.flip or a.crop or a.rotation or a.zoom):
        return boxes
    is_box = boxes[..., 4] >= 0
    left, top, right, bottom, label = tf.unstack(boxes, axis=-1)
    share = tf.ones_like(left)  # share of each box's area that is left
    if a.flip:
        flipped = numbers[:, FLIP, None] < 0.5
        left, right = tf.where(flipped, width - right, left), tf.where(flipped, width - left, right)
    if a.crop:
        places = a.crop - tf.floor(numbers[:, DOWN : RIGHT + 1] * (2 * a.crop + 1))
        down, across = places[:, :1], places[:, 1:]
        (left, top, right, bottom), share = _cut(
            left + across, top + down, right + across, bottom + down, height, width
        )
    if a.rotation or a.zoom:
        angles = (2 * numbers[:, ANGLE, None, None] - 1) * a.rotation * np.pi / 180
        scales = 1 + (2 * numbers[:, ZOOM, None, None] - 1) * a.zoom
        # The corners, around the centre. `_turn_and_zoom` computes where a pixel comes from; this computes where it goes.
        x = tf.stack([left, right, right, left], axis=-1) - width / 2
        y = tf.stack([top, top, bottom, bottom], axis=-1) - height / 2
        x, y = (
            scales * (tf.cos(angles) * x + tf.sin(angles) * y) + width / 2,
            scales * (tf.cos(angles) * y - tf.sin(angles) * x) + height / 2,
        )
        (left, top, right, bottom), turned = _cut(
            *(tf.reduce_min(of, axis=-1) for of in (x, y)),
            *(tf.reduce_max(of, axis=-1) for of in (x, y)),
            height,
            width,
        )
        share *= turned
    moved = tf.stack([left, top, right, bottom, label], axis=-1)
    return tf.where((is_box & (share >= KEPT_SHARE))[..., None], moved, tf.constant(NO_BOX, tf.float32))


def _cut(
    left: tf.Tensor, top: tf.Tensor, right: tf.Tensor, bottom: tf.Tensor, height: int, width: int
) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
    """Boxes cut at the border, and the share of each box's area that remains."""
    x, y = (
        (tf.clip_by_value(of, 0.0, float(width)) for of in (left, right)),
        (tf.clip_by_value(of, 0.0, float(height)) for of in (top, bottom)),
    )
    (near, far), (high, low) = x, y
    return (near, high, far, low), tf.math.divide_no_nan((far - near) * (low - high), (right - left) * (bottom - top))


def _mix_up(x: tf.Tensor, other: tf.Tensor, share: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The weighted mean of two images, and the first one's share in it."""
    lam = share[:, None, None, None]
    return lam * x + (1 - lam) * other, share


def _cut_mix(x: tf.Tensor, other: tf.Tensor, share: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pastes a box of another image; returns the share of the area that remained, since a box is cut off at the border."""
    height, width, side = x.shape[1], x.shape[2], tf.sqrt(1 - share)
    box = _box(numbers, height, width, side * height, side * width)
    return tf.where(box, other, x), 1 - tf.reduce_mean(tf.cast(box, tf.float32), axis=[1, 2, 3])


def _turn_and_zoom(x: tf.Tensor, angles: tf.Tensor, scales: tf.Tensor, interpolation: str = "BILINEAR") -> tf.Tensor:
    """Rotates and zooms about the centre; beyond its border the image is mirrored."""
    height, width = x.shape[1], x.shape[2]
    cosine, sine = tf.cos(angles) / scales, tf.sin(angles) / scales
    center_y, center_x = (height - 1) / 2, (width - 1) / 2
    zero = tf.zeros_like(angles)
    transforms = tf.stack(
        [
            cosine,
            -sine,
            center_x - cosine * center_x + sine * center_y,
            sine,
            cosine,
            center_y - sine * center_x - cosine * center_y,
            zero,
            zero,
        ],
        axis=1,
    )
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=transforms,
        output_shape=[height, width],
        interpolation=interpolation,
        fill_mode="REFLECT",
        fill_value=0.0,
    )


def _box(numbers: tf.Tensor, height: int, width: int, box_height: tf.Tensor, box_width: tf.Tensor) -> tf.Tensor:
    """True inside a box around a random pixel, cut off at the border: `bool [batch, height, width, 1]`; box sizes in pixels, `[batch]`."""

    def inside(center: tf.Tensor, length: tf.Tensor, size: int) -> tf.Tensor:
        start = tf.round(center * size - length / 2)[:, None]
        at = tf.range(size, dtype=tf.float32)
        return (at >= start) & (at < start + tf.round(length)[:, None])

    rows = inside(numbers[:, CUT_Y], box_height, height)
    columns = inside(numbers[:, CUT_X], box_width, width)
    return (rows[:, :, None] & columns[:, None, :])[..., None]
