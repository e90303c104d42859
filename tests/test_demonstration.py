"""The page for trying runs: its answers are those of `predict`, wrong input is reported in one line, a browser shows it all."""

import base64
import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import pbl
from pbl.demonstration import answers
from pbl.demonstration.answers import open_run
from pbl.demonstration.sketches import BOX, fit_sketch, read_ink
from pbl.errors import InputError
from pbl.evaluation.calibration import apply_temperature
from pbl.evaluation.mistakes import write_png

ROOT = Path(__file__).resolve().parent.parent


# Sketches


@pytest.mark.parametrize("size", [(28, 28), (8, 8), (32, 48)])
@pytest.mark.parametrize(
    "stroke", [[(30, 30, 60, 200)], [(200, 180, 390, 220)], [(10, 300, 380, 310), (10, 100, 40, 310)]]
)
def test_a_sketch_gets_the_form_of_mnist(size, stroke):
    """The box that it fills, and the position of its centre of mass, whatever was drawn and wherever."""
    picture = Image.new("L", (400, 400), 255)
    for box in stroke:
        ImageDraw.Draw(picture).rectangle(box, fill=0)
    drawn = fit_sketch(read_ink(np.asarray(picture)[..., None]), size)
    assert drawn.shape == (*size, 1) and drawn.dtype == np.uint8
    rows, columns = (np.flatnonzero(drawn[..., 0].any(axis=axis)) for axis in (1, 0))
    sides = np.array([np.ptp(rows) + 1, np.ptp(columns) + 1])
    boxes = np.array([round(side * BOX) for side in size])
    assert (sides <= boxes).all() and (sides == boxes).any()  # as large as the box allows
    left, top, right, bottom = np.array(stroke).T
    drawn_sides = np.array([bottom.max() - top.min() + 1, right.max() - left.min() + 1])
    assert (abs(sides - drawn_sides * (boxes / drawn_sides).min()) <= 1).all()  # its proportions are kept
    for axis, side in enumerate(size):
        weights = drawn[..., 0].sum(axis=1 - axis, dtype=float)
        centre = (weights * (np.arange(side) + 0.5)).sum() / weights.sum()
        is_at_border = (rows, columns)[axis][0] == 0 or (rows, columns)[axis][-1] == side - 1
        assert abs(centre - side * 14.5 / 28) <= 0.5 or is_at_border
    assert np.array_equal(fit_sketch(read_ink(np.asarray(picture)[..., None]), size, is_light=False), 255 - drawn)


def test_a_digit_of_mnist_comes_through_the_pad_as_it_was(shared_data):
    """An independent reference: digits that MNIST's makers fitted and centred, drawn large and anywhere on the pad, come back unchanged."""
    digits = np.load(shared_data / "mnist.npz")["x_test"][:200]
    same = 0
    for digit in digits:
        large = np.asarray(Image.fromarray(digit).resize((336, 336), Image.Resampling.NEAREST))
        moved = np.roll(np.pad(large, 60), (37, -21), axis=(0, 1))
        same += np.array_equal(fit_sketch(moved, (28, 28))[..., 0], digit)
    assert same >= 180, same  # about 45 if the centre were half a pixel off


def test_an_empty_sketch_is_told():
    with pytest.raises(InputError, match="The pad is empty"):
        fit_sketch(np.zeros((400, 400), np.uint8), (28, 28))


# Answers


@pytest.fixture(scope="module")
def opened(trained_run):
    return open_run(trained_run)


@pytest.fixture
def digit(tmp_path):
    """A file of another size than the run's, so that it must be cropped and scaled."""
    picture = Image.new("L", (60, 90))
    ImageDraw.Draw(picture).line([(20, 20), (40, 20), (25, 70)], fill=255, width=9)
    picture.save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


