"""Everything in a comparison's report, computed from finished run folders."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp import metrics
from fedpolyp.config import AlgorithmConfig, Config
from fedpolyp.data.digest import Digest
from fedpolyp.data.partition.composition import Composition, compose
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.experiment.scores import BEST, HELD_OUT, LAST, METRICS, Scores, read_scores
from fedpolyp.experiment.statistics import SEEDS_NEEDED, Estimate, estimate, holm, p_of_no_difference
from fedpolyp.runs import RunFolder

POOLED, LOCAL = "pooled", "local"

# Near the quartiles of Kvasir-SEG's lesion areas (0.06, 0.11, 0.21 of the image), and fixed: reports can be compared.
SIZE_BOUNDS = (0.05, 0.20)
SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class Curve:
    """The course of one run, with a value for each round from 0."""

    seed: int
    rounds: tuple[int, ...]
    images: tuple[int, ...]  # training images seen since the start, repeats counted
    dice: tuple[float, ...]  # held-out
    hospitals: Mapping[str, tuple[tuple[int, float], ...]]  # each hospital's (round, Dice on its validation images)
    unseen: Mapping[str, tuple[tuple[int, float], ...]]  # each unseen source's (round, Dice)


@dataclass(frozen=True)
class Cost:
    """The cost of one run of an arm, the mean over its seeds.

    Seconds are not included: runs without a federation share the cores, while a federated run has them alone.
    """

    rounds: float
    images: float  # training images seen, repeats counted, at all hospitals together
    steps: float | None  # gradient steps, at all hospitals together; None if they were not recorded
    bytes_up: float  # sent by a hospital, mean over hospitals
    bytes_down: float  # received by a hospital, mean over hospitals


@dataclass(frozen=True)
class Arm:
    """One arm, over its seeds."""

    label: str  # its algorithm's name, unless it was given another
    algorithm: AlgorithmConfig
    runs: tuple[RunFolder, ...]
    seeds: tuple[int, ...]
    last: Mapping[str, Estimate]  # by metric: on the held-out set, after the last round
    best: Mapping[str, Estimate]  # in the round best on validation; empty without validation
    best_rounds: tuple[int, ...]  # these rounds, ascending
    over_pixels: Mapping[str, float]  # Dice of all held-out pixels together, by model: last, and best with validation
    own_tests: Mapping[str, Estimate]  # Dice on each hospital's own test images, last round; local: by its own model
    unseen: Mapping[str, Estimate]  # Dice on each source that no hospital has, last round
    without_polyp: Mapping[str, float]  # see metrics.without_polyp: held-out images, last round; empty for none
    by_size: tuple[Estimate | None, ...]  # held-out Dice of small, medium, large lesions; None if there are none
    cost: Cost
    curves: tuple[Curve, ...]

    @property
    def federated(self) -> bool:
        """Whether it is a federated arm, not pooled or local."""
        return self.algorithm.name not in (POOLED, LOCAL)

    @property
    def own_models(self) -> bool:
        """Whether each hospital has its own model."""
        return self.algorithm.name == LOCAL

    @property
    def worst(self) -> tuple[str, float] | None:
        """The hospital with the lowest Dice on its own test images, and that Dice."""
        scores = {name: score.value for name, score in self.own_tests.items()}
        return min(scores.items(), key=lambda item: item[1], default=None)

    @property
    def spread(self) -> float | None:
        """The highest minus the lowest Dice of the hospitals on their own test images."""
        values = [score.value for score in self.own_tests.values()]
        return max(values) - min(values) if values else None


@dataclass(frozen=True)
class Difference:
    """The held-out Dice of one arm minus that of another, on the same images and seeds."""

    arm: str
    other: str
    seeds: tuple[int, ...]  # those that both arms have
    last: Estimate
    best: Estimate | None  # None without validation
    p: float  # of no difference, last round
    p_adjusted: float  # by Holm, over all differences of the report with the same `among`
    among: bool  # whether both arms are federated

    @property
    def of_methods(self) -> bool:
        """Whether there are enough seeds to compare methods; otherwise the difference is between these models."""
        return len(self.seeds) >= SEEDS_NEEDED

    @property
    def claimed(self) -> bool:
        """Whether it is statistically significant: the interval excludes 0 and the adjusted p is below 0.05."""
        return self.last.excludes_zero and self.p_adjusted < 0.05


@dataclass(frozen=True)
class SiteRow:
    """The mean Dice of one model, in the last round, on every test set and the held-out set."""

    arm: str
    hospital: str  # whose own model it is; '' if the arm has one model for all
    dice: Mapping[str, float]  # by set


@dataclass(frozen=True)
class Analysis:
    """The contents of a report."""

    config: Config  # of the first run
    partition: Partition
    store: Store | None  # None when the images are gone
    arms: tuple[Arm, ...]
    differences: tuple[Difference, ...]
    sites: tuple[SiteRow, ...]
    size_counts: tuple[int, ...]  # held-out images with small, medium, large lesions
    test_mix: Mapping[str, tuple[int, ...]]  # by hospital: its test images without, with small, medium, large lesions
    composition: Composition | None  # what hospitals hold; None if the images are gone, or only the sites know them
    groups: int  # duplicate groups in the held-out set
    missing: tuple[str, ...]  # a sentence for each thing that is missing from a whole comparison
    unequal: tuple[str, ...]  # settings other than algorithm, rounds and seed that differ between runs

    @property
    def seeds(self) -> int:
        """The smallest number of seeds in an arm or a difference."""
        return min(map(len, [*(arm.seeds for arm in self.arms), *(found.seeds for found in self.differences)]))

    @property
    def of_methods(self) -> bool:
        """Whether there are enough seeds to compare methods; otherwise the page is about these models."""
        return self.seeds >= SEEDS_NEEDED


def analyse(runs: Sequence[RunFolder]) -> Analysis:
    """Read and compare `runs`: any arms, any seeds, one partition of the images. Runs without images.csv are left out.

    Raises:
        UsageError: no runs, runs on different partitions or without a held-out set, two of one arm and seed, or two of
            one label that are no arm.
        FedpolypError: no run is finished, or a file is damaged.
    """
    if not runs:
        raise UsageError("a report needs at least one run")
    configs = [run.config() for run in runs]
    partition = _common_partition(runs)
    if not partition.heldout:
        raise UsageError(
            f"{runs[0].path} has no held-out set, which a report needs to compare: it is a run at real sites"
        )
    finished = [pair for pair in zip(runs, configs, strict=True) if pair[0].images_file.exists()]
    if not finished:
        raise FedpolypError(f"no run is finished yet: there is no {runs[0].images_file}")
    if twice := [key for key, count in Counter((c.label, c.seed) for _, c in finished).items() if count > 1]:
        both = " and ".join(str(run.path) for run, c in finished if (c.label, c.seed) == twice[0])
        raise UsageError(f"{both} are the same arm with the same seed; give one of them")
    digest, undigested = _common_images(runs)
    store, change = _store(finished[0][0], partition, digest)
    evidence = _Evidence.of(read_scores(run for run, _ in finished), partition, store)
    by_label: dict[str, list[tuple[RunFolder, Config]]] = {}
    for run, config in finished:
        by_label.setdefault(config.label, []).append((run, config))
    for label, pairs in by_label.items():
        _refuse_another_algorithm(label, pairs)
    of_label = {label: pairs[0][1].algorithm.name for label, pairs in by_label.items()}
    # After these two, the arms stay in the given order.
    order = sorted(by_label, key=lambda label: (of_label[label] != POOLED, of_label[label] != LOCAL))
    arms = tuple(_arm(label, by_label[label], evidence) for label in order)
    return Analysis(
        config=finished[0][1],
        partition=partition,
        store=store,
        arms=arms,
        differences=_differences(arms, evidence),
        sites=tuple(_sites(arms, evidence.scores)),
        size_counts=tuple(int((evidence.sizes == size).sum()) for size in range(len(SIZES))),
        test_mix={name: mix for name in partition.hospitals if (mix := _mix(evidence.scores, f"test:{name}"))},
        composition=_composition(partition, store),
        groups=len(np.unique(evidence.groups(evidence.heldout))),
        missing=(*_missing(arms, list(zip(runs, configs, strict=True))), *undigested, *change),
        unequal=tuple(_unequal(finished)),
    )


def size_places(areas: NDArray[np.float64]) -> NDArray[np.intp]:
    """A place in `SIZES` for each area of a lesion, a fraction of the image; both bounds are medium."""
    return np.asarray((areas >= SIZE_BOUNDS[0]).astype(np.intp) + (areas > SIZE_BOUNDS[1]))


def _mix(scores: Scores, of: str) -> tuple[int, ...]:
    """How many images of the set `of` have no lesion, a small, a medium, a large one; empty if it was not scored."""
    own = scores.where(set=of)
    areas = np.array(list(dict(zip(own.id.tolist(), own.area.tolist(), strict=True)).values()))
    if not len(areas):
        return ()
    sizes = np.bincount(size_places(areas[areas > 0]), minlength=len(SIZES)).tolist()
    return int((areas == 0).sum()), *sizes


def _composition(partition: Partition, store: Store | None) -> Composition | None:
    if store is None or not all(own.everything for own in partition.hospitals.values()):
        return None
    return compose(partition, store)


def _refuse_another_algorithm(label: str, runs: Sequence[tuple[RunFolder, Config]]) -> None:
    """Refuse different arms with the same label: their mean would belong to no algorithm."""
    for (one, before), (other, after) in pairwise(runs):
        if (before.algorithm, before.privacy) != (after.algorithm, after.privacy):
            raise UsageError(
                f"{one.path} and {other.path} are both called '{label}', but are {_described(before)} and "
                f"{_described(after)}; give each its own label (--arm-label)"
            )


def _described(config: Config) -> str:
    """'fedprox with mu 0.1'."""
    algorithm, privacy = config.algorithm, config.privacy
    own = ", ".join(f"{name} {value}" for name, value in algorithm.own.items())
    promised = f", privacy {privacy.mode} with epsilon {privacy.epsilon:g}" if privacy.on else ""
    summed = ", secure sums" if privacy.secure_sums else ""
    return (f"{algorithm.name} with {own}" if own else algorithm.name) + promised + summed


def _common_partition(runs: Sequence[RunFolder]) -> Partition:
    partition = runs[0].partition()
    for run in runs[1:]:
        if run.partition() != partition:
            raise UsageError(f"{run.path} was made with another partition of the images than {runs[0].path}")
    return partition


def _common_images(runs: Sequence[RunFolder]) -> tuple[Digest | None, list[str]]:
    """The digest that identifies the images of all runs, and a sentence if some runs have none.

    Raises:
        UsageError: two runs have different images or masks.
    """
    known = [(run, digest) for run in runs if (digest := run.digest()) is not None]
    for run, digest in known[1:]:
        if change := known[0][1].change(digest):
            raise UsageError(f"{run.path} has other images than {known[0][0].path}: {change}")
    said = []
    if len(known) < len(runs):
        said.append(
            f"Runs without digest.json, which identifies a run's images: {len(runs) - len(known)} of {len(runs)} runs. "
            "It is not known whether the images are the same in all runs."
        )
    return (known[0][1] if known else None), said


def _store(run: RunFolder, partition: Partition, digest: Digest | None) -> tuple[Store | None, list[str]]:
    """The store of the run's images, None if they are gone or have changed; a sentence if they have."""
    try:
        path = run.environment().get("store")
        store = Store.open(Path(path)) if isinstance(path, str) else None
        change = "" if store is None or digest is None else digest.change(Digest.of(partition, store))
        if store is not None and digest is None:
            Digest.of(partition, store)  # the store has all of them
    except FedpolypError:
        return None, []
    if change:
        return None, [f"The images have changed since the training, so none of them is shown: {change}."]
    return store, []


