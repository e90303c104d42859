"""How scores become points: an instructor's own Python file that ends in `rubric = Rubric(...)`.

from pbl.grading import Rubric
rubric = Rubric(bands=[(0.95, 100), (0.9, 80), (0.5, 50)], marks=["report", "talk"], deadline="2026-12-01T23:59+09:00",
    late_points_per_day=10, total={"points": 0.6, "report": 1, "talk": 1}, missing_points=0)
"""

import contextlib
import math
import unicodedata
from collections.abc import Callable
from datetime import date, datetime, time
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pbl.config import run_experiment_file, say_problem
from pbl.errors import InputError, Sentence, name_nearest
from pbl.grading.refusals import clean
from pbl.grading.tables import fold
from pbl.grading.times import count_days_late, read_time

Share = Annotated[float, Field(ge=0, le=1)]
Points = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# The columns of grades.csv; no mark may have such a name.
COLUMNS = (
    "team status accuracy accuracy_low accuracy_high macro_f1 log_loss roc_auc roc_auc_low roc_auc_high found found_low found_high"
    " false_alarms false_alarms_low false_alarms_high promise average_precision dice dice_low dice_high false_images map50 map50_low map50_high right_count right_count_low right_count_high map precision recall threshold points days_late late_points final_points level total tie_group"
    " flags parameters kind model isolation images reason".split()
)


