"""How fast networks train on a CPU, by what `pbl train` does and by what others do, in the processor's seconds.

Networks: `mlp` (512, 256; batches of 128), `resnet20` (batches of 128) and `vgg_small` (batches of 64), SGD with momentum
0.9, random images of CIFAR-10's shape (`uint8 32x32x3`, 10 classes). Ways to train them:

- pbl: what `pbl.train` chooses by itself: precision, XLA, steps in one call, fused operations, `data.train`; and
  the same in float32
- Keras, first script: the same layers in float32, a `map` an image that scales it, no cache, no prefetch
- Keras, well fed: the same layers in float32, whole batches gathered by hand-written `tf.data`, prefetch
- PyTorch: the same layers, channels last, batches gathered by index from `uint8`, in float32 and in bfloat16 (autocast);
  the loss and the share of right answers are kept, as Keras does
- Lightning: its `Trainer` around that network, in float32; logger, checkpoints and progress bar off

Each way has a process of its own with one thread to compute in, and they take turns: in a round each trains for one epoch
in this order and for one in the reverse. A round's seconds are those of both epochs. What is given is the processor's
time, not the clock's, so that other jobs on the machine disturb it little; and of the ratios of each round the median.

Command:  pip install torch lightning && python experiments/benchmarks/speed.py      (about 14 minutes of processor time)
Result:   speed.md, beside this file
"""

import argparse
import importlib.metadata
import itertools
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pbl.storage.writing import replacing

# TensorFlow and PyTorch are imported where they are used: each process loads one of them, and they share no threads.

SHAPE, CLASSES, LEARNING_RATE, MOMENTUM = (32, 32, 3), 10, 0.01, 0.9
THREADS = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Network(NamedTuple):
    """A network, its batch size, and the images of an epoch: enough for some seconds."""

    name: str
    batch: int
    images: int


NETWORKS = (Network("mlp", 128, 25_600), Network("resnet20", 128, 1_280), Network("vgg_small", 64, 1_280))


class Trainee(NamedTuple):
    """What a process has made: a function that trains for one epoch, and what is told of it."""

    train: Callable[[], None]
    weights: int
    precision: str


def draw_images(n: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (n, *SHAPE), np.uint8), random.integers(0, CLASSES, n).astype(np.int32)


# Keras


def prepare_pbl(network: Network, precision: str) -> Trainee:
    """What `pbl.train` does, without the files of a run."""
    import pbl
    from pbl.training.build import build_and_compile
    from pbl.training.divergence import StopAtNaN
    from pbl.training.performance import fused_operations

    images, labels = draw_images(network.images)
    few = images[:CLASSES], np.arange(CLASSES, dtype=np.int32)
    data = pbl.load_data(pbl.data.from_arrays(images, labels, test=few, val=few), batch_size=network.batch)
    config = pbl.Config(
        model=network.name, batch_size=network.batch, precision=precision,
        optimizer="sgd", learning_rate=LEARNING_RATE, optimizer_options={"momentum": MOMENTUM},
    )  # fmt: skip
    model, policy = build_and_compile(config, data)

    def train() -> None:
        with fused_operations(model):
            model.fit(data.train, callbacks=[StopAtNaN()], shuffle=False, verbose=0)

    return Trainee(train, pbl.models.count_trainable_weights(model), policy)


