"""An autoencoder of eights: an image that it cannot reproduce is called an anomaly. Embedded digits, seconds, no download.

Paper:    Rumelhart et al. 1986, chapter 8 (autoencoders)
Data:     1,797 real images of 8x8 pixels; the eights are normal
Command:  python -m pbl train experiments/digits_anomaly.py
Cost:     about ten seconds on two CPU cores
Expected: AUROC .96 on validation; nearest neighbours are equally good

Look at the picture reconstructions_val.png, and at which digits it does not detect.
"""

from pbl import Config

config = Config(
    task="anomaly",
    task_options={"normal": ["8"]},
    dataset="digits",
    validation_fraction=0.4,  # the threshold is chosen on normal validation images: one of 20 may be a false alarm
    model="autoencoder",
    model_options={"code_size": 8, "widths": [64]},
    optimizer="adam",
    learning_rate=0.003,
    batch_size=16,
    epochs=60,
)
