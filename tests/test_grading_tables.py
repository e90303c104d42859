"""Tables that went through a spreadsheet: ids, labels, predictions, marks."""

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pbl.cli.grading import _show_grades
from pbl.errors import InputError
from pbl.grading.hidden import hash_file, open_hidden, open_labels
from pbl.grading.holdout import _draw_ids
from pbl.grading.predictions import read_predictions
from pbl.grading.refusals import Refusal
from pbl.grading.results import update_marks, write_all
from pbl.grading.tables import TableError, find_words, read_table

IDS = ["a1b2c3", "b00d42", "c0ffee"]
CLASSES = ["cat", "犬", "bird"]
EXPECTED = [0, 1, 2]

needs_libreoffice = pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")


def through_libreoffice(*files: Path) -> list[Path]:
    """Opens tables as LibreOffice does and saves them again as CSV: UTF-8, quotes if needed, numbers as they are shown."""
    out = files[0].parent / "saved"
    profile = f"-env:UserInstallation=file://{files[0].parent}/profile"
    form = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false"
    words = [
        "soffice",
        "--headless",
        profile,
        "--infilter=CSV:44,34,76,1",
        "--convert-to",
        form,
        "--outdir",
        out,
        *files,
    ]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    return [out / file.name for file in files]


@pytest.mark.parametrize(
    "text",
    [
        "id,label\na1b2c3,cat\nb00d42,犬\nc0ffee,bird\n",
        "\ufeffID,Label\r\nA1B2C3,CAT\r\nB00D42,犬\r\nC0FFEE,Bird\r\n",
        "sep=;\nid;label\na1b2c3;0\nb00d42;1.0\nc0ffee;2\n",
        "id\tlabel\na1b2c3.png\tcat\nimages/b00d42.PNG\t犬\nhidden\\images\\c0ffee.png\tｂｉｒｄ\n",
        "id,label,,\na1b2c3,cat,,\nb00d42,犬,,\nc0ffee,bird,,\n,,,\n",
        "id,label,cat,犬,bird\na1b2c3,cat,0.34,0.33,0.33\nb00d42,犬,0.1,0.8,0.1\nc0ffee,bird,0,0.33,0.66\n",
        "id,label,p(bird),P(Cat),p(犬)\na1b2c3,cat,.1,.8,.1\nb00d42,犬,0,0,1\nc0ffee,bird,9e-1,0.05,0.05\n",
        "id;label;cat;犬;bird\na1b2c3;cat;0,5;0,3;0,2\nb00d42;犬;0;1;0\nc0ffee;bird;0,2;0,3;0,5\n",
        "id,label,cat,犬,bird\na1b2c3,cat,0.33,0.33,0.33\nb00d42,犬,0.5,0.5,0\nc0ffee,bird,0,0.5,0.5\n",  # ties: the label counts
    ],
)
def test_predictions_with_one_reading_are_read(text):
    for content in (text.encode(), text.encode("utf-16")):
        result, told = read_predictions(content, IDS, CLASSES)
        assert result.argmax(axis=1).tolist() == EXPECTED and np.allclose(result.sum(axis=1), 1, atol=0.0101)
        assert told["has_probabilities"] == ("p(" in text.lower() or ("cat,犬" in text.replace(";", ","))), told
        assert told.get("ties", 0) == (3 if "0.33,0.33,0.33" in text else 0)


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("digits", [2, 3, 6])
def test_rounded_probabilities_are_taken(classes, digits):
    random = np.random.default_rng(0)
    given = random.dirichlet(np.ones(classes), 300)
    ids, names = [f"f{n:03d}" for n in range(300)], [f"c{n}" for n in range(classes)]
    rows = [
        [name, names[row.argmax()], *(f"{value:.{digits}f}" for value in row)]
        for name, row in zip(ids, given, strict=True)
    ]
    table = "\n".join(",".join(row) for row in [["id", "label", *names], *rows])
    result, _ = read_predictions(table.encode(), ids, names)
    assert (result.argmax(axis=1) == given.argmax(axis=1)).all() and np.abs(result.sum(axis=1) - 1).max() < 0.0101
    assert np.abs(result - given).max() <= (0.6 if classes == 100 and digits == 2 else 0.06)


