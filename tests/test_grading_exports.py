"""Grades in the platforms' own tables, read by readers that follow the platforms' sources rather than our writer.

Moodle: `mod/assign/feedback/offline/importgradeslib.php` and `locallib.php`, `mod/assign/feedback/file/importziplib.php`. Canvas:
`lib/gradebook_importer.rb`, `app/models/assignment.rb`. Gradescope: its autograder is run as its documentation says.
"""

import csv
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pbl.errors import InputError
from pbl.grading.exports import export_grades
from pbl.grading.roster import read_roster

ROSTER = """班名,氏名,学籍番号,メールアドレス,Identifier,Canvas ID
一班,佐藤 花子,26B1,b1@example.ac.jp,参加者101,9001
一班,鈴木 太郎,26B2,b2@example.ac.jp,参加者102,9002
二班,山田 翔,26B3,b3@example.ac.jp,参加者103,9003
三班,山田 翔,26B4,b4@example.ac.jp,参加者104,9004
四班,高橋 蓮,26B5,b5@example.ac.jp,参加者105,9005
"""


@pytest.fixture
def graded(tmp_path):
    """A roster with one row for each student, and what `grade` returns: 四班 has no grade, two students share a name."""
    (tmp_path / "roster.csv").write_text(ROSTER, encoding="utf-8")
    grades = {"一班": 87.5, "二班": 60.0, "三班": 0.0, "四班": None}
    came = {"一班": ["satohanako_9001_777_a.zip"], "二班": ["yamadasho_LATE_9003_778_b.zip"], "三班": [], "四班": []}
    rows = [
        {"team": team, "final_points": grade, "total": None, "accuracy": None if grade is None else 0.9, "folder": team, "came_as": came[team]}
        for team, grade in grades.items()
    ]  # fmt: skip
    for team in grades:
        (tmp_path / "out" / "teams" / team).mkdir(parents=True)
        (tmp_path / "out" / "teams" / team / "feedback.md").write_text(f"# {team}\n", encoding="utf-8")
    return tmp_path, rows, read_roster(tmp_path / "roster.csv")


# --- Moodle


def import_worksheet(
    content: bytes, participant: str, users: dict[int, str], modified: dict[int, str]
) -> dict[str, float]:
    """As Moodle does, in its language: the columns by their headings, the number from the end of the identifier, rows left unchanged whose
    grade was changed after `Last modified (grade)`."""
    headings = {
        "参加者": ("ID", "評定", "最終更新日時 (評定)"),
        "Participant ": ("Identifier", "Grade", "Last modified (grade)"),
    }
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    columns = next(reader)
    at_id, at_grade, at_modified = (columns.index(heading) for heading in headings[participant])
    taken = {}
    for record in reader:
        number = record[at_id][len(participant) :]
        if not number.isdecimal() or int(number) not in users:
            continue
        if record[at_modified] != modified.get(int(number), record[at_modified]):
            continue
        grade = record[at_grade].replace(",", ".")
        if grade != "" and float(grade) >= 0:
            taken[users[int(number)]] = float(grade)
    return taken


USERS = {101: "佐藤 花子", 102: "鈴木 太郎", 103: "山田 翔 (103)", 104: "山田 翔 (104)", 105: "高橋 蓮"}
TAKEN = {"佐藤 花子": 87.5, "鈴木 太郎": 87.5, "山田 翔 (103)": 60.0, "山田 翔 (104)": 0.0}


