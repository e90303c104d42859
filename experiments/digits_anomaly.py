"""An autoencoder that knows eights: what it cannot give back is called an anomaly. Embedded digits, seconds, no download.

Paper:    Rumelhart et al. 1986, chapter 8 (autoencoders)
Data:     1,797 real images of 8x8 pixels; the eights are normal
Command:  python -m pbl train experiments/digits_anomaly.py
Cost:     some ten seconds on two CPU cores
Expected: AUROC .96 on validation; nearest neighbours do as well

Look at the picture reconstructions_val.png, and at which digits it is blind to.
"""

from pbl import Config

config = Config(
    task="anomaly",
    task_options={"normal": ["8"]},
    dataset="digits",
    validation_fraction=0.4,  # the threshold is chosen by normal validation images: of 20 one may be a false alarm
    model="autoencoder",
    model_options={"code_size": 8, "widths": [64]},
    optimizer="adam",
    learning_rate=0.003,
    batch_size=16,
    epochs=60,
)
