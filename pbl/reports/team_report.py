"""A draft of a team's report, on three or four A4 sheets: what the runs' files know, and boxes for what people must write.

Each number is in a file of a run, and each claim is based on a run. What people must write comes from their own file
(`pbl.reports.team_notes`); where it says nothing yet, a dotted box stays open. The page is one HTML file, with its pictures inside.
"""

import contextlib
import csv
import hashlib
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from pbl.config import Config
from pbl.data.split import say_made_by
from pbl.diagnosis.advice import read_findings
from pbl.errors import InputError
from pbl.languages import choose_language, say, say_finding
from pbl.reports.pages import embed_png, load_template
from pbl.reports.team_log import (
    CODE,
    OF_THE_IMAGES,
    ONE_SEED,
    UNSET,
    LoggedRun,
    describe_accuracy,
    describe_changes,
    describe_gain,
    describe_settings,
    describe_status,
    list_changes,
    plot_log,
    read_accuracy,
    read_judged,
    read_log,
)
from pbl.reports.team_notes import NAME, OTHER, SECTIONS, Part, find_unknown, make_notes, read_notes
from pbl.runs import Run, runs_folder
from pbl.statistics import crossed_mean_interval, summarise_seeds, wilson_interval
from pbl.storage.reading import read_bytes, read_json
from pbl.storage.writing import replacing

MOST_RUNS = 12  # lines in the list of what was tried
MOST_SETTINGS = 12  # rows in the tables of settings and results
MOST_OUTCOMES = 4  # entries for what helped, for what harmed, and for what did neither
MOST_NAMES = 6  # runs that are named in a row
MOST_BARS = 8  # bars in the picture of what each run gained
MOST_CLASSES = 12  # rows in the table of images
MOST_ROWS, MOST_COLUMNS = 15, 12  # of a comparison's table
# Settings that are shown as the same in all runs, even if they are the default.
TOLD = ("optimizer", "learning_rate", "learning_rate_schedule", "batch_size", "epochs")
SPLITS = {"train": "training", "val": "validation", "test": "test"}
WRITTEN_AS = (
    '<meta name="written-as" content="{digest}">\n'  # a page that does not match its digest was changed by people
)
PNG = b"\x89PNG\r\n\x1a\n"


class Settings(NamedTuple):
    """Runs on the same images with the same settings except the seed: one row of the tables."""

    label: str
    runs: list[LoggedRun]
    words: str  # what differs between rows
    weights: int | None
    interval: tuple[float, float]

    @property
    def model(self) -> str:
        return self.runs[0].config.model

    @property
    def names(self) -> str:
        names = [run.name for run in self.runs]
        return ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")

    @property
    def accuracy(self) -> float:
        return sum(run.accuracy for run in self.runs) / len(self.runs)

    @property
    def lowest(self) -> float:
        return min(run.accuracy for run in self.runs)

    @property
    def highest(self) -> float:
        return max(run.accuracy for run in self.runs)

    @property
    def seeds(self) -> int:
        return len({run.config.seed for run in self.runs})


class TeamReport(NamedTuple):
    """The result of `write_team_report`."""

    file: Path  # the page
    notes: Path  # the file that people write
    open: list[str]  # headings below which nothing is written yet
    kept: Path | None  # the earlier page, if people had changed it
    unknown: list[tuple[str, str]]  # headings that are no section's, and the section that their text is shown in


