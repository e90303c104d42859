"""The page, made with Gradio: a tab for each use, and next to it what each run says. Written for Gradio 5 and 6."""

import base64
import binascii
import inspect
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio
import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from pbl.data.images import count_pixels, decode_image
from pbl.demonstration.answers import Answer, ClassProbability, OpenedRun, Picture
from pbl.demonstration.sketches import fit_sketch, read_ink
from pbl.errors import InputError, Sentence
from pbl.evaluation.mistakes import write_png
from pbl.languages import choose_language, say_sentence
from pbl.reports.pages import embed_png, load_template

MOST_CLASSES = 10  # classes that are listed
PAD = 336  # pixels a side of the sketch pad
PEN = 24  # its width in pixels: if a digit fills two thirds of the pad, its strokes are about as thick as in MNIST
LARGEST_FILE = 30_000_000  # bytes of an upload
MOST_PAD = 4_000_000  # pixels
MOST_GENERATED = 64
CAVEAT = "A heat map alone proves little: the command inspect also draws the heat map of an untrained network."
_TEMPLATE = load_template("answer.html", Path(__file__).parent)

STYLE = """
footer { display: none !important; }
.pbl-answer h3 { margin: 0 0 .3rem; overflow-wrap: anywhere; }
.pbl-answer p { margin: .3rem 0; overflow-wrap: anywhere; }
.pbl-answer .pbl-line { font-size: 1.15rem; font-weight: 600; }
.pbl-note, .pbl-raw, .pbl-answer figcaption { color: var(--body-text-color) !important; opacity: .75; font-size: .85rem; }
.pbl-answer table { width: 100%; border-collapse: collapse; margin: .3rem 0; }
.pbl-answer table, .pbl-answer tr, .pbl-answer td { border: 0 !important; }
.pbl-answer td { padding: .12rem .35rem !important; overflow-wrap: anywhere; }
.pbl-bar { width: 40%; }
.pbl-bar i { display: block; height: .7rem; min-width: 1px; background: #0072B2; border-radius: 2px; }
.pbl-number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.pbl-pictures, .pbl-small { display: flex; flex-wrap: wrap; gap: .6rem; margin: .5rem 0; }
.pbl-answer figure { margin: 0; }
.pbl-pictures figure { flex: 1 1 8rem; max-width: 18rem; }
.pbl-small figure { width: 4.6rem; }
.pbl-pictures .pbl-figure { flex: 1 1 20rem; max-width: 34rem; }
.pbl-pixels img { image-rendering: pixelated; }
.pbl-answer img { width: 100%; border: 1px solid var(--border-color-primary); margin: 0; }
.pbl-answer figcaption { overflow-wrap: anywhere; line-height: 1.25; }
.pbl-pad { display: block; width: 100%; max-width: 336px; margin: 0 auto; background: #fff; border: 1px solid #595959; touch-action: none; cursor: crosshair; }
.pbl-gallery .grid-wrap { min-height: 0; max-height: none; }
.pbl-gallery .grid-container { grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)) !important; }
.pbl-gallery .icon-button-wrapper { display: none; }
.pbl-gallery .caption-label { max-width: 100%; left: auto; }
.pbl-problem { margin: 0; padding: .5rem .7rem; border-left: 4px solid #D55E00; background: var(--background-fill-secondary); overflow-wrap: anywhere; }
"""


def said(sentence: str) -> str:
    """A sentence in the reader's language, whether or not the screen has Japanese letters. Gradio's own few words are in the browser's language."""
    return say_sentence(sentence, choose_language())


