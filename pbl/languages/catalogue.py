"""The sentences of each language: `ja.po` beside this file, gettext's format with the English sentence as the key, read by Babel."""

import functools
from collections.abc import Callable
from gettext import c2py
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent


class Catalogue(NamedTuple):
    """What one language says.

    Attributes:
        sentences: By context (None for most) and English sentence.
        choose_form: Which form of a word belongs to a number, from 0; `Plural-Forms` in the head of the file.
    """

    sentences: dict[tuple[str | None, str], str]
    choose_form: Callable[[int], int]


def list_languages() -> list[str]:
    """Returns the languages that a person can choose: English, and each that has a file."""
    return ["en", *sorted(file.stem for file in FOLDER.glob("??.po"))]


def read_catalogue(language: str) -> Catalogue:
    """Returns the sentences of a language that `list_languages` names, but for English, whose sentences are the keys."""
    return _read(FOLDER / f"{language}.po")


@functools.cache
def _read(file: Path) -> Catalogue:
    from babel.messages.pofile import read_po  # only where another language than English is spoken

    with file.open("rb") as stream:
        catalogue = read_po(stream, locale=file.stem)
    sentences = {(one.context, one.id): one.string for one in catalogue if one.id and one.string and not one.fuzzy}
    return Catalogue(sentences, c2py(catalogue.plural_expr))
