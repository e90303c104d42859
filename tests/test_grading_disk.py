"""A full disk at each write of `holdout`, `submit` and `grade`: one line, nothing half-written, and the same command continues later."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pbl.errors import InputError
from pbl.grading import packing, references, results, submission, worker
from pbl.grading.grader import grade
from pbl.grading.hidden import open_hidden
from pbl.grading.holdout import make_holdout
from pbl.grading.ledger import Ledger, locked
from pbl.grading.packing import write_predictions
from pbl.grading.runner import Runner
from pbl.grading.sandbox import FULL, find_layers


class Disk:
    """A disk that is full after `room` operations that need space, below a folder."""

    def __init__(self):
        self.place, self.left, self.seen, self.full_at = None, None, 0, ""

    def hook(self, event: str, words: tuple) -> None:
        if self.place is None or event not in ("open", "os.mkdir", "os.rename") or isinstance(words[0], int):
            return
        flags = words[2] if event == "open" and words[2] else 0
        if event == "open" and not flags & (os.O_WRONLY | os.O_RDWR):
            return
        path = os.fsdecode(words[0])
        if not path.startswith(self.place) or (event == "os.rename" and Path(os.fsdecode(words[1])).exists()):
            return  # replacing an existing file needs no space
        self.seen += 1
        if self.left is not None and self.seen > self.left:
            self.full_at = self.full_at or f"{event} {path}"
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def fill(self, place: Path, left: int | None) -> None:
        self.place, self.left, self.seen, self.full_at = os.fspath(place), left, 0, ""


DISK = Disk()
sys.addaudithook(DISK.hook)


@pytest.fixture
def disk(tmp_path):
    yield DISK
    DISK.place = None


@pytest.fixture
def images(tmp_path) -> Path:
    random = np.random.default_rng(0)
    file = tmp_path / "images.npz"
    np.savez(file, x_train=random.integers(0, 256, (16, 8, 8), np.uint8), y_train=np.arange(16) % 2)
    return file


def until_it_fits(disk: Disk, place: Path, act) -> list[str]:
    """Runs `act` with space for 0, 1, 2, ... operations until there is enough; returns what was printed, and where the disk was full."""
    said, number = [], 0
    while True:
        disk.fill(place, number)
        try:
            act()
        except InputError as error:
            assert disk.full_at, error
            said.append(f"{disk.full_at}: {error}")
        else:
            assert not disk.full_at, f"passed over in silence: {disk.full_at}"
            return said
        finally:
            disk.place = None
        assert "\n" not in said[-1] and os.strerror(errno.ENOSPC) in said[-1], said[-1]
        assert not list(place.rglob(".writing*")), said[-1]
        number += 1


def test_holdout_leaves_nothing(tmp_path, images, disk):
    out = tmp_path / "made" / "hidden"

    def act():
        try:
            make_holdout(str(images), out=out, fraction=0.25, seed=0)
        except InputError:
            assert not out.exists()
            raise

    said = until_it_fits(disk, tmp_path / "made", act)
    assert len(said) > 20 and all("Free some space" in line and str(out) in line for line in said)
    assert len(list((out / "images").iterdir())) == 4


def test_references_that_find_no_room_leave_the_hidden_set_whole(tmp_path, images, monkeypatch):
    made = make_holdout(str(images), out=tmp_path / "hidden", seed=0)

    def full(folder, *words):
        folder.mkdir(parents=True)
        raise InputError("full") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(references, "_majority", full)
    with pytest.raises(InputError, match=r"No space left on device\. The hidden set .* is complete without them\.$"):
        references.make_references(made.path, made.public, tell=lambda line: None)
    assert not (made.path / "references").exists()


@pytest.mark.parametrize("name", ["a.zip", "folder"])
def test_files_of_a_submission_are_written_together(tmp_path, disk, name):
    target = tmp_path / name

    def read():
        return target.read_bytes() if target.is_file() else {file.name: file.read_bytes() for file in target.iterdir()}

    def act():
        before = read() if target.exists() else None
        try:
            packing.write_files(target, contents)
        except InputError:
            assert (read() if target.exists() else None) == before
            raise

    for contents in ({"a": b"1", "b": b"2"}, {"a": b"11", "b": b"22"}):  # the second time there is an earlier one
        assert len(until_it_fits(disk, tmp_path, act)) >= len(contents)
        assert target.is_file() or read() == contents


def test_a_folder_holds_one_submission(tmp_path):
    """With files of another kind next to it the grader would refuse both; nobody's file is overwritten or removed for that."""
    packing.write_files(tmp_path / "a", {"model.keras": b"1", "submission.json": b"1"})
    with pytest.raises(InputError, match=r"contains model.keras of another submission.* Give another: --out"):
        packing.write_files(tmp_path / "a", {"model.weights.h5": b"2", "submission.json": b"2"})
    assert {file.name: file.read_bytes() for file in (tmp_path / "a").iterdir()} == {
        "model.keras": b"1",
        "submission.json": b"1",
    }
    packing.write_files(tmp_path / "a", {"model.keras": b"3", "submission.json": b"3"})


