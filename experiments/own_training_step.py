"""What `fit` does in each step, written out: forward, loss, back-propagation, update.

A subclassed model overrides `train_step` with a `GradientTape`. It takes exactly the steps of Keras's own `fit` (a test
compares the weights), so from here you can change any of the four lines.

Command:  python -m pbl train experiments/own_training_step.py
Cost:     seconds on a CPU
"""

import keras
import tensorflow as tf
from keras import layers

from pbl import Config
from pbl.models import MODELS


@keras.saving.register_keras_serializable("own_training_step")
class NetTrain(keras.Model):
    """A multilayer perceptron with one hidden layer and its own training step."""

    def __init__(self, num_classes, hidden_units=128, **kwargs):
        super().__init__(**kwargs)
        self.num_classes, self.hidden_units = num_classes, hidden_units
        self.rescale = layers.Rescaling(1 / 255)
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(hidden_units, activation="relu")
        self.classify = layers.Dense(num_classes, activation="softmax")

    def call(self, images):
        return self.classify(self.hidden(self.flatten(self.rescale(images))))

    def train_step(self, data):
        images, labels = data
        with tf.GradientTape() as tape:
            probabilities = self(images, training=True)  # forward
            loss = self.compute_loss(images, labels, probabilities)  # loss
            scaled = self.optimizer.scale_loss(loss)  # the loss itself, except with precision=mixed_float16
        gradients = tape.gradient(scaled, self.trainable_weights)  # back-propagation
        self.optimizer.apply(gradients, self.trainable_weights)  # update

        for metric in self.metrics:  # what the progress bar shows
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tf.shape(images)[0])
            else:
                metric.update_state(labels, probabilities)
        return self.get_metrics_result()

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes, "hidden_units": self.hidden_units}


def net_train(input_shape, num_classes, hidden_units=128):
    """The model, with its weights made."""
    model = NetTrain(num_classes, hidden_units, name="net_train")
    model(keras.Input(input_shape))
    return model


MODELS["net_train"] = net_train

config = Config(dataset="digits", model="net_train", optimizer="sgd", learning_rate=0.1, epochs=20)
