"""Whose is a submission, and when did it come: rosters, downloads of learning platforms, times. Nothing is graded here."""

import errno
import hashlib
import io
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from class_of_sixty import LAYOUTS, SILENT, TEAMS, make_class, make_students, name_inside, whose, write_roster

from pbl.errors import InputError
from pbl.grading import Rubric, results
from pbl.grading.formats import choose_parts
from pbl.grading.hidden import Hidden
from pbl.grading.intake import File, copy_file, find_sources, find_submissions, list_files
from pbl.grading.roster import Roster, Team, read_roster, safe_name
from pbl.grading.times import count_days_late, read_time


def sort(names: list[str], roster: Roster | None, file: Path, whole: str = "class", inside=lambda source: "") -> dict:
    """Each team's files; None if they are refused, and no entry if nothing was handed in."""
    found = find_submissions(find_sources([File(name, file) for name in names], roster, whole), roster, inside)
    return {s.team: [f.name for f in s.files] or None for s in found if s.parts or s.problem.reason != "nothing"}


@pytest.fixture
def content(tmp_path) -> Path:
    file = tmp_path / "content"
    file.write_bytes(b"PK")
    return file


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_class_of_sixty_comes_to_its_teams(tmp_path, layout):
    students, told = make_students(), []
    write_roster(tmp_path / "名簿.csv", students)
    roster = read_roster(tmp_path / "名簿.csv", told.append)
    assert [team.name for team in roster.teams] == TEAMS and len(told) == 2  # 1-1 and 11, Team A and team a
    (tmp_path / "in").mkdir()
    make_class(tmp_path / "in", layout, students)
    found = find_submissions(find_sources(list_files(tmp_path / "in"), roster, "in"), roster, name_inside)
    assert {s.team: whose(s) for s in found} == {team: None if team == SILENT else team for team in TEAMS}


@pytest.mark.parametrize(
    ("teams", "files", "expected"),
    [
        (["1-1", "11"], ["11.zip"], {"11"}),
        (["1-1", "11"], ["1-1.zip"], {"1-1"}),
        (["Team 1.2", "Team 12"], ["Team 12.zip"], {"Team 12"}),
        (["Team A", "team a"], ["team a.keras", "Team A.keras"], {"team a", "Team A"}),
        (["Team A", "team a"], ["TEAM A.zip"], {"TEAM A"}),  # either of them: a separate row, for a person to decide
        (["Team 7"], [f"{safe_name('Team 7')}.zip"], {"Team 7"}),
        (["Ｔｅａｍ　７"], ["team 7.zip"], {"Ｔｅａｍ　７"}),
        (["a&b"], ["ab_3_assignsubmission_file/x.zip"], {"a&b"}),
        (["A", "A-B"], ["A-B-C_7_assignsubmission_file_/x.zip"], {"A-B-C (7)"}),
        (["x"], ["Default group_assignsubmission_file/y.zip", "x_5_assignsubmission_file/x.zip"], {"Default group", "x"}),
        (["x"], ["x_5_assignsubmission_file_submission.json", "x_5_assignsubmission_file_model.weights.h5"], {"x"}),
        (["★", "☆"], ["☆.zip"], {"☆"}),
        (["A", "B"], ["A - submission.json", "A - model.weights.h5", "B - team.zip"], {"A", "B"}),  # Google Classroom
        (["Team", "Team model"], ["Team model.zip"], {"Team model"}),
        (["Group", "Group (2)"], ["Group (2).zip"], {"Group (2)"}),
        (["Group", "Group (2)"], ["Group (2) (1).zip"], {"Group (2)"}),
        (["Team", "Best model"], ["Team_model (1).zip", "Best model_submission.zip"], {"Team", "Best model"}),
    ],
)  # fmt: skip
def test_a_name_means_the_team_that_is_called_exactly_so(content, teams, files, expected):
    assert set(sort(files, Roster(map(Team, teams)), content)) == expected