def write_team_report(
    folder: str | Path | None = None, language: str | None = None, out: str | Path | None = None
) -> TeamReport:
    """Writes the draft, and next to it `team_notes.md`, which is made once and then only read.

    It is about the images on which most of the runs were trained; runs on other images are counted, not compared. If `folder` or a
    folder in it contains what `compare` wrote (`results.json`, `results.png`), that is shown. A page that was changed by hand is not
    overwritten but renamed.

    Args:
        folder: Where the runs are kept; see `pbl.reports.team_log.read_log`.
        language: Such as "en" or "ja"; by default as `pbl.languages.choose_language` returns.
        out: The file; by default `team_report.html` in the runs' folder.

    Returns:
        The files, the headings below which nothing is written yet, where a page that people had changed is kept, and the headings in
        the notes that are no section's.

    Raises:
        InputError: There is no finished run, the notes cannot be read, or the file cannot be written.

    Example:
        >>> import pbl
        >>> report = pbl.write_team_report("runs/mine", language="en")
        >>> report.file.name, report.notes.name
        ('team_report.html', 'team_notes.md')
    """
    language = choose_language(language)
    runs = read_log(folder)
    folder = runs_folder(folder)
    out = folder / "team_report.html" if out is None else Path(out)
    if not out.parent.is_dir() or out.is_dir():
        raise InputError("{file} cannot be written: give a file in a folder that exists.", file=out)
    group = _choose_group(runs)
    if not group:
        raise InputError(
            "{folder} has no finished run to report on. Train one first: python -m pbl train.", folder=folder
        )
    notes_file = out.parent / NAME
    if not notes_file.exists():
        make_notes(notes_file, language)
    notes = read_notes(notes_file)
    page = _collect(folder, runs, group, lambda template, **details: say(template, language, **details), language)
    html = load_template("team_report.html").render(**page, **_show_notes(notes), language=language)
    kept = _keep_what_people_changed(out)
    with replacing(out) as temporary:
        temporary.write_text(html.replace("<head>\n", "<head>\n" + _digest(html), 1), encoding="utf-8")
    still_open = [heading for heading in SECTIONS if not notes[heading]]
    return TeamReport(out, notes_file, still_open, kept, find_unknown(notes))


def _show_notes(notes: dict[str, list[Part]]) -> dict[str, Any]:
    """The notes in the form that the page needs; the title as one line."""
    title = " ".join(part.text for part in notes["Title"])
    return {"notes": notes, "title": " ".join(title.split()), "hints": SECTIONS, "other": notes[OTHER]}


def _digest(html: str) -> str:
    return WRITTEN_AS.format(digest=hashlib.sha256(html.encode()).hexdigest())


def _keep_what_people_changed(file: Path) -> Path | None:
    """Renames a page that is not exactly as it was written; returns its new name."""
    if not file.exists():
        return None
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = file.read_text(encoding="utf-8")
        ours = re.sub(re.escape(WRITTEN_AS).replace(r"\{digest\}", "[0-9a-f]{64}"), "", text, count=1)
        if ours != text and _digest(ours) in text:
            return None
    names = (file.with_name(f"{file.stem}_changed_by_hand_{number}{file.suffix}") for number in itertools.count(1))
    kept = next(name for name in names if not name.exists())
    try:
        file.rename(kept)
    except OSError as error:
        told = "{file} could not be written: {reason}. Its earlier content is not damaged. Free some space or choose another folder."
        raise InputError(told, file=file, reason=error.strerror) from None
    return kept


def _choose_group(runs: Sequence[LoggedRun]) -> list[LoggedRun]:
    """The runs on the images with the most results; if there are several such sets of images, those of the latest one."""
    counts: dict[str, int] = {}
    for run in runs:
        if run.has_result:
            counts[run.images] = counts.get(run.images, 0) + 1
    most = max(counts.values(), default=0)
    chosen = [run.images for run in runs if run.has_result and counts[run.images] == most]
    return [run for run in runs if run.images == chosen[-1] and run.config is not None] if chosen else []


def _collect(
    folder: Path, runs: list[LoggedRun], group: list[LoggedRun], t: Callable[..., str], language: str
) -> dict[str, Any]:
    """Everything that the page shows."""
    finished = [run for run in group if run.has_result]
    best = max(finished, key=lambda run: run.accuracy)
    split = _read_split(best, finished)
    settings, same = _group_settings(finished, t)
    compared = [run for run in group if run.gain is not None]
    figures = best.path / "figures"
    pictures = [
        (t("Learning curves of the best run, {run}", run=best.name), _read_png(figures / "learning_curves.png")),
        (t("Its confusion matrix on the validation images"), _read_png(figures / "confusion_matrix_val.png")),
    ]
    return {
        "t": t,
        "today": date.today().isoformat(),
        "count": len(group),
        "data": _describe_data(best, split, t, language),
        "findings": _describe_findings(best, language),
        "settings": _choose_shown(settings),
        "settings_count": len(settings),
        "same": same,
        "tests": [
            (run.name, *known, run.test_uses) for run in group if (known := read_accuracy(Run(run.path), "test"))
        ],
        "comparison": _read_comparison(folder, best.images, language),
        "most_rows": MOST_ROWS,
        "pictures": [(text, *picture) for text, picture in pictures if picture],
        "gains": _draw(group, language) if compared else None,
        "tried": [
            (run.name, describe_changes(run, language) or t("the first"), _describe_result(run, language))
            for run in group[-MOST_RUNS:]
        ],
        "left_out": max(0, len(group) - MOST_RUNS),
        "outcomes": _sort_outcomes(compared, language, t),
        "limits": list(_describe_limits(runs, group, settings, compared, t)),
    }


