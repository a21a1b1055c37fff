"""A site that promises privacy: what it lets out, what it refuses, and what it writes down."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.site import hospital_at
from fedpolyp.algorithms.base import Start, trainable
from fedpolyp.config import UNITS, Config
from fedpolyp.errors import Refusal
from fedpolyp.simulation.records import from_record
from fedpolyp.sites import audit
from fedpolyp.sites.settings import SiteSettings
from fedpolyp.training import shared_trainer
from tests.picture_folders import encoded, picture, write_pair
from tests.real_sites import make_sites, scoring, send, tiny, training


def private(**settings: Any) -> Config:
    given = {"privacy__mode": "local", "algorithm__name": "fedadam", "model__normalization": "group"}
    return tiny(**given | {"training__optimizer_state": "reset"} | settings)


@pytest.fixture
def oslo(tmp_path: Path) -> Path:
    site = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    settings = (site / "site.toml").read_text()
    settings = settings.replace("# declared_units =", "declared_units = 9").replace("# epsilon =", "epsilon = 8.0")
    (site / "site.toml").write_text(settings)
    return site


def order(site: Path, round: int = 1, config: Config | None = None, **details: Any) -> Any:
    config = config or private()
    return send(site, training(round=round, config=config, **details), start=shared_trainer(config).start)


def ledger(site: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (site / "private" / "privacy.jsonl").read_text().splitlines()]


def test_a_reply_holds_the_declared_number_and_no_loss_count_score_moment_or_statistic(oslo: Path) -> None:
    reply = order(oslo).content
    said = dict(reply.metric_records["metrics"])
    assert said.keys() == {"units", "epsilon", "process"} and said["units"] == 9
    assert list(reply.array_records) == ["model"]
    assert from_record(reply.array_records["model"]).keys() == trainable(shared_trainer(private()).start.model).keys()


def test_the_limit_on_steps_does_not_reveal_the_number_of_images(oslo: Path) -> None:
    """A private round is one pass. A refusal would say how many steps that is: in batches of one, the images."""
    settings = SiteSettings.load(oslo / "site.toml")
    few = settings.model_copy(update={"limits": settings.limits.model_copy(update={"steps": 5})})
    assert len(hospital_at(few, training(config=private(training__batch_size=1))).ids.train) == 10


def test_a_repeated_order_has_the_same_bytes_and_one_line_even_when_the_kept_reply_is_lost(oslo: Path) -> None:
    one = order(oslo).content.array_records["model"]
    for kept in oslo.rglob("reply-*.npz"):
        kept.unlink()
    again = order(oslo).content.array_records["model"]
    assert [array.data for array in one.values()] == [array.data for array in again.values()]
    assert len(ledger(oslo)) == 1


def test_noise_is_none_that_the_coordinator_could_draw(oslo: Path, tmp_path: Path) -> None:
    """Two sites with the same images, name and order: each has a secret of its own."""
    other = make_sites(tmp_path / "other", sites=["oslo"]) / "oslo"
    (other / "site.toml").write_text((oslo / "site.toml").read_text())
    one, two = (from_record(order(site).content.array_records["model"]) for site in (oslo, other))
    assert all((one[name] != two[name]).mean() > 0.99 for name in one)


def test_an_order_beyond_the_limit_is_refused_and_audited_also_in_a_second_run(oslo: Path) -> None:
    for round in (1, 2, 3):
        order(oslo, round)
    for run in ("1" * 32, "2" * 32):
        with pytest.raises(Refusal, match=r"^this site spends at most epsilon 8 at delta 0\.001 in all runs together"):
            order(oslo, 1, run=run)
    assert len(ledger(oslo)) == 3
    log = [entry.content for entry in audit.read(oslo / "private" / "audit.jsonl")]
    assert [entry["event"] for entry in log] == ["asked", "sent"] * 3 + ["asked", "refused"] * 2
    assert "spends at most epsilon 8" in log[-1]["reason"]


def drawing(**settings: Any) -> Config:
    return private(privacy__batches="poisson", privacy__batch=3, **settings)


def test_drawn_units_count_together_with_what_was_spent_before(oslo: Path) -> None:
    order(oslo, config=private(privacy__epsilon=6.0))
    order(oslo, config=drawing(privacy__epsilon=3.0), run="1" * 32)
    assert [line.get("rate") for line in ledger(oslo)] == [None, 3 / 9]
    with pytest.raises(
        Refusal, match=r"^this site spends at most epsilon 8 at delta 0\.001 in all runs together; with"
    ):
        order(oslo, config=drawing(privacy__epsilon=40.0), run="2" * 32)
    assert len(ledger(oslo)) == 2


def test_a_site_that_cannot_compute_what_drawn_units_cost_lets_nothing_out(
    oslo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(Refusal, match=r"^Poisson batches need the package dp-accounting: pip install"):
        order(oslo, config=drawing())
    assert not (oslo / "private" / "privacy.jsonl").exists()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (tiny(), "trains only with privacy"),
        (private(privacy__unit="image"), "protects groups of images"),
        (private(privacy__delta=0.2), "delta must be below one over the 9 units"),
        (private(privacy__epsilon=60.0), "it would be"),
    ],
)
def test_an_order_that_promises_too_little_is_refused(config: Config, reason: str, oslo: Path) -> None:
    with pytest.raises(Refusal, match=reason):
        send(oslo, training(config=config), start=shared_trainer(config).start)
    assert not (oslo / "private" / "privacy.jsonl").exists() or ledger(oslo) == []


def rewrite(site: Path, old: str, new: str) -> None:
    text = (site / "site.toml").read_text()
    assert old in text
    (site / "site.toml").write_text(text.replace(old, new))


def test_a_guarantee_for_patients_is_given_only_where_all_are_known_and_no_number_is_told(oslo: Path) -> None:
    asked = private(privacy__unit="patient")
    with pytest.raises(Refusal, match=r"^this hospital cannot protect patient by patient: [^0-9]*$"):
        order(oslo, config=asked)
    rewrite(oslo, "# group_by =", "group_by = 'patient-[0-9]+' #")
    assert order(oslo, config=asked, run="1" * 32).content.metric_records["metrics"]["units"] == 9
    assert len(ledger(oslo)) == 1


def test_a_site_that_protects_patients_refuses_a_guarantee_for_groups(oslo: Path) -> None:
    rewrite(oslo, "# group_by =", "group_by = 'patient-[0-9]+' #")
    rewrite(oslo, 'unit = "group"', 'unit = "patient"')
    for unit, said in (("group", "groups of images"), ("image", "single images")):
        with pytest.raises(Refusal, match=f"^this site protects patients; the request protects only {said}$"):
            order(oslo, config=private(privacy__unit=unit))
    order(oslo, config=private(privacy__unit="patient"))
    assert len(ledger(oslo)) == 1


@pytest.mark.parametrize("unit", ["group", "patient"])
def test_the_limit_on_units_holds_without_one_on_epsilon(unit: str, oslo: Path) -> None:
    rewrite(oslo, "epsilon = 8.0", "# epsilon =")
    rewrite(oslo, 'unit = "group"', f'unit = "{unit}"')
    for less in UNITS[: UNITS.index(unit)]:
        with pytest.raises(Refusal, match=f"^this site protects {unit}.*; the request protects only "):
            order(oslo, config=private(privacy__unit=less))
    hospital_at(SiteSettings.load(oslo / "site.toml"), training(config=private(privacy__unit=unit)))


def test_no_refusal_tells_at_which_sizes_an_image_is_too_small(oslo: Path) -> None:
    """At 32 pixels one image is left out, so the images are others than before; but any other size is refused."""
    speck = np.zeros((64, 64), np.uint8)
    speck[7, 7] = 255
    settings = SiteSettings.load(oslo / "site.toml")
    write_pair(settings.images, "speck", encoded(picture(1, 64, 64)), encoded(speck))
    for first, then in ((64, 32), (96, 64)):
        run = f"{first:032d}"
        assert hospital_at(settings, training(config=private(data__image_size=first), run=run)).ids.everything
        with pytest.raises(Refusal, match="^the sizes of images in the coordinator's requests have changed since"):
            hospital_at(settings, training(config=private(data__image_size=then), run=run))


def test_scores_of_its_images_do_not_leave_a_site_that_promises(oslo: Path) -> None:
    start: Start = shared_trainer(private()).start
    with pytest.raises(Refusal, match="scores of a hospital's images do not leave it"):
        send(oslo, scoring(config=private()), start=start)
    with pytest.raises(Refusal, match="trains only with privacy"):  # asked without, it does not tell, either
        send(oslo, scoring())


def with_score(**settings: Any) -> Config:
    return private(privacy__score_epsilon=2.0, **settings)


def asked_for_a_score(site: Path, config: Config, **details: Any) -> Any:
    request = scoring(round=3, config=config, score_set="test", **details)
    return send(site, request, start=shared_trainer(config).start).content


def test_a_noisy_score_holds_no_true_count_score_of_an_image_or_loss_and_is_recorded_as_one(oslo: Path) -> None:
    rewrite(oslo, "# declared_test_units =", "declared_test_units = 5 #")
    one, again = (asked_for_a_score(oslo, with_score()) for _ in range(2))
    told = dict(one.metric_records["metrics"])
    assert told.keys() == {"noisy_dice", "deviation", "epsilon", "process"} and not one.array_records
    assert told == dict(again.metric_records["metrics"])
    assert told["deviation"] == pytest.approx(with_score().privacy.score_noise().sigma / 2 / 5)
    assert [(line["what"], line["round"]) for line in ledger(oslo)] == [("score", 3)]
    log = [entry.content for entry in audit.read(oslo / "private" / "audit.jsonl")]
    assert [(one["event"], one["message"], one["set"]) for one in log] == [
        (event, "evaluate", "test") for event in ("asked", "sent") * 2
    ]


def test_a_score_that_would_exceed_the_limit_or_a_number_that_is_not_declared_is_refused_and_audited(
    oslo: Path,
) -> None:
    for round in (1, 2, 3):
        order(oslo, round, with_score())
    with pytest.raises(Refusal, match=r"^this site has no declared_test_units in its site\.toml"):
        asked_for_a_score(oslo, with_score())
    rewrite(oslo, "# declared_test_units =", "declared_test_units = 2 #")
    with pytest.raises(Refusal, match=r"^this site spends at most epsilon 8 at delta 0\.001 in all runs together"):
        asked_for_a_score(oslo, with_score())
    assert len(ledger(oslo)) == 3 and not any("what" in line for line in ledger(oslo))
    log = [entry.content for entry in audit.read(oslo / "private" / "audit.jsonl")]
    assert [entry["event"] for entry in log[6:]] == ["asked", "refused"] * 2
    assert "spends at most epsilon 8" in log[-1]["reason"]


def test_a_site_that_declares_no_number_takes_no_part(tmp_path: Path) -> None:
    site = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    with pytest.raises(Refusal, match=r"no declared_units in its site\.toml"):
        order(site)
