"""`fedpolyp report`: makes the page about finished runs again from their files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpolyp.cli.console import PlainConsole
from fedpolyp.cli.tables import plain_table
from fedpolyp.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from fedpolyp.experiment.findings import Analysis
    from fedpolyp.runs import RunFolder


_LONGEST_COMMAND = 10_000  # characters; somebody else may have written the file


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="run folders, or the folder of a comparison")],
    out: Annotated[
        Path | None, typer.Option(help="folder for report.html, figures/ and tables/  [dim]\\[the only RUN][/dim]")
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="first score the last models on held-out images made worse, if not done yet",
        ),
    ] = False,
) -> None:
    """Write report.html about finished runs: scores with intervals, differences, sites, cost, cases."""
    if out is None and len(runs) > 1:
        raise UsageError("--out must be given when the report is about more than one folder")
    found = [_runs(run) for run in runs]
    folders, console = [folder for _, several in found for folder in several], PlainConsole()
    if robustness:
        _measure_robustness(folders, console)
    show_report(out or found[0][0], folders, _command(runs), console)


def show_report(folder: Path, runs: "list[RunFolder]", command: str | None, console: PlainConsole) -> None:
    """Write the report about `runs` into `folder`, and print a summary."""
    from fedpolyp.experiment.analysis import analyse
    from fedpolyp.experiment.conclusions import answer, remarks
    from fedpolyp.report.comparison import write_page

    analysis = analyse(runs)
    page = write_page(folder, analysis, command)
    console.print(answer(analysis))
    console.print(_table(analysis))
    for sentence in (*analysis.missing, *remarks(analysis)):
        console.print(sentence)
    console.print(f"report: {page}", soft_wrap=True)


def _measure_robustness(runs: "list[RunFolder]", console: PlainConsole) -> None:
    """Write robustness.csv into the finished runs that have none."""
    from fedpolyp.data.source import open_source
    from fedpolyp.report.robustness import measure

    for run in runs:
        if run.images_file.exists() and not run.robustness_file.exists():
            console.print(f"images made worse: {run.path}", soft_wrap=True)
            store = open_source(run.config().data, run.config().data_seed)
            run.refuse_changed(store)
            try:
                measure(run, store)
            except OSError as error:
                raise UsageError(f"cannot write {run.robustness_file}: {error.strerror or error}") from None


def _runs(run: str) -> "tuple[Path, list[RunFolder]]":
    """The folder that `run` names, and the run or runs in it."""
    from fedpolyp import runs
    from fedpolyp.experiment.comparison import runs_in

    folder = Path(run)
    if not (folder / "config.toml").exists() and any(folder.glob("*/*/config.toml")):
        return folder, runs_in(folder)
    single = runs.find(run)
    return single.path, [single]


def _command(runs: list[str]) -> str | None:
    file = Path(runs[0]) / "command.txt"
    if len(runs) != 1 or not file.is_file() or file.is_symlink():  # through a link any file would get into the page
        return None
    with file.open(encoding="utf-8", errors="replace") as stream:
        return stream.read(_LONGEST_COMMAND).strip()


def _table(analysis: "Analysis") -> "Table":
    from fedpolyp.experiment.conclusions import name
    from fedpolyp.experiment.findings import worst

    table = plain_table(None, "arm", "seeds", "Dice", "95 % interval", "best", "IoU", "worst hospital")
    table.caption, table.caption_justify = "held-out set, last round; best: the round best on validation", "left"
    for arm in analysis.arms:
        dice, weakest = arm.last["dice"], worst(arm.own_tests)
        table.add_row(
            name(arm.label),
            str(len(arm.seeds)),
            f"{dice.value:.3f}",
            f"{dice.low:.3f} to {dice.high:.3f}",
            f"{arm.best['dice'].value:.3f}" if arm.best else "-",
            f"{arm.last['iou'].value:.3f}",
            f"{weakest[1]:.3f}" if weakest else "-",
        )
    return table
