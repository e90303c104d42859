"""What anomaly detection promises, measured: ten digits beside baselines, false alarms, tiles with and without a leak, a scratch,
contamination. Writes anomaly.md.

    python experiments/benchmarks/anomaly.py --data DIR        (mnist.npz and magnetic_tiles.zip lie there)
    python experiments/benchmarks/anomaly.py --data DIR --only scratch contamination
"""

import argparse
import contextlib
import io
import re
import tempfile
import time
from pathlib import Path

import numpy as np

import pbl
from pbl.data import from_arrays
from pbl.data.doctor import Part, measure_contamination
from pbl.diagnosis.anomalies import LIMITS
from pbl.diagnosis.by_task import diagnose_run
from pbl.errors import InputError
from pbl.evaluation.anomalies import BASELINES, choose_threshold, judge_pixels, map_errors, score_errors
from pbl.models.prediction import predict_outputs

HERE = Path(__file__).parent
SEEDS = 3


def train(config: pbl.Config, folder: str) -> "pbl.runs.Run":
    with contextlib.redirect_stdout(io.StringIO()):
        return pbl.train(config, folder=folder)


def configure(name: str, data: Path, *overrides: str) -> pbl.Config:
    return pbl.load_experiment(HERE.parent / f"{name}.py", [f"dataset={data}", *overrides])


