"""All that a person reads is there in Japanese: the same fields, nothing forgotten, nothing left over."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from string import Formatter

import numpy as np
import pandas as pd
import pytest
import typer.main
from pages import ROOT, find_links, follow, is_outside, list_anchors, list_pairs, read_prose
from PIL import Image
from pydantic import BaseModel, ValidationError
from rich.cells import cell_len

from pbl import languages as japanese
from pbl.cli import app
from pbl.config import _WRONG, Augmentation, Config, say_problem
from pbl.errors import InputError, Sentence, join_sentences, name_nearest
from pbl.grading.feedback import _ANOMALY_REMARKS, _MASK_REMARKS, _PROMISES, _REMARKS, FLAGS
from pbl.grading.formats import _PROGRAMS
from pbl.grading.outcomes import CAUSES, REASONS, UNTOLD
from pbl.grading.rubric import Rubric
from pbl.languages import commands, doctor, errors, grading, settings
from pbl.models import slips

PACKAGE = Path(japanese.__file__).resolve().parent.parent
MAKERS = {"InputError", "Sentence", "say", "caption", "DifferentSizes", "UnknownDataset", "TableError"}


def texts(node: ast.expr) -> list[str]:
    """The texts that an expression may be: a text, one of two, each of a tuple."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.IfExp):
        return texts(node.body) + texts(node.orelse)
    if isinstance(node, ast.Tuple | ast.List):
        return [text for element in node.elts for text in texts(element)]
    return []


def sentences_in_code() -> dict[str, str]:
    """Every text that code gives to `say`, `Sentence` or an error, also by a name that is bound to it; with where it stands."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.parent.name == "languages":
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        bound: dict[str, list[str]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                bound.setdefault(node.targets[0].id, []).extend(texts(node.value))
            if isinstance(node, ast.For) and isinstance(node.iter, (ast.Tuple, ast.List)):
                bound.setdefault(ast.unparse(node.target), []).extend(t for e in node.iter.elts for t in texts(e))
            if isinstance(node, ast.GeneratorExp | ast.ListComp):
                for part in node.generators:
                    if isinstance(part.iter, ast.Tuple | ast.List):
                        bound.setdefault(ast.unparse(part.target), []).extend(
                            t for e in part.iter.elts for t in texts(e)
                        )
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args or isinstance(node.args[-1], ast.Dict):
                continue  # pbl.grading.outcomes.say takes a reason's word and a dictionary
            if getattr(node.func, "id", getattr(node.func, "attr", "")) not in MAKERS:
                continue
            first = node.args[0]
            said = bound.get(first.id, []) if isinstance(first, ast.Name) else texts(first)
            found |= dict.fromkeys(said, f"{file.name}:{node.lineno}")
    return {text: where for text, where in found.items() if is_sentence(text)}


def is_sentence(text: str) -> bool:
    """Whether anything is left to translate beside the fields."""
    return any(letter.isalpha() for piece, *_ in Formatter().parse(text) for letter in piece)


def help_texts() -> dict[str, str]:
    """Every text that `--help` shows."""
    group = typer.main.get_command(app)
    found = {group.help: "pbl"}
    for name, command in group.commands.items():
        found[command.help] = name
        found |= {
            parameter.help: f"{name} {parameter.name}"
            for parameter in command.params
            if getattr(parameter, "help", None)
        }
    return found


def descriptions() -> dict[str, str]:
    """What the settings mean, and what may be wrong with a value."""
    models = (Config, Augmentation, Rubric)
    return {field.description: name for model in models for name, field in model.model_fields.items()}


def titles_of_columns() -> set[str]:
    """Of the tables of a comparison: the keys of the dictionaries that make them, the titles beside the formats, the measures."""
    tree = ast.parse((PACKAGE / "comparison" / "tables.py").read_text(encoding="utf-8"))
    found = {"pre-trained"}
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and function.name.removeprefix("_").startswith("show_"):
            for node in ast.walk(function):
                if isinstance(node, ast.Dict):
                    pairs = [(key, value) for key, value in zip(node.keys, node.values, strict=True) if key is not None]
                    named = [value.elts[0] if isinstance(value, ast.Tuple) else key for key, value in pairs]
                    found |= {part.value for part in named if isinstance(part, ast.Constant)}
    return found | {"accuracy %"}  # AUROC is called so in both languages


def reasons_of_isolation() -> set[str]:
    """What `find_layers` gives as the reasons why a layer is not to be had."""
    tree = ast.parse((PACKAGE / "grading" / "sandbox.py").read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if getattr(node, "name", "") == "find_layers")
    values = [node.value for node in ast.walk(function) if isinstance(node, ast.Assign)]
    values += [node.args[1] for node in ast.walk(function) if isinstance(node, ast.Call) and len(node.args) == 2]
    return {text for value in values for text in texts(value) if " " in text}


def faults_of_submissions() -> set[str]:
    """What a worker says is wrong with a file: plain words, since it comes from a process that is not trusted."""
    found = set()
    for name in ("formats", "weights", "predictions", "architecture"):
        for node in ast.walk(ast.parse((PACKAGE / "grading" / f"{name}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Refusal", "refuse", "need"):
                values = [keyword.value for keyword in node.keywords if keyword.arg in ("what", "kind")]
                found |= {text for value in (*values, *node.args[1:]) for text in texts(value) if text}
    return found | set(_PROGRAMS.values())


def of_grading() -> set[str]:
    sentences = {*(text for _, text in REASONS.values()), *CAUSES.values(), *_REMARKS.values(), UNTOLD}
    sentences |= {*_ANOMALY_REMARKS.values(), *_MASK_REMARKS.values(), *_PROMISES.values(), *FLAGS.values()}
    return set(filter(is_sentence, sentences))


def data_sets() -> set[str]:
    """What `datasets` says of those that come with the package."""
    tree = ast.parse((PACKAGE / "data" / "catalogue.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    (entered,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign | ast.Assign) and "DATASETS" in ast.unparse(node).split("=")[0]
    )
    return {ast.get_docstring(functions[value.id]).partition("\n")[0] for value in entered.values}


def of_summary() -> set[str]:
    """What the class's summary says; sentences that it chooses among stand in a dictionary."""
    page = (PACKAGE / "grading" / "summary.html").read_text(encoding="utf-8")
    return set(re.findall(r'(?:\bt\(|: )"((?=[^"]*[a-z])[^"]+)"', page)) - {"%g"}


