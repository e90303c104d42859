"""A class of sixty students in twenty teams, in six layouts of handing in, with what goes wrong in a class.

Names follow what the platforms themselves write (the beginning of `pbl/grading/intake.py` names the sources). The content of each file is its
team's name, so that a test sees whose it is.
"""

import io
import json
import re
import unicodedata
import zipfile
from pathlib import Path
from typing import NamedTuple

from pbl.grading.roster import safe_name

LAYOUTS = ("plain", "moodle_old_groups", "moodle_new", "moodle_anonymous", "google_classroom", "canvas")
TEAMS = [
    "1-1", "11",  # 1: only signs distinguish them
    "Team A", "team a",  # 2: only case distinguishes them
    "Ｂ班", "第3班 - 青", "チーム・改", "Team_7", "Team 8", "佐藤研-2",  # 3: width, a platform's own separators, signs that it removes
    *[f"第{number}班" for number in range(11, 21)],
]  # fmt: skip
SILENT = "第20班"  # 4: hands nothing in
FAMILY, GIVEN = "佐藤 鈴木 高橋 田中 伊藤 渡辺 山本 中村 小林 加藤".split(), "花子 太郎 陽菜 蓮 結衣 大翔".split()


class Student(NamedTuple):
    family: str
    given: str
    team: str
    number: str
    participant: int
    user: int

    @property
    def name(self) -> str:
        return f"{self.family} {self.given}"


def make_students() -> list[Student]:
    students = []
    for place in range(60):
        team, family, given = TEAMS[place // 3], FAMILY[place % 10], GIVEN[place // 10]
        if place in (0, 31):  # 5: two students with the same name in two teams
            family, given = "山田", "翔"
        students.append(Student(family, given, team, f"26B{place:03d}", 100 + place, 9000 + 7 * place))
    return students


def write_roster(file: Path, students: list[Student]) -> None:
    """One row for each student, as an office in Japan writes it: semicolons, cp932, and columns in an order that we did not choose."""
    rows = ["氏名;学籍番号;班名;Identifier;Canvas ID"]
    rows += [f"{s.name};{s.number};{s.team};参加者{s.participant};{s.user}" for s in students]
    file.write_bytes("\r\n".join(rows).encode("cp932"))


def pack(team: str, told: str = "") -> bytes:
    """A team's zip: the same bytes each time."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("predictions.csv"), team)
        if told:
            archive.writestr(zipfile.ZipInfo("submission.json"), json.dumps({"team": told}))
    return stream.getvalue()


def name_inside(source) -> str:
    """What the locked worker reads."""
    with zipfile.ZipFile(source.files[0].path) as archive:
        names = archive.namelist()
        return json.loads(archive.read("submission.json"))["team"] if "submission.json" in names else ""


def whose(submission) -> str | None:
    """The team for which the graded file was packed."""
    if submission.parts is None:
        return None
    with zipfile.ZipFile(submission.files[0].path) as archive:
        return archive.read("predictions.csv").decode()


def moodle_clean(name: str) -> str:
    """Moodle's `clean_filename`, which is `clean_param(PARAM_FILE)`: some signs are removed (lib/moodlelib.php, `case PARAM_FILE`)."""
    return re.sub(r"[\x00-\x1f&<>\"`|':\\/]", "", name.replace("_", " "))


def canvas_clean(name: str) -> str:
    """Canvas's `sanitize_user_name`, then `sanitize_file_name`: word characters only, in lower case."""
    return re.sub(r"[^\w]", "", name.lower())


def make_class(folder: Path, layout: str, students: list[Student]) -> None:
    """Writes one layout of the class into an empty folder."""

    def write(name: str, content: bytes) -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    for place, team in enumerate(TEAMS):
        members = [student for student in students if student.team == team]
        # 6: what browsers and systems add to a name; 7: a file with the name that `submit` gives; 8: a name that says nothing
        file = ("submission (1).zip", f"{safe_name(team)}.zip", "最終版.zip")[place % 3]
        content = pack(team, team if place % 2 or place == 10 else "")
        if team == SILENT:
            if layout.startswith("moodle") and "groups" in layout:  # groups are only a text in the browser
                write(
                    f"{moodle_clean(team)}-{members[0].name}_{members[0].participant}_assignsubmission_onlinetext_/onlinetext.html",
                    b"",
                )
            continue
        if layout == "plain":
            name = team.replace("/", "")
            if team == "Team 8":  # named only inside the file
                write("final.zip", pack(team, team))
            elif place % 4 == 3:
                write(f"{name}/{file}", content)
            else:
                write(
                    f"{safe_name(team) if place % 3 == 1 else unicodedata.normalize('NFD', name)}.zip", content
                )  # 9: a name in a Mac's form
        elif layout == "moodle_old_groups":
            for member in members:  # 10: a copy for each member
                write(
                    f"{moodle_clean(f'{team}-{member.name}')}_{member.participant}_assignsubmission_file_/{file}",
                    content,
                )
        elif layout == "moodle_new":
            write(
                f"{moodle_clean(team)}_{place + 101}_assignsubmission_file/{file}", content
            )  # the group's number, also a student's
        elif layout == "moodle_anonymous":
            for member in members[: 1 + place % 3]:
                write(f"参加者_{member.participant}_assignsubmission_file_/{file}", content)
        elif layout == "google_classroom":
            # There is only a name; with two students of the same name, the zip says whose it is.
            write(f"{members[-1].name} - {file}" if place != 10 else f"{members[1].name} - {file}", content)
        else:
            member = members[place % 3]
            late = "LATE_" if place % 5 == 2 else ""
            name = canvas_clean(f"{member.family}, {member.given}")
            write(f"{name}_{late}{member.user}_{50000 + place}_{file}", content)
    write("__MACOSX/._x", b"")
    write(".DS_Store", b"")
