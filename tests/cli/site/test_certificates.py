"""`fedpolyp site keygen`, `certify` and `renew`: the keys and certificates that belong together."""

from pathlib import Path

import pytest

from fedpolyp.errors import FedpolypError, UsageError
from tests.cli.site.called import fedpolyp


def test_a_key_made_at_the_site_is_the_one_it_joins_with(tmp_path: Path) -> None:
    out = tmp_path / "deploy"
    fedpolyp("init", "--coordinator", "localhost", "--sites", "oslo", "--out", str(out), "--no-keys")
    with pytest.raises(FedpolypError, match="keygen"):
        fedpolyp("join", "--folder", str(out / "oslo"), "--data", str(tmp_path))
    said = fedpolyp("keygen", "--folder", str(out / "oslo"))
    assert "oslo.pub and " in said and "oslo.mask.pub to the coordinator" in said
    assert (out / "oslo" / "site.key").exists() and (out / "oslo" / "oslo.pub").exists()
    join = ("join", "--folder", str(out / "oslo"), "--data", str(tmp_path), "--print-command")
    with pytest.raises(
        UsageError, match=r"site\.crt is missing; the coordinator makes a new one .*: fedpolyp site certify"
    ):
        fedpolyp(*join)
    keys = out / "coordinator" / "sites"
    (out / "oslo" / "oslo.pub").rename(keys / "oslo.pub")
    register = ("register", "--folder", str(out / "coordinator"), "--print-command")
    with pytest.raises(UsageError, match=r"oslo\.crt is missing: 'fedpolyp site certify oslo' makes it"):
        fedpolyp(*register)
    secure = ("run", "--folder", str(out / "coordinator"), "--secure-sums", "--optimizer-state", "reset")
    with pytest.raises(
        UsageError, match=r"secure sums need .*roster\.txt, the signed mask keys: 'fedpolyp site certify'"
    ):
        fedpolyp(*secure, "--print-command")
    (out / "oslo" / "oslo.mask.pub").rename(keys / "oslo.mask.pub")
    said = fedpolyp("certify", "--out", str(out))
    assert f"{keys / 'oslo.crt'}: send it to oslo, where it becomes site.crt" in said
    assert f"{out / 'coordinator' / 'roster.txt'}: the mask keys of oslo" in said
    assert "flwr run" in fedpolyp(*secure, "--print-command")
    (out / "oslo" / "site.crt").write_bytes((keys / "oslo.crt").read_bytes())
    assert "fedpolyp.cli.supernode" in fedpolyp(*join) and "flwr supernode register" in fedpolyp(*register)


def test_a_site_of_an_older_version_gets_a_mask_key_and_keeps_its_key(deploy: Path) -> None:
    folder = deploy / "oslo"
    before = (folder / "site.key").read_bytes()
    for name in ("mask.key", "oslo.mask.pub"):
        (folder / name).unlink()
    assert f"send {folder / 'oslo.mask.pub'} to the coordinator" in fedpolyp("keygen", "--folder", str(folder))
    assert (folder / "site.key").read_bytes() == before and (folder / "mask.key").exists()


def test_a_certificate_for_another_key_than_the_one_that_is_registered_is_refused(deploy: Path) -> None:
    keys = deploy / "coordinator" / "sites"
    (keys / "oslo.pub").write_bytes((keys / "bergen.pub").read_bytes())
    with pytest.raises(UsageError, match=r"oslo\.crt is for another key: 'fedpolyp site certify oslo' makes one"):
        fedpolyp("register", "oslo", "--folder", str(deploy / "coordinator"), "--print-command")


def test_the_authority_may_lie_elsewhere_when_the_certificate_is_renewed(deploy: Path, tmp_path: Path) -> None:
    (deploy / "authority").rename(tmp_path / "stick")
    (deploy / "coordinator").rename(tmp_path / "opt")
    before = (tmp_path / "opt" / "server.crt").read_bytes()
    said = fedpolyp("renew", "--authority", str(tmp_path / "stick"), "--coordinator", str(tmp_path / "opt"))
    assert "restart 'fedpolyp site serve'" in said and (tmp_path / "opt" / "server.crt").read_bytes() != before
