"""What is written of a round: its record, and what the next one needs; a round is complete once its checkpoint is."""

from pathlib import Path
from typing import Any

import pytest

from fedpolyp import checkpoints
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.watcher import Watcher
from tests.same_bits import equal
from tests.tiny import Whole, carry_here, tiny_config, tiny_run, weights


def test_rounds_jsonl_holds_every_field_of_the_contract(whole: Whole) -> None:
    config = tiny_config(training__optimizer_state="keep")
    run = whole(config)
    records = run.rounds()
    assert [record["round"] for record in records] == [0, 1, 2, 3]
    fields = "round dice iou val_dice loss seconds steps bytes_up bytes_down hospitals refused".split()
    assert all(list(record) == fields for record in records)
    batches = sum(-(-len(hospital.train) // 4) for hospital in run.partition().hospitals.values())
    assert [record["steps"] for record in records] == [0, *[batches] * 3]
    model = sum(array.nbytes for array in weights(run, config).values())
    assert all(record["bytes_up"] == 3 * model for record in records[1:])
    assert all(
        set(h) == {"images", "train_loss", "val_dice", "val_images"}
        for r in records[1:-1]
        for h in r["hospitals"].values()
    )
    assert all("test_dice" in hospital for hospital in records[-1]["hospitals"].values())


def test_private_state_older_than_every_checkpoint_is_dropped(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=6, training__optimizer_state="keep")
    run = tiny_run(tmp_path / "run", config)
    carry_here(run, config)
    kept = checkpoints.rounds_in(run.checkpoints)
    for hospital in sorted(run.partition().hospitals):
        rounds = sorted(int(path.stem) for path in (run.state / hospital).glob("*.npz"))
        assert rounds[-1] == 6 and len(rounds) <= 6 - kept[0] + 2


def test_a_watcher_hears_of_a_round_once_its_record_and_its_checkpoint_are_written(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=1)
    run, seen = tiny_run(tmp_path / "run", config), list[tuple[int, int, list[int]]]()

    class Looking(Watcher):
        def finished_round(self, record: dict[str, Any]) -> None:
            seen.append((record["round"], run.rounds()[-1]["round"], checkpoints.rounds_in(run.checkpoints)))

    carry_here(run, config, Looking())
    assert seen == [(0, 0, [0]), (1, 1, [0, 1])]


def test_a_run_killed_between_a_rounds_record_and_its_checkpoint_does_the_round_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Whole
) -> None:
    config = tiny_config()
    run, save = tiny_run(tmp_path / "run", config), checkpoints.save

    def die(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
        if checkpoint.round == 3:
            raise KeyboardInterrupt
        save(folder, checkpoint, keep)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", die)
        with pytest.raises(KeyboardInterrupt):
            carry_here(run, config)
    assert [record["round"] for record in run.rounds()] == [0, 1, 2, 3]
    carry_here(run, config)
    assert [record["round"] for record in run.rounds()] == [0, 1, 2, 3]
    assert equal(weights(run, config), weights(whole(config), config))
