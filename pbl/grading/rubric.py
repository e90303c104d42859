"""How scores become points: an instructor's own Python file that ends in `rubric = Rubric(...)`.

from pbl.grading import Rubric
rubric = Rubric(bands=[(0.95, 100), (0.9, 80), (0.5, 50)], marks=["report", "talk"], deadline="2026-12-01T23:59+09:00", late_points_per_day=10)
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pbl.config import run_experiment_file, say_problem
from pbl.errors import InputError, Sentence, name_nearest

Share = Annotated[float, Field(ge=0, le=1)]


class Rubric(BaseModel):
    """Points, deadline, and what the instructor allows. Every field has a default: without a rubric there are no points.

    Raises:
        InputError: An unknown field (the nearest valid name is given), or a value of the wrong type or range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    bands: list[tuple[Share, float]] = Field(
        [], description="(least accuracy, points), such as [(0.95, 100), (0.9, 80)]; below all of them 0 points"
    )
    points: Callable[[dict[str, Any]], float] | None = Field(
        None, description="a function from a row of the table to points, in place of bands"
    )
    levels: list[tuple[Share, str]] = Field(
        [], description='(least accuracy, word), such as [(0.95, "理想的"), (0.85, "標準的"), (0, "未到達")]'
    )
    marks: list[str] = Field(
        [], description='what a person judges, such as ["report", "talk"]: columns of marks.csv, which you fill in'
    )
    deadline: datetime | None = Field(
        None, description="after it a submission is late; with its time zone, such as +09:00"
    )
    late_points_per_day: float = Field(0, ge=0, description="points taken off for each day begun after the deadline")
    ceiling: Share = Field(0.999, description="an accuracy above it is flagged: the hidden labels may be known")
    builders: dict[str, str] = Field(
        {}, description="SHA-256 of builder.py of a team, read by you, and a note of when and by whom"
    )

    def __init__(self, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError("{what}", what=_explain(error)) from None
        if self.bands and self.points:
            raise InputError("The rubric has both bands and points. Give one of them.")
        if len(set(self.marks) | {"team"}) <= len(self.marks) or not all(self.marks):
            raise InputError(
                "Rubric: marks needs names that differ from each other and from team, such as ['report', 'talk']."
            )

    def give_points(self, row: dict[str, Any]) -> float | None:
        """Returns the points of a graded row, None where the rubric gives none.

        Raises:
            InputError: The rubric's own function failed.
        """
        if self.points is not None:
            try:
                return round(float(self.points(dict(row))), 4)
            except Exception as error:
                raise InputError(
                    "The rubric's function points failed on {team}: {kind}: {error}.",
                    team=row["team"],
                    kind=type(error).__name__,
                    error=error,
                ) from error
        if not self.bands:
            return None
        return max((points for least, points in self.bands if row["accuracy"] >= least), default=0.0)

    def name_level(self, accuracy: float) -> str | None:
        """Returns the word of the highest level that an accuracy reaches, None where the rubric has none for it."""
        reached = [(least, word) for least, word in self.levels if accuracy >= least]
        return max(reached)[1] if reached else None

    def days_late(self, received: datetime | None) -> int:
        """Returns how many days after the deadline have begun; 0 where there is no deadline or no time."""
        if self.deadline is None or received is None:
            return 0
        deadline = self.deadline if self.deadline.tzinfo else self.deadline.astimezone()
        return max(0, -int(-((received - deadline).total_seconds()) // 86_400))


def _explain(error: ValidationError) -> Sentence:
    problem = error.errors()[0]
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        nearest = name_nearest(name, Rubric.model_fields)
        return Sentence("A rubric has no '{name}'. {nearest}", name=name, nearest=nearest)
    meaning = Sentence(Rubric.model_fields[name].description)
    return Sentence(
        "Rubric: {name}: {reason}. ({name}: {meaning}.)", name=name, reason=say_problem(problem), meaning=meaning
    )


def load_rubric(file: str | Path) -> Rubric:
    """Runs a rubric file, which is the instructor's own.

    Raises:
        InputError: It is absent, has an error (named with its line) or sets no `rubric`.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        raise InputError("No rubric {file}. It is a Python file that ends in rubric = Rubric(...).", file=file)
    rubric = getattr(run_experiment_file(file), "rubric", None)
    if not isinstance(rubric, Rubric):
        raise InputError(
            "{file} sets no `rubric`. End it with: rubric = Rubric(...), after `from pbl.grading import Rubric`.",
            file=file,
        )
    return rubric
