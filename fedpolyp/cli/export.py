"""`fedpolyp export`: writes a trained model in the formats of other programs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fedpolyp.cli.console import PlainConsole
from fedpolyp.inference.export.formats import FORMATS


def export(
    model: Annotated[Path, typer.Option(help="a finished run, or a model saved as .keras")],
    to: Annotated[str, typer.Option(help=", ".join(FORMATS))],
    out: Annotated[Path, typer.Option(help="a new folder for the export")],
    which: Annotated[
        Literal["last", "best"], typer.Option(help="of a run: the model of the last round, or best on validation")
    ] = "last",
) -> None:
    """Write a model in the format of another program, and check that its predictions are the same.

    Keras and the export get the same images. The export is removed if their probabilities differ by more than rounding.
    export.json describes the input, the output, and the largest difference.
    """
    from fedpolyp.inference.export.check import BOUND
    from fedpolyp.inference.export.export import export as written
    from fedpolyp.inference.export.finding import make
    from fedpolyp.inference.export.subject import Subject
    from fedpolyp.runs import refuse_as_output

    format = make(to)
    refuse_as_output(out)
    subject, console = Subject.load(model, which), PlainConsole()
    console.print(subject.predictor.introduction, soft_wrap=True)
    check = written(subject, to, format, out)
    console.print(
        f"checked on {check.images} images ({check.of}): probabilities differ from Keras's by at most "
        f"{check.difference:.2g}; {BOUND:g} is allowed",
        soft_wrap=True,
    )
    if not check.telling:
        console.print(
            f"note: the model gives all of them probabilities from {check.low:.3g} to {check.high:.3g}, so the check "
            "says little",
            style="yellow",
            soft_wrap=True,
        )
    console.print(f"export: {out}", soft_wrap=True)
