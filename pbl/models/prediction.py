"""What a model says of images, to the last bit the same wherever it is asked."""

import keras
import numpy as np

from pbl.models.calls import is_overridden

# Every prediction is made in batches of exactly this size. The kernels that a device chooses depend on the batch's size, and
# with them the last bits of a float32 result: only at one size is an image's probability the same alone and among others.
BATCH_SIZE = 32
# Images in it; the rest is filled up with zeros. Matrix products compute the last rows by other instructions than the rest
# (on an AMD EPYC with TensorFlow 2.21 the last two of 32, measured): no image may stand there.
FILLED = 28


def predict_probabilities(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Predicts class probabilities, the same bits for an image in whatever company it comes.

    Args:
        model: A model of one softmax output.
        pixels: `uint8 [n, height, width, channels]`.

    Returns:
        `float32 [n, classes]`.

    Example:
        >>> import pbl
        >>> from pbl.evaluation import predict_probabilities
        >>> data = pbl.load_data("digits")
        >>> predict_probabilities(pbl.load_model("runs/mine/001"), data.images("val").pixels).shape
        (189, 10)
    """
    return predict_outputs(model, pixels)


def predict_outputs(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Returns a model's one output for some images, `float32 [n, ...]`, the same bits in whatever company an image comes."""
    n, batches = len(pixels), -(-len(pixels) // FILLED)
    filled = np.zeros((batches, BATCH_SIZE, *pixels.shape[1:]), pixels.dtype)
    for number in range(batches):
        part = pixels[number * FILLED : (number + 1) * FILLED]
        filled[number, : len(part)] = part
    outputs = None
    if batches == 1 and not is_overridden(model, "predict"):
        # The same function of the same batch, so the same bits (measured of nine networks), without the pipeline that `predict` builds
        # for each call: of one image and ResNet-20 that is more than half of the time.
        outputs = np.asarray(model.predict_on_batch(filled[0]))
    if outputs is None or len(outputs) != BATCH_SIZE:  # several devices give the batch once each
        outputs = model.predict(filled.reshape(-1, *pixels.shape[1:]), batch_size=BATCH_SIZE, verbose=0)
    shape = outputs.shape[1:]
    outputs = outputs.reshape(batches, BATCH_SIZE, *shape)[:, :FILLED]
    return outputs.reshape(batches * FILLED, *shape)[:n].astype(np.float32)
