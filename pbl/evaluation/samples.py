"""Images from a generator, the same for the same seed; and the choice of real images for comparison."""

from typing import Any

import keras
import numpy as np

from pbl.errors import InputError
from pbl.evaluation.generation import MOST, MOST_TRAIN, Reference
from pbl.evaluation.image_judge import open_judge

AT_ONCE = 100  # images in every call of the generator, padded: otherwise the last bits would depend on the count
FEWEST = 40  # images to train the judge, and as many for comparison; with fewer nothing can be said


def generate_images(
    model: keras.Model, count: int, seed: int = 0, labels: np.ndarray | None = None, noise: np.ndarray | None = None
) -> np.ndarray:
    """Makes images, `uint8 [count, height, width, channels]`.

    Args:
        model: A model with a `generator` that makes pixels 0 to 255 from noise, or from noise and labels (`pbl.models.gan.GAN`).
        count: How many.
        seed: Seed of the noise: the first images of a seed are the same whatever the count.
        labels: `int [count]`, if the generator takes them.
        noise: `float [count, noise_size]`, instead of the seed's.

    Raises:
        InputError: The generator's pixels are not numbers.
    """
    size = find_noise_size(model)
    if noise is None:
        noise = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    filled = np.zeros((-(-count // AT_ONCE) * AT_ONCE, size), np.float32)
    filled[:count] = noise
    inputs: Any = filled
    if labels is not None:
        all_labels = np.zeros(len(filled), np.int32)
        all_labels[:count] = labels
        inputs = [filled, all_labels]
    pixels = model.generator.predict(inputs, batch_size=AT_ONCE, verbose=0)[:count]
    if not np.isfinite(pixels).all():
        raise InputError("The generator's pixels are not all numbers: its training diverged. Lower learning_rate.")
    return np.clip(np.round(pixels.astype(np.float32)), 0, 255).astype(np.uint8)


def find_noise_size(model: keras.Model) -> int:
    """From how many numbers a model's generator makes an image."""
    inputs = model.generator.inputs
    return int(inputs[0].shape[-1])


def takes_labels(model: keras.Model) -> bool:
    """Whether a model's generator takes the class to make as an input."""
    return len(model.generator.inputs) == 2


def share_out(hashes: list[str]) -> np.ndarray:
    """Which images train the judge, `bool [n]`: every second one in the order of their contents; the others are for comparison."""
    teaches = np.zeros(len(hashes), bool)
    teaches[np.argsort(np.array(hashes), kind="stable")[::2]] = True
    return teaches


def draw_labels(labels: np.ndarray, count: int) -> np.ndarray:
    """Labels for so many samples, each class in its share."""
    draw = np.random.default_rng(0)
    whole = np.tile(labels, count // max(len(labels), 1))
    return draw.permutation(np.concatenate([whole, draw.permutation(labels)[: count - len(whole)]])).astype(np.int32)


def choose_real(hashes: list[str]) -> np.ndarray:
    """The indices of at most 2,000 of some images, chosen by content."""
    return np.sort(np.argsort(np.array(hashes), kind="stable")[:MOST])


def check_count(data: Any) -> None:
    """Raises InputError if there are too few validation images to train the judge on half of them and compare with the other half."""
    images = len(data.images("val").labels)
    if images < 2 * FEWEST:
        raise InputError(
            "task=generation: {images} validation images are too few. Half of them train the judge, and generated images are compared with the "
            "other half: give at least {fewest}, with validation_fraction or more images.",
            images=images,
            fewest=2 * FEWEST,
        )


def make_reference(data: Any, images: Any, count: int, is_validation: bool) -> tuple[Reference, np.ndarray]:
    """Opens the judge, and computes its features of the real images.

    Args:
        data: The data: half of its validation images train the judge.
        images: The images to compare with; for validation the other half.
        count: Number of samples each time, at most; no more than there are real images.
        is_validation: Whether they are validation images.

    Returns:
        The reference, and the indices of the real images in it.

    Raises:
        InputError: There are too few images.
    """
    check_count(data)
    val = data.images("val")
    teaches = share_out(val.hashes)
    at = np.flatnonzero(~teaches) if is_validation else np.arange(len(images.labels))
    at = at[choose_real([images.hashes[number] for number in at])]
    taught = val.take(teaches)
    judge = open_judge(taught.pixels, taught.labels, data.num_classes)
    real = images.take(np.isin(np.arange(len(images.labels)), at))
    train = data.sample("train", MOST_TRAIN)
    return Reference(real.pixels, real.labels, train.pixels, judge, min(count, len(at))), at
