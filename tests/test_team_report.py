"""The draft of a team's report: every number from a run, and a box if there is none."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from test_report import browse, needs_browser

from pbl import languages
from pbl.comparison import compare, write_results
from pbl.data.split import read_made_by
from pbl.errors import InputError
from pbl.evaluation.metrics import compute_metrics
from pbl.languages.catalogue import read_catalogue
from pbl.reports.team_log import ONE_SEED
from pbl.reports.team_report import MOST_RUNS, MOST_SETTINGS, write_team_report
from pbl.runs import Run
from pbl.statistics import wilson_interval
from pbl.storage.writing import write_json

pytestmark = pytest.mark.slow  # little of it depends on versions

BASE = np.arange(200) < 160
MORE = np.arange(200) < 180
LITTLE = np.arange(200) < 162
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)
HOSTILE = '<b>"猫" & {{ 7 * 7 }} {reason}'


class Page(HTMLParser):
    """The words, the boxes and the addresses of a page."""

    def __init__(self, file: Path):
        super().__init__()
        self.words, self.boxes, self.addresses, self.tags = [], 0, [], []
        self.html = file.read_text(encoding="utf-8")
        self.feed(self.html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        assert "contenteditable" not in values  # text typed there would be lost
        assert tag != "img" or values["alt"]
        self.boxes += values.get("class") == "blank"

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.words.append(data)

    def between(self, first: str, last: str) -> str:
        return self.text.partition(first)[2].partition(last)[0]


@pytest.fixture
def team(tmp_path, write_run):
    """Runs that helped, harmed, did nothing and failed; two seeds; one on other images."""
    runs = tmp_path / "runs"
    names = [HOSTILE, "犬"]
    mlp = {"model": "mlp", "class_names": names}
    first = write_run("runs/a/001", BASE, **mlp, test_uses=2)
    write_run("runs/a/002", MORE, **mlp, epochs=90)
    write_run("runs/a/003", LITTLE, **mlp, seed=1)
    write_run("runs/a/004", LITTLE, **mlp, batch_size=32)
    write_run("runs/実験/001", BASE, **mlp, epochs=90, learning_rate=0.5, weight_decay=0.1)
    write_run("runs/a/005", None, **mlp, status="failed", reason=f"ValueError: {HOSTILE}")
    write_run("runs/a/006", MORE, model="resnet20", images="others")
    best = runs / "a" / "002"
    for name in ("learning_curves", "confusion_matrix_val"):
        (best / "figures" / f"{name}.png").write_bytes(PIXEL)
    probabilities = np.eye(2)[np.arange(100) % 2]
    write_json(first / "metrics_test.json", compute_metrics(np.arange(100) // 10 % 2, probabilities, names))
    findings = [
        {"check": "imbalance", "severity": "act", "items": [], "message": "", "template": IMBALANCE,
         "details": {"common": HOSTILE, "rare": "犬", "most": 90, "fewest": 4, "examples": ""}},
        {"check": "copies_across", "severity": "stop", "items": [], "message": "as it was", "template": "{lost}", "details": {}},
        {"check": "reference_accuracy", "severity": "note", "items": [], "message": "a note", "template": "a note",
         "details": {"accuracy": 0.5, "images": 9}},
    ]  # fmt: skip
    write_json(best / "data_check.json", {"close_checks": [], "findings": findings})
    return runs


IMBALANCE = next(
    sentence for _, sentence in read_catalogue("ja").sentences if sentence.startswith("The training images are unbal")
)


def test_a_use_of_the_test_split_counts_though_its_run_is_not_in_the_draft(tmp_path, write_run):
    """For example, a team evaluated on test and then left out images: the draft has other images."""
    mlp = {"model": "mlp", "class_names": ["cat", "dog"]}
    for name in ("a/001", "a/002"):
        write_run(f"runs/{name}", MORE, **mlp, epochs=90 + int(name[-1]))
    write_run("runs/b/001", BASE, model="resnet20", images="others", test_uses=1)
    text = Page(write_team_report(tmp_path / "runs", "en").file).text
    assert "The test split was used 1 time: b/001 (1)" in text and "has not been used yet" not in text


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_draft(team, language):
    file = write_team_report(team, language).file
    page = Page(file)
    assert file == team / "team_report.html" and f'<html lang="{language}">' in page.html

    def said(template: str, **details) -> str:
        return languages.say(template, language, **details)

    # One file, nothing downloaded, and no text of the runs read as markup or as a template.
    assert len(page.addresses) == 3 and all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "iframe", "link"} & set(page.tags) and "default-src 'none'" in page.html
    assert HOSTILE in page.text and HOSTILE not in page.html and "49" not in page.between(said("Data"), said("Methods"))
    assert "精度" not in page.text

    # A box for everything that no run knows.
    assert page.boxes == 5 and page.text.count("team_notes.md") == 6
    for heading in ("Discussion", "Conclusion"):
        after = page.html.partition(f"<h2>{said(heading)}</h2>")[2]
        assert re.match(r'\s*<div class="blank"[^>]*>[^<]*team_notes.md', after), heading
    sizes = [float(size) for size in re.findall(r"(?:font-size:|font:) ?([\d.]+)pt", page.html)]
    assert len(sizes) > 4 and min(sizes) >= 9.5

    # Results: two seeds of one setting together, with their spread; the interval of a single run is Wilson's.
    results = page.between(said("Results"), said("What was tried"))
    low, high = wilson_interval(180, 200)
    assert said("{low:.1f} to {high:.1f}", low=100 * low, high=100 * high) in results
    assert said("{low:.1f} to {high:.1f}", low=80.0, high=81.0) in results and "80.5%" in results
    low, high = wilson_interval(50, 100)
    assert f"{100 * low:.1f}" in results and (language == "ja" or "the run has used the test split 2 times" in results)

    # Only an interval without 0 helps or harms.
    tried = page.between(said("What was tried"), said("What helped, and what did not"))
    assert tried.count("a/00") == 5 and "実験/001" in tried and "a/006" not in tried
    helped, harmed, neither, again = (
        page.text.partition(said("{title}:", title=said(title)))[2]
        for title in ("Helped (the whole interval is above 0)", "Harmed (the whole interval is below 0)", "No difference that these images could show", "The same settings again")
    )  # fmt: skip
    assert helped.lstrip().startswith("epochs: 30 -> 90: +10.0") and neither.lstrip().startswith(
        "batch_size: 64 -> 32: +1.0"
    )
    assert "weight_decay: none -> 0.1" in harmed[:80] and said("{count} changes at once", count=2) in harmed[:200]
    assert again.lstrip().startswith(said("another seed") + ": +1.0")

    limits = page.text.rpartition(said("Limits"))[2]
    assert "0 of " not in limits and " 1 differences" not in limits
    assert said(ONE_SEED) in limits and "4" in limits and "a/001 (2)" in limits
    data = page.between(said("Data"), said("Methods"))
    assert "as it was" in data and "a note" not in data and "{lost}" not in data
    assert languages.say(IMBALANCE, language, common=HOSTILE, rare="犬", most=90, fewest=4) in data


def test_own_code_is_told_in_words(tmp_path, write_run):
    code = 'from pbl.models import MODELS\nMODELS["mine"] = lambda shape, classes: {}\n'
    for number in (1, 2):
        write_run(f"runs/a/00{number}", BASE, model="mine", code=code.format(number))
    page = Page(write_team_report(tmp_path / "runs", "en").file)
    assert "own code in experiment.py, version 1 a/001" in page.text and "version 2 a/002" in page.text
    assert "experiment.py=" not in page.text and "own code in experiment.py: +0.0" in page.text


def test_what_is_damaged_is_left_out(team):
    best = team / "a" / "002"
    (best / "figures" / "learning_curves.png").write_bytes(b"<svg onload=alert(1)>")
    (best / "figures" / "confusion_matrix_val.png").unlink()
    (best / "data_check.json").write_text("{}")
    for split in team.rglob("split.json"):
        split.write_text(
            '{"class_names": ["a"], "input_shape": [], "fit": "", "hashes": {}, "images": 3, "made_by": {"val": 7}}'
        )
    (team / "a" / "001" / "metrics_test.json").write_text('{"accuracy": "<b>"}')
    page = Page(write_team_report(team, "en").file)
    assert len(page.addresses) == 1 and "The runs contain no check of the data" in page.text and "svg" not in page.html


@pytest.mark.parametrize("language", ["en", "ja"])
def test_what_people_write_is_only_read(team, language):
    made = write_team_report(team, language)
    (of_team, *others) = made.open
    assert of_team == "Title" and len(others) == 5 and made.kept is None
    said = languages.say("Conclusion", language)
    before = made.notes.read_text(encoding="utf-8")
    written = before.replace(
        f"## {said}\n", f"## {said}\n\nDropout <b>helped</b>.\n{{{{ 7 }}}}\n\n### why\n最後です。\n"
    )
    other = {"en": "ja", "ja": "en"}[language]
    for encoding, line in (("utf-8", "\n"), ("cp932", "\r\n"), ("utf-8-sig", "\n")):
        content = ("Sato\n" + written).replace("\n", line).encode(encoding)
        made.notes.write_bytes(content)
        again = write_team_report(team, other)  # headings count in either language
        page = Page(again.file)
        assert made.notes.read_bytes() == content and again.kept is None, encoding
        assert "Conclusion" not in again.open and len(again.open) == 5 and page.boxes == 4 and not again.unknown
        after = page.text.rpartition(languages.say("Conclusion", other))[2]
        assert after.split() == [
            *"Dropout <b>helped</b>. {{ 7 }} why 最後です。".split(),
            *languages.say("Further notes", other).split(),
            "Sato",
        ]
    made.notes.write_text(before.replace(f"## {said}\n", "## Conclusoin\n\nIt helped.\n"), encoding="utf-8")
    mistyped = write_team_report(team, language)
    assert mistyped.unknown == [("Conclusoin", "Discussion")] and "Conclusion" in mistyped.open
    assert "It helped." in Page(mistyped.file).text  # it is told, and its text is shown
    for wrong in (b"\xff\x00\x81", written.encode("utf-16")):
        made.notes.write_bytes(wrong)
        with pytest.raises(InputError, match=r"team_notes\.md is not text in UTF-8"):
            write_team_report(team, language)


def test_a_page_changed_by_hand_is_kept(team):
    file = write_team_report(team, "en").file
    assert write_team_report(team, "ja").kept is None  # unchanged since we wrote it
    changed = file.read_text(encoding="utf-8").replace("</h1>", " by hand</h1>")
    for number in (1, 2):
        file.write_text(changed, encoding="utf-8")
        made = write_team_report(team, "en")
        assert made.kept == team / f"team_report_changed_by_hand_{number}.html"
        assert made.kept.read_text(encoding="utf-8") == changed != made.file.read_text(encoding="utf-8")


@pytest.mark.parametrize("language", ["en", "ja"])
def test_how_the_split_was_made_is_read_as_facts_and_as_a_sentence(team, language):
    page = write_team_report(team, language).file.read_text(encoding="utf-8")
    for file in team.rglob("split.json"):
        made_by = {split: read_made_by(how) for split, how in json.loads(file.read_text())["made_by"].items()}
        assert made_by["val"]["fraction"] == 0.15
        write_json(file, {**json.loads(file.read_text()), "made_by": made_by})
    assert write_team_report(team, language).file.read_text(encoding="utf-8") == page
    assert {"en": "validation: 15% of the images that are not test, by content", "ja": "検証：テスト以外の画像の 15%"}[
        language
    ] in page


def test_a_comparison_is_shown(team):
    beside = team.parent / "comparison"
    beside.mkdir()
    (beside / "results.csv").write_text(f'model,accuracy\n"{HOSTILE.replace(chr(34), "")}",0.9\n' + "x,0.1\n" * 40)
    page = Page(write_team_report(team, "en").file)
    appendix = page.text.partition("Appendix: comparison (comparison)")[2]
    assert "0.9" in appendix and "{{ 7 * 7 }}" in appendix and "26 more rows" in appendix
    (beside / "results.md").write_text(
        "# Comparison\n\nTwo <i>runs</i>.\n\n## Models\n\n| a | b |\n|---|---:|\n| 1 | 2 |\n\n- keep\n"
    )
    (beside / "results.png").write_bytes(PIXEL)
    page = Page(write_team_report(team, "ja").file)
    appendix = page.text.partition("付録：比較（comparison）")[2]
    assert (
        appendix.split() == ["Two", "<i>runs</i>.", "Models", "a", "b", "1", "2", "keep"] and len(page.addresses) == 4
    )


def test_a_comparison_is_read_from_its_facts(team):
    """If an earlier version wrote no results.json, its results.md says the same, except for Markdown's backslashes."""
    runs = [Run(team / "a" / name) for name in ("001", "002", "004")]
    beside = team.parent / "comparison"
    write_results(compare(runs), beside)
    ours = Page(write_team_report(team, "ja").file).text.partition("付録：比較（comparison）")[2]
    assert "注意すること" in ours and "first better" not in ours and "images" not in ours
    found = []
    for damaged in (None, b"{", b'{"runs": []}', b"[]"):
        if damaged is not None:
            (beside / "results.json").write_bytes(damaged)
        found.append(Page(write_team_report(team, "en").file).text.partition("Appendix: comparison (comparison)")[2])
    assert "To keep in mind" in found[0] and "<0.001" in found[0] and "\\" not in found[0]
    assert {text.replace("\\", "") for text in found} == {found[0]} and found[0] != found[1]


