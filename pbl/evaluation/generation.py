"""How good generated images are, compared with real images in the features of a judge, and with the training images.

A single number is not enough. Copies of training images have the best distance of all; noise can have a high precision; fifty repeated
images have a better FID than a good network. So a set of samples is measured in several ways, each compared with the value of other
real images (the floor) and with two generators that learned nothing (the baselines). Needs NumPy alone; `pbl.evaluation.image_judge`
computes the features.
"""

from typing import Any, NamedTuple

import numpy as np

MOST = 2_000  # images of each kind that are compared
MEAN_SQUARE = (
    0.2  # mean square of the features of real images: with it the mean of two MNIST digits has a distance of about 20
)
NEIGHBOURS = 3  # k of Kynkäänniemi et al. 2019
NEAREST_OF = 300  # samples whose nearest training image is searched
MOST_TRAIN = 60_000  # training images among which it is searched
CANDIDATES = 5  # training images that are compared closely, for each of nine shifts
FLOORS = 10  # draws of other real images
BASELINES = ("pixel_gaussian", "mean_of_two")
COMPONENTS = 64  # principal components of the Gaussian
COPY = 0.5  # times the distance below which 5% of real images are; a nearer image is a copy


class Distance(NamedTuple):
    """The kernel distance between two sets of features.

    Attributes:
        value: Times 1,000; about 0 for two sets from one distribution, and below 0 by chance.
        error: Its standard error, to the first order.
        by_real: `float [n]`: what each real image contributes; the mean is `value`.
        generated_error: The part of `error` that comes from the draw of the generated images alone. Two generators share the real images,
            but not this draw.
    """

    value: float
    error: float
    by_real: np.ndarray
    generated_error: float


def measure_kernel_distance(real: np.ndarray, generated: np.ndarray) -> Distance:
    """Computes the kernel inception distance, the unbiased squared maximum mean discrepancy.

    The kernel is (x y / d + 1)^3 of d features, which are scaled so that the mean square of real images is 1/5: otherwise its size would
    depend on the judge.

    Args:
        real, generated: `float [n, features]` and `float [m, features]`.

    Source: M. Bińkowski, D. J. Sutherland, M. Arbel, A. Gretton (2018), Demystifying MMD GANs, ICLR, section 4; the estimator:
    A. Gretton et al. (2012), JMLR 13, 723, lemma 6.
    """
    scale = np.sqrt(np.square(real, dtype=np.float64).mean() / MEAN_SQUARE)
    x, y = (np.asarray(part, np.float64) / max(scale, 1e-12) for part in (real, generated))
    of_x, of_y, between = _average_kernel(x, x), _average_kernel(y, y), _average_kernel(x, y)
    by_real = 1_000 * (of_x + of_y.mean() - 2 * between)
    by_generated = 2_000 * (of_y - _average_kernel(y, x))
    of_generated = np.var(by_generated) / len(y)
    error = np.sqrt(np.var(2_000 * (of_x - between)) / len(x) + of_generated)
    return Distance(float(by_real.mean()), float(error), by_real, float(np.sqrt(of_generated)))


def _average_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The mean of each row's kernel with all of `y`, `float [n]`; if `y` is `x` itself, with all other rows."""
    rows, others = np.empty(len(x)), len(y) - (x is y)
    for start in range(0, len(x), 1_000):
        part = x[start : start + 1_000]
        kernel = (part @ y.T / x.shape[1] + 1) ** 3
        if x is y:
            kernel[np.arange(len(part)), start + np.arange(len(part))] = 0
        rows[start : start + 1_000] = kernel.sum(axis=1) / others
    return rows


