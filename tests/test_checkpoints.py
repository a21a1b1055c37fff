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
from fedpolyp.checkpoints import Checkpoint, DamagedCheckpoint, checkpoint_path, rounds_in
from fedpolyp.model.arrays import Arrays, equal

OURS = "fingerprint"


def checkpoint(round: int, best_round: int = 0, **changes: Any) -> Checkpoint:
    # Larger than zipfile's 4 KiB read, so that an array can be read without all of its bytes being read.
    arrays = {"conv/kernel": np.full((30, 50), round, np.float32), "conv/bias": np.zeros(2, np.float32)}
    moments = {"iterations": np.array(7 * round)}
    plain: dict[str, Any] = {"fingerprint": OURS, "arrays": arrays, "strategy": moments, "best_val_dice": 0.25}
    return Checkpoint(round=round, best_round=best_round, **(plain | changes))


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
    judged = checkpoints.judged(checkpoint(7, before[0], best_val_dice=before[1]), val_dice)
    assert (judged.best_round, judged.best_val_dice) == expected


names = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='<>:"|?*\\'), min_size=1)
some_arrays = st.dictionaries(
    names,
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8]),
        hnp.array_shapes(min_dims=0, max_dims=3, max_side=4),
    ),
    max_size=4,
)


@given(some_arrays, some_arrays, st.integers(0, 999_999), st.floats(-1, 1))
def test_what_is_loaded_is_what_was_saved_to_the_bit_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, arrays: Arrays, strategy: Arrays, round: int, dice: float
) -> None:
    folder = tmp_path_factory.mktemp("saved")
    saved = Checkpoint(round, OURS, arrays, strategy, best_round=round, best_val_dice=dice)
    checkpoints.save(folder, saved, keep=1)
    loaded = checkpoints.load(folder, round, OURS)
    for one, other in ((loaded.arrays, arrays), (loaded.strategy, strategy)):
        assert equal(one, other) and list(one) == list(other)
        assert [array.shape for array in one.values()] == [array.shape for array in other.values()]
    assert (loaded.round, loaded.fingerprint, loaded.best_round, loaded.best_val_dice) == (round, OURS, round, dice)


def test_without_arrays_only_what_is_said_about_it_is_loaded(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, checkpoint(4, best_round=3), keep=2)
    loaded = checkpoints.load(tmp_path, 4, OURS, arrays=False)
    assert (loaded.round, loaded.best_round, loaded.arrays, loaded.strategy) == (4, 3, {}, {})


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
        same = equal(loaded.arrays, saved.arrays) and equal(loaded.strategy, saved.strategy)
        if not same or loaded.arrays["conv/kernel"].shape != (30, 50) or loaded.round != 3:
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
    [{"round": 4}, {"round": "3"}, {"best_round": 4}, {"best_round": -1}, {"best_val_dice": "x"}, {"fingerprint": 3}],
)
def test_one_that_says_what_cannot_be_is_refused_by_name(tmp_path: Path, changes: dict[str, Any]) -> None:
    meta = {"round": 3, "fingerprint": OURS, "best_round": 3, "best_val_dice": 0.5, "members": 0} | changes
    with checkpoint_path(tmp_path, 3).open("wb") as stream:
        np.savez(stream, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8))
    with pytest.raises(DamagedCheckpoint, match="is damaged: what it says about itself"):
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
    state = {"iterations": np.array(round)}
    checkpoints.save(folder, checkpoints.Checkpoint(round, "fingerprint", arrays, state, round // 5 * 5, 0.5), keep=2)
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
        assert list(found.arrays) == [f"layer{n}" for n in range(4)]
        assert all(np.array_equal(array, np.full((64, 64, 32), found.round)) for array in found.arrays.values())
        assert found.strategy == {"iterations": found.round}
        if found.best_round:
            assert checkpoints.load(tmp_path, found.best_round, OURS).round == found.best_round
        before = found.round
