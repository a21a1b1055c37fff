"""fedpolyp from Python: `simulate`, `compare`, and their results as objects.

Each run is carried out in its own process, exactly as by the command line: the bits are the same, and nothing of Ray,
Flower or TensorFlow's threads is left in the calling process.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedpolyp import runs
from fedpolyp.config import Config, load
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.experiment.comparison import ARMS, Arm, Job, named_arms, runs_in
from fedpolyp.experiment.prepared import prepared
from fedpolyp.experiment.processes import Screen, carry_out
from fedpolyp.experiment.settled import settled
from fedpolyp.experiment.single import Audience, create, refuse_fewer_rounds
from fedpolyp.runs import RunFolder
from fedpolyp.table import Table

if TYPE_CHECKING:
    from fedpolyp.experiment.findings import Analysis
    from fedpolyp.inference.predictor import Predictor

Data = str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]]
Settings = Mapping[str, object]


class Run:
    """A run and its results; `load_run` loads one."""

    def __init__(self, folder: RunFolder) -> None:
        """`folder` is that of a run of this version."""
        self.folder = folder

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def config(self) -> Config:
        """Every setting of the run."""
        return self.folder.config()

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        return self.folder.finished

    @property
    def dice(self) -> float | None:
        """Held-out Dice of the newest complete round, the mean over images; None before the first."""
        records = self.folder.rounds()
        return records[-1]["dice"] if records else None

    @property
    def rounds(self) -> Table:
        """A row for each complete round, from round 0 (the initial weights): scores, loss, seconds, bytes."""
        plain = [{name: v for name, v in record.items() if _is_plain(v)} for record in self.folder.rounds()]
        return Table(plain)

    @property
    def hospitals(self) -> Table:
        """A row for each round and hospital: what the hospital reported about its training and its own images."""
        return Table(
            {"round": record["round"], "hospital": name, **{key: v for key, v in own.items() if _is_plain(v)}}
            for record in self.folder.rounds()
            for name, own in record["hospitals"].items()
        )

    @property
    def images(self) -> Table:
        """A row for each scored image and model: arm, seed, model, hospital, round, set, id, and the scores.

        `model` is 'last', 'best' (on validation) or 'own' (fine-tuned after the last round). `hospital` is the one
        whose own model it is, '' for a model of all.

        Raises:
            FedpolypError: the run is not finished.
        """
        from fedpolyp.experiment.scores import METRICS, read_scores

        if not self.finished:
            raise FedpolypError(f"{self.path} has not scored its images yet: it is not finished")
        scores = read_scores([self.folder])
        named = {"arm": "arm", "seed": "seed", "model": "kind", "hospital": "trainer"}
        columns = {name: getattr(scores, column).tolist() for name, column in named.items()}
        columns |= {name: getattr(scores, name).tolist() for name in ("round", "set", "id")}
        columns |= {metric: scores.score(metric).tolist() for metric in METRICS}
        return Table((dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)), [*columns])

    def predictor(self, which: Literal["last", "best"] = "last") -> "Predictor":
        """The run's model, of its last round or of the round best on validation.

        Raises:
            UsageError: the run has none, or one for each hospital.
        """
        from fedpolyp.inference.predictor import Predictor

        return Predictor.load(self.path, which)

    def resume(self, rounds: int | None = None, *, quiet: bool = False) -> "Run":
        """Resume an interrupted run, or extend it to more `rounds`; returns itself.

        Raises:
            UsageError: it cannot have these rounds.
            FedpolypError: it could not be finished.
        """
        if rounds is not None:
            refuse_fewer_rounds(self.config, rounds)
        _carry_out(self.folder, rounds, quiet)
        return self

    def __repr__(self) -> str:
        """Its folder, and how many rounds are complete."""
        done = max(0, len(self.folder.rounds()) - 1)
        return f"Run({str(self.path)!r}: {done} of {self.config.federation.rounds} rounds)"


class Comparison:
    """Runs of several arms on the same partition, and the report about them."""

    def __init__(self, path: Path) -> None:
        """`path` is the comparison's folder.

        Raises:
            UsageError: it is not a comparison's.
        """
        self.path = path
        self.runs = tuple(Run(folder) for folder in runs_in(path))

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.path / "report.html"

    @property
    def arms(self) -> Table:
        """A row for each arm: the held-out Dice after the last round with its 95 % interval, and the report's other
        numbers.

        Raises:
            FedpolypError: no run is finished.
        """
        return Table(
            {
                "arm": arm.label,
                "seeds": len(arm.seeds),
                **{metric: estimate.value for metric, estimate in arm.last.items()},
                "dice_low": arm.last["dice"].low,
                "dice_high": arm.last["dice"].high,
                "dice_best": arm.best["dice"].value if arm.best else None,
                "dice_over_pixels": arm.over_pixels.get("last"),
            }
            for arm in self._analysis().arms
        )

    @property
    def differences(self) -> Table:
        """A row for each pair of arms: the difference of their held-out Dice with its 95 % interval, and p after Holm.

        Raises:
            FedpolypError: no run is finished.
        """
        return Table(
            {
                "arm": one.arm,
                "other": one.other,
                "seeds": len(one.seeds),
                **{("difference" if name == "value" else name): value for name, value in asdict(one.last).items()},
                "p": one.p_adjusted,
            }
            for one in self._analysis().differences
        )

    def _analysis(self) -> "Analysis":
        from fedpolyp.experiment.analysis import analyse

        return analyse([run.folder for run in self.runs])

    def __repr__(self) -> str:
        """Its folder, and its number of runs."""
        return f"Comparison({str(self.path)!r}: {len(self.runs)} runs)"


def simulate(
    data: Data | None = None,
    *,
    hospitals: int | None = None,
    algorithm: str | None = None,
    rounds: int | None = None,
    image_size: int | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    preset: str | None = None,
    config: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Run:
    """Train a federation of hospitals on this machine, as `fedpolyp simulate` does.

    Args:
        data: a folder of images and masks, 'phantom', or several by name; the config's if it is left out.
        hospitals: how many there are.
        algorithm: its name, or module:Class.
        rounds: of the federation.
        image_size: in pixels.
        seed: fixes the partition, the initial weights and every random draw.
        settings: any other setting by its name in the config, as {"training.learning_rate": 0.01}.
        preset: named settings to start from.
        config: a TOML file of settings; the other arguments override it.
        out: the run folder to make; if it is left out, a folder under runs/ named by the time.
        quiet: whether nothing is printed; otherwise a line for each round.

    Raises:
        UsageError: the settings, the images or the folder cannot be used.
        FedpolypError: the run could not be finished; its folder can be resumed.
    """
    given = {
        "hospitals.count": hospitals,
        "algorithm.name": algorithm,
        "federation.rounds": rounds,
        "data.image_size": image_size,
        "seed": seed,
    }
    folder = create(
        _config(data, given, settings, preset, config), _path(out), Audience(_Nothing().note if quiet else print)
    )
    _carry_out(folder, None, quiet)
    return Run(folder)


def compare(
    data: Data | None = None,
    *,
    out: str | os.PathLike[str],
    arms: Sequence[str] | Mapping[str, Settings] = ARMS,
    seeds: int = 1,
    hospitals: int | None = None,
    rounds: int | Mapping[str, int] | None = None,
    learning_rate: float | Mapping[str, float] | None = None,
    image_size: int | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    preset: str | None = None,
    config: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Comparison:
    """Train several arms on the same partition, and write the report, as `fedpolyp compare` does.

    Called again with the same `out`, it resumes an interrupted comparison.

    Args:
        data: as in `simulate`.
        out: the folder of the comparison.
        arms: algorithms, or settings by an arm's label: {"near": {"algorithm.name": "fedprox", "algorithm.mu": 0.1}}.
        seeds: every arm is trained with each of so many seeds; five or more compare methods.
        hospitals: as in `simulate`.
        rounds: of every arm, or by arm.
        learning_rate: likewise.
        image_size: as in `simulate`.
        seed: the first; also fixes the partition.
        settings: as in `simulate`.
        preset: as in `simulate`.
        config: as in `simulate`.
        quiet: as in `simulate`.

    Raises:
        UsageError: the settings, the images or the folder cannot be used.
        FedpolypError: runs failed; the report is about the others.
    """
    given = {"hospitals.count": hospitals, "data.image_size": image_size, "seed": seed}
    chosen = [Arm(name, own) for name, own in arms.items()] if isinstance(arms, Mapping) else named_arms(arms)
    screen = _Nothing() if quiet else _Printed()
    comparison = prepared(
        Path(out),
        _config(data, given, settings, preset, config),
        chosen,
        f"fedpolyp.compare in {Path(sys.argv[0]).name or 'Python'}",
        seeds=seeds,
        rounds={"": rounds} if isinstance(rounds, int) else rounds,
        learning_rates={"": learning_rate} if isinstance(learning_rate, float | int) else learning_rate,
    )
    failures = comparison.carry_out(screen)
    made = Comparison(Path(out))
    if any(run.finished for run in made.runs):
        from fedpolyp.report.comparison import write_report

        write_report(made.path, [run.folder for run in made.runs])
    comparison.refuse(failures)
    return made


def load_run(run: str | os.PathLike[str]) -> Run:
    """The run in a folder, or with a name under runs/.

    Raises:
        UsageError: there is none.
    """
    return Run(runs.find(os.fspath(run)))


def load_comparison(folder: str | os.PathLike[str]) -> Comparison:
    """The comparison in a folder.

    Raises:
        UsageError: there is none.
    """
    return Comparison(Path(folder))


class _Nothing:
    """Ignores everything."""

    def begun(self, run: str, rounds: int, done: int) -> None:
        """Say nothing."""

    def round(self, run: str, record: dict[str, Any], rounds: int) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


class _Printed(_Nothing):
    """Prints a line for each round."""

    def round(self, run: str, record: dict[str, Any], rounds: int) -> None:
        """Print the scores of the round's model."""
        val = record["val_dice"]
        said = f"held-out Dice {record['dice']:.3f}" + ("" if val is None else f", validation Dice {val:.3f}")
        print(f"{run} round {record['round']}/{rounds}: {said}")

    def note(self, text: str) -> None:
        """Print it."""
        print(text)


