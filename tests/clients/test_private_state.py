"""A hospital finds the state that its last earlier round left, also when a round is repeated."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients import private_state
from fedpolyp.model.arrays import Arrays, equal


def state(value: int) -> Arrays:
    return {"iterations": np.array(value), "m/conv/kernel": np.full((2, 2), value, np.float32)}


def rounds(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.npz"))


def found(folder: Path, round: int) -> int | None:
    arrays = private_state.read_before(folder, round)
    return None if arrays is None else int(arrays["iterations"])


def test_there_is_none_before_the_first_round(tmp_path: Path) -> None:
    folder = tmp_path / "hospital-1"
    assert private_state.read_before(folder, 1) is None
    private_state.write(folder, 4, state(4), keep_from=0)
    assert private_state.read_before(folder, 4) is private_state.read_before(folder, 1) is None


def test_what_is_read_is_what_was_written_to_the_bit_and_in_order(tmp_path: Path) -> None:
    private_state.write(tmp_path, 4, state(4), keep_from=0)
    back = private_state.read_before(tmp_path, 5)
    assert back is not None and equal(back, state(4)) and list(back) == list(state(4))


def test_the_newest_earlier_round_is_read_however_long_ago(tmp_path: Path) -> None:
    for round in (2, 9, 10):
        private_state.write(tmp_path, round, state(round), keep_from=0)
    assert [found(tmp_path, round) for round in (2, 3, 9, 10, 11, 500)] == [None, 2, 2, 9, 10, 10]


def test_a_repeated_round_starts_from_the_same_state(tmp_path: Path) -> None:
    private_state.write(tmp_path, 1, state(1), keep_from=0)
    before = found(tmp_path, 2)
    private_state.write(tmp_path, 2, state(2), keep_from=1)
    assert found(tmp_path, 2) == before == 1
    private_state.write(tmp_path, 2, state(22), keep_from=1)
    assert (found(tmp_path, 2), found(tmp_path, 3)) == (1, 22)


def test_a_write_that_fails_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private_state.write(tmp_path, 1, state(1), keep_from=0)

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        private_state.write(tmp_path, 2, state(2), keep_from=1)
    assert rounds(tmp_path) == [1] and len(list(tmp_path.iterdir())) == 1


def test_what_no_checkpoint_needs_is_dropped(tmp_path: Path) -> None:
    kept = {}
    for round, keep_from in ((1, 0), (2, 0), (3, 0), (4, 1), (5, 3), (6, 5)):
        private_state.write(tmp_path, round, state(round), keep_from)
        kept[round] = rounds(tmp_path)
    assert kept == {1: [1], 2: [1, 2], 3: [1, 2, 3], 4: [1, 2, 3, 4], 5: [3, 4, 5], 6: [5, 6]}


@settings(max_examples=25)
@given(st.sets(st.integers(1, 30), min_size=1), st.integers(0, 30))
def test_resuming_from_any_checkpoint_still_kept_finds_what_it_would_have_found(
    tmp_path_factory: pytest.TempPathFactory, sampled: set[int], oldest: int
) -> None:
    pruned, whole = tmp_path_factory.mktemp("pruned"), tmp_path_factory.mktemp("whole")
    for round in sorted(sampled):
        private_state.write(pruned, round, state(round), keep_from=min(oldest, round - 1))
        private_state.write(whole, round, state(round), keep_from=0)
    for checkpoint in range(min(oldest, max(sampled) - 1), 32):
        assert found(pruned, checkpoint + 1) == found(whole, checkpoint + 1)
