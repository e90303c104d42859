"""SimCLR on handwritten digits, 8x8: half a minute, no download. Look at figures/probes_val.png and figures/embeddings_val.png.

Paper:    Chen et al. 2020, arXiv:2002.05709; a small convolutional network as encoder
Data:     1,797 real images of 8x8 pixels; no label is used in training, some for the evaluation
Command:  python -m pbl train experiments/digits_simclr.py
"""

from pbl import Config

config = Config(
    task="contrast",
    dataset="digits",
    validation_fraction=0.4,  # a gain of a few percent can be seen on 400 images, not on 200
    model="simclr",
    model_options={"encoder": "small_cnn", "temperature": 0.2},
    augmentation={
        "crop": 1,
        "rotation": 20,
        "zoom": 0.2,
        "contrast": 0.3,
    },  # changes after which a digit is still the same digit
    optimizer="adam",
    learning_rate=0.001,
    batch_size=128,
    epochs=30,
)
