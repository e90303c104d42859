"""Damaged runs, and runs made by a stranger: each command soon ends in a result or in one line, and never shows a wrong number.

The two runs of `runs_of_the_first_form.zip` are changed at random, with fixed seeds, one file at a time. Half of the changes
are like a disk's faults, the others use knowledge of the file's content.
"""

import io
import json
import os
import random
import shutil
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pbl.cli import main
from pbl.comparison import compare, find_runs
from pbl.diagnosis.advice import diagnose_run
from pbl.errors import InputError
from pbl.reports import run_report, team_log
from pbl.reports.team_report import write_team_report

ARCHIVE = Path(__file__).parent / "runs_of_the_first_form.zip"
RUN, OTHER = "runs/old_experiment/001", "runs/old_experiment/002"
MOST_SECONDS = 30  # for one command

HOSTILE = [
    None, True, -1, 0, 1, 2, 0.5, 1e308, 10**30, "", "x", "\x1b[31m", "=1+1", "猫" * 9000, [], {}, [[]], [None], {"a": {}}, "nan",
]  # fmt: skip
TEXTS = [
    b"", b"{", b"null", b"[1]", b"\xff\xfe\x00", b'{"a": 1e400}', b'{"a": NaN}', b'{"a": ' + b"[" * 100_000,
    b'{"host": "x", "pid": 1e400, "time": 1e400, "token": 3}', b"a,b\n1\n2,3,4\n", b'"' * 9999, b"PK\x03\x04", b"PK\x05\x06" + bytes(18),
]  # fmt: skip


def change_bytes(file: Path, chance: random.Random) -> None:
    """Like a disk's fault: bits flip, a part is lost or becomes zeros."""
    content = bytearray(file.read_bytes())
    at = chance.randrange(len(content))
    kind = chance.randrange(4)
    if kind == 0:
        content[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del content[at:]
    elif kind == 2:
        content[at : at + 4096] = bytes(len(content[at : at + 4096]))
    else:
        for _ in range(20):
            content[chance.randrange(len(content))] = chance.randrange(256)
    file.write_bytes(content)


def change_kind(file: Path, chance: random.Random) -> None:
    """Replaces the file by something else."""
    file.unlink()
    kind = chance.randrange(7)
    if kind == 0:
        os.mkfifo(file)
    elif kind == 1:
        file.symlink_to("/dev/zero")
    elif kind == 2:
        file.symlink_to(file.name)
    elif kind == 3:
        file.mkdir()
    elif kind == 4:
        file.symlink_to("/etc/hostname")
    elif kind == 5:
        with file.open("wb") as stream:
            stream.truncate(2**40)  # a sparse file: nothing of it is on the disk
    # otherwise the file is missing


def change_value(value, chance: random.Random):
    """Puts another value somewhere into a JSON value."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        if chance.random() < 0.1:
            return {name: inner for name, inner in value.items() if name != key}
        return {**value, key: change_value(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        at = chance.randrange(len(value))
        return [*value[:at], change_value(value[at], chance), *value[at + 1 :]]
    return chance.choice(HOSTILE)


def change_array(array: np.ndarray, chance: random.Random) -> np.ndarray:
    kind = chance.randrange(6)
    if kind == 0:
        kind = chance.choice(["U8", "f8", "i8", "bool", "u1"])
        try:
            return array.astype(kind)
        except ValueError:  # words that are not numbers
            return np.zeros(array.shape, kind)
    if kind == 1:
        return array[: chance.randrange(len(array) + 1)] if array.ndim else array
    if kind == 2:
        return array[None]
    if kind == 3:
        return np.full(array.shape, chance.choice([0, -1, 65_535, 2**31 - 1]), np.int64)
    if kind == 4:
        return np.full(array.shape, chance.choice([np.nan, np.inf, 1e30]))
    return np.array(chance.choice([[], 3, "x"]))


def change_meaning(file: Path, chance: random.Random) -> None:
    """Changes the content like somebody who knows the file."""
    if file.suffix == ".json":
        text = change_value(json.loads(file.read_bytes()), chance)
        file.write_text(json.dumps(text), encoding="utf-8")
    elif file.suffix == ".npz":
        with np.load(file) as saved:
            arrays = dict(saved)
        name = chance.choice(list(arrays))
        if name == "text" and chance.random() < 0.8:
            text = change_value(json.loads(arrays["text"].tobytes()), chance)
            arrays["text"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
        elif chance.random() < 0.2:
            claim_too_much(file, name)
            return
        else:
            arrays[name] = change_array(arrays[name], chance)
        np.savez(file, **arrays)
    elif file.suffix == ".csv":
        rows = [line.split(",") for line in file.read_text().splitlines()]
        row = chance.choice(rows)
        row[chance.randrange(len(row))] = str(chance.choice(HOSTILE))
        file.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    else:
        file.write_bytes(chance.choice(TEXTS))


def claim_too_much(file: Path, name: str) -> None:
    """Writes an array that claims to have 10^11 numbers and has none."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**11,)})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.npy", header.getvalue())


