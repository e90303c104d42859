"""A class graded: every expected team gets one row, whatever it handed in.

preparer   decodes the hidden images into raw pixels, once for each shape that a submission asks for; sees no labels
worker     one locked process for each submission; sees that submission and pixels in an order of its own
judge      holds the labels, reads one array and a few words of each worker
"""

import contextlib
import hashlib
import hmac
import importlib.metadata
import json
import os
import secrets
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pbl.errors import InputError, Sentence, join_sentences
from pbl.grading import intake, judge, results
from pbl.grading.hidden import Hidden, open_hidden, open_labels
from pbl.grading.intake import File, Submission, Team
from pbl.grading.ledger import MOST_STARTS, Ledger, locked
from pbl.grading.outcomes import Refusal, clean, clean_fields, say, status_of
from pbl.grading.rubric import Rubric, load_rubric
from pbl.grading.sandbox import FULL, LAYERS, MEBIBYTE, NOBODY, Limits, find_layers
from pbl.grading.server import EXIT_LOCK_FAILED, LOG
from pbl.grading.workers import ServerEnded, Workers, make_folder
from pbl.storage import replacing, timestamp

Level = Literal["full", "limits"]
SCRATCH_PREFIX = "pbl-grade-"
MOST_PIXEL_FILES = 4  # shapes that are kept decoded
MOST_RESTARTS = 20
CANARY_DIFFERENCE = 1e-4


@dataclass
class Grading:
    """What one call of `grade` works with."""

    hidden: Hidden
    out: Path
    limits: Limits
    level: Level
    rubric: Rubric
    tell: Callable[[str], None]
    missing_layers: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        return [layer for layer in LAYERS if not self.missing_layers.get(layer)]

    @property
    def isolation(self) -> str:
        """ "full" where all of `FULL` are in force, else "limits"."""
        return "full" if set(FULL) <= set(self.layers) else "limits"

    @property
    def work(self) -> Path:
        return self.out / "work"


