"""From a folder or a platform's download to one submission for each team. Files are named and copied, never opened.

These are understood unchanged:

| where from                         | names                                                                        |
|------------------------------------|------------------------------------------------------------------------------|
| the instructor's own folder              | one folder, `.zip`, `.keras`, `.csv` or `.json` for each team                |
| Moodle, a folder for each          | `NAME_123_assignsubmission_file_/`, without the last `_` since 4.1           |
| Moodle, files in one folder        | `NAME_123_assignsubmission_file_FILE`                                        |
| Moodle, groups since 4.0           | `GROUP_12_assignsubmission_file/`, `Default group_assignsubmission_file/`    |
| Moodle, groups before              | `GROUP-NAME_123_assignsubmission_file_/`, a copy for each member             |
| Moodle, anonymous                  | `Participant_101_assignsubmission_file_/`                                    |
| Google Classroom                   | `NAME - FILE`                                                                |
| Canvas                             | `name_[LATE_]USER_ATTACHMENT_FILE`, `anon_ID_ATTACHMENT_FILE`                |

each of them also as the downloaded zip. Sources: Moodle `mod/assign/classes/downloader.php` (`get_student_prefix`,
`load_submissionplugin_filelist`; commit 2a6fd313) and, before 4.0, `mod/assign/locallib.php` (`download_submissions`); Canvas
`lib/content_zipper.rb` (`get_filename`, `add_upload_submission`; commit 05e9653c).
"""

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pbl.errors import InputError
from pbl.grading.formats import ARCHIVE, DESCRIPTION, ROLES, Parts, choose_parts, is_noise, plain, role_of
from pbl.grading.refusals import Refusal, clean
from pbl.grading.roster import Roster, name_team
from pbl.grading.sandbox import MEBIBYTE
from pbl.grading.tables import fold
from pbl.storage.writing import find_failure, try_again

MOST_DEPTH, MOST_ENTRIES = 12, 100_000
MOST_FILES = 500  # files of one submission, counted before anything is opened
_MOODLE = re.compile(
    r"^(?P<name>.+?)(?:_(?P<number>\d+))?_assignsubmission_(?P<kind>file|onlinetext)(?:_(?P<file>.*))?$"
)
_CANVAS = re.compile(r"^(?P<name>\w+?)_(?:LATE_)?(?P<number>\d+)_\d+_(?P<file>.+)$")
_CANVAS_ANONYMOUS = re.compile(r"^(?:LATE_)?(?P<name>anon_[A-Za-z0-9]+)_\d+_(?P<file>.+)$")
_CANVAS_LATE = re.compile(r"(?:^|_)LATE_(?=\d+_\d+_|anon_)")
_NOBODY = frozenset({"participant", "参加者"})  # instead of a name, if Moodle's marking is anonymous
_PLAIN_NAMES = frozenset(
    {"model", "submission", "predictions", "masks", "boxes", "提出", "提出物"}
)  # words of a file name that name no team


class File(NamedTuple):
    """One file that was handed in.

    Attributes:
        name: Its path below the folder of all submissions, with `/`.
        path: Its path on this machine; None if it is not an ordinary file.
    """

    name: str
    path: Path | None


@dataclass
class Source:
    """Files that were handed in together.

    Attributes:
        key: What identifies them as belonging together.
        label: The words that name their team; "" if there are none.
        platform: "moodle", "canvas" or "".
        number: The platform's number for the person who handed them in.
        files: The files, with their names below it.
        tops: The platform's names of the files or folders.
    """

    key: str
    label: str
    platform: str = ""
    number: int | None = None
    files: list[File] = field(default_factory=list)
    tops: set[str] = field(default_factory=set)


@dataclass
class Submission:
    """What one team handed in.

    Attributes:
        team: The team's name.
        is_expected: Whether the team is on the roster, or there is no roster.
        files: The files that are graded.
        parts: Their roles; None if there is nothing to grade.
        problem: Why it is not graded, as found from names alone.
        received: See `pbl.grading.roster.Team`.
        could_be: If it belongs to no team of the roster, those for which it may be meant.
        came_as: The platform's names of the files or folders.
    """

    team: str
    is_expected: bool = True
    files: list[File] = field(default_factory=list)
    parts: Parts | None = None
    problem: Refusal | None = None
    received: datetime | None = None
    could_be: tuple[str, ...] = ()
    came_as: tuple[str, ...] = ()


