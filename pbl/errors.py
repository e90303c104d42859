"""Errors in what a person typed or passed, reported in one line."""

import difflib
from collections.abc import Iterable
from typing import Any, Self


class Sentence(str):
    """A filled sentence that remembers its template and fields, so that it can be translated.

    As a text it is the English sentence, which files and `--json` contain; `pbl.languages.say_sentence` returns it in the reader's language.

    Args:
        template: The sentence, with `{name}` fields.
        **fields: Their values; they may themselves be sentences or errors.
    """

    template: str
    fields: dict[str, Any]

    def __new__(cls, template: str, /, **fields: Any) -> Self:
        sentence = super().__new__(cls, _fill(template, fields))
        sentence.template, sentence.fields = template, fields
        return sentence

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:  # for copy and pickle
        return (self.template,), self.fields


def _fill(template: str, fields: dict[str, Any]) -> str:
    if "|" not in template:  # in a locked worker, which needs no forms of words
        return template.format(**fields)
    from pbl.languages.forms import fill_sentence

    return fill_sentence(template, fields)


def join_sentences(sentences: Iterable[str], separator: str = " ") -> Sentence:
    """Returns several sentences as one."""
    parts = {f"part{number}": sentence for number, sentence in enumerate(sentences)}
    return Sentence(separator.join(f"{{{name}}}" for name in parts), **parts)


class InputError(ValueError):
    """Wrong input: one line that names what is wrong, where, the valid choices and the next step.

    The command line prints it and ends with status 2. A bug of ours is any other exception and keeps its traceback.

    Args:
        template: The sentence, with `{name}` fields.
        **fields: Their values. They are kept separate from the sentence, so that it can be translated.
    """

    def __init__(self, template: str, **fields: Any):
        super().__init__(template)
        self.template, self.fields = template, fields

    def __str__(self) -> str:
        return " ".join(_fill(self.template, self.fields).split())

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook: the traceback, and below it the line in the reader's language."""
        from IPython import get_ipython

        from pbl.languages import choose_language, say_sentence

        shown = get_ipython().InteractiveTB.structured_traceback(type(self), self, self.__traceback__)
        return shown if (language := choose_language()) == "en" else [*shown, f"\n{say_sentence(self, language)}"]


def name_nearest(word: str, choices: Iterable[str]) -> Sentence:
    """Returns `Did you mean 'x'? Valid: a, b, c.`; the question only if one of `choices` is near the word, of very many very near.

    If several begin with the word, as resnet20 and resnet56 begin with resnet, the first in the order of `choices` is named.
    """
    choices, word = list(choices), str(word).lower()
    begun = [choice for choice in choices if word and choice.lower().startswith(word)]
    nearest = begun or difflib.get_close_matches(word, sorted(choices), n=1, cutoff=0.5 if len(choices) < 100 else 0.75)
    listed = ", ".join(sorted(choices))
    if nearest:
        return Sentence("Did you mean '{nearest}'? Valid: {choices}.", nearest=nearest[0], choices=listed)
    return Sentence("Valid: {choices}.", choices=listed)
