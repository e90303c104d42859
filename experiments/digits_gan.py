"""A GAN of handwritten digits, 8x8: seconds per epoch, no download. Look at figures/samples_val.png and figures/course_val.png.

Paper:    Radford et al. 2015, arXiv:1511.06434 (DCGAN), one step smaller
Data:     1,797 real images of 8x8 pixels
Command:  python -m pbl train experiments/digits_gan.py
"""

from pbl import Config

config = Config(
    task="generation",
    dataset="digits",
    validation_fraction=0.4,  # half of it trains the judge, half is for comparison
    model="dcgan",
    model_options={"noise_size": 32, "width": 64, "kernel_size": 3},
    optimizer="adam",
    learning_rate=0.0005,
    optimizer_options={"beta_1": 0.5},
    batch_size=32,
    epochs=60,
)
