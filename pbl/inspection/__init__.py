"""What a network looks at: filters, feature maps, Grad-CAM, attention, its loss on the way."""

from pbl import offer

__getattr__, __dir__, __all__ = offer(__name__, {"run": "attention_maps grad_cam inspect_run"})
