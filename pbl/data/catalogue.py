"""The catalogue of data sets: which source a name or a path stands for.

Your own data set is a function without arguments that returns a `Source`, most simply by `from_arrays`. Enter it in
`DATASETS` under the name by which the configuration calls it.
"""

import contextlib
import hashlib
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pbl.data.archives import npz_arrays, zip_archive
from pbl.data.box_files import TEXTS, boxed_folder
from pbl.data.box_reading import keep
from pbl.data.boxes import Boxes, find_most, tell_left_out, tell_set_aside
from pbl.data.doctor.finding import Finding
from pbl.data.folders import class_folders
from pbl.data.mask_files import NAMES_FILE, Mask, masked_folder
from pbl.data.mask_values import Coding, choose_coding, find_values, name_numbers
from pbl.data.paths import expand, looks_like_path
from pbl.data.source import Example, Source, from_arrays
from pbl.errors import InputError, Sentence, name_nearest


def digits() -> Source:
    """Handwritten digits, 1,797 real grey images of 8x8 pixels, bundled with scikit-learn: no download.

    The 17 grey levels of the original, 0 to 16, are spread over 0 to 255. Source: Alpaydin and Kaynak (1998), UCI
    Optical Recognition of Handwritten Digits, its test part.
    """
    from sklearn.datasets import load_digits  # takes 1.4 s, and only this source needs it

    bunch = load_digits()
    return from_arrays(
        (bunch.images * (255 / 16)).round().astype(np.uint8), bunch.target, [str(digit) for digit in range(10)]
    )


DATASETS: dict[str, Callable[[], Source]] = {"digits": digits}


MASK_FEATURES = ("mask", "segmentation", "annotation")  # parts of the names of features that are segmentation maps


LEFT_OUT = ("is_crowd", "is_difficult")  # features that mark objects that are not boxes to be learned


class UnknownDataset(InputError):
    """No data set has this name."""


# What the values of masks mean if the data set does not define it; the background first.
MEANINGS: dict[str, list[tuple[int, str]]] = {
    "oxford_iiit_pet": [(2, "background"), (1, "pet"), (3, "border")]  # Parkhi et al. 2012: trimaps
}


