"""ResNet-20 on scikit-learn's handwritten digits: the first run, no download.

Paper:    He et al. 2015, Deep Residual Learning for Image Recognition, section 4.2 (there on CIFAR-10, 164 epochs; here
          its SGD with momentum, the rate falling along a cosine in place of steps)
Data:     1,797 real images of 8x8 pixels, 10 classes; 30% are test, 15% of the rest validation
Command:  python -m pbl train
Cost:     under a minute on two CPU cores
Expected: at least 97% of the test images correct
"""

from pbl import Config

config = Config(
    dataset="digits",
    model="resnet20",
    optimizer="sgd",
    learning_rate=0.1,
    learning_rate_schedule="cosine",
    optimizer_options={"momentum": 0.9},
    weight_decay=5e-4,
    batch_size=64,
    epochs=40,
)
