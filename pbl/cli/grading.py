"""A class's hidden test set, for the instructor and the teams: `holdout`, `submit`, `grade`."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from pbl.cli.options import (
    AsJson,
    DataDir,
    Language,
    NoCode,
    Requirement,
    RunFolder,
    Trust,
    choose_code,
    parse_requirements,
)
from pbl.cli.screen import format_number, print_json, print_table, quiet_tensorflow, show_progress
from pbl.errors import InputError
from pbl.languages import choose_language, say, say_sentence
from pbl.languages.forms import format_share
from pbl.storage.escapes import for_shell


def holdout(
    source: Annotated[str, Argument(metavar="SOURCE", help="A data set: a name, a folder, a .zip or an .npz.")],
    task: Annotated[
        Literal["classification", "segmentation", "detection", "anomaly"],
        Option(
            help="segmentation: images with a mask each; teams hand in masks. detection: images with boxes; teams hand in boxes. anomaly: use --normal."
        ),
    ] = "classification",
    fraction: Annotated[
        float, Option(help="Share of each class that is hidden; 1 hides all images, and nothing is public.")
    ] = 0.2,
    out: Annotated[str | None, Option(metavar="DIR", help="The folder to make; by default holdout/NAME.")] = None,
    hide_test: Annotated[
        bool, Option("--hide-test", help="Hide the test split of the source instead of a share.")
    ] = False,
    groups: Annotated[
        str | None,
        Option(
            metavar="PATTERN", help="Images whose names share this word stay on one side of the split, as in training."
        ),
    ] = None,
    as_zip: Annotated[bool, Option("--zip", help="Write the public part as one .zip.")] = False,
    references: Annotated[
        bool, Option(help="Make and grade submissions that show the scale of the grades; this takes minutes.")
    ] = True,
    normal: Annotated[
        list[str] | None,
        Option(
            metavar="CLASS", help="For anomaly detection: a normal class. Repeat the option for each further class."
        ),
    ] = None,
    false_alarms: Annotated[
        float | None,
        Option(
            metavar="SHARE",
            help="Share of the normal images that may raise an alarm, as teams promise; 0.05 by default.",
        ),
    ] = None,
    seed: Annotated[
        int | None, Option(min=0, help="Seed of the selection and of the names; random by default.")
    ] = None,
    data_dir: DataDir = None,
) -> int:
    """Make an instructor's hidden test set: a public part, the hidden images, and their labels in a separate file."""
    with quiet_tensorflow():
        from pbl.grading.holdout import make_holdout
    options = {"fraction": fraction, "hide_test": hide_test, "groups": groups, "as_zip": as_zip, "seed": seed}
    made = make_holdout(
        source, out=out, data_dir=data_dir, normal=normal or (), false_alarms=false_alarms, task=task, **options
    )
    public = []
    if made.public is not None:
        public = [
            (made.public.name + "/" * made.public.is_dir(), say("{n:,} images for the teams", n=made.public_images))
        ]
    hidden = say("{n:,} hidden images with random names, without labels", n=made.images)
    marked = {"segmentation": "masks", "detection": "boxes"}.get(task)
    yours = say("only for you: labels.csv, how the set was made") + (", copies.csv" if made.findings else "")
    yours += {"masks": say(", the masks"), "boxes": say(", the boxes"), None: ""}[marked]
    print_table([str(made.path), ""], [*public, ("images/, hidden.json", hidden), ("labels/", yours)])
    for finding in made.findings:
        told = (
            "{severity}: {check}: {n} hidden {n:image has|images have} a copy among the public images ({examples}, ...). The pairs: {file}. "
            "--groups PATTERN keeps such images together."
        )
        details = {
            "severity": finding.severity,
            "check": say(finding.check.replace("_", " ")),
            "n": len(finding.items),
            "examples": ", ".join(finding.items[:3]),
            "file": made.path / "labels" / "copies.csv",
        }
        print(say(told, **details))
    if references and made.public is not None:
        with quiet_tensorflow():
            from pbl.grading.references import make_references
        scores = make_references(made.path, made.public)
        if scores:
            order = sorted(scores.items(), key=lambda item: item[1])
            called = {"segmentation": "Dice", "detection": "mAP50"}.get(task, "AUROC" if normal else say("accuracy"))
            header = [say("reference submission"), called]
            print_table(header, [(name, format_number(value)) for name, value in order])
    if normal:
        told = "Teams hand in scores: give them {images} too, and tell them the share of false alarms to promise."
        print(say(told, images=made.path / "images"))
    if marked:
        told = {
            "masks": "Teams hand in masks: give them {images} too, but late, since people can look at the images.",
            "boxes": "Teams hand in boxes: give them {images} too, but late, since people can look at the images.",
        }
        print(say(told[marked], images=made.path / "images"))
    print(say("Grade with it: python -m pbl grade SUBMISSIONS --data {path}", path=for_shell(made.path)))
    _warn_of_exposed_labels(made.path)
    return 0


