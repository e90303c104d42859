"""A draft of a team's report, on one or two sheets of A4: what the runs' files know, and boxes for what people must write.

Each number stands in a file of a run, and each claim has a run behind it; where there is none a dotted box is left open. The page
is one HTML file, pictures and all; a browser lets its boxes be filled in, and prints it.
"""

import base64
import contextlib
import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined

from pbl.config import Config
from pbl.data.split import say_made_by
from pbl.diagnosis.advice import read_findings
from pbl.errors import InputError
from pbl.languages import choose_language, say
from pbl.languages.doctor import say_finding
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
    read_log,
    read_predictions,
)
from pbl.runs import Run, runs_folder
from pbl.statistics import crossed_mean_interval, summarise_seeds, wilson_interval
from pbl.storage import replacing

MOST_RUNS = 12  # lines in the list of what was tried
MOST_SETTINGS = 8  # rows in the tables of settings and results
MOST_OUTCOMES = 4  # of what helped, of what harmed, and of what did neither
MOST_NAMES = 6  # runs that are named in a row
MOST_BARS = 8  # in the picture of what each run gained
MOST_CLASSES = 12  # rows in the table of images
MOST_ROWS, MOST_COLUMNS = 15, 12  # of a comparison's table
# Told of what is the same in all runs, also where it is the default.
TOLD = ("optimizer", "learning_rate", "learning_rate_schedule", "batch_size", "epochs")
SPLITS = {"train": "training", "val": "validation", "test": "test"}
PNG = b"\x89PNG\r\n\x1a\n"


class Settings(NamedTuple):
    """Runs on the same images with the same settings, the seed apart: one row of the tables."""

    label: str
    runs: list[LoggedRun]
    words: str  # what is not the same in all
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


def write_team_report(
    folder: str | Path | None = None, language: str | None = None, out: str | Path | None = None
) -> Path:
    """Writes the draft.

    It is about the images on which most of the runs were trained; runs on others are counted, not compared. Where `folder` or a
    folder in it holds the `results.csv`, `results.md` or `results.png` of a comparison, they are shown.

    Args:
        folder: Where the runs are kept; see `pbl.reports.team_log.read_log`.
        language: "en" or "ja"; by `pbl.languages.choose_language` unless given.
        out: The file; `team_report.html` in the runs' folder unless given.

    Returns:
        The file.

    Raises:
        InputError: There is no finished run, or the file cannot be written.
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
    page = _collect(folder, runs, group, lambda template, **details: say(template, language, **details), language)
    text = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = text.from_string(TEMPLATE).render(**page, language=language)
    with replacing(out) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return out


def _choose_group(runs: Sequence[LoggedRun]) -> list[LoggedRun]:
    """The runs on the images of which there are most results; of several such, those of the latest one."""
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
    """What the page shows."""
    finished = [run for run in group if run.has_result]
    best = max(finished, key=lambda run: run.accuracy)
    split = _read_split(best, finished)
    settings, same = _group_settings(finished)
    compared = [run for run in group if run.gain is not None]
    pictures = [
        (t("Learning curves of the best run, {run}", run=best.name), _read_picture(best, "learning_curves")),
        (t("Its confusion matrix on the validation images"), _read_picture(best, "confusion_matrix_val")),
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
        "val_images": best.val_images,
        "best": best,
        "best_accuracy": describe_accuracy(best, language),
        "tests": _read_tests(group),
        "comparison": _read_comparison(folder),
        "most_rows": MOST_ROWS,
        "pictures": [picture for picture in pictures if picture[1]],
        "gains": _draw(group, language) if compared else None,
        "tried": [
            (run.name, describe_changes(run, language) or t("the first"), _describe_result(run, language))
            for run in group[-MOST_RUNS:]
        ],
        "left_out": max(0, len(group) - MOST_RUNS),
        "outcomes": _sort_outcomes(compared, language, t),
        "limits": _describe_limits(runs, group, settings, compared, t),
    }


def _choose_shown(settings: Sequence[Settings]) -> list[Settings]:
    """The most accurate, where there are too many; in their order, since a ranking would be more than is known."""
    least = sorted((one.accuracy for one in settings), reverse=True)[:MOST_SETTINGS][-1]
    return [one for one in settings if one.accuracy >= least][:MOST_SETTINGS]


def _describe_result(run: LoggedRun, language: str) -> str:
    if not run.has_result:
        return describe_status(run, language)
    accuracy = describe_accuracy(run, language)
    return f"{accuracy}; {describe_gain(run, language)}" if run.gain else accuracy


def _read_split(best: LoggedRun, finished: Iterable[LoggedRun]) -> dict[str, Any]:
    """The split, which all of them share: of the first that can be read."""
    for run in (best, *finished):
        with contextlib.suppress(InputError):
            return Run(run.path).split
    return {}


def _describe_data(best: LoggedRun, split: dict[str, Any], t: Callable[..., str], language: str) -> dict[str, Any]:
    """The source, the split, and the images by class; a class's own row only where there are few."""
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
    """What the data doctor found that is more than a note; None where it is not known."""
    try:
        findings = read_findings(Run(best.path))
    except InputError:
        return None
    sentences = []
    for finding in findings:
        if finding["severity"] in ("stop", "act"):
            sentences.append(say_finding(finding, language))
    return sentences if findings or (best.path / "data_check.json").exists() else None


