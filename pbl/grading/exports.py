"""Grades for the learning platform: written into the table that the platform exported, and feedback under its file names.

| kind             | the table, and what reads it (source)                                                                      |
|------------------|------------------------------------------------------------------------------------------------------------|
| moodle-worksheet | An assignment's grading worksheet; `mod/assign/feedback/offline/importgradeslib.php` (commit 452e36fc), `locallib.php` |
| moodle           | The gradebook, exported as plain text; `grade/import/csv/classes/load_data.php` (0289d8c7); columns, of the grade and of its |
|                  | feedback: `grade/export/lib.php` `format_column_name` (1248133f)                                            |
| canvas           | The gradebook; `lib/gradebook_importer.rb` (2702e63b), `lib/gradebook_exporter.rb` (433333ee)              |
| gradescope       | None: FILE is an autograder to write; gradescope-autograders.readthedocs.io, Specs and Submission Metadata (read 2026) |

Every cell except the grade stays as the platform wrote it: Moodle compares `Last modified (grade)` with its own, and skips rows whose grade
has changed since. Feedback is returned as a zip: Moodle's `NAME_ID_assignfeedback_file_FILE`
(`mod/assign/feedback/file/importziplib.php`, `is_valid_filename_for_import`, 0203d8f2), Canvas's `name_USER_ATTACHMENT_FILE`
(`app/models/assignment.rb`, `infer_comment_context_from_filename`).
"""

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pbl.errors import InputError, Sentence
from pbl.grading.refusals import clean
from pbl.grading.roster import Roster, Team, is_identity, is_number, name_student, read_numbers
from pbl.grading.tables import Table, TableError, fold, read_table
from pbl.storage.writing import replacing

Kind = Literal["moodle-worksheet", "moodle", "canvas", "gradescope"]
KINDS: tuple[Kind, ...] = ("moodle-worksheet", "moodle", "canvas", "gradescope")
# Moodle's headings in English and Japanese (lang/en/assign.php; langpack ja): the importer expects them in the language of the person who imports.
_IDENTIFIER = ("identifier", "識別子", "id")
_GRADE = ("grade", "評定", "評点")
_MAXIMUM = ("maximum grade", "最大評点", "最大評定")
_LOCKED = ("grade can be changed", "評定変更可", "評点変更可")
_FULL_NAME = ("full name", "フルネーム", "姓/名", "氏名")


class _Columns(NamedTuple):
    """The columns of the grade, and of what else the table has about it: its maximum, whether it is locked, its feedback."""

    grade: int
    maximum: int | None = None
    locked: int | None = None
    page: int | None = None


class Exported(NamedTuple):
    """The result of an export.

    Attributes:
        table: The filled table, or the autograder.
        feedback: A zip of feedback in the platform's names; None if the platform takes none.
        filled: Rows that got a grade.
        left: Rows that did not.
    """

    table: Path
    feedback: Path | None
    filled: int
    left: int