PARTS_OF_A_TRAINING = ("data", "check", "build", "fit", "figures", "evaluate", "diagnosis", "monitor (in fit)")
ALL = japanese._tables()


def wanted() -> set[str]:
    return (
        {*sentences_in_code(), *descriptions(), *_WRONG.values(), *PARTS_OF_A_TRAINING}
        | {told for _, told in slips.CAUSES} | titles_of_columns() | data_sets() | faults_of_submissions() | reasons_of_isolation() | of_grading() | of_summary()
    )  # fmt: skip


def fields_of(text: str) -> list[str]:
    return sorted(name for _, name, *_ in Formatter().parse(text) if name)


def test_all_that_is_said_is_there_in_japanese():
    said, helped = wanted(), help_texts()
    assert len(said) > 600 and len(helped) > 80
    latin = {text for text in said if text not in ALL and text not in ("ECE", "MACs")}
    assert latin == set() and set(helped) - set(commands.HELP) == set()


def test_japanese_has_the_same_fields_and_the_terms_of_the_course():
    for english, ours in {**ALL, **commands.HELP}.items():
        assert fields_of(english) == fields_of(ours), english
        assert "精度" not in ours, english
        assert not re.search("誤差逆伝搬法|エポック回|オーバーフィッティング|バリデーション", ours), english
    tables = (errors.ERRORS, settings.SETTINGS, commands.SAID, commands.HELP, grading.GRADING, doctor.FOUND)
    for english, ours in (pair for table in tables for pair in table.items()):
        assert ours != english, english


def test_nothing_is_left_over():
    """Each sentence of the tables stands in the code, word for word, or in the page of a run."""
    known = {
        *wanted(),
        *help_texts(),
        *(os.strerror(number) for number in range(1, 134)),
    }
    for file in PACKAGE.rglob("*.py"):
        if file.parent.name != "languages":
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    known |= {node.value, node.value.replace("_", " "), *node.value.split(",")}
                    known |= set(re.findall(r'\b(?:t|say)\(\s*"((?:[^"\\]|\\.)*)"', node.value))  # a template of a page
    page = "".join(file.read_text(encoding="utf-8") for file in sorted(PACKAGE.rglob("*.html")))
    known |= set(re.findall(r'"((?:[^"\\]|\\.)*)"', page))
    known |= set(re.findall(r'\b(?:t|say)\(\s*"((?:[^"\\]|\\.)*)"', page)) | set(
        doctor.FOUND
    )  # to these sees tests/test_report.py
    assert [english for english in {**ALL, **commands.HELP} if english not in known] == []


