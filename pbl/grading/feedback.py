"""What people read: a page for each team that gives away no hidden label, a summary and a histogram for the instructor."""

import base64
import html
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pbl import languages as japanese
from pbl.errors import InputError
from pbl.grading.hidden import Hidden
from pbl.grading.outcomes import CAUSES, STATUSES, TOLERANCE
from pbl.storage import replacing

# What a team is told beside its status; the other flags are for the instructor alone.
_REMARKS = {
    "constant_predictions": "Every image got the same class. Does the training loss go down?",
    "below_chance": "The score is below that of guessing. Are the classes in the order of the task?",
    "late": "It was received after the deadline: {days} day(s) late.",
}
_LINES = {
    "title": "# {team}",
    "status": "**{status}**: {message}",
    "accuracy": "Accuracy: {accuracy:.4f} (95% interval {low:.4f} to {high:.4f}, {images} hidden images)",
    "f1": "Macro F1: {f1:.4f}",
    "log_loss": "Log loss: {log_loss:.4f} nats",
    "points": "Points: {points:g}",
    "late_points": "Points: {points:g}, less {late:g} for {days} day(s) late: {final:g}",
    "recall": "| class | recall |",
    "model": "Model: {model}, {parameters:,} weights",
    "files": "What was graded (SHA-256 of each file):",
    "coarse": "Score on the public half: at least {score:.2f}",
    "tries": "Scores told so far: {tries}; left: {left}",
    "no_tries": "No score is told any more: all {tries} were used.",
    "skewed": "The images of fixtures.npz got other probabilities in the grader than on your machine (largest difference {difference:.2f}, {tolerance} passes). {cause}",
    "check": "To check a submission yourself as the grader does: `python -m pbl submit RUN --team NAME`.",
}  # fmt: skip


def write_feedback(folder: Path, row: Mapping[str, Any], hidden: Hidden, half: str, language: str) -> None:
    """Writes a team's `feedback.md`.

    Args:
        folder: The team's folder; it may be handed to the team as it is.
        row: A row of `pbl.grading.results.write_all`.
        hidden: For the names of the classes.
        half: Which half of the hidden images counts; of the public one a coarse score is told and nothing else.
        language: "en" or "ja".

    Raises:
        InputError: It cannot be written.
    """

    def say(template: str, **fields: Any) -> str:
        return japanese.say(template, language, **fields)

    def line(word: str, **fields: Any) -> str:
        return say(_LINES[word], **fields)

    fields = {name: _escape(value) if isinstance(value, str) else value for name, value in row["fields"].items()}
    lines = [
        line("title", team=_escape(row["team"])),
        "",
        line("status", status=row["status"], message=say(row["template"], **fields)),
        "",
    ]
    remarks = [say(_REMARKS[flag], days=row["days_late"]) for flag in row["flags"] if flag in _REMARKS]
    facts = {} if row["owns_builder"] else row["facts"]  # a program of the team's own could put anything there
    fixtures = facts.get("fixtures", {})
    if fixtures.get("cause"):
        remarks.append(
            line("skewed", difference=fixtures["difference"], tolerance=TOLERANCE, cause=say(CAUSES[fixtures["cause"]]))
        )
    if half == "public":
        lines += _tell_coarsely(row, line)
        remarks = [remark for remark in remarks if not remark.startswith(say(_REMARKS["below_chance"]))]
    elif row["accuracy"] is not None:
        low, high = row["accuracy_interval"]
        lines.append("- " + line("accuracy", accuracy=row["accuracy"], low=low, high=high, images=row["images"]))
        lines.append("- " + line("f1", f1=row["macro_f1"]))
        if row["log_loss"] is not None:
            lines.append("- " + line("log_loss", log_loss=row["log_loss"]))
        if row["points"] is not None and row["days_late"]:
            lines.append(
                "- "
                + line(
                    "late_points",
                    points=row["points"],
                    late=row["late_points"],
                    days=row["days_late"],
                    final=row["final_points"],
                )
            )
        elif row["points"] is not None:
            lines.append("- " + line("points", points=row["points"]))
        lines += ["", line("recall"), "|---|---|"]
        lines += [
            f"| {_escape(name)} | {row['recall'][name]:.2f} |"
            for name in hidden.class_names
            if row["recall"][name] is not None
        ]
    lines += ["", *(f"- {remark}" for remark in remarks)] if remarks else []
    if facts.get("model") and facts.get("parameters") is not None:
        lines += ["", line("model", model=_escape(facts["model"]), parameters=facts["parameters"])]
    if row["files"]:
        lines += [
            "",
            line("files"),
            "",
            *(f"- {_escape(name.rsplit('/', 1)[-1])}: `{digest}`" for name, digest in sorted(row["files"].items())),
        ]
    if row["status"] not in ("ok", "grader_error"):
        lines += ["", line("check")]
    _write(folder / "feedback.md", "\n".join(lines) + "\n")


def _tell_coarsely(row: Mapping[str, Any], line: Any) -> list[str]:
    told = []
    if row["coarse_score"] is not None:
        told.append("- " + line("coarse", score=row["coarse_score"]))
    elif row["status"] == "ok":
        told.append("- " + line("no_tries", tries=row["tries"]))
    if row["tries_left"] is not None:
        told.append("- " + line("tries", tries=row["tries"], left=row["tries_left"]))
    return told


