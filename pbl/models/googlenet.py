"""GoogLeNet: filters of several sizes side by side, with the Functional API.

Szegedy et al. (2014), Going Deeper with Convolutions, arXiv:1409.4842, table 1 and figure 3.

Trainable weights at 224x224x3 with 1000 classes, as in Caffe's bvlc_googlenet: 6,998,552, and 13,378,280 with both
auxiliary classifiers. (The numbers in the paper's table 1 add up to 6.8 million.)

Different from the paper: pixels are scaled to -1 to 1 by a constant layer; initial weights follow He et al.'s rule (2015), the
paper does not name one. Local response normalisation is an option, off by default, so that the model uses only Keras's own layers.
The paper gives no constants for it: here they are AlexNet's, 5 channels, k = 2, alpha = 1e-4, beta = .75; Caffe's bvlc_googlenet has
k = 1 and divides alpha by the 5. Padding is TensorFlow's: for a map of even size, a layer of stride 2 has no border on the
left and at the top, or a smaller one.
"""

import keras
from keras import layers

from pbl.models.alexnet import LocalResponseNormalization
from pbl.models.card import LARGE, Card, check_size

PAPER = "Szegedy et al. 2014, arXiv:1409.4842"
CARDS = {"googlenet": Card("Functional", 2014, PAPER, LARGE, 1000, 6_998_552, 1_582_671_872, smallest=32)}

# Table 1: 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; pool projection.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


@keras.saving.register_keras_serializable("pbl")
class WithAuxiliaryClassifiers(keras.Model):
    """A Functional model with further outputs that help to train the first output, and are ignored everywhere else (section 5).

    In training the losses of the further outputs are added, each times 0.3. Predictions, metrics and the validation loss
    use only the first output, so `compile`, `fit` and `evaluate` work as for any other model.
    """

    WEIGHT = 0.3

    def call(self, images, training=None, mask=None):
        outputs = super().call(images, training=training, mask=mask)
        return outputs if training else outputs[0]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        main, *auxiliary = y_pred if isinstance(y_pred, (list, tuple)) else [y_pred]
        loss = super().compute_loss(x, y, main, sample_weight, training)
        for output in auxiliary:
            loss += self.WEIGHT * super().compute_loss(x, y, output, sample_weight, training)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        main = y_pred[0] if isinstance(y_pred, (list, tuple)) else y_pred
        return super().compute_metrics(x, y, main, sample_weight)

    def get_metrics_result(self):
        # Keras 3.13 names the accuracy `main_accuracy`, since the model has other outputs too.
        return {name.removeprefix("main_"): value for name, value in super().get_metrics_result().items()}


def googlenet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    auxiliary: bool = False,
    dropout: float = 0.4,
    lrn: bool = False,
) -> keras.Model:
    """Builds GoogLeNet (Szegedy et al. 2014, table 1).

    Args:
        input_shape: (height, width, channels) of the images, at least 32x32, pixels 0 to 255; with `auxiliary` at least
            65x65.
        num_classes: Number of classes, at least 2.
        auxiliary: Add the two auxiliary classifiers (section 5); see `WithAuxiliaryClassifiers`. Such a model needs
            `import pbl.models` before `keras.models.load_model`.
        dropout: Share of the pooled features set to zero in training.
        lrn: Local response normalisation around the second convolution. Such a model needs `import pbl.models` before
            `keras.models.load_model`.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1.

    Raises:
        InputError: The images are smaller.

    Example:
        >>> from pbl import models
        >>> model = models.googlenet((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        6998552
    """
    check_size("googlenet", input_shape, 65 if auxiliary else CARDS["googlenet"].smallest)
    images = keras.Input(input_shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = _conv(x, 64, 7, strides=2)
    x = _pool(x, strides=2)
    x = LocalResponseNormalization()(x) if lrn else x
    x = _conv(x, 64, 1)
    x = _conv(x, 192, 3)
    x = LocalResponseNormalization()(x) if lrn else x
    x = _pool(x, strides=2)
    outputs = []
    for name, filters in INCEPTION.items():
        if name in ("4a", "5a"):
            x = _pool(x, strides=2)
        x = _inception(x, *filters)
        if auxiliary and name in ("4a", "4d"):
            outputs.append(_auxiliary_classifier(x, num_classes, f"auxiliary_{name}"))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    main = layers.Dense(num_classes, activation="softmax", dtype="float32", name="main")(x)
    if auxiliary:
        return WithAuxiliaryClassifiers(images, [main, *outputs], name="googlenet")
    return keras.Model(images, main, name="googlenet")


def _inception(x, ones: int, reduce_3: int, threes: int, reduce_5: int, fives: int, projection: int):
    """Four branches side by side (figure 2b): 1x1; 1x1 then 3x3; 1x1 then 5x5; pooling then 1x1."""
    return layers.Concatenate()(
        [
            _conv(x, ones, 1),
            _conv(_conv(x, reduce_3, 1), threes, 3),
            _conv(_conv(x, reduce_5, 1), fives, 5),
            _conv(_pool(x, strides=1), projection, 1),
        ]
    )


def _auxiliary_classifier(x, num_classes: int, name: str):
    """Section 5: 5x5 average pooling of stride 3, 128 filters of 1x1, 1024 dense units, dropout of 70%, softmax."""
    x = layers.AveragePooling2D(5, strides=3)(x)
    x = _conv(x, 128, 1)
    x = layers.Flatten()(x)
    x = layers.Dense(1024, activation="relu", kernel_initializer="he_normal")(x)
    x = layers.Dropout(0.7)(x)
    return layers.Dense(num_classes, activation="softmax", dtype="float32", name=name)(x)


def _conv(x, filters: int, size: int, strides: int = 1):
    return layers.Conv2D(filters, size, strides, padding="same", activation="relu", kernel_initializer="he_normal")(x)


def _pool(x, strides: int):
    return layers.MaxPooling2D(3, strides, padding="same")(x)
