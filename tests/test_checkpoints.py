"""A checkpoint is whole or absent; the newest whole one is found, and why the others are not used is said."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedpolyp import checkpoints
from fedpolyp.algorithms.base import Groups
from fedpolyp.checkpoints import Best, Checkpoint, DamagedCheckpoint, best_path, checkpoint_path, rounds_in
from tests.same_bits import equal

OURS = "fingerprint"


def checkpoint(round: int, best_round: int = 0, best_val_dice: float = 0.25, fingerprint: str = OURS) -> Checkpoint:
    # Larger than zipfile's 4 KiB read, so that an array can be read without all of its bytes being read.
    arrays = {"conv/kernel": np.full((30, 50), round, np.float32), "conv/bias": np.zeros(2, np.float32)}
    moments = {"iterations": np.array(7 * round)}
    state = {"model": arrays, "optimizer": moments}
    return Checkpoint(round, fingerprint, state, {"": Best(best_round, best_val_dice)})


def same_state(one: Groups, other: Groups) -> bool:
    return one.keys() == other.keys() and all(equal(one[group], other[group]) for group in one)


def latest(folder: Path) -> tuple[int | None, list[str]]:
    heard: list[str] = []
    found = checkpoints.latest(folder, OURS, heard.append)
    return (None if found is None else found.round), heard


@pytest.mark.parametrize(
    ("before", "val_dice", "expected"),
    [
        ((3, 0.5), 0.6, (7, 0.6)),
        ((3, 0.5), 0.5, (3, 0.5)),  # the first of two equals
        ((3, 0.5), None, (3, 0.5)),  # nobody could validate this once
        ((3, -1.0), None, (7, -1.0)),  # nobody ever could: the newest is as good a guess as any
        ((0, -1.0), 0.0, (7, 0.0)),
    ],
)
def test_the_best_is_the_first_with_the_highest_validation_dice_or_the_newest_without(
    before: tuple[int, float], val_dice: float | None, expected: tuple[int, float]
) -> None:
    judged = checkpoints.judged(checkpoint(7, before[0], best_val_dice=before[1]), {"": val_dice})
    assert judged.best == {"": Best(*expected)}


def test_each_of_several_models_has_a_best_round_of_its_own() -> None:
    best = {"hospital-1": Best(3, 0.5), "hospital-2": Best(4, 0.8), "hospital-3": Best()}
    before = Checkpoint(7, OURS, {}, best)
    judged = checkpoints.judged(before, {"hospital-1": 0.6, "hospital-2": 0.7})
    assert judged.best == {"hospital-1": Best(7, 0.6), "hospital-2": Best(4, 0.8), "hospital-3": Best(7, -1.0)}
    assert before.best == best


names = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='<>:"|?*\\'), min_size=1)
some_arrays = st.dictionaries(
    names,
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8]),
        hnp.array_shapes(min_dims=0, max_dims=3, max_side=4),
    ),
    max_size=4,
)


groups = st.sampled_from(["model", "optimizer", "model:hospital-1", "server-m"])


@given(st.dictionaries(groups, some_arrays.filter(bool), max_size=3), st.integers(0, 999_999), st.floats(-1, 1))
def test_what_is_loaded_is_what_was_saved_to_the_bit_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, state: Groups, round: int, dice: float
) -> None:
    folder = tmp_path_factory.mktemp("saved")
    best = {"": Best(round, dice), "hospital-1": Best()}
    checkpoints.save(folder, Checkpoint(round, OURS, state, best), keep=1)
    loaded = checkpoints.load(folder, round, OURS)
    assert list(loaded.state) == list(state)
    for group, arrays in state.items():
        back = loaded.state[group]
        assert equal(back, arrays) and list(back) == list(arrays)
        assert [array.shape for array in back.values()] == [array.shape for array in arrays.values()]
    assert (loaded.round, loaded.fingerprint, loaded.best) == (round, OURS, best)


def test_models_are_told_by_their_marks() -> None:
    local = {f"{group}:{name}": {"w": np.ones(1)} for name in ("a", "b") for group in ("model", "optimizer")}
    assert list(Checkpoint(1, OURS, local, {}).models) == ["a", "b"]
    assert list(checkpoint(1).models) == [""]


def test_without_arrays_only_what_is_said_about_it_is_loaded(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, checkpoint(4, best_round=3), keep=2)
    loaded = checkpoints.load(tmp_path, 4, OURS, arrays=False)
    assert (loaded.round, loaded.best, loaded.state) == (4, {"": Best(3, 0.25)}, {})


def test_the_newest_are_kept_and_the_best_that_a_kept_one_names(tmp_path: Path) -> None:
    best = {0: 0, 1: 1, 2: 1, 3: 1, 4: 4, 5: 4}
    kept = {}
    for round, best_round in best.items():
        checkpoints.save(tmp_path, checkpoint(round, best_round), keep=2)
        kept[round] = (rounds_in(tmp_path, "best"), rounds_in(tmp_path))
    # Round 4 is the new best, but round 3 is kept and still names round 1.
    assert kept == {
        0: ([], [0]),
        1: ([], [0, 1]),
        2: ([], [1, 2]),
        3: ([1], [2, 3]),
        4: ([1], [3, 4]),
        5: ([], [4, 5]),
    }


def test_one_kept_only_for_being_the_best_is_read_but_not_resumed_from(tmp_path: Path) -> None:
    for round in range(4):
        checkpoints.save(tmp_path, checkpoint(round, best_round=1), keep=1)
    assert checkpoints.load(tmp_path, 1, OURS).round == 1
    assert checkpoints.oldest(tmp_path) == 3
    checkpoint_path(tmp_path, 3).write_bytes(b"")
    with pytest.raises(DamagedCheckpoint, match="no checkpoint"):
        latest(tmp_path)


def test_one_kept_only_for_being_the_best_holds_the_models_that_are_and_no_more(tmp_path: Path) -> None:
    def local(round: int, **best: int) -> Checkpoint:
        state = {
            f"{group}:{name}": {"w": np.array([float(round)])} for name in best for group in ("model", "optimizer")
        }
        return Checkpoint(round, OURS, state, {name: Best(number, 0.5) for name, number in best.items()})

    for one in (local(0, a=0, b=0), local(1, a=1, b=0), local(2, a=1, b=0), local(3, a=1, b=3)):
        checkpoints.save(tmp_path, one, keep=1)
        if one.round == 2:
            assert rounds_in(tmp_path, "best") == [0, 1]
            assert list(checkpoints.load(tmp_path, 0, OURS).models) == ["b"]
    assert rounds_in(tmp_path, "best") == [1] and rounds_in(tmp_path) == [3]  # round 0 is nobody's best any more
    kept = checkpoints.load(tmp_path, 1, OURS, like=local(3, a=1, b=3).state)
    assert same_state(kept.state, {"model:a": {"w": np.array([1.0])}})


def test_a_best_one_that_cannot_be_read_is_kept_as_it_is_for_whoever_asks_for_it(tmp_path: Path) -> None:
    for round in range(3):
        checkpoints.save(tmp_path, checkpoint(round, best_round=1), keep=2)
    checkpoint_path(tmp_path, 1).write_bytes(b"damaged")
    checkpoints.save(tmp_path, checkpoint(3, best_round=1), keep=2)
    assert best_path(tmp_path, 1).read_bytes() == b"damaged"
    with pytest.raises(DamagedCheckpoint, match=f"^checkpoint {best_path(tmp_path, 1)} is damaged: "):
        checkpoints.load(tmp_path, 1, OURS)


@pytest.mark.parametrize(
    ("like", "said"),
    [
        ({"model": {}}, "does not fit the run: it has different optimizer"),
        ({"model": {}, "optimizer": {}, "control": {}}, "does not fit the run: it has different control"),
        (
            {"model": {"conv/kernel": np.zeros((30, 51)), "conv/bias": np.zeros(2)}, "optimizer": {}},
            r"does not fit the run's model: array conv/kernel has shape \(30, 50\), expected \(30, 51\)",
        ),
        (
            {"model": {"conv/kernel": np.zeros((30, 50)), "conv/bias": np.zeros(2)}, "optimizer": {}},
            "does not fit the run's model: array names differ: 0 missing .*, 1 unexpected .'iterations'",
        ),
    ],
)
def test_one_of_other_groups_or_arrays_than_the_runs_is_refused_by_name(
    tmp_path: Path, like: Groups, said: str
) -> None:
    checkpoints.save(tmp_path, checkpoint(3), keep=2)
    assert checkpoints.load(tmp_path, 3, OURS, like=checkpoint(1).state).round == 3
    with pytest.raises(DamagedCheckpoint, match=f"^checkpoint {checkpoint_path(tmp_path, 3)} {said}"):
        checkpoints.load(tmp_path, 3, OURS, like=like)


def test_a_new_checkpoint_is_kept_beside_newer_ones_that_were_refused(tmp_path: Path) -> None:
    for round in (2, 4, 5):
        checkpoints.save(tmp_path, checkpoint(round, best_round=2), keep=3)
    for round in (4, 5):
        checkpoint_path(tmp_path, round).write_bytes(b"")
    assert latest(tmp_path)[0] == 2
    checkpoints.save(tmp_path, checkpoint(3, best_round=2), keep=2)
    assert latest(tmp_path) == (3, [])
    assert rounds_in(tmp_path) == [2, 3]


def test_oldest_is_the_first_round_kept(tmp_path: Path) -> None:
    assert checkpoints.oldest(tmp_path) == checkpoints.oldest(tmp_path / "absent") == 0
    for round in (11, 3, 7):
        checkpoints.save(tmp_path, checkpoint(round, best_round=3), keep=9)
    assert checkpoints.oldest(tmp_path) == 3


def test_a_missing_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint) as refusal:
        checkpoints.load(tmp_path, 3, OURS)
    assert str(refusal.value) == f"there is no checkpoint {tmp_path / 'round-000003.npz'}"


def test_one_of_another_config_is_refused_by_name(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, checkpoint(3, fingerprint="theirs"), keep=2)
    said = f"checkpoint {checkpoint_path(tmp_path, 3)} was made by another config"
    with pytest.raises(DamagedCheckpoint) as refusal:
        checkpoints.load(tmp_path, 3, OURS)
    assert str(refusal.value) == said
    heard: list[str] = []
    with pytest.raises(DamagedCheckpoint, match="no checkpoint in .* can be used; the oldest: .* another config"):
        checkpoints.latest(tmp_path, OURS, heard.append)
    assert heard == [said]
    assert checkpoints.load(tmp_path, 3, None).fingerprint == "theirs"


def test_a_truncated_one_is_refused_by_name_wherever_it_ends(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, checkpoint(3), keep=2)
    path = checkpoint_path(tmp_path, 3)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedCheckpoint, match=f"^checkpoint {path} is damaged: "):
            checkpoints.load(tmp_path, 3, OURS)


def spoiled(folder: Path, bits: range) -> list[int]:
    """Those of `bits` of a checkpoint's file that can flip without its being refused and yet with other content."""
    saved = checkpoint(3)
    checkpoints.save(folder, saved, keep=2)
    path = checkpoint_path(folder, 3)
    whole = path.read_bytes()
    silent = []
    for bit in bits:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            loaded = checkpoints.load(folder, 3, OURS)
        except DamagedCheckpoint as error:
            if str(path) in str(error):
                continue
            raise
        same = same_state(loaded.state, saved.state) and (loaded.round, loaded.best) == (3, saved.best)
        if not same or loaded.state["model"]["conv/kernel"].shape != (30, 50):
            silent.append(bit)
    return silent


