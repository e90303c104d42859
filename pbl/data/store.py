"""All images of a source, decoded once to the model's input shape; in memory, or on the local disk if there are many."""

import atexit
import contextlib
import hashlib
import itertools
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pbl.data.cache import GIGABYTE, cache_folder, make_cache_folder
from pbl.data.images import decode_and_look, fit_image
from pbl.data.source import Example, Unreadable, check_example
from pbl.data.split import hash_image
from pbl.errors import InputError, Sentence, join_sentences
from pbl.storage import replacing

_FORMAT = 1  # of the cached files; part of their names


class DifferentSizes(InputError):
    """The images differ in size, or in their number of channels, and nothing says what they are brought to."""


@dataclass(frozen=True)
class Images:
    """The images of one split, or of several.

    Attributes:
        store: `uint8 [all, height, width, channels]`: the pixels of these images and maybe of others; a memory map where they
            lie on the disk.
        index: `int64 [n]`: which of them are these.
        labels: `int32 [n]`.
        names: n names, those of files where there are files.
        hashes: n SHA-256 of the pixels before resizing.
        shapes: `int32 [n, 3]`: height, width and channels before resizing.
    """

    store: np.ndarray
    index: np.ndarray
    labels: np.ndarray
    names: list[str]
    hashes: list[str]
    shapes: np.ndarray

    @property
    def pixels(self) -> np.ndarray:
        """`uint8 [n, height, width, channels]`, copied out of the store at each call."""
        return self.store[self.index]

    @property
    def view(self) -> "PixelView":
        """The same, but an image is copied only when it is accessed."""
        return PixelView(self.store, self.index)

    def take(self, chosen: np.ndarray) -> "Images":
        """Returns the images where `chosen`, `bool [n]`, is true, without copying a pixel."""
        at = np.flatnonzero(chosen)
        return Images(
            self.store,
            self.index[at],
            self.labels[at],
            [self.names[i] for i in at],
            [self.hashes[i] for i in at],
            self.shapes[at],
        )

    def join(self, other: "Images") -> "Images":
        """Returns these images and others of the same store, in the store's order."""
        index = np.concatenate([self.index, other.index])
        order = np.argsort(index, kind="stable")
        names, hashes = self.names + other.names, self.hashes + other.hashes
        return Images(
            self.store,
            index[order],
            np.concatenate([self.labels, other.labels])[order],
            [names[i] for i in order],
            [hashes[i] for i in order],
            np.concatenate([self.shapes, other.shapes])[order],
        )


class PixelView:
    """Pixels of some images of a store, copied only when accessed: `view[3]`, `view[10:20]`, `view[numbers]`."""

    def __init__(self, store: np.ndarray, index: np.ndarray):
        self._store, self._index = store, index
        self.shape, self.dtype = (len(index), *store.shape[1:]), store.dtype

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, places) -> np.ndarray:
        return self._store[self._index[places]]