def measure_precision_recall(real: np.ndarray, generated: np.ndarray) -> tuple[float, float]:
    """Returns the share of generated images that are among the real ones (precision), and the reverse (recall).

    An image is among others if it is nearer to one of them than that one's third neighbour of its own kind.

    Args:
        real, generated: `float [n, features]` and `float [m, features]`.

    Source: T. Kynkäänniemi, T. Karras, S. Laine, J. Lehtinen, T. Aila (2019), Improved precision and recall metric for assessing
    generative models, NeurIPS, equation 1.
    """
    between = _measure_squares(real, generated)
    of_real, of_generated = (_find_radii(features) for features in (real, generated))
    slack = 1e-9 * max(between.max(initial=0), 1e-12)  # equal images must not differ by rounding
    precision = (between <= of_real[:, None] + slack).any(axis=0).mean()
    recall = (between <= of_generated[None] + slack).any(axis=1).mean()
    return float(precision), float(recall)


def _find_radii(features: np.ndarray) -> np.ndarray:
    squares = _measure_squares(features, features)
    k = min(NEIGHBOURS, len(features) - 1)
    return np.partition(squares, k, axis=1)[:, k]


def _measure_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    return np.maximum(squares, 0)


class Nearest(NamedTuple):
    """The nearest training image of each image.

    Attributes:
        distance: `float [n]`: root mean square difference of the pixels, 0 to 255, the smallest over all shifts.
        number: `int [n]`: index of the training image.
    """

    distance: np.ndarray
    number: np.ndarray


