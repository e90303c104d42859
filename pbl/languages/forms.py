"""Sentences with fields, and words whose form depends on a number: one image, two images."""

import re
from collections.abc import Callable, Mapping
from numbers import Real
from string import Formatter
from typing import Any


def format_share(value: float, spec: str = ".1%") -> str:
    """Writes a share in percent; with more digits where it would read as all or none and is not: .9996 is not 100.0%.

    Args:
        value: The share, 0 to 1 for a part of something.
        spec: As for `format`.

    Example:
        >>> from pbl.languages.forms import format_share
        >>> format_share(0.9996), format_share(1.0), format_share(0.996, ".0%")
        ('99.96%', '100.0%', '99.6%')
    """
    text, digits = format(value, spec), re.fullmatch(r"\.(\d)%", spec)
    if digits is None or not 0 < value < 1:
        return text
    for more in range(int(digits[1]), int(digits[1]) + 4):
        text = format(value, f".{more}%")
        if float(text[:-1]) not in (0, 100):
            break
    return text


class _Forms(Formatter):
    """Replaces `{n:image|images}` by the form that belongs to the number."""

    def __init__(self, choose_form: Callable[[int], int]):
        self.choose_form = choose_form

    def format_field(self, value: Any, spec: str) -> str:
        if spec.endswith("%") and isinstance(value, Real):
            return format_share(float(value), spec)
        if "|" not in spec:
            return super().format_field(value, spec)
        forms = spec.split("|")
        is_whole = isinstance(value, Real) and float(value).is_integer()
        number = int(value) if is_whole else 2  # a number that is not whole takes the plural
        return forms[min(int(self.choose_form(number)), len(forms) - 1)]


def fill_sentence(
    template: str, fields: Mapping[str, Any], choose_form: Callable[[int], int] = lambda number: number != 1
) -> str:
    """Fills a sentence.

    Args:
        template: With `{name}` fields, as `str.format` takes them, and forms of a word: `{n} {n:image has|images have} no mask`.
        fields: Their values.
        choose_form: Which form belongs to a number, from 0; the English rule unless given.
    """
    return _Forms(choose_form).vformat(template, (), fields)