def test_a_folder_of_grades_that_cannot_be_locked_is_told(tmp_path):
    (tmp_path / "lock").mkdir()  # represents another user's folder: root may write anywhere
    with pytest.raises(InputError, match=r"cannot be written: Is a directory\. Give another: --out"), locked(tmp_path):
        pass


@pytest.mark.slow
def test_submit_leaves_the_earlier_submission(tmp_path, trained_run, disk, monkeypatch):
    """At each write of the temporary files and of the target; the check, normally a separate process, runs in this one."""

    def work(words, **options):
        worker.work(Path(json.loads(words[-2])["folder"]))
        return subprocess.CompletedProcess(words, 0, b"")

    monkeypatch.setattr(submission, "subprocess", SimpleNamespace(**{**vars(subprocess), "run": work}))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    target = tmp_path / "a.zip"
    submission.submit(trained_run, "before", out=target)
    before = target.read_bytes()

    def act():
        try:
            submission.submit(trained_run, "after", out=target)
        except InputError:
            assert target.read_bytes() == before and not any((tmp_path / "temporary").iterdir())
            raise

    said = until_it_fits(disk, tmp_path, act)
    assert len(said) > 8 and target.read_bytes() != before

    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2**20))
    with pytest.raises(
        InputError, match=r"has 1 MB free, but 4 MB are needed\. Free some space, or name another folder"
    ):
        submission.submit(trained_run, "later", out=target)  # HDF5 would crash the process


def test_a_line_of_the_ledger_is_whole_or_not_there(tmp_path, monkeypatch):
    """When a disk becomes full, a write stores a part without an error; the next one fails."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.add("start", key="a", team="A")
    write, before = os.write, ledger.file.read_bytes()

    def write_a_part(number, content):
        if len(content) < 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(number, content[:30])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_a_part)
        with pytest.raises(InputError, match=r"No space left on device\. Free some space"):
            ledger.add("end", key="a", team="A", reason="ok", other="x" * 100)
    assert ledger.file.read_bytes() == before
    ledger.add("end", key="a", team="A", reason="ok")
    again = Ledger(ledger.file)
    assert again.is_whole and again.outcome("a")["reason"] == "ok" and again.last == ledger.last


@pytest.mark.nightly
@pytest.mark.skipif(
    any(find_layers()[layer] for layer in FULL), reason="this machine's kernel has no Landlock or no seccomp filters"
)
def test_grade_goes_on_from_where_the_disk_was_full(tmp_path, images, disk, monkeypatch):
    hidden, out = make_holdout(str(images), out=tmp_path / "hidden", seed=0).path, tmp_path / "out"
    told = open_hidden(hidden)
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        right = np.eye(2, dtype=np.float32)[np.arange(len(told.ids)) % 2]
        write_predictions(tmp_path / "in" / f"{name}.zip", name, told.class_names, told.ids, right)

    # While submissions are running: stopped with one line, and no start counts as failed.
    full, save, marks = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x"), Runner._save, []

    def save_one(self, item, ended):
        if marks:
            raise full
        marks.append(item)
        return save(self, item, ended)

    monkeypatch.setattr(Runner, "_save", save_one)
    with pytest.raises(
        InputError, match=r"No space left on device\. Free some space; the same command resumes from here"
    ):
        grade(tmp_path / "in", hidden, out=out, phase="predict")
    monkeypatch.setattr(Runner, "_save", save)
    ledger = Ledger(out / "work" / "ledger.jsonl")
    events = [json.loads(line) for line in ledger.file.read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", "end", "start", "stopped"]
    assert ledger.starts(events[-1]["key"]) == 0
    lines: list[str] = []
    rows = grade(tmp_path / "in", hidden, out=out, phase="predict", tell=lambda line: lines.append(str(line)))
    assert [row["status"] for row in rows] == ["ok", "ok"] and any("1/1 b: ok" in line for line in lines)

    # Scoring, at each of its writes: every file is complete, from this time or the time before.
    def score():
        return grade(out, hidden, phase="score")

    score()
    whole = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr(results, "write_histogram", lambda *words: b"")  # saves twenty drawings

    def act():
        try:
            score()
        finally:
            disk.place = None
            assert {path for path in out.rglob("*") if path.is_file()} == set(whole)
            for path in (out / "grades.csv", out / "grades.jsonl", out / "timings.csv", out / "work" / "ledger.jsonl"):
                assert path.read_bytes() == whole[path]

    said = until_it_fits(disk, out, act)
    assert len(said) > 6
