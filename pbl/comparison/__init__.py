"""Comparison of runs: trained models with each other, and architectures with several seeds each."""

from pbl import offer

__getattr__, __dir__, __all__ = offer(
    __name__,
    {
        "entries": "Entry Failure find_runs read_entry",
        "own_code": "hash_own_code",
        "run": "Comparison compare",
        "tables": "describe show_architectures show_models show_pairs translate write_results",
    },
)
