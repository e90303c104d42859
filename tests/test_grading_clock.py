"""How much clock time a submission may use, and whose fault its end is."""

from types import SimpleNamespace

import numpy as np
import pytest

from pbl.errors import InputError
from pbl.grading import judge, server, submission
from pbl.grading.intake import Submission
from pbl.grading.ledger import MOST_STARTS, Ledger
from pbl.grading.outcomes import status_of
from pbl.grading.runner import Runner, _Item
from pbl.grading.sandbox import Limits


class Clocks:
    """A child's clock and processor, as the server sees them: `share` of a second of processor for each second that passes."""

    def __init__(self, monkeypatch, share: float, limits: Limits):
        self.now, self.share = 1000.0, share
        monkeypatch.setattr(server, "_processor_seconds", lambda pid: (self.now - 1000.0) * self.share)
        self.child = server._Child.__new__(server._Child)
        self.child.limits, self.child.pid, self.child.counted, self.child.processor = limits, 0, 0.0, 0.0
        self.child.started = self.child.time_looked = self.now

    def killed_after(self) -> float:
        """Clock seconds until the limit is reached."""
        while self.child._count_seconds(self.now) <= self.child.limits.seconds:
            self.now += 1.0
        return self.now - 1000.0


@pytest.mark.parametrize(
    ("share", "seconds"),
    [
        (1.0, 31),  # alone: its seconds are clock seconds
        (2.0, 31),  # two threads: not faster than the clock; all threads together have a limit of their own
        (0.5, 61),  # next to others it has half of a processor, so twice the time
        (0.2, 151),
        (0.11, 273),
        (0.09, 31),  # with so little it is waiting, and clock time counts
        (0.0, 31),
    ],
)
def test_a_busy_machine_takes_no_time_from_a_submission_that_computes(monkeypatch, share, seconds):
    assert Clocks(monkeypatch, share, Limits(seconds=30)).killed_after() == pytest.approx(seconds, abs=1)


def test_ten_times_the_limit_by_the_clock_are_the_end_of_any(monkeypatch):
    clocks = Clocks(monkeypatch, 1.0, Limits(seconds=30))
    monkeypatch.setattr(server, "COMPUTES", 0.0)
    clocks.share = 0.01
    assert clocks.killed_after() == pytest.approx(301, abs=1)


def test_two_stops_by_the_instructor_are_no_crash(tmp_path, monkeypatch):
    """Ctrl-C, or a full disk, while a submission is running: the third time it is graded as if nothing had happened."""
    item = _Item(Submission("A"), {}, "key")
    grader = Runner.__new__(Runner)
    grader.jobs, grader.is_last, grader.tell = 1, False, lambda line: None
    grader.ledger = Ledger(tmp_path / "ledger.jsonl")
    saved: list[str] = []
    grader._save = lambda item, ended: saved.append(ended.reason) or "ok"
    grader._begin = lambda job: 1

    def steps(item):
        yield SimpleNamespace(function="work")
        return judge.Outcome("ok")

    grader._steps = steps
    for stop in (KeyboardInterrupt, KeyboardInterrupt, InputError("the disk is full"), OSError(28, "full")):

        def next_end(stop=stop):
            raise stop

        grader.workers = SimpleNamespace(next_end=next_end)
        with pytest.raises(stop if isinstance(stop, type) else type(stop)):
            grader._work([item])
        assert grader.ledger.starts("key") == 0
    used = {"seconds": 1.0, "processor_seconds": 1.0, "peak": 1}
    grader.workers = SimpleNamespace(next_end=lambda: {"id": 1, **used})
    grader._work([item])
    assert saved == ["ok"]
    # After SIGKILL nothing can be recorded: with two of those the submission is taken for the cause.
    for _ in range(MOST_STARTS):
        grader.ledger.add("start", key="other", team="B")
    grader._work([_Item(Submission("B"), {}, "other")])
    assert saved == ["ok", "interrupted"] and status_of("interrupted") == "crashed"


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (
            100,
            "needs 0.5 s per image here, and the grader stops a submission after 120 s: enough for about 200 hidden images",
        ),
        (49, None),  # four times as many as there are test images is far from the limit
        (None, "enough for about 200 hidden images"),  # how many there are is not known
    ],
)
def test_submit_measures_what_the_graders_time_is_enough_for(images, told):
    """Ten images that took 14 s are one batch, which takes as long with 28 of them: 0.5 s for each image."""
    result = np.zeros((10, 3), np.float32)
    outcome = judge.Outcome("ok", facts={"seconds_to_predict": 14.0, "seconds_to_open": 20.0}, result=result)
    said = submission._tell_speed(outcome, SimpleNamespace(split={"images": {"test": images}}))
    assert (not said) if told is None else told in str(said[0])
    assert submission._tell_speed(judge.Outcome("ok", facts={}, result=result), None) == []  # predictions take no time
