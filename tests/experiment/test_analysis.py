import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedpolyp.algorithms.finding import BUILT_IN
from fedpolyp.config import Config, PrivacyConfig
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.experiment import conclusions
from fedpolyp.experiment.analysis import analyse
from fedpolyp.experiment.comparison import runs_in
from fedpolyp.experiment.findings import Analysis, Difference, spread, worst
from fedpolyp.experiment.statistics import Estimate
from tests.fake_comparison import OWN_MODELS, fake_config, rewrite_rounds, write_comparison, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison")
    write_comparison(path, ("pooled", "local", "fedavg", "fedprox"), seeds=2)
    return path


@pytest.fixture(scope="module")
def whole(folder: Path) -> Analysis:
    return analyse(runs_in(folder))


def dices(folder: Path, arm: str, kind: str, of: str) -> list[tuple[str, str, float]]:
    """(model, id, Dice) straight from the files of both seeds, without any of our code."""
    found = []
    for seed in (0, 1):
        with (folder / arm / str(seed) / "images.csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                if row["model"].split(":")[0] == kind and row["set"] == of:
                    tp, fp, fn = int(row["tp"]), int(row["fp"]), int(row["fn"])
                    found.append((row["model"], row["id"], 2 * tp / (2 * tp + fp + fn)))
    return found


@pytest.mark.parametrize("arm", ["pooled", "local", "fedavg"])
@pytest.mark.parametrize("kind", ["last", "best"])
def test_the_headline_is_the_mean_of_the_files_own_rows(folder: Path, whole: Analysis, arm: str, kind: str) -> None:
    rows = [dice for _, _, dice in dices(folder, arm, kind, "heldout")]
    (found,) = [one for one in whole.arms if one.label == arm]
    estimate = (found.last if kind == "last" else found.best)["dice"]
    assert estimate.value == pytest.approx(sum(rows) / len(rows))
    assert estimate.low < estimate.value < estimate.high


@pytest.mark.parametrize("arm", ["pooled", "local"])
def test_dice_over_pixels_counts_all_images_of_a_model_together(folder: Path, whole: Analysis, arm: str) -> None:
    of_model: dict[tuple[int, str], list[tuple[int, int, int]]] = {}
    for seed in (0, 1):
        with (folder / arm / str(seed) / "images.csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                if row["model"].split(":")[0] == "last" and row["set"] == "heldout":
                    counts = int(row["tp"]), int(row["fp"]), int(row["fn"])
                    of_model.setdefault((seed, row["model"]), []).append(counts)
    sums = [[sum(column) for column in zip(*rows, strict=True)] for rows in of_model.values()]
    wanted = sum(2 * tp / (2 * tp + fp + fn) for tp, fp, fn in sums) / len(sums)
    (found,) = [one for one in whole.arms if one.label == arm]
    assert found.over_pixels["last"] == pytest.approx(wanted)
    assert found.over_pixels["last"] != pytest.approx(found.last["dice"].value)


def test_a_source_that_no_hospital_has_is_a_score_a_column_and_a_curve_of_its_own(tmp_path: Path) -> None:
    write_comparison(tmp_path, ("pooled", "local"), unseen="elsewhere")
    analysis = analyse(runs_in(tmp_path))
    for arm in analysis.arms:
        with (tmp_path / arm.label / "0" / "images.csv").open(newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["set"] == "unseen:elsewhere"]
        dice = [
            2 * int(row["tp"]) / (2 * int(row["tp"]) + int(row["fp"]) + int(row["fn"]))
            for row in rows
            if row["model"].startswith("last")
        ]
        assert arm.unseen["elsewhere"].value == pytest.approx(sum(dice) / len(dice))
        assert [round for round, _ in arm.curves[0].unseen["elsewhere"]] == [0, 5, 10]
    assert all("unseen:elsewhere" in row.dice for row in analysis.sites)


def test_frames_without_a_polyp_are_in_no_dice_and_have_a_row_of_their_own(tmp_path: Path) -> None:
    """Of one held-out frame that nothing is in, a model sees nothing; of another, a tenth."""
    write_comparison(tmp_path, ("pooled", "fedavg"))
    dice = {arm.label: arm.last["dice"].value for arm in analyse(runs_in(tmp_path)).arms}
    wanted = {}
    for run in runs_in(tmp_path):
        empty = dict(zip(run.partition().heldout[:2], (0, 410), strict=False))
        with run.images_file.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        for row in rows:
            if row["set"] == "heldout" and row["id"] in empty:
                row.update(tp="0", fp=str(empty[row["id"]]), fn="0", tn=str(4096 - empty[row["id"]]))
        kept = [row for row in rows if row["set"] == "heldout" and row["model"] == "last" and row["id"] not in empty]
        values = [2 * int(r["tp"]) / (2 * int(r["tp"]) + int(r["fp"]) + int(r["fn"])) for r in kept]
        wanted[run.config().label] = sum(values) / len(values)
        with run.images_file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    analysis = analyse(runs_in(tmp_path))
    for arm in analysis.arms:
        assert arm.last["dice"].value == pytest.approx(wanted[arm.label]) != dice[arm.label]
        assert arm.without_polyp == {"images": 2, "rate": 0.5, "area": pytest.approx(410 / 4096 / 2)}
    assert sum(analysis.size_counts) == len(analysis.partition.heldout) - 2


def test_each_hospital_is_scored_on_its_own_test_images_by_its_own_model(folder: Path, whole: Analysis) -> None:
    local = whole.arms[1]
    for hospital, estimate in local.own_tests.items():
        rows = dices(folder, "local", "last", f"test:{hospital}")
        own = [dice for model, _, dice in rows if model == f"last:{hospital}"]
        assert estimate.value == pytest.approx(sum(own) / len(own))
    values = {name: score.value for name, score in local.own_tests.items()}
    assert worst(local.own_tests) == min(values.items(), key=lambda item: item[1])
    assert spread(local.own_tests) == pytest.approx(max(values.values()) - min(values.values()))
    assert local.finetuned == {} and list(local.tests) == ["last"]


def test_fine_tuned_models_are_scored_on_their_hospitals_test_images_beside_the_global_model(tmp_path: Path) -> None:
    runs = write_comparison(tmp_path, ("finetune",), seeds=2)
    [arm] = analyse(runs_in(tmp_path)).arms
    assert list(arm.tests) == ["last", "own"] and list(arm.finetuned) == sorted(runs[0].partition().hospitals)
    for hospital, estimate in arm.finetuned.items():
        rows = dices(tmp_path, "finetune", "own", f"test:{hospital}")
        assert {model for model, _, _ in rows} == {f"own:{hospital}"}
        assert estimate.value == pytest.approx(sum(dice for _, _, dice in rows) / len(rows))
    # One seed's fine-tuning failed at a hospital.
    text = runs[1].images_file.read_text().splitlines(keepends=True)
    runs[1].images_file.write_text("".join(line for line in text if ",own:hospital-2," not in line))
    [arm] = analyse(runs_in(tmp_path)).arms
    assert list(arm.finetuned) == ["hospital-1", "hospital-3"] and len(arm.own_tests) == 3


def test_the_site_table_has_a_row_for_each_model_and_a_column_for_each_set(folder: Path, whole: Analysis) -> None:
    names = ["hospital-1", "hospital-2", "hospital-3"]
    rows = {(row.arm, row.hospital): row.dice for row in whole.sites}
    assert list(rows) == [("pooled", ""), *(("local", name) for name in names), ("fedavg", ""), ("fedprox", "")]
    cell = [d for m, _, d in dices(folder, "local", "last", "test:hospital-1") if m == "last:hospital-3"]
    assert rows["local", "hospital-3"]["test:hospital-1"] == pytest.approx(sum(cell) / len(cell))
    assert all(set(row) == {"heldout", *(f"test:{name}" for name in names)} for row in rows.values())


def test_lesion_sizes_part_the_held_out_images(whole: Analysis) -> None:
    assert whole.store is not None
    areas = whole.store.masks[whole.store.positions(whole.partition.heldout)].mean(axis=(1, 2))
    expected = ((areas < 0.05).sum(), ((areas >= 0.05) & (areas <= 0.2)).sum(), (areas > 0.2).sum())
    assert whole.size_counts == expected
    for arm in whole.arms:
        parts = [(n, e.value) for n, e in zip(whole.size_counts, arm.by_size, strict=True) if e is not None]
        assert sum(n * dice for n, dice in parts) / sum(whole.size_counts) == pytest.approx(arm.last["dice"].value)


def test_cost_adds_up_the_rounds_and_counts_passes(folder: Path, whole: Analysis) -> None:
    fedavg = next(arm for arm in whole.arms if arm.label == "fedavg")
    images = sum(len(own.train) for own in whole.partition.hospitals.values())
    cost = fedavg.cost
    assert (cost.rounds, cost.images, cost.steps) == (12, 12 * 2 * images, 360)  # two passes a round
    assert cost.bytes_up == cost.bytes_down == 12 * 7_800_000
    assert fedavg.curves[0].images[-1] == 12 * 2 * images
    assert whole.arms[0].cost.images == 12 * 2 * images  # the pooled arm's pseudo-hospital


def test_clear_differences_are_claimed_and_small_ones_are_not(whole: Analysis) -> None:
    found = {(one.arm, one.other): one for one in whole.differences}
    assert list(found) == [
        ("fedavg", "pooled"),
        ("fedavg", "local"),
        ("fedprox", "pooled"),
        ("fedprox", "local"),
        ("local", "pooled"),
        ("fedprox", "fedavg"),
    ]
    assert [one.among for one in found.values()] == [False] * 5 + [True]
    assert found["fedprox", "fedavg"].p == found["fedprox", "fedavg"].p_adjusted  # the only one of its family
    assert found["local", "pooled"].claimed and found["local", "pooled"].last.value < 0
    assert found["fedavg", "local"].claimed and found["fedavg", "local"].last.value > 0
    assert all(one.p <= one.p_adjusted <= 5 * one.p + 1e-12 for one in found.values())
    assert conclusions.sentence(found["local", "pooled"]).startswith(
        "As trained here, Local scores lower than Pooled: "
    )


def test_the_answer_says_what_was_found_and_nothing_more(folder: Path, tmp_path: Path) -> None:
    analysis = analyse([run for run in runs_in(folder) if run.path.parent.name in ("fedavg", "pooled", "local")])
    pooled, local, fedavg = (arm.last["dice"].value for arm in analysis.arms)
    assert conclusions.answer(analysis) == (
        f"The 2 FedAvg models trained here reach a mean Dice of {fedavg:.3f} on 30 images that no hospital has seen: "
        f"{pooled - fedavg:.3f} less than the 2 pooled models ({pooled:.3f}), "
        f"and {fedavg - local:.3f} more than the hospitals' own models ({local:.3f})."
    )
    write_comparison(tmp_path, ("pooled", "fedavg"))
    shutil.copy(tmp_path / "pooled" / "0" / "images.csv", tmp_path / "fedavg" / "0" / "images.csv")
    same = analyse(runs_in(tmp_path))
    assert ": not significantly different from the pooled model (" in conclusions.answer(same)
    equal = same.differences[0]
    assert "do not differ significantly" in conclusions.sentence(equal)
    assert "p is below 0.05, but the interval includes 0, so no claim" in conclusions.sentence(
        dataclasses.replace(equal, p_adjusted=0.01)
    )


def test_fewer_than_five_seeds_claim_nothing_of_methods_and_five_compare_them(
    folder: Path, whole: Analysis, tmp_path: Path
) -> None:
    said = "this page is about these models and claims nothing about methods"
    assert any(remark.startswith(f"With 2 seeds {said}") for remark in conclusions.remarks(whole))
    one = analyse(runs_in(folder)[:1])
    assert any(remark.startswith(f"With one seed {said}") for remark in conclusions.remarks(one))
    write_comparison(tmp_path, ("pooled", "local", "fedavg"), seeds=5)
    shutil.rmtree(tmp_path / "local" / "4")
    mixed = analyse(runs_in(tmp_path))
    assert any(remark.startswith(f"With 4 seeds {said}") for remark in conclusions.remarks(mixed))
    assert conclusions.answer(mixed).startswith("The 5 FedAvg models trained here reach a mean Dice of ")
    assert [one.of_methods for one in mixed.differences] == [True, False, False]
    assert conclusions.sentence(mixed.differences[0]).startswith("FedAvg is worse than Pooled: ")
    five = analyse([run for run in runs_in(tmp_path) if run.path.parent.name != "local"])
    assert not any(said in remark for remark in conclusions.remarks(five))
    assert conclusions.answer(five).startswith("FedAvg reaches a mean Dice of ")
    assert " less than pooled training (" in conclusions.answer(five)


def test_chance_in_training_is_in_the_interval_of_five_seeds(tmp_path: Path) -> None:
    write_comparison(tmp_path, ("fedavg",), seeds=5)
    of_four, of_five = (analyse(runs_in(tmp_path)[:seeds]).arms[0] for seeds in (4, 5))
    assert of_five.last["hd95"].low >= 0 and of_five.last["dice"].high <= 1
    assert of_five.last["dice"].high - of_five.last["dice"].low > of_four.last["dice"].high - of_four.last["dice"].low


def test_seeds_that_two_arms_do_not_share_are_no_seeds_of_their_difference(tmp_path: Path) -> None:
    write_comparison(tmp_path, ("pooled", "fedavg"), seeds=4)
    shutil.rmtree(tmp_path / "pooled" / "3")
    shutil.rmtree(tmp_path / "fedavg" / "0")
    analysis = analyse(runs_in(tmp_path))
    assert [len(arm.seeds) for arm in analysis.arms] == [3, 3] and analysis.differences[0].seeds == (1, 2)
    assert any(remark.startswith("With 2 seeds") for remark in conclusions.remarks(analysis))


def test_an_unfinished_comparison_is_analysed_and_what_is_missing_is_said(tmp_path: Path) -> None:
    write_comparison(tmp_path, seeds=2)
    shutil.rmtree(tmp_path / "pooled")
    (tmp_path / "fedavg" / "1" / "images.csv").unlink()
    analysis = analyse(runs_in(tmp_path))
    assert [(arm.label, arm.seeds) for arm in analysis.arms] == [("local", (0, 1)), ("fedavg", (0,))]
    assert analysis.missing == (
        "There is no finished pooled run.",
        "One run is left out because it is not finished: fedavg, seed 1, after 12 of 12 rounds.",
        "The fedavg arm has no finished run with seed 1, which other arms have.",
    )
    assert [(one.arm, one.other, one.seeds) for one in analysis.differences] == [("fedavg", "local", (0,))]


def test_a_single_run_is_analysed_without_complaint(folder: Path) -> None:
    analysis = analyse(runs_in(folder)[:1])
    assert analysis.missing == () and analysis.differences == ()
    assert conclusions.answer(analysis).startswith("The pooled model trained here reaches a mean Dice of ")
    assert "95 % interval" in conclusions.answer(analysis)


def test_old_runs_without_steps_and_runs_without_validation_are_read(tmp_path: Path) -> None:
    (run,) = write_comparison(tmp_path, ("fedavg",))
    rewrite_rounds(run, steps=None)
    assert analyse([run]).arms[0].cost.steps is None
    run.rounds_file.write_text("".join(json.dumps(record | {"val_dice": None}) + "\n" for record in run.rounds()))
    arm = analyse([run]).arms[0]
    assert (arm.best, arm.best_rounds) == ({}, ())


def test_without_the_store_every_image_is_its_own_group(tmp_path: Path) -> None:
    (run,) = write_comparison(tmp_path, ("fedavg",))
    environment = run.path / "environment.json"
    environment.write_text(json.dumps({**json.loads(environment.read_text()), "store": str(tmp_path / "gone")}))
    analysis = analyse([run])
    assert analysis.store is None and analysis.groups == len(analysis.partition.heldout)
    assert any("images are gone" in remark for remark in conclusions.remarks(analysis))


def test_another_partition_and_the_same_arm_twice_are_refused_by_name(tmp_path: Path) -> None:
    first, second = write_comparison(tmp_path, ("pooled", "fedavg"))
    with pytest.raises(UsageError, match=f"{first.path} and {first.path} are the same arm with the same seed"):
        analyse([first, first])
    partition = json.loads(second.partition_file.read_text())
    partition["heldout"] = partition["heldout"][1:]
    second.partition_file.write_text(json.dumps(partition))
    with pytest.raises(UsageError, match=f"^{second.path} was made with another partition .* than {first.path}$"):
        analyse([first, second])


def test_other_settings_than_arm_and_rounds_are_pointed_out(tmp_path: Path) -> None:
    first, second = write_comparison(tmp_path, ("pooled", "fedavg"))
    text = (second.path / "config.toml").read_text()
    (second.path / "config.toml").write_text(text.replace("learning_rate = 0.003", "learning_rate = 0.001"))
    assert analyse([first, second]).unequal == ("training.learning_rate is 0.003 in pooled/0, but 0.001 in fedavg/0",)


def test_a_setting_that_only_one_run_has_is_pointed_out(tmp_path: Path) -> None:
    runs = write_comparison(tmp_path, ("pooled", "fedavg"))
    texts = [run.config_file.read_text() for run in runs]
    for place, label in enumerate(("pooled", "fedavg")):
        for run, text in zip(runs, texts, strict=True):
            run.config_file.write_text(text)
        changed = re.sub('scheme = "[a-z]+"', 'scheme = "quantity"\nalpha = 0.5', texts[place], count=1)
        runs[place].config_file.write_text(changed)
        (found,) = (one for one in analyse(runs).unequal if one.startswith("hospitals.alpha is "))
        assert f"0.5 in {label}/0" in found and "not there in" in found


def test_where_each_hospital_has_its_own_model_it_is_tested_with_that_one_whatever_the_algorithm_is_called(
    tmp_path: Path,
) -> None:
    (run,) = write_comparison(tmp_path, (f"mine:{OWN_MODELS}",))
    (arm,) = analyse([run]).arms
    assert arm.own_models and arm.federated
    with run.images_file.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["model"].startswith("last:")]
    for name, found in arm.own_tests.items():
        own = [row for row in rows if row["model"] == f"last:{name}" and row["set"] == f"test:{name}"]
        dice = [2 * int(row["tp"]) / (2 * int(row["tp"]) + int(row["fp"]) + int(row["fn"])) for row in own]
        assert found.value == pytest.approx(sum(dice) / len(dice))


def test_rounds_that_were_lost_are_remarked_on(tmp_path: Path) -> None:
    pooled, fedavg = write_comparison(tmp_path, ("pooled", "fedavg"))
    assert not any("lost" in remark for remark in conclusions.remarks(analyse([pooled, fedavg])))
    lines = fedavg.rounds_file.read_text().splitlines(keepends=True)
    lines[-1] = json.dumps(json.loads(lines[-1]) | {"lost": "why"}) + "\n"
    fedavg.rounds_file.write_text("".join(lines))
    told = f"FedAvg lost 1 of {len(lines) - 1} rounds, in which the model stayed as it was."
    assert told in conclusions.remarks(analyse([pooled, fedavg]))


def test_one_learning_rate_for_all_arms_is_remarked_on(tmp_path: Path) -> None:
    first, second = write_comparison(tmp_path, ("pooled", "fedavg"))
    remark = "All arms trained at learning rate 0.003"
    assert any(one.startswith(remark) for one in conclusions.remarks(analyse([first, second])))
    assert not any(one.startswith(remark) for one in conclusions.remarks(analyse([first])))
    text = (second.path / "config.toml").read_text()
    (second.path / "config.toml").write_text(text.replace("learning_rate = 0.003", "learning_rate = 0.001"))
    assert not any(one.startswith(remark) for one in conclusions.remarks(analyse([first, second])))


def test_rounds_that_a_finished_run_has_lost_are_an_error_and_not_a_shorter_run(tmp_path: Path) -> None:
    (run,) = write_comparison(tmp_path, ("fedavg",))
    lines = run.rounds_file.read_bytes().splitlines(keepends=True)
    run.rounds_file.write_bytes(b"".join([*lines[:7], b"\xff\xfe\n", *lines[8:]]))
    with pytest.raises(FedpolypError, match=r"rounds\.jsonl is damaged: .* holds 6 of 12 rounds"):
        analyse([run])


def test_a_run_that_patience_has_ended_is_whole_with_the_rounds_it_has(tmp_path: Path) -> None:
    (run,) = write_comparison(tmp_path, ("fedavg",))
    lines = run.rounds()[:11]
    lines[-1]["stopped"] = "no round after 5 was better on validation, for 5 rounds"
    run.rounds_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.images_file.write_text(run.images_file.read_text().replace(",last,12,", ",last,10,"))
    assert analyse([run]).arms[0].cost.rounds == 10


def test_rounds_that_do_not_follow_one_another_are_an_error(tmp_path: Path) -> None:
    (run,) = write_comparison(tmp_path, ("fedavg",))
    lines = run.rounds_file.read_bytes().splitlines(keepends=True)
    run.rounds_file.write_bytes(b"".join([*lines[:7], lines[6], *lines[8:]]))
    with pytest.raises(FedpolypError, match=r"rounds\.jsonl is damaged: its rounds are not consecutive"):
        analyse([run])


@pytest.mark.parametrize(
    "values", [{"dice": 3e18}, {"dice": float("nan")}, {"bytes_up": 10**400}, {"hospitals": []}, {"seconds": "1"}]
)
def test_rounds_with_values_that_cannot_be_are_one_sentence(tmp_path: Path, values: dict[str, object]) -> None:
    (run,) = write_comparison(tmp_path, ("fedavg",))
    lines = run.rounds()
    run.rounds_file.write_text("".join(json.dumps(line | values) + "\n" for line in lines))
    with pytest.raises(FedpolypError) as error:
        analyse([run])
    assert "is damaged" in str(error.value) and "\n" not in str(error.value)


def test_a_run_at_real_sites_without_a_held_out_set_is_refused(tmp_path: Path) -> None:
    (run,) = write_comparison(tmp_path, ("fedavg",))
    partition = json.loads(run.partition_file.read_text())
    run.partition_file.write_text(json.dumps(partition | {"heldout": []}))
    with pytest.raises(UsageError, match="has no held-out set"):
        analyse([run])


def test_nothing_finished_and_missing_rows_are_errors(tmp_path: Path) -> None:
    (run,) = write_comparison(tmp_path, ("fedavg",))
    lines = run.images_file.read_text().splitlines(keepends=True)
    run.images_file.write_text("".join(line for number, line in enumerate(lines) if number != 1))
    with pytest.raises(
        FedpolypError, match=r"incomplete: it has no row about image 'phantom-\d+' \(fedavg last heldout"
    ):
        analyse([run])
    run.images_file.unlink()
    with pytest.raises(FedpolypError, match="no run is finished yet"):
        analyse([run])
    with pytest.raises(UsageError, match="at least one run"):
        analyse([])


def test_runs_of_other_images_or_of_a_changed_partition_are_refused(tmp_path: Path) -> None:
    pooled, local = write_comparison(tmp_path, arms=("pooled", "local"))
    digest = json.loads(local.digest_file.read_text())
    local.digest_file.write_text(json.dumps(digest | {"masks": "of others"}))
    with pytest.raises(UsageError, match=f"^{local.path} has other images than {pooled.path}: its masks "):
        analyse([pooled, local])
    local.digest_file.write_text(json.dumps(digest))
    plain = json.loads(local.partition_file.read_text())
    plain["heldout"], own = plain["heldout"][1:], plain["hospitals"]["hospital-1"]
    own["train"].append(json.loads(pooled.partition_file.read_text())["heldout"][0])
    for run in (pooled, local):
        run.partition_file.write_text(json.dumps(plain))
    with pytest.raises(FedpolypError, match=f"^{pooled.partition_file} was changed"):
        analyse([pooled, local])


def test_images_that_changed_since_the_training_are_not_shown_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDPOLYP_STORES", str(tmp_path / "stores"))
    run = write_comparison(tmp_path / "c", arms=("pooled",))[0]
    assert analyse([run]).store is not None
    (images,) = (tmp_path / "stores").glob("*/images.npy")
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(content)
    found = analyse([run])
    assert found.store is None
    assert any("have changed since the training" in sentence for sentence in found.missing)


def test_runs_that_do_not_tell_what_their_images_were_are_reported_with_a_remark(tmp_path: Path) -> None:
    pooled, local = write_comparison(tmp_path, arms=("pooled", "local"))
    local.digest_file.unlink()
    found = analyse([pooled, local])
    assert found.store is not None
    assert any("without digest.json" in sentence.lower() and "1 of 2 runs" in sentence for sentence in found.missing)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """Two arms of one algorithm, and pooled and local arms that are called otherwise, with 'local' none of them."""
    path = tmp_path_factory.mktemp("labelled")
    write_comparison(path, ("near:fedprox", "alone:local", "far:fedprox", "together:pooled"))
    return analyse(runs_in(path))


def test_of_differences_among_federated_arms_those_that_are_claimed_are_told_and_the_others_counted() -> None:
    def one(arm: str, other: str, low: float, among: bool = True) -> Difference:
        p = 0.001 if low > 0 else 0.5
        return Difference(arm, other, (0,), Estimate(low + 0.02, low, low + 0.04), None, p, p, among)

    main, clear = one("fedavg", "pooled", -0.01, among=False), one("scaffold", "fedavg", 0.01)
    noise = [one("fedprox", "fedavg", -0.02), one("fedbn", "fedavg", -0.02)]
    told: Any = SimpleNamespace(differences=(main, clear, *noise))
    *first, last = conclusions.findings(told)
    assert first == [conclusions.sentence(main), conclusions.sentence(clear)]
    assert last == "2 of 3 differences between two federated arms are not statistically significant."
    alone: Any = SimpleNamespace(differences=(main, noise[0]))
    assert list(conclusions.findings(alone)) == [conclusions.sentence(main), conclusions.sentence(noise[0])]


def test_what_an_arm_is_follows_from_its_algorithm_and_not_from_its_label(labelled: Analysis) -> None:
    arms = {arm.label: arm for arm in labelled.arms}
    assert list(arms) == ["together", "alone", "far", "near"]  # pooled and local come first, whatever they are called
    assert [arm.federated for arm in labelled.arms] == [False, False, True, True]
    assert [(one.arm, one.other) for one in labelled.differences] == [
        ("far", "together"),
        ("far", "alone"),
        ("near", "together"),
        ("near", "alone"),
        ("alone", "together"),
        ("near", "far"),
    ]
    assert labelled.missing == ()
    rows = [(row.arm, row.hospital) for row in labelled.sites]
    assert rows == [
        ("together", ""),
        *(("alone", f"hospital-{number}") for number in (1, 2, 3)),
        ("far", ""),
        ("near", ""),
    ]


def test_a_local_arm_of_another_label_is_scored_by_each_hospitals_own_model(labelled: Analysis) -> None:
    (alone,) = [arm for arm in labelled.arms if arm.label == "alone"]
    own = {row.hospital: row.dice[f"test:{row.hospital}"] for row in labelled.sites if row.arm == "alone"}
    assert {name: found.value for name, found in alone.own_tests.items()} == pytest.approx(own)


def test_the_words_about_labelled_arms_say_what_they_are(labelled: Analysis) -> None:
    dice = {arm.label: arm.last["dice"].value for arm in labelled.arms}
    answer = conclusions.answer(labelled)
    assert answer.startswith(f"The far model trained here reaches a mean Dice of {dice['far']:.3f} on 30 images")
    assert f"; the near model reaches {dice['near']:.3f}: " in answer
    assert f"the pooled model called together ({dice['together']:.3f})" in answer
    assert f"the hospitals' own models called alone ({dice['alone']:.3f})" in answer
    said = (
        "What the arms are: together is Pooled; alone is Local; far is FedProx with mu 0.001; near is FedProx with mu "
    )
    assert [one for one in conclusions.remarks(labelled) if one.startswith("What the arms are")] == [f"{said}0.001."]


def test_two_arms_that_no_run_of_a_comparison_has_are_missed_by_their_algorithm(tmp_path: Path) -> None:
    write_comparison(tmp_path, ("near:fedprox", "far:fedprox"))
    assert analyse(runs_in(tmp_path)).missing == ("There is no finished pooled run.", "There is no finished local run.")


def secured(config: Config) -> Config:
    training = config.training.model_copy(update={"optimizer_state": "keep"})
    return config.model_copy(update={"privacy": PrivacyConfig(secure_sums=True), "training": training})


def test_runs_of_one_label_that_are_of_two_algorithms_are_refused_and_not_averaged(tmp_path: Path) -> None:
    store = write_comparison(tmp_path / "other", ("near:fedprox",))
    partition, pictures = store[0].partition(), Store.open(Path(store[0].environment()["store"]))
    for name, config in (
        ("settings", fake_config("near:fedprox", 1, mu=0.5)),
        ("algorithms", fake_config("near:fedavg", 1)),
        ("sums", secured(fake_config("near:fedprox", 1))),
    ):
        run = write_run(tmp_path / name, config, pictures, partition)
        with pytest.raises(UsageError) as refusal:
            analyse([store[0], run])
        others = {
            "settings": "fedprox with mu 0.5",
            "algorithms": "fedavg",
            "sums": "fedprox with mu 0.001, secure sums",
        }
        other = others[name]
        assert str(refusal.value) == (
            f"{store[0].path} and {run.path} are both called 'near', but are fedprox with mu 0.001 and {other}; "
            "give each its own label (--arm-label)"
        )


def test_built_in_algorithms_are_called_as_papers_write_them_and_others_by_their_label() -> None:
    assert [conclusions.name(label) for label in ("fedavg", "fedprox", "scaffold", "fedbn", "krum", "fedyogi")] == [
        "FedAvg",
        "FedProx",
        "SCAFFOLD",
        "FedBN",
        "Krum",
        "FedYogi",
    ]
    assert all(conclusions.name(label) != label for label in BUILT_IN)
    assert conclusions.name("fedavg-muon") == "fedavg-muon"
