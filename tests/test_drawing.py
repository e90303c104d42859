"""What figures share: the reader's language, and what is shown if no font has its letters."""

import ast
import dataclasses
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import pbl
from pbl import models
from pbl.comparison import compare, find_runs
from pbl.comparison.figures import plot_comparison
from pbl.data.doctor.finding import Finding
from pbl.data.doctor.report import write_report
from pbl.diagnosis.anomalies import BASELINE_NAMES
from pbl.diagnosis.curves import plot_history, plot_learning_curves, plot_progress
from pbl.diagnosis.signals import Side, Signals
from pbl.evaluation.anomaly_figures import draw_anomalies, plot_codes, plot_map
from pbl.evaluation.contrast import judge_pairs, make_pairs
from pbl.evaluation.contrast_figures import ARM_NAMES, draw_contrast, plot_embeddings, plot_found
from pbl.evaluation.detection import choose_threshold, match
from pbl.evaluation.detection_figures import draw_boxes, draw_detection
from pbl.evaluation.figures import (
    MOST_LETTERS,
    draw,
    plot_confusion_matrix,
    plot_gallery,
    plot_one_against_rest,
    plot_reliability,
    plot_thresholds,
)
from pbl.evaluation.generation import Nearest
from pbl.evaluation.generation_figures import draw_generation, write_images
from pbl.evaluation.mask_figures import draw_classes, draw_masks
from pbl.evaluation.metrics import compute_metrics
from pbl.evaluation.segmentation import tabulate_thresholds as tabulate_mask_thresholds
from pbl.evaluation.thresholds import parse_aim, tabulate_thresholds
from pbl.grading.feedback import write_histogram
from pbl.inspection.figures import plot_feature_maps, plot_filters, plot_heat_maps, plot_loss_line
from pbl.languages.wrapping import measure
from pbl.reports import drawing, team_log
from pbl.reports.run_report import MOST_OF_HALF
from pbl.reports.team_log import read_log
from pbl.tasks import anomaly, contrast, generation
from pbl.training.figures import plot_data_size, plot_learning_rates
from pbl.training.space import Choice, Range
from pbl.training.study import Found, Trial
from pbl.training.study_figures import draw_search

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
        warnings.filterwarnings("error", message="Glyph")  # a box instead of a letter
        figure.canvas.draw()
    found = [
        text.get_text() for axes in figure.axes for text in (axes.title, axes.xaxis.label, *axes.get_xticklabels())
    ]
    return [figure.get_suptitle(), *found]


def test_without_a_font_nothing_is_a_box(judged, monkeypatch):
    """The text is English although the reader's language is not, Japanese names are left out, and classes are numbered."""
    monkeypatch.setenv("PBL_LANGUAGE", "ja")
    monkeypatch.setattr(drawing, "use_japanese_font", lambda: None)
    texts = {name: read_texts(figure) for name, figure in draw(**judged, all_figures=True)}
    assert "predicted class" in texts["confusion_matrix"] and {"1", "2", "3"} <= set(texts["confusion_matrix"])
    assert texts["mistakes"][0].replace("\n", " ") == "…/001, validation: the most confident of 3 mistakes"
    assert any(text.startswith("1\n✗ 2 0.90\n") for text in texts["mistakes"])


def test_with_a_font_a_figure_is_in_the_readers_language(judged, monkeypatch):
    """Long names are cut, never the mark of right and wrong before them or the number after them; English stays English."""
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


# Latin words that a Japanese text may contain: names of methods, of settings, and of what the tests below draw.
LATIN = {
    "AUROC", "Attention", "Brier", "CAM", "Dice", "ECE", "Grad", "Holm", "Keras", "KID", "PCA", "ROC", "SNE", "Youden", "image_size", "rollout",
    "youden", "cost", "model", "model_options", "conv", "lion", "wolf", "mlp", "lenet5", "dropout", "fANOVA", "png", "widths", "teamx",
}  # fmt: skip
RUN = "実験/001"
CLASSES = ["lion", "wolf"]


