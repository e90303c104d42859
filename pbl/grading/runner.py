"""Runs the submissions of a class: one locked process for each, and how each of them ended is recorded in the ledger.

Before any team's submission runs, the isolation is tested, and a known-good submission is graded.
"""

import contextlib
import hashlib
import hmac
import importlib.metadata
import json
import os
import secrets
import shutil
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pbl.errors import InputError, Sentence, join_sentences
from pbl.grading import intake, judge, results
from pbl.grading.hidden import Hidden
from pbl.grading.intake import File, Source, Submission
from pbl.grading.jobs import EXIT_LOCK_FAILED, LOG, NAMES, OUTPUT, PIXELS, STATUS, SUBMISSION
from pbl.grading.judge import Outcome
from pbl.grading.ledger import MOST_STARTS, Ledger
from pbl.grading.orders import describe_work, make_folder
from pbl.grading.outcomes import explain, status_of
from pbl.grading.refusals import Refusal, clean
from pbl.grading.roster import Roster, safe_name
from pbl.grading.rubric import Rubric
from pbl.grading.sandbox import FULL, LAYERS, MEBIBYTE, NOBODY, Limits
from pbl.grading.workers import ServerEnded, Workers, read_verdict
from pbl.storage.writing import check_room, is_full, replacing, timestamp, try_again

MOST_PIXEL_FILES = 4  # shapes for which decoded images are kept
MOST_RESTARTS = 20
CANARY_DIFFERENCE = 1e-4