@pytest.mark.parametrize("language", ["ja", "en"])
def test_a_moodle_worksheet_is_filled_and_nothing_else_is_touched(graded, language):
    place, rows, roster = graded
    if language == "ja":
        header = [
            "ID",
            "フルネーム",
            "メールアドレス",
            "ステータス",
            "評定",
            "最大評定",
            "評定変更可",
            "最終更新日時 (評定)",
            "フィードバックコメント",
        ]
        before, yes, time = "参加者", "Yes", "2026年 12月 1日(火曜日) 23:59"
    else:
        header = [
            "Identifier",
            "Full name",
            "Email address",
            "Status",
            "Grade",
            "Maximum Grade",
            "Grade can be changed",
            "Last modified (grade)",
            "Feedback comments",
        ]
        before, yes, time = "Participant ", "Yes", "Tuesday, 1 December 2026, 11:59 PM"
    people = [(101, "佐藤 花子", "b1@example.ac.jp"), (102, "鈴木 太郎", "b2@example.ac.jp"), (103, "山田 翔", "b3@example.ac.jp"),
              (104, "山田 翔", "b4@example.ac.jp"), (105, "高橋 蓮", "b5@example.ac.jp"), (106, "誰 か", "b6@example.ac.jp")]  # fmt: skip
    table = [
        header,
        *(
            [f"{before}{number}", name, mail, "提出済み, 遅延", "", "100,00", yes, time, ""]
            for number, name, mail in people
        ),
    ]
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(table)
    file = place / "worksheet.csv"
    file.write_bytes(stream.getvalue().encode("utf-8-sig"))
    kept, told = file.read_bytes(), []
    done = export_grades("moodle-worksheet", file, place / "out", rows, roster, tell=told.append)
    assert file.read_bytes() == kept and (done.filled, done.left) == (4, 2) and len(told) == 2
    users = USERS
    assert import_worksheet(done.table.read_bytes(), before, users, dict.fromkeys(users, time)) == TAKEN
    after = list(csv.reader(io.StringIO(done.table.read_bytes().decode("utf-8-sig"), newline="")))
    at = header.index("評定" if language == "ja" else "Grade")
    assert [[cell for n, cell in enumerate(row) if n != at] for row in after] == [
        [cell for n, cell in enumerate(row) if n != at] for row in table
    ]
    # The zip of feedback, by `is_valid_filename_for_import`.
    with zipfile.ZipFile(done.feedback) as archive:
        read = {}
        for name in archive.namelist():
            parts = name.split("_", 4)
            assert (
                len(parts) == 5
                and parts[1].isdecimal()
                and parts[2:4] == ["assignfeedback", "file"]
                and "/" not in name
            )
            read[int(parts[1])] = (parts[4], archive.read(name).decode())
    assert {number: page for number, (_, page) in read.items()} == {
        101: "# 一班\n",
        102: "# 一班\n",
        103: "# 二班\n",
        104: "# 三班\n",
        105: "# 四班\n",
    }


def test_points_alone_are_no_grade_where_a_mark_is_missing(graded):
    place, rows, roster = graded
    rows[0] |= {"total": 91.0, "missing_marks": []}
    rows[1] |= {"missing_marks": ["talk"]}
    file = place / "gradebook.csv"
    file.write_text(
        "First name,Last name,ID number,Email address,Assignment: Digits (Real)\n"
        "花子,佐藤,26B1,b1@example.ac.jp,-\n翔,山田,26B3,b3@example.ac.jp,-\n",
        encoding="utf-8",
    )
    told = []
    done = export_grades("moodle", file, place / "out", rows, roster, tell=told.append)
    assert done.table.read_text().splitlines()[1:] == [
        "花子,佐藤,26B1,b1@example.ac.jp,91.00",
        "翔,山田,26B3,b3@example.ac.jp,-",
    ]
    assert [str(line).partition(": ")[2] for line in told] == [
        "翔 山田 belongs to 二班, which has no grade yet: its mark talk is missing."
    ]
    for row in rows:
        row |= {"total": None, "missing_marks": ["talk"]}
    with pytest.raises(InputError, match="no team has all marks that `total` counts"):
        export_grades("moodle", file, place / "out", rows, roster)


def test_a_moodle_gradebook_is_filled_by_address_not_by_name(graded):
    place, rows, roster = graded
    file = place / "gradebook.csv"
    file.write_text(
        "First name;Last name;ID number;Email address;Assignment: Digits (Real);Course total (Real)\n"
        "翔;山田;26B4;b4@example.ac.jp;-;-\n花子;佐藤;26B1;B1@Example.ac.jp;-;-\n翔;山田;;b3@example.ac.jp;-;-\n蓮;高橋;;;-;-\n",
        encoding="utf-8",
    )
    done = export_grades("moodle", file, place / "out", rows, roster)
    read = list(csv.DictReader(done.table.read_text(encoding="utf-8").splitlines(), delimiter=";"))
    assert [row["Assignment: Digits (Real)"] for row in read] == ["0.00", "87.50", "60.00", "-"]
    assert {row["Course total (Real)"] for row in read} == {"-"} and done.feedback is None


@pytest.mark.parametrize("header", ["First name,Surname", "名,姓", "First name,Last name"])
def test_a_name_in_two_cells_is_read_as_the_rosters_is(graded, header):
    """Moodle writes Surname or Last name, depending on its version; two students are called 山田 翔."""
    place, rows, roster = graded
    file = place / "gradebook.csv"
    file.write_text(
        f"{header},ID number,Assignment: Digits (Real)\n花子,佐藤,,-\n翔,山田,,-\n翔,山田,26B3,-\n", encoding="utf-8"
    )
    done = export_grades("moodle", file, place / "out", rows, roster)
    read = list(csv.reader(done.table.read_text(encoding="utf-8").splitlines()))[1:]
    assert [row[-1] for row in read] == ["87.50", "-", "60.00"]


