"""ResNet-20 on CIFAR-10 with He's recipe.

Paper:    He et al. 2015, Deep Residual Learning for Image Recognition, section 4.2: SGD with momentum 0.9 and weight decay
          1e-4 in batches of 128, the rate 0.1 divided by 10 after 32,000 and 48,000 of 64,000 steps (half and three quarters);
          images flipped, padded by 4 and cut at a random place. There the decay is a part of the gradient, so the momentum
          makes it 1 / (1 - 0.9) times as strong. Keras's decay ignores the momentum: weight_decay=1e-3 has the same effect
Data:     CIFAR-10 by TensorFlow Datasets (163 MB, downloaded once), 45,000 images train, 5,000 validate, as in the paper
Command:  python -m pbl train experiments/cifar10_he.py max_minutes=600
          (on Colab with PBL_RUNS on your Drive: after a disconnect the same command resumes the run)
Cost:     182 epochs of 352 steps; on two CPU cores about 20 hours (not run there); on a GPU not measured
Expected: the paper's 91.25% of the test images correct; not measured by us on TensorFlow
"""

from pbl import Config

config = Config(
    dataset="cifar10",
    model="resnet20",
    augmentation={"flip": True, "crop": 4},
    optimizer="sgd",
    optimizer_options={"momentum": 0.9},
    learning_rate=0.1,
    learning_rate_schedule="step",
    schedule_options={"at": [0.5, 0.75], "factor": 0.1},
    weight_decay=1e-3,
    batch_size=128,
    epochs=182,
)
