"""Models, settings and data sets for training: `check`, `datasets`, `models`, `settings`."""

import inspect
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from pbl.cli.options import AsJson, DataDir, NoCode, Trust, choose_code
from pbl.cli.screen import print_table, quiet_tensorflow
from pbl.config import find_name
from pbl.errors import InputError, Sentence, name_nearest
from pbl.languages import say, say_sentence
from pbl.storage.escapes import for_json, for_shell


def check(
    source: Annotated[
        str,
        Argument(
            metavar="SOURCE",
            help="A data set: a name, a folder, a .zip or an .npz; or a run, for its data and settings.",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        Argument(metavar="KEY=VALUE", help="Settings of the data, such as image_size=96 groups='(patient[0-9]+)'."),
    ] = None,
    out: Annotated[
        str | None,
        Option(metavar="DIR", help="Folder for data_check.json and the pictures; by default data_check/NAME."),
    ] = None,
    leave_out: Annotated[
        Path | None,
        Option(
            metavar="FILE", help="Write the names of the images to leave out, for leave_out=FILE. Nothing is deleted."
        ),
    ] = None,
    fast: Annotated[
        bool, Option("--fast", help="Only the checks that take seconds, as before every training.")
    ] = False,
    trust: Trust = False,
    no_code: NoCode = False,
    as_json: AsJson = False,
) -> int:
    """Look for faults in a data set: broken, copied, leaking, unbalanced, shifted or mislabelled images."""
    choose_code([source], trust, no_code)
    source, loaded = _load_data(source, settings or [], out)
    from pbl.data import doctor
    from pbl.models.slips import tell_slips
    from pbl.training.data_check import NAMES_OF_SEVERITIES

    splits = ("train", "val", "test")
    folder = Path(out) if out else Path("data_check") / (Path(source).resolve().stem or "data")
    try:
        folder.mkdir(parents=True, exist_ok=True)  # made before the work starts
    except OSError as error:
        raise InputError("{folder} cannot be made: {reason}.", folder=folder, reason=error.strerror) from None
    with tell_slips(folder):  # a data set's own function may read its images only now
        loaded.images("test")  # decoded now, so that its broken images are found
        findings = loaded.check(*splits, fast=fast)
    parts = loaded.parts(*splits)
    files = doctor.write_report(findings, parts, folder)
    left_out = doctor.write_leave_out(findings, leave_out) if leave_out else []
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in doctor.SEVERITIES}
    if as_json:
        print(for_json((folder / "data_check.json").read_text(encoding="utf-8")))
        return 1 if counts["stop"] else 0
    names = NAMES_OF_SEVERITIES
    rows = [
        (say_sentence(names[f.severity]), say(f.check.replace("_", " ")), say_sentence(f.message)) for f in findings
    ]
    print_table(["", say("check"), say("finding")], rows)
    images = say(", ").join(
        say("{n:,} {split}", n=len(part.labels), split=Sentence(split)) for split, part in parts.items()
    )
    told = "{source}: {images} images; {stop} stop, {act} act, {note} note. {files} {files:file|files} in {folder}"
    print(say(told, source=source, images=images, files=len(files), folder=folder, **counts))
    if leave_out:
        told = "{file} names {n} {n:image|images} to leave out: python -m pbl train ... {setting}"
        if not left_out:
            told = "No image certainly has to be left out, so {file} is empty. Write the names of the images that you want to leave out into it, as they are shown above, one a line; then: python -m pbl train ... {setting}"
        print(say(told, n=len(left_out), file=leave_out, setting=for_shell(f"leave_out={leave_out}")))
    return 1 if counts["stop"] else 0


