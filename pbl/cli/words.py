"""Reads words as people type them and brings them to the form that the commands take: `epochs = 3`, `--epochs 3`, full-width letters.

A form with only one possible meaning is accepted; for a form with several, the error names the word to type.
"""

import difflib
import re
import shlex
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path

from pbl.config import find_name
from pbl.errors import InputError

# Commands whose words are settings; they have options of their own too.
WITH_SETTINGS = ("train", "find-rate", "check")
_DASHES = "‐‑‒–—―−－"  # characters that an editor or an input method writes for a hyphen
_QUOTES = "“”„‟＂"  # characters that an editor writes for a quotation mark; shells do not accept them
_RAW = {"positive_class", "groups", "experiment"}  # settings whose letters are compared with names: not changed
# Other programs' names for our commands.
_ELSEWHERE = {
    "test": "evaluate",
    "eval": "evaluate",
    "validate": "evaluate",
    "fit": "train",
    "run": "train",
    "infer": "predict",
}
_YES, _NO = ("", "true", "yes", "on", "1"), ("false", "no", "off", "0")  # values of a switch: dry_run=no

# For each command its own options, such as "--fresh", and the values that an option takes: None for a switch, () for any.
Options = Mapping[str, Mapping[str, Collection[str] | None]]


def read_words(words: list[str], options: Options) -> list[str]:
    """Returns the words of a command line in the form that the commands take.

    Full-width letters, signs and blanks become plain ones (NFKC), typographic dashes become hyphens, and text between
    typographic quotation marks becomes one word; but a path that exists is not changed. Options are found by another spelling
    (`--dry_run`, `--dryrun`, `--lang`) and without hyphens (`split=val`). If a command takes settings, `epochs = 3`, `epochs 3`,
    `epochs:3`, `--epochs 3`, `--epochs=3` and `Epochs=3` become `epochs=3`. `help train` and `train -h` are `train --help`.

    Args:
        words: The words typed after the program's name.
        options: The own options of each command, and their values.

    Raises:
        InputError: There is no command; the value of an option is given without the option.
    """
    words = [plain for word in _join_quoted(words) for plain in _make_plain(word)]
    words = ["--help" if word == "-h" else word for word in words]
    if words[0] == "pbl" and len(words) > 1:
        words = words[1:]
    if words[0] == "help":
        return [*words[1:2], "--help"]
    command = find_name(words[0], options)
    if command is None:
        _check_command(words, options)
        return words
    if words[1:] == ["help"] and not Path("help").exists():
        return [command, "--help"]
    words = _find_options(words[1:], command, options[command])
    return [command, *(_read_settings(words, command, options[command]) if command in WITH_SETTINGS else words)]


def _join_quoted(words: list[str]) -> list[str]:
    """Removes typographic quotation marks, and joins the words between them, which the shell has separated."""
    joined, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if any(mark in word for mark in _QUOTES) and not Path(word).exists():
            while rest and sum(word.count(mark) for mark in _QUOTES) % 2:
                word = f"{word} {rest.pop(0)}"
            word = word.translate(dict.fromkeys(map(ord, _QUOTES)))
        joined.append(word)
    return joined


def _make_plain(word: str) -> list[str]:
    if Path(word).exists():
        return [word]
    if "\\" in word and Path(slashed := word.replace("\\", "/")).exists():  # a path in Windows' form
        return [slashed]
    if word.isascii():
        return [word]
    plain = re.sub(f"^[-{_DASHES}]{{1,3}}(?=[A-Za-zＡ-ｚ])", "--", word)
    plain = re.sub(f"[{_DASHES}](?=[0-9０-９])", "-", plain)
    plain = plain.replace("≥", ">=").replace("≤", "<=")
    key, equals, value = plain.replace("＝", "=", 1).partition("=")
    key = unicodedata.normalize("NFKC", key)
    if equals and (key in _RAW or Path(value).exists()):
        return [f"{key}={value}"]
    if (
        "\u3000" in plain and " " not in plain
    ):  # the blank of a Japanese keyboard, at which a shell does not separate words
        return [piece for part in plain.split("\u3000") if part for piece in _make_plain(part)]
    return [key + equals + unicodedata.normalize("NFKC", value)]