@pytest.mark.parametrize(
    ("text", "reason", "fields"),
    [
        ("name,label\na1b2c3,cat", "table_header", {"found": "name,label"}),
        ("id,label\na1b2c3,cat\nb00d42,犬,x\nc0ffee,bird", "table_cells", {"line": 3, "found": 3, "expected": 2}),
        ("id,label\na1b2c3,cow\nb00d42,犬\nc0ffee,bird", "unknown_label", {"line": 2, "name": "cow", "classes": "cat, 犬, bird"}),
        ("id,label\na1b2c3,cat\nb00d42,犬\nnobody,bird", "ids", {"first": "nobody (line 4)", "missing": 1, "unknown": 1}),
        ("id,label\na1b2c3,cat\nb00d42,犬\nb00d42,bird", "ids", {"first": "b00d42 (line 4)", "twice": 1}),
        ("id,label\na1b2c3,cat\nb00d42,犬", "ids", {"first": "c0ffee", "missing": 1}),
        ("id,label\na1b2c3,cat\nb00d42,犬\n5.62868E+11,bird", "ids_changed", {"line": 4, "name": "5.62868E+11"}),
        ("id,label,cat,犬,bird\na1b2c3,cat,1,0,0\nb00d42,犬,0,yes,0\nc0ffee,bird,0,0,1", "table_number", {"line": 3, "name": "yes"}),
        ("id,label,cat,犬,bird\na1b2c3,cat,1,0,0\nb00d42,犬,2,9,1\nc0ffee,bird,0,0,1", "table_sum", {"line": 3, "found": "12"}),
        ("id,label,cat,犬,bird\na1b2c3,cat,2,-1,0\nb00d42,犬,0,1,0\nc0ffee,bird,0,0,1", "table_sum", {"line": 2}),
        ("id,label,cat,犬,bird\na1b2c3,cat,0.2,0.8,0\nb00d42,犬,0,1,0\nc0ffee,bird,0,0,1", "label_unlike_probabilities", {"line": 2, "label": "cat", "name": "犬"}),
        ("id,label,cat,犬,cow\na1b2c3,cat,1,0,0", "class_names", {"missing": 1, "unknown": 1, "names": "cow"}),
        ("id,label,cat,犬,bird\na1b2c3,cat,nan,0,0\nb00d42,犬,0,1,0\nc0ffee,bird,0,0,1", "predictions_not_finite", {"rows": 1}),
        ("id,label\na1b2c3,0\nb00d42,犬\nc0ffee,2", "unknown_label", {"line": 2, "name": "0", "rows": 2}),  # names or numbers
        ("\x00", "no_table", {}),
        ("", "table_header", {}),
        ("sep=", "table_header", {"found": "sep="}),
        ("sep=;\n\nid;label\na1b2c3;cat\nb00d42;cow\nc0ffee;bird", "unknown_label", {"line": 5}),
    ],
)  # fmt: skip
def test_the_first_row_that_is_wrong_is_shown(text, reason, fields):
    with pytest.raises(Refusal) as refusal:
        read_predictions(text.encode(), IDS, CLASSES)
    assert refusal.value.reason == reason and fields.items() <= refusal.value.fields.items(), refusal.value.fields


def test_numbers_are_not_taken_for_names_that_are_numbers():
    """With classes named 1, 2, 3 a team that counts from 0 writes 0, 1, 2; a team that writes the names 1, 2, 3 is read by name."""
    for labels, names in (("012", "123"), ("123", "123"), ("012", "012")):
        table = "id,label\n" + "".join(f"{name},{label}\n" for name, label in zip(IDS, labels, strict=True))
        assert read_predictions(table.encode(), IDS, list(names))[0].argmax(axis=1).tolist() == EXPECTED


def test_words_mean_what_they_say_first():
    assert find_words(["001", "1", "TRUE", "x", "１"], ["1", "001", "true"]) == [1, 0, 2, None, 0]
    assert find_words(["0.0", "7", "1e3"], ["0", "007", "1000"]) == [0, 1, 2]
    assert find_words(["1.0"], ["1", "01"]) == [None]  # two would be the same number
    assert [read_table(text).separator for text in (b"a,b\n1,2", b"a;b\n1;2", b"a\tb", b"sep=;\na;b,c", b"a")] == [
        *",;\t;,"
    ]
    assert read_table(b"name;note\nx;a, b\ny;c").rows[1] == ["x", "a, b"]
    with pytest.raises(TableError, match="separator cannot be recognised"):
        read_table(b"a,b;c\n1,2;3")


