"""`export`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Option

from pbl.cli.options import AsJson, DataDir, NoCode, RunFolder, Trust, choose_code
from pbl.cli.screen import print_json, print_table, quiet_tensorflow
from pbl.languages import say, say_sentence


def export(
    run: RunFolder,
    format: Annotated[
        Literal["keras", "savedmodel", "litert", "onnx", "tfjs"],
        Option(
            "--format",
            help="For Keras, TensorFlow, LiteRT (phones and small computers: .tflite) or ONNX; tfjs cannot be written, and the reason is shown.",
        ),
    ],
    quantise: Annotated[
        Literal["int8", "float16"] | None,
        Option(
            help="Make the file smaller: LiteRT takes int8 and float16, ONNX int8. The accuracy before and after is reported."
        ),
    ] = None,
    out: Annotated[
        Path | None, Option(metavar="DIR", help="Folder for the files; by default export/ in the run.")
    ] = None,
    data_dir: DataDir = None,
    trust: Trust = False,
    no_code: NoCode = False,
    as_json: AsJson = False,
) -> int:
    """Write a run's best model for another runtime, read it back, and compare it with predict; a model card is written too."""
    choose_code([run], trust, no_code)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from pbl.runs import load_run

    opened = load_run(run)
    with quiet_tensorflow():
        from pbl.export.run import export_run

    def tell(line: str) -> None:
        print(say_sentence(line), file=sys.stderr, flush=True)

    made = export_run(opened, format, quantise=quantise, out=out, data_dir=data_dir, tell=tell)
    if as_json:
        print_json({**made.about, "path": str(made.file), "card": str(made.card)})
        return 0
    _show(made, opened)
    return 0


def _show(made: Any, run: Any) -> None:
    about = made.about
    policy, best = about["precision_of_run"], run.path / "best.keras"
    with_classes = "changed_classes" in about
    head = [say("File"), "MiB", say("latency of 1 image ms"), say("largest difference"), say("classes changed")]
    changed = f"{about['changed_classes']} / {about['compared_classes']}" if with_classes else ""

    def write(latency: dict[str, float]) -> str:
        return f"{latency['median']:.3g} ({latency['low']:.3g}–{latency['high']:.3g})"

    size = f"{best.stat().st_size / 2**20:.2f}" if best.exists() else ""
    of_keras = say("Keras, as predict computes it ({policy})", policy=policy)
    rows = [
        (of_keras, size, write(about["keras_latency_ms"]), "", ""),
        (
            made.file.name,
            f"{about['bytes'] / 2**20:.2f}",
            write(about["latency_ms"]),
            f"{about['largest_difference']:.2g}",
            changed,
        ),
    ]
    print_table(head if with_classes else head[:-1], rows if with_classes else [row[:-1] for row in rows])
    told = "Compared on {images} inputs: each number with the output of predict; latency is a median, with quartiles, on {cores} cores."
    print(say(told, images=about["compared"], cores=about["cores"]))
    if policy != "float32":
        told = "Compared with the same weights in float32 the largest difference is {difference:.2g}: this is the error of the file. The rest is the rounding of {policy}, in which the run computes."
        print(say(told, difference=about["largest_difference_from_float32"], policy=policy))
    if "accuracy" in about:
        _show_accuracy(about["accuracy"], about["quantise"])
    print(say("Written: {file}", file=f"{made.file}, {made.description.name}"))
    print(say("Model card: {file}. Add what only you know; your text is kept.", file=made.card))
    for heading in made.kept:
        print(say("The card was changed by hand below '{heading}': this part was not changed.", heading=heading))


def _show_accuracy(accuracy: dict[str, Any], kind: str) -> None:
    def write(side: str) -> str:
        low, high = accuracy[side]["interval"]
        return say("{value:.1%} ({low:.1%} to {high:.1%})", value=accuracy[side]["value"], low=low, high=high)

    low, high = accuracy["interval"]
    told = "Accuracy on {images:,} validation images (95% intervals): {before} before, {after} as {kind}."
    print(say(told, images=accuracy["images"], before=write("before"), after=write("after"), kind=kind))
    told = "Difference {difference:+.2f} points, {low:+.2f} to {high:+.2f} (95%, the same images; Newcombe's); only one right: {before} before, {after} after (McNemar's p = {p:.3f})."
    fields = {"before": accuracy["only_before"], "after": accuracy["only_after"], "p": accuracy["p"]}
    print(say(told, difference=100 * accuracy["difference"], low=100 * low, high=100 * high, **fields))
