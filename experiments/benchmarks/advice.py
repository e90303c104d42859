"""Does the first advice help? Runs that over- or underfit, the run that is advised, and what is advised elsewhere.

A case is a network on images of one kind with a fault in its recipe: few images, a low rate, few epochs, a strong penalty, a
narrow network. It is trained with three seeds. The first seed's diagnosis (signals, the data doctor's findings; the team has
no other run) gives advice; the first that is a change of settings is trained with the same three seeds, and so are, for
what overfits, dropout 0.5 alone and augmentation alone, at the same epochs, the usual advice. Judged on an oracle, images that
no training saw: the model of the lowest validation loss, mean of the seeds.

Command:  python experiments/benchmarks/advice.py --data DIR    (DIR holds mnist.npz and cifar10.zip; goes on where it ended)
Result:   advice.csv and advice.md, beside this file
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
from diagnosis import Setup, draw, examine_arrays, fewer

import pbl
from pbl.config import apply_overrides
from pbl.data import from_arrays
from pbl.diagnosis.advice import advise
from pbl.diagnosis.monitor import OverfittingMonitor
from pbl.diagnosis.rules import diagnose
from pbl.errors import InputError
from pbl.statistics import wilson_interval
from pbl.storage.writing import replacing
from pbl.training.build import build_and_compile, builder_options
from pbl.training.performance import fused_operations

SEEDS = 3
DOMAINS = ("digits", "mnist", "cifar10", "vehicles")
COUNTS = {
    "digits": (900, 300, 597),
    "mnist": (1200, 400, 2500),
    "cifar10": (1600, 400, 2500),
    "vehicles": (1600, 400, 2500),
}  # train, val, oracle
SGD = {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}, "learning_rate": 0.01, "epochs": 20}
MLP = {**SGD, "model": "mlp"}
CNN = {**SGD, "model": "small_cnn"}
# Of a case: images in training, None for all, and settings.
CASES: dict[str, tuple[int | None, dict[str, Any]]] = {
    "mlp_few": (200, {**MLP, "epochs": 40}),
    "mlp_fewer": (100, {**MLP, "epochs": 60}),
    "mlp_adam_few": (200, {**MLP, "optimizer": "adam", "optimizer_options": {}, "learning_rate": 1e-3, "epochs": 60}),
    "cnn_fewer": (100, {**CNN, "epochs": 60}),
    "cnn_few": (200, {**CNN, "epochs": 40}),
    "cnn_adam_few": (400, {**CNN, "optimizer": "adam", "optimizer_options": {}, "learning_rate": 1e-3, "epochs": 30}),
    "vgg_few": (400, {**SGD, "model": "vgg_small", "epochs": 15}),
    "mlp_low_rate": (None, {**MLP, "learning_rate": 3e-4}),
    "cnn_low_rate": (None, {**CNN, "learning_rate": 3e-4}),
    "mlp_few_epochs": (None, {**MLP, "epochs": 3}),
    "cnn_few_epochs": (None, {**CNN, "epochs": 3}),
    "vgg_few_epochs": (None, {**SGD, "model": "vgg_small", "epochs": 2}),
    "mlp_narrow": (None, {**MLP, "model_options": {"widths": [3]}}),
    "mlp_penalty": (None, {**MLP, "model_options": {"l2": 0.03}}),
    "mlp_dropout": (None, {**MLP, "model_options": {"dropout": 0.9}}),
}
USUAL = ("dropout at the same epochs", "augmentation at the same epochs")


def usual_words(usual: str, side: int) -> list[str]:
    if usual.startswith("dropout"):
        return ["model_options.dropout=0.5"]
    return [f"augmentation.crop={max(1, side // 8)}", "augmentation.rotation=10"]


def train(config: pbl.Config, setup: Setup) -> tuple[Any, float]:
    """Signals, and the oracle's accuracy of the model of the lowest validation loss."""
    keras.utils.clear_session()
    names = [str(number) for number in range(setup.classes)]
    source = from_arrays(*setup.train, names, test=setup.oracle, val=setup.val)
    data = pbl.load_data(
        lambda: source, batch_size=config.batch_size, seed=config.seed, augmentation=config.augmentation
    )
    model, _ = build_and_compile(config, data)
    monitor = OverfittingMonitor(data)
    best = keras.callbacks.EarlyStopping("val_loss", patience=config.epochs, restore_best_weights=True)
    with fused_operations(model):
        model.fit(
            data.train, validation_data=data.val, epochs=config.epochs, shuffle=False, verbose=0, callbacks=[monitor, best],
        )  # fmt: skip
        predicted = model.predict(setup.oracle[0], batch_size=500, verbose=0).argmax(axis=1)
    return monitor.signals, float((predicted == setup.oracle[1]).mean())


