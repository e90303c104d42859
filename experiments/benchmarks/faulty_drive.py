"""What a failing Drive, and `kill -9`, do to each command that writes: does it end equal, or with one true line, and is anything left?

A small C library (`faulty_drive.c`, built with gcc where it is started) stands before the file operations below the folder of
the runs. Each command is first run undisturbed, and its operations counted by kind. Then, each time from the same folders:

- *once*: one operation of one kind fails with EIO, one case for each of `--places` places;
- *often*: every third operation of that kind fails, from the first on;
- *killed*: the process is killed at an operation of any kind, and the same command is given again.

Where one fails, what is allowed is: the files are those of an undisturbed run; or exit status 2 and one line that neither is a
traceback nor advises `--fresh` (of a page a line that says what is not shown), and then the same command, undisturbed, gives those
files. After a kill those files must be there, or the same command must give them, and no other. Two undisturbed runs tell which files differ by nature (times); of these only the names are compared.
The waits before an operation is tried again are shortened to a thousandth.

Command:  python experiments/benchmarks/faulty_drive.py --places 5 --kills 100 --write
Result:   faulty_drive.md, beside this file; exit status 1 where something else came out
"""

import argparse
import contextlib
import ctypes
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
KINDS = ("open", "stat", "list", "read", "write", "sync", "delete", "rename", "mkdir")
ALL = len(KINDS)
EIO = 5
RUN = "runs/x/001"
TRAIN = ["train", "experiment=x", "model=mlp", "model_options.widths=[8]", "epochs=2", "data_check=report", "checkpoint_minutes=0.001"]  # fmt: skip
COMMANDS = {  # and what stands there before
    "train": (TRAIN, "nothing"),
    "evaluate": (["evaluate", RUN], "a run"),
    "predict --csv": (["predict", RUN, "zero.png", "--csv", "runs/predicted.csv"], "a run"),
    "log --csv --out": (["log", "--csv", "runs/log.csv"], "a run"),
    "compare": (["compare", RUN, "--out", "runs/comparison"], "a run"),
    "diagnose": (["diagnose", RUN], "a run"),
    "report": (["report", RUN], "a run"),
    "report --team": (["report", "--team"], "a run"),
    "check": (["check", "digits", "--fast", "--out", "runs/check", "--leave-out", "runs/leave_out.txt"], "a run"),
    "holdout": (["holdout", "digits", "--out", "runs/hidden", "--seed", "1", "--no-references"], "nothing"),
    "submit": (["submit", RUN, "--team", "A", "--out", "runs/A.zip"], "a run"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=5, help="of each kind of operation, that fail once")
    parser.add_argument("--kills", type=int, default=100, help="over all commands")
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS), choices=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    words = parser.parse_args()
    if "FAULTS_BELOW" not in os.environ:
        return begin_below()
    return measure(words)


def build_library(folder: Path) -> Path:
    library = folder / "faults.so"
    built = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "faulty_drive.c"), "-ldl"]
    subprocess.run(built, check=True)
    return library


def begin_below() -> int:
    """Builds the library, and starts this script anew behind it."""
    if shutil.which("gcc") is None:
        print("gcc is not installed: there is nothing to stand before the file operations.")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        library = build_library(Path(folder))
        (Path(folder) / "work" / "runs").mkdir(parents=True)
        around = {
            "LD_PRELOAD": str(library), "FAULTS_BELOW": str(Path(folder).resolve() / "work" / "runs"), "TF_CPP_MIN_LOG_LEVEL": "3",
            "PBL_LANGUAGE": "en", "PBL_CACHE": str(Path(folder) / "cache"), "XDG_CONFIG_HOME": str(Path(folder) / "settings"),
            "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]), "CUDA_VISIBLE_DEVICES": "-1",
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, __file__, *sys.argv[1:]], env={**os.environ, **around}, check=False
        ).returncode


def run(
    words: list[str], kind: int = -1, at: int = 0, every: int = 0, kill: bool = False
) -> tuple[int, str, list[int]]:
    """Runs a command in a process of its own; returns its status (-9: killed), what it said, and the operations that it did."""
    said, count = (
        Path(os.environ["FAULTS_BELOW"]).parent / "said.txt",
        Path(os.environ["FAULTS_BELOW"]).parent / "count.json",
    )
    count.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        status = 70
        library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        with said.open("w") as stream, contextlib.redirect_stderr(stream), contextlib.redirect_stdout(stream):
            try:
                from pbl.cli import main as command
                from pbl.storage import writing as storage

                storage.RETRY_SECONDS = tuple(seconds / 1000 for seconds in storage.RETRY_SECONDS)
                library.faults_arm(
                    kind if kind >= 0 else ALL + 1, ctypes.c_long(at), ctypes.c_long(every), int(kill), EIO
                )
                status = command(words)
            except BaseException:
                traceback.print_exc()
            library.faults_seen.restype = ctypes.c_long
            count.write_text(json.dumps([library.faults_seen(one) for one in range(ALL + 1)]))
            sys.stderr.flush()
        os._exit(status)
    _, ended = os.waitpid(child, 0)
    counted = json.loads(count.read_text()) if count.exists() else [0] * (ALL + 1)
    return os.waitstatus_to_exitcode(ended), said.read_text(), counted


def put(before: Path | None) -> None:
    """Puts the folder of the runs back as it was before a command."""
    runs = Path(os.environ["FAULTS_BELOW"])
    shutil.rmtree(runs)
    shutil.copytree(before, runs) if before else runs.mkdir()