def make_panel(
    run: OpenedRun, answer: Answer, explained: tuple[list[Picture], list[str]] = ([], []), near: Any = (None, [])
) -> str:
    """Returns what a run says about an image, as HTML."""
    classes = run.list_classes(answer)
    seen = Sentence("What the network sees: {width} x {height}", width=run.size[1], height=run.size[0])
    pictures, problems = explained
    heading, small = near
    below: list[str] = []
    if run.temperature is not None and classes:
        told = "Bars: calibrated by the temperature {temperature:.2f}, which validation chose. Grey: the uncalibrated output of the network, as in the command predict."
        if run.temperature == 1:
            told = "Bars: the uncalibrated output of the network. Its validation images could not tell a temperature, for example since none was classified wrongly."
        below.append(Sentence(told, temperature=run.temperature))
    if len(classes) > MOST_CLASSES:
        below.append(Sentence("The {n} most likely of {all:,} classes.", n=MOST_CLASSES, all=len(classes)))
    lines = [classes[0].name] if classes else run.tell(answer)
    return _render(
        run,
        lines=lines,
        classes=classes[:MOST_CLASSES],
        below=below,
        pictures=[Picture(write_png(answer.seen), seen), *pictures],
        heading=heading,
        small=small,
        notes=[*answer.notes, *problems, *([Sentence(CAVEAT)] if classes and pictures else [])],
    )