@pytest.mark.parametrize(
    ("names", "whole", "teams"),
    [
        (["11.zip"], "class", {"11"}),  # one file in the class's folder
        (["model.keras"], "blue", {"blue"}),  # a team's folder with one file
        (["submission.json", "model.weights.h5"], "blue", {"blue"}),
        (["submission.json", "model.weights.h5", "B.zip"], "class", {"B", "submission.json", "model"}),  # B's zip may be another team's
        (["A - submission.json", "A - model.weights.h5", "B - team.zip"], "class", {"A", "B - team"}),
        (["A - submission.json", "A - model.weights (1).h5", "B - submission.json", "B - model.keras"], "class", {"A", "B"}),
        (["Digits/A - submission.json", "Digits/A - model.weights.h5", "Digits/B - team.zip"], "class", {"A", "B - team"}),
        (["blue/submission.json", "blue/model.weights.h5"], "class", {"blue"}),
        (["佐藤 - model.zip", "Team - A.keras"], "class", {"佐藤", "Team - A"}),
        (["A_1_assignsubmission_file_submission.json", "B_2_assignsubmission_file_submission.json"], "class", {"A", "B"}),
        (["Participant_101_assignsubmission_file_/a.zip", "Participant_102_assignsubmission_file_/a.zip"], "class", {"Participant 101", "Participant 102"}),
        (["佐藤 花子_7_assignsubmission_file_/a.zip", "佐藤 花子_8_assignsubmission_file_/a.zip"], "class", {"佐藤 花子 (7)", "佐藤 花子 (8)"}),
        (["anon_3fXa2_88_a.zip", "LATE_anon_9dk2P_89_a.zip"], "class", {"anon_3fXa2", "anon_9dk2P"}),
        (["satohanako_12_345_a.zip", "satohanako_13_346_a.zip"], "class", {"satohanako (12)", "satohanako (13)"}),
    ],
)  # fmt: skip
def test_without_a_roster_the_platforms_number_belongs_to_the_name(content, names, whole, teams):
    assert set(sort(names, None, content, whole)) == teams


def test_a_number_that_gainsays_the_name_gives_it_to_nobody(content):
    """A name that is on the roster once, and the number of another student with another name there: a person decides."""
    roster = Roster(
        [Team("A", words=["山田 翔"], participants={103}), Team("B", words=["Yamada Sho"], participants={104})]
    )

    def claim(*names):
        found = find_submissions(find_sources([File(name, content) for name in names], roster, "class"), roster)
        return {s.team: s.could_be for s in found if s.parts}

    assert claim("山田 翔_104_assignsubmission_file_/x.zip") == {"山田 翔 (104)": ("A", "B")}
    assert claim("山田 翔_103_assignsubmission_file_/x.zip") == {"A": ()}
    assert claim("山田_104_assignsubmission_file_/x.zip") == {"B": ()}  # a name of no student: the number decides
    assert claim("B_103_assignsubmission_file_/x.zip") == {"B": ()}  # a group's number, which belongs to no member


def test_canvas_numbers_what_was_handed_in_again():
    names = ["submission-1.json", "model.weights-1.h5", "fixtures-2.npz"]
    assert choose_parts(names).roles == dict(
        zip(("submission.json", "model.weights.h5", "fixtures.npz"), names, strict=True)
    )
    assert choose_parts(["predictions-3.csv", "submission-3.json"]).kind == "predictions"


def test_equal_files_of_one_team_are_one_submission_and_others_are_not(tmp_path):
    roster = Roster([Team("A", words=["x", "y"]), Team("B")])
    for name, text in (("one", "1"), ("two", "1"), ("three", "2")):
        (tmp_path / name).write_text(text)

    def sort_two(first: str, second: str):
        files = [File("x_1_assignsubmission_file_/a.zip", tmp_path / first), File("y_2_assignsubmission_file_/b.zip", tmp_path / second)]  # fmt: skip
        return find_submissions(find_sources(files, roster, "class"), roster)[0]

    assert sort_two("one", "two").parts and sort_two("one", "three").problem.reason == "two_submissions"


