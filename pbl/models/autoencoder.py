"""Autoencoders: networks that reproduce their input through a narrow code, and so must learn what their images have in common.

Rumelhart, Hinton and Williams (1986), Learning internal representations by error propagation, section "The encoding problem";
Hinton and Salakhutdinov (2006), Science 313, 504-507: deep ones for images; Vincent et al. (2008), ICML, 1096-1103: denoising;
Kingma and Welling (2013), arXiv:1312.6114: the variational one. They learn no classes: `task=anomaly`, or `task=own`.
"""

from collections.abc import Sequence

import keras
from keras import layers, ops

from pbl.models.card import DIGIT, Card

CARDS = {
    "autoencoder": Card(
        "Functional", 1986, "Rumelhart et al. 1986, PDP 1, chapter 8", DIGIT, 1, 209_968, 208_896, task="anomaly"
    ),
    "conv_autoencoder": Card(
        "Functional", 2006, "Hinton and Salakhutdinov 2006, Science 313", DIGIT, 1, 113_841, 1_144_640, task="anomaly"
    ),
    "vae": Card(
        "Functional", 2013, "Kingma and Welling 2013, arXiv:1312.6114", DIGIT, 1, 214_096, 212_992, task="anomaly"
    ),
}


@keras.saving.register_keras_serializable("pbl")
class Autoencoder(keras.Model):
    """A model whose target is its own input: the labels of a `fit` are ignored.

    Its loss is the squared error of a pixel on the scale from 0 to 1, averaged over pixels and images, plus the losses of its layers.
    """

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        error = ops.square(self.scale(x) - self.scale(y_pred))  # [batch, height, width, channels], 0 to 1
        return self.add_penalties(ops.mean(error, axis=(1, 2, 3)), sample_weight)

    def scale(self, pixels):
        """Pixels from 0 to 255 on the scale from 0 to 1, `float32`."""
        return ops.cast(pixels, "float32") / 255

    def add_penalties(self, by_image, sample_weight):
        """The mean of the losses by image, weighted if the data have weights, and the losses that layers add."""
        if sample_weight is not None:
            by_image = by_image * ops.cast(sample_weight, by_image.dtype)
        return ops.mean(by_image) + sum(self.losses)


@keras.saving.register_keras_serializable("pbl")
class VariationalAutoencoder(Autoencoder):
    """An autoencoder in which the grey of each pixel is the probability of white (Kingma and Welling 2013, equation 10).

    Its loss is the cost of an image in nats: the cross-entropy of all its pixels, plus what `Sampling` adds for the code.
    """

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        pixels = keras.losses.binary_crossentropy(
            self.scale(x), self.scale(y_pred)
        )  # [batch, height, width], mean over channels
        by_image = ops.sum(pixels, axis=(1, 2)) * x.shape[-1]
        return self.add_penalties(by_image, sample_weight)


