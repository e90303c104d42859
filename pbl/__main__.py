"""`python -m pbl`. What keeps it from starting at all is told in one line: this Python, a missing package, a file that hides one."""

import sys
from pathlib import Path

from pbl.errors import Sentence
from pbl.languages import say

OLDEST, NEWEST = (3, 11), (3, 13)
PACKAGES = set(
    "tensorflow keras numpy pandas matplotlib sklearn scipy typer rich pydantic PIL jinja2 h5py markupsafe".split()
)


def find_obstacle(folder: Path, version: tuple[int, int] = sys.version_info[:2]) -> str | None:
    """Returns why no command can run, or None.

    Args:
        folder: Where Python looks for modules first.
        version: That of this Python.
    """
    if version < OLDEST:
        written = ".".join(map(str, version))
        told = "Python {version} is too {what}: pbl and TensorFlow need 3.11, 3.12 or 3.13."
        return say(told, version=written, what=Sentence("old"))
    hidden = PACKAGES | set(sys.stdlib_module_names)
    for file in sorted(folder.glob("*.py")):
        if file.stem in hidden:
            told = (
                "{file} in this folder hides Python's module {name}, which pbl needs. Give your file another name, such as"
                " my_{name}.py."
            )
            return say(told, file=file.name, name=file.stem)
    return None


def say_missing(name: str, version: tuple[int, int] = sys.version_info[:2]) -> str:
    """Says that a package is not there; of a Python that TensorFlow does not know yet, that."""
    written = ".".join(map(str, version))
    if version > NEWEST:
        told = "Python {version} is too {what}: pbl and TensorFlow need 3.11, 3.12 or 3.13."
        return say(told, version=written, what=Sentence("new"))
    told = (
        "The package {name} is not installed for this Python ({version}, {program}). Run: {program} -m pip install -r"
        " requirements.txt"
    )
    return say(told, name=name, version=written, program=sys.executable)


def main() -> int:
    """Runs one command and returns its exit status."""
    here = Path.cwd()
    is_first = bool(sys.path) and Path(sys.path[0] or ".").resolve() == here.resolve()  # as with `python -m pbl`
    if (obstacle := find_obstacle(here) if is_first else None) is None:
        try:
            from pbl.cli import main as run

            return run()
        except ModuleNotFoundError as error:
            name = (error.name or "").partition(".")[0]
            if name not in PACKAGES:
                raise
            obstacle = say_missing(name)
    print(f"pbl: {obstacle}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
