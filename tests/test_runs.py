import contextlib
import errno
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pbl import __version__
from pbl.config import Config, as_word, flatten, parse_overrides
from pbl.errors import InputError
from pbl.runs import Run, find_finished, find_unfinished, load_run, reserve_run, start_run
from pbl.storage import lock as locks
from pbl.storage import writing as storage
from pbl.storage.lock import InUse
from pbl.storage.writing import replacing, write_json


def _start(barrier, folder, names):
    barrier.wait()
    names.put(start_run(Config(experiment="race"), folder).path.name)


def test_runs_that_start_at_the_same_moment_share_no_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, names = context.Barrier(6), context.Queue()
    processes = [context.Process(target=_start, args=(barrier, tmp_path, names)) for _ in range(6)]
    for process in processes:
        process.start()
    assert sorted(names.get(timeout=60) for _ in processes) == [f"{n:03d}" for n in range(1, 7)]
    for process in processes:
        process.join()


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    file = tmp_path / "x.json"
    write_json(file, {"a": 1})
    with pytest.raises(ValueError):
        write_json(file, {"a": float("nan")})
    with pytest.raises(KeyboardInterrupt), replacing(file) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(InputError, match="could not be written: No space left on device"), replacing(file) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert json.loads(file.read_text()) == {"a": 1} and [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_links_are_followed_and_devices_refused(tmp_path):
    (tmp_path / "drive").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "drive" / "x.json")
    write_json(tmp_path / "link.json", {"a": 1})
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "drive" / "x.json").is_file()
    for file in (tmp_path, tmp_path / "pipe"):
        if file.name == "pipe":
            os.mkfifo(file)
        with pytest.raises(InputError, match="not a regular file"), replacing(file):
            pass


def test_the_copy_of_the_settings_is_exact(tmp_path):
    config = Config(experiment="x", seed=0, model_options={"widths": [3]}, image_size=8)
    run = load_run(start_run(config, tmp_path).path)
    assert run.config == config
    # Without an experiment file, one with the same settings is written.
    from pbl.config import run_experiment_file

    assert run_experiment_file(run.path / "experiment.py").config.model_dump() == config.model_dump()
    environment = run.environment
    assert environment["status"] == "running" and environment["versions"]["keras"] and environment["command"]
    assert environment["versions"]["pbl"] == __version__


def test_lock(tmp_path, monkeypatch):
    run = start_run(Config(), tmp_path)
    assert not run.is_live
    with run.lock():
        assert run.is_live
        lock = json.loads((run.path / "lock.json").read_text())
    assert not run.is_live and not (run.path / "lock.json").exists()

    # A dead process's lock blocks nothing, nor does one whose machine has been silent for long.
    for change, live in [
        ({}, False),
        ({"host": "elsewhere", "pid": 1}, True),
        ({"host": "elsewhere", "time": time.time() - 200}, False),
    ]:
        write_json(run.path / "lock.json", {**lock, "time": time.time(), **change})
        assert run.is_live is live, change
    (run.path / "lock.json").write_text("{")
    assert not run.is_live

    # A Drive without locks: there the process decides.
    monkeypatch.setattr(locks, "CAN_LOCK", False)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for pid, live in [(os.getpid(), True), (ended.pid, False)]:
        write_json(run.path / "lock.json", {**lock, "time": time.time(), "pid": pid})
        assert run.is_live is live, pid


def hold(path: Path, barrier, held) -> None:
    barrier.wait()
    with contextlib.suppress(InputError), Run(path).lock():
        held.put(os.getpid())
        barrier.wait()
        return
    barrier.wait()


