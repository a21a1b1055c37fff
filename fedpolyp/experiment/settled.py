"""Makes paths in settings absolute, so that they mean the same from every working directory."""

import os
from pathlib import Path

from fedpolyp.config import NAMED_WEIGHTS, Config, DataConfig, HospitalsConfig
from fedpolyp.data import places
from fedpolyp.data.partition.finding import find
from fedpolyp.runs import DEFAULT_ROOT


def settled(config: Config) -> Config:
    """`config` with paths that mean the same from every working directory."""
    data = config.data
    absolute = DataConfig(
        **data.model_dump()
        | {
            "source": places.absolute(data.source),
            "lists": None if data.lists is None else _absolute(data.lists),
        }
    )
    model = config.model
    if model.encoder_weights not in NAMED_WEIGHTS:
        model = model.model_copy(update={"encoder_weights": _absolute(model.encoder_weights)})
    if model.initial_weights is not None:
        given = model.initial_weights
        named = DEFAULT_ROOT / given  # a run of this name, as everywhere
        place = str(named) if not Path(given).expanduser().exists() and named.is_dir() else given
        model = model.model_copy(update={"initial_weights": _absolute(place)})
    return config.model_copy(
        update={"data": absolute, "model": model, "hospitals": _settled_hospitals(config.hospitals)}
    )


def _settled_hospitals(hospitals: HospitalsConfig) -> HospitalsConfig:
    """`hospitals` with absolute paths of files that assign images."""
    paths = {
        "partition": hospitals.partition,
        **{name: hospitals.own[name] for name in find(hospitals.scheme).paths},
    }
    changes = {name: _absolute(path) for name, path in paths.items() if path is not None}
    return HospitalsConfig(**hospitals.model_dump() | changes) if changes else hospitals


def _absolute(path: str) -> str:
    return str(Path(os.path.expanduser(path)).resolve())  # which, unlike Path's, leaves the ~ of an unknown user alone
