"""Data sets as `tf.data` pipelines: finite, split by content, raw pixels 0 to 255.

data = pbl.load_data("digits", batch_size=64)
model.fit(data.train, validation_data=data.val)
"""

import warnings
from collections.abc import Callable
from os import PathLike
from typing import Any, Literal

from pbl.config import Config
from pbl.data.augmentation import augment
from pbl.data.files import class_folders, npz_arrays, zip_archive
from pbl.data.images import decode_image, find_image_files, fit_image, read_image
from pbl.data.pipeline import Data, order_of_epoch, shorten
from pbl.data.sources import DATASETS, Source, from_arrays, open_source
from pbl.data.split import choose_fold, hash_image, hold_out
from pbl.data.store import Images
from pbl.errors import InputError

__all__ = [
    "DATASETS",
    "Data",
    "Images",
    "Source",
    "augment",
    "choose_fold",
    "class_folders",
    "decode_image",
    "find_image_files",
    "fit_image",
    "from_arrays",
    "hash_image",
    "hold_out",
    "load_data",
    "npz_arrays",
    "order_of_epoch",
    "read_image",
    "shorten",
    "zip_archive",
]

# Keras 3.15 says so of every `fit` on a tf.data.Dataset, though nobody passed it; the order is the data's own.
warnings.filterwarnings("ignore", message="`shuffle=True` was passed", category=UserWarning)


def load_data(
    source: str | Source | Callable[[], Source] = "digits",
    *,
    labels: Literal["int", "one_hot"] = "int",
    groups: str | Callable[[str], str] | None = None,
    **settings: Any,
) -> Data:
    """Loads a data set, split into train, validation and test.

    An official test split stays the test split and validation is 10% of train; else 30% are test and 15% of the rest
    validation. The split is stratified and depends on the images' content and `split_seed` alone (`pbl.data.split`).

    Args:
        source: "digits"; a TensorFlow Datasets name; the path of a folder of class folders, a `.zip` of one, or an `.npz`
            in Keras's layout (`pbl.data.files`); a name in `DATASETS`; a `Source`, or a function that returns one.
        labels: "int" for `sparse_categorical_crossentropy`, "one_hot" for `categorical_crossentropy`.
        groups: The setting `groups`, or a function from an image's name to the word of its group.
        **settings: Those settings of `pbl.Config` that concern data: `batch_size`, `seed` (of order and augmentation),
            `split_seed`, `validation_fraction`, `train_fraction`, `folds`, `fold`, `image_size`, `channels`, `fit`, `augmentation`,
            `leave_out`, `on_bad_image`, `memory_budget`, `class_weight`, `sample_weights`, `data_dir`.

    Raises:
        InputError: The source does not exist, is broken, or its images differ in size and `image_size` is not given; a
            setting is unknown or out of range.
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
        opened = open_source(name, checked.data_dir)
    else:
        opened = source() if callable(source) else source
    if not isinstance(opened, Source):
        raise InputError(
            "'{name}' is a {kind}. Give a name, a path, or what pbl.data.from_arrays(images, labels, class_names) returns.",
            name=name, kind=type(opened).__name__,
        )  # fmt: skip
    return Data(opened, name, checked, one_hot=labels == "one_hot", group_of=groups if callable(groups) else None)


DATA_SETTINGS = frozenset(
    "batch_size seed split_seed validation_fraction train_fraction folds fold groups image_size channels fit augmentation leave_out"
    " on_bad_image memory_budget class_weight sample_weights data_dir".split()
)
