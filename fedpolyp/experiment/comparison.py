"""A comparison of arms: which runs it is made of, all of one deal, and which of them are still to be carried out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from fedpolyp import runs
from fedpolyp.config import Config, FederationConfig, load
from fedpolyp.data.digest import Digest
from fedpolyp.data.hospitals import deal
from fedpolyp.data.store import Store
from fedpolyp.errors import UsageError
from fedpolyp.runs import RunFolder

Number = TypeVar("Number", int, float)

ARMS = ("pooled", "local", "federated")
STRATEGIES: tuple[str, ...] = get_args(FederationConfig.model_fields["strategy"].annotation)


@dataclass(frozen=True)
class Job:
    """One run of a comparison: an arm with a seed."""

    config: Config
    run: RunFolder

    @property
    def name(self) -> str:
        """The arm and the seed, which is also where the run lies in the comparison's folder."""
        return f"{self.config.arm_label}/{self.config.seed}"

    @property
    def rounds_done(self) -> int:
        """Complete rounds; -1 before the initial weights have been scored."""
        return len(self.run.rounds()) - 1

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: the pictures and models are what a run makes last."""
        return self.run.finished


def jobs(
    folder: Path,
    base: Config,
    *,
    arms: Sequence[str] = ARMS,
    strategies: Sequence[str] = (),
    seeds: int = 1,
    rounds: Mapping[str, int] | None = None,
    learning_rates: Mapping[str, float] | None = None,
) -> list[Job]:
    """The runs of a comparison in `folder`, seed by seed.

    Every arm has the settings of `base` but for its rounds and learning rate. Seeds count up from the base's; they
    change the initial weights and the random draws, never the images' deal, which all runs share.

    Args:
        folder: `<arm>/<seed>` lies below it.
        base: the settings that the arms have in common.
        arms: of `ARMS`.
        strategies: a federated arm for each; none for the base's own.
        seeds: at least 1.
        rounds: by arm ('federated' for every strategy) or by strategy, '' for all others; the base's where nothing is
            said.
        learning_rates: likewise.

    Raises:
        UsageError: an arm, a strategy or a number is none that is allowed.
    """
    _check("--arms", arms, ARMS)
    if strategies and "federated" not in arms:
        raise UsageError(f"--strategies is about the federated arm, which is not among --arms {','.join(arms)}")
    strategies = tuple(strategies) or (base.federation.strategy,)
    _check("--strategies", strategies, STRATEGIES)
    if seeds < 1:
        raise UsageError(f"--seeds must be at least 1; got {seeds}")
    for option, values in (("--rounds", rounds), ("--learning-rate", learning_rates)):
        named, trained = [name for name in values or () if name], [arm for arm in ARMS if arm in arms]
        _check(option, named, (*trained, *(strategies if "federated" in arms else ())), may_be_empty=True)
    labels: list[tuple[str, str]] = [
        (arm, base.federation.strategy) for arm in ARMS if arm in arms and arm != "federated"
    ]
    labels += [("federated", strategy) for strategy in strategies if "federated" in arms]
    found = []
    for number in range(seeds):
        for arm, strategy in labels:
            names = (strategy, arm) if arm == "federated" else (arm,)
            changes: dict[str, object] = {"arm": arm, "federation.strategy": strategy}
            changes["federation.rounds"] = _first(names, rounds, base.federation.rounds)
            changes["training.learning_rate"] = _first(names, learning_rates, base.training.learning_rate)
            if number:
                changes |= {"seed": base.seed + number, "data.seed": base.data_seed}
            config = _changed(base, changes)
            found.append(Job(config, RunFolder(folder / config.arm_label / str(config.seed))))
    return found


def prepare(wanted: Sequence[Job], store: Store) -> None:
    """Deal the images, once for all, and make the run folders that are not there yet.

    Raises:
        UsageError: a run folder is there and was made with other settings, or any in the comparison with another deal
            or other images.
    """
    partition = deal(store.records, wanted[0].config)
    digest = Digest.of(partition, store)
    there = {path.parent for path in wanted[0].run.path.parents[1].glob("*/*/config.toml")}
    for job in wanted:
        if job.run.path in there and (different := _differences(job.run.config(), job.config)):
            raise UsageError(
                f"{job.run.path} was made with other settings ({different}); give those again or choose another --out"
            )
    for path in sorted(there):
        if (run := RunFolder(path)).partition() != partition:
            raise UsageError(
                f"{path} was made with another deal of the images, and one report is about one deal; choose another "
                f"--out, or give what made that deal (--data-seed {run.config().data_seed}, if nothing else differs)"
            )
        run.refuse_changed(store)
    for job in wanted:
        if job.run.path not in there:
            runs.create(job.run.path, job.config, partition, store.path, digest)
        elif job.run.config().data.source != job.config.data.source:
            with job.run.locked():
                job.run.change(job.config, store.path)


def refuse_other(folder: Path) -> None:
    """Raise a UsageError when `folder` is there and is neither empty nor a comparison's."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file; --out must be a folder to make, an empty one, or a comparison's")
    names = {path.name for path in folder.iterdir()}
    ours = "command.txt" in names or names <= {*ARMS, *STRATEGIES} or next(folder.glob("*/*/config.toml"), None)
    if {"images", "masks"} <= names or not ours:
        raise UsageError(f"{folder} holds something else than a comparison; choose another --out")


