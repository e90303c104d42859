"""One experiment's settings: one flat model, each field with its meaning, unit and range.

An experiment is a Python file that ends in `config = Config(...)`. The command line changes single fields by
`key=value`; the run keeps an exact copy in `config.json`.
"""

import ast
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from pbl.errors import InputError, Sentence, join_sentences, name_nearest
from pbl.storage.reading import UnreadableFile, read_json
from pbl.storage.trust import check_trusted, is_code_left_out

# Called with an experiment file before and after it is executed, for what one file changes and the next one must not inherit.
BEFORE_EXPERIMENT: list[Callable[[Path], None]] = []
AFTER_EXPERIMENT: list[Callable[[Path], None]] = []
DEFAULT_EXPERIMENT = Path(__file__).resolve().parent.parent / "experiments" / "digits_resnet20.py"


def _as_pair(value: object) -> object:
    if isinstance(value, str) and (sides := re.fullmatch(r"(\d+)\s*[xX×]\s*(\d+)", value)):
        return tuple(map(int, sides.groups()))
    return (value, value) if isinstance(value, int) else value


def _as_list(value: object) -> object:
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


def _as_json(value: object) -> object:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            Sentence("the values must be numbers, words, lists or dictionaries, so that config.json can store them")
        ) from error


def _as_augmentation(value: dict[str, Any]) -> dict[str, Any]:
    try:
        Augmentation(**value)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            nearest = name_nearest(name, Augmentation.model_fields)
            raise ValueError(Sentence("there is no '{name}'. {nearest}", name=name, nearest=nearest)) from None
        what = Sentence(Augmentation.model_fields[name].description or "")
        raise ValueError(
            Sentence(
                "{name}={value!r}: {reason} ({what})",
                name=name,
                value=problem["input"],
                reason=say_problem(problem),
                what=what,
            )
        ) from None
    return value


# A usual value of each kind of augmentation.
_EXAMPLES_OF_AUGMENTATION = {
    "flip": "true", "crop": 4, "rotation": 15, "zoom": 0.1, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "cutout": 16,
    "mixup": 0.2, "cutmix": 1,
}  # fmt: skip

Side = Annotated[int, Field(ge=1, le=4096)]
Options = Annotated[dict[str, Any], BeforeValidator(_as_json)]


class Augmentation(BaseModel):
    """What is done to training images, in this order. Each is off unless given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: bool = Field(False, description="mirror left and right, every second time")
    crop: int = Field(
        0,
        ge=0,
        le=512,
        description="pixels of black around the image before it is cropped at a random place; 4 in He et al. 2015, section 4.2",
    )
    rotation: float = Field(
        0,
        ge=0,
        le=180,
        description="rotate by up to this number of degrees in either direction; the new area is filled by mirroring",
    )
    zoom: float = Field(0, ge=0, lt=1, description="enlarge or shrink by up to this share")
    brightness: float = Field(0, ge=0, le=1, description="make lighter or darker by up to this share of 255")
    contrast: float = Field(0, ge=0, le=1, description="stretch around the mean of the image, by up to this share")
    saturation: float = Field(
        0, ge=0, le=1, description="stretch around the grey value of the pixel, by up to this share"
    )
    cutout: int = Field(
        0,
        ge=0,
        le=4096,
        description="side in pixels of a grey square at a random place; 16 for CIFAR-10 in DeVries and Taylor 2017",
    )
    mixup: float = Field(
        0,
        ge=0,
        le=10,
        description="alpha of the beta distribution of the share of another image mixed in (Zhang et al. 2018; 0.2)",
    )
    cutmix: float = Field(
        0,
        ge=0,
        le=10,
        description="alpha of the beta distribution of the area taken from another image (Yun et al. 2019; 1); with mixup too, one of the two is used each time",
    )

    @property
    def mixes_labels(self) -> bool:
        """Whether an image gets a share of another image's label: then labels must be one-hot."""
        return bool(self.mixup or self.cutmix)