def grade(
    submissions: str | Path,
    data: str | Path,
    *,
    out: str | Path = "grades",
    roster: str | Path | None = None,
    rubric: str | Path | Rubric | None = None,
    labels: str | Path | None = None,
    phase: Literal["both", "predict", "score"] = "both",
    limits: Limits | None = None,
    jobs: int = 1,
    require_isolation: Level = "full",
    half: Literal["all", "public", "private"] = "all",
    tries: int | None = None,
    again: Sequence[str] = (),
    language: Literal["en", "ja"] = "en",
    tell: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Grades a class: what `python -m pbl grade` does.

    What was graded before is not computed again, unless the submission, the hidden images, the grader or the limits have changed.
    Writes `grades.csv`, `grades.jsonl`, `timings.csv`, `summary.html`, `histogram.png` and one folder a team into `out`.

    Args:
        submissions: A folder, or a platform's download of the class (see `pbl.grading.intake`), or one submission.
        data: A hidden set that `holdout` made.
        out: Where the table goes; another `grade` into the same folder goes on there.
        roster: A CSV file of the expected teams (see `pbl.grading.intake.read_roster`).
        rubric: A rubric, or the file that sets one (see `pbl.grading.rubric`).
        labels: The labels, where they are not in `data`.
        phase: "predict" runs the models and needs no labels; "score" then needs nothing but them, and runs nothing.
        limits: What a submission may use.
        jobs: Submissions that are worked on at the same time.
        require_isolation: "full" refuses to run anything where the machine lacks Landlock or seccomp; "limits" goes on without.
        half: Which half of the hidden images counts. "public" makes a leaderboard of coarse scores.
        tries: Of a leaderboard: scores that a team is told at most.
        again: Teams that are graded again though nothing has changed.
        language: Of the teams' feedback.
        tell: Gets a line for each submission that is done.

    Returns:
        The rows of `grades.csv`, with more in each, as in `grades.jsonl`.

    Raises:
        InputError: Wrong input; the machine offers too little isolation; the grader's own known-good submission is not graded.
    """
    hidden = open_hidden(data)
    if isinstance(rubric, (str, Path)):
        rubric = load_rubric(rubric)
    teams = intake.read_roster(roster) if roster is not None else None
    if jobs < 1:
        raise InputError("--jobs {jobs}: give 1 or more.", jobs=jobs)
    if tries is not None and half != "public":
        raise InputError("--tries is of a leaderboard: give --half public too.")
    known = open_labels(hidden, labels) if phase != "predict" else None
    source = Path(submissions).expanduser()
    if phase != "score" and not source.exists():
        raise InputError(
            "No folder or file {path}. Give the folder of the submissions, or a platform's download.", path=source
        )
    folder = (
        _predicted_folder(source, Path(out).expanduser()) if phase == "score" else _make_out(Path(out).expanduser())
    )
    grading = Grading(hidden, folder, limits or Limits(), require_isolation, rubric or Rubric(), tell or (lambda line: None))  # fmt: skip
    with locked(grading.work):
        ledger = Ledger(grading.work / "ledger.jsonl")
        if phase != "score":
            _run(grading, ledger, source, teams, jobs, again, labels)
        record = results.read_record(grading.work)
        if known is None:
            rows = results.write_outcomes(grading.out, record, ledger)
        else:
            rows = results.write_all(
                grading.out, record, ledger, hidden, known, grading.rubric, teams, half, tries, language
            )
    return rows


def _make_out(out: Path) -> Path:
    try:
        (out / "work" / "results").mkdir(parents=True, exist_ok=True)
        (out / "work").chmod(0o700)
        (out / "logs").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            "The folder {out} cannot be written: {reason}. Give another: --out.", out=out, reason=error.strerror
        ) from None
    return out


def _predicted_folder(source: Path, out: Path) -> Path:
    for folder in (source, out):
        if (folder / "work" / "record.json").is_file():
            return folder
    raise InputError(
        "{path} holds no predictions. Give the folder that `grade --predict-only` wrote (its --out).", path=source
    )


def _grader_version() -> str:
    """SHA-256 of all that decides what comes out for a submission."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for file in sorted(
        [
            *package.glob("grading/*.py"),
            *package.glob("models/*.py"),
            package / "evaluation.py",
            package / "data" / "images.py",
        ]
    ):
        digest.update(file.name.encode() + file.read_bytes())
    for name in ("tensorflow", "keras", "numpy", "h5py"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            digest.update(f"{name} {importlib.metadata.version(name)}".encode())
    return digest.hexdigest()


# --- Running


def _run(
    grading: Grading,
    ledger: Ledger,
    source: Path,
    teams: list[Team] | None,
    jobs: int,
    again: Sequence[str],
    labels: str | Path | None,
) -> None:
    grading.missing_layers = find_layers()
    lacking = {layer: why for layer, why in grading.missing_layers.items() if why and layer in FULL}
    if not sys.platform.startswith("linux"):
        raise InputError(
            "Models of others are run on Linux alone, where the kernel can lock them up; this is {system}. Use WSL or Colab,"
            " or score here what was predicted there: --score-only.",
            system=sys.platform,
        )  # fmt: skip
    if lacking and grading.level == "full":
        raise InputError(
            "This machine cannot lock a submission up: {lacking}. Use another (WSL, Colab), or go on with time and memory limits"
            " alone: --require-isolation limits, on a machine without the labels (--predict-only).",
            lacking=join_sentences(
                (Sentence("{layer}: {why}", layer=layer, why=Sentence(why)) for layer, why in lacking.items()), "; "
            ),
        )  # fmt: skip
    _sweep_scratch(grading)
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX))
    scratch.chmod(0o711)
    (grading.work / "scratch.txt").write_text(str(scratch), encoding="utf-8")
    try:
        _Runner(grading, ledger, scratch, jobs, source, Path(labels) if labels else None).run(teams, again)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sweep_scratch(grading: Grading) -> None:
    """Takes away what a killed grader has left; under the lock, so nobody works there."""
    with contextlib.suppress(OSError):
        left = Path((grading.work / "scratch.txt").read_text(encoding="utf-8"))
        status = left.lstat()
        if (
            left.name.startswith(SCRATCH_PREFIX)
            and left.is_dir()
            and not left.is_symlink()
            and status.st_uid == os.geteuid()
        ):
            shutil.rmtree(left, ignore_errors=True)


