"""The expected teams, and the team that a name means.

A name is compared in three ways, the strictest first, and the first way that finds one team decides:

    exactly     as it is written (NFC), or as the name of the file that `submit` writes
    folded      without differences in width (NFKC), case and doubled spaces
    signs       letters and digits alone: platforms remove signs from file names

So `11.zip` belongs to team `11`, even if another team is called `1-1`. In each way a team's own name comes before everything else that the roster says about it.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

from pbl.errors import InputError, Sentence
from pbl.grading.refusals import clean
from pbl.grading.tables import TableError, fold, read_table
from pbl.grading.times import read_time

# Headings, folded, without spaces and _.
_TEAM = frozenset("team teamname group groupname チーム チーム名 班 班名 班番号 グループ グループ名 組 組名".split())
_STUDENT = frozenset("name fullname student studentname 氏名 名前 姓名 学生 学生名 学生氏名 フルネーム 姓/名".split())
_FIRST = frozenset("firstname givenname 名".split())
_LAST = frozenset("lastname surname familyname 姓".split())
_NUMBER = frozenset(
    "id idnumber studentid studentnumber studentno 学籍番号 学生番号 学生証番号 番号 identifier 識別子 participant participantid 参加者"
    " username userid ユーザ名 ユーザー名 email emailaddress mail メール メールアドレス sisuserid sisloginid loginid login canvasid canvasuserid".split()
)
_RECEIVED = frozenset(
    "received receivedat submitted submittedat submissiontime lastmodified(submission) 提出日時 提出時刻 受領日時 最終更新日時(提出)".split()
)
# Other columns of a platform's own table; they name nobody.
_OTHER = frozenset(
    "status grade maximumgrade gradecanbechanged lastmodified(grade) feedbackcomments onlinetext section rootaccount integrationid"
    " ステータス 評定 評点 最大評点 評定変更可 最終更新日時(評定) フィードバックコメント オンラインテキスト".split()
)
# `Participant 101` in Moodle's worksheet, in the words of its language packs; and the headings of such a column.
_PARTICIPANT = re.compile(r"(?:participant|参加者)\s*(\d+)")
_PARTICIPANT_HEADINGS = frozenset("identifier 識別子 participant participantid 参加者".split())
_CANVAS_HEADINGS = frozenset("id userid canvasid canvasuserid".split())


def name_team(label: str) -> str:
    """A team's name for a table, from its name on a platform: one printable line; a long one is cut and stays unique."""
    name = clean(unicodedata.normalize("NFC", label), 1000) or "?"
    return name if len(name) <= 64 else f"{name[:56]}…{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def safe_name(text: str) -> str:
    """A team's name as a folder name, for every system; if it had to be changed, it gets a suffix that makes it unique."""
    name = re.sub(r"[^\w.-]", "_", unicodedata.normalize("NFC", text)).strip("._")[:40]
    is_reserved = re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name.lower())
    if not name or name != text or is_reserved:
        name = f"{name or 'team'}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:6]}"
    return name


