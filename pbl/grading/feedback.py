"""Pages for people: one for each team that gives away no hidden label, and a summary and a histogram for the instructor."""

import base64
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pbl import languages
from pbl.errors import InputError
from pbl.grading.hidden import Hidden
from pbl.grading.outcomes import CAUSES, STATUSES
from pbl.grading.refusals import TOLERANCE
from pbl.storage.writing import replacing

# What a team is told besides its status; the other flags are for the instructor alone.
_REMARKS = {
    "constant_predictions": "Every image got the same class. Does the training loss fall?",
    "below_chance": "The score is worse than guessing. Are the classes in the order of the task?",
    "late": "It was received after the deadline: {days} {days:day|days} late.",
}

# In anomaly detection some of them have another meaning.
_ANOMALY_REMARKS = {
    **_REMARKS,
    "constant_predictions": "Every image got the same score. Does the training loss fall?",
    "below_chance": "Normal images score higher than anomalies. Does a high score mean an anomaly?",
}
_MASK_REMARKS = {
    "all_background": "Nothing is marked in any image. Does the training loss fall, and is the threshold too high?",
    "constant_predictions": "Every image got the same mask. Does the training loss fall?",
    "late": _REMARKS["late"],
}
_BOX_REMARKS = {
    "nothing_found": "No box reaches the threshold in any image. Does the training loss fall, and is the threshold too high?",
    "constant_predictions": "Every image got the same boxes. Does the training loss fall?",
    "late": _REMARKS["late"],
}
_PROMISES = {
    "kept": "Its interval contains the promised share, {promised:g}.",
    "too_many": "This is more than the promised share, {promised:g}. Choose the threshold on normal images that the model was not trained on.",
    "too_few": "This is less than the promised share, {promised:g}: a lower threshold would find more anomalies.",
}


# What a flag means to an instructor, by its name before the colon.
FLAGS = {
    "above_ceiling": "better than the rubric's ceiling: are the labels known, or is the ceiling too low?",
    "agrees_on_errors_with": "makes the same mistakes as that team more often than chance explains",
    "all_background": "nothing is marked in any image",
    "below_chance": "worse than guessing: is the order of the classes different?",
    "constant_predictions": "the same answer for every image",
    "could_be": "a file without a name from the roster, which may belong to that team",
    "duplicate_of": "the same predictions as that team's",
    "late": "received after the deadline",
    "late_on_platform": "the platform marks it as late; the time of receipt is not known here",
    "names_inside": "contains the name of that other team in its file",
    "nothing_found": "no box reaches the team's threshold in any image",
    "not_on_roster": "not a team on the roster",
    "skewed_preprocessing": "its own test images have other probabilities here than on the team's machine",
    "time_unread": "its time of receipt in the roster could not be read",
}


