"""The search for settings: spaces, studies that are interrupted and shared, pruned runs, and workers on one folder of runs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import pbl
from pbl import Config
from pbl.errors import InputError
from pbl.reports.team_log import read_log
from pbl.training import sweep, workers
from pbl.training.space import Choice, Range, apply_settings, count_settings, describe_space, parse_space

pytestmark = pytest.mark.slow  # little of it depends on versions

SMALL = ("model=mlp", "model_options.widths=[8]", "experiment=s")
SPACE = "learning_rate=log:1e-3..0.3 optimizer=sgd,adamw"


@pytest.fixture
def study():
    pytest.importorskip("optuna", reason='needs the extra "search": pip install "optuna>=4.3"')
    from pbl.training import study

    return study


def start(*words: object, **environment: str) -> subprocess.Popen:
    """Starts a command in a separate process."""
    root = str(Path(pbl.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "pbl", *map(str, words)], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learning_rate=log:1e-3..0.3", {"learning_rate": Range(0.001, 0.3, True, False)}),
        (
            "learning_rate=1..2",
            {"learning_rate": Range(1.0, 2.0, False, False)},
        ),  # a real number, in any notation
        ("batch_size=log:16..256", {"batch_size": Range(16, 256, True, True)}),
        ("batch_size=1e1..64", {"batch_size": Range(10, 64, False, True)}),
        ("model_options.dropout=0..0.5", {"model_options.dropout": Range(0.0, 0.5, False, False)}),
        ("optimizer_options.momentum=0..0.99", {"optimizer_options.momentum": Range(0.0, 0.99, False, False)}),
        ("augmentation.crop=0..4", {"augmentation.crop": Range(0, 4, False, True)}),
        ("augmentation.zoom=0..1e-1", {"augmentation.zoom": Range(0.0, 0.1, False, False)}),
        ("optimizer=sgd,adamw", {"optimizer": Choice(("sgd", "adamw"))}),
        ("model_options.widths=[64],[64,32]", {"model_options.widths": Choice(("[64]", "[64,32]"))}),
    ],
)
def test_spaces_are_read_and_written(text, expected):
    config = Config(model="mlp", optimizer="sgd")
    assert parse_space(text, config) == expected
    assert parse_space(describe_space(expected), config) == expected


def test_what_is_drawn_stays_in_its_range_and_is_short():
    rate = Range(0.00123456, 0.3, True, False)
    assert rate.as_word(0.0123456789) == "0.01235" and float(rate.as_word(0.00123456)) >= rate.low
    assert rate.as_word(0.29999999) == "0.3" and Range(0.0, 0.29996, False, False).as_word(0.29996) == "0.29996"
    assert Range(1, 9, False, True).as_word(3) == "3"
    config = apply_settings(Config(model="mlp"), {"learning_rate": "0.01235", "model_options.dropout": "0.25"})
    assert config.learning_rate == 0.01235 and config.model_options == {"dropout": 0.25}
    assert count_settings(parse_space("batch_size=16..19 optimizer=sgd,adam,adamw", config)) == 12
    assert count_settings(parse_space(SPACE, config)) == float("inf")


WRONG = [
    ("learing_rate=0.1..0.3", "Did you mean 'learning_rate'?"),
    ("learning_rate=0.3..0.1", "the range is empty, since 0.3 is not below 0.1"),
    ("learning_rate=0.1..0.1", "the range is empty"),
    ("learning_rate=log:0..0.3", "there is no logarithm of 0"),
    ("model_options.dropout=log:-1..0.3", "there is no logarithm of -1"),
    ("optimizer=0..1", "optimizer is not a number"),
    ("jit_compile=0..1", "jit_compile is not a number"),
    ("batch_size=1.5..64", "batch_size is a whole number"),
    ("batch_size=16,1.5", "batch_size=1.5: input should be a valid integer"),
    ("learning_rate=a..b", "a range goes from one number to another"),
    ("learning_rate=0.1..inf", "a range goes from one number to another"),
    ("learning_rate=0..0.1", "input should be greater than 0"),
    ("learning_rate=sgd,adam", "input should be a valid number"),
    ("learning_rate", "is not of the form key=low..high"),
    ("learning_rate=0.1,", "is not of the form key=low..high"),
    ("learning_rate=log:0.1,0.2", "is not of the form key=low..high"),
    ("optimizer=sgd,sgd", "is given twice"),
    ("optimizer=sgd,adam optimizer=sgd,adamw", "is given twice"),
    ("optimizer=sgd", "has one value"),
    ("optimizer=sgd,adamm", "No optimizer is called 'adamm'"),
    ("optimizer=sgd,adam optimizer_options.momentum=0..0.9", "momentum"),  # adam does not have it
    ("model_options.dropot=0..0.5", "Did you mean 'dropout'?"),
    ("dropout=0..0.5", "model_options.dropout=0.5"),
    ("seed=0..9", "seed is not searched"),
    ("split_seed=0..9", "split_seed is not searched"),
    ("dataset=a,b", "dataset is not searched"),
    (" ", "The search names no setting"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_wrong_spaces_are_told_in_one_line(text, said):
    with pytest.raises(InputError) as caught:
        parse_space(text, Config(model="mlp"))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--search", SPACE, "--trials", "0"], "--trials 0: give the number"),
        (["--search", SPACE, "--minutes", "0"], "--minutes 0: give minutes above 0"),
        (["--search", "batch_size=16..19", "--trials", "5"], "The space has 4 settings, and 5 trials are enough"),
        (["--search", SPACE, "--seeds", "2"], "Give one of --sweep"),
        (["--trials", "5"], "are for --search"),
        (["--workers", "2"], "--workers and --engine are for several runs"),
        (["--seeds", "2", "--workers", "0"], "--workers 0: give the number"),
        (["--search", "learning_rate=log:0..1"], "there is no logarithm of 0"),
    ],
)
def test_wrong_searches_begin_nothing(study, command, tmp_path, words, said):
    status, _, errors = command("train", *SMALL, *words, "--runs", tmp_path)
    assert status == 2 and said in errors and errors.count("\n") == 1 and not list(tmp_path.iterdir())


def test_without_optuna_one_line_says_what_to_install(command, tmp_path, monkeypatch):
    from pbl.training import study

    monkeypatch.setattr(study, "optuna", None)
    status, _, errors = command("train", *SMALL, "--search", SPACE, "--runs", tmp_path)
    assert status == 2 and 'pip install "optuna' in errors and errors.count("\n") == 1 and not list(tmp_path.iterdir())


def check_whole(folder: Path, trials: int) -> pd.DataFrame:
    """Each trial has ended, has one run, and its score is that of the run's files; no two trials trained the same setting."""
    table = pd.read_csv(folder / "s" / "search.csv")
    assert table["trial"].tolist() == list(range(1, trials + 1)) and set(table["status"]) <= {"finished", "pruned"}
    configs = [json.loads(file.read_text()) for file in (folder / "s").glob("*/config.json")]
    assert len({json.dumps(config, sort_keys=True) for config in configs}) == len(configs)
    for path, status, accuracy, rate in zip(
        table["run"], table["status"], table["val_accuracy"], table["learning_rate"], strict=True
    ):
        run = pbl.load_run(path)
        assert run.environment["status"] == status and run.config.learning_rate == rate
        if status == "finished":
            assert run.read_json("metrics_val.json")["accuracy"] == pytest.approx(
                accuracy
            )  # pandas 2 reads a table to the last bit but one
        else:
            assert pd.isna(accuracy) and not run.holds("metrics_val.json")
    again = [config["seed"] for config in configs if config["seed"]]
    finished = int((table["status"] == "finished").sum())
    assert sorted(again) == sorted([1, 2] * min(3, finished)) and len(configs) == trials + len(again)
    assert not list((folder / "s").glob("*/test_uses.csv")) and not list((folder / "s").glob("*/metrics_test.json"))
    return table


