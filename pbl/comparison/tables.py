"""A comparison as tables and sentences for people, and as files: the facts in `results.json`, the same facts for reading in `results.md`."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pbl.comparison.run import FEWEST_DISCORDANT, MEASURES, MOST_PAIRS, Comparison, find_scale
from pbl.errors import InputError, Sentence
from pbl.languages import choose_language, is_known, say, say_sentence
from pbl.statistics import FEWEST_SEEDS
from pbl.storage.escapes import for_markdown
from pbl.storage.reading import read_json
from pbl.storage.writing import replacing, write_json, write_table

TABLES = ("runs", "architectures", "pairs", "models")


def write_results(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Writes `results.csv` (one tidy row for each run), `results.md` (the tables), `results.png` and `results.json` (the facts).

    Raises:
        InputError: The folder cannot be written.
    """
    from pbl.comparison.figures import plot_comparison

    folder = Path(folder).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "The folder {folder} cannot be made: {reason}. Give another with --out DIR.",
            folder=folder,
            reason=error.strerror,
        ) from None
    files = [folder / f"results.{suffix}" for suffix in ("csv", "md", "png", "json")]
    write_table(files[0], comparison.runs)
    with replacing(files[1]) as temporary:
        temporary.write_text(describe(comparison), encoding="utf-8")
    with replacing(files[2]) as temporary:
        plot_comparison(comparison).savefig(temporary, dpi=120)
    write_json(files[3], as_dictionary(comparison))
    return files


def as_dictionary(comparison: Comparison) -> dict[str, Any]:
    """Returns margin, split, images, measure, the four tables as rows, the notes and their sentences; for JSON, with None for numbers that are not finite."""
    facts = {name: getattr(comparison, name) for name in ("margin", "split", "images", "measure")}
    for name in TABLES:
        table = getattr(comparison, name).replace([np.inf, -np.inf], np.nan).astype(object)
        facts[name] = table.where(table.notna(), None).to_dict("records")
    facts["notes"] = [*comparison.notes]
    cells = (cell for name in TABLES for cell in getattr(comparison, name).to_numpy(dtype=object).ravel())
    # Each sentence is also stored as its template and fields, so that it can be shown in another language.
    said = {str(one): _take_apart(one) for one in (*facts["notes"], *cells) if isinstance(one, Sentence)}
    return {**facts, "sentences": said}


def _take_apart(value: Any) -> Any:
    """Turns a sentence into its template and fields; returns another value as JSON has it: a path is its text."""
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, Sentence):
        return value if value is None or isinstance(value, str | int | float) else str(value)
    return {"template": value.template, "fields": {name: _take_apart(of) for name, of in value.fields.items()}}


def _put_together(value: Any) -> Any:
    """The reverse; raises ValueError for a template that is not ours, since it may be a stranger's."""
    if not isinstance(value, dict):
        return value
    is_joined = re.fullmatch(
        r"(\{\w+\}|[^\w{}])+", value["template"]
    )  # joins other sentences, without words of its own
    if not is_joined and not is_known(value["template"]):
        raise ValueError(value["template"])
    return Sentence(value["template"], **{name: _put_together(of) for name, of in value["fields"].items()})


def read_results(file: Path) -> Comparison:
    """Reads `results.json`: everything except what each run got right, which only the picture needs.

    Raises:
        OSError, ValueError, KeyError, TypeError: The file cannot be read, or is not what `write_results` wrote.
    """
    facts = read_json(file)
    tables = {name: pd.DataFrame(facts[name]) for name in TABLES}
    measure = facts.get("measure", "accuracy")  # earlier versions compared by accuracy alone
    said = {}
    for text, parts in facts.get("sentences", {}).items():  # earlier versions stored none
        with contextlib.suppress(ValueError, KeyError, IndexError, TypeError, AttributeError):
            if (sentence := _put_together(parts)) == text:
                said[text] = sentence
    for table in tables.values():
        for column in table:
            cells = [said.get(cell, cell) if isinstance(cell, str) else cell for cell in table[column]]
            if any(isinstance(cell, Sentence) for cell in cells):
                table[column] = _column(cells)
    notes = [said.get(note, note) for note in facts["notes"]]
    about = {name: facts[name] for name in ("split", "images", "margin")}
    return Comparison(**tables, notes=notes, **about, measure=measure)


