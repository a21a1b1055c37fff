"""A preset sets what it names, under a file and single overrides, and nothing else."""

import pytest

from fedpolyp.config import PRESETS, Config, load
from fedpolyp.errors import UsageError
from tests.config.every_setting import leaves


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_what_it_names_and_nothing_else(preset: str) -> None:
    told = {name: value for name, (value, _) in leaves(load(preset=preset)).items()}
    default = {name: value for name, (value, _) in leaves(Config()).items()}
    assert told == default | PRESETS[preset]


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="^preset must be one of paper, seed, pretrained; got 'nope'$"):
        load(preset="nope")