@dataclass(frozen=True)
class Target:
    """What images are brought to.

    Attributes:
        size: Height and width in pixels, or None: that of the images, which must be one.
        channels: 1 or 3, or None: that of the images, which must be one.
        fit: See `pbl.data.images.fit_image`.
        memory_budget: Gigabytes of memory for the decoded images of a split. Images of half as many are kept in memory,
            since loading needs them twice for a moment; more lie on the local disk.
        on_bad_image: "stop" names all images that cannot be decoded; "skip" goes on without them.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    fit: str = "crop"
    memory_budget: float = 4.0
    on_bad_image: str = "stop"


class Collected(NamedTuple):
    """The images of a split, and names of those that are not among them or were read with a remark.

    Attributes:
        images: The images.
        broken: Of those that could not be decoded the names, with the reasons.
        left_out: Those that were left out as wished.
        damaged: Those with damaged metadata, which were passed over.
    """

    images: Images
    broken: dict[str, str]
    left_out: set[str]
    damaged: list[str]


def collect(
    examples: Iterable[Example], source: str, num_classes: int, target: Target, left_out: frozenset[str] = frozenset()
) -> Collected:
    """Decodes the examples of a split.

    Args:
        examples: What a `Source` gives. If they have a `fingerprint()`, a digest of all contents, then images that do not fit
            into memory are kept in the local cache under it, and read from there the next time.
        source: How errors call the data set.
        num_classes: Labels are 0 to this minus 1.
        target: What the images are brought to.
        left_out: Names of images to pass over.

    Raises:
        InputError: There is no image; one is not what a source promises; some cannot be read or decoded (all are named); they
            differ in size or in their number of channels and the target does not say which.
    """
    shape = (*target.size, target.channels) if target.size and target.channels else None
    too_many = (
        shape and hasattr(examples, "__len__") and len(examples) * np.prod(shape) > target.memory_budget / 2 * GIGABYTE
    )
    file = None
    if too_many and hasattr(examples, "fingerprint"):
        settings = f"{_FORMAT} {shape} {target.fit} {sorted(left_out)} {target.on_bad_image}"
        key = hashlib.sha256(f"{examples.fingerprint()} {settings}".encode()).hexdigest()[:32]
        file = cache_folder() / f"{key}.pixels"
        # A missing or damaged cache is written again.
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return _read_cache(file, shape)

    writer = _Pixels(target.memory_budget / 2 * GIGABYTE)
    labels, names, hashes, shapes, broken, unreadable, passed_over, damaged = [], [], [], [], {}, [], set(), []
    for image, label, name, is_damaged in _decode(examples):
        if name in left_out:
            passed_over.add(name)
            continue
        if isinstance(image, Unreadable):
            unreadable.append(Sentence(image.template, **image.fields))
            continue
        if isinstance(image, InputError):
            broken[name] = Sentence(image.template, **image.fields)
            continue
        check_example((image, label, name), num_classes, source)
        size = target.size or (writer.shape[:2] if writer.shape else image.shape[:2])
        channels = target.channels or (writer.shape[2] if writer.shape else image.shape[2])
        if target.size is None and image.shape[:2] != size:
            raise DifferentSizes(
                "The images of '{name}' differ in size ({first} and {other} pixels). Give image_size=64, or any other.",
                name=source,
                first="x".join(map(str, size)),
                other="x".join(map(str, image.shape[:2])),
            )
        if target.channels is None and image.shape[2] != channels:
            raise DifferentSizes("'{name}' mixes grey and colour images. Give channels=3, or channels=1.", name=source)
        hashes.append(hash_image(image))
        shapes.append(image.shape)
        labels.append(label)
        names.append(name)
        if is_damaged:
            damaged.append(name)
        writer.append(fit_image(image, size, channels, target.fit))
    if unreadable:
        raise InputError(
            "{n} image file(s) of '{name}' cannot be read: {reasons}{more} Make them readable, or take them away.",
            n=len(unreadable),
            name=source,
            reasons=join_sentences(unreadable[:10]),
            more=Sentence(" And {n} more.", n=len(unreadable) - 10) if len(unreadable) > 10 else "",
        )
    if broken and target.on_bad_image == "stop":
        shown = list(broken.values())[:10]
        raise InputError(
            "{n} image(s) of '{name}' cannot be decoded: {reasons}{more} Repair them, or go on without them: on_bad_image=skip.",
            n=len(broken),
            name=source,
            reasons=join_sentences(shown),
            more=Sentence(" And {n} more.", n=len(broken) - len(shown)) if len(broken) > len(shown) else "",
        )
    if not names:
        raise InputError("Data set '{name}' holds no image.", name=source)
    labels, shapes = np.array(labels, np.int32), np.array(shapes, np.int32)
    images = Images(writer.finish(file), np.arange(len(names)), labels, names, hashes, shapes)
    collected = Collected(images, broken, passed_over, damaged)
    if isinstance(images.store, np.memmap) and file is not None:
        _write_cache(file, collected)
    return collected


def _write_cache(file: Path, collected: Collected) -> None:
    """Writes what belongs to the pixels in `file` into an `.npz` beside it."""
    images = collected.images
    with replacing(file.with_suffix(".npz")) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            labels=images.labels,
            shapes=images.shapes,
            names=np.array(images.names),
            hashes=np.array(images.hashes),
            broken=np.array(list(collected.broken.items()), dtype=str).reshape(-1, 2),
            left_out=np.array(sorted(collected.left_out), dtype=str),
            damaged=np.array(collected.damaged, dtype=str),
        )


def _read_cache(file: Path, shape: tuple[int, int, int]) -> Collected:
    with np.load(file.with_suffix(".npz")) as saved:
        names = [str(name) for name in saved["names"]]
        if file.stat().st_size != len(names) * np.prod(shape):
            raise ValueError("cut off")
        store = np.memmap(file, np.uint8, "r", shape=(len(names), *shape))
        hashes = [str(content) for content in saved["hashes"]]
        images = Images(store, np.arange(len(names)), saved["labels"], names, hashes, saved["shapes"])
        broken = {str(name): str(reason) for name, reason in saved["broken"]}
        left_out, damaged = ([str(name) for name in saved[key]] for key in ("left_out", "damaged"))
        return Collected(images, broken, set(left_out), damaged)


def _decode(examples: Iterable[Example]) -> Iterator[tuple[np.ndarray | InputError, int, str, bool]]:
    """Decodes the images on all cores and keeps their order; an image that cannot be decoded becomes its error.

    The last of the four: whether its metadata are damaged.
    """

    def decode(example):
        if not (isinstance(example, tuple) and len(example) == 3):
            check_example(example, 1, "the source")
        image, label, name = example
        is_damaged = False
        if isinstance(image, bytes):
            try:
                image, is_damaged = decode_and_look(image, name)
            except InputError as error:
                image = error
        return image, label, name, is_damaged

    examples = iter(examples)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        # In pieces: else the pool would hold all encoded images at once.
        while piece := list(itertools.islice(examples, 256)):
            yield from threads.map(decode, piece, chunksize=1) if isinstance(piece[0][0], bytes) else map(decode, piece)


class _Pixels:
    """Images of one shape, one after the other: in memory, or in a file once they take more than `budget` bytes."""

    def __init__(self, budget: float):
        self.budget, self.shape, self.count = budget, None, 0
        self._buffer, self._file, self._path = bytearray(), None, None

    def append(self, image: np.ndarray) -> None:
        self.shape = image.shape
        self.count += 1
        if self._file is None:
            self._buffer += image.data  # grows in place, without a second copy
            if len(self._buffer) <= self.budget:
                return
            self._open()
            image, self._buffer = self._buffer, bytearray()
        self._write(memoryview(image))

    def finish(self, keep_as: Path | None) -> np.ndarray:
        """Returns `uint8 [count, *shape]`; a file is kept under the name given, else deleted at the end of the process."""
        if self._file is None:
            return np.frombuffer(self._buffer, np.uint8).reshape(self.count, *self.shape)
        self._file.close()
        path = self._path if keep_as is None else self._path.replace(keep_as)
        return np.memmap(path, np.uint8, "r", shape=(self.count, *self.shape))

    def _open(self) -> None:
        folder = make_cache_folder()
        number, path = tempfile.mkstemp(dir=folder, prefix=".writing-")
        self._file, self._path = os.fdopen(number, "wb"), Path(path)
        atexit.register(lambda: self._path.unlink(missing_ok=True))

    def _write(self, data) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            self._file.close()
            self._path.unlink(missing_ok=True)
            raise InputError(
                "The decoded images do not fit into {folder}: {reason} ({free:.1f} GB free). Free some space, name another"
                " folder in the variable PBL_CACHE, lower image_size, or raise memory_budget.",
                folder=self._path.parent,
                reason=error.strerror,
                free=shutil.disk_usage(self._path.parent).free / GIGABYTE,
            ) from None
