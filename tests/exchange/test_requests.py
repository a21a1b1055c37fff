"""A request arrives as it was sent, or is refused with what is wrong with it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpolyp.exchange.requests import KINDS, SETS, Evaluate, Request, Train

TRAIN = Train("hospital-1", 3, "{}", counted=2, learning_rate=0.5, keep_from=2, keep_best=1)
EVALUATE = Evaluate("hospital-1", 3, "{}", counted=3, score_set="test", distances=True)
FIELDS = [(request, name) for request in (TRAIN, EVALUATE) for name in request.to_plain()]

rounds = st.integers(0, 100_000)
common: dict[str, st.SearchStrategy[Any]] = {
    "hospital": st.text(max_size=64),
    "config": st.text(),
    "run": st.text(max_size=32),
    "run_folder": st.text(),
    "store": st.text(),
}
trains = st.tuples(rounds, rounds).flatmap(
    lambda two: st.builds(
        Train,
        round=st.just(max(two) + 1 if two[0] == two[1] else max(two)),
        counted=st.just(min(two)),
        learning_rate=st.floats(0, 1),
        keep_from=rounds,
        keep_best=rounds,
        **common,
    )
)
evaluates = st.builds(
    Evaluate, round=rounds, counted=rounds, score_set=st.sampled_from(SETS), distances=st.booleans(), **common
)


@given((trains | evaluates).filter(lambda request: request.round <= 100_000))
def test_a_request_arrives_as_it_was_sent(request: Request) -> None:
    assert KINDS[request.kind].from_plain(request.to_plain()) == request


def refusal(request: Request, plain: dict[str, Any]) -> str:
    with pytest.raises(ValueError, match="request") as refused:
        type(request).from_plain(plain)
    return str(refused.value)


def changed(request: Request, name: str, value: Any) -> str:
    """What is said of `request` with another value in a field."""
    return refusal(request, request.to_plain() | {name: value})


@pytest.mark.parametrize(("request_", "name"), FIELDS)
def test_a_request_that_lacks_a_field_is_refused(request_: Request, name: str) -> None:
    plain = request_.to_plain()
    del plain[name]
    said = refusal(request_, plain)
    assert said.startswith(f"a request to {request_.kind} has the fields [") and said.endswith(f"; got {sorted(plain)}")


@pytest.mark.parametrize("request_", [TRAIN, EVALUATE])
def test_a_request_with_an_unknown_field_is_refused(request_: Request) -> None:
    assert "'shell'" in changed(request_, "shell", "rm")


def test_a_request_of_another_kind_is_refused() -> None:
    assert refusal(TRAIN, EVALUATE.to_plain()).startswith("a request to train has the fields [")
    assert refusal(EVALUATE, TRAIN.to_plain()).startswith("a request to evaluate has the fields [")


@pytest.mark.parametrize(
    ("request_", "name", "value"),
    [
        (TRAIN, "hospital", 1),
        (TRAIN, "round", "3"),
        (TRAIN, "round", 3.0),
        (TRAIN, "round", True),
        (TRAIN, "config", b"{}"),
        (TRAIN, "learning_rate", 1),
        (EVALUATE, "score_set", ["val"]),
        (EVALUATE, "distances", 1),
        (TRAIN, "keep_from", 0.0),
        (TRAIN, "keep_best", "1"),
        (TRAIN, "counted", False),
        (EVALUATE, "counted", None),
        (EVALUATE, "run_folder", 0),
        (EVALUATE, "store", False),
    ],
)
def test_a_field_of_another_type_is_refused(request_: Request, name: str, value: Any) -> None:
    said = changed(request_, name, value)
    assert said.startswith(f"the request's {name} must be of ") and said.endswith(f"; got {value!r}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", -0.1),
        ("learning_rate", 1.1),
        ("round", -1),
        ("round", 10**18),
        ("keep_from", 10**18),
        ("keep_best", -1),
        ("counted", -1),
        ("counted", 10**18),
        ("config", "x" * 10_000_000),
        ("hospital", "x" * 65),
        ("run", "0" * 65),
        ("store", "/" * 5000),
    ],
)
def test_a_field_beyond_its_limit_is_refused_in_a_short_sentence(name: str, value: Any) -> None:
    said = changed(TRAIN, name, value)
    assert said.startswith(f"the request's {name} m") and len(said) < 200


@pytest.mark.parametrize("counted", [3, 4])
def test_a_training_goes_on_from_an_earlier_round_alone(counted: int) -> None:
    assert changed(TRAIN, "counted", counted) == f"the request's counted must be before its round 3; got {counted}"


@pytest.mark.parametrize(
    "plain",
    [
        {"\x1b[2J" + "y" * 5_000_000: 1},
        {f"field{number}": 1 for number in range(100_000)},
        {"hospital": ["\x1b]0;owned"] * 100_000},
    ],
)
def test_a_flood_or_an_escape_sequence_does_not_reach_the_refusal(plain: dict[str, Any]) -> None:
    for request in (TRAIN, EVALUATE):
        said = refusal(request, request.to_plain() | plain)
        assert len(said) < 1500 and said.isprintable()


@pytest.mark.parametrize("score_set", ["train", "", "VAL"])
def test_a_hospital_scores_no_set_but_validation_and_test(score_set: str) -> None:
    said = changed(EVALUATE, "score_set", score_set)
    assert said == f"the request's score_set must be one of ('val', 'test'); got {score_set!r}"
