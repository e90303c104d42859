"""Detection of handwritten digits on canvases: where they are, which digits, and how many. Look at figures/boxes_val.png.

Paper:    Zhou et al. 2019, arXiv:1904.07850 (objects as points), with a small network
Data:     8,000 canvases of 64x64 pixels, drawn here from scikit-learn's digits; test and validation show other digits than train
Command:  python -m pbl train experiments/canvas_detection.py
"""

from pbl import DATASETS, Config
from pbl.data import digit_canvases


def canvases():
    """Up to five digits on each canvas, none on some."""
    return digit_canvases(8000)


DATASETS["canvases"] = canvases
config = Config(
    task="detection",
    dataset="canvases",
    model="center_net",
    model_options={"width": 12},
    optimizer="adam",
    learning_rate=0.005,
    learning_rate_schedule="cosine",
    batch_size=16,
    epochs=5,
)
