"""A model on the disk, complete or not at all."""

import contextlib
import errno
import io
import json
import math
import os
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import IO

import h5py
import keras

from pbl.errors import InputError
from pbl.storage import replacing


def save_model(model: keras.Model, folder: Path, name: str, weights: bool = True, comment: dict | None = None) -> None:
    """Saves `<name>.keras` and, with `weights`, `<name>.weights.h5`, each complete or not at all.

    The weights are what `pbl` loads, without what the optimizer remembers: they can be read by an older Keras too. A model that Keras cannot describe (a
    layer without `get_config`, or with one that fails) is kept as weights alone, with a warning.

    Args:
        model: The model.
        folder: Where to.
        name: Of the files, without ending.
        weights: Whether `<name>.weights.h5` is written too.
        comment: Kept in the archive `<name>.keras` as its comment, in JSON.

    Raises:
        InputError: The disk is full or the folder cannot be written; the files that were there stay.
    """
    weights_file = folder / f"{name}.weights.h5"
    try:
        with replacing(folder / f"{name}.keras") as temporary:
            model.save(temporary)
            if comment is not None:
                with zipfile.ZipFile(temporary, "a") as archive:
                    archive.comment = json.dumps(comment).encode()
            if weights:
                copy_weights(temporary, weights_file, model)
    except InputError:
        raise
    except Exception as error:  # whatever a layer's own get_config raises: the training must not be lost for it
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        warnings.warn(f"{name}.keras was not written, since Keras cannot describe this model ({what})", stacklevel=2)
        if weights:
            variables = [*model.variables, *(model.optimizer.variables if model.optimizer else [])]
            needed = 1_000_000 + 5 * sum(
                math.prod(variable.shape) for variable in variables
            )  # 4 bytes each, and a margin
            with replacing(weights_file) as temporary:
                if shutil.disk_usage(folder).free < needed:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
                model.save_weights(temporary)
                temporary.write_bytes(_without_optimizers(temporary, model))


def copy_weights(archive_file: Path, weights_file: Path, model: keras.Model) -> None:
    """Copies the weights out of a model's `.keras` file, but for what its optimizers remember."""
    with (
        zipfile.ZipFile(archive_file) as archive,
        archive.open("model.weights.h5") as stored,
        replacing(weights_file) as temporary,
    ):
        temporary.write_bytes(_without_optimizers(stored, model))


def _without_optimizers(stored: IO[bytes] | Path, model: keras.Model) -> memoryview:
    """In memory, since HDF5 itself must never meet a full disk, on which it crashes the process."""
    optimizers = {
        name.lstrip("_") for name, value in vars(model).items() if isinstance(value, keras.optimizers.Optimizer)
    }
    copied = io.BytesIO()
    with h5py.File(stored, "r") as source, h5py.File(copied, "w") as target:
        target.attrs.update(source.attrs)
        for name in source:
            if name.lstrip("_") not in optimizers:
                source.copy(name, target)
    return copied.getbuffer()


def read_comment(file: Path) -> dict | None:
    """Returns the comment that `save_model` kept in a `.keras` file; None where there is none."""
    with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
        return json.loads(archive.comment)
    return None
