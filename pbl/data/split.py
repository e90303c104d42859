"""Who trains and who judges: a stratified split by content, the same on every machine."""

import hashlib
from collections import Counter

import numpy as np


def hash_image(image: np.ndarray) -> str:
    """Returns the SHA-256 of an image's shape and decoded `uint8` pixels, 64 hexadecimal digits."""
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def hold_out(hashes: list[str], labels: np.ndarray, fraction: float, seed: int, purpose: str) -> np.ndarray:
    """Chooses the images to hold out: `fraction` of each class, at least one of each class that has two.

    The order within a class is that of SHA-256(purpose, seed, content hash), so the choice depends on the images alone,
    not on file names, their order or the machine; an image added later moves hardly any other. Images of equal content
    stay on one side, also where their labels differ; a group of copies that is larger than what is still wanted stays
    with the rest.

    Args:
        hashes: Content hash of each image.
        labels: `int [n]`, class of each image.
        fraction: Share to hold out, between 0 and 1.
        seed: Another seed, another choice.
        purpose: Such as "test"; makes the choices for two purposes independent.

    Returns:
        `bool [n]`, true for an image held out.
    """
    # Equal images form one item, which counts for the class of its first label.
    label_of: dict[str, int] = {}
    for content, label in zip(hashes, labels, strict=True):
        label_of[content] = min(int(label), label_of.get(content, int(label)))
    size_of = Counter(hashes)

    held_out: set[str] = set()
    for label in sorted(set(label_of.values())):
        items = [content for content in label_of if label_of[content] == label]
        items.sort(key=lambda content: hashlib.sha256(f"{purpose} {seed} {content}".encode()).digest())
        total = sum(size_of[content] for content in items)
        wanted = max(1, round(fraction * total)) if len(items) > 1 else 0
        chosen: list[str] = []
        for content in items[:-1]:  # one item of each class always stays for training
            if size_of[content] <= wanted:
                chosen.append(content)
                wanted -= size_of[content]
        if not chosen and wanted:  # nothing but many copies of each image
            chosen = items[:1]
        held_out.update(chosen)
    return np.array([content in held_out for content in hashes])
