"""Every builder compared with an independent implementation in PyTorch: torchvision's, timm's, or one written here from the paper.

The weights of one are copied into the other, and both get the same images: the probabilities agree to 1e-5. Everything except
the last layer is computed in float64, so that rounding cannot hide a small mistake. Needs the extra `references` of
pyproject.toml; skipped if it is not installed, and run in the nightly form.

The images are 33 pixels wide: 33, 17, 9, 5, 3 are odd, and for odd maps TensorFlow's "same" padding takes the same amount from either
side as PyTorch's. For even ones it takes less from the left: that difference is named in the builders' docstrings. Everything else that
differs on purpose is changed in the reference, with a comment next to the change.
"""

import re

import keras
import numpy as np
import pytest

from pbl import models
from pbl.models import MODELS
from pbl.models.efficientnet import find_backbone
from pbl.models.keras_private import flatten_layers

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
timm = pytest.importorskip("timm")

from timm.models.senet import SEBottleneck  # noqa: E402
from timm.models.senet import SENet as TimmSENet  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

pytestmark = pytest.mark.nightly
CLASSES, SIDE = 7, 33
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(autouse=True)
def double_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


class ChannelsLast(nn.Module):
    """Flattens as Keras does: the channels of one place are together."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


class Residual(nn.Module):
    """He et al. 2015, figure 2, for small images: the shortcut takes every second pixel, and zeros for new channels."""

    def __init__(self, channels: int, filters: int, stride: int, has_shortcut: bool, ratio: int | None):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU(),
            nn.Conv2d(filters, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters),
        )  # fmt: skip
        self.gate = Gate(filters, ratio) if ratio else nn.Identity()
        self.stride, self.new, self.has_shortcut = stride, filters - channels, has_shortcut

    def forward(self, x):
        shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new // 2, self.new // 2))
        return torch.relu(self.gate(self.branch(x)) + (shortcut if self.has_shortcut else 0))


class Gate(nn.Module):
    """Hu et al. 2017: squeeze, excite, scale."""

    def __init__(self, channels: int, ratio: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, channels // ratio), nn.Linear(channels // ratio, channels)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3))))))[:, :, None, None]


class Inception(nn.Module):
    """Szegedy et al. 2014, figure 2b: 1x1; 1x1, 3x3; 1x1, 5x5; pooling, 1x1."""

    def __init__(self, channels: int, ones: int, reduce_3: int, threes: int, reduce_5: int, fives: int, pool: int):
        super().__init__()

        def conv(before, filters, size):
            return nn.Sequential(nn.Conv2d(before, filters, size, padding=size // 2), nn.ReLU())

        self.branches = nn.ModuleList(
            [
                conv(channels, ones, 1),
                nn.Sequential(conv(channels, reduce_3, 1), conv(reduce_3, threes, 3)),
                nn.Sequential(conv(channels, reduce_5, 1), conv(reduce_5, fives, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(channels, pool, 1)),
            ]
        )

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def small_resnet(blocks: int, has_shortcut: bool = True, ratio: int | None = None) -> nn.Module:
    layers, channels = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()], 16
    for filters in (16, 32, 64):
        for block in range(blocks):
            stride = 2 if filters > channels and block == 0 else 1
            layers.append(Residual(channels, filters, stride, has_shortcut, ratio))
            channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))


def large_resnet(name: str) -> nn.Module:
    model = getattr(torchvision.models, name)(num_classes=CLASSES)
    for (
        module
    ) in model.modules():  # the paper's stride is in a bottleneck's first convolution, torchvision's in the second
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)
    return model


def vgg(name: str) -> nn.Module:
    model = getattr(torchvision.models, name)(num_classes=CLASSES)
    model.avgpool = nn.Identity()  # of images of 32x32 one place is left
    model.classifier[0] = nn.Linear(512, 4096)
    for layer in list(model.features):
        if isinstance(layer, nn.Conv2d) and name.endswith("bn"):
            layer.bias = None  # batch normalisation would remove it again
    return model


def vgg_small() -> nn.Module:
    layers, channels = [], 3
    for filters in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
            channels = filters
        layers.append(nn.MaxPool2d(2))
    dense = [nn.Linear(128 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, CLASSES)]
    return nn.Sequential(*layers, ChannelsLast(), *dense)


def alexnet(lrn: bool = False) -> nn.Module:
    """Krizhevsky et al. 2012, section 3.5, on one device. PyTorch divides alpha by the size: 5e-4 there is 1e-4 in the paper."""

    def normalise():
        return [nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)] if lrn else []

    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(), *normalise(), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), *normalise(), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), ChannelsLast(),
        nn.Linear(256, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, CLASSES),
    )  # fmt: skip


def googlenet() -> nn.Module:
    """Szegedy et al. 2014, table 1."""
    table = {
        "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64), "4a": (480, 192, 96, 208, 16, 48, 64),
        "4b": (512, 160, 112, 224, 24, 64, 64), "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
        "4e": (528, 256, 160, 320, 32, 128, 128), "5a": (832, 256, 160, 320, 32, 128, 128), "5b": (832, 384, 192, 384, 48, 128, 128),
    }  # fmt: skip
    layers = [nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(64, 64, 1), nn.ReLU()]
    layers += [nn.Conv2d(64, 192, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for name, filters in table.items():
        layers += [nn.MaxPool2d(3, 2, 1)] * (name in ("4a", "5a")) + [Inception(*filters)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, CLASSES))


def senet(name: str) -> nn.Module:
    if name == "se_resnet50":
        model = timm.create_model("legacy_seresnet50", num_classes=CLASSES)
    else:
        options = {"downsample_kernel_size": 3, "downsample_padding": 1, "inplanes": 128, "input_3x3": True}
        model = TimmSENet(SEBottleneck, [1, 2, 2, 1], groups=64, reduction=16, num_classes=CLASSES, **options)
    model.pool0 = nn.MaxPool2d(3, 2, 1)  # timm's pads as Caffe did: the map of 17 would become 8, not 9
    return model


def mlp(activation: type[nn.Module], batch_norm: bool = False) -> nn.Module:
    layers, before = [ChannelsLast()], 33 * 33 * 3
    for width in (512, 256):
        layers += [nn.Linear(before, width, bias=not batch_norm), *[nn.BatchNorm1d(width)] * batch_norm, activation()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, CLASSES))


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), ChannelsLast(), nn.Linear(64 * 8 * 8, CLASSES),
    )  # fmt: skip


def lenet5() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), ChannelsLast(),
        nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, CLASSES),
    )  # fmt: skip


def vit(name: str) -> nn.Module:
    return timm.create_model(f"{name}_patch16_224", img_size=32, patch_size=4, depth=3, num_classes=CLASSES)


def efficientnet(name: str) -> nn.Module:
    return timm.create_model(name, num_classes=CLASSES, drop_rate=0.0)


# For each builder: the reference, the options with which the two are the same, and the images' side.
SMALL_BLOCKS = {"20": 3, "32": 5, "44": 7, "56": 9, "110": 18}
CASES = {
    "softmax_regression": [(lambda: nn.Sequential(ChannelsLast(), nn.Linear(33 * 33 * 3, CLASSES)), {}, SIDE)],
    "mlp": [
        (lambda: mlp(nn.ReLU), {}, SIDE),
        (lambda: mlp(nn.Tanh, batch_norm=True), {"activation": "tanh", "batch_norm": True}, SIDE),
    ],
    "mlp_functional": [(lambda: mlp(nn.ReLU), {}, SIDE)],
    "mlp_subclassed": [(lambda: mlp(nn.ReLU), {}, SIDE)],
    "small_cnn": [(small_cnn, {}, SIDE)],
    "small_cnn_functional": [(small_cnn, {}, SIDE)],
    "small_cnn_subclassed": [(small_cnn, {}, SIDE)],
    "lenet5": [(lenet5, {}, 32)],
    "alexnet": [(alexnet, {}, 67), (lambda: alexnet(lrn=True), {"lrn": True}, 67)],
    **{name: [(lambda name=name: vgg(name), {}, 32)] for name in ("vgg11", "vgg13", "vgg16", "vgg19", "vgg16_bn")},
    "vgg_small": [(vgg_small, {}, SIDE)],
    "googlenet": [(googlenet, {}, SIDE)],
    "resnet20": [
        (lambda: small_resnet(3), {}, SIDE),
        (lambda: small_resnet(3, has_shortcut=False), {"shortcut": False}, SIDE),
    ],
    **{f"resnet{n}": [(lambda n=n: small_resnet(SMALL_BLOCKS[n]), {}, SIDE)] for n in ("32", "44", "56", "110")},
    "resnet1202": [(lambda: small_resnet(200), {}, 9)],
    **{f"resnet{n}": [(lambda n=n: large_resnet(f"resnet{n}"), {}, SIDE)] for n in (18, 34, 50, 101, 152)},
    **{f"se_resnet{n}": [(lambda b=b: small_resnet(b, ratio=16), {}, SIDE)] for n, b in SMALL_BLOCKS.items()},
    "se_resnet50": [(lambda: senet("se_resnet50"), {}, SIDE)],
    "senet154": [(lambda: senet("senet154"), {"blocks_per_stage": (1, 2, 2, 1)}, SIDE)],
    "efficientnet_transfer": [
        (lambda b=b: efficientnet(f"tf_efficientnet_b{b}"), {"weights": None, "variant": f"b{b}"}, SIDE) for b in range(4)
    ],
    "efficientnetv2_transfer": [
        (lambda b=b: efficientnet(f"tf_efficientnetv2_b{b}"), {"weights": None, "variant": f"b{b}"}, SIDE) for b in range(4)
    ],
    **{name: [(lambda name=name: vit(name), {"depth": 3, "patch": 4}, 32)] for name in ("vit_tiny", "vit_small", "vit_base")},
}  # fmt: skip


def preprocess(name: str, images: np.ndarray) -> np.ndarray:
    """What the builders' docstrings say about the pixels; Keras's Rescaling rounds its factor to float32, which 101 layers show."""
    to_one, to_two = float(np.float32(1 / 255)), float(np.float32(1 / 127.5))
    if name.startswith("vgg") and name != "vgg_small":
        return (images - np.array([123.68, 116.779, 103.939])) / 58
    if name == "efficientnetv2_transfer":
        return (images * to_one - IMAGENET_MEAN) / IMAGENET_DEVIATION
    is_to_one = name.startswith(("mlp", "small_cnn", "softmax", "perceptron", "efficientnet"))
    return images * to_one if is_to_one else images * to_two - 1


def in_order(model: keras.Model) -> list[keras.Layer]:
    """A model's layers that have their own weights, in the order in which they were made: Keras numbers the names of each kind."""
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense, keras.layers.BatchNormalization)
    found = [layer for layer in flatten_layers(model) if isinstance(layer, kinds)]
    if isinstance(model, models.senet154.__globals__["SENet"]):  # its projections are made last
        blocks = [[*block.branch, block.gate, *([block.project] if block.project else [])] for block in model.blocks]
        parts = [*model.stem, *(part for block in blocks for part in block)]
        inner = {"ConvBN": ("convolution", "normalization"), "SqueezeExcite": ("reduce", "excite")}
        return [getattr(part, name) for part in parts for name in inner[type(part).__name__]] + [model.classify]
    if model.name.endswith("_transfer"):  # a chain, whose names have no numbers
        return [layer for layer in [*find_backbone(model).layers, model.layers[-1]] if isinstance(layer, kinds)]
    return sorted(found, key=lambda layer: int((re.search(r"_(\d+)$", layer.name) or [0, 0])[1]))


