"""How often `grade` says of two honest teams that they agree on errors, and of a copy that it does not.

Networks of each kind are trained apart, with other seeds, on the same images: by this alone honest teams differ least. Each pair of
one kind is an honest pair; a copy is a network trained on for one epoch on a tenth of the images. The threshold
(`pbl.grading.judge`) was set on the trainings of `--seed 100` of the digits; what is reported are those of other seeds and of MNIST.

Command:  python experiments/benchmarks/agreement.py --write [--mnist FILE.npz]
Result:   agreement.md, beside this file
"""

import argparse
import itertools
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import pbl
from pbl.grading import judge

# kind: builder, its options, epochs, learning rate
KINDS = {
    "linear": ("mlp", {"widths": []}, 15, 3e-3),
    "mlp": ("mlp", {"widths": [32]}, 15, 3e-3),
    "wide mlp": ("mlp", {"widths": [128, 128]}, 15, 1e-3),
    "small_cnn": ("small_cnn", {}, 8, 1e-3),
    "small_cnn, fine-tuned": ("small_cnn", {}, 4, 3e-4),
}


def build(kind: str, shape, seed: int) -> keras.Model:
    name, options, _, rate = KINDS[kind]
    keras.utils.set_random_seed(seed)
    model = pbl.models.build(name, shape, 10, **options)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    return model


def train_kind(kind: str, images, labels, test, seeds) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Classes that each honest training predicts, and those of a copy of each."""
    epochs = KINDS[kind][2]
    start = None
    if "fine-tuned" in kind:  # all from one network, as from a published one
        first = build(kind, images.shape[1:], 12_345)
        first.fit(images[::2], labels[::2], epochs=4, batch_size=32, verbose=0)
        start = first.get_weights()
    honest, copies = [], []
    for seed in seeds:
        model = build(kind, images.shape[1:], seed)
        if start is not None:
            model.set_weights(start)
        model.fit(images, labels, epochs=epochs, batch_size=32, verbose=0)
        honest.append(model.predict(test, verbose=0).argmax(axis=1))
        model.fit(images[::10], labels[::10], epochs=1, batch_size=32, verbose=0)
        copies.append(model.predict(test, verbose=0).argmax(axis=1))
    return honest, copies


def count(honest, copies, labels, linear: bool) -> dict:
    """Of a class of all: honest pairs that are told of, and copies that are, each as a further team."""
    names = [f"t{n}" for n in range(len(honest))]
    features = dict.fromkeys(names, "same") if linear else {name: name for name in names}
    predicted = dict(zip(names, honest, strict=True))
    pairs = list(itertools.combinations(names, 2))
    shares = [judge.agreement_on_errors(predicted[a], predicted[b], labels)[0] for a, b in pairs]
    in_class = len(judge.find_agreements(predicted, features, labels))
    found = 0
    for name, copy in zip(names, copies, strict=True):
        with_copy = {**predicted, "copy": copy}
        told = judge.find_agreements(with_copy, {**features, "copy": "same" if linear else "copy"}, labels)
        found += any({a, b} == {name, "copy"} for a, b, *_ in told)
    accuracy = np.mean([(one == labels).mean() for one in honest])
    return {"pairs": len(pairs), "shares": shares, "in_class": in_class, "copies": found, "of": len(copies), "accuracy": accuracy}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trainings", type=int, default=6, help="of each kind")
    parser.add_argument("--seed", type=int, default=200)
    parser.add_argument("--mnist", help="Keras's mnist.npz; 3,000 of its images are trained on and 4,000 judged")
    parser.add_argument(
        "--noise", type=float, default=0.1, help="share of wrong labels in a third set, among those judged"
    )
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    digits = pbl.load_data("digits")
    train, test = digits.images("train"), digits.images("test")
    noisy = test.labels.copy()
    random = np.random.default_rng(0)
    wrong = random.random(len(noisy)) < options.noise
    noisy[wrong] = (noisy[wrong] + random.integers(1, 10, wrong.sum())) % 10
    sets = {"digits": (train.pixels, train.labels, test.pixels, [("digits", test.labels), (f"digits, {options.noise:.0%} of labels wrong", noisy)])}  # fmt: skip
    if options.mnist:
        with np.load(options.mnist) as given:
            images, labels, judged, truth = (given[name] for name in ("x_train", "y_train", "x_test", "y_test"))
        sets["mnist"] = (images[:3000, ..., None], labels[:3000], judged[:4000, ..., None], [("mnist", truth[:4000])])
    seeds = range(options.seed, options.seed + options.trainings)
    lines = [f"Made by `agreement.py --seed {options.seed}`, whose head says how: {options.trainings} trainings of each kind.", "",
        "| images | kind | accuracy | honest pairs | share of equal mistakes: median, largest | told of | copies found |",
        "|---|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    totals = np.zeros(4, int)
    for images, labels, judged, truths in sets.values():
        for kind in KINDS:
            honest, copies = train_kind(kind, images, labels, judged, seeds)
            for name, truth in truths:
                told = count(honest, copies, truth, kind == "linear")
                lines.append(f"| {name} | {kind} | {told['accuracy']:.3f} | {told['pairs']} | {np.median(told['shares']):.2f}, {max(told['shares']):.2f} | {told['in_class']} | {told['copies']} of {told['of']} |")  # fmt: skip
                print(lines[-1], flush=True)
                own = (told["copies"], told["of"]) if kind != "linear" else (0, 0)
                totals += [told["pairs"], told["in_class"], *own]
    pairs, in_class, copies, of = totals
    lines += ["", f"Of {pairs} honest pairs {in_class} were told of ({in_class / pairs:.1%}); of {of} copies of networks that are not linear {copies} were found."]  # fmt: skip
    print(lines[-1])
    if options.write:
        Path(__file__).with_name("agreement.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
