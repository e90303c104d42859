"""A student's experiment file with three models that bring their own loss or step: `task="own"`.

An autoencoder with a loss of its own, a GAN with two optimizers, and a contrastive encoder of two augmented views.
"""

import keras
from keras import layers, ops

from pbl import MODELS, Config


class Autoencoder(keras.Model):
    """Returns the image; its loss is the mean squared error to the image itself."""

    def __init__(self, input_shape, code=8, **kwargs):
        super().__init__(**kwargs)
        self.rescale = layers.Rescaling(1 / 255)
        self.encoder = keras.Sequential(
            [keras.Input(input_shape), layers.Flatten(), layers.Dense(code), layers.Dropout(0.1)]
        )
        pixels = input_shape[0] * input_shape[1] * input_shape[2]
        self.decoder = keras.Sequential(
            [keras.Input((code,)), layers.Dense(pixels, activation="sigmoid"), layers.Reshape(input_shape)]
        )

    def call(self, images, training=None):
        return self.decoder(self.encoder(self.rescale(images), training=training))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.square(self.rescale(x) - y_pred))


class GAN(keras.Model):
    """Goodfellow et al. 2014: a generator and a discriminator, each with its own optimizer."""

    def __init__(self, input_shape, noise=8, **kwargs):
        super().__init__(**kwargs)
        self.noise, pixels = noise, input_shape[0] * input_shape[1] * input_shape[2]
        self.random = keras.random.SeedGenerator(7)
        self.generator = keras.Sequential(
            [keras.Input((noise,)), layers.Dense(pixels, activation="sigmoid"), layers.Reshape(input_shape)]
        )
        self.discriminator = keras.Sequential(
            [keras.Input(input_shape), layers.Flatten(), layers.Dense(16, activation="relu"), layers.Dense(1)]
        )
        self.d_loss, self.g_loss = keras.metrics.Mean(name="d_loss"), keras.metrics.Mean(name="g_loss")
        self.built = True  # the GAN itself is never called

    def compile(self):
        super().compile()
        self.d_optimizer, self.g_optimizer = keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3)
        self.cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    def train_step(self, data):
        import tensorflow as tf

        real = ops.cast(data[0], "float32") / 255
        ones, zeros = ops.ones((ops.shape(real)[0], 1)), ops.zeros((ops.shape(real)[0], 1))
        noise = keras.random.normal((ops.shape(real)[0], self.noise), seed=self.random)
        with tf.GradientTape() as tape:
            of_real, of_fake = self.discriminator(real), self.discriminator(self.generator(noise))
            loss = self.cross_entropy(ones, of_real) + self.cross_entropy(zeros, of_fake)
        weights = self.discriminator.trainable_weights
        self.d_optimizer.apply(tape.gradient(loss, weights), weights)
        self.d_loss.update_state(loss)
        with tf.GradientTape() as tape:
            loss = self.cross_entropy(ones, self.discriminator(self.generator(noise)))
        weights = self.generator.trainable_weights
        self.g_optimizer.apply(tape.gradient(loss, weights), weights)
        self.g_loss.update_state(loss)
        return self.get_metrics_result()


class Contrastive(keras.Model):
    """SimCLR (Chen et al. 2020): two views of an image must be alike, and unlike those of all other images."""

    def __init__(self, input_shape, **kwargs):
        super().__init__(**kwargs)
        self.views = keras.Sequential(
            [keras.Input(input_shape), layers.RandomTranslation(0.2, 0.2), layers.Rescaling(1 / 255), layers.Flatten()]
        )
        pixels = input_shape[0] * input_shape[1] * input_shape[2]
        self.encoder = keras.Sequential([keras.Input((pixels,)), layers.Dense(32, activation="relu"), layers.Dense(32)])
        self.loss_tracker = keras.metrics.Mean(name="loss")

    def call(self, images, training=None):
        return self.encoder(self.views(images, training=training))

    def _compare(self, images):
        one, other = (ops.normalize(self(images, training=True), axis=-1) for _ in range(2))
        logits = one @ ops.transpose(other) / 0.2
        return ops.mean(
            keras.losses.sparse_categorical_crossentropy(ops.arange(ops.shape(one)[0]), logits, from_logits=True)
        )

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self._compare(data[0])
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}

    def test_step(self, data):
        self.loss_tracker.update_state(self._compare(data[0]))
        return {"loss": self.loss_tracker.result()}


def gan(input_shape, num_classes):
    """A GAN compiled by its builder."""
    model = GAN(input_shape, name="gan")
    model.compile()
    return model


MODELS["autoencoder"] = lambda input_shape, num_classes, code=8: Autoencoder(input_shape, code, name="autoencoder")
MODELS["gan"] = gan
MODELS["contrastive"] = lambda input_shape, num_classes: Contrastive(input_shape, name="contrastive")

config = Config(task="own", dataset="digits", model="autoencoder", epochs=3, checkpoint_minutes=1e-6)