def prepare_well_fed(network: Network) -> Trainee:
    import tensorflow as tf

    images, labels = (tf.constant(array) for array in draw_images(network.images))
    batches = (
        tf.data.Dataset.range(network.images).shuffle(network.images).batch(network.batch)
        .map(lambda at: (tf.gather(images, at), tf.gather(labels, at)), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )  # fmt: skip
    return compile_stock(network, batches)


def prepare_first_script(network: Network) -> Trainee:
    import tensorflow as tf

    batches = (
        tf.data.Dataset.from_tensor_slices(draw_images(network.images)).shuffle(network.images)
        .map(lambda image, label: (tf.cast(image, tf.float32) / 255, label))
        .batch(network.batch)
    )  # fmt: skip
    return compile_stock(network, batches, is_scaled=True)


def compile_stock(network: Network, batches, is_scaled: bool = False) -> Trainee:
    import keras

    import pbl

    def keep(layer: keras.Layer) -> keras.Layer:
        # Images that the pipeline has scaled are not scaled again.
        is_needless = is_scaled and isinstance(layer, keras.layers.Rescaling)
        return keras.layers.Identity() if is_needless else type(layer).from_config(layer.get_config())

    model = keras.models.clone_model(pbl.models.build(network.name, SHAPE, CLASSES), clone_function=keep)
    model.compile(
        keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return Trainee(
        lambda: model.fit(batches, shuffle=False, verbose=0), pbl.models.count_trainable_weights(model), "float32"
    )


# PyTorch


def build_in_torch(name: str):
    """The network of this name in `pbl.models`, from scaled images [batch, 3, 32, 32] to logits."""
    import torch
    from torch import nn
    from torch.nn import functional

    def conv_bn(old: int, new: int, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(old, new, 3, stride, padding=1, bias=False), nn.BatchNorm2d(new))

    class Block(nn.Module):
        def __init__(self, old: int, new: int):
            super().__init__()
            self.new = (new - old) // 2
            self.first, self.second = conv_bn(old, new, 2 if self.new else 1), conv_bn(new, new)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.second(functional.relu(self.first(x)))
            if self.new:
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.new, self.new))
            return functional.relu(y + x)

    if name == "mlp":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(3072, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, CLASSES)
        )
    if name == "resnet20":
        filters = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        blocks = [Block(old, new) for old, new in itertools.pairwise(filters)]
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)
        return nn.Sequential(conv_bn(3, 16), nn.ReLU(), *blocks, *head)
    layers: list[nn.Module] = []
    for old, new in ((3, 32), (32, 64), (64, 128)):
        layers += [conv_bn(old, new), nn.ReLU(), conv_bn(new, new), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(2048, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, CLASSES)]
    return nn.Sequential(*layers)


def scale_in_torch(name: str, images):
    """`uint8 [batch, 32, 32, 3]` to the floats that the network's first layer in Keras gives, channels last in memory."""
    scaled = images.permute(0, 3, 1, 2).float()
    return scaled / 255 if name == "mlp" else scaled / 127.5 - 1


def prepare_torch(network: Network, dtype: str) -> Trainee:
    import torch
    from torch.nn import functional

    images, labels = (torch.from_numpy(array) for array in draw_images(network.images))
    labels = labels.long()
    model = build_in_torch(network.name).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, MOMENTUM)

    def train() -> None:
        model.train()
        loss_sum, right = torch.zeros(()), torch.zeros((), dtype=torch.long)
        for at in torch.randperm(len(images)).split(network.batch):
            targets = labels[at]
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                logits = model(scale_in_torch(network.name, images[at]))
            loss = functional.cross_entropy(logits.float(), targets)
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach() * len(at)
            right += (logits.argmax(1) == targets).sum()

    return Trainee(train, sum(weights.numel() for weights in model.parameters()), dtype)


def prepare_lightning(network: Network) -> Trainee:
    import logging
    import warnings

    import lightning
    import torch
    from torch.nn import functional
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    images, labels = (torch.from_numpy(array) for array in draw_images(network.images))

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = build_in_torch(network.name).to(memory_format=torch.channels_last)
            self.loss_sum, self.right = torch.zeros(()), torch.zeros((), dtype=torch.long)

        def training_step(self, batch: list[torch.Tensor], _) -> torch.Tensor:
            logits = self.model(scale_in_torch(network.name, batch[0]))
            loss = functional.cross_entropy(logits, batch[1])
            # Lightning's own `self.log` would cost more than this.
            self.loss_sum += loss.detach() * len(logits)
            self.right += (logits.argmax(1) == batch[1]).sum()
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), LEARNING_RATE, MOMENTUM)

    examples = TensorDataset(images, labels.long())
    # A sampler of lists of numbers, and no batching after it: whole batches are gathered, not images one by one.
    loader = DataLoader(
        examples, sampler=BatchSampler(RandomSampler(examples), network.batch, drop_last=False), batch_size=None
    )
    module = Module()

    def train() -> None:
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, loader)

    return Trainee(train, sum(weights.numel() for weights in module.parameters()), "float32")


# Name, and what prepares it.
WAYS: dict[str, Callable[[Network], Trainee]] = {
    "pbl": lambda network: prepare_pbl(network, "auto"),
    "pbl, float32": lambda network: prepare_pbl(network, "float32"),
    "Keras, first script": prepare_first_script,
    "Keras, well fed": prepare_well_fed,
    "PyTorch, float32": lambda network: prepare_torch(network, "float32"),
    "PyTorch, bfloat16": lambda network: prepare_torch(network, "bfloat16"),
    "Lightning, float32": prepare_lightning,
}


# Measuring


