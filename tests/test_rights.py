"""Files without permission to read: one line that names each, and nothing half-written."""

import ctypes
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def bounded_by_rights():
    """Makes root, who may read everything, subject to file permissions like other users; other users already are."""
    if os.geteuid():
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root may read everything")
    library = ctypes.CDLL(None, use_errno=True)
    header, before = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert library.capget(header, before) == 0
    less = (ctypes.c_uint32 * 6)(*before)
    less[0] &= ~0b110  # of those in force, CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert library.capset(header, less) == 0
    yield
    assert library.capset(header, before) == 0


@pytest.fixture
def forbid(bounded_by_rights):
    """Takes all permissions from a file or folder, and restores them at the end."""
    taken = []

    def take(path: Path) -> Path:
        taken.append((path, path.stat().st_mode))
        path.chmod(0)
        return path

    yield take
    for path, mode in taken:
        path.chmod(mode)


@pytest.mark.parametrize(
    "words",
    [
        "check mnist",
        "train dataset=mnist model=mlp --dry-run",
        "datasets --data-dir {folder}",
        "holdout mnist --out {out}",
    ],
)
@pytest.mark.parametrize("where", ["it", "a folder in it"])
def test_a_folder_of_prepared_sets_that_may_not_be_read(tmp_path, command, monkeypatch, forbid, words, where):
    """One line that names the folder, and not a word of a download; the user's own folder is still read."""
    monkeypatch.chdir(tmp_path)
    folder = forbid(make_folder(tmp_path / "locked")) / ("" if where == "it" else "sets")
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    monkeypatch.setenv("PBL_RUNS", str(tmp_path / "runs"))
    status, _, told = command(*words.format(folder=folder, out=tmp_path / "hidden").split())
    assert (status, told.count("\n")) == (2, 1) and str(folder) in told and "Permission denied" in told, told
    assert "network" not in told and not (tmp_path / "hidden").exists() and not list(tmp_path.glob("runs/*/*"))


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_folder_of_ones_own_needs_no_prepared_sets(tmp_path, command, monkeypatch, forbid):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(forbid(make_folder(tmp_path / "locked")) / "sets"))
    for name, value in (("cats", 60), ("dogs", 180)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = np.random.default_rng([value, number]).integers(0, 60, (12, 12), np.uint8) + value
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / name / f"{number}.png")
    status, out, _ = command("check", "photos")
    assert status in (0, 1) and "photos: " in out  # 1: the doctor finds too few images
    status, _, told = command("check", forbid(tmp_path / "photos"))
    assert (status, told.count("\n")) == (2, 1) and "photos" in told


@pytest.mark.parametrize(
    "name", ["mnist", "mnist/3.0.1", "mnist/3.0.1/dataset_info.json", "mnist/3.0.1/mnist-train.tfrecord-00000-of-00001"]
)
def test_a_prepared_set_that_may_not_be_read(tmp_path, command, monkeypatch, shared_data, forbid, name):
    for file in (shared_data / "tfds").rglob("*.*"):
        if file.is_file():
            place = tmp_path / "sets" / file.relative_to(shared_data / "tfds")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())
    forbid(tmp_path / "sets" / name)
    monkeypatch.chdir(tmp_path)
    status, _, told = command("check", "mnist", f"data_dir={tmp_path / 'sets'}")
    assert (status, told.count("\n")) == (2, 1) and "cannot be read" in told and str(tmp_path / "sets") in told, told


@pytest.mark.parametrize("where", [".", "images", "masks", "images/3.png", "masks/3.png", "classes.txt"])
def test_masks_that_may_not_be_read(tmp_path, command, monkeypatch, forbid, where):
    monkeypatch.chdir(tmp_path)
    for number in range(20):
        for kind in ("images", "masks"):
            (tmp_path / "photos" / kind).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 2, (12, 12)).astype(np.uint8)
            Image.fromarray(pixels * 255).save(tmp_path / "photos" / kind / f"{number}.png")
    (tmp_path / "photos" / "classes.txt").write_text("ground\nlesion\n")
    forbid(tmp_path / "photos" / where)
    status, _, told = command("train", "dataset=photos/", "task=segmentation", "model=unet")
    assert (status, told.count("\n")) == (2, 1) and "Permission denied" in told, told
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.json"))
