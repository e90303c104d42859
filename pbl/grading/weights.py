"""Weights of strangers: an HDF5 file is checked from end to end before Keras reads it; only in the locked worker.

HDF5 can read other files (external storage, external links, virtual data sets), load programs (filters), and declare more than
it contains. Keras's own weight files use none of that: plain groups, hard links, complete uncompressed arrays. So nothing else is
accepted, and what a file declares can never be larger than the file itself.
"""

import hashlib
import math
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np
from h5py import h5a, h5d, h5f, h5g, h5l, h5o, h5s, h5t

from pbl.grading.refusals import Refusal, clean

MOST_OBJECTS, MOST_DEPTH, MOST_ATTRIBUTES, MOST_ATTRIBUTE_BYTES = 20_000, 32, 64, 65_536
# A compiled model's file also contains its optimizer, which a grader does not need.
_LEFT_ASIDE = "optimizer"


class Array(NamedTuple):
    """The declared properties of a data set."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def walk(path: Path, called: str) -> dict[str, Array]:
    """Goes through an HDF5 file without reading any array.

    Args:
        path: The file.
        called: Its name in sentences.

    Returns:
        Each data set, by its path in the file.

    Raises:
        Refusal: The file is damaged, or contains something that Keras does not write.
    """
    size = path.stat().st_size
    if not size:
        raise Refusal("empty_file", file=called)
    try:
        file = h5f.open(str(path).encode(), h5f.ACC_RDONLY)
    except (OSError, ValueError, RuntimeError):
        raise Refusal("damaged", file=called) from None
    try:
        return _walk(file, size, called)
    except Refusal:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, UnicodeDecodeError, OverflowError):
        raise Refusal("damaged", file=called) from None
    finally:
        file.close()


def _walk(file: Any, size: int, called: str) -> dict[str, Array]:
    def refuse(name: str, what: str) -> None:
        raise Refusal("hdf5_rule", file=called, name=clean(name), what=what)

    if file.get_create_plist().get_userblock():
        refuse("/", "something stands before the data")
    arrays: dict[str, Array] = {}
    seen: set[Any] = set()
    total = 0
    waiting = [("", h5g.open(file, b"/"), 0)]
    while waiting:
        path, group, depth = waiting.pop()
        _check_attributes(group, path or "/", refuse)
        for name in group:
            text = name.decode("utf-8")
            here = f"{path}/{text}"
            if depth > MOST_DEPTH or len(seen) > MOST_OBJECTS:
                refuse(here, "too many or too deeply nested entries")
            if group.links.get_info(name).type != h5l.TYPE_HARD:
                refuse(here, "a link to another place or file")
            entry = h5o.open(group, name)
            address = h5o.get_info(entry).addr
            if address in seen:
                refuse(here, "one entry under two names")
            seen.add(address)
            if isinstance(entry, h5g.GroupID):
                waiting.append((here, entry, depth + 1))
            elif isinstance(entry, h5d.DatasetID):
                _check_attributes(entry, here, refuse)
                arrays[here], stored = _check_dataset(entry, here, size, refuse)
                total += stored
            else:
                refuse(here, "neither a group nor an array")
    if total > size:
        refuse("/", "it declares more bytes than it holds")
    return arrays


def _check_dataset(dataset: Any, name: str, size: int, refuse: Any) -> tuple[Array, int]:
    plan = dataset.get_create_plist()
    if plan.get_layout() not in (h5d.COMPACT, h5d.CONTIGUOUS):
        refuse(name, "an array in pieces or of other arrays")
    if plan.get_nfilters():
        refuse(name, "a compressed or otherwise filtered array")
    if plan.get_layout() == h5d.CONTIGUOUS and plan.get_external_count():
        refuse(name, "an array that lies in another file")
    kind = dataset.get_type()
    if not isinstance(kind, (h5t.TypeIntegerID, h5t.TypeFloatID, h5t.TypeEnumID)) or kind.get_size() > 8:
        refuse(name, "an array of something else than numbers")
    space = dataset.get_space()
    if space.get_simple_extent_type() not in (h5s.SCALAR, h5s.SIMPLE):
        refuse(name, "an array without a shape")
    shape = space.get_simple_extent_dims()
    dtype = dataset.dtype
    if dtype.kind not in "fiub" or len(shape) > 8:
        refuse(name, "an array of something else than numbers")
    declared = math.prod(shape) * dtype.itemsize
    if dataset.get_storage_size() != declared:
        refuse(name, "it declares other bytes than it holds")
    offset = dataset.get_offset()
    if plan.get_layout() == h5d.CONTIGUOUS and declared and (offset is None or offset + declared > size):
        refuse(name, "it declares bytes that are not in the file")
    return Array(tuple(shape), dtype.name), declared


def _check_attributes(entry: Any, name: str, refuse: Any) -> None:
    count = h5a.get_num_attrs(entry)
    if count > MOST_ATTRIBUTES:
        refuse(name, "too many attributes")
    for index in range(count):
        attribute = h5a.open(entry, index=index)
        if attribute.get_storage_size() > MOST_ATTRIBUTE_BYTES:
            refuse(name, "a large attribute")
        if attribute.get_type().get_class() not in (h5t.INTEGER, h5t.FLOAT, h5t.STRING, h5t.ENUM):
            refuse(name, "an attribute of another kind")


def load_weights(model: keras.Model, path: Path, called: str, folder: Path) -> tuple[str, str]:
    """Loads the weights of a file into a model if names, shapes and types are exactly those that the model itself would save.

    Args:
        model: A fresh model.
        path: The file, whose name ends in `.weights.h5`.
        called: Its name in sentences.
        folder: A folder for a temporary file.

    Returns:
        SHA-256 of the weights (of names, types, shapes and values, whatever else is in the file), and of all weights except the last layer's:
        two linear models have the same second value, and so do two heads on one frozen network.

    Raises:
        Refusal: The file breaks a rule, belongs to another model, or contains NaN.
    """
    found = walk(path, called)
    fresh = folder / "fresh.weights.h5"
    model.save_weights(fresh)
    expected = walk(fresh, called)
    fresh.unlink()
    found = {name: array for name, array in found.items() if name.split("/")[1] != _LEFT_ASIDE}
    called_model = clean(model.name, 40)
    for name in sorted(expected.keys() | found.keys()):
        told = {"model": called_model, "name": clean(name)}
        if name not in found:
            raise Refusal("weights_missing", **told)
        if name not in expected:
            raise Refusal("weights_extra", **told)
        if found[name] != expected[name]:
            raise Refusal("weights_shape", **told, found=str(found[name]), expected=str(expected[name]))
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise Refusal("weights_rejected", model=called_model) from None
    digest, broken, arrays = hashlib.sha256(), 0, Counter[str]()
    with h5py.File(path, "r") as file:
        for name in sorted(found):
            values = file[name][()]
            content = hashlib.sha256(np.ascontiguousarray(values)).hexdigest()
            digest.update(f"{name} {found[name]!r} {content}".encode())
            arrays[content] += 1
            broken += int(values.size - np.isfinite(values).sum()) if values.dtype.kind == "f" else 0
    if broken:
        raise Refusal("weights_not_finite", count=broken)
    for variable in next((layer.weights for layer in reversed(model.layers) if layer.weights), ()):
        arrays[hashlib.sha256(np.ascontiguousarray(variable)).hexdigest()] -= 1
    return digest.hexdigest(), hashlib.sha256(repr(sorted((+arrays).items())).encode()).hexdigest()
