"""A run folder is made once, reads back up to its last complete round, and is found by name or path."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp import processor, runs
from fedpolyp.config import Config, load
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.errors import FedpolypError
from fedpolyp.runs import RoundRecord, RunFolder

PARTITION = Partition(("a",), {"hospital-1": HospitalImages(("b",), ("c",), ("d",))})


def config() -> Config:
    return load(overrides={"data.source": "/somewhere/kvasir/", "hospitals.count": 7, "seed": 3})


def with_rounds(folder: Path, rounds: list[int]) -> RunFolder:
    run = RunFolder(folder)
    for round in rounds:
        run.append_round(record(round))
    return run


def record(round: int) -> dict[str, Any]:
    return RoundRecord(round, {"dice": round / 10, "iou": 0.1, "loss": 1.0}, began=0.0).to_plain() | {"seconds": 1.5}


def test_going_on_with_other_kernels_says_that_bits_may_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.create(tmp_path / "run", config(), PARTITION)
    assert run.other_kernels() == ""
    monkeypatch.setattr(processor, "kernels", lambda: "oneDNN other")
    assert "with oneDNN other: bits may differ" in run.other_kernels()


def test_predictions_read_back_as_the_masks_that_were_written(tmp_path: Path) -> None:
    run, rng = RunFolder(tmp_path), np.random.default_rng(0)
    assert run.predictions() == {}
    masks = {name: rng.integers(0, 2, (3, 33, 33), dtype=np.uint8) for name in ("last:hospital-1", "last:hospital-2")}
    run.write_predictions(masks)
    back = run.predictions()
    assert back.keys() == masks.keys()
    assert all(np.array_equal(back[name], masks[name]) for name in masks)


def test_appended_rounds_are_read_in_order(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).rounds() == []
    assert with_rounds(tmp_path, [0, 1, 2]).rounds() == [record(n) for n in range(3)]


def test_a_half_written_last_line_is_ignored_wherever_it_ends(tmp_path: Path) -> None:
    run = with_rounds(tmp_path, [0, 1])
    whole = run.rounds_file.read_bytes()
    last = json.dumps({"round": 2, "hospitals": {"hospital-1": {"images": 3}}}).encode()
    for end in range(1, len(last)):
        run.rounds_file.write_bytes(whole + last[:end])
        assert [record["round"] for record in run.rounds()] == [0, 1]


@pytest.mark.parametrize("line", [b"null", b"3", b"[]", b"{}", b'"round"', b"\xff\xfe"])
def test_a_line_that_is_no_record_ends_the_records(tmp_path: Path, line: bytes) -> None:
    run = with_rounds(tmp_path, [0, 1])
    with run.rounds_file.open("ab") as stream:
        stream.write(line + b"\n")
    assert [record["round"] for record in run.rounds()] == [0, 1]


def test_whoever_goes_on_with_a_run_clears_away_what_a_killed_process_left_half_written(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "run", config(), PARTITION)
    (run.checkpoints / ".round-000001.npz.abc.part").write_bytes(b"half")
    whole = {file for file in run.path.rglob("*") if not file.name.endswith(".part")}
    with run.locked():
        assert set(run.path.rglob("*")) == whole | {run.path / ".lock"}


def test_rewind_drops_later_and_half_written_records_and_can_be_written_on(tmp_path: Path) -> None:
    run = with_rounds(tmp_path, [0, 1, 2, 3])
    with run.rounds_file.open("a") as stream:
        stream.write('{"round": 4, "di')
    run.rewind(2)
    assert [record["round"] for record in run.rounds()] == [0, 1, 2]
    run.append_round(record(3))
    assert [record["round"] for record in run.rounds()] == [0, 1, 2, 3]


@pytest.mark.parametrize("rounds", [[0, 2], [1, 2], [0, 1], [0, 1, 1, 2], []])
def test_rewind_refuses_gaps_and_leaves_the_file_alone(tmp_path: Path, rounds: list[int]) -> None:
    run = with_rounds(tmp_path, rounds)
    before = run.rounds()
    with pytest.raises(FedpolypError, match=r"rounds\.jsonl does not hold every round up to 2"):
        run.rewind(2)
    assert run.rounds() == before


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    refused = pytest.raises(FedpolypError, match=f"^another process is working on {tmp_path}$")
    assert not run.at_work
    with run.locked(), refused, run.locked():
        pass
    with run.locked():
        assert run.at_work
    assert not run.at_work


def test_starting_over_drops_the_first_record_and_refuses_to_drop_more(tmp_path: Path) -> None:
    run = with_rounds(tmp_path, [0])
    run.start_over()
    assert run.rounds() == []
    run.start_over()
    before = with_rounds(tmp_path, [0, 1, 2]).rounds_file.read_bytes()
    with pytest.raises(FedpolypError, match=r"checkpoints holds no checkpoint .*rounds\.jsonl holds 2 rounds"):
        run.start_over()
    assert run.rounds_file.read_bytes() == before


def test_a_link_in_a_run_folder_is_refused_before_anything_is_written_through_it(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("engine.log", "state", ".lock", "checkpoints/x"):
        run = runs.create(tmp_path / name.replace("/", "-"), config(), PARTITION)
        (run.path / name).symlink_to(elsewhere, target_is_directory=True)
        with pytest.raises(FedpolypError, match="link"), run.locked():
            pass
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("content", ["[1]", "[" * 10_000, '{"started": ' + "1" * 5000 + "}", "{"])
def test_an_environment_that_is_none_is_refused_by_name(tmp_path: Path, content: str) -> None:
    run = runs.create(tmp_path / "run", config(), PARTITION)
    run.environment_file.write_text(content)
    with pytest.raises(FedpolypError, match=f"^{run.environment_file} is "):
        run.environment()


def test_a_record_with_other_values_than_a_rounds_is_refused_by_line(tmp_path: Path) -> None:
    run = with_rounds(tmp_path, [0, 1])
    with run.rounds_file.open("a") as stream:
        stream.write(json.dumps(record(2) | {"dice": "0.9"}) + "\n")
    with pytest.raises(FedpolypError, match=f"^line 3 of {run.rounds_file} is damaged: 'dice'"):
        run.rounds()


def test_a_loss_that_is_no_number_is_written_as_json_that_every_reader_takes(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append_round(record(0) | {"loss": float("nan")})
    assert "NaN" not in run.rounds_file.read_text()
    assert run.rounds()[0]["loss"] is None


def test_predictions_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with run.predictions_file().open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(FedpolypError, match=f"^{run.predictions_file()} is damaged"):
        run.predictions()


def test_results_are_set_aside_beside_earlier_ones_of_which_some_were_deleted(tmp_path: Path) -> None:
    (tmp_path / "set-aside" / "2").mkdir(parents=True)
    (tmp_path / "images.csv").write_text("scored")
    aside = RunFolder(tmp_path).set_results_aside()
    assert aside == tmp_path / "set-aside" / "3" and (aside / "images.csv").read_text() == "scored"