def look() -> dict[str, object]:
    """All files below, hidden ones too, and what they hold; of an archive what is in it, of a history no seconds."""
    runs, found = Path(os.environ["FAULTS_BELOW"]), {}
    for file in sorted(path for path in runs.rglob("*") if path.is_file() and path.name != ".pbl-key"):
        content = file.read_bytes()
        name = str(file.relative_to(runs))
        if file.suffix in (".npz", ".zip", ".keras") and zipfile.is_zipfile(file):  # a kill may leave half of one
            with zipfile.ZipFile(file) as archive:
                found[name] = [(entry.filename, entry.CRC) for entry in archive.infolist()]
        else:
            found[name] = content
    return found


def is_true_line(said: str) -> bool:
    lines = [line for line in said.strip().splitlines() if line.startswith("pbl: ")]
    return len(lines) == 1 and "Traceback" not in said and "--fresh" not in lines[0]


class Case:
    """A command, what stands there before, and what two undisturbed runs leave."""

    def __init__(self, name: str, command: list[str], before: Path | None):
        self.name, self.command, self.before, self.failed = name, command, before, ""
        wholes = []
        for _ in range(2):
            put(before)
            status, said, self.counted = run(command)
            wholes.append(look())
            if status not in (0, 1):
                self.failed = f"{status} {said[-300:]}"
        self.whole = wholes[0]
        self.by_nature = {file for file in wholes[0] if wholes[0][file] != wholes[1].get(file)}

    def find_wrong(self) -> list[str]:
        """The files that are not as they should be."""
        found, whole = look(), self.whole
        differ = [name for name in set(found) & set(whole) if found[name] != whole[name] and name not in self.by_nature]
        return sorted({*differ, *(set(found) ^ set(whole))})[:5]

    def judge(self, kind: int, at: int, every: int) -> tuple[str, str]:
        """What comes of some failing operations: "equal", "line" or "else", and then what was said."""
        put(self.before)
        status, said, _ = run(self.command, kind, at, every)
        if status in (0, 1) and not self.find_wrong():
            return "equal", ""
        is_told = status == 0 and re.search("^Not shown: .*because it cannot be read", said, re.MULTILINE)
        if is_told or (status == 2 and is_true_line(said)):
            status, again, _ = run(self.command)
            if status in (0, 1) and not self.find_wrong():
                return "line", ""
            said += f" AGAIN {again}"
        return "else", f"{status} {self.find_wrong()} {said[-400:]}"


def measure(words: argparse.Namespace) -> int:
    import pbl.cli  # loaded once; each case is a fork of this process, which has computed nothing
    import pbl.evaluation.run
    import pbl.grading.submission
    import pbl.inspection.run
    import pbl.training.run  # noqa: F401

    chance, begun = random.Random(words.seed), time.perf_counter()
    work = Path(os.environ["FAULTS_BELOW"]).parent
    os.chdir(work)
    from PIL import Image

    Image.new("L", (8, 8), 90).save("zero.png")
    status, said, _ = run(TRAIN)
    if status:
        print(said)
        return 1
    trained = work / "trained"
    shutil.copytree("runs", trained)
    rows, faults, cases = [], [], []
    for name in words.commands:
        case = Case(name, COMMANDS[name][0], trained if COMMANDS[name][1] == "a run" else None)
        cases.append(case)
        told = {"equal": 0, "line": 0, "else": 0}
        once = often = 0
        for kind, operation in enumerate(KINDS):
            n = case.counted[kind]
            tried = [
                (at, 0, f"{operation} {at} of {n}")
                for at in sorted(chance.sample(range(1, n + 1), min(n, words.places)))
            ]
            once, often = once + len(tried), often + bool(n)
            for at, every, what in [*tried, *([(1, 3, f"every third {operation}")] if n else [])]:
                outcome, said = case.judge(kind, at, every)
                told[outcome] += 1
                faults += [f"{name}, {what} fails: {said}"] if outcome == "else" else []
        faults += [f"{name}, undisturbed: {case.failed}"] if case.failed else []
        rows.append(
            f"| `{name}` | {case.counted[ALL]} | {once} | {often} | {told['equal']} | {told['line']} | {told['else']} |"
        )
        print(rows[-1], *faults, sep="\n", flush=True)
    killed = left_over = 0
    for number in range(words.kills):
        case = cases[number % len(cases)]
        put(case.before)
        at = chance.randrange(1, case.counted[ALL] + 1)
        status, _, _ = run(case.command, ALL, at, kill=True)
        killed += status == -9
        if not case.find_wrong():
            continue  # its work was done, and only its result was still being shown: `train` would train another run
        status, said, _ = run(case.command)
        if status not in (0, 1) or case.find_wrong():
            left_over += 1
            faults.append(
                f"{case.name}, killed at {at} of {case.counted[ALL]}: then {status} {case.find_wrong()} {said[-300:]}"
            )
    lines = [
        f"Made by `faulty_drive.py --places {words.places} --kills {words.kills} --seed {words.seed}`, whose head says how.", "",
        "| command | its file operations | one fails | every third fails | ends equal | one true line | else |",
        "|---|---|---|---|---|---|---|", *rows, "",
        f"Killed {killed} times over these commands, and the same command given again: other files, or left-overs, in {left_over} cases.", "",
        *(f"- {fault}" for fault in faults),
    ]  # fmt: skip
    text = "\n".join(lines).strip() + "\n"
    print(text, f"({time.perf_counter() - begun:.0f} s)")
    if words.write:
        (HERE / "faulty_drive.md").write_text(text, encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