def test_the_page_says_what_predict_says(opened, trained_run, digit):
    """To the last bit; and its bars are these probabilities with the run's temperature applied."""
    answer = opened.ask(digit)
    table = pbl.predict(trained_run, digit)
    names = [f"p({name})" for name in opened.class_names]
    probabilities = table[names].to_numpy()
    assert answer.table[names].to_numpy().tobytes() == probabilities.tobytes()
    assert answer.seen.shape == (8, 8, 1)
    classes = opened.list_classes(answer)
    assert classes[0].name == table["class"].iloc[0] and len(classes) == 10
    temperature = trained_run.read_json("metrics_val.json")["calibration"]["temperature"]
    expected = dict(zip(opened.class_names, apply_temperature(probabilities, temperature)[0], strict=True))
    assert {one.name: one.calibrated for one in classes} == pytest.approx(expected) and temperature != 1


def test_a_sketch_and_an_example_go_the_way_of_predict(opened, trained_run, tmp_path):
    pytest.importorskip("gradio", reason="needs Gradio: pip install gradio")
    from pbl.demonstration.page import Responder

    responder = Responder([opened], tmp_path)
    stream = io.BytesIO()
    pad = Image.new("RGBA", (336, 336))
    ImageDraw.Draw(pad).line([(150, 60), (170, 280)], fill=(0, 0, 0, 255), width=24)
    pad.save(stream, "PNG")
    address = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    (problem, first), (_, second) = list(responder.see_sketch(address))
    (file,) = tmp_path.rglob("image.png")
    best = pbl.predict(trained_run, file)["class"].iloc[0]
    assert problem == "" and f'<p class="pbl-line">{best}</p>' in first and "Nearest of" in second
    marks = [mark for _, mark in responder.examples]
    assert marks[0].startswith("✗") and marks[-1].startswith("✓") and len(marks) == 8
    panel = list(responder.see_example(0))[-1][1]
    true, _, other = marks[0].removeprefix("✗ ").partition(" → ")
    assert true != other and f'<p class="pbl-line">{other}</p>' in panel


def test_the_nearest_training_image_of_one_is_itself(opened, tmp_path):
    """And the page says that the run was trained on it."""
    images = opened.data.images("train")
    (tmp_path / "known.png").write_bytes(write_png(images.pixels[5]))
    answer = opened.ask(tmp_path / "known.png")
    told, pictures = opened.find_neighbours(answer)
    assert pictures[0].png == write_png(images.pixels[5]) and pictures[0].caption.endswith("1.000")
    assert f"{len(images.labels):,}" in told and any("used to train the run" in note for note in answer.notes)


