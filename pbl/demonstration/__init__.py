"""A web page on which a trained run is tried: an image, a sketch, new images; `python -m pbl demo`, `pbl.demo(run)`.

`sketches` brings a drawing to the form of a training image, `answers` says what runs make of an image, `page` shows it by Gradio,
`server` starts and ends it. Gradio is imported where the page is made, and nowhere else.
"""

from pbl import offer

# The folder is demonstration, not demo: `pbl` cannot offer a folder and a function of the same name.
__getattr__, __dir__, __all__ = offer(
    __name__, {"sketches": "fit_sketch read_ink", "answers": "OpenedRun open_run", "page": "", "server": "demo"}
)
