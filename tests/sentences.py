"""Everything that the package says to a person, found in its code and pages, and compared with the languages' files.

python tests/sentences.py           prints what is missing in pbl/languages/*.po, and what is stale there
python tests/sentences.py --write   enters what is missing, untranslated, and removes what is stale
python tests/sentences.py --write fr   starts a language: pbl/languages/fr.po
"""

import ast
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter

import typer.main
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po
from jinja2 import Environment, nodes

from pbl.cli import app
from pbl.cli.typer_words import _SAID as TYPER_SAID
from pbl.config import _WRONG, Augmentation, Config
from pbl.data.split import SAID, SAID_OF_GROUPS
from pbl.diagnosis import advice, anomalies, contrast, detection, generation, rules, segmentation
from pbl.grading.feedback import _ANOMALY_REMARKS, _MASK_REMARKS, _PROMISES, _REMARKS, FLAGS
from pbl.grading.formats import _PROGRAMS
from pbl.grading.outcomes import CAUSES, REASONS, UNTOLD
from pbl.grading.rubric import Rubric
from pbl.languages.catalogue import FOLDER
from pbl.models import slips
from pbl.reports import run_report, team_log, team_notes, team_report

PACKAGE = FOLDER.parent
# The functions that take a sentence, and which of their arguments it is.
MAKERS = {
    **dict.fromkeys(
        ("InputError", "Sentence", "say", "t", "caption", "DifferentSizes", "UnknownDataset", "TableError"), 0
    ),
    "make_finding": 1,
    "Remedy": 1,
    "one_finding": 2,
    "tell_unwritable": 2,
    "telling_full_disks": 1,
}
PARTS_OF_A_TRAINING = ("data", "check", "build", "fit", "figures", "evaluate", "diagnosis", "monitor (in fit)")
AS_IN_ENGLISH = {"ECE", "MACs"}
HEAD = """# The sentences of pbl in this language. README.md in this folder tells how to write it.
# `python tests/sentences.py` names what is missing or stale."""
Key = tuple[str | None, str]  # a context, and the English sentence


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def list_files() -> Iterator[Path]:
    yield from (file for file in sorted(PACKAGE.rglob("*.py")) if file.parent != FOLDER)


def texts(node: ast.expr) -> list[str]:
    """The texts that an expression may be: a text, one of two, two concatenated, each one of a tuple."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.IfExp):
        return texts(node.body) + texts(node.orelse)
    if isinstance(node, ast.BinOp):
        return [left + right for left in texts(node.left) for right in texts(node.right)]
    if isinstance(node, ast.Tuple | ast.List):
        return [text for element in node.elts for text in texts(element)]
    return []


def sentences_in_code() -> dict[str, Path]:
    """Every text that code gives to a function of `MAKERS`, also through a name bound to it; with its file."""
    found: dict[str, Path] = {}
    for file in list_files():
        tree = parse(file)
        bound: dict[str, list[str]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                bound.setdefault(node.targets[0].id, []).extend(texts(node.value))
            if isinstance(node, ast.For) and isinstance(node.iter, (ast.Tuple, ast.List)):
                bound.setdefault(ast.unparse(node.target), []).extend(t for e in node.iter.elts for t in texts(e))
            if isinstance(node, ast.GeneratorExp | ast.ListComp):
                for part in node.generators:
                    if isinstance(part.iter, ast.Tuple | ast.List):
                        bound.setdefault(ast.unparse(part.target), []).extend(
                            t for e in part.iter.elts for t in texts(e)
                        )
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args or isinstance(node.args[-1], ast.Dict):
                continue  # pbl.grading.outcomes.say takes a reason's word and a dictionary
            place = MAKERS.get(getattr(node.func, "id", getattr(node.func, "attr", "")))
            if place is None or len(node.args) <= place:
                continue
            first = node.args[place]
            said = bound.get(first.id, []) if isinstance(first, ast.Name) else texts(first)
            found |= dict.fromkeys(filter(is_sentence, said), file)
    return found


def is_sentence(text: str) -> bool:
    """Whether there is anything to translate besides the fields."""
    return any(letter.isalpha() for piece, *_ in Formatter().parse(text) for letter in piece)


def fields_of(text: str) -> list[str]:
    """Its fields, each with its format; fields that only choose a form of a word, which another language may not have, are left out."""
    return sorted(f"{name}:{spec}" for _, name, spec, _ in Formatter().parse(text) if name and "|" not in spec)


def sentences_of_pages() -> dict[str, Path]:
    """What the pages say by `say` or `t`; the class's summary chooses among sentences in a dictionary too."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.html")):
        page = file.read_text(encoding="utf-8")
        for call in Environment().parse(page).find_all(nodes.Call):
            is_said = isinstance(call.node, nodes.Name) and call.node.name in ("say", "t")
            if is_said and call.args and isinstance(call.args[0], nodes.Const) and is_sentence(call.args[0].value):
                found[call.args[0].value] = file
    page = PACKAGE / "grading" / "summary.html"
    chosen = re.findall(r'(?:\bt\(|: )"((?=[^"]*[a-z])[^"]+)"', page.read_text(encoding="utf-8"))
    return found | dict.fromkeys({*chosen} - {"%g"}, page)


