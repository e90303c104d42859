"""ResNet-20 on scikit-learn's handwritten digits: the first run, no download.

Paper:    He et al. 2015, Deep Residual Learning for Image Recognition, section 4.2 (there on CIFAR-10)
Data:     1,797 real images of 8x8 pixels, 10 classes; 30% are test, 15% of the rest validation
Command:  python -m pbl train
"""

from pbl import Config

config = Config(
    dataset="digits",
    model="resnet20",
    optimizer="adam",
    learning_rate=1e-3,
    batch_size=64,
    epochs=30,
)