def test_a_team_that_came_to_the_roster_later_is_told(graded):
    """A team that an older roster did not have has no predictions: it gets no grade and no page, and the others get theirs."""
    place, rows, roster = graded
    file, told = place / "worksheet.csv", []
    file.write_text(
        "Identifier,Full name,Grade,Maximum Grade\nParticipant 101,x,,100\nParticipant 103,y,,100\n", encoding="utf-8"
    )
    done = export_grades("moodle-worksheet", file, place / "out", rows[:1], roster, tell=told.append)
    assert (
        (done.filled, done.left) == (1, 1) and len(told) == 1 and "belongs to 二班, which has no grade yet" in told[0]
    )
    with zipfile.ZipFile(done.feedback) as archive:
        assert archive.namelist() == ["x_101_assignfeedback_file_feedback.md"]


def test_a_row_that_may_be_of_two_teams_gets_no_grade(graded):
    """An address of one team next to a number of another: whichever is wrong, nobody silently gets another team's grade."""
    place, rows, roster = graded
    file, told = place / "gradebook.csv", []
    file.write_text(
        "Name,ID number,Email address,Assignment: Digits (Real)\n"
        "佐藤 花子,26B3,b1@example.ac.jp,-\n山田 翔,,,-\n佐藤 花子,26B3,,-\n",
        encoding="utf-8",
    )
    done = export_grades("moodle", file, place / "out", rows, roster, tell=told.append)
    read = list(csv.reader(done.table.read_text(encoding="utf-8").splitlines()))[1:]
    assert [row[-1] for row in read] == ["-", "-", "60.00"]  # a number counts before a name
    assert "line 2" in told[0] and "several teams (一班, 二班)" in told[0]
    assert "line 3" in told[1] and "several teams (三班, 二班)" in told[1] and len(told) == 2


@pytest.mark.parametrize("word", ["Feedback", "フィードバック"])
def test_a_moodle_gradebook_takes_feedback_where_it_was_exported_with_it(graded, word):
    """The importer maps a column to "Feedback for ..." next to that of the grade; what another person wrote to the others is kept."""
    place, rows, roster = graded
    page = place / "out" / "teams" / "一班" / "feedback.md"
    page.write_text("# 一班\n\n- Accuracy, 0.9\n", encoding="utf-8")
    file = place / "gradebook.csv"
    file.write_text(
        f"Email address,Quiz: A (Real),Quiz: A ({word}),Assignment: Digits (Real),Assignment: Digits ({word})\n"
        "b1@example.ac.jp,1,good,-,\nb3@example.ac.jp,2,,-,old\nb5@example.ac.jp,3,x,-,kept\n",
        encoding="utf-8",
    )
    done = export_grades("moodle", file, place / "out", rows, roster, "Assignment: Digits (Real)")
    read = list(csv.reader(io.StringIO(done.table.read_text(encoding="utf-8"), newline="")))[1:]
    assert [row[4] for row in read] == ["# 一班\n\n- Accuracy, 0.9", "# 二班", "kept"]
    assert [row[1:4] for row in read] == [["1", "good", "87.50"], ["2", "", "60.00"], ["3", "x", "-"]]


# --- Canvas


def import_gradebook(content: bytes, title: str) -> dict[int, str]:
    """As Canvas does: `Student` and `ID` first, `Section` before the assignments, rows of points possible and of posting are skipped."""
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    header = rows[0]
    assert "Student" in header[0] and "ID" in header[1] and header[4] == "Section" and header[3] == "SIS Login ID"
    at = header.index(title)
    grades = {}
    for row in rows[1:]:
        if "Points Possible" in row[0] or all(
            re.fullmatch(r"\s*(Muted|Manual Posting.*)?\s*", cell, re.IGNORECASE) for cell in row
        ):
            continue
        grades[int(row[1])] = row[at].strip()
    return grades


def test_a_canvas_gradebook_is_filled_by_user_id(graded):
    place, rows, roster = graded
    file = place / "canvas.csv"
    file.write_text(
        "Student,ID,SIS User ID,SIS Login ID,Section,Digits (4711),Other (4712),Final Score\n"
        ",,,,,Manual Posting,,\n"
        "    Points Possible,,,,,100.0,10.0,(read only)\n"
        '"佐藤, 花子",9001,26B1,b1,A,,7,7\n"山田, 翔",9004,26B4,b4,A,,,\n"山田, 翔",9003,26B3,b3,A,55,,\n"Student, Test",9999,,,A,,,\n',
        encoding="utf-8",
    )
    with pytest.raises(InputError, match="has 2 columns for this grade"):
        export_grades("canvas", file, place / "out", rows, roster)
    done = export_grades("canvas", file, place / "out", rows, roster, column="Digits (4711)")
    content = done.table.read_bytes()
    assert import_gradebook(content, "Digits (4711)") == {9001: "87.50", 9004: "0.00", 9003: "60.00", 9999: ""}
    assert import_gradebook(content, "Other (4712)") == {9001: "7", 9004: "", 9003: "", 9999: ""}
    with zipfile.ZipFile(done.feedback) as archive:  # by `infer_comment_context_from_filename`
        found = {
            tuple([part for part in name.split("_") if re.fullmatch(r"\d+", part)][:2]): archive.read(name).decode()
            for name in archive.namelist()
        }
    assert found == {("9001", "777"): "# 一班\n", ("9003", "778"): "# 二班\n"}


