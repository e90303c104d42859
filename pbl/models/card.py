"""What is known about a model without building it. Each model has an entry in `CARDS` of its file, next to its builder.

A test builds every model and compares it with its card.
"""

from dataclasses import dataclass, field
from typing import Any

from pbl.errors import InputError

DIGIT, SMALL, LARGE = (28, 28, 1), (32, 32, 3), (224, 224, 3)  # inputs: of MNIST, CIFAR and ImageNet


@dataclass(frozen=True)
class Card:
    """One line of `python -m pbl models`.

    Args:
        style: "Sequential", "Functional" or "subclassed".
        year: Year of the paper.
        paper: Its authors, and where to find it.
        input_shape: The input at which weights and MACs are counted; with `classes` outputs.
        classes: Number of classes at which they are counted.
        weights: Trainable weights; `pbl.models.count_trainable_weights` counts them.
        macs: Multiply-accumulates of the convolutions and dense layers for one image; `pbl.models.count_macs` counts them.
        smallest: Side in pixels of the smallest image that it accepts.
        formerly: Former fixed values of options, if they differ from today's default; runs from that time keep them.
        task: The task that it learns, a name in `TASKS`.
    """

    style: str
    year: int
    paper: str
    input_shape: tuple[int, int, int]
    classes: int
    weights: int
    macs: int
    smallest: int = 1
    formerly: dict[str, Any] = field(default_factory=dict, hash=False)
    task: str = "classification"


def check_size(name: str, input_shape: tuple[int, int, int], smallest: int) -> None:
    """Raises InputError if an image is smaller than the model accepts.

    Args:
        name: The model's name.
        input_shape: (height, width, channels).
        smallest: Smallest side in pixels.
    """
    height, width, _ = input_shape
    if min(height, width) < smallest:
        raise InputError(
            "{name} takes images of at least {smallest}x{smallest} pixels; these have {height}x{width}. Give image_size={smallest} or more, or use "
            "a model for small images, such as resnet20.",
            name=name,
            smallest=smallest,
            height=height,
            width=width,
        )
