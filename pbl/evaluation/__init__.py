"""How good a trained model is: on the run's own splits, on other data, on single images."""

from pbl import offer

__getattr__, __dir__, __all__ = offer(
    __name__,
    {
        "run": "build_model evaluate evaluate_on load_model open_data predict predict_probabilities read_images",
        "metrics": "compute_metrics",
        "box_monitor": "BoxMonitor",
        "contrast_monitor": "ContrastMonitor",
        "gan_monitor": "GanMonitor",
        "mask_monitor": "MaskMonitor",
        "search": "search",
    },
)
