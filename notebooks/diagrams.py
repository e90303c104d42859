"""The diagrams of the lessons: each drawn by a function, in both languages, and put into its cell.

    PYTHONPATH=. python notebooks/diagrams.py

draws all of them anew. The pictures stand in the notebooks themselves (a PNG in the text of a Markdown cell): Jupyter and Colab show
that wherever the notebook was opened, which they do not of files beside it or of attachments. Japanese needs a Japanese font here.
"""

import base64
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from pbl.reports.drawing import BLUE, GREEN, GREY, ORANGE, use_japanese_font

HERE = Path(__file__).resolve().parent
LIGHT = {BLUE: "#DCEBF5", ORANGE: "#FBE3D6", GREEN: "#D9F0E6", GREY: "#EEEEEE"}

JAPANESE = {
    "inputs": "入力",
    "weights": "重み",
    "sum and bias": "和とバイアス",
    "activation": "活性化関数",
    "answer": "出力",
    "all images": "すべての画像",
    "training": "訓練",
    "validation": "検証",
    "test": "テスト",
    "the weights learn from it": "重みはここから学ぶ",
    "settings are compared with it": "設定はここで比べる",
    "looked at once, in the end": "最後に一度だけ見る",
    "convolution, BN, ReLU": "畳み込み、BN、ReLU",
    "convolution, BN": "畳み込み、BN",
    "shortcut: x as it is": "ショートカット：x をそのまま",
    "maps": "特徴マップ",
    "joined by channels": "チャンネル方向に連結",
    "pooling 3x3": "プーリング 3x3",
    "squeeze:": "絞る：",
    "mean of each channel": "各チャンネルの平均",
    "dense, ReLU": "全結合、ReLU",
    "dense, sigmoid": "全結合、シグモイド",
    "excite: a gate for each channel": "刺激する：各チャンネルのゲート",
    "maps times gates": "特徴マップ × ゲート",
    "patches": "パッチ",
    "queries": "クエリ",
    "keys": "キー",
    "values": "値",
    "scores": "得点",
    "softmax: shares": "ソフトマックス：割合",
    "values, mixed by shares": "割合で混ぜた値",
    "image": "画像",
    "mask": "マスク",
    "what is there?": "何があるか",
    "skip connections: where is it?": "スキップ接続：どこにあるか",
    "pooling": "プーリング",
    "up-convolution": "拡大（転置畳み込み）",
    "image A": "画像 A",
    "image B": "画像 B",
    "view": "ビュー",
    "encoder": "エンコーダ",
    "features": "特徴",
    "projection": "射影",
    "embeddings": "埋め込み",
    "attract": "引き合う",
    "push apart": "遠ざける",
    "kept": "残す",
    "thrown away": "捨てる",
}