def _group_settings(finished: Sequence[LoggedRun]) -> tuple[list[Settings], str]:
    """Runs of the same settings together, in the order in which they were begun; and in words what is the same in all."""
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
    found = []
    for number, (words, runs) in enumerate(zip(every, grouped.values(), strict=True)):
        # Of options those that were given: another model has other ones.
        shown = [name for name in keys if name in varying and words.get(name, "none") != "none"]
        shown = [name for name in shown if name == CODE or "." not in name or name in runs[0].given]
        text = ", ".join(f"{_last_word(name)}={words[name]}" for name in shown)
        latest = {run.config.seed: run for run in runs}  # of a seed that was trained twice the later run
        kept = list(latest.values())
        found.append(Settings(_letter(number), kept, text, _read_weights(runs[0]), _find_interval(kept)))
    same = [name for name in keys if name not in varying and name != CODE]
    same = [name for name in same if name in TOLD or every[0][name] != defaults.get(name, every[0][name])]
    return found, ", ".join(f"{_last_word(name)}={every[0][name]}" for name in same)


def _last_word(name: str) -> str:
    return name if name == CODE else name.rpartition(".")[2]


def _find_interval(runs: Sequence[LoggedRun]) -> tuple[float, float]:
    """Of several seeds over seeds and images, as `compare` gives it; of one over the images."""
    predictions = [read_predictions(run.path) for run in runs]
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
    """A to Z, then AA."""
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def _read_tests(group: Iterable[LoggedRun]) -> list[tuple[str, float, float, float, int, int]]:
    """Of each run that was judged on the test split: name, accuracy, interval, images, uses."""
    found = []
    for run in group:
        with contextlib.suppress(InputError):
            metrics = Run(run.path).read_json("metrics_test.json")
            accuracy, n = metrics.get("accuracy"), metrics.get("images")
            if isinstance(accuracy, (int, float)) and isinstance(n, int) and n > 0 and 0 <= accuracy <= 1:
                found.append((run.name, accuracy, *wilson_interval(round(accuracy * n), n), n, run.test_uses))
    return found


def _read_comparison(folder: Path) -> dict[str, Any] | None:
    """The newest `results.*` of a comparison; None where there is none.

    They are looked for in the folder of the runs, in folders in it, and in `comparison` beside it, where `compare` writes them.
    """
    places = [folder, *sorted(folder.glob("*/")), folder.resolve().parent / "comparison"]
    files = [place / f"results{suffix}" for place in places for suffix in (".md", ".csv", ".png")]
    files = [file for file in files if file.is_file()]
    if not files:
        return None
    place = max(files, key=lambda file: file.stat().st_mtime).parent
    blocks: list[tuple[str, Any]] = []
    with contextlib.suppress(OSError, ValueError):
        blocks = _parse_markdown((place / "results.md").read_text(encoding="utf-8"))
    if not blocks:
        with contextlib.suppress(OSError, ValueError, csv.Error):
            lines = (place / "results.csv").read_text(encoding="utf-8-sig").splitlines()
            blocks = [("table", [row[:MOST_COLUMNS] for row in csv.reader(lines) if row])]
    return {"name": place.name, "blocks": blocks, "picture": _read_png(place / "results.png")}


