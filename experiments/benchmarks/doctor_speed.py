"""How long the data doctor takes for a subset of CIFAR-10, beside an earlier commit.

Command:  python experiments/benchmarks/doctor_speed.py --data DIR --against COMMIT
          DIR holds cifar10.zip (cifar10/train/<class>/*.jpg). The commit is unpacked into a temporary folder; both are run in turn, each
          time in a new process, so that a busy machine slows both alike.
Result:   doctor_speed.md beside this file: seconds of processor time of all checks, modules imported before
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TIMES = {2000: 5, 10000: 3, 50000: 1}  # how often each number of images is examined


def examine_once(folder: Path, images: int) -> dict:
    """Examines a subset with the `pbl` of the current folder, 10% of it for validation."""
    sys.path.insert(0, str(Path.cwd()))
    import numpy as np
    import pandas  # noqa: F401
    import scipy.sparse.csgraph  # noqa: F401
    import sklearn.kernel_approximation
    import sklearn.linear_model
    import sklearn.model_selection  # noqa: F401

    from pbl.data.doctor import Part, examine

    saved = np.load(folder / "cifar10.npz")
    index = np.sort(np.random.default_rng(0).permutation(len(saved["labels"]))[:images])
    is_val = np.random.default_rng(1).random(images) < 0.1

    def take(of: np.ndarray) -> Part:
        names, hashes = saved["names"][of].tolist(), saved["hashes"][of].tolist()
        return Part(saved["pixels"][of], saved["labels"][of], names, hashes, np.tile((32, 32, 3), (len(of), 1)))

    splits = {"train": take(index[~is_val]), "val": take(index[is_val])}
    start, processor = time.perf_counter(), time.process_time()
    findings = examine(splits, [str(c) for c in range(10)], {})
    return {
        "processor": time.process_time() - processor,
        "wall": time.perf_counter() - start,
        "findings": [f"{finding.severity} {finding.check}" for finding in findings],
    }


def prepare(data: Path, folder: Path) -> None:
    """Decodes CIFAR-10's training images once for all processes."""
    import numpy as np
    from planted_faults import cifar10

    part, _ = cifar10(data, "train")
    np.savez(
        folder / "cifar10.npz", pixels=part.pixels, labels=part.labels, names=np.array(part.names), hashes=np.array(part.hashes)
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of cifar10.zip")
    parser.add_argument("--against", help="the earlier commit")
    parser.add_argument("--images", type=int, nargs="*", default=list(TIMES), help="only these numbers of images")
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(examine_once(Path(options.once[0]), int(options.once[1]))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder, now = Path(temporary), HERE.parent.parent
        packed = subprocess.run(["git", "archive", options.against], cwd=now, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder / "before", filter="data")
        prepare(options.data, folder)
        lines = []
        for images in options.images:
            told = {"before": [], "now": []}
            for _ in range(TIMES.get(images, 1)):
                for name, place in (("before", folder / "before"), ("now", now)):
                    command = [sys.executable, str(HERE / "doctor_speed.py"), "--once", temporary, str(images)]
                    done = subprocess.run(command, cwd=place, check=True, capture_output=True, text=True)
                    told[name].append(json.loads(done.stdout.splitlines()[-1]))
            shown = [
                f"{statistics.median(of['processor'] for of in runs):.1f} ({min(of['processor'] for of in runs):.1f} to"
                f" {max(of['processor'] for of in runs):.1f})"
                for runs in told.values()
            ]
            findings = ", ".join(told["now"][-1]["findings"])
            lines.append(f"| {images:,} | {len(told['now'])} | {' | '.join(shown)} | {findings} |")
            print(lines[-1], flush=True)
    # Rows of other numbers of images stay as they are.
    page = HERE / "doctor_speed.md"
    old = page.read_text(encoding="utf-8").splitlines() if page.exists() else []
    rows = {line.split("|")[1]: line for line in [*old, *lines] if line.startswith("| ") and line[2].isdigit()}
    table = "\n".join(rows[f" {images:,} "] for images in TIMES if f" {images:,} " in rows)
    page.write_text(
        f"""# How long the data doctor takes

Written by `python experiments/benchmarks/doctor_speed.py --data DIR --against {options.against}`: every check on a subset of CIFAR-10 (JPEG
copies, 32 x 32), a tenth of it validation, {os.cpu_count()} CPU cores. Seconds of processor time, without imports: the median of some runs
(least to most), this version and commit {options.against[:7]} in turn.

| images | runs each | before | now | what is found now |
|---|---|---|---|---|
{table}
""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
