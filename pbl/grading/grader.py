"""Grades a class: every expected team gets one row, whatever it handed in.

runner     goes through the class, and records how each submission ended
preparer   decodes the hidden images into raw pixels, once for each shape that a submission asks for; sees no labels
worker     one locked process for each submission; sees only that submission, and pixels in an order of its own
judge      has the labels, reads one array and a few words from each worker
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pbl.errors import InputError, Sentence, join_sentences, name_nearest
from pbl.grading import results
from pbl.grading.exports import KINDS, Exported, export_grades
from pbl.grading.hidden import DESCRIPTION, IMAGES, REFERENCES, open_hidden, open_labels
from pbl.grading.ledger import NO_ROOM, Ledger, locked
from pbl.grading.roster import read_roster
from pbl.grading.rubric import Rubric, load_rubric
from pbl.grading.runner import Runner
from pbl.grading.sandbox import FULL, Limits, find_layers
from pbl.storage.writing import telling_full_disks

SCRATCH_PREFIX = "pbl-grade-"


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
    require_isolation: Literal["full", "limits"] = "full",
    half: Literal["all", "public", "private"] = "all",
    tries: int | None = None,
    again: Sequence[str] = (),
    language: str = "en",
    export: tuple[str, str] | None = None,
    export_column: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Grades a class: what `python -m pbl grade` does.

    Earlier results are not computed again, unless the submission, the hidden images, the grader or the limits have changed.
    Writes `grades.csv`, `grades.jsonl`, `timings.csv`, `summary.html`, `histogram.png` and one folder for each team into `out`.

    Args:
        submissions: A folder, or a platform's download of the class (see `pbl.grading.intake`), or one submission.
        data: A hidden set that `holdout` made.
        out: The folder for the table; another `grade` into the same folder continues there.
        roster: A CSV file of the expected teams (see `pbl.grading.roster.read_roster`).
        rubric: A rubric, or the file that sets one (see `pbl.grading.rubric`).
        labels: The labels, if they are not in `data`.
        phase: "predict" runs the models and needs no labels; "score" then needs only the labels, and runs nothing.
        limits: What a submission may use.
        jobs: How many submissions are processed at the same time.
        require_isolation: "full" refuses to run anything if the machine lacks Landlock or seccomp; "limits" continues without them.
        half: Which half of the hidden images counts. "public" makes a leaderboard of coarse scores.
        tries: For a leaderboard: how many scores a team is told at most.
        again: Teams that are graded again although nothing has changed.
        language: Language of the teams' feedback, such as "en" or "ja".
        export: A kind and a file: the learning platform's table that is filled (see `pbl.grading.exports`).
        export_column: The column of the grade, if such a table has several.
        tell: Called with a line for each submission that is finished.

    Returns:
        The rows of `grades.csv`, with more in each, as in `grades.jsonl`.

    Raises:
        InputError: The input is wrong; the machine offers too little isolation; the grader's own known-good submission is not graded.
    """
    _check_places(Path(submissions).expanduser(), Path(data).expanduser(), Path(out).expanduser())
    hidden = open_hidden(data)
    own_files = [Path(file).expanduser() for file in (roster, rubric, labels) if isinstance(file, (str, Path))]
    rubric = load_rubric(rubric) if isinstance(rubric, (str, Path)) else rubric or Rubric()
    tell = tell or (lambda line: None)
    teams = read_roster(roster, tell) if roster is not None else None
    _check_options(phase, half, tries, jobs, export)
    known = open_labels(hidden, labels) if phase != "predict" else None
    source, out = Path(submissions).expanduser(), Path(out).expanduser()
    if phase == "score":
        out = _predicted_folder(source, out)
    else:
        _make_out(source, out)
    for team in teams.teams if teams else []:
        rubric.days_late(team.received)  # checked before any model is run
    if phase != "predict":
        results.check_marks(out / results.MARKS, rubric)
    with telling_full_disks(out, NO_ROOM), locked(out / "work"):
        ledger = _open_ledger(out, tell)
        if phase != "score":
            missing = _find_missing_layers(require_isolation)
            with _scratch(out / "work" / "scratch.txt") as scratch:
                runner = Runner(
                    hidden=hidden,
                    ledger=ledger,
                    source=source,
                    left_out=[out, hidden.path, hidden.path / REFERENCES / "scores.json", *own_files],
                    out=out,
                    labels=Path(labels).expanduser() if labels else None,
                    limits=limits or Limits(),
                    rubric=rubric,
                    jobs=jobs,
                    tell=tell,
                    scratch=scratch,
                    missing_layers=missing,
                )
                runner.run(teams, again)
        record = results.read_record(out / "work")
        if known is None:
            return results.write_outcomes(out, record, ledger)
        rows = results.write_all(out, record, ledger, hidden, known, rubric, teams, half, tries, language, tell)
        results.write_record(out / "work", {**record, "ledger": ledger.last})  # a leaderboard has added to the ledger
        if export:
            _tell_export(export_grades(*export, out, rows, teams, export_column, tell), tell)
        return rows


