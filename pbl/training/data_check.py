"""What the data doctor reports before a training: the fast checks every time, the slow ones once for the same images."""

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pbl.config import Config
from pbl.data import Data
from pbl.data.doctor import CLOSE_CHECKS
from pbl.diagnosis.advice import read_findings
from pbl.errors import InputError, Sentence, join_sentences
from pbl.languages import say, say_sentence
from pbl.runs import runs_on
from pbl.storage.escapes import for_shell
from pbl.tasks import find_task

CHECKED = 1_000  # images of each split that the slow checks look at before a training
MANY = 5_000  # training images; with more of them these checks take seconds

NAMES_OF_SEVERITIES = {"stop": Sentence("stop"), "act": Sentence("act"), "note": Sentence("note")}


def check_data(
    data: Data, config: Config, folder: str | Path | None = None, images: int | None = None
) -> dict[str, Any]:
    """Checks the splits that training sees, and prints everything above a note.

    Args:
        data: The data. With `images` they are cut down to that many of each split, and the slow checks are left out.
        config: The settings.
        folder: Where runs are kept: an earlier run on the same images already has the findings of the slow checks.
        images: As for `pbl.train`.

    Returns:
        The content of `data_check.json`: the findings, and which slow checks were made.

    Raises:
        InputError: A fault would make the result wrong, and `data_check` is "stop".
    """
    findings = _check_fast(data, config)
    if images is not None:
        data.shrink(images)
        return {"close_checks": (), "findings": findings}
    return {"close_checks": CLOSE_CHECKS, "findings": findings + _check_closely(data, config, folder)}


def _check_fast(data: Data, config: Config) -> list[dict[str, Any]]:
    mutes = find_task(config).mutes
    findings = [finding for finding in data.check("train", "val", fast=True) if finding.check not in mutes]
    serious = [finding for finding in findings if finding.severity == "stop"]
    if config.on_bad_image == "skip":
        serious = [finding for finding in serious if finding.check != "broken"]
    if serious and config.data_check == "stop":
        raise InputError(
            "{faults} More: python -m pbl check {source}. To train anyway: data_check=report.",
            faults=join_sentences(finding.message for finding in serious),
            source=for_shell(config.dataset),
        )
    return _tell([asdict(finding) for finding in findings])


def _check_closely(data: Data, config: Config, folder: str | Path | None) -> list[dict[str, Any]]:
    wanted = set(CLOSE_CHECKS) - find_task(config).mutes
    for earlier in runs_on(data.images_hash, folder):
        with contextlib.suppress(InputError):
            if earlier.read_json("data_check.json").get("close_checks") == list(CLOSE_CHECKS):
                return _tell([finding for finding in read_findings(earlier) if finding["check"] in wanted])
    if len(data.images("train").labels) > MANY:
        print(say("Searching for altered copies, shift and wrong labels, once for these images."), flush=True)
    return _tell([asdict(finding) for finding in data.check_closely(CHECKED) if finding.check in wanted])


def _tell(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Prints everything above a note, in every run: what was found before the first run is also true for the others."""
    for finding in findings:
        if finding["severity"] != "note":
            print(f"{say_sentence(NAMES_OF_SEVERITIES[finding['severity']])}: {say_sentence(_sentence_of(finding))}")
    return findings


def _sentence_of(finding: dict[str, Any]) -> str | Sentence:
    """The same as `Finding.message`, from a file that keeps it as text and fields."""
    template, details = finding.get("template", ""), finding["details"]
    try:
        return Sentence(template, **details) if template else str(finding.get("message", ""))
    except (LookupError, ValueError, TypeError, AttributeError):  # a file may come from a stranger
        return str(finding.get("message", ""))
