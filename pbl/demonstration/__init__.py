"""A web page for trying a trained run: an image, a sketch, new images; `python -m pbl demo`, `pbl.demo(run)`.

`sketches` brings a drawing to the form of a training image, `answers` computes what runs say about an image, `page` shows it with Gradio,
`server` starts and stops it. Only the module that makes the page imports Gradio.
"""

from pbl import offer

# The folder is demonstration, not demo: `pbl` cannot offer a folder and a function of the same name.
__getattr__, __dir__, __all__ = offer(
    __name__, {"sketches": "fit_sketch read_ink", "answers": "OpenedRun open_run", "page": "", "server": "demo"}
)