def test_a_comparison_of_other_images_is_left_out(team, write_run):
    write_run("runs/a/007", MORE, model="mlp", images="others")
    write_results(compare([Run(team / "a" / name) for name in ("006", "007")]), team.parent / "comparison")
    assert "Appendix: comparison" not in Page(write_team_report(team, "en").file).text
    write_results(compare([Run(team / "a" / name) for name in ("001", "002")]), team / "older")
    assert "Appendix: comparison (older)" in Page(write_team_report(team, "en").file).text


@needs_browser
def test_a_wide_comparison_fits_the_sheet_and_no_table_leaves_a_phone(tmp_path, write_run):
    """A heading in Japanese keeps neither one letter a line nor one long line."""
    for number, correct in enumerate((BASE, MORE), 1):
        options = {"model_options": {"a_long_option": number / 7}, "label_smoothing": number / 70}
        write_run(f"runs/a/{number:03d}", correct, model="mlp", loss="categorical_crossentropy", **options)
    write_results(compare([Run(tmp_path / "runs" / "a" / name) for name in ("001", "002")]), tmp_path / "comparison")
    page = write_team_report(tmp_path / "runs", "ja").file.read_text(encoding="utf-8")
    look = """<script>addEventListener("load", () => { document.title = JSON.stringify([[...document.querySelectorAll(".scroll")].map(
        part => [part.scrollWidth - part.clientWidth, part.querySelector("tr").clientHeight]),
        document.documentElement.scrollWidth - innerWidth]) })</script>"""
    (tmp_path / "page.html").write_text(re.sub("<meta http-equiv[^>]*>", look, page), encoding="utf-8")
    seen = [
        browse(tmp_path, f"--window-size={width},900", "--dump-dom", (tmp_path / "page.html").as_uri())
        for width in (1280, 390)
    ]
    (found, _), (_, beyond_phone) = (json.loads(re.search("<title>(.*?)</title>", one)[1]) for one in seen)
    assert beyond_phone <= 0 and len(found) == 6 and all(beyond <= 0 and high < 90 for beyond, high in found), found