def test_a_drive_that_fails_for_a_moment_is_read_again(tmp_path, monkeypatch):
    """It damages no submission, and makes no two submissions of equal files."""
    content, failures = b"zip" * 700_000, [True, True]

    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() and failures:
                failures.pop()
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(size)

    (tmp_path / "a.zip").write_bytes(content)
    monkeypatch.setattr("pbl.storage.writing.RETRY_SECONDS", (0, 0))
    monkeypatch.setattr(os, "fdopen", lambda number, mode: (os.close(number), Failing(content))[1])
    sha = copy_file(tmp_path / "a.zip", tmp_path / "copy", 3)
    assert not failures and sha == hashlib.sha256(content).hexdigest() and (tmp_path / "copy").read_bytes() == content
    monkeypatch.setattr("pbl.storage.writing.RETRY_SECONDS", ())
    roster = Roster([Team("A", words=["x", "y"])])
    files = [File(f"{name}_assignsubmission_file_/a.zip", tmp_path / "a.zip") for name in ("x_1", "y_2")]
    failures.append(True)
    with pytest.raises(OSError, match="Input/output error"):
        find_submissions(find_sources(files, roster, "class"), roster)
    assert find_submissions(find_sources(files, roster, "class"), roster)[0].parts


def test_a_zip_and_another_kind_beside_it_are_two_submissions(content):
    """Nobody can say which of the two was meant; a name that says nothing changes nothing."""
    for names, reason in (
        (["A/model.zip", "A/predictions.csv"], "two_kinds"),
        (["A/model.zip", "A/model.keras"], "two_kinds"),
        (["A/model.zip", "A/notes.txt"], None),
    ):
        found = find_submissions(find_sources([File(name, content) for name in [*names, "B/x.zip"]], None), None)
        assert [one.problem and one.problem.reason for one in found] == [reason, None], names


def test_a_name_inside_takes_no_teams_place(content):
    """The team named outside keeps the row, whatever another submission says inside; and it is listed where that one could be meant."""
    roster = Roster([Team("A"), Team("B")])
    (content.parent / "other").write_bytes(b"other")
    sources = find_sources([File("A.zip", content), File("final.zip", content.parent / "other")], roster, "class")
    found = find_submissions(sources, roster, lambda source: "A")
    assert [(s.team, s.is_expected, s.could_be) for s in found] == [
        ("A", True, ()),
        ("B", True, ()),
        ("final", False, ("A",)),
    ]
    assert found[0].files[0].path == content and found[1].problem.reason == "nothing"
    assert set(sort(["final.zip"], roster, content, inside=lambda source: "b")) == {"B"}


