"""What is known of each model: style, paper, size and cost, so that they can be listed without being built.

A test builds every model and holds the cards to it.
"""

from dataclasses import dataclass

from pbl.errors import InputError


@dataclass(frozen=True)
class Card:
    """One line of `python -m pbl models`.

    Args:
        style: "Sequential", "Functional" or "subclassed".
        year: Year of the paper.
        paper: Its authors, and where it is found.
        input_shape: The input at which weights and MACs are counted; with `classes` outputs.
        classes: Number of classes at which they are counted.
        weights: Trainable weights.
        macs: Multiply-accumulates of the convolutions and dense layers for one image.
        smallest: Side of the smallest image that it takes, in pixels.
    """

    style: str
    year: int
    paper: str
    input_shape: tuple[int, int, int]
    classes: int
    weights: int
    macs: int
    smallest: int = 1


ROSENBLATT = "Rosenblatt 1958, Psychological Review 65"
COX = "Cox 1966, Some procedures connected with the logistic qualitative response curve"
RUMELHART = "Rumelhart et al. 1986, Nature 323"
THIS = "a lesson's example"
LECUN = "LeCun et al. 1998, Proceedings of the IEEE 86"
KRIZHEVSKY = "Krizhevsky et al. 2012, NeurIPS"
SIMONYAN = "Simonyan and Zisserman 2014, arXiv:1409.1556"
SZEGEDY = "Szegedy et al. 2014, arXiv:1409.4842"
HE = "He et al. 2015, arXiv:1512.03385"
HU = "Hu et al. 2017, arXiv:1709.01507"
TAN = "Tan and Le 2019, arXiv:1905.11946"
TAN_V2 = "Tan and Le 2021, arXiv:2104.00298"
DOSOVITSKIY = "Dosovitskiy et al. 2020, arXiv:2010.11929"
TOUVRON = "Touvron et al. 2020, arXiv:2012.12877"

DIGIT, SMALL, LARGE = (28, 28, 1), (32, 32, 3), (224, 224, 3)

