import os
import sys
from pathlib import Path

import pytest

from fedpolyp.config import load
from fedpolyp.runs import RunFolder
from scripts.benchmarks import nvflare_job, peers
from scripts.benchmarks.peers import QUICK
from scripts.benchmarks.run import verdict
from scripts.benchmarks.steps import Failed, Measured, Side, side_by_side

LOG = "".join(
    f"2026-01-02 10:{time} - FedAvg - INFO - \n-----\n      {event}.      \n-----\n\n2026-01-02 10:{time} - INFO - x\n"
    for time, event in (
        ("00:01,000", "Round 0 started"),
        ("00:21,250", "Round 1 started"),
        ("01:01,250", "Finished FedAvg"),
    )
)


@pytest.mark.slow
def test_own_steps_are_measured_and_a_program_that_cannot_start_says_why(tmp_path: Path) -> None:
    job = tmp_path / "job.npz"
    peers.write_job(job, QUICK.image_size, QUICK.filters, QUICK.batch, batches=2)
    broken = Side("broken", (sys.executable, "-c", "raise SystemExit('no such thing')"), 2, dict(os.environ))
    ours = peers._sides(job, Path("unused"), "float32", 1, 1, compile=False)[0]
    result, failure = side_by_side([ours, broken], QUICK.batch, steps=2, turns=3)
    assert isinstance(result, Measured) and len(result.speeds) == 3 and result.speed > 0
    assert result.parameters == parameters() and len(result.losses) == 2
    assert isinstance(failure, Failed) and str(failure) == "broken: no such thing"


def test_both_programs_are_limited_to_the_same_kernels() -> None:
    for side in peers._sides(Path("job"), Path("python"), peers.AVX2, 1, 1, compile=True):
        assert side.environment["ONEDNN_MAX_CPU_ISA"] == "AVX2", side.name
        assert side.environment["ATEN_CPU_CAPABILITY"] == "avx2", side.name


def test_a_side_that_does_not_compute_the_same_is_left_out_and_the_others_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = {"eager, 1 x 2 threads": 0.9, "eager with memory kept, 2 x 1 thread": 2.0}
    monkeypatch.setattr(
        peers,
        "side_by_side",
        lambda sides, *how: [Measured([float(len(side.name))], [losses.get(side.name, 1.0)], 7, "1") for side in sides],
    )
    said: list[str] = []
    ours, theirs = peers.ours_and_theirs(Path("job"), Path("python"), "float32", QUICK, said.append)
    assert [side.name for side, _ in ours] == ["fedpolyp, 2 x 1 thread", "fedpolyp, 1 x 2 threads"]
    assert [side.name for side, _ in theirs] == ["eager with memory kept, 1 x 2 threads", "eager, 2 x 1 thread"]
    assert len(said) == 2 and all("does not compute the same" in one for one in said)


def parameters() -> int:
    from fedpolyp.model.unet import build

    config = load(overrides={"data.image_size": QUICK.image_size, "model.base_filters": QUICK.filters})
    return sum(variable.numpy().size for variable in build(config).trainable_variables)


def test_a_peer_that_cannot_be_installed_is_a_row_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "HERE", tmp_path)
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    for name in ("torch", "nvflare"):
        (tmp_path / f"peers-{name}.txt").write_text("./missing.whl\n")
    rows = peers.rows(RunFolder(tmp_path), 1.0, QUICK, lambda text: None)
    assert len(rows) == 2 and all(verdict(row) == "not measured" and row["met"] is None for row in rows)
    assert all("could not be installed" in row["what"] and "missing.whl" in row["what"] for row in rows)


def test_an_environment_is_made_once_and_again_when_its_requirements_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "HERE", tmp_path)
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    said: list[str] = []
    for requirements in ("# none\n", "# none\n", "# still none\n"):
        (tmp_path / "peers-any.txt").write_text(requirements)
        assert peers.environment("any", said.append).exists()
    assert len(said) == 2


def test_seconds_of_rounds_come_from_the_servers_log() -> None:
    assert nvflare_job.seconds(LOG, rounds=2) == [20.25, 40.0]
    with pytest.raises(RuntimeError, match="3 of 4 times"):
        nvflare_job.seconds(LOG, rounds=3)