class Config(BaseModel):
    """The settings of one run. Every field has a default.

    Raises:
        InputError: An unknown field (the nearest valid name is given), or a value of the wrong type or range.

    Example:
        >>> from pbl import Config
        >>> Config(model="mlp", epochs=10).learning_rate
        0.001
        >>> Config(modle="mlp")
        Traceback (most recent call last):
            ...
        pbl.errors.InputError: There is no setting 'modle'. Did you mean 'model'? ...
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False, protected_namespaces=())

    experiment: str = Field(
        "experiment",
        pattern=r"^[^/\\:.\-\x00-\x1f][^/\\:\x00-\x1f]*$",
        max_length=60,
        description="name of the folder below runs/; by default the name of the experiment file",
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="seed of initialisation, data order and dropout; 0 is a seed like any other"
    )

    dataset: str = Field(
        "digits",
        min_length=1,
        description="'digits', a TensorFlow Datasets name, a name in DATASETS, or the path of a folder of class folders, a .zip of one, or an .npz",
    )
    data_dir: str | None = Field(
        None, description="folder of prepared TensorFlow Datasets; by default TFDS_DATA_DIR, then their own default"
    )
    split_seed: int = Field(
        0, ge=0, description="seed of the split; kept apart from `seed`, so that runs of several seeds share one split"
    )
    validation_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the training images held out for validation; 0.15, or 0.10 if the test split is official",
    )
    train_fraction: float = Field(
        1,
        gt=0,
        le=1,
        description="share of the training images that is used, the same for each class; a smaller share is part of a larger one",
    )
    folds: int | None = Field(
        None,
        ge=2,
        le=100,
        description="cross-validation: the images outside test are divided into this number of folds, one of which is validation",
    )
    fold: int = Field(0, ge=0, description="which fold is validation, from 0")
    groups: str | None = Field(
        None,
        description="what stays on one side of the split: a pattern (a regular expression) such as '(patient[0-9]+)' groups images whose names contain the same word; look_alike: images that look alike; a .csv file with the columns name and group",
    )
    leave_out: str | None = Field(None, description="a text file with the names of images to leave out, one a line")
    on_bad_image: Literal["stop", "skip"] = Field(
        "stop",
        description="what to do with images that cannot be decoded: name them all and stop, or continue without them",
    )
    data_check: Literal["stop", "report"] = Field(
        "stop",
        description="what happens if a fault in the data would make the result wrong: the training does not begin, or the fault is only reported",
    )
    memory_budget: float = Field(
        4.0,
        gt=0,
        description="gigabytes of memory for the decoded images; if they need more, they are kept on the local disk",
    )
    image_size: Annotated[tuple[Side, Side] | None, BeforeValidator(_as_pair)] = Field(
        None, description="height and width in pixels, or one number for both; by default the size of the images"
    )
    channels: Literal[1, 3] | None = Field(None, description="1 for grey, 3 for colour; by default as in the images")
    fit: Literal["crop", "pad", "stretch"] = Field(
        "crop", description="how an image of another shape is fitted to image_size"
    )
    positive_class: str | None = Field(
        None,
        description="with two classes: the class whose precision, recall and F1 are shown first; by default the second class",
    )

    augmentation: Annotated[Options, AfterValidator(_as_augmentation)] = Field(
        {}, description="what is done to training images, such as augmentation.flip=true augmentation.crop=4"
    )
    class_weight: Literal["balanced"] | None = Field(
        None,
        description="'balanced': an image of a rare class has a larger weight in the training loss, so that all classes count equally",
    )
    sample_weights: str | None = Field(
        None,
        description="a CSV file with the columns name and weight: the weight of a training image in the loss; other images have weight 1",
    )

    task: str = Field(
        "classification",
        min_length=1,
        description="what the run learns, a name in TASKS; 'own': the model brings its own loss or training step",
    )
    task_options: Options = Field(
        {},
        description="options of the task, such as task_options.normal=good with task=anomaly, or task_options.monitor=val_loss with task=own",
    )
    model: str = Field("resnet20", min_length=1, description="a name in MODELS")
    model_options: Options = Field(
        {}, description="keyword arguments of the builder, such as model_options.dropout=0.5"
    )
    initial_weights: str | None = Field(
        None,
        description="folder of a run of the same model, or a .weights.h5, to start from; for other classes the last layer is new",
    )

    optimizer: str = Field("adam", min_length=1, description="any Keras optimizer's name")
    learning_rate: float = Field(
        1e-3, gt=0, description="learning rate of the optimizer; with a schedule, its highest value"
    )
    learning_rate_schedule: Literal["constant", "cosine", "step", "one_cycle", "inverse_time"] = Field(
        "constant",
        description="how the learning rate changes over all epochs; see the table in `pbl.training.optimization.build_schedule`",
    )
    schedule_options: Options = Field(
        {}, description="options of the schedule, such as schedule_options.at=[0.5,0.75] for 'step'"
    )
    warmup_epochs: float = Field(
        0, ge=0, description="epochs in which the learning rate rises from 0; with constant, cosine and step"
    )
    optimizer_options: Options = Field(
        {}, description="keyword arguments of the optimizer, such as optimizer_options.momentum=0.9"
    )
    weight_decay: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of the weights, times the learning rate, that each step subtracts from them (decoupled, Loshchilov and Hutter 2019); by default as in the optimizer",
    )
    decay_biases: bool = Field(
        True,
        description="whether weight decay also acts on biases and on the scales and shifts of normalisation, as in He et al. 2015",
    )
    loss: Literal["sparse_categorical_crossentropy", "categorical_crossentropy", "mean_squared_error"] = Field(
        "sparse_categorical_crossentropy",
        description="the second and third use one-hot labels, which the data then provide; mean squared error is for comparison",
    )
    label_smoothing: float = Field(
        0, ge=0, lt=1, description="share of the label that is spread over all classes; needs categorical_crossentropy"
    )
    batch_size: int = Field(64, ge=1, le=65_536, description="images per step")
    epochs: int = Field(30, ge=1, le=1_000_000, description="passes over the training images")
    fine_tune_epochs: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="epochs after `epochs` in which the last stages of a frozen backbone are trained too; for models with a backbone, such as efficientnet_transfer",
    )
    fine_tune_learning_rate: float = Field(1e-5, gt=0, description="learning rate in those epochs")
    unfreeze: int = Field(1, ge=1, description="how many stages of the backbone are trained, counted from the last one")
    callbacks: Annotated[list[str], BeforeValidator(_as_list)] = Field(
        [], description="names in CALLBACKS, in the order in which they run"
    )

    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "auto", description="number format of the computation; weights and probabilities are always float32"
    )
    jit_compile: bool | Literal["auto"] = Field(
        "auto",
        description="compile with XLA; auto: as Keras chooses, which is never on a CPU (there it halves the speed)",
    )
    steps_per_execution: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = Field(
        "auto", description="steps in one call of TensorFlow; auto: 8 if a step is very small, otherwise 1"
    )
    deterministic: bool = Field(
        False, description="on a GPU: the same seed gives the same bits, at some cost in speed; XLA is then off"
    )
    distribute: Literal["auto", "none"] = Field(
        "auto", description="auto: on a machine with several GPUs, each GPU takes its part of every batch"
    )
    checkpoint_minutes: float = Field(
        5,
        gt=0,
        description="the state of the training is saved at least once in this number of minutes, and an interrupted run resumes from there; it is saved more often, at the end of an epoch, if that costs no more than a twentieth of the time",
    )
    max_minutes: float | None = Field(
        None, gt=0, description="the training pauses after this number of minutes; the same command resumes it"
    )
    tensorboard: bool = Field(
        False,
        description="write curves, figures and settings to the run's folder tensorboard/, for TensorBoard; needs the package tensorboard",
    )

    _file: Path | None = PrivateAttr(None)

    @field_validator("*", mode="before")
    @classmethod
    def _take_no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic takes true for 1; as a word it is no number."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        kinds = {annotation, *get_args(annotation)}
        return str(value).lower() if isinstance(value, bool) and kinds & {int, float} and bool not in kinds else value

    def __init__(self, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError("{what}", what=_explain(error)) from None

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise InputError("{what}", what=_explain(error)) from None

    @property
    def file(self) -> Path | None:
        """The experiment file that the settings came from, or None."""
        return self._file

    @property
    def is_classifier(self) -> bool:
        """Whether the task is classification."""
        return self.task == "classification"

    def check_is_classifier(self, command: str) -> None:
        """Raises InputError if the settings are for a task other than classification, which a command cannot evaluate."""
        if not self.is_classifier:
            told = "{command} needs a classifier; the settings have task={task}."
            raise InputError(told, command=command, task=self.task)

    def decides(self) -> dict[str, Any]:
        """Returns the settings that the result depends on: all except those about saving, pausing and logging."""
        return self.model_dump(mode="json", exclude={"checkpoint_minutes", "max_minutes", "tensorboard"})

    def replace(self, **values: Any) -> "Config":
        """Returns a copy with other values, validated like the original ones."""
        copy = Config(**{**self.model_dump(), **values})
        copy._file = self._file
        return copy


# Names in Keras 1 and 2, and names of things that are not separate settings here.
RENAMED = {
    "lr": Sentence("It is called learning_rate."),
    "decay": Sentence("Now: learning_rate_schedule=inverse_time schedule_options.decay=5e-4."),
    "momentum": Sentence("It is an option of the optimizer: optimizer_options.momentum=0.9."),
    "nb_epoch": Sentence("It is called epochs."),
    "dropout": Sentence("It is an option of the model: model_options.dropout=0.5."),
    "early_stopping": Sentence("It is a callback: callbacks=early_stopping."),
    **{
        name: Sentence("It is an option of the augmentation: augmentation.{name}={value}.", name=name, value=value)
        for name, value in _EXAMPLES_OF_AUGMENTATION.items()
    },
}


def _explain(error: ValidationError) -> Sentence:
    problems = []
    for problem in error.errors():
        name, value = str(problem["loc"][0]), problem["input"]
        if problem["type"] == "extra_forbidden":
            hint = RENAMED.get(name) or name_nearest(name, Config.model_fields)
            problems.append(Sentence("There is no setting '{name}'. {hint}", name=name, hint=hint))
        else:
            meaning = Sentence(Config.model_fields[name].description or "")
            if isinstance(value, str) and re.fullmatch(r"\d+,\d+", value):
                point = value.replace(",", "." if problem["type"].startswith("float") else "")
                meaning = Sentence("{meaning}. Write {name}={value}", meaning=meaning, name=name, value=point)
            reason = say_problem(problem)
            if name == "image_size" and problem["type"] == "tuple_type":
                reason = Sentence("write a number, such as 64, or two, such as 64,96")
            problems.append(
                Sentence(
                    "{name}={value!r}: {reason}. ({name}: {meaning}.)",
                    name=name, value=value, reason=reason, meaning=meaning,
                )
            )  # fmt: skip
    return join_sentences(dict.fromkeys(problems))


# Pydantic's messages about values of settings, by its name for the fault, so that they can be translated.
_WRONG = {
    "greater_than": "input should be greater than {gt}",
    "greater_than_equal": "input should be greater than or equal to {ge}",
    "less_than": "input should be less than {lt}",
    "less_than_equal": "input should be less than or equal to {le}",
    "finite_number": "input should be a finite number",
    "int_type": "input should be a valid integer",
    "int_parsing": "input should be a valid integer, unable to parse string as an integer",
    "int_from_float": "input should be a valid integer, got a number with a fractional part",
    "float_type": "input should be a valid number",
    "float_parsing": "input should be a valid number, unable to parse string as a number",
    "bool_type": "input should be a valid boolean",
    "bool_parsing": "input should be a valid boolean, unable to interpret input",
    "string_type": "input should be a valid string",
    "string_too_short": "string should have at least {min_length} character",
    "string_too_long": "string should have at most {max_length} characters",
    "string_pattern_mismatch": "string should match pattern '{pattern}'",
    "dict_type": "input should be a valid dictionary",
    "list_type": "input should be a valid list",
    "tuple_type": "input should be a valid tuple",
    "too_long": "tuple should have at most {max_length} items after validation, not {actual_length}",
    "missing": "field required",
    "literal_error": "input should be {expected}",
    "callable_type": "input should be callable",
}


def say_problem(problem: Mapping[str, Any]) -> Sentence:
    """Returns pydantic's message about a wrong value, as a sentence with its fields.

    Args:
        problem: An entry of `ValidationError.errors()`.
    """
    details = dict(problem.get("ctx", {}))
    if isinstance(details.get("error"), ValueError):  # an error of ours
        own = details["error"] if isinstance(details["error"], InputError) else details["error"].args[0]
        return own if isinstance(own, Sentence) else Sentence("{what}", what=own)
    details = {name: int(n) if isinstance(n, float) and n.is_integer() else n for name, n in details.items()}
    if " or " in str(details.get("expected")):
        choices, _, last = details["expected"].rpartition(" or ")
        details["expected"] = Sentence("{choices} or {last}", choices=choices, last=last)
    if problem["type"] in _WRONG:
        return Sentence(_WRONG[problem["type"]], **details)
    return Sentence("{what}", what=problem["msg"][0].lower() + problem["msg"][1:])


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Turns `["epochs=3", "model_options.dropout=0.5"]` into `{"epochs": 3, "model_options": {"dropout": 0.5}}`.

    A value is read as Python reads it (3, 0.5, (32, 32), [512, 256]); true, false and none in upper or lower case; anything else as text.

    Raises:
        InputError: A word does not have the form key=value.
    """
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key, _, option = key.strip().partition(".")
        if not (key and equals):
            raise InputError("'{word}' is not of the form key=value, such as epochs=3.", word=word)
        value = _parse_value(text.strip(), is_text=key in _TEXT_FIELDS)
        if isinstance(value, tuple) and key in Config.model_fields and key not in _LIST_FIELDS:
            value = text.strip()  # 0,01 is not a tuple if one number is expected: the error shows what was typed
        if key in _CHOICES and isinstance(value, str):
            value = find_name(value, _CHOICES[key]) or value
        if option:
            inner = values.setdefault(key, {})
            if not isinstance(inner, dict):
                raise InputError(
                    "'{word}': {key} was already given as a whole. Give one of the two.", word=word, key=key
                )
            inner[option] = value
        elif isinstance(values.get(key), dict):
            raise InputError("'{word}': options of {key} were already given. Give one of the two.", word=word, key=key)
        else:
            values[key] = value
    return values


