"""The judge of generated images: a small network, trained once on real images that the generator never sees.

It learns their classes. If there are none, it learns by how much an image is turned (Gidaris, Singh and Komodakis 2018,
arXiv:1803.07728), which needs no labels. The outputs of its last hidden layer are the features in which sets of images are
compared. It is kept in the local cache, under a name computed from the images that it learned from.
"""

import hashlib
import zipfile
from typing import Any

import keras
import numpy as np
from keras import layers

from pbl.data.cache import cache_folder, make_cache_folder
from pbl.models.prediction import predict_outputs
from pbl.storage.writing import replacing

FORMAT = 1  # version of the network and its training; part of its name
FEATURES = 64
STEPS, BATCH, RATE = 1_000, 64, 2e-3  # of its training: 64,000 images are seen, however many there are


class ImageJudge:
    """A trained judge.

    Args:
        network: From pixels 0 to 255 to features `[n, 64]` and probabilities `[n, classes]`, concatenated.
        has_classes: Whether its classes are those of the images; otherwise they are four turns.
        digest: A string that identifies this judge.
    """

    def __init__(self, network: keras.Model, has_classes: bool, digest: str):
        self.network, self.has_classes, self.digest = network, has_classes, digest

    def look_at(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns features, `float32 [n, 64]`, and probabilities, `float32 [n, classes]`, of pixels `uint8 [n, h, w, c]`."""
        outputs = predict_outputs(self.network, pixels)
        return outputs[:, :FEATURES], outputs[:, FEATURES:]


def open_judge(pixels: np.ndarray, labels: np.ndarray | None, num_classes: int) -> ImageJudge:
    """Reads the judge that learned from these images, or trains it, which takes about ten seconds.

    The states of all random generators are not changed.

    Args:
        pixels: `uint8 [n, height, width, channels]`: images that the generator never sees.
        labels: `int [n]`; None if there are none.
        num_classes: Number of classes; with 1, labels are not used.
    """
    if labels is not None and num_classes < 2:
        labels = None
    content = [str((FORMAT, pixels.shape, num_classes)).encode(), np.ascontiguousarray(pixels).tobytes()]
    content.append(b"" if labels is None else np.asarray(labels, np.int64).tobytes())
    digest = hashlib.sha256(b"".join(content)).hexdigest()[:16]
    if labels is None:
        pixels, labels = turn_images(pixels)
        num_classes, has_classes = 4, False
    else:
        has_classes = True
    network, trained = _build(pixels.shape[1:], num_classes)
    file = cache_folder() / f"judge-{digest}.npz"
    if not _read(trained, file):
        _train(trained, pixels, labels)
        make_cache_folder()
        with replacing(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, *trained.get_weights())
    return ImageJudge(network, has_classes, digest)


def turn_images(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each image in four positions, `[4 n, ...]`, and which position it is: quarter turns; if not square, mirrored."""
    height, width = pixels.shape[1:3]
    if height == width:
        turned = [np.rot90(pixels, turns, axes=(1, 2)) for turns in range(4)]
    else:
        turned = [pixels, pixels[:, ::-1], pixels[:, :, ::-1], pixels[:, ::-1, ::-1]]
    return np.concatenate(turned), np.repeat(np.arange(4), len(pixels))


def _build(shape: tuple[int, ...], num_classes: int) -> tuple[keras.Model, keras.Model]:
    """The judge, and the part of it that is trained. All names and seeds are given, so that Keras's own counters do not change."""
    made = iter(range(1, 100))

    def options(name: str) -> dict[str, Any]:
        return {
            "name": f"judge_{name}",
            "dtype": "float32",
            "kernel_initializer": keras.initializers.HeNormal(seed=next(made)),
        }

    x = images = keras.Input(shape, name="judge_images")
    x = layers.Rescaling(1 / 255, name="judge_scale", dtype="float32")(x)
    maps, side = 16, min(shape[:2])
    while side > 4 and maps <= 64:
        x = layers.Conv2D(maps, 3, strides=2, padding="same", activation="relu", **options(f"convolution_{maps}"))(x)
        maps, side = 2 * maps, side // 2
    x = layers.Flatten(name="judge_flatten")(x)
    features = layers.Dense(FEATURES, activation="relu", **options("features"))(x)
    classes = layers.Dense(num_classes, activation="softmax", **options("classes"))(features)
    both = layers.Concatenate(name="judge_both", dtype="float32")([features, classes])
    return keras.Model(images, both, name="judge"), keras.Model(images, classes, name="trained_judge")


def _train(model: keras.Model, pixels: np.ndarray, labels: np.ndarray) -> None:
    """Trains with Adam, the rate falling to 0 as a cosine; the batches are in an order of their own."""
    draw, n = np.random.default_rng(0), len(labels)
    chosen = np.concatenate([draw.permutation(n) for _ in range(-(-STEPS * BATCH // n))])[: STEPS * BATCH]
    rate = keras.optimizers.schedules.CosineDecay(RATE, STEPS)
    model.compile(keras.optimizers.Adam(rate, name="judge_adam"), loss="sparse_categorical_crossentropy")
    for start in range(0, len(chosen), 100 * BATCH):  # so that memory does not hold all images many times
        part = chosen[start : start + 100 * BATCH]
        model.fit(pixels[part], labels[part], batch_size=BATCH, shuffle=False, verbose=0)


def _read(model: keras.Model, file: Any) -> bool:
    try:
        with np.load(file) as saved:
            model.set_weights([saved[name] for name in saved.files])
        return True
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):  # absent or damaged: it is trained again
        return False
