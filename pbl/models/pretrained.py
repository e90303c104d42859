"""Transfer learning with VGG16 and ResNet-50: features from ImageNet and your own head.

Simonyan and Zisserman (2014), arXiv:1409.1556, configuration D; He et al. (2015), arXiv:1512.03385. The backbones are those of
`keras.applications`, with their weights from ImageNet, frozen; `unfreeze` and `fine_tune_epochs` train their last stages, as with
`efficientnet_transfer`. `vgg16` and `resnet50` are the same networks without pre-training.

These weights were trained with other pixel values than those of EfficientNet: blue before red, the mean colour subtracted, and no division
(`CaffePreprocessing`). With the wrong preprocessing a network still runs, but is worse, without any warning; so it is a layer of the model.
"""

from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from pbl.models.card import LARGE, Card, check_size
from pbl.models.efficientnet import load_backbone, take_backbone

SIMONYAN, HE = "Simonyan and Zisserman 2014, arXiv:1409.1556", "He et al. 2015, arXiv:1512.03385"
# With `weights=None`; frozen, only the head is trained: 513,000 and 2,049,000 weights.
CARDS = {
    "vgg16_transfer": Card("Functional", 2014, SIMONYAN, LARGE, 1000, 15_227_688, 15_347_142_656, smallest=32),
    "resnet50_transfer": Card("Functional", 2015, HE, LARGE, 1000, 25_583_592, 3_857_973_248, smallest=64),
}
APPLICATIONS = {"vgg16_transfer": keras.applications.VGG16, "resnet50_transfer": keras.applications.ResNet50}
BLUE_GREEN_RED = (103.939, 116.779, 123.68)  # the mean colour of ImageNet, 0 to 255


@keras.saving.register_keras_serializable("pbl")
class CaffePreprocessing(layers.Layer):
    """From red, green, blue, 0 to 255, to blue, green, red minus the mean colour: the input that VGG's and ResNet's weights were trained with."""

    def call(self, images):
        x = ops.flip(ops.cast(images, self.compute_dtype), axis=-1)
        return x - ops.cast(ops.convert_to_tensor(BLUE_GREEN_RED), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


def vgg16_transfer(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    weights: str | None = "imagenet",
    dropout: float = 0.2,
) -> keras.Model:
    """Builds a frozen VGG16 with a new head: global average pooling and one dense layer, in place of the paper's three.

    Args:
        input_shape: (height, width, channels) of the images, at least 32x32, pixels 0 to 255. Grey images are shown to the backbone as
            colour images. The backbone was trained at 224x224.
        num_classes: Number of classes, at least 2.
        weights: "imagenet" (59 MB, downloaded once by Keras); the folder of a run of this same model on other data, or of `task=contrast`
            with it as encoder: its backbone is used; a `.weights.h5` of the backbone alone; or None: random, and the backbone is
            trained too.
        dropout: Share of the pooled features set to zero in training.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1. Unless `weights` is None, only
        the head can be trained; see `unfreeze`. Import `pbl.models` before `keras.models.load_model`.

    Raises:
        InputError: The weights are not available.

    Example:
        >>> from pbl import models
        >>> model = models.vgg16_transfer((224, 224, 3), 1000, weights=None)
        >>> models.count_trainable_weights(model)
        15227688
    """
    return _build("vgg16_transfer", input_shape, num_classes, weights, dropout)


def resnet50_transfer(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    weights: str | None = "imagenet",
    dropout: float = 0.2,
) -> keras.Model:
    """Builds a frozen ResNet-50 with a new head (He et al. 2015); images of at least 64x64, otherwise as `vgg16_transfer`. ImageNet's weights have 95 MB.

    Example:
        >>> from pbl import models
        >>> model = models.resnet50_transfer((224, 224, 3), 1000, weights=None)
        >>> models.count_trainable_weights(model)
        25583592
    """
    return _build("resnet50_transfer", input_shape, num_classes, weights, dropout)


def _build(
    name: str, input_shape: tuple[int, int, int], num_classes: int, weights: str | None, dropout: float
) -> keras.Model:
    check_size(name, input_shape, CARDS[name].smallest)
    from_run = weights is not None and Path(weights).is_dir()
    images = keras.Input(input_shape)
    x = layers.Concatenate()([images] * 3) if input_shape[-1] == 1 else images
    x = CaffePreprocessing(name="preprocessing")(x)
    backbone = load_backbone(APPLICATIONS[name], tuple(x.shape[1:]), None if from_run else weights)
    backbone.trainable = weights is None
    for layer in backbone.layers:
        if weights is None and isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # Keras's own .99 lags many epochs behind on a small data set
    x = layers.GlobalAveragePooling2D(name="features")(backbone(x))
    x = layers.Dropout(dropout)(x)
    probabilities = layers.Dense(num_classes, activation="softmax", dtype="float32", name="head")(x)
    model = keras.Model(images, probabilities, name=name)
    if from_run:
        take_backbone(model, Path(weights), lambda shape, classes, options: _rebuild(name, shape, classes, options), {})
    return model


def _rebuild(name: str, shape: tuple[int, int, int], classes: int, options: dict[str, Any]) -> keras.Model:
    return _build(name, shape, classes, None, options.get("dropout", 0.2))
