"""An autoencoder of one MNIST digit: how well it detects the other nine, compared with PCA and nearest neighbours.

Paper:    Hinton and Salakhutdinov 2006, Science 313 (autoencoders of digits)
Data:     MNIST; the eights are normal
Command:  python -m pbl train experiments/mnist_anomaly.py
Cost:     17 processor seconds
Expected: AUROC .88 on the test split, PCA .85 (experiments/benchmarks/anomaly.md)

Another digit: task_options.normal=3. A network of eights reproduces a 1 perfectly well: see how well each kind is detected.
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
