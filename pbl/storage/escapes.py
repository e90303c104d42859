"""Names that anybody may have given, put into what is read elsewhere: a screen, a table, a page, a command to copy.

One function for each place. What stands in a name must not move the cursor, become a formula, a tag or a second command.
"""

import re
import shlex
from typing import Any

# What is no character of a page or a line (control characters, halves of pairs), and what would turn the direction of the text
# around it. A line break and a tab are left to those who know whether there is room for them.
_UNSHOWABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_BREAKS = re.compile("[\n\t]")


def for_screen(text: Any, keep_lines: bool = False) -> str:
    r"""Returns text that a terminal shows as it is; what would steer it stands there by its number, such as `\u001b`.

    Args:
        text: The text.
        keep_lines: Whether line breaks and tabs stay.
    """
    shown = _UNSHOWABLE.sub(_number, str(text))
    return shown if keep_lines else _BREAKS.sub(_number, shown)


def _number(found: re.Match) -> str:
    return f"\\u{ord(found[0]):04x}"


def for_json(text: str) -> str:
    """Returns JSON that means the same, and that a terminal shows as it is."""
    return for_screen(text, keep_lines=True)


def for_csv(value: Any) -> Any:
    """Keeps a spreadsheet from taking a text for a formula, also where its first sign is a full-width one; a number stays."""
    if not isinstance(value, str):
        return value
    return f"'{value}" if value[:1] and value[0] in "=+-@\t\r\n＝＋－＠" else value


def for_markdown(text: Any) -> str:
    """Returns text in one line of which Markdown takes nothing for a column, a tag, a link or mathematics."""
    shown = for_screen(str(text).replace("\r\n", " ").replace("\n", " "))
    return re.sub(r"([|<$]|\](?=\())", r"\\\1", shown)


def for_shell(word: Any) -> str:
    """Returns a path as one word of a command to copy: in quotes where it needs them, and never like an option."""
    return shlex.quote(f"./{word}" if str(word).startswith("-") else str(word))