@pytest.mark.slow
def test_a_search_tells_its_bias_and_goes_on(study, command, tmp_path):
    without = ("train", *SMALL, "epochs=1", "--runs", tmp_path)
    words = (*without, "--search", SPACE)
    status, out, _ = command(*words, "--trials", "4")
    assert status == 0, out
    first = check_whole(tmp_path, 4)
    best = first["val_accuracy"].max()
    claimed = float(re.search(r"The score of a trial, ([0-9.]+)%, is probably too high", out)[1])
    assert claimed <= round(100 * best, 1)  # of the best by three seeds, which need not be the luckiest
    assert (
        "the luckiest of 4 finished trials" in out
        and "--split test" in out
        and "This architecture compared with that one" in out
    )
    pictures = {file.name for file in (tmp_path / "s").glob("*.png")}
    assert {"search_history.png", "search_slices.png"} <= pictures <= {f"search_{name}.png" for name in ("history", "slices", "importance")}  # fmt: skip
    status, out, _ = command(*words, "--trials", "5")  # one more trial of the same study
    assert status == 0 and out.count("Trial 5 of 5") == 1 and "Trial 4 of" not in out
    assert check_whole(tmp_path, 5).iloc[:4].drop(columns="run").equals(first.drop(columns="run"))
    held = {file: file.read_bytes() for file in (tmp_path / "s").glob("search*.*") if file.suffix != ".png"}
    for other, said in (
        (("--search", "learning_rate=log:1e-3..0.2"), "contains a study of another space"),
        (("--search", SPACE, "batch_size=32"), "contains a study with batch_size=64, but now it is 32"),
    ):
        status, _, errors = command(*without, "--trials", "6", *other)
        assert status == 2 and said in errors and errors.count("\n") == 1
    assert held == {file: file.read_bytes() for file in held}
    journal = tmp_path / "s" / "search.journal"
    journal.write_bytes(b"no JSON\n" + journal.read_bytes())
    status, _, errors = command(*words, "--trials", "6")
    assert status == 2 and "is damaged" in errors and errors.count("\n") == 1


