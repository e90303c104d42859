"""Surfaces with defects, or any folder with good/ and others, also in MVTec's layout: an autoencoder of the good ones.

Data:     a folder, or a .zip, of class folders: good/ and any others; if the good ones have another name: task_options.normal=free
Command:  python -m pbl train experiments/tiles_anomaly.py
Cost:     a minute for 1,300 tiles on two CPU cores
Expected: on magnetic tiles AUROC .56, no better than PCA (experiments/benchmarks/anomaly.md)

Exposures of one part look alike: if they are on both sides of the split, every score is too good. groups=look_alike keeps them together.
If the names contain the part or the patient, a pattern is better: groups='(part[0-9]+)'. Exact masks in a folder masks/ or
ground_truth/ next to the images are evaluated too.
"""

from pbl import Config

config = Config(
    task="anomaly",
    task_options={"normal": ["good"], "score": "max_patch"},
    dataset="tiles.zip",
    groups="look_alike",
    image_size=64,
    channels=1,
    model="conv_autoencoder",
    model_options={"code_size": 64, "widths": [16, 32, 64]},
    optimizer="adam",
    learning_rate=0.001,
    batch_size=32,
    epochs=30,
)
