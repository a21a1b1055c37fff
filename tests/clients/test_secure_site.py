"""A site in secure sums: what it masks with, which sums it refuses, and what it writes down."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from fedpolyp.aggregation.opaque import MASKED, SEED, SUM
from fedpolyp.config import Config
from fedpolyp.errors import Refusal
from fedpolyp.exchange.requests import Unmask, listed
from fedpolyp.privacy import keyring
from fedpolyp.simulation.records import from_record, to_content
from fedpolyp.sites import audit
from fedpolyp.sites.certificates import Authority
from fedpolyp.sites.roster import Roster
from fedpolyp.training import shared_trainer
from tests.real_sites import RUN, SITES, deliver, make_sites, scoring, send, tiny, training

OTHER_RUN = "f" * 32


def secured(**settings: Any) -> Config:
    return tiny(**{"privacy__secure_sums": True, "training__optimizer_state": "reset"} | settings)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sites(tmp_path_factory.mktemp("sites") / "deploy", sites=[*SITES, "cork"])


@pytest.fixture
def oslo(federation: Path) -> Path:
    """The site with nothing left of earlier tests but its ingested images."""
    private = federation / "oslo" / "private"
    shutil.rmtree(private / "state", ignore_errors=True)
    for name in ("audit.jsonl", "openings.jsonl", "roster.txt", "privacy.jsonl"):
        (private / name).unlink(missing_ok=True)
    return federation / "oslo"


def roster(oslo: Path) -> str:
    return (oslo.parent / "coordinator" / "roster.txt").read_text()


def train(oslo: Path, config: Config | None = None, members: Any = SITES, **details: Any) -> Message:
    config = config or secured()
    request = training(config=config, **{"members": listed(members), "roster": roster(oslo)} | details)
    return send(oslo, request, start=shared_trainer(config).start)


def unmask(
    oslo: Path, survivors: Any = SITES, members: Any = SITES, config: Config | None = None, **details: Any
) -> Message:
    said = {"run": RUN, "members": listed(members), "survivors": listed(survivors), "roster": roster(oslo)} | details
    return deliver(
        oslo, to_content(Unmask("oslo", 1, (config or secured()).model_dump_json(), **said), {}), Unmask.kind
    )


def masked(reply: Message) -> dict[str, np.ndarray]:
    assert list(reply.content.array_records) == [MASKED]
    return from_record(reply.content.array_records[MASKED])


def log_of(site: Path) -> list[dict[str, Any]]:
    return [entry.content for entry in audit.read(site / "private" / "audit.jsonl")]


def test_a_site_masks_with_its_own_key_and_opens_the_same_sum_as_often_as_it_is_asked(
    oslo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring.Keyring, "simulated", lambda *_: pytest.fail("a key from the seed"))
    first = masked(train(oslo))[SUM]
    np.testing.assert_array_equal(first, masked(train(oslo))[SUM])
    seed, again = (masked(unmask(oslo))[SEED] for _ in range(2))
    np.testing.assert_array_equal(seed, again)
    lines = (oslo / "private" / "openings.jsonl").read_text().splitlines()
    assert [json.loads(line)["survivors"] for line in lines] == [sorted(SITES)]
    messages = [(entry["event"], entry["message"], entry["round"]) for entry in log_of(oslo)]
    assert messages[-2:] == [("asked", "train.unmask", 1), ("sent", "train.unmask", 1)]


def test_another_run_that_asks_the_same_gets_no_second_sum_with_that_update(oslo: Path) -> None:
    four = (*SITES, "cork")
    train(oslo, members=four)
    unmask(oslo, four, four)
    with pytest.raises(Refusal, match="has opened a sum with the same update in another run or round"):
        # The same update in the sum of all but cork: the difference is cork's.
        train(oslo, members=SITES, run=OTHER_RUN)
    assert log_of(oslo)[-1]["event"] == "refused" and "same update" in log_of(oslo)[-1]["reason"]
    train(oslo, run=OTHER_RUN, learning_rate=0.02)  # which is another update
    unmask(oslo, run=OTHER_RUN)


def swapped(oslo: Path, authority: Authority) -> str:
    known = Roster.read(roster(oslo), authority_of(oslo).certificate)
    return Roster.new({**known.keys, "bergen": bytes(range(32))}).signed(authority)


def authority_of(oslo: Path) -> Authority:
    return Authority.load(oslo.parent / "authority" / "ca.key", oslo.parent / "authority" / "ca.crt")


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"roster": ""}, "the roster of mask keys is not signed by this federation's authority"),
        ({"roster": "swapped"}, "the roster of mask keys is not signed by this federation's authority"),
        ({"members": ["oslo", "bergen", "delft"]}, "delft is named in a sum, and has no key in the roster"),
        ({"members": ["oslo", "bergen", "bergen"]}, "a hospital of a sum is named twice"),
        ({"members": ["oslo", "bergen"]}, "a secure sum is of 3 hospitals at least; 2 are named"),
        ({"members": ["bergen", "tromso", "cork"]}, "the key of oslo in the sum is not that of this hospital"),
        ({"members": []}, "a secure sum is of 3 hospitals at least; 0 are named"),
    ],
)
def test_a_sum_that_hides_nothing_is_refused_and_audited_before_anything_is_trained(
    details: dict[str, Any], reason: str, oslo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if details.get("roster") == "swapped":
        details = {"roster": swapped(oslo, Authority.new("theirs"))}
    monkeypatch.setattr("fedpolyp.training.Trainer.train", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(Refusal, match=reason):
        train(oslo, **details)
    assert [entry["event"] for entry in log_of(oslo)] == ["asked", "refused"]
    assert reason in log_of(oslo)[-1]["reason"]


def test_survivors_that_would_bare_an_update_are_refused_and_audited(oslo: Path) -> None:
    four = (*SITES, "cork")
    train(oslo, members=four)

    def refused(survivors: Any, reason: str) -> None:
        with pytest.raises(Refusal, match=reason):
            unmask(oslo, survivors, four)
        assert reason in log_of(oslo)[-1]["reason"]

    refused(["oslo", "bergen"], "no sum of fewer than 3 hospitals is opened; 2 are named as survivors")
    refused(["oslo", "bergen", "bergen"], "a survivor of a sum is named twice")
    refused(["bergen", "tromso", "cork"], "a hospital that is not named as a survivor opens nothing")
    assert not (oslo / "private" / "openings.jsonl").exists()
    unmask(oslo, SITES, four)
    refused(four, "in round 1 this hospital was told of other survivors")


@pytest.mark.parametrize(
    ("limit", "config", "reason"),
    [
        ("secure_sums = true", tiny(), "this site sends its updates only in secure sums; the request asks for none"),
        ("secure_least = 4", secured(), "in secure sums with secure_least from 4 on; the request has 3"),
        ("", secured(privacy__colluders=0), "in secure sums with colluders from 1 on; the request has 0"),
        ("", secured(privacy__secure_least=2, privacy__colluders=0), "with secure_least from 3 on; the request has 2"),
    ],
)
def test_a_request_below_a_sites_own_demands_is_refused(limit: str, config: Config, reason: str, oslo: Path) -> None:
    file = oslo / "site.toml"
    text = file.read_text()
    name = limit.partition(" =")[0]
    lines = [limit if name and line.startswith(f"{name} =") else line for line in text.splitlines()]
    assert not name or limit in lines
    file.write_text("\n".join(lines) + "\n")
    try:
        with pytest.raises(Refusal, match=reason):
            train(oslo, config)
        assert log_of(oslo)[-1]["event"] == "refused"
        if limit.startswith("secure_sums"):  # scores are no updates
            assert send(oslo, scoring()).has_content()
    finally:
        file.write_text(text)


def test_a_refused_sum_of_joint_noise_spends_no_privacy(oslo: Path) -> None:
    text = (oslo / "site.toml").read_text()
    (oslo / "site.toml").write_text(text.replace("# declared_units =", "declared_units = 9"))
    joint = secured(privacy__mode="joint", algorithm__name="fedadam", model__normalization="group")
    ledger = oslo / "private" / "privacy.jsonl"
    try:
        with pytest.raises(Refusal, match="2 are named"):
            train(oslo, joint, members=SITES[:2])
        assert not ledger.exists()
        reply = train(oslo, joint)
        said = dict(reply.content.metric_records["metrics"])
        assert said.keys() == {"units", "epsilon", "process"} and masked(reply)[SUM].dtype == np.uint64
        assert [json.loads(line)["sharers"] for line in ledger.read_text().splitlines()] == [2]
        # Secure sums or not, a site's scores stay where it promises privacy; and it opens by the same rules.
        assert list(masked(unmask(oslo, config=joint))) == [SEED]
    finally:
        (oslo / "site.toml").write_text(text)