def test_one_difference_is_not_told_as_two(tmp_path, write_run):
    """0.05 of one difference, which one decimal would round to 0.1."""
    write_run("runs/a/001", BASE)
    write_run("runs/a/002", MORE, epochs=90)
    text = Page(write_team_report(tmp_path / "runs", "en").file).text
    assert "1 difference was examined: if all were truly 0, about 0.05 would have" in text


def test_many_runs_keep_to_the_page(tmp_path, write_run):
    for number in range(60):  # each pair of seeds one image better than the pair before
        write_run(f"runs/e/{number:03d}", np.arange(200) < 100 + number, epochs=number // 2 + 1, seed=number % 2)
    page = Page(write_team_report(tmp_path / "runs", "en").file)
    assert page.between("What was tried", "What helped").count("e/0") == MOST_RUNS
    assert f"The {MOST_SETTINGS - 1} most accurate of 30 settings are shown, and the least accurate." in page.text
    assert f"{60 - MOST_RUNS} earlier runs are left out here" in page.text
    methods = page.between("Methods", "Results")
    assert "epochs=30 e/058, e/059" in methods and "epochs=19" not in methods and "epochs=1 e/000" in methods
    outcomes = page.text.rpartition("What helped, and what did not")[2]
    assert outcomes.count(" more, with smaller differences") == 2


def test_wrong_input_gets_one_line_and_writes_nothing(tmp_path, write_run):
    def say_of(folder, out=None) -> str:
        with pytest.raises(InputError) as error:
            write_team_report(folder, "en", out)
        return str(error.value)

    (tmp_path / "empty").mkdir()
    assert "contains no runs" in say_of(tmp_path / "empty") and "There is no folder" in say_of(tmp_path / "absent")
    write_run("failed/a/001", None, status="failed")
    assert "has no finished run to report on. Train one first" in say_of(tmp_path / "failed")
    write_run("runs/a/001", BASE)
    for out in (tmp_path / "nowhere" / "x.html", tmp_path / "empty"):
        assert "give a file in a folder that exists" in say_of(tmp_path / "runs", out)
    assert not list(tmp_path.rglob("*.html"))
    page = Page(write_team_report(tmp_path / "runs", "en", tmp_path / "x.html").file)
    assert "No two runs can be compared yet" in page.text and not page.addresses