@dataclass(frozen=True)
class _Evidence:
    """The data that every number is computed from."""

    scores: Scores
    partition: Partition
    heldout: tuple[str, ...]  # the held-out images with a polyp
    group_of: Mapping[str, int]  # by image; empty without a store
    sizes: NDArray[np.intp]  # (N,) of the lesion in each of `heldout`: a place in SIZES

    @classmethod
    def of(cls, scores: Scores, partition: Partition, store: Store | None) -> "_Evidence":
        heldout = _with_polyp(scores, HELD_OUT, partition.heldout)
        areas = dict(zip(scores.id.tolist(), scores.area.tolist(), strict=True))
        shares = np.array([areas.get(id, 0.0) for id in heldout])
        sizes = size_places(shares)
        groups = {} if store is None else {record.id: record.group for record in store.records}
        return cls(scores, partition, heldout, groups, sizes)

    def groups(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """The group of each image; without a store, every image is a group."""
        return np.array([self.group_of[id] for id in ids] if self.group_of else range(len(ids)), np.intp)

    def values(self, arm: str, seeds: Sequence[int], kind: str, metric: str = "dice") -> NDArray[np.float64]:
        """A score by seed and held-out image, (S, N): the mean over the hospitals' models in the local arm."""
        return self.on(self.heldout, HELD_OUT, seeds, metric, arm=arm, kind=kind)

    def mean(self, ids: Sequence[str], of: str, seeds: Sequence[int], **wanted: str) -> Estimate:
        """The mean Dice in the set `of`, whose images are `ids`; over those with a polyp, unless none has one."""
        there = _with_polyp(self.scores, of, ids)
        return _score(self.on(there, of, seeds, **wanted), self.groups(there))

    def without_polyp(self, arm: str) -> dict[str, float]:
        """The predictions of an arm's last models in the held-out images without a polyp, the mean over models."""
        rows = self.scores.where(arm=arm, kind=LAST, set=HELD_OUT)
        found = metrics.without_polyp(rows.counts)
        return found | {"images": len(np.unique(rows.id[rows.area == 0]))} if found else found

    def on(
        self, ids: Sequence[str], of: str, seeds: Sequence[int], metric: str = "dice", **wanted: str
    ) -> NDArray[np.float64]:
        """A score by seed and image, (S, N), in the set `of`."""
        chosen = self.scores.where(set=of, **wanted)
        try:
            return np.stack([chosen.where(seed=seed).by_image(ids, metric) for seed in seeds])
        except KeyError as error:
            what = " ".join([*wanted.values(), of])
            raise FedpolypError(f"an images.csv is incomplete: it has no row about image {error} ({what})") from None


def _with_polyp(scores: Scores, of: str, ids: Sequence[str]) -> tuple[str, ...]:
    """The `ids` that have a polyp by the rows of the set `of`; all if none has."""
    rows = scores.where(set=of)
    there = set(rows.id[rows.area > 0].tolist())
    return tuple(id for id in ids if id in there) or tuple(ids)


def _arm(label: str, runs: Sequence[tuple[RunFolder, Config]], evidence: _Evidence) -> Arm:
    runs = sorted(runs, key=lambda pair: pair[1].seed)
    seeds, algorithm = tuple(config.seed for _, config in runs), runs[0][1].algorithm
    records = [run.rounds() for run, _ in runs]
    for (run, config), held in zip(runs, records, strict=True):
        if [record["round"] for record in held] != list(range(len(held))):
            raise FedpolypError(f"{run.rounds_file} is damaged: its rounds are not consecutive")
        if len(held) != config.federation.rounds + 1 and not run.stopped:
            raise FedpolypError(
                f"{run.rounds_file} is damaged: the run is finished, and it holds {max(0, len(held) - 1)} of "
                f"{config.federation.rounds} rounds"
            )
    hospitals, groups = evidence.partition.hospitals, evidence.groups(evidence.heldout)

    def held_out(kind: str) -> dict[str, Estimate]:
        return {metric: _score(evidence.values(label, seeds, kind, metric), groups) for metric in METRICS}

    def over_pixels(kind: str) -> float:
        chosen = evidence.scores.where(arm=label, kind=kind, set=HELD_OUT)
        models = sorted(set(zip(chosen.seed.tolist(), chosen.trainer.tolist(), strict=True)))
        return float(np.mean([chosen.where(seed=seed, trainer=name).over_pixels for seed, name in models]))

    validated = all(any(record["val_dice"] is not None for record in run) for run in records)
    best_rounds = evidence.scores.where(arm=label, kind=BEST).round
    dice, chosen = evidence.values(label, seeds, LAST), [evidence.sizes == size for size in range(len(SIZES))]
    own = {}
    for name in sorted(hospitals):
        ids = hospitals[name].test
        if ids and not runs[0][1].privacy.on:  # with privacy, hospitals send no scores
            trainer = {"trainer": name} if algorithm.name == LOCAL else {}
            own[name] = evidence.mean(ids, f"test:{name}", seeds, arm=label, kind=LAST, **trainer)
    return Arm(
        label=label,
        algorithm=algorithm,
        runs=tuple(run for run, _ in runs),
        seeds=seeds,
        last=held_out(LAST),
        best=held_out(BEST) if validated else {},
        best_rounds=tuple(np.unique(best_rounds).tolist()) if validated else (),
        over_pixels={kind: over_pixels(kind) for kind in (LAST, BEST)[: 1 + validated]},
        own_tests=own,
        unseen={
            source: evidence.mean(ids, f"unseen:{source}", seeds, arm=label, kind=LAST)
            for source, ids in evidence.partition.unseen.items()
        },
        without_polyp=evidence.without_polyp(label),
        by_size=tuple(_score(dice[:, rows], groups[rows]) if rows.any() else None for rows in chosen),
        cost=_cost([config for _, config in runs], records, len(hospitals)),
        curves=tuple(_curve(config, run) for (_, config), run in zip(runs, records, strict=True)),
    )


def _score(values: NDArray[np.float64], groups: NDArray[np.intp]) -> Estimate:
    """The mean score with its interval, cut to the range of scores."""
    found = estimate(values, groups)
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high))


