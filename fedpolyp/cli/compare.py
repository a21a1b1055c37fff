"""`fedpolyp compare`: pooled, local-only and federated training on the same partition, and the report about them."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fedpolyp.algorithms.finding import BUILT_IN
from fedpolyp.cli.options import Given, with_settings
from fedpolyp.config import FederationConfig
from fedpolyp.experiment.comparison import (
    ARMS,
    Arm,
    named_arms,
    parse_arm,
    parse_learning_rates,
    parse_rounds,
    runs_in,
)
from fedpolyp.experiment.prepared import prepared

_ROUNDS = FederationConfig.model_fields["rounds"].default


def _shown(default: object) -> str:
    return f"[dim]\\[{default}][/dim]"


@with_settings(
    sections=("data", "hospitals", "model", "training", "federation", "runtime"),
    without=("federation.rounds", "training.learning_rate"),
)
def compare(
    given: Given,
    out: Annotated[Path, typer.Option(help="folder of the comparison; the same command resumes it")],
    rounds: Annotated[
        str | None, typer.Option(help=f"rounds, for every arm or by arm: pooled=40,fedavg=120  {_shown(_ROUNDS)}")
    ] = None,
    learning_rate: Annotated[
        str | None,
        typer.Option(
            help="local learning rate in the first round, for every arm or by arm: pooled=0.01,fedavg=0.03  "
            + _shown("a default for the optimizer and the arm")
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            help=f"number of seeds to train every arm with; 5 or more compare methods  {_shown(1)}",
            show_default=False,
        ),
    ] = 1,
    seed: Annotated[int | None, typer.Option(help=f"the first seed; also fixes the partition  {_shown(0)}")] = None,
    arms: Annotated[
        str | None,
        typer.Option(help=f"an arm for each algorithm: {', '.join(BUILT_IN)}  {_shown(','.join(ARMS))}"),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'LABEL: NAME=VALUE …'",
            help="one more arm with its own settings, such as 'near: algorithm=fedprox mu=0.1 "
            "training.learning_rate=0.01'; may be repeated",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but the last lines")] = False,
) -> None:
    """Compare federated with pooled and local-only training: same images, same hospitals, same initial weights."""
    from fedpolyp.cli.console import console_of_its_own
    from fedpolyp.cli.report import show_report
    from fedpolyp.cli.screen import comparison_screen

    overrides = {**given.overrides, **({} if seed is None else {"seed": seed})}
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    comparison = prepared(
        out,
        Given(given.file, given.preset, overrides).config(),
        wanted_arms(arms, arm or ()),
        command,
        seeds=seeds,
        rounds=None if rounds is None else parse_rounds(rounds),
        learning_rates=None if learning_rate is None else parse_learning_rates(learning_rate),
    )
    console = console_of_its_own()
    with comparison_screen(console, quiet) as screen:
        failures = comparison.carry_out(screen)
    if any(job.run.images_file.exists() for job in comparison.jobs):
        show_report(out, runs_in(out), command, console)
    comparison.refuse(failures)


def wanted_arms(names: str | None, described: Sequence[str]) -> list[Arm]:
    """The arms of `--arms` and `--arm`; the usual ones if neither was given.

    Raises:
        UsageError: an arm is not valid.
    """
    usual = list(ARMS) if names is None and not described else []
    return [*named_arms(usual if names is None else _names(names), bool(described)), *map(parse_arm, described)]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
