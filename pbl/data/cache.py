"""The local cache: a folder for unpacked archives and decoded images. It may be deleted at any time."""

import errno
import os
from pathlib import Path

from pbl.data.paths import expand
from pbl.errors import InputError
from pbl.storage.writing import sweep

GIGABYTE = 10**9


def cache_folder() -> Path:
    """Returns the folder of the local cache: the variable `PBL_CACHE`, else `~/.cache/pbl`."""
    return expand(os.environ.get("PBL_CACHE") or "~/.cache/pbl")


def make_cache_folder() -> Path:
    """Makes the folder of the local cache, and deletes what killed processes left unfinished there.

    Raises:
        InputError: The folder cannot be made or written to.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InputError(
            "The cache folder {folder} cannot be used: {reason}. Name another folder in the variable PBL_CACHE.",
            folder=folder,
            reason=error.strerror,
        ) from None
    return folder
