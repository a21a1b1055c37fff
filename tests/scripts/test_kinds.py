"""What the benchmark says of traffic follows from the arrays that travel."""

from fedpolyp.config import load
from scripts.benchmarks.kinds import _OPTIMIZERS, travels

CONFIG = load(overrides={"data.image_size": 32})


def test_without_the_optimizers_state_and_in_halves_a_sixth_travels() -> None:
    before, now = (travels(CONFIG, own) for own in _OPTIMIZERS.values())
    # Weights and two moments of four bytes, against weights of two: but statistics have no moments.
    assert 0.16 < now / before < 0.17


def test_one_buffer_of_muon_is_less_than_two_of_adam() -> None:
    averaged = {"training.optimizer_state": "average"}
    adam, muon = (travels(CONFIG, averaged | {"training.optimizer": name}) for name in ("adam", "muon"))
    none = travels(CONFIG, {"training.optimizer_state": "reset"})
    assert none < muon < adam
