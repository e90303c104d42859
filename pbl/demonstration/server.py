"""The server of the page: it listens on this machine alone, and leaves no file when it ends."""

import atexit
import contextlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pbl.errors import InputError, Sentence
from pbl.languages import say_sentence
from pbl.runs import Run, load_run

HOST = "127.0.0.1"
MOST_RUNS = 4  # shown side by side
# The page loads nothing from elsewhere and sends nothing there, even if Gradio's own pages ask for it.
POLICY = (
    b"default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline';"
    b" connect-src 'self' data: blob:"
)


class Page:
    """A page that is being served.

    Attributes:
        url: Its address.
    """

    def __init__(self, blocks: Any, folder: Path):
        self._blocks, self._folder = blocks, folder
        self.url: str = blocks.share_url or blocks.local_url

    def __repr__(self) -> str:
        return f"Page('{self.url}')"

    def close(self) -> None:
        """Ends the server, and removes what was uploaded."""
        if self._blocks is not None:
            with contextlib.suppress(Exception), _silence():  # the files are removed whatever Gradio raises
                self._blocks.close(verbose=False)
            self._blocks = None
        shutil.rmtree(self._folder, ignore_errors=True)


class _Guard:
    """Adds the policy to each answer of the server (ASGI)."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = [(b"content-security-policy", POLICY), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": [*message.get("headers", []), *policy]}
            await send(message)

        await self._app(scope, receive, send_guarded if scope["type"] == "http" else send)


_open: list[Page] = []  # the one page of this process: Gradio keeps uploads in one folder


def demo(
    *runs: str | Path | Run,
    share: bool = False,
    port: int | None = None,
    wait: bool = False,
    tell: Callable[[str], object] = lambda line: print(say_sentence(line), flush=True),
) -> Page:
    """Shows a web page for trying runs: an image, a sketch, validation images; for generation, new images.

    In a notebook the page is below the cell. It listens on this machine alone. Nothing is sent elsewhere, and uploads are
    removed when the page ends: by `close()`, by another call, or with the process. Needs Gradio, which Colab has.

    Args:
        *runs: One to four runs, or their folders, which are shown side by side. Their `experiment.py` is executed: show only runs that you
            trust.
        share: Whether Gradio makes a public link. Whoever has the link can use the page, for a week at most, and images that are uploaded
            pass through Gradio's servers.
        port: Where it listens; by default the first free one from 7860.
        wait: Whether to return only when the page ends, by Ctrl-C.
        tell: Called with lines about what happens.

    Returns:
        The page: `page.url`, `page.close()`.

    Raises:
        InputError: A run is incomplete, or has nothing to show; Gradio is missing; the port is taken; there is no public link.

    Example:
        >>> import pbl
        >>> page = pbl.demo("runs/mine/001")  # doctest: +SKIP
    """
    if not 1 <= len(runs) <= MOST_RUNS:
        raise InputError(
            "demo: {n} runs. Give one to {most} runs, which are shown side by side.", n=len(runs), most=MOST_RUNS
        )
    if port is not None and not 1 <= port <= 65535:
        raise InputError("--port {port}: a number from 1 to 65535, such as 7860.", port=port)
    loaded = [load_run(run) for run in runs]
    for run in loaded:
        run.check_code()
    _import_gradio()
    from pbl.demonstration.answers import open_run

    with _quiet():
        opened = [open_run(run, tell) for run in loaded]
    if len({run.generates for run in opened}) > 1:
        raise InputError("demo: some of these runs generate images, and others classify yours. Show them separately.")
    for page in [*_open]:
        _close(page)
    page = _start(opened, share, port)
    _open.append(page)
    tell(Sentence("The page: {url}", url=page.url))
    if share:
        tell(
            Sentence(
                "Anyone who has this link can use the page, for a week at most or until you end it here; the images given to it go through servers "
                "of Gradio."
            )
        )
    if wait:
        tell(Sentence("Ctrl-C ends it; then the uploaded images are removed."))
        try:
            threading.Event().wait()
        finally:
            _close(page)
    return page


def _close(page: Page) -> None:
    page.close()
    if page in _open:
        _open.remove(page)


@atexit.register
def _close_all() -> None:
    for page in [*_open]:
        _close(page)


def _import_gradio() -> None:
    """Imports Gradio, with its usage reports switched off; raises InputError if it is missing."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "gradio":
            raise
        raise InputError('demo needs Gradio, which is not installed. Run: pip install "gradio"') from None


def _start(runs: list[Any], share: bool, port: int | None) -> Page:
    folder = Path(tempfile.mkdtemp(prefix="pbl-demo-"))
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # Gradio reads it at each upload
    try:
        from starlette.middleware import Middleware

        from pbl.demonstration.page import LARGEST_FILE, build_page

        blocks, look = build_page(runs, folder)
        with _silence():
            blocks.launch(
                server_name=HOST,
                server_port=port,
                share=share,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=LARGEST_FILE,
                ssr_mode=False,  # no second server
                enable_monitoring=False,
                app_kwargs={"middleware": [Middleware(_Guard)]},
                **look,
            )
    except OSError as error:  # Gradio raises it if it may not listen
        shutil.rmtree(folder, ignore_errors=True)
        if port is not None:
            raise InputError("--port {port} is in use, or not allowed. Give another, or none.", port=port) from None
        raise InputError("No port can be used for the page: {reason}", reason=str(error)) from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    page = Page(blocks, folder)
    if share and not blocks.share_url:
        page.close()
        raise InputError(
            "Gradio's server gave no public link: is there a network, and does it allow Gradio? Without --share the page is for this machine only."
        )
    return page


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps a notebook free of TensorFlow's warnings that several models, used one after another, are traced one after another."""
    log = logging.getLogger("tensorflow")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hides what Gradio prints about itself; a notebook's frame is not printed text."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        yield
