from pathlib import Path

import pytest

from fedpolyp.config import load
from fedpolyp.data.source import open_source
from fedpolyp.errors import UsageError
from fedpolyp.experiment.comparison import (
    begun_in,
    jobs,
    parse_learning_rates,
    parse_rounds,
    prepare,
    runs_in,
)
from tests.tiny import tiny_config


def test_every_seed_has_every_arm_in_a_folder_named_after_both() -> None:
    found = jobs(Path("out"), tiny_config(), strategies=["fedavg", "fedprox"], seeds=2)
    folders = ["pooled/0", "local/0", "fedavg/0", "fedprox/0", "pooled/1", "local/1", "fedavg/1", "fedprox/1"]
    assert [str(job.run.path) for job in found] == [f"out/{folder}" for folder in folders]
    assert [job.name for job in found] == folders


def test_arms_differ_in_nothing_but_arm_and_strategy_and_rounds() -> None:
    base = tiny_config()
    for job in jobs(Path("out"), base, strategies=["fedprox"], rounds={"federated": 9}):
        config = job.config
        assert config.federation.rounds == (9 if config.arm == "federated" else 3)
        same = config.federation.model_copy(update={"strategy": "fedavg", "rounds": 3})
        assert config.model_copy(update={"arm": "federated", "federation": same}) == base


def test_seeds_change_the_training_and_not_the_deal(tmp_path: Path) -> None:
    found = jobs(tmp_path, tiny_config(seed=5), arms=["pooled"], seeds=3)
    assert [job.config.seed for job in found] == [5, 6, 7]
    assert [job.config.data_seed for job in found] == [5, 5, 5]
    prepare(found, open_source(found[0].config.data, 5))
    assert found[0].run.partition() == found[2].run.partition()
    assert len({job.run.fingerprint() for job in found}) == 3


def test_budgets_go_by_strategy_before_arm_before_the_base() -> None:
    budgets = {"federated": 9, "fedprox": 12}
    found = jobs(Path("out"), tiny_config(), strategies=["fedavg", "fedprox"], rounds=budgets)
    assert {job.config.arm_label: job.config.federation.rounds for job in found} == {
        "pooled": 3,
        "local": 3,
        "fedavg": 9,
        "fedprox": 12,
    }


def test_given_again_the_runs_are_those_of_before(tmp_path: Path) -> None:
    config = tiny_config()
    store = open_source(config.data, config.seed)
    for _ in range(2):
        prepare(jobs(tmp_path, config), store)
    assert [run.path.parent.name for run in runs_in(tmp_path)] == ["pooled", "local", "fedavg"]


def test_other_settings_are_refused_with_what_differs(tmp_path: Path) -> None:
    config = tiny_config()
    store = open_source(config.data, config.seed)
    prepare(jobs(tmp_path, config, arms=["pooled"]), store)
    with pytest.raises(UsageError) as refusal:
        prepare(jobs(tmp_path, tiny_config(training__batch_size=5), arms=["pooled"]), store)
    assert str(refusal.value) == (
        f"{tmp_path / 'pooled' / '0'} was made with other settings (training.batch_size 4 there, 5 here); give those "
        "again or choose another --out"
    )
    prepare(jobs(tmp_path, tiny_config(runtime__actors=7), arms=["pooled"]), store)


def test_another_deal_of_the_images_is_refused(tmp_path: Path) -> None:
    config = tiny_config()
    found = jobs(tmp_path, config, arms=["pooled"])
    prepare(found, open_source(config.data, config.seed))
    other = open_source(load(overrides={"data.image_size": 32, "data.phantom_images": 61}).data, 0)
    with pytest.raises(UsageError, match="another deal"):
        prepare(found, other)


@pytest.mark.parametrize(
    ("text", "rounds"),
    [
        ("40", {"": 40}),
        ("pooled=40,federated=120", {"pooled": 40, "federated": 120}),
        ("40, fedprox=7", {"": 40, "fedprox": 7}),
        ("fedprox = 7,40", {"": 40, "fedprox": 7}),
    ],
)
def test_rounds_are_read_for_all_or_by_arm(text: str, rounds: dict[str, int]) -> None:
    assert parse_rounds(text) == rounds


@pytest.mark.parametrize("text", ["", "0", "x", "pooled=", "pooled=0", "pooled=3,", "-4", "4.5"])
def test_rounds_that_are_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--rounds must be a number from 1 on"):
        parse_rounds(text)


def test_learning_rates_are_read_for_all_or_by_arm() -> None:
    assert parse_learning_rates("0.01") == {"": 0.01}
    rates = parse_learning_rates("pooled=1e-3, fedprox=0.002")
    found = jobs(Path("out"), tiny_config(), strategies=["fedavg", "fedprox"], learning_rates=rates)
    assert {job.config.arm_label: job.config.training.learning_rate for job in found} == {
        "pooled": 0.001,
        "local": 0.01,
        "fedavg": 0.01,
        "fedprox": 0.002,
    }


