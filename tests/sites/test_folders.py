"""Every party gets what it needs, and nothing that belongs to another."""

import errno
import itertools
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from fedpolyp.errors import UsageError
from fedpolyp.sites.certificates import check_pair, read_certificate, read_public_key, site_of
from fedpolyp.sites.check import checks
from fedpolyp.sites.folders import make_federation, renew_certificate
from fedpolyp.sites.limits import Limits
from fedpolyp.sites.proxy import make_work_folder, nginx_config, work_folder
from fedpolyp.sites.settings import CoordinatorSettings, SiteSettings, Split

SITES = ["oslo", "bergen"]


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    make_federation(tmp_path / "deploy", "fed.example.org", 9443, SITES)
    return tmp_path / "deploy"


def secrets(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()}


def test_each_party_has_its_own_secret_and_no_other(deploy: Path) -> None:
    assert secrets(deploy / "authority") == {"ca.key"}
    assert secrets(deploy / "coordinator") == {"server.key"}
    for site in SITES:
        assert secrets(deploy / site) == {"site.key", "mask.key"}
        other = next(name for name in SITES if name != site)
        files = [path for path in (deploy / site).rglob("*") if path.is_file()]
        assert not any(other in path.name or other in path.read_text() for path in files)
    keys = {(deploy / site / name).read_bytes() for site in SITES for name in ("site.key", "mask.key")}
    assert len(keys) == 2 * len(SITES)


def test_what_is_secret_is_for_its_owner_alone(deploy: Path) -> None:
    for path in deploy.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes():
            assert mode == 0o600, path
        if path.is_dir():
            assert mode == 0o700, path


def test_without_keys_the_sites_make_their_own(tmp_path: Path) -> None:
    make_federation(tmp_path / "deploy", "fed.example.org", 9443, SITES, make_keys=False)
    assert not secrets(tmp_path / "deploy" / "oslo") and not list((tmp_path / "deploy/coordinator/sites").iterdir())


def test_the_settings_are_read_back_with_their_defaults(deploy: Path) -> None:
    site = SiteSettings.load(deploy / "oslo" / "site.toml")
    written = (deploy / "oslo" / "site.toml").read_text()
    assert '"resnet50-v2"] # encoders' in written  # a comment is apart from a long value, too
    assert (site.name, site.coordinator, site.data) == ("oslo", "fed.example.org:9443", "")
    assert (site.limits, site.split) == (Limits(), Split())
    coordinator = CoordinatorSettings.load(deploy / "coordinator")
    assert (coordinator.host, coordinator.port, coordinator.sites) == ("fed.example.org", 9443, ("oslo", "bergen"))
    assert all(coordinator.public_key(site).is_file() for site in SITES)


def test_a_mistake_in_site_toml_is_told_with_its_place(deploy: Path) -> None:
    file = deploy / "oslo" / "site.toml"
    file.write_text(file.read_text().replace("local_epochs = 10", "local_epochs = 0 "))
    with pytest.raises(UsageError, match=r"site\.toml: limits\.local_epochs: .*greater than or equal to 1; got 0"):
        SiteSettings.load(file)
    file.write_text('name = "oslo"\ncoordinator = "a:1"\nshell = "rm"\n')
    with pytest.raises(UsageError, match="shell: Extra inputs are not permitted"):
        SiteSettings.load(file)


def test_an_address_of_numbers_is_written_as_one(tmp_path: Path) -> None:
    make_federation(tmp_path / "deploy", "2001:db8::1", 9443, SITES)
    assert SiteSettings.load(tmp_path / "deploy" / "oslo" / "site.toml").coordinator == "[2001:db8::1]:9443"


def test_a_coordinator_known_by_an_address_has_no_recipe_for_a_container(tmp_path: Path, deploy: Path) -> None:
    make_federation(tmp_path / "by-address", "192.0.2.7", 9443, SITES)
    recipes = {"Dockerfile", "compose.yaml", "relay.conf"}
    names = {path.name for path in (tmp_path / "by-address" / "oslo").iterdir()}
    assert names == {path.name for path in (deploy / "oslo").iterdir()} - recipes
    assert "compose.yaml" not in (tmp_path / "by-address" / "oslo" / "IT.md").read_text()


