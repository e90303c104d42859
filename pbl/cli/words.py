"""Words as people type them, brought to the form that the commands take: `epochs = 3`, `--epochs 3`, full-width letters."""

import re
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path

# Commands whose words are settings; they have these of their own beside them.
WITH_SETTINGS = ("train", "find-rate", "check")
_DASHES = "‐‑‒–—―−－"  # what an editor or an input method makes of a hyphen
_RAW = {"positive_class", "groups", "experiment"}  # settings whose letters are compared with names: left as they are


def read_words(words: list[str], options: Mapping[str, Collection[str]]) -> list[str]:
    """Returns the words of a command line as the commands take them.

    Full-width letters, signs and blanks become plain ones (NFKC), and typographic dashes hyphens, but in a path that exists.
    Where a command takes settings, `epochs = 3`, `epochs 3`, `--epochs 3` and `--epochs=3` become `epochs=3`. `help train` is
    `train --help`.

    Args:
        words: What was typed after the program's name.
        options: Of each command the options that are its own, such as "--fresh".
    """
    words = [plain for word in words for plain in _make_plain(word)]
    if words[0] == "help":
        return [*words[1:2], "--help"]
    command = words[0]
    if command not in WITH_SETTINGS:
        return words
    from pbl.config import Config

    def is_setting(word: str) -> bool:
        return word.partition(".")[0] in Config.model_fields and not Path(word).exists()

    read = [command]
    rest = words[1:]
    while rest:
        word = rest.pop(0)
        name = word.lstrip("-").replace("-", "_")
        if (
            word.startswith("-")
            and word.partition("=")[0] not in options[command]
            and is_setting(name.partition("=")[0])
        ):
            word = name if "=" in name or _has_value(rest) else f"{name}=true"
        if is_setting(word.removesuffix("=")) and _has_value(rest):  # epochs 3, epochs = 3, epochs= 3, epochs =3
            value = rest.pop(0)
            if value == "=" and rest:
                value = rest.pop(0)
            word = f"{word.removesuffix('=')}={value.removeprefix('=')}"
        read.append(word)
    return read


def _has_value(rest: list[str]) -> bool:
    """Whether the next word can be the value of a setting: no option, and no setting with a value of its own."""
    return bool(rest) and not rest[0].startswith("--") and (rest[0].startswith("=") or "=" not in rest[0])


def _make_plain(word: str) -> list[str]:
    if word.isascii() or Path(word).exists():
        return [word]
    plain = re.sub(f"^[{_DASHES}]{{1,2}}(?=[A-Za-zＡ-ｚ])", "--", word)
    plain = re.sub(f"[{_DASHES}](?=[0-9０-９])", "-", plain)
    key, equals, value = plain.replace("＝", "=", 1).partition("=")
    key = unicodedata.normalize("NFKC", key)
    if equals and (key in _RAW or Path(value).exists()):
        return [f"{key}={value}"]
    if "\u3000" in plain and " " not in plain:  # the blank of a Japanese keyboard, at which a shell parts nothing
        return [piece for part in plain.split("\u3000") if part for piece in _make_plain(part)]
    return [key + equals + unicodedata.normalize("NFKC", value)]
