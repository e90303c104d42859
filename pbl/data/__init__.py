"""Data sets as `tf.data` pipelines: finite, split by content, raw pixels 0 to 255.

data = pbl.load_data("digits", batch_size=64)
model.fit(data.train, validation_data=data.val)
"""

import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import tensorflow as tf

from pbl.config import Config
from pbl.data.images import decode_image, find_image_files, fit_image, read_image
from pbl.data.sources import DATASETS, Example, Source, check_class_names, check_example, from_arrays, open_source
from pbl.data.split import hash_image, hold_out
from pbl.errors import InputError

__all__ = [
    "DATASETS",
    "Data",
    "Images",
    "Source",
    "decode_image",
    "find_image_files",
    "fit_image",
    "from_arrays",
    "hash_image",
    "load_data",
    "read_image",
]

# Keras 3.15 says so of every `fit` on a tf.data.Dataset, though nobody passed it; the order is the data's own.
warnings.filterwarnings("ignore", message="`shuffle=True` was passed", category=UserWarning)

TEST_FRACTION = 0.3  # of everything, as the course teaches (7:3), where there is no official test split
VALIDATION_FRACTION = 0.15  # of the other 70%
OFFICIAL_VALIDATION_FRACTION = 0.1  # of an official training split

SplitName = Literal["train", "val", "test"]


class Images(NamedTuple):
    """The images of one split, in memory."""

    pixels: np.ndarray  # uint8 [n, height, width, channels]
    labels: np.ndarray  # int32 [n]
    names: list[str]  # n
    hashes: list[str]  # n, SHA-256 of the pixels before resizing

    def take(self, chosen: np.ndarray) -> "Images":
        """Returns the images where `chosen`, `bool [n]`, is true."""
        index = np.flatnonzero(chosen)
        return Images(
            self.pixels[index], self.labels[index], [self.names[i] for i in index], [self.hashes[i] for i in index]
        )


class Data:
    """A source, split, and ready for `fit`, `evaluate` and `predict`; made by `load_data`.

    Attributes:
        train, val, test: Finite `tf.data.Dataset` of (images, labels): `uint8 [batch, height, width, channels]` and
            `int32 [batch]`, or one-hot `float32 [batch, classes]`. `train` comes in a new order each time that it is
            gone through, a function of `seed` and of how often that was; the others keep theirs. An
            official test split is read at first use.
        class_names: Name of class 0, 1, ...
        num_classes: Their count.
        input_shape: (height, width, channels).
        split: How the split was made, and the content hashes of its images: what `split.json` holds.
    """

    def __init__(self, source: Source, name: str, settings: Config, one_hot: bool):
        self.name, self.class_names, self.num_classes = name, list(source.class_names), len(source.class_names)
        self._source, self._settings, self._one_hot = source, settings, one_hot
        check_class_names(self.class_names, name)

        everything, self.input_shape = _collect(
            source.train(),
            name,
            self.num_classes,
            settings.image_size,
            settings.channels or source.channels,
            settings.fit,
        )
        labels, hashes = everything.labels, everything.hashes
        self._images: dict[str, Images] = {}
        made_by = {"test": "official", "val": "official"}
        is_test = np.zeros(len(labels), bool)
        if source.test is None:
            is_test = hold_out(hashes, labels, TEST_FRACTION, settings.split_seed, "test")
            self._images["test"] = everything.take(is_test)
            made_by["test"] = f"{TEST_FRACTION:.0%} of all images, by content"
        rest = everything.take(~is_test)
        if source.val is None:
            fraction = settings.validation_fraction or (
                OFFICIAL_VALIDATION_FRACTION if source.test else VALIDATION_FRACTION
            )
            is_val = hold_out(rest.hashes, rest.labels, fraction, settings.split_seed, "val")
            self._images["train"], self._images["val"] = rest.take(~is_val), rest.take(is_val)
            made_by["val"] = f"{fraction:.0%} of the images that are not test, by content"
        else:
            self._images["train"] = rest
            self._images["val"], _ = _collect(
                source.val(), name, self.num_classes, self.input_shape[:2], self.input_shape[2], settings.fit
            )
        for purpose, images in self._images.items():
            if not len(images.labels):
                raise InputError(
                    "Data set '{name}' is too small: no image is left for {purpose}.", name=name, purpose=purpose
                )

        self.split = {
            "source": name,
            "split_seed": settings.split_seed,
            "made_by": made_by,
            "class_names": self.class_names,
            "input_shape": list(self.input_shape),
            "fit": settings.fit,
            "images": {purpose: len(images.labels) for purpose, images in self._images.items()},
            "images_by_class": {
                purpose: {self.class_names[c]: n for c, n in sorted(Counter(images.labels.tolist()).items())}
                for purpose, images in self._images.items()
            },
            # 64 bits of each, sorted: the same file whatever the order in which the images were found.
            "hashes": {purpose: shorten(images.hashes) for purpose, images in self._images.items()},
        }

    def images(self, split: SplitName) -> Images:
        """Returns the images of a split as arrays, in their fixed order."""
        if split == "test" and "test" not in self._images:
            self._images["test"], _ = _collect(
                self._source.test(),
                self.name,
                self.num_classes,
                self.input_shape[:2],
                self.input_shape[2],
                self._settings.fit,
            )
        return self._images[split]

    @cached_property
    def train(self) -> tf.data.Dataset:
        return self.batches("train")

    @cached_property
    def val(self) -> tf.data.Dataset:
        return self.batches("val")

    @cached_property
    def test(self) -> tf.data.Dataset:
        return self.batches("test")

    def batches(self, split: SplitName, inputs: np.ndarray | None = None) -> tf.data.Dataset:
        """Returns a new pipeline of a split, like `train`, `val` and `test`.

        Args:
            split: "train" comes in a new order each time, beginning with that of the first epoch.
            inputs: What stands in place of the pixels, such as features: `inputs[i]` belongs to image i of `images(split)`.
        """
        images = self.images(split)
        with tf.device("CPU"):  # a GPU's memory is for the model
            pixels = tf.constant(images.pixels if inputs is None else inputs)
            labels = tf.constant(
                np.eye(self.num_classes, dtype=np.float32)[images.labels] if self._one_hot else images.labels
            )
        # Numbers are shuffled and whole batches gathered: the full set is shuffled without copying an image.
        n = len(images.labels)
        order = self._shuffled(n) if split == "train" else tf.data.Dataset.range(n)
        return (
            order.batch(self._settings.batch_size)
            .map(
                lambda index: (tf.gather(pixels, index), tf.gather(labels, index)), num_parallel_calls=tf.data.AUTOTUNE
            )
            .prefetch(tf.data.AUTOTUNE)
        )

    def _shuffled(self, n: int) -> tf.data.Dataset:
        """The numbers 0 to n - 1 in the order of epoch 0, 1, 2, ...: one epoch for each time it is gone through."""
        epochs = itertools.count()
        orders = tf.data.Dataset.from_generator(
            lambda: iter([order_of_epoch(n, self._settings.seed, next(epochs))]),
            output_signature=tf.TensorSpec([n], tf.int64),
        )
        return orders.unbatch().apply(tf.data.experimental.assert_cardinality(n))


