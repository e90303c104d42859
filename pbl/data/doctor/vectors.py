"""Images as vectors that can be compared, and the nearest of them."""

import contextlib
import warnings
from collections.abc import Callable, Iterator

import numpy as np

BLOCK = 512, 2048  # queries and references at a time: 4 MB of cosines
LARGEST_SIDE = 32  # larger images are reduced to this side first


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Runs linear algebra on one thread inside the block: on products this small, several threads mostly wait for each other.

    It also hides a warning: scikit-learn passes an option to SciPy that newer versions of SciPy, such as Colab's, do not know.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unknown solver options")
        yield


def choose(n: int, cap: int, seed: int) -> np.ndarray:
    """At most `cap` of the numbers 0 to n - 1, in a random order; the same for the same seed."""
    return np.random.default_rng(seed).permutation(n)[:cap]


def is_constant(pixels: np.ndarray) -> np.ndarray:
    """Whether all pixels of an image are equal, `bool [n]`. One image at a time, to save memory."""
    return np.array([bool((image == image[0, 0]).all()) for image in pixels], bool)


def shrink(pixels: np.ndarray) -> np.ndarray:
    """Brings `uint8 [n, height, width, channels]` to at most 32 pixels a side; smaller ones are returned unchanged."""
    from PIL import Image

    if max(pixels.shape[1:3]) <= LARGEST_SIDE:
        return pixels
    size = tuple(min(side, LARGEST_SIDE) for side in (pixels.shape[2], pixels.shape[1]))
    if not len(pixels):
        return np.empty((0, size[1], size[0], pixels.shape[3]), np.uint8)
    images = (Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in pixels)
    small = np.stack([np.asarray(image.resize(size, Image.Resampling.BOX)) for image in images])
    return small.reshape(len(pixels), size[1], size[0], -1)


def reduce(pixels: np.ndarray, grey: bool = True) -> np.ndarray:
    """Makes `uint8 [n, height, width, channels]` grey and at most 32 pixels a side: float32 of the same rank."""
    pixels = shrink(pixels)
    if grey and pixels.shape[-1] == 3:
        return (pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    return pixels.astype(np.float32)


def vectors(images: np.ndarray) -> np.ndarray:
    """Removes each image's mean and scales it to norm 1: float32 [n, height * width * channels]."""
    vectors = images.reshape(len(images), -1)
    return scale_to_norm(vectors - vectors.mean(axis=1, keepdims=True))


def scale_to_norm(vectors: np.ndarray) -> np.ndarray:
    """Scales each row to norm 1; a row of zeros stays one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def average_cells(images: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Averages `float32 [n, height, width]` over equal cells, whose borders may cut pixels: `[n, rows, columns]`."""
    return _overlap(rows, images.shape[1]) @ images @ _overlap(columns, images.shape[2]).T


def _overlap(cells: int, pixels: int) -> np.ndarray:
    """The share of each cell that each pixel of a row or column fills, `float32 [cells, pixels]`."""
    edges, begins = np.linspace(0, pixels, cells + 1)[:, None], np.arange(pixels)
    shared = np.minimum(edges[1:], begins + 1) - np.maximum(edges[:-1], begins)
    return (np.maximum(shared, 0) * cells / pixels).astype(np.float32)


@one_thread()
def find_nearest(
    queries: np.ndarray, reference: Callable[[slice], np.ndarray], size: int, k: int, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the `k` nearest reference vectors of each query by cosine, the largest over the query's variants.

    It works in blocks that fit into the processor's cache; the work consists of matrix products.

    Args:
        queries: `float32 [variants, n, d]`, of norm 1.
        reference: Gives the vectors of a slice, `float32 [m, d]`, of norm 1.
        size: Their number.
        k: At most `size`, and less than that if `own` is given.
        own: `int [n]`, the number of each query in the reference, which is skipped.

    Returns:
        Cosines, largest first, and numbers of the references, both `[n, k]`.
    """
    n = queries.shape[1]
    best = np.full((n, k), -np.inf, np.float32)
    best_index = np.full((n, k), -1)
    for begin in range(0, size, BLOCK[1]):
        block = reference(slice(begin, begin + BLOCK[1]))
        for start in range(0, n, BLOCK[0]):
            rows = slice(start, start + BLOCK[0])
            cosines = queries[0, rows] @ block.T
            for variant in queries[1:, rows]:
                np.maximum(cosines, variant @ block.T, out=cosines)
            line = np.arange(len(cosines))
            if own is not None:
                inside = (own[rows] >= begin) & (own[rows] < begin + len(block))
                cosines[line[inside], own[rows][inside] - begin] = -np.inf
            for _ in range(min(k, len(block))):
                column = cosines.argmax(axis=1)
                value = cosines[line, column]
                cosines[line, column] = -np.inf
                # Replaces the worst so far if the new one is better.
                worst = best[rows].argmin(axis=1)
                better = value > best[rows][line, worst]
                best[start + line[better], worst[better]] = value[better]
                best_index[start + line[better], worst[better]] = begin + column[better]
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(best_index, order, axis=1)
