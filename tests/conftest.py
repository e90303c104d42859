"""What the tests share: real data if available, and short ways to a run and to the command line."""

import gc
import hashlib
import json
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["PBL_LANGUAGE"] = "en"  # whatever the machine's locale
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="pbl-tests-")  # the tests have their own keys and answers

import keras
import numpy as np
import pytest

import pbl
from pbl.cli import main
from pbl.data import Data
from pbl.evaluation.metrics import compute_metrics

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="module")
def quick_collections():
    """Objects from before a file's tests are left out of the garbage collection that `clear_session` does after each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_keras():
    """A precision policy or a name counter left by one test would change the next test."""
    yield
    keras.backend.clear_session()


@pytest.fixture(autouse=True)
def fresh_registries():
    """What a test's experiment file enters is removed after the test."""
    registries = (pbl.models.MODELS, pbl.data.DATASETS, pbl.training.callbacks.CALLBACKS)
    before = [dict(registry) for registry in registries]
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Tests read nothing that another training decoded or trained on this machine, and leave nothing there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PBL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def one_close_look():
    """The slow checks of the same images are made once for all tests: they are a third of a small training."""
    look, found = Data.check_closely, {}

    def look_once(data: Data, most: int) -> list:
        about = [
            (part.hashes, part.labels.tobytes(), part.names, part.groups)
            for part in data.parts("train", "val").values()
        ]
        key = hashlib.sha256(
            repr((data.input_shape, data.class_names, data.split["made_by"], most, about)).encode()
        ).digest()
        if key not in found:
            found[key] = look(data, most)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Data, "check_closely", look_once)
        yield


@pytest.fixture
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the development data in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory) -> "pbl.runs.Run":
    """A small finished run on real images; tests read it, and copy it before they change it."""
    config = pbl.Config(experiment="small", model="mlp", model_options={"widths": [32]}, epochs=3)
    return pbl.train(config, folder=tmp_path_factory.mktemp("runs"))


@pytest.fixture
def write_run(tmp_path):
    """Writes the small files of a run, as a training leaves them; each starts an hour after the one before."""
    count = 0

    def save(file: Path, value: dict) -> None:
        file.write_text(json.dumps(value), encoding="utf-8")

    def write(
        name: str,
        correct: np.ndarray | None,
        *,
        status: str = "finished",
        reason: str = "",
        images: str = "the same",
        labels: np.ndarray | None = None,
        hashes: list[str] | None = None,
        code: str = "",
        test_uses: int = 0,
        environment: dict | None = None,
        class_names: list[str] | None = None,
        **settings,
    ) -> Path:
        """`correct`: `bool [n]`, which validation images are right; None if none was evaluated."""
        nonlocal count
        path, (experiment, _) = tmp_path / name, name.split("/")[-2:]
        (path / "figures").mkdir(parents=True)
        started = datetime(2026, 10, 1, tzinfo=UTC) + timedelta(hours=count)
        count += 1
        config = pbl.Config(**settings)
        options = {"dropout": 0.0} if config.model == "mlp" else {"shortcut": True}
        about = {
            "status": status, "started": started.isoformat(), "images": images, "trainable_weights": 1000,
            "builder_options": {**options, **config.model_options}, **({"reason": reason} if reason else {}),
        }  # fmt: skip
        class_names = class_names or ["cat", "dog"]
        save(path / "config.json", {**config.model_dump(mode="json"), "experiment": experiment})
        save(path / "environment.json", about | (environment or {}))
        (path / "experiment.py").write_text(code or "config = Config()\n", encoding="utf-8")
        n = 200 if correct is None else len(correct)
        counts = {"train": 2 * n, "val": n, "test": n}
        save(
            path / "split.json",
            {
                "source": config.dataset, "class_names": class_names, "input_shape": [8, 8, 1], "fit": "crop", "hashes": {},
                "made_by": {"test": "official", "val": "15% of the images that are not test, by content"}, "images": counts,
                "images_by_class": {split: dict.fromkeys(class_names, of // 2) for split, of in counts.items()},
            },
        )  # fmt: skip
        if test_uses:
            (path / "test_uses.csv").write_text("time,host,command\n" + "now,here,evaluate\n" * test_uses)
        if correct is None:
            return path
        (path / "history.csv").write_text("epoch,loss\n1,2.0\n2,1.0\n")
        labels = np.arange(n) % len(class_names) if labels is None else labels
        predicted = np.where(correct, labels, (labels + 1) % len(class_names))
        probabilities = np.full((n, len(class_names)), 0.1 / len(class_names), np.float32)
        probabilities[np.arange(n), predicted] += 0.9
        save(path / "metrics_val.json", compute_metrics(labels, probabilities, class_names))
        hashes = np.array(hashes or [f"{number:016x}" for number in range(n)])
        np.savez_compressed(path / "predictions_val.npz", labels=labels, probabilities=probabilities, hashes=hashes)
        return path

    return write


@pytest.fixture
def command(capfd):
    """Runs a command in this process; returns its exit status, what it printed, and its error lines."""

    def run(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main([str(word) for word in words])
        said = capfd.readouterr()
        return status, said.out, said.err

    return run
