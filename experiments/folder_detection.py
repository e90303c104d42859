"""Detection in your own photographs: a folder of images with boxes, as labelImg, CVAT, Roboflow or Label Studio write them.

Paper:    Zhou et al. 2019, arXiv:1904.07850 (objects as points); EfficientNetV2 (Tan and Le 2021) with ImageNet's weights as encoder
Data:     scenes/ with images and COCO JSON, Pascal VOC XML or YOLO text files (pbl/data/box_files.py), or a .zip of it
Command:  python -m pbl train experiments/folder_detection.py dataset=scenes.zip
"""

from pbl import Config

config = Config(
    task="detection",
    dataset="scenes.zip",
    image_size=256,
    channels=3,
    fit="pad",  # crop would cut off objects at two sides
    model="center_net",
    model_options={"encoder": "efficientnetv2_transfer", "weights": "imagenet"},
    augmentation={"flip": True, "crop": 16, "zoom": 0.2, "brightness": 0.2, "contrast": 0.2},
    optimizer="adam",
    learning_rate=0.001,
    batch_size=16,
    epochs=30,
    fine_tune_epochs=20,
)
