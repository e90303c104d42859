"""A class's models judged by one command, on hidden images, without trusting a single file.

    holdout    makes the hidden set (`pbl.grading.holdout`)
    submit     writes and checks what a team hands in (`pbl.grading.submission`)
    grade      one row for every team (`pbl.grading.grader`)

What runs where: the judge (`grader`, `judge`, `results`) holds the labels and opens nothing of a team's but names, bytes to copy, a
short JSON object and an array of known length. A team's files are opened by `worker` (with `archives`, `weights`,
`architecture`, `predictions`, `fixtures`) alone, in a process that `sandbox` has locked up and `server` watches.
"""

import importlib

_HOME = {
    "Limits": "pbl.grading.sandbox",
    "Rubric": "pbl.grading.rubric",
    "grade": "pbl.grading.grader",
    "make_holdout": "pbl.grading.holdout",
    "submit": "pbl.grading.submission",
    "write_submission": "pbl.grading.submission",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pbl.grading' has no attribute '{name}'")
