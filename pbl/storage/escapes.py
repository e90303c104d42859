"""Names that anybody may have given, put into what is read elsewhere: a screen, a table, a page, a command to copy.

One function for each place. A name must not move the cursor, or become a formula, a tag or a second command.
"""

import re
import shlex
from typing import Any

# Characters that do not belong on a page or a line (control characters, halves of pairs), and characters that would turn the direction
# of the text around them. Line breaks and tabs are left to callers, who know whether there is room for them.
_UNSHOWABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_BREAKS = re.compile("[\n\t]")


def for_screen(text: Any, keep_lines: bool = False) -> str:
    r"""Returns text that a terminal shows unchanged; characters that would control it are replaced by their number, such as `\u001b`.

    Args:
        text: The text.
        keep_lines: Whether line breaks and tabs stay.
    """
    shown = _UNSHOWABLE.sub(_number, str(text))
    return shown if keep_lines else _BREAKS.sub(_number, shown)


def _number(found: re.Match) -> str:
    return f"\\u{ord(found[0]):04x}"


def for_json(text: str) -> str:
    """Returns JSON with the same meaning, which a terminal shows unchanged."""
    return for_screen(text, keep_lines=True)


def for_csv(value: Any) -> Any:
    """Prevents a spreadsheet from reading a text as a formula, also if its first character is a full-width one; a number stays unchanged."""
    if not isinstance(value, str):
        return value
    return f"'{value}" if value[:1] and value[0] in "=+-@\t\r\n＝＋－＠" else value


def for_markdown(text: Any) -> str:
    """Returns text on one line in which Markdown finds no column, tag, link or mathematics."""
    shown = for_screen(str(text).replace("\r\n", " ").replace("\n", " "))
    return re.sub(r"([|<$]|\](?=\())", r"\\\1", shown)


def for_shell(word: Any) -> str:
    """Returns a path as one word of a command to copy: in quotes if it needs them, and never like an option."""
    return shlex.quote(f"./{word}" if str(word).startswith("-") else str(word))
