"""Reads annotations that have one file for each image; the result is kept in the local cache if reading took a while."""

import contextlib
import hashlib
import json
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from pbl.data.box_formats import Annotation
from pbl.data.cache import cache_folder, make_cache_folder
from pbl.data.folders import list_status, read_patiently
from pbl.data.store import KEPT_FROM
from pbl.errors import InputError, Sentence, join_sentences
from pbl.storage.reading import read_json
from pbl.storage.writing import write_json

_FORMAT = 2  # version of what is kept in the cache; part of its name
_AT_ONCE = 512  # files that are read in one task
_MOST_KEPT = 2**30  # bytes of a cache file


def read_annotations(
    root: Path, names: Sequence[str], parse: Callable[[bytes, str], Annotation]
) -> dict[str, Annotation]:
    """Reads the annotation files of a folder.

    Args:
        root: The folder.
        names: Names of the files, relative to it.
        parse: Takes a file's content and name, and returns its annotation.

    Returns:
        The annotation of each name.

    Raises:
        InputError: Some files cannot be read, or are broken (up to three are named).
    """
    status = repr((list(names), list_status(root, names)))
    listing = hashlib.sha256(status.encode("utf-8", "surrogatepass")).hexdigest()
    kept = keep(f"{parse.__name__} {root.resolve()}", listing, lambda: _read_files(root, names, parse))
    return {
        name: Annotation(rows, classes, size and tuple(size), left_out)
        for name, (rows, classes, size, left_out) in zip(names, kept, strict=True)
    }


def keep(place: str, listing: str, find: Callable[[], Any]) -> Any:
    """Returns what `find` finds: lists and dictionaries of numbers and words. It is kept in the local cache if finding it took a while.

    Args:
        place: A name for the source that stays the same when its content changes.
        listing: Changes when the content of the source changes.
        find: Finds the result.
    """
    key = hashlib.sha256(f"boxes {_FORMAT} {place}".encode("utf-8", "surrogatepass")).hexdigest()
    file = cache_folder() / f"{key[:32]}.json"
    with contextlib.suppress(InputError, OSError, ValueError, KeyError, TypeError, AttributeError):
        held = read_json(file, most=_MOST_KEPT)
        if held["listing"] == listing and zlib.crc32(held["found"].encode()) == held["checksum"]:
            return json.loads(held["found"])
    begin = time.perf_counter()
    found = find()
    if time.perf_counter() - begin > KEPT_FROM:
        text = json.dumps(found)
        with contextlib.suppress(InputError, OSError):  # without the cache it is read again
            make_cache_folder()
            write_json(file, {"listing": listing, "checksum": zlib.crc32(text.encode()), "found": text})
    return found


def _read_files(root: Path, names: Sequence[str], parse: Callable[[bytes, str], Annotation]) -> list[list]:
    found: list[list] = []
    problems: list[Sentence] = []

    def read(name: str) -> Annotation | InputError:
        try:
            return parse(read_patiently((root / name).read_bytes, root / name, name), name)
        except InputError as error:
            return error

    waiting = iter(names)
    with ThreadPoolExecutor(16) as threads:  # a mounted Drive takes as long for one file as for sixteen
        while some := list(islice(waiting, _AT_ONCE)):
            for one in threads.map(read, some):
                if isinstance(one, InputError):
                    problems.append(Sentence(one.template, **one.fields))
                else:
                    found.append(list(one))
    if problems:
        raise InputError(
            "{n} annotation {n:file|files} cannot be used: {reasons}{more}",
            n=len(problems),
            reasons=join_sentences(problems[:3]),
            more=Sentence(" And {n} more.", n=len(problems) - 3) if len(problems) > 3 else "",
        )
    return found
