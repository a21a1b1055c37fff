"""A comparison of arms: its runs, all on one partition, and which of them are still to be carried out."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from fedpolyp import runs
from fedpolyp.algorithms.finding import BUILT_IN, known
from fedpolyp.config import Config, label_of, load, value_of
from fedpolyp.config.config import LABEL, LABEL_LIKE
from fedpolyp.data.digest import Digest
from fedpolyp.data.partition.assign import counted, partition_images
from fedpolyp.data.store import Store
from fedpolyp.errors import UsageError
from fedpolyp.rounds.refusing import refuse_impossible
from fedpolyp.runs import RunFolder

Number = TypeVar("Number", int, float)

ARMS = ("pooled", "local", "fedavg")  # unless others are asked for
_FIXED = ("seed", "data", "hospitals", "runtime")  # what all arms of a comparison share
_KNOWN_OTHERWISE: Any = {"runtime": True, "data": {"source"}, "hospitals": {"partition"}}  # by hashes; or of no bit
_TAKEN = ("command.txt", "report.html", "figures", "tables")  # in a comparison's folder, beside the arms


@dataclass(frozen=True)
class Arm:
    """One way to train, in all runs of a comparison: its label, and the settings that are its own.

    Raises:
        UsageError: it sets what all arms must share, or its label is the name of another part of a comparison.
    """

    label: str
    settings: Mapping[str, object]  # by dotted name

    def __post_init__(self) -> None:
        if fixed := sorted(name for name in self.settings if name.partition(".")[0] in _FIXED):
            raise UsageError(
                f"all arms have the same images, hospitals, seeds and machine; the arm {self.label} cannot set "
                f"{', '.join(fixed)}"
            )
        if self.label in _TAKEN:
            raise UsageError(f"no arm can be called '{self.label}': a comparison has something else of that name")


@dataclass(frozen=True)
class Job:
    """One run of a comparison: an arm with a seed."""

    config: Config
    run: RunFolder

    @property
    def name(self) -> str:
        """The arm and the seed, which is also where the run lies in the comparison's folder."""
        return f"{self.config.label}/{self.config.seed}"

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
    arms: Sequence[Arm],
    seeds: int = 1,
    rounds: Mapping[str, int] | None = None,
    learning_rates: Mapping[str, float] | None = None,
) -> list[Job]:
    """The runs of a comparison in `folder`, seed by seed.

    Every arm has the settings of `base` but for its own, its rounds and its learning rate. Seeds count up from the
    base's; they change the initial weights and the random draws, never the partition, which all runs share.

    Args:
        folder: `<arm>/<seed>` lies below it.
        base: the settings that the arms have in common.
        arms: in the order of the report.
        seeds: at least 1.
        rounds: by arm, '' for all others; the arm's or the base's where nothing is said.
        learning_rates: likewise.

    Raises:
        UsageError: an arm or a number is none that is allowed.
    """
    labels = [arm.label for arm in arms]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise UsageError(f"two arms are called '{twice}': give one of them another label")
    if not arms:
        raise UsageError("a comparison needs an arm: --arms, or --arm")
    if seeds < 1:
        raise UsageError(f"--seeds must be at least 1; got {seeds}")
    for option, values in (("--rounds", rounds), ("--learning-rate", learning_rates)):
        if unknown := [name for name in values or () if name and name not in labels]:
            raise UsageError(f"{option} names {', '.join(unknown)}; the arms are {', '.join(labels)}")
    found = []
    for number in range(seeds):
        for arm in arms:
            changes = dict(arm.settings)
            for name, given in (("federation.rounds", rounds), ("training.learning_rate", learning_rates)):
                if (value := _given(arm, name, given)) is not None:
                    changes[name] = value
            if number:
                changes |= {"seed": base.seed + number, "data.seed": base.data_seed}
            config = _changed(base, arm.label, changes)
            found.append(Job(config, RunFolder(folder / arm.label / str(config.seed))))
    return found


def named_arms(names: Sequence[str], may_be_none: bool = False) -> list[Arm]:
    """An arm for each algorithm in `names`.

    Raises:
        UsageError: there is no such algorithm, one is named twice, or there is none where one is needed.
    """
    unknown = [name for name in names if name not in known() and ":" not in name]
    if unknown or not (names or may_be_none) or len(set(names)) < len(names):
        raise UsageError(f"--arms takes any of {', '.join(known())}, each once; got {','.join(names) or 'nothing'}")
    return [Arm(label_of(name), {"algorithm.name": name}) for name in names]


def parse_arm(text: str) -> Arm:
    """An arm from 'LABEL: setting=value …', for example 'far: algorithm=fedprox mu=0.1 training.learning_rate=0.01'.

    A name without a dot is one of the algorithm's own settings.

    Raises:
        UsageError: it is not valid.
    """
    label, colon, rest = text.partition(":")
    settings: dict[str, object] = {}
    try:
        parts = shlex.split(rest)
    except ValueError as error:
        raise UsageError(f"--arm takes 'LABEL: setting=value …'; got '{text}': {error}") from None
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"--arm takes 'LABEL: setting=value …'; got '{part}' in '{text}'")
        full = (
            "algorithm.name" if name == "algorithm" else name if "." in name or name in _FIXED else f"algorithm.{name}"
        )
        if full in settings:
            raise UsageError(f"--arm gives {name} twice in '{text}'")
        settings[full] = value_of(value)
    if not colon or not LABEL.fullmatch(label.strip()) or not settings:
        raise UsageError(f"--arm takes 'LABEL: setting=value …', with a label like {LABEL_LIKE}; got '{text}'")
    return Arm(label.strip(), settings)


