"""`fedpolyp privacy`: what privacy costs, and what a run reveals."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from fedpolyp.cli.console import PlainConsole
from fedpolyp.cli.tables import plain_table
from fedpolyp.config import Unit
from fedpolyp.errors import UsageError

app = typer.Typer(help="Plan what privacy costs, or attack a run to see what it reveals.", no_args_is_help=True)


@app.callback()
def privacy() -> None:
    """Plan what privacy costs, or attack a run to see what it reveals."""


@app.command()
def attack(
    run: Annotated[str, typer.Argument(help="a finished run: its folder, or its name under runs/")],
    out: Annotated[Path | None, typer.Option(help="JSON file for the findings")] = None,
    html: Annotated[
        Path | None, typer.Option(help="page for the findings, with images that were recovered from their gradients")
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, max=20, help="number of training images on the page; each takes about a minute")
    ] = 2,
) -> None:
    """Attack a run as its server could: distinguish its training images from others by the losses of its models.

    An area of 0.5 is guessing, 1 is certainty. Others are the held-out images and the hospitals' test images. The page
    shows training images: if they are patients', protect it like them.
    """
    from fedpolyp import runs
    from fedpolyp.data.source import open_source
    from fedpolyp.files import to_json, write_text
    from fedpolyp.privacy.attack import attack as attacked
    from fedpolyp.privacy.inversion import conclusion
    from fedpolyp.report.attack import write_attack

    for option, file in (("--out", out), ("--html", html)):
        if file is not None and file.exists():
            raise UsageError(f"{option} must be a new file; {file} already exists")
    folder = runs.find(run)
    if not folder.finished:
        raise UsageError(f"{folder.path} is not finished")
    config = folder.config()
    store = open_source(config.data, config.data_seed)
    folder.refuse_changed(store)
    with folder.locked():
        found = attacked(folder, store, pictures if html is not None else 0)
    console = PlainConsole()
    table = plain_table(None, "attack on", "signal", "members", "others", "area under ROC", "found", numbers_from=2)
    for row in found.rows:
        one = row.success
        told = f"{one.auc:.2f} ({one.low:.2f} to {one.high:.2f})"
        table.add_row(row.target, row.signal, str(one.members), str(one.others), told, f"{one.found:.0%}")
    table.caption, table.caption_justify = (
        "with 95 % intervals; found: share of the members, where 5 % of the others are taken for members",
        "left",
    )
    console.print(table)
    for sentence in filter(None, (*found.left_out, conclusion(found.inverted))):
        console.print(sentence, soft_wrap=True)
    if html is not None:
        write_attack(html, folder, found)
        shows = " (it shows training images: protect it like them)" if found.inverted else ""
        console.print(f"page: {html}{shows}", soft_wrap=True)
    if out is not None:
        rows = [{"target": row.target, "signal": row.signal, **asdict(row.success)} for row in found.rows]
        inverted = [{"id": one.id, "decibels": one.decibels, "shapes": one.shapes} for one in found.inverted]
        kept = {"run": folder.name, "attacks": rows, "left_out": found.left_out, "inverted": inverted}
        write_text(out, to_json(kept, indent=1) + "\n")


@app.command()
def plan(
    images: Annotated[
        int, typer.Option(min=1, max=10**9, help="units of a hospital's training images, of the kind --unit")
    ],
    rounds: Annotated[int, typer.Option(min=1, max=100_000, help="rounds, with one noisy step in each")],
    epsilon: Annotated[float, typer.Option(help="the guarantee for all rounds together")],
    delta: Annotated[
        float | None,
        typer.Option(
            help="of the guarantee  [dim]\\[the largest power of ten that is at most a fifth of 1/images][/dim]"
        ),
    ] = None,
    unit: Annotated[
        Unit,
        typer.Option(help="what the guarantee protects: a group of near-duplicates, a patient, or an image"),
    ] = "group",
    hospitals: Annotated[
        int, typer.Option(min=1, max=10_000, help="number of hospitals with this many units each")
    ] = 1,
    batches: Annotated[
        Literal["all", "poisson"], typer.Option(help="units in a step: all, or each drawn independently")
    ] = "all",
    batch: Annotated[int | None, typer.Option(min=1, help="poisson: expected number of units in a step")] = None,
    mode: Annotated[
        Literal["local", "joint"], typer.Option(help="each hospital adds all of its noise, or a share in a secure sum")
    ] = "local",
    secure_least: Annotated[
        int, typer.Option(min=2, help="joint: the smallest number of hospitals whose sum may be read")
    ] = 3,
    colluders: Annotated[
        int, typer.Option(min=0, help="joint: hospitals that may tell the coordinator all they know")
    ] = 1,
    score_epsilon: Annotated[
        float | None, typer.Option(help="the guarantee of one noisy score of each hospital, on top of --epsilon")
    ] = None,
    test_images: Annotated[int | None, typer.Option(min=1, max=10**9, help="units of its test images")] = None,
) -> None:
    """Print the noise that a guarantee needs, its cost, and the same for other guarantees.

    Nothing is trained, and no images are read.
    """
    if (batches == "poisson") != (batch is not None):
        raise UsageError("--batches poisson and --batch B go together: the expected number of units in a step")
    if (score_epsilon is None) != (test_images is None):
        raise UsageError("--score-epsilon and --test-images N go together: the noise of a score depends on both")

    sharers = secure_least - colluders if mode == "joint" else 1
    if mode == "joint" and not 2 <= sharers <= secure_least <= hospitals:
        raise UsageError(
            "joint noise takes --hospitals of at least --secure-least, and --secure-least of at least --colluders + 2; "
            f"got {hospitals}, {secure_least} and {colluders}"
        )

    if mode == "joint" and batch is not None:
        raise UsageError(
            "joint noise takes all units in each step (--batches all): hospitals of different size draw with different "
            "probabilities, so they cannot share it; got poisson"
        )

    from fedpolyp.privacy.accounting import SCORE_SPAN
    from fedpolyp.privacy.plan import Plan  # SciPy takes a moment

    wanted, console = Plan.of(images, rounds, epsilon, delta, batch), PlainConsole()
    score = None
    if score_epsilon is not None and test_images is not None:
        score = Plan(test_images, 1, score_epsilon, wanted.delta)
    named = {"group": "groups of near-duplicates", "patient": "patients", "image": "images"}
    units = f"{images} {named[unit]}"
    drawn = "all of them in each step" if batch is None else f"{batch} of them expected in a step"
    given = "1/units is " + f"{1 / images:.2g}; --delta names another" if delta is None else "as given"
    console.print(f"a hospital of {units}, {drawn}, {rounds} rounds", soft_wrap=True)
    console.print(f"epsilon {epsilon:g} at delta {wanted.delta:g} ({given})", soft_wrap=True)
    console.print(
        f"noise: sigma {wanted.sigma:.2f}, in units of the clip, on each number of a step's sum", soft_wrap=True
    )
    if mode == "joint":
        console.print(
            f"joint: each hospital adds {wanted.sigma / math.sqrt(sharers):.2f} to its own sum, and {sharers} of them "
            "make the noise of a sum of hospitals",
            soft_wrap=True,
        )
    mean = f"{wanted.noise(1, sharers):.2%} of the clip on each number of the step's mean gradient"
    together = f", {wanted.noise(hospitals, sharers):.2%} on the mean of {hospitals} hospitals" if hospitals > 1 else ""
    console.print(f"cost: {mean}{together}", soft_wrap=True)
    if score is not None:
        console.print(
            f"score: mean Dice of {score.units} {named[unit]} ± {1.96 * SCORE_SPAN * score.noise():.2f} (95 % interval "
            f"of the noise alone, each hospital's own); with it epsilon {wanted.epsilon_with(score.sigma):.2f} in all",
            soft_wrap=True,
        )
    if unit == "image" and batch is None:
        pair = wanted.epsilon_of_several(2)
        console.print(f"two images that show the same scene have epsilon {pair:.1f} together", soft_wrap=True)
    others = wanted.others()
    table = plain_table(None, "rounds", *(f"epsilon {one.epsilon:g}" for one in others[0]), numbers_from=0)
    for row in others:
        bold = "bold" if row[0].rounds == rounds else None
        table.add_row(
            str(row[0].rounds), *(f"{one.sigma:.2f} ({one.noise(hospitals, sharers):.2%})" for one in row), style=bold
        )
    whose = "a hospital's mean" if hospitals == 1 else f"the mean of {hospitals} hospitals"
    console.print(f"other guarantees: sigma, and the noise on {whose} as a share of the clip", soft_wrap=True)
    console.print(table)
