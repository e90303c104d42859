"""Where images come from. A source names its classes and yields examples: (image, label, name).

An image is an array, or the bytes of an image file, which `pbl.data.store` decodes; or `Unreadable`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pbl.data.doctor.finding import Finding
from pbl.errors import InputError, Sentence

Example = tuple[np.ndarray | bytes, int, str]  # uint8 [height, width, 1 or 3], or an image file's bytes; class; name


class Unreadable(InputError):
    """A file cannot be read. This says nothing about the image in it, so it is never skipped."""


class OutOfMemory(InputError):
    """There is not enough memory for an image. This says nothing about the image either."""


@dataclass(frozen=True)
class Source:
    """Examples by official split; each split is read only when it is needed.

    Args:
        class_names: Name of class 0, 1, ...
        train: Returns the training examples; if `test` is None, test and validation are split off from them.
        test: Returns the examples of the official test split, or None.
        val: Returns the examples of the official validation split, or None.
        channels: 1 or 3 if the source declares it, else None.
        findings: What was found while listing it, such as files that are not images; the data doctor reports it.
        masks: The folder of exact masks next to the images, or None: masks/crack/7.png, or crack/7_mask.png in it.
        has_masks: Whether an example has a `pbl.data.mask_files.Mask` in place of a class.
        has_boxes: Whether an example has `pbl.data.boxes.Boxes` in place of a class.
        most_boxes: The largest number of boxes that an image of any split has, at least 1.

    Example:
        >>> import numpy as np
        >>> from pbl.data import Source
        >>> images = np.zeros((2, 8, 8, 1), np.uint8)
        >>> source = Source(["cat", "dog"], train=lambda: ((image, label, f"{label}.png") for label, image in enumerate(images)))
        >>> [(image.shape, label, name) for image, label, name in source.train()]
        [((8, 8, 1), 0, '0.png'), ((8, 8, 1), 1, '1.png')]
    """

    class_names: list[str]
    train: Callable[[], Iterable[Example]]
    test: Callable[[], Iterable[Example]] | None = None
    val: Callable[[], Iterable[Example]] | None = None
    channels: int | None = None
    findings: tuple[Finding, ...] = ()
    masks: Path | None = None
    has_masks: bool = False
    has_boxes: bool = False
    most_boxes: int = 1


def from_arrays(
    images: Sequence[np.ndarray] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    class_names: Sequence[str] | None = None,
    test: tuple[Sequence[np.ndarray] | np.ndarray, Sequence[int] | np.ndarray] | None = None,
    val: tuple[Sequence[np.ndarray] | np.ndarray, Sequence[int] | np.ndarray] | None = None,
) -> Source:
    """Makes a source from arrays.

    Args:
        images: `uint8 [n, height, width]` or `[n, height, width, 1 or 3]`, 0 to 255, or a list of images of any sizes.
        labels: `int [n]`, 0 to the number of classes minus 1.
        class_names: Name of each class; "0", "1", ... unless given.
        test: Images and labels of an official test split. Without it 30% of `images` become the test split.
        val: Images and labels of an official validation split.

    Raises:
        InputError: Other types, shapes or value ranges; labels outside the classes; counts differ.

    Example:
        >>> import numpy as np
        >>> import pbl
        >>> images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
        >>> source = pbl.data.from_arrays(images, np.arange(60) % 2, ["cat", "dog"])
        >>> data = pbl.load_data(source)
        >>> data.class_names, len(data.images("train").labels), len(data.images("test").labels)
        (['cat', 'dog'], 36, 18)
    """
    labels = _check_labels(labels, images)
    if class_names is None:
        class_names = [str(number) for number in range(int(labels.max(initial=-1)) + 1)]
    if isinstance(class_names, str):
        raise InputError(
            "class_names is one word, '{name}'. Give a list with one name for each class.", name=class_names
        )

    def part(images, labels, purpose: str) -> Callable[[], Iterable[Example]]:
        labels = _check_labels(labels, images)
        return lambda: (
            (image[..., None] if np.ndim(image) == 2 else image, int(label), f"{purpose}/{number}")
            for number, (image, label) in enumerate(zip(images, labels, strict=True))
        )

    return Source(
        list(class_names),
        part(images, labels, "train"),
        part(*test, "test") if test else None,
        part(*val, "val") if val else None,
    )


def pair_arrays(
    train: tuple, test: tuple | None, val: tuple | None, class_names: Sequence[str] | None, what: str
) -> dict[str, tuple]:
    """Returns the splits that are given, each a pair of images and of their masks or boxes.

    Args:
        train, test, val: The pairs.
        class_names: Names of classes, or None.
        what: What belongs to the images: "masks" or "boxes".

    Raises:
        InputError: The names are one word; a split is not a pair, or has something without a length.
    """
    if isinstance(class_names, str):
        raise InputError(
            "class_names is one word, '{name}'. Give a list with one name for each class.", name=class_names
        )
    pairs = {split: pair for split, pair in (("train", train), ("test", test), ("val", val)) if pair is not None}
    for split, pair in pairs.items():
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise InputError(
                "{name} is a {kind}. Give a pair: (images, {what}).", name=split, kind=type(pair).__name__, what=what
            )
        for kind, arrays in zip(("images", what), pair, strict=True):
            if not hasattr(arrays, "__len__") or (isinstance(arrays, np.ndarray) and not arrays.ndim):
                raise InputError(
                    "{name}: the {what} are {kind}. Give an array, or a list of arrays.",
                    name=split,
                    what=kind,
                    kind=Sentence("a single number") if isinstance(arrays, np.ndarray) else type(arrays).__name__,
                )
    return pairs


def _check_labels(labels: Sequence[int] | np.ndarray, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or not (np.issubdtype(labels.dtype, np.integer) or not labels.size):
        raise InputError(
            "Labels are {dtype} of shape {shape}. Valid: one whole number for each image.",
            dtype=labels.dtype,
            shape=labels.shape,
        )
    if len(images) != len(labels):
        raise InputError(
            "{images} images but {labels} labels. Each image needs one label.", images=len(images), labels=len(labels)
        )
    return labels.astype(np.int64)  # MNIST's labels are uint8, in which -1 (no class) would overflow


def check_class_names(names: Sequence[str], source: str, fewest: int = 2) -> None:
    """Raises InputError unless the names are different words, at least `fewest`."""
    if not all(isinstance(name, str) and name for name in names):
        raise InputError("Data set '{source}': class names are words, not {names}.", source=source, names=names)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if list(names).count(name) > 1})
        raise InputError(
            "Data set '{source}': two classes have the same name: {twice}.", source=source, twice=", ".join(twice)
        )
    if len(names) < fewest:
        raise InputError(
            "Data set '{source}' has {n} class(es). Classification needs at least two.", source=source, n=len(names)
        )


def check_targets(source: Source, name: str, masks: bool = False, boxes: bool = False) -> None:
    """Raises InputError if a source has masks or boxes and none are wanted, or the reverse."""
    if source.has_boxes and not boxes:
        raise InputError("'{name}' has boxes: train with task=detection (load_data: boxes=True).", name=name)
    if boxes and not source.has_boxes:
        raise InputError(
            "'{name}' has {what} but no boxes. task=detection needs boxes: a folder of images and boxes (COCO, Pascal VOC or YOLO), or a function "
            "that returns pbl.data.from_boxed_arrays(images, boxes).",
            name=name,
            what=Sentence("masks") if source.has_masks else Sentence("classes"),
        )
    if source.has_masks and not masks:
        raise InputError("'{name}' has masks: train with task=segmentation (load_data: masks=True).", name=name)
    if masks and not source.has_masks:
        raise InputError(
            "'{name}' has classes but no masks. task=segmentation needs masks: a folder of images/ and masks/, or a function that returns "
            "pbl.data.from_masked_arrays(images, masks).",
            name=name,
        )


def check_example(example: Example, num_classes: int, source: str) -> Example:
    """Returns the example if it is what a `Source` must yield; else raises InputError with its name."""
    if not (isinstance(example, tuple) and len(example) == 3):
        raise InputError(
            "Data set '{source}' gives {kind}. An example is a tuple (image, label, name).",
            source=source,
            kind=Sentence("{n} values", n=len(example)) if isinstance(example, tuple) else type(example).__name__,
        )
    image, label, name = example
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8):
        found = type(image).__name__
        if isinstance(image, np.ndarray):
            found = str(image.dtype)
            if image.size:
                found = Sentence(
                    "{dtype} from {low:g} to {high:g}", dtype=image.dtype, low=image.min(), high=image.max()
                )
        raise InputError(
            "Image {name} of '{source}' is {found}. Images are uint8 arrays, 0 to 255: the model scales them.",
            name=name,
            source=source,
            found=found,
        )
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or not image.size:
        raise InputError(
            "Image {name} of '{source}' has the shape {shape}. Valid: [height, width, 1 or 3].",
            name=name,
            source=source,
            shape=image.shape,
        )
    check_label(label, num_classes, name, source)
    return example


def check_label(label: int, num_classes: int, name: str, source: str) -> None:
    """Raises InputError if an image's label is outside the classes."""
    if not 0 <= label < num_classes:
        raise InputError(
            "Image {name} of '{source}' has the label {label}, outside the {n} classes, 0 to {last}.",
            name=name,
            source=source,
            label=label,
            n=num_classes,
            last=num_classes - 1,
        )
