"""What meets somebody who wants to change this: the version, the changelog, the guide, the forms and the workflow."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

import pbl

ROOT = Path(__file__).resolve().parent.parent
DOOR = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
GUIDE = (DOOR / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_version_stands_in_one_place():
    """`pbl.__version__`: a checkout that is not installed says it too, and the package takes it from there."""
    assert "version" not in PROJECT["project"] and "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "pbl.__version__"}
    said = subprocess.run(
        [sys.executable, "-m", "pbl", "--version"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    assert said == f"pbl {pbl.__version__}\n"


def test_the_changelog_has_the_form_of_keepachangelog():
    lines = (DOOR / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    versions = [line for line in lines if line.startswith("## ")]
    assert versions[0] == "## [Unreleased]"
    assert all(re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", line) for line in versions[1:])
    assert versions[1].startswith(f"## [{pbl.__version__}]")
    kinds = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_what_the_guide_names_is_there():
    files = re.findall(r"\]\((?!http)([^)]+)\)", GUIDE)
    files += [f"../{name}" for name in re.findall(r"(?:tests|pbl|experiments)/[\w/]+\.\w+", GUIDE)]
    missing = [name for name in files if not (DOOR / name).exists() and not re.search("NAME|XX", name)]
    assert not missing
    names = re.findall(r"`([A-Z_]{5,})` in `(pbl/[\w/]+\.py)`", GUIDE)
    assert len(names) > 5
    for name, file in names:
        assert re.search(rf"^{name}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), (name, file)
    tests = dict(re.findall(r"python -m pytest tests/(\w+\.py) -k (\w+)", GUIDE))
    for file, word in tests.items():
        assert word == "NAME" or f"def test_{word}" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_forms_of_issues_are_what_github_reads():
    """Each asks for something, and no two questions of a form have one name."""
    forms = {
        file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in (DOOR / "ISSUE_TEMPLATE").glob("*.yml")
    }
    assert set(forms) == {"bug", "config", "idea", "wrong_number"}
    del forms["config"]
    for form in forms.values():
        assert {"name", "description", "body"} <= set(form)
        questions = [part for part in form["body"] if part["type"] != "markdown"]
        assert len({part["id"] for part in questions}) == len(questions)
        assert all(part["attributes"]["label"] for part in questions)
        assert any(part.get("validations", {}).get("required") for part in questions)


def test_hooks_have_the_versions_of_the_dev_extra():
    """Each has one number everywhere: what a hook lays out, .ci/run must find laid out."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    needs = {need for repository in hooks for hook in repository["hooks"] for need in hook["additional_dependencies"]}
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", need) for need in needs)
    assert len({need.split("==")[0] for need in needs}) == len(needs)
    ruff = {need for need in needs if need.startswith("ruff==")}
    assert ruff == {need for need in PROJECT["project"]["optional-dependencies"]["dev"] if need.startswith("ruff")}


def test_the_workflow_runs_what_everybody_runs_and_may_write_nothing():
    flow = yaml.safe_load((DOOR / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert flow["permissions"] == {"contents": "read"} and "secrets" not in str(flow)
    when = flow[True]  # YAML 1.1 reads "on" as true
    assert {"push", "pull_request", "schedule"} <= set(when)
    (job,) = flow["jobs"].values()
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)
    assert "permissions" not in job and ".ci/run" in job["steps"][-1]["run"] and "nightly" in job["steps"][-1]["run"]
    pythons = next(step["with"]["python-version"] for step in job["steps"] if "python" in step.get("uses", "")).split()
    assert pythons == ["3.11", "3.13"]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    looked_for = re.findall(r"=\$\(find_python ([\d. ]+)\)", script)
    assert [of.split()[0] for of in looked_for] == pythons
