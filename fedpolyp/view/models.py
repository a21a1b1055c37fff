"""The models that a run, or the runs of a comparison, have saved."""

import re
from dataclasses import dataclass
from pathlib import Path

from fedpolyp.experiment.conclusions import name as printed_name
from fedpolyp.text import printable
from fedpolyp.view.shelf import Place

_FILE = re.compile(r"model-(last|best)(?:-(.+))?\.keras")
_SAID = {"last": "last round", "best": "best on validation"}


@dataclass(frozen=True)
class Model:
    """A saved model."""

    id: str  # its path below the place
    arm: str  # '' if the place is a single run
    label: str
    path: Path
    saved: int  # time, nanoseconds since 1970: a run that is extended saves it again


def models_of(place: Place) -> list[Model]:
    """The place's models: run by run, and in each the last round's first."""
    found = []
    for run in place.runs:
        arm, seed = (printed_name(run.path.parent.name), run.name) if place.comparison else ("", "")
        files = [file for file in run.path.glob("model-*.keras") if file.is_file() and not file.is_symlink()]
        named = sorted((_order(match), file) for file in files if (match := _FILE.fullmatch(file.name)))
        for (_, hospital, kind), file in named:
            said = [f"seed {seed}" if seed else "", hospital, _SAID[kind]]
            label, saved = ", ".join(filter(None, said)), file.stat().st_mtime_ns
            found.append(
                Model(file.relative_to(place.path).as_posix(), printable(arm, 80), printable(label, 120), file, saved)
            )
    return found


def _order(match: re.Match[str]) -> tuple[bool, str, str]:
    return match[1] == "best", match[2] or "", match[1]