def test_a_pruned_run_is_marked_and_no_finished_one_and_can_be_gone_on_with(tmp_path):
    config = Config(model="mlp", model_options={"widths": [8]}, experiment="s", epochs=3)
    seen = []
    run = pbl.train(
        config, folder=tmp_path, prune=lambda epoch, logs: seen.append(logs["val_probe_loss"]) or epoch == 2
    )
    assert run.environment["status"] == "pruned" and run.environment["epochs"] == 2 and len(seen) == 2
    assert not run.is_finished and not run.holds("metrics_val.json")
    (entry,) = read_log(tmp_path)
    assert entry.status == "pruned" and "2 of 3 epochs" in entry.reason and not entry.has_result
    again = pbl.train(config, folder=tmp_path)
    assert again.path == run.path and again.is_finished and again.environment["epochs"] == 3
    alone = pbl.train(config, folder=tmp_path / "alone")
    assert again.read_json("metrics_val.json")["log_loss"] == alone.read_json("metrics_val.json")["log_loss"]


@pytest.mark.nightly
def test_the_pruner_hears_each_epochs_loss_and_its_word_holds(study, tmp_path, monkeypatch):
    class Last:
        """Prunes every second trial after its first epoch."""

        def prune(self, of, trial):
            heard.append((trial.number, dict(trial.intermediate_values)))
            return trial.number % 2 == 1

    heard = []
    monkeypatch.setattr(study.optuna.pruners, "NopPruner", lambda: Last())
    config = Config(model="mlp", model_options={"widths": [8]}, experiment="s", epochs=2)
    found = study.search(config, parse_space(SPACE, config), 4, pruner="none", folder=tmp_path, tell=lambda line: None)
    assert [trial.status for trial in found.trials] == ["finished", "pruned"] * 2 and len(found.best) == 2
    for trial in found.trials:
        run = pbl.load_run(trial.run)
        rows = run.read_table("history.csv", "val_probe_loss")
        assert trial.epochs == len(rows) == (2 if trial.status == "finished" else 1)
        last = [values for number, values in heard if number == trial.number][-1]
        assert last == {at: pytest.approx(-float(row["val_probe_loss"])) for at, row in enumerate(rows, 1)}
    check_whole(tmp_path, 4)


@pytest.mark.nightly
def test_a_failed_trial_is_kept_and_three_at_the_start_end_the_search(study, tmp_path, monkeypatch):
    config = Config(model="mlp", model_options={"widths": [8]}, experiment="s", epochs=1)
    space, train = parse_space(SPACE, config), study.train_once
    count = iter(range(100))

    def fail_first(*arguments, **named):
        if next(count) == 0:
            raise InputError("Out of memory.")
        return train(*arguments, **named)

    monkeypatch.setattr(study, "train_once", fail_first)
    found = study.search(config, space, 3, folder=tmp_path / "a", tell=lambda line: None)
    assert [trial.status for trial in found.trials] == ["failed", "finished", "finished"]
    assert found.trials[0].reason == "Out of memory." and found.table["reason"][0] == "Out of memory."
    monkeypatch.setattr(study, "train_once", lambda *arguments: (_ for _ in ()).throw(InputError("Never.")))
    with pytest.raises(InputError, match="The first 3 trials all failed; the last one failed as follows: Never"):
        study.search(config, space, 9, folder=tmp_path / "b", tell=lambda line: None)


