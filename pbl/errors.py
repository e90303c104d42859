"""What a person typed or handed over wrong, told in one line."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Wrong input: one line that names what is wrong, where, the valid choices and the next step.

    The command line prints it and ends with status 2; a bug of ours is any other exception and keeps its traceback.

    Args:
        template: The sentence, with `{name}` fields.
        **fields: Their values. They stay apart from the sentence, so that it can be shown in another language.
    """

    def __init__(self, template: str, **fields: object):
        super().__init__(template)
        self.template, self.fields = template, fields

    def __str__(self) -> str:
        return " ".join(self.template.format(**self.fields).split())


def name_nearest(word: str, choices: Iterable[str]) -> str:
    """Returns `Did you mean 'x'? Valid: a, b, c.`, the nearest of `choices` first named where one is near."""
    choices = sorted(choices)
    nearest = difflib.get_close_matches(str(word).lower(), choices, n=1, cutoff=0.5)
    return (f"Did you mean '{nearest[0]}'? " if nearest else "") + f"Valid: {', '.join(choices)}."
