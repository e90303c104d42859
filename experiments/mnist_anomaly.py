"""An autoencoder of one MNIST digit: how well it tells the other nine, beside PCA and nearest neighbours.

    python -m pbl train experiments/mnist_anomaly.py
    python -m pbl evaluate runs/mnist_anomaly/001 --split test

Another digit: task_options.normal=3. Of eights, a 1 is given back perfectly well: see by which kinds it is found.
"""

from pbl import Config

config = Config(
    task="anomaly",
    task_options={"normal": ["8"]},
    dataset="mnist",
    model="autoencoder",
    model_options={"code_size": 32, "widths": [128]},
    optimizer="adam",
    learning_rate=0.001,
    batch_size=64,
    epochs=10,
)
