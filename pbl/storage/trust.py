"""Whose code a run's `experiment.py` is, before it is executed.

A run keeps the experiment file that it was trained with, and some commands execute it, to find its models and data sets again.
A run that a stranger sent would execute the stranger's code, so the user is asked once.

The user is not asked about a file that only sets `config = Config(...)`, a file that is part of this package (`experiments/`), and a file
with the mark of one of the user's keys. A mark is a keyed hash of the file (HMAC-SHA256), which `train` leaves in
`environment.json`. A key is made with the first run, and is kept in two places:

- in the person's settings on this machine, `~/.config/pbl/key`;
- in the folder that the variable `PBL_RUNS` names, as `.pbl-key`. There it outlives the machine: Colab gives a new machine each
  day, and yesterday's runs on the Drive are still the user's own. A team that shares the folder shares the key: whoever can
  write there could change its runs anyway. Only the folder that the variable names counts, never the folder around a run, which
  may have come with it.

Code that a person has accepted is kept in `~/.config/pbl/trusted.json`, by the file's hash: the user is not asked about it again.
"""

import ast
import contextlib
import hashlib
import hmac
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pbl.errors import InputError
from pbl.languages import say
from pbl.storage.reading import read_bytes, read_json
from pbl.storage.writing import write_json

NO_CODE = "PBL_NO_CODE"  # if set: no run's code is executed, also not in the processes that this one starts
OWN_EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"
_KEY = ".pbl-key"


def is_code_left_out() -> bool:
    """Whether `--no-code` was given: then only the package's own models and data sets are available."""
    return bool(os.environ.get(NO_CODE))


def make_marks(code: bytes) -> list[str]:
    """Returns the marks of an experiment file that is trained here, one for each key; missing keys are made."""
    return [_mark(key, code) for key in _read_keys(make=True)]


def trust_run(run: str | Path) -> None:
    """Records that the code of a run, its `experiment.py`, may be executed; the user is not asked about it again.

    Args:
        run: The run's folder.

    Example:
        >>> import pbl
        >>> pbl.trust_run("runs/mine/001")
    """
    code, file = read_bytes(Path(run) / "experiment.py"), _settings_folder() / "trusted.json"
    with contextlib.suppress(OSError, InputError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"sha256": sorted({*_read_trusted(), _hash(code)})})
    _said_yes.add(_hash(code))


_said_yes: set[str] = set()  # if the answer cannot be kept, it is valid for this process


def check_trusted(run: Path) -> None:
    """Asks whether a run's code may be executed, if it is not the user's own; without a person at the screen it may not.

    Args:
        run: The run's folder.

    Raises:
        InputError: It may not be executed.
    """
    file = run / "experiment.py"
    try:
        code = read_bytes(file, run)
    except FileNotFoundError:  # reported where the file is needed
        return
    marks = None
    with contextlib.suppress(FileNotFoundError, InputError):
        marks = read_json(run / "environment.json", run).get("marks")
    if _hash(code) in _said_yes or is_plain(code) or _is_ours(code, marks):
        return
    if sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty():
        told = "{file} is code that was not made on this machine, and would be executed. Look at it first. Execute it? [y/N] "
        print(say(told, file=file), end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            trust_run(run)
            return
    raise InputError(
        "{file} is code that was not made on this machine, and would be executed. Look at it; then add --trust, or --no-code if the model comes "
        "with this package. In Python: pbl.trust_run(RUN).",
        file=file,
    )


def is_plain(code: bytes) -> bool:
    """Whether an experiment file does nothing but `from pbl import Config` and `config = Config(...)` with numbers and texts."""
    try:
        statements = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(_is_plain(statement) for statement in statements)


def _is_plain(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.ImportFrom):
        return statement.module == "pbl" and [(name.name, name.asname) for name in statement.names] == [
            ("Config", None)
        ]
    match statement:
        case ast.Assign(targets=[ast.Name(id="config")], value=ast.Call(func=ast.Name(id="Config"), args=[]) as call):
            with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                return all(word.arg and (ast.literal_eval(word.value), True)[1] for word in call.keywords)
    return False


def _is_ours(code: bytes, marks: Any) -> bool:
    marks = [mark for mark in marks if isinstance(mark, str)] if isinstance(marks, list) else []
    for key in _read_keys():
        if any(hmac.compare_digest(_mark(key, code).encode(), mark.encode()) for mark in marks):
            return True
    if _hash(code) in _read_trusted():
        return True
    with contextlib.suppress(OSError):
        files = OWN_EXPERIMENTS.glob("*.py")
        return any(file.stat().st_size == len(code) and file.read_bytes() == code for file in files)
    return False


def _hash(code: bytes) -> str:
    return hashlib.sha256(code).hexdigest()


def _mark(key: bytes, code: bytes) -> str:
    return hmac.new(key, b"pbl experiment\n" + code, "sha256").hexdigest()


def _settings_folder() -> Path:
    with contextlib.suppress(RuntimeError):  # no home folder
        return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "pbl"
    return Path(os.devnull) / "pbl"


def _read_keys(make: bool = False) -> Iterator[bytes]:
    files = [_settings_folder() / "key"]
    if runs := os.environ.get("PBL_RUNS"):
        files.append(Path(runs).expanduser() / _KEY)
    for file in files:
        with contextlib.suppress(OSError, InputError):
            if make and not file.exists():
                _make_key(file)
            key = read_bytes(file, most=1000).strip()
            if len(key) >= 32:
                yield key


def _make_key(file: Path) -> None:
    """Makes a key that only its owner can read; if two processes do so at once, one makes it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}-{secrets.token_hex(8)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:  # noqa: PTH123
            stream.write(secrets.token_hex(32) + "\n")
        try:
            os.link(temporary, file)
        except FileExistsError:
            pass
        except OSError:  # a Drive does not support such links
            temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _read_trusted() -> list[str]:
    with contextlib.suppress(OSError, InputError):
        trusted = read_json(_settings_folder() / "trusted.json").get("sha256")
        return [word for word in trusted if isinstance(word, str)] if isinstance(trusted, list) else []
    return []
