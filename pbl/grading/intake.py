"""From a folder or a platform's download to one submission for each team. Files are named and copied, never opened.

Understood as they come: a folder with one folder, `.zip`, `.keras` or `.csv` for each team; Moodle's `NAME_123_assignsubmission_file_`
as folders or in front of file names; Google Classroom's `NAME - file.zip`; either of them as the zip that was downloaded.
"""

import codecs
import contextlib
import csv
import hashlib
import io
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pbl.errors import InputError
from pbl.grading.formats import ARCHIVE, DESCRIPTION, MOST_FILES, Parts, choose_parts, is_noise, role_of
from pbl.grading.outcomes import Refusal, clean
from pbl.grading.sandbox import MEBIBYTE

MOST_DEPTH, MOST_ENTRIES = 12, 100_000
_MOODLE = re.compile(r"^(?P<name>.+?)_(?P<number>\d+)_assignsubmission_(?P<kind>file|onlinetext)_?(?P<file>.*)$")
_RECEIVED = ("received", "submitted", "提出日時", "受領日時")
_TEAM = ("team", "group", "name", "チーム", "チーム名", "班", "グループ", "氏名", "名前")


class File(NamedTuple):
    """One file of what was handed in.

    Attributes:
        name: Its path below the folder of all submissions, with `/`.
        path: Where it lies; None for what is no ordinary file.
    """

    name: str
    path: Path | None


@dataclass
class Team:
    """A team that is expected.

    Attributes:
        name: As the table shows it.
        others: Other words by which a submission may name it: numbers, members.
        received: When its submission was received, as the platform says; None where that is not known.
    """

    name: str
    others: tuple[str, ...] = ()
    received: datetime | None = None


@dataclass
class Submission:
    """What one team handed in.

    Attributes:
        team: The team's name.
        is_expected: Whether it stands on the roster, or there is none.
        files: The files that are graded.
        parts: Their roles; None where there is nothing to grade.
        problem: Why it is not graded, found by names alone.
        received: See `Team`.
    """

    team: str
    is_expected: bool = True
    files: list[File] = field(default_factory=list)
    parts: Parts | None = None
    problem: Refusal | None = None
    received: datetime | None = None


def decode(content: bytes) -> str | None:
    """Returns the text of a table as spreadsheets save it, in UTF-8, cp932 or UTF-16 with its mark; None of any other bytes."""
    # cp932 takes nearly any bytes, those of UTF-16 too, so its mark is looked at first.
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ("utf-16",) if is_utf16 else ("utf-8-sig", "cp932"):
        with contextlib.suppress(UnicodeDecodeError):
            return content.decode(encoding)
    return None


