"""The page of `python -m pbl demo`: how fast its answer is, and how well the sketch pad's digits are read.

    python experiments/benchmarks/demo.py answer runs/cifar10_resnet20/001   # median of 30 warm answers, of a ResNet-20
    python experiments/benchmarks/demo.py pad runs/mnist_small_cnn/001       # 100 printed digits, as strokes on the pad

The digits are those of ten fonts that matplotlib brings. Each is drawn 220 pixels high, thinned to lines of one pixel (Zhang and Suen
1984) and drawn again with the pad's own pen, in the middle of the pad; then it goes the pad's whole way: PNG, `read_pad`, `fit_sketch`, a
file, the page's answer. `demo.md` holds what came out.
"""

import base64
import io
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pbl.demonstration.answers import OpenedRun, open_run
from pbl.demonstration.page import PAD, PEN, read_pad
from pbl.demonstration.sketches import fit_sketch
from pbl.evaluation.mistakes import write_png

TIMES = 30
HEIGHT = 220  # pixels of a digit on the pad
FONTS = (
    "DejaVuSans DejaVuSans-Oblique DejaVuSansMono DejaVuSerif DejaVuSerif-Italic cmr10 cmss10 cmtt10 STIXGeneral STIXGeneralItalic"
).split()
FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def print_digit(digit: int, font: str) -> np.ndarray:
    """A digit of a font, `bool [height, width]`, as large as the pad's drawings are."""
    letters = ImageFont.truetype(FOLDER / f"{font}.ttf", 400)
    left, top, right, bottom = letters.getbbox(str(digit))
    picture = Image.new("L", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(picture).text((1 - left, 1 - top), str(digit), fill=255, font=letters)
    width = max(1, round(picture.width * HEIGHT / picture.height))
    return np.pad(np.asarray(picture.resize((width, HEIGHT), Image.Resampling.BOX)) > 127, 2)


def thin(shape: np.ndarray) -> np.ndarray:
    """Takes pixels from the borders of a shape, `bool [height, width]`, until lines of one pixel are left.

    Source: T. Y. Zhang, C. Y. Suen (1984), A fast parallel algorithm for thinning digital patterns, Communications of the ACM 27.
    """
    shape = shape.copy()
    while True:
        before = shape.copy()
        for step in (0, 1):
            padded = np.pad(shape, 1)
            # The eight neighbours, from the one above on, clockwise.
            p = [padded[1 + y : padded.shape[0] - 1 + y, 1 + x : padded.shape[1] - 1 + x] for y, x in ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))]  # fmt: skip
            count = np.sum(p, axis=0)
            turns = np.sum([~p[at] & p[(at + 1) % 8] for at in range(8)], axis=0)
            first = ~(p[0] & p[2] & p[4]) if step == 0 else ~(p[0] & p[2] & p[6])
            second = ~(p[2] & p[4] & p[6]) if step == 0 else ~(p[0] & p[4] & p[6])
            shape &= ~((count >= 2) & (count <= 6) & (turns == 1) & first & second)
        if np.array_equal(before, shape):
            return shape


def draw_on_pad(line: np.ndarray) -> str:
    """Draws a line of one pixel with the pad's pen, in the pad's middle; returns what the browser would send."""
    pad = Image.new("RGBA", (PAD, PAD))
    pen = ImageDraw.Draw(pad)
    top, left = ((PAD - side) // 2 for side in line.shape)
    for y, x in np.argwhere(line):
        y, x = y + top, x + left
        pen.ellipse((x - PEN / 2, y - PEN / 2, x + PEN / 2, y + PEN / 2), fill=(0, 0, 0, 255))
    stream = io.BytesIO()
    pad.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def measure_answer(run: OpenedRun, folder: Path) -> None:
    image = run.list_examples()[0][0][0]
    file = folder / "image.png"
    file.write_bytes(write_png(image))
    run.ask(file)
    stages = {"answer: file, pixels, probabilities": [], "Grad-CAM": [], "nearest training images": []}
    for _ in range(TIMES):
        begin = time.perf_counter()
        answer = run.ask(file)
        run.list_classes(answer)
        middle = time.perf_counter()
        run.explain(answer)
        explained = time.perf_counter()
        run.find_neighbours(answer)
        ends = (middle - begin, explained - middle, time.perf_counter() - explained)
        for seconds, stage in zip(ends, stages.values(), strict=True):
            stage.append(seconds)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"{run.run.config.model} on {run.size[0]} x {run.size[1]} pixels, {os.cpu_count()} cores, load {load}; {TIMES} times, warm"
    )
    for name, seconds in stages.items():
        print(
            f"{name}: median {1000 * statistics.median(seconds):.0f} ms, {1000 * min(seconds):.0f} to {1000 * max(seconds):.0f}"
        )


def measure_pad(run: OpenedRun, folder: Path) -> None:
    right = np.zeros((len(FONTS), 10), bool)
    wrong = []
    for row, font in enumerate(FONTS):
        for digit in range(10):
            ink = read_pad(draw_on_pad(thin(print_digit(digit, font))))
            file = folder / "image.png"
            file.write_bytes(write_png(fit_sketch(ink, run.size, run.is_light)))
            said = run.list_classes(run.ask(file))[0]
            right[row, digit] = said.name == str(digit)
            if said.name != str(digit):
                wrong.append(f"{font} {digit}: {said.name} ({said.calibrated:.0%})")
    print(f"{run.run.name}, {run.run.config.model}: {right.sum()} of {right.size} digits right")
    for name, count in zip(FONTS, right.sum(axis=1), strict=True):
        print(f"{name}: {count} of 10")
    print("by digit:", *(f"{digit}: {count}" for digit, count in enumerate(right.sum(axis=0))))
    print("wrong:", *wrong, sep="\n  ")
    try:
        metrics = run.run.read_json("metrics_test.json")
        print(
            f"test split: {metrics['accuracy']:.4f} of {metrics['images']:,} images right, interval {metrics['accuracy_interval']}"
        )
    except ValueError:
        print(f"No metrics of the test split: python -m pbl evaluate {run.run.path} --split test")


def main() -> None:
    what, path = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        {"answer": measure_answer, "pad": measure_pad}[what](open_run(path), Path(folder))


if __name__ == "__main__":
    main()
