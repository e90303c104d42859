"""Paths as people type them, and which files of a folder are skipped."""

import contextlib
import json
from pathlib import Path

from pbl.errors import InputError, Sentence, name_nearest


def expand(path: str | Path) -> Path:
    """Replaces `~` by the home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError("{path}: there is no such user. Give the whole path.", path=path) from None


def looks_like_path(name: str) -> bool:
    """Whether a data set's name is meant as a path: it ends in .zip or .npz, begins with . / or ~, or has a / and exists."""
    return (
        name.lower().endswith((".zip", ".npz", ".tar", ".gz", ".tgz", ".7z", ".rar"))
        or name.startswith((".", "/", "~"))
        or ("/" in name and Path(name).exists())
    )


def write_name(name: str) -> str:
    """Writes the name of an image on one line: in JSON's quotes if it contains a line break, or begins as a JSON text does."""
    return json.dumps(name) if name.startswith('"') or any(letter in name for letter in "\r\n") else name


def read_name(line: str) -> str:
    """Reads what `write_name` wrote."""
    line = line.rstrip("\r")
    if line.startswith('"'):
        with contextlib.suppress(ValueError):  # a name that somebody typed
            return str(json.loads(line))
    return line


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN")


def names_beside(path: Path) -> Sentence:
    try:
        beside = sorted(entry.name for entry in path.parent.iterdir() if not is_hidden(entry.name))
    except OSError:
        return Sentence("There is no folder {folder} either. Here is {here}.", folder=path.parent, here=Path.cwd())
    if not beside:
        return Sentence("{folder} is empty.", folder=path.parent.resolve())
    # Without its ending, which all .zip share; of two names that are left alike, the one with the same ending.
    beside = beside[:50]
    names = {Path(name).stem: name for name in sorted(beside, key=lambda name: Path(name).suffix == path.suffix)}
    nearest = name_nearest(path.stem, names).fields.get("nearest")
    told = "Did you mean '{nearest}'? Valid: {choices}." if nearest else "Valid: {choices}."
    return Sentence(told, nearest=names.get(nearest), choices=", ".join(beside))
