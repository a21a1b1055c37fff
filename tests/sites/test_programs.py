"""A program that Flower unpacked by half is thrown away, and its order does not go unrecorded."""

from pathlib import Path

import pytest

from fedpolyp.sites import audit
from fedpolyp.sites.programs import SentPrograms
from fedpolyp.sites.settings import SiteSettings

# As a SuperNode prints them, with colours.
RECEIVING = "\x1b[92mINFO \x1b[0m:      Receiving: train message (ID: 0123)\n"
SENDING = "\x1b[92mINFO \x1b[0m:      Sending: train message (ID: 4567)\n"


@pytest.fixture
def site(tmp_path: Path) -> SiteSettings:
    (tmp_path / "private" / "flower" / "apps" / "half").mkdir(parents=True)
    return SiteSettings(folder=tmp_path, name="oslo", coordinator="localhost:9443")


def events(site: SiteSettings) -> list[str]:
    return [entry.content["event"] for entry in audit.read(site.audit)]


def test_a_program_that_wrote_into_the_audit_log_is_kept(site: SiteSettings) -> None:
    programs = SentPrograms(site, pytest.fail)
    for _ in range(2):
        programs.heed(RECEIVING)
        audit.append(site.audit, "asked", {})
        programs.heed(SENDING)
    assert events(site) == ["asked", "asked"] and (site.flower / "apps" / "half").exists()


def test_one_that_did_not_is_thrown_away_and_its_order_recorded(site: SiteSettings) -> None:
    audit.append(site.audit, "asked", {})
    programs = SentPrograms(site, pytest.fail)
    for line in (RECEIVING, "OSError: [Errno 28] No space left on device\n", SENDING):
        programs.heed(line)
    assert events(site) == ["asked", "failed"] and not (site.flower / "apps").exists()
    entry = list(audit.read(site.audit))[-1].content
    assert entry["message"] == "train" and "did not start" in entry["reason"]


def test_a_full_disk_that_keeps_the_order_from_the_log_is_told(site: SiteSettings) -> None:
    said: list[str] = []
    programs = SentPrograms(site, said.append)
    site.audit.mkdir()  # which cannot be written to either
    for line in (RECEIVING, SENDING):
        programs.heed(line)
    assert len(said) == 1 and "the audit log cannot be written" in said[0]
    assert not (site.flower / "apps").exists()
