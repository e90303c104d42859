"""What a network looks at: filters, feature maps, Grad-CAM, attention, and its loss along the line of the training."""

from pbl import offer

# The file is gradcam, not grad_cam: a folder cannot offer a file and a function of the same name.
__getattr__, __dir__, __all__ = offer(
    __name__,
    {
        "run": "inspect_run",
        "gradcam": "grad_cam",
        "attention": "attention_maps",
        "filters": "feature_maps find_filters",
    },
)
