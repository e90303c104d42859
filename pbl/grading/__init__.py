"""Grades a class's models with one command, on hidden images, without trusting a single file.

    holdout    makes the hidden set (`pbl.grading.holdout`)
    submit     writes and checks a team's submission (`pbl.grading.submission`)
    grade      one row for every team (`pbl.grading.grader`)

What runs where: the judge (`grader`, `judge`, `results`) has the labels and opens nothing from a team except names, bytes to copy, a
short JSON object and an array of known length. A team's files are opened by `worker` (with `archives`, `weights`,
`architecture`, `predictions`, `mask_files`, `fixtures`) alone, in a process that `sandbox` has locked down and `server` watches. `jobs` is
the agreement of both sides: what such a process receives, and what it leaves.
"""

from pbl import offer

__getattr__, __dir__, __all__ = offer(
    __name__,
    {
        "grader": "grade",
        "holdout": "make_holdout",
        "packing": "write_submission",
        "rubric": "Rubric",
        "sandbox": "Limits",
        "submission": "submit",
    },
)
