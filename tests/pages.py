"""The pages of Markdown in this repository: where they are, their headings, and where their links lead."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (".github", "experiments", "notebooks", "pbl", "tests")
ENGLISH_ALONE = (
    ".github",
    "pbl/cli",
    "pbl/languages",
    "pbl/storage",
)  # folders whose README.md has no README.ja.md beside it


def list_pages() -> list[Path]:
    """Every page, those of what a run wrote left out."""
    return sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])


def list_readmes() -> list[str]:
    """Each `README.md` and `README.ja.md`, from the root."""
    return [str(page.relative_to(ROOT)) for page in list_pages() if page.name in ("README.md", "README.ja.md")]


def list_pairs() -> list[str]:
    """Each `README.md` that has a `README.ja.md` beside it, from the root."""
    return [name for name in list_readmes() if (ROOT / name).with_name("README.ja.md").exists() and ".ja." not in name]


def read_prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def list_anchors(page: Path) -> list[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    anchors: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", read_prose(page), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        before = sum(re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other) is not None for other in anchors)
        anchors.append(f"{anchor}-{before}" if before else anchor)
    return anchors


def find_links(page: Path) -> list[str]:
    """What a page's links and pictures lead to, as it is written."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", read_prose(page)))


def is_outside(link: str) -> bool:
    return link.startswith(("http://", "https://", "mailto:"))


def follow(page: Path, link: str) -> tuple[Path, str]:
    """The file or folder that a relative link leads to, and the anchor in it, '' where there is none."""
    path, _, anchor = link.partition("#")
    return ((page.parent / path).resolve() if path else page), anchor