def read_blocks(name: str) -> list[tuple[str, str]]:
    """The blocks of code of a page, each with its language."""
    return re.findall(r"```(\w*)\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)


def bare(language: str, block: str) -> object:
    """A block of code without its comments and strings; of what is no program the names of files, and commands."""
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
    ({"PBL_LANGUAGE": "fr", "LANG": "ja_JP.UTF-8"}, "en"),
]


@pytest.mark.parametrize(("variables", "language"), LANGUAGES, ids=[str(variables) for variables, _ in LANGUAGES])
def test_the_language_is_chosen_by_one_rule(monkeypatch, variables, language):
    for name in ("PBL_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert japanese.choose_language() == language
    assert japanese.choose_language("en") == "en" and japanese.choose_language("ja") == "ja"


def test_sentences_within_sentences_are_said_in_the_same_language():
    inner = InputError(
        "No model is called '{name}'. {nearest}", name="{x}", nearest=name_nearest("mlpp", ["mlp", "vgg16"])
    )
    outer = InputError("{file}, line {line}: {what}", file="my.py", line=3, what=inner)
    assert str(outer) == "my.py, line 3: No model is called '{x}'. Did you mean 'mlp'? Valid: mlp, vgg16."
    assert (
        japanese.say_sentence(outer, "ja")
        == "my.py の 3 行目：'{x}' というモデルはありません。'mlp' のことですか。使えるもの：mlp, vgg16。"
    )
    both = join_sentences([Sentence("It has none."), "{plain}"])
    assert both == "It has none. {plain}" and japanese.say_sentence(both, "ja") == "オプションはありません。 {plain}"
    assert japanese.say("{file}: {kept}.", "ja", file="a", kept="Permission denied") == "a: Permission denied."
    assert "権限がありません" in japanese.say(
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
    """So that the English stays pydantic's, and a new version's words are noticed."""
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
                assert say_problem(problem).template in ALL
    assert set(_WRONG) - kinds == {"callable_type"}  # a rubric's alone


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
    ("predict runs/small/001 empty.png text.jpg", "empty.png は空（0 バイト）です。コピーかダウンロードをやり直してください。 text.jpg は読める画像ではありません。"),
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
    """Nothing is cut off; the right edge stands in one column though letters are two wide."""
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
                # Told only where the clocks differ.
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
    """Words of Latin letters outside of ⟦ ⟧; a command to be typed stays English."""
    while (inner := re.sub(r"⟦[^⟦⟧]*⟧", "", text)) != text:
        text = inner
    lines = [line for line in text.splitlines() if not line.strip().startswith("python -m pbl")]
    return re.findall(r"[A-Za-z]{3,}", "\n".join(lines))


OF_DATA = {*"small digits mlp runs epochs".split()}  # and of settings, which are typed
MARKED = [
    pytest.param(words, marks=pytest.mark.nightly if is_slow else ())
    for words, is_slow in (
        ("log runs", False), ("diagnose runs/small/001", False), ("compare runs", False), ("datasets", False), ("settings epochs", False),
        ("report runs/small/001", False), ("report --team", False), ("train model=mlp epochs=2 experiment=small", True),
        ("train model=mlp epochs=1 experiment=small --seeds 2", True), ("evaluate runs/small/001", True),
        ("find-rate model=mlp", True), ("check digits", True), ("train --memorise 8 model=mlp", True),
    )
]  # fmt: skip


@pytest.mark.parametrize("words", MARKED)
def test_with_each_sentence_marked_none_is_left_unmarked(words, command, trained_run, tmp_path, monkeypatch):
    """A language that puts every sentence in ⟦ ⟧: what stands outside was never translated, or put together by halves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PBL_LANGUAGE", "ja")
    shutil.copytree(trained_run.path, "runs/small/001")
    translate = japanese.translate
    monkeypatch.setattr(japanese, "translate", lambda template, details: f"⟦{translate(template, details)}⟧")
    status, said, errors = command(*words.split())
    assert status in (0, 1) and "⟦" in said, errors
    assert not set(find_unmarked(said + errors)) - OF_DATA