def _seen(record: Mapping[str, Any], config: Config) -> int:
    everyone = record["hospitals"].values()
    if config.privacy.on:  # each unit once a round
        return sum(own.get("units", 0) for own in everyone)
    return sum(config.training.images_seen(own["images"]) for own in everyone if own.get("images"))


def _cost(configs: Sequence[Config], runs: Sequence[list[dict[str, Any]]], hospitals: int) -> Cost:
    def mean(values: Iterable[float]) -> float:
        return float(np.mean(list(values)))

    counted = all("steps" in record for run in runs for record in run)
    return Cost(
        rounds=mean(run[-1]["round"] for run in runs),
        images=mean(sum(_seen(record, c) for record in run) for c, run in zip(configs, runs, strict=True)),
        steps=mean(sum(record["steps"] for record in run) for run in runs) if counted else None,
        bytes_up=mean(sum(record["bytes_up"] for record in run) for run in runs) / hospitals,
        bytes_down=mean(sum(record["bytes_down"] for record in run) for run in runs) / hospitals,
    )


def _curve(config: Config, records: list[dict[str, Any]]) -> Curve:
    hospitals: dict[str, list[tuple[int, float]]] = {}
    unseen: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, own in record["hospitals"].items():
            if own.get("val_dice") is not None:
                hospitals.setdefault(name, []).append((record["round"], own["val_dice"]))
        for name, dice in record.get("unseen", {}).items():
            unseen.setdefault(name, []).append((record["round"], dice))
    return Curve(
        seed=config.seed,
        rounds=tuple(record["round"] for record in records),
        images=tuple(np.cumsum([_seen(record, config) for record in records]).tolist()),
        dice=tuple(record["dice"] for record in records),
        hospitals={name: tuple(points) for name, points in sorted(hospitals.items())},
        unseen={name: tuple(points) for name, points in sorted(unseen.items())},
    )