def list_files(folder: Path, left_out: Iterable[Path] = ()) -> list[File]:
    """Lists all files below a folder, without following links.

    Args:
        folder: The folder.
        left_out: The instructor's own files and folders that may be below it: tables, roster, rubric, hidden set.

    Raises:
        InputError: The folder cannot be read, or contains more than any class hands in.
    """
    ours, root = {path.resolve() for path in left_out}, folder.resolve()
    found: list[File] = []
    waiting = [(folder, "", 0)]
    while waiting:
        here, prefix, depth = waiting.pop()
        try:
            with os.scandir(here) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    name = prefix + as_text(entry.name)
                    if is_noise(name) or root / os.path.relpath(entry.path, folder) in ours:
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
                "{folder} contains more than {n} files. Give the folder of submissions.", folder=folder, n=MOST_ENTRIES
            )
    return found


def as_text(name: str) -> str:
    """A file's name in one normal form; a name that is not UTF-8 is decoded as Japanese Windows writes it, or gets ? signs."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raw = os.fsencode(name)
        try:
            name = raw.decode("cp932")
        except UnicodeDecodeError:
            name = raw.decode("utf-8", "replace")
    return unicodedata.normalize("NFC", name)


def find_sources(
    files: Sequence[File], roster: Roster | None, whole: str | None = None, is_archive: bool = False
) -> list[Source]:
    """Sorts files by who handed them in, as far as their names show it.

    Args:
        files: Everything that was handed in; folders end in `/`.
        roster: The expected teams.
        whole: The name of the folder or archive of all of them; if they are the files of one team, it names the team.
        is_archive: Whether it is an archive.
    """
    files = list(files)
    if whole is not None and _is_one_submission(files, roster, whole, is_archive):
        return [Source(f"{whole}/", whole, files=files)]
    files = _descend(files, roster)
    tops = {file.name.partition("/")[0] for file in files}
    is_canvas = bool(tops) and all(_read_canvas(top) for top in tops) and not any("/" in file.name for file in files)
    sources: dict[str, Source] = {}
    for file in files:
        top, slash, rest = file.name.partition("/")
        moodle, canvas = _MOODLE.match(top), _read_canvas(top) if is_canvas else None
        if moodle and moodle["kind"] == "onlinetext":
            continue
        if moodle:
            number = int(moodle["number"]) if moodle["number"] else None
            source = Source(f"{moodle['name']}_{moodle['number'] or ''}", moodle["name"], "moodle", number)
            inside = rest if slash else moodle["file"]
        elif canvas:
            source, inside = canvas
        elif slash:
            source, inside = Source(f"{top}/", top), rest
        elif classroom := _read_classroom(top):
            source, inside = classroom
        else:
            source, inside = Source(top, _label_of_file(top, roster)), top
        source = sources.setdefault(source.key, source)
        source.tops.add(top)
        if inside:
            source.files.append(File(inside, file.path))
    return list(sources.values())


def _read_canvas(name: str) -> tuple[Source, str] | None:
    match = _CANVAS.match(name)
    if match:
        return Source(f"{match['name']}_{match['number']}", match["name"], "canvas", int(match["number"])), match[
            "file"
        ]
    match = _CANVAS_ANONYMOUS.match(name)
    return (Source(match["name"], match["name"], "canvas"), match["file"]) if match else None


def _read_classroom(name: str) -> tuple[Source, str] | None:
    """A file in Google Classroom's naming that is one part of a submission: its own name is the one that `submit` gives, and so names no team."""
    student, sign, file = name.rpartition(" - ")
    return (Source(f"{student} - ", student), file) if sign and plain(file) in ROLES else None


def is_marked_late(name: str) -> bool:
    """Whether Canvas has marked a file as late in its name, which is all that its download says about the time."""
    return _CANVAS_LATE.search(name) is not None


def _is_one_submission(files: Sequence[File], roster: Roster | None, whole: str, is_archive: bool) -> bool:
    """Whether files are those of one team rather than of a class: `submission.json` and no zip is among them, or one file that
    names nobody."""
    direct = [file.name for file in files if "/" not in file.name]
    if any(_MOODLE.match(name) or _read_canvas(name) for name in direct):
        return False
    if DESCRIPTION in (roles := _own_roles(direct)):
        return ARCHIVE not in roles  # a zip next to it may be another team's
    if not len(direct) == len(files) == 1:
        return False
    label = _label_of_file(direct[0], roster)
    if roster is not None and (roster.match(label) or roster.match(whole)):
        return not roster.match(label)
    return fold(label) in _PLAIN_NAMES or (is_archive and role_of(direct[0]) != ARCHIVE)


def _own_roles(names: Iterable[str]) -> set[str | None]:
    """The roles of files whose names do not begin with a student's name."""
    return {role_of(name) for name in names if not _read_classroom(name)}