def write_hidden(folder: Path, ids: list[str], class_names: list[str], labels: list[int]) -> Path:
    (folder / "images").mkdir(parents=True)
    for number, name in enumerate(ids):
        Image.fromarray(np.full((2, 2), number % 256, np.uint8)).save(folder / "images" / f"{name}.png")
    hashes = [hash_file(folder / "images" / f"{name}.png") for name in sorted(ids)]
    told = {
        "format": 1,
        "name": "x",
        "class_names": class_names,
        "ids": sorted(ids),
        "hashes": hashes,
        "shape": [2, 2, 1],
    }
    (folder / "hidden.json").write_text(json.dumps(told))
    (folder / "labels").mkdir()
    rows = [[name, class_names[label], "public" if n % 2 else "private"] for n, (name, label) in enumerate(zip(ids, labels, strict=True))]  # fmt: skip
    with (folder / "labels" / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["id", "label", "half"], *rows])
    return folder


@needs_libreoffice
def test_a_spreadsheet_changes_no_id_label_prediction_or_mark(tmp_path):
    """Each table opened and saved by LibreOffice, which reads 12e34 and 007 as numbers, like Excel."""
    random = np.random.default_rng(0)
    ids, names = _draw_ids(random, 5000), ["0", "true", "class 1", "007"]
    labels = random.integers(0, 4, 5000).tolist()
    hidden = open_hidden(write_hidden(tmp_path / "hidden", ids[:60], names, labels[:60]))
    before = open_labels(hidden)
    probabilities = random.dirichlet(np.ones(4), 60)
    rows = [
        [name, names[row.argmax()], *(f"{value:.9g}" for value in row)]
        for name, row in zip(ids, probabilities, strict=False)
    ]
    (tmp_path / "predictions.csv").write_text("\n".join(",".join(row) for row in [["id", "label", *names], *rows]))
    (tmp_path / "many.csv").write_text("\n".join(f"{name},x" for name in ids))
    teams = ["第1班", "Ｂ班", "=C", "-1", "x, y"]
    update_marks(tmp_path / "marks.csv", teams, ["report"])
    rows = read_table((tmp_path / "marks.csv").read_bytes()).rows
    with (tmp_path / "marks.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        csv.writer(stream).writerows([rows[0], *([row[0], "9.50"] for row in rows[1:])])
    saved = through_libreoffice(
        *(tmp_path / name for name in ("many.csv", "predictions.csv", "marks.csv")),
        hidden.path / "labels" / "labels.csv",
    )
    assert [row[0] for row in read_table(saved[0].read_bytes()).rows] == ids
    result, _ = read_predictions(saved[1].read_bytes(), ids[:60], names)
    assert (result.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    told = []
    assert {float(mark["report"]) for mark in update_marks(saved[2], teams, ["report"], told.append).values()} == {
        9.5
    } and not told
    after = open_labels(hidden, saved[3])
    assert (after.classes == before.classes).all() and (after.is_public == before.is_public).all()


def test_labels_that_a_spreadsheet_has_changed_are_told_by_cell(tmp_path):
    ids = ["012345678901", "123e45", "aa"]
    hidden = open_hidden(write_hidden(tmp_path / "old", ids, ["0", "1"], [0, 1, 0]))
    file = tmp_path / "old" / "labels" / "labels.csv"
    text = file.read_text()
    # A lost leading zero is no problem, nor are semicolons.
    file.write_text(text.replace("012345678901", "12345678901").replace("123e45", "1.23E+47").replace(",", ";"))
    assert open_labels(hidden).classes.tolist() == [0, 1, 0]
    file.write_text(text.replace("012345678901", "1.23457E+10"))
    with pytest.raises(
        InputError, match=r"a spreadsheet has changed 1 id into numbers, such as '1.23457E\+10' in line 2"
    ):
        open_labels(hidden)
    file.write_text(text.replace("0,", "cow,", 1))
    with pytest.raises(InputError):
        open_labels(hidden)


def test_a_half_that_is_none_is_told_and_counts_for_no_half(tmp_path):
    hidden = open_hidden(write_hidden(tmp_path / "set", ["aa", "bb", "cc"], ["0", "1"], [0, 1, 0]))
    file = tmp_path / "set" / "labels" / "labels.csv"
    text = file.read_text()
    assert open_labels(hidden).is_public.tolist() == [False, True, False]
    file.write_text(text.replace("private", "privat", 1))
    with pytest.raises(InputError, match=r"there is no half privat \(line 2\)"):
        open_labels(hidden)
    file.write_text("id,label\naa,0\nbb,1\ncc,0\n")  # the instructor's own labels, which name no half
    assert open_labels(hidden).classes.tolist() == [0, 1, 0]
    for half in ("public", "private"):
        with pytest.raises(InputError, match=f"but --half {half} needs"):
            write_all(
                tmp_path,
                {"digest": hidden.digest},
                None,
                hidden,
                open_labels(hidden),
                *[None, None, half, None, "en", None],
            )


def test_a_damaged_hidden_image_is_named(tmp_path):
    path = write_hidden(tmp_path / "hidden", ["aa", "bb", "cc"], ["0", "1"], [0, 1, 0])
    image = path / "images" / "bb.png"
    image.write_bytes(image.read_bytes()[:-5])
    with pytest.raises(
        InputError, match=r"contains 1 image that was damaged or changed since the set was made, such as bb.png"
    ):
        open_hidden(path)


def test_ids_are_no_numbers_and_no_dates():
    ids = _draw_ids(np.random.default_rng(1), 20_000)
    assert len(set(ids)) == 20_000 and all(len(name) == 12 and name[0] in "abcdef" for name in ids)
    for name in ids:
        with pytest.raises(ValueError):
            float(name)
        assert not name.startswith(("dec", "feb"))


def test_marks_keep_every_cell(tmp_path):
    """Doubled and missing headings, trailing blanks, the instructor's own column and team, full-width names."""
    file, told = tmp_path / "marks.csv", []
    rows = [
        ["Team", "talk", "memo", "talk", "", ""],
        ["Ａ", "良", "x", "", "y", ""],
        ["nobody", "3", "", "", "", ""],
        ["1月1日", "5", "", "", "", ""],  # what Excel makes of 1-1
        ["B", "1", "", "2", "", "z", "beyond"],
        ["", "", "a note", "", "", ""],
    ]
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=";").writerows(rows)
    file.write_bytes(stream.getvalue().encode("cp932"))
    before = file.read_bytes()
    marks = update_marks(file, ["A", "B"], ["talk"], told.append)
    assert marks == {"A": {"talk": "良"}, "B": {"talk": "1"}} and file.read_bytes() == before
    assert (
        len(told) == 4
        and "line 3: the mark talk 3 belongs to no team: there is no team 'nobody'" in told[0]
        and "1月1日" in told[1]
        and "1 counts, but 2" in told[2]
        and "line 5: beyond of B is beyond the last heading and does not count" in told[3]
    )
    (tmp_path / "comma.csv").write_text('team,talk\nA,17,5\nB,"17,5"\n')
    update_marks(tmp_path / "comma.csv", ["A", "B"], ["talk"], told.append)
    assert len(told) == 5 and "line 2: 5 of A is beyond" in told[4] and "write 17.5 for 17,5" in told[4]
    (tmp_path / "typed.csv").write_text("team,raport\nA,7\n")
    update_marks(tmp_path / "typed.csv", ["A"], ["report"], told.append)
    assert "no mark is called raport. If report is meant" in told[5]
    update_marks(file, ["A", "B", "C"], ["talk", "report"], told.append)
    after = list(csv.reader(file.open(encoding="utf-8-sig", newline=""), delimiter=";"))
    assert after[0] == [*rows[0], "", "report"] and after[1:6] == rows[1:] and after[6] == ["C"]
    assert update_marks(file, ["A", "B", "C"], ["talk", "report"])["A"] == {"talk": "良", "report": ""}


def test_the_screen_shows_flags_beside_reasons_and_who_has_no_total(tmp_path, capsys):
    row = dict.fromkeys(("accuracy", "final_points", "total", "tie_group"))
    told = {"status": "corrupt", "template": "{file} is empty.", "fields": {"file": "a.zip"}, "missing_marks": []}
    stranger = row | told | {"team": "Zoe", "flags": ["not_on_roster", "could_be:Zoé"]}
    missing = row | {"team": "A", "status": "missing", "template": "Nothing was handed in.", "fields": {}, "flags": []}
    missing |= {"final_points": 0.0, "total": 3.0, "missing_marks": []}
    _show_grades([stranger, missing], tmp_path)
    shown = " ".join(capsys.readouterr().out.split())
    assert "not_on_roster, could_be Zoé: a.zip is empty." in shown and "3 Nothing was handed in." in shown
    assert "No total for 1 team without points, so decide what to give: Zoe." in shown