def change(folder: Path, seed: int) -> tuple[Path, bool]:
    """Changes one file of one run; returns the file, and whether the change is like a disk's fault."""
    chance = random.Random(seed)
    run = folder / chance.choice([RUN, OTHER])
    names = sorted(file.name for file in run.iterdir() if file.is_file() and not file.name.startswith("best"))
    file = run / chance.choice([*names, "lock.json", "cost.json"])
    if not file.exists():
        file.write_bytes(chance.choice(TEXTS))
        return file, False
    kind = chance.choice([change_bytes, change_bytes, change_kind, change_meaning, change_meaning])
    if chance.random() < 0.1:
        file.write_bytes(chance.choice(TEXTS))
        return file, False
    kind(file, chance)
    return file, kind is change_bytes


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A function that restores the two runs; they are in the current folder."""
    monkeypatch.chdir(tmp_path)

    def begin() -> None:
        shutil.rmtree("runs", ignore_errors=True)
        with zipfile.ZipFile(ARCHIVE) as archive:
            archive.extractall(tmp_path, [name for name in archive.namelist() if name.startswith("runs/")])
        for run in (RUN, OTHER):
            (tmp_path / run / "figures").mkdir()

    begin()
    return begin


def end(*_) -> None:
    raise TimeoutError(f"more than {MOST_SECONDS} s")


def accuracies(rows: list[dict], name: str) -> dict[str, float]:
    return {row["run"].removeprefix("runs/"): row[name] for row in rows if row.get(name) is not None}


def compare_both() -> dict[str, float]:
    return accuracies(compare(find_runs([RUN, OTHER])).runs.replace({np.nan: None}).to_dict("records"), "accuracy")


def read_log() -> dict[str, float]:
    found = team_log.read_log("runs")
    team_log.make_table(found, "ja")
    return accuracies(team_log.make_records(found), "val_accuracy")


SHORT = {
    "compare": compare_both,
    "log": read_log,
    "report": lambda: run_report.write_report(RUN) and {},
    "report --team": lambda: write_team_report("runs") and {},
    "diagnose": lambda: diagnose_run(RUN) and {},
}


@pytest.mark.slow
def test_two_hundred_changes(runs):
    """The functions behind five commands, in this process."""
    whole = {name: act() for name, act in SHORT.items()}
    assert len(whole["compare"]) == len(whole["log"]) == 2
    for seed in range(200):
        name = ["compare", "log", "diagnose", "report", "log", "compare", "diagnose", "report --team"][seed % 8]
        runs()
        file, is_rot = change(Path.cwd(), seed)
        found = {}
        try:
            found = SHORT[name]()
        except InputError as error:
            assert len(str(error).splitlines()) == 1 and "--fresh" not in str(error).split("copy")[0], (seed, file)
        except Exception as error:
            error.add_note(f"seed {seed}: {name} with {file}")
            raise
        if is_rot:
            assert all(whole[name][run] == pytest.approx(value, abs=1e-6) for run, value in found.items()), (seed, file)


@pytest.mark.nightly
def test_five_thousand_changes(runs, capsys):
    """The commands themselves: no traceback, no hang, one line for what cannot be used."""
    words = (
        ["compare", RUN, OTHER, "--json"],
        ["log", "--json"],
        ["report", RUN],
        ["report", "--team"],
        ["diagnose", RUN],
    )
    signal.signal(signal.SIGALRM, end)
    for seed in range(1000, 6000):
        runs()
        file, _ = change(Path.cwd(), seed)
        signal.alarm(MOST_SECONDS)
        try:
            status = main([*words[seed % 5]])
        except Exception as error:
            error.add_note(f"seed {seed}: {words[seed % 5]} with {file}")
            raise
        finally:
            signal.alarm(0)
        said = capsys.readouterr()
        assert status in (0, 1) or (status == 2 and len(said.err.strip().splitlines()) == 1), (seed, file, said.err)