def _check_command(words: list[str], options: Options) -> None:
    """Raises InputError if the first word is not a command; the message names the command that was meant."""
    from pbl.config import Config

    first = words[0]
    if first.lower() in _ELSEWHERE:
        meant = "No command is called '{word}'. Did you mean '{command}'? Valid: {commands}."
        raise InputError(meant, word=first, command=_ELSEWHERE[first.lower()], commands=", ".join(options))
    if first.endswith(".py") or (first.partition("=")[0].partition(".")[0] in Config.model_fields):
        told = "The command comes first: python -m pbl train {words}"
        raise InputError(told, words=" ".join(map(shlex.quote, words)))


def _find_options(words: list[str], command: str, options: Mapping[str, Collection[str] | None]) -> list[str]:
    """Returns the words with each option in the form that the command takes, and with its value."""
    found, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        option = _find_option(name, bool(equals), command, options)
        if option is None:
            _check_value(word.lstrip("-"), command, options)
            found.append(word)
        elif options[option] is None:  # a switch
            known = value.lower() in _YES or value.lower() in _NO
            found += [] if value.lower() in _NO else [option if known else f"{option}={value}"]
        else:
            value = [value] if equals else rest[:1]
            del rest[: 0 if equals else 1]
            found += [option, *(_find_value(one, options[option]) for one in value)]
    return found


def _find_option(name: str, has_value: bool, command: str, options: Mapping[str, Collection[str] | None]) -> str | None:
    """The option that a word means: written exactly, spelt in another way, shortened, or without hyphens before its value."""
    from pbl.config import Config

    bare = name.lstrip("-").replace("-", "_").lower()
    if name in options:
        return name
    if bare in Config.model_fields and command in (*WITH_SETTINGS, "compare"):
        return None
    names = {option.removeprefix("--"): option for option in options}
    if not name.startswith("-"):
        return names.get(bare.replace("_", "-")) if has_value else None
    found = find_name(bare, names) or find_name(bare.replace("ize", "ise"), names)
    begun = [option for known, option in names.items() if len(bare) > 2 and known.startswith(bare.replace("_", "-"))]
    return names[found] if found else begun[0] if len(begun) == 1 else None


def _find_value(value: str, values: Collection[str]) -> str:
    """The value that is meant: in another case, or with more letters, such as validation for val."""
    meant = [one for one in values if value.lower().startswith(one)]
    return meant[0] if len(meant) == 1 else value


def _check_value(word: str, command: str, options: Mapping[str, Collection[str] | None]) -> None:
    """Raises InputError if a word is one of the few values of an option."""
    for option, values in options.items():
        if values and word in values and not Path(word).exists():
            told = "{word} is a value of the option {option}. Write: python -m pbl {command} ... {option} {word}"
            raise InputError(told, word=word, option=option, command=command)


def _read_settings(words: list[str], command: str, options: Mapping[str, Collection[str] | None]) -> list[str]:
    from pbl.config import RENAMED, Config

    def find_setting(word: str, may_be_near: bool) -> str | None:
        """`batch_size.x` for `Batch-Size.x`; a word that is only near to a setting is returned unchanged, so that its error names the setting."""
        name, dot, option = word.lstrip("-").partition(".")
        if not name or Path(word).exists() or "/" in word or option == "py":
            return None
        known = find_name(name, Config.model_fields)
        is_near = may_be_near and difflib.get_close_matches(name, Config.model_fields, 1, 0.75)
        return (known or name) + dot + option if known or name in RENAMED or is_near else None

    read, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        name, sign, value = re.fullmatch(r"(.*?)(?:([=:])=?(.*))?", word, re.DOTALL).groups()
        is_given = word.startswith("-") or bool(
            rest and re.fullmatch(r"[0-9][0-9.e+-]*", rest[0])
        )  # --epoch 3, epoch 3
        setting = None if name in options or re.fullmatch(r"[A-Za-z]", name) else find_setting(name, is_given)
        if setting is None:
            read.append(word)
            if options.get(word) is not None:  # its value is not a setting
                read += rest[:1]
                del rest[:1]
            continue
        if not sign or value == "":  # epochs 3, epochs = 3, epochs= 3, epochs =3
            value = rest.pop(0) if _has_value(rest) else None
            if value == "=" and rest:
                value = rest.pop(0)
            if value is None and word.startswith("-"):
                value = "true"
            if value is None:
                read.append(word)
                continue
        value = value.removeprefix("=")
        read.append(f"{setting}={value[:-1] if len(value) > 1 and value[-1] in ',;' else value}")
    return read


def _has_value(rest: list[str]) -> bool:
    """Whether the next word can be the value of a setting: it is not an option, and not a setting with its own value."""
    return bool(rest) and not rest[0].startswith("--") and (rest[0].startswith("=") or "=" not in rest[0])
