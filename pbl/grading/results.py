"""The table of a class: rows from what the workers left and the labels, and the files that people read."""

import contextlib
import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pbl.errors import InputError
from pbl.grading import judge
from pbl.grading.feedback import write_feedback, write_histogram, write_summary
from pbl.grading.hidden import REFERENCES, Hidden, Labels
from pbl.grading.ledger import Ledger
from pbl.grading.outcomes import say, status_of
from pbl.grading.roster import Roster, Team, safe_name
from pbl.grading.rubric import Rubric
from pbl.grading.tables import decode
from pbl.storage import replacing, write_json

RECORD, MARKS = "record.json", "marks.csv"
LEADERBOARD_STEP = 0.01  # scores on a leaderboard are rounded down to it, so that they tell little of single images
Half = Literal["all", "public", "private"]


def write_record(work: Path, record: dict[str, Any]) -> None:
    """Writes which teams there are, and with what they were graded: all that scoring needs beside the ledger."""
    write_json(work / RECORD, record)


def read_record(work: Path, may_be_missing: bool = False) -> dict[str, Any]:
    """Reads what `write_record` wrote.

    Raises:
        InputError: It is missing or damaged.
    """
    try:
        return json.loads((work / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if may_be_missing:
            return {}
    except (OSError, ValueError):
        pass
    raise InputError("{file} is missing or damaged. Grade again into another folder: --out.", file=work / RECORD)


# Of a team at which the grader failed, so that nothing is known.
_LOST = {
    "reason": "grader",
    "fields": {},
    "facts": {},
    "used": {},
    "isolation": "",
    "layers": [],
    "owns_builder": False,
}


def _outcomes(record: dict[str, Any], ledger: Ledger) -> list[dict[str, Any]]:
    """One row for each team: what is known without labels."""
    rows = []
    for team in record["teams"]:
        event = ledger.outcome(team["key"]) or _LOST
        row = {"team": team["team"]}
        _set_reason(row, event["reason"], event["fields"])
        row |= {"flags": [] if team["is_expected"] else ["not_on_roster"]}
        row["flags"] += [f"could_be:{name}" for name in team.get("could_be", [])]
        row |= {"files": team["files"], "received": team["received"]}
        row |= {name: event[name] for name in ("facts", "used", "isolation", "layers")}
        rows.append(row | {"key": team["key"], "owns_builder": event["owns_builder"]})
    return rows


def _set_reason(row: dict[str, Any], reason: str, fields: dict[str, Any]) -> None:
    template, fields = say(reason, fields)
    row |= {"status": status_of(reason), "reason": reason, "template": template, "fields": fields}
    row["message"] = template.format(**fields)


def write_outcomes(out: Path, record: dict[str, Any], ledger: Ledger) -> list[dict[str, Any]]:
    """Writes `predicted.csv`: what is known before the labels are."""
    rows = _outcomes(record, ledger)
    table = [[row["team"], row["status"], row["message"], row["isolation"]] for row in rows]
    _write_csv(out / "predicted.csv", ["team", "status", "reason", "isolation"], table)
    _write_timings(out, rows)
    return rows


def write_all(
    out: Path,
    record: dict[str, Any],
    ledger: Ledger,
    hidden: Hidden,
    labels: Labels,
    rubric: Rubric,
    roster: Roster | None,
    half: Half,
    tries: int | None,
    language: str,
) -> list[dict[str, Any]]:
    """Scores all teams and writes all tables; the arguments are those of `pbl.grading.grade`.

    Raises:
        InputError: The predictions are of another hidden set; the rubric's function fails; a file cannot be written.
    """
    if record["digest"] != hidden.digest:
        raise InputError(
            "The predictions in {out} are of another hidden set ({was}) than {path}. Name the one that they were made with: --data.",
            out=out,
            was=record["hidden"],
            path=hidden.path,
        )
    counts = {"all": np.ones(len(labels.classes), bool), "public": labels.is_public, "private": ~labels.is_public}[half]
    if not counts.any():
        raise InputError(
            "The hidden set has no image in its {half} half. Make it anew with holdout, or take --half all.", half=half
        )
    truth = labels.classes[counts]
    rows = _outcomes(record, ledger)
    whole = _read_results(out, rows, len(counts), len(hidden.class_names))
    has_probabilities = {row["team"]: row["facts"].get("has_probabilities", True) for row in rows}
    scored = {
        team: judge.score(result[counts], truth, hidden.class_names, has_probabilities[team])
        for team, result in whole.items()
    }
    groups = judge.group_ties(scored, truth)
    received = {team.name: team.received for team in roster.teams} if roster else {}
    unread = {team.name for team in roster.teams if team.unread} if roster else set()
    for row in rows:
        _fill(row, scored.get(row["team"]), groups.get(row["team"]), rubric, received, len(hidden.class_names))
        row["flags"] += ["time_unread"] if row["team"] in unread else []
    _flag_names(rows)
    _flag_pairs(rows, scored, whole, truth)
    marks = update_marks(out / MARKS, [row["team"] for row in rows], rubric.marks)
    for row in rows:
        row["marks"] = marks[row["team"]]
    if half == "public":
        _write_leaderboard(out, rows, ledger, tries)
    _write_grades(out, rows, hidden)
    _write_timings(out, rows)
    references = read_references(hidden)
    histogram = write_histogram(out / "histogram.png", rows, references, hidden)
    write_summary(out / "summary.html", rows, record, ledger.is_whole, hidden, half, references, histogram)
    names = team_folders(row["team"] for row in rows)
    for row in rows:
        write_feedback(out / "teams" / names[row["team"]], row, hidden, half, language)
    return rows


def _read_results(out: Path, rows: list[dict[str, Any]], images: int, classes: int) -> dict[str, np.ndarray]:
    """`float32 [images, classes]` of each team that has any; a row whose result was lost since becomes a fault of ours."""
    found = {}
    for row in rows:
        if row["status"] == "ok":
            try:
                content = (out / "work" / "results" / f"{row['key']}.f32").read_bytes()
                found[row["team"]] = np.frombuffer(content, "<f4").reshape(images, classes)
            except (OSError, ValueError):
                _set_reason(row, "grader", {})
    return found


# What a rubric's own function `points` gets.
_TOLD_TO_RUBRIC = (
    "team accuracy accuracy_interval macro_f1 log_loss recall images tie_group parameters days_late flags".split()
)


def _fill(
    row: dict[str, Any], scored: judge.Scored | None, group: int | None, rubric: Rubric, received, num_classes: int
) -> None:
    when = received.get(row["team"]) or (datetime.fromisoformat(row["received"]) if row["received"] else None)
    days = rubric.days_late(when) if row["status"] != "missing" else 0
    row |= dict.fromkeys("accuracy accuracy_interval macro_f1 log_loss recall images points".split())
    row |= {"tie_group": group, "level": None, "days_late": days, "late_points": None, "final_points": None}
    row["parameters"] = row["facts"].get("parameters")
    row["kind"], row["model"] = row["facts"].get("kind"), row["facts"].get("model")
    if days:
        row["flags"].append("late")
    if scored is None:
        return
    metrics = scored.metrics
    row |= {name: metrics[name] for name in ("accuracy", "accuracy_interval", "log_loss", "images")}
    row["macro_f1"] = metrics["macro"]["f1"]
    row["recall"] = {name: of_class["recall"] for name, of_class in metrics["by_class"].items()}
    row["points"] = rubric.give_points({name: row[name] for name in _TOLD_TO_RUBRIC})
    row["level"] = rubric.name_level(row["accuracy"])
    if row["points"] is not None:
        row["late_points"] = rubric.late_points_per_day * days
        row["final_points"] = max(0.0, row["points"] - row["late_points"])
    row["flags"] += judge.find_flags(scored, num_classes, rubric.ceiling, row["facts"])


def _flag_names(rows: list[dict[str, Any]]) -> None:
    """Flags a submission inside which another team of the class is named."""
    names = Roster(Team(row["team"]) for row in rows)
    for row in rows:
        means = names.match_name(row["facts"].get("team", ""))
        if means and row["team"] not in means:
            row["flags"] += [f"names_inside:{other}" for other in sorted(means)]


def _flag_pairs(rows, scored, whole, truth) -> None:
    """Flags teams that handed in the same, or that make the same mistakes; for a person to judge."""
    by_content: dict[str, set[str]] = {}
    for row in rows:
        prints = {f"file {digest}" for digest in row["files"].values()} if row["status"] != "missing" else set()
        if "content" in row["facts"]:
            prints.add(f"weights {row['facts']['content']}")
        if row["team"] in whole:
            prints.add(f"predictions {hashlib.sha256(whole[row['team']].tobytes()).hexdigest()}")
        for digest in prints:
            by_content.setdefault(digest, set()).add(row["team"])
    same: dict[str, set[str]] = {row["team"]: set() for row in rows}
    constant = {row["team"] for row in rows if "constant_predictions" in row["flags"]}
    for digest, teams in by_content.items():
        # Two that answer one class alike have not copied.
        alike = teams - constant if digest.startswith("predictions") else teams
        for team in alike:
            same[team] |= alike - {team}
    for row in rows:
        row["duplicate_of"] = sorted(same[row["team"]])
        row["flags"] += [f"duplicate_of:{other}" for other in row["duplicate_of"]]
    teams = [row["team"] for row in rows if row["team"] in scored and row["team"] not in constant]
    alike = {row["team"]: [] for row in rows}
    for at, one in enumerate(teams):
        for other in teams[at + 1 :]:
            if other in same[one]:
                continue
            share, count = judge.agreement_on_errors(scored[one].predicted, scored[other].predicted, truth)
            if share >= judge.AGREEMENT and count >= judge.FEWEST_ERRORS:
                alike[one].append(other)
                alike[other].append(one)
    for row in rows:
        row["flags"] += [f"agrees_on_errors_with:{other}" for other in sorted(alike[row["team"]])]


# --- Files


def update_marks(file: Path, teams: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Reads what a person filled in, and adds the teams and columns that are new; nothing that stands there is changed.

    Args:
        file: The table, which is made where it is absent: `team` and one column for each name.
        teams: The teams of the class.
        names: What is judged by a person; where there is none nothing is read or written.

    Returns:
        For each team the marks, "" where there is none yet.

    Raises:
        InputError: The table cannot be read.
    """
    if not names:
        return {team: {} for team in teams}
    rows: list[list[str]] = []
    if file.exists():
        text = decode(file.read_bytes())
        rows = list(csv.reader(io.StringIO(text, newline=""))) if text is not None else []
        if not rows or "team" not in rows[0]:
            raise InputError(
                "{file} is no CSV file with a column team. Repair it, or move it away: it is made anew.", file=file
            )
    header = rows[0] if rows else ["team"]
    known = [dict(zip(header, row, strict=False)) for row in rows[1:]]
    of_team = {row["team"]: row for row in known if row.get("team")}
    columns = [*header, *(name for name in names if name not in header)]
    new = [{"team": guard(team)} for team in teams if guard(team) not in of_team]
    if new or columns != header:
        with replacing(file) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as stream:
            csv.writer(stream).writerows(
                [columns, *([row.get(name, "") for name in columns] for row in [*known, *new])]
            )
    return {team: {name: of_team.get(guard(team), {}).get(name, "") for name in names} for team in teams}


def _write_grades(out: Path, rows: list[dict[str, Any]], hidden: Hidden) -> None:
    table = []
    for row in rows:
        low, high = row["accuracy_interval"] or (None, None)
        cells = [(name, row[name]) for name in ("team", "status", "accuracy")]
        cells += [("accuracy_low", low), ("accuracy_high", high)]
        cells += [
            (name, row[name]) for name in "macro_f1 log_loss points days_late late_points final_points level".split()
        ]
        cells += [(name, _as_number(mark)) for name, mark in row["marks"].items()]
        cells += [("tie_group", row["tie_group"]), ("flags", " ".join(row["flags"]))]
        cells += [(name, row[name]) for name in ("parameters", "kind", "model", "isolation", "images")]
        cells += [("reason", row["message"])]
        cells += [(f"recall({name})", (row["recall"] or {}).get(name)) for name in hidden.class_names]
        table.append(cells)
    _write_csv(out / "grades.csv", [name for name, _ in table[0]], [[cell for _, cell in cells] for cells in table])
    kept = [{key: value for key, value in row.items() if key not in ("used", "template")} for row in rows]
    with replacing(out / "grades.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")


def _write_timings(out: Path, rows: list[dict[str, Any]]) -> None:
    of_process, of_worker = ("seconds", "processor_seconds", "peak"), ("seconds_to_open", "seconds_to_predict")
    table = [
        [row["team"], *(row["used"].get(name) for name in of_process), *(row["facts"].get(name) for name in of_worker)]
        for row in rows
    ]
    _write_csv(out / "timings.csv", ["team", "seconds", "processor_seconds", "peak_mb", *of_worker], table)


def _write_leaderboard(out: Path, rows: list[dict[str, Any]], ledger: Ledger, tries: int | None) -> None:
    """Coarse scores of the public half; a team is told no more of them than it has tries."""
    for row in rows:
        files = hashlib.sha256(json.dumps(sorted(row["files"].values())).encode()).hexdigest()
        told = ledger.told(row["team"])
        if row["accuracy"] is not None and files not in told and (tries is None or len(told) < tries):
            coarse = int(row["accuracy"] / LEADERBOARD_STEP + 1e-9) * LEADERBOARD_STEP
            ledger.add("told", key=row["key"], team=row["team"], files=files, score=round(coarse, 4))
            told = ledger.told(row["team"])
        row["tries"], row["tries_left"] = len(told), None if tries is None else tries - len(told)
        row["coarse_score"] = told.get(files)
        row["best_score"] = max(told.values(), default=None)
    board = sorted(
        (row for row in rows if row["best_score"] is not None), key=lambda row: (-row["best_score"], row["team"])
    )
    _write_csv(
        out / "leaderboard.csv",
        ["team", "best_score", "tries"],
        [[row["team"], f"{row['best_score']:.2f}", row["tries"]] for row in board],
    )


def _write_csv(file: Path, header: list[str], table: list[list[Any]]) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([guard(name) for name in header])
    for row in table:
        writer.writerow([guard(value) if isinstance(value, str) else _as_cell(value) for value in row])
    with replacing(file) as temporary:
        temporary.write_bytes(stream.getvalue().encode("utf-8-sig"))  # the mark tells Excel that it is UTF-8


def _as_number(text: str) -> float | str:
    """A person's mark: -1 is a number, and no formula."""
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


def _as_cell(value: Any) -> str:
    if value is None:
        return ""
    return str(round(value, 6)) if isinstance(value, float) else str(value)


def guard(text: str) -> str:
    """Keeps a spreadsheet from taking a text for a formula, also where its first sign is a full-width one."""
    return f"'{text}" if text[:1] and text[0] in "=+-@\t\r＝＋－＠" else text


def team_folders(teams: Iterable[str]) -> dict[str, str]:
    """The folder of each team; names that differ by capitals alone do not meet."""
    folders, taken = {}, set()
    for team in teams:
        name = safe_name(team)
        if name.casefold() in taken:
            name += "-" + hashlib.sha256(team.encode()).hexdigest()[:6]
        taken.add(name.casefold())
        folders[team] = name
    return folders


def read_references(hidden: Hidden) -> dict[str, float]:
    """Accuracies of the hidden set's reference submissions, where `holdout` has made and graded them."""
    try:
        told = json.loads((hidden.path / REFERENCES / "scores.json").read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