def _render(
    run: OpenedRun,
    lines: Sequence[str] = (),
    classes: Sequence[ClassProbability] = (),
    below: Sequence[str] = (),
    pictures: Sequence[Picture] = (),
    heading: str | None = None,
    small: Sequence[Picture] = (),
    notes: Sequence[str] = (),
) -> str:
    def place(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
        kinds = [("pbl-figure " * one.is_figure + "pbl-pixels" * one.is_small).strip() for one in pictures]
        return [
            {"address": embed_png(one.png), "caption": said(one.caption), "kind": kind}
            for one, kind in zip(pictures, kinds, strict=True)
        ]

    return _TEMPLATE.render(
        title=f"{run.run.name}: {run.run.config.model}",
        lines=[said(line) for line in lines],
        classes=classes,
        temperature=run.temperature,
        below=[said(line) for line in below],
        pictures=place(pictures),
        heading=None if heading is None else said(heading),
        small=place(small),
        notes=[said(line) for line in notes],
    )


def say_problem(problem: str | InputError, file: str | Path = "") -> str:
    """A line for the page, as HTML; a file is shown by its own name, without its path on this machine."""
    line = said(problem)
    line = line.replace(str(file), Path(file).name) if str(file) else line
    return f'<p class="pbl-problem" role="alert">{escape(" ".join(line.split()))}</p>'


def _line(text: str) -> str:
    return f'<p class="pbl-note">{escape(text)}</p>'


class Responder:
    """The functions behind the page's buttons: each answer is the problem, or "", followed by a panel for each run, as HTML.

    Args:
        runs: The runs, side by side.
        folder: For the files that are made from sketches and examples.
    """

    def __init__(self, runs: Sequence[OpenedRun], folder: Path):
        self.runs, self.folder = runs, folder
        self.examples, self.no_examples = runs[0].list_examples()

    def respond(self, files: Sequence[str | Path | None]) -> Iterator[list[str]]:
        """Answers for a file, for each run: first the prediction, then also what explains it."""
        blank = [_greet(run) for run in self.runs]
        asked = [(number, file) for number, file in enumerate(files) if file is not None]
        panels, answers = list(blank), {}
        for number, file in asked:
            try:
                answers[number] = self.runs[number].ask(file)
            except InputError as error:
                yield [say_problem(error, file), *blank]
                return
            except MemoryError:
                told = "{name} needs more memory than is available. Make it smaller."
                yield [say_problem(Sentence(told, name=Path(file).name)), *blank]
                return
            panels[number] = make_panel(self.runs[number], answers[number])
        yield ["", *panels]
        for number, answer in answers.items():
            run = self.runs[number]
            panels[number] = make_panel(run, answer, run.explain(answer), run.find_neighbours(answer))
        if answers:
            yield ["", *panels]

    def see_image(self, file: str | None) -> Iterator[list[str]]:
        """Answers for a file that was given, the same for all runs."""
        yield from self.respond([file] * len(self.runs))

    def see_sketch(self, drawn: str | None) -> Iterator[list[str]]:
        """Answers for a drawing (`read_pad`), which each run gets in its own size."""
        try:
            ink = read_pad(drawn)
            images = [fit_sketch(ink, run.size, run.is_light) if run.has_pad else None for run in self.runs]
        except InputError as error:
            yield [say_problem(error), *map(_greet, self.runs)]
            return
        yield from self.respond([None if image is None else self._write(image) for image in images])

    def see_example(self, number: int) -> Iterator[list[str]]:
        """Answers for a validation image."""
        yield from self.see_image(str(self._write(self.examples[number][0])))

    def make_images(self, count: float, seed: float | None, label: str | None) -> list[str]:
        """Makes new images with each run."""
        panels = []
        try:
            for run in self.runs:
                named = label if run.takes_labels and label in run.class_names else None
                panels.append(_render(run, small=run.generate(int(count), int(seed or 0), named)))
        except InputError as error:
            return [say_problem(error), *map(_greet, self.runs)]
        return ["", *panels]

    def _write(self, image: np.ndarray) -> Path:
        file = Path(tempfile.mkdtemp(dir=self.folder)) / "image.png"
        file.write_bytes(write_png(image))
        return file


def _enlarge(image: np.ndarray) -> Image.Image:
    """An image for the gallery, enlarged so that its pixels are visible if they are few."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    times = max(1, 128 // max(picture.size))
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def build_page(runs: Sequence[OpenedRun], folder: Path) -> tuple[gradio.Blocks, dict[str, Any]]:
    """Builds the page.

    Args:
        runs: The runs, all of which generate images or none.
        folder: For the files of sketches and examples.

    Returns:
        Gradio's blocks, and the arguments of its `launch` for the look of the page.
    """
    responder = Responder(runs, folder)
    look = {
        "theme": gradio.themes.Default(
            font=["system-ui", "sans-serif"], font_mono=["monospace"]
        ),  # no font is downloaded
        "css": STYLE,
        "head": _write_head(),
    }
    at_launch = (
        "css" in inspect.signature(gradio.Blocks.launch).parameters
    )  # Gradio 6; before, the blocks took these arguments
    names = ", ".join(run.run.name for run in runs)
    options: dict[str, Any] = {} if at_launch else look
    with gradio.Blocks(title=f"pbl: {names}", analytics_enabled=False, delete_cache=(3600, 3600), **options) as blocks:
        with gradio.Row():
            with gradio.Column(scale=2, min_width=320):
                with gradio.Tabs():
                    listeners = _build_generator(runs) if runs[0].generates else _build_inputs(responder)
                gradio.HTML('<div id="pbl-own"></div>')  # for the script's messages
                problem = gradio.HTML("")
            with gradio.Column(scale=3, min_width=320), gradio.Row():
                panels = []
                for run in runs:
                    with gradio.Column(min_width=280):
                        panels.append(gradio.HTML(_greet(run)))
        for listen, inputs, answer in listeners:
            listen(answer or responder.make_images, inputs, [problem, *panels], show_progress="hidden")
    return blocks, look if at_launch else {}


def _greet(run: OpenedRun) -> str:
    """The text in a run's place before it has an answer."""
    told = (
        Sentence("Make images: they appear here.")
        if run.generates
        else Sentence("Give an image: the answer appears here.")
    )
    return _render(run, notes=[told])


def _write_head() -> str:
    """The page's script, with its sentences."""
    sentences = {
        "wrong": Sentence("{name} is not an image. Give a JPEG, PNG, WebP or another image file.", name="{name}"),
        "large": Sentence(
            "{name} is larger than {most} MB. Make it smaller: a network uses a few hundred pixels a side.",
            name="{name}",
            most=LARGEST_FILE // 1_000_000,
        ),
        "webcam": Sentence(
            "The webcam cannot be used: the browser blocked it, or there is none. Allow it for this page, or give a file."
        ),
    }
    template = load_template("head.html", Path(__file__).parent)
    words = json.dumps({key: said(one) for key, one in sentences.items()})
    return template.render(sentences=Markup(words.replace("<", "\\u003c")), most=LARGEST_FILE)


def read_pad(address: str | None) -> np.ndarray:
    """Returns how much is drawn at each place of the pad, `uint8 [height, width]`, from what the browser sent: the address of a PNG.

    Raises:
        InputError: It is not such an address.
    """
    wrong = InputError("The sketch is not a drawing. Load the page again.")
    head, _, body = (address or "").partition(",")
    if head != "data:image/png;base64":
        raise wrong
    try:
        content = base64.b64decode(body, validate=True)
    except binascii.Error:
        raise wrong from None
    if count_pixels(content) > MOST_PAD:
        raise wrong
    try:
        return read_ink(decode_image(content, "pad"))
    except InputError:
        raise wrong from None


Listener = tuple[Callable, Any, Callable | None]


def _build_inputs(responder: Responder) -> list[Listener]:
    """The tabs for runs that take images; the components that listen, and the functions that answer."""
    runs, listeners = responder.runs, []
    with gradio.Tab(said(Sentence("Image"))):
        photograph = gradio.Image(
            label=said(Sentence("A file, the clipboard or the webcam")),
            sources=["upload", "clipboard", "webcam"],
            type="filepath",
            image_mode=None,
            height=320,
        )
        # The file is used as it came: decoded by Gradio it would not be the file that `predict` reads, and Gradio would report a wrong file itself.
        # Not by a derived class, since Gradio would write a file next to its source.
        photograph.preprocess = lambda payload: None if payload is None else payload.path
        listeners.append((photograph.change, photograph, responder.see_image))
    if any(run.has_pad for run in runs):
        with gradio.Tab(said(Sentence("Sketch"))):
            gradio.HTML(f'<canvas class="pbl-pad" width="{PAD}" height="{PAD}" data-pen="{PEN}"></canvas>')
            drawn = gradio.Textbox(visible=False)
            with gradio.Row(equal_height=True):
                button = gradio.Button(said(Sentence("Ask the network")), variant="primary", min_width=120)
                clear = gradio.Button(said(Sentence("Clear the pad")), min_width=120)
            clear.click(None, js="() => { pblClearPad(); return []; }")
            listeners.append((partial(button.click, js="() => pblReadPad()"), drawn, responder.see_sketch))
            lines = [
                Sentence("Draw one object, large."),
                Sentence(
                    "Your drawing is converted to the form of MNIST's digits: it is fitted into 20/28 of the image's sides, with its centre of "
                    "mass in the middle."
                ),
            ]
            for run in runs:
                told = "{run} sees it light on dark." if run.is_light else "{run} sees it dark on light."
                if not run.has_pad:
                    told = "{run} gives no answer: its images are not small and grey."
                lines.append(Sentence(told, run=run.run.name))
            gradio.HTML("".join(map(_line, map(said, lines))))
    with gradio.Tab(said(Sentence("Validation"))):
        if responder.examples:
            told = "Validation images of {run}, with their class: mistakes (✗, and the predicted class) and correct ones (✓). Choose one."
            if not runs[0].run.config.is_classifier:
                told = "Validation images of {run}. Choose one."
            gradio.HTML(_line(said(Sentence(told, run=runs[0].run.name))))
            gallery = gradio.Gallery(
                [(_enlarge(image), said(caption)) for image, caption in responder.examples],
                show_label=False,
                columns=4,
                allow_preview=False,
                interactive=False,
                format="png",
                object_fit="contain",
                elem_classes="pbl-gallery",
            )

            def see_chosen(chosen: gradio.SelectData) -> Iterator[list[str]]:
                yield from responder.see_example(chosen.index)

            listeners.append((gallery.select, None, see_chosen))
        else:
            gradio.HTML(say_problem(responder.no_examples or Sentence("There are no validation images to show.")))
    return listeners


def _build_generator(runs: Sequence[OpenedRun]) -> list[Listener]:
    """The tab for runs that generate images."""
    with gradio.Tab(said(Sentence("New images"))):
        count = gradio.Slider(1, MOST_GENERATED, value=16, step=1, label=said(Sentence("How many")))
        seed = gradio.Slider(
            0, 999, value=0, step=1, label=said(Sentence("Seed of the noise: the same seed gives the same images"))
        )
        names = list(dict.fromkeys(name for run in runs if run.takes_labels for name in run.class_names))
        every = said(Sentence("all in turn"))
        label = gradio.Dropdown(
            [every, *names], value=every, label=said(Sentence("Class")), visible=bool(names), interactive=True
        )
        button = gradio.Button(said(Sentence("Make images")), variant="primary")
    return [(button.click, [count, seed, label], None), (seed.release, [count, seed, label], None)]
