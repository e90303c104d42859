"""A model card next to an exported model: what it is, on which images it was trained, how good it is, for whom, and its weaknesses.

Based on Mitchell et al. (2019), Model Cards for Model Reporting, arXiv:1810.03993, with the header that the Hugging Face hub reads. What the
run knows is filled in again with each export. What people write is kept: text outside the marks, and text between marks that they changed.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pbl import __version__
from pbl.data.split import say_made_by
from pbl.diagnosis.by_task import DIAGNOSES, diagnose_run
from pbl.errors import InputError
from pbl.languages import choose_language, say, say_finding
from pbl.reports.run_report import METRICS, OF_TASKS
from pbl.runs import Run
from pbl.statistics import wilson_interval
from pbl.storage.escapes import for_markdown
from pbl.storage.reading import UnreadableFile, read_bytes, read_json
from pbl.storage.schemas import ExportedModel
from pbl.storage.writing import list_folder, replacing

NAME = "model_card.md"
MOST_CLASSES = 40  # classes in a table; with more, only the worst
MOST_FINDINGS = 12
HOW_TO = "Write where a comment asks for it, and delete the comment. The text between two marks (pbl:) is written again with each export, unless you change it; everything else stays as you write it."
# What the run cannot know: by the section, what people write there.
BOXES = {
    "Intended use": "who may use this model, for what, with which images",
    "Uses that are out of scope": "what it must not be used for, and why",
    "Where the images come from": "who took them, when, of whom or what; licence, consent; who or what is missing among them",
    "Ethical considerations": "who may be harmed by a wrong answer, or by a right one; personal data in the images",
    "Caveats and recommendations": "what was not tested, and what a user should do before relying on it",
}
# What the run knows: by mark, the heading above it.
FILLED = {
    "details": "Model details",
    "files": "Files",
    "data": "Training and evaluation data",
    "metrics": "How good it is",
    "weaknesses": "Known weaknesses",
    "versions": "Versions",
}
ORDER = (
    "details",
    "files",
    "Intended use",
    "Uses that are out of scope",
    "data",
    "Where the images come from",
    "metrics",
    "weaknesses",
    "Ethical considerations",
    "Caveats and recommendations",
    "versions",
)
_MARKED = re.compile(
    r"^<!-- pbl:(?P<name>\w+) (?P<sum>[0-9a-f]{8}) -->\r?\n(?P<text>.*?)^<!-- /pbl:(?P=name) -->",
    re.DOTALL | re.MULTILINE,
)
_KINDS = {
    "classification": "image-classification",
    "segmentation": "image-segmentation",
    "detection": "object-detection",
    "generation": "unconditional-image-generation",
    "contrast": "image-feature-extraction",
}


def check_card(folder: Path) -> None:
    """Raises InputError if there is a card that cannot be read, before anything is computed for it."""
    _read(folder / NAME)


def write_card(run: Run, folder: Path, language: str | None = None) -> tuple[Path, list[str]]:
    """Writes the card of a run's exported models, or fills in again what the run knows.

    Args:
        run: The run.
        folder: Where its models are exported, with a JSON file next to each.
        language: Such as "en" or "ja"; by default as `pbl.languages.choose_language` returns.

    Returns:
        The file, and the headings below which a person has changed what was filled in; there the text is kept.

    Raises:
        InputError: The existing card is not text, or cannot be written.
    """
    language, file = choose_language(language), folder / NAME
    before = _read(file)
    exports = [about for about in read_exports(folder) if about["run"] == run.name]
    filled = {
        "details": _list_details(run, exports, language),
        "files": _list_files(exports, language),
        "data": _list_data(run, language),
        "metrics": _list_metrics(run, language),
        "weaknesses": _list_weaknesses(run, language),
        "versions": _list_versions(run, exports, language),
    }
    kept: list[str] = []
    if before is None:
        text = _make(run, filled, language)
    else:

        def renew(found: re.Match) -> str:
            name = found["name"]
            if name not in filled or found["sum"] != _sum(found["text"]):
                kept.extend([say(FILLED[name], language)] if name in FILLED else [])
                return found[0]
            return _mark(name, filled[name])

        text = _MARKED.sub(renew, before)
    with replacing(file) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
    return file, kept


def _read(file: Path) -> str | None:
    try:
        return read_bytes(file, file.parent).decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        told = "{file} is not text in UTF-8. Save it as UTF-8, then run the same command again."
        raise InputError(told, file=file) from None


def read_exports(folder: Path) -> list[dict[str, Any]]:
    """The contents of the JSON files next to exported models, the newest last; files that are not ours are skipped."""
    found = []
    for file in list_folder(folder):
        if file.suffix == ".json" and file.with_suffix("").exists():
            with contextlib.suppress(UnreadableFile, FileNotFoundError):
                found.append(read_json(file, folder, ExportedModel))
    return sorted(found, key=lambda about: about["made"])


def _sum(text: str) -> str:
    """A checksum that shows whether a person has changed a text; line endings, and blanks at its ends, do not count."""
    return hashlib.sha256(text.replace("\r", "").strip().encode()).hexdigest()[:8]


def _mark(name: str, lines: list[str]) -> str:
    text = "\n".join(lines) + "\n"
    return f"<!-- pbl:{name} {_sum(text)} -->\n{text}<!-- /pbl:{name} -->"


def _make(run: Run, filled: Mapping[str, list[str]], language: str) -> str:
    config = run.config
    head = ["---", "library_name: keras", "license: unknown", "tags:", "- keras", "- pbl"]
    head += [f"pipeline_tag: {_KINDS[config.task]}"] if config.task in _KINDS else []
    title = say("Model card: {model} on {dataset}", language, model=config.model, dataset=run.split.get("source", "?"))
    lines = [*head, "---", "", f"# {for_markdown(title)}", "", f"<!-- {say(HOW_TO, language)} -->"]
    for part in ORDER:
        if part in BOXES:
            lines += ["", f"## {say(part, language)}", "", f"<!-- {say(BOXES[part], language)} -->"]
        else:
            lines += ["", f"## {say(FILLED[part], language)}", "", _mark(part, filled[part])]
    return "\n".join(lines) + "\n"


def _facts(rows: Iterable[tuple[str, Any]]) -> list[str]:
    return [f"- {title}: {for_markdown(value)}" for title, value in rows if value not in (None, "")]


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    head, rows = list(head), [[for_markdown(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _list_details(run: Run, exports: list[dict[str, Any]], language: str) -> list[str]:
    config, newest = run.config, exports[-1] if exports else {}
    environment = run.environment
    size = run.split.get("input_shape")
    shape = None
    if isinstance(size, list) and len(size) == 3:
        sides = dict(zip(("height", "width", "channels"), size, strict=True))
        shape = say("{height} x {width} pixels, {channels} {channels:channel|channels}", language, **sides)
    weights = environment.get("trainable_weights")
    rows = [
        (say("Model", language), config.model),
        (say("Paper", language), newest.get("paper")),
        (say("Task", language), config.task),
        (say("Run", language), run.name),
        (say("Trained", language), str(environment.get("started", ""))[:10]),
        (say("Image size", language), shape),
        (say("Input", language), say("raw pixels 0 to 255; scaling is inside the model", language)),
        (say("Trainable weights", language), f"{weights:,}" if isinstance(weights, int) else None),
        (say("Started from the weights", language), newest.get("started_from")),
    ]
    if newest.get("started_from"):
        unknown = say("not known here: ask those who trained them", language)
        rows.append((say("Licence of these weights", language), newest.get("licence_of_weights") or unknown))
    return _facts(rows)


def _list_files(exports: list[dict[str, Any]], language: str) -> list[str]:
    rows = []
    for about in exports:
        accuracy, changed = about.get("accuracy"), about.get("changed_classes")
        judged = "" if accuracy is None else _share(accuracy["after"]["value"], accuracy["after"]["interval"], language)
        rows.append(
            [
                about["file"],
                f"{about['bytes'] / 2**20:.2f}",
                f"{about['latency_ms']['median']:.3g}",
                f"{about['largest_difference']:.2g}",
                "" if changed is None else f"{changed} / {about['compared_classes']}",
                judged,
            ]
        )
    head = ("File", "MiB", "Latency of 1 image in ms", "Largest difference", "Classes changed", "Accuracy")
    told = say("A .json next to each file describes the input and the output, and what was compared.", language)
    return [told, "", *_table((say(title, language) if title != "MiB" else title for title in head), rows)]


def _share(value: float, interval: list[float] | tuple[float, float], language: str) -> str:
    return say("{value:.1%} ({low:.1%} to {high:.1%})", language, value=value, low=interval[0], high=interval[1])


def _between(interval: Any, language: str) -> str:
    """An interval in words; "" if there is none."""
    numbers = interval if isinstance(interval, (list, tuple)) else ()
    if len(numbers) != 2 or not all(isinstance(number, (int, float)) for number in numbers):
        return ""
    return say("{low:.4g} to {high:.4g}", language, low=numbers[0], high=numbers[1])


def _list_data(run: Run, language: str) -> list[str]:
    split = run.split
    counts, by_class, made_by = (_dictionary(split.get(key)) for key in ("images", "images_by_class", "made_by"))
    parts = [part for part in ("train", "val", "test") if part in counts]
    rows = [(say("Source", language), split.get("source"))]
    for part, title in (("val", "Validation split"), ("test", "Test split")):
        rows.append((say(title, language), say_made_by(made_by.get(part), language)))
    names = [name for name in split.get("class_names", []) if isinstance(name, str)][:MOST_CLASSES]
    titles = {"train": "training", "val": "validation", "test": "test"}
    table = [[name, *(_dictionary(by_class.get(part)).get(name, "") for part in parts)] for name in names]
    head = [say("Class", language), *(say(titles[part], language) for part in parts)]
    return [*_facts(rows), "", *_table(head, [*table, [say("all", language), *(counts[part] for part in parts)]])]


def _list_metrics(run: Run, language: str) -> list[str]:
    lines: list[str] = []
    for split, title in (
        ("val", "On {images:,} validation images"),
        ("test", "On {images:,} test images, which were looked at {uses} {uses:time|times}"),
    ):
        try:
            result = run.read_json(f"metrics_{split}.json")
        except InputError:
            continue
        uses = result.get("test_uses")
        told = say(title, language, images=result.get("images") or 0, uses=uses if isinstance(uses, int) else "?")
        lines += [*([""] if lines else []), f"### {told}", ""]
        of_task = _dictionary(result.get("metrics"))
        lines += _list_of_task(result, of_task, language) if of_task else _list_of_classifier(result, language)
    return lines or [say("Nothing is known: the run was not evaluated.", language)]


def _list_of_task(result: Mapping[str, Any], metrics: Mapping[str, Any], language: str) -> list[str]:
    intervals, rows = _dictionary(result.get("intervals")), []
    for name, value in metrics.items():
        if isinstance(value, (int, float)):
            about = intervals.get(name)
            between = _between(about, language)
            title = say(OF_TASKS[name], language) if name in OF_TASKS else name
            rows.append([title, f"{value:.4g}", between])
    return _table((say(title, language) for title in ("Metric", "Value", "95% interval")), rows)


def _list_of_classifier(result: Mapping[str, Any], language: str) -> list[str]:
    intervals, rows = _dictionary(result.get("intervals")), []
    for key, title in METRICS:
        value: Any = result
        for part in key.split("."):
            value = _dictionary(value).get(part)
        about = result.get("accuracy_interval") if key == "accuracy" else intervals.get(key)
        if isinstance(value, float):
            between = _between(about, language)
            rows.append([say(title, language), f"{value:.4f}", between])
    head = [say(title, language) for title in ("Metric", "Value", "95% interval")]
    return [*_table(head, rows), "", *_list_classes(result, language)]


def _list_classes(result: Mapping[str, Any], language: str) -> list[str]:
    """One row for each class, recall and precision with Wilson's intervals; with many classes those with the lowest F1, and of how many they are.

    A class without images, or without an F1, is not among the lowest: nothing is known about it.
    """
    by_class, matrix = _dictionary(result.get("by_class")), result.get("confusion_matrix")
    names = result.get("class_names") or list(by_class)
    rows = []
    for number, name in enumerate(names):
        of_class = _dictionary(by_class.get(name))
        try:
            right, true = int(matrix[number][number]), sum(map(int, matrix[number]))
            found = sum(int(row[number]) for row in matrix)
        except (TypeError, IndexError, ValueError):
            return []
        shares = [
            _share(right / of, wilson_interval(right, of), language) if of else say("undefined", language)
            for of in (true, found)
        ]
        f1 = of_class.get("f1")
        rows.append(
            (f1 if isinstance(f1, float) and true else None, [name, *shares, "" if f1 is None else f"{f1:.4f}", true])
        )
    told = []
    if len(rows) > MOST_CLASSES:
        worst = sorted((row for row in rows if row[0] is not None), key=lambda row: row[0])[:MOST_CLASSES]
        caption = say("The {n} of {all:,} classes with the lowest F1", language, n=len(worst), all=len(rows))
        rows, told = worst, [caption, ""]
    head = ("Class", "Recall (95% interval)", "Precision (95% interval)", "F1", "Images")
    return [
        *told,
        *_table((say(title, language) if title != "F1" else title for title in head), [row for _, row in rows]),
    ]


def _list_weaknesses(run: Run, language: str) -> list[str]:
    lines = []
    if run.config.task in DIAGNOSES:
        with contextlib.suppress(InputError, FileNotFoundError):
            told = [(kind, text) for kind, text in diagnose_run(run).paragraphs(language) if kind in _TOLD]
            lines += _facts([(say("Diagnosis", language), ": ".join(text for kind, text in told if kind != "also"))])
            lines += [f"- {for_markdown(text)}" for kind, text in told if kind == "also"]
    with contextlib.suppress(InputError):
        findings = run.read_json("data_check.json").get("findings") if run.holds("data_check.json") else []
        found = [one for one in findings if isinstance(one, dict)] if isinstance(findings, list) else []
        found.sort(
            key=lambda one: ["stop", "act"].index(one["severity"]) if one.get("severity") in ("stop", "act") else 2
        )
        said = [(say("Data", language), say_finding(one, language)) for one in found[:MOST_FINDINGS]]
        lines += _facts(said)
    return lines or [say("Neither the diagnosis nor the data doctor named one.", language)]


_TOLD = ("headline", "evidence", "also")


def _list_versions(run: Run, exports: list[dict[str, Any]], language: str) -> list[str]:
    environment = run.environment
    trained = {"python": environment.get("python"), **_dictionary(environment.get("versions"))}
    exported: dict[str, Any] = {"pbl": __version__}
    for about in exports:
        exported |= _dictionary(about.get("versions"))
    rows = [
        (title, ", ".join(f"{name} {version}" for name, version in versions.items() if isinstance(version, str)))
        for title, versions in ((say("Trained with", language), trained), (say("Exported with", language), exported))
    ]
    return _facts([*rows, (say("Number format of the computation", language), environment.get("precision"))])


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
