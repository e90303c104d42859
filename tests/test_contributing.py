"""What meets somebody who wants to change this: the version."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pbl

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_stands_in_one_place():
    """`pbl.__version__`: a checkout that is not installed says it too, and the package takes it from there."""
    assert "version" not in PROJECT["project"] and "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "pbl.__version__"}
    said = subprocess.run(
        [sys.executable, "-m", "pbl", "--version"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    assert said == f"pbl {pbl.__version__}\n"
