"""The space of a search: for each setting the range, or the values, that trials are drawn from."""

import inspect
import itertools
import math
import re
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pbl import models
from pbl.comparison.entries import OF_IMAGES
from pbl.config import RENAMED, Augmentation, Config, apply_overrides, as_word, flatten
from pbl.errors import InputError, name_nearest
from pbl.training.optimization import build_optimizer

OWNERS = ("model", "optimizer", "learning_rate_schedule")  # if one of these changes, its options change too
# Not properties of the model that is searched for: with these, trials would use other images or another task, or would not differ.
NOT_SEARCHED = {*OF_IMAGES, *"experiment seed task data_dir data_check memory_budget leave_out distribute".split()}
DIGITS = 4  # significant digits of a drawn real number, such as 0.01234, in the run's settings and in every table


class Range(NamedTuple):
    """All numbers from `low` to `high`; uniform on a logarithmic scale with `is_log`, whole numbers with `is_whole`."""

    low: float
    high: float
    is_log: bool
    is_whole: bool

    def as_word(self, value: float) -> str:
        """Writes a value in the form that the settings take; a real number is rounded, and stays in the range."""
        if self.is_whole:
            return str(int(value))
        word = as_word(min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high))
        return word if re.search(r"[.e]", word) else f"{word}.0"  # Keras does not take 0 as a real number

    def __str__(self) -> str:
        ends = f"{as_word(self.low)}..{as_word(self.high)}"
        return f"log:{ends}" if self.is_log else ends