CARDS: dict[str, Card] = {
    "perceptron": Card("Sequential", 1958, ROSENBLATT, DIGIT, 2, 785, 784),
    "softmax_regression": Card("Sequential", 1966, COX, DIGIT, 10, 7_850, 7_840),
    "mlp": Card("Sequential", 1986, RUMELHART, DIGIT, 10, 535_818, 535_040),
    "mlp_functional": Card("Functional", 1986, RUMELHART, DIGIT, 10, 535_818, 535_040),
    "mlp_subclassed": Card("subclassed", 1986, RUMELHART, DIGIT, 10, 535_818, 535_040),
    "small_cnn": Card("Sequential", 2026, THIS, SMALL, 10, 60_362, 5_644_288, smallest=4),
    "small_cnn_functional": Card("Functional", 2026, THIS, SMALL, 10, 60_362, 5_644_288, smallest=4),
    "small_cnn_subclassed": Card("subclassed", 2026, THIS, SMALL, 10, 60_362, 5_644_288, smallest=4),
    "lenet5": Card("Sequential", 1998, LECUN, (32, 32, 1), 10, 61_706, 416_520, smallest=16),
    "alexnet": Card("Sequential", 2012, KRIZHEVSKY, (227, 227, 3), 1000, 62_378_344, 1_135_256_096, smallest=67),
    "vgg11": Card("Sequential", 2014, SIMONYAN, LARGE, 1000, 132_863_336, 7_609_090_048, smallest=32),
    "vgg13": Card("Sequential", 2014, SIMONYAN, LARGE, 1000, 133_047_848, 11_308_466_176, smallest=32),
    "vgg16": Card("Sequential", 2014, SIMONYAN, LARGE, 1000, 138_357_544, 15_470_264_320, smallest=32),
    "vgg19": Card("Sequential", 2014, SIMONYAN, LARGE, 1000, 143_667_240, 19_632_062_464, smallest=32),
    "vgg16_bn": Card("Sequential", 2014, SIMONYAN, LARGE, 1000, 138_361_768, 15_470_264_320, smallest=32),
    "vgg_small": Card("Sequential", 2014, SIMONYAN, SMALL, 10, 551_018, 38_896_896, smallest=8),
    "googlenet": Card("Functional", 2014, SZEGEDY, LARGE, 1000, 6_998_552, 1_582_671_872, smallest=32),
    "resnet20": Card("Functional", 2015, HE, SMALL, 10, 269_722, 40_551_040),
    "resnet32": Card("Functional", 2015, HE, SMALL, 10, 464_154, 68_862_592),
    "resnet44": Card("Functional", 2015, HE, SMALL, 10, 658_586, 97_174_144),
    "resnet56": Card("Functional", 2015, HE, SMALL, 10, 853_018, 125_485_696),
    "resnet110": Card("Functional", 2015, HE, SMALL, 10, 1_727_962, 252_887_680),
    "resnet1202": Card("Functional", 2015, HE, SMALL, 10, 19_421_274, 2_829_238_912),
    "resnet18": Card("Functional", 2015, HE, LARGE, 1000, 11_689_512, 1_814_073_344, smallest=32),
    "resnet34": Card("Functional", 2015, HE, LARGE, 1000, 21_797_672, 3_663_761_408, smallest=32),
    "resnet50": Card("Functional", 2015, HE, LARGE, 1000, 25_557_032, 3_857_973_248, smallest=32),
    "resnet101": Card("Functional", 2015, HE, LARGE, 1000, 44_549_160, 7_570_194_432, smallest=32),
    "resnet152": Card("Functional", 2015, HE, LARGE, 1000, 60_192_808, 11_282_415_616, smallest=32),
    "se_resnet20": Card("subclassed", 2017, HU, SMALL, 10, 272_095, 40_553_056),
    "se_resnet32": Card("subclassed", 2017, HU, SMALL, 10, 468_109, 68_865_952),
    "se_resnet44": Card("subclassed", 2017, HU, SMALL, 10, 664_123, 97_178_848),
    "se_resnet56": Card("subclassed", 2017, HU, SMALL, 10, 860_137, 125_491_744),
    "se_resnet110": Card("subclassed", 2017, HU, SMALL, 10, 1_742_200, 252_899_776),
    "se_resnet50": Card("subclassed", 2017, HU, LARGE, 1000, 28_088_024, 3_860_488_192, smallest=32),
    "senet154": Card("subclassed", 2017, HU, LARGE, 1000, 115_088_984, 20_688_363_520, smallest=32),
    "efficientnet_transfer": Card("Functional", 2019, TAN, LARGE, 1000, 5_288_548, 385_814_752, smallest=32),
    "efficientnetv2_transfer": Card("Functional", 2021, TAN_V2, LARGE, 1000, 7_139_704, 718_086_176, smallest=32),
    "vit_tiny": Card("subclassed", 2020, TOUVRON, LARGE, 1000, 5_717_416, 1_074_851_328),
    "vit_small": Card("subclassed", 2020, TOUVRON, LARGE, 1000, 22_050_664, 4_241_218_560),
    "vit_base": Card("subclassed", 2020, DOSOVITSKIY, LARGE, 1000, 86_567_656, 16_848_500_736),
}


def check_size(name: str, input_shape: tuple[int, int, int], smallest: int | None = None) -> None:
    """Raises InputError where an image is smaller than the model can take.

    Args:
        name: The model's name in `CARDS`.
        input_shape: (height, width, channels).
        smallest: Smallest side in pixels, where an option makes it differ from the card's.
    """
    height, width, _ = input_shape
    smallest = smallest or CARDS[name].smallest
    if min(height, width) < smallest:
        raise InputError(
            "{name} takes images of at least {smallest}x{smallest} pixels; these have {height}x{width}. Give"
            " image_size={smallest} or more, or take a model for small images, such as resnet20.",
            name=name, smallest=smallest, height=height, width=width,
        )  # fmt: skip
