"""What people write into the team's report: their own file, made once and then only read."""

import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from pbl.errors import InputError
from pbl.languages import say
from pbl.languages.catalogue import list_languages
from pbl.storage.writing import replacing

NAME = "team_notes.md"
# For each section, its heading and what belongs there.
SECTIONS = {
    "Title": "what your report is called",
    "Team": "the team's number and its members",
    "Question and hypothesis": "what you wanted to find out, what you expected, and why",
    "Earlier work": "what others did on this question, with sources",
    "Discussion": "why it came out so; what the images that were mistaken have in common; what you would do next",
    "Conclusion": "your answer to the question, no stronger than the results",
}
HOW_TO = (
    "Write below the headings. The page takes it from here: python -m pbl report --team. This file is made once, and then only"
    " read; it stays yours."
)
OTHER = ""  # text above the first heading
LEVEL = 2  # of the sections' headings; one of level 3 is a heading within a section


class Part(NamedTuple):
    """A piece of the text that people wrote."""

    kind: str  # "heading" or "text"
    text: str
    level: int = 0  # of a heading: how many # are before it


def make_notes(file: Path, language: str) -> None:
    """Writes the file with its headings, and what belongs below each as a comment.

    Raises:
        InputError: It cannot be written.
    """
    lines = [f"<!-- {say(HOW_TO, language)} -->"]
    for heading, what in SECTIONS.items():
        lines += ["", f"## {say(heading, language)}", "", f"<!-- {say(what, language)} -->", ""]
    with replacing(file) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def read_notes(file: Path) -> dict[str, list[Part]]:
    """Returns the text below each heading, by its English name; nothing that was written is left out.

    A heading counts in either language. Any other heading belongs to the section that it is in, and text above the first heading to
    the section "". Comments (`<!-- -->`) are not shown.

    Raises:
        InputError: The file cannot be read, or its encoding is not known.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError("{file} cannot be read: {reason}.", file=file, reason=error.strerror) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp932", "replace")  # the encoding of Windows' editors in Japan
    if "\x00" in text or "\ufffd" in text:
        raise InputError("{file} is not text in UTF-8. Save it as UTF-8, then run the same command again.", file=file)
    known = {_fold(say(heading, language)): heading for heading in SECTIONS for language in list_languages()}
    sections: dict[str, list[Part]] = {name: [] for name in (OTHER, *SECTIONS)}
    section, lines = OTHER, []

    def end_paragraph() -> None:
        if words := "\n".join(lines).strip():
            sections[section].append(Part("text", words))
        lines.clear()

    for line in re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL).splitlines():
        heading = re.match(r"\s{0,3}([#＃]{1,6})\s*(.*?)\s*#*$", line)
        if heading or not line.strip():
            end_paragraph()
        if heading and _fold(heading[2]) in known:
            section = known[_fold(heading[2])]
        elif heading and heading[2]:
            sections[section].append(Part("heading", heading[2], len(heading[1])))
        elif not heading:
            lines.append(line)
    end_paragraph()
    return sections


def find_unknown(notes: dict[str, list[Part]]) -> list[tuple[str, str]]:
    """Returns the headings as high as those of the sections that name none, as a mistyped one, each with the section that its text is in."""
    return [
        (part.text, section)
        for section, parts in notes.items()
        for part in parts
        if part.kind == "heading" and part.level <= LEVEL
    ]


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
