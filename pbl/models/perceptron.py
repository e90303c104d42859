"""One layer of weights: Rosenblatt's perceptron with its own learning rule, and softmax regression.

Rosenblatt (1958), The perceptron: a probabilistic model for information storage and organization in the brain,
Psychological Review 65, 386-408; the rule as in Rosenblatt (1962), Principles of Neurodynamics, chapter 5. Softmax
regression is multinomial logistic regression (Cox 1966).
"""

import keras
from keras import layers, ops

from pbl.errors import InputError
from pbl.models.card import DIGIT, Card

ROSENBLATT = "Rosenblatt 1958, Psychological Review 65"
COX = "Cox 1966, Some procedures connected with the logistic qualitative response curve"
CARDS = {
    "perceptron": Card("Sequential", 1958, ROSENBLATT, DIGIT, 2, 785, 784),
    "softmax_regression": Card("Sequential", 1966, COX, DIGIT, 10, 7_850, 7_840),
}


@keras.saving.register_keras_serializable("pbl")
class Perceptron(keras.Sequential):
    """Two classes, a step, and Rosenblatt's rule in place of gradient descent.

    The output is [1, 0] or [0, 1]: f(z) = 1 if z = w x + b is at least 0, else 0. A step function has no slope, so `fit` does
    not follow a gradient: for each image w <- w + rate (target - f) x and b <- b + rate (target - f), summed over the
    batch; with `batch_size=1` that is Rosenblatt's rule. The rate is the optimizer's learning rate; nothing else of the
    optimizer is used. The loss is reported, but not used in learning. For the TensorFlow backend.
    """

    def call(self, images, training=None):
        fires = ops.cast(self._activate(images)[0] >= 0, "float32")
        return ops.concatenate([1 - fires, fires], axis=1)

    def _activate(self, images):
        scale, flatten, dense = self.layers
        x = flatten(scale(ops.cast(images, "float32")))
        return dense(x), x

    def train_step(self, data):
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        z, x = self._activate(images)
        output = ops.cast(z >= 0, "float32")
        target = labels[:, 1:] if len(labels.shape) == 2 and labels.shape[1] == 2 else ops.reshape(labels, (-1, 1))
        error = ops.cast(target, "float32") - output  # -1, 0 or 1

        kernel, bias = self.layers[-1].kernel, self.layers[-1].bias
        rate = ops.cast(self.optimizer.learning_rate, "float32")
        kernel.assign_add(rate * ops.matmul(ops.transpose(x), error))
        bias.assign_add(rate * ops.sum(error, axis=0))
        self.optimizer.iterations.assign_add(1)  # so that a learning-rate schedule advances

        outputs = ops.concatenate([1 - output, output], axis=1)
        self._loss_tracker.update_state(self.compute_loss(images, labels, outputs, sample_weight))
        return self.compute_metrics(images, labels, outputs, sample_weight)


def perceptron(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds Rosenblatt's perceptron: one unit with a step function, for two classes (Rosenblatt 1958).

    Args:
        input_shape: (height, width, channels) of the images, pixels 0 to 255.
        num_classes: 2.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, 2]`, rows [1, 0] or [0, 1]. It learns by
        Rosenblatt's rule (see `Perceptron`) and starts with all weights zero. Import `pbl.models` before
        `keras.models.load_model`.

    Raises:
        InputError: `num_classes` is not 2.

    Example:
        >>> from pbl import models
        >>> model = models.perceptron((28, 28, 1), 2)
        >>> models.count_trainable_weights(model)
        785
    """
    if num_classes != 2:
        raise InputError("perceptron distinguishes two classes, not {n}. Use softmax_regression.", n=num_classes)
    model = Perceptron(name="perceptron")
    model.add(keras.Input(input_shape))
    model.add(layers.Rescaling(1 / 255))
    model.add(layers.Flatten())
    model.add(layers.Dense(1, kernel_initializer="zeros"))
    return model


def softmax_regression(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds softmax regression: one dense layer and softmax, the smallest network for any number of classes (Cox 1966).

    Args:
        input_shape: (height, width, channels) of the images, pixels 0 to 255.
        num_classes: Number of classes, at least 2.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1.

    Example:
        >>> from pbl import models
        >>> model = models.softmax_regression((28, 28, 1), 10)
        >>> models.count_trainable_weights(model)
        7850
    """
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(num_classes, activation="softmax", dtype="float32"),
        ],
        name="softmax_regression",
    )
