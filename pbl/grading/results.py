"""The table of a class: rows from the workers' results and the labels, and the files that people read."""

import contextlib
import csv
import difflib
import hashlib
import io
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pbl.errors import InputError, Sentence
from pbl.grading import judge
from pbl.grading.box_rows import ROW
from pbl.grading.feedback import write_feedback, write_histogram, write_summary
from pbl.grading.formats import BUILDER, DESCRIPTION, FIXTURES, role_of
from pbl.grading.hidden import REFERENCES, Hidden, Labels
from pbl.grading.intake import is_marked_late
from pbl.grading.ledger import Ledger
from pbl.grading.measures import SCORINGS
from pbl.grading.outcomes import UNTOLD, say, status_of
from pbl.grading.refusals import clean
from pbl.grading.roster import Roster, Team, safe_name
from pbl.grading.rubric import Rubric
from pbl.grading.tables import Table, TableError, find_words, fold, read_table
from pbl.languages.forms import fill_sentence
from pbl.storage.escapes import for_csv
from pbl.storage.writing import replacing, write_json

RECORD, MARKS = "record.json", "marks.csv"
# Flags of submissions that give the same answers without copying.
CONSTANT = {"constant_predictions", "all_background", "nothing_found"}
# A leaderboard's scores have steps of at least so many images, and of a full point, so that no score reveals a single image.
STEP_IMAGES, STEP_SHARE = 5, 0.01
Half = Literal["all", "public", "private"]


def write_record(work: Path, record: dict[str, Any]) -> None:
    """Writes which teams there are, and how they were graded: everything that scoring needs besides the ledger."""
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


# For a team at which the grader failed, so that nothing is known.
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
        row |= {"files": team["files"], "received": team["received"], "came_as": team.get("came_as", [])}
        row |= {name: event[name] for name in ("facts", "used", "isolation", "layers")}
        row |= {"result": event.get("result", ""), "ledger_is_whole": ledger.is_whole}
        rows.append(row | {"key": team["key"], "owns_builder": event["owns_builder"]})
    return rows


def _set_reason(row: dict[str, Any], reason: str, told: dict[str, Any]) -> None:
    template, fields = say(reason, told)
    if fields.keys() - told.keys():  # the words of a team's own program, which are not passed on
        template = UNTOLD
        fields = {"log": f"logs/{safe_name(row['team'])}.txt"}
    row |= {"status": status_of(reason), "reason": reason, "template": template, "fields": fields}
    row["message"] = fill_sentence(template, fields)


