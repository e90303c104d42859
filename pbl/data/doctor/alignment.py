"""How similar two images are once one is laid over the other: candidates by a coarse picture, then aligned pixel by pixel."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pbl.data.doctor.vectors import average_cells, find_nearest, one_thread, reduce, scale_to_norm, vectors

TINY = 16  # pixels a side; smaller images are compared as they are, without a coarse picture and without alignment
CELLS = 8  # the coarse picture has 8 x 8 cells
CANDIDATES = 4  # for each image
# A caption or a logo covers up to a quarter of the height, at the bottom or at the top: the remaining part is compared too.
COVERED = 0.25
FAR = 0.35  # relative distance (see `find_alike`) above which a pair is not aligned any further
STEPS = 3  # of the Gauss-Newton method
SHIFT, TURN, SCALE = (
    0.1,
    0.18,
    0.2,
)  # the largest shift (share of a side), rotation (radians) and scaling (logarithm of the factor)
# Share of the picture that has structure, from 0 (a single point) to 1 (the same everywhere), see `_measure_texture`. An object on an even
# background is too simple to tell a cropped copy from another object of the same form: for such pictures only shifts are allowed.
TEXTURED = 0.3
# Blur as a multiple of what averages over 3x3 pixels take away. The distance that is left once blur is fitted counts twice: blurred copies
# keep a quarter of their distance. Stripes behind discs, which blur removes too, keep half of it.
MOST_BLUR, FITTED = 2, 2
CHUNK = 256  # pairs at a time, so that they fit into the processor's cache


class Alike(NamedTuple):
    """Pairs of images that may be similar, each pair once."""

    one: np.ndarray  # int [pairs]
    other: np.ndarray  # int [pairs]
    distance: np.ndarray  # float32 [pairs], 0: equal; 1: as far apart as two images of the data set on average


@one_thread()
def find_alike(images: np.ndarray, queries: np.ndarray) -> Alike:
    """Finds the images that are most similar to each of the queries, and how far apart they are.

    Candidates are the four images nearest to the query by the cosine of a coarse grey picture (8 x 8 cells, mean removed), in any
    of the eight ways to turn and mirror a square (four for a rectangle), and the nearest one by the upper or lower three quarters
    alone. Each candidate is then aligned by Gauss-Newton steps over shift, rotation and scale (S. Baker, I. Matthews 2004,
    "Lucas-Kanade 20 years on", IJCV 56, 221-255, section 2), on pictures of at most 32 pixels a side that are averaged over 3x3.
    One of the two may be blurred as well. The distance is that of the overlapping parts, all colours, as vectors of mean 0 and
    norm 1. So brightness and contrast do not count. It is divided by the average distance of two of the images, so that it means
    the same for data of many kinds.

    Args:
        images: `uint8 [n, height, width, channels]`, at least 3 pixels a side.
        queries: `int [m]`, numbers of the images that are compared with all others.
    """
    k = min(CANDIDATES, len(images) - 1)
    spread = _measure_spread(images)
    if min(images.shape[1:3]) < TINY:
        moved, still = _moved(reduce(images[queries])), vectors(_cut_edge(reduce(images)))
        cosines, nearest = find_nearest(moved, still.__getitem__, len(images), k, queries)
        one, other, distance = np.repeat(queries, k), nearest.ravel(), np.sqrt(np.maximum(2 - 2 * cosines.ravel(), 0))
        pairs = _choose_nearest(one, other, distance)
        return Alike(one[pairs], other[pairs], distance[pairs] / spread)
    one, other, turned, part = _find_candidates(images, queries, k)
    distance = np.full(len(one), 2, np.float32)
    half = _halve(images)
    groups = [(rows, way, (part == at) & (turned == way)) for at, rows in enumerate(PARTS) for way in range(8)]
    for rows, way, chosen in groups:
        for some in _chunk(np.flatnonzero(chosen)):
            # The distance after one step, at half the resolution: enough to rule out most candidates.
            first, second = _turn(half[one[some]], way), half[other[some]]
            distance[some], _ = _step(first, second, _make_mask(first.shape[1:], rows), np.zeros((len(some), 4)))
    pairs = _choose_nearest(one, other, distance)
    is_near = np.zeros(len(one), bool)
    is_near[pairs] = distance[pairs] < FAR * spread
    for rows, way, chosen in groups:
        for some in _chunk(np.flatnonzero(chosen & is_near)):
            first, second = (smooth(reduce(images[of[some]], grey=False)) for of in (one, other))
            distance[some] = _align(_turn(first, way), second, rows)
    return Alike(one[pairs], other[pairs], distance[pairs] / spread)


def _choose_nearest(one: np.ndarray, other: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Numbers of the pairs to keep: for each two images the nearest pair."""
    low, high = np.minimum(one, other), np.maximum(one, other)
    order = np.lexsort((distance, high, low))
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(low[order]) != 0) | (np.diff(high[order]) != 0)
    return order[is_first]


