"""A hospital finds the state that a training of its own left, also when a round is repeated, or does not go on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpolyp.algorithms.base import Groups
from fedpolyp.errors import FedpolypError
from fedpolyp.hospital import private_state
from fedpolyp.rounds.counted import Counted
from tests.same_bits import equal


def state(value: int) -> Groups:
    return {
        "optimizer": {"iterations": np.array(value), "m/conv/kernel": np.full((2, 2), value, np.float32)},
        "own": {"conv_norm/gamma": np.full(3, value, np.float32)},
    }


def rounds(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.npz"))


def found(folder: Path, round: int) -> int | None:
    groups = private_state.read(folder, round)
    return int(groups["optimizer"]["iterations"]) if groups else None


def test_there_is_none_before_the_first_round(tmp_path: Path) -> None:
    folder = tmp_path / "hospital-1"
    assert private_state.read(folder, 0) == {}
    private_state.write(folder, 4, state(4), keep_from=0)
    assert private_state.read(folder, 0) == {}


def test_what_is_read_is_what_was_written_to_the_bit_and_in_order(tmp_path: Path) -> None:
    private_state.write(tmp_path, 4, state(4), keep_from=0)
    back = private_state.read(tmp_path, 4)
    assert list(back) == list(state(4))
    for group, arrays in state(4).items():
        assert equal(back[group], arrays) and list(back[group]) == list(arrays)


def test_the_very_round_that_is_asked_for_is_read_however_long_ago(tmp_path: Path) -> None:
    for round in (2, 9, 10):  # of these, that of round 9 did not count
        private_state.write(tmp_path, round, state(round), keep_from=0)
    assert [found(tmp_path, round) for round in (2, 9, 10)] == [2, 9, 10]


@pytest.mark.parametrize("round", [1, 3, 5])
def test_a_state_that_is_gone_is_told_and_no_other_takes_its_place(tmp_path: Path, round: int) -> None:
    for known in (2, 4):
        private_state.write(tmp_path, known, state(known), keep_from=0)
    with pytest.raises(
        private_state.Gone, match=rf"^the private state of round {round} is gone: there is no .*0{round}\.npz$"
    ):
        private_state.read(tmp_path, round)


@pytest.mark.parametrize(
    "damage", [lambda whole: b"", lambda whole: whole[:-30], lambda whole: whole[:100] + b"x" * 99]
)
def test_a_state_that_is_damaged_is_told(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    private_state.write(tmp_path, 1, state(1), keep_from=0)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(FedpolypError, match="^the private state .* is damaged: "):
        private_state.read(tmp_path, 1)


def test_a_repeated_round_starts_from_the_same_state(tmp_path: Path) -> None:
    private_state.write(tmp_path, 1, state(1), keep_from=0)
    before = found(tmp_path, 1)
    private_state.write(tmp_path, 2, state(2), keep_from=1)
    assert found(tmp_path, 1) == before == 1
    private_state.write(tmp_path, 2, state(22), keep_from=1)
    assert (found(tmp_path, 1), found(tmp_path, 2)) == (1, 22)


def test_a_write_that_fails_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private_state.write(tmp_path, 1, state(1), keep_from=0)

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        private_state.write(tmp_path, 2, state(2), keep_from=2)
    assert rounds(tmp_path) == [1] and len(list(tmp_path.iterdir())) == 1


def test_what_no_checkpoint_needs_is_dropped_but_for_that_of_the_best(tmp_path: Path) -> None:
    kept = {}
    for round, keep_from, best in (
        (1, 0, 0),
        (2, 0, 1),
        (3, 0, 1),
        (4, 1, 2),
        (5, 3, 2),
        (6, 5, 2),
        (7, 5, 6),
        (8, 7, 6),
    ):
        private_state.write(tmp_path, round, state(round), keep_from, (best,))
        kept[round] = rounds(tmp_path)
    assert kept == {
        1: [1],
        2: [1, 2],
        3: [1, 2, 3],
        4: [1, 2, 3, 4],
        5: [2, 3, 4, 5],
        6: [2, 5, 6],
        7: [5, 6, 7],
        8: [6, 7, 8],
    }


@settings(max_examples=25)
@given(st.dictionaries(st.integers(1, 30), st.booleans(), min_size=1), st.integers(0, 30), st.integers(0, 30))
def test_resuming_from_any_checkpoint_still_kept_finds_what_it_would_have_found(
    tmp_path_factory: pytest.TempPathFactory, trained: dict[int, bool], oldest: int, best: int
) -> None:
    pruned, whole = tmp_path_factory.mktemp("pruned"), tmp_path_factory.mktemp("whole")
    counted = Counted()
    for round, counts in sorted(trained.items()):
        keep_from, keep = (counted.last("a", min(kept, round - 1)) for kept in (oldest, best))
        private_state.write(pruned, round, state(round), keep_from, (keep,))
        private_state.write(whole, round, state(round), keep_from=0)
        if counts:
            counted.add("a", round)
    for checkpoint in (min(best, max(trained) - 1), *range(min(oldest, max(trained) - 1), 32)):
        last = counted.last("a", checkpoint)
        assert found(pruned, last) == found(whole, last)


def test_a_group_that_could_not_be_read_again_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the name of a group of arrays must not have a '/'; got 'own/variate'"):
        private_state.write(tmp_path, 1, {"own/variate": {"w": np.zeros(2)}}, 0)
    assert not list(tmp_path.iterdir())