def _choose_shown(settings: Sequence[Settings]) -> list[Settings]:
    """The most accurate and the worst if there are too many; in their original order, since a ranking would claim more than is known."""
    ranked = sorted(settings, key=lambda one: -one.accuracy)
    shown = {one.label for one in (*ranked[: MOST_SETTINGS - 1], ranked[-1])}
    return [one for one in settings if one.label in shown]


def _describe_result(run: LoggedRun, language: str) -> str:
    if not run.has_result:
        return describe_status(run, language)
    accuracy = describe_accuracy(run, language)
    return f"{accuracy}; {describe_gain(run, language)}" if run.gain else accuracy


def _read_split(best: LoggedRun, finished: Iterable[LoggedRun]) -> dict[str, Any]:
    """The split, which all of them share: read from the first run whose split can be read."""
    for run in (best, *finished):
        with contextlib.suppress(InputError):
            return Run(run.path).split
    return {}


def _describe_data(best: LoggedRun, split: dict[str, Any], t: Callable[..., str], language: str) -> dict[str, Any]:
    """The source, the split, and the images by class; classes have rows of their own only if there are few."""
    names = [str(name) for name in split.get("class_names", [])]
    by_class, totals, made_by = (_as_dict(split.get(key)) for key in ("images_by_class", "images", "made_by"))
    splits = [name for name in SPLITS if name in totals]

    def count(of: str, name: str) -> Any:
        return _as_dict(by_class.get(of)).get(name, 0)

    rows = [(name, *(count(of, name) for of in splits)) for name in names]
    source = Path(best.config.dataset).name or best.config.dataset
    fewest = min(rows, key=lambda row: row[1], default=None) if "train" in splits else None
    return {
        "source": source,
        "classes": len(names),
        "splits": [t(SPLITS[name]) for name in splits],
        "rows": rows if len(rows) <= MOST_CLASSES else [],
        "fewest": fewest,
        "totals": [totals[name] for name in splits],
        "made_by": [
            t("{split}: {how}", split=t(SPLITS[name]), how=say_made_by(how, language, in_full=False) or str(how))
            for name, how in ((name, made_by[name]) for name in ("val", "test") if name in made_by)
        ],
    }


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _describe_findings(best: LoggedRun, language: str) -> list[str] | None:
    """What the data doctor found that is more than a note; None if it is not known."""
    try:
        findings = read_findings(Run(best.path))
    except InputError:
        return None
    sentences = []
    for finding in findings:
        if finding["severity"] in ("stop", "act"):
            sentences.append(say_finding(finding, language))
    return sentences if findings or (best.path / "data_check.json").exists() else None