def write_feedback(folder: Path, row: Mapping[str, Any], hidden: Hidden, half: str, language: str) -> None:
    """Writes a team's `feedback.md`.

    Args:
        folder: The team's folder; it may be given to the team as it is.
        row: A row of `pbl.grading.results.write_all`.
        hidden: Gives the names of the classes.
        half: Which half of the hidden images counts; for the public half only a coarse score is shown.
        language: Such as "en" or "ja".

    Raises:
        InputError: It cannot be written.
    """

    def say(template: str, **fields: Any) -> str:
        return languages.say(template, language, **fields)

    fields = {name: _escape(value) if isinstance(value, str) else value for name, value in row["fields"].items()}
    status = say("**{status}**: {message}", status=row["status"], message=say(row["template"], **fields))
    lines = [say("# {team}", team=_escape(row["team"])), "", status, ""]
    if half == "public":
        lines += _tell_coarsely(row, say)
    else:
        tells = {"anomaly": _tell_alarms, "segmentation": _tell_masks, "detection": _tell_boxes}
        tell = tells.get(hidden.task, _tell_scores)
        lines += tell(row, hidden, say) if row[hidden.headline] is not None else []
        lines += _tell_marks(row, say, hidden.headline)
    facts = {} if row["owns_builder"] else row["facts"]  # the team's own program could put anything there
    remarks_of = {"anomaly": _ANOMALY_REMARKS, "segmentation": _MASK_REMARKS, "detection": _BOX_REMARKS}
    known = remarks_of.get(hidden.task, _REMARKS)
    told = [flag for flag in row["flags"] if flag in known and (half, flag) != ("public", "below_chance")]
    remarks = [say(known[flag], days=row["days_late"]) for flag in told]
    if facts.get("ties"):
        remarks.append(
            say(
                "In {rows} {rows:row|rows} several classes have the largest probability; the label counts there.",
                rows=facts["ties"],
            )
        )
    if facts.get("fixtures", {}).get("cause"):
        remarks.append(
            say(
                "The images of fixtures.npz have other probabilities in the grader than on your machine (largest difference {difference:.2f}, at most {tolerance} is accepted). {cause}",
                difference=facts["fixtures"]["difference"],
                tolerance=TOLERANCE,
                cause=say(CAUSES[facts["fixtures"]["cause"]]),
            )
        )
    if remarks:
        lines += ["", *(f"- {remark}" for remark in remarks)]
    if facts.get("model") and facts.get("parameters") is not None:
        model = {"model": _escape(facts["model"]), "parameters": facts["parameters"]}
        lines += ["", say("Model: {model}, {parameters:,} weights", **model)]
    if row["files"]:
        lines += ["", say("What was graded (SHA-256 of each file):"), ""]
        lines += [f"- {_escape(name.rsplit('/', 1)[-1])}: `{sha}`" for name, sha in sorted(row["files"].items())]
    # A table of labels may come from a program without any run.
    has_run = hidden.task != "classification" or not any(name.lower().endswith(".csv") for name in row["files"])
    if row["status"] not in ("ok", "grader_error", "missing") and has_run:
        own_check = "To check a submission in the same way as the grader: `python -m pbl submit RUN --team NAME`."
        if hidden.task != "classification":
            own_check = "To write a submission and check it in the same way as the grader: `python -m pbl submit RUN --team NAME --predictions IMAGES`."
        lines += ["", say(own_check)]
    _write(folder / "feedback.md", "\n".join(lines) + "\n")


def _tell_scores(row: Mapping[str, Any], hidden: Hidden, say: Callable[..., str]) -> list[str]:
    low, high = row["accuracy_interval"]
    score = {"accuracy": row["accuracy"], "low": low, "high": high, "images": row["images"]}
    told = [
        say("Accuracy: {accuracy:.4f} (95% interval {low:.4f} to {high:.4f}, {images} hidden images)", **score),
        say("Macro F1: {f1:.4f}", f1=row["macro_f1"]),
    ]
    if row["log_loss"] is not None:
        told.append(say("Log loss: {log_loss:.4f} nats", log_loss=row["log_loss"]))
    told += _tell_points(row, say)
    recalls = [(name, row["recall"][name]) for name in hidden.class_names if row["recall"][name] is not None]
    table = [f"| {_escape(name)} | {recall:.2f} |" for name, recall in recalls]
    return [*(f"- {line}" for line in told), "", say("| class | recall |"), "|---|---|", *table]


def _tell_alarms(row: Mapping[str, Any], hidden: Hidden, say: Callable[..., str]) -> list[str]:
    """As `_tell_scores` does for classes, for the alarms of anomaly detection."""

    def share(name: str) -> dict[str, float]:
        low, high = row[f"{name}_interval"]
        return {"share": row[name], "low": low, "high": high}

    area = "AUROC: {share:.4f} (95% interval {low:.4f} to {high:.4f}, {images} hidden images)"
    alarms = say(
        "False alarms among the normal images: {share:.1%} ({low:.1%} to {high:.1%}).", **share("false_alarms")
    )
    told = [
        say(area, **share("roc_auc"), images=row["images"]),
        say("Anomalies found: {share:.1%} ({low:.1%} to {high:.1%})", **share("found")),
        say("{alarms} {promise}", alarms=alarms, promise=say(_PROMISES[row["promise"]], promised=hidden.false_alarms)),
    ]
    return [f"- {line}" for line in [*told, *_tell_points(row, say)]]


