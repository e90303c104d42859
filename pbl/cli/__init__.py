"""The command line: `python -m pbl COMMAND`, or `pbl COMMAND` if the package is installed.

Each file here has one group of commands. Each command imports what it needs itself, so that `--help` answers at once.

Exit status: 0 done; 1 a failed requirement or trial, a fault that `check` found and that must be repaired first, or a part that could not be done (one run of several, an unreadable image);
2 wrong input (one line says what is wrong); 130 stopped by Ctrl-C or SIGTERM.
"""

import codecs
import inspect
import os
import sys
from typing import Any, Literal, get_args, get_origin

import typer
import typer.core
import typer.main

from pbl import __version__
from pbl.cli import comparison, data, evaluation, export, grading, reports, training
from pbl.cli.help import Command, Program
from pbl.cli.options import remember_words
from pbl.cli.typer_words import say_wrong_words
from pbl.cli.words import read_words
from pbl.errors import InputError, Sentence
from pbl.languages import choose_screen_language, say, say_sentence
from pbl.storage.trust import NO_CODE
from pbl.storage.writing import PASSING

app = typer.Typer(
    name="pbl",
    cls=Program,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, evaluate and use networks for images with Keras. Start with: python -m pbl train",
)
for command in (  # in the order of `--help`
    training.train,
    training.find_rate,
    evaluation.evaluate,
    evaluation.diagnose,
    comparison.compare,
    reports.log,
    reports.report,
    evaluation.predict,
    evaluation.generate,
    evaluation.search,
    evaluation.inspect,
    export.export,
    evaluation.demo,
    data.check,
    data.models,
    data.datasets,
    data.settings,
    grading.holdout,
    grading.submit,
    grading.grade,
):
    app.command(cls=Command)(command)

_ALIKE = str.maketrans({"〜": "~", "–": "-", "—": "-", "−": "-", "…": "...", "“": '"', "”": '"', "’": "'"})


def _write_alike(error: UnicodeError) -> tuple[str, int]:
    letters = error.object[error.start : error.end].translate(_ALIKE)
    return letters.encode("ascii", "replace").decode(), error.end


def list_options(program: typer.core.TyperGroup) -> dict[str, dict[str, tuple[str, ...] | None]]:
    """Returns the options of each command, and the values that each option takes: None for a switch, () for any value."""

    def list_values(annotation: Any) -> tuple[str, ...] | None:  # Annotated[Literal["val", "test"], Option()]
        kinds = [get_args(annotation)[0], *get_args(get_args(annotation)[0])]
        choices = [get_args(kind) for kind in kinds if get_origin(kind) is Literal]
        return None if bool in kinds else choices[0] if choices else ()

    found = {}
    for name, command in program.commands.items():
        described = inspect.signature(command.callback).parameters
        options = [one for one in command.params if one.param_type_name == "option" and one.name in described]
        found[name] = {
            word: list_values(described[one.name].annotation)
            for one in options
            for word in (*one.opts, *one.secondary_opts)
        }
    return found


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    codecs.register_error("alike", _write_alike)
    for stream in (sys.stdout, sys.stderr):  # a letter that the screen does not have must not end a training
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="alike")
    try:
        program = typer.main.get_command(app)
        arguments = read_words(arguments, list_options(program))
        if arguments in (["--version"], ["-V"], ["version"]):
            print(f"pbl {__version__}")
            return 0
        remember_words(arguments)
        status = program.main(arguments, prog_name="python -m pbl", standalone_mode=False) or 0
        if status == 130:  # typer's answer to Ctrl-C
            print(say("pbl: stopped"), file=sys.stderr)
        return status
    except OSError as error:  # a failure of a Drive, or a missing permission, is not a bug of ours
        about = {"file": error.filename or Sentence("A file"), "reason": error.strerror}
        if error.errno in PASSING:
            what = Sentence("{file} cannot be read or written now: {reason}. Give the same command again.", **about)
        elif isinstance(error, PermissionError):
            what = Sentence(
                "{file} cannot be read or written: {reason}. Let its owner open it, or give another file.", **about
            )
        else:
            raise
        message = say_sentence(what)
    except InputError as error:
        message = " ".join(say_sentence(error).split())
    except Exception as error:
        if not hasattr(
            error, "format_message"
        ):  # typer's errors about wrong words have it; anything else is a bug of ours
            raise
        what = error.format_message()
        if choose_screen_language() != "en":
            what = say_wrong_words(what)
        what = what.replace("Value error, ", "")
        what += "" if what.endswith((".", "?", "!", "。")) else "."
        context = getattr(error, "ctx", None)
        command = arguments[0] if arguments[0] in program.commands else ""  # typer's parser does not tell it
        path = context.command_path if context else f"python -m pbl {command}".rstrip()
        message = say("{what} See: {command} --help", what=what, command=path)
    finally:
        os.environ.pop(NO_CODE, None)  # it is valid for one command
    print(f"pbl: {message}", file=sys.stderr)
    return 2
