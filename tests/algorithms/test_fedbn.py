"""FedBN: what stays at a hospital, together with the options that concern normalization or the mean."""

from pathlib import Path

import pytest

from fedpolyp.algorithms.fedbn import OWN
from fedpolyp.errors import UsageError
from fedpolyp.hospital import private_state
from fedpolyp.model.arrays import is_statistic
from tests.tiny import carry_here, tiny_config, tiny_run


def test_with_fixed_statistics_each_hospital_keeps_its_own_and_is_not_refused(tmp_path: Path) -> None:
    config = tiny_config(
        algorithm__name="fedbn", federation__rounds=3, training__fix_statistics_after=1, runtime__keep_checkpoints=9
    )
    carry_here(run := tiny_run(tmp_path / "run", config), config)
    assert not any(record["refused"] for record in run.rounds())
    after = {
        (name, round): private_state.read(run.state / name, round)[OWN]
        for name in ("hospital-1", "hospital-2")
        for round in (1, 3)
    }
    statistics = [name for name in after["hospital-1", 1] if is_statistic(name)]
    for name in statistics:
        for hospital in ("hospital-1", "hospital-2"):
            assert after[hospital, 1][name].tobytes() == after[hospital, 3][name].tobytes()
    assert any((after["hospital-1", 3][name] != after["hospital-2", 3][name]).any() for name in statistics)


def test_a_mean_for_each_step_is_refused_because_own_layers_do_not_start_from_what_was_sent() -> None:
    with pytest.raises(UsageError, match=r"fedbn cannot average for each step \(--per-step\)"):
        tiny_config(algorithm__name="fedbn", federation__per_step=True)
