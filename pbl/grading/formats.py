"""The parts of a submission, recognised by its files' names and by `submission.json`. Plain Python: the judge may use it."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pbl.grading.refusals import Refusal, clean

FORMAT = 1  # version of submission.json
JSON_LIMIT, BOXES_LIMIT = 64 * 1024, 64 * 1024**2  # bytes of submission.json, of boxes.json
MOST_FIXTURES = 16  # images in fixtures.npz

# Names under which the grader keeps the files, whatever their names from a team or a platform.
DESCRIPTION, WEIGHTS, FIXTURES = "submission.json", "model.weights.h5", "fixtures.npz"
KERAS, PREDICTIONS, BUILDER, ARCHIVE = "model.keras", "predictions.csv", "builder.py", "submission.zip"
BOXES = "boxes.json"
ROLES = (DESCRIPTION, WEIGHTS, FIXTURES, KERAS, PREDICTIONS, BUILDER, BOXES)
PICTURE = re.compile(r"([_-]mask)?\.(png|jpe?g|bmp|gif|webp|tiff?)$", re.IGNORECASE)  # how a mask's name ends

# Files that can run a program when they are opened.
_PROGRAMS = {
    ".h5": "a legacy Keras model", ".hdf5": "a legacy Keras model", ".pb": "a SavedModel", ".pkl": "a pickle",
    ".pickle": "a pickle", ".joblib": "a pickle", ".dill": "a pickle", ".pt": "a pickle of PyTorch", ".pth": "a pickle of PyTorch",
    ".npy": "a file of arrays", ".ckpt": "a checkpoint", ".index": "a checkpoint", ".so": "a program", ".exe": "a program",
}  # fmt: skip


class Parts(NamedTuple):
    """The role of each file.

    Attributes:
        kind: "weights", "keras", "predictions", "masks", "boxes" or "archive".
        roles: The team's name of each file, by the grader's name.
    """

    kind: str
    roles: dict[str, str]


def is_noise(name: str) -> bool:
    """Whether a file is one that macOS and Windows leave behind."""
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini") for part in name.split("/"))


def plain(name: str) -> str:
    """A file's name without the "(1)" or Canvas's "-1" of a repeated submission."""
    return re.sub(r"(?:[ _]?\(\d+\)|-\d+)(?=\.[A-Za-z0-9.]+$)", "", name).lower()


def role_of(name: str) -> str | None:
    """Returns the role that a file's own name gives it, or None; a platform's prefix, and a "(1)" or Canvas's "-1" of a
    repeated submission, do not matter."""
    called = plain(name.rsplit("/", 1)[-1])
    if called.endswith(".weights.h5"):
        return WEIGHTS
    if called.endswith(".keras"):
        return KERAS
    for role in (DESCRIPTION, FIXTURES, PREDICTIONS, BUILDER, BOXES):
        if called == role or called.endswith(("_" + role, " " + role, "-" + role)):
            return role
    return ARCHIVE if called.endswith(".zip") else None


def choose_parts(names: Iterable[str], in_archive: bool = False) -> Parts:
    """Finds out what kind of submission a set of files is.

    Args:
        names: Paths of the files below the submission's folder, with `/`.
        in_archive: Whether they are the files of a zip, which may contain masks; loose masks are not a submission.

    Raises:
        Refusal: There is no submission, or several at once, or one that is never opened.
    """
    names = sorted(name for name in names if not is_noise(name))
    if not names:
        raise Refusal("nothing")
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(role_of(name) or "", []).append(name)
    kinds = {"weights": WEIGHTS, "keras": KERAS, "predictions": PREDICTIONS, "boxes": BOXES}
    present = [kind for kind, role in kinds.items() if role in found]
    for ending, kind in ((".csv", "predictions"), (".json", "boxes")):
        if len(names) == 1 and "" in found and names[0].lower().endswith(ending):
            return Parts(kind, {kinds[kind]: names[0]})
    if not present and ARCHIVE in found:
        if len(found[ARCHIVE]) > 1:
            raise Refusal("two_files", names=_list(found[ARCHIVE]))
        return Parts("archive", {ARCHIVE: found[ARCHIVE][0]})
    if not present and in_archive and any(map(PICTURE.search, names)):
        present = ["masks"]
    if not present:
        for name in names:
            for suffix, kind in _PROGRAMS.items():
                if name.lower().endswith(suffix):
                    raise Refusal("program", name=clean(name), kind=kind)
        raise Refusal("no_submission", names=_list(names))
    beside = [] if in_archive else found.get(ARCHIVE, [])[:1]  # a file next to a zip: which of the two is meant?
    if len(present) > 1 or beside:
        raise Refusal("two_kinds", names=_list([*(found[kinds[kind]][0] for kind in present), *beside]))
    kind = present[0]
    wanted = {
        "weights": (WEIGHTS, DESCRIPTION, FIXTURES, BUILDER),
        "keras": (KERAS, DESCRIPTION, FIXTURES),
        "predictions": (PREDICTIONS, DESCRIPTION),
        "masks": (DESCRIPTION,),
        "boxes": (BOXES, DESCRIPTION),
    }[kind]
    roles = {}
    for role in wanted:
        if len(found.get(role, [])) > 1:
            raise Refusal("two_files", names=_list(found[role]))
        if role in found:
            roles[role] = found[role][0]
    if kind == "weights" and DESCRIPTION not in roles:
        raise Refusal("no_field", name=DESCRIPTION, what="the file is missing")
    return Parts(kind, roles)


def _list(names: Iterable[str]) -> str:
    names = [clean(name, 40) for name in names]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def parse_json(content: bytes, name: str, limit: int = JSON_LIMIT, depth: int = 40) -> dict[str, Any]:
    """Reads a stranger's JSON: an object without NaN, limited in size and depth.

    Raises:
        Refusal: It is anything else.
    """
    if len(content) > limit:
        raise Refusal("json_large", file=name, limit=limit // 1024)
    if not content:
        raise Refusal("empty_file", file=name)
    level = 0
    for sign in re.finditer(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', content, flags=re.DOTALL):  # strings are skipped
        level += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(sign[0], 0)
        if level > depth:
            raise Refusal("json_large", file=name, limit=limit // 1024)

    def refuse(word: str) -> None:
        raise ValueError(word)

    def take(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            raise Refusal("key_twice", file=name, name=clean(Counter(key for key, _ in pairs).most_common(1)[0][0]))
        return value

    try:
        value = json.loads(content.decode("utf-8-sig"), parse_constant=refuse, object_pairs_hook=take)
    except (ValueError, RecursionError):
        raise Refusal("no_json", file=name) from None
    if not isinstance(value, dict):
        raise Refusal("no_json", file=name)
    return value


@dataclass(frozen=True)
class Description:
    """`submission.json`, checked.

    Attributes:
        team: The team that it names.
        model: Name of the builder, or None for a `.keras` file or predictions.
        options: The builder's options.
        input_shape: (height, width, channels), or None.
        fit: How images are brought to that shape.
        class_names: The classes in the order of the model's outputs, or None.
        files: SHA-256 of each file, as far as it is given.
    """

    team: str = ""
    model: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    input_shape: tuple[int, int, int] | None = None
    fit: str = "crop"
    class_names: tuple[str, ...] | None = None
    files: dict[str, str] = field(default_factory=dict)


def read_description(content: bytes, kind: str, most_pixels: int) -> Description:
    """Reads and checks `submission.json`.

    Args:
        content: The file's bytes.
        kind: See `Parts`.
        most_pixels: Longest side of an image.

    Raises:
        Refusal: It is damaged, incomplete, or asks for something out of bounds.
    """
    given = parse_json(content, DESCRIPTION)

    def need(name: str, holds: bool, what: str) -> None:
        if not holds:
            raise Refusal("no_field", name=name, what=what)

    need("format", given.get("format") == FORMAT and type(given["format"]) is int, f"format must be {FORMAT}")
    need("kind", given.get("kind") in (kind, None), "it names another kind than the files")
    model, options = given.get("model"), given.get("model_options", {})
    if kind == "weights":
        need("model", isinstance(model, str) and 0 < len(model) <= 100, "the name of a registered model")
        need("model_options", isinstance(options, dict), "an object")
        check_options(options)
        need("input_shape", "input_shape" in given, "three whole numbers")
        need("class_names", "class_names" in given, "a list of words")
    else:
        model, options = None, {}
    shape = given.get("input_shape")
    if shape is not None:
        need("input_shape", isinstance(shape, list), "three whole numbers")
        shape = check_shape(shape, most_pixels)
    fit = given.get("fit", "crop")
    need("fit", fit in ("crop", "pad", "stretch"), "crop, pad or stretch")
    names = given.get("class_names")
    if names is not None:
        is_list = isinstance(names, list) and (1 if kind == "boxes" else 2) <= len(names) <= 10_000
        need(
            "class_names",
            is_list and all(isinstance(name, str) and 0 < len(name) <= 200 for name in names),
            "a list of words",
        )
        need("class_names", len(set(names)) == len(names), "each class once")
    files = given.get("files", {})
    need(
        "files", isinstance(files, dict) and all(isinstance(value, str) for value in files.values()), "names and hashes"
    )
    return Description(str(given.get("team", "")), model, options, shape, fit, tuple(names) if names else None, files)


def check_shape(shape: Any, most_pixels: int) -> tuple[int, int, int]:
    """Returns (height, width, channels); raises Refusal if it is not a shape, or out of bounds."""
    is_shape = isinstance(shape, (list, tuple)) and len(shape) == 3 and all(type(side) is int for side in shape)
    if not is_shape or min(shape) < 1 or shape[2] not in (1, 3):
        raise Refusal("input_shape", shape=clean(shape))
    if max(shape) > most_pixels:
        raise Refusal("image_side", shape=clean(shape), limit=most_pixels)
    return tuple(shape)


def check_options(options: Any, name: str = "model_options", depth: int = 0) -> None:
    """Raises Refusal unless a builder's options are simple: few, with small numbers and short words."""
    if depth > 4:
        raise Refusal("option_value", name=clean(name), what="it is nested too deeply")
    if isinstance(options, Mapping):
        if len(options) > 40:
            raise Refusal("option_value", name=clean(name), what="more than 40 entries")
        for key, value in options.items():
            check_options(value, f"{name}.{key}", depth + 1)
    elif isinstance(options, list):
        if len(options) > 64:
            raise Refusal("option_value", name=clean(name), what="more than 64 entries")
        for value in options:
            check_options(value, name, depth + 1)
    elif isinstance(options, str):
        if not re.fullmatch(r"[A-Za-z0-9_ .,+-]{0,60}", options):
            raise Refusal("option_value", name=clean(name), what="a word holds other signs than letters, digits and _")
    elif isinstance(options, (int, float)) and not isinstance(options, bool) and abs(options) > 4096:
        raise Refusal("option_value", name=clean(name), what="a number is beyond 4096")
