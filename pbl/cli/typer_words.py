"""Typer's messages about wrong words, for its versions from 0.20, rewritten as sentences of ours, which exist in other languages."""

import re

from pbl.errors import Sentence
from pbl.languages import say_sentence

_SAID = (
    (r"Missing (?:argument|parameter):? '?(?P<name>[^'.]+)'?\..*", "The argument {name} is missing."),
    (r"Missing option '(?P<name>[^']+)'\..*", "The option {name} is required."),
    (
        r"No such command '(?P<name>.*)'\. Did you mean (?P<near>.+)\?",
        "There is no command {name}. Did you mean {near}?",
    ),
    (r"No such command '(?P<name>.*)'\.", "There is no command {name}."),
    (
        r"No such option: (?P<name>\S+) (?:\(Possible options: |Did you mean )(?P<near>.+)[)?]",
        "There is no option {name}. Did you mean {near}?",
    ),
    (r"No such option: (?P<name>\S+)", "There is no option {name}."),
    (r"Option '(?P<name>.+)' requires an argument\.", "The option {name} needs a value."),
    (r"Option '(?P<name>.+)' requires (?P<n>\d+) arguments\.", "The option {name} needs {n} values."),
    (r"Option '(?P<name>.+)' does not take a value\.", "The option {name} takes no value."),
    (r"Got unexpected extra argument\(s\) \((?P<name>.*)\)", "There are too many arguments ({name})."),
    (r"Missing command\.", "Give a command."),
    (r"Invalid value for (?P<name>.+?): (?:Value error, )?(?P<reason>.+)", "The value of {name} is wrong: {reason}"),
    # The reason
    (r"'(?P<value>.*)' is not one of (?P<valid>.+?)\.?", "'{value}' is not valid. Valid: {valid}."),
    (r"'(?P<value>.*)' is not a valid (?:int(?:eger)?)(?: range)?\.", "'{value}' is not a whole number."),
    (r"'(?P<value>.*)' is not a valid float(?: range)?\.", "'{value}' is not a number."),
    (r"Input should be a valid integer.*", "Give a whole number."),
    (r"Input should be a valid number.*", "Give a number."),
    (r"Input should be greater than or equal to (?P<value>\S+)", "Give {value} or more."),
    (r"Input should be less than or equal to (?P<value>\S+)", "Give {value} or less."),
    (r"(?P<value>\S+) is not in the range (?P<valid>.+?)\.", "{value} is outside the range {valid}."),
)


def say_wrong_words(message: str) -> str:
    """Translates typer's message about wrong words into the reader's language; an unknown message is returned unchanged."""
    return say_sentence(_read(message))


def _read(message: str) -> str:
    for pattern, template in _SAID:
        if found := re.fullmatch(pattern, message, re.DOTALL):
            fields = found.groupdict()
            if "reason" in fields:
                fields["reason"] = _read(fields["reason"])
            return Sentence(template, **fields)
    return message
