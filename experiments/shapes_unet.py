"""A U-Net on drawn shapes: discs and squares in noise, whose masks are exact. Look at figures/masks_val.png.

Paper:    Ronneberger et al. 2015, arXiv:1505.04597 (U-Net), with fewer channels
Data:     1,000 images of 32x32 pixels, drawn here
Command:  python -m pbl train experiments/shapes_unet.py
"""

import numpy as np

from pbl import DATASETS, Config
from pbl.data import from_masked_arrays


def shapes(count: int = 1000, side: int = 32):
    """Draws up to two shapes on each image, none on some: a disc is class 1, a square class 2; bright or dark, and never overlapping."""
    draw = np.random.default_rng(0)
    images = draw.normal(110, 15, (count, side, side))
    masks = np.zeros((count, side, side), np.uint8)
    y, x = np.mgrid[:side, :side]
    for image, mask in zip(images, masks, strict=True):
        for _ in range(draw.integers(0, 3)):
            kind, radius = draw.integers(1, 3), draw.integers(4, 8)
            top, left = draw.integers(radius, side - radius, 2)
            disc = (y - top) ** 2 + (x - left) ** 2 <= radius**2
            square = (abs(y - top) <= radius) & (abs(x - left) <= radius)
            inside = disc if kind == 1 else square
            if not mask[square].any():
                mask[inside] = kind
                image[inside] += draw.choice([-60, 60])
    return from_masked_arrays(images.clip(0, 255).astype(np.uint8), masks, ["background", "disc", "square"])


DATASETS["shapes"] = shapes
config = Config(
    task="segmentation",
    dataset="shapes",
    model="unet",
    model_options={"width": 16, "depth": 3, "dropout": 0.0},
    augmentation={"flip": True, "crop": 2},
    optimizer="adam",
    learning_rate=0.003,
    learning_rate_schedule="cosine",
    batch_size=32,
    epochs=15,
)