def describe(comparison: Comparison, language: str | None = None) -> str:
    """Returns the comparison as Markdown: the margin, the architectures, the two questions, and what to keep in mind.

    Args:
        comparison, language: As for `list_blocks`.
    """
    language = choose_language(language)
    lines = [f"# {say('Comparison', language)}", ""]
    for kind, content in list_blocks(comparison, language):
        if kind == "table":
            lines += _markdown(content)
        elif kind == "list":
            lines += [f"- {for_markdown(line)}" for line in content]
        else:
            lines += [f"## {for_markdown(content)}" if kind == "heading" else for_markdown(content)]
        lines.append("")
    return "\n".join(lines)


def _markdown(rows: list[list[str]]) -> list[str]:
    cells = [[for_markdown(cell) for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def list_blocks(comparison: Comparison, language: str | None = None) -> Iterator[tuple[str, Any]]:
    """Yields what a page shows of a comparison: "heading" and "text" with words, "list" with lines, "table" with rows of cells.

    Args:
        comparison: What `compare` found, or `read_results` read.
        language: Such as "en" or "ja"; by default as `pbl.languages.choose_language` returns.
    """
    language, shown, measure = choose_language(language), comparison.architectures, comparison.measure
    is_accuracy = measure == "accuracy"
    told = "{runs:,} runs, evaluated on the same {images:,} {split} images. A difference of less than {margin:g} in {measure} is treated as unimportant."
    if comparison.scale == 100:
        told = "{runs:,} runs, evaluated on the same {images:,} {split} images. A difference of less than {margin:g} points of {measure} is treated as unimportant."
    about = {
        "runs": int((comparison.runs["reason"] == "").sum()),
        "images": comparison.images,
        "split": Sentence({"val": "validation", "test": "test"}[comparison.split]),
        "margin": comparison.margin,
        "measure": comparison.measure_name,
    }
    yield "text", say(told, language, **about)
    yield "heading", say("Architectures", language)
    yield "table", _list_rows(show_architectures(shown, measure), language)
    if shown["tie_group"].any():
        told = "Architectures that share a letter in the column ties are not separated by these runs."
        yield "text", say(told, language)
    if (shown["seeds"] == 1).any():
        told = "The interval of an architecture with one seed covers the images only: another seed may be outside it."
        if is_accuracy:
            told = "The interval of an architecture with one seed covers the images only (Wilson's): another seed may be outside it."
        yield "text", say(told, language)
    yield "heading", say("This architecture compared with that one", language)
    if len(comparison.pairs):
        told = "Over the seeds and images that might have been drawn instead. Each 95% interval is for its own row; p, by Holm, is for all rows at once, so an interval may exclude 0 although the verdict is not separated. What would separate them: in four of five cases, if the true difference were the observed one."
        yield "text", say(told, language)
        yield "table", _list_rows(show_pairs(comparison.pairs, measure), language)
    elif (shown["seeds"] >= FEWEST_SEEDS).all():
        yield "text", say("There is only one architecture, or no other of the same kind to compare it with.", language)
    else:
        yield "text", say("No claim about architectures: each one needs at least {n} seeds.", language, n=FEWEST_SEEDS)
    yield "heading", say("This trained model compared with that one", language)
    if len(comparison.models):
        told = "Over the images only: it shows which of two files to hand in, not which architecture is better. Paired 95% intervals and t tests of the contribution of each image (for an area DeLong's), p by Holm over all pairs of these models, shown or not."
        if measure == "kid":
            told = "Over the real images and the generated ones: it shows which of two files to hand in, not which architecture is better. 95% intervals and t tests of the contribution of each real image, paired, with the standard error of each model's generated images added, p by Holm over all pairs of these models, shown or not."
        if is_accuracy:
            told = "Over the images only: it shows which of two files to hand in, not which architecture is better. Paired bootstrap intervals (95%; Newcombe's if fewer than {n} images distinguish two models), exact McNemar tests, p by Holm over all pairs of these models, shown or not."
        yield "text", say(told, language, n=FEWEST_DISCORDANT)
        yield "table", _list_rows(show_models(comparison.models, measure), language)
    else:
        yield "text", say("There is only one model, or no other of the same kind to compare it with.", language)
    yield "heading", say("To keep in mind", language)
    yield "list", [say_sentence(note, language) for note in comparison.notes]


def _list_rows(table: pd.DataFrame, language: str) -> list[list[str]]:
    head = [say(column, language) for column in table.columns]
    return [head, *([say_sentence(cell, language) for cell in row] for row in table.itertuples(index=False))]


def show_architectures(table: pd.DataFrame, measure: str = "accuracy") -> pd.DataFrame:
    """The table of architectures in words and rounded numbers; columns without a number are left out."""
    scale, name = find_scale(measure), MEASURES.get(measure, measure)
    shown = pd.DataFrame(
        {
            "architecture": table["architecture"],
            "seeds": table["seeds"].map(str),
            (f"{name} %" if scale == 100 else name): (scale * table[measure]).map("{:.2f}".format),
            "95% interval": _intervals(scale * table["low"], scale * table["high"]),
            "seeds from to": _intervals(scale * table["lowest_seed"], scale * table["highest_seed"]),
            "ties": table["tie_group"],
        }
    )
    if table["best_with_probability"].notna().any():
        shown["best with probability"] = _in_words(table["best_with_probability"], "{:.2f}", "")
    if table["pretrained"].any():
        shown["pre-trained"] = _column(Sentence("yes" if value else "no") for value in table["pretrained"])
    formats = {
        "macro_f1": ("macro F1", "{:.4f}"),
        "ece": ("ECE", "{:.4f}"),
        "epochs": ("epochs", "{:g}"),
        "trials": ("settings tried", "{:g}"),
        "parameters": ("trainable weights", "{:,.0f}"),
        "macs": ("MACs", "{:,.0f}"),
        "train_seconds": ("training s", "{:.1f}"),
        "seconds_to_target": ("s to target", "{:.1f}"),
        "latency_ms": ("latency of 1 image ms", "{:.2f}"),
        "images_per_second": ("images/s", "{:,.0f}"),
        "throughput_batch": ("in batches of", "{:g}"),
        "peak_memory_mib": ("peak memory MiB", "{:,.0f}"),
        "file_mib": ("file MiB", "{:.2f}"),
        "cost_conditions": ("measured on", "{}"),
    }
    for name, (title, form) in formats.items():
        if table[name].notna().any():
            missing = Sentence("not reached") if name == "seconds_to_target" else Sentence("not measured")
            shown[title] = _in_words(table[name], form, missing)
    return shown


def show_pairs(pairs: pd.DataFrame, measure: str = "accuracy") -> pd.DataFrame:
    """Pairs of architectures in words and rounded numbers."""
    pairs = pairs.head(MOST_PAIRS)
    return pd.DataFrame(
        {
            **_show_difference(pairs, measure),
            "p (Holm)": pairs["p_holm"].map(_probability),
            "verdict": pairs["verdict"],
            "would separate them": pairs["needed"],
        }
    )


def translate(table: pd.DataFrame) -> pd.DataFrame:
    """A table of `show_architectures`, `show_pairs` or `show_models` in the reader's language, headings and cells, for a notebook."""
    return table.map(say_sentence).rename(columns=say)


def show_models(models: pd.DataFrame, measure: str = "accuracy") -> pd.DataFrame:
    """Pairs of trained models in words and rounded numbers."""
    return pd.DataFrame(
        {
            **_show_difference(models, measure),
            **_show_discordant(models),
            "p (Holm)": models["p_holm"].map(_probability),
            "verdict": models["verdict"],
        }
    )


def _show_discordant(models: pd.DataFrame) -> dict[str, Any]:
    """For each pair, how many images only one of the two got right, if images are right or wrong."""
    if "only_first" not in models:
        return {}
    return {"only one right": [f"{a} / {b}" for a, b in zip(models["only_first"], models["only_second"], strict=True)]}


def _show_difference(table: pd.DataFrame, measure: str) -> dict[str, Any]:
    scale = find_scale(measure)
    return {
        "first": table["first"],
        "second": table["second"],
        ("difference [points]" if scale == 100 else "difference"): (scale * table["difference"]).map("{:+.2f}".format),
        "95% interval": _column(
            Sentence("{low:+.2f} to {high:+.2f}", low=scale * low, high=scale * high)
            for low, high in zip(table["low"], table["high"], strict=True)
        ),
    }


def _intervals(lows: pd.Series, highs: pd.Series) -> pd.Series:
    return _column(
        Sentence("{low} to {high}", low=f"{low:.2f}", high=f"{high:.2f}") for low, high in zip(lows, highs, strict=True)
    )


def _in_words(values: pd.Series, form: str, missing: str) -> pd.Series:
    return _column(
        form.format(value) if known else missing for value, known in zip(values, values.notna(), strict=True)
    )


def _column(sentences: Iterable[str]) -> pd.Series:
    """Keeps sentences unchanged, so that they can be shown in another language."""
    return pd.Series(list(sentences), dtype=object)


def _probability(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