def write_outcomes(out: Path, record: dict[str, Any], ledger: Ledger) -> list[dict[str, Any]]:
    """Writes `predicted.csv`: what is known without the labels."""
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
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Scores all teams and writes all tables; the arguments are those of `pbl.grading.grade`.

    Raises:
        InputError: The predictions belong to another hidden set; the rubric's function fails; a file cannot be written.
    """
    if record["digest"] != hidden.digest:
        raise InputError(
            "The predictions in {out} belong to another hidden set ({was}) than {path}. Name their hidden set: --data.",
            out=out,
            was=record["hidden"],
            path=hidden.path,
        )
    counts, scoring = _choose_half(labels, half), SCORINGS[hidden.task]
    rows = _outcomes(record, ledger)
    whole = _read_results(out, rows, hidden)
    facts = {row["team"]: row["facts"] for row in rows}
    scored = {team: scoring.score(result, counts, labels, hidden, facts[team]) for team, result in whole.items()}
    truth = scoring.find_truth(labels, counts, hidden)
    groups = judge.group_ties(scored, truth, hidden.headline, scoring.is_tied)
    references = read_references(hidden)
    if scoring.has_ceiling:  # if a simple method gets all right, a team that does too need not know hidden labels
        rubric = rubric.model_copy(update={"ceiling": max([rubric.ceiling, *references.values()])})
    received = {team.name: team.received for team in roster.teams} if roster else {}
    unread = {team.name for team in roster.teams if team.unread} if roster else set()
    for row in rows:
        team = row["team"]
        _fill(row, scored.get(team), groups.get(team), rubric, received, hidden)
        if team in scored:
            row["flags"] += scoring.find_flags(scored[team], whole[team], counts, hidden, rubric.ceiling, facts[team])
        row["flags"] += ["time_unread"] if row["team"] in unread else []
    if rubric.deadline is not None:
        _tell_untimed(rows, tell)
    _tell_lacking(received.keys() - {row["team"] for row in rows}, tell)
    _flag_names(rows)
    _flag_pairs(rows, scored, whole, truth)
    marks = update_marks(out / MARKS, [row["team"] for row in rows], rubric.marks, tell)
    for row in rows:
        row["marks"] = marks[row["team"]]
        row["total"] = rubric.add_up(row["team"], row["final_points"], row["marks"])
        row["missing_marks"] = rubric.find_missing(row["marks"])
    if half == "public":
        _write_leaderboard(out, rows, ledger, tries, hidden)
    _write_grades(out, rows, hidden, rubric)
    _write_timings(out, rows)
    histogram = write_histogram(out / "histogram.png", rows, references, hidden.headline)
    write_summary(out / "summary.html", rows, record, ledger.is_whole, hidden, half, references, histogram, language)
    names = team_folders(row["team"] for row in rows)
    for row in rows:
        row["folder"] = names[row["team"]]
    for row in rows:
        write_feedback(out / "teams" / names[row["team"]], row, hidden, half, language)
    _set_aside(out / "teams", set(names.values()), tell)
    return rows


def _set_aside(folder: Path, current: set[str], tell: Callable[[str], None]) -> None:
    """Moves away the pages of teams that are no longer graded, for example after a wrong roster: otherwise they would be handed out too."""
    stale = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name not in current)
    if stale:
        aside = folder.parent / "teams_of_before"
        for name in stale:
            shutil.rmtree(aside / name, ignore_errors=True)
            aside.mkdir(exist_ok=True)
            (folder / name).rename(aside / name)
        tell(
            Sentence(
                "The pages of {n} {n:team that is|teams that are} no longer graded ({names}) are now in {folder}.",
                n=len(stale),
                names=", ".join(stale[:5]),
                folder=aside,
            )
        )


def _read_results(out: Path, rows: list[dict[str, Any]], hidden: Hidden) -> dict[str, np.ndarray]:
    """`float32 [images, classes]`, in segmentation `uint8 [pixels]`, in detection `float64 [boxes, 7]`, for each team that has any; a row whose
    result was lost or changed since then becomes a fault of the grader."""
    found = {}
    for row in rows:
        if row["status"] == "ok":
            try:
                file = out / "work" / "results" / hidden.result_name(row["key"])
                if hidden.task == "segmentation":  # masks of a whole class may be larger than the memory
                    result = np.memmap(file, np.uint8, "r")
                elif hidden.task == "detection":  # and a file without boxes cannot be mapped
                    result = np.memmap(file, "<f8", "r") if file.stat().st_size else np.zeros(0)
                    result = result.reshape(-1, ROW)
                else:
                    result = np.frombuffer(file.read_bytes(), "<f4").reshape(len(hidden.ids), len(hidden.class_names))
                if hashlib.sha256(result).hexdigest() != row["result"]:
                    raise ValueError
                found[row["team"]] = result
            except (OSError, ValueError):
                _set_reason(row, "result_changed", {"team": row["team"]})
    return found


# What a rubric's own function `points` gets besides them.
_TOLD_TO_RUBRIC = "team images tie_group parameters days_late flags".split()


def _fill(
    row: dict[str, Any], scored: judge.Scored | None, group: int | None, rubric: Rubric, received, hidden: Hidden
) -> None:
    measures = SCORINGS[hidden.task].measures
    when = received.get(row["team"]) or (datetime.fromisoformat(row["received"]) if row["received"] else None)
    row["received"] = when.isoformat() if when else None
    days = rubric.days_late(when) if row["status"] != "missing" else 0
    row |= dict.fromkeys([*measures, "images", "points"])
    row |= {"tie_group": group, "level": None, "days_late": days, "late_points": None, "final_points": None}
    row["parameters"] = row["facts"].get("parameters")
    row["kind"], row["model"] = row["facts"].get("kind"), row["facts"].get("model")
    if days:
        row["flags"].append("late")
    elif when is None and any(map(is_marked_late, row["came_as"])):
        row["flags"].append("late_on_platform")
    if scored is None:
        row["points"] = row["final_points"] = rubric.missing_points if row["status"] == "missing" else None
        return
    row |= {name: scored.metrics[name] for name in (*measures, "images")}
    row["points"] = rubric.give_points({name: row[name] for name in (*measures, *_TOLD_TO_RUBRIC)}, hidden.headline)
    row["level"] = rubric.name_level(row[hidden.headline])
    if row["points"] is not None:
        row["late_points"] = rubric.late_points_per_day * days
        row["final_points"] = max(0.0, row["points"] - row["late_points"])


def _choose_half(labels: Labels, half: Half) -> np.ndarray:
    """Which images count, `bool [n]`."""
    counts = {"all": np.ones(len(labels.classes), bool), "public": labels.is_public, "private": ~labels.is_public}[half]
    if half != "all" and len(set(counts.tolist())) < 2:
        raise InputError(
            "The labels have no public and private half, but --half {half} needs them. Make the hidden set again with holdout, or use --half all.",
            half=half,
        )
    return counts


def _tell_lacking(teams: set[str], tell: Callable[[str], None]) -> None:
    """Prints a line about teams of a roster that is newer than the predictions, which would otherwise be left out silently."""
    if teams:
        told = "The roster names {n} {n:team that has|teams that have} no row, because the predictions do not contain {n:it|them}: {teams}. Predict again with it."
        tell(Sentence(told, n=len(teams), teams=", ".join(sorted(teams))))


def _tell_untimed(rows: list[dict[str, Any]], tell: Callable[[str], None]) -> None:
    """Prints a line if there is a deadline without times: then nobody is late, which must be noticed."""
    teams = [row["team"] for row in rows if row["status"] != "missing" and row["received"] is None]
    if teams:
        tell(
            Sentence(
                "The rubric has a deadline, but for {n} {n:submission|submissions} the time of receipt is not known ({teams}): {n:it counts|they "
                "count} as in time. Write the times into a column received of the roster.",
                n=len(teams),
                teams=", ".join(teams[:5]) + (", ..." if len(teams) > 5 else ""),
            )
        )


def _flag_names(rows: list[dict[str, Any]]) -> None:
    """Flags a submission that names another team of the class inside."""
    names = Roster(Team(row["team"]) for row in rows)
    for row in rows:
        means = names.match_name(row["facts"].get("team", ""))
        if means and row["team"] not in means:
            row["flags"] += [f"names_inside:{other}" for other in sorted(means)]


def _find_prints(
    row: dict[str, Any], scored: judge.Scored | None, whole: np.ndarray | None, truth: np.ndarray
) -> set[str]:
    """The marks by which two submissions are recognised as the same: their files, weights, predictions."""
    if row["status"] == "missing":
        return set()
    # Labels alone say nothing if there is only one way to write them: all right, nearly so, or one class everywhere.
    if scored is not None and not row["facts"].get("has_probabilities", True):
        mistakes = int((scored.predicted != truth).sum())
        if mistakes < judge.FEWEST_ERRORS or CONSTANT & set(row["flags"]):
            return set()
    # Files that an instructor gives to all, or that are the same in each run, are not copies: builder.py, fixtures, the description.
    common = (BUILDER, FIXTURES, DESCRIPTION)
    prints = {f"file {digest}" for name, digest in row["files"].items() if role_of(name) not in common}
    if "content" in row["facts"]:
        prints.add(f"weights {row['facts']['content']}")
    # Two submissions that always answer one class have not copied.
    if whole is not None and not CONSTANT & set(row["flags"]):
        prints.add(f"predictions {hashlib.sha256(whole.tobytes()).hexdigest()}")
    return prints


def _flag_pairs(rows, scored, whole, truth) -> None:
    """Flags teams that handed in the same files, or that make the same mistakes; a person must judge."""
    by_content: dict[str, set[str]] = {}
    for row in rows:
        for found in _find_prints(row, scored.get(row["team"]), whole.get(row["team"]), truth):
            by_content.setdefault(found, set()).add(row["team"])
    same: dict[str, set[str]] = {row["team"]: set() for row in rows}
    for alike in by_content.values():
        for team in alike:
            same[team] |= alike - {team}
    for row in rows:
        row["duplicate_of"] = sorted(same[row["team"]])
        row["flags"] += [f"duplicate_of:{other}" for other in row["duplicate_of"]]
    constant = {row["team"] for row in rows if CONSTANT & set(row["flags"])}
    predicted = {team: scored[team].predicted for team in scored if team not in constant}
    features = {row["team"]: row["facts"]["features"] for row in rows if "features" in row["facts"]}
    features |= {
        row["team"]: row["team"] for row in rows if row["facts"].get("kind") in ("masks", "boxes")
    }  # teams whose network is not known
    of_team = {row["team"]: row for row in rows}
    for one, other, share, chance in judge.find_agreements(predicted, features, truth):
        if other not in same[one]:
            for team, partner in ((one, other), (other, one)):
                of_team[team]["flags"].append(f"agrees_on_errors_with:{partner}={share:.2f},chance={chance:.2f}")


# --- Files


def update_marks(
    file: Path, teams: Sequence[str], names: Sequence[str], tell: Callable[[str], None] = lambda line: None
) -> dict[str, dict[str, str]]:
    """Reads what a person filled in, and adds new teams and columns; no existing cell is changed.

    Args:
        file: The table, made if absent: `team` and one column for each name.
        teams: The teams of the class.
        names: What a person judges; if there is none, nothing is read or written.
        tell: Called with a line for each mark that fits no team, for each of two cells that does not count, for each row that is longer than the
            header, and for each heading that is nearly the name of a mark without a column.

    Returns:
        The marks of each team, "" if there is none yet.

    Raises:
        InputError: The table cannot be read or written.
    """
    if not names:
        return {team: {} for team in teams}
    table, column = _read_marks(file)
    columns = find_words(table.rows[0], names)
    roster = Roster(map(Team, teams))
    given = {team: dict.fromkeys(names, "") for team in teams}
    there = set()
    for line, called, marks in _list_marks(table, column, names):
        means = roster.match_name(_unguard(called)) if called else set()
        team = means.pop() if len(means) == 1 else None
        there.add(team)
        for name, cell in marks:
            place = {"file": file, "line": line, "name": name}
            if cell and team is None:
                line_told = "{file}, line {line}: the mark {name} {cell} belongs to no team: there is no team '{team}'."
                tell(Sentence(line_told, **place, cell=clean(cell, 40), team=clean(called, 40)))
            elif cell and given[team][name] not in ("", cell):
                line_told = "{file}, line {line}: {team} has two marks {name}: {first} counts, but {second} does not."
                tell(Sentence(line_told, **place, team=team, first=given[team][name], second=clean(cell, 40)))
            elif cell:
                given[team][name] = cell
    new = [team for team in teams if team not in there]
    more = [name for place, name in enumerate(names) if place not in columns]
    headings = [cell.strip() for n, cell in enumerate(table.rows[0]) if n != column and columns[n] is None]
    for told in (*_find_cells_beyond(file, table, column), *_find_misspelt(file, headings, more)):
        tell(told)
    if new or more:
        _extend_marks(file, table, column, new, more)
    return given


def _find_cells_beyond(file: Path, table: Table, column: int) -> Iterator[Sentence]:
    """Tells the rows that are longer than the header: "17,5" without quotes is two cells, and the first is a number."""
    for row, line in zip(table.rows[1:], table.lines[1:], strict=True):
        beyond = [cell.strip() for cell in row[len(table.rows[0]) :] if cell.strip()]
        if beyond and row[column].strip():
            told = "{file}, line {line}: {cell} of {team} is beyond the last heading and does not count. If it belongs to a mark, write 17.5 for 17,5."
            yield Sentence(told, file=file, line=line, cell=clean(beyond[0], 40), team=clean(row[column], 40))


def _find_misspelt(file: Path, headings: Sequence[str], names: Sequence[str]) -> Iterator[Sentence]:
    """Tells the headings that are nearly the name of a mark without a column."""
    for heading in headings:
        for name in difflib.get_close_matches(heading, names, 1, 0.7):
            told = "{file}: no mark is called {heading}. If {name} is meant, move its marks into the new column {name}."
            yield Sentence(told, file=file, heading=clean(heading, 40), name=name)


def check_marks(file: Path, rubric: Rubric) -> None:
    """Raises InputError if a mark that counts in the final grade is not a number: this is known before any model is run."""
    if not rubric.marks or not file.exists():
        return
    for _, called, marks in _list_marks(*_read_marks(file), rubric.marks):
        rubric.add_up(called, 0.0, dict(marks))


def _list_marks(table: Table, column: int, names: Sequence[str]) -> Iterator[tuple[int, str, list[tuple[str, str]]]]:
    """For each row below the header: its line, the team's name there, and the marks as name and cell."""
    columns = find_words(table.rows[0], names)
    for row, line in zip(table.rows[1:], table.lines[1:], strict=True):
        marks = [(names[place], row[n].strip()) for n, place in enumerate(columns[: len(row)]) if place is not None]
        yield line, row[column].strip() if column < len(row) else "", marks