def of_kind(layers: list, kinds: dict) -> dict[str, list]:
    return {kind: [layer for layer in layers if isinstance(layer, types)] for kind, types in kinds.items()}


def copy_layer(theirs: nn.Module, ours: keras.Layer) -> None:
    """Gives a layer of Keras the weights of one of PyTorch."""
    if isinstance(ours, keras.layers.BatchNormalization):
        theirs.eps = ours.epsilon  # 1e-3 here, 1e-5 there, as the docstrings say
        values = [theirs.weight, theirs.bias, theirs.running_mean, theirs.running_var]
    else:
        weight = theirs.weight
        if isinstance(ours, keras.layers.DepthwiseConv2D):
            weight = weight.permute(2, 3, 0, 1)
        elif isinstance(ours, keras.layers.Conv2D):
            weight = weight.permute(2, 3, 1, 0)
        else:
            weight = weight.reshape(weight.shape[:2]).T
        values = [weight] if theirs.bias is None else [weight, theirs.bias]
    ours.set_weights([value.detach().numpy() for value in values])


def copy_weights(theirs: nn.Module, ours: keras.Model) -> None:
    """Layer by layer of each kind; the gates' dense layers are convolutions of 1x1 in timm."""
    is_gate = re.compile(r"(se_module|gate)\.fc\d$|\.se\.conv_")
    modules = [
        m for m in theirs.named_modules() if isinstance(m[1], (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.BatchNorm1d))
    ]
    layers = in_order(ours)
    is_keras_gate = ours.name.startswith("se")
    pairs = [
        ([m for n, m in modules if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))],
         [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]),
        ([m for n, m in modules if isinstance(m, nn.Conv2d) and not (is_keras_gate and is_gate.search(n))],
         [layer for layer in layers if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))]),
        ([m for n, m in modules if isinstance(m, nn.Linear) or (is_keras_gate and is_gate.search(n))],
         [layer for layer in layers if isinstance(layer, keras.layers.Dense)]),
    ]  # fmt: skip
    for sources, targets in pairs:
        for source, target in zip(sources, targets, strict=True):
            copy_layer(source, target)