def tensorflow_dataset(
    name: str, data_dir: str | None = None, has_masks: bool = False, has_boxes: bool = False
) -> Source:
    """Opens a set of TensorFlow Datasets with classes, masks or boxes, downloading it once if there is a network.

    The official splits `train`, `validation` and `test` are kept as they are. Image bytes are decoded by
    `pbl.data.images`, like a file that is predicted.

    Args:
        name: Such as "mnist", "cifar10", "cats_vs_dogs" or "mnist:3.0.1".
        data_dir: Folder of prepared sets; else the variable `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
        has_masks: Whether the images' segmentation maps are wanted in place of their classes. What their values mean is defined by the
            data set (a `LabeledImage` with names), else by `MEANINGS`, else found as in a folder (`pbl.data.mask_files`).
        has_boxes: Whether the boxes in its feature `objects` are wanted (a sequence of `bbox` and `label`); crowds and difficult objects are
            left out.

    Raises:
        InputError: There is no set of this name, or it has no classes, masks or boxes; it is not prepared here and there is no network; or it cannot be read.
    """
    # With Colab's versions, tensorflow_metadata wants a newer protobuf than TensorFlow allows, and the import fails
    # (tensorflow/metadata issue 68). Its generated code works with the older one.
    os.environ.setdefault("TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK", "true")
    import tensorflow_datasets as tfds

    # TFDS reads the variable only when it is imported, so it would ignore one that a notebook sets later.
    data_dir = str(_choose_folder(data_dir))
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except ModuleNotFoundError as error:  # a set that is in another package, such as huggingface:mnist
        raise InputError(
            "Data set '{name}' needs the package {package}, which is not installed: pip install {package}.",
            name=name,
            package=error.name,
        ) from None
    except tfds.core.registered.DatasetNotFoundError:
        valid = [*DATASETS, *tfds.list_builders(with_community_datasets=False)]
        nearest = name_nearest(name, valid).fields.get("nearest")
        raise UnknownDataset(
            "No data set is called '{name}'. {nearest}Valid: {registered}, a TensorFlow Datasets name, or the path of a folder,"
            " a .zip or an .npz; see `python -m pbl datasets`.",
            name=name,
            nearest=Sentence("Did you mean '{nearest}'? ", nearest=nearest) if nearest else "",
            registered=", ".join(sorted(DATASETS)),
        ) from None
    except (AssertionError, ValueError) as error:  # a version or a configuration that does not exist
        if "Parsing builder name" in str(error):
            raise UnknownDataset(
                "No data set or folder is called '{name}'. Valid: {registered}, a TensorFlow Datasets name, or the path of a folder, a .zip or an .npz.",
                name=name,
                registered=", ".join(sorted(DATASETS)),
            ) from None
        raise InputError("Data set '{name}': {error}", name=name, error=error) from None
    except OSError as error:  # its description is damaged, or belongs to another user
        raise InputError(
            "Data set '{name}' in {data_dir} cannot be read: {reason}. Restore it from a copy, or let its owner allow others to read its files.",
            name=name,
            data_dir=data_dir,
            reason=error.strerror or "dataset_info.json",
        ) from None
    find_keys = _find_image_and_mask if has_masks else _find_image_and_objects if has_boxes else _find_image_and_label
    image_key, target_key = find_keys(builder, name)
    if not builder.info.splits:
        for folder in (Path(data_dir), Path(data_dir) / builder.name, Path(builder.data_path)):
            _check_readable(folder)  # TFDS treats a folder that cannot be read as missing
        _download(builder, name, data_dir)

    splits, features = builder.info.splits, builder.info.features
    if "train" not in splits:
        raise InputError("Data set '{name}' has no split 'train': it has {splits}.", name=name, splits=sorted(splits))
    coding, findings = None, []
    if has_boxes:
        return _open_boxes(builder, name, image_key, target_key)
    if has_masks:
        coding, findings = _find_coding(builder, image_key, target_key)

    def part(split: str) -> Callable[[], Iterable[Example]] | None:
        return (lambda: _Prepared(builder, split, image_key, target_key, coding)) if split in splits else None

    channels = {1: 1, 3: 3, 4: 3}.get(features[image_key].shape[-1])
    class_names = features[target_key].names if coding is None else list(coding.names)
    return Source(
        class_names,
        part("train"),
        part("test"),
        part("validation"),
        channels,
        findings=tuple(findings),
        has_masks=has_masks,
    )


