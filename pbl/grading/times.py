"""When something was handed in, as platforms and spreadsheets write it; and how late that is."""

import re
import unicodedata
import warnings
from datetime import UTC, datetime, timedelta

_YEAR_FIRST = re.compile(
    r"(?P<year>\d{4})\s*[-/.年]\s*(?P<month>\d{1,2})\s*[-/.月]\s*(?P<day>\d{1,2})\s*日?\s*(?:\(?[月火水木金土日](?:曜日?)?\)?)?,?\s*"
    r"(?:(?P<before>午前|午後|AM|PM)?\s*(?P<hour>\d{1,2})\s*[:時]\s*(?P<minute>\d{1,2})\s*分?(?:\s*:?\s*(?P<second>\d{1,2})秒?)?\s*(?P<after>AM|PM)?)?",
    re.IGNORECASE,
)
_ZONES = {"JST": 32_400, "UTC": 0, "GMT": 0}


def read_time(text: str) -> datetime:
    """Reads a time.

    Args:
        text: ISO 8601; the year first (`2026/12/1 23:59`, `2026年 12月 1日(火曜日) 午後 11:59`); or with the month's English name, as
            Moodle writes it (`Tuesday, 1 December 2026, 11:59 PM`), read by dateutil. A day without a time is its beginning.

    Returns:
        With a zone only where the text names one.

    Raises:
        ValueError: It is no time, or has two readings: `1/2/2026` is a day of January or of February.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    match = _YEAR_FIRST.fullmatch(text)
    if match:
        year, month, day, minute, second = (
            int(match[name] or 0) for name in ("year", "month", "day", "minute", "second")
        )
        return datetime(year, month, day, _hour(match), minute, second)
    if not re.search(r"[A-Za-z]{3}", text):
        raise ValueError(text)
    from dateutil import parser  # pandas needs it, so it is there

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a zone that dateutil does not know would be left out
        try:
            told = parser.parse(text, tzinfos=_ZONES, default=datetime(1, 1, 1))
        except (OverflowError, Warning) as error:
            raise ValueError(text) from error
    has_month = re.search(r"jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec", text, re.IGNORECASE)
    if told.year == 1 or not has_month:
        raise ValueError(text)
    return told


def _hour(match: re.Match) -> int:
    hour, half = int(match["hour"] or 0), (match["before"] or match["after"] or "").upper()
    if half and hour > 12:
        raise ValueError(match[0])
    return hour % 12 + 12 * (half in ("午後", "PM")) if half else hour


def count_days_late(received: datetime, deadline: datetime) -> int:
    """Counts the days that have begun after a deadline, by the calendar and clock of the deadline's zone.

    So a night with 25 hours is no further day. A time without a zone is one of the deadline's zone.

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
