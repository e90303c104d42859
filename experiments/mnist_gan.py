"""A GAN of MNIST: noise becomes digits. Look at figures/samples_val.png and figures/course_val.png.

Paper:    Radford et al. 2015, arXiv:1511.06434 (DCGAN); averages of the weights: Yazici et al. 2019, arXiv:1806.04498
Data:     MNIST, a third of the training images; 3,000 others train the judge
Command:  python -m pbl train experiments/mnist_gan.py
"""

from pbl import Config

config = Config(
    task="generation",
    dataset="mnist",
    validation_fraction=0.1,  # half of it trains the judge, half is for comparison
    train_fraction=0.37,
    model="dcgan",
    model_options={"noise_size": 64, "width": 32, "kernel_size": 4},
    optimizer="adam",
    learning_rate=0.001,
    optimizer_options={
        "beta_1": 0.5,
        "use_ema": True,
        "ema_momentum": 0.99,
    },  # the two networks chase each other in circles: the mean of the weights is better
    batch_size=64,
    epochs=3,
)
