"""How far exported files are from the run that they are of, how large they are and how fast.

Networks: resnet20, vgg_small, se_resnet20, vit_tiny (4 blocks), efficientnet_transfer (random first weights), mlp
Data:     digits enlarged to 32x32, 2 epochs, 189 validation images: what is asked is what a conversion changes, not how good they are
Command:  python experiments/benchmarks/export.py --runs RUNS --out export_newest.csv
          Networks that RUNS holds already are not trained again, so the second set of versions exports the same weights:
          the same command, with its Python, --out export_colab.csv. Then, for the tables of export.md:
          python experiments/benchmarks/export.py --show export_newest.csv export_colab.csv
Result:   export.md, beside this file
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pandas as pd

import pbl
from pbl.errors import InputError
from pbl.runs import load_run

NETWORKS = {
    "resnet20": {},
    "vgg_small": {},
    "se_resnet20": {},
    "vit_tiny": {"depth": 4},
    "efficientnet_transfer": {"weights": None},
    "mlp": {},
}
EXPORTS = [
    ("keras", None),
    ("savedmodel", None),
    ("litert", None),
    ("litert", "float16"),
    ("litert", "int8"),
    ("onnx", None),
    ("onnx", "int8"),
]


def train(name: str, runs: Path) -> Path:
    """Trains a network, where that has not been done; returns the run's folder."""
    folder = runs / f"export_{name}" / "001"
    if not (folder / "metrics_val.json").exists():
        config = pbl.Config(
            experiment=f"export_{name}", model=name, model_options=NETWORKS[name], dataset="digits",
            image_size=32, epochs=2, optimizer="adam", learning_rate=0.001, batch_size=64,
        )  # fmt: skip
        pbl.train(config, folder=runs)
    return folder


def measure(name: str, folder: Path, place: Path) -> list[dict]:
    """A row for each export, also for one that is refused."""
    rows = []
    place.mkdir(exist_ok=True)
    for kind, quantise in EXPORTS:
        row = {"network": name, "format": kind, "quantise": quantise or ""}
        try:
            about = pbl.export_run(load_run(folder), kind, quantise=quantise, out=place / name).about
        except InputError as error:
            rows.append({**row, "refused": str(error)})
        else:
            accuracy = about.get("accuracy", {})
            rows.append(
                {
                    **row,
                    "precision": about["precision_of_run"],
                    "from_float32": about["largest_difference_from_float32"],
                    "from_predict": about["largest_difference"],
                    "changed": about["changed_classes"],
                    "mib": about["bytes"] / 2**20,
                    "ms": about["latency_ms"]["median"],
                    "keras_ms": about["keras_latency_ms"]["median"],
                    "before": accuracy.get("before", {}).get("value"),
                    "after": accuracy.get("after", {}).get("value"),
                    "low": accuracy.get("interval", [None, None])[0],
                    "high": accuracy.get("interval", [None, None])[1],
                    "only_before": accuracy.get("only_before"),
                    "only_after": accuracy.get("only_after"),
                    "versions": " ".join(f"{key} {value}" for key, value in about["versions"].items()),
                }
            )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def show(files: list[Path]) -> None:
    """Prints the tables in Markdown, a column a set of versions."""
    tables = [pd.read_csv(file, keep_default_na=False).set_index(["network", "format", "quantise"]) for file in files]
    print("| network | file | " + " | ".join(f"{what}, {file.stem.removeprefix('export_')}" for file in files for what in ("from float32", "from predict", "classes changed", "MiB", "ms", "Keras ms")) + " |")  # fmt: skip
    print("|" + "---|" * (2 + 6 * len(files)))
    for key in tables[0].index:
        cells = []
        for table in tables:
            row = table.loc[key]
            if row.get("refused"):
                cells += ["refused", *[""] * 5]
            else:
                cells += [
                    f"{float(row['from_float32']):.1e}", f"{float(row['from_predict']):.1e}", str(int(float(row["changed"]))),
                    f"{float(row['mib']):.2f}", f"{float(row['ms']):.3g}", f"{float(row['keras_ms']):.3g}",
                ]  # fmt: skip
        print(f"| {key[0]} | {' '.join(filter(None, key[1:]))} | {' | '.join(cells)} |")
    print()
    print(
        "| network | file | set | before | after | difference in points (95%) | only one right |\n" + "|---" * 7 + "|"
    )
    for file, table in zip(files, tables, strict=True):
        for key, row in table.iterrows():
            if key[2] and not row.get("refused"):
                before, after, low, high = (100 * float(row[name]) for name in ("before", "after", "low", "high"))
                print(
                    f"| {key[0]} | {key[1]} {key[2]} | {file.stem.removeprefix('export_')} | {before:.2f} | {after:.2f} |"
                    f" {after - before:+.2f} ({low:+.2f} to {high:+.2f}) | {float(row['only_before']):.0f} / {float(row['only_after']):.0f} |"
                )
    for file, table in zip(files, tables, strict=True):
        for key, row in table.iterrows():
            if row.get("refused"):
                print(f"\nRefused, {file.stem}, {' '.join(filter(None, key))}: {row['refused']}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--show", type=Path, nargs="+")
    words = parser.parse_args()
    if words.show:
        show(words.show)
        return
    rows = []
    for name in words.networks.split(","):
        rows += measure(name, train(name, words.runs), words.out.parent / f"{words.out.stem}_files")
        pd.DataFrame(rows).to_csv(words.out, index=False)


if __name__ == "__main__":
    main()
