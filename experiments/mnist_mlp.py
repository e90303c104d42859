"""A multilayer perceptron on MNIST: two hidden layers, the classic first network.

Data:     MNIST (LeCun et al. 1998), 60,000 training images of 28x28 pixels, 10 classes, its official 10,000 test images
Command:  python -m pbl train experiments/mnist_mlp.py
          python -m pbl evaluate runs/mnist_mlp/001 --split test
Download: 11 MB, once, by TensorFlow Datasets; or data_dir=FOLDER if it is already prepared
"""

from pbl import Config

config = Config(
    dataset="mnist",
    model="mlp",
    model_options={"widths": [512, 256], "dropout": 0.2},
    optimizer="adam",
    learning_rate=1e-3,
    learning_rate_schedule="cosine",
    batch_size=128,
    epochs=12,
)
