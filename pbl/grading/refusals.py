"""How a stranger's file is refused, and how a stranger's words are made safe; this is all that the locked worker needs.

The sentences are in `pbl.grading.outcomes`, outside the lock.
"""

import unicodedata

# Fixtures: the largest difference of a probability that is accepted. Float32 on other machines and versions differs by about 1e-5.
TOLERANCE = 0.05


class Refusal(Exception):
    """A submission is not graded, for one of `pbl.grading.outcomes.REASONS`.

    Args:
        reason: The reason's key.
        **fields: The values of its sentence.
    """

    def __init__(self, reason: str, **fields: object):
        super().__init__(reason, fields)
        self.reason, self.fields = reason, fields


def clean(text: object, most: int = 80) -> str:
    """Makes a stranger's text safe to show: one line of printable characters, no bidirectional or control characters, cut to a length.

    Args:
        text: Anything.
        most: Number of characters that are kept.
    """
    if isinstance(text, float):
        text = f"{text:g}"
    kept = []
    for letter in str(text)[: 4 * most]:
        if unicodedata.category(letter)[0] in "CZ":  # control, format, surrogate, separators
            letter = " "
        kept.append(letter)
    words = " ".join("".join(kept).split())
    return words if len(words) <= most else words[: most - 1] + "…"