def help_texts() -> set[str]:
    """Every text that `--help` shows."""
    group = typer.main.get_command(app)
    found = {group.help}
    for command in group.commands.values():
        found |= {command.help, *(getattr(parameter, "help", None) for parameter in command.params)}
    return found - {None}


def descriptions() -> set[str]:
    """The meanings of the settings, and what may be wrong with a value."""
    return {field.description for model in (Config, Augmentation, Rubric) for field in model.model_fields.values()}


def titles_of_columns() -> set[str]:
    """Titles in the tables of a comparison: the keys of the dictionaries that make them, the titles next to the formats, the measures."""
    found = {"pre-trained"}
    for function in parse(PACKAGE / "comparison" / "tables.py").body:
        if isinstance(function, ast.FunctionDef) and function.name.removeprefix("_").startswith("show_"):
            for node in ast.walk(function):
                if isinstance(node, ast.Dict):
                    pairs = [(key, value) for key, value in zip(node.keys, node.values, strict=True) if key is not None]
                    named = [value.elts[0] if isinstance(value, ast.Tuple) else key for key, value in pairs]
                    found |= {part.value for part in named if isinstance(part, ast.Constant)}
    return found | {"accuracy %"}  # AUROC has the same name in both languages


def reasons_of_isolation() -> set[str]:
    """The reasons that `find_layers` gives why a layer is not available."""
    tree = parse(PACKAGE / "grading" / "sandbox.py")
    (function,) = (node for node in tree.body if getattr(node, "name", "") == "find_layers")
    values = [node.value for node in ast.walk(function) if isinstance(node, ast.Assign)]
    values += [node.args[1] for node in ast.walk(function) if isinstance(node, ast.Call) and len(node.args) == 2]
    return {text for value in values for text in texts(value) if " " in text}


def faults_of_submissions() -> set[str]:
    """Faults that a worker reports in a file: plain words, since they come from a process that is not trusted."""
    found = set()
    for name in ("formats", "weights", "predictions", "architecture"):
        for node in ast.walk(parse(PACKAGE / "grading" / f"{name}.py")):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Refusal", "refuse", "need"):
                values = [keyword.value for keyword in node.keywords if keyword.arg in ("what", "kind")]
                found |= {text for value in (*values, *node.args[1:]) for text in texts(value) if text}
    return found | set(_PROGRAMS.values())


def of_grading() -> set[str]:
    sentences = {*(text for _, text in REASONS.values()), *CAUSES.values(), *_REMARKS.values(), UNTOLD}
    sentences |= {*_ANOMALY_REMARKS.values(), *_MASK_REMARKS.values(), *_PROMISES.values(), *FLAGS.values()}
    return set(filter(is_sentence, sentences))