def _carry_out(folder: RunFolder, rounds: int | None, quiet: bool) -> None:
    """Carry out a run in its own process."""
    config = folder.config()
    if rounds is not None:
        config = config.model_copy(update={"federation": config.federation.model_copy(update={"rounds": rounds})})
    screen: Screen = _Nothing() if quiet else _Printed()
    again = f"resume it with: fedpolyp.load_run({str(folder.path)!r}).resume()"
    if failures := carry_out([Job(config, folder)], config, screen, again):
        error = FedpolypError(failures[0].text)
        if failures[0].passing:
            error.add_note(again)
        raise error


def _config(
    data: Data | None,
    given: Mapping[str, object],
    settings: Settings | None,
    preset: str | None,
    file: str | os.PathLike[str] | None,
) -> Config:
    """The whole config that the arguments describe.

    Raises:
        UsageError: they are not valid, or a setting is given twice.
    """
    overrides = {name: value for name, value in given.items() if value is not None}
    if isinstance(data, Mapping):
        overrides["data.source"] = {name: os.fspath(place) for name, place in data.items()}
    elif data is not None:
        overrides["data.source"] = os.fspath(data)
    if twice := sorted(overrides.keys() & (settings or {}).keys()):
        raise UsageError(f"{twice[0]} is given twice: in settings and as an argument")
    return settled(load(_path(file), preset, overrides | dict(settings or {})))


def _path(given: str | os.PathLike[str] | None) -> Path | None:
    return None if given is None else Path(given)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
