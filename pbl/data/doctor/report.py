"""What is written from the findings: a file, pictures, and the names of images to leave out."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from pbl.data.doctor.boxes import DRAWN as DRAWN_BOXES
from pbl.data.doctor.boxes import outline
from pbl.data.doctor.finding import Finding, Part
from pbl.data.doctor.masks import DRAWN
from pbl.data.paths import write_name
from pbl.storage.writing import replacing, write_json


def write_report(findings: list[Finding], splits: Mapping[str, Part], folder: str | Path) -> list[Path]:
    """Writes `data_check.json`, and for each check that names images `figures/data_check_<check>.png`.

    Args:
        findings: From `examine`.
        splits: The images that are drawn.
        folder: For example that of a run; created if it does not exist.

    Returns:
        The files written.
    """
    from pbl.evaluation.figures import plot_gallery
    from pbl.evaluation.mask_figures import lay_over
    from pbl.reports.drawing import caption

    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    entries = [{key: value for key, value in asdict(finding).items() if key != "template"} for finding in findings]
    report = {"images": {split: len(part.labels) for split, part in splits.items()}, "findings": entries}
    write_json(folder / "data_check.json", report)
    files = [folder / "data_check.json"]
    place = {name: (part, i) for part in splits.values() for i, name in enumerate(part.names)}
    for check in dict.fromkeys(finding.check for finding in findings):
        captions = [above for finding in findings if finding.check == check for above in _captions(finding)]
        captions = [(name, text) for name, text in captions if name in place]
        if not captions:
            continue
        pixels = [part.pixels[at] for part, at in (place[name] for name, _ in captions)]
        if check in DRAWN:
            masks = [part.masks[at] for part, at in (place[name] for name, _ in captions)]
            pixels = [lay_over(image, mask, mask) for image, mask in zip(pixels, masks, strict=True)]
        if check in DRAWN_BOXES:
            boxes = [part.boxes[at] for part, at in (place[name] for name, _ in captions)]
            pixels = [outline(image, rows) for image, rows in zip(pixels, boxes, strict=True)]
        figure = plot_gallery(
            pixels,
            [text for _, text in captions],
            caption(check.replace("_", " ")),
        )
        file = folder / "figures" / f"data_check_{check}.png"
        with replacing(file) as temporary:
            figure.savefig(temporary, dpi=120)
        files.append(file)
    return files


def _captions(finding: Finding) -> Iterator[tuple[str, str]]:
    """Name and caption of each image in a finding's gallery; the images of a pair are side by side."""
    from pbl.reports.drawing import caption

    if "pairs" in finding.details:
        for number, pair in enumerate(finding.details["pairs"]):
            distances = finding.details.get("distances")
            above = caption("pair {number}", number=number + 1)
            if distances:
                told = "pair {number}, distance {distance:.2f}"
                above = caption(told, number=number + 1, distance=distances[number])
            yield from ((name, f"{above}\n{name}") for name in pair)
    elif "labelled" in finding.details:
        suggested = finding.details.get("suggested")
        for number, (name, label) in enumerate(zip(finding.items, finding.details["labelled"], strict=True)):
            lines = [name, caption("labelled {name}", name=label)]
            lines += [caption("perhaps {name}", name=suggested[number])] if suggested else []
            yield name, "\n".join(lines)
    else:
        yield from ((name, name) for name in finding.items)


def find_leave_out(findings: list[Finding]) -> list[str]:
    """Returns the names of images to leave out, sorted: broken and constant ones, training images with copies in val
    or test, validation images with copies in test, and of exact copies within train all but the first. Suspected labels are
    never among them: a person decides.

    Args:
        findings: From `examine`.
    """
    names: set[str] = set()
    for finding in findings:
        if finding.check in ("broken", "constant_image"):
            names.update(finding.items)
        elif finding.check in ("copies_across", "altered_copies") and finding.severity != "note":
            names.update(earlier for earlier, _ in finding.details["pairs"])
        elif finding.check == "copies_within" and finding.details["split"] == "train":
            names.update(name for group in finding.details["groups"] for name in group[1:])
    return sorted(names)


def write_leave_out(findings: list[Finding], file: str | Path) -> list[str]:
    """Writes what `find_leave_out` returns, one name a line, UTF-8; the images themselves are not touched.

    Args:
        findings: From `examine`.
        file: The file to write.

    Returns:
        The names.
    """
    names = find_leave_out(findings)
    with replacing(Path(file)) as temporary:
        temporary.write_text("".join(f"{write_name(name)}\n" for name in names), encoding="utf-8")
    return names
