"""Every setting of a config by its dotted name, and another value for each: what the tests of a config share."""

from pathlib import Path
from typing import Any, get_args

from fedpolyp.config import Config, Section, load, to_toml


def leaves(config: Config) -> dict[str, tuple[Any, Any]]:
    """Value and field of every setting, by dotted name."""
    found: dict[str, tuple[Any, Any]] = {}
    for name, field in Config.model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Section):
            found |= {f"{name}.{own}": (getattr(value, own), f) for own, f in type(value).model_fields.items()}
        else:
            found[name] = (value, field)
    return found


SETTINGS = sorted(leaves(Config()))


def another(dotted: str) -> Any:
    """A valid value that is not the default."""
    value, field = leaves(Config())[dotted]
    match value:
        case bool():
            return not value
        case int():
            return value + 16  # keeps the image size a multiple of 16
        case float():
            return value / 2 or 0.5
        case tuple():
            return (0.1, 0.2)
        case None:
            return {
                "arm_label": "near",
                "data.lists": "lists",
                "data.group_by": "^p[0-9]+",
                "data.lesion_values": "1,2",
                "data.seed": 7,
                "data.unseen": "clinicdb",
                "hospitals.partition": "partition.json",
                "hospitals.partition_sha256": "0" * 64,
                "model.encoder_sha256": "0" * 64,
                "model.initial_weights": "runs/earlier",
                "model.initial_sha256": "0" * 64,
                "privacy.batch": 8,
                "training.local_steps": 40,
                "training.fix_statistics_after": 20,
                "training.precision": "mixed_bfloat16",
                "federation.slow": "hospital-2=3",
                "federation.liars": "hospital-2",
                "federation.patience": 4,
                "runtime.actors": 3,
                "runtime.ray_address": "auto",
                "runtime.observers": "mine:First,mine.more:Second",
                "runtime.track": "mlflow",
            }.get(dotted, 0.5)
    if dotted in (
        named := {
            "algorithm.name": "cyclic",
            "hospitals.scheme": "labels",
            "data.source": {"kvasir": "/a", "clinicdb": "/b c"},
        }
    ):
        return named[dotted]
    return next((option for option in get_args(field.annotation) if option != value), "elsewhere")


def with_it(dotted: str) -> dict[str, Any]:
    """Other settings that `another` value of this one needs."""
    needs: dict[str, dict[str, Any]] = {
        "privacy.mode": {"algorithm.name": "fedadam", "model.normalization": "group"},
        "privacy.batches": {"privacy.batch": 8},
        "privacy.secure_sums": {"training.optimizer_state": "keep"},
    }
    return needs.get(dotted, {})


def read_back(config: Config, folder: Path, explain: bool = False) -> Config:
    file = folder / "config.toml"
    file.write_text(to_toml(config, explain), encoding="utf-8")
    return load(file)
