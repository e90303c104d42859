"""From a source to batches: `load_data` and what it returns."""

import hashlib
import itertools
import json
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from typing import Any, Literal

import numpy as np
import pandas as pd
import tensorflow as tf

from pbl.config import Augmentation, Config
from pbl.data.augmentation import augment, draw
from pbl.data.boxes import count_boxes
from pbl.data.catalogue import open_source
from pbl.data.doctor.copies import find_copies_with_other_labels
from pbl.data.doctor.counts import find_damaged_metadata
from pbl.data.doctor.examination import examine, examine_closely
from pbl.data.doctor.finding import SEVERITIES, Finding, Part
from pbl.data.look_alike import LOOK_ALIKE, group_look_alikes, read_groups
from pbl.data.paths import expand, names_beside, read_name
from pbl.data.source import Source, check_class_names, check_targets
from pbl.data.split import Sampler, choose_fold, find_groups, hold_out
from pbl.data.store import Images, Target, collect
from pbl.errors import InputError, Sentence, name_nearest

TEST_FRACTION = 0.3  # of all images, as the course teaches (7:3), if there is no official test split
VALIDATION_FRACTION = 0.15  # of the other 70%
OFFICIAL_VALIDATION_FRACTION = 0.1  # of an official training split
PROBE_SIZE = 2000
FEWEST_IDENTITIES = 6  # each of the three splits needs two, to tell them from each other

SplitName = Literal["train", "val", "test"]
DATA_SETTINGS = frozenset(
    "batch_size seed split_seed validation_fraction train_fraction folds fold groups image_size channels fit augmentation leave_out"
    " on_bad_image memory_budget class_weight sample_weights data_dir".split()
)

# Keras 3.15 shows this warning at every `fit` on a tf.data.Dataset, though nobody passed `shuffle`. Our data shuffle themselves.
warnings.filterwarnings("ignore", message="`shuffle=True` was passed", category=UserWarning)


def load_data(
    source: str | Source | Callable[[], Source] = "digits",
    *,
    labels: Literal["int", "one_hot"] = "int",
    groups: str | Callable[[str], str] | None = None,
    normal: Sequence[str] | None = None,
    fewest_classes: int = 2,
    masks: bool = False,
    boxes: bool = False,
    views: int = 1,
    identities: bool = False,
    **settings: Any,
) -> "Data":
    """Loads a data set, split into train, validation and test.

    Official splits are kept. Without an official test split, 30% of the images are test. Without an official validation split,
    validation is one of `folds`, or `validation_fraction` of the rest: if not given, 15%, and 10% beside an official test split. The
    choice is stratified, but for `identities`, and depends only on the images' content and `split_seed` (`pbl.data.split`).

    Args:
        source: "digits"; a TensorFlow Datasets name; the path of a folder of class folders, a `.zip` of one, or an `.npz`
            in Keras's layout (`pbl.data.archives`); a name in `DATASETS`; a `Source`, or a function that returns one.
        labels: "int" for `sparse_categorical_crossentropy`, "one_hot" for `categorical_crossentropy`.
        groups: The setting `groups`, or a function from the name of an image to the word of its group.
        normal: For anomaly detection, the names of the classes that are normal: `train`, and `val` as a `tf.data.Dataset`, contain
            only images of these. `images("val")` and the test split contain all images, for evaluation. The normal images are split as if
            there were no others. One class is then enough, and a split may have kinds that train does not have (`class_folders`).
        fewest_classes: 1 if no classes have to be told apart, as in generation.
        masks: Whether each image has a mask in place of a class (`pbl.data.mask_files`): a folder of `images/` and `masks/`, a `.zip` of
            one, an `.npz` with `x_train` and `m_train`, a TensorFlow Datasets name with a segmentation map, or a function that returns
            `from_masked_arrays(...)`. Splits are stratified by the class with the most pixels other than the background.
        boxes: Whether each image has boxes of objects in place of a class: a folder of images with COCO, Pascal VOC or YOLO annotations
            (`pbl.data.box_files`), a `.zip` of one, an `.npz` with `x_train` and `b_train`, a TensorFlow Datasets name with the feature
            `objects`, or a function that returns `from_boxed_arrays(...)`. Splits are stratified by the class of most boxes in an image;
            images without boxes count as one more class.
        views: With 2, `train` and `val` yield each image twice, augmented differently: `uint8 [batch, 2, height, width, channels]`, for
            contrastive learning. The views of `val` are the same each time.
        identities: Whether the classes are identities, such as persons: then all images of a class stay on one side of the split.
        **settings: The settings of `pbl.Config` that concern data: `batch_size`, `seed` (of order and augmentation),
            `split_seed`, `validation_fraction`, `train_fraction`, `folds`, `fold`, `image_size`, `channels`, `fit`, `augmentation`,
            `leave_out`, `on_bad_image`, `memory_budget`, `class_weight`, `sample_weights`, `data_dir`.

    Returns:
        The data: `train`, `val` and `test` are `tf.data.Dataset` of (images, labels) in batches, pixels 0 to 255; see `Data`.

    Raises:
        InputError: The source does not exist, is broken, or its images differ in size and `image_size` is not given; a
            setting is unknown or out of range.

    Example:
        >>> import pbl
        >>> data = pbl.load_data("digits", batch_size=64)
        >>> data.input_shape, data.num_classes
        ((8, 8, 1), 10)
        >>> {split: len(data.images(split).labels) for split in ("train", "val", "test")}
        {'train': 1069, 'val': 189, 'test': 539}
        >>> images, labels = next(iter(data.train))
        >>> tuple(images.shape), images.dtype.name
        ((64, 8, 8, 1), 'uint8')
    """
    for name in settings:
        if name in Config.model_fields and name not in DATA_SETTINGS:
            raise InputError(
                "load_data has no setting '{name}'. Valid: {valid}.", name=name, valid=", ".join(sorted(DATA_SETTINGS))
            )
    checked = Config(**settings, groups=groups if isinstance(groups, str) else None)
    if labels not in ("int", "one_hot"):
        raise InputError("labels='{labels}'. Valid: int, one_hot.", labels=labels)
    name = str(source) if isinstance(source, (str, PathLike)) else getattr(source, "__name__", "source")
    if isinstance(source, (str, PathLike)):
        opened = open_source(name, checked.data_dir, normal is not None or fewest_classes == 1, masks, boxes)
    else:
        opened = source() if callable(source) else source
    if not isinstance(opened, Source):
        raise InputError(
            "'{name}' is a {kind}. Give a name, a path, or what pbl.data.from_arrays(images, labels, class_names) returns.",
            name=name,
            kind=type(opened).__name__,
        )
    if boxes and masks:
        raise InputError("An image is learned with masks or with boxes: give one of masks=True and boxes=True.")
    check_targets(opened, name, masks, boxes)
    group_of = groups if callable(groups) else None
    fewest = 1 if normal is not None or boxes else fewest_classes  # one kind of object is enough
    return Data(
        opened,
        name,
        checked,
        one_hot=labels == "one_hot",
        group_of=group_of,
        normal=normal,
        fewest=fewest,
        views=views,
        identities=identities,
    )


