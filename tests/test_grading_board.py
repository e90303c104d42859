"""A leaderboard reveals no single image, the ledger shows no false line, and agreement on errors flags no honest pair."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from pbl.errors import InputError
from pbl.grading import judge, results
from pbl.grading.ledger import Ledger
from pbl.grading.results import climb


@pytest.mark.parametrize("images", [20, 60, 180, 1000, 5000])
def test_a_student_with_three_tries_learns_nothing_of_one_image(images):
    """Whatever the first try reached: a student who then changes one answer, or two, gets exactly the same score, right or not."""
    random = np.random.default_rng(0)
    for correct in random.integers(3, images - 3, 200):
        for second, third in itertools.product((-1, 0, 1), (-2, -1, 0, 1, 2)):
            told: list[tuple[float, float]] = []
            for tried in (correct, correct + second, correct + third):
                best, score = climb(tried / images, images, told)
                told.append((score, best))
            scores = {score for score, _ in told}
            assert len(scores) == 1 and scores.pop() <= correct / images + 1e-9


@pytest.mark.parametrize("images", [20, 180, 5000])
def test_a_leaderboard_is_coarse_and_true(images):
    """A shown score is never above the true one; an improvement of a step is shown, and steps are at least five images or a point."""
    step = max(5, -(-images // 100))
    for correct in range(images + 1):
        score = climb(correct / images, images, [])[1]
        assert correct / images - step / images - 0.01 < score <= correct / images + 1e-9
    told = [(climb(0.5, images, [])[1], 0.5)]
    best, score = climb(0.5 + step / images, images, told)
    assert best > 0.5 and score >= told[0][0]
    assert climb(0.1, images, told) == (0.5, told[0][0])  # a worse try changes nothing


def test_tries_are_of_one_hidden_set_and_a_cut_ledger_shows(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for files in ("x", "y"):
        ledger.add("told", key=files, team="A", files=files, hidden="one", score=0.5, best=0.52)
    ledger.add("named", key="z", team="B")
    again = Ledger(tmp_path / "ledger.jsonl")
    assert len(again.told("A", "one")) == 2 and not again.told("A", "other") and again.name_inside("z") == "B"
    assert again.is_whole and again.holds(ledger.last) and again.holds("")
    lines = (tmp_path / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "ledger.jsonl").write_bytes(b"".join(lines[:-1]))  # no line is incomplete, but the end is missing
    cut = Ledger(tmp_path / "ledger.jsonl")
    assert cut.is_whole and not cut.holds(ledger.last)


def test_a_stop_by_the_instructor_is_no_start_that_failed(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for _ in range(2):
        ledger.add("start", key="a", team="A")
        ledger.add("stopped", key="a", team="A")
    ledger.add("start", key="b", team="B")
    assert ledger.starts("a") == 0 and Ledger(tmp_path / "ledger.jsonl").starts("b") == 1


def make_class(teams: int, accuracy: float, alike: float, seed: int) -> tuple[dict, np.ndarray]:
    """Teams whose mistakes are partly the same: on some images every network is misled in the same way."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, 2000)
    shared = np.where(random.random(2000) < (1 - accuracy) * alike, (labels + 3) % 10, labels)
    given = {}
    for number in range(teams):
        own = np.where(
            random.random(2000) < (1 - accuracy) * (1 - alike), (labels + random.integers(1, 10, 2000)) % 10, shared
        )
        given[f"t{number}"] = own
    return given, labels


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9])
def test_chance_is_what_the_class_shares(alike):
    """If hidden labels are wrong, or images mislead everybody, all agree, and nobody is flagged; a copy among them is."""
    given, labels = make_class(8, 0.85, alike, 1)
    features = {name: name for name in given}
    assert judge.find_agreements(given, features, labels) == []
    random = np.random.default_rng(2)
    copied = np.where(random.random(2000) < 0.002, (labels + 1) % 10, given["t0"])
    found = judge.find_agreements({**given, "copy": copied}, {**features, "copy": "copy"}, labels)
    assert [pair[:2] for pair in found] == [("t0", "copy")] and found[0][2] > found[0][3] >= judge.CHANCE
    # Linear models share everything except their last layer, and so do heads on one frozen network: convex problems have one solution.
    assert judge.find_agreements({**given, "copy": copied}, dict.fromkeys([*given, "copy"], "same"), labels) == []
    # With two or three teams chance is not known; for predictions the network is not known.
    assert judge.find_agreements({"t0": given["t0"], "copy": copied}, {"t0": "a", "copy": "b"}, labels) == []
    assert judge.find_agreements({**given, "copy": copied}, features, labels) == []


@pytest.mark.parametrize(
    ("wrong", "has_probabilities", "is_copy"),
    [(0, False, False), (9, False, False), (10, False, True), (0, True, True)],
)
def test_teams_that_are_right_alike_have_not_copied(wrong, has_probabilities, is_copy):
    """Labels without any mistake can be written in only one way; the same ten mistakes, or the same probabilities, are flagged."""
    truth = np.arange(40) % 4
    predicted = np.where(np.arange(40) < wrong, (truth + 1) % 4, truth)
    common = {"status": "ok", "facts": {"has_probabilities": has_probabilities}}
    rows = [{"team": team, "flags": [], "files": {f"{team}.csv": "same"}, **common} for team in "AB"]
    scored = dict.fromkeys("AB", judge.Scored({}, predicted))
    results._flag_pairs(rows, scored, dict.fromkeys("AB", np.eye(4)[predicted]), truth)
    assert [row["duplicate_of"] for row in rows] == ([["B"], ["A"]] if is_copy else [[], []])


def test_a_full_disk_is_one_line(tmp_path):
    import errno
    import os

    from pbl.grading import submission
    from pbl.grading.ledger import NO_ROOM
    from pbl.storage.writing import replacing, telling_full_disks

    def fail(number: int) -> None:
        with telling_full_disks(tmp_path, NO_ROOM):
            raise OSError(number, os.strerror(number), str(tmp_path / "x"))

    for number in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(InputError, match=r"x could not be written: .*Free some space; the same command resumes"):
            fail(number)
        with (
            pytest.raises(InputError, match="too little space"),
            telling_full_disks(tmp_path, submission.NO_ROOM, folder=tmp_path),
        ):
            raise OSError(number, os.strerror(number))
    # A failing disk is not full, and perhaps a file was being read.
    with pytest.raises(InputError, match=r"x can be neither read nor written now: .*give the same command again"):
        fail(errno.EIO)
    with pytest.raises(InputError) as told, replacing(tmp_path / "y"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert "Give the same command again when the disk works." in str(told.value) and "space" not in str(told.value)
    # A fault of our own code keeps its traceback.
    with pytest.raises(FileNotFoundError), telling_full_disks(tmp_path, NO_ROOM):
        (tmp_path / "absent").read_bytes()
