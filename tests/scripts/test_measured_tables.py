"""The tables of measured scores in the docs are those of the files."""

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.measured_tables import DOCS, RESULTS, written


def keep(results: Path, study: str, arm: str, seed: int, **scores: Any) -> None:
    run = {
        "dice": [0.0, 0.5, 0.6],
        "val_dice": [0.0, 0.4, 0.5],
        "over_pixels": 0.7,
        "bytes_up": 20_000_000,
        "test_dice": {"hospital-1": 0.4, "hospital-2": 0.8, "pooled": None},
    } | scores
    path = results / study / f"{arm}-{seed}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(run))


def rows(kind: str, study: str, results: Path) -> list[str]:
    page = f"before\n\n<!-- measured: {kind} {study} -->\nold\n<!-- end -->\n\nafter"
    text = written(page, results)
    assert text.startswith("before\n\n<!--") and text.endswith("-->\n\nafter") and "old" not in text
    assert written(text, results) == text
    return [line for line in text.splitlines() if line.startswith("|")][2:]


@pytest.mark.parametrize("page", [page.name for page in sorted(DOCS.glob("*.md"))])
def test_the_tables_of_the_docs_are_those_of_the_committed_scores(page: str) -> None:
    text = (DOCS / page).read_text()
    assert written(text, RESULTS) == text, "python -m scripts.measured_tables writes them anew"


def test_arms_are_sorted_by_held_out_dice_and_show_means_over_seeds(tmp_path: Path) -> None:
    keep(tmp_path, "scratch-iid", "fedavg", 0)
    keep(tmp_path, "scratch-iid", "fedavg", 1, dice=[0.0, 0.7])
    keep(tmp_path, "scratch-iid", "pooled", 0, val_dice=[0.9])
    assert rows("arms", "scratch-iid", tmp_path) == [
        "| FedAvg | **0.650** | 0.600 to 0.700 | 0.700 | 0.500 | 0.600 (0.400) | 2 |",
        "| Pooled | **0.600** |  | 0.700 | 0.900 | 0.600 (0.400) | 1 |",
    ]


def test_the_best_rate_of_each_algorithm_on_validation_is_marked(tmp_path: Path) -> None:
    keep(tmp_path, "rates", "fedavg-muon-0.01", 0)
    keep(tmp_path, "rates", "fedavg-adam-0.003", 0, val_dice=[0.7], dice=[0.1])
    keep(tmp_path, "rates", "local-muon-0.01", 0, val_dice=[0.2])
    assert rows("rates", "rates", tmp_path) == [
        "| FedAvg | Adam 0.003 | **0.700** | 0.100 | 0.700 | 1 |",
        "| FedAvg | Muon 0.01 | 0.500 | 0.600 | 0.700 | 1 |",
        "| Local | Muon 0.01 | **0.200** | 0.600 | 0.700 | 1 |",
    ]


def test_an_algorithms_own_settings_are_shown_as_their_options(tmp_path: Path) -> None:
    keep(tmp_path, "own-settings", "fedadam-server-rate-0.01", 0)
    keep(tmp_path, "own-settings", "fedprox-mu-1", 0)
    assert rows("rates", "own-settings", tmp_path) == [
        "| FedProx | `--mu 1` | **0.500** | 0.600 | 0.700 | 1 |",
        "| FedAdam | `--server-rate 0.01` | **0.500** | 0.600 | 0.700 | 1 |",
    ]


def test_algorithms_are_compared_with_fedavg_seed_by_seed(tmp_path: Path) -> None:
    for seed, dice in enumerate((0.6, 0.8)):
        keep(tmp_path, "algorithms-iid", "fedavg", seed, dice=[0.0, dice])
        keep(tmp_path, "algorithms-iid", "krum", seed, dice=[0.0, 0.7])
    own = {"hospital-1": 0.9, "hospital-2": 1.0}
    keep(tmp_path, "algorithms-iid", "finetune", 1, dice=[0.0, 0.5], own_test_dice=own)
    assert rows("algorithms", "algorithms-iid", tmp_path) == [
        "| FedAvg | **0.700** |  | 0.500 | 0.600 (0.400) | 2 |",
        "| Krum | **0.700** | +0.000 (-0.100 to +0.100) | 0.500 | 0.600 (0.400) | 2 |",
        "| Fine-tuned FedAvg | **0.500** | -0.300 | 0.500 | 0.950 (0.900) | 1 |",
    ]


def test_traffic_is_that_of_a_hospital_and_round_and_differences_are_of_the_same_seeds(tmp_path: Path) -> None:
    hospitals = {"hospital-1": 0.5, "hospital-2": 0.5}
    for seed, dice in enumerate((0.6, 0.8)):
        keep(tmp_path, "traffic", "average-float32", seed, dice=[0.0, 0.1, dice], test_dice=hospitals)
    keep(tmp_path, "traffic", "reset-float32", 1, dice=[0.0, 0.1, 0.79], test_dice=hospitals, bytes_up=8_000_000)
    assert rows("traffic", "traffic", tmp_path) == [
        "| average-float32 | 5.00 | 0.500 | **0.700** |  | 2 |",
        "| reset-float32 | 2.00 | 0.500 | **0.790** | -0.010 | 1 |",
    ]


def test_what_models_remember_is_shown_with_the_widest_interval(tmp_path: Path) -> None:
    for seed, area in enumerate(([0.9, 0.8, 0.95], [1.0, 0.9, 1.0])):
        keep(tmp_path, "membership", "local", seed, membership={"loss": area, "calibrated": [0.5, 0.4, 0.6]})
    assert rows("membership", "membership", tmp_path) == [
        "| local | **0.600** | 0.95 (0.80 to 1.00) | 0.50 (0.40 to 0.60) | 2 |"
    ]


def test_what_is_gained_over_the_start_is_seen_for_each_promise(tmp_path: Path) -> None:
    area = {"loss": [0.5, 0.45, 0.55]}
    keep(tmp_path, "private-phantom", "epsilon-8-local", 0, membership=area, dice=[0.4, 0.6], val_dice=[0.3, 0.5])
    keep(tmp_path, "private-phantom", "epsilon-8-local", 1, membership=area, dice=[0.6, 0.7], val_dice=[0.5, 0.5])
    assert rows("promises", "private-phantom", tmp_path) == [
        "| the start | 0.500 | | 0.400 | | |",
        "| epsilon 8 local | **0.650** | +0.150 | 0.500 | 0.50 (0.45 to 0.55) | 2 |",
    ]


def test_the_table_of_liars_is_that_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "poisoning.json").write_text(json.dumps({"krum 0 0": 0.5, "krum 0 1": 0.7, "krum 1 noise 0": -1.0}))
    krum = next(row for row in rows("poisoning", "liars", tmp_path) if row.startswith("| krum"))
    assert krum.startswith("| krum | 0.60 | - |") and " (1 stopped) |" in krum