def prepare(wanted: Sequence[Job], store: Store) -> list[Job]:
    """Partition the images, once for all runs, and make the missing run folders.

    Returns:
        The jobs; their configs have the number of hospitals in the partition.

    Raises:
        UsageError: a run folder exists that was made with other settings, or one in the comparison was made with
            another partition or other images; a run would be stopped, because a round has too few hospitals.
    """
    partition = partition_images(store.records, wanted[0].config, store)
    wanted = [replace(job, config=counted(job.config, partition)) for job in wanted]
    records = {record.id: record for record in store.records}
    for job in wanted:
        try:
            refuse_impossible(job.config, partition, records=records)
        except UsageError as error:
            raise UsageError(f"the arm {job.config.label}, seed {job.config.seed}: {error}") from None
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
                f"{path} was made with another partition of the images, and a report is about one partition; choose "
                f"another --out, or give what made that partition (--data-seed {run.config().data_seed}, if nothing "
                "else differs)"
            )
        run.refuse_changed(store)
    for job in wanted:
        if job.run.path not in there:
            runs.create(job.run.path, job.config, partition, store.path, digest)
        elif job.run.config().data.source != job.config.data.source:
            with job.run.locked():
                job.run.change(job.config, store.path)
    return wanted


def refuse_other(folder: Path) -> None:
    """Raise a UsageError if `folder` exists and is neither empty nor a comparison's."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file; --out must be a folder to make, an empty one, or a comparison's")
    names = {path.name for path in folder.iterdir()}
    ours = "command.txt" in names or names <= BUILT_IN.keys() or next(folder.glob("*/*/config.toml"), None)
    if {"images", "masks"} <= names or not ours:
        raise UsageError(f"{folder} holds something other than a comparison; choose another --out")


def begun_in(folder: Path) -> Config | None:
    """The config of one of the runs in the comparison folder `folder`; None if it has no runs yet.

    Raises:
        UsageError: it cannot be read.
    """
    found = next(folder.glob("*/*/config.toml"), None)
    return None if found is None else RunFolder(found.parent).config()


def runs_in(folder: Path) -> list[RunFolder]:
    """The run folders of the comparison in `folder`: by arm (pooled, local, then the others), then by seed.

    Raises:
        UsageError: there are none.
    """
    found = [RunFolder(path.parent) for path in folder.glob("*/*/config.toml")]
    if not found:
        raise UsageError(f"{folder} holds no comparison: there is no {folder}/<arm>/<seed>/config.toml")
    order = {arm: place for place, arm in enumerate(BUILT_IN)}
    return sorted(found, key=lambda run: (order.get(run.path.parent.name, len(order)), run.path.parent, _seed(run)))


def parse_rounds(text: str) -> dict[str, int]:
    """Rounds by arm from '40' (for all) or 'pooled=40,fedavg=120'.

    Raises:
        UsageError: it is neither.
    """
    rounds = _by_arm("--rounds", text, int)
    if not rounds or min(rounds.values()) < 1:
        raise UsageError(f"--rounds must be a number from 1 on, or like pooled=40,fedavg=120; got '{text}'")
    return rounds


def parse_learning_rates(text: str) -> dict[str, float]:
    """Learning rates by arm from '0.001' (for all) or 'pooled=0.001,fedavg=0.003'.

    Raises:
        UsageError: it is neither.
    """
    rates = _by_arm("--learning-rate", text, float)
    if not all(0 < rate <= 1 for rate in rates.values()) or not rates:
        raise UsageError(
            f"--learning-rate must be a number above 0 and up to 1, or like pooled=0.001,fedavg=0.003; got '{text}'"
        )
    return rates


def _by_arm(option: str, text: str, kind: type[Number]) -> dict[str, Number]:
    """What `text` gives to each arm, '' for a number without a name; empty if it cannot be read.

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


def _given(arm: Arm, name: str, given: Mapping[str, Number] | None) -> Number | None:
    """The user's value for the setting `name` in `arm`: first by the arm's name, then from the arm's own settings."""
    if given is None or arm.label in given:
        return None if given is None else given[arm.label]
    return None if name in arm.settings else given.get("")


def _seed(run: RunFolder) -> int:
    return int(run.name) if run.name.isdigit() else -1


def _changed(base: Config, label: str, changes: Mapping[str, object]) -> Config:
    """`base` with `changes`, as the arm `label`.

    Raises:
        UsageError: the arm is not possible; the message names it.
    """
    plain = base.model_dump(exclude_defaults=True)
    plain.pop("arm_label", None)
    flat = {name: value for name, value in plain.items() if not isinstance(value, dict)}
    flat |= {f"{section}.{name}": v for section, t in plain.items() if isinstance(t, dict) for name, v in t.items()}
    algorithm = changes.get("algorithm.name", base.algorithm.name)
    if algorithm != base.algorithm.name:  # its settings belong to no other algorithm
        flat = {name: value for name, value in flat.items() if not name.startswith("algorithm.")}
    flat |= dict(changes)
    if label != label_of(str(algorithm)):
        flat["arm_label"] = label
    try:
        return load(overrides=flat)
    except UsageError as error:
        raise UsageError(f"the arm {label}: {error}") from None


def _differences(there: Config, here: Config) -> str:
    """The differences in what decides the bits, as 'training.batch_size 4 there, 8 here'."""
    before, now = (_settings(config) for config in (there, here))
    differing = [name for name in now if before.get(name) != now[name]]  # another algorithm has different settings
    return "; ".join(f"{name} {before.get(name, 'not')} there, {now[name]} here" for name in differing)


def _settings(config: Config) -> dict[str, object]:
    plain = config.model_dump(mode="json", exclude=_KNOWN_OTHERWISE)
    settings: dict[str, object] = {}
    for name, value in plain.items():
        settings |= {f"{name}.{member}": v for member, v in value.items()} if isinstance(value, dict) else {name: value}
    return settings