class _Prepared:
    """The examples of a split that TensorFlow Datasets has prepared; decoded once, they are read from the cache (`store.collect`).

    Args:
        builder: The set.
        split: Such as "train".
        image_key, target_key: Names of the features with the image, and with its class, mask or objects.
        coding: What the masks' values mean; None if there are no masks.
    """

    def __init__(self, builder: Any, split: str, image_key: str, target_key: str, coding: Coding | None = None):
        self._builder, self._split, self._keys, self._coding = builder, split, (image_key, target_key), coding
        self.place = f"{builder.data_path} {split}" + (f" {target_key} {coding}" if coding else "")

    def __len__(self) -> int:
        return self._builder.info.splits[self._split].num_examples

    def __iter__(self) -> Iterator[Example]:
        for number, (content, target) in enumerate(self._read(self._keys)):
            name = f"{self._builder.name}/{self._split}/{number}"
            if isinstance(target, dict):
                yield content, self._make_boxes(target, number)[0], name
            elif self._coding is None:
                yield content, int(target), name
            else:
                yield content, Mask((target,), (self._name_mask(number),), self._coding), name

    def masks(self) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """Name of each mask, and a function that returns its file."""
        for number, (content,) in enumerate(self._read(self._keys[1:])):
            yield self._name_mask(number), partial(bytes, content)

    def _name_mask(self, number: int) -> str:
        return f"{self._builder.name}/{self._split}/{number}/{self._keys[1]}"

    def boxes(self) -> Iterator[tuple[Boxes, int]]:
        """The boxes of each image, and how many objects are left out."""
        for number, (objects,) in enumerate(self._read(self._keys[1:])):
            yield self._make_boxes(objects, number)

    def _make_boxes(self, objects: dict[str, np.ndarray], number: int) -> tuple[Boxes, int]:
        corners = np.asarray(objects["bbox"], np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]]  # ymin, xmin, ymax, xmax
        rows = np.concatenate([corners, np.asarray(objects["label"], np.float64).reshape(-1, 1)], axis=1)
        left_out = rows[:, 4] < 0  # their class is not given
        for name in LEFT_OUT:
            if name in objects:
                left_out |= np.asarray(objects[name], bool)
        called = f"{self._builder.name}/{self._split}/{number}/{self._keys[1]}"
        return Boxes(rows[~left_out], called, is_share=True), int(left_out.sum())

    def _read(self, keys: Sequence[str]) -> Iterator[tuple]:
        """Yields these features of each example; images as the content of their files."""
        import tensorflow as tf
        import tensorflow_datasets as tfds

        features = self._builder.info.features
        skipped = {key: tfds.decode.SkipDecoding() for key in keys if isinstance(features[key], tfds.features.Image)}
        try:
            wanted = {key: _list_wanted(features[key]) for key in keys}
            examples = self._builder.as_dataset(
                split=self._split,
                # Other features are not read: boxes, and images of many sizes, cannot be put into a batch.
                decoders=tfds.decode.PartialDecoding(wanted, decoders=skipped),
                read_config=tfds.ReadConfig(interleave_cycle_length=1),  # one file after the other: a fixed order
            )
            if any(isinstance(of, dict) for of in wanted.values()):
                for example in tfds.as_numpy(examples):
                    yield tuple(example[key] for key in keys)
                return
            for batch in tfds.as_numpy(examples.batch(256)):
                yield from zip(*(batch[key] for key in keys), strict=True)
        except tf.errors.OpError as error:
            reasons = {
                tf.errors.PermissionDeniedError: "Permission denied",
                tf.errors.NotFoundError: "No such file or directory",
            }
            raise InputError(
                "Data set '{name}' in {data_dir} cannot be read: {reason}. Restore it from a copy, or let its owner allow others to read its files.",
                name=self._builder.name,
                data_dir=self._builder.data_path,
                reason=reasons.get(type(error), Sentence("it is damaged")),
            ) from error

    def listing(self) -> str:
        """A digest of the files' names, sizes and times; of names alone if they are not on a disk of this machine."""
        status = []
        for file in sorted(map(Path, self._builder.info.splits[self._split].filepaths)):
            found = None
            with contextlib.suppress(OSError):
                found = file.stat()
            status.append((file.name, found and (found.st_size, found.st_mtime_ns)))
        return hashlib.sha256(repr(status).encode("utf-8", "surrogatepass")).hexdigest()


def _list_wanted(feature: Any) -> Any:
    """What is read of a feature: everything, or for a sequence of objects the parts that concern boxes."""
    inner = getattr(feature, "feature", None)
    return (
        {name: True for name in ("bbox", "label", *LEFT_OUT) if name in inner}
        if isinstance(inner, dict) or hasattr(inner, "keys")
        else True
    )


def _open_boxes(builder: Any, name: str, image_key: str, objects_key: str) -> Source:
    """The source of a set with boxes; all splits are read to find out how many boxes an image has."""
    features, official = builder.info.features, {"train": "train", "test": "test", "val": "validation"}
    parts = {
        split: _Prepared(builder, of, image_key, objects_key)
        for split, of in official.items()
        if of in builder.info.splits
    }
    listing = " ".join(part.listing() for part in parts.values())
    counts = keep(
        f"{builder.data_path} {objects_key}",
        listing,
        lambda: {split: [[len(of.rows), left_out] for of, left_out in part.boxes()] for split, part in parts.items()},
    )
    bare = [split for split, of in counts.items() if split != "train" and not any(count for count, _ in of)]
    kept = {split: of for split, of in counts.items() if split not in bare}
    names = [f"{builder.name}/{official[split]}/{at}" for split, of in kept.items() for at in range(len(of))]
    findings = tell_set_aside([official[split] for split in bare])
    findings += tell_left_out([left_out for of in kept.values() for _, left_out in of], names)
    return Source(
        features[objects_key].feature["label"].names,
        *((lambda part=parts[split]: part) if split in kept else None for split in ("train", "test", "val")),
        {1: 1, 3: 3, 4: 3}.get(features[image_key].shape[-1]),
        findings=tuple(findings),
        has_boxes=True,
        most_boxes=find_most([count for of in kept.values() for count, _ in of], names),
    )