def _descend(files: list[File], roster: Roster | None) -> list[File]:
    """Goes down through a folder that contains everything, unless it is itself a submission."""
    for _ in range(3):
        tops = {file.name.split("/")[0] for file in files}
        if len(tops) != 1 or any("/" not in file.name for file in files):
            break
        top = tops.pop()
        prefix = f"{top}/"
        inner = [File(file.name.removeprefix(prefix), file.path) for file in files if file.name != prefix]
        direct = [file.name for file in inner if "/" not in file.name]
        is_class = any(_MOODLE.match(file.name.rstrip("/")) for file in inner) or (
            bool(direct) and all(_read_canvas(name) for name in direct)
        )
        if not is_class:
            is_named = _MOODLE.match(top) or (roster is not None and roster.match(top))
            is_file = len(direct) == len(inner) == 1  # one file: from the class's only team, or a team's only file
            names_team = is_file and (
                bool(roster.match(_label_of_file(direct[0], roster))) if roster is not None else " - " in direct[0]
            )
            is_class = not is_named and (
                names_team if is_file else ARCHIVE in (roles := _own_roles(direct)) or roles <= {None}
            )
        if not inner or not is_class:
            break
        files = inner
    return files


def find_submissions(
    sources: Iterable[Source],
    roster: Roster | None,
    name_inside: Callable[[Source], str] = lambda source: "",
    limit: int = 10_000,
) -> list[Submission]:
    """Finds out to which team each source belongs.

    First, the platform's number and the outer name (see `pbl.grading.roster`) decide together; then the team's name inside the
    submission; then a name with which the outer name begins. A team that is named in a weaker way never replaces one that is named
    in a stronger one.

    Args:
        sources: What `find_sources` found.
        roster: The expected teams; if it is None, each submission belongs to the team in its name.
        name_inside: Reads the team's name inside a submission; called only if the outer name is not a team's.
        limit: MiB up to which the files of one team are compared.

    Returns:
        One submission for each expected team, including those that sent nothing, in the order of the roster; then those of
        teams that are not on it, by name.
    """
    sources = list(sources)
    labels = [_own_label(source) for source in sources]
    numbers = _find_numbers(sources, roster) if roster is not None else {}
    claims: dict[str, list[list[Source]]] = {}  # for each team: its sources by strength, strongest first
    others: dict[
        str, tuple[list[Source], set[str]]
    ] = {}  # names not on the roster: their sources, and the teams that they may mean
    for source, label in zip(sources, labels, strict=True):
        if roster is None:
            is_shared = sum(other == label for other in labels) > 1 and source.platform and source.number is not None
            name = f"{label} ({source.number})" if is_shared else label
            others.setdefault(name_team(name), ([], set()))[0].append(source)
            continue
        found, strength = _claim(source, roster, numbers, name_inside)
        if len(found) == 1:
            claims.setdefault(found.pop(), [[], [], []])[strength].append(source)
        else:
            is_same_name = found and source.number is not None
            name = name_team(f"{label} ({source.number})" if is_same_name else label)
            others.setdefault(name, ([], set()))[0].append(source)
            others[name][1].update(found)
    submissions = {}
    for team in roster.teams if roster is not None else []:
        tiers = [tier for tier in claims.get(team.name, []) if tier]
        strongest = tiers[0] if tiers else []
        submissions[team.name] = _choose(team.name, strongest, True, team.received, limit)
        for source in (source for tier in tiers[1:] for source in tier):
            if not _are_equal([strongest[0], source], limit):
                others.setdefault(name_team(source.label), ([], set()))[0].append(source)
                others[name_team(source.label)][1].add(team.name)
    for name in sorted(others):
        inside, could_be = others[name]
        while name in submissions:
            name += " (2)"  # a stranger with the name of a team, but not that team
        submissions[name] = _choose(name, inside, roster is None, None, limit)
        submissions[name].could_be = tuple(sorted(could_be))
    return list(submissions.values())


def _own_label(source: Source) -> str:
    """The name of a source if no roster gives one: in a class without names the platform's number is part of it."""
    if source.platform == "moodle" and fold(source.label) in _NOBODY and source.number is not None:
        return f"{source.label} {source.number}"
    if not source.platform and re.search(
        r" - .*(submission|predictions|masks|boxes|model|提出)", source.label, re.IGNORECASE
    ):
        return source.label.partition(" - ")[0]
    return source.label


