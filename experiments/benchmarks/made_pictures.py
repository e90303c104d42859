"""Twelve makers of pictures of which none is a copy of another, and ways to alter a picture; `planted_faults.py` uses both.

Cells, coins, leaves, icons and plots are one object on an even ground: each has near neighbours although all are drawn apart.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

SIDE = 64
Random = np.random.Generator


def _grid() -> np.ndarray:
    return np.mgrid[:SIDE, :SIDE].astype(float)


def _turned(x: np.ndarray, y: np.ndarray, centre: tuple[float, float], turn: float) -> tuple[np.ndarray, np.ndarray]:
    x, y = x - centre[0], y - centre[1]
    return x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)


def draw_cell(random: Random) -> np.ndarray:
    y, x = _grid()
    along, across = _turned(x, y, random.uniform(24, 40, 2), random.uniform(0, np.pi))
    length = random.uniform(9, 16)
    width = length * random.uniform(0.5, 1)
    picture = np.tile(random.uniform((180, 150, 170), (230, 190, 220)), (SIDE, SIDE, 1))
    picture[(along / length) ** 2 + (across / width) ** 2 < 1] -= random.uniform(30, 80)
    return picture + random.normal(0, 4, picture.shape)


def draw_coin(random: Random) -> np.ndarray:
    y, x = _grid()
    centre, radius = random.uniform(26, 38, 2), random.uniform(14, 22)
    picture = np.full((SIDE, SIDE, 3), random.uniform(200, 240))
    distance = np.hypot(x - centre[0], y - centre[1])
    metals = ((184, 115, 51), (192, 192, 192), (212, 175, 55))
    picture[distance < radius] = np.array(metals[random.integers(3)]) * random.uniform(0.8, 1.1)
    picture[(distance < radius) & (distance > radius - 1.5)] *= 0.7
    along, _ = _turned(x, y, centre, random.uniform(0, 2 * np.pi))
    picture[distance < radius] += (25 * along / radius)[distance < radius][:, None]
    stamp = (np.abs(x - centre[0]) < radius * 0.35) & (np.abs(y - centre[1]) < radius * 0.15)
    picture[stamp] *= 0.8
    return picture + random.normal(0, 3, picture.shape)


def draw_leaf(random: Random) -> np.ndarray:
    y, x = _grid()
    along, across = _turned(x, y, random.uniform(27, 37, 2), random.uniform(0, np.pi))
    length = random.uniform(18, 28)
    width = length * random.uniform(0.25, 0.5)
    inside = np.abs(across) < width * np.sqrt(np.maximum(1 - (along / length) ** 2, 0))
    picture = np.full((SIDE, SIDE, 3), 245.0)
    picture[inside] = np.array((60, 120, 50)) + random.uniform(-25, 25, 3)
    picture[inside & (np.abs(across) < 0.8)] += 40
    return picture + random.normal(0, 3, picture.shape)


def draw_text(random: Random) -> np.ndarray:
    image = Image.new("RGB", (SIDE, SIDE), (int(random.integers(235, 256)),) * 3)
    step = int(random.integers(9, 13))
    for top in range(int(random.integers(1, 6)), SIDE, step):
        line = "".join(" abcdefghijklmnopqrstuvwxyz"[at] for at in random.integers(0, 27, 14))
        ImageDraw.Draw(image).text((2, top), line, fill=(int(random.integers(0, 60)),) * 3)
    return np.asarray(image, float)


def draw_stripes(random: Random) -> np.ndarray:
    y, x = _grid()
    along, _ = _turned(x, y, (0, 0), random.uniform(0, np.pi))
    wave = np.sin(2 * np.pi * along / random.uniform(5, 16) + random.uniform(0, 2 * np.pi))
    picture = np.repeat(128 + 50 * wave[..., None], 3, axis=2)
    centre = random.uniform(16, 48, 2)
    picture[np.hypot(x - centre[0], y - centre[1]) < random.uniform(6, 12)] = random.uniform(0, 255)
    return picture + random.normal(0, 4, picture.shape)


def draw_gradient(random: Random) -> np.ndarray:
    y, x = _grid()
    along, _ = _turned(x, y, (0, 0), random.uniform(0, 2 * np.pi))
    one, other = random.uniform(0, 255, (2, 3))
    share = (along - along.min()) / np.ptp(along)
    return one + (other - one) * share[..., None] + random.normal(0, 2, (SIDE, SIDE, 3))


def draw_x_ray(random: Random) -> np.ndarray:
    y, x = _grid()
    middle = 32 + random.uniform(-2, 2)
    picture = 30 + 120 * np.exp(-(((x - middle) / random.uniform(22, 27)) ** 4))
    for side in (-1, 1):
        lung = ((x - middle - side * random.uniform(10, 13)) / random.uniform(6, 9)) ** 2
        lung += ((y - random.uniform(28, 34)) / random.uniform(13, 18)) ** 2
        picture -= 70 * np.exp(-(lung**2))
    for _ in range(7):
        ribs = (y - 0.02 * (x - middle) ** 2 - random.uniform(-1, 1)) * 2 * np.pi / random.uniform(7.5, 8.5)
        picture += 16 / 7 * np.sin(ribs)
    picture += 60 * np.exp(-(((x - middle) / 3) ** 2))
    heart = ((x - middle - 6) / random.uniform(6, 9)) ** 2 + ((y - random.uniform(38, 42)) / random.uniform(8, 10)) ** 2
    picture += 40 * np.exp(-(heart**2))
    return np.repeat((picture + random.normal(0, 4, picture.shape))[..., None], 3, axis=2)


def draw_icon(random: Random) -> np.ndarray:
    image = Image.new("RGB", (SIDE, SIDE), (255, 255, 255))
    draw, kind = ImageDraw.Draw(image), int(random.integers(5))
    colour = tuple(int(value) for value in random.integers(0, 220, 3))
    near, middle = int(random.integers(6, 16)), SIDE // 2
    far, width = SIDE - near, int(random.integers(3, 12))
    if kind == 0:
        draw.ellipse([near, near, far, far], fill=colour)
    elif kind == 1:
        draw.rectangle([near, near, far, far], fill=colour)
    elif kind == 2:
        draw.polygon([(middle, near), (far, far), (near, far)], fill=colour)
    elif kind == 3:
        draw.rectangle([near, near, far, far], outline=colour, width=width)
    else:
        draw.rectangle([middle - width, near, middle + width, far], fill=colour)
        draw.rectangle([near, middle - width, far, middle + width], fill=colour)
    return np.asarray(image, float)


def draw_plot(random: Random) -> np.ndarray:
    image = Image.new("RGB", (SIDE, SIDE), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    draw.line([8, 4, 8, 56, 60, 56], fill=(0, 0, 0))
    heights = np.cumsum(random.normal(0, 5, 27))
    heights = np.clip(30 + (heights - heights.mean()) * random.uniform(0.5, 1), 4, 55)
    colour = ((31, 119, 180), (255, 127, 14))[random.integers(2)]
    draw.line([(8 + 2 * at, int(height)) for at, height in enumerate(heights)], fill=colour)
    return np.asarray(image, float)


def draw_satellite(random: Random) -> np.ndarray:
    base = Image.fromarray(random.integers(0, 256, (9, 9), dtype=np.uint8)).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC
    )
    share = np.asarray(base, float)[..., None] / 255
    ground = np.array((60, 90, 40)) * (1 - share) + np.array((160, 140, 100)) * share
    image = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(1, 4)):
        draw.line(random.integers(0, SIDE, 4).tolist(), fill=(200, 200, 190), width=2)
    for _ in range(random.integers(3, 12)):
        left, top = random.integers(0, SIDE, 2).tolist()
        right, bottom = left + int(random.integers(3, 8)), top + int(random.integers(3, 8))
        draw.rectangle([left, top, right, bottom], fill=tuple(random.integers(90, 230, 3).tolist()))
    return np.asarray(image, float) + random.normal(0, 4, (SIDE, SIDE, 3))


def draw_galaxy(random: Random) -> np.ndarray:
    """A bright blurred ellipse with two arms among stars, on black."""
    y, x = _grid()
    along, across = _turned(x, y, random.uniform(26, 38, 2), random.uniform(0, np.pi))
    across = across / random.uniform(0.3, 1)
    radius = np.hypot(along, across)
    arms = 1 + 0.5 * np.cos(2 * np.arctan2(across, along) - radius / random.uniform(2, 5))
    picture = random.uniform(100, 220) * arms * np.exp(-radius / random.uniform(4, 9))
    for _ in range(random.integers(0, 8)):
        left, top = random.uniform(0, SIDE, 2)
        picture += random.uniform(40, 200) * np.exp(-((x - left) ** 2 + (y - top) ** 2) / 1.5)
    return picture[..., None] * random.uniform(0.7, 1, 3) + 12 + random.normal(0, 3, (SIDE, SIDE, 3))


def draw_face(random: Random) -> np.ndarray:
    """A round face with eyes and a mouth, in one place, as of cards or emojis."""
    image = Image.new("RGB", (SIDE, SIDE), tuple(random.integers(200, 256, 3).tolist()))
    draw, middle = ImageDraw.Draw(image), SIDE // 2
    radius, eye, apart = int(random.integers(20, 29)), int(random.integers(2, 5)), int(random.integers(6, 12))
    skin = np.array((250, 210, 120)) - random.integers(0, 60)
    draw.ellipse([middle - radius, middle - radius, middle + radius, middle + radius], fill=tuple(skin.tolist()))
    top = middle - int(random.integers(4, 10))
    for side in (-apart, apart):
        draw.ellipse([middle + side - eye, top - eye, middle + side + eye, top + eye], fill=(30, 30, 30))
    wide, high = int(random.integers(6, 15)), int(random.integers(3, 12))
    begin = 0 if random.random() < 0.5 else 180
    draw.arc(
        [middle - wide, middle + 2, middle + wide, middle + 2 + high], begin, begin + 180, fill=(120, 30, 30), width=2
    )
    return np.asarray(image, float) + random.normal(0, 3, (SIDE, SIDE, 3))


MAKERS: dict[str, Callable[[Random], np.ndarray]] = {
    "cells": draw_cell,
    "coins": draw_coin,
    "leaves": draw_leaf,
    "text lines": draw_text,
    "stripes": draw_stripes,
    "gradients": draw_gradient,
    "x-ray-like": draw_x_ray,
    "icons": draw_icon,
    "plots": draw_plot,
    "satellite-like": draw_satellite,
    "galaxies": draw_galaxy,
    "faces": draw_face,
}


def make_pictures(maker: str, count: int, seed: int) -> np.ndarray:
    """So many pictures of one maker, `uint8 [count, 64, 64, 3]`."""
    pictures = [MAKERS[maker](np.random.default_rng([seed, at])) for at in range(count)]
    return np.stack(pictures).clip(0, 255).astype(np.uint8)


# Ways to alter a picture


def save_as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file).convert(image.mode)


def add_noise(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image)
    random = np.random.default_rng(int(pixels.sum()))
    return Image.fromarray((pixels + random.normal(0, 10, pixels.shape)).clip(0, 255).astype(np.uint8))


def crop(image: Image.Image) -> Image.Image:
    x, y = round(0.05 * image.width), round(0.05 * image.height)
    return image.crop((x, y, image.width - x, image.height - y))


def add_caption(image: Image.Image) -> Image.Image:
    image, height = image.copy(), round(0.15 * image.height)
    draw, top = ImageDraw.Draw(image), image.height - height
    draw.rectangle([0, top, image.width, image.height], fill=0)
    draw.text((image.width // 10, top), "www.photo.org", fill="white", font_size=max(6, round(0.8 * height)))
    return image


ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved as JPEG, quality 60": save_as_jpeg,
    "noise": add_noise,
    "resized to 3/4": lambda image: image.resize((image.width * 3 // 4, image.height * 3 // 4)),
    "blurred by 2% of the side": lambda image: image.filter(ImageFilter.GaussianBlur(0.02 * max(image.size))),
    "brighter": lambda image: image.point(lambda value: value * 0.7 + 60),
    "mirrored": ImageOps.mirror,
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned by 180 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "turned by 5 degrees": lambda image: image.rotate(5, Image.Resampling.BICUBIC),
    "cropped by 5% all round": crop,
    "caption bar of 15%": add_caption,
}


# Strangers among photographs


def draw_placeholder(random: Random) -> Image.Image:
    image = Image.new("RGB", (200, 200), (235, 235, 235))
    ImageDraw.Draw(image).text((30, 80), "no image\navailable", fill=(150, 150, 150), font_size=30)
    return image


def draw_screenshot(random: Random) -> Image.Image:
    image = Image.new("RGB", (200, 150), (240, 240, 240))
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 0, 200, 14], fill=(60, 90, 160))
    draw.rectangle([0, 14, 45, 150], fill=(220, 225, 230))
    for top in range(22, 145, 9):
        line = "".join(" abcdefghijkl"[at] for at in random.integers(0, 13, 22))
        draw.text((52, top), line, fill=(20, 20, 20), font_size=8)
        draw.rectangle([4, top, 38, top + 4], fill=(180, 185, 190))
    return image


def by_maker(maker: str) -> Callable[[Random], Image.Image]:
    return lambda random: Image.fromarray(MAKERS[maker](random).clip(0, 255).astype(np.uint8))


STRANGERS: dict[str, Callable[[Random], Image.Image]] = {
    "placeholder": draw_placeholder,
    "screenshot": draw_screenshot,
    "page of text": by_maker("text lines"),
    "icon": by_maker("icons"),
    "plot": by_maker("plots"),
    "colour gradient": by_maker("gradients"),
}