@pytest.mark.nightly
def test_a_study_killed_at_ten_moments_loses_no_trial_and_counts_none_twice(study, tmp_path):
    """Each time at another moment after it has started to work: while it proposes, trains, evaluates, ends."""
    words = ("train", *SMALL, "epochs=2", "--search", SPACE, "--trials", "6", "--runs", tmp_path)
    killed = 0
    for moment in range(10):
        process = start(*words)
        begun = time.monotonic()
        while process.poll() is None and not (
            (tmp_path / "s" / "search.journal.proposing.lock").exists() or time.monotonic() - begun > 120
        ):
            time.sleep(0.005)
        time.sleep([0, 0.05, 0.3, 0.7, 1.2, 1.8, 2.5, 3.3, 4.2, 5.2][moment])
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert killed >= 8
    process = start(*words)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    check_whole(tmp_path, 6)


@pytest.mark.nightly
def test_two_processes_share_a_study(study, tmp_path):
    words = ("train", *SMALL, "epochs=1", "--search", SPACE, "--trials", "6", "--runs", tmp_path)
    both = [start(*words) for _ in range(2)]
    said = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    check_whole(tmp_path, 6)
    begun = [set(re.findall(r"Trial (\d) of 6", out)) for out in said]
    assert begun[0] | begun[1] == set("123456") and all(begun)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_workers_do_a_sweep_and_the_death_of_one_costs_nothing(tmp_path, engine):
    """Of two workers one is killed; the table is that of one process, and each run's result to the bit."""
    if engine == "ray":
        pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    words = ("train", *SMALL, "epochs=2", "--sweep", "learning_rate=0.1,0.03,0.01,0.003")
    threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
    alone = start(*words, "--runs", tmp_path / "alone", **threads)
    assert alone.wait(timeout=600) == 0
    process = start(*words, "--runs", tmp_path / "two", "--workers", "2", "--engine", engine, **threads)
    while not (locks := list((tmp_path / "two" / "s").glob("*/history.csv"))):
        assert process.poll() is None
        time.sleep(0.05)
    lock = next((file.parent / "lock.json" for file in locks if (file.parent / "lock.json").exists()), None)
    if lock is not None:
        os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert re.search(r"^1\| ", said, re.M) and re.search(r"^2\| ", said, re.M)
    assert lock is None or engine == "ray" or "was killed (signal 9)" in said
    tables = [pd.read_csv(next((tmp_path / where / "s").glob("sweep*.csv"))) for where in ("alone", "two")]
    one, two = (table.drop(columns=["run", "seconds"]) for table in tables)
    assert (
        one.equals(two)
        and tables[1]["run"].nunique() == 4
        and len(list((tmp_path / "two" / "s").glob("*/config.json"))) == 4
    )
    for ours, theirs in zip(*(table["run"] for table in tables), strict=True):
        weights = [pbl.load_model(path).get_weights() for path in (ours, theirs)]
        assert all((a == b).all() for a, b in zip(*weights, strict=True))


def test_without_ray_one_line_says_what_to_install(command, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ("train", *SMALL, "--seeds", "2", "--engine", "ray", "--runs", tmp_path)
    status, said, error = command(*words)
    assert (status, said, error) == (2, "", "pbl: --engine ray needs Ray, which is not installed: pip install ray\n")
    assert list(tmp_path.iterdir()) == []


def test_the_machine_is_shared_out(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(7)), raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    shares = workers.share_machine(3)
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["3", "5", "3"]
    assert {share["TF_NUM_INTRAOP_THREADS"] for share in shares} == {"2"} and [share["PBL_WORKER"] for share in shares] == ["1", "2", "3"]  # fmt: skip
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" not in workers.share_machine(9)[0]
    assert workers.share_machine(9)[0]["OMP_NUM_THREADS"] == "1"


def test_a_run_that_ends_while_another_process_looks_for_it_is_not_trained_twice(tmp_path, monkeypatch):
    """Between the search for finished runs and the search for unfinished ones; and between that and the lock."""
    config = Config(model="mlp", model_options={"widths": [8]}, experiment="s", epochs=1)
    run = pbl.train(config, folder=tmp_path)
    told = []
    looks, find = [None], sweep.find_finished  # the result of the first search, and then the current one
    monkeypatch.setattr(sweep, "find_finished", lambda *arguments: looks.pop() if looks else find(*arguments))
    ((_, found, reason),) = list(sweep.train_each([({}, config)], tmp_path, told.append))
    assert found.path == run.path and not reason and "was trained by another process meanwhile" in " ".join(told)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["001"]
    from pbl.training import session

    monkeypatch.setattr(session, "find_unfinished", lambda *arguments: pbl.load_run(run.path))
    before = run.environment
    with pytest.raises(sweep.InUse, match="meanwhile"):
        pbl.train(config, folder=tmp_path)
    assert pbl.load_run(run.path).environment == before
    monkeypatch.undo()
    assert pbl.train(config, folder=tmp_path).path.name == "002"  # a user who gives the command twice wants two runs
