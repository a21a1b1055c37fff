"""A run folder is made once, reads back up to its last complete round, and is found by name or path."""

import csv
import json
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp import __version__, processor, runs
from fedpolyp.config import Config, load
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.runs import RoundRecord, RunFolder, scored_images

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


def test_a_created_run_gives_back_its_config_and_partition(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "made on the way" / "run", config(), PARTITION)
    assert (run.config(), run.partition(), run.rounds()) == (config(), PARTITION, [])
    assert run.name == "run"
    assert run.checkpoints.is_dir()


def test_a_created_run_says_where_and_with_what_it_was_made(tmp_path: Path) -> None:
    told = json.loads((runs.create(tmp_path / "run", config(), PARTITION).path / "environment.json").read_text())
    assert told["packages"]["fedpolyp"] == __version__
    assert told["packages"].keys() >= {"tensorflow", "flwr", "numpy"}
    assert told["python"] and told["processor"] and told["cores"] >= 1
    assert datetime.fromisoformat(told["started"]).tzinfo is not None


def test_going_on_with_other_kernels_says_that_bits_may_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.create(tmp_path / "run", config(), PARTITION)
    assert run.other_kernels() == ""
    monkeypatch.setattr(processor, "kernels", lambda: "oneDNN other")
    assert "with oneDNN other: bits may differ" in run.other_kernels()


def test_a_run_is_made_in_an_empty_folder_but_never_over_something(tmp_path: Path) -> None:
    runs.create(tmp_path, config(), PARTITION)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(UsageError) as refusal:
        runs.create(tmp_path, Config(), PARTITION)
    assert str(refusal.value) == (
        f"{tmp_path} exists already; choose another --out, or resume that run: --resume {tmp_path}"
    )
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    with pytest.raises(UsageError, match="config.toml is a file; --out must be a folder"):
        runs.create(tmp_path / "config.toml", config(), PARTITION)
    with pytest.raises(UsageError, match="holds something other than a run; choose another --out$"):
        runs.create(tmp_path.parent, config(), PARTITION)


def test_a_run_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=f"^cannot make the run folder {tmp_path / 'file' / 'run'}: File exists$"):
        runs.create(tmp_path / "file" / "run", config(), PARTITION)


def test_a_run_that_is_cut_short_while_it_is_made_never_looks_like_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(path: Path, text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedpolyp.files.write_text", die)
    with pytest.raises(KeyboardInterrupt):
        runs.create(tmp_path / "run", config(), PARTITION)
    monkeypatch.undo()
    assert not (tmp_path / "run").exists()
    runs.create(tmp_path / "run", config(), PARTITION)


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


def test_a_run_is_found_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = runs.create(tmp_path / "runs" / "first", config(), PARTITION)
    assert runs.find(str(made.path)) == runs.find("first", tmp_path / "runs") == made
    monkeypatch.chdir(tmp_path)
    assert runs.find("first").path.resolve() == runs.find("runs/first").path.resolve() == made.path.resolve()


def test_a_folder_that_is_no_run_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "runs" / "other").mkdir(parents=True)
    with pytest.raises(UsageError) as refusal:
        runs.find("other", tmp_path / "runs")
    assert str(refusal.value) == (
        f"there is no run 'other': neither other nor {tmp_path / 'runs' / 'other'} holds a config.toml"
    )


def test_images_csv_has_one_row_a_scored_image_under_the_promised_columns(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    counts = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    rows = scored_images("federated", 3, "best", 9, "test:hospital-1", ["x", "y,z"], counts, np.array([0.5, 1 / 3]))
    run.write_images(iter(rows))
    with run.images_file.open(newline="") as stream:
        read = list(csv.DictReader(stream))
    about = {"arm": "federated", "seed": "3", "model": "best", "round": "9", "set": "test:hospital-1"}
    assert list(read[0]) == ["arm", "seed", "model", "round", "set", "id", "tp", "fp", "fn", "tn", "hd95"]
    assert read == [
        about | {"id": "x", "tp": "1", "fp": "2", "fn": "3", "tn": "4", "hd95": "0.500000"},
        about | {"id": "y,z", "tp": "5", "fp": "6", "fn": "7", "tn": "8", "hd95": "0.333333"},
    ]


def test_scored_images_refuses_more_ids_than_scores() -> None:
    with pytest.raises(ValueError, match="zip"):
        scored_images("federated", 0, "last", 1, "heldout", ["x", "y"], np.zeros((1, 4), np.int64), np.zeros(1))


def test_a_round_record_becomes_the_promised_line() -> None:
    record = RoundRecord(4, scores={"dice": 0.5, "iou": 0.4, "loss": 1.5}, val_dice=0.6)
    record.hospital("hospital-1")["images"] = 3
    record.hospital("hospital-1")["train_loss"] = 0.1
    plain = record.to_plain()
    promised = "round dice iou val_dice loss seconds steps bytes_up bytes_down hospitals refused"
    assert list(plain) == promised.split()
    assert plain["hospitals"] == {"hospital-1": {"images": 3, "train_loss": 0.1}}
    assert json.loads(json.dumps(plain)) == plain


def test_a_new_name_sorts_by_time_and_says_what_is_in_it() -> None:
    assert runs.new_name(config(), datetime(2026, 1, 31, 23, 59, 58)) == "20260131-235958-kvasir-7-hospitals"
    assert runs.new_name(Config(), datetime(2026, 2, 1)) == "20260201-000000-phantom-5-hospitals"


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


def test_a_run_of_a_checkout_knows_its_commit_and_whether_files_were_changed_since(tmp_path: Path) -> None:
    assert runs._commit(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "a.py").write_text("1")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    (tmp_path / "new.py").write_text("not tracked")
    assert runs._commit(tmp_path) == commit and len(commit) == 40
    (tmp_path / "a.py").write_text("2")
    assert runs._commit(tmp_path) == commit + "+"