def find_nearest(images: np.ndarray, train: np.ndarray) -> Nearest:
    """Finds the nearest training image for each image, allowing for a shift.

    Candidates are the 5 nearest among blurred images, for nine shifts by a 14th of the side. For these, all shifts up to that size are tried, and
    the part that both images have is compared.

    Args:
        images, train: `uint8 [n, height, width, channels]` and `uint8 [m, height, width, channels]`.
    """
    from scipy.ndimage import uniform_filter

    def blur(pixels: np.ndarray) -> np.ndarray:
        side = max(2, min(pixels.shape[1:3]) // 7)
        return uniform_filter(pixels.astype(np.float32), (0, side, side, 0))[:, ::2, ::2].reshape(len(pixels), -1)

    reach = max(1, min(images.shape[1:3]) // 14)
    shifts = [(down, right) for down in range(-reach, reach + 1) for right in range(-reach, reach + 1)]
    blurred, parts = blur(train), []
    of_train, count = np.square(blurred).sum(axis=1), min(CANDIDATES, len(train))
    for down in (-reach, 0, reach):
        for right in (-reach, 0, reach):
            squares = (
                of_train - 2 * blur(_move(images, down, right)) @ blurred.T
            )  # up to a term that is constant within a row
            parts.append(np.argpartition(squares, count - 1, axis=1)[:, :count])
    candidates = np.concatenate(parts, axis=1)
    distance, number = np.empty(len(images)), np.empty(len(images), int)
    for at, image in enumerate(images.astype(np.float32)):
        numbers = np.unique(candidates[at])
        others = train[numbers].astype(np.float32)
        best = np.full(len(numbers), np.inf)
        for down, right in shifts:
            a, b = _overlap(image[None], down, right), _overlap(others, -down, -right)
            best = np.minimum(best, np.square(a - b).mean(axis=(1, 2, 3)))
        chosen = best.argmin()
        distance[at], number[at] = np.sqrt(best[chosen]), numbers[chosen]
    return Nearest(distance, number)


def _move(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    """Shifts pixels; the edge is repeated where nothing moves in."""
    height, width = pixels.shape[1:3]
    padded = np.pad(pixels, ((0, 0), (max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0)), (0, 0)), "edge")
    return padded[:, max(-down, 0) : max(-down, 0) + height, max(-right, 0) : max(-right, 0) + width]


def _overlap(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    height, width = pixels.shape[1:3]
    return pixels[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]


def measure_variety(pixels: np.ndarray) -> float:
    """Returns the median distance from an image to the nearest other one: root mean square difference of the pixels, 0 to 255.

    Args:
        pixels: `uint8 [n, height, width, channels]`; compare with equally many real ones, since among more images the nearest one is nearer.
    """
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    squares = _measure_squares(flat, flat)
    np.fill_diagonal(squares, np.inf)
    return float(np.sqrt(np.median(squares.min(axis=1)) / flat.shape[1]))


def make_baseline(name: str, train: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Makes images by a method that needs no network.

    Args:
        name: "pixel_gaussian": drawn from the normal distribution of the training images' 64 principal components; "mean_of_two":
            each image is the mean of two training images.
        train: `uint8 [n, height, width, channels]`.
        count: How many.
        seed: Seed of the draw.
    """
    draw = np.random.default_rng(seed)
    if name == "mean_of_two":
        one, other = (train[draw.integers(0, len(train), count)].astype(np.float32) for _ in range(2))
        return ((one + other) / 2).astype(np.uint8)
    from sklearn.decomposition import PCA

    flat = train[:MOST].reshape(min(len(train), MOST), -1).astype(np.float32)
    analysis = PCA(min(COMPONENTS, *flat.shape), random_state=0).fit(flat)
    codes = draw.normal(size=(count, analysis.n_components_)) * np.sqrt(analysis.explained_variance_)
    images = analysis.inverse_transform(codes).reshape(count, *train.shape[1:])
    return np.clip(np.round(images), 0, 255).astype(np.uint8)


class Reference:
    """Real images with which generated ones are compared: made once, used for each set of samples.

    Args:
        real: `uint8 [n, height, width, channels]`: real images on which neither the network nor the judge was trained.
        labels: `int [n]`.
        train: `uint8 [m, height, width, channels]`: the training images.
        judge: A `pbl.evaluation.image_judge.ImageJudge`.
        count: How many samples there are each time.
    """

    def __init__(self, real: np.ndarray, labels: np.ndarray, train: np.ndarray, judge: Any, count: int):
        draw = np.random.default_rng(0)
        self.real, self.labels, self.judge, self.count = real, labels, judge, count
        self.train = train if len(train) <= MOST_TRAIN else train[draw.choice(len(train), MOST_TRAIN, replace=False)]
        self.features, self.probabilities = judge.look_at(real)
        # From the training images, which the judge has not seen either.
        others = train[draw.choice(len(train), min(len(train), max(2 * MOST, count)), replace=False)]
        features, probabilities = judge.look_at(others)
        size = min(count, len(others))
        draws = [draw.choice(len(others), size, replace=False) for _ in range(FLOORS)]
        distances = [measure_kernel_distance(self.features, features[chosen]).value for chosen in draws]
        precision, recall = measure_precision_recall(self.features, features[draws[0]])
        self.told_as: np.ndarray | None = None
        apart: list[float] = []
        shares: list[float] | None = None
        if judge.has_classes:
            classes = range(self.probabilities.shape[1])
            none = np.zeros(len(classes))
            of_class = [self.probabilities[labels == number] for number in classes]
            self.told_as = np.stack([of.mean(axis=0) if len(of) else none for of in of_class], axis=1)
            apart = [self.measure_shares(probabilities[chosen])[1] for chosen in draws]
            shares = (np.bincount(labels, minlength=len(self.told_as)) / len(labels)).tolist()
        self.floor = {
            "kid": float(np.mean(distances)),
            "kid_sd": float(np.std(distances, ddof=1)),
            "precision": precision,
            "recall": recall,
            "confidence": float(np.median(self.probabilities.max(axis=1))),
            "unsure": float((self.probabilities.max(axis=1) < 0.5 + 0.5 / self.probabilities.shape[1]).mean()),
            "right": float((self.probabilities.argmax(axis=1) == labels).mean()) if judge.has_classes else None,
            "shares_apart": float(np.mean(apart)) if apart else None,
            "shares": shares,
        }
        some = real[draw.permutation(len(real))[:NEAREST_OF]]
        self.nearest, self.variety = find_nearest(some, self.train).distance, measure_variety(some)
        self.kinds = np.bincount(self.probabilities.argmax(axis=1), minlength=self.probabilities.shape[1])
        self.baselines = {}
        for name in BASELINES:
            features, _ = judge.look_at(make_baseline(name, self.train, count))
            self.baselines[name] = measure_kernel_distance(self.features, features).value

    def measure_shares(self, probabilities: np.ndarray) -> tuple[np.ndarray, float]:
        """Estimates the share of each class among some images, correcting the judge's errors by how it errs on real images.

        The judge's mean output, q, is a mixture of its mean outputs for each class, C, with the wanted shares p:
        C p = q, where p is not negative and sums to 1 (non-negative least squares).

        Args:
            probabilities: `float [n, classes]`, the judge's outputs for the images.

        Returns:
            The shares, `float [classes]`, and how far they are from those of the real images: the share of images that would have
            to be of another class.

        Source: Z. C. Lipton, Y.-X. Wang, A. J. Smola (2018), Detecting and Correcting for Label Shift with Black Box Predictors, ICML,
        section 3, in its soft form.
        """
        from scipy.optimize import nnls

        heavy = 1e3  # a weight so large that the sum is 1
        if self.told_as is None:
            raise ValueError("a judge that knows no classes tells no shares")
        rows = np.vstack([self.told_as, np.full((1, int(self.told_as.shape[1])), heavy)])
        shares, _ = nnls(rows, np.append(probabilities.mean(axis=0, dtype=np.float64), heavy))
        shares /= shares.sum()  # rounding could make a share above 1
        real = np.bincount(self.labels, minlength=len(shares)) / len(self.labels)
        return shares, min(1.0, float(np.abs(shares - real).sum() / 2))


class Measured(NamedTuple):
    """What was measured on a set of samples.

    Attributes:
        numbers: Ready for JSON.
        by_real: `float [n]`: what each real image contributes to the kernel distance.
        nearest: The nearest training images of the first samples.
        features, probabilities: The judge's outputs for the samples.
    """

    numbers: dict[str, Any]
    by_real: np.ndarray
    nearest: Nearest
    features: np.ndarray
    probabilities: np.ndarray


def measure_samples(samples: np.ndarray, reference: Reference, nearest_of: int = NEAREST_OF) -> Measured:
    """Measures generated images.

    Args:
        samples: `uint8 [m, height, width, channels]`.
        reference: What they are compared with.
        nearest_of: For how many samples the nearest training image is searched, which takes longest.

    Returns:
        In `numbers`: `kid` (times 1,000) with its standard `error`, and the part of it from the samples, `generated_error`; `precision`, `recall`; `classes`: shares of the judge's classes
        among samples and real images; `unsure`: the share of samples of which the judge is unsure; `variety`: the median distance of a
        sample to its nearest other one, divided by that of real images; `nearest`: the median distance to the training images, divided by that of
        real ones; `copies`: the share of samples that are nearer to a training image than real ones ever are; `shares` of the classes,
        estimated, and `shares_apart`, as `Reference.measure_shares` returns them.
    """
    features, probabilities = reference.judge.look_at(samples)
    distance = measure_kernel_distance(reference.features, features)
    precision, recall = measure_precision_recall(reference.features, features)
    some = samples[: min(NEAREST_OF, len(reference.real))]
    nearest = find_nearest(some[:nearest_of], reference.train)
    limit = COPY * float(np.quantile(reference.nearest, 0.05))
    kinds = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])
    confidence = probabilities.max(axis=1)
    shares, apart = reference.measure_shares(probabilities) if reference.told_as is not None else (None, None)
    numbers = {
        "samples": len(samples),
        "kid": distance.value,
        "error": distance.error,
        "generated_error": distance.generated_error,
        "precision": precision,
        "recall": recall,
        "unsure": float((confidence < 0.5 + 0.5 / probabilities.shape[1]).mean()),
        "confidence": float(np.median(confidence)),
        "variety": measure_variety(some) / max(reference.variety, 1e-9),
        "nearest": float(np.median(nearest.distance) / max(np.median(reference.nearest), 1e-9)),
        "copies": float((nearest.distance < limit).mean()),
        "copies_of_real": float((reference.nearest < limit).mean()),
        "looked_at": len(nearest.distance),
        "counts": kinds.tolist(),
        "real_counts": reference.kinds.tolist(),
        "shares": None if shares is None else shares.tolist(),
        "shares_apart": apart,
    }
    return Measured(numbers, distance.by_real, nearest, features, probabilities)
