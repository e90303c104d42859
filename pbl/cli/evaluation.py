"""Commands for one run: `evaluate`, `predict`, `search`, `generate`, `diagnose`, `inspect`, `demo`."""

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from pbl.cli.options import (
    AsJson,
    DataDir,
    LanguageOption,
    NoCode,
    RunFolder,
    Split,
    Trust,
    check_file,
    choose_code,
    parse_requirements,
)
from pbl.cli.screen import format_number, open_console, print_json, print_table, quiet_tensorflow
from pbl.errors import InputError, Sentence
from pbl.languages import choose_screen_language, say, say_sentence
from pbl.languages.forms import format_share
from pbl.languages.wrapping import wrap
from pbl.storage.escapes import for_json, for_screen

BOX_COLUMNS = {
    "score": ".3f",
    "left": ".1f",
    "top": ".1f",
    "right": ".1f",
    "bottom": ".1f",
}  # with the format in which they are shown
MOST_CLASSES, MOST_WORST = 40, 20  # classes in the table; with more it has the worst


def evaluate(
    run: RunFolder,
    split: Annotated[Split, Option(help="Which split. Each use of test is recorded in the run.")] = "val",
    data: Annotated[
        str | None,
        Option(metavar="SOURCE", help="Another data set with the same classes, instead of the data of the run."),
    ] = None,
    data_dir: DataDir = None,
    positive_class: Annotated[
        str | None,
        Option(metavar="NAME", help="With two classes: the class whose precision, recall and F1 are shown first."),
    ] = None,
    aim: Annotated[
        str,
        Option(
            "--aim",  # typer 0.27 would use a metavar that spells the name as the name: --AIM
            metavar="AIM",
            help="With two classes: the aim of the threshold, on validation: f1, youden, recall>=0.95, precision>=0.9, or cost=1:5 (of a false positive : a false negative).",
        ),
    ] = "f1",
    require: Annotated[
        list[str] | None,
        Option(
            metavar='"METRIC>=NUMBER"',
            help="Exit with status 1 unless this is true, such as accuracy>=0.9 or macro.f1>0.8.",
        ),
    ] = None,
    trust: Trust = False,
    no_code: NoCode = False,
    as_json: AsJson = False,
) -> int:
    """Evaluate a run's best model: metrics with confidence intervals, confusion matrix."""
    choose_code([run], trust, no_code)
    from pbl.evaluation.thresholds import parse_aim
    from pbl.runs import load_run

    requirements = parse_requirements(require)
    chosen_for = parse_aim(aim)
    opened = load_run(run)
    if requirements:
        from pbl.evaluation.metrics import check_metric_name, find_metric
    if requirements and opened.config.is_classifier:
        for wanted in requirements:  # a slip must not cost a use of the test split
            check_metric_name(wanted.name, opened.split["class_names"])
    with quiet_tensorflow():
        from pbl.evaluation import run as evaluation
    result = evaluation.evaluate(
        opened, split, source=data, data_dir=data_dir, positive_class=positive_class, aim=chosen_for
    )
    judged = result.get("metrics", result)  # for a task other than classification: Keras's metrics
    outcomes = [wanted.judge(find_metric(judged, wanted.name)) for wanted in requirements]
    if as_json:
        print_json({**result, "requirements": outcomes})
    else:
        _show_metrics(result)
        for wanted in outcomes:
            told = (
                "holds: {requirement} (is {value:.4f})" if wanted["holds"] else "FAILS: {requirement} (is {value:.4f})"
            )
            print(say(told, **wanted))
    return 0 if all(wanted["holds"] for wanted in outcomes) else 1