def find_functions() -> set[str]:
    """All public functions of the package that return figures."""
    found = set()
    for file in Path(pbl.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            is_public = isinstance(node, ast.FunctionDef) and node.name.startswith(("plot_", "draw"))
            if is_public and node.returns and "Figure" in ast.unparse(node.returns):
                found.add(node.name)
    return found


class Course(SimpleNamespace):
    """Random numbers and images for all figures."""

    def __init__(self):
        random = self.random = np.random.default_rng(0)
        self.pixels = random.integers(0, 256, (60, 8, 8, 1), np.uint8)
        self.normal = np.arange(60) < 30
        self.scores = random.random(60) + 0.5 * ~self.normal
        self.names = [f"val/{number}" for number in range(60)]
        area = {"roc_auc": 0.8, "low": 0.7, "high": 0.9}
        self.metrics = {
            "leak": {"check": "copies_across"}, "difference": {"baseline": "nearest_evened"}, "metrics": {"roc_auc": 0.8, "kid": 3.2},
            "kinds": [{"name": "lion", "images": 30, **area}], "intervals": {"roc_auc": [0.7, 0.9]},
            "baselines": [{"name": name, **area} for name in BASELINE_NAMES],
            "samples": {"counts": [3, 4], "real_counts": [4, 4]},
        }  # fmt: skip
        steps = np.arange(1, 6)
        self.rates = pd.DataFrame({"learning_rate": 10.0**-steps, "loss": 1.0 / steps, "smoothed": 1.0 / steps})
        self.sizes = pd.DataFrame({"images": [50, 50, 100, 100], "val_accuracy": [0.6, 0.62, 0.7, 0.72]})
        sides = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        self.line = pd.DataFrame({"position": [0.0, 1.0], **{side: [0.9, 0.3] for side in sides}})
        self.heat = pd.DataFrame(
            {"image": self.names[:2], "true": CLASSES, "predicted": ["lion"] * 2, "probability": 0.8, "rank_correlation": [0.3, np.nan]}
        )  # fmt: skip
        self.history = pd.DataFrame({name: [0.9, 0.5] for name in ("loss", "accuracy", "val_loss", "val_accuracy")})
        self.history.insert(0, "epoch", [1, 2])
        self.history["learning_rate"] = 0.1

    def signals(self) -> Signals:
        labels = np.arange(40) % 2
        about = {
            "num_classes": 2,
            "train_counts": [20, 20],
            "val_counts": [20, 20],
            "steps_per_epoch": 3,
            "model": "mlp",
        }
        made = Signals(about, Side.of(labels), Side.of(labels))
        for epoch, loss in enumerate((0.7, 0.5, 0.4)):
            for side in (made.probe, made.val):
                right = np.arange(40) < 20 + 5 * epoch
                rows = [np.full(40, loss), np.where(right, labels, 1 - labels), np.full(40, 0.9)]
                side.append(np.stack(rows, 1).astype(np.float32))
            made.epochs.append({"epoch": epoch, "gap": 0.1, "gap_low": 0.0, "gap_high": 0.2, "loss": loss})
        made.end = {"epoch": 2, "probe_images": 40, "probe_correct": 30, "val_images": 40, "val_correct": 28}
        return made


def _draw_contrast(of: SimpleNamespace) -> Iterator[tuple[str, Figure]]:
    """The figures of contrastive learning: all arms, pairs of few classes, and a map of many."""
    arms = [
        {"name": name, "way": way, "accuracy": 0.5 + 0.04 * at, "low": 0.4, "high": 0.9}
        for at, (name, way) in enumerate(ARM_NAMES)
    ]
    levels = [{"labels": labels, "arms": arms} for labels in (20, 1_000, 54_000)]
    features, labels = of.random.normal(size=(60, 5)), np.arange(60) % 2
    pairs = make_pairs(features, labels)
    metrics = {"contrast": {"levels": levels, "pairs": judge_pairs(pairs, samples=3)[0]}}
    gallery = of.pixels[:8], of.pixels[:40].reshape(8, 5, *of.pixels.shape[1:]), labels[:8], labels[:40].reshape(8, 5)
    for _, figure in draw_contrast(RUN, "val", metrics, features, labels, CLASSES, gallery, pairs, True):
        for name in ("draw_contrast", "plot_probes", "plot_pairs", "plot_neighbours"):
            yield name, figure
    words = [RUN[:6]] * 8, [["0.50"] * 5] * 8
    yield (
        "plot_found",
        plot_found(
            gallery[0],
            gallery[1],
            *words,
            pbl.reports.drawing.caption("{run}: the most similar images, and the cosine of their features", run=RUN),
        ),
    )
    yield "plot_embeddings", plot_embeddings(features, np.arange(60), ["lion"] * 60, RUN, ("pca", "tsne"))


def _draw_detection(of: SimpleNamespace) -> Iterator[tuple[str, Figure]]:
    """Images with missed, right and false boxes, and without any object; few classes and many."""
    corner = of.random.integers(0, 4, (60, 2, 2))
    kind = of.random.integers(0, 2, (60, 2, 1))
    truth = np.concatenate([corner, corner + 3, kind], axis=-1).astype(np.float32)
    truth[:20] = [0, 0, 0, 0, -1]
    found = np.concatenate([truth, of.random.random((60, 2, 1))], axis=-1).astype(np.float32)
    found[:30, 0] = [1, 1, 4, 4, 0, 0.9]
    for names in (CLASSES, ["wolf"] * 30):
        matches = match(truth, found, len(names))
        given = RUN, of.pixels, list(map(str, range(60))), truth, found, matches, names
        for _, figure in draw_detection(*given, choose_threshold(matches), True):
            for name in ("draw_detection", "plot_boxes", "plot_box_curves", "plot_box_thresholds"):
                yield name, figure
    yield "draw_boxes", draw_boxes(of.pixels[0], found[0], CLASSES)


def draw_all(judged: dict, folder: Path, write_run) -> Iterator[tuple[str, Figure]]:
    """Every figure of the package, in all its kinds: the name of its function, and the figure."""
    of = Course()
    judged = judged | {"run": RUN, "images": SimpleNamespace(**vars(judged["images"]) | {"names": of.names})}
    judged["result"] = judged["result"] | {"class_names": ["lion", "wolf", "lion"]}
    yield from (("draw", figure) for _, figure in draw(**judged, all_figures=True))
    labels = np.arange(60) % 2
    chances = np.stack([1 - of.scores / 2, of.scores / 2], axis=1)
    yield "plot_confusion_matrix", plot_confusion_matrix(np.ones((45, 45), int), ["lion"] * 45)
    yield "plot_reliability", plot_reliability(of.scores / 2, labels == 1, of.scores / 2, "")
    for kind in ("precision_recall", "roc"):
        yield "plot_one_against_rest", plot_one_against_rest(kind, labels, chances, CLASSES, "", 1)
        many = of.random.dirichlet(np.ones(50), 100)
        yield "plot_one_against_rest", plot_one_against_rest(kind, np.arange(100) % 50, many, ["wolf"] * 50, "")
    for aim in ("youden", "cost=1:5"):
        table = tabulate_thresholds(labels == 1, of.scores / 2, parse_aim(aim))
        yield "plot_thresholds", plot_thresholds(table, 0.4, (0.3, 0.5), aim.partition("=")[0], "")
    yield "plot_gallery", plot_gallery(of.pixels[:50], [""] * 50, "")
    yield "plot_history", plot_history(of.history, 2)
    for signals in (None, of.signals()):
        for is_nats in (True, False):
            yield "plot_learning_curves", plot_learning_curves(of.history, 2, None, 2, signals, is_nats)
    yield "plot_progress", plot_progress(of.signals())
    images, back = SimpleNamespace(pixels=of.pixels, names=of.names), lambda chosen: of.pixels[chosen] * 0.5
    scores = dict.fromkeys(BASELINE_NAMES, of.scores)
    for _, figure in draw_anomalies(
        RUN, "val", of.metrics, images, of.scores, of.normal, scores, 0.9, back, "mean", True
    ):
        for name in ("draw_anomalies", "plot_scores", "plot_reconstructions", "plot_roc_band", "plot_kinds"):
            yield name, figure
    yield "plot_map", plot_map(of.pixels[0], of.pixels[0], of.pixels[0, ..., 0] / 255, 1.0)
    kinds = ["lion" if normal else f"wolf {at}" for at, normal in enumerate(of.normal)]
    yield "plot_codes", plot_codes(of.pixels, of.random.random((60, 2)), kinds, of.normal, ["", ""], RUN)
    nearest = Nearest(np.linspace(3, 9, 12), np.arange(12))
    grids = of.random.integers(0, 256, (3, 16, 8, 8, 1), np.uint8)
    for _, figure in draw_generation(RUN, "test", of.metrics, of.pixels, nearest, of.pixels, CLASSES, grids, True):
        for name in ("draw_generation", "plot_samples", "plot_course", "plot_pairs", "plot_classes"):
            yield name, figure
    masks = (of.random.random((60, 8, 8)) < 0.3).astype(np.uint8) * of.normal[:, None, None]
    table = tabulate_mask_thresholds(masks == 1, of.random.random(masks.shape))
    of_masks = {"threshold": {"value": 0.4}}
    dice = np.where(masks.any(axis=(1, 2)), of.scores / 2, np.nan)
    for _, figure in draw_masks(
        RUN, of.pixels, list(map(str, range(60))), masks, masks[::-1], dice, of_masks, table, True
    ):
        for name in ("draw_masks", "plot_overlays", "plot_sizes", "plot_mask_thresholds"):
            yield name, figure
    yield from _draw_detection(of)
    yield from _draw_contrast(of)
    yield "plot_learning_rates", plot_learning_rates(of.rates, 1e-3, "")
    yield "plot_data_size", plot_data_size(of.sizes, 0.8, 0.7, 0.9, "")
    for channels, count in ((3, 8), (1, 8), (6, 70)):
        yield "plot_filters", plot_filters(of.random.normal(size=(3, 3, channels, count)), RUN)
    maps = {"conv": of.random.random((4, 4, 20)), "mlp": of.random.random((4, 4, 2))}
    yield "plot_feature_maps", plot_feature_maps(of.pixels[0], "val/1", maps, RUN)
    heat = np.stack([np.zeros((8, 8)), of.random.random((8, 8))])
    yield "plot_heat_maps", plot_heat_maps(of.pixels[:2], heat, heat[::-1], of.heat, RUN)
    for own in (None, {"train": (0.3, 0.9), "val": (0.4, 0.8)}):
        yield "plot_loss_line", plot_loss_line(of.line, 1210, {"train": 1000, "val": 100}, "", own)

    # Figures of models.
    data, run = (
        pbl.load_data("digits", normal=["8"]),
        SimpleNamespace(name=RUN, config=SimpleNamespace(task_options={})),
    )
    coder = models.build("autoencoder", data.input_shape, 10, code_size=3, widths=[8])
    yield "draw_codes", anomaly.draw_codes(run, coder, data)[0]
    yield from (("draw_maps", figure) for figure in anomaly.draw_maps(coder, of.pixels[:2], run))
    gan = models.build("mlp_gan", data.input_shape, 10, widths=[8], noise_size=4)
    for draw_one in (generation.draw_walk, generation.draw_neighbours):
        yield draw_one.__name__, draw_one(run, gan, data)[0]

    two = pbl.load_data("digits", views=2)
    encoder = models.build("simclr", two.input_shape, 10, encoder="small_cnn", encoder_options={"filters": 2}, hidden=4)
    yield "draw_embeddings", contrast.draw_embeddings(run, encoder, two)[0]
    yield "draw_neighbours", contrast.draw_neighbours(run, encoder, two)[0]

    yield (
        "draw_classes",
        draw_classes(
            of.pixels[0],
            np.arange(3)
            .repeat(of.pixels[0].size)[: of.pixels[0].shape[0] * of.pixels[0].shape[1]]
            .reshape(of.pixels[0].shape[:2])
            .astype(np.uint8)
            % 3,
            ["a", *CLASSES],
        ),
    )
    drawn = {"model": "mlp", "dropout": "0.1"}
    trials = [
        Trial(at, drawn, status, 0.5 if status == "finished" else None, 0.1, "", "", 3)
        for at, status in enumerate(["finished", "pruned", "failed"])
    ]
    space = {"model": Choice(("mlp", "lenet5")), "dropout": Range(0.0, 0.5, False, False)}
    found = Found(trials, [], {}, pd.DataFrame(), folder, folder, {"model": 0.7, "dropout": 0.3})
    for name, figure in draw_search(found, space, "実験"):
        yield f"plot_{name}", figure
    yield "draw_search", figure

    # Figures of runs, and figures that are only written.
    right = np.arange(200) % 10
    for seed in range(3):
        write_run(f"実験/{seed}", right > 0, seed=seed, model="mlp")
        write_run(f"実験2/{seed}", right > 2, seed=seed, model="lenet5", model_options={"widths": [9]})
    runs = find_runs([folder])
    for chosen in (runs, [runs[0], runs[3]]):  # one seed each: models, no architectures
        compared = compare(chosen)
        yield "plot_comparison", plot_comparison(compared)
        table = compared.architectures.rename(columns={"accuracy": "kid"})
        other = dataclasses.replace(compared, measure="kid", architectures=table, is_less_better=True)
        yield "plot_comparison", plot_comparison(other)
    yield "plot_log", team_log.plot_log(read_log(folder), "ja", 1)
    yield "plot_gains", team_log.plot_log(read_log(folder), "ja")
    kept: list[Figure] = []
    save = Figure.savefig
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Figure, "savefig", lambda self, *words, **others: (kept.append(self), save(self, *words, **others))
        )
        write_images(of.pixels[:8], folder / "grid.png", RUN)
        names = [f"写真/{number}.png" for number in range(60)]
        part = SimpleNamespace(names=names, labels=labels, pixels=of.pixels)
        found = [
            Finding("copies_across", "act", "", [], {"pairs": [names[:2]]}),
            Finding("altered_copies", "act", "", [], {"pairs": [names[:2]], "distances": [0.5]}),
            Finding("labels_unlike_predictions", "act", "", names[:1], {"labelled": ["lion"], "suggested": ["wolf"]}),
        ]
        write_report(found, {"val": part}, folder / "check")
        for headline in ("accuracy", "roc_auc"):
            write_histogram(folder / "histogram.png", [{headline: 0.5}], {"teamx": 0.7}, headline)
    assert len(kept) == 6
    yield from (("written", figure) for figure in kept)