def copy_transformer(theirs: nn.Module, ours: keras.Model) -> None:
    """timm keeps query, key and value in one matrix, and heads in its columns."""
    copy_layer(theirs.patch_embed.proj, ours.embed)
    ours.position.set_weights([theirs.cls_token.detach().numpy(), theirs.pos_embed.detach().numpy()])
    heads = ours.settings["heads"]
    for block, encoder in zip(theirs.blocks, ours.encoder, strict=True):
        for norm, target in ((block.norm1, encoder.norm_1), (block.norm2, encoder.norm_2)):
            assert norm.eps == target.epsilon
            target.set_weights([norm.weight.detach().numpy(), norm.bias.detach().numpy()])
        width = block.attn.qkv.in_features
        weight = block.attn.qkv.weight.detach().numpy().reshape(3, heads, width // heads, width)
        bias = block.attn.qkv.bias.detach().numpy().reshape(3, heads, width // heads)
        values = [array for at in range(3) for array in (weight[at].transpose(2, 0, 1), bias[at])]
        out = block.attn.proj
        values += [out.weight.detach().numpy().T.reshape(heads, width // heads, width), out.bias.detach().numpy()]
        encoder.attention.set_weights(values)
        copy_layer(block.mlp.fc1, encoder.hidden)
        copy_layer(block.mlp.fc2, encoder.output_layer)
    assert theirs.norm.eps == ours.norm.epsilon
    ours.norm.set_weights([theirs.norm.weight.detach().numpy(), theirs.norm.bias.detach().numpy()])
    copy_layer(theirs.head, ours.classify)


def make_random(model: nn.Module, images) -> None:
    """Gives all of batch normalisation's numbers, and the position's, values that matter, and the logits a spread of 1."""
    torch.manual_seed(0)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
        if hasattr(model, "cls_token"):
            model.cls_token.normal_()
        model.train()
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.momentum = 1.0  # the averages become those of these images: deep networks stay of one size
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model(images)
        model.eval()
        logits = model(images)
        last.weight.div_(logits.std())
        last.bias.div_(logits.std())


def test_every_builder_has_a_reference():
    assert set(CASES) | {"perceptron"} == set(MODELS)


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, cases in CASES.items() for case in range(len(cases))]
)
def test_outputs(name, case):
    make, options, side = CASES[name][case]
    images = np.random.default_rng(0).integers(0, 256, (8, side, side, 3), np.uint8)
    pixels = torch.tensor(preprocess(name, images.astype(np.float64)).transpose(0, 3, 1, 2), dtype=torch.float64)
    torch.manual_seed(0)
    theirs = make().double()
    ours = models.build(name, (side, side, 3), CLASSES, **options)
    # Twice: copying sets the references' epsilon, on which the averages depend.
    (copy_transformer if name.startswith("vit") else copy_weights)(theirs, ours)
    make_random(theirs, pixels)
    (copy_transformer if name.startswith("vit") else copy_weights)(theirs, ours)
    with torch.no_grad():
        expected = torch.softmax(theirs(pixels), 1).numpy()
    assert (
        expected.std(axis=0).mean() + expected.std(axis=1).mean() > 0.05 and expected.max() < 0.999
    )  # the probabilities differ enough to mean something
    np.testing.assert_allclose(ours.predict(images, verbose=0), expected, atol=1e-5)


def test_perceptron():
    """One unit with a step at 0."""
    images = np.random.default_rng(0).integers(0, 256, (50, 6, 6, 1), np.uint8)
    unit, ours = nn.Linear(36, 1).double(), models.build("perceptron", (6, 6, 1), 2)
    pixels = torch.tensor(images.reshape(50, 36) / 255, dtype=torch.float64)
    with torch.no_grad():
        unit.bias -= unit(pixels).mean()
        fires = (unit(pixels) >= 0).numpy()
    copy_layer(unit, ours.layers[-1])
    assert 0 < fires.mean() < 1
    np.testing.assert_array_equal(ours.predict(images, verbose=0), np.concatenate([~fires, fires], axis=1))
