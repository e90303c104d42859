"""A class of hostile, broken and wrong submissions next to honest ones, graded in one run: each gets its status, honest scores
equal those of a class of honest ones to the last digit, and the machine is unchanged."""

import csv
import os
import shutil
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from hostile_submissions import BUILDERS, MADE, Honest, make_class

from pbl import models
from pbl.grading import Limits, Rubric, grade, write_submission
from pbl.grading.hidden import open_hidden, open_labels
from pbl.grading.holdout import make_holdout
from pbl.grading.packing import write_predictions
from pbl.grading.sandbox import FULL, find_layers
from pbl.models.prediction import predict_probabilities

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(find_layers()[layer] for layer in FULL),
        reason="this machine's kernel has no Landlock or no seccomp filters",
    ),
]

ROOT = Path(__file__).resolve().parent.parent
LIMITS = Limits(seconds=40, processor_seconds=10, memory=700, disk=200, file=64)
ENVIRONMENT = frozenset(
    "PATH LANG HOME TMPDIR MPLCONFIGDIR KERAS_HOME KERAS_BACKEND CUDA_VISIBLE_DEVICES TF_CPP_MIN_LOG_LEVEL OMP_NUM_THREADS"
    " OPENBLAS_NUM_THREADS MALLOC_ARENA_MAX HDF5_PLUGIN_PRELOAD HDF5_USE_FILE_LOCKING PYTHONHASHSEED LD_LIBRARY_PATH".split()
) | {
    # what TensorFlow and its friends set themselves
    "TF2_BEHAVIOR", "TPU_ML_PLATFORM", "KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_USE_LEGACY_KERAS",
    "ENABLE_RUNTIME_UPTIME_TELEMETRY", "LC_CTYPE", "TPU_ML_PLATFORM_VERSION", "TPU_SKIP_MDS_QUERY", "HDF5_PLUGIN_PATH",
}  # fmt: skip
NAMES = ["=HYPERLINK(1)", "<script>alert(1)", "チームＡ", "\u202eeman", "a\nb", "x" * 240, "CON", "x..", "-1+1", "'quoted', \"cell\""]  # fmt: skip


# One program of each kind of attack; those that are similar to one of them run nightly.
DAILY = [
    f"builder_{deed}"
    for deed in (
        "honest", "looks_around", "goes_online", "touches_processes", "forges_a_status", "forges_a_result", "spins", "allocates",
        "writes", "starts_threads", "exits_as_if_unlocked", "changes_the_worker",
    )
]  # fmt: skip


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> tuple[Path, Honest]:
    """A hidden set, and a model that was trained on its public part."""
    place = tmp_path_factory.mktemp("class")
    made = make_holdout("digits", out=place / "hidden", seed=1)
    hidden = open_hidden(made.path)
    import pbl

    data = pbl.load_data(str(made.public))
    model = models.build("mlp", data.input_shape, data.num_classes, widths=[32])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(data.train, epochs=20, verbose=0)
    pixels = data.images("val").pixels[:16]
    fixtures = (pixels, predict_probabilities(model, pixels))
    common = {"model": model, "fixtures": fixtures}
    folder = place / "honest"
    write_submission(folder, "honest", data.class_names, builder="mlp", model_options={"widths": [32]}, **common)
    write_submission(
        place / "honest.zip", "honest", data.class_names, builder="mlp", model_options={"widths": [32]}, **common
    )
    model.save(folder / "good.keras")
    secret = place / "secret" / "labels.csv"
    secret.parent.mkdir()
    secret.write_text("id,label\n")
    return place, Honest(folder, hidden.ids, hidden.class_names, place / "marker", secret)


def make_honest(folder: Path, place: Path, honest: Honest) -> None:
    """One honest submission of each kind."""
    shutil.copytree(honest.folder, folder / "honest_folder", ignore=shutil.ignore_patterns("good.keras"))
    shutil.copyfile(place / "honest.zip", folder / "honest_zip.zip")
    shutil.copyfile(honest.folder / "good.keras", folder / "honest_keras.keras")
    random = np.random.default_rng(0).random((len(honest.ids), 10)).astype(np.float32)
    write_predictions(
        folder / "honest_predictions", "x", honest.class_names, honest.ids, random / random.sum(1, keepdims=True)
    )


