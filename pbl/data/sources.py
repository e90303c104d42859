"""Where images come from. A source names its classes and hands out examples: (image, label, name).

An image is an array, or the bytes of an image file, which `pbl.data.store` decodes.

A data set of your own is a function without arguments that returns a `Source`, most simply by `from_arrays`, entered in
`DATASETS` under the name by which the configuration calls it.
"""

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pbl.errors import InputError, Sentence, name_nearest

Example = tuple[np.ndarray | bytes, int, str]  # uint8 [height, width, 1 or 3], or an image file's bytes; class; name


@dataclass(frozen=True)
class Source:
    """Examples by official split, each read only when it is asked for.

    Args:
        class_names: Name of class 0, 1, ...
        train: Gives the examples to train on; where `test` is None, test and validation are cut from them.
        test: Gives the examples of the official test split, or None.
        val: Gives the examples of the official validation split, or None.
        channels: 1 or 3 where the source declares it, else None.
    """

    class_names: list[str]
    train: Callable[[], Iterable[Example]]
    test: Callable[[], Iterable[Example]] | None = None
    val: Callable[[], Iterable[Example]] | None = None
    channels: int | None = None


def from_arrays(
    images: Sequence[np.ndarray] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    class_names: Sequence[str] | None = None,
    test: tuple[Sequence[np.ndarray] | np.ndarray, Sequence[int] | np.ndarray] | None = None,
    val: tuple[Sequence[np.ndarray] | np.ndarray, Sequence[int] | np.ndarray] | None = None,
) -> Source:
    """Makes a source of arrays.

    Args:
        images: `uint8 [n, height, width]` or `[n, height, width, 1 or 3]`, 0 to 255, or a list of images of any sizes.
        labels: `int [n]`, 0 to the number of classes minus 1.
        class_names: Name of each class; "0", "1", ... unless given.
        test: Images and labels of an official test split. Without it 30% of `images` become the test split.
        val: Images and labels of an official validation split.

    Raises:
        InputError: Other types, shapes or value ranges; labels outside the classes; counts that differ.
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
    return labels.astype(np.int64)  # in uint8, as MNIST's are, the "-1" of no class would overflow


def check_class_names(names: Sequence[str], source: str) -> None:
    """Raises InputError unless the names are at least two different words."""
    if not all(isinstance(name, str) and name for name in names):
        raise InputError("Data set '{source}': class names are words, not {names}.", source=source, names=names)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if list(names).count(name) > 1})
        raise InputError(
            "Data set '{source}': two classes have one name: {twice}.", source=source, twice=", ".join(twice)
        )
    if len(names) < 2:
        raise InputError(
            "Data set '{source}' has {n} class(es). Classification needs at least two.", source=source, n=len(names)
        )


def check_example(example: Example, num_classes: int, source: str) -> Example:
    """Returns an example that is what a `Source` promises; raises InputError, with its name, for another."""
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
            "Image {name} of '{source}' is {found}. Images are uint8 arrays, 0 to 255: the model does the scaling.",
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
    if not 0 <= label < num_classes:
        raise InputError(
            "Image {name} of '{source}' has the label {label}, outside the {n} classes, 0 to {last}.",
            name=name,
            source=source,
            label=label,
            n=num_classes,
            last=num_classes - 1,
        )
    return example


def digits() -> Source:
    """Handwritten digits, 1,797 real grey images of 8x8 pixels, bundled with scikit-learn: no download.

    The 17 grey levels 0 to 16 of the original are spread over 0 to 255. Source: Alpaydin and Kaynak (1998), UCI
    Optical Recognition of Handwritten Digits, its test part.
    """
    from sklearn.datasets import load_digits  # 1.4 s, and only this source needs it

    bunch = load_digits()
    return from_arrays(
        (bunch.images * (255 / 16)).round().astype(np.uint8), bunch.target, [str(digit) for digit in range(10)]
    )


DATASETS: dict[str, Callable[[], Source]] = {"digits": digits}


class UnknownDataset(InputError):
    """No data set has this name."""


class DifferentSizes(InputError):
    """The images differ in size, or in their number of channels, and nothing says what they are brought to."""


def tensorflow_dataset(name: str, data_dir: str | None = None) -> Source:
    """Opens an image-classification set of TensorFlow Datasets, downloading it once where there is a network.

    The official splits `train`, `validation` and `test` are kept as they are. Image bytes are decoded by
    `pbl.data.images`, like a file that is predicted.

    Args:
        name: Such as "mnist", "cifar10", "cats_vs_dogs" or "mnist:3.0.1".
        data_dir: Folder of prepared sets; else the variable `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.

    Raises:
        InputError: No set of this name, none for image classification, or not prepared here and no network.
    """
    # On Colab's versions tensorflow_metadata wants a newer protobuf than TensorFlow allows, and the import would
    # break (tensorflow/metadata issue 68); its generated code does work with the older one.
    os.environ.setdefault("TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK", "true")
    import tensorflow_datasets as tfds

    # TFDS reads the variable when it is imported; set later, in a notebook cell, it would be ignored.
    data_dir, _ = prepared_datasets(data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        valid = [*DATASETS, *tfds.list_builders(with_community_datasets=False)]
        nearest = name_nearest(name, valid).fields.get("nearest")
        raise UnknownDataset(
            "No data set is called '{name}'. {nearest}Valid: {registered}, a TensorFlow Datasets name, or the path of a folder,"
            " a .zip or an .npz; see `python -m pbl datasets`.",
            name=name, nearest=Sentence("Did you mean '{nearest}'? ", nearest=nearest) if nearest else "",
            registered=", ".join(sorted(DATASETS)),
        ) from None  # fmt: skip
    except (AssertionError, ValueError) as error:  # a version or a configuration that does not exist
        if "Parsing builder name" in str(error):
            raise UnknownDataset(
                "No data set and no folder is called '{name}'. Valid: {registered}, a TensorFlow Datasets name, or the path of a folder, a .zip or an .npz.",
                name=name,
                registered=", ".join(sorted(DATASETS)),
            ) from None
        raise InputError("Data set '{name}': {error}", name=name, error=error) from None
    image_key, label_key = _find_image_and_label(builder, name)
    if not builder.info.splits:
        _download(builder, name, data_dir)

    def part(split: str) -> Callable[[], Iterable[Example]] | None:
        if split not in builder.info.splits:
            return None

        def examples() -> Iterable[Example]:
            batches = builder.as_dataset(
                split=split,
                decoders={image_key: tfds.decode.SkipDecoding()},
                read_config=tfds.ReadConfig(interleave_cycle_length=1),  # one file after the other: a fixed order
            ).batch(256)
            number = 0
            for batch in tfds.as_numpy(batches):
                for content, label in zip(batch[image_key], batch[label_key], strict=True):
                    example = f"{builder.name}/{split}/{number}"
                    yield content, int(label), example
                    number += 1

        return examples

    train, test, val = part("train"), part("test"), part("validation")
    if train is None:
        raise InputError(
            "Data set '{name}' has no split 'train': it has {splits}.", name=name, splits=sorted(builder.info.splits)
        )
    channels = {1: 1, 3: 3, 4: 3}.get(builder.info.features[image_key].shape[-1])
    return Source(builder.info.features[label_key].names, train, test, val, channels)


def _find_image_and_label(builder, name: str) -> tuple[str, str]:
    import tensorflow_datasets as tfds

    features = builder.info.features
    image_key, label_key = builder.info.supervised_keys or (None, None)
    if not (
        isinstance(image_key, str)
        and isinstance(features[image_key], tfds.features.Image)
        and isinstance(features[label_key], tfds.features.ClassLabel)
    ):
        raise InputError(
            "Data set '{name}' is not for image classification: it gives {keys}.",
            name=name,
            keys=", ".join(sorted(features)),
        )
    return image_key, label_key


def _download(builder, name: str, data_dir: str) -> None:
    if not _has_network():
        raise InputError(
            "Data set '{name}' is not prepared in {data_dir}, and there is no network to download it. Connect, or give the"
            " folder that holds it (data_dir=..., or the variable TFDS_DATA_DIR), or take dataset=digits, which needs none.",
            name=name, data_dir=data_dir,
        )  # fmt: skip
    import tensorflow_datasets as tfds

    try:
        builder.download_and_prepare()
    except (OSError, tfds.download.DownloadError) as error:  # requests' errors are OSErrors
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            "Data set '{name}' could not be downloaded to {data_dir}: {reason}",
            name=name,
            data_dir=data_dir,
            reason=reason[0],
        ) from error


def _has_network(seconds: float = 5) -> bool:
    """Asks one host of TensorFlow Datasets, through a proxy where one is set."""
    reached = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen("https://storage.googleapis.com/tfds-data/", timeout=seconds)
            reached.set()
        except urllib.error.HTTPError:
            reached.set()  # a refusal is an answer
        except OSError:
            pass
        finally:
            done.set()

    done = threading.Event()
    # In a thread of its own, since looking up a name has no time limit.
    threading.Thread(target=ask, daemon=True).start()
    done.wait(seconds)
    return reached.is_set()


def open_source(name: str, data_dir: str | None = None) -> Source:
    """Opens a source: a function in `DATASETS`, a path (see `pbl.data.files`), or a TensorFlow Datasets name.

    A bare word is a folder only where TensorFlow Datasets has no set of that name.

    Raises:
        InputError: There is none of this name, or a function of `DATASETS` returns something else.
    """
    from pbl.data.files import looks_like_path, open_path

    if name not in DATASETS:
        if looks_like_path(name):
            return open_path(name)
        try:
            return tensorflow_dataset(name, data_dir)
        except UnknownDataset:
            if Path(name).is_dir():
                return open_path(name)
            raise
    source = DATASETS[name]()
    if not isinstance(source, Source):
        raise InputError(
            "DATASETS['{name}'] returned a {kind}. Return pbl.data.from_arrays(images, labels, class_names).",
            name=name, kind=type(source).__name__,
        )  # fmt: skip
    return source


def prepared_datasets(data_dir: str | None = None) -> tuple[str, list[str]]:
    """Returns the folder of prepared TensorFlow Datasets (see `tensorflow_dataset`), and the names that stand in it."""
    folder = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    return str(folder), sorted({file.parent.parent.name for file in folder.glob("*/*/dataset_info.json")})