@pytest.mark.parametrize("text", ["", "0", "fast", "pooled=", "1.5", "nan", "pooled=0.1,federated=-1"])
def test_learning_rates_that_are_no_rates_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--learning-rate must be a number above 0 and up to 1"):
        parse_learning_rates(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"arms": ["pooled", "central"]},
            "--arms takes any of pooled, local, federated, each once; got pooled,central",
        ),
        ({"arms": []}, "--arms takes any of pooled, local, federated, each once; got nothing"),
        (
            {"strategies": ["fedavg", "fedavg"]},
            "--strategies takes any of fedavg, fedprox, each once; got fedavg,fedavg",
        ),
        (
            {"learning_rates": {"fedprox": 0.1}},
            "--learning-rate takes any of pooled, local, federated, fedavg, each once; got fedprox",
        ),
        ({"seeds": 0}, "--seeds must be at least 1; got 0"),
        (
            {"arms": ["pooled"], "rounds": {"local": 3}},
            "--rounds takes any of pooled, each once; got local",
        ),
        (
            {"arms": ["pooled"], "strategies": ["fedprox"]},
            "--strategies is about the federated arm, which is not among --arms pooled",
        ),
        (
            {"rounds": {"centre": 3}},
            "--rounds takes any of pooled, local, federated, fedavg, each once; got centre",
        ),
    ],
)
def test_what_is_not_an_arm_or_a_strategy_or_a_number_is_refused(settings: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(UsageError) as refusal:
        jobs(Path("out"), tiny_config(), **settings)
    assert str(refusal.value) == message


def test_a_folder_without_runs_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no comparison"):
        runs_in(tmp_path)


def test_a_comparison_that_has_runs_tells_what_it_was_begun_with(tmp_path: Path) -> None:
    config = tiny_config(training__precision="mixed_bfloat16")
    assert begun_in(tmp_path / "nowhere") is None
    prepare(jobs(tmp_path, config, arms=["local"]), open_source(config.data, config.seed))
    begun = begun_in(tmp_path)
    assert begun is not None and begun.training == config.training


def test_another_deal_beside_the_runs_of_a_comparison_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    first, other = tiny_config(), tiny_config(seed=1)
    prepare(jobs(tmp_path, first, arms=["pooled"]), open_source(first.data, 0))
    with pytest.raises(UsageError, match=r"pooled/0 was made with another deal .*--data-seed 0"):
        prepare(jobs(tmp_path, other), open_source(other.data, 1))
    assert len(runs_in(tmp_path)) == 1
    same_deal = tiny_config(seed=1, data__seed=0)
    prepare(jobs(tmp_path, same_deal), open_source(same_deal.data, 0))
    assert len(runs_in(tmp_path)) == 4


@pytest.mark.parametrize("text", ["pooled=3,pooled=4", "3,4", "pooled=3,5, pooled=3"])
def test_two_numbers_for_one_arm_are_refused(text: str) -> None:
    for parse, option in ((parse_rounds, "--rounds"), (parse_learning_rates, "--learning-rate")):
        with pytest.raises(UsageError, match=f"^{option} gives (pooled|all arms) two numbers; got '{text}'$"):
            parse(text)


def test_a_number_for_all_arms_is_for_those_that_have_none_of_their_own(tmp_path: Path) -> None:
    found = jobs(tmp_path, tiny_config(), rounds=parse_rounds("local=3,40,fedavg=7"))
    assert {job.config.arm_label: job.config.federation.rounds for job in found} == {
        "pooled": 40,
        "local": 3,
        "fedavg": 7,
    }


def test_images_that_changed_between_two_arms_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPOLYP_STORES", str(tmp_path / "stores"))
    config = tiny_config()
    store = open_source(config.data, config.seed)
    prepare(jobs(tmp_path / "c", config, arms=["pooled"]), store)
    content = bytearray((store.path / "masks.npy").read_bytes())
    content[-1] ^= 1
    (store.path / "masks.npy").write_bytes(content)
    changed = open_source(config.data, config.seed)
    with pytest.raises(UsageError, match="cannot go on: its masks are no longer those that it began with"):
        prepare(jobs(tmp_path / "c", config), changed)
    assert len(runs_in(tmp_path / "c")) == 1


def test_a_comparison_goes_on_where_its_images_were_moved_to(tmp_path: Path) -> None:
    config = tiny_config()
    store = open_source(config.data, config.seed)
    prepare(jobs(tmp_path, config, arms=["pooled"]), store)
    moved = config.model_copy(update={"data": config.data.model_copy(update={"source": "/elsewhere"})})
    found = jobs(tmp_path, moved, arms=["pooled"])
    prepare(found, store)
    assert found[0].run.config().data.source == "/elsewhere"