def _exact(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", fold(text))


WAYS: tuple[Callable[[str], str], ...] = (_exact, fold, _letters)


@dataclass
class Team:
    """An expected team.

    Attributes:
        name: Its name as the table shows it.
        members: For each of its rows on the roster, the cells by heading, with the headings as they are written.
        words: Other words by which a submission may name it: members, numbers.
        participants: Numbers of its members in the Moodle assignment.
        users: Their Canvas user ids.
        received: When its submission was received, as the platform says; None if that is not known.
        unread: The text of that time on the roster if it cannot be read; "" if there is no problem.
    """

    name: str
    members: list[dict[str, str]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    participants: set[int] = field(default_factory=set)
    users: set[int] = field(default_factory=set)
    received: datetime | None = None
    unread: str = ""


class Roster:
    """The expected teams of a class.

    Args:
        teams: The teams in the order of the table.

    Attributes:
        teams: As given.
    """

    def __init__(self, teams: Iterable[Team]):
        self.teams = list(teams)
        self._names: list[dict[str, set[str]]] = [{} for _ in WAYS]
        self._words: list[dict[str, set[str]]] = [{} for _ in WAYS]
        self.participants: dict[int, set[str]] = {}
        self.users: dict[int, set[str]] = {}
        for team in self.teams:
            for way, names, words in zip(WAYS, self._names, self._words, strict=True):
                _enter(names, way(team.name), team.name)
                for word in team.words:
                    _enter(words, way(word), team.name)
            _enter(self._names[0], safe_name(team.name), team.name)
            for word in team.words:  # Canvas writes `Sato, Hanako` as satohanako
                for order in _orders(word):
                    _enter(self._words[-1], _letters(order), team.name)
            for number in team.participants:
                _enter(self.participants, number, team.name)
            for number in team.users:
                _enter(self.users, number, team.name)

    def match(self, label: str) -> set[str]:
        """Returns the team that a label means; several if it may mean any of them, none if it means none."""
        for way, names, words in zip(WAYS, self._names, self._words, strict=True):
            for known in (names, words):
                found = known.get(way(label))
                if found:
                    return found
        return set()

    def match_name(self, label: str) -> set[str]:
        """Like `match`, but only by the teams' own names."""
        return next(
            (found for way, names in zip(WAYS, self._names, strict=True) if (found := names.get(way(label)))), set()
        )

    def members_match(self, team: str, label: str) -> bool:
        """Whether a label is one of a team's other words."""
        return any(team in words.get(way(label), ()) for way, words in zip(WAYS, self._words, strict=True))

    def collisions(self) -> list[tuple[str, ...]]:
        """Returns teams whose names differ only in what `folded` or `signs` ignore."""
        found = {tuple(sorted(teams)) for names in self._names[1:] for teams in names.values() if len(teams) > 1}
        return sorted(found)


def _enter(known: dict, key, team: str) -> None:
    if key or key == 0:
        known.setdefault(key, set()).add(team)


def _orders(word: str) -> Iterator[str]:
    parts = re.split(r"[\s,、，]+", word.strip())
    if 2 <= len(parts) <= 3:
        yield from ("".join(order) for order in permutations(parts))


def _heading(cell: str) -> str:
    return re.sub(r"[\s_]+", "", fold(cell))


def _is_header(cells: Iterable[str]) -> bool:
    headings = {_heading(cell) for cell in cells}
    return bool(headings & (_TEAM | _STUDENT)) or (bool(headings & _FIRST) and bool(headings & _LAST))


def read_roster(file: str | Path, tell: Callable[[str], None] = lambda line: None) -> Roster:
    """Reads the table of expected teams.

    Args:
        file: A table in UTF-8, cp932 or UTF-16 with its mark; commas, semicolons or tabs. One row for each team (column `team`,
            `Team name`, 班, 班名, ...), or one for each student, with or without a column for the team: without one each student is
            a team. `received` (提出日時) is when the submission came; other columns may name a team in a download: members, student
            numbers, `Identifier` of Moodle's worksheet, `ID` of Canvas's. Moodle's worksheet and Canvas's gradebook can be used as rosters
            unchanged. A single column without a header is a list of teams.
        tell: Called with a line for each thing that the instructor should know: names that differ only in signs, times that cannot be read.

    Raises:
        InputError: It cannot be read or understood, names no team, or names one twice.
    """
    file = Path(file).expanduser()
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError("The roster {file} cannot be read: {reason}.", file=file, reason=error.strerror) from None
    try:
        table = read_table(content, _is_header)
    except TableError as error:
        raise InputError(
            "The roster {file} cannot be read: {what}. Save it as CSV UTF-8.", file=file, what=Sentence(error.what)
        ) from None
    if not table.rows:
        raise InputError("The roster {file} is empty. It needs a column team.", file=file)
    header = [cell.strip() for cell in table.rows[0]]
    headings = [_heading(cell) for cell in header]
    body = list(zip(table.rows[1:], table.lines[1:], strict=True))
    if not _is_header(header):
        if max(len(row) for row in table.rows) > 1:
            raise InputError(
                "The roster {file}: its first row ({cells}) has no column for the team or the student's name. Write a header such as"
                " team,name or 班名,氏名.",
                file=file,
                cells=clean(", ".join(header), 80),
            )
        header, headings, body = ["team"], ["team"], list(zip(table.rows, table.lines, strict=True))
    repeated = sorted({cell for cell in header if cell and header.count(cell) > 1})
    if repeated:
        raise InputError("The roster {file} has the column {name} twice.", file=file, name=repeated[0])
    return Roster(_read_teams(file, header, headings, body, tell))


class _Row(NamedTuple):
    """A row of the roster: as many cells as the header has, its line, and the student's name."""

    cells: list[str]
    line: int
    student: str


def _read_teams(
    file: Path, header: list[str], headings: list[str], body: list, tell: Callable[[str], None]
) -> list[Team]:
    column, when = _find(headings, _TEAM), _find(headings, _RECEIVED)
    numbers = [number for number, heading in enumerate(headings) if heading in _NUMBER]
    naming = [n for n, heading in enumerate(headings) if n not in (column, when) and heading not in _OTHER]
    rows = _read_rows(file, header, headings, body)
    students = Counter(row.student for row in rows)
    teams: dict[str, Team] = {}
    first: dict[str, _Row] = {}
    zones: set[bool] = set()  # whether each time names its zone
    for row in rows:
        name = row.cells[column] if column is not None else row.student
        if column is None and students[name] > 1 and numbers and row.cells[numbers[0]]:
            name = f"{name} ({row.cells[numbers[0]]})"  # two students with one name
        if not name:
            told = "The roster {file}, line {line}: there is no team in this line, so it was skipped."
            tell(Sentence(told, file=file, line=row.line))
            continue
        name = name_team(name)
        if name in teams and (column is None or not naming or row.cells == first[name].cells):
            raise InputError(
                "The roster {file} names {team} twice, in lines {first} and {second}. Name each team once, or give each of its students a row.",
                file=file,
                team=name,
                first=first[name].line,
                second=row.line,
            )
        first.setdefault(name, row)
        team = teams.setdefault(name, Team(name))
        team.members.append({heading: cell for heading, cell in zip(header, row.cells, strict=True) if heading})
        team.words += [row.cells[number] for number in naming if row.cells[number]]
        team.words += [row.student] if column is not None and row.student else []
        for number in naming:
            read_numbers(team, headings[number], row.cells[number])
        if when is not None and row.cells[when] not in ("", "-"):
            _read_received(team, row.cells[when], file, row.line, tell)
            zones |= {team.received.tzinfo is not None} if team.received else set()
    if not teams:
        raise InputError("The roster {file} names no team.", file=file)
    if len(zones) > 1:
        raise InputError(
            "The roster {file}: some times have a zone such as +09:00, but others have none. Write all in the same way.",
            file=file,
        )
    for names in Roster(teams.values()).collisions():
        places = ", ".join(f"{name} ({first[name].line})" for name in names)
        tell(
            Sentence(
                "The roster {file}: the names of these teams differ only in signs, case or width (lines in brackets): {teams}. A submission "
                "belongs to a team only if its name is exactly the same.",
                file=file,
                teams=places,
            )
        )
    return list(teams.values())


def _read_rows(file: Path, header: list[str], headings: list[str], body: list) -> list[_Row]:
    """The rows of teams and students, without Canvas's row of points possible."""
    rows = []
    for cells, line in body:
        if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
            raise InputError(
                "The roster {file}, line {line}: it has more cells than the header. A comma within a name needs quotes around it.",
                file=file,
                line=line,
            )
        row = [cell.strip() for cell in cells[: len(header)]] + [""] * (len(header) - len(cells))
        student = name_student(headings, row)
        if not student.casefold().startswith("points possible"):
            rows.append(_Row(row, line, student))
    return rows


def name_student(headings: Sequence[str], cells: Sequence[str]) -> str:
    """A student's name from a row, in one cell or in two; "" if it has none."""
    headings = [_heading(heading) for heading in headings]
    whole, last, first = (_find(headings, words) for words in (_STUDENT, _LAST, _FIRST))
    parts = [whole] if whole is not None else [last, first]
    return " ".join(cells[number] for number in parts if number is not None and number < len(cells) and cells[number])


def _find(headings: list[str], words: frozenset[str]) -> int | None:
    return next((number for number, heading in enumerate(headings) if heading in words), None)


def is_identity(heading: str) -> bool:
    """Whether a column identifies a student: by name, number or address."""
    return _heading(heading) in _STUDENT | _NUMBER | _TEAM


def is_number(heading: str) -> bool:
    """Whether a column contains something unique to a student: a number, a user name, an address."""
    return _heading(heading) in _NUMBER


def read_numbers(team: Team, heading: str, cell: str) -> None:
    """Adds the platform's number in a cell to a team."""
    heading, cell = _heading(heading), cell.strip()
    match = _PARTICIPANT.fullmatch(fold(cell))
    if match or (heading in _PARTICIPANT_HEADINGS and cell.isdecimal()):
        team.participants.add(int(match[1] if match else cell))
    elif heading in _CANVAS_HEADINGS and cell.isdecimal():
        team.users.add(int(cell))


def _read_received(team: Team, text: str, file: Path, line: int, tell: Callable[[str], None]) -> None:
    try:
        time = read_time(text)
    except ValueError:
        team.unread = clean(text, 60)
        tell(
            Sentence(
                "The roster {file}, line {line}: '{text}', when {team} was received, cannot be read or is ambiguous. Write 2026-12-01 23:59, or "
                "add a zone such as +09:00. It counts as in time until then.",
                file=file,
                line=line,
                text=team.unread,
                team=team.name,
            )
        )
        return
    if team.received is None or (team.received.tzinfo is None) != (time.tzinfo is None) or time > team.received:
        team.received = time
