"""The READMEs: every room has one, each link leads somewhere, and the front pages stay short."""

import pytest
from pages import ENGLISH_ALONE, ROOT, find_links, follow, is_outside, list_anchors, list_pages, list_readmes

LINES, LETTERS = 150, 200  # of a front page


def test_each_room_has_a_readme_in_both_languages():
    rooms = [str(file.parent.relative_to(ROOT)) for file in (ROOT / "pbl").glob("*/__init__.py")]
    assert len(rooms) > 10
    wanted = {"README.md", *(f"{folder}/README.md" for folder in ("experiments", "notebooks", "pbl", *rooms))}
    found = set(list_readmes())
    assert wanted <= found, wanted - found
    english = {name for name in found if ".ja." not in name}
    alone = {name for name in english if name.replace("README.md", "README.ja.md") not in found}
    assert alone <= {f"{folder}/README.md" for folder in ENGLISH_ALONE}, alone
    assert {name.replace(".ja.", ".") for name in found} == english


@pytest.mark.parametrize("page", list_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_to_a_file_and_a_heading(page):
    lost = {}
    for link in find_links(page):
        if not is_outside(link):
            place, anchor = follow(page, link)
            if not place.exists() or ROOT not in (place, *place.parents):
                lost[link] = "no such file"
            elif anchor and anchor not in list_anchors(place):
                lost[link] = list_anchors(place)
    assert not lost


def test_links_are_found(tmp_path):
    (page := tmp_path / "a.md").write_text(
        "# A `b`, [c](d.md): 1つの E\n\n[x](y.md#z) ![p](q.png) `[no](no.md)` [`r/`](r)\n\n```\n# no\n[no](no.md)\n```\n\n## Two\n\n## Two\n",
        encoding="utf-8",
    )
    assert find_links(page) == ["d.md", "y.md#z", "q.png", "r"]
    assert list_anchors(page) == ["a-b-c-1つの-e", "two", "two-1"]
    assert follow(page, "#two") == (page, "two") and follow(page, "x/../b.md#c") == (tmp_path / "b.md", "c")


@pytest.mark.parametrize("name", ["README.md", "README.ja.md"])
def test_a_front_page_is_short_and_leads_to_every_other(name):
    """To the English page where there is no Japanese one."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LINES and max(map(len, lines)) <= LETTERS, (len(lines), max(lines, key=len))
    folders = {(ROOT / other).parent for other in list_readmes() if not other.startswith(".github")} - {ROOT}
    wanted = {folder / name if (folder / name).exists() else folder / "README.md" for folder in folders}
    assert wanted - {follow(ROOT / name, link)[0] for link in find_links(ROOT / name)} == set()