@dataclass
class _Item:
    """A submission on its way."""

    submission: Submission
    files: dict[str, str]  # the team's name of each file: SHA-256
    key: str
    owns_builder: bool = False
    builder: str = ""  # SHA-256 of the team's own program, as far as there is one
    used: dict[str, Any] = field(default_factory=dict)

    def renew(self) -> "_Item":
        """Returns it as it was before anything was done with it."""
        return replace(self, owns_builder=False, builder="", used={})

    def add_use(self, event: dict[str, Any]) -> None:
        """Adds what a process took."""
        self.used = {
            "seconds": round(self.used.get("seconds", 0) + event["seconds"], 3),
            "processor_seconds": round(self.used.get("processor_seconds", 0) + event["processor_seconds"], 3),
            "peak": max(self.used.get("peak", 0), event["peak"]),
        }


@dataclass
class _Job:
    """What a submission waits for."""

    function: str
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)


class _Runner:
    def __init__(self, grading: Grading, ledger: Ledger, scratch: Path, jobs: int, source: Path, labels: Path | None):
        self.grading, self.ledger, self.scratch, self.jobs = grading, ledger, scratch, jobs
        self.source, self.labels = source, labels
        self.hidden, self.limits = grading.hidden, grading.limits
        self.pixels: dict[tuple[tuple[int, int, int], str], Path] = {}
        self.usual: tuple[tuple[int, int, int], str] | None = None
        self.secret = self._secret()
        self.version = _grader_version()
        self.count = 0
        self.is_last = False  # whether the last round has begun, one after the other
        self.given_up: dict[str, str] = {}
        self.workers: Workers | None = None

    def _secret(self) -> bytes:
        """The key of the orders in which workers see the images; the same each time, so that a grading can be repeated."""
        file = self.grading.work / "key"
        if not file.exists():
            with replacing(file) as temporary:
                temporary.write_bytes(secrets.token_bytes(32))
            file.chmod(0o600)
        return file.read_bytes()

    def new_folder(self, job: dict[str, Any]) -> Path:
        self.count += 1
        owner = NOBODY if "other_user" in self.grading.layers else None
        return make_folder(self.scratch / f"job-{self.count}", job, owner)

    # --- all of it

    def run(self, teams: list[Team] | None, again: Sequence[str]) -> None:
        try:
            files = self._list(self.source)
            found = intake.find_submissions(files, teams)
            if not found:
                raise InputError("{path} holds no submission, and there is no roster.", path=self.source)
            self._grade_again(found, again)
            items = [self._identify(submission) for submission in found]
            self._write_record(items)
            unknown = [item for item in items if self._known(item) is None]
            for item in unknown:
                if item.submission.problem is not None:
                    self._save(item, item.submission.problem.reason, item.submission.problem.fields, {}, None, None)
            waiting = [item for item in unknown if item.submission.problem is None]
            if waiting:
                self._ready()
                self._work(waiting)
            self._write_record(items)
        except ServerEnded as error:
            raise InputError(
                "The grader's own process with TensorFlow does not come up: {reason}. Try: python -c 'import tensorflow'.",
                reason=clean(error, 400) or "it ended",
            ) from None  # fmt: skip
        finally:
            if self.workers is not None:
                self.workers.stop()

    def _list(self, source: Path) -> list[File]:
        """All files of the class; a platform's archive is taken apart in a locked process first."""
        if source.is_dir():
            files = intake.list_files(source)
        elif source.suffix.lower() == ".zip":
            files = self._unpack(source)
        else:
            files = [File(source.name, source)]
        if intake.is_one_submission(files) and (source.is_dir() or source.suffix.lower() == ".zip"):
            team = source.resolve().name if source.is_dir() else source.stem
            files = [File(f"{team}/{file.name}", file.path) for file in files]
        return files

    def _unpack(self, source: Path) -> list[File]:
        self._ready()
        limits = replace(self.limits, disk=64 * 1024, files=intake.MOST_ENTRIES, seconds=3600)
        folder = self.new_folder({"limits": limits.as_json(), "most": intake.MOST_ENTRIES})
        shutil.copyfile(source, folder / "submission" / "0")
        (folder / "submission" / "0").chmod(0o444)
        event = self.workers.run("unpack", folder, limits)
        content = judge.read_regular(folder / "output", "names.json", 64 * MEBIBYTE)
        try:
            told = json.loads(content)
            if event["exit"] != 0 or told["reason"] != "ok":
                template, fields = say(told["reason"], clean_fields(told["fields"]))
                raise InputError("{path} cannot be taken apart: {why}", path=source, why=Sentence(template, **fields))
            places = zip(map(str, told["names"]), told["places"], strict=True)
            return [
                File(intake.as_text(name), None if place is None else folder / "output" / str(int(place)))
                for name, place in places
                if not intake.is_noise(name)
            ]
        except (ValueError, KeyError, TypeError):
            raise InputError(
                "{path} cannot be taken apart. Unpack it yourself, and give the folder.", path=source
            ) from None

    def _grade_again(self, found: list[Submission], again: Sequence[str]) -> None:
        names = {submission.team for submission in found}
        for team in again:
            if team not in names:
                raise InputError(
                    "--again {team}: no such team. Teams: {teams}.", team=team, teams=", ".join(sorted(names)[:20])
                )
        self.again = frozenset(again)

    def _identify(self, submission: Submission) -> _Item:
        """Hashes a team's files, and so knows whether they were graded before."""
        files: dict[str, str] = {}
        try:
            for file in submission.files:
                files[file.name] = intake.copy_file(file.path, None, self.limits.file)
        except Refusal as problem:
            submission.problem, submission.parts = problem, None
        except OSError as error:
            raise InputError("{file} cannot be read: {reason}.", file=file.path, reason=error.strerror) from None
        roles = {role: files[name] for role, name in submission.parts.roles.items()} if submission.parts else {}
        problem = [submission.problem.reason, str(submission.problem.fields)] if submission.problem else None
        what = [
            submission.team,
            roles,
            problem,
            self.hidden.digest,
            self.version,
            self.limits.as_json(),
            self.grading.isolation,
        ]
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        if submission.team in self.again:
            self.ledger.add("again", key=key, team=submission.team, time=timestamp())
        return _Item(submission, files, key)

    def _write_record(self, items: list[_Item]) -> None:
        """Writes what scoring needs; where nothing was run this time, what was in force stays as it was told before."""
        grading = self.grading
        in_force = {
            "isolation": grading.isolation,
            "layers": grading.layers,
            "missing_layers": {layer: why for layer, why in grading.missing_layers.items() if why},
            "versions": grading.versions,
        }
        if self.workers is None:
            before = results.read_record(grading.work, may_be_missing=True)
            in_force = {name: before.get(name, value) for name, value in in_force.items()}
        teams = [
            {
                "team": item.submission.team,
                "key": item.key,
                "is_expected": item.submission.is_expected,
                "files": item.files,
                "received": item.submission.received.isoformat() if item.submission.received else None,
            }
            for item in items
        ]
        told = {
            "hidden": self.hidden.name,
            "digest": self.hidden.digest,
            "grader": self.version,
            "limits": self.limits.as_json(),
        }
        results.write_record(grading.work, {**told, **in_force, "teams": teams})

    # --- the server, and whether it works

    def _ready(self) -> None:
        """Starts the server, tries its walls, and grades a submission that is known to be good."""
        if self.workers is not None:
            return
        _check_room(self.scratch, self.limits, self.jobs)
        self.grading.tell(
            Sentence("Starting: TensorFlow is loaded, and the isolation and a known-good submission are tried.")
        )
        self._start()
        self._try_walls()
        self._grade_canary()
        grading = self.grading
        missing = [
            Sentence(
                " Not in force: {layer} ({why}).", layer=layer, why=Sentence(why.replace("{", "{{").replace("}", "}}"))
            )
            for layer, why in grading.missing_layers.items()
            if why
        ]
        grading.tell(
            Sentence(
                "Isolation: {level} ({layers}).{missing}",
                level=grading.isolation, layers=", ".join(grading.layers), missing=join_sentences(missing, "") if missing else "",
            )
        )  # fmt: skip

    def _start(self) -> None:
        self.workers = Workers(self.scratch)
        self.workers.start()
        self.workers.wait_until_ready()
        self.grading.versions = self.workers.versions
        # What could not be put in force once is not tried again.
        self.grading.missing_layers = {**self.workers.missing_layers, **self.given_up}
        self.workers.layers = self.grading.layers
        self._check_places()

    def _check_places(self) -> None:
        """What a submission must not see must not lie where its Python is read from."""
        secret = {
            Sentence("the hidden set"): self.hidden.path,
            "--out": self.grading.out,
            Sentence("the submissions"): self.source,
            Sentence("the labels"): self.labels,
        }
        for what, path in secret.items():
            above = [path.resolve(), *path.resolve().parents] if path is not None else []
            if any(place in above for place in self.workers.readable):
                raise InputError(
                    "{path} ({what}) lies in a folder that Python itself is read from, so a submission could read it. Move it elsewhere.",
                    path=path, what=what,
                )  # fmt: skip

    def _try_walls(self) -> None:
        """Sees that what was asked for is refused; a layer beyond the four that cannot be put in force is reported as missing."""
        secret = self.scratch / "secret" / "labels"
        secret.parent.mkdir(mode=0o700, exist_ok=True)
        secret.write_text("secret", encoding="utf-8")
        for _ in LAYERS:
            folder = self.new_folder({"secret": str(secret), "grader": os.getpid()})
            event = self.workers.run("try_walls", folder, self.limits)
            log = _read_log(folder)
            if event["exit"] != EXIT_LOCK_FAILED:
                break
            layer, _, reason = log.partition(": ")
            if layer in FULL or layer not in LAYERS:
                raise InputError(
                    "The isolation could not be put in force: {log}. Use another machine, or: --require-isolation limits.",
                    log=clean(log, 200),
                )  # fmt: skip
            self.given_up[layer] = self.grading.missing_layers[layer] = clean(reason, 200)
            self.workers.layers = self.grading.layers
        try:
            told = json.loads(judge.read_regular(folder / "output", "status.json", judge.STATUS_LIMIT))
            passed = [clean(name) for name in told["passed"]]
        except (ValueError, KeyError, TypeError):
            raise InputError(
                "The isolation could not be tried: {log}. See {file}.",
                log=clean(log, 300),
                file=self._keep_log(folder, "walls"),
            ) from None
        if passed and self.grading.isolation == "full":
            raise InputError(
                "The isolation does not hold on this machine: a locked process could {passed}. Use another machine.",
                passed=", ".join(passed),
            )  # fmt: skip

    def _grade_canary(self) -> None:
        shape = self.hidden.shape or (32, 32, 3)
        if max(shape[:2]) > 64:
            shape = (64, 64, shape[2])
        self._prepare(shape, "crop")
        folder = self.new_folder(
            {
                "shape": shape,
                "class_names": self.hidden.class_names,
                "pixels": str(self.pixels[shape, "crop"]),
                "count": len(self.hidden.ids),
            }
        )
        event = self.workers.run("make_canary", folder, self.limits, locked=False)
        canary = folder / "output" / "canary.zip"
        if event["exit"] != 0 or not canary.is_file():
            self._stop_for("it could not be made", folder)
        expected = np.fromfile(folder / "output" / "expected.f32", np.float32)
        submission = Submission("canary", files=[File("canary.zip", canary)], parts=intake.choose_parts(["canary.zip"]))
        item = _Item(submission, {}, "canary")
        self.usual = (shape, "crop")
        steps = self._steps(item)
        event = None
        while True:
            try:
                job = steps.send(event)
            except StopIteration as stop:
                reason, fields, _, result, folder = stop.value
                break
            self._begin(job)
            event = self.workers.next_end()
        if reason != "ok":
            template, fields = say(reason, fields)
            why = Sentence(template, **fields)
            self._stop_for(Sentence("{status}: {why}", status=status_of(reason), why=why), folder)
        found = result.reshape(-1)[: len(expected)]
        if np.abs(found - expected).max() > CANARY_DIFFERENCE:
            self._stop_for(Sentence("other probabilities came out than went in"), folder)

    def _stop_for(self, what: str, folder: Path) -> None:
        raise InputError(
            "The grader's own known-good submission was not graded ({what}), so no team was touched: something is wrong with this machine."
            " {log} See {file}.",
            what=what, log=clean(_read_log(folder)[-300:], 300), file=self._keep_log(folder, "canary"),
        )  # fmt: skip

    def _keep_log(self, folder: Path, name: str) -> Path:
        target = self.grading.out / "logs" / f"{name}.txt"
        target.write_text(
            "".join(f"{clean(line, 2000)}\n" for line in _read_log(folder).splitlines()), encoding="utf-8"
        )
        return target

    # --- the class

    def _known(self, item: _Item) -> dict[str, Any] | None:
        """How this very submission ended before, where that still holds."""
        event = self.ledger.outcome(item.key)
        if event is None:
            return None
        listed = self.grading.rubric.builders
        if event["reason"] == "builder_unlisted" and event.get("builder") in listed:
            return None  # it has been read and listed since
        if event["owns_builder"] and event.get("builder") not in listed:
            return None
        return event

    def _work(self, waiting: list[_Item]) -> None:
        """Grades all. Last and alone, so that they harm nobody and nobody harms them, come those during which an earlier grader
        was stopped, those that were too slow beside others, and those at which the grader failed."""
        queue = [item for item in waiting if not self.ledger.starts(item.key)]
        suspects = [item for item in waiting if self.ledger.starts(item.key)]
        total, done, restarts, jobs = len(waiting), 0, 0, self.jobs
        active: dict[int, tuple[_Item, Generator, _Job]] = {}
        while queue or active or suspects:
            if not queue and not active:
                queue, suspects, jobs, self.is_last = suspects, [], 1, True
            item, ended = None, None
            try:
                if queue and len(active) < jobs:
                    item = queue.pop(0)
                    if self.ledger.starts(item.key) >= MOST_STARTS:
                        ended = ("interrupted", {}, {}, None, None)
                    else:
                        self.ledger.add("start", key=item.key, team=item.submission.team, time=timestamp())
                        ended = self._advance(item, self._steps(item), None, active)
                else:
                    event = self.workers.next_end()
                    item, steps, job = active.pop(event["id"])
                    if job.function == "work":
                        item.add_use(event)
                    ended = self._advance(item, steps, event, active)
            except ServerEnded:
                restarts += 1
                if restarts > MOST_RESTARTS:
                    raise
                # Whoever was at work may have done it.
                suspects += [at_work.renew() for at_work in (item, *(entry[0] for entry in active.values())) if at_work]
                active.clear()
                self.workers.stop()
                self._start()
                continue
            if ended is None:
                continue
            if not self.is_last and (ended[0] == "grader" or (ended[0] == "slow" and self.jobs > 1)):
                self.ledger.add("again", key=item.key, team=item.submission.team, time=timestamp())
                suspects.append(item.renew())
                if ended[4] is not None:
                    shutil.rmtree(ended[4], ignore_errors=True)
                continue
            done += 1
            self.grading.tell(f"{done}/{total} {item.submission.team}: {self._save(item, *ended)}")

    def _advance(self, item: _Item, steps: Generator, event: dict[str, Any] | None, active: dict) -> tuple | None:
        """Lets a submission go on until it waits for a job; returns how it ended, or None."""
        try:
            job = steps.send(event)
        except StopIteration as stop:
            return stop.value
        except (InputError, ServerEnded):
            raise
        except Exception:  # a fault of ours, told as one; no submission may stop the others
            file = self.grading.out / "logs" / f"{results.safe_name(item.submission.team)}.grader.txt"
            file.write_text(traceback.format_exc(), encoding="utf-8")
            return "grader", {}, {}, None, None
        active[self._begin(job)] = (item, steps, job)
        return None

    def _begin(self, job: _Job) -> int:
        return self.workers.begin(job.function, job.folder, self.limits, **job.options)

    def _steps(self, item: _Item) -> Generator[_Job, dict[str, Any], tuple]:
        """One submission from its files to an array: yields jobs, gets how they ended, returns (reason, fields, facts, result, folder)."""
        wanted, builders, cold, folder = self.usual, [], False, None
        for _ in range(6):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            if wanted is not None and wanted not in self.pixels:
                preparing = self._prepare_job(*wanted)
                yield preparing
                if not self._take_pixels(*wanted, preparing):
                    return "grader", {}, {}, None, preparing.folder
            order = self._order(item.key)
            try:
                folder = self._put_together(item, wanted, builders, order)
            except Refusal as problem:  # the file has changed since it was hashed
                return problem.reason, clean_fields(problem.fields), {}, None, None
            except OSError as error:
                self.grading.tell(f"{item.submission.team}: {error}")
                return "grader", {}, {}, None, None
            event = yield _Job("work", folder, {"cold": cold})
            if not event["is_locked"]:
                if cold or event["exit"] == EXIT_LOCK_FAILED:
                    return "grader", {}, {}, None, folder
                cold = True
                continue
            reason, fields = _verdict(event, self.limits)
            if reason is not None:
                return reason, fields, {}, None, folder
            left = judge.read_left(folder / "output", len(self.hidden.ids), len(self.hidden.class_names))
            if left.reason == "needs_pixels":
                shape, fit = tuple(left.facts.get("shape", ())), left.facts.get("fit")
                if (
                    len(shape) != 3
                    or max(shape[:2]) > self.limits.side
                    or shape[2] not in (1, 3)
                    or fit is None
                    or wanted == (shape, fit)
                ):
                    return "no_result", {}, {}, None, folder
                wanted = (shape, fit)
                if wanted in self.pixels:
                    self.usual = wanted
                continue
            if left.reason == "builder_unlisted" and not builders:
                # Said by our own program before anything of the team's was run, so the hash is the file's.
                item.builder = str(left.fields.get("sha", ""))
                if item.builder in self.grading.rubric.builders:
                    if self.grading.isolation != "full":
                        return "builder_unisolated", {}, {}, None, folder
                    builders, item.owns_builder = [item.builder], True
                    continue
            result = None
            if left.result is not None:
                result = np.empty_like(left.result)
                result[order] = left.result
            if wanted is not None:
                self.usual = wanted
            # A program of the team's own could say anything, so its words go no further.
            fields = {} if item.owns_builder else left.fields
            return left.reason, fields, left.facts, result, folder
        return "no_result", {}, {}, None, folder

    def _order(self, key: str) -> np.ndarray:
        digest = hmac.new(self.secret, key.encode(), hashlib.sha256).digest()
        return np.random.default_rng(int.from_bytes(digest)).permutation(len(self.hidden.ids))

    def _put_together(self, item: _Item, wanted, builders: list[str], order: np.ndarray) -> Path:
        names = list(item.files) or [file.name for file in item.submission.files]
        folder = self.new_folder(
            {
                "files": names, "ids": [self.hidden.ids[place] for place in order], "class_names": self.hidden.class_names,
                "shape": wanted[0] if wanted else None, "fit": wanted[1] if wanted else None, "limits": self.limits.as_json(),
                "builders": builders,
            }
        )  # fmt: skip
        for number, name in enumerate(names):
            file = next(file for file in item.submission.files if file.name == name)
            found = intake.copy_file(file.path, folder / "submission" / str(number), self.limits.file)
            if item.files and found != item.files[name]:
                raise OSError(f"{file.path} changed while it was graded")
        if wanted is not None:
            pixels = np.memmap(self.pixels[wanted], np.uint8, "r", shape=(len(order), *wanted[0]))
            with (folder / "pixels.u8").open("wb") as target:
                for start in range(0, len(order), 1024):
                    target.write(pixels[order[start : start + 1024]].tobytes())
        return folder

    def _prepare(self, shape: tuple[int, int, int], fit: str) -> None:
        job = self._prepare_job(shape, fit)
        self.workers.run(job.function, job.folder, self.limits, **job.options)
        if not self._take_pixels(shape, fit, job):
            raise InputError(
                "The hidden images could not be decoded: {log}. Look at them: python -m pbl check.",
                log=clean(_read_log(job.folder)[-300:], 300),
            )

    def _prepare_job(self, shape: tuple[int, int, int], fit: str) -> _Job:
        folder = self.new_folder({"files": [str(file) for file in self.hidden.files], "shape": shape, "fit": fit})
        return _Job("prepare", folder, {"locked": False})

    def _take_pixels(self, shape: tuple[int, int, int], fit: str, job: _Job) -> bool:
        """Keeps what `prepare` wrote, where it is whole."""
        made = job.folder / "output" / "pixels.u8"
        if not made.is_file() or made.stat().st_size != len(self.hidden.ids) * int(np.prod(shape)):
            return False
        self.pixels[shape, fit] = made
        while len(self.pixels) > MOST_PIXEL_FILES:
            oldest = next(entry for entry in self.pixels if entry not in ((shape, fit), self.usual))
            shutil.rmtree(self.pixels.pop(oldest).parents[1], ignore_errors=True)
        return True

    def _save(self, item: _Item, reason: str, fields, facts, result, folder: Path | None) -> str:
        """Puts how a submission ended on the disk; returns its status."""
        if status_of(reason) == "crashed" and shutil.disk_usage(self.scratch).free < 256 * MEBIBYTE:
            reason, fields, result = "grader", {}, None  # the machine is full: no fault of the team's
        if folder is not None:
            self._keep_log(folder, results.safe_name(item.submission.team))
            shutil.rmtree(folder, ignore_errors=True)
        if result is not None:
            with replacing(self.grading.work / "results" / f"{item.key}.f32") as temporary:
                temporary.write_bytes(np.ascontiguousarray(result, "<f4").tobytes())
        self.ledger.add(
            "end", key=item.key, team=item.submission.team, time=timestamp(), reason=reason, fields=clean_fields(fields), facts=facts,
            used=item.used, isolation=self.grading.isolation if item.used else "", layers=self.grading.layers if item.used else [],
            owns_builder=item.owns_builder, builder=item.builder, attempt=self.ledger.starts(item.key),
        )  # fmt: skip
        return status_of(reason)


