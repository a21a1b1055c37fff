"""The experiment's config: every setting, its default, its meaning and its bounds. TOML in, TOML out.

`load` merges, from weakest to strongest, the defaults, a preset, a TOML file and single overrides
(`{"training.batch_size": 4}`). `read` reads a config that another party may have written.
"""

from fedpolyp.config.presets import PRESETS
from fedpolyp.config.rates import rate_of, rated
from fedpolyp.config.settings import (
    AS_THEY_ARE,
    CHECKED,
    ENCODERS,
    NAMED_WEIGHTS,
    AlgorithmConfig,
    Config,
    DataConfig,
    Encoder,
    FederationConfig,
    GroupBy,
    HospitalsConfig,
    LesionValues,
    Masks,
    ModelConfig,
    PrivacyConfig,
    RuntimeConfig,
    TrainingConfig,
    label_of,
)
from fedpolyp.config.toml import changed_toml, fingerprint, load, read, to_toml, value_of
from fedpolyp.data.places import PHANTOM
from fedpolyp.section import Section

__all__ = [
    "AS_THEY_ARE",
    "CHECKED",
    "ENCODERS",
    "NAMED_WEIGHTS",
    "PHANTOM",
    "PRESETS",
    "AlgorithmConfig",
    "Config",
    "DataConfig",
    "Encoder",
    "FederationConfig",
    "GroupBy",
    "HospitalsConfig",
    "LesionValues",
    "Masks",
    "ModelConfig",
    "PrivacyConfig",
    "RuntimeConfig",
    "Section",
    "TrainingConfig",
    "changed_toml",
    "fingerprint",
    "label_of",
    "load",
    "rate_of",
    "rated",
    "read",
    "to_toml",
    "value_of",
]