class Data:
    """A source, split, and ready for `fit`, `evaluate` and `predict`; made by `load_data`.

    Attributes:
        train, val, test: Finite `tf.data.Dataset` of (images, labels): `uint8 [batch, height, width, channels]` and
            `int32 [batch]`, or one-hot `float32 [batch, classes]`. With `class_weight` or `sample_weights`, `train` has a third
            element: the weight of each image in the loss, `float32 [batch]`. Each pass over `train` has a new order, and augmentation
            if it is set; both depend only on `seed` and the number of the pass. The others keep their order and are never augmented.
            An official test split is read when it is first used.
        class_names: Name of class 0, 1, ...
        num_classes: Number of classes.
        input_shape: (height, width, channels).
        normal: Numbers of the classes that are normal; None if all classes are learned.
        masks: As in `Source`.
        has_masks: Whether the images have masks: then the second element of `train`, `val` and `test` is `uint8 [batch, height, width]`, the
            class of each pixel.
        has_boxes: Whether the images have boxes: then it is `float32 [batch, most_boxes, 5]`: left, top, right, bottom, in pixels of the
            image that the network sees, and class, 0 to `num_classes` - 1; rows that are not boxes are `[0, 0, 0, 0, -1]`.
        most_boxes: The largest number of boxes that an image of any split has.
        broken: Names of images that could not be decoded and were skipped, with the reasons.
        split: How the split was made, and the content hashes of its images: the content of `split.json`. With boxes, `images_by_class` counts the
            images in which a class occurs, so an image counts for each of its classes; there are also `boxes_by_class` and `without_boxes`.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        settings: Config,
        one_hot: bool,
        group_of: Callable[[str], str] | None = None,
        normal: Sequence[str] | None = None,
        fewest: int = 2,
        views: int = 1,
        identities: bool = False,
    ):
        self.name, self.class_names, self.num_classes = name, list(source.class_names), len(source.class_names)
        self._source, self._settings, self._one_hot = source, settings, one_hot
        self.augmentation = Augmentation(**settings.augmentation)
        if self.augmentation.mixes_labels and source.has_masks:
            raise InputError("MixUp and CutMix also mix labels, but masks cannot be mixed: leave them out.")
        if self.augmentation.mixes_labels and source.has_boxes:
            raise InputError("MixUp and CutMix also mix labels, but boxes cannot be mixed: leave them out.")
        if source.has_boxes and (normal is not None or views > 1 or identities):
            raise InputError(
                "Boxes work with one view of each image, without normal classes and identities: leave these out."
            )
        if self.augmentation.mixes_labels and views > 1:
            raise InputError(
                "MixUp and CutMix mix two images, but a view is made from one: leave them out of augmentation."
            )
        if self.augmentation.mixes_labels and not one_hot:
            raise InputError(
                "MixUp and CutMix mix labels too: set loss=categorical_crossentropy (load_data: labels='one_hot')."
            )
        check_class_names(self.class_names, name, fewest)
        self.normal, self.masks = _find_normal(normal, self.class_names), source.masks
        self.has_masks, self.has_boxes, self.most_boxes = source.has_masks, source.has_boxes, source.most_boxes
        self._views, self.identities = views, identities
        self._leave_out = _read_names(settings.leave_out)
        self._left_out: set[str] = set()
        self.broken: dict[str, str] = {}
        self._damaged_metadata: list[str] = []
        self._tensors: dict[int, tf.Tensor] = {}
        self._epoch = 0
        self._target = Target(
            settings.image_size,
            settings.channels or source.channels,
            settings.fit,
            settings.memory_budget,
            settings.on_bad_image,
            source.has_masks,
            source.most_boxes if source.has_boxes else 0,
        )
        everything = self._collect(source.train())
        self.input_shape = everything.view.shape[1:]
        self._target = replace(self._target, size=self.input_shape[:2], channels=self.input_shape[2])
        groups = _group(everything, settings.groups, group_of)
        if identities:
            groups = self._group_identities(everything, source)
        self._group_of = None if groups is None else dict(zip(everything.names, groups, strict=True))
        self._images, made_by = self._cut(everything, groups)
        self._samplers: dict[SplitName, tuple[Images, Sampler]] = {}
        if self.normal is not None:
            self._share_out_anomalies()
        if settings.train_fraction < 1:
            train = self._images["train"]
            self._images["train"] = train.take(  # here those that are chosen are kept
                hold_out(train.hashes, train.labels, settings.train_fraction, settings.split_seed, "train_fraction")
            )
        for purpose, images in self._images.items():
            if not len(images.labels):
                raise InputError(
                    "Data set '{name}' is too small: no image is left for {purpose}{groups}.",
                    name=name,
                    purpose=purpose,
                    groups=Sentence(
                        " (images of a group stay together: are there too few groups, or is one too large?)"
                    )
                    if settings.groups or group_of
                    else "",
                )
        # An official test split has not been read yet: it may contain the names that were not found.
        unknown = sorted(self._leave_out - self._left_out)
        if unknown and (source.test is None or not self._left_out):
            raise InputError(
                "leave_out={file} names {n} {n:image|images} that '{name}' does not have, such as {unknown}; its images are called {example}, ...",
                file=settings.leave_out,
                n=len(unknown),
                name=name,
                unknown=unknown[0],
                example=everything.names[0],
            )
        known = {name for images in self._images.values() for name in images.names}
        self._weights = _weigh(settings, self._images["train"], known if source.test is None else None)
        self.split = self._describe_split(made_by)

    def _describe_split(self, made_by: dict[str, dict]) -> dict[str, Any]:
        """The content of `split.json`."""
        return {
            "source": self.name,
            "split_seed": self._settings.split_seed,
            "made_by": made_by,
            "class_names": self.class_names,
            "input_shape": list(self.input_shape),
            "fit": self._settings.fit,
            "images": {purpose: len(images.labels) for purpose, images in self._images.items()},
            "images_by_class": {purpose: self._count_by_class(images) for purpose, images in self._images.items()},
            "left_out": len(self._left_out),
            "broken": self.broken,
            # 64 bits of each, sorted, so that the file does not depend on the order in which the images were found.
            "hashes": {purpose: shorten(images.hashes) for purpose, images in self._images.items()},
            **({"boxes_by_class": self._count_boxes(), "without_boxes": self._count_empty()} if self.has_boxes else {}),
        }

    def _count_by_class(self, images: Images) -> dict[str, int]:
        """How many images each class has; with boxes, in how many images it occurs."""
        labels = images.labels.tolist()
        if images.boxes is not None:
            labels = [int(c) for rows in images.boxes for c in np.unique(rows[rows[:, 4] >= 0, 4])]
        return {self.class_names[c]: n for c, n in sorted(Counter(labels).items())}

    def _count_boxes(self) -> dict[str, dict[str, int]]:
        """How many boxes each class has, by split."""
        counts = {
            split: Counter(of.boxes[of.boxes[..., 4] >= 0, 4].astype(int).tolist())
            for split, of in self._images.items()
        }
        return {split: {self.class_names[c]: n for c, n in sorted(of.items())} for split, of in counts.items()}

    def _count_empty(self) -> dict[str, int]:
        """How many images without boxes each split has."""
        return {split: int((count_boxes(images.boxes) == 0).sum()) for split, images in self._images.items()}

    def _collect(self, examples) -> Images:
        images, broken, left_out, damaged = collect(
            examples, self.name, self.num_classes, self._target, self._leave_out
        )
        self.broken.update(broken)
        self._left_out |= left_out
        self._damaged_metadata += damaged
        if isinstance(images.store, np.memmap):
            return images
        # One copy for TensorFlow and NumPy: `tf.constant` would make another. On the CPU, since GPU memory is for the model.
        self._tensors[id(images.store)] = tf.experimental.dlpack.from_dlpack(images.store.__dlpack__())
        images.store.setflags(write=False)
        return images

    def _cut(self, everything: Images, groups: list[str] | None) -> tuple[dict[str, Images], dict[str, dict]]:
        """Splits off test and validation if they are not official; also returns how, in the form of `read_made_by`."""
        source, settings = self._source, self._settings
        self.everything = everything
        if settings.fold and not settings.folds:
            raise InputError("fold={fold} needs folds, the number of folds, such as folds=5.", fold=settings.fold)
        if settings.validation_fraction and (settings.folds or source.val):
            raise InputError(
                "There is nothing to divide by validation_fraction={fraction}: {why}.",
                fraction=settings.validation_fraction,
                why=Sentence("folds are set")
                if settings.folds
                else Sentence("'{name}' has an official validation split", name=self.name),
            )
        if groups is not None and source.val and source.test:
            raise InputError(
                "There is nothing to divide by groups: '{name}' has official validation and test splits.",
                name=self.name,
            )
        images: dict[str, Images] = {}
        official = {"kind": "official", "groups": False}
        cut = {"kind": "share", "of": "rest", "groups": groups is not None}
        made_by = {"test": official, "val": official}
        is_test = np.zeros(len(everything.labels), bool)
        # Identities cannot be stratified, since all images of one stay together: they are chosen from all.
        strata = np.zeros_like(everything.labels) if self.identities else everything.labels
        if source.test is None:
            is_test = hold_out(everything.hashes, strata, TEST_FRACTION, settings.split_seed, "test", groups)
            images["test"] = everything.take(is_test)
            made_by["test"] = {**cut, "of": "not_val" if source.val else "all", "fraction": TEST_FRACTION}
        rest = everything.take(~is_test)
        rest_groups = None if groups is None else [groups[i] for i in np.flatnonzero(~is_test)]
        if source.val is not None:
            if settings.folds:
                raise InputError(
                    "'{name}' has an official validation split, so there is nothing to divide for folds={folds}.",
                    name=self.name,
                    folds=settings.folds,
                )
            images["train"], images["val"] = rest, self._collect(source.val())
            return images, made_by
        if settings.folds:
            if settings.fold >= settings.folds:
                raise InputError(
                    "fold={fold} of folds={folds}. Valid: 0 to {last}.",
                    fold=settings.fold,
                    folds=settings.folds,
                    last=settings.folds - 1,
                )
            is_val = choose_fold(
                rest.hashes, strata[~is_test], settings.folds, settings.fold, settings.split_seed, rest_groups
            )
            made_by["val"] = {**cut, "kind": "fold", "fold": settings.fold, "folds": settings.folds}
        else:
            fraction = settings.validation_fraction or (
                OFFICIAL_VALIDATION_FRACTION if source.test else VALIDATION_FRACTION
            )
            is_val = hold_out(rest.hashes, strata[~is_test], fraction, settings.split_seed, "val", rest_groups)
            made_by["val"] = {**cut, "fraction": fraction}
        images["train"], images["val"] = rest.take(~is_val), rest.take(is_val)
        return images, made_by

    def _group_identities(self, everything: Images, source: Source) -> list[str]:
        """The class of each image as the word of its group."""
        if self._settings.groups or source.test is not None or source.val is not None:
            raise InputError(
                "'{name}': here identities are split by class, and each one stays on one side. Omit groups, and give data without a validation or "
                "test split of their own.",
                name=self.name,
            )
        if len(self.class_names) < FEWEST_IDENTITIES:
            raise InputError(
                "'{name}' has {n} identities (classes); at least {fewest} are needed to keep some for validation and test.",
                name=self.name,
                n=len(self.class_names),
                fewest=FEWEST_IDENTITIES,
            )
        return [self.class_names[label] for label in everything.labels.tolist()]

    def _share_out_anomalies(self) -> None:
        """Takes the anomalies out of train. If the test split is our own, it gets 2 of 3 of them, and validation the others.

        An anomaly is left out if its exact pixels, or its group, are among the normal training images.
        """
        train, is_normal = self._images["train"], self.is_normal("train")
        self._images["train"] = train.take(is_normal)
        if self._source.test is None:
            words = self.groups_of(train.names) or train.hashes
            bound = {word for word, normal in zip(words, is_normal, strict=True) if normal} | set(
                self._images["train"].hashes
            )
            free = [
                word not in bound and content not in bound for word, content in zip(words, train.hashes, strict=True)
            ]
            spare = train.take(~is_normal & np.array(free))
            to_test = hold_out(
                spare.hashes, spare.labels, 2 / 3, self._settings.split_seed, "anomalies", self.groups_of(spare.names)
            )
            self._images["test"] = self._images["test"].join(spare.take(to_test))
            if self._source.val is None:
                self._images["val"] = self._images["val"].join(spare.take(~to_test))
        for split in ("train", "val"):
            if not self.is_normal(split).any():
                raise InputError(
                    "Data set '{name}' has no normal image ({normal}) in its {split} split. Training needs normal images in train, the threshold needs them in val.",
                    name=self.name,
                    split=split,
                    normal=", ".join(self.class_names[number] for number in self.normal),
                )

    def is_normal(self, split: SplitName) -> np.ndarray:
        """Whether each image of a split is of a class in `normal`, `bool [n]`."""
        return np.isin(self.images(split).labels, self.normal)

    def images(self, split: SplitName) -> Images:
        """Returns the images of a split as arrays, in their fixed order."""
        if split == "test" and "test" not in self._images:
            self._images["test"] = self._collect(self._source.test())
        return self._images[split]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that the training batches depend on: images, their order, labels, weights and settings."""
        images, settings = self._images["train"], self._settings
        digest = hashlib.sha256("".join(images.hashes).encode())
        digest.update(images.labels.tobytes())
        digest.update(b"" if self._weights is None else self._weights.tobytes())
        digest.update(images.masks.tobytes() if self.has_masks else b"")
        digest.update(images.boxes.tobytes() if self.has_boxes else b"")
        words = (
            settings.batch_size,
            settings.seed,
            self.augmentation.model_dump(),
            self.input_shape,
            settings.fit,
            self._one_hot,
            *([self._views] if self._views > 1 else []),
        )
        digest.update(json.dumps(words).encode())
        return digest.hexdigest()

    @cached_property
    def images_hash(self) -> str:
        """A hash of the training and validation images, their labels and shape. Runs are comparable if it is equal."""
        digest = hashlib.sha256(repr((self.input_shape, self._settings.fit, self.class_names)).encode())
        for split in ("train", "val"):
            images = self._images[split]
            order = np.argsort(images.hashes, kind="stable")
            digest.update("".join(np.array(images.hashes)[order]).encode() + images.labels[order].tobytes())
            digest.update(images.masks[order].tobytes() if self.has_masks else b"")
            if self.has_boxes:  # without the rows that are not boxes: their number depends on all splits
                boxes = images.boxes[order]
                digest.update(count_boxes(boxes).tobytes() + boxes[boxes[..., 4] >= 0].tobytes())
        return digest.hexdigest()[:16]

    def shrink(self, count: int) -> None:
        """Keeps only `count` training and `count` validation images, equally many of each class: for a trial."""
        for split in ("train", "val"):
            labels = self._images[split].labels
            place = pd.Series(labels).groupby(labels).cumcount().to_numpy()  # among those of its class
            chosen = np.zeros(len(labels), bool)
            chosen[np.argsort(place, kind="stable")[:count]] = True
            self._images[split] = self._images[split].take(chosen)
            if split == "train" and self._weights is not None:
                self._weights = self._weights[chosen]
            self.split["hashes"][split] = shorten(self._images[split].hashes)
            self.split["images"][split] = int(chosen.sum())
        for name in ("train", "val", "probe", "fingerprint", "images_hash"):
            self.__dict__.pop(name, None)

    def check(self, *splits: SplitName, fast: bool = False) -> list[Finding]:
        """Looks for faults in the data; see `pbl.data.doctor.examine`.

        Args:
            splits: The splits that are checked: "train", "val", and "test" if it is asked for.
            fast: Only the checks that take seconds.
        """
        findings = examine(*self._normal_parts(*splits), self.broken, self._official, fast, self._settings.fit)
        if (
            self.normal is not None or self.identities
        ):  # an anomaly that is a normal image too; one image under two identities
            findings += find_copies_with_other_labels(self.parts(*splits), self.class_names)
        findings += [*self._source.findings, *find_damaged_metadata(self._damaged_metadata)]
        return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))

    def check_closely(self, most: int) -> list[Finding]:
        """Runs the slow checks of train and validation, each on at most `most` images; see `pbl.data.doctor`."""
        return examine_closely(*self._normal_parts("train", "val"), self._official, most)

    @property
    def _official(self) -> set[str]:
        return {split for split, made_by in self.split["made_by"].items() if made_by["kind"] == "official"}

    def parts(self, *splits: SplitName) -> dict[str, Part]:
        """The splits in the form that `pbl.data.doctor` takes."""
        return {split: self.part(self.images(split)) for split in splits}

    def part(self, images: Images) -> Part:
        """Some of the images in the form that `pbl.data.doctor` takes."""
        return Part(
            images.view,
            images.labels,
            images.names,
            images.hashes,
            images.shapes,
            self.groups_of(images.names),
            images.mask_view if self.has_masks else None,
            images.boxes,
            images.box_faults,
        )

    def _normal_parts(self, *splits: SplitName) -> tuple[dict[str, Part], list[str]]:
        """What the doctor examines, and the names of its classes: for anomaly detection only the normal images, for identities all as one class."""
        if self.identities:  # each identity is in one split only, on purpose
            return {
                split: part._replace(labels=np.zeros_like(part.labels)) for split, part in self.parts(*splits).items()
            }, ["identity"]
        if self.normal is None:
            return self.parts(*splits), self.class_names
        images = {split: self.images(split).take(self.is_normal(split)) for split in splits}
        parts = {
            split: self.part(of)._replace(labels=np.searchsorted(self.normal, of.labels))
            for split, of in images.items()
        }
        return parts, [self.class_names[number] for number in self.normal]

    def groups_of(self, names: list[str]) -> list[str] | None:
        """The group of each image, None if no groups are set; "" for images of an official split, which have none."""
        return None if self._group_of is None else [self._group_of.get(name, "") for name in names]

    @cached_property
    def train(self) -> tf.data.Dataset:
        return self._one_epoch(self._next_epoch)

    @cached_property
    def val(self) -> tf.data.Dataset:
        if self._views > 1:
            return self._views_in_order(self._images["val"])
        if self.normal is None:
            return self.batches("val")
        return self.in_order(self._images["val"].take(self.is_normal("val")))

    @cached_property
    def test(self) -> tf.data.Dataset:
        return self.batches("test")

    @cached_property
    def probe(self) -> tf.data.Dataset:
        """A fixed, stratified sample of about 2,000 training images (all if there are fewer), in a fixed order, without augmentation."""
        return self.in_order(self.sample("train", PROBE_SIZE))

    def sample(self, split: SplitName, most: int) -> Images:
        """Returns about `most` images of a split, with each class in proportion, chosen by content; all if there are fewer."""
        images = self.images(split)
        if len(images.labels) <= most:
            return images
        if split not in self._samplers or self._samplers[split][0] is not images:
            self._samplers[split] = images, Sampler(images.hashes, images.labels, self._settings.split_seed, "probe")
        return images.take(self._samplers[split][1].choose(most))

    def batches(self, split: SplitName, inputs: np.ndarray | None = None, start_epoch: int = 0) -> tf.data.Dataset:
        """Returns a new pipeline of a split, like `train`, `val` and `test`.

        Args:
            split: "train" has a new order in each pass, beginning with that of `start_epoch`.
            inputs: Arrays to use in place of the pixels, such as features: `inputs[i]` belongs to image i of `images(split)`.
                They are not augmented.
            start_epoch: For "train": the first epoch, from 0.
        """
        if split != "train":
            return self.in_order(self.images(split), inputs)
        epochs = itertools.count(start_epoch)
        return self._one_epoch(lambda: next(epochs), inputs)

    def seek(self, epoch: int) -> None:
        """Makes the next pass over `train` begin with this epoch, counted from 0."""
        self._epoch = epoch

    def _next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch - 1

    def stream(self, start_epoch: int = 0, start_step: int = 0, inputs: np.ndarray | None = None) -> tf.data.Dataset:
        """Returns the batches of `train` from a given one on, without end.

        Every batch depends only on `seed`, epoch and step, augmentation included: an exact resume relies on this.

        Args:
            start_epoch: Epoch of the first batch, from 0.
            start_step: Its step in that epoch, from 0 to `steps_per_epoch` - 1.
            inputs: As for `batches`.
        """
        if not (0 <= start_step < self.steps_per_epoch and start_epoch >= 0):
            raise InputError(
                "stream({epoch}, {step}): there is no such batch; an epoch has the steps 0 to {last}.",
                epoch=start_epoch,
                step=start_step,
                last=self.steps_per_epoch - 1,
            )
        return self._shuffled(
            lambda: itertools.chain(
                [(start_epoch, start_step)], ((epoch, 0) for epoch in itertools.count(start_epoch + 1))
            ),
            inputs,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Number of training batches in one epoch."""
        return -(-len(self._images["train"].labels) // self._settings.batch_size)

    def in_order(self, images: Images, inputs: np.ndarray | None = None) -> tf.data.Dataset:
        """Returns the batches of some of the images, in their fixed order and without augmentation; `inputs` as for `batches`."""
        load = self._loader(images, inputs)
        return (
            tf.data.Dataset.range(len(images.labels))
            .batch(self._settings.batch_size)
            .map(load, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
            .with_options(_as_it_is())
        )

    def _views_in_order(self, images: Images) -> tf.data.Dataset:
        """The batches of some images in their fixed order, each image in two views that are the same each time."""
        load, size = self._loader(images, None), self._settings.batch_size
        numbers = self._draw(len(images.labels), 0)
        return (
            tf.data.Dataset.from_tensor_slices((np.arange(len(images.labels)), numbers))
            .batch(size)
            .map(lambda at, numbers: self._augment(*load(at), numbers), num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
            .with_options(_as_it_is())
        )

    def _draw(self, n: int, epoch: int) -> np.ndarray:
        """The random numbers of `n` images in an epoch, `float32 [n, 13]`, those of further views in further columns."""
        seed = self._settings.seed
        return np.concatenate([draw(n, self.augmentation, seed, epoch, view) for view in range(self._views)], axis=1)

    def _augment(self, images: tf.Tensor, labels: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Augments a batch; with two views it returns both, `[batch, 2, height, width, channels]`."""
        if self._views == 1:
            return augment(images, labels, numbers, self.augmentation)
        of_views = tf.split(numbers, self._views, axis=1)
        return tf.stack([augment(images, labels, of, self.augmentation)[0] for of in of_views], axis=1), labels

    def _one_epoch(self, next_epoch: Callable[[], int], inputs: np.ndarray | None = None) -> tf.data.Dataset:
        """The training batches of one epoch; each pass over the data set asks `next_epoch` which one."""
        return self._shuffled(lambda: iter([(next_epoch(), 0)]), inputs).apply(
            tf.data.experimental.assert_cardinality(self.steps_per_epoch)
        )

    def _shuffled(self, starts: Callable[[], Iterator[tuple[int, int]]], inputs: np.ndarray | None) -> tf.data.Dataset:
        """The training batches of the epochs in `starts`, each from its own step on."""
        images, size, seed = self._images["train"], self._settings.batch_size, self._settings.seed
        n, augmentation = len(images.labels), self.augmentation
        is_augmented = inputs is None and (augmentation != Augmentation() or self._views > 1)

        def plans() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for epoch, step in starts():
                numbers = self._draw(n, epoch) if is_augmented else np.zeros((n, 0), np.float32)
                yield order_of_epoch(n, seed, epoch)[step * size :], numbers[step * size :]

        load_as_it_is = self._loader(images, inputs)
        weights = None if self._weights is None else tf.constant(self._weights)

        def load(at: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, ...]:
            batch = load_as_it_is(at)
            if is_augmented:
                batch = self._augment(*batch, numbers)
            return batch if weights is None else (*batch, tf.gather(weights, at))

        # Image numbers are shuffled, then complete batches are gathered: so all images are shuffled without copying one.
        signature = (tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, None], tf.float32))
        return (
            tf.data.Dataset.from_generator(plans, output_signature=signature)
            .flat_map(lambda order, numbers: tf.data.Dataset.from_tensor_slices((order, numbers)).batch(size))
            .map(load, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
            .with_options(_as_it_is())
        )

    def _loader(self, images: Images, inputs: np.ndarray | None) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """Makes a function from numbers of `images` to what `fit` receives: pixels (or `inputs`), and labels, masks or boxes."""
        gather = self._gatherer(images, inputs)
        if self.has_masks:

            def part(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                together = gather(at)
                return together[..., :-1], together[..., -1]

            return part
        targets = self._targets(images)
        return lambda at: (gather(at), tf.gather(targets, at))

    def _gatherer(self, images: Images, inputs: np.ndarray | None) -> Callable[[tf.Tensor], tf.Tensor]:
        """Makes a function from numbers of `images` to what the model receives: pixels, or `inputs`."""
        if inputs is None and isinstance(images.store, np.memmap):
            store, index, shape = images.store, images.index, images.store.shape[1:]

            def read(at: tf.Tensor) -> tf.Tensor:
                pixels = tf.numpy_function(lambda at: store[index[at]], [at], tf.uint8)
                return tf.ensure_shape(pixels, [None, *shape])

            return read
        with tf.device("CPU"):
            if inputs is not None:
                values = tf.constant(inputs)
                return lambda at: tf.gather(values, at)
            values, index = self._tensors[id(images.store)], tf.constant(images.index)
        return lambda at: tf.gather(values, tf.gather(index, at))

    def _targets(self, images: Images) -> tf.Tensor:
        with tf.device("CPU"):
            if self.has_boxes:
                return tf.constant(images.boxes)
            return tf.constant(
                np.eye(self.num_classes, dtype=np.float32)[images.labels] if self._one_hot else images.labels
            )


def _group(images: Images, groups: str | None, group_of: Callable[[str], str] | None) -> list[str] | None:
    """The word of each image's group, by the setting `groups` or a function; None if there are no groups."""
    if group_of is None and groups == LOOK_ALIKE:
        return group_look_alikes(images.view, images.names)
    if group_of is None and groups is not None and groups.lower().endswith(".csv"):
        return read_groups(groups, images.names)
    return find_groups(images.names, groups, group_of)


def _find_normal(names: Sequence[str] | None, class_names: list[str]) -> list[int] | None:
    if names is None:
        return None
    for name in names:
        if name not in class_names:
            raise InputError(
                "normal: '{name}' is not a class. {nearest}", name=name, nearest=name_nearest(name, class_names)
            )
    if not names:
        raise InputError("normal names no class. Classes: {names}.", names=", ".join(class_names[:20]))
    return sorted(class_names.index(name) for name in set(names))


def _as_it_is() -> tf.data.Options:
    """Turns off rewriting of the pipeline: otherwise TensorFlow would write all images that it gathers from into the pipeline's graph."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return options


def order_of_epoch(n: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of `n` training images in an epoch: it depends only on `seed` and `epoch` (from 0).

    NumPy draws it, since TensorFlow's own shuffling also depends on its global seed.

    Example:
        >>> from pbl.data import order_of_epoch
        >>> first, again, next_epoch = (order_of_epoch(100, seed=0, epoch=epoch).tolist() for epoch in (0, 0, 1))
        >>> first == again, first == next_epoch, sorted(first) == list(range(100))
        (True, False, True)
    """
    return np.random.default_rng([seed, epoch]).permutation(n)


def shorten(hashes: Iterable[str]) -> list[str]:
    """Returns the part of content hashes that `split.json` keeps: their first 16 digits, sorted.

    Example:
        >>> from pbl.data import shorten
        >>> shorten(["b" * 64, "a" * 64])
        ['aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb']
    """
    return sorted(content[:16] for content in hashes)


def _read_names(file: str | None) -> frozenset[str]:
    if file is None:
        return frozenset()
    try:
        lines = expand(file).read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise InputError(
            "leave_out={file}: there is no such file. {near} Give a text file with one image name a line.",
            file=file,
            near=names_beside(expand(file)),
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "leave_out={file} cannot be read: {error}. Give a text file with one image name a line.",
            file=file,
            error=getattr(error, "strerror", None) or error,
        ) from None
    return frozenset(unicodedata.normalize("NFC", read_name(line)) for line in lines if line.strip())


def _weigh(settings: Config, images: Images, known: set[str] | None) -> np.ndarray | None:
    """Weight of each training image in the loss, `float32 [n]`; None if all are 1. `known`: names of all images."""
    weights = None
    if settings.sample_weights is not None:
        weights = _read_weights(settings.sample_weights, images.names, known)
    if settings.class_weight == "balanced":
        from sklearn.utils.class_weight import compute_sample_weight  # 1.4 s

        # n / (classes * n of the class). Keras does not accept class weights together with sample weights, so they are multiplied here.
        balanced = compute_sample_weight("balanced", images.labels).astype(np.float32)
        weights = balanced if weights is None else weights * balanced
    return weights


def _read_weights(file: str, names: list[str], known: set[str] | None) -> np.ndarray:
    try:
        table = pd.read_csv(expand(file), index_col=False, encoding="utf-8-sig", dtype={"name": str})
        weights = dict(zip(table["name"], table["weight"].astype(float), strict=True))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "sample_weights={file} cannot be read: {error}. Give a CSV file with the columns name and weight.",
            file=file,
            error=error,
        ) from None
    found = np.array([weights.get(name, 1.0) for name in names], np.float32)
    unknown = sorted(set(weights) - known) if known is not None else []
    twice = sorted(table["name"][table["name"].duplicated()])
    if unknown or twice or not set(names) & set(weights):
        raise InputError(
            "sample_weights={file} {what}; the training images are called {name}, ...",
            file=file,
            name=names[0],
            what=Sentence("names {image} twice", image=twice[0])
            if twice
            else Sentence("names {image}, which is not an image", image=unknown[0])
            if unknown
            else Sentence("names none of the training images"),
        )
    if not np.isfinite(found).all() or found.min() < 0 or not found.any():
        raise InputError("sample_weights={file}: weights must be 0 or more, and not all 0.", file=file)
    return found
