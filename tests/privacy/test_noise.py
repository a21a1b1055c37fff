"""The noise: normal, the same for the same, and new for anything else."""

import os
import stat
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from fedpolyp.errors import UsageError
from fedpolyp.privacy.noise import NoiseStream, simulated_secret, site_secret

SECRET = bytes(range(32))


def test_numbers_are_normal_and_independent_of_one_another() -> None:
    numbers = NoiseStream(SECRET, b"order").normal(200_000)
    assert kstest(numbers, "norm").pvalue > 0.01
    first, second = np.split(numbers, 2)  # the two that Box and Muller make of a pair
    for one, other in ((first, second), (numbers[:-1], numbers[1:]), (first**2, second**2)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(len(one))
    assert 4 < np.abs(numbers).max() < 8.6


@pytest.mark.parametrize("count", [0, 1, 7])
def test_as_many_come_as_are_asked_for_and_go_on_where_the_last_ended(count: int) -> None:
    stream = NoiseStream(SECRET, b"order")
    first, second = stream.normal(count), stream.normal(count)
    assert first.shape == (count,) and (count == 0 or not np.array_equal(first, second))


def test_the_same_secret_and_order_give_the_same_bits_and_any_other_gives_others() -> None:
    numbers = NoiseStream(SECRET, b"order").normal(1000)
    assert np.array_equal(numbers, NoiseStream(SECRET, b"order").normal(1000))
    for secret, order in ((SECRET, b"ordes"), (SECRET[::-1], b"order"), (simulated_secret(0, "oslo"), b"order")):
        assert abs(np.corrcoef(numbers, NoiseStream(secret, order).normal(1000))[0, 1]) < 0.2


def test_draws_are_as_frequent_as_their_probability_and_never_more_likely() -> None:
    for probability in (0.0, 1.0):
        assert NoiseStream(SECRET, b"order").hits(1000, probability).mean() == probability
    hits = NoiseStream(SECRET, b"order").hits(200_000, 0.1)
    assert abs(hits.mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / len(hits))
    assert abs(np.corrcoef(hits[:-1], hits[1:])[0, 1]) < 5 / np.sqrt(len(hits))


@pytest.mark.parametrize(("units", "hits"), [(0, 0), (1, 1), (1.9, 1), (2, 2), (2.0**53, 4)])
def test_of_the_53_bits_of_a_draw_as_many_values_hit_as_the_probability_allows(units: float, hits: int) -> None:
    """A probability between two of them is not rounded up."""

    class Words:
        def update(self, zeros: bytes) -> bytes:
            return np.array([0, 1 << 11, 2 << 11, 2**64 - 1], "<u8").tobytes()

    stream = NoiseStream(SECRET, b"order")
    stream._encryptor = Words()  # type: ignore[assignment]
    assert stream.hits(4, units * 2.0**-53).tolist() == [True] * hits + [False] * (4 - hits)


def test_a_sites_secret_is_made_once_and_its_owner_alone_can_read_it(tmp_path: Path) -> None:
    secret = site_secret(tmp_path / "key")
    assert len(secret) == 32 and site_secret(tmp_path / "key") == secret != site_secret(tmp_path / "other")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_secret_that_two_need_at_once_is_one_and_never_seen_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process looks while the first one draws: it waits, and gets what the first one has written."""
    draw, others = os.urandom, list[Future[bytes]]()
    with ThreadPoolExecutor(1) as pool:

        def drawn(size: int) -> bytes:
            if size == 32 and not others:
                others.append(pool.submit(site_secret, tmp_path / "key"))
                assert not wait(others, timeout=0.2).done
                assert not (tmp_path / "key").exists()
            return draw(size)

        monkeypatch.setattr(os, "urandom", drawn)
        assert site_secret(tmp_path / "key") == others[0].result()
    assert {file.name for file in tmp_path.iterdir()} == {"key", ".key.lock"}


@pytest.mark.parametrize("size", [5, 40])
def test_a_damaged_secret_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "key").write_bytes(bytes(size))
    with pytest.raises(UsageError, match=f"a secret has 32 bytes, it has {size}"):
        site_secret(tmp_path / "key")


def test_a_simulations_secret_depends_on_seed_and_hospital() -> None:
    secrets = {simulated_secret(seed, name) for seed in (0, 1) for name in ("oslo", "bergen")}
    assert len(secrets) == 4