def begun_in(folder: Path) -> Config | None:
    """The config of one of the runs that the comparison in `folder` has so far; None when it has none.

    Raises:
        UsageError: it cannot be read.
    """
    found = next(folder.glob("*/*/config.toml"), None)
    return None if found is None else RunFolder(found.parent).config()


def runs_in(folder: Path) -> list[RunFolder]:
    """The run folders of the comparison in `folder`: by arm (pooled, local, then the strategies), then by seed.

    Raises:
        UsageError: there are none.
    """
    found = [RunFolder(path.parent) for path in folder.glob("*/*/config.toml")]
    if not found:
        raise UsageError(f"{folder} holds no comparison: there is no {folder}/<arm>/<seed>/config.toml")
    order = {arm: place for place, arm in enumerate(("pooled", "local", *STRATEGIES))}
    return sorted(found, key=lambda run: (order.get(run.path.parent.name, len(order)), run.path.parent, _seed(run)))


def parse_rounds(text: str) -> dict[str, int]:
    """Rounds by arm out of '40' (for all) or 'pooled=40,federated=120'.

    Raises:
        UsageError: it is neither.
    """
    rounds = _by_arm("--rounds", text, int)
    if not rounds or min(rounds.values()) < 1:
        raise UsageError(f"--rounds must be a number from 1 on, or like pooled=40,federated=120; got '{text}'")
    return rounds


def parse_learning_rates(text: str) -> dict[str, float]:
    """Learning rates by arm out of '0.001' (for all) or 'pooled=0.001,federated=0.003'.

    Raises:
        UsageError: it is neither.
    """
    rates = _by_arm("--learning-rate", text, float)
    if not all(0 < rate <= 1 for rate in rates.values()) or not rates:
        raise UsageError(
            f"--learning-rate must be a number above 0 and up to 1, or like pooled=0.001,federated=0.003; got '{text}'"
        )
    return rates


def _by_arm(option: str, text: str, kind: type[Number]) -> dict[str, Number]:
    """What `text` gives to each arm, '' for a number without a name; empty when it cannot be read.

    Raises:
        UsageError: it gives two numbers to one arm.
    """
    found: dict[str, Number] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.rpartition("="))
        if name in found:
            raise UsageError(f"{option} gives {name or 'all arms'} two numbers; got '{text}'")
        try:
            found[name] = kind(number)
        except ValueError:
            return {}
    return found


def _first(names: Sequence[str], given: Mapping[str, Number] | None, otherwise: Number) -> Number:
    return next((given[name] for name in (*names, "") if given and name in given), otherwise)


def _seed(run: RunFolder) -> int:
    return int(run.name) if run.name.isdigit() else -1


def _check(option: str, given: Sequence[str], allowed: Sequence[str], may_be_empty: bool = False) -> None:
    unknown = [name for name in given if name not in allowed]
    if unknown or not (given or may_be_empty) or len(set(given)) < len(given):
        got = ",".join(given) or "nothing"
        raise UsageError(f"{option} takes any of {', '.join(allowed)}, each once; got {got}")


def _changed(base: Config, changes: Mapping[str, object]) -> Config:
    plain = base.model_dump(exclude_defaults=True)
    flat = {name: value for name, value in plain.items() if not isinstance(value, dict)}
    flat |= {f"{section}.{name}": v for section, t in plain.items() if isinstance(t, dict) for name, v in t.items()}
    return load(overrides=flat | dict(changes))


def _differences(there: Config, here: Config) -> str:
    """What decides the bits and differs, as 'training.batch_size 4 there, 8 here'."""
    before, now = (_settings(config) for config in (there, here))
    return "; ".join(f"{name} {before[name]} there, {now[name]} here" for name in now if before[name] != now[name])


def _settings(config: Config) -> dict[str, object]:
    plain = config.model_dump(mode="json", exclude={"runtime": True, "data": {"source"}})  # images have a digest
    settings: dict[str, object] = {}
    for name, value in plain.items():
        settings |= {f"{name}.{member}": v for member, v in value.items()} if isinstance(value, dict) else {name: value}
    return settings
