"""Everything that a person reads exists in Japanese: the same fields, nothing forgotten, nothing left over."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sentences
import typer.main
from babel.messages.catalog import Catalog
from babel.messages.pofile import write_po
from pages import ROOT, find_links, follow, is_outside, list_anchors, list_pairs, read_prose
from PIL import Image
from pydantic import BaseModel, ValidationError
from rich.cells import cell_len
from sentences import PACKAGE, fields_of

from pbl import languages
from pbl.cli import app
from pbl.config import _WRONG, Config, say_problem
from pbl.errors import InputError, Sentence, join_sentences, name_nearest
from pbl.languages import catalogue
from pbl.languages.catalogue import read_catalogue
from pbl.languages.forms import fill_sentence, format_share

ALL = read_catalogue("ja").sentences


@pytest.mark.slow
def test_a_sentence_that_is_missing_or_stale_is_named(capsys, tmp_path, monkeypatch):
    wanted = sentences.find_wanted()
    assert len(wanted) > 2000 and {None, "diagnosis", "cause", "report"} == {context for context, _ in wanted}
    assert sentences.main([]) == 0, capsys.readouterr().out
    shutil.copy(sentences.FOLDER / "ja.po", tmp_path)
    monkeypatch.setattr(sentences, "FOLDER", tmp_path)
    text = (tmp_path / "ja.po").read_text(encoding="utf-8")
    changed = text.replace('msgid "{folder} is empty."', 'msgid "{folder} is full."')
    (tmp_path / "ja.po").write_text(changed, encoding="utf-8")
    capsys.readouterr()
    assert sentences.main([]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["ja.po: missing: {folder} is empty.", "ja.po: stale: {folder} is full."]
    assert sentences.main(["--write", "fr"]) == 1  # entered, and not translated yet
    assert f"fr.po: {len(wanted)} missing, 0 stale" in capsys.readouterr().out
    assert "full" not in "".join(line for line in (tmp_path / "ja.po").open(encoding="utf-8") if "is full." in line)


def test_the_file_is_as_it_is_written_anew(tmp_path):
    file = shutil.copy(sentences.FOLDER / "ja.po", tmp_path / "ja.po")
    sentences.write_file(sentences.read_file(file), file)
    assert file.read_text(encoding="utf-8") == (sentences.FOLDER / "ja.po").read_text(encoding="utf-8")


@pytest.mark.parametrize("language", catalogue.list_languages()[1:])
def test_each_language_has_the_fields_of_the_english_sentences(language):
    told = read_catalogue(language).sentences.items()
    assert [english for (_, english), ours in told if fields_of(english) != fields_of(ours)] == []


def test_japanese_has_the_terms_of_the_course():
    for (_, english), ours in ALL.items():
        assert "精度" not in ours, english
        assert not re.search("誤差逆伝搬法|エポック回|オーバーフィッティング|バリデーション", ours), english
        assert ours != english or not re.search("[a-z]{3} [a-z]{3}", english), english


def test_no_japanese_sentence_stands_in_the_code():
    """Exceptions: words that are searched in other people's tables and folders, and signs at the end of a line."""
    sentence = re.compile("[ぁ-ん]{2,}[^\"']*。")
    assert [file for file in PACKAGE.rglob("*.py") if sentence.search(file.read_text(encoding="utf-8"))] == []


POLISH = """msgid ""
msgstr ""
"Plural-Forms: nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<12 || n%100>14) ? 1 : 2);\\n"

msgid "{n} {n:mask has|masks have} no image"
msgstr "{n} {n:maska nie ma|maski nie mają|masek nie ma} obrazu"

msgctxt "cause"
msgid "gap"
msgstr "różnica"
"""


