"""The experiment's config: every setting, its default, its meaning and its bounds. TOML in, TOML out.

Settings and their defaults are defined only in `sections`, one file each. A config is frozen once made.

`load` merges, from weakest to strongest, the defaults, a preset, a TOML file and single overrides
(`{"training.batch_size": 4}`). `read` reads a config that another party may have written.
"""

from fedpolyp.config.config import Config, label_of
from fedpolyp.config.presets import PRESETS
from fedpolyp.config.rates import rate_of, rated
from fedpolyp.config.sections.algorithm import AlgorithmConfig
from fedpolyp.config.sections.data import AS_THEY_ARE, CHECKED, DataConfig, GroupBy, LesionValues, Masks
from fedpolyp.config.sections.federation import FederationConfig
from fedpolyp.config.sections.hospitals import HospitalsConfig
from fedpolyp.config.sections.model import ENCODERS, NAMED_WEIGHTS, Encoder, ModelConfig
from fedpolyp.config.sections.privacy import UNITS, PrivacyConfig, Unit
from fedpolyp.config.sections.runtime import RuntimeConfig
from fedpolyp.config.sections.training import TrainingConfig
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
    "UNITS",
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
    "Unit",
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
