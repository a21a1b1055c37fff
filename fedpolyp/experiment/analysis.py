"""Everything in a comparison's report, computed from finished run folders."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp import metrics
from fedpolyp.config import Config
from fedpolyp.data.partition.composition import Composition, compose
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.experiment.comparable import (
    common_images,
    common_partition,
    missing,
    refuse_another_algorithm,
    store_of,
    unequal,
)
from fedpolyp.experiment.evidence import Evidence, score
from fedpolyp.experiment.findings import (
    LOCAL,
    POOLED,
    SIZES,
    Analysis,
    Arm,
    Cost,
    Curve,
    Difference,
    SiteRow,
    size_places,
)
from fedpolyp.experiment.scores import BEST, HELD_OUT, LAST, METRICS, OWN, Scores, read_scores
from fedpolyp.experiment.statistics import Estimate, estimate, holm, p_of_no_difference
from fedpolyp.runs import RunFolder


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
    partition = common_partition(runs)
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
    digest, undigested = common_images(runs)
    store, change = store_of(finished[0][0], partition, digest)
    evidence = Evidence.of(read_scores(run for run, _ in finished), partition, store)
    by_label: dict[str, list[tuple[RunFolder, Config]]] = {}
    for run, config in finished:
        by_label.setdefault(config.label, []).append((run, config))
    for label, pairs in by_label.items():
        refuse_another_algorithm(label, pairs)
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
        missing=(*missing(arms, list(zip(runs, configs, strict=True))), *undigested, *change),
        unequal=tuple(unequal(finished)),
    )


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


def _arm(label: str, runs: Sequence[tuple[RunFolder, Config]], evidence: Evidence) -> Arm:
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
        return {metric: score(evidence.values(label, seeds, kind, metric), groups) for metric in METRICS}

    def over_pixels(kind: str) -> float:
        chosen = evidence.scores.where(arm=label, kind=kind, set=HELD_OUT)
        models = sorted(set(zip(chosen.seed.tolist(), chosen.trainer.tolist(), strict=True)))
        return float(np.mean([chosen.where(seed=seed, trainer=name).over_pixels for seed, name in models]))

    validated = all(any(record["val_dice"] is not None for record in run) for run in records)
    best_rounds = evidence.scores.where(arm=label, kind=BEST).round
    dice, chosen = evidence.values(label, seeds, LAST), [evidence.sizes == size for size in range(len(SIZES))]
    own_models = bool((evidence.scores.where(arm=label, kind=LAST).trainer != "").any())

    def own_tests(kind: str) -> dict[str, Estimate]:
        if runs[0][1].privacy.on:  # hospitals send no scores
            return {}
        tested = {name: own.test for name, own in sorted(hospitals.items()) if own.test}
        if kind == OWN:  # a hospital whose fine-tuning failed has none
            rows = [evidence.scores.where(arm=label, kind=OWN, seed=seed) for seed in seeds]
            tested = {name: ids for name, ids in tested.items() if all(name in own.trainer for own in rows)}
        return {
            name: evidence.mean(
                ids,
                f"test:{name}",
                seeds,
                arm=label,
                kind=kind,
                **({"trainer": name} if own_models or kind == OWN else {}),
            )
            for name, ids in tested.items()
        }

    return Arm(
        label=label,
        algorithm=algorithm,
        own_models=own_models,
        runs=tuple(run for run, _ in runs),
        seeds=seeds,
        last=held_out(LAST),
        best=held_out(BEST) if validated else {},
        best_rounds=tuple(np.unique(best_rounds).tolist()) if validated else (),
        over_pixels={kind: over_pixels(kind) for kind in (LAST, BEST)[: 1 + validated]},
        own_tests=own_tests(LAST),
        finetuned=own_tests(OWN),
        unseen={
            source: evidence.mean(ids, f"unseen:{source}", seeds, arm=label, kind=LAST)
            for source, ids in evidence.partition.unseen.items()
        },
        without_polyp=evidence.without_polyp(label),
        by_size=tuple(score(dice[:, rows], groups[rows]) if rows.any() else None for rows in chosen),
        cost=_cost([config for _, config in runs], records, len(hospitals)),
        curves=tuple(_curve(config, run) for (_, config), run in zip(runs, records, strict=True)),
    )


def _seen(record: Mapping[str, Any], config: Config) -> int:
    everyone = record["hospitals"].values()
    if config.privacy.on:  # each unit once a round, or as many as are expected to be drawn
        return sum(config.privacy.drawn or own["units"] for own in everyone if own.get("units"))
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


def _differences(arms: Sequence[Arm], evidence: Evidence) -> tuple[Difference, ...]:
    pooled, local = ([arm for arm in arms if arm.algorithm.name == name] for name in (POOLED, LOCAL))
    pairs = [(arm, other) for arm in arms if arm.federated for other in (*pooled, *local)]
    pairs += [(arm, other) for arm in local for other in pooled]
    federated = [arm for arm in arms if arm.federated]
    among = [(one, two) for place, two in enumerate(federated) for one in federated[place + 1 :]]
    # Two families: the number of federated arms must not hide what federation costs.
    return (*_family(pairs, evidence, False), *_family(among, evidence, True))


def _family(pairs: Sequence[tuple[Arm, Arm]], evidence: Evidence, among: bool) -> tuple[Difference, ...]:
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
