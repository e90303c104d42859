"""Generative adversarial networks: a generator that forges images, and a discriminator that tells forged images from real ones.

Goodfellow et al. (2014), arXiv:1406.2661: the game and its algorithm 1; Radford, Metz and Chintala (2015), arXiv:1511.06434: the
convolutional form (DCGAN); Mirza and Osindero (2014), arXiv:1411.1784: by class; Gulrajani et al. (2017), arXiv:1704.00028: the
Wasserstein distance with a gradient penalty. They learn no classes: `task=generation`.
"""

from collections.abc import Sequence

import keras
from keras import layers, ops

from pbl.errors import InputError
from pbl.models.card import DIGIT, Card, check_size
from pbl.models.keras_private import open_tape

# Weights of both networks; multiply-accumulates of the discriminator: a generator takes no image.
CARDS = {
    "mlp_gan": Card("subclassed", 2014, "Goodfellow et al. 2014, arXiv:1406.2661", DIGIT, 1, 1_093_137, 532_736, task="generation"),
    "dcgan": Card("subclassed", 2015, "Radford et al. 2015, arXiv:1511.06434", DIGIT, 1, 1_047_106, 10_355_072, smallest=4, task="generation"),
}  # fmt: skip
LOSSES = ("non_saturating", "wgan_gp")
PENALTY = 10.0  # lambda, the weight of the gradient penalty in Gulrajani et al., algorithm 1
CRITIC_STEPS = 5  # steps of the discriminator for each of the generator, with the penalty; n_critic there