def _verdict(event: dict[str, Any], limits: Limits) -> tuple[str | None, dict[str, int]]:
    """What the watch says of a worker: a reason and its fields, or (None, {}) where the worker may speak for itself."""
    fields = {
        "slow": {"limit": round(limits.seconds)},
        "busy": {"limit": limits.cpu},
        "memory": {"limit": limits.memory},
        "printed": {"limit": limits.printed},
        "wrote": {"limit": limits.disk, "files": limits.files},
        "threads": {"limit": limits.threads},
    }
    if event["verdict"] in fields:
        return event["verdict"], fields[event["verdict"]]
    if event["signal"]:
        # Near the backstop TensorFlow ends by SIGABRT or SIGSEGV rather than by a MemoryError.
        if event["peak"] > 0.8 * limits.memory:
            return "memory", fields["memory"]
        return "signal", {"number": event["signal"]}
    return (None, {}) if event["exit"] == 0 else ("ended", {})


def _read_log(folder: Path) -> str:
    content = judge.read_regular(folder, LOG, 2 * MEBIBYTE) or b""
    return content.decode("utf-8", "replace").strip()


def _check_room(scratch: Path, limits: Limits, jobs: int) -> None:
    """Raises InputError where the machine has too little disk or memory to be fair to everybody."""
    free = shutil.disk_usage(scratch).free // MEBIBYTE
    if free < limits.disk * jobs + 512:
        raise InputError(
            "{folder} has {free} MB free, and {need} MB are needed. Make room, or name another folder in the variable TMPDIR.",
            folder=scratch.parent, free=free, need=limits.disk * jobs + 512,
        )  # fmt: skip
    with contextlib.suppress(OSError, ValueError, IndexError):
        told = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        available = int(told["MemAvailable"].split()[0]) // 1024
        need = limits.memory * jobs + 1024
        if available < need:
            raise InputError(
                "The machine has {available} MB of memory available, and {need} MB are needed for {jobs} submission(s) at a time."
                " Close other programs, or lower --memory or --jobs.",
                available=available, need=need, jobs=jobs,
            )  # fmt: skip