def test_one_with_a_flipped_bit_is_refused_by_name_or_unharmed(tmp_path: Path) -> None:
    saved = checkpoint(3)
    checkpoints.save(tmp_path, saved, keep=2)
    whole = checkpoint_path(tmp_path, 3).read_bytes()
    kernel, directory = whole.index(b"\x93NUMPY", 300), whole.index(b"PK\x01\x02")
    headers = range(8 * kernel, 8 * kernel + 8 * 70)  # where numpy says the shape
    fields = range(8 * directory, 8 * directory + 8 * 28)  # where zip says how the first array is packed
    for bits in (headers, fields, range(0, 8 * directory, 401)):
        assert spoiled(tmp_path, bits) == []


def test_no_flipped_bit_makes_an_array_disappear(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, checkpoint(3), keep=2)
    whole = checkpoint_path(tmp_path, 3).read_bytes()
    directory = whole.index(b"PK\x01\x02")
    assert spoiled(tmp_path, range(8 * directory, 8 * directory + 8 * 46)) == []


def test_a_single_array_in_a_checkpoints_place_is_refused_by_name(tmp_path: Path) -> None:
    with checkpoint_path(tmp_path, 3).open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(DamagedCheckpoint, match="^checkpoint .* is damaged: it is a single array"):
        checkpoints.load(tmp_path, 3, OURS)


