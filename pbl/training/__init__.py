"""How a model is trained: `run.train` is the main function, the other files are its parts."""

from pbl import offer

__getattr__, __dir__, __all__ = offer(
    __name__,
    {
        "run": "train",
        "build": "build_and_compile build_callback",
        "callbacks": "CALLBACKS BestModel HistoryFile",
        "checkpoint": "ExactResume Paused",
        "trials": "find_learning_rate memorise",
        "learning_curve": "measure_learning_curve",
    },
)