@keras.saving.register_keras_serializable("pbl")
class GAN(keras.Model):
    """Two networks that are trained against each other. The generator uses the optimizer of `compile`, the discriminator a copy of it.

    Args:
        generator: From noise `[batch, noise_size]` (with `conditional` also labels `[batch]`) to pixels 0 to 255.
        discriminator: From pixels 0 to 255 (and labels) to a number `[batch, 1]`; higher means more real.
        noise_size: Numbers that an image is made from.
        conditional: Whether both networks take labels.
        loss: "non_saturating" (Goodfellow et al. 2014, section 3: the generator maximises log D) or "wgan_gp".
        discriminator_rate: The discriminator's learning rate divided by the generator's.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        noise_size: int,
        conditional: bool = False,
        loss: str = "non_saturating",
        discriminator_rate: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.generator, self.discriminator = generator, discriminator
        self.noise_size, self.conditional = noise_size, conditional
        self.adversarial_loss, self.discriminator_rate = loss, discriminator_rate
        self.random = keras.random.SeedGenerator()
        names = ("d_loss", "g_loss", "d_real", "d_generated")
        self.trackers = [keras.metrics.Mean(name=name) for name in names]
        self.built = True  # the two networks are built; Keras would not know that for the model

    @property
    def metrics(self):
        return self.trackers  # not Keras's "loss", which would be 0

    def compile(self, optimizer, **arguments):
        """Compiles as `keras.Model` does. The discriminator's optimizer has the same settings, and its own state."""
        super().compile(optimizer=optimizer, **arguments)
        plain = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        # Its learning rate is set at each step from the generator's, so that schedules and callbacks apply to both.
        twin = type(plain).from_config({**plain.get_config(), "learning_rate": 0.0, "name": "discriminator_optimizer"})
        # Keras adds loss scaling only to the optimizer that it knows; this one would not have it (mixed_float16).
        is_scaled = self.optimizer is not plain
        self.discriminator_optimizer = keras.optimizers.LossScaleOptimizer(twin) if is_scaled else twin
        self.optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)

    def compile_from_config(self, config):
        """Compiles a model that is loaded: Keras does not do that for a model with its own `compile`."""
        self.compile(keras.saving.deserialize_keras_object(config["optimizer"]))

    def call(self, images, training=None):
        """The discriminator's numbers for images, `[batch, 1]`; if it takes labels, the images count as class 0."""
        return self._judge(images, ops.zeros(ops.shape(images)[0], "int32"), training=training)

    def generate(self, noise, labels=None, training=False):
        """Makes images: from noise `[n, noise_size]` of the standard normal distribution to pixels 0 to 255."""
        return self.generator([noise, labels] if self.conditional else noise, training=training)

    def _judge(self, images, labels, training):
        return self.discriminator([images, labels] if self.conditional else images, training=training)

    def _draw_noise(self, n):
        return keras.random.normal((n, self.noise_size), seed=self.random)

    def train_step(self, data):
        """One round of algorithm 1: the discriminator learns from a batch, then the generator from the discriminator."""
        real, labels = ops.cast(data[0], "float32"), data[1]  # [batch, height, width, channels], [batch]
        n = ops.shape(real)[0]

        self.discriminator_optimizer.learning_rate.assign(self.discriminator_rate * self.optimizer.learning_rate)
        generated = self.generate(self._draw_noise(n), labels, training=True)
        with open_tape() as tape:
            of_real = self._judge(real, labels, training=True)  # [batch, 1]
            of_generated = self._judge(generated, labels, training=True)
            d_loss = self._discriminator_loss(of_real, of_generated)
            if self.adversarial_loss == "wgan_gp":
                d_loss += PENALTY * self._penalise_slopes(real, generated, labels)
            scaled = self.discriminator_optimizer.scale_loss(d_loss)
        weights = self.discriminator.trainable_weights
        self.discriminator_optimizer.apply(tape.gradient(scaled, weights), weights)

        def train_generator():
            with open_tape() as tape:
                generated = self.generate(self._draw_noise(n), labels, training=True)
                g_loss = self._generator_loss(self._judge(generated, labels, training=True))
                scaled = self.optimizer.scale_loss(g_loss)
            weights = self.generator.trainable_weights
            self.optimizer.apply(tape.gradient(scaled, weights), weights)
            self.trackers[1].update_state(g_loss)

        if self.adversarial_loss == "wgan_gp":
            turn = ops.equal(self.discriminator_optimizer.iterations % CRITIC_STEPS, 0)
            ops.cond(turn, train_generator, lambda: None)
        else:
            train_generator()
        self._track(d_loss, of_real, of_generated)
        return self.get_metrics_result()

    def test_step(self, data):
        """The same losses in inference mode, always from the same noise; they say little about the quality of the images."""
        real, labels = ops.cast(data[0], "float32"), data[1]
        noise = keras.random.normal((ops.shape(real)[0], self.noise_size), seed=1)
        of_real = self._judge(real, labels, training=False)
        of_generated = self._judge(self.generate(noise, labels), labels, training=False)
        self.trackers[1].update_state(self._generator_loss(of_generated))
        self._track(self._discriminator_loss(of_real, of_generated), of_real, of_generated)
        return self.get_metrics_result()

    def _discriminator_loss(self, of_real, of_generated):
        if self.adversarial_loss == "wgan_gp":
            return ops.mean(of_generated) - ops.mean(of_real)
        # -log D(x) - log(1 - D(G(z))), from logits.
        return ops.mean(ops.softplus(-of_real)) + ops.mean(ops.softplus(of_generated))

    def _generator_loss(self, of_generated):
        if self.adversarial_loss == "wgan_gp":
            return -ops.mean(of_generated)
        return ops.mean(ops.softplus(-of_generated))  # -log D(G(z))

    def _penalise_slopes(self, real, generated, labels):
        """(|gradient| - 1)^2 at random points between real and generated images, on the scale -1 to 1 (equation 3)."""
        share = keras.random.uniform((ops.shape(real)[0], 1, 1, 1), seed=self.random)
        between = share * real + (1 - share) * generated
        with open_tape() as tape:
            tape.watch(between)
            judged = self._judge(between, labels, training=True)
        slopes = 127.5 * tape.gradient(judged, between)  # the networks see pixels / 127.5 - 1
        length = ops.sqrt(ops.sum(ops.square(slopes), axis=(1, 2, 3)) + 1e-12)
        return ops.mean(ops.square(length - 1))

    def _track(self, d_loss, of_real, of_generated):
        """`d_real` and `d_generated`: the mean of D, a probability of being real; with "wgan_gp" the mean of its raw outputs."""
        score = ops.sigmoid if self.adversarial_loss != "wgan_gp" else (lambda values: values)
        self.trackers[0].update_state(d_loss)
        self.trackers[2].update_state(score(of_real))
        self.trackers[3].update_state(score(of_generated))

    def get_config(self):
        networks = {
            name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("generator", "discriminator")
        }
        return {
            **super().get_config(), **networks,
            "noise_size": self.noise_size, "conditional": self.conditional,
            "loss": self.adversarial_loss, "discriminator_rate": self.discriminator_rate,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config):
        networks = {
            name: keras.saving.deserialize_keras_object(config.pop(name)) for name in ("generator", "discriminator")
        }
        return cls(**networks, **config)