def try_case(name: str, domain: str, folder: Path, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """A row of the table; `known`, where that has the same diagnosis and advice."""
    count, settings = CASES[name]
    setup = draw(domain, 0, folder, team=3, counts=COUNTS[domain])
    setup = setup if count is None else fewer(setup, count)
    config = pbl.Config(experiment="advice", precision="float32", **settings)

    def accuracy(words: list[str]) -> float:
        changed = apply_overrides(config, words)
        return float(np.mean([train(changed.replace(seed=seed), setup)[1] for seed in range(SEEDS)]))

    signals, first = train(config, setup)
    headline = diagnose(signals, examine_arrays(setup)).headline
    row = {"domain": domain, "case": name, "diagnosis": f"{headline.name} {headline.cause}".strip(), "advice": ""}
    if headline.name not in ("overfitting", "underfitting"):
        return row
    known = known or {}
    side = min(setup.train[0].shape[1:3])
    advised = [one for one in advise(headline, config, builder_options(config), side) if one.settings]
    if not advised:
        return row
    row["advice"] = advised[0].name
    if all(known.get(what) == row[what] for what in ("diagnosis", "advice")):
        return known
    others = [train(config.replace(seed=seed), setup)[1] for seed in range(1, SEEDS)]
    row["before"] = float(np.mean([first, *others]))
    row["after"] = accuracy([word for word in advised[0].command.split() if "=" in word])
    if headline.name == "overfitting":
        for usual in USUAL:
            try:
                row[usual] = accuracy(usual_words(usual, side))
            except InputError:  # the network has no dropout
                continue
    return row


def describe(table: pd.DataFrame) -> str:
    judged = table[table["advice"] != ""].copy()
    judged["gain"] = 100 * (judged["after"] - judged["before"])

    def tell(gains: pd.Series) -> str:
        low, high = wilson_interval(int((gains > 0).sum()), len(gains))
        return f"{(gains > 0).sum()} of {len(gains)} ({(gains > 0).mean():.0%}, {low:.0%} to {high:.0%}), mean {gains.mean():+.1f} points"

    lines = [
        "# Does the first advice help?",
        "",
        "`advice.py` tells how; accuracy on images that no training saw, means of three seeds.",
        "",
    ]
    lines += [f"- The first advice that can be run improves {tell(judged['gain'])}."]
    for word in ("overfitting", "underfitting"):
        part = judged[judged["diagnosis"].str.startswith(word)]
        lines += [f"- Of {word}: {tell(part['gain'])}."] if len(part) else []
    for usual in USUAL:
        if usual in judged:
            gains = 100 * (judged[usual] - judged["before"]).dropna()
            lines += [f"- Of the same runs, {usual}: {tell(gains)}."] if len(gains) else []
    lines += ["", "| images | case | diagnosis | advice | before | after | gain |", "|---|---|---|---|---|---|---|"]
    for row in table.astype(object).fillna("").itertuples():
        gain = f"{100 * (row.after - row.before):+.1f}" if row.advice else ""
        before, after = (f"{value:.1%}" if value != "" else "" for value in (row.before, row.after))
        lines.append(f"| {row.domain} | {row.case} | {row.diagnosis} | {row.advice} | {before} | {after} | {gain} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=list(DOMAINS))
    parser.add_argument(
        "--again", action="store_true", help="diagnose all anew; train again where other advice is given"
    )
    arguments = parser.parse_args()
    file = Path(__file__).with_suffix(".csv")
    table = (
        pd.read_csv(file, keep_default_na=False, na_values=[""])
        if file.exists()
        else pd.DataFrame(columns=["domain", "case"])
    )
    table = table.fillna({"advice": ""}) if "advice" in table else table
    for domain in arguments.domains:
        for name in arguments.cases:
            is_this = (table["domain"] == domain) & (table["case"] == name)
            if is_this.any() and not arguments.again:
                continue
            known = table[is_this].to_dict("records")
            row = try_case(name, domain, arguments.data, *known)
            table = pd.concat([table[~is_this], pd.DataFrame([row])], ignore_index=True)
            print(row, flush=True)
            with replacing(file) as temporary:
                table.to_csv(temporary, index=False, lineterminator="\n")
    with replacing(Path(__file__).with_suffix(".md")) as temporary:
        temporary.write_text(describe(table))


if __name__ == "__main__":
    main()
