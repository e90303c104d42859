"""A small VGG on CIFAR-10 with the recipe of VGG.

Paper:    Simonyan and Zisserman 2015, Very Deep Convolutional Networks, section 3.1: SGD with momentum 0.9 and weight decay
          5e-4 in batches of 256, the rate 0.01 divided by 10 when validation no longer improves. There the decay is a part of
          the gradient, so the momentum makes it 1 / (1 - 0.9) times as strong. Keras's decay ignores the momentum:
          weight_decay=5e-3 has the same effect. (The paper's images are 224 pixels wide; here `vgg_small`, with batch
          normalisation, for 32.)
Data:     CIFAR-10 by TensorFlow Datasets (163 MB, downloaded once)
Command:  python -m pbl train experiments/cifar10_vgg.py
Cost:     up to 74 epochs, as in the paper; early stopping ends it earlier if nothing improves. Not measured
Expected: not measured
"""

from pbl import Config

config = Config(
    dataset="cifar10",
    model="vgg_small",
    augmentation={"flip": True, "crop": 4},
    optimizer="sgd",
    optimizer_options={"momentum": 0.9},
    learning_rate=1e-2,
    weight_decay=5e-3,
    batch_size=256,
    epochs=74,
    callbacks=["reduce_on_plateau", "early_stopping"],
)