@pytest.fixture(scope="module")
def graded(honest, request):
    """The class of all selected submissions, graded once; and observations of the machine in that time."""
    place, made_from = honest
    selected = {item.name for item in request.session.items}
    builders = [name for name in BUILDERS if name in DAILY or f"test_each_gets_its_status[{name}]" in selected]
    folder = place / "submissions"
    folder.mkdir()
    make_honest(folder, place, made_from)
    for name in NAMES:
        shutil.copytree(folder / "honest_folder", folder / name)
    listening = socket.create_server(("127.0.0.1", 0))
    connections: list[object] = []

    def listen() -> None:
        while True:
            try:
                connections.append(listening.accept())
            except OSError:
                return

    threading.Thread(target=listen, daemon=True).start()
    statuses, listed = make_class(folder, made_from, listening.getsockname()[1], ENVIRONMENT, builders)
    (place / "keras_hub").mkdir()  # a folder from which a careless grader would import
    (place / "keras_hub" / "__init__.py").write_text(f"open({str(made_from.marker)!r}, 'w')")
    outside = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file() and not path.is_symlink()}
    before = processes()
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("INSTRUCTOR_SECRET", "secret")
        rows = grade(
            folder,
            place / "hidden",
            out=place / "grades",
            rubric=Rubric(builders=listed),
            limits=LIMITS,
            jobs=2,
            tell=told.append,
        )
    listening.close()
    after = {path: path.stat().st_mtime_ns for path in outside}
    return {
        "rows": {row["team"]: row for row in rows}, "expected": statuses, "place": place, "marker": made_from.marker,
        "connections": connections, "changed": [path for path in outside if outside[path] != after[path]],
        "left": processes() - before, "told": told, "builders": builders,
    }  # fmt: skip


def processes() -> set[str]:
    """Command lines of all processes of this Python except this one."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                found.add(f"{entry.name} {(entry / 'cmdline').read_bytes()!r}")
            except OSError:
                continue
    return {line for line in found if "pbl.grading" in line and str(ROOT) in line}  # another checkout may be running


NIGHTLY = [pytest.param(name, marks=pytest.mark.nightly) for name in BUILDERS if name not in DAILY]


@pytest.mark.parametrize("name", [*MADE, *DAILY, *NIGHTLY, "builder_unlisted"])
def test_each_gets_its_status(graded, name):
    row = graded["rows"][name]
    assert row["status"] == graded["expected"][name], (row["reason"], row["message"], row["used"])
    assert (row["accuracy"] is None) == (row["status"] != "ok")


def test_flags_are_raised_beside_the_status(graded):
    flags = {team: row["flags"] for team, row in graded["rows"].items()}
    assert "skewed_preprocessing" in flags["fixtures_of_another_model"] and not any(
        "skewed" in flag for flag in flags["honest_zip"]
    )
    assert "constant_predictions" in flags["csv_of_one_class"]
    assert (
        "duplicate_of:honest_folder" in flags["json_names_another_team"]
        and "duplicate_of:honest_zip" in flags["honest_keras"]
    )
    assert not any(flag.startswith("duplicate_of") for flag in flags["honest_predictions"])


def test_no_payload_ran_and_nothing_was_touched(graded):
    place = graded["place"]
    assert not graded["marker"].exists() and not graded["connections"] and not graded["changed"] and not graded["left"]
    logs = {path.name: path.read_text(errors="replace") for path in (place / "grades" / "logs").iterdir()}
    assert not [name for name, text in logs.items() if "PASSED" in text]
    assert logs["builder_looks_around.txt"].count("Error") >= 20  # so it really tried
    assert logs["builder_touches_processes.txt"].count("Error") >= 15
    assert logs["builder_goes_online.txt"].count("Error") >= 5


def test_honest_scores_are_those_of_the_honest_alone(graded, honest):
    place, made_from = honest
    alone = place / "alone"
    alone.mkdir()
    make_honest(alone, place, made_from)
    rows = {row["team"]: row for row in grade(alone, place / "hidden", out=place / "grades_alone", limits=LIMITS)}
    assert {row["status"] for row in rows.values()} == {"ok"}
    labels = open_labels(open_hidden(place / "hidden"))
    for team, row in rows.items():
        beside = graded["rows"][team]
        for name in ("accuracy", "accuracy_interval", "macro_f1", "log_loss", "recall"):
            assert beside[name] == row[name], (team, name)
        first, second = (
            (place / out / "work" / "results" / f"{key}.f32").read_bytes()
            for out, key in (("grades", beside["key"]), ("grades_alone", row["key"]))
        )
        assert first == second
        result = np.frombuffer(first, "<f4").reshape(-1, 10)
        assert (result.argmax(axis=1) == labels.classes).mean() == row["accuracy"]
    assert rows["honest_folder"]["accuracy"] == rows["honest_zip"]["accuracy"] == rows["honest_keras"]["accuracy"] > 0.8


def test_hostile_names_reach_no_formula_markup_or_path(graded):
    place = graded["place"]
    content = (place / "grades" / "grades.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(content.decode("utf-8-sig").splitlines()))
    assert len(rows) == 1 + len(graded["rows"]) == 1 + len(MADE) + len(graded["builders"]) + 1 + 4 + len(NAMES)
    assert not [cell for row in rows for cell in row if cell[:1] in "=+-@" and cell]
    summary = (place / "grades" / "summary.html").read_text(encoding="utf-8")
    assert "<script" not in summary and "<img src=x" not in summary and "チームＡ" in summary
    folders = {path.name for path in (place / "grades" / "teams").iterdir()}
    assert len(folders) == len(graded["rows"])
    for path in (place / "grades" / "teams").rglob("*"):
        assert place / "grades" / "teams" in path.resolve().parents
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert (
                str(place) not in text and "secret" not in text.lower() and "\u202e" not in text and "\x1b" not in text
            )
            assert "<script" not in text.replace("\\<", "")