WRONG = {
    "paper.pdf": (b"%PDF-1.4\n%%EOF\n", "is not an image that can be read", "読める画像ではありません"),
    "text.png": (b"no image at all\n" * 9, "is not an image that can be read", "読める画像ではありません"),
    "empty.png": (b"", "is empty", "空"),
    "huge.png": (None, "100 million pixels, and this page accepts 60", "100 メガピクセル"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("language", ["en", "ja"])
def test_wrong_files_are_told_in_a_line(opened, tmp_path, name, language, monkeypatch):
    pytest.importorskip("gradio", reason="needs Gradio: pip install gradio")
    from pbl.demonstration.page import Responder

    monkeypatch.setenv("PBL_LANGUAGE", language)
    content, *said = WRONG[name]
    file = tmp_path / name
    if content is None:
        Image.new("1", (10_000, 10_000)).save(file)
    else:
        file.write_bytes(content)
    (answer,) = list(Responder([opened], tmp_path).see_image(str(file)))
    assert said[language == "ja"] in answer[0] and name in answer[0] and str(tmp_path) not in answer[0]
    assert answer[0].count("<p") == 1 and "\n" not in answer[0] and "pbl-line" not in answer[1]


@pytest.mark.parametrize(
    "sent", [None, "", "data:image/png;base64,###", "data:image/png;base64,aGVsbG8=", "file:///etc/passwd"]
)
def test_what_is_no_drawing_is_told(sent):
    pytest.importorskip("gradio", reason="needs Gradio: pip install gradio")
    from pbl.demonstration.page import read_pad

    with pytest.raises(InputError, match="not a drawing"):
        read_pad(sent)


def test_names_in_the_page_are_escaped(trained_run, tmp_path, digit, monkeypatch):
    pytest.importorskip("gradio", reason="needs Gradio: pip install gradio")
    from pbl.demonstration.page import make_panel, say_problem

    opened = open_run(trained_run)
    opened.class_names = [f"<script>{number}" for number in range(10)]
    opened.run.split["class_names"] = opened.class_names
    try:
        panel = make_panel(opened, opened.ask(digit))
    finally:
        del opened.run.__dict__["split"]
    assert "<script>" not in panel and "&lt;script&gt;" in panel
    assert "<img" not in say_problem(InputError("{name} is bad", name="<img src=x>"))


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"task": "anomaly", "model": "autoencoder", "task_options": {"normal": ["8"]}}, "score"),
        ({"task": "generation"}, None),
        ({"task": "contrast", "model": "simclr", "augmentation": {"crop": 1}}, "Nearest of"),
        ({"dataset": "shapes", "task": "segmentation", "model": "unet"}, "of the image that the network sees"),
    ],
)
def test_other_tasks_show_what_they_offer(tmp_path, digit, settings, shown):
    pytest.importorskip("gradio", reason="needs Gradio: pip install gradio")
    from pbl.demonstration.page import Responder

    if settings["task"] == "generation":
        settings = pbl.load_experiment(ROOT / "experiments" / "digits_gan.py").model_dump(exclude_defaults=True)
    if settings["task"] == "segmentation":
        settings = {**pbl.load_experiment(ROOT / "experiments" / "shapes_unet.py").model_dump(exclude_defaults=True), "train_fraction": 0.1}  # fmt: skip
    run = pbl.train(pbl.Config(**{**settings, "epochs": 1, "experiment": "other"}), folder=tmp_path)
    opened = open_run(run)
    responder = Responder([opened], tmp_path)
    if shown is None:
        problem, panel = responder.make_images(3, 7, None)
        assert problem == "" and panel.count("<img") == 3
        assert panel == responder.make_images(3, 7, None)[1] != responder.make_images(3, 8, None)[1]
        return
    assert len(responder.examples) == 8
    problem, panel = list(responder.see_image(str(digit)))[-1]
    assert problem == "" and shown in panel and panel.count("<img") >= 2, panel[:500]


# The command


def test_what_cannot_be_shown_is_told(trained_run, command, tmp_path, write_run, monkeypatch):
    status, _, error = command("demo", *[trained_run.path] * 5)
    assert status == 2 and "5 runs. Give one to 4" in error
    status, _, error = command("demo", trained_run.path, "--port", "70000")
    assert status == 2 and "--port 70000" in error
    status, _, error = command("demo", trained_run.path, "--trust", "--no-code")
    assert status == 2 and "not both" in error
    monkeypatch.setitem(sys.modules, "gradio", None)  # as if it were not installed
    status, _, error = command("demo", trained_run.path)
    assert status == 2 and error.strip().splitlines()[-1] == 'pbl: demo needs Gradio, which is not installed. Run: pip install "gradio"'  # fmt: skip
    run = pbl.load_run(write_run("own/001", None, task="own"))
    with pytest.raises(InputError, match="there is nothing to show"):
        answers.OpenedRun(run)


@pytest.mark.slow
def test_the_command_line_and_the_package_import_no_gradio():
    program = "import sys, pbl, pbl.cli, pbl.demonstration, pbl.evaluation.run; print('gradio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture(scope="module")