def _read_marks(file: Path) -> tuple[Table, int]:
    """The table of marks, and the column of the team; for a file that does not exist, a new table."""
    try:
        table = read_table(file.read_bytes(), _has_team) if file.exists() else Table([["team"]], [1], ",")
    except OSError as error:
        raise InputError("{file} cannot be read: {reason}.", file=file, reason=error.strerror) from None
    except TableError:
        table = Table([], [], ",")
    column = next((number for number, cell in enumerate(table.rows[0]) if _is_team(cell)), None) if table.rows else None
    if column is None:
        raise InputError(
            "{file} is not a CSV file with a column team. Repair it, or move it away: it is then made again.", file=file
        )
    return table, column


def _extend_marks(file: Path, table: Table, column: int, teams: Sequence[str], names: Sequence[str]) -> None:
    """Adds rows for new teams and columns for new marks; every existing cell stays as it is."""
    header, width = table.rows[0], max(map(len, table.rows))
    rows = [[*header, *[""] * (width - len(header) if names else 0), *names], *table.rows[1:]]
    rows += [[""] * column + [for_csv(team)] for team in teams]
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=table.separator).writerows(rows)
    with replacing(file) as temporary:
        temporary.write_bytes(stream.getvalue().encode("utf-8-sig"))


def _is_team(heading: str) -> bool:
    return fold(heading) in ("team", "チーム", "班")


