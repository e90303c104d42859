"""What a training suffers from: `monitor` measures, `rules` judge, `advice` says what to try next."""

from pbl import offer

__getattr__, __dir__, __all__ = offer(
    __name__,
    {
        "monitor": "OverfittingMonitor",
        "signals": "Signals",
        "rules": "COLOURS NAMES RULES THRESHOLDS Diagnosis Finding diagnose",
        "advice": "Experiment advise diagnose_run",
    },
)