# --- Gradescope


def test_gradescopes_autograder_tells_each_student_the_teams_grade(graded):
    place, rows, roster = graded
    done = export_grades("gradescope", place / "autograder.zip", place / "out", rows, roster)
    root = place / "autograder"
    with zipfile.ZipFile(done.table) as archive:
        assert set(archive.namelist()) == {"setup.sh", "run_autograder", "grades.json"}  # at the root of the archive
        archive.extractall(root / "source")
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    assert (
        modes["setup.sh"] & modes["run_autograder"] & 0o111
        and "花子" not in (root / "source" / "grades.json").read_text()
    )
    assert (root / "source" / "setup.sh").read_text().startswith("#!") and (
        root / "source" / "run_autograder"
    ).read_text().startswith("#!")
    for mail, name, expected in (
        ("B1@example.ac.jp", "x", 87.5),
        ("", "鈴木　太郎", 87.5),
        ("b4@example.ac.jp", "山田 翔", 0.0),
        ("who@else", "誰", None),
    ):
        metadata = {"id": 1, "users": [{"email": mail, "id": 1, "name": name}]}
        (root / "submission_metadata.json").write_text(json.dumps(metadata))
        subprocess.run(
            [sys.executable, root / "source" / "run_autograder"],
            check=True,
            env={**os.environ, "AUTOGRADER_ROOT": str(root)},
        )
        results = json.loads((root / "results" / "results.json").read_text(encoding="utf-8"))
        if expected is None:
            assert results["visibility"] == "hidden" and results["score"] == 0
            continue
        assert (
            results["score"] == expected
            and results["output"].startswith("# ")
            and results["visibility"] in ("visible", "after_published", "after_due_date")
        )
        assert [set(entry) for entry in results["leaderboard"]] == [{"name", "value", "order"}]


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("moodle-worksheet", "a,b\n1,2\n", "is not the table that the platform exports. Its columns: a, b"),
        ("canvas", "Student,ID\nx,1\n", "is not the table that the platform exports"),
        ("moodle", "Email address,Total\nx,1\n", "has 0 columns for this grade"),
        (
            "moodle-worksheet",
            "Identifier,Full name,Grade,Maximum Grade\nParticipant 101,x,,50\n",
            "一班 has 87.5 points, but",
        ),
        ("gradescope", None, "give the name of the .zip to write"),
        ("canvas", None, "cannot be read"),
    ],
)
def test_another_table_gets_one_line_and_writes_nothing(graded, kind, content, said):
    place, rows, roster = graded
    file = place / "table.csv"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as error:
        export_grades(kind, file, place / "out", rows, roster)
    assert said in str(error.value) and "\n" not in str(error.value) and not list((place / "out").glob("export/*"))
    for row in rows:
        row["final_points"] = None
    with pytest.raises(InputError, match="there are no points"):
        export_grades(kind, file, place / "out", rows, roster)


def test_the_platform_and_roster_meet_in_the_class_of_sixty(tmp_path):
    """Each of sixty students gets the grade of their own team, even if two have the same name."""
    from class_of_sixty import TEAMS, make_students, write_roster

    students = make_students()
    write_roster(tmp_path / "r.csv", students)
    rows = [
        {"team": team, "final_points": float(n), "total": None, "accuracy": 0.5, "folder": str(n), "came_as": []}
        for n, team in enumerate(TEAMS)
    ]
    for n in range(20):
        (tmp_path / "teams" / str(n)).mkdir(parents=True)
        (tmp_path / "teams" / str(n) / "feedback.md").write_text(str(n))
    file: Path = tmp_path / "w.csv"
    lines = [
        "Identifier,Full name,Grade,Maximum Grade",
        *(f"Participant {s.participant},{s.name},,100.00" for s in reversed(students)),
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    done = export_grades("moodle-worksheet", file, tmp_path, rows, read_roster(tmp_path / "r.csv"))
    read = {
        row["Identifier"]: float(row["Grade"])
        for row in csv.DictReader(done.table.read_text(encoding="utf-8").splitlines())
    }
    assert read == {f"Participant {s.participant}": float(TEAMS.index(s.team)) for s in students}