def find_printed_size(figure: Figure) -> float:
    """The size of a figure on the printed page of a run, 180 mm wide, as a share of its own: the page's style prints it no higher than 160 mm."""
    width, height = figure.get_size_inches()
    room = 88 if 120 * width <= MOST_OF_HALF else 180
    return min(room / 25.4 / width, 160 / 25.4 / height, 0.7 * 120 / 96)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Glyph")
def test_every_text_of_every_figure_is_in_the_readers_language_and_can_be_read_on_paper(
    judged, tmp_path, write_run, monkeypatch
):
    monkeypatch.setenv("PBL_LANGUAGE", "ja")
    if drawing.use_japanese_font() is None:
        monkeypatch.setattr(drawing, "use_japanese_font", lambda: "a font")
    drawn, wrong, small = set(), set(), set()
    for name, figure in draw_all(judged, tmp_path, write_run):
        drawn.add(name)
        points = min((text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()), default=9)
        if points * find_printed_size(figure) < 6.8 and name != "plot_progress":  # that one is shown in notebooks alone
            small.add((name, points, *figure.get_size_inches()))
        figure.canvas.draw()  # ticks get their texts only then
        for text in {text.get_text() for text in figure.findobj(Text)}:
            words = [word for word in re.findall("[A-Za-z][A-Za-z_]{2,}[0-9]?", text) if word not in LATIN]
            if words:
                wrong.add((name, text, *words))
    assert sorted(wrong) == [] and find_functions() - drawn == set()
    assert sorted(small) == []


