"""What the commands share for output: tables, JSON, progress, and a screen free of TensorFlow's log."""

import contextlib
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from pbl.languages import say, say_sentence
from pbl.languages.wrapping import measure, wrap
from pbl.storage.escapes import for_json, for_screen


def open_console():
    """Rich's console, which shows texts unchanged; lines are not wrapped when written to a file."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False)


def print_table(header: list[str], rows: list[tuple[str, ...]]) -> None:
    """Prints a table; columns of numbers are right-aligned.

    Nothing is cut, and no number or word is broken: texts are wrapped at blanks. If the screen is still too narrow, each
    row is printed on lines of its own, its cells by their names.
    """
    console = open_console()
    header, rows = [for_screen(title) for title in header], [tuple(map(for_screen, row)) for row in rows]
    widths = _fit_columns([header, *rows], console.width)
    if widths is None:
        for row in rows:
            _print_record(header, row, console.width)
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, title in enumerate(header):
        is_number = number and all(
            re.fullmatch(r"<?[\d.,]+", row[number]) or row[number] == say("undefined") for row in rows
        )
        table.add_column(
            "\n".join(wrap(title, widths[number])), width=widths[number], justify="right" if is_number else "left"
        )
    for row in rows:
        table.add_row(*("\n".join(wrap(cell, width)) for cell, width in zip(row, widths, strict=True)))
    console.print(table)


NARROWEST = 18  # least width of a column whose text has several words
BETWEEN = 3  # blanks between two columns


def _fit_columns(table: list, width: int) -> list[int] | None:
    """The width of each column, so that no word is broken; None if they do not fit next to each other."""
    columns = list(zip(*table, strict=True))
    natural = [max(measure(cell) for cell in column) for column in columns]
    least = [
        max(min(NARROWEST, most), max(measure(line) for cell in column for line in wrap(cell, NARROWEST)))
        for column, most in zip(columns, natural, strict=True)
    ]
    free = width - 1 - BETWEEN * len(columns)
    if sum(natural) <= free:
        return natural
    if sum(least) > free:
        return None
    # The space that is left goes to the columns that lack most: those with the widest texts.
    spare, lacking = free - sum(least), sum(natural) - sum(least)
    return [low + spare * (high - low) // lacking for low, high in zip(least, natural, strict=True)]


def _print_record(header: list[str], row: tuple[str, ...], width: int) -> None:
    """A row of a table: its first cell, then the others by their names, as many on a line as fit."""
    print("\n".join(wrap(row[0], width)))
    line = ""
    for cell in [
        f"{title}: {cell}" if title else cell for title, cell in zip(header[1:], row[1:], strict=True) if cell
    ]:
        if line and measure(line) + 3 + measure(cell) > width:
            print(line)
            line = ""
        line = f"{line}   {cell}" if line else f"  {cell}"
        if measure(line) > width:
            first, *more = wrap(line.strip(), width - 4)
            print("\n".join([f"  {first}", *(f"    {part}" for part in more)]))
            line = ""
    print(line + "\n" if line else "")


def print_text(text: str, indent: int = 0, first: str = "") -> None:
    """Prints a text; on a screen, in lines of its width, without breaking words.

    Args:
        text: The text.
        indent: Number of blanks before each line.
        first: The text before the first line instead of the blanks, such as "- ".
    """
    lines = wrap(for_screen(text, keep_lines=True), open_console().width - indent)
    print("\n".join((first.rjust(indent) if not number else " " * indent) + line for number, line in enumerate(lines)))


def format_number(value: float | None) -> str:
    """A number as text, such as "0.9722", or "undefined"."""
    return say("undefined") if value is None else f"{value:.4f}"


def print_json(value: Any, indent: int | None = 1) -> None:
    """Prints JSON, without escaping letters."""
    print(for_json(json.dumps(value, ensure_ascii=False, indent=indent)))


@contextlib.contextmanager
def show_progress(shown: bool) -> Iterator[Callable[[str], None]]:
    """Gives a function that shows progress: a bar on a screen, a line for each submission elsewhere."""
    if not shown or not sys.stderr.isatty():
        yield (lambda line: print(say_sentence(line), file=sys.stderr, flush=True)) if shown else (lambda line: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None)

        def tell(line: str) -> None:
            place, _, words = line.partition(" ")
            if "/" in place and place.replace("/", "").isdecimal():
                done, total = map(int, place.split("/"))
                progress.update(task, completed=done, total=total, description=words)
            else:
                progress.console.print(say_sentence(line), markup=False, highlight=False)  # stays above the bar

        yield tell


# The log lines of TensorFlow's C++ library, before and after its logging is set up; including errors on a machine without a GPU.
_TENSORFLOW_LOG = re.compile(
    rb"WARNING: All log messages before absl|[IWE]\d{4} \d\d|\d{4}-\d\d-\d\d [\d:.]+: [IWE] |To enable the following instr"
)


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps TensorFlow's log from the screen while it is imported; any other output in that time is shown afterwards."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        screen = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
            said.seek(0)
            for line in said:
                if not _TENSORFLOW_LOG.match(line):
                    os.write(2, line)