def _group_settings(finished: Sequence[LoggedRun], t: Callable[..., str]) -> tuple[list[Settings], str]:
    """Runs with the same settings together, in the order in which they were started; and in words what is the same in all."""
    grouped: dict[tuple, list[LoggedRun]] = {}
    for run in finished:
        key = tuple(sorted(item for item in run.settings.items() if item[0] not in OF_THE_IMAGES))
        grouped.setdefault(key, []).append(run)
    every = [dict(key) for key in grouped]
    keys = [name for name in dict.fromkeys(key for run in finished for key in run.settings) if name in every[0]]
    keys += [name for words in every[1:] for name in words if name not in keys]
    keys = [name for name in dict.fromkeys(keys) if name != "model"]
    varying = {name for name in keys if len({words.get(name, UNSET) for words in every}) > 1}
    defaults, _ = describe_settings(Config())
    versions = list(dict.fromkeys(words[CODE] for words in every if CODE in words))
    found = []
    for number, (words, runs) in enumerate(zip(every, grouped.values(), strict=True)):
        # Only options that were given: another model has other ones.
        shown = [name for name in keys if name in varying and words.get(name, "none") != "none"]
        shown = [name for name in shown if name == CODE or "." not in name or name in runs[0].given]
        given = [f"{name.rpartition('.')[2]}={words[name]}" for name in shown if name != CODE]
        if CODE in shown:
            told = "own code in experiment.py, version {number}" if len(versions) > 1 else "own code in experiment.py"
            given.append(t(told, number=versions.index(words[CODE]) + 1))
        text = ", ".join(given)
        latest = {run.config.seed: run for run in runs}  # if a seed was trained twice, the later run
        kept = list(latest.values())
        found.append(Settings(_letter(number), kept, text, _read_weights(runs[0]), _find_interval(kept)))
    same = [name for name in keys if name not in varying and name != CODE]
    same = [name for name in same if name in TOLD or every[0][name] != defaults.get(name, every[0][name])]
    return found, ", ".join(f"{name.rpartition('.')[2]}={every[0][name]}" for name in same)


def _find_interval(runs: Sequence[LoggedRun]) -> tuple[float, float]:
    """The interval of the accuracy: with several seeds over seeds and images, as `compare` computes it; with one seed over the images."""
    predictions = [read_judged(run.path) for run in runs]
    first = predictions[0]
    if len(runs) > 1 and all(one is not None and np.array_equal(one.hashes, first.hashes) for one in predictions):
        return crossed_mean_interval(summarise_seeds(np.stack([one.correct for one in predictions])))
    n = runs[0].val_images
    return wilson_interval(round(sum(run.accuracy for run in runs) / len(runs) * n), n)


def _read_weights(run: LoggedRun) -> int | None:
    with contextlib.suppress(InputError):
        weights = Run(run.path).environment.get("trainable_weights")
        return weights if isinstance(weights, int) else None
    return None


def _letter(number: int) -> str:
    """The label of a row: A to Z, then AA."""
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def _read_comparison(folder: Path, images: str, language: str) -> dict[str, Any] | None:
    """The newest `results.*` of a comparison, if it is not about other images; None if there is none.

    They are searched in the folder of the runs, in its subfolders, and in `comparison` next to it, where `compare` writes them.
    """
    places = [folder, *sorted(folder.glob("*/")), folder.resolve().parent / "comparison"]
    places = [place for place in places if not _is_about_others(place, images)]
    files = [place / f"results.{suffix}" for place in places for suffix in ("json", "md", "csv", "png")]
    files = [file for file in files if file.is_file()]
    if not files:
        return None
    place = max(files, key=lambda file: file.stat().st_mtime).parent
    return {"name": place.name, "blocks": _read_blocks(place, language), "picture": _read_png(place / "results.png")}