def _grader_version() -> str:
    """SHA-256 of everything that decides a submission's result."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for file in sorted([*package.glob("grading/*.py"), *package.glob("models/*.py"), package / "data" / "images.py"]):
        digest.update(file.name.encode() + file.read_bytes())
    for name in ("tensorflow", "keras", "numpy", "h5py"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            digest.update(f"{name} {importlib.metadata.version(name)}".encode())
    return digest.hexdigest()


@dataclass
class _Item:
    """A submission that is being processed."""

    submission: Submission
    files: dict[str, str]  # by the team's name of each file: its SHA-256
    key: str
    task: str = "classification"
    sizes: Sequence[tuple[int, int]] | None = None
    owns_builder: bool = False
    builder: str = ""  # SHA-256 of the team's own program, if there is one
    used: dict[str, Any] = field(default_factory=dict)

    def renew(self) -> "_Item":
        """Returns it as it was before any processing."""
        return replace(self, owns_builder=False, builder="", used={})

    def add_use(self, event: dict[str, Any]) -> None:
        """Adds the time and memory that a process used."""
        self.used = {
            "seconds": round(self.used.get("seconds", 0) + event["seconds"], 3),
            "processor_seconds": round(self.used.get("processor_seconds", 0) + event["processor_seconds"], 3),
            "peak": max(self.used.get("peak", 0), event["peak"]),
        }


class _Job(NamedTuple):
    """What a submission waits for: a function of the worker or the preparer, its folder, options of `Workers.begin`."""

    function: str
    folder: Path
    options: dict[str, Any]


Pixels = tuple[tuple[int, int, int], str]  # shape and fit of decoded images


@dataclass
class Runner:
    """Runs the submissions of one class.

    Args:
        hidden: The hidden set.
        ledger: Which submissions were graded before; how each ends is added to it.
        source: The submissions, as for `pbl.grading.grade`; `out`, `labels`, `limits`, `rubric`, `jobs` and `tell` are the same as there too.
        left_out: The instructor's own files and folders, which are not submissions even if they are among them.
        scratch: An empty folder for temporary files.
        missing_layers: What `find_layers` returns for this machine.
    """

    hidden: Hidden
    ledger: Ledger
    source: Path
    left_out: Sequence[Path]
    out: Path
    labels: Path | None
    limits: Limits
    rubric: Rubric
    jobs: int
    tell: Callable[[str], None]
    scratch: Path
    missing_layers: dict[str, str]

    def __post_init__(self) -> None:
        self.work = self.out / "work"
        self.versions: dict[str, str] = {}
        self.pixels: dict[Pixels, Path] = {}
        self.usual: Pixels | None = None
        self.secret = self._secret()
        self.version = _grader_version()
        self.count = 0
        self.is_last = False  # whether the last round has begun, in which submissions run one after the other
        self.given_up: dict[str, str] = {}
        self.workers: Workers | None = None

    @property
    def layers(self) -> list[str]:
        return [layer for layer in LAYERS if not self.missing_layers.get(layer)]

    @property
    def isolation(self) -> str:
        """ "full" if all of `FULL` are in force, otherwise "limits"."""
        return "full" if set(FULL) <= set(self.layers) else "limits"

    def _secret(self) -> bytes:
        """The key of the orders in which workers see the images; the same each time, so that a grading can be repeated."""
        file = self.work / "key"
        if not file.exists():
            with replacing(file) as temporary:
                temporary.write_bytes(secrets.token_bytes(32))
            file.chmod(0o600)
        return file.read_bytes()

    def new_folder(self, job: dict[str, Any]) -> Path:
        self.count += 1
        owner = NOBODY if "other_user" in self.layers else None
        return make_folder(self.scratch / f"job-{self.count}", job, owner)

    # --- the whole grading

    def run(self, roster: Roster | None, again: Sequence[str]) -> None:
        """Grades what is new, as far as possible without labels: results, ledger and record are written into `work`.

        Args:
            roster: The expected teams; with None, those that handed something in.
            again: Teams that are graded again although nothing has changed.

        Raises:
            InputError: There is nothing to grade, or this machine cannot grade.
        """
        try:
            found = intake.find_submissions(self._find_sources(roster), roster, self._name_inside, self.limits.file)
            if not found:
                raise InputError("{path} contains no submission, and there is no roster.", path=self.source)
            came = [submission for submission in found if submission.came_as]
            if came and roster is not None and roster.teams and not any(one.is_expected for one in came):
                raise InputError(
                    "No submission belongs to a team on the roster. Its teams: {teams}. Submissions: {came}. Give the right roster, with a column "
                    "team, or none.",
                    teams=clean(", ".join(team.name for team in roster.teams[:5]), 200),
                    came=clean(", ".join(one.team for one in came[:5]), 200),
                )
            names = sorted({submission.team for submission in found})
            for team in again:
                if team not in names:
                    raise InputError(
                        "--again {team}: no such team. Teams: {teams}.", team=team, teams=", ".join(names[:20])
                    )
            items = [self._identify(submission, submission.team in again) for submission in found]
            self._write_record(items)
            unknown = [item for item in items if self._known(item) is None]
            for item in unknown:
                if item.submission.problem is not None:
                    self._save(item, Outcome(item.submission.problem.reason, item.submission.problem.fields))
            waiting = [item for item in unknown if item.submission.problem is None]
            if waiting:
                self._ready()
                self._work(waiting)
            self._write_record(items)
        except ServerEnded as error:
            raise InputError(
                "The grader's own process with TensorFlow does not start: {reason}. Try: python -c 'import tensorflow'.",
                reason=clean(error, 400) or "it ended",
            ) from None
        finally:
            if self.workers is not None:
                self.workers.stop()

    def _find_sources(self, roster: Roster | None) -> list[Source]:
        """The submitted files by source; a platform's archive is first unpacked in a locked process."""
        source = self.source
        if source.is_dir():
            files = intake.list_files(source, self.left_out)
            return intake.find_sources(files, roster, source.resolve().name)
        if source.suffix.lower() == ".zip":
            return intake.find_sources(self._unpack(source), roster, source.stem, is_archive=True)
        return intake.find_sources([File(source.name, source)], roster)

    def _name_inside(self, source: Source) -> str:
        """The team's name inside a submission, read in a locked process; "" if there is none. Stored in the ledger by content."""
        roles = {intake.role_of(file.name): file for file in source.files if file.path is not None}
        file = roles.get(intake.DESCRIPTION) or roles.get(intake.ARCHIVE)
        if file is None:
            return ""
        try:
            key = intake.copy_file(file.path, None, self.limits.file)
            if (known := self.ledger.name_inside(key)) is not None:
                return known
            self._ready()
            folder = self.new_folder({"files": [file.name], "limits": self.limits.as_json()})
            intake.copy_file(file.path, folder / SUBMISSION / "0", self.limits.file)
        except (Refusal, OSError) as error:
            if is_full(error):
                raise
            return ""
        self.workers.run("name_team", folder, self.limits)
        content = judge.read_regular(folder / OUTPUT, NAMES, judge.STATUS_LIMIT)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            name = clean(json.loads(content)["team"], 1000)
        except (ValueError, KeyError, TypeError):
            name = ""
        self.ledger.add("named", key=key, team=name)
        return name

    def _unpack(self, source: Path) -> list[File]:
        self._ready()
        limits = replace(self.limits, disk=64 * 1024, files=intake.MOST_ENTRIES, seconds=3600)
        folder = self.new_folder({"limits": limits.as_json(), "most": intake.MOST_ENTRIES})
        try_again(lambda: shutil.copyfile(source, folder / SUBMISSION / "0"), source)
        (folder / SUBMISSION / "0").chmod(0o444)
        event = self.workers.run("unpack", folder, limits)
        content = judge.read_regular(folder / OUTPUT, NAMES, 64 * MEBIBYTE)
        try:
            told = json.loads(content)
            if event["exit"] != 0 or told["reason"] != "ok":
                why = explain(told["reason"], judge.clean_fields(told["fields"]))
                raise InputError("{path} cannot be unpacked: {why}", path=source, why=why)
            places = zip(map(str, told["names"]), told["places"], strict=True)
            return [
                File(intake.as_text(name), None if place is None else folder / OUTPUT / str(int(place)))
                for name, place in places
                if not intake.is_noise(name)
            ]
        except (ValueError, KeyError, TypeError):
            raise InputError(
                "{path} cannot be unpacked. Unpack it yourself, and give the folder.", path=source
            ) from None

    def _identify(self, submission: Submission, is_again: bool) -> _Item:
        """Hashes a team's files, and finds out whether they were graded before."""
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
        graded_with = [self.hidden.digest, self.version, self.limits.as_json(), self.isolation]
        what = [submission.team, roles, problem, *graded_with]
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        if is_again:
            self.ledger.add("again", key=key, team=submission.team, time=timestamp())
        return _Item(submission, files, key, self.hidden.task, self.hidden.sizes)

    def _write_record(self, items: list[_Item]) -> None:
        """Writes what scoring needs; if nothing was run this time, the isolation is recorded as before."""
        in_force = {
            "isolation": self.isolation,
            "layers": self.layers,
            "missing_layers": {layer: why for layer, why in self.missing_layers.items() if why},
            "versions": self.versions,
        }
        if self.workers is None:
            before = results.read_record(self.work, may_be_missing=True)
            in_force = {name: before.get(name, value) for name, value in in_force.items()}
        teams = [
            {
                "team": item.submission.team,
                "key": item.key,
                "is_expected": item.submission.is_expected,
                "could_be": list(item.submission.could_be),
                "came_as": list(item.submission.came_as),
                "files": item.files,
                "received": item.submission.received.isoformat() if item.submission.received else None,
            }
            for item in items
        ]
        told = {"hidden": self.hidden.name, "digest": self.hidden.digest}
        told |= {"grader": self.version, "limits": self.limits.as_json()}
        results.write_record(self.work, {**told, **in_force, "ledger": self.ledger.last, "teams": teams})

    # --- the server, and whether it works

    def _ready(self) -> None:
        """Starts the server, tests its isolation, and grades a known-good submission."""
        if self.workers is not None:
            return
        _check_room(self.scratch, self.limits, self.jobs)
        self.tell(Sentence("Starting: TensorFlow is loaded, and the isolation and a known-good submission are tested."))
        self._start()
        self._try_walls()
        self._grade_canary()
        missing = [
            Sentence(
                " Not in force: {layer} ({why}).", layer=layer, why=Sentence(why.replace("{", "{{").replace("}", "}}"))
            )
            for layer, why in self.missing_layers.items()
            if why
        ]
        self.tell(
            Sentence(
                "Isolation: {level} ({layers}).{missing}",
                level=self.isolation,
                layers=", ".join(self.layers),
                missing=join_sentences(missing, "") if missing else "",
            )
        )

    def _start(self) -> None:
        self.workers = Workers(self.scratch)
        self.workers.start()
        self.workers.wait_until_ready()
        self.versions = self.workers.versions
        # A layer that could not be put in force once is not tried again.
        self.missing_layers = {**self.workers.missing_layers, **self.given_up}
        self.workers.layers = self.layers
        self._check_places()

    def _check_places(self) -> None:
        """Checks that what a submission must not see is not in a folder from which its Python is read."""
        secret = {
            Sentence("the hidden set"): self.hidden.path,
            "--out": self.out,
            Sentence("the submissions"): self.source,
            Sentence("the labels"): self.labels,
        }
        for what, path in secret.items():
            above = [path.resolve(), *path.resolve().parents] if path is not None else []
            if any(place in above for place in self.workers.readable):
                raise InputError(
                    "{path} ({what}) is in a folder that Python itself is read from, so a submission could read it. Move it elsewhere.",
                    path=path,
                    what=what,
                )

    def _try_walls(self) -> None:
        """Checks that forbidden actions are refused; a layer beyond the four that cannot be put in force is reported as missing."""
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
                    "The isolation could not be started: {log}. Use another machine, or: --require-isolation limits.",
                    log=clean(log, 200),
                )
            self.given_up[layer] = self.missing_layers[layer] = clean(reason, 200)
            self.workers.layers = self.layers
        try:
            told = json.loads(judge.read_regular(folder / OUTPUT, STATUS, judge.STATUS_LIMIT))
            passed = [clean(name) for name in told["passed"]]
        except (ValueError, KeyError, TypeError):
            raise InputError(
                "The isolation could not be tested: {log}. See {file}.",
                log=clean(log, 300),
                file=self._keep_log(folder, "walls"),
            ) from None
        if passed and self.isolation == "full":
            raise InputError(
                "The isolation does not work on this machine: an isolated process could {passed}. Use another machine.",
                passed=", ".join(passed),
            )

    def _make_canary(self) -> tuple[_Item, np.ndarray]:
        """A known-good submission, and the expected result for its first images."""
        item = _Item(Submission("canary"), {}, "canary")
        job = {"class_names": self.hidden.class_names}
        if self.hidden.sizes is not None:
            item.task, item.sizes = self.hidden.task, self.hidden.sizes
            function = {"segmentation": "make_masks", "detection": "make_boxes"}[item.task]
            job = {**job, "ids": self.hidden.ids, "sizes": self.hidden.sizes}
        else:
            shape = self.hidden.shape or (32, 32, 3)
            if max(shape[:2]) > 64:
                shape = (64, 64, shape[2])
            self._prepare(shape, "crop")
            self.usual = (shape, "crop")
            pixels = str(self.pixels[self.usual])
            function, job = "make_canary", {**job, "shape": shape, "pixels": pixels, "count": len(self.hidden.ids)}
        folder = self.new_folder(job)
        event = self.workers.run(function, folder, self.limits, locked=False)
        canary = folder / OUTPUT / "canary.zip"
        if event["exit"] != 0 or not canary.is_file():
            self._stop_for("it could not be made", folder)
        item.submission.files = [File("canary.zip", canary)]
        item.submission.parts = intake.choose_parts(["canary.zip"])
        kind = {"segmentation": np.uint8, "detection": np.float64}.get(item.task, np.float32)
        return item, np.fromfile(folder / OUTPUT / self.hidden.result_name("expected"), kind)

    def _grade_canary(self) -> None:
        item, expected = self._make_canary()
        steps, event, ended = self._steps(item), None, None
        while ended is None:
            try:
                self._begin(steps.send(event))
                event = self.workers.next_end()
            except StopIteration as stop:
                ended = stop.value
        if ended.reason != "ok":
            why = explain(ended.reason, ended.fields)
            self._stop_for(Sentence("{status}: {why}", status=status_of(ended.reason), why=why), ended.folder)
        found = ended.result.reshape(-1)[: len(expected)]
        if np.abs(found - expected).max() > CANARY_DIFFERENCE:
            self._stop_for(Sentence("the probabilities that came out are not those that went in"), ended.folder)

    def _stop_for(self, what: str, folder: Path) -> None:
        raise InputError(
            "The grader's own known-good submission was not graded ({what}), so no team was graded: something is wrong with this machine. {log} "
            "See {file}.",
            what=what,
            log=clean(_read_log(folder)[-300:], 300),
            file=self._keep_log(folder, "canary"),
        )

    def _keep_log(self, folder: Path, name: str) -> Path:
        target = self.out / "logs" / f"{name}.txt"
        target.write_text(
            "".join(f"{clean(line, 2000)}\n" for line in _read_log(folder).splitlines()), encoding="utf-8"
        )
        return target

    # --- the class

    def _known(self, item: _Item) -> dict[str, Any] | None:
        """How this same submission ended before, if that is still valid."""
        event = self.ledger.outcome(item.key)
        if event is None:
            return None
        listed = self.rubric.builders
        if event["reason"] == "ok" and not self._holds_result(item, event):
            self.tell(
                Sentence(
                    "{team}: its cached predictions were changed or lost, so it is graded again.",
                    team=item.submission.team,
                )
            )
            self.ledger.add("again", key=item.key, team=item.submission.team, time=timestamp())
            return None
        if event["reason"] == "builder_unlisted" and event.get("builder") in listed:
            return None  # the builder has been read and listed since then
        if event["owns_builder"] and event.get("builder") not in listed:
            return None
        return event

    def _result_file(self, item: _Item) -> Path:
        return self.work / "results" / self.hidden.result_name(item.key)

    def _holds_result(self, item: _Item, event: dict[str, Any]) -> bool:
        try:
            return hashlib.sha256(self._result_file(item).read_bytes()).hexdigest() == event.get("result")
        except OSError:
            return False

    def _work(self, waiting: list[_Item]) -> None:
        """Grades all. These come last, one at a time, so that they disturb no others and are not disturbed: submissions during which an earlier grader
        was stopped, those that were too slow next to others, and those at which the grader failed."""
        queue = [item for item in waiting if not self.ledger.starts(item.key)]
        suspects = [item for item in waiting if self.ledger.starts(item.key)]
        total, done, restarts, jobs = len(waiting), 0, 0, self.jobs
        active: dict[int, tuple[_Item, Generator, _Job]] = {}
        item = None
        try:
            while queue or active or suspects:
                if not queue and not active:
                    queue, suspects, jobs, self.is_last = suspects, [], 1, True
                item, ended = None, None
                try:
                    if queue and len(active) < jobs:
                        item = queue.pop(0)
                        if self.ledger.starts(item.key) >= MOST_STARTS:
                            ended = Outcome("interrupted")
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
                    # Any submission that was running may have caused it.
                    suspects += [
                        at_work.renew() for at_work in (item, *(entry[0] for entry in active.values())) if at_work
                    ]
                    active.clear()
                    self.workers.stop()
                    self._start()
                    continue
                if ended is None:
                    continue
                if not self.is_last and (ended.reason == "grader" or (ended.reason == "slow" and self.jobs > 1)):
                    self.ledger.add("again", key=item.key, team=item.submission.team, time=timestamp())
                    suspects.append(item.renew())
                    if ended.folder is not None:
                        shutil.rmtree(ended.folder, ignore_errors=True)
                    continue
                done += 1
                self.tell(f"{done}/{total} {item.submission.team}: {self._save(item, ended)}")
        except (KeyboardInterrupt, InputError, OSError):
            # Caused by the instructor or a full disk, not by the running submissions.
            for at_work in (item, *(entry[0] for entry in active.values())):
                if at_work is not None:
                    with contextlib.suppress(InputError):
                        self.ledger.add("stopped", key=at_work.key, team=at_work.submission.team, time=timestamp())
            raise

    def _advance(self, item: _Item, steps: Generator, event: dict[str, Any] | None, active: dict) -> Outcome | None:
        """Continues a submission until it waits for a job; returns how it ended, or None."""
        try:
            job = steps.send(event)
        except StopIteration as stop:
            return stop.value
        except (InputError, ServerEnded):
            raise
        except Exception as error:  # a fault of the grader, reported as one; no submission may stop the others
            if is_full(error):
                raise
            file = self.out / "logs" / f"{safe_name(item.submission.team)}.grader.txt"
            file.write_text(traceback.format_exc(), encoding="utf-8")
            return Outcome("grader")
        active[self._begin(job)] = (item, steps, job)
        return None

    def _begin(self, job: _Job) -> int:
        return self.workers.begin(job.function, job.folder, self.limits, **job.options)

    def _steps(self, item: _Item) -> Generator[_Job, dict[str, Any], Outcome]:
        """One submission from its files to an array: yields jobs, receives how they ended, returns how the submission ended."""
        wanted, builders, cold, folder = self.usual, [], False, None
        for _ in range(6):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            if wanted is not None and wanted not in self.pixels:
                preparing = self._prepare_job(*wanted)
                yield preparing
                if not self._take_pixels(*wanted, preparing):
                    return Outcome("grader", folder=preparing.folder)
            # Masks and boxes are found by their images' ids, whose order reveals nothing.
            order = self._order(item.key) if item.sizes is None else np.arange(len(self.hidden.ids))
            try:
                folder = self._put_together(item, wanted, builders, order)
            except Refusal as problem:  # the file has changed since it was hashed
                return Outcome(problem.reason, judge.clean_fields(problem.fields))
            except OSError as error:
                if is_full(error):
                    raise
                self.tell(f"{item.submission.team}: {error}")
                return Outcome("grader")
            event = yield _Job("work", folder, {"cold": cold})
            if not event["is_locked"]:
                if cold or event["exit"] == EXIT_LOCK_FAILED:
                    return Outcome("grader", folder=folder)
                cold = True
                continue
            reason, fields = read_verdict(event, self.limits)
            if reason is not None:
                return Outcome(reason, fields, folder=folder)
            ids = self.hidden.ids if item.task == "detection" else None
            left = judge.read_left(folder / OUTPUT, len(order), len(self.hidden.class_names), item.sizes, ids)
            if left.reason == "needs_pixels":
                shape, fit = tuple(left.facts.get("shape", ())), left.facts.get("fit")
                is_shape = len(shape) == 3 and max(shape[:2]) <= self.limits.side and shape[2] in (1, 3)
                if not is_shape or fit is None or wanted == (shape, fit):
                    return Outcome("no_result", folder=folder)
                wanted = (shape, fit)
                if wanted in self.pixels:
                    self.usual = wanted
                continue
            if left.reason == "builder_unlisted" and not builders:
                # Reported by our own program before the team's code was run, so the hash is that of the file.
                item.builder = str(left.fields.get("sha", ""))
                if item.builder in self.rubric.builders:
                    if self.isolation != "full":
                        return Outcome("builder_unisolated", folder=folder)
                    builders, item.owns_builder = [item.builder], True
                    continue
            result = left.result
            if result is not None and item.sizes is None:
                result = np.empty_like(left.result)
                result[order] = left.result
            if wanted is not None:
                self.usual = wanted
            # A team's own program could say anything, so its words are not passed on.
            fields = {} if item.owns_builder else left.fields
            return Outcome(left.reason, fields, left.facts, result, folder)
        return Outcome("no_result", folder=folder)

    def _order(self, key: str) -> np.ndarray:
        digest = hmac.new(self.secret, key.encode(), hashlib.sha256).digest()
        return np.random.default_rng(int.from_bytes(digest)).permutation(len(self.hidden.ids))

    def _put_together(self, item: _Item, wanted: Pixels | None, builders: list[str], order: np.ndarray) -> Path:
        names = list(item.files) or [file.name for file in item.submission.files]
        ids = [self.hidden.ids[place] for place in order]
        pixels = wanted or (None, None)
        work = describe_work(names, ids, self.hidden.class_names, self.limits, *pixels, builders, item.task, item.sizes)
        folder = self.new_folder(work)
        for number, name in enumerate(names):
            file = next(file for file in item.submission.files if file.name == name)
            found = intake.copy_file(file.path, folder / SUBMISSION / str(number), self.limits.file)
            if item.files and found != item.files[name]:
                raise OSError(f"{file.path} changed while it was graded")
        if wanted is not None:
            pixels = np.memmap(self.pixels[wanted], np.uint8, "r", shape=(len(order), *wanted[0]))
            with (folder / PIXELS).open("wb") as target:
                for start in range(0, len(order), 1024):
                    target.write(pixels[order[start : start + 1024]].tobytes())
        return folder

    def _prepare(self, shape: tuple[int, int, int], fit: str) -> None:
        job = self._prepare_job(shape, fit)
        self.workers.run(job.function, job.folder, self.limits, **job.options)
        if not self._take_pixels(shape, fit, job):
            raise InputError(
                "The hidden images could not be decoded: {log}. Check them: python -m pbl check.",
                log=clean(_read_log(job.folder)[-300:], 300),
            )

    def _prepare_job(self, shape: tuple[int, int, int], fit: str) -> _Job:
        folder = self.new_folder({"files": [str(file) for file in self.hidden.files], "shape": shape, "fit": fit})
        return _Job("prepare", folder, {"locked": False})

    def _take_pixels(self, shape: tuple[int, int, int], fit: str, job: _Job) -> bool:
        """Keeps what `prepare` wrote, if it is complete."""
        made = job.folder / OUTPUT / PIXELS
        if not made.is_file() or made.stat().st_size != len(self.hidden.ids) * int(np.prod(shape)):
            return False
        self.pixels[shape, fit] = made
        while len(self.pixels) > MOST_PIXEL_FILES:
            oldest = next(entry for entry in self.pixels if entry not in ((shape, fit), self.usual))
            shutil.rmtree(self.pixels.pop(oldest).parents[1], ignore_errors=True)
        return True

    def _save(self, item: _Item, ended: Outcome) -> str:
        """Writes how a submission ended to the disk; returns its status."""
        if status_of(ended.reason) == "crashed" and shutil.disk_usage(self.scratch).free < 256 * MEBIBYTE:
            # The machine is full: not the team's fault.
            ended = Outcome("grader", facts=ended.facts, folder=ended.folder)
        if ended.folder is not None:
            self._keep_log(ended.folder, safe_name(item.submission.team))
            shutil.rmtree(ended.folder, ignore_errors=True)
        if ended.result is not None:
            content = ended.result.tobytes()
            with replacing(self._result_file(item)) as temporary:
                temporary.write_bytes(content)
        self.ledger.add(
            "end",
            key=item.key,
            team=item.submission.team,
            time=timestamp(),
            reason=ended.reason,
            fields=judge.clean_fields(ended.fields),
            facts=ended.facts,
            used=item.used,
            isolation=self.isolation if item.used else "",
            layers=self.layers if item.used else [],
            owns_builder=item.owns_builder,
            builder=item.builder,
            attempt=self.ledger.starts(item.key),
            result="" if ended.result is None else hashlib.sha256(content).hexdigest(),
        )
        return status_of(ended.reason)


def _read_log(folder: Path) -> str:
    content = judge.read_regular(folder, LOG, 2 * MEBIBYTE) or b""
    return content.decode("utf-8", "replace").strip()


def _check_room(scratch: Path, limits: Limits, jobs: int) -> None:
    """Raises InputError if the machine has too little disk or memory to be fair to everybody."""
    check_room(scratch.parent, (limits.disk * jobs + 512) * MEBIBYTE)
    with contextlib.suppress(OSError, ValueError, IndexError):
        told = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        available = int(told["MemAvailable"].split()[0]) // 1024
        need = limits.memory * jobs + 1024
        if available < need:
            raise InputError(
                "The machine has {available} MB of memory available, but {need} MB are needed for {jobs} {jobs:submission|submissions} at a time. "
                "Close other programs, or lower --memory or --jobs.",
                available=available,
                need=need,
                jobs=jobs,
            )
