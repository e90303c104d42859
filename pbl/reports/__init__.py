"""Pages and tables for people: a run on one page, the log of all runs, the draft of a team's report."""

from pbl import offer

__getattr__, __dir__, __all__ = offer(
    __name__,
    {
        "run_report": "write_report",
        "team_log": "read_log",
        "team_report": "write_team_report",
    },
)
