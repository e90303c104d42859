"""How often `pbl.diagnosis` is right: runs of known cause, and the verdict on each.

A run is one `fit` of seconds, with `OverfittingMonitor`, of a condition: a healthy recipe, or one with a planted fault (`CONDITIONS`).
Truth is the fault where one was planted and the training shows it; whether a run over- or underfits is decided by an oracle,
2,500 images (of digits 597, of photographs 118) that neither the training nor the verdict has seen: overfitting where accuracy on training images is at
least 6 points above the oracle's, or the oracle's loss rose by 25% after its lowest; underfitting where the oracle's accuracy is
3 points below the median of the healthy runs of that domain. Where both hold, and not even the training images are known as well as
healthy runs know unseen ones, it is underfitting if more is missing on training images than the gap, overfitting if the gap is twice
what is missing, and between them either; either too where there is a gap and the oracle's loss still fell, by 14% of its descent in the
last fifth of the epochs; so may a healthy run be called underfitting then. Either too where the oracle's accuracy gains 2 points, and its standard
error, when the training goes on for as many epochs again (in two runs on eight kinds of surface, with 65 and 74% of the training images known and 50 and 55% of the
others, 30 more epochs gave 4 to 10 points; small shifts and rotations took 22 to 27). A class that lost labels to another, and of the oracle's images of which nine in ten of what the others have
are right, did no harm. A run that learned nothing may be called by any reason why; one that
a planted low rate or few epochs did no harm may be called healthy or underfitting; near a border either side is right. Batch
normalisation's averages are a fault where the oracle's accuracy gains 2 points or more when they are taken anew from all training
images, planted or not; planted ones that cost less may be found or not. What is kept of a run are its signals, the data doctor's
findings, and the oracle's curves, so rules are judged again in seconds.

Thresholds were set on seeds below `UNTOUCHED_SEED`; those from it on and `UNTOUCHED_DOMAINS` are judged, once, with
`--untouched`. Who changes a rule by what they show sets new ones aside.

Of the conditions some are harmless, and look like faults: altered copies made after the split, oversampling, label smoothing, class
weights, a warm start, a resumed training, early stopping, batches of two, an epoch at ten times the rate, warm restarts.
The data doctor's findings are those that a run, and `monitor.diagnosis` of a notebook's arrays, has: of 1,000 images of each side.

Command:  python experiments/benchmarks/diagnosis.py make --data DIR --runs FOLDER --seeds 2    (goes on where it ended)
          python experiments/benchmarks/diagnosis.py judge --runs FOLDER [--untouched]
          DIR holds mnist.npz, cifar10.zip, ants_bees.zip and magnetic_tiles.zip
"""

import argparse
import hashlib
import io
import json
import os
import re
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

from pbl.diagnosis.rules import NAMES, diagnose
from pbl.diagnosis.signals import Side, Signals, count_pairs
from pbl.statistics import wilson_interval
from pbl.storage.writing import replacing

# The two domains were judged with seeds 42 to 46: before another judgement other ones are to be set aside.
UNTOUCHED_SEED, UNTOUCHED_DOMAINS = 47, ("dice", "suits")
GAP, RISE, BELOW, RENEWED, STILL_FALLS, SPARED, LONGER = 0.06, 0.25, 0.03, 0.02, 0.14, 0.9, 0.02  # of the oracle


@dataclass
class Setup:
    """What a run is made of; conditions change it."""

    train: tuple[np.ndarray, np.ndarray]  # uint8 [n, side, side, channels], int32 [n]
    val: tuple[np.ndarray, np.ndarray]
    oracle: tuple[np.ndarray, np.ndarray]
    classes: int
    seed: int
    filters: int = 16
    dense: int = 64
    network: str = (
        ""  # a registered builder, "sigmoid" (10 dense layers) or "plain" (16 convolutions), in place of the CNN
    )
    pretrained: str = ""  # "frozen" or "fine_tuned": the convolutions come from many other images of the domain
    dropout: float = 0.5
    batch_norm: float | None = None  # its momentum
    l2: float = 0.0
    bias: float = 0.0
    spread: float | None = None  # standard deviation of the initial weights; He's otherwise
    optimizer: str = "sgd"
    rate: float = 0.01
    batch: int = 64
    epochs: int = 30
    augmentation: float = 0.0
    options: dict = field(default_factory=dict)  # of a registered builder
    head: str = "softmax"  # "sigmoid", or "twice": softmax of a softmax
    rescales: bool = True  # as its first layer
    smoothing: float = 0.0
    weighted: bool = False  # rare classes count for more
    schedule: str = ""  # "spike": an epoch of 10 times the rate; "restarts": a cosine from the rate to 0, three times
    patience: int = 0  # of early stopping, which puts the best weights back
    before: int = 0  # epochs that were trained before
    parts: int = 1  # of the training, one resumed after the other

    @property
    def random(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, 7])


# Domains: (train, val, oracle) counts, 7 to 3 of what a team would have, and the pool that they are drawn from.

COUNTS = {
    "digits": (840, 360, 597),
    "mnist": (1600, 700, 2500),
    "cifar10": (1600, 700, 2500),
    "ants_bees": (196, 84, 118),
    "vehicles": (1600, 700, 2500),
    "animals": (1600, 700, 2500),
    "four_vehicles": (1600, 700, 2500),
    "cats_dogs": (1600, 700, 2500),
    "odd_even": (1600, 700, 2500),
    "four_animals": (1600, 700, 2500),
    "airplanes_birds": (1600, 700, 2500),
    "two_digits": (3000, 1000, 2500),
    "tiles": (640, 300, 400),
    "signs": (1800, 700, 1500),
    "tones": (1200, 500, 2000),
    "digits_on_photographs": (1600, 700, 2500),
    "letters": (1400, 600, 2500),
    "textures": (1200, 500, 2000),
    "clocks": (1500, 650, 2500),
    "faces": (1300, 550, 2500),
    "dice": (1400, 600, 2500),
    "suits": (1600, 700, 2500),
}
VEHICLES = (0, 1, 8, 9)  # airplane, automobile, ship, truck; the six between them are animals
# Classes of CIFAR-10, and from which on how many training images of each, that no other domain has.
CHOSEN = {
    "four_vehicles": (VEHICLES, 1000, 1200),
    "cats_dogs": ((3, 5), 1000, 2400),
    "four_animals": ((2, 4, 6, 7), 1000, 1200),
    "airplanes_birds": ((0, 2), 2200, 2400),
}
# That share the conditions of a seed and domain. The runs of a team have the same images, and one of its first, but of photographs, is
# one of a good recipe: the three healthy ones, or mild augmentation.
TEAMS = 4


