"""All images of a source, decoded once to the model's input shape; in memory, or on the local disk if there are many.

Images are decoded, hashed and brought to their shape by one thread for each core. The bytes in work at the same time are limited, so
that photographs of any size take hardly more memory than the images that are kept. The result is kept in the local cache if decoding
took a while: the next start reads it from there, as long as the files have the same names, sizes and times.
"""

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from pbl.data.boxes import FAULTS, LOST, find_commonest_class, fit_boxes, pad_boxes
from pbl.data.cache import GIGABYTE, cache_folder, make_cache_folder
from pbl.data.images import find_shape, fit_image, fit_picture, open_picture, strips, to_array, without_warnings
from pbl.data.source import Example, OutOfMemory, Unreadable, check_example, check_label
from pbl.data.split import hash_image, hash_pixels
from pbl.errors import InputError, Sentence, join_sentences
from pbl.languages import say
from pbl.storage.writing import name_unfinished, replacing, tell_unwritable

_FORMAT = 2  # version of the cached files; part of their names
DECODING = 400 * 10**6  # bytes of all images being decoded at a time; a single one may take twice as many
KEPT_FROM = 1.0  # seconds of decoding; a result that took less is not kept in the cache
TOLD_AFTER, TOLD_EVERY = 2.0, 0.5  # seconds of decoding before progress is shown, and between updates
_BATCH = 64  # images that a thread takes at a time
_BATCH_BYTES = 2**20  # bytes of image files after which it takes no more
_PIECE = 2**24  # bytes that are read, written or copied at a time
_ALIGNMENT = 64  # bytes; TensorFlow uses memory without a copy only if it is aligned so


class DifferentSizes(InputError):
    """The images differ in size, or in their number of channels, and no target size is given."""