def dcgan(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    noise_size: int = 100,
    width: int = 64,
    kernel_size: int = 5,
    batch_normalization: bool = True,
    conditional: bool = False,
    loss: str = "non_saturating",
    discriminator_rate: float = 1.0,
) -> keras.Model:
    """Builds the convolutional GAN of Radford et al. (2015), section 3 and figure 1.

    Its guidelines are kept: strides in place of pooling; batch normalisation in both networks, but not at the layers where images are the
    input or the output; no hidden dense layers; ReLU in the generator, tanh at its end; LeakyReLU of .2 in the discriminator; initial weights
    with a standard deviation of .02. Different: the side is halved as often as possible, down to 7 pixels or fewer, in place of four times; normal noise in
    place of uniform noise; with "wgan_gp", layer normalisation in the discriminator (Gulrajani et al., section 4). The paper trains with
    Adam, rate .0002 and beta_1 .5, in batches of 128.

    Args:
        input_shape: (height, width, channels), sides that can be halved to at most 16 pixels; pixels 0 to 255.
        num_classes: Number of classes; used only with `conditional`.
        noise_size: Numbers that an image is made from; 100 in the paper.
        width: Feature maps next to the image, doubled with each halving of the side; 128 in the paper at 64x64.
        kernel_size: Side of all kernels; 5 in the paper.
        batch_normalization: False leaves it out in both: an experiment that shows what the paper warns about.
        conditional: Whether both networks receive a label, so that one can ask for a class (Mirza and Osindero 2014): the generator
            as numbers next to the noise, the discriminator as a map next to the image, both learned.
        loss: "non_saturating" or "wgan_gp".
        discriminator_rate: The discriminator's learning rate divided by the generator's.

    Returns:
        A `GAN`, not compiled.

    Raises:
        InputError: The sides cannot be halved to at most 16 pixels; an option is out of range.

    Example:
        >>> from pbl import models
        >>> model = models.dcgan((28, 28, 1), 1)
        >>> models.count_trainable_weights(model)
        1047106
    """
    height, image_width, channels = input_shape
    steps = _count_halvings(input_shape)
    start = (height >> steps, image_width >> steps)
    maps = [width << step for step in range(steps)]  # for 28x28 pixels: 64 at 14x14, 128 at 7x7
    convolution = {
        "strides": 2, "padding": "same", "kernel_initializer": keras.initializers.RandomNormal(stddev=0.02),
    }  # fmt: skip

    def normalise(x, in_discriminator=False):
        if not batch_normalization:
            return x
        if in_discriminator and loss == "wgan_gp":
            return layers.LayerNormalization(axis=(1, 2, 3))(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    inputs, x = _make_generator_inputs(noise_size, num_classes, conditional)
    x = layers.Dense(start[0] * start[1] * maps[-1], use_bias=False)(x)
    x = layers.Reshape((*start, maps[-1]))(x)  # [batch, 7, 7, 128]
    x = layers.ReLU()(normalise(x))
    for filters in reversed(maps[:-1]):
        x = layers.Conv2DTranspose(filters, kernel_size, use_bias=False, **convolution)(x)  # [batch, 14, 14, 64]
        x = layers.ReLU()(normalise(x))
    x = layers.Conv2DTranspose(channels, kernel_size, activation="tanh", dtype="float32", **convolution)(x)
    generator = keras.Model(inputs, layers.Rescaling(127.5, offset=127.5, dtype="float32")(x), name="generator")

    inputs, x = _make_discriminator_inputs(input_shape, num_classes, conditional)
    for number, filters in enumerate(maps):
        x = layers.Conv2D(filters, kernel_size, **convolution)(x)
        x = layers.LeakyReLU(0.2)(x if number == 0 else normalise(x, in_discriminator=True))
    x = layers.Dense(1, dtype="float32")(layers.Flatten()(x))
    discriminator = keras.Model(inputs, x, name="discriminator")
    return _join(generator, discriminator, noise_size, conditional, loss, discriminator_rate, "dcgan")


def mlp_gan(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    noise_size: int = 100,
    widths: Sequence[int] = (256, 512),
    dropout: float = 0.3,
    conditional: bool = False,
    loss: str = "non_saturating",
    discriminator_rate: float = 1.0,
) -> keras.Model:
    """Builds the first GAN, of dense layers (Goodfellow et al. 2014, section 5).

    Different from the paper: LeakyReLU in place of maxout, normal noise in place of uniform, Adam in place of momentum.

    Args:
        input_shape: (height, width, channels), pixels 0 to 255.
        num_classes: Number of classes; used only with `conditional`.
        noise_size: Numbers that an image is made from.
        widths: Units of the generator's hidden layers, from the first to the last; the discriminator has them in reverse.
        dropout: Share of the discriminator's hidden units that are set to zero in training; the paper uses dropout too.
        conditional, loss, discriminator_rate: As in `dcgan`.

    Returns:
        A `GAN`, not compiled.

    Example:
        >>> from pbl import models
        >>> model = models.mlp_gan((28, 28, 1), 1)
        >>> models.count_trainable_weights(model)
        1093137
    """
    inputs, x = _make_generator_inputs(noise_size, num_classes, conditional)
    for units in widths:
        x = layers.Dense(units, activation="relu")(x)
    height, width, channels = input_shape
    x = layers.Dense(height * width * channels, activation="sigmoid", dtype="float32")(x)
    x = layers.Rescaling(255.0, dtype="float32")(layers.Reshape(input_shape)(x))
    generator = keras.Model(inputs, x, name="generator")

    inputs, x = _make_discriminator_inputs(input_shape, num_classes, conditional)
    x = layers.Flatten()(x)
    for units in reversed(widths):
        x = layers.Dropout(dropout)(layers.LeakyReLU(0.2)(layers.Dense(units)(x)))
    discriminator = keras.Model(inputs, layers.Dense(1, dtype="float32")(x), name="discriminator")
    return _join(generator, discriminator, noise_size, conditional, loss, discriminator_rate, "mlp_gan")


def _count_halvings(input_shape: tuple[int, int, int]) -> int:
    check_size("dcgan", input_shape, CARDS["dcgan"].smallest)
    *sides, _ = input_shape
    steps = 0
    while min(sides) > 7 * 2**steps and not any(side % 2 ** (steps + 1) for side in sides):
        steps += 1
    if not steps or min(sides) >> steps > 16:
        raise InputError(
            "dcgan doubles a small map until it has the size of the image, but {height}x{width} pixels cannot be halved often enough. Give "
            "image_size=8, 16, 28, 32 or 64.",
            height=sides[0],
            width=sides[1],
        )
    return steps


def _make_generator_inputs(noise_size: int, num_classes: int, conditional: bool) -> tuple:
    noise = keras.Input((noise_size,), name="noise")
    if not conditional:
        return noise, noise
    label = keras.Input((), dtype="int32", name="label")
    return [noise, label], layers.Concatenate()([noise, layers.Embedding(num_classes, 50)(label)])


def _make_discriminator_inputs(input_shape: tuple[int, int, int], num_classes: int, conditional: bool) -> tuple:
    images = keras.Input(input_shape, name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    if not conditional:
        return images, x
    label = keras.Input((), dtype="int32", name="label")
    height, width, _ = input_shape
    plane = layers.Reshape((height, width, 1))(layers.Embedding(num_classes, height * width)(label))
    return [images, label], layers.Concatenate()([x, plane])


def _join(generator, discriminator, noise_size, conditional, loss, discriminator_rate, name) -> GAN:
    if loss not in LOSSES:
        raise InputError("model_options.loss={loss}. Valid: {valid}.", loss=loss, valid=", ".join(LOSSES))
    if not discriminator_rate > 0:
        raise InputError("model_options.discriminator_rate={rate}: a number above 0.", rate=discriminator_rate)
    return GAN(generator, discriminator, noise_size, conditional, loss, discriminator_rate, name=name)