def measure_digits(data: Path, folder: str) -> dict:
    rows = []
    for digit in range(10):
        for seed in range(SEEDS):
            began = time.process_time()
            config = configure("mnist_anomaly", data / "mnist.npz", f"seed={seed}").replace(
                task_options={"normal": [str(digit)]}, data_check="report"
            )
            run = train(config, folder)
            seconds = run.environment["seconds"]
            trained = time.process_time() - began
            found = pbl.evaluate(run, "test")
            worst = min(found["kinds"], key=lambda kind: kind["roc_auc"])
            rows.append(
                {
                    "digit": digit, "seed": seed, "roc_auc": found["metrics"]["roc_auc"],
                    "false_alarms": found["metrics"]["false_alarms"], "found": found["metrics"]["found"],
                    "is_kept": found["promise"]["is_kept"], "worst_kind": worst["name"], "worst": worst["roc_auc"],
                    "cpu": trained, "fit": seconds["fit"], "verdict": diagnose_run(run).headline.name,
                    **{of["name"]: of["roc_auc"] for of in found["baselines"]},
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    return {"rows": rows}


def measure_promise(data: Path, folder: str) -> dict:
    """Of 200 draws: how often the false alarms on other normal images lie in the interval that was told."""
    result = {}
    for name, config in {
        "MNIST 8": configure("mnist_anomaly", data / "mnist.npz", "data_check=report"),
        "tiles": configure("tiles_anomaly", data / "magnetic_tiles.zip", "data_check=report").replace(
            task_options={"normal": ["free"]}, epochs=5
        ),
    }.items():
        run = train(config, folder)
        pbl.evaluate(run, "test")
        found = [run.read_scores(split) for split in ("val", "test")]
        scores = np.concatenate([of[is_normal] for of, is_normal in found])
        for images in (50, 200, 500):
            if images > 0.8 * len(scores):
                continue
            inside, shares, random = 0, [], np.random.default_rng(0)
            for _ in range(200):
                mixed = random.permutation(scores)
                promise = choose_threshold(mixed[:images])
                others = mixed[images:]
                found = float((others > promise.threshold).mean())
                low, high = promise.predict_found(len(others))
                inside += low - 1e-9 <= found <= high + 1e-9
                shares.append(found)
            result[f"{name}, {images}"] = {"inside": inside / 200, "mean": float(np.mean(shares)), "of": len(scores)}
            print(name, images, result[f"{name}, {images}"], flush=True)
    return result


def measure_tiles(data: Path, folder: str) -> dict:
    """By look-alikes and at random; as they are, and with each tile's brightness and contrast evened out, as exposures differ."""
    result, tiles = (
        {},
        pbl.load_data(data / "magnetic_tiles.zip", normal=["free"], image_size=64, channels=1).everything,
    )
    pixels = tiles.pixels.astype(np.float32)
    evened = (pixels - pixels.mean(axis=(1, 2, 3), keepdims=True)) / (pixels.std(axis=(1, 2, 3), keepdims=True) + 1e-6)
    evened = np.clip(128 + 40 * evened, 0, 255).astype(np.uint8)
    is_free = np.array([name.startswith("free/") for name in tiles.names])
    pbl.DATASETS["evened"] = lambda: from_arrays(evened, np.where(is_free, 0, 1), ["free", "defect"])
    for groups, source in ((None, ""), ("look_alike", ""), (None, "evened"), ("look_alike", "evened")):
        config = configure("tiles_anomaly", data / "magnetic_tiles.zip").replace(
            task_options={"normal": ["free"]}, groups=groups
        )
        config = config.replace(dataset=source) if source else config
        key = f"{groups or 'random'}{', evened out' if source else ''}"
        stopped = ""
        try:
            run = train(config, folder)
        except InputError as error:
            stopped = str(error)
            run = train(config.replace(data_check="report"), folder)
        found = pbl.evaluate(run, "test")
        result[key] = {
            "stopped": stopped, "leak": found["leak"], "verdict": diagnose_run(run).headline.name,
            "roc_auc": found["metrics"]["roc_auc"], "interval": found["intervals"].get("roc_auc"),
            "pixel_roc_auc": found["metrics"].get("pixel_roc_auc"), "pro": found["metrics"].get("pro"),
            "baselines": {of["name"]: [of["roc_auc"], of["low"], of["high"]] for of in found["baselines"]},
            "difference": found["difference"], "false_alarms": found["metrics"]["false_alarms"],
            "fit": run.environment["seconds"]["fit"],
        }  # fmt: skip
        print(key, result[key], flush=True)
    return result


def measure_scratch(data: Path, folder: str) -> dict:
    """Scratches of 3x3 pixels on eights that were not trained on; of each the exact mask is known."""
    run = train(configure("mnist_anomaly", data / "mnist.npz", "data_check=report"), folder)
    arrays = np.load(data / "mnist.npz")
    images = arrays["x_test"][arrays["y_test"] == 8][..., None].astype(np.float32)
    random, masks = np.random.default_rng(0), np.zeros(images.shape[:3], bool)
    for at in range(len(images) // 2):
        row, column = random.integers(2, 23, 2)
        masks[at, row : row + 3, column : column + 3] = True
    images[masks] = np.where(images[masks] > 127, 0, 255)  # a scratch is seen: dark on white, white on dark
    model, result = pbl.load_model(run), {}
    back = predict_outputs(model, images.astype(np.uint8))
    from sklearn.metrics import roc_auc_score

    for score in ("mean", "max_patch"):
        errors = map_errors(images, back, score)
        whole = roc_auc_score(masks.any(axis=(1, 2)), score_errors(errors, score))
        result[score] = {"roc_auc": float(whole), **judge_pixels(errors, masks)}
        print(score, result[score], flush=True)
    return result


def measure_contaminated_trainings(data: Path, folder: str) -> dict:
    """Other digits among the training eights, called eights: what it does, and whether it is named."""
    arrays = np.load(data / "mnist.npz")
    x, y = arrays["x_train"], arrays["y_train"]
    eights, others = x[y == 8][:4500], x[y != 8]
    result = {}
    for share in (0.0, 0.01, 0.05, 0.1):
        count = round(share * len(eights))
        images = np.concatenate([eights[: len(eights) - count], others[:count], others[count : count + 3000]])
        labels = np.concatenate([np.zeros(len(eights), int), np.ones(3000, int)])
        planted = {f"train/{at}" for at in range(len(eights) - count, len(eights))}
        name = f"contaminated_{count}"
        test = (arrays["x_test"], np.where(arrays["y_test"] == 8, 0, 1))
        pbl.DATASETS[name] = lambda images=images, labels=labels, test=test: from_arrays(
            images, labels, ["8", "other"], test
        )
        run = train(configure("mnist_anomaly", data / "mnist.npz").replace(dataset=name, data_check="report"), folder)
        found = pbl.evaluate(run, "test")
        worst = [entry["name"] for entry in run.read_json("metrics_val.json")["reconstruction"]["worst_of_train"]]
        result[f"{share:.0%}"] = {
            "roc_auc": found["metrics"]["roc_auc"], "found": found["metrics"]["found"],
            "false_alarms": found["metrics"]["false_alarms"],
            "worst_ten_are_planted": sum(one in planted for one in worst),
            "named": [finding.name for finding in diagnose_run(run).findings],
        }  # fmt: skip
        print(share, result[f"{share:.0%}"], flush=True)
    return result


def measure_naming(data: Path, folder: str) -> dict:
    """How often anomalies among normal images are said to be there: draws of MNIST and digits, each class normal once; CIFAR-10 and
    the tiles, which are clean."""
    from sklearn.datasets import load_digits

    with np.load(data / "mnist.npz") as arrays:
        mnist = arrays["x_train"][..., None], arrays["y_train"]
    digits = load_digits()
    pools = {
        ("MNIST", 2000): mnist,
        ("MNIST", 300): mnist,
        ("digits", 170): ((digits.images[..., None] * 15.9375).astype(np.uint8), digits.target),
    }
    for name, source in (("CIFAR-10", "cifar10.zip"), ("tiles", "magnetic_tiles.zip")):
        images = pbl.load_data(data / source, image_size=32).everything
        pools[name, 900] = images.pixels, images.labels
    limit = LIMITS["contaminated"].value
    result = {}
    for (name, size), (pixels, labels) in pools.items():
        shares = (0.0, 0.01, 0.05, 0.1) if name in ("MNIST", "digits") else (0.0, 0.05)
        normal_classes = range(labels.max() + 1) if name != "tiles" else [int(np.bincount(labels).argmax())]
        for share in shares:
            told, silent, held, first, of = 0, 0, 0, [], 0
            for label in normal_classes:
                random = np.random.default_rng([label, size, 1])
                normal, others = (
                    random.permutation(np.flatnonzero(which)) for which in (labels == label, labels != label)
                )
                count = min(size, len(normal))
                planted = round(share * count)
                train = np.concatenate([normal[: count - planted], others[:planted]])
                parts = [
                    Part(pixels[at], labels[at], [str(i) for i in at], [""] * len(at), np.zeros((len(at), 3), int))
                    for at in (train, others[planted : planted + 2000])
                ]
                found, of = measure_contamination(*parts), of + 1
                silent += found is None
                if found is not None:
                    told += found.low >= limit and found.suspects >= LIMITS["suspects"].value
                    held += found.low <= planted / count <= found.high
                    first.append(len(set(found.names[:10]) & {str(i) for i in others[:planted]}))
            result[f"{name}, {size}, {share:.0%}"] = {
                "of": of, "told": told, "silent": silent, "held": held, "first": float(np.mean(first)) if first else None,
            }  # fmt: skip
            print(name, size, share, result[f"{name}, {size}, {share:.0%}"], flush=True)
    return result


PARTS = {
    "naming": measure_naming,
    "scratch": measure_scratch,
    "tiles": measure_tiles,
    "contamination": measure_contaminated_trainings,
    "promise": measure_promise,
    "digits": measure_digits,
}


def tell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def write(page: str, found: dict) -> str:
    """The page with the sections measured now in the place of earlier ones."""
    head, *sections = re.split("^(?=## )", page, flags=re.MULTILINE)
    written = {section.splitlines()[0]: section for section in sections}
    for section in re.split("^(?=## )", tabulate(found), flags=re.MULTILINE):
        if section.strip():
            written[section.splitlines()[0]] = section.rstrip() + "\n\n"
    return (head + "".join(written.values())).rstrip() + "\n"


def tabulate(found: dict) -> str:
    """The sections of what was measured."""
    lines = []
    if naming := found.get("naming"):
        lines += [
            "## Whether anomalies among the normal images are named",
            "",
            "Nothing is trained: `measure_contamination` by known anomalies, each class the normal one once. The interval holds the"
            " true share where one is told.",
            "",
            "| data, normal images, planted | said to be there | cannot be told | true share within the interval | planted among the first ten |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {of['told']} of {of['of']} | {of['silent']} | {of['held']} of {of['of'] - of['silent']} | {'' if of['first'] is None else format(of['first'], '.1f')} |"
            for name, of in naming.items()
        ] + [""]
    if rows := found.get("digits", {}).get("rows"):
        lines += ["## MNIST, one digit normal, ten digits by three seeds", ""]
        lines += [
            "| normal | autoencoder | PCA | nearest neighbours | nearest, evened out | mean image | brightness | found | false alarms | worst kind |"
        ]
        lines += ["|---|---|---|---|---|---|---|---|---|---|"]
        names = ("roc_auc", *BASELINES, "found", "false_alarms")
        for digit in sorted({row["digit"] for row in rows}):
            of = [row for row in rows if row["digit"] == digit]
            means = [np.mean([row[name] for row in of]) for name in names]
            worst = min(of, key=lambda row: row["worst"])
            lines.append(
                f"| {digit} | "
                + " | ".join(f"{value:.3f}" for value in means)
                + f" | {worst['worst_kind']} ({worst['worst']:.2f}) |"
            )
        means = [np.mean([row[name] for row in rows]) for name in names]
        lines.append("| **mean** | " + " | ".join(f"{value:.3f}" for value in means) + " | |")
        kept = sum(row["is_kept"] for row in rows)
        cpu = np.median([row["cpu"] for row in rows])
        lines += [
            "",
            f"The promise of 5% false alarms was kept in {kept} of {len(rows)}. Processor seconds of a run: {cpu:.0f} (median), of `fit` alone by the clock {np.median([row['fit'] for row in rows]):.0f}.",
            "",
        ]
    if promise := found.get("promise"):
        lines += [
            "## The promise, 200 draws of the normal images",
            "",
            "| normal images that choose | in their interval | mean share of false alarms |",
            "|---|---|---|",
        ]
        lines += [f"| {name} | {of['inside']:.1%} | {of['mean']:.1%} |" for name, of in promise.items()] + [""]
    if tiles := found.get("tiles"):
        lines += [
            "## Magnetic tiles, test split",
            "",
            "| split | autoencoder | PCA | nearest neighbours | nearest, evened out | pixel AUROC | PRO | verdict |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for groups, of in tiles.items():
            low, high = of["interval"] or (float("nan"),) * 2
            base = of["baselines"]
            leak = " **leak**" if of["leak"] else ""
            lines.append(
                f"| {groups}{leak} | {of['roc_auc']:.3f} ({low:.3f} to {high:.3f}) | {base['pca'][0]:.3f} | {base['nearest_neighbours'][0]:.3f} | {base['nearest_evened'][0]:.3f} | {tell(of['pixel_roc_auc'])} | {tell(of['pro'])} | {of['verdict']}{', stopped by the doctor' if of['stopped'] else ''} |"
            )
        lines.append("")
    if scratch := found.get("scratch"):
        lines += [
            "## Scratches of 3x3 pixels on eights",
            "",
            "| score | AUROC of images | pixel AUROC | PRO |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {of['roc_auc']:.3f} | {of['pixel_roc_auc']:.3f} | {of['pro']:.3f} |"
            for name, of in scratch.items()
        ] + [""]
    if contaminated := found.get("contamination"):
        lines += [
            "## Other digits among the training eights",
            "",
            "| share | AUROC | found | false alarms | planted among the ten worst training images | verdict |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {share} | {of['roc_auc']:.3f} | {of['found']:.2f} | {of['false_alarms']:.1%} | {of['worst_ten_are_planted']} | {', '.join(of['named'])} |"
            for share, of in contaminated.items()
        ] + [""]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    words = parser.parse_args()
    page, found = HERE / "anomaly.md", {}
    with tempfile.TemporaryDirectory() as folder:
        for part in words.only:
            found[part] = PARTS[part](words.data, folder)
            page.write_text(write(page.read_text(encoding="utf-8"), found), encoding="utf-8")