def order_of_epoch(n: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order in which `n` training images come: a function of `seed` and `epoch` (from 0) alone.

    NumPy draws it, since TensorFlow's own shuffling also depends on its global seed.
    """
    return np.random.default_rng([seed, epoch]).permutation(n)


def shorten(hashes: Iterable[str]) -> list[str]:
    """Returns what `split.json` keeps of content hashes: their first 16 digits, sorted."""
    return sorted(content[:16] for content in hashes)


def _collect(
    examples: Iterable[Example],
    name: str,
    num_classes: int,
    size: tuple[int, int] | None,
    channels: int | None,
    fit: str,
) -> tuple[Images, tuple[int, int, int]]:
    pixels, labels, names, hashes = [], [], [], []
    wanted_size, wanted_channels = size, channels
    for image, label, example in (check_example(example, num_classes, name) for example in examples):
        size, channels = size or image.shape[:2], channels or image.shape[2]
        if wanted_size is None and image.shape[:2] != size:
            raise InputError(
                "The images of '{name}' differ in size ({first} and {other} pixels). Give image_size=64, or any other.",
                name=name, first="x".join(map(str, size)), other="x".join(map(str, image.shape[:2])),
            )  # fmt: skip
        if wanted_channels is None and image.shape[2] != channels:
            raise InputError("'{name}' mixes grey and colour images. Give channels=3 or channels=1.", name=name)
        hashes.append(hash_image(image))
        pixels.append(fit_image(image, size, channels, fit))
        labels.append(label)
        names.append(example)
    if not pixels:
        raise InputError("Data set '{name}' holds no image.", name=name)
    return Images(np.stack(pixels), np.array(labels, np.int32), names, hashes), (*size, channels)


def load_data(
    source: str | Source | Callable[[], Source] = "digits",
    *,
    batch_size: int = 64,
    seed: int = 0,
    split_seed: int = 0,
    validation_fraction: float | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: Literal[1, 3] | None = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    labels: Literal["int", "one_hot"] = "int",
    data_dir: str | None = None,
) -> Data:
    """Loads a data set, split into train, validation and test.

    An official test split stays the test split and validation is 10% of train; else 30% are test and 15% of the rest
    validation. The split is stratified and depends on the images' content and `split_seed` alone (`pbl.data.split`).

    Args:
        source: "digits", a TensorFlow Datasets name, a name in `DATASETS`, a `Source`, or a function that returns one.
        batch_size: Images a batch; the last one of an epoch may be smaller.
        seed: Seed of the order in which `train` comes.
        split_seed: Seed of the split.
        validation_fraction: Share of the non-test images for validation, where no official validation split exists.
        image_size: Height and width in pixels, or one number for both; by default the images' own.
        channels: 1 (grey) or 3 (colour); by default the images' own.
        fit: How images of another shape are brought to `image_size`; see `pbl.data.images.fit_image`.
        labels: "int" for `sparse_categorical_crossentropy`, "one_hot" for `categorical_crossentropy`.
        data_dir: Folder of prepared TensorFlow Datasets.

    Raises:
        InputError: The source does not exist, is broken, or its images differ in size and `image_size` is not given.
    """
    # The settings of a run say what is valid here too.
    settings = Config(
        batch_size=batch_size,
        seed=seed,
        split_seed=split_seed,
        validation_fraction=validation_fraction,
        image_size=image_size,
        channels=channels,
        fit=fit,
        data_dir=data_dir,
    )
    if labels not in ("int", "one_hot"):
        raise InputError("labels='{labels}'. Valid: int, one_hot.", labels=labels)
    name = source if isinstance(source, str) else getattr(source, "__name__", "source")
    opened = open_source(source, data_dir) if isinstance(source, str) else source() if callable(source) else source
    if not isinstance(opened, Source):
        raise InputError(
            "'{name}' is a {kind}. Give a name, or what pbl.data.from_arrays(images, labels, class_names) returns.",
            name=name, kind=type(opened).__name__,
        )  # fmt: skip
    return Data(opened, name, settings, one_hot=labels == "one_hot")
