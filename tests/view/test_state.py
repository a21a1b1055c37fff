"""The page says of a run what its files say, whoever wrote them and whatever has become of the process that did."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.runs import RunFolder
from fedpolyp.sites.progress import FileWatcher, progress_file
from fedpolyp.view.shelf import Place
from fedpolyp.view.state import in_short, of_place, stamp
from tests.view.places import begin, carry, end


def told(run: RunFolder) -> dict[str, Any]:
    said = of_place(Place(run.name, run.path))
    json.dumps(said, allow_nan=False)
    return said


def test_a_run_that_is_still_to_begin_waits(tmp_path: Path) -> None:
    said = told(begin(tmp_path / "run"))
    assert (said["state"], said["sentence"]) == ("waiting", "It has not started yet.")
    assert said["table"] == said["scores"] == [] and said["seconds_left"] is None and said["dice"] is None


def test_while_a_run_goes_on_it_says_which_round_and_who_is_at_work(tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    watcher = FileWatcher(progress_file(run), "")
    with run.locked():
        assert told(run)["sentence"] == "It is starting: the initial model is scored."
        carry(run, 1)
        watcher.tell("started", round=-1)
        watcher.asked(2, "train", ["bergen", "oslo"])
        watcher.replied(2, "train", "bergen", "")
        said = told(run)
        assert (said["state"], said["sentence"]) == ("running", "Round 2 of 4 is running.")
        assert [(row["name"], row["now"]) for row in said["hospitals"]] == [("bergen", ""), ("oslo", "training")]
        watcher.replied(2, "train", "oslo", "out of memory")
        assert [row["reason"] for row in told(run)["hospitals"]] == ["", "round 2: out of memory"]
        carry(run, 2, since=2)
        watcher.finished_round(run.rounds()[-1])
        assert [row["reason"] for row in told(run)["hospitals"]] == ["", ""]
        carry(run, 4, since=3)
        assert told(run)["sentence"] == "All rounds are complete; images are scored and models are saved."
    assert told(run)["state"] == "stopped"
    end(run)
    assert (told(run)["state"], told(run)["sentence"]) == ("finished", "Finished after round 4.")


def test_who_was_at_work_when_a_run_broke_off_is_so_no_more_and_why_is_told(tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    carry(run, 1)
    watcher = FileWatcher(progress_file(run), "")
    watcher.asked(2, "train", ["oslo"])
    assert [row["now"] for row in told(run)["hospitals"]] == ["", ""]
    watcher.tell("failed", reason="interrupted")
    said = told(run)
    assert said["sentence"] == "Not running: 1 of 4 rounds are complete. It ended with: interrupted"
    watcher.tell("started", round=1)
    assert told(run)["sentence"] == "Not running: 1 of 4 rounds are complete."


def test_curves_scores_and_rows_are_those_of_the_records(tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    carry(
        run, 3, refused=[{"hospital": "oslo", "reason": "late"}], hospitals={"bergen": {"images": 2, "train_loss": 0.5}}
    )
    said, records = told(run), run.rounds()
    lines = {(line["kind"], line["label"]): line["points"] for line in said["curves"]["dice"]}
    assert lines["heldout", "held-out images"] == [(r["round"], r["dice"]) for r in records]
    assert lines["validation", "validation, mean"] == [(r["round"], r["val_dice"]) for r in records]
    assert [round for round, _ in lines["hospital", "oslo"]] == [0, 1, 2]
    losses = {line["kind"]: line["points"] for line in said["curves"]["loss"]}
    means = [sum(own["train_loss"] for own in r["hospitals"].values()) / len(r["hospitals"]) for r in records[1:]]
    assert losses["training"] == list(zip((1, 2, 3), means, strict=True))
    assert [(one["label"], one["round"], one["dice"]) for one in said["scores"]] == [
        ("last round", 3, records[3]["dice"]),
        ("best on validation", 3, records[3]["dice"]),
    ]
    bergen, oslo = said["hospitals"]
    assert (bergen["trained"], bergen["train_loss"], bergen["refused"]) == (3, 0.5, 0)
    assert (oslo["trained"], oslo["refused"], oslo["reason"]) == (2, 1, "round 3: late")
    assert oslo["images"] == {"train": 2, "val": 1, "test": 1}
    assert [row["refused"] for row in said["table"]] == [0, 0, 0, 1]


@pytest.mark.parametrize(("seconds", "left"), [((10, 10, 10), 10.0), ((2, 2, 400), 2.0)])
def test_the_time_left_is_the_usual_pace_of_the_last_rounds_less_what_has_passed(
    tmp_path: Path, seconds: tuple[float, ...], left: float
) -> None:
    run = begin(tmp_path / "run", rounds=5)
    for number, pace in enumerate((99.0, *map(float, seconds))):
        carry(run, number, since=number, seconds=pace)
    os.utime(run.rounds_file, (1000, 1000))  # so the round under way is taken for as good as over
    assert told(run)["seconds_left"] is None  # nobody is at work
    with run.locked():
        assert told(run)["seconds_left"] == pytest.approx(left)


def test_an_early_stop_is_an_end_with_its_reason(tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    carry(run, 2, stopped="no better for 2 rounds")
    end(run)
    assert told(run)["sentence"] == "Finished after round 2 of 4: no better for 2 rounds."


def test_damage_is_told_and_hides_no_other_run(tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    carry(run, 1)
    run.rounds_file.write_text(run.rounds_file.read_text().replace('"dice": 0.2', '"dice": 7'))
    said = told(run)
    assert said["state"] == "damaged" and "rounds.jsonl is damaged: 'dice'" in said["sentence"]
    other = begin(tmp_path / "other")
    other.partition_file.write_text("[]")
    assert told(other)["state"] == "damaged" and "partition.json" in told(other)["sentence"]
    end(begin(tmp_path / "arms" / "pooled" / "0"))
    lost = of_place(Place("arms", tmp_path / "arms", comparison=True))
    assert lost["state"] == "damaged" and "rounds.jsonl holds no round" in lost["runs"][0]["sentence"]
    third = begin(tmp_path / "third")
    third.config_file.write_text("arm = 'pooled'")
    assert told(third)["state"] == "damaged" and "version 0.1" in told(third)["sentence"]


def test_what_another_party_wrote_steers_nothing(tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    carry(run, 1, refused=[{"hospital": "\x1b[2J", "reason": "\u202egnorw\x00" * 500}])
    FileWatcher(progress_file(run), "").note("\x1b]0;x\x07")
    text = json.dumps(told(run), ensure_ascii=False)
    assert text.isprintable() and "\\u202e" in text
    assert max(len(row["reason"]) for row in told(run)["hospitals"]) < 500


def test_of_very_many_hospitals_those_at_work_are_listed_first(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", hospitals=[f"h{number:03d}" for number in range(230)])
    with run.locked():
        FileWatcher(progress_file(run), "").asked(1, "train", ["h229", "h100"])
        said = told(run)
    assert [row["name"] for row in said["hospitals"][:3]] == ["h100", "h229", "h000"]
    assert (len(said["hospitals"]), said["hospitals_left_out"]) == (200, 30)


def test_the_stamp_is_another_after_each_change_and_only_then(tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    place, seen = Place("run", run.path), list[str]()

    def changed() -> None:
        assert stamp(place) == stamp(place)
        seen.append(stamp(place))

    changed()
    with run.locked():
        changed()
        carry(run, 0)
        changed()
        FileWatcher(progress_file(run), "").asked(1, "train", ["oslo"])
        changed()
    changed()
    end(run)
    changed()
    (run.path / "report.html").touch()
    changed()
    assert len(set(seen)) == len(seen) == 7


def test_a_comparison_tells_of_each_run_and_means_over_those_that_are_finished(tmp_path: Path) -> None:
    for arm, seeds in (("pooled", 2), ("fedavg", 2)):
        for seed in range(seeds):
            run = begin(tmp_path / "both" / arm / str(seed), algorithm__name=arm, seed=seed, data__seed=0)
            if arm == "pooled":
                carry(run, 4, dice=0.5 + 0.1 * seed)
                end(run)
    place = Place("both", tmp_path / "both", comparison=True)
    said = of_place(place)
    assert said["sentence"] == "4 runs: 2 finished, 2 not started." == in_short(place)["sentence"]
    assert [(run["name"], run["state"]) for run in said["runs"]] == [
        ("both/pooled/0", "finished"),
        ("both/pooled/1", "finished"),
        ("both/fedavg/0", "waiting"),
        ("both/fedavg/1", "waiting"),
    ]
    pooled, fedavg = said["arms"]
    assert (pooled["arm"], pooled["finished"], pooled["dice"]) == ("Pooled", 2, pytest.approx(0.55))
    assert (fedavg["arm"], fedavg["finished"], fedavg["dice"]) == ("FedAvg", 0, None)
    assert len({run["colour"] for run in said["runs"]}) == 2
    assert said["runs"][1]["curves"]["dice"][-1] == (4, 0.6)
    assert (said["round"], said["rounds"], said["models"]) == (8, 16, 4)