@dataclass(frozen=True)
class Images:
    """The images of one split, or of several.

    Attributes:
        store: `uint8 [all, height, width, channels]`: the pixels of these images and maybe of others; a memory map if they
            are on the disk.
        index: `int64 [n]`: the numbers of these images in the store.
        labels: `int32 [n]`, the class; for masks the class with the most pixels other than the background; for boxes the class of most boxes,
            and the number of classes if there are no boxes.
        names: n names, those of the files if there are files.
        hashes: n SHA-256 of the pixels before resizing.
        shapes: `int32 [n, 3]`: height, width and channels before resizing.
        has_masks: Whether the store's last channel is not part of the image, but its mask.
        boxes: `float32 [n, most, 5]`, left, top, right, bottom and class, in pixels of the stored image; rows that are not boxes are
            `[0, 0, 0, 0, -1]`. None if the images have no boxes.
        box_faults: `int32 [n, 5]`, how many boxes of an image were cut or left out, in the order of `pbl.data.boxes.FAULTS`; None likewise.
    """

    store: np.ndarray
    index: np.ndarray
    labels: np.ndarray
    names: list[str]
    hashes: list[str]
    shapes: np.ndarray
    has_masks: bool = False
    boxes: np.ndarray | None = None
    box_faults: np.ndarray | None = None

    @property
    def pixels(self) -> np.ndarray:
        """`uint8 [n, height, width, channels]`, copied out of the store at each call."""
        return self.view[:]

    @property
    def masks(self) -> np.ndarray:
        """`uint8 [n, height, width]`, the class of each pixel; only if the images have masks."""
        return self.mask_view[:]

    @property
    def mask_view(self) -> "PixelView":
        """The masks; a mask is copied only when it is accessed."""
        return PixelView(self.store[..., -1], self.index)

    @property
    def view(self) -> "PixelView":
        """The pixels; an image is copied only when it is accessed."""
        return PixelView(self.store[..., :-1] if self.has_masks else self.store, self.index)

    def take(self, chosen: np.ndarray) -> "Images":
        """Returns the images for which `chosen`, `bool [n]`, is true, without copying a pixel."""
        at = np.flatnonzero(chosen)
        return Images(
            self.store,
            self.index[at],
            self.labels[at],
            [self.names[i] for i in at],
            [self.hashes[i] for i in at],
            self.shapes[at],
            self.has_masks,
            None if self.boxes is None else self.boxes[at],
            None if self.box_faults is None else self.box_faults[at],
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
            self.has_masks,
            None if self.boxes is None else np.concatenate([self.boxes, other.boxes])[order],
            None if self.box_faults is None else np.concatenate([self.box_faults, other.box_faults])[order],
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
    """The form that images are brought to.

    Attributes:
        size: Height and width in pixels; None: that of the images, which must be the same for all.
        channels: 1 or 3; None: that of the images, which must be the same for all.
        fit: See `pbl.data.images.fit_image`.
        memory_budget: Gigabytes of memory for the decoded images of a split; if they need more, they are on the local
            disk. Loading takes up to half a gigabyte in addition.
        on_bad_image: "stop" names all images that cannot be decoded; "skip" leaves them out.
        has_masks: Whether the examples have a `Mask` in place of a class: it becomes one more channel, after the image's own.
        most_boxes: If the examples have `Boxes` in place of a class, the largest number that an image has; else 0.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    fit: str = "crop"
    memory_budget: float = 4.0
    on_bad_image: str = "stop"
    has_masks: bool = False
    most_boxes: int = 0


class Collected(NamedTuple):
    """The images of a split, and names of images that are not among them or were read with a remark.

    Attributes:
        images: The images.
        broken: Names of images that could not be decoded, with the reasons.
        left_out: Names that were left out on request.
        damaged: Names of images with damaged metadata, which were ignored.
    """

    images: Images
    broken: dict[str, Sentence]
    left_out: set[str]
    damaged: list[str]


class _Prepared(NamedTuple):
    """An image brought to its shape, with what is known about the original; or the reason in place of the pixels."""

    pixels: np.ndarray | InputError | None  # None: left out on request
    label: int
    name: str
    content: str = ""  # the hash
    shape: tuple[int, int, int] = (0, 0, 0)
    is_damaged: bool = False
    boxes: np.ndarray | None = None
    faults: np.ndarray | None = None


def collect(
    examples: Iterable[Example], source: str, num_classes: int, target: Target, left_out: frozenset[str] = frozenset()
) -> Collected:
    """Decodes the examples of a split.

    Args:
        examples: The examples of a `Source`. If they have a `place`, and a `listing()` that changes with them, the decoded images
            are kept in the local cache, and read from there the next time.
        source: The name of the data set in errors.
        num_classes: Labels are 0 to this minus 1.
        target: The form that the images are brought to.
        left_out: Names of images to skip.

    Raises:
        InputError: There is no image; one is not what a source must yield; some cannot be read or decoded (all are named); they
            differ in size or in their number of channels and the target does not give it; there is not enough memory.
    """
    cached = None
    if hasattr(examples, "listing"):
        wanted = (
            _FORMAT,
            target.size,
            target.channels,
            target.fit,
            target.on_bad_image,
            sorted(left_out),
            num_classes,
            *([True] if target.has_masks else []),
            *(["boxes", target.most_boxes] if target.most_boxes else []),
        )
        cached = _Cached(f"{wanted} {examples.place}", examples.listing())
        if (found := cached.read(target.memory_budget * GIGABYTE, target.most_boxes)) is not None:
            return found._replace(images=replace(found.images, has_masks=target.has_masks))
    begin = time.perf_counter()
    writer = _Pixels(target.memory_budget * GIGABYTE)
    labels, names, hashes, shapes, broken, unreadable, passed_over, damaged = [], [], [], [], {}, [], set(), []
    boxes, faults = [], []
    for one in _tell_progress(_prepare(examples, source, num_classes, target, left_out), examples, source):
        image, name = one.pixels, one.name
        if image is None:
            passed_over.add(name)
            continue
        if isinstance(image, OutOfMemory):
            raise image
        if isinstance(image, Unreadable):
            unreadable.append(Sentence(image.template, **image.fields))
            continue
        if isinstance(image, InputError):
            broken[name] = Sentence(image.template, **image.fields)
            continue
        if writer.shape and target.size is None and image.shape[:2] != writer.shape[:2]:
            raise DifferentSizes(
                "The images of '{name}' differ in size ({first} and {other} pixels). Give image_size=64, or any other.",
                name=source,
                first="x".join(map(str, writer.shape[:2])),
                other="x".join(map(str, image.shape[:2])),
            )
        if writer.shape and image.shape != writer.shape:
            raise DifferentSizes(
                "'{name}' contains both grey and colour images. Give channels=3, or channels=1.", name=source
            )
        hashes.append(one.content)
        shapes.append(one.shape)
        if target.most_boxes:
            boxes.append(one.boxes)
            faults.append(one.faults)
        labels.append(one.label)
        names.append(name)
        if one.is_damaged:
            damaged.append(name)
        writer.append(image)
    if unreadable:
        raise InputError(
            "{n} image {n:file|files} of '{name}' cannot be read: {reasons}{more} Make {n:it|them} readable, or remove {n:it|them}.",
            n=len(unreadable),
            name=source,
            reasons=join_sentences(unreadable[:10]),
            more=Sentence(" And {n} more.", n=len(unreadable) - 10) if len(unreadable) > 10 else "",
        )
    if broken and target.on_bad_image == "stop":
        shown = list(broken.values())[:10]
        raise InputError(
            "{n} {n:image|images} of '{name}' cannot be decoded: {reasons}{more} Repair {n:it|them}, or continue without {n:it|them}: on_bad_image=skip.",
            n=len(broken),
            name=source,
            reasons=join_sentences(shown),
            more=Sentence(" And {n} more.", n=len(broken) - len(shown)) if len(broken) > len(shown) else "",
        )
    if not names:
        raise InputError("Data set '{name}' contains no image.", name=source)
    labels, shapes = np.array(labels, np.int32), np.array(shapes, np.int32)
    is_kept = cached is not None and time.perf_counter() - begin > KEPT_FROM
    store = writer.finish(cached.file if is_kept else None)
    images = Images(store, np.arange(len(names)), labels, names, hashes, shapes, target.has_masks)
    if target.most_boxes:
        images = replace(images, boxes=pad_boxes(boxes, target.most_boxes), box_faults=np.array(faults, np.int32))
    collected = Collected(images, broken, passed_over, damaged)
    if is_kept:
        cached.write(collected, writer.checksum)
    return collected


def _prepare(
    examples: Iterable[Example], source: str, num_classes: int, target: Target, left_out: frozenset[str]
) -> Iterator[_Prepared]:
    """Decodes, hashes and fits the images on all cores, and keeps their order."""
    room = _Room(DECODING)

    def prepare(example: Example) -> _Prepared:
        if not (isinstance(example, tuple) and len(example) == 3):
            check_example(example, num_classes, source)
        image, label, name = example
        if name in left_out:
            return _Prepared(None, 0, name)
        prepare_one = (
            prepare_with_mask if target.has_masks else prepare_with_boxes if target.most_boxes else prepare_alone
        )
        return prepare_one(image, label, name)

    def prepare_alone(image: np.ndarray | bytes, label: int, name: str) -> _Prepared:
        if isinstance(image, bytes):
            return prepare_file(image, label, name)
        if not isinstance(image, Unreadable):
            check_example((image, label, name), num_classes, source)
            fitted = fit_image(image, target.size or image.shape[:2], target.channels or image.shape[2], target.fit)
            return _Prepared(fitted, label, name, hash_image(image), image.shape)
        return _Prepared(image, label, name)

    def prepare_with_mask(image: np.ndarray | bytes, mask: Any, name: str) -> _Prepared:
        one = prepare_alone(image, 0, name)
        if not isinstance(one.pixels, np.ndarray):
            return one
        try:
            read = mask.read(name, one.shape[:2])
        except InputError as error:
            return one._replace(pixels=error)
        fitted = _fit_mask(read, one.pixels.shape[:2], target.fit)
        return one._replace(pixels=np.dstack([one.pixels, fitted]), label=find_main_class(read))

    def prepare_with_boxes(image: np.ndarray | bytes, boxes: Any, name: str) -> _Prepared:
        one = prepare_alone(image, 0, name)
        if not isinstance(one.pixels, np.ndarray):
            return one
        try:
            rows, faults = boxes.read(name, one.shape[:2])
        except InputError as error:
            return one._replace(pixels=error)
        fitted = fit_boxes(rows, one.shape[:2], target.fit, one.pixels.shape[:2])
        faults[LOST] = len(rows) - len(fitted)
        return one._replace(boxes=fitted, faults=faults, label=find_commonest_class(rows, num_classes))

    def prepare_file(content: bytes, label: int, name: str) -> _Prepared:
        check_label(label, num_classes, name, source)
        with contextlib.ExitStack() as reserved:

            def reserve(needed: int) -> None:
                reserved.close()  # the room of an attempt that failed
                reserved.enter_context(room.taken(needed))

            try:
                picture, is_damaged = open_picture(content, name, reserve)
                shape = find_shape(picture)
                size, channels = target.size or shape[:2], target.channels or shape[2]
                if shape == (*size, channels):
                    pixels = to_array(picture)
                    return _Prepared(pixels, label, name, hash_pixels(shape, [pixels.data]), shape, is_damaged)
                hashed = hash_pixels(shape, strips(picture))
                fitted = to_array(fit_picture(picture, size, channels, target.fit))
                return _Prepared(fitted, label, name, hashed, shape, is_damaged)
            except InputError as error:
                return _Prepared(error, label, name)
            except MemoryError:
                told = "There is not enough memory to decode {name}. Close other programs, or lower memory_budget or image_size."
                return _Prepared(OutOfMemory(told, name=name), label, name)

    # If images keep their size, one at a time: while they wait for their turn they take their full memory.
    in_work, at_once, most = deque(), os.cpu_count() or 1, 1
    if target.size:
        at_once, most = 2 * at_once, _BATCH
    with without_warnings(), ThreadPoolExecutor(os.cpu_count()) as threads:
        try:
            for batch in _batches(examples, most):
                in_work.append(threads.submit(lambda batch: [prepare(example) for example in batch], batch))
                if len(in_work) > at_once:
                    yield from in_work.popleft().result()
            while in_work:
                yield from in_work.popleft().result()
        finally:
            for task in in_work:
                task.cancel()


def _fit_mask(mask: np.ndarray, size: tuple[int, int], fit: str) -> np.ndarray:
    """Brings a mask to the shape of its image, as `fit_image` does it, but by nearest neighbour, so that no class in between appears."""
    if mask.shape == size:
        return mask
    resize = {"crop": ImageOps.fit, "pad": ImageOps.pad, "stretch": Image.Image.resize}[fit]
    return np.asarray(resize(Image.fromarray(mask), size[::-1], Image.Resampling.NEAREST))


def find_main_class(mask: np.ndarray) -> int:
    """The class with the most pixels other than the background, 0; the background if there is no other class. Splits are stratified by it."""
    counts = np.bincount(mask.ravel(), minlength=2)
    return int(counts[1:].argmax()) + 1 if counts[1:].any() else 0


def _batches(examples: Iterable[Example], most: int) -> Iterator[list[Example]]:
    batch, size = [], 0
    for example in examples:
        batch.append(example)
        size += len(example[0]) if isinstance(example, tuple) and isinstance(example[0], bytes) else 0
        if len(batch) == most or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Room:
    """Bytes that threads share. A thread that needs more than are free waits; one that needs more than all of them gets all."""

    def __init__(self, size: int):
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, wanted: int) -> Iterator[None]:
        wanted = min(wanted, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


def _tell_progress(prepared: Iterator[_Prepared], examples: Iterable[Example], source: str) -> Iterator[_Prepared]:
    """Shows on a screen how many images are read, and how long the rest takes, if it takes more than a moment."""
    if not (hasattr(examples, "__len__") and (sys.stderr.isatty() or "ipykernel" in sys.modules)):
        yield from prepared
        return
    begin, told, width = time.monotonic(), 0.0, 0
    for done, one in enumerate(prepared, 1):
        yield one
        passed = time.monotonic() - begin
        if passed > TOLD_AFTER and passed - told > TOLD_EVERY:
            told = passed
            left = passed / done * (len(examples) - done)
            line = say(
                "{name}: {done:,} of {all:,} images read, {left:.0f} s left",
                name=source,
                done=done,
                all=len(examples),
                left=left,
            )
            print(f"\r{line.ljust(width)}", end="", file=sys.stderr, flush=True)
            width = len(line)
    if width:
        print(f"\r{' ' * 2 * width}\r", end="", file=sys.stderr, flush=True)


class _Cached:
    """Decoded images in the local cache: their pixels in one file, and their other data in an `.npz` next to it.

    Args:
        key: Identifies the files and the form that they were brought to. New content under a key replaces the old one.
        listing: Changes when the files change.
    """

    def __init__(self, key: str, listing: str):
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self.file, self._listing = cache_folder() / f"{name}.pixels", listing

    def write(self, collected: Collected, checksum: int | None) -> None:
        """Keeps the images; if the disk is full they are not kept, and a message says so.

        Args:
            collected: The images; if their pixels are on the disk, they are in `file` already.
            checksum: Checksum of the pixels on the disk; None if they are in memory.
        """
        images = collected.images
        try:
            if checksum is None:
                make_cache_folder()
                free = shutil.disk_usage(self.file.parent).free
                if free < 2 * images.store.nbytes:  # a cache should not fill up the disk
                    raise InputError("{free:.1f} GB are free", free=free / GIGABYTE)
                with replacing(self.file) as temporary:
                    checksum = _write_pixels(temporary, images.store)
            text = {
                "listing": self._listing,
                "shape": images.store.shape[1:],
                "checksum": checksum,
                "names": images.names,
                "broken": {
                    name: [
                        why.template,
                        {k: v if isinstance(v, (int, float)) else str(v) for k, v in why.fields.items()},
                    ]
                    for name, why in collected.broken.items()
                },
                "left_out": sorted(collected.left_out),
                "damaged": collected.damaged,
            }
            with replacing(self.file.with_suffix(".npz")) as temporary, temporary.open("wb") as stream:
                np.savez(
                    stream,
                    text=np.frombuffer(json.dumps(text).encode(), np.uint8),
                    labels=images.labels,
                    shapes=images.shapes,
                    hashes=np.frombuffer(bytes.fromhex("".join(images.hashes)), np.uint8),
                    **({} if images.boxes is None else {"boxes": images.boxes, "box_faults": images.box_faults}),
                )
        except InputError as error:
            told = "The decoded images are not kept in the cache, so the next start decodes them again: {reason}"
            print(say(told, reason=error))

    def read(self, budget: float, most_boxes: int = 0) -> Collected | None:
        """Returns what was kept, in memory if it takes no more than `budget` bytes; None if it is missing, old or damaged.

        Args:
            budget: Bytes.
            most_boxes: As in `Target`.
        """
        # If anything is wrong with a cache, it is written again.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
            with np.load(self.file.with_suffix(".npz"), allow_pickle=False) as saved:
                text: dict[str, Any] = json.loads(saved["text"].tobytes())
                if text["listing"] != self._listing:
                    return None
                labels, shapes, hashes = saved["labels"], saved["shapes"], saved["hashes"].tobytes().hex()
                boxes, faults = (saved["boxes"], saved["box_faults"]) if most_boxes else (None, None)
            if most_boxes and (boxes.shape, faults.shape) != ((n := len(labels), most_boxes, 5), (n, len(FAULTS))):
                return None
            names, shape = text["names"], (len(text["names"]), *text["shape"])
            size = int(np.prod(shape, dtype=np.int64))
            if self.file.stat().st_size != size:
                return None
            store = _aligned(size) if size <= budget else None
            if _read_pixels(self.file, store) != text["checksum"]:
                return None
            store = np.memmap(self.file, np.uint8, "r", shape=shape) if store is None else store.reshape(shape)
            images = Images(
                store,
                np.arange(len(names)),
                labels,
                names,
                [hashes[i : i + 64] for i in range(0, len(hashes), 64)],
                shapes,
                boxes=boxes,
                box_faults=faults,
            )
            broken = {name: Sentence(template, **fields) for name, (template, fields) in text["broken"].items()}
            return Collected(images, broken, set(text["left_out"]), text["damaged"])
        return None


def _write_pixels(file: Path, store: np.ndarray) -> int:
    """Writes pixels, and returns their checksum."""
    checksum, flat = 0, store.reshape(-1)
    with file.open("wb") as stream:
        for at in range(0, len(flat), _PIECE):
            piece = flat[at : at + _PIECE].data
            stream.write(piece)
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _read_pixels(file: Path, into: np.ndarray | None) -> int:
    """Reads pixels into an array if one is given, and returns their checksum."""
    checksum, buffer = 0, np.empty(_PIECE, np.uint8) if into is None else None
    with file.open("rb", buffering=0) as stream:
        at = 0
        while count := stream.readinto(piece := (buffer if into is None else into[at : at + _PIECE]).data):
            checksum = zlib.crc32(piece[:count], checksum)
            at += count
    return checksum


def _aligned(size: int) -> np.ndarray:
    """`uint8 [size]`, aligned so that TensorFlow needs no copy of its own."""
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : begin + size]


class _Pixels:
    """Images of one shape, one after the other: in memory, or in a file once they take more than `budget` bytes.

    Attributes:
        shape: Shape of one image; None before the first.
        checksum: Checksum of the pixels in the file; None if there is no file.
    """

    def __init__(self, budget: float):
        self.shape: tuple[int, int, int] | None = None
        self.checksum: int | None = None
        self._budget, self._count, self._size = budget, 0, 0
        self._pieces: list[bytearray] = [bytearray()]
        self._file, self._path = None, None

    def append(self, image: np.ndarray) -> None:
        self.shape = image.shape
        self._count += 1
        self._size += image.nbytes
        if self._file is not None:
            self._write(image.data)
            return
        if len(self._pieces[-1]) + image.nbytes > _PIECE:
            self._pieces.append(bytearray())
        self._pieces[-1] += image.data
        if self._size > self._budget:
            self._open()
            while self._pieces:
                self._write(self._pieces.pop(0))

    def finish(self, keep_as: Path | None) -> np.ndarray:
        """Returns `uint8 [count, *shape]`; a file is kept under the name given, else deleted at the end of the process."""
        shape = (self._count, *self.shape)
        if self._file is None:
            store, at = _aligned(self._size), 0
            while self._pieces:  # freed one by one, so that the images never take their memory twice
                piece = self._pieces.pop(0)
                store[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
                at += len(piece)
            return store.reshape(shape)
        self._act(self._file.close)
        path = self._path if keep_as is None else self._act(lambda: self._path.replace(keep_as))
        return np.memmap(path, np.uint8, "r", shape=shape)

    def _open(self) -> None:
        folder = make_cache_folder()
        number, path = tempfile.mkstemp(dir=folder, prefix=name_unfinished())
        self._file, self._path, self.checksum = os.fdopen(number, "wb"), Path(path), 0
        atexit.register(lambda: self._path.unlink(missing_ok=True))

    def _write(self, data) -> None:
        self.checksum = zlib.crc32(data, self.checksum)
        self._act(lambda: self._file.write(data))

    def _act(self, act):
        try:
            return act()
        except OSError as error:
            with contextlib.suppress(OSError):  # the bytes that are still buffered do not fit either
                self._file.close()
            self._path.unlink(missing_ok=True)
            raise tell_unwritable(
                self._path.parent,
                error,
                "The decoded images do not fit into {folder}: {reason} ({free:.1f} GB free). Free some space, name another"
                " folder in the variable PBL_CACHE, lower image_size, or raise memory_budget.",
                folder=self._path.parent,
                free=shutil.disk_usage(self._path.parent).free / GIGABYTE,
            ) from None