def _has_team(cells: Sequence[str]) -> bool:
    return any(map(_is_team, cells))


def _unguard(text: str) -> str:
    return text[1:] if text.startswith("'") and for_csv(text[1:]) == text else text


def _write_grades(out: Path, rows: list[dict[str, Any]], hidden: Hidden, rubric: Rubric) -> None:
    scoring, table = SCORINGS[hidden.task], []
    for row in rows:
        cells = [(name, row[name]) for name in ("team", "status")]
        for name in scoring.with_intervals:
            low, high = row[f"{name}_interval"] or (None, None)
            cells += [(name, row[name]), (f"{name}_low", low), (f"{name}_high", high)]
        cells += [
            (name, row[name])
            for name in (*scoring.others, "points", "days_late", "late_points", "final_points", "level")
        ]
        cells += [(name, _as_number(mark)) for name, mark in row["marks"].items()]
        cells += [("total", row["total"])] if rubric.total else []
        cells += [("tie_group", row["tie_group"]), ("flags", " ".join(row["flags"]))]
        cells += [(name, row[name]) for name in ("parameters", "kind", "model", "isolation", "images")]
        cells += [("reason", row["message"])]
        if scoring.by_class:
            of_class = row[scoring.by_class] or {}
            cells += [(f"{scoring.by_class}({name})", of_class.get(name)) for name in hidden.judged_classes]
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