def _escape(text: str) -> str:
    """A stranger's text in Markdown, where it may draw no picture and set no link."""
    return re.sub(r"([\\`*_{}\[\]<>#|!$&~])", r"\\\1", str(text))


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("{folder} cannot be made: {reason}.", folder=file.parent, reason=error.strerror) from None
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_histogram(
    file: Path, rows: list[dict[str, Any]], references: Mapping[str, float], hidden: Hidden
) -> Path | None:
    """Draws how many teams reached which accuracy, with the reference submissions; returns the file, None where none has a score."""
    scores = [row["accuracy"] for row in rows if row["accuracy"] is not None]
    if not scores:
        file.unlink(missing_ok=True)
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    low = min([*scores, *references.values()])
    start = max(0.0, int(low * 20) / 20)
    edges = [start + (1 - start) * step / 20 for step in range(21)]
    axes.hist(scores, bins=edges, color="#4477aa", edgecolor="white")
    top = axes.get_ylim()[1]
    for number, (name, value) in enumerate(sorted(references.items(), key=lambda item: item[1])):
        axes.axvline(value, color="#aa3377", linestyle="--", linewidth=1)
        axes.text(value, top * (1 - 0.09 * (number % 4)), f" {name.replace('_', ' ')} {value:.3f}", fontsize=8, va="top", ha="right" if value > (1 + start) / 2 else "left", color="#aa3377")  # fmt: skip
    axes.set_xlabel("accuracy on the hidden images")
    axes.set_ylabel("teams")
    axes.set_xlim(start, 1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"{len(scores)} of {len(rows)} teams have a score")
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=120)
    return file


def write_summary(
    file: Path, rows: list[dict[str, Any]], record: dict[str, Any], is_whole: bool, hidden: Hidden, half: str, references: Mapping[str, float],
    histogram: Path | None,
) -> None:  # fmt: skip
    """Writes the instructor's page: one file, no script, nothing loaded from elsewhere."""
    text = html.escape
    counts = Counter(row["status"] for row in rows)
    parts = [
        f"<h1>{text(hidden.name)}: {len(rows)} team(s)</h1>",
        "<p>" + ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status]) + ".</p>",
        f"<p>Scored on {'all' if half == 'all' else f'the {half} half of the'} hidden images"
        f" ({next((row['images'] for row in rows if row['images']), 0)}). Teams of one tie group cannot be told apart by these images"
        " (McNemar's exact test against the group's first, 5%). A flag is for you to judge; none changes a score.</p>",
    ]
    if histogram is not None:
        picture = base64.b64encode(histogram.read_bytes()).decode()
        parts.append(f'<p><img alt="histogram of accuracies" src="data:image/png;base64,{picture}"></p>')
    header = ("team", "status", "accuracy", "95% interval", "macro F1", "points", "tie group", "flags", "what it says")
    parts.append("<table><tr>" + "".join(f"<th>{name}</th>" for name in header) + "</tr>")
    order = sorted(rows, key=lambda row: (row["accuracy"] is None, -(row["accuracy"] or 0)))
    for row in order:
        interval = "" if row["accuracy_interval"] is None else "{:.4f} to {:.4f}".format(*row["accuracy_interval"])
        points = row["final_points"] if row["days_late"] else row["points"]
        cells = (row["team"], row["status"], _number(row["accuracy"]), interval, _number(row["macro_f1"]), "" if points is None else f"{points:g}", row["tie_group"] or "", ", ".join(flag.replace(":", " ") for flag in row["flags"]), "" if row["status"] == "ok" else row["message"])  # fmt: skip
        parts.append("<tr>" + "".join(f"<td>{text(str(cell))}</td>" for cell in cells) + "</tr>")
    parts.append("</table>")
    if references:
        shown = ", ".join(
            f"{text(name.replace('_', ' '))} {value:.4f}"
            for name, value in sorted(references.items(), key=lambda item: item[1])
        )
        parts.append(f"<p>Reference submissions: {shown}.</p>")
    parts.append("<h2>How it was graded</h2>")
    missing = "".join(
        f"<li>not in force: {text(layer)} ({text(why)})</li>" for layer, why in record["missing_layers"].items()
    )
    parts.append(
        f"<ul><li>isolation: {text(record['isolation'])}; in force: {text(', '.join(record['layers']))}</li>{missing}"
    )
    limits = ", ".join(f"{name} {value}" for name, value in record["limits"].items() if value is not None)
    versions = ", ".join(f"{text(name)} {text(value)}" for name, value in record["versions"].items())
    parts.append(
        f"<li>limits of a submission: {text(limits)}</li><li>versions: {versions or 'nothing was run this time'}</li>"
    )
    parts.append(f"<li>grader {record['grader'][:12]}, hidden set {record['digest'][:12]}; the ledger is {'whole' if is_whole else '<b>changed: lines were edited or lost</b>'}</li></ul>")  # fmt: skip
    style = "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:75em;padding:0 1em}table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:.2em .6em;text-align:left;overflow-wrap:anywhere}img{max-width:100%}"  # fmt: skip
    _write(file, f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Grades: {text(hidden.name)}</title><style>{style}</style>{"".join(parts)}</html>\n')  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
