"""What a person reads, in the reader's language: the English sentence is the key, and one file for each other language has the translations."""

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from pbl.languages.catalogue import has_language, read_catalogue
from pbl.languages.forms import fill_sentence
from pbl.storage.escapes import for_screen

# The fields of a data doctor's finding that contain one of the doctor's own words; a class may be called "test".
WORDS_OF_DOCTOR = ("split", "earlier", "method", "statistic")
_TYPED = {"jp": "ja", "日本": "ja"}  # a country's name, typed in place of its language's
_SOME_WORDS = ("training", "validation", "finished")


def choose_language(language: str | None = None) -> str:
    """Returns the language of what is shown to a person, such as "en" or "ja".

    Args:
        language: The requested language. Otherwise the variable `PBL_LANGUAGE` gives it, otherwise the locale: the first of the
            variables `LC_ALL`, `LC_MESSAGES` and `LANG` that is set, such as `ja_JP.UTF-8`; on Windows, if none is set, the language of the system.
            If a language has no file in `pbl/languages/`, English is used.
    """
    names = ("PBL_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
    chosen = language or next(filter(None, map(os.environ.get, names)), None) or _read_system_language()
    code = chosen[:2].lower()
    code = _TYPED.get(code, code)
    return code if has_language(code) else "en"


def _read_system_language() -> str:
    """The language of Windows's own menus; "en" on other systems, where the variables give it."""
    if sys.platform != "win32":
        return "en"
    import ctypes
    import locale

    return locale.windows_locale.get(ctypes.windll.kernel32.GetUserDefaultUILanguage(), "en")


def choose_screen_language(language: str | None = None) -> str:
    """Returns the language as `choose_language` does, but English if the screen does not have its letters (`PYTHONIOENCODING=ascii`)."""
    chosen = choose_language(language)
    if chosen == "en":
        return chosen
    try:
        "".join(translate(word, chosen) for word in _SOME_WORDS).encode(
            getattr(sys.stdout, "encoding", None) or "utf-8"
        )
    except (UnicodeEncodeError, LookupError):
        return "en"
    return chosen


def is_known(template: Any) -> bool:
    """Whether a sentence is one of ours, and not one that a stranger wrote into a file."""
    return isinstance(template, str) and (None, template) in read_catalogue("ja").sentences


def translate(text: str, language: str, context: str | None = None) -> str:
    """Returns a sentence, with its fields still open, or a word in another language; unchanged if there is no translation.

    Args:
        text: The English text.
        language: One of `list_languages`.
        context: Distinguishes a word from the same word elsewhere: "diagnosis" (the name of a verdict), "cause" or "report".
    """
    if language == "en":
        return text
    sentences = read_catalogue(language).sentences
    return sentences.get((context, text)) or sentences.get((None, text), text)


def say(template: str, language: str | None = None, /, **details: Any) -> str:
    """Fills a sentence in the reader's language.

    Args:
        template: The English sentence, with `{name}` fields, and `{n:image|images}` if a word depends on a number.
        language: One of `list_languages`; that of the screen unless given.
        **details: The fields. A `Sentence` or an `InputError` among them is translated to the same language.
    """
    language = language or choose_screen_language()
    said = {}
    for name, value in details.items():
        if isinstance(getattr(value, "template", None), str):
            value = say_sentence(value, language)
        elif name in ("reason", "what", "kind", "statistic", "file") and isinstance(
            value, str
        ):  # texts of the system, or of another process
            value = translate(value, language)
        said[name] = value
    return for_screen(_fill(template, said, language), keep_lines=True)


def _fill(template: str, details: Mapping[str, Any], language: str) -> str:
    if language == "en":
        return fill_sentence(template, details)
    filled = fill_sentence(translate(template, language), details, read_catalogue(language).choose_form)
    return re.sub("。(。| (?=[^ ]))", "。", filled)  # a sentence ends in another one, or follows it without a blank


def say_sentence(sentence: Any, language: str | None = None) -> str:
    """Returns a `Sentence` or an `InputError` in the reader's language; any other text unchanged."""
    if isinstance(getattr(sentence, "template", None), str):
        return say(sentence.template, language, **sentence.fields)
    return for_screen(sentence, keep_lines=True)


def say_finding(finding: Mapping[str, Any], language: str) -> str:
    """Returns a finding from a file, `data_check.json`, in a language: never by a template of a stranger.

    Args:
        finding: A finding's `template`, `details` and `message`; for a damaged one, the English message is returned.
        language: One of `list_languages`.
    """
    message, template, details = str(finding.get("message", "")), finding.get("template"), finding.get("details")
    if not isinstance(template, str) or not is_known(template) or not isinstance(details, Mapping):
        return message
    words = {name: translate(details[name], language) for name in WORDS_OF_DOCTOR if isinstance(details.get(name), str)}
    try:
        return _fill(template, {**details, **words}, language)
    except (LookupError, TypeError, ValueError, AttributeError):
        return message