def _show_metrics(result: dict[str, Any]) -> None:
    from pbl.evaluation.metrics import rank_worst

    which = {"all": Sentence("all images"), "val": Sentence("validation split"), "test": Sentence("test split")}
    told = "{run} on {source}, {which}, model of epoch {epoch}"
    split, epoch = which[result["split"]], result["best_epoch"] or "?"
    print(say(told, run=result["run"], source=result["source"], which=split, epoch=epoch))
    if result["status"] != "finished":
        print(say("The run is not finished: its status is '{status}'.", status=result["status"]))
    if result["split"] == "test" and result["test_uses"] == 1:
        print(say("This run has used the test split once."))
    elif result["split"] == "test":
        told = "This run has used the test split {count} times: the best of several results is too good to be true."
        print(say(told, count=result["test_uses"]))
    if result["copies_in_train"]:
        told = (
            "{copies:,} of these images are in the training images too: the result is likely better than on new images."
        )
        print(say(told, copies=result["copies_in_train"]))
    if missing := result.get("missing_classes"):
        told = "No image is of {names}. Accuracy and recall are computed over the other classes; a metric that needs images of all classes is undefined."
        print(say(told, names=", ".join(missing)))
    if "promise" in result:
        _show_anomalies(result)
        return
    if "baselines" in result:
        _show_generation(result)
        return
    if "contrast" in result:
        _show_contrast(result)
        return
    if "boxes" in result:
        _show_boxes(result)
        return
    if "metrics" in result:
        print_table([say("metric"), say("value")], _list_own_metrics(result))
        if "masks" in result:
            _show_masks(result)
        return
    print_table([say("metric"), say("value"), ""], _list_metrics(result))
    _show_what_validation_chose(result)
    names = result["class_names"]
    shown = names if len(names) <= MOST_CLASSES else rank_worst(result["by_class"], MOST_WORST)
    if len(shown) < len(names):
        told = "The {n} of {all:,} classes with the lowest F1; metrics_{split}.json has all."
        print(say(told, n=len(shown), all=len(names), split=result["split"]))
    rows = [(name, result["by_class"][name]) for name in shown]
    by_class = [
        (name, *(format_number(row[key]) for key in ("precision", "recall", "f1")), f"{row['images']:,}")
        for name, row in rows
    ]
    print_table([say(title) for title in ("class", "precision", "recall", "F1", "images")], by_class)
    if len(names) <= 20:
        print(say("Confusion matrix: rows are true classes, columns predicted ones."))
        counts = [(name, *map(str, row)) for name, row in zip(names, result["confusion_matrix"], strict=True)]
        print_table([say("true \\ predicted"), *names], counts)
    elif result["most_confused"]:
        print(say("Classes that are confused most often:"))
        pairs = [
            (pair["true"], pair["predicted"], f"{pair['images']:,}", format_share(pair["share"], ".0%"))
            for pair in result["most_confused"]
        ]
        print_table([say(title) for title in ("class", "predicted as", "images", "share of the class")], pairs)


