"""Mask keys: only what the authority has signed is used, whoever carries it; keys stay where they are made."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fedpolyp.errors import FedpolypError, Refusal, UsageError
from fedpolyp.sites.certificates import Authority
from fedpolyp.sites.folders import certify_sites, make_federation
from fedpolyp.sites.roster import (
    BadRoster,
    Roster,
    keyring_of,
    read_mask_key,
    read_public_mask_key,
    roster_to_send,
    write_mask_key,
)
from fedpolyp.sites.settings import CoordinatorSettings, SiteSettings

SITES = ["bergen", "oslo", "tromso"]
KEYS = {site: bytes([number] * 32) for number, site in enumerate(SITES, 1)}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new("ours")


def sign(body: str, authority: Authority) -> str:
    return f"{body}signed {authority.key.sign(body.encode(), ec.ECDSA(hashes.SHA384())).hex()}\n"


def test_a_roster_is_read_back_and_a_person_can_read_it_too(authority: Authority) -> None:
    roster = Roster.new(KEYS)
    text = roster.signed(authority)
    assert Roster.read(text, authority.certificate) == roster
    assert f"\nbergen {'01' * 32}\noslo {'02' * 32}\n" in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("01" * 32, "09" * 32), "is not signed by this federation's authority"),
        (lambda text: text.replace("oslo", "cork"), "is not signed"),
        (lambda text: text.replace("oslo " + "02" * 32 + "\n", ""), "is not signed"),
        (lambda text: text.replace("signed 30", "signed 31"), "is not signed"),
        (lambda text: text.rpartition("signed ")[0], "is not signed"),
        (lambda text: text + text, "is not signed"),
        (lambda text: "\ud800" + text, "is not signed"),
        (lambda text: "", "is not signed"),
    ],
)
def test_a_changed_roster_is_refused(change: Callable[[str], str], reason: str, authority: Authority) -> None:
    with pytest.raises(BadRoster, match=reason):
        Roster.read(change(Roster.new(KEYS).signed(authority)), authority.certificate)


def test_a_roster_of_another_authority_is_refused(authority: Authority) -> None:
    with pytest.raises(BadRoster, match="is not signed by this federation's authority"):
        Roster.read(Roster.new(KEYS).signed(Authority.new("ours")), authority.certificate)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["oslo " + "02" * 32, "bergen " + "01" * 32, "oslo " + "03" * 32], "oslo is in the roster of mask keys twice"),
        (["oslo " + "02" * 32, "bergen " + "02" * 32], "bergen has the mask key of another site in the roster"),
        (["oslo " + "02" * 31], "cannot be read"),
        (["os/lo " + "02" * 32], "cannot be read"),
        (["oslo"], "cannot be read"),
    ],
)
def test_a_signature_does_not_make_it_good(lines: list[str], reason: str, authority: Authority) -> None:
    body = "\n".join(["fedpolyp roster of mask keys 1", "made 2026-11-30", *lines]) + "\n"
    with pytest.raises(BadRoster, match=reason):
        Roster.read(sign(body, authority), authority.certificate)
    with pytest.raises(BadRoster, match="cannot be read"):
        Roster.read(sign("something else that was signed\n", authority), authority.certificate)


def test_a_key_pair_fits_is_its_owners_and_is_never_overwritten(tmp_path: Path) -> None:
    private, public = tmp_path / "mask.key", tmp_path / "oslo.mask.pub"
    write_mask_key(private, public)
    assert read_mask_key(private).public_key().public_bytes_raw() == read_public_mask_key(public)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    with pytest.raises(UsageError, match="never overwritten"):
        write_mask_key(private, public)
    with pytest.raises(UsageError, match="is a private key, which must not leave its site"):
        read_public_mask_key(private)
    for read, said in ((read_mask_key, "is not a private mask key"), (read_public_mask_key, "is not a public mask")):
        public.write_text("hello")
        with pytest.raises(UsageError, match=said):
            read(public)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("federation") / "deploy"
    make_federation(folder, "fed.example.org", 9443, SITES)
    return folder


@pytest.fixture
def oslo(federation: Path) -> SiteSettings:
    (federation / "oslo" / "private" / "roster.txt").unlink(missing_ok=True)
    return SiteSettings.load(federation / "oslo" / "site.toml")


def sent(federation: Path) -> str:
    return roster_to_send(CoordinatorSettings.load(federation / "coordinator"), SITES)


def authority_of(federation: Path) -> Authority:
    return Authority.load(federation / "authority" / "ca.key", federation / "authority" / "ca.crt")


def test_init_makes_what_a_site_masks_with(federation: Path, oslo: SiteSettings) -> None:
    keyring = keyring_of(oslo, sent(federation))
    assert list(keyring.public) == SITES and keyring.public["oslo"] == keyring.member.public
    assert keyring.openings.path == oslo.private / "openings.jsonl"  # one for all runs
    assert keyring.terms("run", 1, SITES[:2]).keys == {site: keyring.public[site] for site in SITES[:2]}
    with pytest.raises(Refusal, match="cork is named in a sum, and has no key in the roster of mask keys"):
        keyring.terms("run", 1, [*SITES, "cork"])


def test_a_site_refuses_a_roster_with_another_key_of_its_own(federation: Path, oslo: SiteSettings) -> None:
    text = Roster.new(KEYS).signed(authority_of(federation))
    with pytest.raises(Refusal, match="the key of oslo in the roster of mask keys is not that of this site"):
        keyring_of(oslo, text)
    with pytest.raises(Refusal, match="is not signed by this federation's authority"):
        keyring_of(oslo, Roster.new(KEYS).signed(Authority.new("theirs")))
    assert not (oslo.private / "roster.txt").exists()


def test_a_site_that_has_seen_a_newer_roster_takes_no_older_one(federation: Path, oslo: SiteSettings) -> None:
    older = sent(federation)
    certify_sites(federation / "authority", federation / "coordinator", ["oslo"])
    newer = sent(federation)
    assert newer != older
    keyring_of(oslo, older)
    keyring_of(oslo, newer)
    keyring_of(oslo, newer)
    with pytest.raises(Refusal, match="this site has seen a newer roster of mask keys than this one of 20"):
        keyring_of(oslo, older)
    (oslo.private / "roster.txt").write_text("x")
    with pytest.raises(FedpolypError, match=r"roster\.txt cannot be used: .* remove it if the authority has changed"):
        keyring_of(oslo, newer)


def test_a_site_without_a_mask_key_takes_part_in_no_sum(tmp_path: Path) -> None:
    make_federation(tmp_path / "deploy", "fed.example.org", 9443, ["oslo", "bergen"], make_keys=False)
    settings = SiteSettings.load(tmp_path / "deploy" / "oslo" / "site.toml")
    with pytest.raises(Refusal, match="this site has no mask key, so it takes part in no secure sum"):
        keyring_of(settings, "")
    coordinator = CoordinatorSettings.load(tmp_path / "deploy" / "coordinator")
    with pytest.raises(UsageError, match=r"secure sums need .*roster\.txt, .*: 'fedpolyp site certify' makes it"):
        roster_to_send(coordinator, ["oslo"])


def test_the_coordinator_says_whose_key_is_missing_and_whose_roster_it_is(tmp_path: Path) -> None:
    out = tmp_path / "deploy"
    make_federation(out, "fed.example.org", 9443, SITES)
    coordinator = CoordinatorSettings.load(out / "coordinator")
    coordinator.public_mask_key("oslo").unlink()
    _, masking = certify_sites(out / "authority", out / "coordinator", SITES)
    assert masking == ("bergen", "tromso")
    with pytest.raises(UsageError, match=r"has no mask key of oslo: put oslo\.mask\.pub, which .* into .*sites"):
        roster_to_send(coordinator, SITES)
    coordinator.public_mask_key("oslo").write_bytes(coordinator.public_mask_key("bergen").read_bytes())
    with pytest.raises(UsageError, match="has the mask key of another site"):
        certify_sites(out / "authority", out / "coordinator", SITES)
    coordinator.roster.write_text(json.dumps({}))
    with pytest.raises(UsageError, match="cannot be used: .* is not signed by this federation's authority"):
        roster_to_send(coordinator, SITES)
