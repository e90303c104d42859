"""What a model predicts for images, the same to the last bit wherever it is computed."""

import keras
import numpy as np

from pbl.models.calls import is_overridden

# Every prediction is made in batches of exactly this size. The kernels that a device chooses depend on the size of the batch, and
# with them the last bits of a float32 result. Only with a fixed size is the probability of an image the same alone and among others.
BATCH_SIZE = 32
# Images in a batch; the remaining rows are filled with zeros. Matrix products compute the last rows with other instructions than the
# others (on an AMD EPYC with TensorFlow 2.21 the last two of 32, measured): no image may be there.
FILLED = 28


def predict_probabilities(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Predicts class probabilities, with the same bits for an image whatever other images are predicted with it.

    Args:
        model: A model with one softmax output.
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
    """Returns a model's one output for some images, `float32 [n, ...]`, with the same bits for an image whatever other images come with it."""
    n, batches = len(pixels), -(-len(pixels) // FILLED)
    filled = np.zeros((batches, BATCH_SIZE, *pixels.shape[1:]), pixels.dtype)
    for number in range(batches):
        part = pixels[number * FILLED : (number + 1) * FILLED]
        filled[number, : len(part)] = part
    outputs = None
    if batches == 1 and not is_overridden(model, "predict"):
        # The same function on the same batch, so the same bits (measured for nine networks), without the pipeline that `predict` builds
        # for each call: for one image and ResNet-20 that is more than half of the time.
        outputs = np.asarray(model.predict_on_batch(filled[0]))
    if outputs is None or len(outputs) != BATCH_SIZE:  # with several devices, each returns the batch
        outputs = model.predict(filled.reshape(-1, *pixels.shape[1:]), batch_size=BATCH_SIZE, verbose=0)
    shape = outputs.shape[1:]
    outputs = outputs.reshape(batches, BATCH_SIZE, *shape)[:, :FILLED]
    return outputs.reshape(batches * FILLED, *shape)[:n].astype(np.float32)