def test_a_third_language_is_one_file_and_has_its_own_forms(tmp_path, monkeypatch):
    (tmp_path / "pl.po").write_text(POLISH, encoding="utf-8")
    monkeypatch.setattr(catalogue, "FOLDER", tmp_path)
    sentence = "{n} {n:mask has|masks have} no image"
    assert languages.choose_language("pl_PL.UTF-8") == "pl" and languages.choose_language("ja") == "en"
    assert [languages.say(sentence, "pl", n=n) for n in (1, 2, 5, 12, 22)] == [
        "1 maska nie ma obrazu", "2 maski nie mają obrazu", "5 masek nie ma obrazu", "12 masek nie ma obrazu", "22 maski nie mają obrazu",
    ]  # fmt: skip
    assert [languages.say(sentence, "en", n=n) for n in (0, 1, 2)] == ["0 masks have no image", "1 mask has no image", "2 masks have no image"]  # fmt: skip
    assert languages.translate("gap", "pl", "cause") == "różnica" and languages.translate("gap", "pl") == "gap"


def read_blocks(name: str) -> list[tuple[str, str]]:
    """The blocks of code of a page, each with its language."""
    return re.findall(r"```(\w*)\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)


def bare(language: str, block: str) -> object:
    """A block of code without its comments and strings; for other blocks the names of files, and commands."""
    if language == "python":
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                node.value = ""
        return ast.dump(tree)
    if language == "bash":
        return [re.sub(r"\s*#.*", "", line) for line in block.splitlines()]
    return sorted(
        set(re.findall(r"[\w/]+\.(?:py|ipynb|html|md)\b|^ *\w+/|\bpython -m pbl .*", block, flags=re.MULTILINE))
    )


def places(name: str) -> set[tuple[str, int | None]]:
    """Where a page's links lead, to a heading by its number; a page in both languages is called by its English name."""
    found: set[tuple[str, int | None]] = set()
    for link in find_links(ROOT / name):
        place, anchor = (link, "") if is_outside(link) else follow(ROOT / name, link)
        english = str(place).replace("README.ja.md", "README.md")
        found.add((english, list_anchors(place).index(anchor) if anchor else None))
    return found


def of_other_language(name: str) -> set[str]:
    """The READMEs that a page leads to in the other language than its own, though they are there in its own."""
    mine, other = ("README.ja.md", "README.md") if ".ja." in name else ("README.md", "README.ja.md")
    led_to = {follow(ROOT / name, link)[0] for link in find_links(ROOT / name) if not is_outside(link)}
    return {str(place.relative_to(ROOT)) for place in led_to if place.name == other and place.with_name(mine).exists()}


@pytest.mark.slow
@pytest.mark.parametrize("name", list_pairs())
def test_a_readme_is_the_same_in_both_languages(name):
    """Blocks of code, headings, links, and what stands in `code`; each page leads to the other, and else to pages of its own language."""
    in_japanese = name.replace("README.md", "README.ja.md")
    english, ours = read_prose(ROOT / name), read_prose(ROOT / in_japanese)
    assert [bare(*block) for block in read_blocks(name)] == [bare(*block) for block in read_blocks(in_japanese)]
    for pattern in (r"^#+(?= )", r"^!\[", r"^(?:\d+\.|-) ", r"^\|"):  # headings, pictures, points of a list, rows
        assert re.findall(pattern, english, re.MULTILINE) == re.findall(pattern, ours, re.MULTILINE)
    assert places(name) == places(in_japanese)
    assert of_other_language(name) == {in_japanese} and of_other_language(in_japanese) == {name}
    codes = [{" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)} for text in (english, ours)]
    assert codes[0] == codes[1], codes[0] ^ codes[1]
    sentences, our_sentences = (re.sub(r"^\|.*$", "", text, flags=re.MULTILINE) for text in (english, ours))
    assert "精度" not in ours and len(re.findall("[ぁ-ん]", our_sentences)) > len(sentences) / 10


def test_the_readmes_in_both_languages_are_found():
    pairs = list_pairs()
    assert len(pairs) > 4 and sum(len(read_blocks(name)) for name in pairs) > 15


LANGUAGES = [
    ({}, "en"),
    ({"LANG": "ja_JP.UTF-8"}, "ja"),
    ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "ja_JP.UTF-8"}, "ja"),
    ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
    ({"LANG": "ja_JP.UTF-8", "LC_ALL": ""}, "ja"),
    ({"LANG": "ja_JP.UTF-8", "PBL_LANGUAGE": "en"}, "en"),
    ({"LC_ALL": "C", "PBL_LANGUAGE": "ja"}, "ja"),
    ({"PBL_LANGUAGE": "JA_jp"}, "ja"),
    ({"PBL_LANGUAGE": "xx", "LANG": "ja_JP.UTF-8"}, "en"),
]


@pytest.mark.parametrize(("variables", "language"), LANGUAGES, ids=[str(variables) for variables, _ in LANGUAGES])
def test_the_language_is_chosen_by_one_rule(monkeypatch, variables, language):
    for name in ("PBL_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert languages.choose_language() == language
    assert languages.choose_language("en") == "en" and languages.choose_language("ja") == "ja"


def test_sentences_within_sentences_are_said_in_the_same_language():
    inner = InputError(
        "No model is called '{name}'. {nearest}", name="{x}", nearest=name_nearest("mlpp", ["mlp", "vgg16"])
    )
    outer = InputError("{file}, line {line}: {what}", file="my.py", line=3, what=inner)
    assert str(outer) == "my.py, line 3: No model is called '{x}'. Did you mean 'mlp'? Valid: mlp, vgg16."
    assert (
        languages.say_sentence(outer, "ja")
        == "my.py の 3 行目：'{x}' というモデルはありません。'mlp' のことですか。使えるもの：mlp, vgg16。"
    )
    both = join_sentences([Sentence("It has none."), "{plain}"])
    assert both == "It has none. {plain}" and languages.say_sentence(both, "ja") == "オプションはありません。{plain}"
    assert languages.say("{file}: {kept}.", "ja", file="a", kept="Permission denied") == "a: Permission denied."
    assert "権限がありません" in languages.say(
        "{folder} cannot be made: {reason}.", "ja", folder="a", reason="Permission denied"
    )


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_notebook_shows_the_error_in_japanese_below_the_traceback(monkeypatch, language):
    traceback = types.SimpleNamespace(structured_traceback=lambda kind, error, trace: [f"{kind.__name__}: {error}"])
    shell = types.SimpleNamespace(InteractiveTB=traceback)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setenv("PBL_LANGUAGE", language)
    shown = InputError("{folder} is empty.", folder="photos")._render_traceback_()
    assert shown == ["InputError: photos is empty.", *(["\nphotos は空です。"] if language == "ja" else [])]


def test_what_pydantic_says_is_ours_word_for_word():
    """So that the English stays the same as pydantic's, and a new version's words are noticed."""
    wrong = {
        "epochs": [0, 10**9, "a", [1], 2.5], "learning_rate": [0, "a", [1], float("inf")], "validation_fraction": [1.5],
        "deterministic": ["a", [1]], "experiment": ["/", "x" * 100], "model": ["", 3], "channels": [2], "callbacks": [3],
        "model_options": [3], "image_size": [(1, 2, 3), (1,), "a"], "seed": [2**32],
    }  # fmt: skip
    kinds = set()
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(InputError):
                Config(**{name: value})
            with pytest.raises(ValidationError) as caught:
                BaseModel.__init__(Config.__new__(Config), **{name: value})
            for problem in caught.value.errors():
                kinds.add(problem["type"])
                assert say_problem(problem) == problem["msg"][0].lower() + problem["msg"][1:]
                assert (None, say_problem(problem).template) in ALL
    assert set(_WRONG) - kinds == {"callable_type"}  # only in a rubric


WRONG = [
    ("trian", "trian というコマンドはありません。'train' のことですか。"),
    ("train --fast", "--fast というオプションはありません。"),
    ("evaluate", "引数 RUN が足りません。"),
    ("submit run", "オプション --team が必要です。"),
    ("evaluate run --split 3", "'--split' の値が正しくありません：'3' は使えません。使えるのは 'val', 'test' です。"),
    ("train --seeds x", "整数"),
    ("train --seeds 0", "'--seeds' の値が正しくありません："),
    ("train --seeds", "オプション --seeds には値が必要です。"),
    ("train --fresh=maybe", "オプション --fresh に値は付けられません。"),
    ("diagnose a b", "引数が多すぎます（b）。"),
    ("train absent.py", "実験ファイル absent.py がありません。使えるもの："),
    ("train epoch=3", "'epoch' という設定はありません。'epochs' のことですか。使えるもの："),
    ("train lr=3", "'lr' という設定はありません。今は learning_rate という名前です。"),
    ("train epochs=-1", "epochs=-1：1 以上にしてください。（epochs：訓練画像を何回くり返すか）"),
    ("train learning_rate=0,1", "スケジュールを使うときは最大の値。learning_rate=0.1 と書いてください）"),
    ("train fit=zoom", "使える値は 'crop', 'pad'、'stretch' です"),
    ("train augmentation.flop=1", "'flop' という項目はありません。'flip' のことですか。"),
    ("train model=mpl", "'mpl' というモデルはありません。'mlp' のことですか。"),
    ("train model=mlp model_options.drop=0.5", "モデル 'mlp' に 'drop' というオプションはありません。'dropout' のことですか。"),
    ("train dataset=digit", "'digit' というデータセットはありません。'digits' のことですか。使えるもの：digits、"),
    ("train dataset=absent.zip", "ファイル absent.zip がありません。"),
    ("train optimizer=adan", "'adan' というオプティマイザはありません。'adam' のことですか。"),
    ("train --runs file", "フォルダ file/digits_resnet20 に書き込めません（フォルダではありません）。"),
    ("evaluate runs/small/009", "実験 runs/small/009 はありません。ここにある実験：runs/small/001。"),
    ("evaluate runs/small/001 --require accurracy>=1", "'accurracy' という指標はありません。'accuracy' のことですか。"),
    ("predict runs/small/001 empty.png text.jpg", "empty.png は空（0 バイト）です。コピーかダウンロードをやり直してください。text.jpg は読める画像ではありません。"),
    ("compare runs/none", "runs/none は存在しません。"),
    ("report", "どの実験ですか。"),
    ("log file", "フォルダ file がありません。"),
    ("check nothing.zip", "ファイル nothing.zip がありません。"),
    ("grade nothing --data nothing", "nothing は非公開データではありません"),
]  # fmt: skip


@pytest.fixture
def in_japanese(tmp_path, monkeypatch, trained_run):
    """A working folder with a run and some wrong files, and a reader of Japanese."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PBL_LANGUAGE", "ja")
    shutil.copytree(trained_run.path, tmp_path / "runs" / "small" / "001")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("<html>")
    (tmp_path / "file").touch()
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "good.png")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("line", "said"), WRONG, ids=[line for line, _ in WRONG])
def test_wrong_input_is_told_in_japanese(command, in_japanese, line, said):
    status, out, err = command(*line.split())
    assert status == 2 and err.count("\n") == 1 and said in err and not out, (status, out, err)
    assert not re.search(r"Did you mean|Valid:|Give |such as|There is|cannot", err), err


@pytest.mark.parametrize("words", [[], *([name] for name in typer.main.get_command(app).commands)], ids=str)
def test_help_is_japanese_whole_and_aligned(words):
    """Nothing is cut off; the right edge is in one column although letters are two columns wide."""
    environment = {**os.environ, "PBL_LANGUAGE": "ja", "COLUMNS": "90", "PYTHONIOENCODING": "utf-8", "TERM": "dumb"}
    program = [sys.executable, "-m", "pbl", *words, "--help"]
    shown = subprocess.run(
        program, capture_output=True, env=environment, cwd=PACKAGE.parent, check=True
    ).stdout.decode()
    assert (
        "使い方：python -m pbl" in shown
        and "オプション" in shown
        and "この説明を表示します。" in shown
        and "…" not in shown
    )
    assert {cell_len(line) for line in shown.splitlines() if line[:1] in "╭│╰" and line} == {90}
    assert not re.search(r"Usage|Options|Arguments|Commands|default|required|Show this|\b(the|of|is|and)\b", shown), (
        shown
    )


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp932", "ascii", pytest.param("latin-1", marks=pytest.mark.nightly)])
@pytest.mark.parametrize(
    "words", [["--help"], ["evaluate", "--help"], ["evaluate", "absent"], ["train", "model=犬"]], ids=str
)
def test_a_screen_without_japanese_letters(tmp_path, encoding, words):
    environment = {**os.environ, "PBL_LANGUAGE": "ja", "PYTHONIOENCODING": encoding, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-m", "pbl", *words], capture_output=True, env=environment, cwd=tmp_path)
    said = (done.stdout + done.stderr).decode(encoding)
    assert done.returncode == (0 if "--help" in words else 2) and "Traceback" not in said, said
    assert ("使い方" in said or "ありません" in said) == (encoding == "cp932"), said
    assert "Usage" in said or "No " in said or encoding == "cp932"


def columns_of(file: Path) -> list[str]:
    return list(pd.read_csv(file).columns)


@pytest.mark.nightly
def test_what_scripts_read_is_the_same_in_japanese(command, in_japanese, monkeypatch):
    """Exit statuses, JSON, names of files, columns of tables."""
    lines = [
        "train model=mlp epochs=1 experiment=LANGUAGE seed=1", "train model=mlp epochs=2 experiment=LANGUAGE seed=1",
        "evaluate runs/LANGUAGE/001 --json", "evaluate runs/LANGUAGE/001 --require accuracy>=1.1", "diagnose runs/LANGUAGE/001 --json",
        "predict runs/LANGUAGE/001 good.png --csv LANGUAGE.csv --json", "log runs --csv log_LANGUAGE.csv",
        "compare runs/LANGUAGE --out compared_LANGUAGE --json", "report runs/LANGUAGE/001 --json", "check digits --fast --out check_LANGUAGE --json",
        "models", "datasets --data-dir nowhere", "inspect absent --json", "submit runs/LANGUAGE/001 --team LANGUAGE --json",
    ]  # fmt: skip
    found = {}
    for language in ("en", "ja"):
        monkeypatch.setenv("PBL_LANGUAGE", language)
        for line in lines:
            status, out, err = command(*line.replace("LANGUAGE", language).split())
            if "--json" in line and status == 0:
                # Printed only if the clocks differ.
                out = re.sub(r'"Unequal budget, training time[^"]*"(, *)?', "", out)
                times = r"\"(bytes|started|seconds|train_seconds)\": *[\d.]+|\d+\.\d+|\d{4}-\d\d-\d\dT[\d:+]+"
                out = re.sub(times, lambda found: f'"{found[1]}": 0' if found[1] else "0", out)
                out = json.dumps(json.loads(out.replace(f"/{language}", "/XX").replace(f"{language}.zip", "XX.zip")))
                out = re.sub(rf"\b{language}\b", "XX", out)
            else:
                assert bool(re.search("[ぁ-ん]", out + err)) == (language == "ja"), (line, out, err)
                out = ""
            found.setdefault(line, []).append((status, out))
    for line, (english, ours) in found.items():
        assert english == ours, line
    files = {language: sorted(str(path.relative_to(Path("runs", language))) for path in Path("runs", language).rglob("*")) for language in ("en", "ja")}  # fmt: skip
    assert files["en"] == files["ja"] and "001/figures/learning_curves.png" in files["ja"]
    for en, ja in (("en.csv", "ja.csv"), ("log_en.csv", "log_ja.csv"), ("compared_en/results.csv", "compared_ja/results.csv"), ("runs/en/001/history.csv", "runs/ja/001/history.csv")):  # fmt: skip
        assert columns_of(Path(en)) == columns_of(Path(ja))
    environments = [
        json.loads(Path("runs", language, "001", "environment.json").read_text()) for language in ("en", "ja")
    ]
    assert (
        environments[0].keys() == environments[1].keys()
        and environments[0]["seconds"].keys() == environments[1]["seconds"].keys()
    )


def find_unmarked(text: str) -> list[str]:
    """Words in Latin letters outside ⟦ ⟧; a command to be typed stays English, as do names of files, metrics and settings, which have one of / . _."""
    while (inner := re.sub(r"⟦[^⟦⟧]*⟧", "", text)) != text:
        text = inner
    lines = [line for line in text.splitlines() if not line.strip().startswith("python -m pbl")]
    return re.findall(r"[A-Za-z]{3,}", re.sub(r"\S*[/._]\S*", "", "\n".join(lines)))


# Acronyms, units and names that are the same in every language.
THE_SAME = {*"ROC AUC PR ECE MiB KID AUROC found threshold pbl".split()}
OF_DATA = {*"small digits mlp runs epochs seed".split()}  # and of settings, which are typed
MARKED = [
    pytest.param(words, marks=pytest.mark.nightly if is_slow else ())
    for words, is_slow in (
        ("log runs", False), ("diagnose runs/small/001", False), ("compare runs", False), ("datasets", False), ("settings epochs", False),
        ("report runs/small/001", False), ("report --team", False), ("train model=mlp epochs=2 experiment=small", True),
        ("train model=mlp epochs=1 experiment=small --seeds 2", True), ("evaluate runs/small/001", True),
        ("find-rate model=mlp", True), ("check digits", True), ("train --memorise 8 model=mlp", True),
    )
]  # fmt: skip


@pytest.fixture
def marking_language(tmp_path, monkeypatch):
    """A made-up third language, a file like any other, that puts each sentence in ⟦ ⟧."""
    folder = tmp_path / "languages"
    folder.mkdir()
    shutil.copy(sentences.FOLDER / "ja.po", folder)
    written = Catalog(locale="eo")
    for context, english in sentences.read_keys(sentences.read_file(sentences.FOLDER / "ja.po")):
        written.add(english, f"⟦{english}⟧", context=context)
    with (folder / "eo.po").open("wb") as stream:
        write_po(stream, written, width=0)
    monkeypatch.setattr(catalogue, "FOLDER", folder)
    monkeypatch.setenv("PBL_LANGUAGE", "eo")


@pytest.mark.slow
@pytest.mark.parametrize("words", MARKED)
def test_with_each_sentence_marked_none_is_left_unmarked(
    words, command, marking_language, trained_run, tmp_path, monkeypatch
):
    """Text outside ⟦ ⟧ was never translated, or was put together from parts."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained_run.path, "runs/small/001")
    status, said, errors = command(*words.split())
    assert status in (0, 1) and "⟦" in said, errors
    assert not set(find_unmarked(said + errors)) - OF_DATA - THE_SAME


ONE_AFTER_ANOTHER = """
train model=mlp epochs=2 experiment=small
evaluate runs/small/001
predict runs/small/001 zero.png
inspect runs/small/001 zero.png
export runs/small/001 --format keras
submit runs/small/001 --team A
holdout digits --fraction 0.2 --seed 1 --no-references
grade A.zip --data holdout/digits
check digits --fast
train --dry-run model=mlp
train task=generation model=mlp_gan epochs=1 experiment=g
generate runs/g/001 --count 4
evaluate runs/g/001
train task=contrast model=simclr model_options.encoder=small_cnn epochs=1 experiment=c augmentation.crop=1
search runs/c/001 zero.png --in holdout/digits/images
train task=anomaly task_options.normal=8 model=autoencoder epochs=2 experiment=a
evaluate runs/a/001
predict runs/a/001 zero.png
train epochs=-1
train --fast
trian
"""


@pytest.mark.nightly
def test_with_each_sentence_marked_each_command_is_marked(command, marking_language, tmp_path, monkeypatch):
    """A third language through the commands in turn: of a run, of the tasks, of grading, and of wrong words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PBL_CACHE", str(tmp_path / "cache"))
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save("zero.png")
    unmarked = {}
    for line in ONE_AFTER_ANOTHER.split("\n")[1:-1]:
        status, said, errors = command(*line.split())
        assert status in (0, 1) or line.split()[-1] in ("epochs=-1", "--fast", "trian"), (line, errors)
        assert "⟦" in said + errors, line
        if left := {*find_unmarked(said + errors)} - THE_SAME:
            unmarked[line] = left
    assert not unmarked


@pytest.mark.parametrize(
    ("value", "spec", "said"),
    [
        (0.9996, ".1%", "99.96%"), (1.0, ".1%", "100.0%"), (0.0, ".1%", "0.0%"), (0.0004, ".1%", "0.04%"), (0.996, ".0%", "99.6%"),
        (0.984, ".1%", "98.4%"), (1 - 1e-9, ".1%", "100.0000%"), (1.2, ".0%", "120%"), (-0.0001, "+.1%", "-0.0%"),
    ],
)  # fmt: skip
def test_a_share_that_is_not_all_is_not_called_all(value, spec, said):
    assert format_share(value, spec) == said
    assert (
        fill_sentence("{share:" + spec + "} of {n} {n:image|images}", {"share": value, "n": 2}) == f"{said} of 2 images"
    )
