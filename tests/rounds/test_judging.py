"""An update far beyond the others of its round does not count; an honest one does, however large its hospital."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest

from fedpolyp.aggregation.aggregate import Update
from fedpolyp.rounds.image_counts import ImageCounts
from fedpolyp.rounds.judging import HELD, comparable


def update(
    change: float = 0.1,
    steps: int = 10,
    images: int = 40,
    statistics: float = 0.5,
    moment: float = 1e-4,
    control: float = 0.01,
) -> Update:
    changes = {
        "model": {
            "kernel": np.full(100, change, np.float32),
            "norm/moving_variance": np.full(4, statistics, np.float32),
        },
        "optimizer": {
            "iterations": np.array(steps),
            "m/kernel": np.full(100, moment**0.5, np.float32),
            "v/kernel": np.full(100, moment, np.float32),
        },
        "control": {"kernel": np.full(100, control, np.float32)},
    }
    return Update("", changes, float(images), images, 0.5, steps)


def judged(updates: Mapping[str, Update], counts: ImageCounts | None = None) -> tuple[list[str], dict[str, str]]:
    """The hospitals taken, in their order, and those refused with the reason."""
    refused: dict[str, str] = {}
    named = (replace(update, hospital=name) for name, update in updates.items())
    taken = comparable(named, 10.0, counts or ImageCounts(), refused.__setitem__)
    return [update.hospital for update in taken], refused


@pytest.mark.parametrize(
    ("strange", "group"),
    [
        (update(change=1e6), "weights"),
        (update(change=1.1), "weights"),
        (update(statistics=1e5), "statistics"),
        (update(moment=10.0), "first moments"),
        (update(control=2.0), "control"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2, 8, 12])
def test_an_update_far_beyond_the_median_of_its_round_is_refused(strange: Update, group: str, place: int) -> None:
    names = [f"h{number:02d}" for number in range(3 if place < 3 else 14)]
    taken, refused = judged({name: strange if at == place else update() for at, name in enumerate(names)})
    assert taken == [name for at, name in enumerate(names) if at != place]
    assert list(refused) == [names[place]] and refused[names[place]].startswith(f"its {group} changed ")


def test_a_hospitals_first_control_variate_among_small_changes_of_others_is_taken() -> None:
    first = update(control=0.5)  # all of it, fifty times what the others' have changed by
    assert judged({"a": update(), "b": first, "c": update()}) == (["a", "b", "c"], {})


def test_four_liars_of_nine_do_not_move_the_median() -> None:
    names = [f"h{number}" for number in range(HELD)]
    taken, refused = judged({name: update(change=1e8) if at < 4 else update() for at, name in enumerate(names)})
    assert taken == names[4:] and list(refused) == names[:4]


def test_a_hospital_twenty_times_the_size_of_the_others_is_taken() -> None:
    large = update(change=0.1 * 20, steps=10 * 20, images=40 * 20, statistics=0.5 * 20, moment=1e-4 * 20, control=0.1)
    assert judged({"a": update(), "b": large, "c": update(), "d": update()}) == (["a", "b", "c", "d"], {})


def test_a_small_hospital_among_large_ones_is_taken() -> None:
    small = update(change=0.001, steps=1, images=2, statistics=0.001, moment=1e-8, control=0.0)
    assert judged({"a": update(), "b": small, "c": update()}) == (["a", "b", "c"], {})


def test_of_two_nobody_can_tell_which_is_strange() -> None:
    assert judged({"a": update(), "b": update(change=1e6)}) == (["a", "b"], {})


def test_a_round_in_which_nothing_moved_refuses_nobody() -> None:
    still = update(change=0.0, statistics=0.0, moment=0.0, control=0.0)
    assert judged({"a": still, "b": still, "c": update()}) == (["a", "b", "c"], {})


def test_a_number_of_images_that_nobody_vouches_for_does_not_own_the_average() -> None:
    claims = {"a": update(), "b": update(images=90_000, steps=22_500), "c": update()}
    taken, refused = judged(claims)
    assert taken == ["a", "c"] and "coordinator.toml, under [images]" in refused["b"]
    assert judged(claims, ImageCounts(registered={"b": 90_000}))[0] == ["a", "b", "c"]


def test_replies_stream_once_the_first_have_been_compared() -> None:
    seen: list[str] = []

    def arriving() -> Iterator[Update]:
        for number in range(20):
            seen.append(f"h{number:02d}")
            yield replace(update(), hospital=seen[-1])

    taken = comparable(arriving(), 10.0, ImageCounts(), lambda *why: None)
    assert [next(taken).hospital, len(seen)] == ["h00", HELD]
    assert [[one.hospital for one in taken][-1], len(seen)] == ["h19", 20]


def test_noise_of_a_hospital_with_few_units_is_no_reason_to_refuse_it_and_more_noise_is() -> None:
    def noisy(units: int, times: float = 1.0) -> Update:
        noise = times * 3.0 * np.random.default_rng(units).standard_normal(500) / units
        return Update("", {"model": {"kernel": noise.astype(np.float32)}}, float(units), units, None, 1, 5.0)

    federation = {"few": noisy(10), "many": noisy(400), "more": noisy(500), "most": noisy(600)}
    assert judged(federation) == (["few", "many", "more", "most"], {})
    _, refused = judged(federation | {"most": noisy(600, 20.0)})
    assert refused.keys() == {"most"} and refused["most"].startswith("its weights changed ")
