"""The Ray that a simulation computes on."""

import socket

import pytest

from fedpolyp.config import load
from fedpolyp.errors import UsageError
from fedpolyp.simulation import cluster


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "nonsense", "127.0.0.1:x", ":", "127.0.0.1:99999"])
def test_an_address_at_which_nothing_answers_is_refused_at_once(address: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = address.format(port=taken.getsockname()[1])
        with pytest.raises(UsageError, match=f"no Ray cluster answers at '{address}', which must be host:port or auto"):
            cluster.begin(load(overrides={"runtime.ray_address": address}))


def test_what_listens_there_and_is_no_ray_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE", 0.5)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"'{address}'.*: the program that listens there is not Ray"):
            cluster.begin(load(overrides={"runtime.ray_address": address}))