def data_sets() -> set[str]:
    """What `datasets` prints about the data sets of the package."""
    tree = parse(PACKAGE / "data" / "catalogue.py")
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    (entered,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign | ast.Assign) and "DATASETS" in ast.unparse(node).split("=")[0]
    )
    return {ast.get_docstring(functions[value.id]).partition("\n")[0] for value in entered.values}


def of_reports() -> set[str]:
    """Texts that the pages of a run and of a team, and the log, take from tables, and why a file is not shown."""
    of_metrics = (run_report.METRICS, run_report.OF_TASKS.items(), run_report.CALIBRATION, run_report.BY_CLASS)
    found = {label for table in of_metrics for _, label in table}
    of_words = (run_report.UNDEFINED, run_report.CAPTIONS, run_report.SECONDS, run_report.SEVERITIES)
    for table in (*of_words, run_report.INTERVALS, run_report.SPLIT_NAMES, team_report.SPLITS, team_log.STATUSES):
        found |= set(table.values())
    found |= {template for pair in SAID.values() for template in pair} | set(SAID_OF_GROUPS)
    found |= {*team_notes.SECTIONS, *team_notes.SECTIONS.values(), team_notes.HOW_TO, *team_log.HEADER}
    found |= {team_log.HOW_TO_READ, run_report.UNDEFINED_OTHERWISE, run_report.NOT_THERE, run_report.OTHER_CURVES}
    for node in ast.walk(parse(PACKAGE / "reports" / "team_log.py")):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 3:
            found |= {*texts(node.value.elts[1])}
    parts = [
        *ast.walk(parse(PACKAGE / "reports" / "run_report.py")),
        *ast.walk(parse(PACKAGE / "storage" / "reading.py")),
    ]
    words = {node.value for node in parts if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return set(filter(is_sentence, found)) | {
        word for word in words if word.startswith(("it is ", "it cannot ", "the page contains "))
    }


def of_diagnosis() -> set[Key]:
    """The names of findings and their causes, and the texts in tables of remedies."""
    tasks = (anomalies, contrast, detection, generation, segmentation)
    remedies = {name: found for task in tasks for name, found in task.REMEDIES.items()}
    found: set[Key] = {(None, of.template) for _, tried in remedies.values() for of in tried}
    found |= {(None, advice.OWN), (None, advice.SOURCE)}
    found |= {("diagnosis", name.replace("_", " ")) for name in (*rules.NAMES, *remedies)}
    causes: list[str] = []
    for file in (PACKAGE / "diagnosis").glob("*.py"):
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.keyword) and node.arg == "cause":
                causes += texts(node.value)
            if isinstance(node, ast.FunctionDef) and node.name == "why_little":
                causes += [text for one in ast.walk(node) if isinstance(one, ast.Return) for text in texts(one.value)]
    return found | {("cause", cause.replace("_", " ")) for cause in causes if cause}


@cache
def find_said() -> dict[Key, Path | None]:
    """What is said as it stands in the code and the pages, and its file if it is known."""
    found: dict[Key, Path | None] = {(None, text): file for text, file in sentences_in_code().items()}
    found |= {(None, text): file for text, file in sentences_of_pages().items()}
    words = {
        *descriptions(),
        *help_texts(),
        *_WRONG.values(),
        *PARTS_OF_A_TRAINING,
        *(told for _, told in slips.CAUSES),
    }
    words |= titles_of_columns() | data_sets() | faults_of_submissions() | reasons_of_isolation() | of_grading()
    words |= of_reports() | {template for _, template in TYPER_SAID}
    for key in {*((None, word) for word in words), *of_diagnosis()}:
        found.setdefault(key, None)
    return found


def find_wanted() -> dict[Key, Path | None]:
    """Everything that is said, and its file if it is known."""
    found = dict(find_said())
    # What is put together while the program runs, such as the name of a check, is known by the languages that have it.
    for file in FOLDER.glob("??.po"):
        found |= {key: None for key in read_keys(read_file(file)) if key not in found and is_said(key)}
    return {key: file for key, file in found.items() if key[1] not in AS_IN_ENGLISH}


