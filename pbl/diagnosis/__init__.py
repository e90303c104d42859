"""The diagnosis of a training: `monitor` measures, `rules` judge, `advice` says what to try next.

In reading order: `signals` (what is measured) and `monitor` (how); `rules` (the table of all rules, their
thresholds and remedies, and `diagnose`); `evidence` (what a rule reads); the rules themselves in `learning`, `generalisation`, `classes` and
`data`; `remedies` (the experiments that a rule may name) and `advice` (which of them to try, at what cost).
"""

from pbl import offer

__getattr__, __dir__, __all__ = offer(
    __name__,
    {
        "monitor": "OverfittingMonitor",
        "signals": "Signals",
        "evidence": "Finding make_finding",
        "rules": "COLOURS NAMES RULES Diagnosis Rule Threshold collect_limits diagnose",
        "remedies": "Remedy",
        "advice": "Experiment advise",
        "by_task": "DIAGNOSES diagnose_run",
    },
)
