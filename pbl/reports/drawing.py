"""What the figures of all folders share: colours, Japanese letters, labels that fit, hidden axes.

Each function that draws returns a matplotlib `Figure`: a notebook shows it, a run saves it.
"""

import functools
import importlib.util
import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pbl.data.split import find_number
from pbl.languages import choose_language, say, wrapping

# Okabe and Ito's colours: colour-blind people can distinguish them, and their lightness differs in grey print.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#595959"

# Inches and points. On A4 the page of a run prints a figure of WIDE over the whole width, and one of NARROW over half of it: at five sixths of
# its size, so that letters of SMALL are 7 points there.
WIDE, NARROW, SMALL = 8.4, 4.2, 8.4

JAPANESE_FONTS = (
    "Noto Sans CJK JP, Noto Sans JP, IPAexGothic, IPAPGothic, TakaoPGothic, VL Gothic, Hiragino Sans, Yu Gothic, Meiryo,"
    " BIZ UDGothic, MS Gothic"
).split(", ")
JAPANESE_FONT_FILES = ("NotoSansCJK-Regular", "ipaexg", "ipagp", "TakaoPGothic")


@functools.cache
def use_japanese_font() -> str | None:
    """Lets matplotlib use a Japanese font for letters that its own font lacks.

    Returns:
        The name of the font: an installed one, or that of the package matplotlib-fontja; None if there is neither.
    """
    installed = {font.name for font in font_manager.fontManager.ttflist}
    name = next((name for name in JAPANESE_FONTS if name in installed), None)
    if name is None:
        # matplotlib keeps a list of fonts, which lacks those that were installed later.
        files = [file for file in map(Path, font_manager.findSystemFonts()) if file.stem in JAPANESE_FONT_FILES]
        # The package is only looked up: importing it would change all figures.
        package = importlib.util.find_spec("matplotlib_fontja")
        if package is not None and package.origin:
            files += sorted(Path(package.origin).parent.rglob("*.ttf"))
        if files:
            font_manager.fontManager.addfont(files[0])
            name = font_manager.get_font(files[0]).family_name
    if name is not None and name not in rcParams["font.family"]:
        rcParams["font.family"] = [*rcParams["font.family"], name]
    return name


use_japanese_font()  # a text keeps the fonts that were set when it was made, so this comes first


@functools.cache
def _tell_of_missing_letters() -> None:
    print(
        say(
            "No font here has Japanese letters: the figures omit them, and number the classes in the order of the tables. pip install "
            "matplotlib-fontja, or on Debian and Colab: apt-get install fonts-noto-cjk; then start Python again."
        ),
        file=sys.stderr,
    )


def choose_caption_language(language: str | None = None) -> str:
    """Returns the language of a figure, "en" or "ja": the reader's, but Japanese only if a font has its letters.

    Args:
        language: The language that was asked for; by default as `pbl.languages.choose_language` returns.
    """
    chosen = choose_language(language)
    return "en" if chosen == "ja" and use_japanese_font() is None else chosen


def caption(template: str, /, **fields: Any) -> str:
    """Returns a text of a figure in the language of `choose_caption_language`.

    Args:
        template: The English sentence.
        **fields: Its fields.
    """
    return say(template, choose_caption_language(), **fields)


def number_classes(names: Sequence[str]) -> list[str]:
    """Returns the names of classes as a figure shows them: their numbers, from 1, if no font has the letters of all names.

    The report and the tables on the screen have all letters and say which number is which class.
    """
    if any(wrapping.is_japanese(name) for name in names) and use_japanese_font() is None:
        return [str(number) for number in range(1, len(names) + 1)]
    return list(names)


def literal(text: str) -> str:
    """Returns the text for matplotlib, which would read text between two $ as mathematics.

    Prints a warning, once, if no font has the Japanese letters of the text.
    """
    if wrapping.is_japanese(text) and use_japanese_font() is None:
        _tell_of_missing_letters()
        text = re.sub("[\u3000-\uffee]+", "…", text)
    return text.replace("$", r"\$")


def cut(text: str, most: int) -> str:
    """Returns the beginning of a text, at most `most` letters wide; Chinese and Japanese letters are twice as wide."""
    width = np.cumsum([2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text])
    return text if not len(text) or width[-1] <= most else text[: int((width < most).sum())] + "…"


def cut_start(text: str, most: int) -> str:
    """Returns the end of a text, in the same way as `cut` returns the beginning: the end of a path distinguishes files."""
    return cut(text[::-1], most)[::-1]


def wrap(text: str, width: int, most: int | None = None) -> str:
    """Breaks a text into lines, at most `most` of them, never within a word; Chinese and Japanese letters are twice as wide."""
    lines = wrapping.wrap(text, width)
    return "\n".join(lines if most is None or len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1]} …"])


def shorten_name(name: str) -> str:
    """Returns an image's name as a picture shows it: "image 1729" for "train/1729" in a set of numbered images."""
    number = find_number(name)
    return name if number is None else caption("image {number}", number=number)


def set_heading(figure: Figure, title: str) -> None:
    """Writes a heading over a figure, broken into lines as wide as it."""
    figure.suptitle(literal(wrap(title, round(14 * figure.get_figwidth()))), fontsize="medium")


def show_image(axes: Axes, image: np.ndarray, title: str, fontsize: float = SMALL) -> None:
    """Draws an image of one or three channels, `uint8 [height, width, channels]`, in its original brightness."""
    grey = image.shape[-1] == 1
    axes.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)
    axes.set_title(title, fontsize=fontsize)
    hide_axes(axes)


def hide_axes(panels: Axes | np.ndarray) -> None:
    """Hides the axes of one panel or of many."""
    for axes in np.ravel(panels):
        axes.axis("off")
        axes.set(xticks=[], yticks=[])  # ticks are removed, since matplotlib would take time to place hidden ones
