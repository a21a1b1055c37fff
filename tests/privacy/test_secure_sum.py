"""Masks: the sum of the survivors to the bit, whoever is lost and whatever the order; and nothing but that sum."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from fedpolyp.errors import FedpolypError, Refusal
from fedpolyp.privacy.fixed_point import Words
from fedpolyp.privacy.openings import Opened, Openings
from fedpolyp.privacy.secure_sum import Member, Opening, Terms, digest_of, opened

NAMES = ("aarhus", "bergen", "cork", "delft", "essen", "faro")
MEMBERS = {name: Member.simulated(1, name) for name in NAMES}
ANY = st.integers(0, 2**64 - 1)


def terms(names: Sequence[str] = NAMES, round: int = 1, run: str = "run") -> Terms:
    return Terms(run, round, {name: MEMBERS[name].public for name in names})


@dataclass(frozen=True)
class Sent:
    """What a hospital made, and what of it left."""

    words: Words
    masked: Words


def sent(words: dict[str, Words], of: Terms) -> dict[str, Sent]:
    return {name: Sent(words[name], MEMBERS[name].masked(words[name], of)) for name in of.keys}


def opening(name: str, of: Sent, to: Terms, survivors: Sequence[str], least: int = 3) -> Opening:
    return MEMBERS[name].opening(to, digest_of(of.words), len(of.words), survivors, least)


def draw(size: int, seed: int = 0) -> dict[str, Words]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 2**64, size, np.uint64) for name in NAMES}


@settings(max_examples=30, deadline=None)
@given(
    st.permutations(NAMES),
    st.permutations(NAMES),
    st.integers(0, 3),
    st.lists(st.lists(ANY, min_size=3, max_size=3), min_size=6, max_size=6),
)
def test_survivors_open_their_plain_sum_to_the_bit_in_any_order(
    arrival: list[str], after: list[str], lost: int, values: list[list[int]]
) -> None:
    words = {name: np.array(own, np.uint64) for name, own in zip(NAMES, values, strict=True)}
    survivors = arrival[lost:]  # the others were lost before their reply
    made = sent(words, terms())
    total = np.zeros(3, np.uint64)
    for name in survivors:
        total += made[name].masked
    for name in [name for name in after if name in survivors]:
        opened(total, opening(name, made[name], terms(), survivors))
    plain = np.zeros(3, np.uint64)
    for name in survivors:
        plain += words[name]
    np.testing.assert_array_equal(total, plain)


def test_streams_go_on_over_the_blocks_they_are_made_in() -> None:
    size = 2 * (1 << 17) + 3
    words = draw(size)
    made = sent(words, terms(NAMES[:3]))
    total = made["aarhus"].masked + made["bergen"].masked + made["cork"].masked
    for name in NAMES[:3]:
        opened(total, opening(name, made[name], terms(NAMES[:3]), NAMES[:3]))
    np.testing.assert_array_equal(total, words["aarhus"] + words["bergen"] + words["cork"])
    mask = made["aarhus"].masked - words["aarhus"]
    assert len(np.unique(mask)) == size  # no block is like another


def test_without_one_opening_the_sum_stays_hidden() -> None:
    made = sent(draw(2000), terms())
    total = sum((own.masked for own in made.values()), np.zeros(2000, np.uint64))
    for name in NAMES[1:]:
        opened(total, opening(name, made[name], terms(), NAMES))
    assert uniform(total) and not np.isin(total, sum(own.words for own in made.values())).any()


def uniform(words: Words) -> bool:
    """Whether the top bytes look drawn alike, by chi squared at one in a million."""
    counts = np.bincount((words >> np.uint64(56)).astype(int), minlength=256)
    expected = len(words) / 256
    return float(np.sum((counts - expected) ** 2 / expected)) < chi2.ppf(1 - 1e-6, 255)


def test_top_bytes_of_all_that_leaves_are_uniform_though_updates_are_not() -> None:
    words = {name: np.full(20_000, 5, np.uint64) for name in NAMES}
    assert not uniform(words["cork"])
    made = sent(words, terms())
    for name in NAMES[:2]:
        assert uniform(made[name].masked)
    lost = opening("cork", made["cork"], terms(), NAMES[:5])
    assert lost.words is not None and uniform(lost.words) and not lost.seed
    masks = [MEMBERS[name].masked(words[name], terms()) for name in NAMES[:2]]
    assert uniform(masks[0] - masks[1]) and uniform(masks[0] + masks[1])


def test_the_same_again_has_the_same_masks_and_anything_else_others() -> None:
    words = draw(64)["cork"]
    one = MEMBERS["cork"].masked(words, terms())
    np.testing.assert_array_equal(one, MEMBERS["cork"].masked(words.copy(), terms()))
    others = [
        MEMBERS["cork"].masked(words, of)
        for of in (terms(round=2), terms(run="another"), terms(NAMES[:5]), terms(NAMES[::-1][:4]))
    ]
    masks = [own - words for own in (one, *others)]
    changed = words.copy()
    changed[0] += np.uint64(1)
    masks.append(MEMBERS["cork"].masked(changed, terms()) - changed)
    for first, second in combinations(masks, 2):
        assert not np.isin(first, second).any()


def test_no_two_sums_have_a_mask_in_common_that_two_hospitals_share() -> None:
    words, shared = draw(64)["cork"], []
    for of in (terms(), terms(round=2), terms(run="another"), terms(NAMES[:5]), terms(NAMES[2:4])):
        masked = MEMBERS["cork"].masked(words, of)
        opened(masked, MEMBERS["cork"].opening(of, digest_of(words), 64, list(of.keys), 2))
        shared.append(masked - words)
    for first, second in combinations(shared, 2):
        assert not np.isin(first, second).any()


def test_whom_the_receiver_tells_other_survivors_it_learns_nothing_of() -> None:
    # All are told that faro is lost, and faro that nobody is: what faro opens must not bare it.
    made = sent({name: np.zeros(5000, np.uint64) for name in NAMES}, terms())
    openings = {name: opening(name, made[name], terms(), NAMES[:5]) for name in NAMES[:5]}
    bare = made["faro"].masked.copy()
    opened(bare, opening("faro", made["faro"], terms(), NAMES))
    taken = {name: made[name].masked.copy() for name in NAMES[:5]}
    for name, own in openings.items():
        opened(taken[name], own)
    # What is left of faro, alone and with all that anybody else is left with, is noise.
    for some in ((), ("aarhus",), NAMES[:2], NAMES[:5]):
        rest = sum((taken[name] for name in some), bare.copy())
        assert uniform(rest) and np.count_nonzero(rest) > 4990
    # Nor do the openings tell what was shared with faro, which would be all that is left.
    assert all(own.words is not None and uniform(own.words) for own in openings.values())
    shared = sum((own.words for own in openings.values() if own.words is not None), bare.copy())
    assert uniform(shared)


@pytest.mark.parametrize(
    ("survivors", "reason"),
    [
        (("cork", "bergen"), "no sum of fewer than 3 hospitals is opened; 2 are named"),
        (("cork", "bergen", "bergen", "delft"), "a survivor of a sum is named twice"),
        (("aarhus", "bergen", "delft"), "a hospital that is not named as a survivor opens nothing"),
        (("cork", "bergen", "delft", "zagreb"), "zagreb is named as a survivor, and was not in the sum"),
    ],
)
def test_survivors_that_cannot_be_are_refused(survivors: tuple[str, ...], reason: str) -> None:
    made = sent(draw(4), terms())["cork"]
    with pytest.raises(Refusal, match=reason):
        opening("cork", made, terms(), survivors)


def swapped(name: str, key: bytes) -> Terms:
    return replace(terms(), keys={**terms().keys, name: key})


STRANGER = X25519PrivateKey.from_private_bytes(b"\x05" * 32).public_key().public_bytes_raw()


@pytest.mark.parametrize(
    ("of", "reason"),
    [
        (swapped("cork", STRANGER), "the key of cork in the sum is not that of this hospital"),
        (terms(NAMES[3:]), "the key of cork in the sum is not that of this hospital"),
        (swapped("delft", MEMBERS["essen"].public), "two hospitals in the sum have the same key"),
        (swapped("delft", bytes(32)), "the key of delft in the sum is not a valid key"),
        (swapped("delft", b"short"), "the key of delft in the sum is not a valid key"),
    ],
)
def test_keys_that_would_not_hide_it_are_refused(of: Terms, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        MEMBERS["cork"].masked(draw(4)["cork"], of)


def test_a_swapped_key_of_another_opens_no_sum() -> None:
    words = draw(2000)
    made = sent(words, terms())
    told = swapped("delft", STRANGER)  # to cork alone
    total = sum((made[name].masked for name in NAMES if name != "cork"), MEMBERS["cork"].masked(words["cork"], told))
    for name in NAMES:
        opened(total, opening(name, made[name], told if name == "cork" else terms(), NAMES))
    assert uniform(total)


def test_hospitals_that_were_asked_for_different_things_have_no_mask_in_common() -> None:
    words = draw(2000)
    told = replace(terms(), settings=b"less noise")
    total = sum(
        (MEMBERS[name].masked(words[name], told if name == "cork" else terms()) for name in NAMES),
        np.zeros(2000, np.uint64),
    )
    for name in NAMES:
        opened(total, opening(name, Sent(words[name], total), told if name == "cork" else terms(), NAMES))
    assert uniform(total)


@pytest.fixture
def openings(tmp_path: Path) -> Openings:
    return Openings(tmp_path / "private" / "openings.jsonl")


def opened_sum(of: Terms | None = None, masked: int = 1, asked: int = 1, survivors: Sequence[str] = NAMES) -> Opened:
    return Opened.of(of or terms(), bytes([masked] * 32), bytes([asked] * 32), survivors)


def test_the_same_opening_again_is_one_line_and_other_rounds_have_their_own(openings: Openings) -> None:
    others = [opened_sum(terms(round=2), 2, 2), opened_sum(terms(run="another"), 3, 3)]
    for one in (opened_sum(), opened_sum(), *others, opened_sum(), opened_sum(survivors=NAMES[::-1])):
        openings.note(one)
    assert len(openings.path.read_text().splitlines()) == 3
    assert openings.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("again", "reason"),
    [
        (opened_sum(survivors=NAMES[:4]), "in round 1 this hospital was told of other survivors"),
        (opened_sum(masked=2), "in round 1 this hospital has opened another sum"),
        (opened_sum(terms(NAMES[:5]), survivors=NAMES[:5]), "in round 1 this hospital has opened another sum"),
        # In another run or round: the update itself, or what the same request makes on another processor.
        (opened_sum(terms(run="another"), asked=2), "has opened a sum with the same update in another run or round"),
        (opened_sum(terms(run="another"), masked=2), "in another run or round, .* give another --seed"),
        (opened_sum(terms(round=2), asked=2), "in round 2 its update is bit for bit that of round 1, .* changes noth"),
    ],
)
def test_a_second_list_or_a_second_sum_of_a_round_or_an_update_is_refused_and_not_written_down(
    again: Opened, reason: str, openings: Openings
) -> None:
    openings.note(opened_sum())
    before = openings.path.read_bytes()
    for refused in (openings.refuse_known, openings.note):
        if refused == openings.refuse_known and (again.run, again.round) == ("run", 1):
            refused(again)  # it costs this round only
            continue
        with pytest.raises(Refusal, match=reason):
            refused(again)
    assert openings.path.read_bytes() == before
    Openings(openings.path.with_name("fresh")).note(again)  # or it was refused for something else


@pytest.mark.parametrize("damage", [b"{}\n", b'{"run": "run", "round": 1', b"[1]\n", b"\xff\n"])
def test_with_damaged_lines_nothing_is_opened(damage: bytes, openings: Openings) -> None:
    openings.note(opened_sum())
    with openings.path.open("ab") as stream:
        stream.write(damage)
    with pytest.raises(FedpolypError, match="line 2 of .* is damaged, so it is not known which sums have been opened"):
        openings.note(opened_sum(terms(round=2), 2, 2))