def is_said(key: Key) -> bool:
    """Whether the words are anywhere in the code, or are the system's."""
    return key[1] in find_constants() or key[1] in find_words_of_the_system()


@cache
def find_constants() -> dict[str, Path]:
    """Each text in the code and the pages, also with blanks for underscores, and the parts of a list; with its first file."""
    found: dict[str, Path] = {}
    for file in list_files():
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                inner = re.findall(r'\b(?:t|say)\(\s*"((?:[^"\\]|\\.)*)"', node.value)  # a template of a page
                for text in (node.value, node.value.replace("_", " "), *node.value.split(","), *inner):
                    found.setdefault(text, file)
    for file in sorted(PACKAGE.rglob("*.html")):
        for text in re.findall(r'"((?:[^"\\]|\\.)*)"', file.read_text(encoding="utf-8")):
            found.setdefault(text, file)
    return found


def find_words_of_the_system() -> set[str]:
    return {os.strerror(number) for number in range(1, 134)}


def read_file(file: Path) -> Catalog:
    with file.open("rb") as stream:
        return read_po(stream, locale=file.stem)


def read_keys(catalogue: Catalog) -> dict[Key, str]:
    """Each sentence in a language's file, with its translation."""
    return {(one.context, one.id): one.string for one in catalogue if one.id}


def compare(catalogue: Catalog) -> tuple[list[Key], list[Key]]:
    """What is missing in a language's file, or not translated there, and what is stale: no longer used."""
    wanted, entries = find_wanted(), read_keys(catalogue)
    missing = [key for key in wanted if not entries.get(key)]
    return missing, [key for key in entries if key not in wanted and not is_said(key)]


def write_file(catalogue: Catalog, file: Path) -> None:
    """Writes a language's file: sorted by the place in the code, then by the sentence; missing ones are empty, stale ones left out."""
    wanted, constants = find_wanted(), find_constants()
    _, stale = compare(catalogue)
    written = Catalog(locale=file.stem, header_comment=HEAD, fuzzy=False)
    entries = read_keys(catalogue)
    for key in sorted({*wanted, *entries}, key=lambda key: (key[1], key[0] or "")):
        if key not in stale:
            context, english = key
            place = wanted.get(key) or constants.get(english)
            places = [(place.relative_to(PACKAGE.parent).as_posix(), 1)] if place else []
            written.add(english, entries.get(key, ""), locations=places, context=context)
    with file.open("wb") as stream:
        write_po(stream, written, width=0, sort_by_file=True, include_lineno=False)
    # The header contains dates and names that change with each writing and mean nothing.
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    dull = (
        "POT-Creation-Date",
        "PO-Revision-Date",
        "Last-Translator",
        "Project-Id",
        "Report-Msgid",
        "Language-Team",
        "Generated-By",
    )
    file.write_text(
        "".join(line for line in lines if not line.startswith(tuple(f'"{word}' for word in dull))), encoding="utf-8"
    )


def main(words: list[str]) -> int:
    """Prints what is missing or stale; the exit status is 1 if there is anything."""
    is_writing, begun = "--write" in words, [word for word in words if not word.startswith("-")]
    files = {*FOLDER.glob("??.po"), *(FOLDER / f"{language}.po" for language in begun)}
    status = 0
    for file in sorted(files):
        catalogue = read_file(file) if file.exists() else Catalog(locale=file.stem)
        if is_writing:
            write_file(catalogue, file)
            catalogue = read_file(file)
        missing, stale = compare(catalogue)
        for kind, keys in (("missing", missing), ("stale", stale)):
            for context, english in keys:
                print(f"{file.name}: {kind}: {english}{f' ({context})' if context else ''}")
        print(f"{file.name}: {len(missing)} missing, {len(stale)} stale, {len(list(catalogue))} in all")
        status |= bool(missing or stale)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
