"""Typer's `--help`, in the reader's language.

Typer has no setting for its own words ("Options", "[required]"), and cuts a long line without spaces, which Japanese text has.
So a command draws its help itself, with rich, from the signature of its function.
"""

import inspect
from typing import Annotated, Any, Literal, get_args, get_origin

import typer.core

from pbl.errors import InputError
from pbl.languages import choose_screen_language, say, translate

# Typer 0.27, which Colab has, prints no type for a switch and only one value's type for a list; 0.29 prints <bool> and <list[str]>.
NAMES_EVERY_TYPE = hasattr(typer.core.TyperOption, "display_type_rich")


class _WithHelp:
    """The differences from typer's commands and groups."""

    def get_help_option(self, context: Any) -> Any:
        option = super().get_help_option(context)
        option.help = say("Show this message and exit.")
        return option

    def format_usage(self, context: Any, formatter: Any) -> None:
        words = " ".join(self.collect_usage_pieces(context))
        for word in ("[OPTIONS]", "COMMAND [ARGS]..."):
            words = words.replace(word, say(word))
        formatter.write_usage(context.command_path, words, prefix=say("Usage: "))

    def format_help(self, context: Any, formatter: Any) -> None:
        _print_help(self, context)


class Command(_WithHelp, typer.core.TyperCommand):
    """One command."""

    def parse_args(self, context: Any, words: list[str]) -> list[str]:
        values, _, given = self.make_parser(context).parse_args(args=list(words))
        known = {name for option in self.get_params(context) for name in (*option.opts, *option.secondary_opts)}
        for option in given:
            _check_is_complete(option, values.get(option.name), known)
            is_single = option.param_type_name == "option" and not option.multiple and not option.is_flag
            if is_single and given.count(option) > 1:  # typer takes the last, and is silent about the others
                raise InputError(
                    "{option} is given {n} times. Give it once.", option=option.opts[0], n=given.count(option)
                )
        return super().parse_args(context, words)


def _check_is_complete(option: Any, value: Any, known: set[str]) -> None:
    """Raises InputError if an option has taken the next option for its value: --export moodle --out grades."""
    taken = value if isinstance(value, (list, tuple)) else [value]
    if option.param_type_name == "option" and (name := next((one for one in taken if one in known), None)):
        told = "{option} lacks a value: {name} is the next option. Write: {option} {values}."
        values = option.metavar or option.name.upper()
        raise InputError(told, option=option.opts[0], name=name, values=values)


class Program(_WithHelp, typer.core.TyperGroup):
    """All commands."""


def _print_help(command: Any, context: Any) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.table import Table

    console = Console()
    usage = _text(command.get_usage(context), "bold")
    usage.highlight_words([say("Usage: ")], "yellow")
    console.print(Padding(usage, 1))
    console.print(Padding(_text(_translate(command.help)), (0, 1, 1, 1)))

    def print_panel(title: str, rows: list[list[Any]], columns: list[dict[str, Any]]) -> None:
        table = Table(show_header=False, expand=True, box=None, pad_edge=False)
        for column in columns:
            table.add_column(**column)
        for row in rows:
            table.add_row(*row)
        console.print(Panel(table, border_style="dim", title=title, title_align="left"))

    described = inspect.signature(command.callback).parameters if command.callback else {}
    for kind, title in (("argument", say("Arguments")), ("option", say("Options"))):
        shown = [one for one in command.get_params(context) if one.param_type_name == kind]
        rows = [_describe_parameter(one, described.get(one.name)) for one in shown]
        if not any(one.required for one in shown):
            rows = [row[1:] for row in rows]
        if rows:
            print_panel(title, rows, [{"overflow": "fold"}] * len(rows[0]))
    commands = getattr(command, "commands", {})
    if commands:
        names = {"style": "bold cyan", "no_wrap": True, "width": max(map(len, commands))}
        rows = [[name, _text(_translate(one.help))] for name, one in commands.items()]
        print_panel(say("Commands"), rows, [names, {"ratio": 10}])


def _describe_parameter(parameter: Any, described: inspect.Parameter | None) -> list[Any]:
    """The cells of a parameter's row: an asterisk if it is required, options, argument, negative options, a gap, type, help."""
    from rich.columns import Columns

    kind, default = (described.annotation, described.default) if described else (Annotated[bool, None], None)
    if parameter.secondary_opts:
        default = (parameter.opts if default else parameter.secondary_opts)[0].removeprefix("--")
    notes = [_text(_translate(parameter.help))]
    if default is not None and default is not False and default is not inspect.Parameter.empty:  # but 0 is shown
        notes.append(_text(say("[default: {value}]", value=default), "dim"))
    if parameter.required:
        notes.append(_text(say("[required]"), "dim red"))
    is_argument = parameter.param_type_name == "argument"
    return [
        _text("*" if parameter.required else "", "red"),
        "" if is_argument else _text(",".join(parameter.opts)),
        parameter.metavar if is_argument else "",
        _text(",".join(parameter.secondary_opts), "bold magenta"),
        "",
        _text(_describe_type(*get_args(kind), None if is_argument else parameter.metavar), "bold yellow"),
        Columns(notes),
    ]


def _describe_type(kind: Any, info: Any, word: str | None) -> str:
    """The type as typer shows it, such as "<en|ja>" or "<int range> [x>=1]"; or the word that stands for a value, if there is one."""
    if type(None) in get_args(kind):
        kind = get_args(kind)[0]
    if not NAMES_EVERY_TYPE:
        if kind is bool:
            return ""
        if get_origin(kind) is list:
            (kind,) = get_args(kind)
    low, high = getattr(info, "min", None), getattr(info, "max", None)
    limits = ""
    if low is not None:
        limits = f" [x>={low}]" if high is None else f" [{low}<=x<={high}]"
    if get_origin(kind) is Literal:
        name = "|".join(get_args(kind))
    else:
        name = (str(kind) if get_origin(kind) else kind.__name__) + (" range" if limits else "")
    return (word or f"<{name}>") + limits


def _translate(english: str) -> str:
    """Translates a text from the signature or docstring of a command."""
    return translate(english, choose_screen_language())


def _text(words: str, style: str = "") -> Any:
    """Rich's text, with its options coloured unless a style is given; a line without spaces is wrapped."""
    from rich.text import Text

    text = Text(words, style, overflow="fold")
    if not style:
        text.highlight_regex(r"(?<!\w)--[\w-]+", "bold cyan")
    return text
