"""Measures the package's structure: lines by folder, files that a default run uses, import circles, code that grading locks in.

python tests/house.py [ROOT ...]    one column for each checkout; by default the one that contains this file
"""

import ast
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
SPINE = "config training/run training/fit data/pipeline models/resnet evaluation/run".split()
SPINE_BEFORE = "config training data/pipeline models/resnet evaluation runs".split()


def name_of(file: Path, package: Path = HERE / "pbl") -> str:
    """`data.split` for pbl/data/split.py, `data.__init__` for a folder's own file."""
    return ".".join(file.relative_to(package).with_suffix("").parts)


def read_imports(package: Path) -> dict[str, set[str]]:
    """The files of the package that each file imports, inside functions too; for a name of a folder, the folder's `__init__`."""
    files = {name_of(file, package): file for file in sorted(package.rglob("*.py"))}
    found = {}
    for name, file in files.items():
        names = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {(alias.name, None) for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {(node.module, alias.name) for alias in node.names}
        reached = set()
        for module, taken in names:
            if module.split(".")[0] != "pbl":
                continue
            inside = module.removeprefix("pbl").removeprefix(".")
            choices = [".".join(filter(None, (inside, taken))), inside]
            choices = [
                place for choice in choices for place in (choice, f"{choice}.__init__".removeprefix(".")) if place
            ]
            reached |= set(next(([place] for place in choices if place in files), []))
        found[name] = reached - {name}
    return found


def count_circles(needs: dict[str, set[str]]) -> int:
    """Groups of files that import each other in a circle."""
    reach = {}
    for name in needs:
        seen, new = set(), {name}
        while new:
            new = set().union(*(needs.get(place, set()) for place in new)) - seen
            seen |= new
        reach[name] = seen
    return len(
        {frozenset(other for other in seen if name in reach[other]) for name, seen in reach.items() if name in seen}
    )


def longest_function(package: Path) -> tuple[int, str]:
    functions = (
        (node.end_lineno - node.lineno + 1, f"{node.name} ({file.relative_to(package)})")
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
    return max(functions)


def read_locked(root: Path) -> tuple[int, int]:
    """Files and lines of the package that are loaded in the process of a stranger's submission."""
    program = (
        "import os, sys; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'\n"
        "from pbl.grading import server\n"
        "server.import_all()\n"
        "print(*[m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'pbl'], sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    files = set(done.stdout.split())
    return len(files), sum(map(count_lines, map(Path, files)))


def count_lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def measure(root: Path) -> dict[str, str]:
    package = root / "pbl"
    files = {name_of(file, package): file for file in sorted(package.rglob("*.py"))}
    lines = {name: count_lines(file) for name, file in files.items()}
    needs = read_imports(package)
    row: dict[str, str] = {}
    rooms: dict[str, int] = {}
    for name, count in lines.items():
        room = name.split(".")[0] + "/" if "." in name else "(files at the top)"
        rooms[room] = rooms.get(room, 0) + count
    row["lines of pbl/ (.py)"] = f"{sum(lines.values()):,}"
    row["lines of templates (.html)"] = f"{sum(map(count_lines, package.rglob('*.html'))):,}"
    row |= {f"- {room}": f"{count:,}" for room, count in sorted(rooms.items())}
    entries = [path for path in package.iterdir() if not path.name.startswith("__") and path.suffix in ("", ".py")]
    row["entries at the top, but __init__ and __main__"] = str(len(entries))
    start = "training.run" if "training.run" in needs else "training"
    seen, new = {start}, {start}
    while new:
        new = set().union(*(needs[name] for name in new)) - seen
        seen |= new
    row["reached by imports from training/run"] = f"{len(seen)} files, {sum(lines[name] for name in seen):,} lines"
    direct = {start, *needs[start]}
    row["imported by training/run itself"] = f"{len(direct) - 1} files"
    spine = [place.replace("/", ".") for place in (SPINE if start == "training.run" else SPINE_BEFORE)]
    row["the spine's six files"] = f"{sum(lines[name] for name in spine):,} lines"
    row["circles of files"] = str(count_circles(needs))
    row["loaded where a submission runs"] = "{} files, {:,} lines".format(*read_locked(root))
    row["longest function"] = "{} lines, {}".format(*longest_function(package))
    skips = sum(file.read_text(encoding="utf-8").count("# fmt: skip") for file in files.values())
    row["# fmt: skip"] = str(skips)
    tests = [ast.parse(file.read_text(encoding="utf-8")) for file in (root / "tests").glob("*.py")]
    nodes = [node for tree in tests for node in ast.walk(tree)]
    asserts = sum(isinstance(node, ast.Assert) for node in nodes)
    raises = sum(isinstance(node, ast.Attribute) and node.attr == "raises" for node in nodes)
    row["tests: assert statements, pytest.raises"] = f"{asserts:,}, {raises}"
    return row


def main() -> None:
    roots = [Path(root).resolve() for root in sys.argv[1:]] or [HERE]
    columns = [measure(root) for root in roots]
    print("| |", " | ".join(root.name for root in roots), "|")
    print("|---|" + "---:|" * len(roots))
    for name in dict.fromkeys(name for column in columns for name in column):
        print(f"| {name} |", " | ".join(column.get(name, "") for column in columns), "|")


if __name__ == "__main__":
    main()
