"""Zip files of strangers, opened only in the locked worker: listed and read within limits, never unpacked under their own names."""

import contextlib
import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pbl.grading.formats import is_noise
from pbl.grading.refusals import Refusal, clean
from pbl.grading.sandbox import MEBIBYTE

MOST_MEMBERS = 4_200  # masks of the most images that `holdout` hides, and files next to them
PROBLEMS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RuntimeError)


class Archive:
    """A zip file, listed and checked; use as a context manager.

    Args:
        path: The file.
        called: Its name in sentences.
        limit: MiB that one member may have when unpacked.
        most: Number of members that it may have.
        is_class: Whether it contains many teams' files: then a bad file name of one team does not spoil it for the others.

    Attributes:
        members: The members that may be read, by name.
        strange: Names of the others, if it contains a class's files.

    Raises:
        Refusal: It is damaged, encrypted, names a member twice or points outside itself.
    """

    def __init__(self, path: Path, called: str, limit: int, most: int = MOST_MEMBERS, is_class: bool = False):
        self.called, self.limit, self.strange = called, limit, list[str]()
        if not path.stat().st_size:
            raise Refusal("empty_file", file=called)
        try:
            self._zip = zipfile.ZipFile(path)
            if min((info.header_offset for info in self._zip.infolist()), default=0):
                raise zipfile.BadZipFile  # cut off; what was found is an archive inside it
        except PROBLEMS:
            raise Refusal("damaged", file=called) from None
        self.members = self._check(most, is_class)

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _check(self, most: int, is_class: bool) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        listed = self._zip.infolist()
        if len(listed) > most:
            raise Refusal("too_many_files", limit=most)
        for info in listed:
            name = _name_of(info).replace("\\", "/")
            plain = str(PurePosixPath(name))
            leads_out = name.startswith("/") or ".." in PurePosixPath(name).parts or ":" in name[:2] or "\x00" in name
            leads_out |= stat.S_ISLNK(info.external_attr >> 16)
            if not leads_out and (info.is_dir() or is_noise(name)):
                continue
            problem = None
            if leads_out:
                problem = Refusal("member_path", file=self.called)
            elif info.flag_bits & 1:
                problem = Refusal("encrypted", file=self.called)
            elif plain in members:
                problem = Refusal("member_twice", file=self.called, name=clean(name))
            if problem is None:
                members[plain] = info
            elif is_class:
                self.strange.append(plain)
            else:
                raise problem
        return members

    def read(self, name: str, most: int) -> bytes:
        """Returns a member's bytes.

        Raises:
            Refusal: It has more than `most` bytes, whatever the archive says about it, or is damaged.
        """
        return b"".join(self._read(name, most))

    def extract(self, name: str, target: Path) -> None:
        """Writes a member to a file whose name we choose; raises Refusal like `read`, with the limit of the archive."""
        with target.open("xb") as copy:
            copy.writelines(self._read(name, self.limit * MEBIBYTE))

    def _read(self, name: str, most: int) -> Iterator[bytes]:
        info, left = self.members[name], most
        if info.file_size > most:
            self._refuse(name, info.file_size, most)
        try:
            with self._zip.open(info) as stream:
                while piece := stream.read(min(MEBIBYTE, left + 1)):
                    left -= len(piece)
                    if left < 0:
                        self._refuse(name, most + 1, most)
                    yield piece
        except PROBLEMS:
            raise Refusal("damaged", file=clean(f"{name} in {self.called}")) from None

    def _refuse(self, name: str, size: int, most: int) -> None:
        size, limit = -(-size // MEBIBYTE), max(1, most // MEBIBYTE)
        raise Refusal("member_large", name=clean(name), file=self.called, size=size, limit=limit)


def _name_of(info: zipfile.ZipInfo) -> str:
    """A member's name. Python reads a name that is not marked as UTF-8 as cp437; in fact it is UTF-8, or from Japanese Windows."""
    if not info.flag_bits & 0x800:
        for encoding in ("utf-8", "cp932"):
            with contextlib.suppress(UnicodeError):
                return info.filename.encode("cp437").decode(encoding)
    return info.filename
