"""When something was handed in, as platforms and spreadsheets write it; and how late that is."""

import contextlib
import re
import unicodedata
from datetime import UTC, date, datetime, time, timedelta, timezone

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_ZONES = {"JST": "+0900", "UTC": "+0000", "GMT": "+0000", "Z": "+0000"}
_DATES = (
    r"(?P<year>\d{4})\s*[-/.年]\s*(?P<month>\d{1,2})\s*[-/.月]\s*(?P<day>\d{1,2})\s*日?\s*(?:\(?[月火水木金土日](?:曜日?)?\)?)?",
    r"(?:[a-z]{3,9},?\s+)?(?P<day>\d{1,2})[-\s]+(?P<month>[a-z]{3,9})[-\s]+(?P<year>\d{4})",
    r"(?:[a-z]{3,9},?\s+)?(?P<month>[a-z]{3,9})\s+(?P<day>\d{1,2}),?\s+(?P<year>\d{4})",
)
_CLOCK = (
    r"(?P<before>午前|午後|AM|PM)?\s*(?P<hour>\d{1,2})\s*[:時]\s*(?P<minute>\d{1,2})(?:\s*[:分]\s*(?P<second>\d{1,2})\s*秒?|\s*分)?"
    r"\s*(?P<after>AM|PM)?\s*(?P<zone>JST|UTC|GMT|Z|[-+]\d\d:?\d\d)?"
)
_FORMS = [re.compile(rf"{day},?\s*(?:at\s*)?(?:{_CLOCK})?", re.IGNORECASE) for day in _DATES]


def read_time(text: str, of_day: time = time.min) -> datetime:
    """Reads a time.

    Args:
        text: ISO 8601; the year first (`2026/12/1 23:59`, `2026年 12月 1日(火曜日) 午後 11:59`); or with the month's English name, as
            Moodle writes it (`Tuesday, 1 December 2026, 11:59 PM`). A zone is `+0900`, `JST`, `UTC` or `GMT`.
        of_day: The time for a day without a time; by default its beginning.

    Returns:
        The time; with a zone only if the text names one.

    Raises:
        ValueError: It is not a time, or has two readings: `1/2/2026` is a day of January or of February.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    with contextlib.suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), of_day)
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(text)
    match = next(filter(None, (form.fullmatch(text) for form in _FORMS)), None)
    if not match:
        raise ValueError(text)
    month = match["month"]
    number = int(month) if month.isdecimal() else _MONTHS.index(month[:3].lower()) + 1
    day = date(int(match["year"]), number, int(match["day"]))
    if match["hour"] is None:
        return datetime.combine(day, of_day)
    clock = time(_hour(match), int(match["minute"]), int(match["second"] or 0), tzinfo=_zone(match["zone"]))
    return datetime.combine(day, clock)


def _hour(match: re.Match) -> int:
    hour, half = int(match["hour"]), (match["before"] or match["after"] or "").upper()
    if half and hour > 12:
        raise ValueError(match[0])
    return hour % 12 + 12 * (half in ("午後", "PM")) if half else hour


def _zone(text: str | None) -> timezone | None:
    return datetime.strptime(_ZONES.get(text.upper(), text), "%z").tzinfo if text else None


def count_days_late(received: datetime, deadline: datetime) -> int:
    """Counts the days that have begun after a deadline, by the calendar and clock of the deadline's zone.

    So a day with 25 hours does not count as two. A time without a zone is in the deadline's zone.

    Raises:
        ValueError: The time has a zone and the deadline has none.
    """
    if received.tzinfo is None:
        received = received.replace(tzinfo=deadline.tzinfo)
    elif deadline.tzinfo is None:
        raise ValueError("a time with a zone and a deadline without one")
    is_late = received > deadline
    if deadline.tzinfo is not None:
        is_late = received.astimezone(UTC) > deadline.astimezone(UTC)
        received = received.astimezone(deadline.tzinfo)
    by_the_clock = received.replace(tzinfo=None) - deadline.replace(tzinfo=None)
    return max(1, -(-by_the_clock // timedelta(days=1))) if is_late else 0