def _tell_masks(row: Mapping[str, Any], hidden: Hidden, say: Callable[..., str]) -> list[str]:
    """As `_tell_scores` does for classes, for masks."""
    low, high = row["dice_interval"]
    score = {"dice": row["dice"], "low": low, "high": high, "images": row["images"]}
    told = [say("Dice: {dice:.4f} (95% interval {low:.4f} to {high:.4f}, {images} hidden images)", **score)]
    if row["false_images"] is not None:
        told.append(
            say(
                "Images in which a missing class is marked: {share:.1%} of those that lack a class",
                share=row["false_images"],
            )
        )
    table = []
    for of in row["classes"]:
        dice = "" if of["dice"] is None else f"{of['dice']:.4f}"
        false = say("{n} of {all}", n=of["false_images"], all=of["empty_images"])
        table.append(f"| {_escape(of['name'])} | {of['images']} | {dice} | {false} |")
    header = say("| class | images that have it | Dice | falsely marked where it is not |")
    return [*(f"- {line}" for line in [*told, *_tell_points(row, say)]), "", header, "|---|---|---|---|", *table]


def _tell_boxes(row: Mapping[str, Any], hidden: Hidden, say: Callable[..., str]) -> list[str]:
    """As `_tell_scores` does for classes, for boxes."""
    low, high = row["map50_interval"]
    score = {"map50": row["map50"], "low": low, "high": high, "images": row["images"]}
    told = [
        say("mAP50: {map50:.4f} (95% interval {low:.4f} to {high:.4f}, {images} hidden images)", **score),
        say("mAP (IoU .50 to .95): {map:.4f}", map=row["map"]),
    ]
    low, high = row["right_count_interval"]
    shown = {"threshold": row["threshold"], "share": row["right_count"], "low": low, "high": high}
    count = "Right count at your threshold {threshold:.3g}: in {share:.1%} of the images ({low:.1%} to {high:.1%})"
    told.append(f"{say(count, **shown)}{_say_errors(row, say)}")
    table = []
    for of in row["classes"]:
        value = "" if of["ap50"] is None else f"{of['ap50']:.4f}"
        table.append(f"| {_escape(of['name'])} | {of['boxes']} | {of['images']} | {value} |")
    header = say("| class | boxes | images that have it | AP50 |")
    return [*(f"- {line}" for line in [*told, *_tell_points(row, say)]), "", header, "|---|---|---|---|", *table]


def _say_errors(row: Mapping[str, Any], say: Callable[..., str]) -> str:
    if row["precision"] is None:
        return say("; no box is shown.")
    told = "; {precision:.1%} of the shown boxes are right, and {recall:.1%} of the objects are found."
    return say(told, precision=row["precision"], recall=row["recall"])


def _tell_points(row: Mapping[str, Any], say: Callable[..., str]) -> list[str]:
    if row["points"] is not None and row["days_late"]:
        points = {"points": row["points"], "late": row["late_points"], "final": row["final_points"]}
        late = "Points: {points:g}, less {late:g} for {days} {days:day|days} late: {final:g}"
        return [say(late, **points, days=row["days_late"])]
    return [] if row["points"] is None else [say("Points: {points:g}", points=row["points"])]


def _tell_marks(row: Mapping[str, Any], say: Callable[..., str], headline: str) -> list[str]:
    """Level, marks and the final grade, in a separate paragraph."""
    told = []
    if row["level"] is not None:
        told.append(say("Level: {level}", level=_escape(row["level"])))
    if row[headline] is None and row["points"] is not None:
        told.append(say("Points: {points:g}", points=row["points"]))
    told += [f"{_escape(name)}: {_escape(mark)}" for name, mark in row["marks"].items() if mark]
    if row["total"] is not None:
        told.append(say("Final grade: {total:g}", total=row["total"]))
    return ["", *(f"- {line}" for line in told)] if told else []


def _tell_coarsely(row: Mapping[str, Any], say: Callable[..., str]) -> list[str]:
    told = []
    if row["coarse_score"] is not None:
        told.append(
            "- "
            + say(
                "Best score on the public half so far, in coarse steps: at least {score:.2f}", score=row["coarse_score"]
            )
        )
    elif row["status"] == "ok" and row["tries_left"] == 0:
        told.append("- " + say("No more scores are shown: all {tries} were used.", tries=row["tries"]))
    if row["tries_left"] is not None:
        told.append(
            "- " + say("Scores shown so far: {tries}; left: {left}", tries=row["tries"], left=row["tries_left"])
        )
    return told