def _is_about_others(place: Path, images: str) -> bool:
    """Whether a comparison says that none of its runs has these images; earlier versions wrote no `results.json`."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        told = [row["images"] for row in read_json(place / "results.json")["runs"]]
        known = {word for text in told for word in (text, *text.split())}  # those of the folds stand in one text
        return any(known) and images not in known
    return False


def _read_blocks(place: Path, language: str) -> list[tuple[str, Any]]:
    """The blocks of a comparison, as `pbl.comparison.tables.list_blocks` yields them; earlier versions wrote no `results.json`."""
    if (place / "results.json").is_file():
        from pbl.comparison.tables import list_blocks, read_results

        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            return [block for block in list_blocks(read_results(place / "results.json"), language) if block[1]]
    with contextlib.suppress(OSError, ValueError):
        if blocks := _parse_markdown(read_bytes(place / "results.md").decode("utf-8")):
            return blocks
    with contextlib.suppress(OSError, ValueError, csv.Error):
        lines = read_bytes(place / "results.csv").decode("utf-8-sig").splitlines()
        return [("table", [row[:MOST_COLUMNS] for row in csv.reader(lines) if row])]
    return []


def _parse_markdown(text: str) -> list[tuple[str, Any]]:
    """Text that `compare` wrote, as blocks: "heading" and "text" with their words, "list" with lines, "table" with rows."""
    blocks: list[tuple[str, Any]] = []

    def extend(kind: str, item: Any) -> None:
        if not (blocks and blocks[-1][0] == kind):
            blocks.append((kind, []))
        blocks[-1][1].append(item)

    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not all(re.fullmatch(":?-+:?", cell) for cell in cells):
                extend("table", cells)
        elif line.startswith("- "):
            extend("list", line[2:])
        elif line.startswith("## "):
            blocks.append(("heading", line[3:]))
        elif line.strip() and not line.startswith("# "):
            blocks.append(("text", line))
    return blocks


def _read_png(file: Path) -> tuple[Markup, int] | None:
    """A picture that the page contains, and its width in pixels."""
    with contextlib.suppress(OSError, InputError):
        content = read_bytes(file)
        if content.startswith(PNG):
            return embed_png(content), _width(content)
    return None


def _width(png: bytes) -> int:
    return int.from_bytes(png[16:20])


def _draw(group: Sequence[LoggedRun], language: str) -> tuple[Markup, int]:
    file = io.BytesIO()
    plot_log(group, language, MOST_BARS).savefig(file, dpi=120)
    return embed_png(file.getvalue()), _width(file.getvalue())


def _sort_outcomes(compared: Sequence[LoggedRun], language: str, t: Callable[..., str]) -> list[tuple[str, list[str]]]:
    """What helped, what harmed, and what made no difference that these images could show; runs that differ only in the seed are separate."""
    kinds: dict[str, list[LoggedRun]] = {
        t("Helped (the whole interval is above 0)"): [
            run for run in compared if run.changes and run.gain.is_clear and run.gain.difference > 0
        ],
        t("Harmed (the whole interval is below 0)"): [
            run for run in compared if run.changes and run.gain.is_clear and run.gain.difference <= 0
        ],
        t("No difference that these images could show"): [
            run for run in compared if run.changes and not run.gain.is_clear
        ],
        t("The same settings again"): [run for run in compared if not run.changes],
    }
    found = []
    for title, runs in kinds.items():
        largest = sorted(runs, key=lambda run: -abs(run.gain.difference))
        sentences = [_describe_outcome(run, language) for run in largest[:MOST_OUTCOMES]]
        if len(runs) > MOST_OUTCOMES:
            sentences.append(t("and {count} more, with smaller differences", count=len(runs) - MOST_OUTCOMES))
        found.append((title, sentences))
    return found


def _describe_outcome(run: LoggedRun, language: str) -> str:
    at_once = ", " + say("{count} changes at once", language, count=len(run.changes)) if len(run.changes) > 1 else ""
    return f"{list_changes(run, language)}: {describe_gain(run, language)} [{run.name}{at_once}]"


def _describe_limits(
    runs: Sequence[LoggedRun],
    group: Sequence[LoggedRun],
    settings: Sequence[Settings],
    compared: Sequence[LoggedRun],
    t: Callable[..., str],
) -> Iterator[str]:
    single, uses = sum(one.seeds == 1 for one in settings), sum(run.test_uses for run in runs)
    if single:
        yield t(
            "{single} of {all} settings were trained with one seed only: for them it is not known how much a training varies by chance.",
            all=len(settings),
            single=single,
        )
    if compared:
        yield t(ONE_SEED)
        yield t(
            "{count} {count:difference was|differences were} examined: if all were truly 0, about {false:.2g} would have an interval without 0.",
            count=len(compared),
            false=0.05 * len(compared),
        )
    finished = sum(run.has_result for run in group)
    yield t(
        "Validation chose the best of {count} runs, so its accuracy there is probably a little too high.",
        count=finished,
    )
    if uses:
        yield t(
            "The test split was used {uses} {uses:time|times}: {used}. The best of several results is too good to be true.",
            uses=uses,
            used=", ".join(f"{run.name} ({run.test_uses})" for run in runs if run.test_uses),
        )
    else:
        yield t(
            "The test split has not been used yet: every accuracy here was measured on images that were also used to choose the settings."
        )
    if others := len(runs) - len(group):
        yield t(
            "{count} more {count:run is|runs are} not comparable (other images, another split, or damaged); {count:it is|they are} not in this draft.",
            count=others,
        )
