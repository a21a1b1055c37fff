"""What is measured for the tables: each study is a number of arms that share all other settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedpolyp.algorithms.finding import BUILT_IN

# A precision is part of a study, so that all of its runs are alike. On one core of a processor with AMX a run takes 5
# minutes (_SMALL), 4 (_QUICK) or 17 (_LARGE); bfloat16 is slow on a processor that lacks it.
_SMALL: dict[str, Any] = {"data.image_size": 64, "federation.rounds": 20, "training.precision": "float32"}
_QUICK = _SMALL | {"training.precision": "mixed_bfloat16"}
_LARGE: dict[str, Any] = {"data.image_size": 128, "federation.rounds": 40, "training.precision": "mixed_bfloat16"}
_SKEWED: dict[str, Any] = {"hospitals.scheme": "lesion-size", "hospitals.skew": 1.0}
_HALF_SKEWED: dict[str, Any] = {"hospitals.scheme": "lesion-size", "hospitals.skew": 0.5}

# Few filters: the noise on an update grows with the number of weights. A run takes 7 minutes of a core.
_PRIVATE: dict[str, Any] = {
    **_SMALL,
    "federation.rounds": 40,
    "model.base_filters": 4,
    "model.normalization": "group",
    "algorithm.name": "fedadam",
    "algorithm.server_rate": 3e-3,
    "privacy.mode": "local",
    "privacy.clip": 0.3,
}
_PHANTOM: dict[str, Any] = {
    **_SMALL,
    "data.phantom_images": 1000,
    "federation.rounds": 40,
    "model.base_filters": 4,
    "model.normalization": "group",
    "algorithm.name": "pooled",
}

_ARMS = ("fedavg", "pooled", "local")
_FIRST = [("muon", 1e-2), ("adam", 3e-3)]


def _rates(pairs: list[tuple[str, float]], **more: Any) -> dict[str, dict[str, Any]]:
    """Each arm at each (optimizer, rate)."""
    return {
        f"{algorithm}-{optimizer}-{rate:g}": {
            **more,
            "algorithm.name": algorithm,
            "training.optimizer": optimizer,
            "training.learning_rate": rate,
        }
        for optimizer, rate in pairs
        for algorithm in _ARMS
    }


_RATES = _rates([*_FIRST, ("muon", 3e-3), ("adam", 1e-3), ("muon", 3e-2), ("adam", 1e-2)])
_EDGE = {name: arm for name, arm in _rates([("muon", 1e-1)]).items() if name.startswith("fedavg")}
_FINALISTS = tuple(_rates([("muon", 1e-2), ("muon", 3e-2)]))  # the two best of each arm on validation
_RATES_PRETRAINED = _rates([*_FIRST, ("muon", 3e-3), ("muon", 3e-2), ("adam", 1e-3)], preset="pretrained")

# From here on every arm has the optimizer and the rate of its kind that were chosen on validation: the defaults.
_OWN: dict[str, tuple[str, tuple[float, ...]]] = {
    "fedprox": ("mu", (0.001, 0.01, 0.1, 1.0)),
    "fedavgm": ("server_rate", (0.1, 0.3, 1.0)),
    "fedadagrad": ("server_rate", (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)),
    "fedadam": ("server_rate", (3e-3, 1e-2, 3e-2, 1e-1)),
    "fedyogi": ("server_rate", (3e-3, 1e-2, 3e-2)),
}
_OWN_SETTINGS: dict[str, dict[str, Any]] = {
    f"{algorithm}-{setting.replace('_', '-')}-{value:g}": {"algorithm.name": algorithm, f"algorithm.{setting}": value}
    for algorithm, (setting, values) in _OWN.items()
    for value in values
}
_BEST_OWN = {"fedprox": 1e-3, "fedavgm": 0.3, "fedadagrad": 0.1, "fedadam": 0.03, "fedyogi": 0.01}  # on validation
_ALGORITHMS: dict[str, dict[str, Any]] = {
    name: {"algorithm.name": name} | ({f"algorithm.{_OWN[name][0]}": _BEST_OWN[name]} if name in _OWN else {})
    for name in BUILT_IN
}
_TRAFFIC: dict[str, dict[str, Any]] = {
    "average-float32": {},
    "reset-float32": {"training.optimizer_state": "reset"},
    "reset-bfloat16": {"training.optimizer_state": "reset", "training.wire": "bfloat16"},
}
_TRIED: dict[str, dict[str, Any]] = {
    "pooled": {"algorithm.name": "pooled"},
    "fedavg": {},
    "reset": {"training.optimizer_state": "reset"},
    "averaged-model": {"algorithm.name": "ema:EMA"},
    "fedexp": {"algorithm.name": "fedexp:FedExP"},
    "outer-nesterov": {"algorithm.name": "nesterov:Nesterov", "algorithm.server_momentum": 0.5},
    "warm-up": {"training.warmup_rounds": 2},
    "fixed-after-10-rounds": {"training.fix_statistics_after": 10},
    "cyclic": {"algorithm.name": "cyclic"},
    "two-rings": {"algorithm.name": "rings:Rings"},
    # A local epoch has 18 steps. So all arms see the same number of images, in more or fewer rounds.
    **{f"{steps}-steps": {"training.local_steps": steps, "federation.rounds": 360 // steps} for steps in (5, 10, 20)},
}
# What helps on validation, together; a warm-up takes as many images in short rounds as in long ones.
_BOTH: dict[str, Any] = {"training.optimizer_state": "reset", **_TRIED["warm-up"]}
_TRIED |= {
    "reset-warm-up": _BOTH,
    "reset-warm-up-two-rings": _BOTH | _TRIED["two-rings"],
    "reset-warm-up-5-steps": _BOTH | _TRIED["5-steps"] | {"training.warmup_rounds": 7},
}
_FIRST_PHANTOM: dict[str, Any] = {**_QUICK, "data.phantom_images": 1000, "algorithm.name": "pooled"}
# Against what FedAvg loses with the pretrained encoder where hospitals differ.
_TRIED_SKEWED: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "pooled-statistics": {"algorithm.name": "pooled_statistics:PooledStatistics"},
    "frozen-statistics": {"model.frozen_statistics": True},
    "fixed-after-10-rounds": {"training.fix_statistics_after": 10},
    "no-statistics": {"model.frozen_statistics": True, "model.normalization": "group"},
    "reset": {"training.optimizer_state": "reset"},
}
# Cyclic training is the federated arm with the highest validation Dice at 64 px.
_PROOF = {name: {"algorithm.name": name} for name in (*_ARMS, "cyclic")}
# What a private run may promise; 1e9 is clipping alone. Joint noise with all five hospitals there, one of them curious.
_JOINT: dict[str, Any] = {"privacy.mode": "joint", "privacy.secure_sums": True, "privacy.secure_least": 5}
_PROMISES: dict[str, dict[str, Any]] = {
    "epsilon-8-local": {"privacy.epsilon": 8.0},
    "epsilon-8-joint": {"privacy.epsilon": 8.0, **_JOINT},
    "clipping-alone": {"privacy.epsilon": 1e9},
    "epsilon-2-local": {"privacy.epsilon": 2.0},
    "epsilon-2-joint": {"privacy.epsilon": 2.0, **_JOINT},
}
# Rates and clips are chosen in as many rounds as the table has: in fewer, a larger rate has an advantage.
_EIGHT: dict[str, Any] = {"privacy.epsilon": 8.0}
# Chosen on validation, at epsilon 8 with local noise and the phantom's start; those of _PRIVATE with the other.
_CHOSEN: dict[str, Any] = {"algorithm.server_rate": 1e-2, "privacy.clip": 1.0}
_STEPS: dict[str, dict[str, Any]] = {
    f"rate-{rate:g}-clip-{clip:g}": {"algorithm.server_rate": rate, "privacy.clip": clip}
    for rate, clip in [(1e-3, 0.3), (3e-3, 0.3), (1e-2, 0.3), (3e-2, 0.3), (1e-2, 1.0), (1e-2, 3.0)]
}
# Those that were chosen for one of the starts, and between them.
_NEAR = {name: _STEPS[name] for name in ("rate-0.003-clip-0.3", "rate-0.01-clip-0.3", "rate-0.01-clip-1")}
_FROZEN: dict[str, Any] = {
    "preset": "pretrained",
    "model.frozen_statistics": True,
    "model.encoder_rate": 0.0,
}
# What is remembered of training images, with and without augmentation.
_REMEMBERED: dict[str, dict[str, Any]] = {
    "local-plain": {"algorithm.name": "local", "training.augment": False},
    "local": {"algorithm.name": "local"},
    "fedavg-plain": {"training.augment": False},
    "fedavg": {},
}
_PRETRAINED = {name: {"preset": "pretrained", "algorithm.name": name, "federation.rounds": 20} for name in _PROOF}
_PRETRAINED_TWO = {name: _PRETRAINED[name] for name in ("fedavg", "pooled")}


@dataclass(frozen=True)
class Study:
    """Arms by label with their own settings, what all of them share, and the seeds of each.

    Where `finalists` are named, the other arms have the first seed alone. Where there is a `start`, all arms of a seed
    begin from the last model of a run on drawn images with these settings and the seed. `attacked`: how well the last
    models give their training images away is measured, too; it always is where there is privacy.
    """

    shared: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...] = (0, 1, 2)
    finalists: tuple[str, ...] | None = None
    start: Mapping[str, Any] | None = None
    attacked: bool = False

    def runs(self) -> list[tuple[str, int]]:
        """Each arm and seed, all arms of a seed before the next seed."""
        return [
            (arm, seed)
            for seed in self.seeds
            for arm in self.arms
            if seed == self.seeds[0] or self.finalists is None or arm in self.finalists
        ]


STUDIES = {
    "rates": Study(_SMALL, _RATES | _EDGE, finalists=_FINALISTS),
    "rates-pretrained": Study(_SMALL, _RATES_PRETRAINED, finalists=()),
    "traffic": Study(_QUICK, _TRAFFIC),
    "own-settings": Study(_QUICK | _SKEWED, _OWN_SETTINGS, finalists=()),
    "algorithms-skewed": Study(_QUICK | _SKEWED, _ALGORITHMS),
    "algorithms-iid": Study(_QUICK, _ALGORITHMS),
    "membership": Study(_QUICK, _REMEMBERED, attacked=True),
    "tried": Study(_QUICK, _TRIED),
    "tried-phantom": Study(_QUICK, {"fedavg": {}}, start=_FIRST_PHANTOM),
    "tried-skewed": Study(_QUICK | _SKEWED | {"preset": "pretrained"}, _TRIED_SKEWED),
    "pretrained-iid": Study(_LARGE, _PRETRAINED),
    "pretrained-skew-0.5": Study(_LARGE | _HALF_SKEWED, _PRETRAINED),
    "pretrained-skew-1": Study(_LARGE | _SKEWED, _PRETRAINED),
    "scratch-iid": Study(_LARGE, _PROOF),
    "scratch-skew-0.5": Study(_LARGE | _HALF_SKEWED, _PROOF),
    "scratch-skew-1": Study(_LARGE | _SKEWED, _PROOF),
    "pretrained-256": Study(_LARGE | {"data.image_size": 256}, _PRETRAINED_TWO, (0,)),
    "private-phantom-steps": Study(_PRIVATE | _EIGHT, _STEPS, (0,), start=_PHANTOM),
    "private-pretrained-steps": Study(_PRIVATE | _EIGHT | _FROZEN, _STEPS, (0,)),
    "private-both-steps": Study(_PRIVATE | _EIGHT | _FROZEN, _NEAR, (0,), start=_PHANTOM | _FROZEN),
    "private-phantom": Study(_PRIVATE | _CHOSEN, _PROMISES, start=_PHANTOM),
    "private-pretrained": Study(_PRIVATE | _FROZEN, _PROMISES),
}