def _differences(arms: Sequence[Arm], evidence: _Evidence) -> tuple[Difference, ...]:
    pooled, local = ([arm for arm in arms if arm.algorithm.name == name] for name in (POOLED, LOCAL))
    pairs = [(arm, other) for arm in arms if arm.federated for other in (*pooled, *local)]
    pairs += [(arm, other) for arm in local for other in pooled]
    federated = [arm for arm in arms if arm.federated]
    among = [(one, two) for place, two in enumerate(federated) for one in federated[place + 1 :]]
    # Two families: the number of federated arms must not hide what federation costs.
    return (*_family(pairs, evidence, False), *_family(among, evidence, True))


def _family(pairs: Sequence[tuple[Arm, Arm]], evidence: _Evidence, among: bool) -> tuple[Difference, ...]:
    """The differences between these arms, with p adjusted for all of them."""
    groups = evidence.groups(evidence.heldout)

    def paired(label: str, other: str, seeds: Sequence[int], kind: str) -> NDArray[np.float64]:
        return np.asarray(evidence.values(label, seeds, kind) - evidence.values(other, seeds, kind))

    found: list[Difference] = []
    for one, two in pairs:
        label, other = one.label, two.label
        if seeds := tuple(seed for seed in one.seeds if seed in two.seeds):
            last = paired(label, other, seeds, LAST)
            best = estimate(paired(label, other, seeds, BEST), groups) if one.best and two.best else None
            p = p_of_no_difference(last, groups)
            found.append(Difference(label, other, seeds, estimate(last, groups), best, p, p, among))
    adjusted = holm([difference.p for difference in found])
    return tuple(replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True))