def _list_own_metrics(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and value of Keras's metrics, for a task other than classification."""
    metrics = [(name, format_number(value)) for name, value in result["metrics"].items()]
    return metrics or [(say("none: the model has no test_step and no compute_loss"), "")]


def _show_masks(result: dict[str, Any]) -> None:
    """Prints what `pbl.tasks.segmentation.judge` found for each class, and the baselines without a network."""
    rows = [_list_mask(of) for of in result["masks"]["classes"]]
    if (chosen := result["threshold"]) is not None:
        rows.append((say("from {threshold:.3f} on", threshold=chosen["value"]), *_list_mask(chosen)[1:]))
    titles = ("class", "Dice", "95% interval", "pooled", "regions", "false", "false images")
    print_table([say(title) for title in titles], rows)
    told = "Pooled: Dice of all pixels together. Regions: the share of all regions that is found, and the false ones. False images: the share of the images without the class in which it is found."
    print(say(told))
    if chosen is not None:
        told = "A pixel gets its most likely class; in the last line it is marked from the probability on that validation chose."
        print(say(told))
    names = {"background": "all background", "mean_mask": "the mean mask", "brightness": "brightness and a threshold"}
    rows = [(say(names[of["name"]]), format_number(of["dice"])) for of in result["without_network"]]
    print_table([say("without a network"), "Dice"], rows)


def _list_mask(of: dict[str, Any]) -> tuple[str, ...]:
    dice = of["dice"]
    return (
        of["name"],
        format_number(dice["value"]),
        _say_interval(dice["low"], dice["high"]),
        format_number(of["pooled_dice"]),
        f"{of['found_regions']:,} / {of['regions']:,}",
        f"{of['false_regions']:,}",
        f"{of['false_images']:,} / {of['empty_images']:,}",
    )


def _show_boxes(result: dict[str, Any]) -> None:
    """Prints what `pbl.tasks.detection.judge` found: how well boxes are ranked, and the results at the threshold."""
    from pbl.diagnosis.detection import BASELINE_NAMES

    of = result["boxes"]
    rows = [
        ("mAP50", format_number(of["map50"]), _say_interval(*(of["map50_interval"] or (None, None)))),
        ("mAP75", format_number(of["map75"]), ""),
        ("mAP", format_number(of["map"]), ""),
    ]
    if (shown := of["at_threshold"]) is not None:
        rows += [
            (say("right count"), format_number(shown["right_count"]), _say_interval(*shown["right_count_interval"])),
            (say("share of the shown boxes that is right"), format_number(shown["precision"]), ""),
            (say("share of the objects that is found"), format_number(shown["recall"]), ""),
            (say("boxes too many or too few, mean per image"), f"{shown['count_error']:.2f}", ""),
        ]
        if shown["empty"]:
            told = f"{shown['empty_with_boxes']:,} / {shown['empty']:,}"
            rows.append((say("images without an object in which one is shown"), told, ""))
    print_table([say("measure"), say("value"), say("95% interval")], rows)
    told = "mAP50: average precision at an IoU of .5, mean over classes; it ranks boxes over all thresholds, and does not count them."
    print(say(told))
    if shown is not None:
        told = "The other columns: at the threshold of {threshold:.3f} that validation chose. Right count: the number of objects of each class is right."
        print(say(told, threshold=shown["threshold"]))
    classes = sorted(of["classes"], key=lambda one: -1 if one["ap50"] is None else one["ap50"])[:MOST_CLASSES]
    rows = [
        (one["name"], format_number(one["ap50"]), format_number(one["ap"]), f"{one['boxes']:,}", f"{one['images']:,}")
        for one in classes
    ]
    print_table([say("class"), "AP50", "AP", say("boxes"), say("images")], rows)
    rows = [(say(BASELINE_NAMES[one["name"]]), format_number(one["map50"])) for one in result["without_network"]]
    print_table([say("without a network"), "mAP50"], rows)


def _show_contrast(result: dict[str, Any]) -> None:
    """Prints what `pbl.tasks.contrast.judge` found: each number next to those of the controls."""
    from pbl.diagnosis.contrast import CONTROL_NAMES
    from pbl.evaluation.contrast_figures import ARM_NAMES

    found = result["contrast"]
    levels = found["levels"]
    if levels:
        told = "Accuracy on {images:,} images by the number of labels; the features were learned from {all:,} training images."
        print(say(told, images=result["images"], all=found["training_images"]))
        if found["supervised"]:
            print(say("The features were learned with all labels, so they do not show how well a few labels work."))
        keys = [(of["name"], of["way"]) for of in levels[0]["arms"]]
        rows = [
            (
                say(ARM_NAMES[key]),
                *(
                    format_number(of["accuracy"])
                    for level in levels
                    for of in level["arms"]
                    if (of["name"], of["way"]) == key
                ),
            )
            for key in keys
        ]
        print_table([say("labels"), *(f"{level['labels']:,}" for level in levels)], rows)
        rows = [
            (
                f"{level['labels']:,}",
                say(CONTROL_NAMES[of["name"], of["way"]]),
                f"{of['value']:+.4f}",
                _say_interval(of["low"], of["high"]),
            )
            for level in levels
            for of in level["differences"]
        ]
        print_table(
            [say("labels"), say("the encoder's regression, compared with"), say("difference"), say("95% interval")],
            rows,
        )
    if (pairs := found["pairs"]) is not None:
        told = "{same:,} pairs of the same class and {different:,} of different ones, {classes:,} classes; intervals over classes."
        if found["identities"]:
            told = "{same:,} pairs of the same identity and {different:,} of different ones, {classes:,} identities that were not trained on; intervals over identities."
        print(say(told, same=pairs["same"], different=pairs["different"], classes=pairs["classes"]))
        names = {
            "eer": "equal error rate",
            "true_at_1": "accepted at 1% false acceptance",
            "true_at_01": "accepted at 0.1% false acceptance",
        }
        rows = [
            (say(names[name]), format_number(value), _say_interval(*pairs["intervals"].get(name, (None, None))))
            for name, value in pairs["metrics"].items()
        ]
        for of in found["pair_controls"]:
            difference = _say_interval(of["low"], of["high"])
            rows.append(
                (
                    say("equal error rate: {name}", name=Sentence(CONTROL_NAMES[of["name"], "pairs"])),
                    format_number(of["eer"]),
                    say("difference {interval}", interval=difference) if difference else "",
                )
            )
        print_table([say("measure"), say("value"), say("95% interval")], rows)
        if not pairs["is_chosen_here"]:
            rows = [
                (
                    say(names[name]),
                    f"{pairs['thresholds'][name]:.4f}",
                    format_number(of["false"]),
                    format_number(of["true"]),
                )
                for name, of in pairs["at_thresholds"].items()
            ]
            titles = ("threshold of validation", "cosine", "different pairs accepted", "same pairs accepted")
            print_table([say(title) for title in titles], rows)
    print(say("Spread of the embeddings: {spread:.3f} (1: all directions alike; 0: one point)", spread=found["spread"]))


def _show_generation(result: dict[str, Any]) -> None:
    """Prints what `pbl.tasks.generation.judge` found: each number next to that of other real images."""
    from pbl.diagnosis.generation import BASELINE_NAMES

    of, floor = result["samples"], result["floor"]
    told = "{samples:,} generated images compared with {images:,} real ones; the judge was trained on neither"
    print(say(told, samples=of["samples"], images=result["real_images"]))
    rows = [
        ("KID x 1000", f"{of['kid']:.2f}", f"{floor['kid']:.2f}"),
        (say("precision"), format_number(of["precision"]), format_number(floor["precision"])),
        (say("recall"), format_number(of["recall"]), format_number(floor["recall"])),
        (say("judge is unsure"), format_number(of["unsure"]), format_number(floor["unsure"])),
        (say("copies of training images"), format_number(of["copies"]), format_number(of["copies_of_real"])),
    ]
    if (right := result["metrics"].get("right_class")) is not None:
        rows.append((say("of the class that was asked for"), format_number(right), format_number(floor["right"])))
    print_table([say("measure"), say("generated"), say("other real images")], rows)
    print_table(
        [say("without a network"), "KID x 1000"],
        [(say(BASELINE_NAMES[name]), f"{kid:.2f}") for name, kid in result["baselines"].items()],
    )
    if result["classes"] and len(result["classes"]) <= MOST_CLASSES:
        shares = [
            (name, f"{count:,}", f"{of['samples'] * real / max(sum(of['real_counts']), 1):.0f}")
            for name, count, real in zip(result["classes"], of["counts"], of["real_counts"], strict=True)
        ]
        print_table([say("class"), say("generated"), say("expected")], shares)


def _show_anomalies(result: dict[str, Any]) -> None:
    """Prints what `pbl.tasks.anomaly.judge` found."""
    from pbl.diagnosis.anomalies import BASELINE_NAMES
    from pbl.reports.run_report import OF_TASKS

    if result["leak"]:
        told = "LEAK: the data doctor reports {items} images as copies of others. These numbers are likely too good."
        print(say(told, items=result["leak"]["items"]))
    told = "{images:,} images, {normal:,} of them normal"
    print(say(told, images=result["images"], normal=result["normal_images"]))
    intervals = result["intervals"]
    rows = [
        (say(OF_TASKS[name]), format_number(value), _say_interval(*intervals.get(name, (None, None))))
        for name, value in result["metrics"].items()
    ]
    print_table([say("metric"), say("value"), say("95% interval")], rows)
    if result["metrics"]["average_precision"] is not None:
        share = 1 - result["normal_images"] / result["images"]
        print(say("By chance the average precision is {share:.4f}, the share of anomalies.", share=share))
    _show_promise(result)
    if result["baselines"]:
        rows = [
            (
                say("this network"),
                format_number(result["metrics"]["roc_auc"]),
                _say_interval(*intervals.get("roc_auc", (None, None))),
            )
        ]
        rows += [
            (say(BASELINE_NAMES[of["name"]]), format_number(of["roc_auc"]), _say_interval(of["low"], of["high"]))
            for of in result["baselines"]
        ]
        print_table([say("without a network"), "AUROC", say("95% interval")], rows)
        difference = result["difference"]
        told = "This network minus {baseline}, the best of them on these images: {value:+.4f} (95% interval {low:+.4f} to {high:+.4f})."
        if difference["low"] is not None:
            print(say(told, **{**difference, "baseline": Sentence(BASELINE_NAMES[difference["baseline"]])}))
    if result["kinds"]:
        rows = [
            (
                kind["name"],
                f"{kind['images']:,}",
                format_number(kind["roc_auc"]),
                _say_interval(kind.get("low"), kind.get("high")),
                format_number(kind.get("found")),
            )
            for kind in sorted(result["kinds"], key=lambda kind: (kind["roc_auc"] is None, kind["roc_auc"]))
        ]
        header = (say("kind of anomaly"), say("images"), "AUROC", say("95% interval"), say("found"))
        print_table(header, rows)


def _say_interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else say("{low:.4f} to {high:.4f}", low=low, high=high)


def _show_promise(result: dict[str, Any]) -> None:
    promise = result["promise"]
    if promise is None:
        print(say("No threshold: the results of validation are missing. First: python -m pbl evaluate RUN"))
        return
    if promise["threshold"] is None:
        told = "No threshold: with {images} normal validation {images:image|images} {asked_percent:g}% false alarms cannot be promised."
        print(say(told, images=promise["images"], asked_percent=100 * promise["asked"]))
        return
    told = "The threshold {threshold:.4g} was chosen on {images} normal validation images. On average at most {asked_percent:g}% of normal images are false alarms; for this particular threshold the share may be {low:.1%} to {high:.1%} (95% interval)."
    print(say(told, **promise, asked_percent=100 * promise["asked"]))
    if "is_kept" in promise:
        told = (
            "{found:.1%} are false alarms here, and {expected_low:.1%} to {expected_high:.1%} were expected: {verdict}."
        )
        verdict = Sentence("the promise is kept") if promise["is_kept"] else Sentence("the promise is NOT kept")
        if not promise["is_kept"] and result["metrics"]["false_alarms"] < promise["expected_low"]:
            verdict = Sentence("fewer than that")
        print(say(told, found=result["metrics"]["false_alarms"], verdict=verdict, **promise))


def _list_metrics(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Title, value and explanation of each metric."""
    intervals, calibration = result["intervals"], result["calibration"]

    def row(title: str, name: str, value: float | None, what: str) -> tuple[str, str, str]:
        if name in intervals:
            low, high = intervals[name]
            what += say(", 95% interval {low:.4f} to {high:.4f} (jackknife)", low=low, high=high)
        return title, format_number(value), what

    rows = []
    if "positive" in result:
        positive = result["positive"]
        of_class = say("of '{name}', the positive class", name=positive["class"])
        rows += [(say(key), format_number(positive[key]), of_class) for key in ("precision", "recall", "f1")]
    low, high = result["accuracy_interval"]
    of_accuracy = say(
        "95% interval {low:.4f} to {high:.4f} (Wilson), {images:,} images", low=low, high=high, images=result["images"]
    )
    rows.append((say("accuracy"), format_number(result["accuracy"]), of_accuracy))
    balanced = result["balanced_accuracy"]
    rows.append(row(say("balanced accuracy"), "balanced_accuracy", balanced, say("mean recall of classes")))
    for key, value in result["macro"].items():
        rows.append(row(say("macro {metric}", metric=Sentence(key)), f"macro.{key}", value, say("mean over classes")))
    for k, value in result["top_k_accuracy"].items():
        rows.append((say("top-{k} accuracy", k=k), format_number(value), ""))
    mean, high = calibration["ece_if_calibrated"], calibration["ece_if_calibrated_high"]
    of_calibration = "calibration error; for a calibrated model {mean:.4f}, up to {high:.4f}"
    return [
        *rows,
        row("ROC AUC", "roc_auc", result["roc_auc"], say("one class against the rest, mean")),
        row("PR AUC", "average_precision", result["average_precision"], say("average precision, likewise")),
        row(say("log loss"), "log_loss", result["log_loss"], say("nats")),
        row(say("Brier score"), "brier", result["brier"], say("0 to 2")),
        ("ECE", format_number(calibration["ece"]), say(of_calibration, mean=mean, high=high)),
    ]


def _show_what_validation_chose(result: dict[str, Any]) -> None:
    from pbl.evaluation.calibration import TEMPERATURES
    from pbl.evaluation.thresholds import write_threshold

    calibration, threshold = result["calibration"], result.get("threshold")
    itself = Sentence("on these same images") if result["split"] == "val" else Sentence("on validation")
    if "temperature" in calibration:
        is_off = calibration["ece"] > calibration["ece_if_calibrated_high"]
        fields = {
            "verdict": Sentence("not calibrated")
            if is_off
            else Sentence("as well calibrated as these images can show"),
            "temperature": calibration["temperature"],
            "ece": calibration["ece_after"],
            "loss": calibration["log_loss_after"],
        }
        if calibration["temperature"] == 1:
            told = "Confidence: {verdict}. No temperature was fitted: no value between {lowest:g} and {highest:g} has the lowest log loss {itself}, for example without a mistake there."
            print(say(told, itself=itself, verdict=fields["verdict"], lowest=TEMPERATURES[0], highest=TEMPERATURES[1]))
        else:
            told = "Confidence: {verdict}. With the temperature {temperature:.2f}, fitted {itself}: ECE {ece:.4f}, log loss {loss:.4f}."
            print(say(told, itself=itself, **fields))
        lowest, highest = TEMPERATURES
        if not 1.01 * lowest < calibration["temperature"] < highest / 1.01:
            told = "This temperature is the end of the searched range, {lowest:g} to {highest:g}: no best temperature was found."
            print(say(told, lowest=lowest, highest=highest))
    if threshold is None:
        return
    if threshold["value"] is None:
        print(say("Threshold: no threshold reaches {aim} on validation.", aim=threshold["aim"]))
        return
    low, high = threshold["interval"]
    half = Sentence("0.5 may be as good") if low <= 0.5 <= high else Sentence("0.5 is outside it")
    value = write_threshold(threshold["value"])
    told = "Threshold: {value} was chosen {itself} for {aim} (95% interval {low:.2f} to {high:.2f}: {half})."
    print(say(told, aim=threshold["aim"], value=value, itself=itself, low=low, high=high, half=half))
    shown = ("precision", "recall", "f1", "accuracy", "cost")
    rows = [
        (say("threshold {value}", value=value), *(format_number(threshold[key][name]) for name in shown))
        for value, key in (("0.50", "at_half"), (value, "at_threshold"))
    ]
    print_table(["", *(say(name) for name in shown)], rows)


def predict(
    run: RunFolder,
    images: Annotated[list[str], Argument(metavar="IMAGE_OR_FOLDER", help="Image files, or folders of them.")],
    csv: Annotated[
        Path | None, Option(metavar="FILE", help="Write the table, with every class's probability, to this file.")
    ] = None,
    maps: Annotated[
        Path | None,
        Option(
            metavar="FOLDER",
            help="Write a picture of each image to this folder: for anomaly detection where the error is, for segmentation what is marked and the mask, for detection the boxes.",
        ),
    ] = None,
    trust: Trust = False,
    no_code: NoCode = False,
    as_json: AsJson = False,
) -> int:
    """Predict the class of image files; for other tasks their score, what is marked or found, or which images are alike."""
    choose_code([run], trust, no_code)
    from pbl.runs import load_run
    from pbl.storage.writing import write_table

    opened = load_run(run)
    if csv is not None and not csv.name:
        raise InputError("--csv needs the name of a file.")
    if csv is not None and not csv.parent.is_dir():
        wrong = "The folder {folder} does not exist. Make it first, or give another file after --csv."
        raise InputError(wrong, folder=csv.parent)
    with quiet_tensorflow():
        from pbl.evaluation import run as evaluation
    left_out: list[str] = []
    notes: list[str] = []
    table = evaluation.predict(opened, images, tell=left_out.append, note=notes.append, maps=maps)
    if csv is not None:
        write_table(csv, table, encoding="utf-8-sig")  # its byte order mark tells Excel that it is UTF-8
    if as_json:
        _print_records(table)
    elif "cosine" in table:
        print_table(
            [say("image"), say("most like it"), *_name_likeness(table)],
            [(row["file"], row["other"], *_list_likeness(row)) for row in table.to_dict("records")],
        )
    elif "left" in table:
        rows = [
            (
                row["file"],
                say("nothing found") if row["class"] is None else row["class"],
                *("" if row["class"] is None else f"{row[name]:{form}}" for name, form in BOX_COLUMNS.items()),
            )
            for row in table.astype({"class": object}).where(table["class"].notna(), None).to_dict("records")
        ]
        print_table([say("image"), say("class"), say("score"), *(say(name) for name in list(BOX_COLUMNS)[1:])], rows)
    elif "score" in table:
        rows = [
            (file, f"{score:.4g}", f"{above:.1%}", say("ALARM") if alarm else "")
            for file, score, above, alarm in table.itertuples(index=False, name=None)
        ]
        print_table([say("image"), say("score"), say("of normal images below"), say("alarm")], rows)
    elif "class" not in table:
        rows = [
            [row[0], *(f"{value:,}" if isinstance(value, int) else format_number(value) for value in row[1:])]
            for row in table.itertuples(index=False, name=None)
        ]
        print_table([say("image"), *table.columns[1:]], rows)
    else:
        found = table.iloc[:, :3].itertuples(index=False, name=None)
        rows = [(file, name, f"{probability:.4f}") for file, name, probability in found]
        print_table([say("image"), say("class"), say("probability")], rows)
    return _tell_left_out(notes, left_out)


def _print_records(table: Any) -> None:
    print(for_json(table.to_json(orient="records", force_ascii=False, indent=1, double_precision=10)))


def _tell_left_out(notes: list[str], left_out: list[str]) -> int:
    """Prints the notes on the images that were read, and returns the exit status."""
    for line in (*notes, *left_out):
        print(f"pbl: {say_sentence(line)}", file=sys.stderr)
    return 1 if left_out else 0


def _name_likeness(table: Any) -> list[str]:
    return [say("cosine"), *([say("of different pairs below"), say("the same?")] if "same" in table else [])]


def _list_likeness(row: dict[str, Any]) -> list[str]:
    """The cells of the columns that `_name_likeness` names."""
    of_pairs = [f"{row['above']:.1%}", say("same") if row["same"] else say("different")] if "same" in row else []
    return [f"{row['cosine']:.4f}", *of_pairs]


def search(
    run: RunFolder,
    images: Annotated[
        list[str],
        Argument(metavar="IMAGE_OR_FOLDER", help="The images to search for: image files, or folders of them."),
    ],
    among: Annotated[
        list[str], Option("--in", metavar="FOLDER", help="The images to search in; may be given several times.")
    ],
    most: Annotated[int, Option(help="The number of images found for each image.")] = 5,
    csv: Annotated[Path | None, Option(metavar="FILE", help="Write the table to this file.")] = None,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="Draw them in this .png: a row for each of the first 8 images.")
    ] = None,
    trust: Trust = False,
    no_code: NoCode = False,
    as_json: AsJson = False,
) -> int:
    """Find the images of a folder that are most like others, with a run that learned by contrast (task=contrast)."""
    choose_code([run], trust, no_code)
    from pbl.runs import load_run
    from pbl.storage.writing import write_table

    opened = load_run(run)
    check_file("--csv", csv, (".csv",))
    check_file("--out", out, (".png",))
    with quiet_tensorflow():
        from pbl.evaluation import search as found
    left_out: list[str] = []
    notes: list[str] = []
    table = found.search(opened, images, among, most, picture=out, tell=left_out.append, note=notes.append)
    if csv is not None:
        write_table(csv, table, encoding="utf-8-sig")  # its byte order mark tells Excel that it is UTF-8
    if as_json:
        _print_records(table)
    else:
        rows = [(row["file"], str(row["rank"]), row["found"], *_list_likeness(row)) for row in table.to_dict("records")]
        print_table([say("image"), say("rank"), say("found image"), *_name_likeness(table)], rows)
    return _tell_left_out(notes, left_out)


def generate(
    run: RunFolder,
    count: Annotated[int, Option(help="The number of images.")] = 64,
    seed: Annotated[
        int | None, Option(help="Seed of the noise: the same seed gives the same images; 0 by default.")
    ] = None,
    label: Annotated[
        str | None, Option(metavar="CLASS", help="The class to generate, if the run was trained with conditional=true.")
    ] = None,
    out: Annotated[
        Path | None,
        Option(
            metavar="PATH",
            help="A .png (a grid), a .npz (the pixels), or a folder (one file per image). Default: generated.png.",
        ),
    ] = None,
    trust: Trust = False,
    no_code: NoCode = False,
    as_json: AsJson = False,
) -> int:
    """Generate images with a run that learned to do so (task=generation)."""
    choose_code([run], trust, no_code)
    from pbl.runs import load_run

    opened = load_run(run)
    if opened.config.task != "generation":
        raise InputError(
            "generate needs a run of task=generation; the run {run} has task={task}. Train one:"
            " python -m pbl train experiments/digits_gan.py",
            run=opened.path,
            task=opened.config.task,
        )
    with quiet_tensorflow():
        from pbl.evaluation import run as evaluation
        from pbl.evaluation.generation_figures import write_images
        from pbl.tasks import generation
    out = Path("generated.png") if out is None else out
    images = generation.generate(opened, evaluation.load_model(opened), count, seed or 0, label)
    files = write_images(images, out, opened.name)
    if as_json:
        print_json(
            {
                "run": opened.name,
                "images": count,
                "seed": seed or 0,
                "label": label,
                "files": [str(file) for file in files],
            }
        )
    else:
        print(say("{count:,} images: {file}", count=count, file=files[0] if len(files) == 1 else out))
    return 0


def diagnose(run: RunFolder, language: LanguageOption = None, as_json: AsJson = False) -> int:
    """Diagnose a run, such as overfitting: how certain the diagnosis is, and what to try next."""
    from pbl.diagnosis.advice import as_json as to_json
    from pbl.diagnosis.by_task import diagnose_run
    from pbl.runs import load_run

    diagnosis = diagnose_run(load_run(run))
    if as_json:
        print_json(to_json(diagnosis))
    else:
        show_diagnosis(diagnosis, choose_screen_language(language))
    return 0


def show_diagnosis(diagnosis, language: str) -> None:
    """Prints a `Diagnosis`: in colours on a terminal; into a file, each part on one line."""
    colours = {"stop": "bold red", "act": "bold yellow", "note": "bold green"}
    styles = {"headline": colours[diagnosis.severity], "command": "cyan"}
    console = open_console()
    for kind, text in diagnosis.paragraphs(language):
        left = {"headline": 0, "command": 4}.get(kind, 2)
        if kind == "command" or not sys.stdout.isatty():  # to be copied, so it is never wrapped
            console.print(for_screen(" " * left + text, keep_lines=True), style=styles.get(kind), soft_wrap=True)
        else:
            lines = wrap(for_screen(text, keep_lines=True), console.width - left)
            console.print("\n".join(" " * left + line for line in lines), style=styles.get(kind), soft_wrap=True)


def inspect(
    run: RunFolder,
    images: Annotated[
        list[str] | None,
        Argument(
            metavar="IMAGE_OR_FOLDER",
            help="Image files, or folders of them; by default the worst mistakes of validation and some correct predictions.",
        ),
    ] = None,
    trust: Trust = False,
    no_code: NoCode = False,
    as_json: AsJson = False,
) -> int:
    """Draw what a run's network looks at: filters, feature maps, Grad-CAM or attention, and the loss along the training path."""
    choose_code([run], trust, no_code)
    from pbl.runs import load_run

    opened = load_run(run)
    with quiet_tensorflow():
        from pbl.inspection import run as inspection
    left_out: list[str] = []
    options = {"tell": left_out.append} if as_json else {}
    files = inspection.inspect_run(opened, images, **options)
    if as_json:
        print_json({"run": opened.name, "files": [str(file) for file in files], "left_out": left_out})
    else:
        for file in files:
            print(for_screen(file))
    return 0 if files else 1


def demo(
    runs: Annotated[list[str], Argument(metavar="RUN", help="One run, or up to four, which are shown side by side.")],
    port: Annotated[
        int | None, Option(help="The port of the page; by default the first free port from 7860 on.")
    ] = None,
    share: Annotated[
        bool,
        Option(
            "--share",
            help="Make a public link, valid for a week at most. Anyone who has it can use the page; the images go through servers of Gradio.",
        ),
    ] = False,
    trust: Trust = False,
    no_code: NoCode = False,
) -> int:
    """Show a web page for trying runs on an image, a sketch or validation images; for generation it shows new images."""
    choose_code(runs, trust, no_code)
    with quiet_tensorflow():
        import keras  # noqa: F401, its messages too stay off the screen

        from pbl.demonstration import server
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # ends like Ctrl-C, so that the uploaded images are removed
    server.demo(*runs, share=share, port=port, wait=True)
    return 0
