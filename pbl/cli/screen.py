"""What the commands share in showing: tables, JSON, progress, and a screen free of TensorFlow's log."""

import contextlib
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from pbl.escapes import for_json, for_screen
from pbl.languages import say, say_sentence


def open_console():
    """Rich's console, which shows texts as they are; into a file a line is not folded."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False)


def print_table(header: list[str], rows: list[tuple[str, ...]]) -> None:
    """Prints a table; columns of numbers stand to the right. Nothing is cut with "...": what does not fit is folded."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, title in enumerate(header):
        is_number = number and all(
            re.fullmatch(r"<?[\d.,]+", row[number]) or row[number] == say("undefined") for row in rows
        )
        table.add_column(for_screen(title), overflow="fold", justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*map(for_screen, row))
    open_console().print(table)


def format_number(value: float | None) -> str:
    """Such as "0.9722", or "undefined"."""
    return say("undefined") if value is None else f"{value:.4f}"


def print_json(value: Any, indent: int | None = 1) -> None:
    """Prints JSON, its letters as they are."""
    print(for_json(json.dumps(value, ensure_ascii=False, indent=indent)))


@contextlib.contextmanager
def show_progress(shown: bool) -> Iterator[Callable[[str], None]]:
    """Gives a function that shows what is going on: a bar on a screen, a line for each submission elsewhere."""
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


# What TensorFlow's C++ library logs, before and after its logging is set up; errors on a machine without a GPU included.
_TENSORFLOW_LOG = re.compile(
    rb"WARNING: All log messages before absl|[IWE]\d{4} \d\d|\d{4}-\d\d-\d\d [\d:.]+: [IWE] |To enable the following instr"
)


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps TensorFlow's log from the screen while it is imported; anything else said meanwhile is shown afterwards."""
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