class Rubric(BaseModel):
    """Points, deadline, and what the instructor allows. Every field has a default: without a rubric there are no points.

    Raises:
        InputError: An unknown field (the nearest valid name is given), or a value of the wrong type or range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    bands: list[tuple[Share, Points]] = Field(
        [],
        description="(least accuracy, points), such as [(0.95, 100), (0.9, 80)]; below all of them 0 points; for anomaly detection the least AUROC, for segmentation the least Dice, for detection the least mAP50",
    )
    points: Callable[[dict[str, Any]], float] | None = Field(
        None, description="a function from a row of the table to points, instead of bands"
    )
    levels: list[tuple[Share, str]] = Field(
        [], description='(least accuracy, word), such as [(0.95, "理想的"), (0.85, "標準的"), (0, "未到達")]'
    )
    marks: list[str] = Field(
        [], description='marks given by a person, such as ["report", "talk"]: columns of marks.csv, which you fill in'
    )
    total: dict[str, Points] = Field(
        {},
        description='the factor of points and of each mark in one final grade, such as {"points": 0.6, "report": 1}; empty: no final grade',
    )
    missing_points: Points | None = Field(
        None, description="points of a team that handed in nothing, such as 0; none by default"
    )
    deadline: datetime | None = Field(
        None,
        description="a submission after it is late; a day alone means its end; times without a zone are in the zone of the deadline",
    )
    late_points_per_day: Points = Field(
        0, description="points subtracted for each day, even if incomplete, after the deadline"
    )
    ceiling: Share = Field(
        0.999,
        description="a result (accuracy, AUROC, Dice or mAP50) above it is flagged: the hidden labels may be known",
    )
    builders: dict[str, str] = Field(
        {}, description="SHA-256 of the builder.py of a team that you have read, and a note of when and who"
    )

    @field_validator("deadline", mode="before")
    @classmethod
    def _read_deadline(cls, value: Any) -> Any:
        """Reads it like the roster's times; pydantic would read 20261201 as seconds since 1970, and then everybody would be late."""
        if value is None or isinstance(value, datetime):
            return value
        if isinstance(value, date):
            return datetime.combine(value, time.max)
        with contextlib.suppress(ValueError):
            if isinstance(value, str):
                return read_time(value, time.max)
        raise ValueError(Sentence("it cannot be read or is ambiguous; write 2026-12-01T23:59+09:00"))

    def __init__(self, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError("{what}", what=_explain(error)) from None
        if self.bands and self.points:
            raise InputError("The rubric has both bands and points. Give one of them.")
        for place, mark in enumerate(self.marks):
            taken = {*COLUMNS, *map(fold, self.marks[:place]), "チーム", "班", ""}
            if fold(mark) in taken or fold(mark).startswith(("recall(", "dice_of(", "ap50(")):
                raise InputError(
                    "Rubric: the mark '{mark}' has the name of another mark, or of a column of grades.csv ({columns}). Give it another name.",
                    mark=mark,
                    columns=", ".join(COLUMNS),
                )
        unknown = sorted(self.total.keys() - {"points", *self.marks})
        if unknown:
            raise InputError(
                "Rubric: total names {name}. Valid are points and your marks: {marks}.",
                name=unknown[0],
                marks=", ".join(self.marks) or "-",
            )

        ordered = sorted(self.bands)
        for (least, points), (more, fewer) in pairwise(ordered):
            if fewer < points:
                raise InputError(
                    "Rubric: bands give {points:g} points from {least:g} on, but fewer from {more:g} on ({fewer:g}). A better result must not get fewer points: correct the numbers.",
                    points=points,
                    least=least,
                    more=more,
                    fewer=fewer,
                )
        if "points" in self.total and not self.bands and self.points is None:
            raise InputError(
                "Rubric: total counts points, but there are none. Give bands or points, or remove points from total."
            )
        if self.late_points_per_day and self.deadline is None:
            raise InputError(
                "Rubric: late_points_per_day has no deadline to count from. Give one: deadline='2026-12-01T23:59+09:00'."
            )

    def give_points(self, row: dict[str, Any], headline: str = "accuracy") -> float | None:
        """Returns the points of a graded row, or None if the rubric gives none.

        Args:
            row: The row.
            headline: The measure for the bands: "accuracy", in anomaly detection "roc_auc", in segmentation "dice", in detection "map50".

        Raises:
            InputError: The rubric's own function failed.
        """
        if self.points is not None:
            try:
                points = round(float(self.points(dict(row))), 4)
            except Exception as error:
                raise InputError(
                    "The rubric's function points failed on {team}: {kind}: {error}.",
                    team=row["team"],
                    kind=type(error).__name__,
                    error=error,
                ) from error
            if not 0 <= points < math.inf:
                raise InputError(
                    "The rubric's function points gave {points} for {team}. Points must be numbers, 0 or more.",
                    points=points,
                    team=row["team"],
                )
            return points
        if not self.bands:
            return None
        return max((points for least, points in self.bands if row[headline] >= least), default=0.0)

    def name_level(self, accuracy: float) -> str | None:
        """Returns the name of the highest level that an accuracy, area under the ROC curve or Dice reaches, or None if the rubric has none for it."""
        reached = [(least, word) for least, word in self.levels if accuracy >= least]
        return max(reached)[1] if reached else None

    def days_late(self, received: datetime | None) -> int:
        """Returns how many days after the deadline have begun (see `pbl.grading.times`); 0 if there is no deadline or no time.

        Raises:
            InputError: The time has a zone and the deadline has none.
        """
        if self.deadline is None or received is None:
            return 0
        try:
            return count_days_late(received, self.deadline)
        except ValueError:
            raise InputError(
                "The roster's times have a zone, but the rubric's deadline {deadline} has none. Add a zone to it, such as +09:00.",
                deadline=self.deadline.isoformat(),
            ) from None

    def add_up(self, team: str, points: float | None, marks: dict[str, str]) -> float | None:
        """Returns the final grade: points and marks, each multiplied by its weight in `total`; None if one of them is still missing.

        Args:
            team: The team's name, for the error message.
            points: The points of the submission, minus the deduction for lateness.
            marks: What a person filled in.

        Raises:
            InputError: A mark that counts is not a number.
        """
        if not self.total:
            return None
        total = 0.0
        for name, weight in self.total.items():
            value = points if name == "points" else self._read_mark(team, name, marks.get(name, ""))
            if value is None:
                return None
            total += weight * value
        return round(total, 4)

    def find_missing(self, marks: dict[str, str]) -> list[str]:
        """Returns the marks that `total` counts and nobody has filled in yet."""
        return [name for name in self.total if name != "points" and not marks.get(name, "")]

    def _read_mark(self, team: str, name: str, cell: str) -> float | None:
        if not cell:
            return None
        with contextlib.suppress(ValueError):
            value = float(unicodedata.normalize("NFKC", cell))
            if math.isfinite(value):
                return value
        raise InputError(
            "marks.csv: the mark {name} of {team} is '{cell}', and total needs a number. Write one, or remove {name} from total.",
            name=name,
            team=team,
            cell=clean(cell, 40),
        )


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
    if file.suffix.lower() != ".py":
        raise InputError(
            "--rubric {file}: this is not a rubric. A rubric is a Python file (.py) that ends in rubric = Rubric(...).",
            file=file,
        )
    rubric = getattr(run_experiment_file(file), "rubric", None)
    if not isinstance(rubric, Rubric):
        raise InputError(
            "{file} does not set `rubric`. End it with: rubric = Rubric(...), after `from pbl.grading import Rubric`.",
            file=file,
        )
    return rubric