def _write_leaderboard(
    out: Path, rows: list[dict[str, Any]], ledger: Ledger, tries: int | None, hidden: Hidden
) -> None:
    """Writes coarse scores of the public half; a team of the roster is told at most as many of them as it has tries.

    A further try gets a new score only if it is better than all before by a whole step (the Ladder of Blum & Hardt 2015,
    "The Ladder: A Reliable Leaderboard for Machine Learning Competitions", arXiv:1502.04585): so changing one answer reveals nothing.
    """
    digest, headline = hidden.digest, hidden.headline
    for row in rows:
        files = hashlib.sha256(json.dumps(sorted(row["files"].values())).encode()).hexdigest()
        told = ledger.told(row["team"], digest)
        may_try = "not_on_roster" not in row["flags"] and (tries is None or len(told) < tries)
        if row[headline] is not None and files not in told and may_try:
            best, score = climb(row[headline], row["images"], told.values())
            named = {"key": row["key"], "team": row["team"], "files": files, "hidden": digest}
            ledger.add("told", **named, score=score, best=best)
            told = ledger.told(row["team"], digest)
        row["tries"], row["tries_left"] = len(told), None if tries is None else tries - len(told)
        row["coarse_score"] = told[files][0] if files in told else None
        row["best_score"] = max((score for score, _ in told.values()), default=None)
    board = sorted(
        (row for row in rows if row["best_score"] is not None), key=lambda row: (-row["best_score"], row["team"])
    )
    _write_csv(
        out / "leaderboard.csv",
        ["team", "best_score", "tries"],
        [[row["team"], f"{row['best_score']:.2f}", row["tries"]] for row in board],
    )


