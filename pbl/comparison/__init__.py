"""Runs compared: trained models with each other, and architectures by several seeds of each."""

from pbl import offer

__getattr__, __dir__, __all__ = offer(
    __name__,
    {
        "run": "Comparison Entry Failure compare describe find_runs read_entry show_architectures show_models show_pairs write_results"
    },
)