# The rows that are compared: all, the upper three quarters, the lower three quarters.
PARTS = (slice(0, None), slice(0, CELLS - round(COVERED * CELLS)), slice(round(COVERED * CELLS), None))


def _find_candidates(images: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
    """Numbers of both images, way to turn the first, and part of the rows: each `int [pairs]`."""
    found = []
    coarse = _make_coarse(images)
    ways = range(8) if images.shape[1] == images.shape[2] else (0, 2, 4, 6)
    for at, rows in enumerate(PARTS):
        still = vectors(coarse[:, rows])
        mean = still.mean(axis=0)  # what all images share, as x-rays do, does not help to tell them apart
        still = scale_to_norm(still - mean)
        turned = np.stack(
            [scale_to_norm(vectors(_turn(coarse[queries], way)[:, rows]) - mean) for way in (ways if at == 0 else (0,))]
        )
        count = k if at == 0 else 1
        _, nearest = find_nearest(turned, still.__getitem__, len(images), count, queries)
        number, nearest = np.repeat(np.arange(len(queries)), count), nearest.ravel()
        way = np.array(ways)[np.einsum("vpd,pd->vp", turned[:, number], still[nearest]).argmax(axis=0)]
        found.append((queries[number], nearest, way, np.full(len(number), at)))
        # A nearly symmetric image may resemble its own mirror image more than itself moved by a pixel: both are tried.
        as_it_is = np.flatnonzero(way)
        found.append((queries[number[as_it_is]], nearest[as_it_is], 0 * as_it_is, np.full(len(as_it_is), at)))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def _chunk(numbers: np.ndarray) -> Iterator[np.ndarray]:
    for begin in range(0, len(numbers), CHUNK):
        yield numbers[begin : begin + CHUNK]


def _make_mask(shape: tuple[int, int], rows: slice) -> np.ndarray:
    """1 for the pixels that are compared: the given rows of cells, without the picture's edge."""
    mask = np.zeros(shape, np.float32)
    begin, end = (None if at is None else round(at * shape[0] / CELLS) for at in (rows.start, rows.stop))
    mask[begin:end] = 1
    mask[[0, -1]] = mask[:, [0, -1]] = 0
    return mask


def _align(one: np.ndarray, other: np.ndarray, rows: slice) -> np.ndarray:
    """Distances of pairs of pictures, `float32 [pairs, height, width, channels]`, each laid over the other as well as possible."""
    grey, other_grey = one.mean(axis=-1), other.mean(axis=-1)
    mask = _make_mask(one.shape[1:3], rows)
    is_simple = np.minimum(_measure_texture(grey), _measure_texture(other_grey)) < TEXTURED
    limits = np.array([SHIFT * one.shape[2], SHIFT * one.shape[1], TURN, SCALE], np.float32)
    limits = limits * np.where(is_simple[:, None], (1, 1, 0, 0), 1)
    distance = _measure_distance(one, np.broadcast_to(mask, grey.shape), other)
    alignment = np.zeros_like(limits)
    for _ in range(STEPS):
        _, change = _step(grey, other_grey, mask, alignment)
        alignment = np.clip(alignment + change, -limits, limits).astype(np.float32)
    moved, inside = _lay_over(one, alignment, mask)
    distance = np.minimum(distance, _measure_distance(moved, inside, other))
    for sharp, blurred in ((moved, other), (other, moved)):
        distance = np.minimum(distance, FITTED * _measure_blurred(sharp, inside, blurred))
    # A shift by whole pixels needs no interpolation, which would blur.
    shifted = np.round(alignment) * (1, 1, 0, 0)
    return np.minimum(distance, _measure_distance(*_lay_over(one, shifted.astype(np.float32), mask), other))


def _lay_over(images: np.ndarray, alignment: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moved, inside = _warp(images, alignment)
    return moved, mask * inside


def _step(
    grey: np.ndarray, other: np.ndarray, mask: np.ndarray, alignment: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One Gauss-Newton step that lays `grey` over `other`: the distance that it leaves to first order, and the change."""
    height, width = grey.shape[1:]
    if alignment.any():
        grey, inside = _warp(grey[..., None], alignment)
        grey, mask = grey[..., 0], mask * inside
    mask = np.broadcast_to(mask, grey.shape)
    one, other = _normalise(grey[..., None], mask)[..., 0], _normalise(other[..., None], mask)[..., 0]
    x, y = np.zeros_like(one), np.zeros_like(one)
    x[:, 1:-1, 1:-1] = (one[:, 1:-1, 2:] - one[:, 1:-1, :-2]) / 2
    y[:, 1:-1, 1:-1] = (one[:, 2:, 1:-1] - one[:, :-2, 1:-1]) / 2
    # The border of the mask is not an edge in the picture.
    inner = mask.copy()
    inner[:, 1:] *= mask[:, :-1]
    inner[:, :-1] *= mask[:, 1:]
    inner[:, :, 1:] *= mask[:, :, :-1]
    inner[:, :, :-1] *= mask[:, :, 1:]
    x, y = x * inner, y * inner
    down, right = _places(height, width)
    slopes = np.stack([x, y, y * right - x * down, x * right + y * down]).reshape(4, len(one), -1).transpose(1, 0, 2)
    difference = (other - one).reshape(len(one), -1)
    products = slopes @ slopes.transpose(0, 2, 1)
    # A little damping, so that a picture without structure is not moved.
    products += (1e-3 * np.trace(products, axis1=1, axis2=2) + 1e-9)[:, None, None] * np.eye(4, dtype=np.float32)
    pull = slopes @ (difference * inner.reshape(len(one), -1))[..., None]
    change = np.linalg.solve(products, pull)[..., 0]
    left = (difference**2).sum(axis=1) - (change * pull[..., 0]).sum(axis=1)
    return np.sqrt(np.maximum(left, 0)), change


def _places(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """How far each pixel is below and to the right of the centre, in pixels."""
    down, right = np.mgrid[:height, :width].astype(np.float32)
    return down - (height - 1) / 2, right - (width - 1) / 2


def _warp(images: np.ndarray, alignment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shifts, turns and scales each image by its own alignment, bilinearly; and which pixels lie inside the original."""
    n, height, width, channels = images.shape
    down, right = _places(height, width)
    scale = np.exp(alignment[:, 3])
    cosine, sine = (scale * of(alignment[:, 2]) for of in (np.cos, np.sin))
    shift_x, shift_y, cosine, sine = (v[:, None, None] for v in (*alignment.T[:2], cosine, sine))
    x = cosine * right - sine * down + shift_x + (width - 1) / 2
    y = sine * right + cosine * down + shift_y + (height - 1) / 2
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = np.clip(x, 0, width - 1.001), np.clip(y, 0, height - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    x, y = (x - left)[..., None], (y - top)[..., None]
    flat = images.reshape(-1, channels)
    first = (np.arange(n, dtype=np.int32)[:, None, None] * height + top) * width + left
    above = flat[first] * (1 - x) + flat[first + 1] * x
    below = flat[first + width] * (1 - x) + flat[first + width + 1] * x
    return above * (1 - y) + below * y, inside


def _normalise(images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Removes the mean inside the mask and scales to norm 1; outside the mask 0."""
    images = _remove_mean(images, mask)
    return images / np.maximum(np.sqrt((images**2).sum(axis=(1, 2, 3), keepdims=True)), 1e-6)


def _remove_mean(images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    mask = mask[..., None]
    count = np.maximum(mask.sum(axis=(1, 2, 3), keepdims=True) * images.shape[-1], 1)
    return (images - (images * mask).sum(axis=(1, 2, 3), keepdims=True) / count) * mask


def _measure_distance(one: np.ndarray, mask: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.sqrt(((_normalise(one, mask) - _normalise(other, mask)) ** 2).sum(axis=(1, 2, 3)))


def _measure_blurred(sharp: np.ndarray, mask: np.ndarray, blurred: np.ndarray) -> np.ndarray:
    """The distance once `sharp` is blurred as much as fits best: a share of 0 to 2 of what `smooth` takes away."""
    scale = 1 / np.maximum(np.abs(sharp).max(axis=(1, 2, 3), keepdims=True), 1e-6)
    whole, left = (_remove_mean(images * scale, mask) for images in (sharp, sharp - smooth(sharp)))
    other = _normalise(blurred, mask)
    size, both, rest, here, there = (
        np.einsum("nyxc,nyxc->n", *pair)
        for pair in ((whole, whole), (whole, left), (left, left), (whole, other), (left, other))
    )
    # Least squares of other = a * whole - b * left; the share is b / a.
    a, b = here * rest - there * both, here * both - there * size
    share = np.clip(np.where(a > 0, b / np.maximum(a, 1e-12), 0), 0, MOST_BLUR)
    norm = np.sqrt(np.maximum(size - 2 * share * both + share**2 * rest, 1e-12))
    return np.sqrt(np.maximum(2 - 2 * (here - share * there) / norm, 0))


def _measure_texture(grey: np.ndarray) -> np.ndarray:
    """The share of 8 x 8 cells that have structure: (sum of the squared gradients)^2 / sum of their squares / cells."""
    y, x = np.gradient(grey, axis=(1, 2))
    energy = average_cells(x**2 + y**2, CELLS, CELLS).reshape(len(grey), -1)
    return energy.sum(axis=1) ** 2 / np.maximum((energy**2).sum(axis=1) * energy.shape[1], 1e-12)


def _measure_spread(images: np.ndarray) -> float:
    """The root mean square distance between the vectors of two images, from at most 1,000 of them."""
    some = images[:: len(images) // 1000 + 1]
    mean = vectors(reduce(some, grey=False)).mean(axis=0)
    return max(float(np.sqrt(2 * (1 - (mean**2).sum()))), 1e-3)


def _halve(images: np.ndarray) -> np.ndarray:
    """Smoothed grey pictures of half the size, `float32 [n, height / 2, width / 2]`, in blocks to save memory."""
    blocks = (smooth(reduce(images[at : at + 1024], grey=False)).mean(axis=-1) for at in range(0, len(images), 1024))
    return np.concatenate([average_cells(block, *(-(-side // 2) for side in block.shape[1:])) for block in blocks])


def _make_coarse(images: np.ndarray) -> np.ndarray:
    """Grey pictures of 8 x 8 cells, `float32 [n, 8, 8]`, in blocks to save memory."""
    blocks = (reduce(images[at : at + 1024])[..., 0] for at in range(0, len(images), 1024))
    return np.concatenate([average_cells(block, CELLS, CELLS) for block in blocks])


def _turn(images: np.ndarray, way: int) -> np.ndarray:
    """One of the eight ways to turn and mirror pictures `[n, height, width, ...]`: even numbers keep height and width."""
    images = images[:, :, ::-1] if way % 4 >= 2 else images
    images = images[:, ::-1] if way >= 4 else images
    return np.swapaxes(images, 1, 2) if way % 2 else images


def _moved(images: np.ndarray) -> np.ndarray:
    """Vectors of tiny images without their edge: as they are, moved by a pixel in four directions, turned and mirrored."""
    height, width = images.shape[1] - 2, images.shape[2] - 2
    moved = [images[:, y : y + height, x : x + width] for y, x in ((0, 1), (2, 1), (1, 0), (1, 2))]
    ways = range(8) if height == width else (0, 2, 4, 6)
    return np.stack([vectors(variant) for variant in (*moved, *(_turn(_cut_edge(images), way) for way in ways))])


def _cut_edge(images: np.ndarray) -> np.ndarray:
    return images[:, 1:-1, 1:-1]


def smooth(images: np.ndarray) -> np.ndarray:
    """Averages over 3x3 pixels: then resized and blurred copies resemble the original."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = sum(padded[:, y : y + height] for y in range(3))
    return sum(rows[:, :, x : x + width] for x in range(3)) / 9
