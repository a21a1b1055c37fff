"""`fedpolyp runs`: lists runs, and shows one."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.measure import Measurement

from fedpolyp import runs
from fedpolyp.cli.console import PlainConsole
from fedpolyp.cli.tables import PlainTable, plain_table, round_table
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.files import to_json, write_text
from fedpolyp.privacy.words import noisy_scores
from fedpolyp.report.rounds import best_on_validation
from fedpolyp.runs import OlderRun, RunFolder

_HEADINGS = ("run", "images", "state", "hospitals", "rounds", "last", "best")
# Columns to leave out on a narrow terminal; 'runs show' has them.
_LEFT_OUT = ((), ("hospitals",), ("hospitals", "images"))
_WIDE = PlainConsole(width=1000)

app = typer.Typer(help="List runs, show one, or export one.", invoke_without_command=True)


@app.callback()
def list_runs(
    context: typer.Context,
    root: Annotated[Path, typer.Option(help="the folder of run folders")] = runs.DEFAULT_ROOT,
) -> None:
    """List the runs of a folder, or show one."""
    if context.invoked_subcommand is not None:
        return
    if root != runs.DEFAULT_ROOT and not root.is_dir():
        raise UsageError(f"there is no folder {root}; --root takes a folder of run folders")
    console = PlainConsole()
    # A comparison's runs are two folders deeper: <comparison>/<arm>/<seed>.
    folders = sorted(path.parent for depth in ("*", "*/*", "*/*/*") for path in root.glob(f"{depth}/config.toml"))
    if not folders:
        console.print(f"no runs in {root}; 'fedpolyp simulate' makes one", soft_wrap=True)
        return
    rows = [(str(folder.relative_to(root)), *_summary(RunFolder(folder))) for folder in folders]
    for left_out in _LEFT_OUT:
        table = _listed(rows, left_out)
        wide = Measurement.get(_WIDE, _WIDE.options, table).maximum
        if wide <= console.width or not console.is_terminal:
            break
    PlainConsole(width=max(wide, console.width)).print(table)


def _listed(rows: list[tuple[str, ...]], left_out: tuple[str, ...]) -> PlainTable:
    """The table of runs without the columns `left_out`."""
    places = [place for place, heading in enumerate(_HEADINGS) if heading not in left_out]
    table = plain_table(None, *(_HEADINGS[place] for place in places), numbers_from=3 - len({"images"} & {*left_out}))
    table.caption, table.caption_justify = (
        "held-out Dice after the last round, and after the best on validation",
        "left",
    )
    for column in table.columns:
        column.no_wrap = True  # a name that is broken in two cannot be copied
    for row in rows:
        table.add_row(*(row[place] for place in places))
    return table


@app.command()
def show(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="a run's name or path")],
    root: Annotated[Path | None, typer.Option(help="the folder of run folders  [dim]\\[runs][/dim]")] = None,
) -> None:
    """Show the course of one run, round by round."""
    above = context.parent.params["root"] if context.parent else runs.DEFAULT_ROOT  # runs --root DIR show RUN
    folder = runs.find(run, root or Path(above))
    records, console = folder.rounds(), PlainConsole()
    if not records:
        raise FedpolypError(f"{folder.path} has no complete round yet")
    heldout = bool(folder.partition().heldout)
    console.print(round_table(records, heldout))
    scored = (("last round", "last", records[-1]), ("best on validation", "best", best_on_validation(records)))
    for label, kind, record in scored:
        if record is not None:
            scored_on, file = "held-out" if heldout else "test", folder.model_file(kind)
            where = f" ({file.name})" if file.exists() else ""
            console.print(
                f"{label} ({record['round']}): {scored_on} Dice {record['dice']:.3f}, IoU {record['iou']:.3f}{where}"
            )
    tests = {
        name: own["test_dice"] for name, own in records[-1]["hospitals"].items() if own.get("test_dice") is not None
    }
    if tests:
        scores = ", ".join(f"{name} {dice:.3f}" for name, dice in sorted(tests.items()))
        console.print(f"Dice on each hospital's own test images, last round: {scores}")
    if noisy := noisy_scores(records[-1]):
        scores = ", ".join(f"{name} {score}" for name, score in noisy.items())
        console.print(f"the same with noise (± is its 95 % interval): {scores}", soft_wrap=True)
    for record in records:
        for refusal in record["refused"]:
            console.print(f"round {record['round']}: {refusal['hospital']} was rejected: {refusal['reason']}")
    console.print(f"{_state(folder, records)} run in {folder.path}", soft_wrap=True)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="a run's name or path")],
    file: Annotated[Path, typer.Argument(help="the JSON file to write")],
) -> None:
    """Write a run's config and scores as one small JSON file that names no path and no image."""
    folder = runs.find(run)
    environment = folder.environment()
    config = folder.config().model_dump(mode="json")
    config["data"]["source"] = folder.config().data.called
    kept = ("round", "dice", "iou", "val_dice", "loss", "seconds")
    summary = {
        "environment": {name: value for name, value in environment.items() if name not in ("command", "store")},
        "config": config,
        "rounds": [{name: _rounded(record[name]) for name in kept} for record in folder.rounds()],
    }
    lines = to_json(summary, indent=1)
    try:
        write_text(
            file, re.sub(r"\{\s+(\"round\"[^}]*?)\s+\}", lambda m: f"{{{' '.join(m[1].split())}}}", lines) + "\n"
        )
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from None


def _rounded(value: float | None) -> float | None:
    return value if value is None else round(value, 4)


def _summary(run: RunFolder) -> tuple[str, ...]:
    try:
        config = run.config()
    except OlderRun:
        return "-", "of version 0.1", "-", "-", "-", "-"
    except FedpolypError:  # one damaged folder must not hide the others
        return "-", "unreadable config.toml", "-", "-", "-", "-"
    try:
        records = run.rounds()
    except FedpolypError:
        return config.data.called, "damaged rounds.jsonl", str(config.hospitals.count), "-", "-", "-"
    best = best_on_validation(records)
    return (
        config.data.called,
        _state(run, records),
        str(config.hospitals.count),
        f"{records[-1]['round'] if records else 0}/{config.federation.rounds}",
        f"{records[-1]['dice']:.3f}" if records else "-",
        f"{best['dice']:.3f}" if best else "-",
    )


def _state(run: RunFolder, records: list[dict[str, Any]]) -> str:
    """A run is complete once its images are scored, which comes after its last round."""
    return "complete" if records and run.images_file.exists() else "unfinished"