def _check_places(source: Path, data: Path, out: Path) -> None:
    """Raises InputError if the hidden set stands in the place of the submissions or of the grades."""
    if not (data / DESCRIPTION).is_file():
        if not (source / DESCRIPTION).is_file():
            return  # what is no hidden set is told where it is opened
        raise InputError(
            "{source} is a hidden set, and {data} is none. The submissions come first, and the hidden set after --data.",
            source=source,
            data=data,
        )
    own = [data.resolve() / part for part in ("", IMAGES, "public", "public.zip", "labels")]
    if source.exists() and source.resolve() in own:
        raise InputError(
            "{source} belongs to the hidden set, and is no folder of submissions. The submissions come first, and the hidden set after --data.",
            source=source,
        )
    if out.resolve() in own:
        raise InputError("--out {out} is the hidden set. Give another folder.", out=out)


def _check_options(phase: str, half: str, tries: int | None, jobs: int, export: tuple[str, str] | None) -> None:
    """Raises InputError if options of `grade` are wrong or do not fit each other."""
    if export and export[0] not in KINDS:
        raise InputError("--export {kind}: {nearest}", kind=export[0], nearest=name_nearest(export[0], KINDS))
    if export and (phase == "predict" or half == "public"):
        raise InputError(
            "--export needs the scores: it does not work with --predict-only or a leaderboard (--half public)."
        )
    if jobs < 1:
        raise InputError("--jobs {jobs}: give 1 or more.", jobs=jobs)
    if tries is not None and half != "public":
        raise InputError("--tries is for a leaderboard: add --half public.")


def _open_ledger(out: Path, tell: Callable[[str], None]) -> Ledger:
    """The ledger of a folder of grades; a line is printed if its lines were changed, or removed from its end since the last grading."""
    ledger = Ledger(out / "work" / "ledger.jsonl")
    before = results.read_record(out / "work", may_be_missing=True)
    ledger.is_whole &= ledger.holds(before.get("ledger", ""))
    if not ledger.is_whole:
        tell(
            Sentence(
                "{file} was changed: lines were edited or lost. Its contents may be wrong; grade again: --out.",
                file=ledger.file,
            )
        )
    return ledger


def _tell_export(done: Exported, tell: Callable[[str], None]) -> None:
    tell(
        Sentence(
            "{file}: {filled} {filled:grade|grades} filled in, {left} left out.{feedback}",
            file=done.table,
            filled=done.filled,
            left=done.left,
            feedback=Sentence(" Feedback: {zip}.", zip=done.feedback) if done.feedback else "",
        )
    )


def _make_out(source: Path, out: Path) -> None:
    if not source.exists():
        raise InputError(
            "No folder or file {path}. Give the folder of the submissions, or a platform's download.", path=source
        )
    if source.is_dir() and source.resolve() == out.resolve():
        raise InputError("--out {out} is the folder of the submissions. Give another.", out=out)
    try:
        (out / "work" / "results").mkdir(parents=True, exist_ok=True)
        (out / "work").chmod(0o700)
        (out / "logs").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            "The folder {out} cannot be written: {reason}. Give another: --out.", out=out, reason=error.strerror
        ) from None


def _predicted_folder(source: Path, out: Path) -> Path:
    for folder in (source, out):
        if (folder / "work" / "record.json").is_file():
            return folder
    raise InputError(
        "{path} contains no predictions. Give the folder that `grade --predict-only` wrote (its --out).", path=source
    )


def _find_missing_layers(required: Literal["full", "limits"]) -> dict[str, str]:
    """What `find_layers` returns; raises InputError if a submission cannot be locked down as required."""
    missing = find_layers()
    lacking = {layer: why for layer, why in missing.items() if why and layer in FULL}
    if not sys.platform.startswith("linux"):
        raise InputError(
            "Submitted models run only on Linux, where the kernel can isolate them; this is {system}. Use WSL or Colab, or score predictions that "
            "were made there: --score-only.",
            system=sys.platform,
        )
    if lacking and required == "full":
        reasons = (Sentence("{layer}: {why}", layer=layer, why=Sentence(why)) for layer, why in lacking.items())
        raise InputError(
            "This machine cannot isolate a submission: {lacking}. Use another (WSL, Colab), or continue with only time and memory limits: "
            "--require-isolation limits, on a machine without the labels (--predict-only).",
            lacking=join_sentences(reasons, "; "),
        )
    return missing


@contextlib.contextmanager
def _scratch(note: Path) -> Iterator[Path]:
    """A folder outside `out`, for the time of one grading. `note` names it, so that the next grader can remove what a
    killed one has left. Used under the lock, so no other grader works there."""
    with contextlib.suppress(OSError):
        left = Path(note.read_text(encoding="utf-8"))
        is_ours = left.name.startswith(SCRATCH_PREFIX) and left.lstat().st_uid == os.geteuid()
        if is_ours and left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX))
    try:
        scratch.chmod(0o711)
        note.write_text(str(scratch), encoding="utf-8")
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
