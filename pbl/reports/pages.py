"""What the pages for people share: their templates, safe text, and pictures inside the page."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from pbl.storage.escapes import for_screen

MOST_LETTERS = 2_000  # letters of a text
MOST_LETTERS_OF_NAME = 120
MOST_LETTERS_OF_VALUE = 500
MOST_LETTERS_OF_CODE = 100_000


def load_template(name: str, folder: Path = Path(__file__).parent) -> Template:
    """Returns a template of this folder, or of another. Values are escaped when shown, and cut if they are too long; an unknown name is an error."""
    surroundings = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else clean(value, MOST_LETTERS),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    surroundings.filters["name"] = lambda text: clean(text, MOST_LETTERS_OF_NAME)
    surroundings.filters["value"] = lambda text: clean(text, MOST_LETTERS_OF_VALUE)
    surroundings.filters["code"] = lambda text: Markup.escape(clean(text, MOST_LETTERS_OF_CODE))
    return surroundings.get_template(name)


def shorten(text: str, most: int) -> str:
    """Returns a text with at most `most` letters; the last one is an ellipsis if some were left out."""
    return text if len(text) <= most else text[: most - 1] + "…"


def clean(value: Any, most: int) -> str:
    """Returns a value as text that a page can contain: not too long; a character that pages cannot contain is replaced by its number."""
    return for_screen(shorten(str(value), most).replace("\r\n", "\n"), keep_lines=True)


def embed_png(content: bytes) -> Markup:
    """Returns a picture as an address that contains the picture itself (a data URI)."""
    return Markup("data:image/png;base64," + base64.b64encode(content).decode())