def _parse_markdown(text: str) -> list[tuple[str, Any]]:
    """What `compare` writes, in blocks: "heading" and "text" with their words, "list" with lines, "table" with rows."""
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


def _read_picture(run: LoggedRun, name: str) -> str | None:
    return _read_png(run.path / "figures" / f"{name}.png")


def _read_png(file: Path) -> str | None:
    with contextlib.suppress(OSError):
        content = file.read_bytes()
        if content.startswith(PNG):
            return _as_address(content)
    return None


def _as_address(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _draw(group: Sequence[LoggedRun], language: str) -> str:
    file = io.BytesIO()
    plot_log(group, language, MOST_BARS).savefig(file, dpi=120)
    return _as_address(file.getvalue())


def _sort_outcomes(compared: Sequence[LoggedRun], language: str, t: Callable[..., str]) -> list[tuple[str, list[str]]]:
    """What helped, what harmed and what made no difference that these images could show; the seed alone apart."""
    kinds: dict[str, list[LoggedRun]] = {"helped": [], "harmed": [], "neither": [], "again": []}
    for run in compared:
        clear = "helped" if run.gain.difference > 0 else "harmed"
        kinds["again" if not run.changes else clear if run.gain.is_clear else "neither"].append(run)
    titles = {
        "helped": t("Helped (the whole interval lies above 0)"),
        "harmed": t("Harmed (the whole interval lies below 0)"),
        "neither": t("No difference that these images could show"),
        "again": t("The same settings again"),
    }
    found = []
    for kind, runs in kinds.items():
        largest = sorted(runs, key=lambda run: -abs(run.gain.difference))
        sentences = [_describe_outcome(run, language) for run in largest[:MOST_OUTCOMES]]
        if len(runs) > MOST_OUTCOMES:
            sentences.append(t("and {count} more, with smaller differences", count=len(runs) - MOST_OUTCOMES))
        found.append((titles[kind], sentences))
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
) -> list[str]:
    finished = [run for run in group if run.has_result]
    single, uses = sum(one.seeds == 1 for one in settings), sum(run.test_uses for run in group)
    used = ", ".join(f"{run.name} ({run.test_uses})" for run in group if run.test_uses)
    limits = [
        t("Of {all} settings {single} were trained with one seed only: how much chance there is in a training is not known of them.", all=len(settings), single=single),
        t("Validation chose the best of {count} runs, so its accuracy there is rather too high.", count=len(finished)),
        t("The test split was used {uses} time(s): {used}. The best of several looks is too good to be true.", uses=uses, used=used)
        if uses
        else t("The test split has not been used yet: every accuracy here is of images by which the settings were chosen."),
    ]  # fmt: skip
    if compared:
        limits.insert(1, t(ONE_SEED))
        limits.insert(
            2,
            t(
                "{count} differences were looked at: were all truly 0, about {false:.1f} would have an interval without 0.",
                count=len(compared), false=0.05 * len(compared),
            ),
        )  # fmt: skip
    others = len(runs) - len(group)
    if others:
        limits.append(
            t("{count} more run(s) are on other images or another split, or damaged; they are not in this draft.", count=others)
        )  # fmt: skip
    return limits