def serve(trained_run, tmp_path_factory):
    """Starts the command in a separate process; returns its address, its process and the folder of its temporary files."""
    pytest.importorskip("gradio", reason="needs Gradio: pip install gradio")
    started = []

    def start(language: str = "en") -> tuple[str, subprocess.Popen, Path]:
        folder = tmp_path_factory.mktemp("temporary")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "pbl", "demo", str(trained_run.path), "--port", str(port)], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
            env={**os.environ, "PBL_LANGUAGE": language, "TMPDIR": str(folder), "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        started.append(process)
        address, end = f"http://127.0.0.1:{port}/", time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                return address, process, folder
            except OSError:
                time.sleep(0.3)
        raise AssertionError(process.communicate()[1])

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(30)


def listens_on(port: int) -> set[str]:
    """The addresses on which this machine listens at a port, from the kernel."""
    found = set()
    for name, loopback in (("tcp", "0100007F"), ("tcp6", "0" * 24 + "01000000")):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                found.add("loopback" if local.startswith(loopback) else local)
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux, whose kernel tells who listens where")
def test_it_listens_here_alone_and_ends_cleanly(serve, trained_run, command):
    address, process, folder = serve()
    port = int(address.rstrip("/").rpartition(":")[2])
    assert listens_on(port) == {"loopback"}
    with urllib.request.urlopen(address) as page:
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    status, _, error = command("demo", trained_run.path, "--port", port)
    assert status == 2 and f"--port {port} is in use" in error.splitlines()[-1]
    kept = list(folder.glob("pbl-demo-*"))
    assert len(kept) == 1
    process.terminate()
    said, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error.strip().splitlines()[-1] == "pbl: stopped" and "Traceback" not in error
    assert said.splitlines()[1] == f"The page: {address}" and not list(folder.glob("pbl-demo-*"))


# The browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.slow
@pytest.mark.parametrize(("language", "width"), [("en", 1280), ("ja", 390)])
def test_the_page_in_a_browser(serve, browser, digit, tmp_path, language, width):
    """Upload, wrong files, an empty sketch, a sketch, the webcam refused, an example: lines in one language, and nothing loaded from elsewhere."""
    address, process, folder = serve(language)
    words = {
        "en": ("is not an image", "not an image that can be read", "The pad is empty", "The webcam cannot be used", "Ask the network"),
        "ja": ("画像ではありません", "読める画像ではありません", "何も描かれていません", "ウェブカメラを使えません", "ネットワークに聞く"),
    }[language]  # fmt: skip
    context = browser.new_context(
        viewport={"width": width, "height": 800}, locale={"en": "en-US", "ja": "ja-JP"}[language]
    )
    page = context.new_page()
    foreign = []

    def note(request) -> None:  # requests that the page's own policy stopped did not leave the browser
        if not (request.url.startswith((address, "data:", "blob:")) or request.failure == "csp"):
            foreign.append(request.url)

    page.on("requestfinished", note)
    page.on("requestfailed", note)
    page.goto(address)
    problem, line, tabs = page.locator(".pbl-problem:visible"), page.locator(".pbl-line"), page.get_by_role("tab")
    for name, said in (("paper.pdf", words[0]), ("text.png", words[1])):
        (tmp_path / name).write_bytes(WRONG[name][0])
        page.locator("input[type=file]").first.set_input_files(tmp_path / name)
        problem.filter(has_text=said).wait_for(timeout=30_000)
        assert problem.count() == 1
    page.reload()
    page.locator("input[type=file]").first.set_input_files(digit)
    line.wait_for(timeout=30_000)
    page.locator(".pbl-small img").nth(4).wait_for(timeout=30_000)  # the nearest training images
    assert problem.count() == 0 and len(list(folder.rglob("digit.png"))) == 1
    page.get_by_label("Capture from camera").first.click()
    page.get_by_text("Click to Access Webcam").first.click()
    problem.filter(has_text=words[3]).wait_for(timeout=30_000)
    tabs.nth(1).click()
    page.get_by_role("button", name=words[4]).click()
    problem.filter(has_text=words[2]).wait_for(timeout=30_000)
    box = page.locator("canvas.pbl-pad").bounding_box()
    for at, move in (((0.5, 0.2), False), ((0.5, 0.8), True)):
        page.mouse.move(box["x"] + at[0] * box["width"], box["y"] + at[1] * box["height"], steps=5)
        page.mouse.up() if move else page.mouse.down()
    page.get_by_role("button", name=words[4]).click()
    line.wait_for(timeout=30_000)  # there is none next to a problem
    assert problem.count() == 0 and line.inner_text() in set("0123456789")
    tabs.nth(2).click()
    page.locator(".pbl-gallery .thumbnail-item").first.click()
    page.wait_for_timeout(1500)
    assert line.count() == 1 and page.evaluate("document.documentElement.scrollWidth") <= width
    assert not foreign
    context.close()
    process.terminate()
    process.wait(60)
    assert not list(folder.rglob("digit.png"))
