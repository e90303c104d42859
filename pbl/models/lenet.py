"""LeNet-5, the first convolutional network in everyday use, as a `keras.Sequential`.

LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document recognition, Proceedings of the IEEE
86, 2278-2324, section II.B and figure 2. 61,706 trainable weights at 32x32x1 with 10 classes.

Different from the paper: the subsampling layers S2 and S4 have no weights, and no sigmoid after them (in the paper each map has a
factor and a shift, and a squashing function: 12 and 32 more weights); C3 sees all six maps of S2 (the paper's table I
leaves some out); tanh is not scaled; the output is a softmax in place of radial basis functions. The paper puts digits of
28x28 pixels into 32x32: here any size from 16x16 on is used as it is.
"""

import keras
from keras import layers

from pbl.models.card import Card, check_size

PAPER = "LeCun et al. 1998, Proceedings of the IEEE 86"
CARDS = {
    "lenet5": Card("Sequential", 1998, PAPER, (32, 32, 1), 10, 61_706, 416_520, smallest=16),
}


def lenet5(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds LeNet-5 (LeCun et al. 1998, figure 2).

    Args:
        input_shape: (height, width, channels) of the images, at least 16x16, pixels 0 to 255.
        num_classes: Number of classes, at least 2.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1.

    Raises:
        InputError: The images are smaller.

    Example:
        >>> from pbl import models
        >>> model = models.lenet5((32, 32, 1), 10)
        >>> models.count_trainable_weights(model)
        61706
    """
    check_size("lenet5", input_shape, CARDS["lenet5"].smallest)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(6, 5, activation="tanh", name="c1"),
            layers.AveragePooling2D(2, name="s2"),
            layers.Conv2D(16, 5, activation="tanh", name="c3"),
            layers.AveragePooling2D(2, name="s4"),
            layers.Flatten(),
            layers.Dense(120, activation="tanh", name="c5"),  # in the paper: a 5x5 convolution over a map of 5x5
            layers.Dense(84, activation="tanh", name="f6"),
            layers.Dense(num_classes, activation="softmax", dtype="float32", name="output"),
        ],
        name="lenet5",
    )