_LIST_FIELDS = {
    name for name, field in Config.model_fields.items() if re.search("tuple|list|dict", str(field.annotation))
}
_CHOICES = {
    name: [one for one in get_args(kind) if isinstance(one, str)]
    for name, field in Config.model_fields.items()
    for kind in (field.annotation, *get_args(field.annotation))
    if get_origin(kind) is Literal
}
_TEXT_FIELDS = {name for name, field in Config.model_fields.items() if field.annotation in (str, str | None)}


def _parse_value(text: str, is_text: bool) -> Any:
    named = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        return text if is_text else ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def find_name(word: str, choices: Iterable[str]) -> str | None:
    """Returns the one of `choices` that matches the word, ignoring case, hyphens, underscores and spaces; None if none or several match.

    Example:
        >>> from pbl.config import find_name
        >>> find_name("Early-Stopping", ["early_stopping", "csv"])
        'early_stopping'
    """
    choices = list(choices)
    if word in choices:
        return word
    found = {choice for choice in choices if _fold(choice) == _fold(word)}
    return found.pop() if len(found) == 1 else None


def _fold(word: str) -> str:
    return re.sub(r"[-_\s]", "", str(word)).lower()


def as_word(value: Any) -> str:
    """Writes the value of a setting in the form that `parse_overrides` reads: none, true, 0.001, [64, 32], adam."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings under the names of the command line: `{"model_options": {"dropout": 0.5}}` as `{"model_options.dropout": 0.5}`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= {f"{name}.{option}": of for option, of in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def load_experiment(file: str | Path, overrides: str | Sequence[str] = ()) -> Config:
    """Runs an experiment file and returns its `config`, with `overrides` applied.

    What the file adds to `MODELS`, `DATASETS`, `CALLBACKS`, `TASKS` and `RULES` is available afterwards.

    Args:
        file: A Python file that sets `config = Config(...)`; or the folder of a run, whose recorded settings are taken. The run's
            `experiment.py` is executed too, a stranger's only after a question.
        overrides: Words of the form `key=value` or `model_options.key=value`, or a single one. A `model`, `optimizer` or `learning_rate_schedule`
            other than the file's starts from its own default options. Another `dataset` starts without a `positive_class`, since its
            classes have other names.

    Raises:
        InputError: The file is missing, has an error (reported with its line) or sets no `config`; an override is wrong.

    Example:
        >>> import pbl
        >>> config = pbl.load_experiment("experiments/my_team.py", ["epochs=5", "model_options.filters=16"])
        >>> config.model, config.epochs, config.model_options
        ('my_cnn', 5, {'filters': 16})
    """
    file, overrides = Path(file), [overrides] if isinstance(overrides, str) else overrides
    if (file / "config.json").is_file():
        try:
            config = Config(**read_json(file / "config.json", file))
        except UnreadableFile as error:
            if not error.is_damaged:
                raise
            raise InputError(
                "{file} is damaged. Give another run, or an experiment file.", file=file / "config.json"
            ) from None
        except (ValueError, TypeError):
            raise InputError(
                "{file} is damaged. Give another run, or an experiment file.", file=file / "config.json"
            ) from None
        folder, file = file, file / "experiment.py"
        if not is_code_left_out():
            check_trusted(folder)
            run_experiment_file(file)  # for the models and data sets that it enters
        config._file = file
        return apply_overrides(config, overrides)
    if file.is_dir():
        inside = sorted(str(path.parent) for path in file.glob("*/config.json"))
        raise InputError(
            "{file} is a folder, but not the folder of a run. {runs}",
            file=file,
            runs=Sentence("Runs in it: {runs}.", runs=", ".join(inside[-8:]))
            if inside
            else Sentence("Give an experiment file, or a run."),
        )
    named = getattr(run_experiment_file(file), "config", None)
    if not isinstance(named, Config):
        raise InputError(
            "{file} does not set `config`. End it with: config = Config(...), after `from pbl import Config`.",
            file=file,
        )
    # `replace` at the end of a file sets all fields: then the name is the default's, which nobody gives.
    is_named = named.experiment != Config.model_fields["experiment"].default
    config = named if is_named else named.replace(experiment=file.stem)
    config._file = file
    return apply_overrides(config, overrides)


def apply_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Returns a copy with some settings changed.

    Args:
        config: The settings.
        overrides: Words, as for `load_experiment`.

    Raises:
        InputError: A setting is unknown, or its value out of range.
    """
    values = parse_overrides(overrides)
    if any(word.strip().startswith("augmentation.") for word in overrides) and values["augmentation"] is not None:
        values["augmentation"] = {**config.augmentation, **values["augmentation"]}
    for owner, options in (
        ("task", "task_options"),
        ("model", "model_options"),
        ("optimizer", "optimizer_options"),
        ("learning_rate_schedule", "schedule_options"),
    ):
        # Names are read whatever their case and hyphens: SGD is the sgd of the file.
        if owner in values and _fold(values[owner]) != _fold(getattr(config, owner)):
            values.setdefault(options, {})  # the former options belong to another model or optimizer
        elif isinstance(values.get(options), dict):
            values[options] = {**getattr(config, options), **values[options]}
    if values.get("dataset", config.dataset) != config.dataset:
        values.setdefault("positive_class", None)  # the former one is a class of the other data set
    return config.replace(**values)