def _escape(text: str) -> str:
    """A stranger's text for Markdown, in which it can show no picture and make no link."""
    return re.sub(r"([\\`*_{}\[\]<>#|!$&~])", r"\\\1", str(text))


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("{folder} cannot be made: {reason}.", folder=file.parent, reason=error.strerror) from None
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_histogram(
    file: Path, rows: list[dict[str, Any]], references: Mapping[str, float], headline: str = "accuracy"
) -> Path | None:
    """Draws how many teams reached which accuracy, AUROC, Dice or mAP50, with the reference submissions; returns the file, or None if no team has a score."""
    scores = [row[headline] for row in rows if row[headline] is not None]
    if not scores:
        file.unlink(missing_ok=True)
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from pbl.reports.drawing import caption

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    low = min([*scores, *references.values()])
    start = min(max(0.0, int(low * 20) / 20), 0.95)  # if all teams have everything right, they need a bar too
    edges = [start + (1 - start) * step / 20 for step in range(21)]
    axes.hist(scores, bins=edges, color="#4477aa", edgecolor="white")
    axes.set_ylim(top=1.08 * axes.get_ylim()[1])  # so that no name lies on the frame
    top = axes.get_ylim()[1] * 0.98
    ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}  # a bar may be behind the text
    for number, (name, value) in enumerate(sorted(references.items(), key=lambda item: item[1])):
        axes.axvline(value, color="#aa3377", linestyle="--", linewidth=1)
        place, side = (value, top * (1 - 0.09 * (number % 4))), "right" if value > (1 + start) / 2 else "left"
        axes.text(
            *place,
            f" {name.replace('_', ' ')} {value:.3f}",
            fontsize=8,
            va="top",
            ha=side,
            color="#aa3377",
            bbox=ground,
        )
    labels = {
        "accuracy": caption("accuracy on the hidden images"),
        "roc_auc": caption("AUROC on the hidden images"),
        "dice": caption("Dice on the hidden images"),
        "map50": caption("mAP50 on the hidden images"),
    }
    axes.set_xlabel(labels[headline])
    axes.set_ylabel(caption("teams"))
    axes.set_xlim(start, 1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(caption("{n} of {all} teams have a score", n=len(scores), all=len(rows)))
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=120)
    return file


def write_summary(
    file: Path,
    rows: list[dict[str, Any]],
    record: dict[str, Any],
    is_whole: bool,
    hidden: Hidden,
    half: str,
    references: Mapping[str, float],
    histogram: Path | None,
    language: str,
) -> None:
    """Writes the instructor's page: one file, no script, nothing loaded from elsewhere.

    Args:
        file: The file to write.
        rows: The rows of `pbl.grading.results.write_all`.
        record: How they were graded (see `pbl.grading.results.read_record`).
        is_whole: Whether no line of the ledger was changed.
        hidden: Gives the name of the hidden set, and its task.
        half: Which half of the hidden images counts.
        references: Accuracy, AUROC, Dice or mAP50 of each reference submission.
        histogram: A PNG that `write_histogram` has drawn.
        language: The page's language, such as "en" or "ja".

    Raises:
        InputError: It cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts = Counter(row["status"] for row in rows)
    page = pages.get_template("summary.html").render(
        rows=sorted(rows, key=lambda row: (row[hidden.headline] is None, -(row[hidden.headline] or 0))),
        counts=[f"{counts[status]} {status}" for status in STATUSES if counts[status]],
        images=next((row["images"] for row in rows if row["images"]), 0),
        meanings={
            flag: FLAGS[flag]
            for flag in sorted({one.partition(":")[0] for row in rows for one in row["flags"]})
            if flag in FLAGS
        },
        references=[
            f"{name.replace('_', ' ')} {value:.4f}"
            for name, value in sorted(references.items(), key=lambda item: item[1])
        ],
        limits=[f"{name} {value}" for name, value in record["limits"].items() if value is not None],
        versions=[f"{name} {version}" for name, version in record["versions"].items()],
        histogram=base64.b64encode(histogram.read_bytes()).decode() if histogram else None,
        marks=list(rows[0]["marks"]) if rows else [],
        has_levels=any(row["level"] is not None for row in rows),
        has_total=any(row["total"] is not None for row in rows),
        record=record,
        is_whole=is_whole,
        hidden=hidden,
        half=half,
        language=language,
        t=lambda template, /, **details: languages.say(template, language, **details),
    )
    _write(file, page + "\n")