@pytest.mark.parametrize(
    "changes",
    [
        {"round": 4},
        {"round": "3"},
        {"best": {"": [4, 0.5]}},
        {"best": {"": [-1, 0.5]}},
        {"best": {"": ["3", 0.5]}},
        {"best": {"": [3, "x"]}},
        {"best": {"a": [3, 0.5], "b": [3, True]}},
        {"best": [3, 0.5]},
        {"fingerprint": 3},
    ],
)
def test_one_that_says_what_cannot_be_is_refused_by_name(tmp_path: Path, changes: dict[str, Any]) -> None:
    meta = {"round": 3, "fingerprint": OURS, "best": {"": [3, 0.5]}, "members": 0} | changes
    with checkpoint_path(tmp_path, 3).open("wb") as stream:
        np.savez(stream, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8))
    with pytest.raises(DamagedCheckpoint, match="is damaged: its description"):
        checkpoints.load(tmp_path, 3, OURS)


def test_latest_falls_back_past_damaged_ones_hearing_why(tmp_path: Path) -> None:
    for round in range(1, 5):
        checkpoints.save(tmp_path, checkpoint(round), keep=9)
    assert latest(tmp_path) == (4, [])
    newest, before = checkpoint_path(tmp_path, 4), checkpoint_path(tmp_path, 3)
    newest.write_bytes(newest.read_bytes()[:-100])
    flipped = bytearray(before.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    before.write_bytes(flipped)
    found, heard = latest(tmp_path)
    assert found == 2
    assert [str(newest) in heard[0], str(before) in heard[1], len(heard)] == [True, True, 2]


def test_there_is_no_latest_in_an_empty_or_absent_folder(tmp_path: Path) -> None:
    assert latest(tmp_path) == latest(tmp_path / "absent") == (None, [])


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    for name in ("round-7.npz", "round-000009.npz.bak", ".round-000008.npz.x.part", "notes.txt"):
        (tmp_path / name).touch()
    checkpoints.save(tmp_path, checkpoint(1), keep=1)
    assert rounds_in(tmp_path) == [1]
    assert len(list(tmp_path.iterdir())) == 5


# A kill takes nothing that the system already holds, so nothing is learnt from waiting for the disk.
WRITER = """
import json, os, sys
from pathlib import Path
import numpy as np
from fedpolyp import checkpoints

os.fsync = lambda handle: None
folder = Path(sys.argv[1])
found = checkpoints.latest(folder, "fingerprint", lambda why: print(json.dumps(why), flush=True))
round = found.round if found else 0
while True:
    round += 1
    arrays = {f"layer{n}": np.full((64, 64, 32), round, np.float32) for n in range(4)}
    state = {"model": arrays, "optimizer": {"iterations": np.array(round)}}
    best = {"": checkpoints.Best(round // 5 * 5, 0.5)}
    checkpoints.save(folder, checkpoints.Checkpoint(round, "fingerprint", state, best), keep=2)
    print(round, flush=True)
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_its_last_checkpoint_whole(tmp_path: Path) -> None:
    moments = random.Random(20)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    before = 0
    for _ in range(20):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            time.sleep(moments.uniform(0, 0.08))
            writer.kill()
            rest = writer.stdout.read().splitlines(keepends=True)
        reported = [json.loads(line) for line in [first, *rest] if line.endswith("\n")]
        assert reported == list(range(before + 1, before + 1 + len(reported)))  # it went on from its last, unspoiled
        heard: list[str] = []
        found = checkpoints.latest(tmp_path, OURS, heard.append)
        assert found is not None and heard == []
        assert reported[-1] <= found.round <= reported[-1] + 1
        model = found.state["model"]
        assert list(model) == [f"layer{n}" for n in range(4)]
        assert all(np.array_equal(array, np.full((64, 64, 32), found.round)) for array in model.values())
        assert found.state["optimizer"] == {"iterations": found.round}
        if best := found.best[""].round:
            assert checkpoints.load(tmp_path, best, OURS).round == best
        before = found.round