def run_experiment_file(file: Path) -> ModuleType:
    """Runs a Python file as its own module and returns the module; nothing is written next to the file.

    Raises:
        InputError: The file is missing, cannot be read, or raises an error; reported with the file's line.
    """
    if not file.is_file():
        near = sorted(path.stem for path in DEFAULT_EXPERIMENT.parent.glob("*.py"))
        raise InputError("No experiment file {file}. {near}", file=file, near=name_nearest(file.stem, near))
    if file.suffix.lower() == ".ipynb":
        told = "{file} is a notebook: open it in Jupyter or Colab. An experiment file is a Python file, and its name ends in .py."
        raise InputError(told, file=file)
    module = ModuleType(f"experiment_{file.stem}")
    module.__file__ = str(file)
    # Here Keras and pickle look for the classes that the file defines.
    sys.modules[module.__name__] = module
    for before in BEFORE_EXPERIMENT:
        before(file)
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
    except SyntaxError as error:
        raise InputError(
            "{file}, line {line}: {error}.", file=error.filename or file, line=error.lineno, error=error.msg
        ) from None
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        inside_pbl = Path(frames[-1].filename).resolve().is_relative_to(Path(__file__).parent)
        if inside_pbl and not isinstance(error, InputError):
            raise
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(file)), 1)
        what = error if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError("{file}, line {line}: {what}", file=file, line=line, what=what) from error
    finally:
        for after in AFTER_EXPERIMENT:
            after(file)
    return module
