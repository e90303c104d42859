"""Sentences with fields, and words whose form depends on a number: one image, two images."""

from collections.abc import Callable, Mapping
from numbers import Real
from string import Formatter
from typing import Any


class _Forms(Formatter):
    """Replaces `{n:image|images}` by the form that belongs to the number."""

    def __init__(self, choose_form: Callable[[int], int]):
        self.choose_form = choose_form

    def format_field(self, value: Any, spec: str) -> str:
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