TEMPLATE = """<!DOCTYPE html>
<html lang="{{ language }}">
{% macro blank(what, lines=2) %}
<div class="blank" contenteditable="true" style="min-height: {{ 1.5 * lines }}em" data-hint="{{ t("write here: {what}", what=what) }}"></div>
{% endmacro %}
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ t("Classifying images: {source}", source=data.source) }}</title>
<style>
@page { size: A4; margin: 10mm 13mm; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 190mm; padding: 0 4mm; color: #1a1a1a; background: #fff; font: 8.5pt/1.38 "Noto Sans", "Noto Sans JP", "Noto Sans CJK JP", "Hiragino Sans", "Yu Gothic", Meiryo, IPAexGothic, sans-serif; }
@media print { body { max-width: none; padding: 0; } }
h1 { margin: 2mm 0 1mm; font-size: 16pt; line-height: 1.25; }
h2 { margin: 2.6mm 0 1mm; font-size: 10.5pt; border-bottom: 1px solid #0072B2; break-after: avoid; }
p, ul { margin: 0 0 1.5mm; }
ul { padding-left: 5mm; }
.draft { margin: 0; color: #595959; font-size: 8pt; }
.note { color: #595959; font-size: 8pt; }
.blank { border: 1.5px dotted #767676; border-radius: 2px; padding: 0.5mm 2mm; margin: 0 0 1.5mm; }
.blank:empty::before { content: attr(data-hint); color: #6b6b6b; }
table { border-collapse: collapse; margin: 0 0 1.2mm; font-size: 7.5pt; }
th, td { padding: 0.1mm 2.5mm 0.1mm 0; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }
th { font-weight: 600; border-bottom-color: #767676; }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
td.name { white-space: nowrap; }
tr, figure { break-inside: avoid; }
thead, tbody tr:first-child { break-after: avoid; }
.wide { width: 100%; }
figure { margin: 0; }
figure img { width: 100%; }
figcaption { font-size: 8pt; color: #404040; }
.figures { display: grid; grid-template-columns: 1.75fr 1fr; gap: 2mm 4mm; align-items: start; width: 84%; }
.gains img { max-height: 56mm; object-fit: contain; object-position: left; }
.small { font-size: 6.5pt; }
.appendix { break-before: page; }
</style>
</head>
<body>
<header>
<p class="draft">{{ t("Draft, made of the files of {count} runs on {today}. What stands in a dotted box is for you to write: click into it, then print the page.", count=count, today=today) }}</p>
<h1 contenteditable="true">{{ t("Classifying images: {source}", source=data.source) }}</h1>
{{ blank(t("the team's number and its members"), 1) }}
</header>

<h2>{{ t("Question and hypothesis") }}</h2>
{{ blank(t("what you wanted to find out, what you expected, and why"), 3) }}
{{ blank(t("what others did on this question, with sources")) }}

<h2>{{ t("Data") }}</h2>
<p>{{ t("Source: {source}.", source=data.source) }}
{% if data.classes %}{{ t("{classes} classes.", classes=data.classes) }}{% endif %}

{% if data.made_by %}{{ t("The split: {how}.", how=data.made_by | join("; ")) }}{% endif %}</p>
{% if data.totals %}
<table>
<thead><tr><th>{{ t("images") }}</th>{% for row in data.rows %}<th class="number">{{ row[0] }}</th>{% endfor %}<th class="number">{{ t("all") }}</th></tr></thead>
{% for name in data.splits %}
{% set place = loop.index %}
<tr><td class="name">{{ name }}</td>{% for row in data.rows %}<td class="number">{{ row[place] }}</td>{% endfor %}<td class="number">{{ data.totals[loop.index0] }}</td></tr>
{% endfor %}
</table>
{% endif %}
{% if data.fewest and not data.rows %}
<p>{{ t("The rarest class in training is {name}, with {images} images.", name=data.fewest[0], images=data.fewest[1]) }}</p>
{% endif %}
{% if findings %}
<p>{{ t("What the check of the data found:") }}</p>
<ul>{% for sentence in findings %}<li>{{ sentence }}</li>{% endfor %}</ul>
{% elif findings is none %}
<p>{{ t("The runs hold no check of the data.") }}</p>
{% else %}
<p>{{ t("The check of the data before training found nothing serious in training and validation images.") }}</p>
{% endif %}

<h2>{{ t("Methods") }}</h2>
{% if same %}<p>{{ t("In all runs: {settings}.", settings=same) }}</p>{% endif %}
<table class="wide">
<thead><tr><th></th><th>{{ t("model") }}</th><th class="number">{{ t("trainable weights") }}</th><th>{{ t("settings that differ") }}</th><th>{{ t("runs") }}</th></tr></thead>
{% for one in settings %}
<tr><td>{{ one.label }}</td><td class="name">{{ one.model }}</td><td class="number">{% if one.weights %}{{ "{:,}".format(one.weights) }}{% else %}–{% endif %}</td><td>{{ one.words }}</td><td>{{ one.names }}</td></tr>
{% endfor %}
</table>
{% if settings_count > settings | length %}
<p class="note">{{ t("Shown are the {shown} most accurate of {all} settings.", shown=settings | length, all=settings_count) }}</p>
{% endif %}

<h2>{{ t("Results") }}</h2>
<table>
<thead><tr><th></th><th>{{ t("model") }}</th><th class="number">{{ t("validation images") }}</th><th class="number">{{ t("seeds") }}</th><th class="number">{{ t("accuracy, mean") }}</th><th class="number">{{ t("lowest to highest seed") }}</th><th class="number">{{ t("95% interval") }}</th></tr></thead>
{% for one in settings %}
<tr><td>{{ one.label }}</td><td class="name">{{ one.model }}</td><td class="number">{{ one.runs[0].val_images }}</td><td class="number">{{ one.seeds }}</td><td class="number">{{ "%.1f" | format(100 * one.accuracy) }}%</td>
<td class="number">{% if one.seeds > 1 %}{{ t("{low:.1f} to {high:.1f}", low=100 * one.lowest, high=100 * one.highest) }}{% else %}–{% endif %}</td>
<td class="number">{{ t("{low:.1f} to {high:.1f}", low=100 * one.interval[0], high=100 * one.interval[1]) }}</td></tr>
{% endfor %}
</table>
<p class="note">{{ t("Of one seed the interval (Wilson) covers chance in the validation images alone; of several it covers chance in training too (t interval over seeds and images).") }}</p>
{% for name, accuracy, low, high, images, uses in tests %}
<p>{{ t("On the test split {run} is right on {accuracy:.1f}% ({low:.1f} to {high:.1f}, {images} images); the run has used the test split {uses} time(s).", run=name, accuracy=100 * accuracy, low=100 * low, high=100 * high, images=images, uses=uses) }}</p>
{% endfor %}
{% if comparison %}
<p>{{ t("A comparison of several runs stands in the appendix.") }}</p>
{% endif %}
{% if pictures %}
<div class="figures">
{% for caption, address in pictures %}
<figure><img src="{{ address }}" alt=""><figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
</div>
{% endif %}

<h2>{{ t("What was tried") }}</h2>
{% if left_out %}<p class="note">{{ t("{count} earlier run(s) are left out here: python -m pbl log lists all.", count=left_out) }}</p>{% endif %}
<table class="wide">
<thead><tr><th>{{ t("run") }}</th><th>{{ t("changed") }}</th><th>{{ t("validation accuracy; difference in points") }}</th></tr></thead>
{% for name, changed, result in tried %}
<tr><td class="name">{{ name }}</td><td>{{ changed }}</td><td>{{ result }}</td></tr>
{% endfor %}
</table>

<h2>{{ t("What helped, and what did not") }}</h2>
{% if gains %}<figure class="gains"><img src="{{ gains }}" alt=""></figure>{% endif %}
{% for title, sentences in outcomes if sentences %}
<p><b>{{ title }}:</b></p>
<ul>{% for sentence in sentences %}<li>{{ sentence }}</li>{% endfor %}</ul>
{% else %}
<p>{{ t("No two runs can be compared yet.") }}</p>
{% endfor %}

<h2>{{ t("Discussion") }}</h2>
{{ blank(t("why it came out so; what the images that were mistaken have in common; what you would do next"), 4) }}

<h2>{{ t("Limits") }}</h2>
<ul>{% for sentence in limits %}<li>{{ sentence }}</li>{% endfor %}</ul>

<h2>{{ t("Conclusion") }}</h2>
{{ blank(t("your answer to the question, no stronger than the results"), 3) }}
{% if comparison %}

<h2 class="appendix">{{ t("Appendix: comparison ({name})", name=comparison.name) }}</h2>
{% for kind, content in comparison.blocks %}
{% if kind == "table" %}
<table class="wide small">
<thead><tr>{% for word in content[0] %}<th>{{ word }}</th>{% endfor %}</tr></thead>
{% for row in content[1:most_rows + 1] %}<tr>{% for word in row %}<td>{{ word }}</td>{% endfor %}</tr>{% endfor %}
</table>
{% if content | length > most_rows + 1 %}<p class="note">{{ t("{count} more row(s) stand in {name}.", count=content | length - most_rows - 1, name=comparison.name) }}</p>{% endif %}
{% elif kind == "list" %}
<ul class="note">{% for sentence in content %}<li>{{ sentence }}</li>{% endfor %}</ul>
{% elif kind == "heading" %}
<p class="note"><b>{{ content }}</b></p>
{% else %}
<p class="note">{{ content }}</p>
{% endif %}
{% endfor %}
{% if comparison.picture %}<figure class="gains"><img src="{{ comparison.picture }}" alt=""></figure>{% endif %}
{% endif %}
</body>
</html>
"""
