"""What the tests share: real data where they are at hand, and short ways to a run and to the command line."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest

import pbl
from pbl.__main__ import main

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def fresh_keras():
    """A precision policy or a name counter left by one test would change the next."""
    yield
    keras.backend.clear_session()


@pytest.fixture(autouse=True)
def fresh_registries():
    """What a test's experiment file enters is gone after it."""
    registries = (pbl.models.MODELS, pbl.data.DATASETS, pbl.callbacks.CALLBACKS)
    before = [dict(registry) for registry in registries]
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


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
def command(capfd):
    """Runs a command in this process; returns its exit status, what it printed, and its error lines."""

    def run(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main([str(word) for word in words])
        said = capfd.readouterr()
        return status, said.out, said.err

    return run
