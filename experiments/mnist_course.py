"""The course's own recipe: SGD with a rate that falls with every step, on MNIST.

Paper:    none; the recipe of the course's slides. In Keras 1 and 2 it was written SGD(lr=0.01, momentum=0.9, decay=5e-4);
          Keras 3 has no `decay`: it is the schedule rate / (1 + 5e-4 * step)
Data:     MNIST by TensorFlow Datasets (11 MB, downloaded once)
Command:  python -m pbl train experiments/mnist_course.py
Cost:     80 seconds on two shared CPU cores
Expected: 98.6% of the test images correct (98.56 with seed 0)
"""

from pbl import Config

config = Config(
    dataset="mnist",
    model="lenet5",
    optimizer="sgd",
    optimizer_options={"momentum": 0.9},
    learning_rate=1e-2,
    learning_rate_schedule="inverse_time",
    schedule_options={"decay": 5e-4},
    batch_size=128,
    epochs=20,
    callbacks=["early_stopping"],
)
