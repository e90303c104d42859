"""The sentences of each language: `ja.po` next to this file, in gettext's format with the English sentence as the key, read by Babel."""

import functools
from collections.abc import Callable
from gettext import c2py
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent


class Catalogue(NamedTuple):
    """The sentences of one language.

    Attributes:
        sentences: By context (None for most) and English sentence.
        choose_form: Returns the number of a word's form, from 0, for a number; `Plural-Forms` in the head of the file.
    """

    sentences: dict[tuple[str | None, str], str]
    choose_form: Callable[[int], int]


def list_languages() -> list[str]:
    """Returns the languages that a person can choose: English, and each that has a file."""
    return ["en", *sorted(file.stem for file in FOLDER.glob("??.po"))]


def has_language(language: str) -> bool:
    """Whether a person can choose it: one of `list_languages`. Each sentence that is said asks this, so no folder is listed."""
    return language == "en" or (language.isalpha() and (FOLDER / f"{language}.po").is_file())


def read_catalogue(language: str) -> Catalogue:
    """Returns the sentences of a language from `list_languages`, except English, whose sentences are the keys."""
    return _read(FOLDER / f"{language}.po")


@functools.cache
def _read(file: Path) -> Catalogue:
    from babel.messages.pofile import read_po  # only needed for a language other than English

    with file.open("rb") as stream:
        catalogue = read_po(stream, locale=file.stem)
    entries = (one for one in catalogue if one.id and one.string and not one.fuzzy)
    sentences = {(one.context, str(one.id)): str(one.string) for one in entries}
    return Catalogue(sentences, c2py(catalogue.plural_expr))
