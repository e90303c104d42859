"""Whether a model is right as often as it says: log loss, calibration error, and the temperature that corrects it."""

import numpy as np

BINS = 15  # as Guo et al. 2017
TEMPERATURES = (0.05, 20.0)  # the range that is searched
# In every log loss of a classification a probability below this counts as this, whatever its type: an image costs at most 15.9 nats.
# With a floor that depends on the type the same answers would have different losses. It is float32's smallest step, near the 1e-7 at which Keras clips.
LEAST_PROBABILITY = float(np.finfo(np.float32).eps)


def find_log_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the log loss of each image in nats: minus the logarithm of the true class's probability.

    Args:
        labels: `int [n]`, the true classes.
        probabilities: `float [n, classes]`; each row is divided by its sum, which rounding keeps from being exactly 1. What is below
            `LEAST_PROBABILITY`, or nearer than that to 1, is replaced by it, as in Keras and scikit-learn; NaN stays NaN.

    Returns:
        `float64 [n]`, up to 15.9.
    """
    probabilities = np.asarray(probabilities)
    of_true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    shares = of_true / probabilities.sum(axis=1, dtype=np.float64)
    return -np.log(np.clip(shares, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))


def find_bins(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Divides confidences into bins with equally many images; equal confidences share a bin.

    With bins of equal width, as in Guo et al. 2017, most of them are nearly empty, since a trained network is mostly sure.

    Args:
        confidence: `float [n]`, the probability of the predicted class.
        bins: Number of bins, at most.

    Returns:
        `int [n]`, the bin of each image, from 0.

    Source: adaptive calibration error, J. Nixon et al. (2019), arXiv:1904.01685; the edges as in scikit-learn's
    `calibration_curve(strategy="quantile")`.
    """
    edges = np.quantile(confidence, np.linspace(0, 1, bins + 1))
    return np.unique(np.searchsorted(edges[1:-1], confidence), return_inverse=True)[1]


def compute_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, bins: int = BINS
) -> tuple[float, float, float]:
    """Expected calibration error (ECE), and what a perfectly calibrated model with the same confidences would have.

    The error is never 0 on a sample: even for a perfectly calibrated model a bin's accuracy differs from its confidence by
    chance. So it is reported together with the error of 500 draws in which each image is right with a probability of exactly its confidence.

    Args:
        confidence: `float [n]`, the probability of the predicted class, 0 to 1.
        correct: `bool [n]`, whether the predicted class is the true one.
        bins: Number of bins, at most; see `find_bins`.

    Returns:
        The error, its mean over the draws, and the value that 95% of them do not exceed; all from 0 to 1.

    Source: C. Guo et al. (2017), On Calibration of Modern Neural Networks, equation 3.
    """
    confidence = np.asarray(confidence, np.float64)
    bin_of = find_bins(confidence, bins)
    order = np.argsort(bin_of, kind="stable")
    starts = np.flatnonzero(np.diff(bin_of[order], prepend=-1))

    def error(right: np.ndarray) -> np.ndarray:
        return np.abs(np.add.reduceat(confidence[order] - right[..., order], starts, axis=-1)).sum(axis=-1) / len(order)

    draws = np.random.default_rng(0).random((500, len(confidence)), np.float32) < confidence
    calibrated = error(draws)
    return float(error(np.asarray(correct))), float(calibrated.mean()), float(np.quantile(calibrated, 0.95))


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Finds the temperature that gives the lowest log loss: above 1 if the model was overconfident.

    Without a mistake among the images the loss falls the nearer the temperature is to 0: any confidence would seem too low, and
    .6 would become 99.97% at the end of the range. If all is wrong it falls towards infinity. Then the images cannot tell the temperature.

    Args:
        labels: `int [n]`, the true classes of images that were not trained on.
        probabilities: `float [n, classes]`.

    Returns:
        The temperature, above 0.05 and below 20; 1, which changes nothing, if no temperature between is best.

    Source: temperature scaling, Guo et al. (2017), section 4.2.
    """
    from scipy.optimize import minimize_scalar

    labels, logits = np.asarray(labels), _log(probabilities)
    if (np.argmax(probabilities, axis=1) == labels).all():
        return 1.0

    def log_loss(exponent: float) -> float:
        scaled = logits / np.exp(exponent)
        largest = scaled.max(axis=1)
        normaliser = largest + np.log(np.exp(scaled - largest[:, None]).sum(axis=1))
        return float((normaliser - scaled[np.arange(len(labels)), labels]).mean())

    best = minimize_scalar(log_loss, bounds=np.log(TEMPERATURES), method="bounded")
    temperature = float(np.exp(best.x))
    is_end = not 1.01 * TEMPERATURES[0] < temperature < TEMPERATURES[1] / 1.01
    # With equal probabilities all temperatures are alike, and the search stops anywhere.
    return temperature if not is_end and best.fun < log_loss(0.0) else 1.0


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divides the logits by a temperature. No prediction changes, only its confidence.

    Args:
        probabilities: `float [n, classes]`.
        temperature: Above 0.

    Returns:
        `float64 [n, classes]`, rows that sum to 1. A temperature of 1 returns the probabilities as they are.
    """
    if temperature == 1:  # the way over logarithms would change their last digits
        return np.array(probabilities, np.float64)
    scaled = _log(probabilities) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return scaled / scaled.sum(axis=1, keepdims=True)


def _log(probabilities: np.ndarray) -> np.ndarray:
    # A probability that was rounded to 0 has no logarithm; the smallest normal number of its type is used
    # instead: 1.2e-38 in float32. With a larger floor a strongly overconfident model would look less confident than it is.
    smallest = np.finfo(np.asarray(probabilities).dtype).tiny
    return np.log(np.maximum(np.asarray(probabilities, np.float64), smallest))