def _warn_of_exposed_labels(folder: Path) -> None:
    """Prints a warning if the next commit would include hidden labels."""
    from pbl.grading.hidden import find_exposing_work_tree

    if tree := find_exposing_work_tree(folder):
        told = (
            "{folder} is in the git work tree {tree}, which does not ignore it: a commit of all files would publish the hidden labels. Move it out "
            "of the work tree, or add it to .gitignore."
        )
        print(say(told, folder=folder, tree=tree), file=sys.stderr)


def submit(
    run: RunFolder,
    team: Annotated[str, Option(metavar="NAME", help="Your team's name.")],
    out: Annotated[str | None, Option(metavar="FILE.zip", help="The file to hand in; by default TEAM.zip.")] = None,
    keras: Annotated[
        bool, Option("--keras", help="Hand in model.keras, made of Keras's own layers, instead of weights.")
    ] = False,
    predictions: Annotated[
        str | None,
        Option(
            metavar="IMAGES",
            help="Hand in predictions for these hidden images instead of a model: classes, or scores (anomaly detection), masks (segmentation), boxes (detection).",
        ),
    ] = None,
    trust: Trust = False,
    no_code: NoCode = False,
    as_json: AsJson = False,
) -> int:
    """Write a team's submission. It is checked here in the same way as by the grader."""
    choose_code([run], trust, no_code)
    with quiet_tensorflow():
        from pbl.evaluation import run as evaluation  # noqa: F401  loads TensorFlow while its log is hidden
        from pbl.grading.submission import submit as write
    submitted = write(run, team, out=out, as_keras=keras, predictions=predictions)
    if as_json:
        print_json({**submitted._asdict(), "file": str(submitted.file)}, indent=None)
        return 0
    print(say("{file} is written, and was checked in the same way as by the grader.", file=submitted.file))
    if submitted.status == "ok":
        print(say_sentence(submitted.message))
    else:
        told = "The instructor will see '{status}'. {message}"
        print(say(told, status=submitted.status, message=submitted.message))
    for remark in submitted.remarks:
        print(say_sentence(remark))
    return 0


