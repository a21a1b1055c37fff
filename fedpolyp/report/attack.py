"""The findings of attacks on a run, and what was recovered of its images, on one page that needs no other file."""

from dataclasses import dataclass
from pathlib import Path

from fedpolyp import __version__
from fedpolyp.errors import UsageError
from fedpolyp.files import write_text
from fedpolyp.privacy.attack import Attacked, Row
from fedpolyp.privacy.inversion import ENOUGH, Inverted, conclusion
from fedpolyp.report.gallery import picture
from fedpolyp.report.templates import template
from fedpolyp.runs import RunFolder

_SIDE = 256  # pixels


@dataclass(frozen=True)
class Shot:
    """A picture, and how close it is to the original: None for the original itself."""

    label: str
    picture: str  # a data URI
    decibels: float | None
    shapes: float | None  # correlation of coarse shapes; None for the mean image, too, because it is the reference


def verdict(found: Attacked) -> str:
    """What the attacks on membership have found, in a sentence or two."""
    best = max(found.rows, key=lambda row: row.success.auc)
    one, count = best.success, sum(_distinguishes(row) for row in found.rows)
    largest = f"{one.auc:.2f} ({one.low:.2f} to {one.high:.2f}), by {best.signal} on the {best.target}"
    first = f"{count} of {len(found.rows)} attacks were" if count else "No attack was"
    return f"{first} better than guessing. The largest area under the ROC curve was {largest}."


def write_attack(page: Path, run: RunFolder, found: Attacked) -> None:
    """Write the page.

    Raises:
        UsageError: it cannot be written.
    """
    text = template("attack.html").render(
        run=run.name,
        found=found,
        verdict=verdict(found),
        conclusion=conclusion(found.inverted),
        distinguishes=_distinguishes,
        shots=[(one.id, _shots(one)) for one in found.inverted],
        enough=ENOUGH,
        privacy=run.config().privacy.on,
        version=__version__,
    )
    try:
        write_text(page, text)
    except OSError as error:
        raise UsageError(f"cannot write {page}: {error.strerror or error}") from None


def _distinguishes(row: Row) -> bool:
    return row.success.low > 0.5


def _shots(one: Inverted) -> tuple[Shot, ...]:
    labels = {
        "recovered": "recovered from the run's model",
        "mean": "mean image",
        "control": "recovered from the control",
    }
    decibels, shapes = one.decibels, one.shapes
    return (
        Shot("original", picture(one.original, _SIDE), None, None),
        *(
            Shot(label, picture(getattr(one, name), _SIDE), decibels[name], shapes.get(name))
            for name, label in labels.items()
        ),
    )