TEXTS = {
    "set_title",
    "suptitle",
    "supxlabel",
    "supylabel",
    "set_xlabel",
    "set_ylabel",
    "set_label",
    "text",
    "annotate",
    "show_image",
}


def find_plain_texts(file: Path) -> Iterator[str]:
    """English words that are passed to a figure unchanged: to functions that set a text, as a label, or as the title of a figure."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        bound: dict[str, list[ast.expr]] = {}
        for node in ast.walk(function):
            for target in node.targets if isinstance(node, ast.Assign) else []:
                bound.setdefault(ast.unparse(target), []).append(node.value)
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            given = [one.value for one in node.keywords if one.arg in ("title", "label", "xlabel", "ylabel")]
            given += node.args if called in TEXTS or called.startswith("plot_") else []
            for value in given:
                for one in (value, *bound.get(ast.unparse(value), [])):
                    yield from (f"{file.name}: {text}" for text in read_plain(one))


def read_plain(value: ast.expr) -> Iterator[str]:
    """Words in an expression that are not an argument of another call, a key or an index of a container."""
    if isinstance(value, ast.JoinedStr | ast.BinOp | ast.IfExp | ast.List | ast.Tuple):
        parts = [value.body, value.orelse] if isinstance(value, ast.IfExp) else ast.iter_child_nodes(value)
        for part in parts:
            yield from read_plain(part)
    elif isinstance(value, ast.Call) and getattr(value.func, "id", "") in ("literal", "wrap", "cut"):
        yield from read_plain(value.args[0])
    elif isinstance(value, ast.Constant) and isinstance(value.value, str) and re.search("[a-z]{3}", value.value):
        yield value.value


def test_what_calls_a_figure_gives_it_no_plain_english():
    """Even if only a complete run would show it: titles that callers build."""
    drawing_files = [
        file
        for file in Path(pbl.__file__).parent.rglob("*.py")
        if re.search("plot_|import Figure", file.read_text("utf-8"))
    ]
    assert len(drawing_files) > 20
    assert sorted({text for file in drawing_files for text in find_plain_texts(file)}) == []


def test_one_quantity_is_drawn_without_an_empty_half():
    history = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0], "val_loss": [2.0, 1.5]})
    assert len(plot_history(history).axes) == 1 and len(plot_history(history.assign(dice=0.5)).axes) == 2
    assert plot_history(history.assign(f1=0.5)).axes[1].get_ylabel() == "F1"  # not its key