class Canvas:
    """Axes on which boxes and arrows are drawn, in units of an inch, in one of the two languages."""

    def __init__(self, width: float, height: float, language: str):
        self.figure = Figure(figsize=(width, height))
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")
        self.language = language

    def say(self, text: str) -> str:
        """The text in the reader's language, line by line; what is no word of a language stays."""
        return text if self.language == "en" else "\n".join(JAPANESE.get(line, line) for line in text.split("\n"))

    def box(self, x: float, y: float, text: str, colour: str = BLUE, width: float = 1.3, height: float = 0.5) -> None:
        """A box around a point, with its text."""
        corner = (x - width / 2, y - height / 2)
        style = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": LIGHT[colour], "edgecolor": colour}
        self.axes.add_patch(FancyBboxPatch(corner, width, height, **style))
        self.write(x, y, text)

    def write(self, x: float, y: float, text: str, colour: str = "black", size: float = 9, **options) -> None:
        """A text around a point."""
        self.axes.text(x, y, self.say(text), color=colour, size=size, **{"ha": "center", "va": "center", **options})

    def arrow(self, start: tuple[float, float], end: tuple[float, float], bend: float = 0, colour: str = GREY) -> None:
        """An arrow from one point to another; bend: how far it leaves the straight line, as a share of its length."""
        style = {"arrowstyle": "-|>", "color": colour, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
        self.axes.annotate("", end, start, arrowprops={**style, "connectionstyle": f"arc3,rad={bend}"})


def draw_neuron(language: str) -> Figure:
    canvas = Canvas(7, 2.2, language)
    for y, name, weight in ((1.65, "x1", "w1"), (1.0, "x2", "w2"), (0.35, "x3", "w3")):
        canvas.box(0.8, y, name, width=0.6, height=0.4)
        canvas.arrow((1.1, y), (2.75, 1.0 + (y - 1.0) * 0.15))
        canvas.write(1.75, 1.14 + (y - 1.0) * (0.68 if y > 1 else 0.44), weight, ORANGE)
    canvas.box(3.45, 1.0, "z = w1 x1 + w2 x2\n+ w3 x3 + b", ORANGE, width=1.4, height=0.6)
    canvas.arrow((4.15, 1.0), (4.65, 1.0))
    canvas.box(5.05, 1.0, "f(z)", GREEN, width=0.8)
    canvas.arrow((5.45, 1.0), (5.95, 1.0))
    canvas.box(6.3, 1.0, "y", width=0.6, height=0.4)
    for x, y, text in ((0.8, 2.02, "inputs"), (1.85, 2.02, "weights"), (3.45, 1.5, "sum and bias"), (5.05, 1.5, "activation"), (6.3, 1.5, "answer")):  # fmt: skip
        canvas.write(x, y, text, GREY)
    return canvas.figure


def draw_split(language: str) -> Figure:
    canvas = Canvas(7, 1.7, language)
    canvas.write(3.5, 1.5, "all images", GREY)
    left, parts = 0.3, ((3.8, "training", BLUE), (1.0, "validation", GREEN), (1.6, "test", ORANGE))
    told = ("the weights learn from it", "settings are compared with it", "looked at once, in the end")
    for (width, name, colour), text, (x, y) in zip(parts, told, ((2.2, 0.3), (3.9, 0.12), (5.9, 0.3)), strict=True):
        canvas.box(left + width / 2, 1.0, name, colour, width=width - 0.04)
        canvas.arrow((left + width / 2, 0.74), (left + width / 2, y + 0.14), colour=colour)
        canvas.write(x, y, text, colour)
        left += width
    return canvas.figure


def draw_residual(language: str) -> Figure:
    canvas = Canvas(7, 1.7, language)
    y = 0.55
    canvas.write(0.3, y, "x", size=11)
    canvas.arrow((0.45, y), (1.0, y))
    canvas.box(1.9, y, "convolution, BN, ReLU", width=1.8)
    canvas.arrow((2.8, y), (3.1, y))
    canvas.box(3.85, y, "convolution, BN", width=1.5)
    canvas.arrow((4.6, y), (5.1, y))
    canvas.write(4.83, y + 0.17, "F(x)", BLUE)
    canvas.box(5.3, y, "+", ORANGE, width=0.4, height=0.4)
    canvas.arrow((5.5, y), (5.8, y))
    canvas.box(6.1, y, "ReLU", GREEN, width=0.6)
    canvas.arrow((6.4, y), (6.75, y))
    for start, end in (((0.7, y), (0.7, 1.3)), ((0.7, 1.3), (5.3, 1.3))):
        canvas.axes.plot(*zip(start, end, strict=True), color=ORANGE, lw=1.2)
    canvas.arrow((5.3, 1.3), (5.3, y + 0.2), colour=ORANGE)
    canvas.write(3.0, 1.48, "shortcut: x as it is", ORANGE)
    return canvas.figure


def draw_inception(language: str) -> Figure:
    canvas = Canvas(7, 2.5, language)
    canvas.box(0.7, 1.25, "maps", width=0.9)
    rows = ((2.15, (None, "1x1")), (1.55, ("1x1", "3x3")), (0.95, ("1x1", "5x5")), (0.35, ("pooling 3x3", "1x1")))
    for y, (first, second) in rows:
        if not first:
            canvas.axes.plot((1.15, 1.7), (1.25, y), color=GREY, lw=1.2)
            canvas.arrow((1.7, y), (3.45, y))
        else:
            canvas.arrow((1.15, 1.25), (1.8, y))
            canvas.box(2.4, y, first, GREY if first == "1x1" else ORANGE, width=1.2, height=0.42)
            canvas.arrow((3.0, y), (3.45, y))
        canvas.box(3.95, y, second, BLUE, width=1.0, height=0.42)
        canvas.arrow((4.45, y), (5.05, 1.25 + (y - 1.25) * 0.3))
    canvas.box(5.95, 1.25, "joined by channels", GREEN, width=1.8, height=0.8)
    return canvas.figure


def draw_squeeze_and_excitation(language: str) -> Figure:
    canvas = Canvas(7, 1.9, language)
    y = 1.45
    canvas.box(0.6, 0.5, "maps", width=0.9)
    canvas.arrow((0.6, 0.75), (0.6, y - 0.02))
    canvas.arrow((0.6, y), (1.0, y))
    canvas.box(2.0, y, "squeeze:\nmean of each channel", ORANGE, width=2.0)
    canvas.arrow((3.0, y), (3.25, y))
    canvas.box(3.8, y, "dense, ReLU", width=1.1)
    canvas.arrow((4.35, y), (4.6, y))
    canvas.box(5.25, y, "dense, sigmoid", width=1.3)
    canvas.arrow((5.9, y), (6.25, y))
    canvas.write(5.15, 0.98, "excite: a gate for each channel", ORANGE)
    canvas.axes.plot((6.2, 6.4, 6.4), (y, y, 0.76), color=GREY, lw=1.2)
    canvas.arrow((6.4, 0.9), (6.4, 0.62))
    canvas.arrow((1.05, 0.5), (6.2, 0.5))
    canvas.box(6.4, 0.5, "×", ORANGE, width=0.4, height=0.24)
    canvas.write(5.2, 0.32, "maps times gates", GREY)
    return canvas.figure


def draw_attention(language: str) -> Figure:
    canvas = Canvas(7, 2.3, language)
    canvas.box(0.6, 1.15, "patches", width=0.9)
    for y, name in ((1.9, "queries"), (1.15, "keys"), (0.4, "values")):
        canvas.arrow((1.05, 1.15), (1.6, y))
        canvas.box(2.05, y, name, ORANGE if name != "values" else GREEN, width=0.9, height=0.44)
    canvas.arrow((2.5, 1.9), (3.0, 1.6))
    canvas.arrow((2.5, 1.15), (3.0, 1.45))
    canvas.box(3.35, 1.52, "scores", width=0.7)
    canvas.arrow((3.7, 1.52), (4.0, 1.52))
    canvas.box(4.8, 1.52, "softmax: shares", width=1.6)
    canvas.arrow((5.6, 1.52), (6.0, 0.68))
    canvas.arrow((2.5, 0.4), (5.1, 0.4))
    canvas.box(6.0, 0.4, "values, mixed by shares", GREEN, width=1.8)
    return canvas.figure


def draw_unet(language: str) -> Figure:
    canvas = Canvas(7, 2.9, language)
    levels = ((2.25, 0.95, "32 x 32, 8"), (1.6, 1.6, "16 x 16, 16"), (0.95, 2.25, "8 x 8, 32"))
    for y, x, text in levels:
        canvas.box(x, y, text, width=1.15, height=0.4)
        canvas.box(7 - x, y, text, GREEN, width=1.15, height=0.4)
        canvas.arrow((x + 0.575, y), (7 - x - 0.575, y), colour=ORANGE)
        reach = 0.45 if y > 1 else 0.67
        canvas.arrow((x + 0.2, y - 0.2), (x + reach, y - 0.45))
        canvas.arrow((7 - x - reach, y - 0.45), (7 - x - 0.2, y - 0.2))
    canvas.box(3.5, 0.3, "4 x 4, 64", width=1.15, height=0.4)
    for x, text in ((0.95, "image"), (6.05, "mask")):
        canvas.write(x, 2.72, text)
    canvas.arrow((0.95, 2.62), (0.95, 2.45))
    canvas.arrow((6.05, 2.45), (6.05, 2.62))
    canvas.write(3.5, 2.42, "skip connections: where is it?", ORANGE)
    for x, y, text in ((0.95, 0.95, "pooling"), (6.05, 0.95, "up-convolution"), (2.1, 0.3, "what is there?")):
        canvas.write(x, y, text, GREY)
    return canvas.figure


def draw_simclr(language: str) -> Figure:
    canvas = Canvas(7, 2.6, language)
    heights = (2.15, 1.65, 0.95, 0.45)
    for name, colour, pair in (("image A", BLUE, heights[:2]), ("image B", ORANGE, heights[2:])):
        canvas.box(0.55, sum(pair) / 2, name, colour, width=0.9, height=0.4)
        for y in pair:
            canvas.arrow((1.0, sum(pair) / 2), (1.3, y))
            canvas.box(1.65, y, "view", colour, width=0.7, height=0.36)
            canvas.arrow((2.0, y), (2.3, y))
            canvas.arrow((3.3, y), (4.0, y))
            canvas.arrow((5.0, y), (5.35, y))
            canvas.axes.plot(5.5, y, "o", color=colour, markersize=9)
        canvas.axes.annotate("", (5.5, pair[1] + 0.08), (5.5, pair[0] - 0.08), arrowprops={"arrowstyle": "-", "color": colour, "lw": 1.6})  # fmt: skip
        canvas.write(5.65, sum(pair) / 2, "attract", colour, ha="left")
    canvas.box(2.8, 1.3, "encoder", GREEN, width=1.0, height=2.1)
    canvas.box(4.5, 1.3, "projection", GREY, width=1.0, height=2.1)
    style = {"arrowstyle": "<|-|>", "color": GREY, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    canvas.axes.annotate("", (5.5, heights[2] + 0.12), (5.5, heights[1] - 0.12), arrowprops=style)
    canvas.write(5.65, 1.3, "push apart", GREY, ha="left")
    canvas.write(3.65, 2.42, "features", GREY)
    canvas.write(5.5, 2.42, "embeddings", GREY)
    for x, text in ((2.8, "kept"), (4.5, "thrown away")):
        canvas.write(x, 0.12, text, GREY)
    return canvas.figure


class Diagram(NamedTuple):
    """Where a diagram stands, and what it shows, for those who do not see it."""

    lesson: str
    cell: str  # its id; before which cell it is put the first time stands in `before`
    before: str
    draw: Callable[[str], Figure]
    english: str
    japanese: str


DIAGRAMS = (
    Diagram("02_a_neuron_and_a_layer", "neuron-diagram", "bias-keras", draw_neuron,
            "A neuron: inputs times weights, summed up with a bias; the activation gives the answer.",
            "ニューロン：入力に重みを掛けて足し合わせ、バイアスを足し、活性化関数が出力にする。"),
    Diagram("03_keras_flow", "split-diagram", "split-data", draw_split,
            "All images in three parts: training, from which the weights learn; validation, with which settings are compared; test, looked at once.",
            "画像を3つに分ける：重みが学ぶ訓練データ、設定を比べる検証用データ、最後に一度だけ見るテストデータ。"),
    Diagram("05_architectures", "inception-diagram", "inception-block", draw_inception,
            "An inception module: four ways of filters of unlike size side by side, joined by channels.",
            "インセプション：大きさの違うフィルタの道を4本並べ、チャンネル方向に連結する。"),
    Diagram("05_architectures", "residual-diagram", "identity-zero", draw_residual,
            "A residual block: two convolutions F(x), to which a shortcut adds x as it is, then ReLU.",
            "残差ブロック：2つの畳み込み F(x) に、ショートカットが x をそのまま足し、ReLU を通す。"),
    Diagram("05_architectures", "squeeze-diagram", "gates-by-hand", draw_squeeze_and_excitation,
            "Squeeze and excitation: the mean of each channel goes through two dense layers to a gate, which multiplies the channel.",
            "絞って刺激する：各チャンネルの平均が全結合層2つを通ってゲートになり、そのチャンネルに掛けられる。"),
    Diagram("05_architectures", "attention-diagram", "attention-by-hand", draw_attention,
            "Attention: patches give queries, keys and values; queries times keys are scores, their softmax the shares by which values are mixed.",
            "アテンション：パッチからクエリ、キー、値を作り、クエリとキーの積が得点、そのソフトマックスの割合で値を混ぜる。"),
    Diagram("14_segmentation", "unet-diagram", "unet-flow", draw_unet,
            "U-Net: on the left maps from 32 x 32 down to 4 x 4, on the right up again; skip connections carry the left maps across.",
            "U-Net：左側で特徴マップが 32 x 32 から 4 x 4 まで小さくなり、右側で元の大きさに戻る。スキップ接続が左の特徴マップを右へ渡す。"),
    Diagram("15_contrastive_learning", "simclr-diagram", "loss", draw_simclr,
            "SimCLR: two views of each image go through encoder and projection; embeddings of one image attract, all others are pushed apart.",
            "SimCLR：各画像の2つのビューがエンコーダと射影を通る。同じ画像の埋め込みは引き合い、ほかは遠ざけられる。"),
)  # fmt: skip


def make_png(figure: Figure) -> bytes:
    """A PNG of few colours, of some 10 kB."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(32, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def put_in(book: dict, diagram: Diagram, language: str) -> None:
    """Puts a diagram into its cell, which is made the first time."""
    picture = base64.b64encode(make_png(diagram.draw(language))).decode()
    text = diagram.english if language == "en" else diagram.japanese
    ids = [cell["id"] for cell in book["cells"]]
    if diagram.cell not in ids:
        new = {"cell_type": "markdown", "id": diagram.cell, "metadata": {}, "source": []}
        book["cells"].insert(ids.index(diagram.before), new)
    (cell,) = (cell for cell in book["cells"] if cell["id"] == diagram.cell)
    cell["source"] = [f"![{text}](data:image/png;base64,{picture})"]


if __name__ == "__main__":
    if use_japanese_font() is None:
        sys.exit("No Japanese font here: pip install matplotlib-fontja")
    for file in sorted(HERE.rglob("*.ipynb")):
        book, language = json.loads(file.read_text(encoding="utf-8")), "ja" if file.parent.name == "ja" else "en"
        drawn = [diagram for diagram in DIAGRAMS if diagram.lesson == file.stem]
        for diagram in drawn:
            put_in(book, diagram, language)
        if drawn:
            file.write_text(json.dumps(book, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            print(file.relative_to(HERE), *(diagram.cell for diagram in drawn))