def test_what_is_the_instructors_is_no_team(tmp_path):
    for name in ("A.zip", "grades/grades.csv", "teams.csv", "rubric.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "B").symlink_to(tmp_path / "grades")  # a link does not lead outside the class
    ours = [tmp_path / name for name in ("grades", "teams.csv", "rubric.py")]
    assert [file.name for file in list_files(tmp_path, ours)] == ["A.zip", "B"]


@pytest.mark.parametrize(
    ("content", "teams"),
    [
        ("Team name\tmembers\nA\tx", {"A": ["x"]}),
        ("班名,氏名\n一班,佐藤\n一班,鈴木\n二班,高橋", {"一班": ["佐藤", "鈴木"], "二班": ["高橋"]}),
        ("sep=;\n氏名;学籍番号\n佐藤 花子;26B1\n佐藤 花子;26B2\n鈴木;26B3", {"佐藤 花子 (26B1)": ["26B1"], "佐藤 花子 (26B2)": ["26B2"], "鈴木": ["26B3"]}),
        ('Student,ID,SIS Login ID,Section\n    Points Possible,,,\n"Sato, Hanako",77,b1,X', {"Sato, Hanako": ["77", "b1"]}),
        ("First name,Surname,Group\nHanako,Sato,G1\nTaro,Ito,G1", {"G1": ["Sato Hanako", "Ito Taro"]}),
        ('Identifier,Full name,Status,Grade\nParticipant 101,A B,"Submitted, late",50.0', {"A B": ["Participant 101"]}),
        ("班;メモ\nA;x,y,z\nB;w", {"A": ["x,y,z"], "B": ["w"]}),
    ],
)  # fmt: skip
def test_rosters_as_they_come(tmp_path, content, teams):
    (tmp_path / "r.csv").write_text(content, encoding="utf-8")
    found = read_roster(tmp_path / "r.csv").teams
    assert [team.name for team in found] == list(teams)
    for team in found:
        assert set(teams[team.name]) <= set(team.words)
        assert not {"Submitted, late", "50.0", "X"} & set(team.words)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id;x\n1;2", "has no column for the team or the student's name"),
        ("team\nA\nB\nA", "names A twice, in lines 2 and 4"),
        ("氏名\n佐藤\n佐藤", "names 佐藤 twice, in lines 2 and 3"),
        ("team,team\nA,B", "has the column team twice"),
        ("team,name\nA,Sato, Hanako", "line 2: it has more cells than the header"),
        ("team,received\nA,2026-12-01T00:00+09:00\nB,2026-12-01 00:00", "some times have a zone"),
        ('team,x\nA,"b', "names no team"),
    ],
)
def test_what_cannot_be_understood_is_refused_in_one_line(tmp_path, content, said):
    (tmp_path / "r.csv").write_text(content if said != "names no team" else "team,x\n,b", encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_roster(tmp_path / "r.csv")
    assert said in str(error.value) and "\n" not in str(error.value)


# --- times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-12-01 23:59", datetime(2026, 12, 1, 23, 59)),
        ("2026-12-01T23:59:30+09:00", datetime(2026, 12, 1, 14, 59, 30, tzinfo=UTC)),
        ("2026/12/1 23:59", datetime(2026, 12, 1, 23, 59)),
        ("2026年12月1日", datetime(2026, 12, 1)),
        ("2026年 12月 1日(火曜日) 23:59", datetime(2026, 12, 1, 23, 59)),
        ("2026年12月1日 午後 11:59", datetime(2026, 12, 1, 23, 59)),
        ("２０２６年１２月１日　２３時５９分", datetime(2026, 12, 1, 23, 59)),
        ("Tuesday, 1 December 2026, 11:59 PM", datetime(2026, 12, 1, 23, 59)),
        ("Tuesday, 1 December 2026, 12:05 AM", datetime(2026, 12, 1, 0, 5)),
        ("Dec 1, 2026 at 11:59pm", datetime(2026, 12, 1, 23, 59)),
        ("2026-12-01", datetime(2026, 12, 1)),
        ("2026-12-01 23:59:30 +0900", datetime(2026, 12, 1, 14, 59, 30, tzinfo=UTC)),  # Gradescope
        ("2026/12/1 14:59 UTC", datetime(2026, 12, 1, 14, 59, tzinfo=UTC)),
        ("1-Dec-2026 23:59", datetime(2026, 12, 1, 23, 59)),
        ("December 2026", None), ("1 Dec 26 10:00", None), ("1 December 2026, 11.59 PM", None), ("2026-12-01 24:00", None), ("2026-12-01 23:5930", None),
        ("1/2/2026 10:00", None), ("01.02.2026", None), ("soon", None), ("2026-13-01", None), ("23:59", None), ("May", None), ("1 December 2026 10:00 XYZ", None),
    ],
)  # fmt: skip
def test_times_are_read_or_refused(text, expected):
    if expected is None:
        with pytest.raises(ValueError):
            read_time(text)
    else:
        assert read_time(text) == expected


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("received", "deadline", "days"),
    [
        ("2026-12-01T23:59", "2026-12-01T23:59+09:00", 0),
        ("2026-12-01T23:59:01", "2026-12-01T23:59+09:00", 1),
        ("2026-12-01T14:58+00:00", "2026-12-01T23:59+09:00", 0),
        ("2026-12-01T15:00+00:00", "2026-12-01T23:59+09:00", 1),
        ("2026-12-03T00:00", "2026-12-01T23:59+09:00", 2),
        ("2026-12-02T10:00", "2026-12-01T12:00", 1),
    ],
)
def test_a_time_without_a_zone_is_the_deadlines(monkeypatch, received, deadline, days):
    received, deadline = datetime.fromisoformat(received), datetime.fromisoformat(deadline)
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):  # the machine's own zone has no effect: Colab has UTC
        monkeypatch.setenv("TZ", zone)
        import time

        time.tzset()
        assert count_days_late(received, deadline) == days
    monkeypatch.undo()
    time.tzset()


