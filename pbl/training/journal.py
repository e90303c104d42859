"""What only grows in a training's state is written once: into a file next to the states, to which each state appends what is new."""

import contextlib
import json
import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pbl.storage.reading import read_file
from pbl.storage.writing import Growing, discard, list_folder, tell_unwritable, try_again

ENDING = ".journal"


class Journal:
    """One process's file of growing values: records of a line of JSON and the bytes of arrays, each with its checksum.

    Args:
        file: The file; it is started again.

    Attributes:
        size: Its bytes so far; a state records how many of them belong to it.
    """

    def __init__(self, file: Path):
        self.file, self.size = file, 0
        self._counts: dict[str, int] = {}  # how many items of each are in the file
        self._new: list[bytes] = []

    def add(self, name: str, growing: Growing, pack: Callable[[Any, list[np.ndarray]], Any]) -> dict[str, Any] | None:
        """Takes what is new since the last call; `write` writes it to the file.

        Args:
            name: Name of this list or array, the same each time.
            growing: The complete value.
            pack: Turns items into JSON and arrays.

        Returns:
            What the state stores for it; None if it has lost items, so that a new file is needed.
        """
        count = self._counts.get(name, 0)
        if len(growing.items) < count:
            return None
        if len(growing.items) > count:
            arrays: list[np.ndarray] = []
            packed = pack(growing.items[count:], arrays)
            data = b"".join(array.tobytes() for array in arrays)
            head = {
                "name": name,
                "packed": packed,
                "arrays": [(array.dtype.str, array.shape) for array in arrays],
                "size": len(data),
            }
            line = json.dumps(head).encode()
            self._new.append(b"%08x %08x\n" % (len(line), zlib.crc32(data, zlib.crc32(line))) + line + data)
            self._counts[name] = len(growing.items)
        return {"grown": name, "count": len(growing.items)}

    def write(self) -> None:
        """Appends what `add` took, and waits until it is on the disk.

        Raises:
            InputError: It could not be written; the earlier content is unchanged.
        """
        data = b"".join(self._new)

        def append() -> None:
            with self.file.open("r+b" if self.size else "wb") as stream:
                stream.truncate(self.size)
                stream.seek(self.size)
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())

        try:
            try_again(append, self.file, "{file} could not be written ({reason}); tried again in {wait} s.")
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self.file, self.size)
            raise tell_unwritable(self.file, error) from error
        self.size += len(data)
        self._new = []


def read_journal(
    file: Path, size: int, cut: Callable[[np.ndarray, list], Any], unpack: Callable[[Any, list[np.ndarray]], Any]
) -> dict[str, Any]:
    """Reads the growing values, up to `size` bytes.

    Args:
        file, size: The file, and how many of its bytes count.
        cut: Splits bytes into arrays, described by dtype and shape.
        unpack: The reverse of `pack` in `Journal.add`.

    Returns:
        The list or array for each name.

    Raises:
        FileNotFoundError, UnreadableFile: There is no file; it is damaged, or cannot be read now.
    """

    def read(stream: BinaryIO) -> dict[str, Any]:
        if not 0 <= size <= stream.seek(0, os.SEEK_END):
            raise ValueError("it is cut off")
        stream.seek(0)
        content, at = memoryview(stream.read(size)), 0
        parts: dict[str, list] = {}
        while at < size:
            length, checksum = (int(word, 16) for word in bytes(content[at : at + 18]).split())
            line = content[at + 18 : at + 18 + length]
            head = json.loads(bytes(line))
            if length < 1 or head["size"] < 0:
                raise ValueError("it does not go on")
            at += 18 + length + head["size"]
            data = content[at - head["size"] : at]
            if zlib.crc32(data, zlib.crc32(line)) != checksum:
                raise ValueError("another checksum")
            arrays = list(cut(np.frombuffer(data, np.uint8), head["arrays"]))
            parts.setdefault(head["name"], []).append(unpack(head["packed"], arrays))
        return {
            name: np.concatenate(of_name)
            if isinstance(of_name[0], np.ndarray)
            else [item for part in of_name for item in part]
            for name, of_name in parts.items()
        }

    return read_file(file, read, file.parent.parent, math.inf)


def delete_old_journals(folder: Path, used: set[str]) -> None:
    """Deletes the journals that no state uses: all except those with these names."""
    for file in list_folder(folder):
        if file.suffix == ENDING and file.name not in used:
            discard(file)
