"""What a model says of images, to the last bit the same wherever it is asked."""

import keras
import numpy as np

# Every prediction is made in batches of exactly this size, the last one filled up with zeros. The kernels that a
# device chooses depend on the batch's size, and with them the last bits of a float32 result: only at one size is an
# image's probability the same alone and among others.
BATCH_SIZE = 32


def predict_probabilities(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Predicts class probabilities, the same bits for an image in whatever company it comes.

    Args:
        model: A model of one softmax output.
        pixels: `uint8 [n, height, width, channels]`.

    Returns:
        `float32 [n, classes]`.
    """
    filled = np.concatenate([pixels, np.zeros((-len(pixels) % BATCH_SIZE, *pixels.shape[1:]), pixels.dtype)])
    return model.predict(filled, batch_size=BATCH_SIZE, verbose=0)[: len(pixels)].astype(np.float32)
