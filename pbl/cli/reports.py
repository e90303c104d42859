"""`log` and `report`."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from pbl.cli.options import PICTURES, AsJson, LanguageOption, check_file
from pbl.cli.screen import print_json, print_table, print_text
from pbl.errors import InputError
from pbl.languages import choose_screen_language, say


def log(
    folder: Annotated[
        str | None, Argument(metavar="FOLDER", help="Folder of the runs; by default the variable PBL_RUNS, then runs/.")
    ] = None,
    language: LanguageOption = None,
    out: Annotated[
        Path | None, Option(metavar="FILE.png", help="Draw the gain of each run, with its interval.")
    ] = None,
    csv: Annotated[Path | None, Option(metavar="FILE", help="Write the table to this file.")] = None,
    as_json: AsJson = False,
) -> int:
    """List all runs: what each run changed compared with its parent run, and the gain."""
    check_file("--out", out, PICTURES)
    check_file("--csv", csv, (".csv",))
    from pbl.reports import team_log
    from pbl.storage.writing import replacing

    words = choose_screen_language(language)
    runs = team_log.read_log(folder)
    if out is not None:
        figure = team_log.plot_log(runs, words)
        with replacing(out) as temporary:
            figure.savefig(temporary, dpi=120)
    if csv is not None:
        team_log.write_csv(runs, csv)
    if as_json:
        print_json({"runs": team_log.make_records(runs), "remark": team_log.ONE_SEED})
        return 0
    print_table(*team_log.make_table(runs, words))
    print_text(say(team_log.HOW_TO_READ, words))
    print_text(say(team_log.ONE_SEED, words))
    for file in filter(None, (out, csv)):
        print(say("Written: {file}", words, file=file))
    return 0


def report(
    run: Annotated[
        str | None,
        Argument(metavar="RUN", help="A run's folder; with --team the folder of all runs, by default runs/."),
    ] = None,
    team: Annotated[
        bool,
        Option(
            "--team",
            help="Write a draft of the team's report on all runs; your own text is taken from team_notes.md.",
        ),
    ] = False,
    language: LanguageOption = None,
    out: Annotated[
        Path | None,
        Option(
            metavar="FILE.html",
            help="File for the page; by default report.html in the run, or team_report.html in the folder.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Put the whole run on one page: scores, diagnosis, pictures, data, settings, cost, environment."""
    if team:
        from pbl.reports.team_notes import SECTIONS
        from pbl.reports.team_report import write_team_report

        made = write_team_report(run, language, out)
        if as_json:
            files = {name: str(file) for name, file in made._asdict().items() if isinstance(file, Path)}
            print_json({**files, "open": made.open, "unknown": [heading for heading, _ in made.unknown]}, indent=None)
            return 0
        print(say("Written: {file}", file=made.file))
        if made.kept:
            print(say("The previous page was changed by hand; it is kept as {file}.", file=made.kept))
        for heading, section in made.unknown:
            told = "{notes}: the page has no section '{heading}'. Its text stands under {section}. Sections: {headings}. A heading within a section begins with ###."
            where = say(section or "Further notes")
            listed = say(", ").join(map(say, SECTIONS))
            print(say(told, notes=made.notes, heading=heading, section=where, headings=listed))
        if made.open:
            told = "Write your part in {notes}, then run the same command again. Still empty: {headings}."
            print(say(told, notes=made.notes, headings=say(", ").join(say(heading) for heading in made.open)))
        return 0
    if run is None:
        raise InputError(
            "Which run? Give its folder, such as runs/digits_resnet20/001; or --team for a report of all runs."
        )
    from pbl.reports.run_report import write_report

    written = write_report(run, out, language)
    if as_json:
        print_json({**written._asdict(), "file": str(written.file)})
        return 0
    told = "{file}: {size:,.0f} kB, with {pictures} {pictures:picture|pictures}"
    print(say(told, file=written.file, size=written.bytes / 1000, pictures=len(written.pictures)))
    for name, reason in list(written.left_out.items())[:20]:
        print(say("Not shown: {name}, because {reason}.", name=name, reason=reason))
    return 0
