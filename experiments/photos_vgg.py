"""The course's own project: two classes of photographs, told apart by a small VGG.

Paper:    Simonyan and Zisserman 2015, Very Deep Convolutional Networks, arXiv:1409.1556, for the pattern of the network
          (`vgg_small`: conv3-32 twice, conv3-64 twice, conv3-128 twice, one dense layer). The recipe is the course's: batches
          of 64, 30 epochs, SGD with rate 1e-2, momentum 0.9, and Keras 1's and 2's decay of 5e-4, which in Keras 3 is
          the schedule rate / (1 + 5e-4 * step)
Data:     cats_vs_dogs of TensorFlow Datasets (786 MB, downloaded once); or your own photographs: a folder with one folder
          for each class, or a .zip of it. 30% are test (7:3), and 15% of the rest validation
Command:  python -m pbl train experiments/photos_vgg.py
          python -m pbl train experiments/photos_vgg.py dataset=photos.zip
          python -m pbl train experiments/photos_vgg.py dataset=photos.zip augmentation.flip=true augmentation.crop=8
          python -m pbl evaluate runs/photos_vgg/001 --positive-class cat    # accuracy, recall, precision, F, confusion table
Figures:  learning curves and the confusion table, in runs/photos_vgg/001/figures
Cost:     4 minutes for 172 training images of 64x64, 9 minutes for 5,950 of 32x32 (image_size=32), on two busy CPU cores
Expected: it memorises the training images, and augmentation makes that harder. Test images correct, with seed 0:
          | photographs                                            | as it is | flip and crop | test images |
          |--------------------------------------------------------|----------|---------------|-------------|
          | ants and bees, 172 training images                     | 64%      | 70%           | 73          |
          | cats and dogs of CIFAR-10 (JPEG copies), 5,950 of them | 76.1%    | 79.3%         | 3,000       |
"""

from pbl import Config

config = Config(
    dataset="cats_vs_dogs",
    image_size=64,
    channels=3,
    model="vgg_small",
    optimizer="sgd",
    learning_rate=1e-2,
    optimizer_options={"momentum": 0.9},
    learning_rate_schedule="inverse_time",
    schedule_options={"decay": 5e-4},
    batch_size=64,
    epochs=30,
)