def grade(
    submissions: Annotated[
        str,
        Argument(
            metavar="SUBMISSIONS",
            help="A folder with one folder or file for each team, a download of Moodle, Canvas or Google Classroom, or one submission.",
        ),
    ],
    data: Annotated[str, Option(metavar="HIDDEN", help="The hidden set: a folder that `holdout` made.")],
    out: Annotated[
        str, Option(metavar="DIR", help="Folder for the tables. The same command resumes there.")
    ] = "grades",
    roster: Annotated[
        str | None,
        Option(metavar="FILE.csv", help="The expected teams; each team gets a row, even if it handed nothing in."),
    ] = None,
    rubric: Annotated[
        str | None, Option(metavar="FILE.py", help="Points, deadline, allowed builders: rubric = Rubric(...).")
    ] = None,
    labels: Annotated[str | None, Option(metavar="FILE.csv", help="The labels, if they are not in HIDDEN.")] = None,
    predict_only: Annotated[
        bool, Option("--predict-only", help="Run the models; no labels are needed on this machine.")
    ] = False,
    score_only: Annotated[
        bool, Option("--score-only", help="Score what --predict-only left; no model is run on this machine.")
    ] = False,
    jobs: Annotated[int, Option(min=1, max=64, help="Number of submissions graded at the same time.")] = 1,
    seconds: Annotated[float, Option(min=1, help="Time limit of each submission.")] = 120,
    memory: Annotated[
        int, Option(min=64, help="Memory limit of each submission, in MB, in addition to TensorFlow's own memory.")
    ] = 3072,
    require_isolation: Annotated[
        Literal["full", "limits"],
        Option(help="full: stop if this machine cannot isolate submissions; limits: continue without isolation."),
    ] = "full",
    half: Annotated[
        Literal["all", "public", "private"],
        Option(help="Score one half of the hidden images; public: a leaderboard of coarse scores."),
    ] = "all",
    tries: Annotated[
        int | None, Option(min=1, help="For a leaderboard: the number of scores that each team gets.")
    ] = None,
    again: Annotated[
        list[str] | None, Option(metavar="TEAM", help="Grade this team again, even if nothing has changed.")
    ] = None,
    require: Annotated[
        list[str] | None,
        Option(
            metavar='"METRIC>=NUMBER"', help="Exit with status 1 unless every team reaches it, such as accuracy>=0.9."
        ),
    ] = None,
    language: Annotated[
        Language | None,
        Option(help="Language of the teams' feedback; by default the variable PBL_LANGUAGE, then the locale."),
    ] = None,
    export: Annotated[
        tuple[str, str] | None,
        Option(
            metavar="KIND FILE",
            help="Fill the table that the platform exported: moodle-worksheet, moodle or canvas; gradescope: write an autograder.",
        ),
    ] = None,
    export_column: Annotated[
        str | None, Option(metavar="NAME", help="The column for this grade, if the table has several.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Grade a class on hidden images: one row for every team; no submission is trusted, and no result is lost."""
    if predict_only and score_only:
        raise InputError("Give one of --predict-only and --score-only.")
    requirements = parse_requirements(require)
    if requirements:
        _check_requirements(requirements, data)
    from pbl.grading.grader import grade as grade_class
    from pbl.grading.sandbox import Limits

    _warn_of_exposed_labels(Path(data))
    with show_progress(not as_json) as tell:
        rows = grade_class(
            submissions,
            data,
            out=out,
            roster=roster,
            rubric=rubric,
            labels=labels,
            phase="predict" if predict_only else "score" if score_only else "both",
            limits=Limits(seconds=seconds, memory=memory),
            jobs=jobs,
            require_isolation=require_isolation,
            half=half,
            tries=tries,
            again=again or [],
            language=choose_language(language),
            export=export,
            export_column=export_column,
            tell=tell,
        )
    failed = any(row["status"] == "grader_error" or not row["ledger_is_whole"] for row in rows)
    reached = [row for row in rows if all(wanted.judge(row.get(wanted.name))["holds"] for wanted in requirements)]
    if as_json:
        print_json(rows, indent=None)
    else:
        if predict_only:
            _show_predicted(rows, Path(out))
        else:
            _show_grades(rows, Path(out))
        if requirements:
            told = "{reached} of {all} {all:team|teams} reach {requirements}."
            texts = ", ".join(wanted.text for wanted in requirements)
            print(say(told, reached=len(reached), all=len(rows), requirements=texts))
    return 1 if failed or len(reached) < len(rows) else 0


def _check_requirements(requirements: list[Requirement], data: str) -> None:
    from pbl.grading.hidden import open_hidden
    from pbl.grading.measures import SCORINGS

    valid = [name for name in (*SCORINGS[open_hidden(data).task].columns, "points") if name != "promise"]
    for text, name, *_ in requirements:
        if name not in valid:
            raise InputError('--require "{text}": valid are {valid}.', text=text, valid=", ".join(valid))


def _show_predicted(rows: list[dict[str, Any]], out: Path) -> None:
    print_table([say("team"), say("status"), ""], [(row["team"], row["status"], _say_outcome(row)) for row in rows])
    told = "{file}. Score on the machine with the labels: python -m pbl grade {out} --score-only --data HIDDEN"
    print(say(told, file=out / "predicted.csv", out=for_shell(out)))


# The columns of the score, by the kind of score.
HEADERS = {
    "roc_auc": ("AUROC (95% interval)", "found", "false alarms"),
    "dice": ("Dice (95% interval)", "falsely marked"),
    "map50": ("mAP50 (95% interval)", "right count"),
    "accuracy": ("accuracy (95% interval)",),
}


def _show_grades(rows: list[dict[str, Any]], out: Path) -> None:
    headline, shown = next(name for name in HEADERS if any(name in row for row in rows)), []
    lacking = [row["team"] for row in rows if row["missing_marks"]]
    has_total = bool(lacking) or any(row["total"] is not None for row in rows)
    for row in rows:
        score, more = "", ("",) * (len(HEADERS[headline]) - 1)
        if row[headline] is not None:
            low, high = row[f"{headline}_interval"]
            score = say("{accuracy:.4f} ({low:.4f} to {high:.4f})", accuracy=row[headline], low=low, high=high)
            if headline == "roc_auc":
                more = (
                    format_share(row["found"]),
                    f"{format_share(row['false_alarms'])} {say(row['promise'].replace('_', ' '))}",
                )
            elif headline == "dice":
                more = ("" if row["false_images"] is None else format_share(row["false_images"]),)
            elif headline == "map50":
                more = (format_share(row["right_count"]),)
        sums = [row["final_points"], *([row["total"]] if has_total else [])]
        sums = ["" if value is None else f"{value:g}" for value in sums]
        remarks = [flag.replace(":", " ") for flag in row["flags"]]
        remark = ": ".join(filter(None, [", ".join(remarks), _say_outcome(row)]))
        shown.append(
            (
                *(row["team"], row["status"], score, *more),
                *(*sums, str(row["tie_group"] or ""), remark),
            )
        )
    header = ("team", "status", *HEADERS[headline], "final points", *(("total",) if has_total else ()), "tie group")
    print_table([*(say(title) for title in header), ""], shown)
    if lacking:
        told = "No total yet for {n} {n:team|teams}, since some marks are missing: {teams}. Fill them in: {file}; the same command adds them up."
        print(say(told, n=len(lacking), teams=say(", ").join(lacking[:8]), file=out / "marks.csv"))
    pointless = [row["team"] for row in rows if row["total"] is None and not row["missing_marks"]] if has_total else []
    if pointless:
        told = "No total for {n} {n:team|teams} without points, so decide what to give: {teams}."
        print(say(told, n=len(pointless), teams=say(", ").join(pointless[:8])))
    told = "{table}, {page}, feedback for each team in {folder}"
    print(say(told, table=out / "grades.csv", page=out / "summary.html", folder=out / "teams"))


def _say_outcome(row: dict[str, Any]) -> str:
    """The reason why a submission is not "ok"; nothing if it is."""
    return "" if row["status"] == "ok" else say(row["template"], **row["fields"])