def _is_objects(feature: Any) -> bool:
    """Whether a feature is a sequence of boxes and their classes."""
    import tensorflow_datasets as tfds

    inner = getattr(feature, "feature", None)
    return (
        hasattr(inner, "keys")
        and {"bbox", "label"} <= set(inner.keys())
        and isinstance(inner["bbox"], tfds.features.BBoxFeature)
        and isinstance(inner["label"], tfds.features.ClassLabel)
    )


def _find_image_and_objects(builder: Any, name: str) -> tuple[str, str]:
    """The names of the features that are the image, and a sequence of objects with `bbox` and `label`."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    objects = [key for key in features if _is_objects(features[key])]
    images = [key for key in features if isinstance(features[key], tfds.features.Image)]
    images = ["image"] if "image" in images else images
    if len(objects) != 1 or len(images) != 1:
        raise InputError(
            "Data set '{name}' has no image with one sequence of objects (bbox and label), which task=detection needs: it gives {keys}.",
            name=name,
            keys=", ".join(sorted(features)),
        )
    return images[0], objects[0]


def _find_image_and_label(builder, name: str) -> tuple[str, str]:
    import tensorflow_datasets as tfds

    features = builder.info.features
    image_key, label_key = builder.info.supervised_keys or (None, None)
    if not (
        isinstance(image_key, str)
        and isinstance(features[image_key], tfds.features.Image)
        and isinstance(features[label_key], tfds.features.ClassLabel)
    ):
        if any(_is_objects(features[key]) for key in features):
            raise InputError("'{name}' has boxes: train with task=detection (load_data: boxes=True).", name=name)
        raise InputError(
            "Data set '{name}' is not for image classification: it gives {keys}.",
            name=name,
            keys=", ".join(sorted(features)),
        )
    return image_key, label_key


def _find_image_and_mask(builder, name: str) -> tuple[str, str]:
    """The names of the features that are the image and its segmentation map: the supervised ones, else by their names."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = [key for key in features if isinstance(features[key], tfds.features.Image)]
    keys = builder.info.supervised_keys or ()
    if len(keys) == 2 and all(isinstance(key, str) and key in images for key in keys):
        return keys
    masks = [
        key
        for key in images
        if isinstance(features[key], tfds.features.LabeledImage) or any(word in key.lower() for word in MASK_FEATURES)
    ]
    pictures = [key for key in images if key not in masks]
    if "image" in pictures:
        pictures = ["image"]
    if len(masks) != 1 or len(pictures) != 1:
        raise InputError(
            "Data set '{name}' has no image with one segmentation map, which task=segmentation needs: it gives {keys}.",
            name=name,
            keys=", ".join(sorted(features)),
        )
    return pictures[0], masks[0]


def _find_coding(builder: Any, image_key: str, mask_key: str) -> tuple[Coding, list[Finding]]:
    """What the values of masks mean; if nothing defines it, all masks are read to find out."""
    if names := getattr(builder.info.features[mask_key], "names", None):
        return name_numbers(names, builder.name), []
    splits = [split for split in ("train", "validation", "test") if split in builder.info.splits]
    parts = [_Prepared(builder, split, image_key, mask_key) for split in splits]
    found = find_values(
        (mask for part in parts for mask in part.masks()),
        f"{builder.data_path} {mask_key}",
        " ".join(part.listing() for part in parts),
    )
    return choose_coding(found, MEANINGS.get(builder.name, []), builder.name)


def _download(builder, name: str, data_dir: str) -> None:
    if not _has_network():
        raise InputError(
            "Data set '{name}' is not prepared in {data_dir}, and there is no network to download it. Connect, or give the folder that contains it "
            "(data_dir=..., or the variable TFDS_DATA_DIR), or use dataset=digits, which needs none.",
            name=name,
            data_dir=data_dir,
        )
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
    """Asks one host of TensorFlow Datasets, through a proxy if one is set."""
    reached = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen("https://storage.googleapis.com/tfds-data/", timeout=seconds)
            reached.set()
        except urllib.error.HTTPError:
            reached.set()  # an error response is an answer too
        except OSError:
            pass
        finally:
            done.set()

    done = threading.Event()
    # In a separate thread, since looking up a name has no time limit.
    threading.Thread(target=ask, daemon=True).start()
    done.wait(seconds)
    return reached.is_set()