def _claim(
    source: Source, roster: Roster, numbers: dict[int, set[str]], name_inside: Callable[[Source], str]
) -> tuple[set[str], int]:
    """The teams of the roster to which a source may belong, and the strength of the evidence: 0 by its own name, 1 by a name inside, 2
    by a name with which it begins."""
    found = _match_outside(source, roster, numbers.get(source.number, set()))
    if len(found) == 1:
        return found, 0
    names = [file.name for file in source.files if "/" not in file.name and file.path is not None]
    inside = roster.match_name(_label_of_file(names[0], roster)) if source.platform and len(names) == 1 else set()
    if len(inside) != 1:
        told = name_inside(source)
        inside = roster.match(told) if told else set()
    if len(inside) == 1 and (not found or inside <= found):
        return set(inside), 1
    for sign in () if found or source.platform else (" - ", "_"):
        begin, found_sign, _ = source.label.partition(sign)
        if found_sign and (begins := roster.match(begin)):
            return set(begins), 2
    return found, 0


def _match_outside(source: Source, roster: Roster, by_number: set[str]) -> set[str]:
    """The teams that the platform's number and the outer name mean; if the two contradict each other, those of both."""
    by_name = roster.match(source.label)
    if not by_name and source.platform == "moodle":
        # Groups before Moodle 4.0: GROUP-NAME, and both may contain a -.
        places = [place for place, sign in enumerate(source.label) if sign == "-"]
        halves = [(source.label[:place], source.label[place + 1 :]) for place in reversed(places)]
        splits = [(team, name) for group, name in halves for team in roster.match_name(group)]
        by_name = {team for team, name in splits if roster.members_match(team, name)} or {team for team, _ in splits}
    return by_name & by_number or by_name | by_number


def _find_numbers(sources: Sequence[Source], roster: Roster) -> dict[int, set[str]]:
    """The teams of the platform's numbers. Moodle writes a participant's number, and in group assignments the group's: those are
    not on the roster, and are recognised by a group's name next to a number that is not a member's."""
    if any(source.platform == "canvas" for source in sources):
        return roster.users
    for source in sources:
        teams = roster.match_name(source.label) if source.platform == "moodle" else set()
        if teams and source.number is not None and not teams & roster.participants.get(source.number, set()):
            return {}
    return roster.participants


def _label_of_file(name: str, roster: Roster | None) -> str:
    """The words of a file's name that name its team. What a browser or a team adds after them is removed only if no team
    has that name: `Team model.zip` does not belong to `Team` if there is a `Team model`."""
    whole = re.sub(r"\.(zip|keras|csv|weights\.h5)$|(?<!submission)\.json$", "", name, flags=re.IGNORECASE)
    once = re.sub(r"[ _]?\(\d+\)$", "", whole)
    ending = re.compile(r"(?: -)?[ _-](submission|predictions|masks|boxes|model)$", re.IGNORECASE)
    words = [ending.sub("", text) or text for text in (whole, once)]
    if roster is not None:
        return next((text for text in (whole, once, *words) if roster.match(text)), words[1])
    return words[1]


def _are_equal(sources: Sequence[Source], limit: int) -> bool:
    """Whether several sources contain exactly the same files, for example if each member of a team hands in the team's zip."""
    try:
        contents = [
            sorted(copy_file(file.path, None, limit) for file in source.files if file.path) for source in sources
        ]
    except (Refusal, OSError) as error:
        if find_failure(error):  # it is not known, which is no team's fault
            raise
        return False
    return all(content and content == contents[0] for content in contents)


def _choose(name: str, sources: list[Source], is_expected: bool, received: datetime | None, limit: int) -> Submission:
    came_as = tuple(sorted(top for source in sources for top in source.tops))
    submission = Submission(name, is_expected, received=received, came_as=came_as)
    if len(sources) > 1 and not _are_equal(sources, limit):
        submission.problem = Refusal(
            "two_submissions", names=clean(", ".join(sorted(source.key for source in sources)), 200)
        )
        return submission
    files = sources[0].files if sources else []
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
    """Copies a stranger's file, so that the graded file is exactly the hashed file; a drive that fails for a moment is read again.

    Args:
        source: An ordinary file; links are not followed.
        target: The copy, which is read-only; with None the file is only hashed.
        limit: MiB that it may have.

    Returns:
        Its SHA-256.

    Raises:
        Refusal: It is not an ordinary file, or too large.
        OSError: It cannot be read or written.
    """
    return try_again(lambda: _copy_once(source, target, limit), source)


def _copy_once(source: Path, target: Path | None, limit: int) -> str:
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
        except OSError:
            if target:
                target.unlink()  # for the next try
            raise
        finally:
            if copy:
                copy.close()
    if target:
        target.chmod(0o444)
    return digest.hexdigest()
