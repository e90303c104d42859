"""What a run learns: one file for each task. `TASKS["mine"] = Task(...)` in an experiment file adds one."""

from pbl.config import Config
from pbl.data import DATA_SETTINGS, Data, load_data
from pbl.errors import InputError, Sentence, name_nearest
from pbl.tasks import anomaly, classification, contrast, detection, generation, own, segmentation
from pbl.tasks.task import Drawing, Judged, Question, Task

TASKS: dict[str, Task] = {
    "classification": classification.TASK,
    "anomaly": anomaly.TASK,
    "generation": generation.TASK,
    "segmentation": segmentation.TASK,
    "contrast": contrast.TASK,
    "detection": detection.TASK,
    "own": own.TASK,
}

__all__ = ["TASKS", "Drawing", "Judged", "Question", "Task", "find_task", "open_data"]


def find_task(config: Config) -> Task:
    """Returns the task that the settings name, with `best` and `options` from the settings.

    Raises:
        InputError: There is no such task or option (the nearest name is given).
    """
    task = TASKS.get(config.task)
    if task is None:
        raise InputError(
            "No task is called '{name}'. {nearest}", name=config.task, nearest=name_nearest(config.task, TASKS)
        )
    for option in config.task_options:
        if option not in task.options:
            nearest = name_nearest(option, task.options) if task.options else Sentence("It has no options.")
            raise InputError(
                "Task '{name}' has no option '{option}'. {nearest}", name=config.task, option=option, nearest=nearest
            )
    options = {**task.options, **config.task_options}
    monitor, mode = task.best(options) if callable(task.best) else task.best
    monitor, mode = options.get("monitor", monitor), options.get("mode", mode)
    if mode not in ("min", "max"):
        raise InputError("task_options.mode={mode}. Valid: min, max.", mode=mode)
    return task._replace(best=(monitor, mode), options=options)


def open_data(config: Config, source: str | None = None) -> Data:
    """Loads the data that a configuration names, or another source in the same form.

    Example:
        >>> from pbl import Config
        >>> from pbl.tasks import open_data
        >>> open_data(Config(dataset="digits")).input_shape
        (8, 8, 1)
    """
    task = find_task(config)
    return load_data(
        source or config.dataset,
        labels="int" if config.loss == "sparse_categorical_crossentropy" else "one_hot",
        **task.loads(task.options),
        **{name: getattr(config, name) for name in DATA_SETTINGS},
    )