@keras.saving.register_keras_serializable("pbl")
class Sampling(layers.Layer):
    """Draws a code from the normal distribution that the encoder gives; in inference it returns the mean.

    Input: mean and logarithm of the variance, two arrays `[batch, code]`. The draw is mean + deviation * noise, so that gradients pass
    (the reparameterisation of section 2.4). It adds the Kullback-Leibler divergence from the standard normal distribution to the
    loss, in nats, averaged over the batch (appendix B).
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.random = keras.random.SeedGenerator()

    def call(self, inputs, training=None):
        mean, log_variance = inputs
        divergence = -0.5 * ops.sum(1 + log_variance - ops.square(mean) - ops.exp(log_variance), axis=1)  # [batch]
        self.add_loss(ops.mean(divergence))
        if not training:
            return mean
        return mean + ops.exp(log_variance / 2) * keras.random.normal(ops.shape(mean), seed=self.random)


def autoencoder(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    code_size: int = 32,
    widths: Sequence[int] = (128,),
    activation: str = "relu",
    noise: float = 0.0,
) -> keras.Model:
    """Builds an autoencoder of dense layers (Rumelhart, Hinton and Williams 1986; deep ones: Hinton and Salakhutdinov 2006).

    Differences from Hinton and Salakhutdinov: ReLU in place of the logistic function; no layer-wise pre-training; the loss is the
    squared error.

    Args:
        input_shape: (height, width, channels) of the images, pixels 0 to 255.
        num_classes: Not used: it learns no classes.
        code_size: Numbers in the code. With as many as there are pixels, it could copy its input.
        widths: Units of each hidden layer of the encoder, from the first to the last; the decoder has them in reverse.
        activation: Name of the hidden layers' activation; the code has none.
        noise: Standard deviation of normal noise on the pixels in training, on the scale from 0 to 1: the network must then return
            the clean image (Vincent et al. 2008, who set pixels to 0; the same authors used normal noise in 2010, JMLR 11, 3371-3408).

    Returns:
        A model, not compiled, with its own loss: `[batch, *input_shape]` to `float32 [batch, *input_shape]`, pixels 0 to 255.

    Example:
        >>> import pbl
        >>> data = pbl.load_data("digits")
        >>> model = pbl.models.autoencoder(data.input_shape, data.num_classes, code_size=8)
        >>> model.compile(optimizer="adam")
        >>> history = model.fit(data.train, validation_data=data.val, epochs=2, verbose=0)
        >>> history.history["loss"][1] < history.history["loss"][0]
        True
    """
    images, x = _scale(input_shape, noise)
    x = layers.Flatten()(x)
    for width in widths:
        x = layers.Dense(width, activation=activation)(x)
    code = layers.Dense(code_size, name="code")(x)
    return Autoencoder(images, _decode(code, widths, activation, input_shape), name="autoencoder")


def conv_autoencoder(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    code_size: int = 32,
    widths: Sequence[int] = (16, 32),
    noise: float = 0.0,
) -> keras.Model:
    """Builds an autoencoder of convolutions: each layer of the encoder halves the map, each layer of the decoder doubles it.

    Args:
        input_shape, num_classes, code_size, noise: As for `autoencoder`.
        widths: Channels of each convolution of the encoder; the decoder has them in reverse. Sides that are not a multiple of 2 to the
            power of their number are padded with black, and cut back at the end.

    Returns:
        As `autoencoder`.

    Example:
        >>> from pbl import models
        >>> model = models.conv_autoencoder((28, 28, 1), 1)
        >>> models.count_trainable_weights(model)
        113841
    """
    height, width, channels = input_shape
    factor = 2 ** len(widths)
    below, right = -height % factor, -width % factor
    images, x = _scale(input_shape, noise)
    x = layers.ZeroPadding2D(((0, below), (0, right)))(x)
    for channels_out in widths:
        x = layers.Conv2D(channels_out, 3, strides=2, padding="same", activation="relu")(x)
    map_shape = x.shape[1:]
    code = layers.Dense(code_size, name="code")(layers.Flatten()(x))
    x = layers.Dense(map_shape[0] * map_shape[1] * map_shape[2], activation="relu")(code)
    x = layers.Reshape(map_shape)(x)
    for channels_out in [*reversed(widths[:-1]), widths[0]]:
        x = layers.Conv2DTranspose(channels_out, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(channels, 3, padding="same", activation="sigmoid", dtype="float32")(x)
    x = layers.Cropping2D(((0, below), (0, right)), dtype="float32")(x)
    return Autoencoder(images, layers.Rescaling(255.0, dtype="float32")(x), name="conv_autoencoder")


def vae(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    code_size: int = 32,
    widths: Sequence[int] = (128,),
    activation: str = "relu",
) -> keras.Model:
    """Builds a variational autoencoder of dense layers (Kingma and Welling 2013, appendix C: a Bernoulli decoder).

    The code of an image is a normal distribution that is kept near the standard one: so a code drawn from the standard one gives an image
    too. Differences: ReLU in place of tanh; grey values are used as probabilities, as is usual, although they are not only 0 and 1.

    Args:
        input_shape, num_classes, code_size, widths, activation: As for `autoencoder`.

    Returns:
        As `autoencoder`; its loss is in nats per image.

    Example:
        >>> from pbl import models
        >>> model = models.vae((28, 28, 1), 1)
        >>> models.count_trainable_weights(model)
        214096
    """
    images, x = _scale(input_shape)
    x = layers.Flatten()(x)
    for width in widths:
        x = layers.Dense(width, activation=activation)(x)
    mean = layers.Dense(code_size, name="mean", dtype="float32")(x)
    log_variance = layers.Dense(code_size, name="log_variance", dtype="float32")(x)
    code = Sampling(name="code", dtype="float32")([mean, log_variance])
    return VariationalAutoencoder(images, _decode(code, widths, activation, input_shape), name="vae")


def _scale(input_shape: tuple[int, int, int], noise: float = 0.0) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The input, and its pixels on the scale from 0 to 1, with noise in training."""
    images = keras.Input(input_shape)
    x = layers.Rescaling(1 / 255)(images)
    return images, layers.GaussianNoise(noise)(x) if noise else x


def _decode(
    code: keras.KerasTensor, widths: Sequence[int], activation: str, input_shape: tuple[int, int, int]
) -> keras.KerasTensor:
    """Pixels from 0 to 255, by dense layers."""
    height, width, channels = input_shape
    x = code
    for units in reversed(widths):
        x = layers.Dense(units, activation=activation)(x)
    x = layers.Dense(height * width * channels, activation="sigmoid", dtype="float32")(x)
    return layers.Rescaling(255.0, dtype="float32")(layers.Reshape(input_shape)(x))