class Choice(NamedTuple):
    """One of some values, as words."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.words)


Space = dict[str, Range | Choice]


def parse_space(text: str, config: Config) -> Space:
    """Turns `"learning_rate=log:1e-3..0.3 model_options.dropout=0..0.5 optimizer=sgd,adamw"` into what is drawn for each setting.

    Args:
        text: One word for each setting: `key=low..high` for all numbers between, `key=log:low..high` for equally many in each order of
            magnitude, `key=a,b` for these values.
        config: The settings of the experiment: settings that the space does not name stay as they are there.

    Raises:
        InputError: A word does not have that form; a range is empty or of the wrong kind; a setting is unknown, named twice or cannot
            be searched; a value is out of its range; or two of them do not fit each other.

    Example:
        >>> from pbl import Config
        >>> from pbl.training.space import parse_space
        >>> parse_space("batch_size=log:16..256", Config())
        {'batch_size': Range(low=16, high=256, is_log=True, is_whole=True)}
    """
    space: Space = {}
    for word in text.split():
        key, equals, values = word.partition("=")
        if not (key and equals and values):
            told = "'{word}' is not of the form key=low..high, key=log:low..high or key=a,b, such as learning_rate=log:1e-3..0.3."
            raise InputError(told, word=word)
        if key in space:
            raise InputError("'{word}': {key} or one of its values is given twice.", word=word, key=key)
        if key in NOT_SEARCHED or (key not in config.decides() and key in Config.model_fields):
            told = "'{word}': {key} is not searched, because trials with different values could not be compared. Set it for all: {key}={now}"
            raise InputError(told, word=word, key=key, now=as_word(getattr(config, key)))
        space[key] = _parse_range(word, key, values, config) if ".." in values else _parse_choice(word, key, values)
    if not space:
        told = 'The search names no setting. Give one, for example: --search "learning_rate=log:1e-3..0.3".'
        raise InputError(told)
    _check_corners(space, config)
    return space


def describe_space(space: Space) -> str:
    """Writes a space in the form that `parse_space` reads, with its settings in alphabetical order: equal spaces give equal texts."""
    return " ".join(f"{key}={values}" for key, values in sorted(space.items()))


def count_settings(space: Space) -> float:
    """Returns the number of settings in the space; infinity if one of them is a real number."""
    sizes = [
        len(values.words)
        if isinstance(values, Choice)
        else values.high - values.low + 1
        if values.is_whole
        else math.inf
        for values in space.values()
    ]
    return math.prod(sizes)


def _parse_choice(word: str, key: str, values: str) -> Choice:
    found = re.split(r",(?![^\[(]*[\])])", values)  # not at commas inside brackets
    if values.startswith("log:") or not all(found):
        told = "'{word}' is not of the form key=low..high, key=log:low..high or key=a,b, such as learning_rate=log:1e-3..0.3."
        raise InputError(told, word=word)
    if len(set(found)) < len(found):
        raise InputError("'{word}': {key} or one of its values is given twice.", word=word, key=key)
    if len(found) < 2:
        told = (
            "'{word}' leaves nothing to search: {key} has one value. Give several, or set it outside the search: {word}"
        )
        raise InputError(told, word=word, key=key)
    return Choice(tuple(found))


def _parse_range(word: str, key: str, values: str, config: Config) -> Range:
    is_log = values.startswith("log:")
    ends = values.removeprefix("log:").split("..")
    try:
        low, high = map(float, ends)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError
    except ValueError:
        told = "'{word}': a range goes from one number to another, such as {key}=0.001..0.3."
        raise InputError(told, word=word, key=key) from None
    _check_names(key, config)
    kinds = _find_kinds(key, config)
    if kinds is not None and not kinds & {int, float}:
        told = "'{word}': {key} is not a number, so it has no range. Give its values: {key}=a,b"
        raise InputError(told, word=word, key=key)
    are_whole = all(re.fullmatch(r"[-+]?\d+", end) for end in ends)
    is_whole = are_whole if kinds is None else float not in kinds
    if is_whole and not (low.is_integer() and high.is_integer()):
        told = "'{word}': {key} is a whole number, so the ends of its range must be whole numbers too, such as {key}={low}..{high}."
        raise InputError(told, word=word, key=key, low=math.floor(low), high=math.ceil(high))
    if low >= high:
        told = "'{word}': the range is empty, since {low:g} is not below {high:g}. Write the lower number first."
        raise InputError(told, word=word, low=low, high=high)
    if is_log and low <= 0:
        told = (
            "'{word}': there is no logarithm of {low:g}: log: needs numbers above 0. Begin above 0, or leave log: out."
        )
        raise InputError(told, word=word, low=low)
    return Range(int(low), int(high), is_log, True) if is_whole else Range(low, high, is_log, False)


def _check_names(key: str, config: Config) -> None:
    """Raises InputError, with the nearest name, if there is no such setting, or the model has no such option."""
    owner, dot, _ = key.partition(".")
    if owner not in Config.model_fields or (dot and not isinstance(getattr(config, owner), dict)):
        hint = RENAMED.get(key) or name_nearest(key, Config.model_fields)
        raise InputError("There is no setting '{name}'. {hint}", name=key, hint=hint)


def _find_kinds(key: str, config: Config) -> set[type] | None:
    """The types that a setting may have; for an option the type of its default. None if they are not known."""
    owner, _, option = key.partition(".")
    if owner == "augmentation" and option in Augmentation.model_fields:
        return {Augmentation.model_fields[option].annotation}
    if owner == "model_options":
        default = models.options_of(models.find_builder(config.model)).get(option)
        default = config.model_options.get(option, default)
        return {type(default)} if isinstance(default, (bool, int, float, str, list, tuple)) else None
    return None if option else set(_take_apart(Config.model_fields[owner].annotation))


def _take_apart(kind: Any) -> list[Any]:
    """`int | Literal["auto"]` as `[int]`; a list or pair of numbers is not a number."""
    if get_origin(kind) in (Union, UnionType):
        return [part for one in get_args(kind) for part in _take_apart(one)]
    if get_origin(kind) is Annotated:
        return _take_apart(get_args(kind)[0])
    return [] if get_origin(kind) is Literal else [kind]


def _check_corners(space: Space, config: Config) -> None:
    """Raises InputError if an end of a range, or a value, is not one that the settings can have, alone or with the others."""
    for key, values in space.items():
        _check_names(key, config)
        ends = values.words if isinstance(values, Choice) else [values.as_word(end) for end in values[:2]]
        for end in ends:
            if "." not in key or not any(key.partition(".")[0] == f"{owner}_options" for owner in OWNERS):
                apply_overrides(config, [f"{key}={end}"])
    owned = [key for key in space if key in OWNERS and isinstance(space[key], Choice)]
    for chosen in itertools.product(*(space[key].words for key in owned)):
        for end in (0, -1):
            drawn = {
                key: values.words[end] if isinstance(values, Choice) else values.as_word(values[:2][end])
                for key, values in space.items()
            }
            corner = apply_settings(config, {**drawn, **dict(zip(owned, chosen, strict=True))})
            _check_model_options(corner)
            build_optimizer(corner, steps_per_epoch=1000)


def _check_model_options(config: Config) -> None:
    builder = models.find_builder(config.model)
    takes_any = any(one.kind == one.VAR_KEYWORD for one in inspect.signature(builder).parameters.values())
    valid = models.options_of(builder)
    for option in config.model_options:
        if option not in valid and not takes_any:
            told = "Model '{name}' has no option '{option}'. {nearest}"
            raise InputError(told, name=config.model, option=option, nearest=name_nearest(option, valid))


def apply_settings(config: Config, words: dict[str, str]) -> Config:
    """Returns the settings of a trial: those of the experiment with the values that were drawn."""
    return apply_overrides(config, [f"{key}={word}" for key, word in words.items()])


def name_same(config: Config, space: Space) -> dict[str, Any]:
    """Returns the settings that all trials of a study share: all but the drawn ones, by flat names."""
    flat = flatten(config.decides())
    owners = {key for key in space if key in OWNERS}
    options = {"model": "model_options", "optimizer": "optimizer_options", "learning_rate_schedule": "schedule_options"}
    gone = tuple(f"{options[owner]}." for owner in owners)
    return {
        key: value
        for key, value in flat.items()
        if key not in space and key not in owners and not key.startswith(gone or ("\0",))
    }