def open_source(
    name: str,
    data_dir: str | None = None,
    has_anomalies: bool = False,
    has_masks: bool = False,
    has_boxes: bool = False,
) -> Source:
    """Opens a source: a function in `DATASETS`, a path (see `open_path`), or a TensorFlow Datasets name.

    A bare word is a folder only if TensorFlow Datasets has no set of that name.

    Args:
        name: Name or path of the source.
        data_dir: As for `tensorflow_dataset`.
        has_anomalies: As for `class_folders`.
        has_masks: Whether each image has a mask; see `pbl.data.mask_files`, and `tensorflow_dataset`.
        has_boxes: Whether the images have boxes; see `pbl.data.box_files`, and `tensorflow_dataset`.

    Raises:
        InputError: There is none of this name, or a function of `DATASETS` returns something else.

    Example:
        >>> from pbl.data import open_source
        >>> len(list(open_source("digits").train()))
        1797
    """
    name = name if name in DATASETS else next((known for known in DATASETS if known.lower() == name.lower()), name)
    if name not in DATASETS:
        if looks_like_path(name):
            return open_path(name, has_anomalies, has_masks, has_boxes)
        try:
            return tensorflow_dataset(name, data_dir, has_masks, has_boxes)
        except UnknownDataset:
            if Path(name).is_dir():
                return open_path(name, has_anomalies, has_masks, has_boxes)
            raise
    source = DATASETS[name]()
    if not isinstance(source, Source):
        raise InputError(
            "DATASETS['{name}'] returned a {kind}. Return pbl.data.from_arrays(images, labels, class_names).",
            name=name,
            kind=type(source).__name__,
        )
    return source


def open_path(path: str, has_anomalies: bool = False, has_masks: bool = False, has_boxes: bool = False) -> Source:
    """Opens a folder, a `.zip` or an `.npz` by its path; the others as for `open_source`."""
    folder = (
        masked_folder
        if has_masks
        else boxed_folder
        if has_boxes
        else partial(class_folders, has_anomalies=has_anomalies)
    )
    kinds: dict[str, Callable[[str | Path], Source]] = {
        ".zip": partial(
            zip_archive,
            open_folder=folder,
            texts=frozenset({NAMES_FILE} if has_masks else ()),
            endings=TEXTS if has_boxes else frozenset(),
        ),
        ".npz": partial(npz_arrays, has_masks=has_masks, has_boxes=has_boxes),
    }
    place = expand(path)
    if place.is_file() and place.suffix.lower() not in kinds:
        raise InputError(
            "{path} is a file of another kind. Valid: a folder of class folders, a .zip of one, an .npz. Unpack it, or pack a .zip.",
            path=path,
        )
    return folder(path) if place.is_dir() else kinds.get(place.suffix.lower(), folder)(path)


def prepared_datasets(data_dir: str | None = None) -> tuple[str, list[str]]:
    """Returns the folder of prepared TensorFlow Datasets (see `tensorflow_dataset`), and the names of the sets in it.

    Raises:
        InputError: The folder cannot be read.
    """
    folder = _choose_folder(data_dir)
    _check_readable(folder)
    return str(folder), sorted({file.parent.parent.name for file in folder.glob("*/*/dataset_info.json")})


def _choose_folder(data_dir: str | None) -> Path:
    return expand(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def _check_readable(folder: Path) -> None:
    """Raises InputError if a folder exists, or may exist, and its content cannot be listed."""
    try:
        with os.scandir(folder):
            pass
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise InputError(
            "The folder {folder} of TensorFlow Datasets cannot be read: {reason}. Let its owner allow others to read it, or give another one "
            "(data_dir=..., or the variable TFDS_DATA_DIR).",
            folder=folder,
            reason=error.strerror,
        ) from None
