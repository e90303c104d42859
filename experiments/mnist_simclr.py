"""SimCLR on MNIST: features learned without labels, most useful if there are few labels. Look at figures/probes_val.png.

Paper:    Chen et al. 2020, arXiv:2002.05709; a small convolutional network as encoder
Data:     MNIST, a third of the training images; no label is used in training, some for the evaluation
Command:  python -m pbl train experiments/mnist_simclr.py
"""

from pbl import Config

config = Config(
    task="contrast",
    dataset="mnist",
    train_fraction=0.37,
    model="simclr",
    model_options={"encoder": "small_cnn", "temperature": 0.2},
    augmentation={
        "crop": 4,
        "rotation": 25,
        "zoom": 0.4,
    },  # changes after which a digit is still the same digit; no flip: a flipped 2 is not a 2
    optimizer="adam",
    learning_rate=0.002,
    batch_size=256,
    epochs=5,
)
