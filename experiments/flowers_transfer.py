"""Transfer learning in two phases: an EfficientNet pre-trained on ImageNet learns five kinds of flowers.

Paper:    Tan and Le 2019, EfficientNet, arXiv:1905.11946 (section 5.2 and table 5: transfer to eight data sets)
Data:     tf_flowers of TensorFlow Datasets, 3,670 photographs of any size, cut to 224x224; 30% are test, 15% of the rest
          validation. Needs the network once, for the photographs (230 MB) and ImageNet's weights (16 MB).
Command:  python -m pbl train experiments/flowers_transfer.py
Phases:   5 epochs of the head alone, whose features are computed once; then 5 epochs in which the last two of the seven
          stages are trained too, at a hundredth of the rate
Cost:     on two CPU cores about a minute for the features and one to two for each epoch of phase 2 (18 ms per image, measured)
Expected: not measured by us, since our machines have no network
"""

from pbl import Config

config = Config(
    dataset="tf_flowers",
    image_size=224,
    model="efficientnet_transfer",
    model_options={"weights": "imagenet"},
    optimizer="adam",
    learning_rate=1e-3,
    batch_size=32,
    epochs=5,
    fine_tune_epochs=5,
    fine_tune_learning_rate=1e-5,
    unfreeze=2,
)