def _load_data(source: str, settings: list[str], out: str | None):
    """Returns the name of the data set, or of the run's data if `source` is a run, and its `Data`."""
    from pbl.config import Config, load_experiment, parse_overrides

    values = parse_overrides(settings)
    if (Path(source) / "config.json").is_file():
        with quiet_tensorflow():
            config = load_experiment(source, [*settings, "on_bad_image=skip"])
        source = config.dataset
    else:
        config = Config(**{"dataset": source, "on_bad_image": "skip", **values})
    with quiet_tensorflow():
        from pbl import data
        from pbl.data.store import DifferentSizes
        from pbl.models.slips import tell_slips
        from pbl.tasks import find_task
    known = {*data.DATA_SETTINGS, "task", "task_options"}
    for name in values:
        if name not in known:
            valid = ", ".join(sorted(known))
            raise InputError("{name} is not a setting of the data. Valid: {valid}.", name=name, valid=valid)
    if out and Path(out).exists() and not Path(out).is_dir():
        raise InputError("--out {out} is a file. Give a folder.", out=out)
    task = find_task(config)
    options = {**{name: getattr(config, name) for name in data.DATA_SETTINGS}, **task.loads(task.options)}
    try:
        with tell_slips(Path(out or "data_check")):
            return source, data.load_data(source, **options)
    except DifferentSizes:
        told = "The images differ in size; they are checked at image_size=64. Give the size that you will train with."
        print(say(told), file=sys.stderr)
        options |= {"image_size": 64, "channels": options["channels"] or 3}
        return source, data.load_data(source, **options)


def models(
    name: Annotated[str | None, Argument(metavar="NAME", help="Show what this model's options mean.")] = None,
) -> int:
    """List the models, or describe one of them."""
    with quiet_tensorflow():
        from pbl.models import CARDS, find_builder

    if name is not None:
        builder = find_builder(name)
        print(f"{name}{inspect.signature(builder)}", end="\n\n")
        print(f"{inspect.getdoc(builder)}\n\n{inspect.getdoc(inspect.getmodule(builder))}")
        return 0
    rows = [
        (
            model,
            say("subclassed") if card.style == "subclassed" else card.style,
            str(card.year),
            f"{card.weights:,}",
            f"{card.macs:,}",
            "x".join(map(str, card.input_shape)),
            str(card.classes),
            str(card.smallest),
            say_sentence(card.paper),
        )
        for model, card in CARDS.items()
    ]
    header = ("model", "style", "year", "trainable weights", "MACs", "at", "classes", "smallest side", "paper")
    print_table([say(title) for title in header], rows)
    print(say("Describe one: python -m pbl models resnet20"))
    return 0


def datasets(data_dir: DataDir = None) -> int:
    """List the data sets."""
    with quiet_tensorflow():
        from pbl.data.catalogue import DATASETS, prepared_datasets
    rows = []
    for name, function in DATASETS.items():
        about = (function.__doc__ or "").strip().partition("\n")[0]
        rows.append((name, say(about) if function.__module__.startswith("pbl.") else about))
    folder, prepared = prepared_datasets(data_dir)
    rows += [(name, say("TensorFlow Datasets, prepared in {folder}", folder=folder)) for name in prepared]
    path = "a folder of class folders (with or without train/ val/ test/), a .zip of one, or an .npz of x_train, y_train, ..."
    other = "TensorFlow Datasets name: mnist, fashion_mnist, cifar10, cats_vs_dogs, ... (downloaded once): tensorflow.org/datasets/catalog"
    rows += [(say("a path"), say(path)), (say("any other"), say(other))]
    print_table([say("dataset"), say("what")], rows)
    return 0


def settings(
    name: Annotated[str | None, Argument(metavar="NAME", help="Show only this setting, such as learning_rate.")] = None,
) -> int:
    """List the settings of a training, with the default and the meaning of each."""
    from pbl.config import RENAMED, Config, as_word

    fields = Config.model_fields
    if name is not None:
        known = find_name(name.lstrip("-").partition(".")[0], fields)
        if known is None:
            hint = RENAMED.get(name) or name_nearest(name, fields)
            raise InputError("There is no setting '{name}'. {hint}", name=name, hint=hint)
        name = known
    rows = []
    for field, described in fields.items():
        if name in (None, field):
            default = described.get_default(call_default_factory=True)
            rows.append((field, as_word(default), say_sentence(Sentence(described.description))))
    print_table([say("setting"), say("default"), say("meaning")], rows)
    if name is None:
        print(say("Change one: python -m pbl train epochs=3 model_options.dropout=0.5"))
    return 0