@pytest.mark.slow
@pytest.mark.parametrize("dead_lock", [False, True])
def test_of_processes_that_start_at_once_one_gets_the_lock(tmp_path, dead_lock):
    context = multiprocessing.get_context("fork")
    run = start_run(Config(), tmp_path)
    for _ in range(10):
        if dead_lock:
            write_json(run.path / "lock.json", {"host": socket.gethostname(), "pid": 1, "time": 0, "token": "x"})
        barrier, held = context.Barrier(4), context.SimpleQueue()
        processes = [context.Process(target=hold, args=(run.path, barrier, held)) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        found = 0
        while not held.empty():
            held.get()
            found += 1
        assert found == 1 and not list(run.path.glob("*lock*"))


def test_a_lock_that_was_taken_over_is_not_taken_away(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.01)
    run = start_run(Config(), tmp_path)
    with run.lock():
        taken = {"host": "elsewhere", "pid": 1, "time": time.time(), "token": "another"}
        write_json(run.path / "lock.json", taken)
        for _ in range(500):
            if run.is_lock_lost:
                break
            write_json(run.path / "lock.json", taken)  # again: a heartbeat may just have been written
            time.sleep(0.01)
        assert run.is_lock_lost
    assert json.loads((run.path / "lock.json").read_text()) == taken


def test_an_unfinished_run_of_the_same_settings_is_found_and_locked_once(tmp_path):
    config = Config(experiment="x")
    run = start_run(config, tmp_path)
    assert find_unfinished(config, tmp_path).path == run.path
    assert find_unfinished(config.replace(epochs=2), tmp_path) is None
    assert find_unfinished(config.replace(max_minutes=3), tmp_path).path == run.path  # a setting that changes no result
    with run.lock(), pytest.raises(InputError, match=rf"is being trained now, by process {os.getpid()}"):
        find_unfinished(config, tmp_path).lock().__enter__()
    run.update_environment(status="finished")
    assert find_unfinished(config, tmp_path) is None and find_finished(config, tmp_path).path == run.path
    run.update_environment(trial_images=40)  # a trial on a part of the images is no result, and is not resumed
    assert find_finished(config, tmp_path) is None
    run.update_environment(status="interrupted")
    assert find_unfinished(config, tmp_path) is None


def test_a_run_is_reserved_by_one_process_alone(tmp_path):
    """The lower number is kept: a process that came at the same moment removes its own folder."""
    config = Config(experiment="x")
    first = start_run(config, tmp_path)
    with first.lock(), pytest.raises(InUse, match=r"x/001 is being trained now"):
        reserve_run(config, tmp_path)
    with pytest.raises(InUse, match="at the same moment"):  # not locked yet
        reserve_run(config, tmp_path)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["001"]
    assert reserve_run(config, tmp_path, fresh=True).path.name == "002"
    assert reserve_run(config.replace(epochs=2), tmp_path).path.name == "003"


def test_what_is_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = start_run(Config(experiment="x"), tmp_path)

    def said(path) -> str:
        with pytest.raises(InputError) as error:
            load_run(path)
        return str(error.value)

    assert "No run" in said(tmp_path / "nothing")
    assert "is a folder of runs" in said(tmp_path / "x") and str(run.path) in said(tmp_path / "x")
    (tmp_path / "empty").mkdir()
    assert "is not a run" in said(tmp_path / "empty")
    (tmp_path / "file").touch()
    assert "is not a run" in said(tmp_path / "file")
    config = (run.path / "config.json").read_text()
    (run.path / "config.json").write_text(config[:50])
    assert "config.json is not used, because it is damaged" in said(run.path)
    (run.path / "config.json").write_text(config.replace('"epochs"', '"epoch"'))
    assert "config.json: There is no setting 'epoch'" in said(run.path)
    (run.path / "config.json").write_text(config)
    (run.path / "environment.json").unlink()
    assert "environment.json is missing" in said(run.path)
    write_json(run.path / "environment.json", {"status": "running", "epochs": -1})
    assert "environment.json is not used, because it is damaged (epochs)" in said(run.path)


def test_a_number_alone_names_the_runs_that_have_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PBL_RUNS", str(tmp_path))
    for _ in range(10):
        start_run(Config(experiment="x"), tmp_path)
    with pytest.raises(InputError, match=r"No run 001\. Runs here: \S+001\.$"):
        load_run("001")
    with pytest.raises(InputError, match=r"Runs here: \.\.\., \S+003, .*010\.$"):
        load_run("100")


def test_a_lock_of_another_machine_is_watched_not_believed(tmp_path, monkeypatch):
    """Its clock may be a day ahead, or behind: only a lock that changes shows a process that trains."""
    monkeypatch.setattr(locks, "LOCK_EXPIRES_SECONDS", 0.3)
    run, now = start_run(Config(), tmp_path), time.time()
    file = run.path / "lock.json"
    for late in (0, 86_000, -86_000, 10**12, -200):
        write_json(file, {"host": "elsewhere", "pid": 1, "token": "x", "time": now + late})
        with run.lock():
            assert json.loads(file.read_text())["host"] == socket.gethostname()
        assert not file.exists()
    for text in (
        "{",
        '{"host": "x", "pid": 1, "token": "x", "time": NaN}',
        '{"host": "x", "pid": 1e400, "time": 1e400}',
    ):
        file.write_text(text)
        with run.lock():
            pass
    write_json(file, {"host": "elsewhere", "pid": 1, "token": "x", "time": now - 86_000})
    beats = threading.Timer(
        0.1, write_json, (file, {"host": "elsewhere", "pid": 1, "token": "x", "time": now - 85_990})
    )
    beats.start()
    with pytest.raises(InUse, match="process 1 on elsewhere"), run.lock():
        pass


def test_left_overs_of_processes_that_are_gone_are_swept(tmp_path):
    """By the next command that opens the run or writes there; what a living process is writing is not touched."""
    run, ended = start_run(Config(experiment="x"), tmp_path), subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    machine = storage._MACHINE
    kept = run.path / f".writing-{machine}-{os.getpid()}-1-a.json"
    of_another = run.path / ".writing-00000000-1-1-b.json"
    gone = [run.path / "figures" / f".writing-{machine}-{ended.pid}-1-c.png", run.path / ".writing-77-old.json"]
    for file in (kept, of_another, *gone):
        file.write_text("half")
    os.utime(gone[1], (1, 1))
    load_run(run.path)
    assert [file.exists() for file in (kept, of_another, *gone)] == [True, True, False, False]
    unborn, empty = tmp_path / "x" / "002", tmp_path / "x" / "notes"
    (unborn / "figures").mkdir(parents=True), empty.mkdir()
    os.utime(unborn, (1, 1))
    assert start_run(Config(experiment="x"), tmp_path).path.name == "002" and empty.exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EACCES])
