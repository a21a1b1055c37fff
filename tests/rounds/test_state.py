"""What an algorithm of somebody's own may get wrong about the server's state is told in the first round, not later."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from fedpolyp.aggregation.aggregate import Combined
from fedpolyp.algorithms.base import MODEL, Algorithm, Groups, NoSettings, Start, plus
from fedpolyp.errors import FinalError
from fedpolyp.exchange.in_process import InProcess
from fedpolyp.exchange.requests import Train
from fedpolyp.hospital import work
from fedpolyp.model.arrays import Arrays
from fedpolyp.rounds.state import begun, combined, refuse_unlike

START = Start({"w": np.ones(3, np.float32)}, {})
UPDATES = Combined({MODEL: {"w": np.full(3, 0.5)}}, ("oslo",))


def algorithm(
    begin: Mapping[str, Any] | None = None, combine: Callable[[Any, Combined], Any] | None = None
) -> Algorithm:
    """FedAvg with other groups at the beginning, or with another next state."""

    class Own(Algorithm):
        def begin(self, start: Start) -> Groups:
            return {**super().begin(start), **(begin or {})}

        def combine(self, state: Groups, combined: Combined) -> Groups:
            return super().combine(state, combined) if combine is None else combine(state, combined)

    return Own(NoSettings())


def test_the_next_state_is_the_algorithms_and_neither_can_be_written_to() -> None:
    own = algorithm({"count": {"rounds": np.zeros((), np.int64)}})
    state = begun(own, START)
    after = combined(own, state, UPDATES)
    np.testing.assert_array_equal(after[MODEL]["w"], np.full(3, 1.5, np.float32))
    for one in (state, after):
        with pytest.raises(ValueError, match="read-only"):
            one[MODEL]["w"] += 1


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"server/m": {"w": np.zeros(3)}}, "begins with what cannot be saved: the name of a group.*got 'server/m'"),
        ({"seen": {}}, "begins with the group seen, which has no arrays"),
    ],
)
def test_a_state_that_could_not_be_resumed_from_is_refused_before_the_first_round(
    groups: dict[str, Arrays], said: str
) -> None:
    with pytest.raises(FinalError, match=f"^the algorithm Own {said}"):
        begun(algorithm(groups), START)


def test_a_state_without_a_model_is_refused() -> None:
    class Nothing(Algorithm):
        def begin(self, start: Start) -> Groups:
            return {"weights": start.model}

    with pytest.raises(FinalError, match="begins without a model; its groups are weights"):
        begun(Nothing(NoSettings()), START)


def written(state: Any, updates: Combined) -> Any:
    state[MODEL]["w"] = plus(state[MODEL], updates.changes[MODEL])["w"]
    return state


def replaced(state: Any, updates: Combined) -> Any:
    state[MODEL] = plus(state[MODEL], updates.changes[MODEL])
    return dict(state)


@pytest.mark.parametrize("combine", [written, replaced], ids=["an array", "a group"])
def test_a_state_that_is_changed_in_place_is_refused(combine: Callable[[Any, Combined], Any]) -> None:
    own = algorithm(combine=combine)
    with pytest.raises(FinalError, match="^the algorithm Own changes the state that its combine receives"):
        combined(own, begun(own, START), UPDATES)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({MODEL: START.model, "new": {"a": np.zeros(2)}}, "began with the groups model, and makes "),
        ({MODEL: {"w": np.zeros(3)}}, r"makes float64 \(3,\) of float32 \(3,\): array w of the group model"),
        ({MODEL: {"w": np.zeros(4, np.float32)}}, r"makes float32 \(4,\) of float32 \(3,\): array w of the group"),
        ({MODEL: {}}, r"makes nothing of float32 \(3,\): array w of the group model"),
    ],
    ids=["a new group", "another type", "another shape", "an array gone"],
)
def test_a_state_after_a_round_that_is_not_like_the_one_before_is_refused(after: Any, said: str) -> None:
    own = algorithm()
    with pytest.raises(FinalError, match=f"^the algorithm Own {said}"):
        refuse_unlike(own, begun(own, START), after)


def test_a_hospital_in_this_process_cannot_write_to_what_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = {MODEL: {"w": np.ones(3, np.float32)}}

    def train(request: Train, received: Any, hospital: Any) -> None:
        arrived = received(MODEL, {})
        arrived["another"] = arrived["w"]
        arrived["w"] *= 2

    monkeypatch.setattr(work, "train", train)
    with pytest.raises(ValueError, match="read-only"):
        list(InProcess(lambda name: None).send([(Train("oslo", 1, ""), sent)], print))  # type: ignore[arg-type, return-value]
    assert sent[MODEL].keys() == {"w"} and (sent[MODEL]["w"] == 1).all()
