"""`fedpolyp simulate`: a federation of hospitals on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from fedpolyp import runs
from fedpolyp.cli.options import Given, with_settings
from fedpolyp.errors import UsageError
from fedpolyp.experiment.single import Audience, begin, go_on


@with_settings()
def simulate(
    given: Given,
    out: Annotated[
        Path | None, typer.Option(help="run folder to make  [dim]\\[runs/<time>-<images>-<n>-hospitals][/dim]")
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="resume an interrupted run")] = None,
    from_round: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="with --resume: go back to the checkpoint of round N")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but the last line")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="show the output of Flower and Ray, too")] = False,
) -> None:
    """Train a federation of hospitals on this machine and score its model on a held-out set."""
    if resume is not None and out is not None:
        raise UsageError("--resume writes to the run's own folder, so --out cannot be given with it")
    if from_round is not None and resume is None:
        raise UsageError("--from-round needs --resume, which names the run to go back in")
    from fedpolyp.cli.console import console_of_its_own
    from fedpolyp.cli.screen import screen

    console = console_of_its_own()

    def say(sentence: str) -> None:
        if not quiet:
            console.print(sentence, soft_wrap=True)

    audience = Audience(say, lambda: screen(console, quiet))
    if resume is None:
        run = begin(given.config(), out, audience, verbose)
    else:
        run = go_on(runs.find(resume), given.resumed, audience, from_round, verbose)

    from fedpolyp.cli.tables import ending, round_table
    from fedpolyp.privacy.words import paragraph, scores

    if not quiet:
        console.print(round_table(run.rounds()))
    if words := paragraph(run.config(), run.rounds(), simulated=True):
        say(words)
    if words := scores({"": run.rounds()[-1]}, simulated=True):
        say(words)
    console.print(ending(run.rounds(), own_models=not run.model_file("last").exists()), soft_wrap=True)
    console.print(f"run folder: {run.path}", soft_wrap=True)