def climb(accuracy: float, images: int, told: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Returns the accuracy that the next try must beat by a step, and the score that is shown: rounded down to a step, in hundredths.

    Args:
        accuracy: The accuracy of this try; in another task its headline (`pbl.grading.hidden.HEADLINES`), with the same steps.
        images: Number of images.
        told: The earlier results: for each try the score and the accuracy to beat.
    """
    told = list(told)
    step = max(STEP_IMAGES, math.ceil(STEP_SHARE * images))
    correct = round(accuracy * images)
    score = math.floor(correct // step * step / images * 100 + 1e-9) / 100
    if not told:
        return accuracy, score
    best, best_score = max(best for _, best in told), max(score for score, _ in told)
    if correct >= round(best * images) + step:
        return accuracy, max(score, best_score)
    return best, best_score


def _write_csv(file: Path, header: list[str], table: list[list[Any]]) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([for_csv(name) for name in header])
    for row in table:
        writer.writerow([for_csv(value) if isinstance(value, str) else _as_cell(value) for value in row])
    with replacing(file) as temporary:
        temporary.write_bytes(stream.getvalue().encode("utf-8-sig"))  # the byte order mark tells Excel that it is UTF-8


def _as_number(text: str) -> float | str:
    """A person's mark: -1 is a number, not a formula."""
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


def _as_cell(value: Any) -> str:
    if value is None:
        return ""
    return str(round(value, 6)) if isinstance(value, float) else str(value)


def team_folders(teams: Iterable[str]) -> dict[str, str]:
    """The folder of each team; names that differ only in capitals get different folders."""
    folders, taken = {}, set()
    for team in teams:
        name = safe_name(team)
        if name.casefold() in taken:
            name += "-" + hashlib.sha256(team.encode()).hexdigest()[:6]
        taken.add(name.casefold())
        folders[team] = name
    return folders


def read_references(hidden: Hidden) -> dict[str, float]:
    """Accuracies, or areas under the ROC curve, of the hidden set's reference submissions, if `holdout` has made and graded them."""
    try:
        told = json.loads((hidden.path / REFERENCES / "scores.json").read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