def compose() -> list[str]:
    """How Compose is called here."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    pytest.fail("there is no Docker Compose: scripts/system-packages installs it")


@pytest.mark.parametrize(
    ("party", "needed"),
    [
        ("oslo", ["FEDPOLYP_SOURCE", "FEDPOLYP_IMAGES", "FEDPOLYP_USER"]),
        ("coordinator", ["FEDPOLYP_SOURCE", "FEDPOLYP_USER"]),
    ],
)
def test_compose_accepts_the_recipe_and_asks_for_what_it_needs(
    deploy: Path, monkeypatch: pytest.MonkeyPatch, party: str, needed: list[str]
) -> None:
    command = [*compose(), "--file", str(deploy / party / "compose.yaml"), "config"]
    for name in needed:
        said = subprocess.run(command, capture_output=True, text=True)
        assert said.returncode != 0
        monkeypatch.setenv(name, "1000:1000" if name == "FEDPOLYP_USER" else str(deploy))
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0 and ("fed.example.org" if party == "oslo" else "9443") in said.stdout, said.stderr


def test_what_a_site_writes_lies_in_the_one_folder_that_its_container_and_its_unit_may_write_to(deploy: Path) -> None:
    settings = SiteSettings.load(deploy / "oslo" / "site.toml")
    assert {path.parent for path in (settings.stores, settings.state, settings.audit, settings.flower)} == {
        settings.private
    }
    assert settings.private.is_dir() and settings.private.parent == settings.folder
    name = settings.private.name
    site = yaml.safe_load((deploy / "oslo" / "compose.yaml").read_text())["services"]["site"]
    assert site["read_only"]
    assert [mount for mount in site["volumes"] if not mount.endswith(":ro")] == [f"./{name}:/site/{name}"]
    unit = (deploy / "oslo" / "fedpolyp-oslo.service").read_text().splitlines()
    assert f"ReadWritePaths=/opt/fedpolyp/oslo/{name}" in unit


def test_a_container_of_a_site_is_on_no_network_but_one_without_a_way_out(deploy: Path) -> None:
    recipe = yaml.safe_load((deploy / "oslo" / "compose.yaml").read_text())
    assert recipe["services"]["site"]["networks"] == ["inside"]
    inside = recipe["networks"]["inside"]
    assert inside["internal"] and inside["driver_opts"] == {"com.docker.network.bridge.inhibit_ipv4": "true"}


@pytest.mark.parametrize("there", [True, False])
def test_a_check_names_the_folder_that_a_site_cannot_write_to(
    deploy: Path, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SiteSettings.load(deploy / "oslo" / "site.toml")
    place = settings.private if there else settings.folder
    if not there:
        shutil.rmtree(settings.private)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place)
    (disk,) = (finding for finding in itertools.islice(checks(settings), 2) if finding.about == "disk")
    assert not disk.good and disk.text == f"{place} cannot be written to"


@pytest.mark.parametrize(
    "names", [["Oslo"], ["a/b"], [".."], ["a b"], [""], ["a", "a"], [], ["authority"], ["a", "coordinator"]]
)
def test_names_that_are_none_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(UsageError, match="site"):
        make_federation(tmp_path / "deploy", "localhost", 9443, names)
    assert not (tmp_path / "deploy").exists()


@pytest.mark.parametrize("host", ["", "a b", "https://a", "a:9443", "a;b", 'a"b'])
def test_hosts_that_are_none_are_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="host name or an IP address"):
        make_federation(tmp_path / "deploy", host, 9443, SITES)


def test_a_folder_that_is_there_is_left_as_it_is(deploy: Path) -> None:
    before = (deploy / "authority" / "ca.key").read_bytes()
    with pytest.raises(UsageError, match="already exists"):
        make_federation(deploy, "localhost", 9443, SITES)
    assert (deploy / "authority" / "ca.key").read_bytes() == before


def test_a_renewed_certificate_is_new_and_of_the_same_authority(deploy: Path) -> None:
    before = (deploy / "coordinator" / "server.crt").read_bytes()
    renew_certificate(deploy / "authority", deploy / "coordinator")
    after = (deploy / "coordinator" / "server.crt").read_bytes()
    assert after != before and stat.S_IMODE((deploy / "coordinator" / "server.key").stat().st_mode) == 0o600


def test_a_disk_that_refuses_leaves_the_old_key_and_certificate(deploy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator = deploy / "coordinator"
    pair = [coordinator / "server.key", coordinator / "server.crt"]
    before = [file.read_bytes() for file in pair]
    calls = iter((None, OSError(errno.ENOSPC, "No space left on device")))

    def refuse(_: int) -> None:
        if (fault := next(calls, None)) is not None:
            raise fault

    for _ in range(2):  # the key's, then the certificate's bytes
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="No space"):
            renew_certificate(deploy / "authority", coordinator)
        monkeypatch.undo()
        assert [file.read_bytes() for file in pair] == before
        assert sorted(file.name for file in coordinator.iterdir() if "server" in file.name) == [
            "server.crt",
            "server.key",
        ]
        calls = iter((OSError(errno.ENOSPC, "No space left on device"),))
    check_pair(*pair)


def test_a_site_has_a_certificate_for_its_own_key_of_the_federations_authority(deploy: Path) -> None:
    authority = read_certificate(deploy / "authority" / "ca.crt")
    for site in SITES:
        certificate = read_certificate(deploy / site / "site.crt")
        assert (deploy / "coordinator" / "sites" / f"{site}.crt").read_bytes() == (
            deploy / site / "site.crt"
        ).read_bytes()
        certificate.verify_directly_issued_by(authority)
        assert certificate.public_key() == read_public_key(deploy / site / f"{site}.pub")
        assert site_of(certificate) == site and certificate.not_valid_after_utc == authority.not_valid_after_utc


def test_a_certificate_of_another_authority_than_the_sites_trust_is_not_made(deploy: Path, tmp_path: Path) -> None:
    make_federation(tmp_path / "other", "localhost", 9443, SITES)
    before = (deploy / "coordinator" / "server.key").read_bytes()
    with pytest.raises(UsageError, match="is not the authority of"):
        renew_certificate(tmp_path / "other" / "authority", deploy / "coordinator")
    assert (deploy / "coordinator" / "server.key").read_bytes() == before


def test_nginx_accepts_its_config(deploy: Path) -> None:
    settings = CoordinatorSettings.load(deploy / "coordinator")
    make_work_folder(settings)
    config = work_folder(settings) / "nginx.conf"
    config.write_text(nginx_config(settings, "127.0.0.1"))
    command = ["nginx", "-t", "-e", "stderr", "-c", str(config)]
    said = subprocess.run(command, capture_output=True, text=True, cwd=work_folder(settings))
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("unit", ["oslo/fedpolyp-oslo.service", "coordinator/fedpolyp-coordinator.service"])
def test_systemd_accepts_the_units(deploy: Path, tmp_path: Path, unit: str) -> None:
    program = tmp_path / "fedpolyp"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    file = deploy / unit
    file.write_text(file.read_text().replace("/opt/fedpolyp/venv/bin/fedpolyp", str(program)))
    said = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True)
    assert said.returncode == 0 and file.name not in said.stderr, said.stderr