def _sites(arms: Iterable[Arm], scores: Scores) -> Iterable[SiteRow]:
    for arm in arms:
        of_arm = scores.where(arm=arm.label, kind=LAST)
        for trainer in np.unique(of_arm.trainer).tolist():
            rows = of_arm.where(trainer=trainer)
            yield SiteRow(arm.label, trainer, {name: _dice(rows.where(set=name)) for name in np.unique(rows.set)})


def _dice(rows: Scores) -> float:
    """The mean over the images with a polyp, unless none has one."""
    return float(rows.score("dice")[metrics.with_polyp(rows.counts)].mean())


def _missing(arms: Sequence[Arm], given: Sequence[tuple[RunFolder, Config]]) -> Iterable[str]:
    if len(given) > 1:
        for algorithm in (POOLED, LOCAL):
            if algorithm not in [arm.algorithm.name for arm in arms]:
                yield f"There is no finished {algorithm} run."
        if not any(arm.federated for arm in arms):
            yield "There is no finished federated run."
    for run, config in given:
        if not run.images_file.exists():
            done = max(0, len(run.rounds()) - 1)
            name, rounds = f"{config.label}, seed {config.seed}", config.federation.rounds
            yield f"One run is left out because it is not finished: {name}, after {done} of {rounds} rounds."
    seeds = sorted({seed for arm in arms for seed in arm.seeds})
    for arm in arms:
        if absent := [str(seed) for seed in seeds if seed not in arm.seeds]:
            yield f"The {arm.label} arm has no finished run with seed {', '.join(absent)}, which other arms have."


def _unequal(finished: Sequence[tuple[RunFolder, Config]]) -> Iterable[str]:
    all_settings = [_settings(config) for _, config in finished]
    for name in all_settings[0]:
        if any(before[name] != after[name] for before, after in pairwise(all_settings)):
            told: dict[str, str] = {}
            for (_, config), settings in zip(finished, all_settings, strict=True):
                told.setdefault(str(settings[name]), f"{config.label}/{config.seed}")
            yield f"{name} is " + ", but ".join(f"{value} in {where}" for value, where in told.items())


def _settings(config: Config) -> dict[str, object]:
    """The settings that all runs of a comparison should share, by dotted name."""
    plain = config.model_dump(
        exclude={"runtime": True, "seed": True, "arm_label": True, "algorithm": True, "data": {"seed"}}
    )
    flat = {f"{section}.{name}": value for section, values in plain.items() for name, value in values.items()}
    return {name: v for name, v in flat.items() if name != "federation.rounds"}