def test_a_change_of_the_clock_is_no_day():
    """On 25 October 2026 Berlin's clocks go back: the day has 25 hours; on 28 March 2027 they go forward."""
    deadline = datetime(2026, 10, 24, 23, 59, tzinfo=BERLIN)
    assert count_days_late(datetime(2026, 10, 25, 23, 59, tzinfo=BERLIN), deadline) == 1
    assert count_days_late(datetime(2026, 10, 25, 23, 59, 1, tzinfo=BERLIN), deadline) == 2
    assert (datetime(2026, 10, 25, 22, 59, tzinfo=UTC) - deadline.astimezone(UTC)) == timedelta(hours=25)
    deadline = datetime(2027, 3, 27, 23, 59, tzinfo=BERLIN)
    assert count_days_late(datetime(2027, 3, 28, 21, 59, tzinfo=UTC), deadline) == 1
    # In the hour that comes twice, a clock that shows less may still be later.
    twice = datetime(2026, 10, 25, 2, 50, tzinfo=BERLIN)
    assert count_days_late(datetime(2026, 10, 25, 1, 10, tzinfo=UTC), twice) == 1
    with pytest.raises(ValueError):
        count_days_late(datetime(2026, 12, 1, tzinfo=UTC), datetime(2026, 12, 1))


@pytest.mark.parametrize(
    ("deadline", "expected"),
    [
        ("2026-12-01T23:59+09:00", datetime(2026, 12, 1, 14, 59, tzinfo=UTC)),
        ("2026/12/1 23:59", datetime(2026, 12, 1, 23, 59)),
        ("2026-12-01 22", datetime(2026, 12, 1, 22)),
        (datetime(2026, 12, 1, 0, 0), datetime(2026, 12, 1)),
        ("20261201", datetime(2026, 12, 1, 23, 59, 59, 999999)),  # a date without a time means its end
        ("2026年12月1日", datetime(2026, 12, 1, 23, 59, 59, 999999)),
        (date(2026, 12, 1), datetime(2026, 12, 1, 23, 59, 59, 999999)),
        (20261201, None), (1796137140, None), ("1796137140", None), ("1/2/2026", None), ("2026-12-01 24:00", None), (True, None),
    ],
)  # fmt: skip
def test_a_deadline_is_read_as_the_times_are(deadline, expected):
    """Seconds since 1970 are not a deadline: 20261201 of them are a day in 1970, after which everybody is late."""
    if expected is None:
        with pytest.raises(
            InputError, match="Rubric: deadline: it cannot be read or is ambiguous; write 2026-12-01T23:59"
        ):
            Rubric(deadline=deadline)
    else:
        assert Rubric(deadline=deadline).deadline == expected


def test_a_deadline_without_times_is_told():
    told = []
    rows = [{"team": name, "status": "ok", "received": None} for name in "ABCDEF"]
    rows += [
        {"team": "G", "status": "missing", "received": None},
        {"team": "H", "status": "ok", "received": "2026-12-01T10:00:00"},
    ]
    results._tell_untimed(rows, told.append)
    assert len(told) == 1 and "for 6 submissions" in told[0] and "(A, B, C, D, E, ...)" in told[0]
    results._tell_untimed(rows[6:], told.append)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("received", "came_as", "flags"),
    [
        (None, ["satohanako_LATE_9001_77_a.zip"], ["late_on_platform"]),
        (None, ["LATE_anon_9dk2P_89_a.zip"], ["late_on_platform"]),
        (None, ["satohanako_9001_77_a_LATE_1.zip"], []),
        ("2026-12-01T10:00:00", ["satohanako_LATE_9001_77_a.zip"], []),  # the roster's time counts first
        ("2026-12-02T10:00:00", ["satohanako_LATE_9001_77_a.zip"], ["late"]),
    ],
)
def test_what_canvas_marks_as_late_is_flagged_where_no_time_is_known(received, came_as, flags):
    row = {"team": "A", "status": "corrupt", "received": received, "came_as": came_as, "facts": {}, "flags": []}
    hidden = Hidden(Path(), "", list("0123456789"), [], None, "")
    results._fill(row, None, None, Rubric(deadline="2026-12-01"), {}, hidden)
    assert row["flags"] == flags and row["received"] == received


def test_times_that_cannot_be_read_stop_nobody_else(tmp_path):
    told = []
    (tmp_path / "r.csv").write_text("team,received\nA,1/2/2026 10:00\nB,2026-12-01 10:00\nC,soon\nD,-\n")
    teams = read_roster(tmp_path / "r.csv", told.append).teams
    assert [(team.received, team.unread) for team in teams] == [
        (None, "1/2/2026 10:00"),
        (datetime(2026, 12, 1, 10), ""),
        (None, "soon"),
        (None, ""),
    ]
    assert len(told) == 2 and "line 2: '1/2/2026 10:00', when A was received" in told[0] and "line 4" in told[1]