def test_what_cannot_be_read_now_is_not_called_damaged(tmp_path, monkeypatch, number):
    """Reading is repeated for a moment; then the line says so, and never advises training again."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(storage._waiting, "was_in_vain", -1e9, raising=False)
    run = start_run(Config(), tmp_path)
    real, left = os.open, [1]

    def fail(path, *words):
        if str(path).endswith("environment.json") and left:
            left.pop()
            raise OSError(number, os.strerror(number))
        return real(path, *words)

    monkeypatch.setattr(os, "open", fail)
    if number != errno.EACCES:
        assert run.environment["status"] == "running" and not left
    left.extend([1] * 20)
    with pytest.raises(InputError, match=r"environment\.json cannot be read now: ") as error:
        _ = run.environment
    assert "--fresh" not in str(error.value) and os.strerror(number) in str(error.value)


def test_what_cannot_be_deleted_now_is_deleted_a_moment_later(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(storage._waiting, "was_in_vain", -1e9, raising=False)
    for name in ("state/1.npz", "state/2.npz", "x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    real, left = os.unlink, [errno.EIO, errno.EIO]

    def fail(path, *words, **names):
        if left:
            raise OSError(left.pop(), "no")
        return real(path, *words, **names)

    monkeypatch.setattr(os, "unlink", fail)
    storage.discard(tmp_path / "state")
    left.append(errno.EIO)
    storage.discard(tmp_path / "x")
    storage.discard(tmp_path / "never was")
    assert not list(tmp_path.iterdir())


def test_a_runs_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written: .* Give another with --runs"):
        start_run(Config(), tmp_path / "file")


def test_test_uses_are_counted(tmp_path):
    run = start_run(Config(), tmp_path)
    assert run.count_test_uses() == 0
    assert [run.record_test_use() for _ in range(3)] == [1, 2, 3]
    assert Run(run.path).count_test_uses() == 3


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_environment_names_the_commit(tmp_path):
    from pbl.runs import _git_commit

    assert _git_commit(tmp_path) is None
    program = "git init -q && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && touch y"
    subprocess.run(program, shell=True, check=True, cwd=tmp_path)
    git = _git_commit(tmp_path)
    assert len(git["commit"]) == 40 and git["uncommitted_changes"]


@pytest.mark.parametrize(
    ("failures", "tries", "said"),
    [
        ([errno.EIO, errno.ENOTCONN], 3, None),  # a Drive that fails for a moment
        ([errno.EIO] * 9, 7, "Input/output error"),  # and one that has gone
        ([errno.ENOSPC], 1, "No space left on device"),  # waiting does not help
    ],
)
def test_a_drive_that_fails(tmp_path, monkeypatch, failures, tries, said):
    """Files on a network folder are written locally first, then copied; what fails for a moment is tried again."""
    monkeypatch.setattr(storage, "is_remote", lambda folder: True)
    monkeypatch.setattr(storage._waiting, "was_in_vain", -1e9, raising=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    copied = []

    def copy(source, target):
        copied.append(Path(source))
        if len(copied) <= len(failures):
            raise OSError(failures[len(copied) - 1], os.strerror(failures[len(copied) - 1]))
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(shutil, "copyfile", copy)
    file = tmp_path / "state.npz"
    file.write_text("before")
    with pytest.raises(InputError, match=said) if said else contextlib.nullcontext(), replacing(file) as temporary:
        assert not temporary.is_relative_to(tmp_path)
        temporary.write_text("after")
    assert len(copied) == tries and not copied[0].exists()
    assert file.read_text() == ("before" if said else "after") and list(tmp_path.iterdir()) == [file]


def test_what_is_remote(monkeypatch):
    mounts = (
        "/dev/vda1 / ext4 rw 0 0\ndrive /content/drive fuse.drive rw 0 0\nserver:/x /mnt/my\\040class nfs4 rw 0 0\n"
        "/dev/sdb1 /media/stick fuseblk rw 0 0\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: mounts)
    found = {}
    for place in ("/content/drive/MyDrive/runs", "/content/runs", "/mnt/my class/runs", "/media/stick/runs"):
        storage.is_remote.cache_clear()
        found[place] = storage.is_remote(Path(place))
    storage.is_remote.cache_clear()
    assert list(found.values()) == [True, False, True, False]


WHOLE = {
    "labels": np.array([1, 0, 1]),
    "probabilities": np.array([[0.2, 0.8], [0.9, 0.1], [0.6, 0.4]], np.float32),
    "hashes": np.array(["c" * 64, "a" * 64, "b" * 64]),
    "names": np.array(["x.png", "y.png", "z.png"]),
    "class_names": np.array(["cat", "dog"]),
}


def test_predictions_are_read(tmp_path):
    np.savez_compressed(tmp_path / "predictions_val.npz", **WHOLE)
    saved = Run(tmp_path).read_predictions("val")
    assert all(np.array_equal(getattr(saved, name), values) for name, values in WHOLE.items())
    hashes, labels, correct = saved.by_content()
    assert [letters[0] for letters in hashes] == ["a", "b", "c"]
    assert labels.tolist() == [0, 1, 1] and correct.tolist() == [True, False, True]
    # From the first versions, and from a training that diverged.
    old = {**WHOLE, "probabilities": np.full((3, 2), np.nan, np.float32)}
    np.savez(tmp_path / "predictions_test.npz", **{name: old[name] for name in ("labels", "probabilities", "hashes")})
    saved = Run(tmp_path).read_predictions("test")
    assert saved.names is None and saved.class_names is None and np.isnan(saved.probabilities).all()


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.array([1, 0])},
        {"names": np.array(["x.png"])},
        {"names": np.array("x.png")},
        {"class_names": np.array("cat")},
        {"labels": np.array([0.5, 1, 1])},
        {"labels": np.array([[1], [0], [1]])},
        {"probabilities": np.array([0.2, 0.8, 0.1])},
        {"probabilities": np.array([["a", "b"]] * 3)},
        {"hashes": np.array([1, 2, 3])},
        {"hashes": np.array(["猫", "b", "c"])},
        {"hashes": np.array([{}, {}, {}])},  # pickled
        {name: values[:0] for name, values in WHOLE.items()},
        {"hashes": None},
    ],
    ids=str,
)
def test_damaged_predictions_are_told_in_one_line(tmp_path, change):
    arrays = {name: values for name, values in {**WHOLE, **change}.items() if values is not None}
    np.savez(tmp_path / "predictions_val.npz", **arrays)
    with pytest.raises(InputError, match=r"predictions_val\.npz is missing or damaged\. Write it again") as error:
        Run(tmp_path).read_predictions("val")
    assert not isinstance(error.value.__cause__, FileNotFoundError)


def test_too_little_memory_is_no_damage(tmp_path, monkeypatch):
    np.savez(tmp_path / "predictions_val.npz", **WHOLE)

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("pbl.storage.reading.read_array", fail)
    with pytest.raises(InputError, match=r"cannot be read now: there is not enough memory"):
        Run(tmp_path).read_predictions("val")


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_missing_and_broken_predictions_are_told_apart(tmp_path, content):
    if content is not None:
        (tmp_path / "predictions_test.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"python -m pbl evaluate .* --split test") as error:
        Run(tmp_path).read_predictions("test")
    assert isinstance(error.value.__cause__, FileNotFoundError) == (content is None)


def test_a_setting_is_written_as_the_command_line_reads_it():
    settings = {
        "learning_rate": 1e-7, "weight_decay": None, "deterministic": True, "model": "mlp", "image_size": [32, 32], "epochs": 3,
        "model_options": {"dropout": 0.5, "widths": [64, 32], "act": "relu"}, "label_smoothing": 0.1 + 0.2,
    }  # fmt: skip
    words = [f"{name}={as_word(value)}" for name, value in flatten(settings).items()]
    assert words[:4] == ["learning_rate=1e-07", "weight_decay=none", "deterministic=true", "model=mlp"]
    assert "model_options.widths=[64, 32]" in words and "label_smoothing=0.3" in words
    assert parse_overrides(words) == {**settings, "label_smoothing": 0.3}