@cache
def load_pool(domain: str, folder: Path | None, other: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels; `other`: many more of the same kind, for pre-training."""
    if domain == "digits" and other:  # MNIST in the size of digits
        with np.load(folder / "mnist.npz") as arrays:
            pixels, labels = arrays["x_train"][:10_000, 2:26, 2:26], arrays["y_train"][:10_000].astype(np.int32)
        return pixels.reshape(-1, 8, 3, 8, 3).mean(axis=(2, 4)).astype(np.uint8)[..., None], labels
    if domain == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return (digits.images[..., None] * 255 / 16).astype(np.uint8), digits.target.astype(np.int32)
    if domain == "two_digits":  # a hundred classes
        pixels, labels = load_pool("mnist", folder, other=True)
        left, right = (
            np.random.default_rng(0).permutation(len(labels)),
            np.random.default_rng(1).permutation(len(labels)),
        )
        return np.concatenate([pixels[left], pixels[right]], axis=2), (10 * labels[left] + labels[right]).astype(
            np.int32
        )
    if domain == "tiles":
        return _read_tiles(folder)[:2]
    drawings = {
        "signs": _draw_signs, "tones": _draw_tones, "letters": _draw_letters, "textures": _draw_textures, "clocks": _draw_clocks, "faces": _draw_faces,
        "dice": _draw_dice, "suits": _draw_suits,
    }  # fmt: skip
    if domain in drawings:
        return drawings[domain](10_000 if other else sum(COUNTS[domain]), seed=int(other))
    if domain == "digits_on_photographs":
        return _blend_digits(folder, other)
    if domain in ("mnist", "odd_even"):
        with np.load(folder / "mnist.npz") as arrays:
            part = "train" if other or domain == "odd_even" else "test"
            at = slice(10_000) if other or domain == "mnist" else slice(10_000, 20_000)
            pixels, labels = arrays[f"x_{part}"][at], arrays[f"y_{part}"][at].astype(np.int32)
        pixels = pixels.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).astype(np.uint8)[..., None]
        return pixels, labels % 2 if domain == "odd_even" else labels
    if domain == "ants_bees" and not other:
        return _read_zip(folder / "ants_bees.zip", "/", side=32)
    side = 32 if domain == "ants_bees" else 16
    classes, first, each = CHOSEN.get(domain, (range(10), 0, 1000))
    part = "train" if domain in CHOSEN else "test"
    if other:
        part, first, each = "train", 0, 1000
    pixels, labels = _read_zip(folder / "cifar10.zip", f"/{part}/", side, first, each)
    if domain in CHOSEN:
        chosen = np.isin(labels, classes)
        return pixels[chosen], np.searchsorted(classes, labels[chosen]).astype(np.int32)
    if domain == "animals":
        chosen = ~np.isin(labels, VEHICLES)
        return pixels[chosen], labels[chosen] - 2
    return pixels, np.isin(labels, VEHICLES).astype(np.int32) if domain == "vehicles" else labels


@cache
def _read_tiles(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Surfaces of magnetic tiles, whole and with a defect; and what must stay together: by the names a series of exposures of one
    place, and by the pixels what looks alike, since some places were taken under several names."""
    from PIL import Image
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    from pbl.data.look_alike import group_look_alikes

    pixels, labels, series = [], [], [0]
    with zipfile.ZipFile(folder / "magnetic_tiles.zip") as archive:
        names = [name for name in archive.namelist() if "/images/" in name and name.endswith(".jpg")]
        taken = {name: [int(word) for word in re.findall("[0-9]+", name.split("/")[-1])] for name in names}
        names.sort(key=lambda name: (name.split("/")[-2], taken[name][1]))
        for name, earlier in zip(names, [names[0], *names], strict=False):
            is_same = name.split("/")[-2] == earlier.split("/")[-2] and taken[name][0] > taken[earlier][0]
            series.append(series[-1] + (not is_same))
            with Image.open(io.BytesIO(archive.read(name))) as image:
                pixels.append(np.asarray(image.convert("L").resize((24, 24), Image.Resampling.BOX))[..., None])
            labels.append(int("/free/" not in name))
    images, n = np.stack(pixels), len(pixels)
    alike = np.array(group_look_alikes(images, [str(number) for number in range(n)]), int)
    # An image is tied to its series, which stands behind the images, and to the first that it looks like.
    ties = np.concatenate([n + np.array(series[1:]), alike])
    graph = coo_matrix((np.ones(2 * n), (np.tile(np.arange(n), 2), ties)), (2 * n + 1, 2 * n + 1))
    together = connected_components(graph, directed=False)[1][:n]
    return images, np.array(labels, np.int32), np.unique(together, return_inverse=True)[1]


SIGN_SHAPES = ("circle", "triangle", "square", "octagon")
SIGN_MARKS = ("bar", "cross", "dot", "arrow")
SIGN_COLOURS = ((190, 40, 45), (40, 80, 180), (225, 180, 40))


@cache
def _draw_signs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of 48 road signs, 16 pixels a side, of four shapes, three colours and four marks; the commonest is three times
    as frequent as the rarest. Place, size, turn, light, ground and noise differ."""
    from PIL import Image, ImageDraw

    random = np.random.default_rng([seed, 48])
    classes = len(SIGN_SHAPES) * len(SIGN_MARKS) * len(SIGN_COLOURS)
    frequent = np.linspace(1, 3, classes)
    labels = random.choice(classes, count, p=frequent / frequent.sum()).astype(np.int32)
    pixels = np.empty((count, 16, 16, 3), np.uint8)
    for at, label in enumerate(labels):
        shape, mark, colour = np.unravel_index(label, (len(SIGN_SHAPES), len(SIGN_MARKS), len(SIGN_COLOURS)))
        picture = Image.new("RGB", (64, 64), tuple(random.integers(40, 200, 3).tolist()))
        pen, of = ImageDraw.Draw(picture), SIGN_COLOURS[colour]
        centre, size, turn = 32 + random.uniform(-4, 4, 2), random.uniform(22, 29), random.normal(0, 6)

        def ring(sides: int, radius: float, first: float, centre: np.ndarray = centre, turn: float = turn) -> list:
            angles = np.deg2rad(first + turn + 360 * np.arange(sides) / sides)
            return [tuple(centre + radius * np.array([np.cos(angle), np.sin(angle)])) for angle in angles]

        sides, first = {"circle": (40, 0), "triangle": (3, -90), "square": (4, 45), "octagon": (8, 22.5)}[
            SIGN_SHAPES[shape]
        ]
        pen.polygon(ring(sides, size, first), fill=of)
        pen.polygon(ring(sides, 0.72 * size, first), fill=(235, 235, 230))
        up, down, left, right = (np.array(ring(4, 0.38 * size, -90)[number]) for number in (0, 2, 3, 1))
        kind = SIGN_MARKS[mark]
        if kind == "dot":
            pen.polygon(ring(16, 0.26 * size, 0), fill=(20, 20, 20))
        if kind in ("bar", "cross"):
            pen.line([tuple(left), tuple(right)], fill=(20, 20, 20), width=7)
        if kind in ("cross", "arrow"):
            pen.line([tuple(up), tuple(down)], fill=(20, 20, 20), width=7)
        if kind == "arrow":
            pen.polygon([tuple(up), tuple((left + centre) / 2), tuple((right + centre) / 2)], fill=(20, 20, 20))
        small = np.asarray(picture.resize((16, 16), Image.Resampling.BOX), float) * random.uniform(0.45, 1.1)
        pixels[at] = np.clip(small + random.normal(0, 9, small.shape), 0, 255)
    return pixels, labels


@cache
def _draw_tones(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Spectrograms, 24 x 24, of two seconds of eight kinds of sound in noise: steady, rising, falling, up and down, trembling, pulsed, two
    tones by turns, and a hiss that fades. Pitch, speed, loudness, overtones and noise differ."""
    random = np.random.default_rng([seed, 24])
    rate, length = 4000, 8000
    at = np.arange(length) / rate
    window = np.hanning(256)
    pixels, labels = np.empty((count, 24, 24, 1), np.uint8), random.integers(0, 8, count).astype(np.int32)
    for image, label in zip(pixels, labels, strict=True):
        low, speed, phase = random.uniform(250, 900), random.uniform(1.5, 4), random.uniform(0, 1)
        turn = (speed * at / 2 + phase) % 1
        pitch = {
            1: low * (1 + at / 2 * random.uniform(0.5, 1.2)),
            2: low * (1 + (2 - at) / 2 * random.uniform(0.5, 1.2)),
            3: low * (1 + random.uniform(0.4, 1) * np.abs(2 * turn - 1)),
            4: low * (1 + random.uniform(0.03, 0.1) * np.sin(2 * np.pi * 2 * speed * at)),
            6: low * np.where(turn < 0.5, 1, random.uniform(1.25, 1.8)),
        }.get(int(label), np.full(length, low))
        angle = 2 * np.pi * np.cumsum(pitch) / rate
        sound = np.sin(angle) + random.uniform(0, 0.6) * np.sin(2 * angle)
        if label == 5:
            sound *= turn < 0.5
        if label == 7:
            sound = random.normal(0, 1.5, length) * np.exp(-at * random.uniform(0.5, 2))
        sound = random.uniform(0.25, 1) * sound + random.normal(0, random.uniform(0.3, 1), length)
        frames = np.stack(
            [sound[begin : begin + 256] * window for begin in np.linspace(0, length - 256, 24).astype(int)]
        )
        power = np.abs(np.fft.rfft(frames))[:, 4:124].reshape(24, 24, 5).mean(axis=2).T[::-1]
        image[..., 0] = np.clip(255 * (np.log10(power + 1e-3) + 0.2) / 2.2, 0, 255)
    return pixels, labels


@cache
def _draw_letters(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Capital letters A to H, 20 x 20, in the fonts that come with matplotlib: turned, sheared, of other sizes and contrasts, with a
    stroke across some and noise over all."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    random = np.random.default_rng([seed, 32])
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = [folder / f"{name}.ttf" for name in ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSansMono", "STIXGeneral", "STIXGeneralItalic", "cmr10", "cmtt10", "cmss10")]  # fmt: skip
    fonts = [ImageFont.truetype(str(file), 44) for file in files]
    pixels, labels = np.empty((count, 20, 20, 1), np.uint8), random.integers(0, 8, count).astype(np.int32)
    for image, label in zip(pixels, labels, strict=True):
        picture = Image.new("L", (80, 80))
        pen = ImageDraw.Draw(picture)
        pen.text((40, 40), "ABCDEFGH"[label], fill=255, font=fonts[random.integers(len(fonts))], anchor="mm")
        if random.random() < 0.3:
            pen.line([tuple(of) for of in random.uniform(0, 80, (2, 2))], fill=255, width=4)
        angle, size, shear = random.uniform(-0.4, 0.4), random.uniform(0.8, 1.5), random.uniform(-0.3, 0.3)
        turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ [[1, shear], [0, 1]]
        shift = 40 - turn @ (40 + random.uniform(-6, 6, 2))
        moved = picture.transform((80, 80), Image.Transform.AFFINE, (*turn[0], shift[0], *turn[1], shift[1]))
        small = np.asarray(moved.resize((20, 20), Image.Resampling.BOX), float)
        contrast = random.uniform(70, 255)
        drawn = random.uniform(0, 255 - contrast) + small / 255 * contrast
        image[..., 0] = np.clip(drawn + random.normal(0, random.uniform(5, 25), small.shape), 0, 255)
    return pixels, labels


@cache
def _draw_textures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Eight kinds of surface in two colours, 16 x 16 of a larger one: stripes, checks, rings, dots, blots, a slope, scratches and bricks. Scale,
    direction, place, colours and noise differ."""
    random = np.random.default_rng([seed, 33])
    down, right = np.mgrid[:16, :16].astype(float)
    pixels, labels = np.empty((count, 16, 16, 3), np.uint8), random.integers(0, 8, count).astype(np.int32)
    for image, label in zip(pixels, labels, strict=True):
        angle, length = random.uniform(0, np.pi), random.uniform(4, 8)
        along, across = (down * np.cos(angle + of) + right * np.sin(angle + of) for of in (0, np.pi / 2))
        phase, centre = random.uniform(0, 2 * np.pi, 2), random.uniform(-4, 20, 2)
        waves = [np.sin(2 * np.pi * way / length + of) for way, of in zip((along, across), phase, strict=True)]
        if label == 0:
            part = waves[0]
        elif label == 1:
            part = np.sign(waves[0] * waves[1])
        elif label == 2:
            part = np.sin(2 * np.pi * np.hypot(down - centre[0], right - centre[1]) / length + phase[0])
        elif label == 3:
            part = np.where(waves[0] + waves[1] > 1, 1.0, -1.0)
        elif label == 4:
            coarse = np.kron(random.normal(0, 1, (5, 5)), np.ones((4, 4)))[:16, :16]
            part = np.sign(coarse)
        elif label == 5:
            part = (along - along.mean()) / 8
        elif label == 6:
            part = np.full((16, 16), -1.0)
            for _ in range(random.integers(2, 5)):
                angle, offset = random.uniform(0, np.pi), random.uniform(-4, 12)
                part[np.abs(down * np.cos(angle) + right * np.sin(angle) - offset) < 0.6] = 1
        else:
            row = np.floor(down / 4)
            part = np.where((down % 4 < 1) | ((right + 3 * (row % 2) + centre[0]) % 6 < 1), 1.0, -1.0)
        colours = random.uniform(0, 255, (2, 3))
        mixed = colours[0] + (np.clip(part, -1, 1)[..., None] + 1) / 2 * (colours[1] - colours[0])
        image[:] = np.clip(mixed + random.normal(0, random.uniform(5, 40), mixed.shape), 0, 255)
    return pixels, labels


@cache
def _draw_clocks(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clocks that show one of twelve hours with two hands, 20 x 20: of other sizes and places, slightly turned, with a rim, ticks or neither, dark on
    bright or bright on dark."""
    from PIL import Image, ImageDraw

    random = np.random.default_rng([seed, 38])
    pixels, labels = np.empty((count, 20, 20, 1), np.uint8), random.integers(0, 12, count).astype(np.int32)
    for image, label in zip(pixels, labels, strict=True):
        picture = Image.new("L", (80, 80))
        pen = ImageDraw.Draw(picture)
        centre, radius, turned = random.uniform(34, 46, 2), random.uniform(26, 34), random.normal(0, 0.04)
        minute = random.integers(60)

        def reach(share: float, of: float, centre=centre, radius=radius, turned=turned) -> tuple[float, ...]:
            angle = 2 * np.pi * share + turned
            return tuple(centre + of * radius * np.array([np.sin(angle), -np.cos(angle)]))

        if random.random() < 0.7:
            pen.ellipse([*(centre - radius), *(centre + radius)], outline=255, width=int(random.integers(2, 5)))
        if random.random() < 0.7:
            for at in range(12):
                pen.line([reach(at / 12, 0.85), reach(at / 12, 0.95)], fill=255, width=3)
        pen.line(
            [tuple(centre), reach((label + minute / 60) / 12, random.uniform(0.45, 0.55))],
            fill=255,
            width=int(random.integers(6, 10)),
        )
        pen.line(
            [tuple(centre), reach(minute / 60, random.uniform(0.75, 0.9))], fill=255, width=int(random.integers(3, 6))
        )
        small = np.asarray(picture.resize((20, 20), Image.Resampling.BOX), float) / 255
        contrast = random.uniform(90, 250)
        drawn = random.uniform(0, 255 - contrast) + contrast * (small if random.random() < 0.5 else 1 - small)
        image[..., 0] = np.clip(drawn + random.normal(0, random.uniform(3, 20), small.shape), 0, 255)
    return pixels, labels


@cache
def _draw_faces(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Drawn faces with one of six expressions, 18 x 18: glad, sad, astonished, calm, angry, asleep. Colours, size, place, hair and inclination differ."""
    from PIL import Image, ImageDraw

    random = np.random.default_rng([seed, 39])
    pixels, labels = np.empty((count, 18, 18, 3), np.uint8), random.integers(0, 6, count).astype(np.int32)
    for image, label in zip(pixels, labels, strict=True):
        behind, skin, hair, line = (
            tuple(random.integers(*of, 3).tolist()) for of in ((0, 256), (120, 256), (0, 200), (0, 90))
        )
        picture = Image.new("RGB", (90, 90), behind)
        pen = ImageDraw.Draw(picture)
        x, y, size = *random.uniform(40, 50, 2), random.uniform(0.8, 1.1)

        def box(left: float, top: float, right: float, bottom: float, x=x, y=y, size=size) -> list[float]:
            return [x + size * left, y + size * top, x + size * right, y + size * bottom]

        pen.ellipse(box(-32, -36, 32, 36), fill=skin)
        if random.random() < 0.6:
            pen.pieslice(box(-33, -38, 33, random.uniform(10, 25)), 180, 360, fill=hair)
        width, mouth, open_by = int(random.integers(4, 7)), random.uniform(12, 18), random.uniform(6, 11)
        for side in (-1, 1):
            eye = 13 * side + random.normal(0, 1)
            if label == 5:
                pen.line(box(eye - 6, -5, eye + 6, -5), fill=line, width=width)
            else:
                height = 8 if label == 2 else 5
                pen.ellipse(box(eye - 5, -5 - height, eye + 5, -5 + height), fill=line)
            if label == 4:
                pen.line(box(eye - 8 * side, -12, eye + 8 * side, -20), fill=line, width=width)
        if label == 0:
            pen.arc(box(-mouth, 2, mouth, 26), 20, 160, fill=line, width=width)
        elif label in (1, 4):
            pen.arc(box(-mouth, 16, mouth, 34), 200, 340, fill=line, width=width)
        elif label == 2:
            pen.ellipse(box(-7, 18 - open_by, 7, 18 + open_by), fill=line)
        else:
            pen.line(box(-mouth, 19, mouth, 19), fill=line, width=width)
        picture = picture.rotate(random.uniform(-15, 15), fillcolor=behind)
        small = np.asarray(picture.resize((18, 18), Image.Resampling.BOX), float)
        image[:] = np.clip(small + random.normal(0, random.uniform(5, 25), small.shape), 0, 255)
    return pixels, labels


@cache
def _draw_dice(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Dice from above, one to six, 20 x 20: turned by any angle, some with round corners and some cut off a little. Colours, size, place,
    the size of the pips and noise differ."""
    from PIL import Image, ImageDraw

    random = np.random.default_rng([seed, 42])
    places = {
        0: [(0, 0)], 1: [(-1, -1), (1, 1)], 2: [(-1, -1), (0, 0), (1, 1)], 3: [(-1, -1), (-1, 1), (1, -1), (1, 1)],
        4: [(-1, -1), (-1, 1), (0, 0), (1, -1), (1, 1)], 5: [(-1, -1), (-1, 0), (-1, 1), (1, -1), (1, 0), (1, 1)],
    }  # fmt: skip
    pixels, labels = np.empty((count, 20, 20, 3), np.uint8), random.integers(0, 6, count).astype(np.int32)
    for image, label in zip(pixels, labels, strict=True):
        behind, body = (tuple(random.integers(*of, 3).tolist()) for of in ((0, 130), (150, 256)))
        pip = (20, 20, 20) if random.random() < 0.7 else (170, 20, 20)
        picture = Image.new("RGB", (100, 100), behind)
        pen = ImageDraw.Draw(picture)
        x, y, half = *random.uniform(43, 57, 2), random.uniform(26, 36)
        pen.rounded_rectangle([x - half, y - half, x + half, y + half], radius=random.uniform(0, 12), fill=body)
        apart, radius = half * random.uniform(0.5, 0.6), half * random.uniform(0.16, 0.22)
        for across, down in places[int(label)]:
            at = x + apart * across, y + apart * down
            pen.ellipse([at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius], fill=pip)
        picture = picture.rotate(random.uniform(0, 360), Image.Resampling.BILINEAR, fillcolor=behind)
        small = np.asarray(picture.resize((20, 20), Image.Resampling.BOX), float) * random.uniform(0.6, 1.1)
        image[:] = np.clip(small + random.normal(0, random.uniform(3, 18), small.shape), 0, 255)
    return pixels, labels


@cache
def _draw_suits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The four suits of playing cards, 18 x 18: turned, of other sizes, places and colours on a sloping ground, a corner of
    some covered."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    random = np.random.default_rng([seed, 43])
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [ImageFont.truetype(str(folder / f"{name}.ttf"), 62) for name in ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono")]  # fmt: skip
    pixels, labels = np.empty((count, 18, 18, 3), np.uint8), random.integers(0, 4, count).astype(np.int32)
    slope = np.linspace(-1, 1, 90)
    for image, label in zip(pixels, labels, strict=True):
        behind, ink = random.integers(0, 256, 3), random.integers(0, 256, 3)
        while abs(behind.sum() - ink.sum()) < 180:
            ink = random.integers(0, 256, 3)
        mask = Image.new("L", (90, 90))
        place = tuple(random.uniform(42, 48, 2))
        ImageDraw.Draw(mask).text(
            place, "\u2660\u2665\u2666\u2663"[label], fill=255, font=fonts[random.integers(len(fonts))], anchor="mm"
        )
        size = round(90 * random.uniform(1.1, 1.6))
        mask = mask.rotate(random.uniform(-25, 25), Image.Resampling.BILINEAR).resize((size, size))
        mask = mask.crop(((size - 90) // 2, (size - 90) // 2, (size - 90) // 2 + 90, (size - 90) // 2 + 90))
        angle, strength = random.uniform(0, 2 * np.pi), random.uniform(0, 40)
        ground = strength * (np.cos(angle) * slope[:, None] + np.sin(angle) * slope)[..., None]
        part = np.asarray(mask, float)[..., None] / 255
        drawn = part * ink + (1 - part) * (behind + ground)
        if random.random() < 0.25:
            drawn[: random.integers(15, 35), : random.integers(15, 35)] = random.integers(0, 256, 3)
        small = drawn.reshape(18, 5, 18, 5, 3).mean(axis=(1, 3))
        image[:] = np.clip(small + random.normal(0, random.uniform(3, 20), small.shape), 0, 255)
    return pixels, labels


@cache
def _blend_digits(folder: Path, other: bool) -> tuple[np.ndarray, np.ndarray]:
    """Digits of MNIST through which parts of photographs shine in other colours, as Ganin et al. 2016 made theirs: the difference of
    the two, 14 pixels a side."""
    random = np.random.default_rng([int(other), 14])
    digits, labels = load_pool("mnist", folder, other)
    photographs = _read_zip(folder / "cifar10.zip", "/test/", 14)[0]
    behind = photographs[random.integers(0, len(photographs), len(digits))].astype(int)
    return np.abs(behind - digits.astype(int)).astype(np.uint8), labels


def _read_zip(file: Path, part: str, side: int, first: int = 0, each: int = 10**6) -> tuple[np.ndarray, np.ndarray]:
    """Images of class folders, from the first on at most so many of each, reduced to `side`."""
    from PIL import Image

    pixels, labels, counts = [], [], Counter()
    with zipfile.ZipFile(file) as archive:
        names = sorted(name for name in archive.namelist() if part in name and name.lower().endswith((".jpg", ".png")))
        classes = sorted({name.split("/")[-2] for name in names})
        for name in names:
            label = classes.index(name.split("/")[-2])
            counts[label] += 1
            if not first < counts[label] <= first + each:
                continue
            with Image.open(io.BytesIO(archive.read(name))) as image:
                image = image.convert("RGB")
                least = min(image.size)
                left, top = (image.width - least) // 2, (image.height - least) // 2
                image = image.crop((left, top, left + least, top + least)).resize((side, side), Image.Resampling.BOX)
            pixels.append(np.asarray(image))
            labels.append(label)
    return np.stack(pixels), np.array(labels, np.int32)


def draw(
    domain: str, seed: int, folder: Path | None, team: int = 0, counts: tuple[int, int, int] | None = None
) -> Setup:
    """The images of a team: were there one alone, all runs of a seed would share its unlucky draw."""
    pixels, labels = load_pool(domain, folder)
    random = np.random.default_rng([seed, team])
    order = random.permutation(len(labels))
    if domain == "tiles":  # what shows one place stays together
        series = _read_tiles(folder)[2]
        order = np.argsort(random.permutation(series.max() + 1)[series], kind="stable")
    parts, begin = [], 0
    for count in counts or COUNTS[domain]:
        at = order[begin : begin + count]
        parts.append((pixels[at], labels[at]))
        begin += count
    return Setup(*parts, classes=int(labels.max()) + 1, seed=seed)


# Conditions


def fewer(setup: Setup, count: int) -> Setup:
    return replace(setup, train=tuple(array[:count] for array in setup.train))


def noisy_labels(setup: Setup, share: float) -> Setup:
    pixels, labels = setup.train
    wrong = setup.random.random(len(labels)) < share
    other = (labels + setup.random.integers(1, setup.classes, len(labels))) % setup.classes
    return replace(setup, train=(pixels, np.where(wrong, other, labels).astype(np.int32)))


def random_labels(setup: Setup) -> Setup:
    return replace(
        setup,
        train=(setup.train[0], setup.random.permutation(setup.train[1])),
        epochs=60,
        dropout=0.0,
        optimizer="adam",
        rate=1e-3,
    )


def leak(setup: Setup, share: float = 0.4) -> Setup:
    """Part of validation are copies of training images, half of them with noise."""
    count = int(share * len(setup.val[1]))
    at = setup.random.choice(len(setup.train[1]), count, replace=False)
    pixels, labels = (array.copy() for array in setup.val)
    pixels[:count], labels[:count] = setup.train[0][at], setup.train[1][at]
    noise = setup.random.normal(0, 8, pixels[: count // 2].shape)
    pixels[: count // 2] = np.clip(pixels[: count // 2] + noise, 0, 255).astype(np.uint8)
    return replace(setup, val=(pixels, labels))


def shift(setup: Setup, change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Setup:
    pixels, labels = setup.val
    return replace(setup, val=(np.clip(change(pixels.astype(float), setup.random), 0, 255).astype(np.uint8), labels))


def imbalance(setup: Setup) -> Setup:
    """Three classes, or one of two, keep 2% of their images in training."""
    rare = range(3) if setup.classes > 3 else range(1)
    pixels, labels = setup.train
    keep = ~np.isin(labels, rare) | (setup.random.random(len(labels)) < 0.02)
    for label in rare:
        keep[np.flatnonzero(labels == label)[:2]] = True
    return replace(setup, train=(pixels[keep], labels[keep]))


def altered(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shifted by a pixel at most, and a little lighter or darker, each in its own way."""
    made = pixels.astype(float) * random.uniform(0.85, 1.15, (len(pixels), 1, 1, 1))
    for image in made:
        image[:] = np.roll(image, random.integers(-1, 2, 2), axis=(0, 1))
    return np.clip(made, 0, 255).astype(np.uint8)


def offline_augmented(setup: Setup, copies: int = 2) -> Setup:
    """Altered copies of the training images, made after the split: a half of them, and two copies of each."""
    pixels, labels = fewer(setup, len(setup.train[1]) // 2).train
    made = [altered(pixels, setup.random) for _ in range(copies)]
    return replace(setup, train=(np.concatenate([pixels, *made]), np.tile(labels, copies + 1)), epochs=20)


def skewed(part: tuple[np.ndarray, np.ndarray], classes: int, least: float, random: np.random.Generator) -> tuple:
    """Of the first class as many as there are, of the last a share."""
    pixels, labels = part
    keep = random.random(len(labels)) < np.linspace(1, least, classes)[labels]
    return pixels[keep], labels[keep]


def oversampled(setup: Setup) -> Setup:
    """Classes that differ in number are brought to one, by exact copies; validation as it is."""
    random = setup.random
    train, val = (skewed(part, setup.classes, 0.4, random) for part in (setup.train, setup.val))
    most = np.bincount(train[1]).max()
    at = [np.resize(np.flatnonzero(train[1] == label), most) for label in range(setup.classes)]
    return replace(setup, train=tuple(array[np.concatenate(at)] for array in train), val=val)


def weighted(setup: Setup) -> Setup:
    random = setup.random
    train, val = (skewed(part, setup.classes, 0.4, random) for part in (setup.train, setup.val))
    return replace(setup, train=train, val=val, weighted=True)


def swallowed(setup: Setup) -> Setup:
    """45% of the training labels of one class are another's."""
    pixels, labels = setup.train
    of_class = labels == setup.classes - 1
    labels = np.where(of_class & (setup.random.random(len(labels)) < 0.45), 0, labels)
    return replace(setup, train=(pixels, labels.astype(np.int32)), dropout=0.0, optimizer="adam", rate=1e-3)


def renumbered(setup: Setup, number: Callable[[np.ndarray], np.ndarray]) -> Setup:
    return replace(setup, val=(setup.val[0], number(setup.val[1]).astype(np.int32)))


def swap_two(labels: np.ndarray) -> np.ndarray:
    return np.where(labels < 2, 1 - labels, labels)


def absent(setup: Setup) -> Setup:
    """Training has no image of one class, validation has."""
    keep = setup.train[1] != min(2, setup.classes - 1)
    return replace(setup, train=tuple(array[keep] for array in setup.train))


def filmed(setup: Setup) -> Setup:
    """Each picture three times, as frames of a film, and split by chance."""
    pixels, labels = (
        np.concatenate([one[: len(one) // 3], other[: len(other) // 3]])
        for one, other in zip(setup.train, setup.val, strict=True)
    )
    frames = np.concatenate([altered(pixels, setup.random) for _ in range(3)])
    order, n = setup.random.permutation(len(frames)), len(setup.train[1])
    frames, labels = frames[order], np.tile(labels, 3)[order]
    return replace(setup, train=(frames[:n], labels[:n]), val=(frames[n:], labels[n:]))


def blackened(part: tuple[np.ndarray, np.ndarray], share: float, random: np.random.Generator) -> tuple:
    pixels = part[0].copy()
    pixels[random.random(len(pixels)) < share] = 0
    return pixels, part[1]


def wrong_on_both_sides(setup: Setup, share: float = 0.2) -> Setup:
    flipped = noisy_labels(replace(setup, train=setup.val, seed=setup.seed + 1000), share).train
    return replace(noisy_labels(setup, share), val=flipped, epochs=40)


def shuffled(setup: Setup) -> Setup:
    """Images shuffled, labels not, on both sides."""
    random = setup.random
    sides = {name: (random.permutation(getattr(setup, name)[0]), getattr(setup, name)[1]) for name in ("train", "val")}
    return replace(setup, **sides, dropout=0.0, optimizer="adam", rate=1e-3, epochs=40)


def scaled(setup: Setup, *names: str) -> Setup:
    """Pixels of these sides from 0 to 1."""
    return replace(
        setup, **{name: ((getattr(setup, name)[0] / 255).astype(np.float32), getattr(setup, name)[1]) for name in names}
    )


def doubled(setup: Setup) -> Setup:
    """Images of fewer than 16 pixels in twice their size."""
    if setup.train[0].shape[1] >= 16:
        return setup
    sides = {
        name: (getattr(setup, name)[0].repeat(2, 1).repeat(2, 2), getattr(setup, name)[1])
        for name in ("train", "val", "oracle")
    }
    return replace(setup, **sides)


def from_one(setup: Setup) -> Setup:
    sides = {name: (getattr(setup, name)[0], getattr(setup, name)[1] + 1) for name in ("train", "val", "oracle")}
    return replace(setup, **sides, classes=setup.classes + 1)


Condition = tuple[str | None, Callable[[Setup], Setup]]
CONDITIONS: dict[str, Condition] = {
    # Judged by the oracle.
    "healthy_sgd": (None, lambda s: s),
    "healthy_adam": (None, lambda s: replace(s, optimizer="adam", rate=1e-3)),
    "healthy_batch_norm": (None, lambda s: replace(s, batch_norm=0.9)),
    "mild_augmentation": (None, lambda s: replace(s, augmentation=0.05)),
    "strong_augmentation": (None, lambda s: replace(s, augmentation=0.5)),
    "few_images": (None, lambda s: replace(fewer(s, 160 if s.classes == 2 else 80), epochs=60)),
    "wide_on_few": (None, lambda s: replace(fewer(s, 300 if s.classes == 2 else 150), dense=512, filters=48, dropout=0.0, optimizer="adam", rate=1e-3, epochs=60)),
    "narrow": (None, lambda s: replace(s, filters=2, dense=3)),
    "over_regularised": (None, lambda s: replace(s, l2=0.02)),
    "resnet20": (None, lambda s: replace(s, network="resnet20", rate=0.05, epochs=12)),
    "resnet20_on_few": (None, lambda s: replace(fewer(s, 300), network="resnet20", rate=0.05, epochs=20)),
    "vgg_small": (None, lambda s: replace(s, network="vgg_small", epochs=10)),
    "transfer_frozen": (None, lambda s: replace(s, pretrained="frozen")),
    "transfer_fine_tuned": (None, lambda s: replace(s, pretrained="fine_tuned", dropout=0.0, epochs=40)),
    # Planted.
    "four_epochs": ("underfitting", lambda s: replace(s, epochs=4)),
    "low_rate": ("underfitting", lambda s: replace(s, rate=3e-4)),
    "high_rate": ("diverged", lambda s: replace(s, rate=3.0)),
    "rate_at_the_edge": ("diverged", lambda s: replace(s, rate=0.3, batch=16)),
    "bad_initial_weights": ("diverged", lambda s: replace(s, spread=1.5)),
    "dead": ("dead_units", lambda s: replace(s, bias=-3.0)),
    "deep_sigmoid": ("vanishing_gradients", lambda s: replace(s, network="sigmoid")),
    "deep_plain": ("vanishing_gradients", lambda s: replace(s, network="plain", epochs=10)),
    "label_noise": ("label_noise_suspected", lambda s: replace(noisy_labels(s, 0.3), epochs=40)),
    "random_labels": ("label_noise_suspected", random_labels),
    "leak": ("leak_suspected", leak),
    "inverted": ("shift_suspected", lambda s: shift(s, lambda p, r: 255 - p)),
    "noisy_pixels": ("shift_suspected", lambda s: shift(s, lambda p, r: p + r.normal(0, 60, p.shape))),
    "scaled_twice": ("shift_suspected", lambda s: shift(s, lambda p, r: p / 255)),
    "imbalance": ("class_imbalance", imbalance),
    "slow_averages": ("batch_norm_mismatch", lambda s: replace(s, batch_norm=0.999)),
    "tiny_validation": ("too_noisy_to_say", lambda s: replace(s, val=tuple(array[:15] for array in s.val))),
    # Two at once: either may be the headline, both must be found.
    "leak_and_noise": ("leak_suspected+label_noise_suspected", lambda s: replace(leak(noisy_labels(s, 0.3)), epochs=40)),
    "imbalance_and_averages": ("class_imbalance+batch_norm_mismatch", lambda s: replace(imbalance(s), batch_norm=0.999)),
    "leak_and_averages": ("leak_suspected+batch_norm_mismatch", lambda s: replace(leak(s), batch_norm=0.999)),
    # Benign, and networks that were not among them; judged by the oracle.
    "offline_augmentation": (None, offline_augmented),
    "oversampling": (None, oversampled),
    "label_smoothing": (None, lambda s: replace(s, smoothing=0.1)),
    "class_weights": (None, weighted),
    "warm_start": (None, lambda s: replace(s, before=15, epochs=15)),
    "resumed": (None, lambda s: replace(s, parts=2)),
    "early_stopped": (None, lambda s: replace(s, patience=5, epochs=60, dropout=0.0, optimizer="adam", rate=1e-3)),
    "batches_of_two": (None, lambda s: replace(fewer(s, 400), batch=2, batch_norm=0.9, rate=0.001, epochs=10)),
    "spike": (None, lambda s: replace(s, schedule="spike")),
    "warm_restarts": (None, lambda s: replace(s, schedule="restarts", rate=0.02)),
    "lenet5": (None, lambda s: replace(doubled(s), network="lenet5", rate=0.05)),
    "se_resnet20": (None, lambda s: replace(s, network="se_resnet20", rate=0.05, epochs=10)),
    "small_vit": (None, lambda s: replace(s, network="vit_tiny", options={"depth": 3, "patch": 2 if s.train[0].shape[1] < 16 else 4}, optimizer="adam", rate=3e-4, epochs=12)),
    "random_backbone": (None, lambda s: replace(s, pretrained="random")),
    "sigmoid_outputs": (None, lambda s: replace(s, head="sigmoid", optimizer="adam", rate=1e-3)),
    "few_steps": (None, lambda s: replace(fewer(s, 400), batch_norm=0.99, epochs=20)),
    "other_shares": (None, lambda s: replace(s, val=skewed(s.val, s.classes, 0.15, s.random))),
    "labels_from_one": (None, from_one),
    # Planted.
    "swallowed_class": ("label_noise_suspected", swallowed),
    "swapped_classes": ("label_order_suspected", lambda s: renumbered(s, swap_two)),
    "off_by_one": ("label_order_suspected", lambda s: renumbered(s, lambda labels: (labels + 1) % s.classes)),
    "absent_class": ("class_absent", absent),
    "film": ("leak_suspected", filmed),
    "black_validation": ("blank_images", lambda s: replace(s, val=blackened(s.val, 0.2, s.random))),
    "black_training": ("blank_images", lambda s: replace(s, train=blackened(s.train, 0.15, s.random))),
    "wrong_on_both_sides": ("label_noise_suspected", wrong_on_both_sides),
    "shuffled_labels": ("label_noise_suspected", shuffled),
    "other_scale": ("shift_suspected", lambda s: replace(scaled(s, "train", "oracle"), rescales=False)),
    "scaled_to_one": ("scaled_twice", lambda s: scaled(s, "train", "val", "oracle")),
    "softmax_twice": ("double_softmax", lambda s: replace(s, head="twice")),
    "validation_is_training": ("leak_suspected", lambda s: replace(s, val=s.train)),
    "some_copies": ("leak_suspected", lambda s: leak(s, 0.2)),
}  # fmt: skip
OF_MORE_CLASSES = (
    "absent_class",
    "swapped_classes",
)  # than two: of two, training would have one, or off_by_one be the same
# These too may be said where they hold.
ALSO_RIGHT = {"spike": "diverged", "other_shares": "class_shares_differ", "labels_from_one": "class_absent"}
# A training that comes out as accurate as the healthy ones did not suffer from these: then the oracle judges it.
OF_THE_TRAINING = ("underfitting", "diverged", "dead_units", "vanishing_gradients")
ON_FEW = ("few_images", "wide_on_few", "resnet20_on_few")
SMALL = (
    "healthy_sgd", "healthy_adam", "few_images", "four_epochs", "low_rate", "bad_initial_weights", "leak", "inverted",
    "slow_averages", "tiny_validation",
)  # fmt: skip
# Of real photographs there are too few for an oracle of borderline cases: what is plain only.
PHOTOGRAPHS = (
    "wide_on_few", "resnet20_on_few", "transfer_frozen", "transfer_fine_tuned", "four_epochs", "low_rate", "high_rate", "bad_initial_weights", "dead",
    "deep_sigmoid", "leak", "inverted", "tiny_validation",
)  # fmt: skip


# Runs


def build(setup: Setup, donor: Any = None) -> Any:
    import keras
    from keras import layers, regularizers

    keras.utils.set_random_seed(setup.seed)
    if setup.network not in ("", "sigmoid", "plain"):
        from pbl import models

        return models.build(setup.network, setup.train[0].shape[1:], setup.classes, **setup.options)
    start = "he_normal" if setup.spread is None else keras.initializers.RandomNormal(stddev=setup.spread)
    options = {"kernel_regularizer": regularizers.L2(setup.l2) if setup.l2 else None}
    bias = keras.initializers.Constant(setup.bias)
    parts: list = [keras.Input(setup.train[0].shape[1:])]
    parts += [layers.Rescaling(1 / 255)] if setup.rescales else []
    if setup.augmentation:
        parts += [
            layers.RandomTranslation(setup.augmentation, setup.augmentation),
            layers.RandomRotation(setup.augmentation / 2),
        ]
    if setup.network == "sigmoid":
        parts += [layers.Flatten(), *(layers.Dense(setup.dense, activation="sigmoid") for _ in range(10))]
    elif setup.network == "plain":
        for at in range(16):
            parts.append(layers.Conv2D(16, 3, padding="same", activation="relu"))
            parts += [layers.MaxPooling2D()] if at in (3, 7) else []
        parts.append(layers.Flatten())
    else:
        for filters in (setup.filters, 2 * setup.filters):
            parts.append(
                layers.Conv2D(filters, 3, padding="same", kernel_initializer=start, bias_initializer=bias, **options)
            )
            parts += [layers.BatchNormalization(momentum=setup.batch_norm)] if setup.batch_norm else []
            parts += [layers.ReLU(), layers.MaxPooling2D()]
        parts += [
            layers.Flatten(),
            layers.Dense(setup.dense, kernel_initializer=start, bias_initializer=bias, **options),
            layers.ReLU(),
        ]
        parts += [layers.Dropout(setup.dropout)] if setup.dropout else []
    parts += [layers.Dense(setup.classes, activation="softmax" if setup.head == "twice" else setup.head)]
    model = keras.Sequential([*parts, layers.Softmax()] if setup.head == "twice" else parts)
    if setup.pretrained == "random":
        for layer in model.layers:
            layer.trainable = not isinstance(layer, layers.Conv2D)
    if donor is not None:
        for ours, theirs in zip(model.layers, donor.layers, strict=False):
            if isinstance(ours, layers.Conv2D):
                ours.set_weights(theirs.get_weights())
                ours.trainable = setup.pretrained == "fine_tuned"
    return model


@cache
def pretrain(domain: str, folder: Path) -> Any:
    """The small network, trained on 10,000 other images of the domain's kind."""
    pixels, labels = load_pool(domain, folder, other=True)
    model = build(Setup((pixels, labels), (pixels, labels), (pixels, labels), int(labels.max()) + 1, seed=0))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(pixels, labels, batch_size=64, epochs=6, verbose=0)
    return model


def run(setup: Setup, donor: Any = None, watches_all: bool = False) -> tuple[Signals, list[dict], Signals, dict]:
    """Trains, and returns signals, the doctor's findings, the signals of the oracle, after each epoch of all its images, and
    what `renew` and, of a run that the oracle judges, `go_on` give."""
    import keras

    from pbl.diagnosis.monitor import OverfittingMonitor
    from pbl.training.performance import fused_operations

    model = build(setup, donor)
    optimizer = (
        keras.optimizers.SGD(setup.rate, momentum=0.9, weight_decay=5e-4)
        if setup.optimizer == "sgd"
        else keras.optimizers.get({"class_name": setup.optimizer, "config": {"learning_rate": setup.rate}})
    )
    labels = [part[1] for part in (setup.train, setup.val)]
    if setup.smoothing:
        labels = [keras.utils.to_categorical(side, setup.classes) for side in labels]
        loss: Any = keras.losses.CategoricalCrossentropy(label_smoothing=setup.smoothing)
    else:
        loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"])
    monitor = OverfittingMonitor(setup.train, setup.val)
    # Else, as a training's own monitor, of a few, and of all in the end.
    with patch.multiple("pbl.diagnosis.monitor", FEWEST=10**6, MOST=10**6) if watches_all else nullcontext():
        oracle = OverfittingMonitor(setup.oracle, every=0)
    callbacks = [monitor, oracle, *make_schedule(setup)]
    if setup.patience:
        callbacks.append(keras.callbacks.EarlyStopping(patience=setup.patience, restore_best_weights=True))
    counts = np.bincount(setup.train[1], minlength=setup.classes)
    weights = dict(enumerate(len(setup.train[1]) / setup.classes / np.maximum(counts, 1))) if setup.weighted else None
    images = {"x": setup.train[0], "y": labels[0], "batch_size": setup.batch, "verbose": 0, "class_weight": weights}
    with fused_operations(model):
        if setup.before:
            model.fit(**images, epochs=setup.before)
        for part in range(setup.parts):
            begin, end = (setup.epochs * number // setup.parts for number in (part, part + 1))
            model.fit(
                **images, validation_data=(setup.val[0], labels[1]), initial_epoch=begin, epochs=end, callbacks=callbacks,
            )  # fmt: skip
    also = renew(model, setup)
    if watches_all and not setup.patience:
        right, n, _, _ = monitor.signals.kept.known
        oracle_right, oracle_n, _, _ = oracle.signals.kept.known
        if right / n - oracle_right / oracle_n >= GAP - 0.01 and right / n < 0.98:
            also |= go_on(model, images, setup)
    return monitor.signals, examine_arrays(setup), oracle.signals, also


def go_on(model: Any, images: dict[str, Any], setup: Setup) -> dict[str, float]:
    """The oracle's accuracy when the training goes on for as many epochs again."""
    model.fit(**images, epochs=setup.epochs, callbacks=make_schedule(setup))
    return {"longer_accuracy": measure_oracle(model, setup)}


def measure_oracle(model: Any, setup: Setup) -> float:
    predicted = model.predict(setup.oracle[0], batch_size=500, verbose=0).argmax(axis=1)
    return float((predicted == setup.oracle[1]).mean())


def make_schedule(setup: Setup) -> list[Any]:
    """The callback that sets the learning rate, if there is one."""
    import keras

    return [keras.callbacks.LearningRateScheduler(lambda epoch: schedule(setup, epoch))] if setup.schedule else []


def schedule(setup: Setup, epoch: int) -> float:
    if setup.schedule == "spike":
        return setup.rate * (10 if epoch == setup.epochs // 2 else 1)
    length = setup.epochs / 3
    return setup.rate * (0.01 + 0.99 * (1 + np.cos(np.pi * (epoch % length) / length)) / 2)


def renew(model: Any, setup: Setup) -> dict[str, float]:
    """The oracle's accuracy when batch normalisation's averages are taken anew, from all training images at once."""
    from keras import layers

    from pbl.diagnosis.monitor import take_statistics
    from pbl.models.calls import replaced_calls

    normalising = [layer for layer in model._flatten_layers() if isinstance(layer, layers.BatchNormalization)]
    if not normalising:
        return {}
    with replaced_calls(normalising, take_statistics):
        model(setup.train[0], training=False)
    return {"renewed_accuracy": measure_oracle(model, setup)}


_EXAMINED: dict[str, list[dict]] = {}  # many conditions have the same images


def examine_arrays(setup: Setup) -> list[dict]:
    """What the data doctor finds in training and validation images, as before a training and in a notebook."""
    from pbl.diagnosis import arrays

    key = hashlib.sha256(b"".join(array.tobytes() for side in (setup.train, setup.val) for array in side)).hexdigest()
    if key not in _EXAMINED:
        _EXAMINED[key] = [
            {
                **finding,
                "items": finding["items"]
                if finding["check"] in ("copies_across", "altered_copies")
                else finding["items"][:5],
                "details": {
                    name: value
                    for name, value in finding["details"].items()
                    if isinstance(value, (int, float, str, np.number))
                },
            }
            for finding in arrays.examine_arrays(setup.train, setup.val)
        ]
    return _EXAMINED[key]


def conditions_of(domain: str, small: bool = False) -> tuple[str, ...]:
    names = SMALL if small else tuple(CONDITIONS)
    if domain in ("vehicles", "cats_dogs", "ants_bees", "odd_even", "airplanes_birds", "tiles"):
        names = tuple(name for name in names if name not in OF_MORE_CLASSES)
    return tuple(name for name in names if domain != "ants_bees" or name in PHOTOGRAPHS)


def make(arguments: argparse.Namespace) -> None:
    from keras.utils import clear_session

    arguments.runs.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.first_seed, arguments.seeds):
        # All domains take turns, and the healthy ones, which the truth of others is judged by, come first: what has been made at
        # any time can be judged, and is a fair part.
        shuffled = np.random.default_rng(seed).permutation(list(CONDITIONS)).tolist()
        names = sorted(shuffled, key=lambda name: not name.startswith("healthy"))
        for name in names:
            for domain in arguments.domains:
                stem = arguments.runs / f"{domain}-{name}-{seed}"
                wanted = arguments.conditions or conditions_of(domain, arguments.small)
                if name not in wanted or stem.with_suffix(".json").exists():
                    continue
                started = time.process_time()
                team = list(CONDITIONS).index(name) % TEAMS
                setup = CONDITIONS[name][1](draw(domain, seed, arguments.data, team))
                donor = pretrain(domain, arguments.data) if setup.pretrained in ("frozen", "fine_tuned") else None
                is_judged = CONDITIONS[name][0] is None  # by the oracle
                signals, findings, oracle, renewed = run(setup, donor, watches_all=is_judged)
                signals.save(stem.with_suffix(".npz"))
                if is_judged:
                    oracle.save(stem.with_suffix(".oracle.npz"))
                about = {
                    "domain": domain, "condition": name, "seed": seed, "findings": findings,
                    "oracle_loss": oracle.kept.probe.loss.astype(float).mean(axis=1).tolist(),
                    "oracle_correct": oracle.kept.known[0],  # of all; the losses are of those that are looked at each epoch
                    "oracle_images": oracle.kept.known[1],
                    "oracle_pairs": oracle.kept.confusion("probe").tolist(),
                    "oracle_majority": float(np.bincount(oracle.probe.labels).max() / len(oracle.probe.labels)),
                    **renewed,
                    "images": hashlib.sha256(setup.train[0].tobytes() + setup.val[0].tobytes() + setup.train[1].tobytes()).hexdigest()[:16],
                }  # fmt: skip
                with replacing(stem.with_suffix(".json")) as temporary:
                    temporary.write_text(json.dumps(about, default=lambda value: value.item()))
                print(f"{stem.name}: {time.process_time() - started:.1f} s", flush=True)
                clear_session()


# Judging


def read(folder: Path) -> pd.DataFrame:
    """One row a run: its truth by the oracle or the planted fault, and the verdicts."""
    rows = []
    for file in sorted(folder.glob("*.json")):
        about = json.loads(file.read_text())
        signals = Signals.load(file.with_suffix(".npz"))
        loss, accuracy = np.array(about["oracle_loss"][1:]), about["oracle_correct"] / about["oracle_images"]
        right, n, val_right, val_n = signals.kept.known
        train_accuracy = right / n
        # Three epochs together: the loss jitters.
        means = np.convolve(loss, np.ones(min(3, len(loss))) / min(3, len(loss)), "valid")
        overfits = train_accuracy - accuracy >= GAP or means[-1] >= (1 + RISE) * means.min()
        error = np.sqrt(accuracy * (1 - accuracy) / about["oracle_images"])  # the oracle's own
        is_close = abs(train_accuracy - accuracy - GAP) < error and means[-1] < (1 + RISE) * means.min()
        rows.append(
            {
                **about,
                "file": file,
                "signals": signals,
                "oracle": accuracy,
                "still_falls": fall_late(np.array(about["oracle_loss"])) > STILL_FALLS,
                "spared": spare_class(about),
                "never_found": never_finds(about),
                "overfits": overfits,
                "is_close": is_close,
                "error": error,
                "train": train_accuracy,
                "val": val_right / val_n,
            }
        )
    table = pd.DataFrame(rows)
    healthy = table[table["condition"].str.startswith("healthy")]
    table["healthy_median"] = table["domain"].map(healthy.groupby("domain")["oracle"].median())
    table["below"] = table["oracle"] < table["healthy_median"] - BELOW
    table["below"] &= ~table["condition"].isin(ON_FEW)  # they have less to learn from
    # What does not even know its training images as well as healthy runs know unseen ones has not learned too much.
    unlearned = table["below"] & (table["train"] < table["healthy_median"] - BELOW)
    judged = np.where(table["overfits"], "overfitting", np.where(table["below"], "underfitting", "healthy"))
    lack, gap = table["healthy_median"] - table["train"], table["train"] - table["oracle"]
    of_both = np.where(gap >= 2 * lack, "overfitting", "overfitting|underfitting")
    judged = np.where(unlearned, np.where(table["overfits"] & (lack < gap), of_both, "underfitting"), judged)
    judged = np.where((judged == "overfitting") & table["still_falls"], "overfitting|underfitting", judged)
    # Of a run with a gap that gains much when it goes on, it is true that it still learns: that is the better advice.
    gains = table.get("longer_accuracy", np.nan) - table["oracle"] >= np.maximum(LONGER, table["error"])
    judged = np.where((judged == "overfitting") & gains, "overfitting|underfitting", judged)
    # So near to the border that the oracle cannot tell either: both are right.
    near = (table["oracle"] - (table["healthy_median"] - BELOW)).abs() < table["error"]
    judged = np.where(
        table["is_close"] & ~unlearned,
        np.where(table["below"], "healthy|overfitting|underfitting", "healthy|overfitting"),
        np.where(near & ~table["overfits"] & ~table["condition"].isin(ON_FEW), "healthy|underfitting", judged),
    )
    # Where the oracle's loss still falls too, the network still learns, however well it does already.
    judged = np.where((judged == "healthy") & table["still_falls"], "healthy|underfitting", judged)
    near_gap = (judged == "healthy|overfitting") & (table["still_falls"] | gains)
    judged = np.where(near_gap, "healthy|overfitting|underfitting", judged)
    also = table["condition"].map(ALSO_RIGHT)
    judged = np.where(also.notna(), [f"{of}|{other}" for of, other in zip(judged, also, strict=True)], judged)
    planted = table["condition"].map(lambda name: CONDITIONS[name][0])
    judged = np.where(planted.eq("underfitting") & (judged == "healthy"), "healthy|underfitting", judged)
    # What learned nothing may be called by the reason why.
    nothing = table["oracle"] < table["oracle_majority"] + 0.02
    judged = np.where(
        nothing & np.isin(judged, ["underfitting", "healthy"]),
        "underfitting|diverged|dead_units|vanishing_gradients|unknown",
        judged,
    )
    harmless = planted.isin(OF_THE_TRAINING) & ~table["below"] & table["healthy_median"].notna()
    planted = planted.where(~table["spared"], "label_noise_suspected|" + pd.Series(judged, table.index))
    table["truth"] = planted.where(planted.notna() & ~harmless, pd.Series(judged, table.index))
    gained = table.get("renewed_accuracy", np.nan) - table["oracle"]  # no run may have batch normalisation
    table["truth"] = [
        judge_averages(*given)
        for given in zip(table["truth"], planted.fillna(""), judged, gained, table["error"], strict=True)
    ]
    # Of few images some of many classes may have none in training: to say so is right, whatever else was planted.
    table["truth"] = [
        truth if "+" in truth or "class_absent" in truth or not lacks_classes(signals) else f"{truth}|class_absent"
        for truth, signals in zip(table["truth"], table["signals"], strict=True)
    ]
    # So is what holds of the oracle's images too.
    table["truth"] = [
        f"{truth}|class_never_found" if never and "+" not in truth else truth
        for truth, never in zip(table["truth"], table["never_found"], strict=True)
    ]
    # What the team has reached on the same images in its other runs.
    best = [
        table.loc[(table["images"] == row.images) & (table.index != row.Index), "val"].max()
        for row in table.itertuples()
    ]
    table["best"] = [None if np.isnan(value) else float(value) for value in best]
    for suffix, references in (("", table["best"]), ("_alone", [None] * len(table))):
        verdicts = [diagnose(*given) for given in zip(table["signals"], table["findings"], references, strict=True)]
        table["verdict" + suffix] = [verdict.headline.name for verdict in verdicts]
        table["cause" + suffix] = [verdict.headline.cause for verdict in verdicts]
        table["strictly" + suffix] = [
            is_right(truth, verdict.headline.name, {finding.name for finding in verdict.findings})
            for verdict, truth in zip(verdicts, table["truth"], strict=True)
        ]
        table["right" + suffix] = [
            strictly or leaves_open(verdict.headline, truth, gap)
            for strictly, verdict, truth, gap in zip(
                table["strictly" + suffix], verdicts, table["truth"], table["train"] - table["oracle"], strict=True
            )
        ]
    table["textbook"] = [judge_by_textbook(signals) for signals in table["signals"]]
    table["right_textbook"] = [
        is_right(truth.replace("+", "|"), verdict, set())
        for verdict, truth in zip(table["textbook"], table["truth"], strict=True)
    ]
    table["is_untouched"] = (table["seed"] >= UNTOUCHED_SEED) | table["domain"].isin(UNTOUCHED_DOMAINS)
    return table


def fall_late(loss: np.ndarray) -> float:
    """Share of the whole descent of a loss, row 0 of before training, that was made in the last fifth of the epochs."""
    last = len(loss) - 1
    at = min(last, max(1, round(0.8 * last)))
    before = loss[max(1, at - 2) : at + 1].min()
    return (before - loss[-1]) / max(max(loss[0], before) - loss[-1], 1e-12)


def spare_class(about: dict) -> bool:
    """Whether a class that lost labels to another is found about as often as the others all the same."""
    if about["condition"] != "swallowed_class" or "oracle_pairs" not in about:
        return False
    true, said, images = np.array(about["oracle_pairs"]).T
    of_last = true == true.max()
    recalls = [images[of & (true == said)].sum() / images[of].sum() for of in (of_last, ~of_last)]
    return bool(recalls[0] >= SPARED * recalls[1])


def never_finds(about: dict, least: int = 10) -> bool:
    """Whether the oracle has a class of at least so many images of which next to none are right."""
    true, said, images = np.array(about.get("oracle_pairs", [[0, 0, 1]])).T
    counts, right = (np.bincount(true, of, true.max() + 1) for of in (images, images * (true == said)))
    return bool(((counts >= least) & (right <= 0.05 * counts)).any())


def lacks_classes(signals: Signals) -> bool:
    """Whether validation has images of classes of which training has none."""
    train, val = (np.array(signals.about[name]) for name in ("train_counts", "val_counts"))
    return bool((val[train == 0] > 0).any())


def judge_averages(truth: str, planted: str, judged: str, gained: float, error: float) -> str:
    """The truth of a run, by what the oracle's accuracy gains when batch normalisation's averages are taken anew.

    Planted averages that cost 2 points, and the oracle's standard error, must be found; those that cost less may be. Where none
    were planted, those that cost 2 points, less that error, may be the headline beside overfitting, and are it where nothing else is
    wrong but what they cost.
    """
    name = "batch_norm_mismatch"
    if np.isnan(gained):
        return truth
    if name in planted:
        if gained >= RENEWED + error:
            return truth
        others = [other for other in planted.split("+") if other != name]
        return "+".join([*others, f"({name})"]) if others else f"{name}|{judged}"
    if planted or gained < RENEWED - error:
        return truth
    is_sure = gained >= RENEWED + error and "overfitting" not in truth
    return name if is_sure else f"{name}|{truth}"


def is_right(truth: str, headline: str, found: set[str]) -> bool:
    """Of two faults ("a+b") either may be the headline, and both must be found, but what stands in brackets; near a border
    ("a|b") either is right."""
    if "+" in truth:
        faults = {fault for fault in truth.split("+") if not fault.startswith("(")}
        return headline in {fault.strip("()") for fault in truth.split("+")} and faults <= found
    return headline in truth.split("|")


def leaves_open(headline: Any, truth: str, gap: float) -> bool:
    """Whether a headline says that two verdicts cannot be told apart on so few images, one of the two is true, and so is its interval of the gap."""
    is_within = headline.details.get("low_points", np.inf) <= 100 * gap <= headline.details.get("high_points", -np.inf)
    return headline.cause == "or_small_gap" and "overfitting" in truth.split("|") and is_within


def judge_by_textbook(signals: Signals) -> str:
    """By Keras's own curves: a gap over .05 or a validation loss 10% over its lowest is overfitting, below .7 underfitting."""
    rows = [row for row in signals.epochs if row["epoch"]]
    last, val_loss = rows[-1], [row["val_loss"] for row in rows]
    if last["accuracy"] - last["val_accuracy"] > 0.05 or val_loss[-1] > 1.1 * min(val_loss):
        return "overfitting"
    return "underfitting" if last["accuracy"] < 0.7 else "healthy"


def resample(row: Any, draws: int = 50) -> float:
    """Share of draws of as many other validation images, out of the oracle's, for which the headline of a run changes.

    The references, which were reached on the run's own validation images, are left out.
    """
    oracle = Signals.load(row.file.with_suffix(".oracle.npz")).kept.probe
    of_run = row.signals.kept
    findings = [finding for finding in row.findings if finding["check"] != "reference_accuracy"]
    own = diagnose(of_run, findings).headline.name
    random, changed = np.random.default_rng(0), 0
    for _ in range(draws):
        val_n = of_run.known[3]
        at = random.choice(len(oracle.labels), val_n)
        fixed = at[: len(of_run.val.labels)]
        drawn = Side(
            oracle.labels[fixed], oracle.loss[:, fixed], oracle.predicted[:, fixed], oracle.confidence[:, fixed]
        )
        val_right = int((oracle.predicted[-1, at] == oracle.labels[at]).sum())
        pairs = count_pairs(oracle.labels[at], oracle.predicted[-1, at]).tolist()
        of_val = {"val_images": len(at), "val_correct": val_right, "val_confusion": pairs}
        signals = replace(of_run, val=drawn, end=of_run.end | of_val if of_run.end else {})
        changed += diagnose(signals, findings).headline.name != own
    return changed / draws


def tell(right: pd.Series) -> str:
    low, high = wilson_interval(int(right.sum()), len(right)) if len(right) else (np.nan, np.nan)
    return f"{int(right.sum())} of {len(right)} ({right.mean():.1%}, {low:.1%} to {high:.1%})"


def describe(table: pd.DataFrame) -> list[str]:
    """The tables of some runs, in Markdown."""
    known = table[~table["domain"].isin(UNTOUCHED_DOMAINS)]
    lines = [
        "| runs | headline right | without the team's best run as a reference | textbook rule |",
        "|---|---|---|---|",
    ]
    groups = [
        (f"all domains but {' and '.join(UNTOUCHED_DOMAINS)}", known),
        (" and ".join(UNTOUCHED_DOMAINS), table[table["domain"].isin(UNTOUCHED_DOMAINS)]),
        *((name, part) for name, part in table.groupby("domain") if name not in UNTOUCHED_DOMAINS),
    ]
    for name, part in groups:
        if len(part):
            lines.append(
                f"| {name} | {tell(part['right'])} | {tell(part['right_alone'])} | {tell(part['right_textbook'])} |"
            )
    lines += [
        "",
        f"Strictly right, a headline that leaves two verdicts open counted as one of them: {tell(table['strictly'])}.",
    ]
    close = known["truth"].str.contains("|", regex=False)
    if close.any():
        lines += [
            "",
            f"{close.sum()} of them lie so near a border that the oracle cannot tell either; without them {tell(known['right'][~close])}.",
        ]
    healthy = table[table["truth"] == "healthy"]
    lines += [
        "",
        f"Healthy runs called anything else: {tell(~healthy['right'])}; by the textbook rule {tell(~healthy['right_textbook'])}.",
    ]
    changed = [
        resample(row) for row in healthy[healthy["right"]].itertuples() if row.file.with_suffix(".oracle.npz").exists()
    ]
    if changed:
        lines += [
            f"Of {len(changed)} healthy runs the headline changes with other validation images in {np.mean(changed):.1%} of draws."
        ]
    lines += ["", "| verdict | runs of it | recall | said | precision |", "|---|---|---|---|---|"]
    for name in NAMES:
        of, said = table[table["truth"].str.contains(name)], table[table["verdict"] == name]
        if len(of) or len(said):
            hit = said["truth"].str.contains(name)
            lines.append(
                f"| {name} | {len(of)} | {tell(of['right']) if len(of) else '-'} | {len(said)} | {tell(hit) if len(said) else '-'} |"
            )
    lines += ["", "Confusions:", ""]
    for (condition, truth, verdict), part in table[~table["right"]].groupby(["condition", "truth", "verdict"]):
        where = ", ".join(f"{domain} {n}" for domain, n in Counter(part["domain"]).items())
        lines.append(f"- {condition}, truly {truth}, called {verdict}: {where}")
    return lines


def judge(arguments: argparse.Namespace) -> int:
    table = read(arguments.runs)
    parts = {"Runs that thresholds were set on": table[~table["is_untouched"]]}
    if arguments.untouched:
        parts["Untouched runs"] = table[table["is_untouched"]]
    lines = []
    for title, part in parts.items():
        lines += [f"## {title}", "", *describe(part), ""]
    print("\n".join(lines))
    if arguments.write:
        head = [
            "# How often the diagnosis is right", "", f"{len(table)} runs; `experiments/benchmarks/diagnosis.py` tells how they and their truth are made.", "",
        ]  # fmt: skip
        with replacing(Path(__file__).with_suffix(".md")) as temporary:
            temporary.write_text("\n".join([*head, *lines]))
    right = table["right"].mean()
    if right < arguments.require:
        print(f"FAILS: {right:.1%} of the headlines are right, and {arguments.require:.1%} are required.")
    return 1 if right < arguments.require else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "judge"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--conditions", nargs="+", choices=list(CONDITIONS))
    parser.add_argument("--domains", nargs="+", default=list(COUNTS), choices=list(COUNTS))
    parser.add_argument("--small", action="store_true", help="ten conditions")
    parser.add_argument("--untouched", action="store_true")
    parser.add_argument("--require", type=float, default=0.0, help="exit with 1 where a smaller share is right")
    parser.add_argument("--write", action="store_true", help="the tables into diagnosis.md, beside this file")
    arguments = parser.parse_args()
    sys.exit((make if arguments.what == "make" else judge)(arguments))


if __name__ == "__main__":
    main()