def export_grades(
    kind: Kind,
    file: str | Path,
    out: Path,
    rows: Sequence[dict[str, Any]],
    roster: Roster | None,
    column: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Writes grades for the platform: the total, or the points if the rubric has no total.

    Args:
        kind: See the beginning of this file.
        file: The table that the platform exported; for "gradescope" the `.zip` to write.
        out: The folder of the grading; the filled table and the feedback go into its `export`.
        rows: The rows of `pbl.grading.grade`.
        roster: Its identifiers give a student's team; if it is None, only names of teams do.
        column: The column of the grade, if the table has several.
        tell: Called with a line for each row that stays unchanged.

    Raises:
        InputError: There are no grades, the table is of another kind, or a grade is above its maximum.
    """
    if all(_grade(row) is None for row in rows):
        if any(row.get("missing_marks") for row in rows):
            raise InputError(
                "--export: no team has all marks that `total` counts. Fill them in: {file}.", file=out / "marks.csv"
            )
        raise InputError("--export: there are no points. Give a rubric with bands, points or total: --rubric FILE.py.")
    file = Path(file).expanduser()
    if kind == "gradescope":
        return _write_autograder(file, out, rows, roster)
    content, table = _read_platforms_table(file)
    header = [cell.strip() for cell in table.rows[0]] if table.rows else []
    columns = _find_columns(kind, file, header, column)
    roster = roster or Roster(Team(row["team"]) for row in rows)
    of_team = {row["team"]: row for row in rows}
    teams: list[str | None] = [None] * len(table.rows)
    filled = students = 0
    for number in range(1, len(table.rows)):
        cells = table.rows[number]
        if kind == "canvas" and _is_no_student(cells):
            continue
        students += 1
        found = _find_teams(header, cells, roster, columns.grade)
        team = next(iter(found)) if len(found) == 1 else None
        is_locked = fold(_cell(cells, columns.locked)) in ("no", "いいえ")
        teams[number] = team if team in of_team and not is_locked else None
        if teams[number] is not None and _grade(of_team[team]) is not None:
            _check_maximum(file, of_team[team], _maximum(kind, table, number, columns))
            _fill_row(cells, columns, of_team[team], out)
            filled += 1
        else:
            lacking = () if teams[number] is None else of_team[team].get("missing_marks", ())
            tell(_say_left(file, table.lines[number], clean(" ".join(cells[:2]), 60), found, is_locked, lacking))
    target = out / "export" / f"{kind}.csv"
    target.parent.mkdir(exist_ok=True)
    stream = io.StringIO(newline="")
    ends = "\r\n" if b"\r\n" in content else "\n"
    csv.writer(stream, delimiter=table.separator, lineterminator=ends).writerows(table.rows)
    mark = "utf-8-sig" if content.startswith(b"\xef\xbb\xbf") else "utf-8"
    with replacing(target) as temporary:
        temporary.write_bytes(stream.getvalue().encode(mark))
    names = _feedback_names(kind, header, table, teams, rows)
    feedback = _write_feedback(out, kind, names, of_team) if names else None
    return Exported(target, feedback, filled, students - filled)


def _read_platforms_table(file: Path) -> tuple[bytes, Table]:
    try:
        content = file.read_bytes()
        return content, read_table(content)
    except OSError as error:
        raise InputError("{file} cannot be read: {reason}.", file=file, reason=error.strerror) from None
    except TableError as error:
        raise InputError("--export: {file} cannot be read: {what}.", file=file, what=Sentence(error.what)) from None


def _cell(cells: Sequence[str], place: int | None) -> str:
    return cells[place] if place is not None and place < len(cells) else ""


def _fill_row(cells: list[str], columns: _Columns, row: dict[str, Any], out: Path) -> None:
    has_commas = "," in _cell(cells, columns.maximum)
    cells += [""] * (max(columns.grade, columns.page or 0) + 1 - len(cells))
    if columns.page is not None:
        cells[columns.page] = _read_page(out, row).strip()
    grade = f"{_grade(row):.2f}"
    cells[columns.grade] = grade.replace(".", ",") if has_commas else grade


def _check_maximum(file: Path, row: dict[str, Any], largest: float | None) -> None:
    if largest is not None and _grade(row) > largest:
        raise InputError(
            "{team} has {grade:g} points, but {file} allows {largest:g} at most. Give `total` in the rubric so that it fits.",
            team=row["team"],
            grade=_grade(row),
            file=file,
            largest=largest,
        )


def _say_left(
    file: Path, line: int, name: str, teams: set[str], is_locked: bool, lacking: Sequence[str] = ()
) -> Sentence:
    """The reason why a student's row gets no grade."""
    place = {"file": file, "line": line, "name": name}
    if is_locked:
        return Sentence("{file}, line {line}: the grade of {name} is locked there, and is not changed.", **place)
    if not teams:
        return Sentence("{file}, line {line}: the team of {name} is not on the roster, so there is no grade.", **place)
    team = ", ".join(sorted(teams))
    if len(teams) > 1:
        return Sentence(
            "{file}, line {line}: {name} may belong to several teams ({team}), and gets no grade. Add a number or an address of this student only "
            "to the roster.",
            **place,
            team=team,
        )
    if lacking:
        return Sentence(
            "{file}, line {line}: {name} belongs to {team}, which has no grade yet: its mark {mark} is missing.",
            **place,
            team=team,
            mark=", ".join(lacking),
        )
    return Sentence("{file}, line {line}: {name} belongs to {team}, which has no grade yet.", **place, team=team)


def _grade(row: dict[str, Any]) -> float | None:
    if row.get("missing_marks"):
        return None  # points alone would be read as the whole grade
    return row["final_points"] if row.get("total") is None else row["total"]


def _find(header: Sequence[str], words: Sequence[str]) -> int | None:
    return next((place for place, cell in enumerate(header) if fold(cell) in words), None)


def _find_columns(kind: Kind, file: Path, header: list[str], column: str | None) -> _Columns:
    """The columns of a table of this kind."""
    if kind == "moodle-worksheet":
        is_table = _find(header, _IDENTIFIER) is not None and _find(header, _MAXIMUM) is not None
        found = [place for place, cell in enumerate(header) if fold(cell) in _GRADE]
    elif kind == "moodle":
        is_table = any(is_identity(cell) for cell in header)
        found = [
            place for place, cell in enumerate(header) if re.search(r"[:：].*\((real|実点|評点|素点)\)$", fold(cell))
        ]
    else:
        is_table = len(header) > 3 and fold(header[0]) == "student" and fold(header[1]) == "id" and "Section" in header
        found = [place for place, cell in enumerate(header) if re.search(r" \(\d+\)$", cell)]
    if column is not None:
        found = [place for place, cell in enumerate(header) if fold(cell) == fold(column)]
    if not is_table:
        raise InputError(
            "--export {kind}: {file} is not the table that the platform exports. Its columns: {columns}.",
            kind=kind,
            file=file,
            columns=clean(", ".join(header), 200),
        )
    if len(found) != 1:
        raise InputError(
            "--export {kind}: {file} has {n} columns for this grade. Name it: --export-column NAME, one of {columns}.",
            kind=kind,
            file=file,
            n=len(found),
            columns=clean(", ".join(header), 300),
        )
    if kind == "moodle-worksheet":
        return _Columns(found[0], _find(header, _MAXIMUM), _find(header, _LOCKED))
    return _Columns(found[0], page=_find_feedback(header, found[0]) if kind == "moodle" else None)


def _find_feedback(header: Sequence[str], grade: int) -> int | None:
    """The column of the feedback that belongs to a gradebook's grade: `NAME (Feedback)` next to `NAME (Real)`."""
    item = re.sub(r"\s*[(（][^()（）]*[)）]$", "", header[grade])
    return _find(header, tuple(fold(f"{item} ({word})") for word in ("feedback", "フィードバック")))


def _read_page(out: Path, row: dict[str, Any]) -> str:
    return (out / "teams" / row["folder"] / "feedback.md").read_text(encoding="utf-8")


def _find_teams(header: Sequence[str], cells: Sequence[str], roster: Roster, grade: int) -> set[str]:
    """The teams to which a row's student may belong: by the platform's number, otherwise by numbers and addresses, otherwise by the name."""
    known = Team("")
    for heading, cell in zip(header, cells, strict=False):
        read_numbers(known, heading, cell)
    for numbers, of_number in ((known.participants, roster.participants), (known.users, roster.users)):
        if len(found := set().union(*(of_number.get(number, ()) for number in numbers))) == 1:
            return found
    told = [(heading, cell) for place, (heading, cell) in enumerate(zip(header, cells, strict=False)) if place != grade]
    names = [cell for heading, cell in told if is_identity(heading) and not is_number(heading)]
    several: set[str] = set()
    for ways in ([cell for heading, cell in told if is_number(heading)], [*names, name_student(header, cells)]):
        means = [roster.match(cell) for cell in ways if cell.strip()]
        if found := set().union(*(teams for teams in means if len(teams) == 1)):
            return found
        several = several.union(*means)
    return several


def _is_no_student(cells: Sequence[str]) -> bool:
    """Whether a row is one of Canvas's rows of points possible and of manual posting."""
    return "points possible" in fold(cells[0]) or all(
        re.fullmatch(r"\s*(muted|manual posting.*)?\s*", cell, re.IGNORECASE) for cell in cells
    )


def _maximum(kind: Kind, table: Table, number: int, columns: _Columns) -> float | None:
    cell = _cell(table.rows[number], columns.maximum).replace(",", ".")
    if kind == "canvas":
        cell = next((_cell(row, columns.grade) for row in table.rows[1:4] if "points possible" in fold(row[0])), "")
    try:
        return float(cell)
    except ValueError:
        return None


def _feedback_names(
    kind: Kind, header: Sequence[str], table: Table, teams: Sequence[str | None], rows: Sequence[dict[str, Any]]
) -> dict[str, str]:
    """Names of the files in the zip of feedback, and the team whose page each is."""
    if kind == "canvas":
        prefixes = {
            row["team"]: [re.match(r"\w+?_(?:LATE_)?\d+_\d+(?=_)", name) for name in row.get("came_as", ())]
            for row in rows
        }
        return {f"{match[0]}_feedback.md": team for team, found in prefixes.items() for match in found if match}
    if kind != "moodle-worksheet":
        return {}
    identifier, name = _find(header, _IDENTIFIER), _find(header, _FULL_NAME)
    names = {}
    for cells, team in zip(table.rows, teams, strict=True):
        number = re.search(r"\d+$", cells[identifier].strip()) if team is not None else None
        if number:
            called = (
                re.sub(r"[\x00-\x1f&<>\"`|':\\/_]", " ", cells[name])
                if name is not None and name < len(cells)
                else "Participant"
            )
            names[f"{' '.join(called.split())}_{number[0]}_assignfeedback_file_feedback.md"] = team
    return names


def _write_feedback(out: Path, kind: Kind, names: dict[str, str], of_team: dict[str, dict[str, Any]]) -> Path:
    target = out / "export" / f"{kind}_feedback.zip"
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, team in sorted(names.items()):
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), _read_page(out, of_team[team]))
    return target


