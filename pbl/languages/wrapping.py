"""Text in lines of a width: numbers, words and the words of Japanese, which has no spaces, are not broken."""

import re
import unicodedata

_CLOSING = "、。，．・：；！？）」』】〉》％ーぁぃぅぇぉっゃゅょァィゥェォッャュョ々"  # never begin a line
_OPENING = "（「『【〈《"  # never end one


def measure(text: str) -> int:
    """Returns how many places a text takes on a screen: Chinese and Japanese letters take two each."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )


def wrap(text: str, width: int) -> list[str]:
    """Breaks a text into lines of at most `width` places.

    Lines break at spaces; in Japanese also after punctuation, and where hiragana end, as most phrases do. A word that is wider than a
    line is on its own line, and is broken only if it is Japanese.
    """
    lines = [""]
    for piece in _split(text):
        if measure(lines[-1] + piece.rstrip()) <= width or not lines[-1]:
            lines[-1] += piece
        else:
            lines.append(piece)
        while measure(lines[-1].rstrip()) > width and (at := _find_break(lines[-1], width)):
            lines[-1:] = [lines[-1][:at], lines[-1][at:]]
    return [line.rstrip() for line in lines]


def _split(text: str) -> list[str]:
    """Pieces that stay together, each with the spaces after it."""
    pieces, before = [""], ""
    for letter in text:
        if before and _may_break(before, letter):
            pieces.append("")
        pieces[-1] += letter
        before = letter
    return pieces


def _may_break(before: str, letter: str) -> bool:
    if letter.isspace():
        return False
    if before.isspace():
        return True
    if letter in _CLOSING or before in _OPENING:
        return False
    if before in "、。，：；！？）」』】・":
        return True
    if letter in _OPENING and _is_wide(before):
        return True
    return _kind(before) == "hiragana" and _kind(letter) not in ("hiragana", "sign")


def _find_break(line: str, width: int) -> int:
    """Where a Japanese piece that is too wide is broken: between two wide letters, as late as possible; 0: nowhere."""
    places = [
        at
        for at in range(1, len(line))
        if measure(line[:at]) <= width
        and _is_wide(line[at])
        and _is_wide(line[at - 1])
        and line[at] not in _CLOSING
        and line[at - 1] not in _OPENING
    ]
    return places[-1] if places else 0


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"


def _kind(letter: str) -> str:
    if re.match("[ぁ-ん]", letter):
        return "hiragana"
    return "word" if letter.isalnum() else "sign"


def is_japanese(text: str) -> bool:
    """Whether a text has letters that only a Japanese (or Chinese) font contains."""
    return any("\u3000" <= letter <= "\uffee" for letter in text)