def work(name: str, network: Network, connection: Connection) -> None:
    """A process: prepares a way, trains once to warm up, then for one epoch whenever it is asked, and tells the seconds."""
    trainee = WAYS[name](network)
    trainee.train()
    connection.send((trainee.weights, trainee.precision))
    while connection.recv():
        start = time.process_time()
        trainee.train()
        connection.send(time.process_time() - start)


def measure(network: Network, rounds: int) -> tuple[dict[str, list[float]], dict[str, str], int]:
    """Returns each way's milliseconds an image in each round, each way's precision, and the number of weights."""
    spawn = multiprocessing.get_context("spawn")
    connections, processes = {}, []
    try:
        told = {}
        for name in WAYS:
            connections[name], other = spawn.Pipe()
            processes.append(spawn.Process(target=work, args=(name, network, other), daemon=True))
            processes[-1].start()
            other.close()  # so that `recv` raises, and does not wait, where the process has died
            told[name] = connections[name].recv()
        counts = {weights for weights, _ in told.values()}
        assert len(counts) == 1, f"{network.name}: the networks differ: {told}"
        milliseconds: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(rounds):
            seconds = dict.fromkeys(WAYS, 0.0)
            for name in [*WAYS, *reversed(WAYS)]:
                connections[name].send(True)
                seconds[name] += connections[name].recv()
            for name, both in seconds.items():
                milliseconds[name].append(1000 * both / (2 * network.images))
            print(network.name, {name: round(values[-1], 3) for name, values in milliseconds.items()}, flush=True)
        for connection in connections.values():
            connection.send(False)
        return milliseconds, {name: precision for name, (_, precision) in told.items()}, counts.pop()
    finally:
        for process in processes:
            process.join(10)
            process.terminate()


def describe_spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def divide(theirs: list[float], ours: list[float]) -> list[float]:
    return [their / our for their, our in zip(theirs, ours, strict=True)]


def describe_network(network: Network, rounds: int) -> tuple[list[str], dict[str, list[float]]]:
    milliseconds, precisions, weights = measure(network, rounds)
    lines = [
        f"\n## {network.name}: {weights:,} trainable weights, batches of {network.batch}\n",
        "| | number format | processor's ms an image | times pbl | times pbl in float32 |",
        "|---|---|---|---|---|",
    ]
    for name, values in milliseconds.items():
        ratios = [describe_spread(divide(values, milliseconds[ours]), 2) for ours in ("pbl", "pbl, float32")]
        lines.append(f"| {name} | {precisions[name]} | {describe_spread(values, 3)} | {' | '.join(ratios)} |")
    return lines, milliseconds


# What is hoped for: ours, theirs, and how many times as fast ours should be at least.
TARGETS = (
    ("pbl", "Keras, first script", 2.5),
    ("pbl, float32", "PyTorch, float32", 1.2),
    ("pbl", "PyTorch, bfloat16", 1.0),
)


def describe_targets(measured: dict[str, dict[str, list[float]]]) -> list[str]:
    lines = [
        "\n## Against the targets\n",
        f"| | target | {' | '.join(measured)} |",
        "|---|---|" + "---|" * len(measured),
    ]
    for ours, theirs, target in TARGETS:
        cells = []
        for milliseconds in measured.values():
            ratio = statistics.median(divide(milliseconds[theirs], milliseconds[ours]))
            cells.append(f"{ratio:.2f}, {'met' if ratio >= target and ratio > 1 else 'not met'}")
        above = "above 1" if target == 1 else f"{target} or more"
        lines.append(f"| {ours}: times as fast as {theirs} | {above} | {' | '.join(cells)} |")
    return lines


def describe_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.partition(":")[::2] for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    flags = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.machine())} ({', '.join(flags) or 'no bfloat16 of its own'})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", default=[network.name for network in NETWORKS])
    arguments = parser.parse_args()
    os.environ.update(THREADS, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")

    packages = ("keras", "tensorflow", "torch", "lightning")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    lines = [
        f"Made by `speed.py`, whose head says how: {versions}, Python {platform.python_version()}; one thread of"
        f" {describe_processor()}. Medians of {arguments.rounds} rounds (lowest to highest); above 1: pbl is faster."
    ]
    measured = {}
    for network in NETWORKS:
        if network.name in arguments.networks:
            table, measured[network.name] = describe_network(network, arguments.rounds)
            lines += table
    lines += describe_targets(measured)
    with replacing(Path(__file__).with_suffix(".md")) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
