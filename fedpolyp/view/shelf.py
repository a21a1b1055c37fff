"""The runs and comparisons of a folder; they can be found only by their names."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedpolyp import runs
from fedpolyp.errors import UsageError
from fedpolyp.experiment.comparison import runs_in
from fedpolyp.runs import RunFolder

_DEEP = 3  # a comparison's runs are in <comparison>/<arm>/<seed>


@dataclass(frozen=True)
class Place:
    """A run or a comparison."""

    name: str  # its path below the shelf's folder, with '/' between the parts
    path: Path
    comparison: bool = False

    @property
    def runs(self) -> list[RunFolder]:
        """The run itself, or those of the comparison: by arm, then by seed."""
        return runs_in(self.path) if self.comparison else [RunFolder(self.path)]


@dataclass(frozen=True)
class Shelf:
    """The runs and comparisons in the folder `root`, or a single one of them."""

    root: Path
    only: str = ""  # the name of the single one

    def places(self) -> list[Place]:
        """All of them, as they are now; the most recently written comes first."""
        found: dict[str, Place] = {}
        for path in _runs_below(self.root / self.only, _DEEP - bool(self.only)):
            parts = path.relative_to(self.root).parts
            if len(parts) == _DEEP:
                found.setdefault(parts[0], Place(parts[0], self.root / parts[0], comparison=True))
            else:
                found["/".join(parts)] = Place("/".join(parts), path)
        return sorted(filter(_nameable, found.values()), key=lambda place: (-_written(place), place.name))

    def find(self, name: str) -> Place | None:
        """The run or comparison of that name, or a comparison's run; None if there is none.

        `name` is compared with the existing names, so it cannot lead to another folder.
        """
        for place in self.places():
            if place.name == name:
                return place
            if place.comparison and name.startswith(f"{place.name}/"):
                below = (Place(run.path.relative_to(self.root).as_posix(), run.path) for run in place.runs)
                return next((run for run in below if run.name == name), None)
        return None


def shelf(named: str | None) -> Shelf:
    """What a user names: a run, a comparison, or a folder of them, by path or by name under runs/; runs/ for None.

    Raises:
        UsageError: it is none of these.
    """
    if named is None:
        return Shelf(runs.DEFAULT_ROOT.absolute())
    named.encode()  # a path that is not UTF-8 cannot be sent to a page: UnicodeEncodeError
    for path in (Path(named).resolve(), (runs.DEFAULT_ROOT / named).resolve()):
        if (path / "config.toml").is_file() or next(path.glob("*/*/config.toml"), None):
            return Shelf(path.parent, path.name)
        if next(path.glob("*/config.toml"), None):
            return Shelf(path)
    raise UsageError(
        f"there is no run or comparison '{named}': neither {Path(named)} nor {runs.DEFAULT_ROOT / named} holds one"
    )


def _runs_below(folder: Path, deep: int) -> Iterator[Path]:
    """`folder` if it is a run folder, or the run folders in it, down to this depth; the inside of a run is not
    searched.
    """
    if (folder / "config.toml").is_file():
        yield folder
        return
    try:
        inside = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except OSError:  # it has gone, or is not readable
        return
    for name in inside if deep else ():
        yield from _runs_below(folder / name, deep - 1)


def _nameable(place: Place) -> bool:
    """Whether its name is text; other names cannot be sent to a page."""
    try:
        place.name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _written(place: Place) -> float:
    """When it was last written, seconds since 1970."""
    times = []
    for run in place.runs:
        for file in (run.rounds_file, run.config_file):
            try:
                times.append(file.stat().st_mtime)
            except OSError:
                continue
            break
    return max(times, default=0.0)
