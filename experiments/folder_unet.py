"""Your own images with masks: a small U-Net, with look-alike groups, at 64x64 pixels.

Paper:    Ronneberger et al. 2015, arXiv:1505.04597 (U-Net), with fewer channels
Data:     a folder, or a .zip, of images/ and masks/ with the same stems (pbl/data/mask_files.py)
Command:  python -m pbl train experiments/folder_unet.py dataset=ultrasound.zip
          python -m pbl evaluate runs/folder_unet/001 --split test
Figures:  worst, median and best masks, Dice by size, thresholds, in runs/folder_unet/001/figures

Slices of one patient, or pictures taken one after the other, look alike: if they are on both sides of the split, every score is too good.
groups=look_alike keeps them together. If the names contain the patient, a pattern is better: groups='(patient[0-9]+)'.
"""

from pbl import Config

config = Config(
    task="segmentation",
    task_options={"loss": "both"},
    dataset="ultrasound.zip",
    groups="look_alike",
    image_size=64,
    channels=1,
    model="unet",
    model_options={"width": 16, "depth": 3},
    augmentation={"flip": True, "crop": 4},
    optimizer="adam",
    learning_rate=0.001,
    learning_rate_schedule="cosine",
    batch_size=32,
    epochs=20,
)