def read_roster(file: str | Path) -> list[Team]:
    """Reads the table of expected teams.

    Args:
        file: CSV in UTF-8, cp932 or UTF-16 with its mark, as Excel writes it. The column `team` (チーム, 班, ...; else the first) names
            them; `received` (提出日時) when their submission came; what stands in other columns may name them in a download.

    Raises:
        InputError: It cannot be read, names no team, or one twice.
    """
    file = Path(file).expanduser()
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError("The roster {file} cannot be read: {reason}.", file=file, reason=error.strerror) from None
    text = decode(content)
    if text is None:
        raise InputError("The roster {file} is neither UTF-8 nor cp932. Save it as CSV UTF-8.", file=file)
    try:
        rows = [
            [cell.strip() for cell in row]
            for row in csv.reader(io.StringIO(text, newline=""))
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise InputError("The roster {file} is no CSV file: {error}.", file=file, error=error) from None
    if not rows:
        raise InputError("The roster {file} is empty. It needs a column team.", file=file)
    header = [cell.lower() for cell in rows[0]]
    column = next((header.index(word) for word in _TEAM if word in header), None)
    when = next((header.index(word) for word in _RECEIVED if word in header), None)
    # A list without a header is a list of teams.
    body = rows[1:] if column is not None or when is not None else rows
    column = column or 0
    teams: dict[str, Team] = {}
    for row in body:
        row += [""] * (len(header) - len(row))
        if not row[column]:
            continue
        name = name_team(row[column])
        if name in teams:
            raise InputError("The roster {file} names {team} twice. Name each team once.", file=file, team=name)
        received = _read_time(row[when], file, name) if when is not None and row[when] else None
        others = tuple(cell for number, cell in enumerate(row) if number not in (column, when) and cell)
        teams[name] = Team(name, others, received)
    if not teams:
        raise InputError("The roster {file} names no team.", file=file)
    return list(teams.values())


def _read_time(text: str, file: Path, team: str) -> datetime:
    for form in (None, "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y年%m月%d日 %H:%M"):
        try:
            time = datetime.fromisoformat(text) if form is None else datetime.strptime(text, form)
            return time if time.tzinfo else time.astimezone()
        except ValueError:
            continue
    raise InputError(
        "The roster {file}: '{text}', when {team} was received, is no time. Write 2026-12-01 23:59, or with +09:00 behind it.",
        file=file,
        text=text,
        team=team,
    )


def list_files(folder: Path) -> list[File]:
    """Lists all files below a folder, following no link.

    Raises:
        InputError: The folder cannot be read, or holds more than any class hands in.
    """
    found: list[File] = []
    waiting = [(folder, "", 0)]
    while waiting:
        here, prefix, depth = waiting.pop()
        try:
            with os.scandir(here) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    name = prefix + as_text(entry.name)
                    if is_noise(name):
                        continue
                    if entry.is_dir(follow_symlinks=False) and depth < MOST_DEPTH:
                        waiting.append((Path(entry.path), f"{name}/", depth + 1))
                        found.append(File(f"{name}/", None))
                    else:
                        found.append(File(name, Path(entry.path) if entry.is_file(follow_symlinks=False) else None))
        except OSError as error:
            raise InputError("{folder} cannot be read: {reason}.", folder=here, reason=error.strerror) from None
        if len(found) > MOST_ENTRIES:
            raise InputError(
                "{folder} holds more than {n} files. Give the folder of submissions.", folder=folder, n=MOST_ENTRIES
            )
    return found


def is_one_submission(files: Sequence[File]) -> bool:
    """Whether files are those of one team rather than of a class: a `submission.json` lies among them, or there is one file."""
    direct = [file for file in files if "/" not in file.name]
    return any(role_of(file.name) == DESCRIPTION for file in direct) or len(direct) == len(files) == 1


def as_text(name: str) -> str:
    """A file's name in one way of writing; what is no UTF-8 is Japanese Windows' or becomes ?."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raw = os.fsencode(name)
        try:
            name = raw.decode("cp932")
        except UnicodeDecodeError:
            name = raw.decode("utf-8", "replace")
    return unicodedata.normalize("NFC", name)


def find_submissions(files: Iterable[File], roster: Sequence[Team] | None) -> list[Submission]:
    """Sorts files by team.

    Args:
        files: All that was handed in, folders ending in `/`.
        roster: The expected teams; where it is None each submission is of the team that its name says.

    Returns:
        One submission for each expected team, also those that sent nothing, in the order of the roster; then those of
        teams that are not on it, by name.
    """
    expected = {team.name: team for team in roster} if roster is not None else {}
    # team: source: its files. A team's own name goes before a file's name that only begins with it: that anybody may write.
    exact: dict[str, dict[str, list[File]]] = {}
    loose: dict[str, dict[str, tuple[str, list[File]]]] = {}
    for source, label, inside in _by_source(_descend(list(files))):
        team = _match(label, roster)
        if team is not None:
            exact.setdefault(team, {})[source] = inside
            continue
        begins = [label.partition(sign)[0] for sign in (" - ", "_")]
        team = next((team for begin in begins if (team := _match(begin, roster))), None)
        is_classroom = re.search(r" - .*(submission|predictions|model|提出)", label, re.IGNORECASE)
        team = team or name_team(begins[0] if is_classroom else label)
        loose.setdefault(team, {})[source] = (label, inside)
    for team, sources in loose.items():
        is_taken = team in expected and team in exact
        for source, (label, inside) in sources.items():
            exact.setdefault(name_team(label) if is_taken else team, {})[source] = inside
    names = [*expected, *sorted(exact.keys() - expected.keys())]
    return [
        _choose(name, exact.get(name, {}), roster is None or name in expected, expected.get(name)) for name in names
    ]


def name_team(label: str) -> str:
    """A team's name for a table, from what a platform calls it: one printable line; a long one is cut and stays its own."""
    name = clean(unicodedata.normalize("NFC", label), 1000) or "?"
    return name if len(name) <= 64 else f"{name[:56]}…{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _descend(files: list[File]) -> list[File]:
    """Passes through a folder that holds all there is, unless it is itself a submission."""
    for _ in range(3):
        tops = {file.name.split("/")[0] for file in files}
        if len(tops) != 1 or any("/" not in file.name for file in files):
            break
        prefix = f"{tops.pop()}/"
        inner = [File(file.name.removeprefix(prefix), file.path) for file in files if file.name != prefix]
        direct = [file for file in inner if "/" not in file.name]
        is_class = any(_MOODLE.match(file.name.rstrip("/")) for file in inner) or not any(
            role_of(file.name) not in (None, ARCHIVE) for file in direct
        )
        if not inner or not is_class or (len(direct) == len(inner) == 1):
            break
        files = inner
    return files


def _by_source(files: list[File]) -> Iterable[tuple[str, str, list[File]]]:
    """Files that belong together: (what they have in common, the words that name their team, the files)."""
    sources: dict[str, tuple[str, list[File]]] = {}
    for file in files:
        top, slash, rest = file.name.partition("/")
        moodle = _MOODLE.match(top)
        if moodle and moodle["kind"] == "onlinetext":
            continue
        if moodle:
            source, label = f"{moodle['name']}_{moodle['number']}", moodle["name"]
            inside = rest if slash else moodle["file"]
        elif slash:
            source, label, inside = f"{top}/", top, rest
        else:
            source, label, inside = top, _label_of_file(top), top
        group = sources.setdefault(source, (label, []))
        if inside:
            group[1].append(File(inside, file.path))
    for source, (label, inside) in sources.items():
        yield source, label, inside


def _label_of_file(name: str) -> str:
    stem = re.sub(r"\.(zip|keras|csv|weights\.h5)$", "", name, flags=re.IGNORECASE)
    stem = re.sub(r"[ _]?\(\d+\)$", "", stem)
    return re.sub(r"[ _-](submission|predictions|model)$", "", stem, flags=re.IGNORECASE) or stem


def _plain(text: str) -> str:
    return re.sub(r"[\s_\-.]+", "", unicodedata.normalize("NFKC", text)).casefold()


def _match(label: str, roster: Sequence[Team] | None) -> str | None:
    """The team that a label names: by its own name or one of its other words."""
    plain = _plain(label)
    if roster is None or not plain:
        return None
    for team in roster:
        if _plain(team.name) == plain:
            return team.name
    found = {team.name for team in roster if plain in map(_plain, team.others)}
    return found.pop() if len(found) == 1 else None  # a word that two teams share names neither


def _choose(name: str, sources: dict[str, list[File]], is_expected: bool, team: Team | None) -> Submission:
    submission = Submission(name, is_expected, received=team.received if team else None)
    if len(sources) > 1:
        submission.problem = Refusal("two_submissions", names=clean(", ".join(sorted(sources)), 200))
        return submission
    files = [file for inside in sources.values() for file in inside]
    strange = [file for file in files if file.path is None and not file.name.endswith("/")]
    files = [file for file in files if not file.name.endswith("/")]
    try:
        if len(files) > MOST_FILES:
            raise Refusal("too_many_files", limit=MOST_FILES)
        for file in strange:
            if role_of(file.name) is not None or len(files) == 1:
                raise Refusal("not_regular", name=clean(file.name))
        parts = choose_parts(file.name for file in files if file.path is not None)
    except Refusal as problem:
        submission.problem = problem
        return submission
    submission.parts = parts
    submission.files = [file for file in files if file.name in parts.roles.values()]
    return submission


def copy_file(source: Path, target: Path | None, limit: int) -> str:
    """Copies a stranger's file, so that the file that is graded is the file that was hashed.

    Args:
        source: An ordinary file; no link is followed.
        target: Where it goes, with leave to read only; None: it is only hashed.
        limit: MiB that it may have.

    Returns:
        Its SHA-256.

    Raises:
        Refusal: It is no ordinary file, or too large.
        OSError: It cannot be read or written.
    """
    try:
        number = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (40, 6, 62):  # a link (ELOOP, on Linux and BSD), a socket
            raise Refusal("not_regular", name=clean(source.name)) from None
        raise
    status = os.fstat(number)
    if not stat.S_ISREG(status.st_mode):
        os.close(number)
        raise Refusal("not_regular", name=clean(source.name))
    with os.fdopen(number, "rb") as stream:
        digest, left = hashlib.sha256(), limit * MEBIBYTE
        copy = target.open("xb") if target else None
        try:
            while piece := stream.read(MEBIBYTE):
                left -= len(piece)
                if left < 0:
                    raise Refusal(
                        "too_large", file=clean(source.name), size=-(-status.st_size // MEBIBYTE), limit=limit
                    )
                digest.update(piece)
                if copy:
                    copy.write(piece)
        finally:
            if copy:
                copy.close()
                target.chmod(0o444)
    return digest.hexdigest()
