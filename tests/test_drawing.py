"""What figures share: the reader's language, and what stands there where no font has its letters."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from pbl.evaluation.figures import MOST_LETTERS, draw
from pbl.evaluation.metrics import compute_metrics
from pbl.languages.wrapping import measure
from pbl.reports import drawing

NAMES = ["bird", "とても長い名前のクラス_sparrow", "猫"]


@pytest.fixture
def judged():
    """Nine images of three classes, of which three are classified wrongly."""
    labels = np.arange(9) % 3
    probabilities = np.full((9, 3), 0.05, np.float32)
    probabilities[np.arange(9), np.where(np.arange(9) < 3, (labels + 1) % 3, labels)] = 0.9
    images = SimpleNamespace(
        labels=labels, names=[f"写真/{number}.png" for number in range(9)], pixels=np.zeros((9, 4, 4, 1), np.uint8)
    )
    metrics = compute_metrics(labels, probabilities, NAMES)
    return {
        "run": "写真の実験/001",
        "split": "val",
        "result": metrics,
        "images": images,
        "probabilities": probabilities,
    }


def read_texts(figure) -> list[str]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")  # a box in place of a letter
        figure.canvas.draw()
    found = [
        text.get_text() for axes in figure.axes for text in (axes.title, axes.xaxis.label, *axes.get_xticklabels())
    ]
    return [figure.get_suptitle(), *found]


def test_without_a_font_nothing_is_a_box(judged, monkeypatch):
    """The text is English though the reader's language is not, Japanese names are left out, and classes are numbers."""
    monkeypatch.setenv("PBL_LANGUAGE", "ja")
    monkeypatch.setattr(drawing, "use_japanese_font", lambda: None)
    texts = {name: read_texts(figure) for name, figure in draw(**judged, all_figures=True)}
    assert "predicted class" in texts["confusion_matrix"] and {"1", "2", "3"} <= set(texts["confusion_matrix"])
    assert texts["mistakes"][0] == "…/001, validation: the surest of 3 mistakes"
    assert any(text.startswith("1\n✗ 2 0.90\n") for text in texts["mistakes"])


def test_with_a_font_a_figure_is_in_the_readers_language(judged, monkeypatch):
    """Long names are cut, never the mark of right and wrong before them nor the number behind; English stays English."""
    monkeypatch.setattr(drawing, "use_japanese_font", lambda: "a font")
    english = {
        text.get_text() for _, figure in draw(**judged, all_figures=False) for text in (figure.axes[0].xaxis.label,)
    }
    assert english == {"predicted class"}
    monkeypatch.setenv("PBL_LANGUAGE", "ja")
    figures = dict(draw(**judged, all_figures=True))
    assert figures["confusion_matrix"].axes[0].get_xlabel() == "予測したクラス"
    titles = [axes.get_title() for axes in figures["mistakes"].axes if axes.get_title()]
    assert len(titles) == 3
    for lines in (title.split("\n") for title in titles):
        assert max(map(measure, lines)) <= MOST_LETTERS + 1 and lines[1].startswith("✗ ") and lines[1].endswith(" 0.90")