# --- Gradescope

SETUP = "#!/usr/bin/env bash\nset -e\ncommand -v python3 || (apt-get update && apt-get install -y python3)\n"
RUN = r'''#!/usr/bin/env python3
"""Tells a student the grade that was computed beforehand; nothing of the submission is opened here."""

import hashlib
import json
import os
import pathlib
import unicodedata

root = pathlib.Path(os.environ.get("AUTOGRADER_ROOT", "/autograder"))
grades = json.loads((root / "source" / "grades.json").read_text(encoding="utf-8"))
users = json.loads((root / "submission_metadata.json").read_text(encoding="utf-8"))["users"]


def key(text):
    return hashlib.sha256(" ".join(unicodedata.normalize("NFKC", text).casefold().split()).encode()).hexdigest()


results = {"score": 0, "output": "No grade is known for this student.", "visibility": "hidden"}
for word in [user[name] for name in ("email", "name") for user in users if user.get(name)]:
    if key(word) in grades["students"]:
        results = grades["teams"][grades["students"][key(word)]]
        break
(root / "results").mkdir(exist_ok=True)
(root / "results" / "results.json").write_text(json.dumps(results), encoding="utf-8")
'''


def _write_autograder(file: Path, out: Path, rows: Sequence[dict[str, Any]], roster: Roster | None) -> Exported:
    """Writes an autograder that knows the grades; it contains no student's name, only SHA-256 of names and addresses."""
    if file.suffix.lower() != ".zip":
        raise InputError("--export gradescope {file}: give the name of the .zip to write.", file=file)
    roster = roster or Roster(Team(row["team"]) for row in rows)
    students: dict[str, str] = {}
    for team in roster.teams:
        for word in [team.name, *team.words]:
            if roster.match(word) == {team.name}:
                students[hashlib.sha256(fold(word).encode()).hexdigest()] = team.name
    teams = {}
    for row in rows:
        grade = _grade(row)
        if grade is None:
            continue
        page = out / "teams" / row["folder"] / "feedback.md"
        told = {"score": round(grade, 4), "output": page.read_text(encoding="utf-8"), "output_format": "md"}
        told |= {"visibility": "after_published"}
        for name, called in (("accuracy", "Accuracy"), ("roc_auc", "AUROC"), ("dice", "Dice"), ("map50", "mAP50")):
            if row.get(name) is not None:
                told["leaderboard"] = [{"name": called, "value": round(row[name], 4), "order": "desc"}]
        teams[row["team"]] = told
    students = {word: team for word, team in students.items() if team in teams}
    contents = {
        "setup.sh": SETUP,
        "run_autograder": RUN,
        "grades.json": json.dumps({"students": students, "teams": teams}),
    }
    with replacing(file) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in contents.items():
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = (0o644 if name.endswith(".json") else 0o755) << 16  # these files are executed
            archive.writestr(entry, text)
    return Exported(file, None, len(teams), len(rows) - len(teams))
