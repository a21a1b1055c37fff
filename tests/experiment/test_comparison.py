from pathlib import Path

import pytest

from fedpolyp.algorithms.finding import BUILT_IN
from fedpolyp.config import load
from fedpolyp.data.partition.given import noted_partition
from fedpolyp.data.source import open_source
from fedpolyp.errors import UsageError
from fedpolyp.experiment.comparison import (
    ARMS,
    Arm,
    begun_in,
    jobs,
    named_arms,
    parse_arm,
    parse_learning_rates,
    parse_rounds,
    prepare,
    runs_in,
)
from tests.tiny import tiny_config

USUAL = named_arms(ARMS)
PROX = named_arms([*ARMS, "fedprox"])
POOLED = named_arms(["pooled"])


def test_every_seed_has_every_arm_in_a_folder_named_after_both() -> None:
    found = jobs(Path("out"), tiny_config(), arms=PROX, seeds=2)
    folders = ["pooled/0", "local/0", "fedavg/0", "fedprox/0", "pooled/1", "local/1", "fedavg/1", "fedprox/1"]
    assert [str(job.run.path) for job in found] == [f"out/{folder}" for folder in folders]
    assert [job.name for job in found] == folders


def test_arms_differ_in_nothing_but_algorithm_and_rounds() -> None:
    base = tiny_config()
    arms = named_arms(list(BUILT_IN))
    found = jobs(Path("out"), base, arms=arms, rounds={"scaffold": 9})
    assert [job.config.algorithm.name for job in found] == list(BUILT_IN)
    for job in found:
        config = job.config
        assert config.federation.rounds == (9 if config.algorithm.name == "scaffold" else 3)
        same = config.federation.model_copy(update={"rounds": 3})
        assert config.model_copy(update={"algorithm": base.algorithm, "federation": same}) == base


def test_two_values_of_a_setting_are_two_arms_of_one_algorithm() -> None:
    arms = [parse_arm("near: algorithm=fedprox mu=0.1"), parse_arm("far: algorithm=fedprox mu=1.0")]
    found = jobs(Path("out"), tiny_config(), arms=[*POOLED, *arms], seeds=2)
    assert [job.name for job in found] == ["pooled/0", "near/0", "far/0", "pooled/1", "near/1", "far/1"]
    assert [(job.config.label, job.config.algorithm.own["mu"]) for job in found[1:3]] == [("near", 0.1), ("far", 1.0)]
    assert found[1].config.model_copy(update={"algorithm": found[2].config.algorithm, "arm_label": "far"}) == (
        found[2].config
    )


def test_an_arm_with_settings_of_its_own_keeps_them_whatever_is_given_to_all() -> None:
    arm = parse_arm("slow: federation.rounds=7 training.learning_rate=0.002 training.optimizer=sgd")
    found = jobs(Path("out"), tiny_config(), arms=[*POOLED, arm], rounds={"": 5}, learning_rates={"": 0.1})
    assert [job.config.federation.rounds for job in found] == [5, 7]
    assert [job.config.training.learning_rate for job in found] == [0.1, 0.002]
    assert [job.config.training.optimizer for job in found] == ["adam", "sgd"]
    named = jobs(Path("out"), tiny_config(), arms=[*POOLED, arm], rounds={"slow": 9, "": 5})
    assert [job.config.federation.rounds for job in named] == [5, 9]


def test_the_algorithms_settings_in_the_config_are_those_of_its_own_arm_alone() -> None:
    base = tiny_config(algorithm__name="fedprox", algorithm__mu=0.5)
    found = jobs(Path("out"), base, arms=[*PROX, Arm("other", {"algorithm.mu": 0.7})])
    settings = {job.config.label: job.config.algorithm.model_dump() for job in found}
    assert settings == {
        "pooled": {"name": "pooled"},
        "local": {"name": "local"},
        "fedavg": {"name": "fedavg"},
        "fedprox": {"name": "fedprox", "mu": 0.5},
        "other": {"name": "fedprox", "mu": 0.7},
    }


def test_an_arm_of_an_algorithm_elsewhere_is_called_after_its_class() -> None:
    (arm,) = named_arms(["fedpolyp.algorithms.scaffold:Scaffold"])
    (job,) = jobs(Path("out"), tiny_config(), arms=[arm])
    assert job.name == "scaffold/0" and job.config.arm_label is None
    assert job.config.algorithm.name == "fedpolyp.algorithms.scaffold:Scaffold"


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("far: algorithm=fedprox mu=0.1", {"algorithm.name": "fedprox", "algorithm.mu": 0.1}),
        ("far:mu=1", {"algorithm.mu": 1}),
        (" a.b-c_2 : training.optimizer=sgd training.augment=false", {"training.optimizer": "sgd"}),
        ("far: 'federation.slow=hospital 2=3'", {"federation.slow": "hospital 2=3"}),
        ("far: algorithm=my.module:Own", {"algorithm.name": "my.module:Own"}),
    ],
)
def test_an_arm_is_read_out_of_its_label_and_settings(text: str, settings: dict[str, object]) -> None:
    arm = parse_arm(text)
    assert arm.label == text.split(":")[0].strip()
    assert settings.items() <= arm.settings.items()


LIKE = "with a label like fedavg-muon: lower-case letters, digits, dots and hyphens, 40 at most"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", f"--arm takes 'LABEL: setting=value …', {LIKE}; got ''"),
        ("far", f"--arm takes 'LABEL: setting=value …', {LIKE}; got 'far'"),
        ("far:", f"--arm takes 'LABEL: setting=value …', {LIKE}; got 'far:'"),
        (": mu=1", f"--arm takes 'LABEL: setting=value …', {LIKE}; got ': mu=1'"),
        ("Far: mu=1", f"--arm takes 'LABEL: setting=value …', {LIKE}; got 'Far: mu=1'"),
        ("../far: mu=1", f"--arm takes 'LABEL: setting=value …', {LIKE}; got '../far: mu=1'"),
        (f"{'x' * 41}: mu=1", f"--arm takes 'LABEL: setting=value …', {LIKE}; got '{'x' * 41}: mu=1'"),
        ("far: mu", "--arm takes 'LABEL: setting=value …'; got 'mu' in 'far: mu'"),
        ("far: mu = 1", "--arm takes 'LABEL: setting=value …'; got 'mu' in 'far: mu = 1'"),
        ("far: mu='1", "--arm takes 'LABEL: setting=value …'; got 'far: mu='1': No closing quotation"),
        ("far: mu=1 mu=2", "--arm gives mu twice in 'far: mu=1 mu=2'"),
        ("far: mu=1 algorithm.mu=2", "--arm gives algorithm.mu twice in 'far: mu=1 algorithm.mu=2'"),
        (
            "far: seed=3 data.image_size=64 hospitals.count=2 runtime.actors=1",
            "all arms have the same images, hospitals, seeds and machine; the arm far cannot set data.image_size, "
            "hospitals.count, runtime.actors, seed",
        ),
        ("figures: mu=1", "no arm can be called 'figures': a comparison has something else of that name"),
    ],
)
def test_what_is_no_arm_is_refused_with_what_was_received(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_arm(text)
    assert str(refusal.value) == said


@pytest.mark.parametrize(
    ("label", "settings"),
    [("far", {"data.image_size": 64}), ("far", {"seed": 3}), ("tables", {"algorithm.name": "fedavg"})],
)
def test_an_arm_that_is_made_in_python_shares_what_all_arms_share(label: str, settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="all arms have the same images|no arm can be called 'tables'"):
        Arm(label, settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("far: mu=1", "the arm far: algorithm.mu is not a setting ('fedpolyp config' lists them)"),
        (
            "far: algorithm=fedprox mu=-1",
            "the arm far: algorithm.mu must be greater than or equal to 0; got -1",
        ),
        (
            "pooled: algorithm=fedprox",
            "the arm pooled: arm_label 'pooled' is the name of another algorithm than the arm's, fedprox; choose "
            "another label",
        ),
        ("far: training.nope=1", "the arm far: training.nope is not a setting ('fedpolyp config' lists them)"),
    ],
)
def test_an_arm_that_no_run_can_have_is_refused_by_its_label(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        jobs(Path("out"), tiny_config(), arms=[parse_arm(text)])
    assert str(refusal.value) == said


def test_seeds_change_the_training_and_not_the_partition(tmp_path: Path) -> None:
    found = jobs(tmp_path, tiny_config(seed=5), arms=POOLED, seeds=3)
    assert [job.config.seed for job in found] == [5, 6, 7]
    assert [job.config.data_seed for job in found] == [5, 5, 5]
    prepare(found, open_source(found[0].config.data, 5))
    assert found[0].run.partition() == found[2].run.partition()
    assert len({job.run.fingerprint() for job in found}) == 3


def test_a_number_of_rounds_that_names_an_arm_is_that_arms_alone() -> None:
    budgets = parse_rounds("fedavg=9,fedprox=12")
    found = jobs(Path("out"), tiny_config(), arms=PROX, rounds=budgets)
    assert {job.config.label: job.config.federation.rounds for job in found} == {
        "pooled": 3,
        "local": 3,
        "fedavg": 9,
        "fedprox": 12,
    }


def test_given_again_the_runs_are_those_of_before(tmp_path: Path) -> None:
    config = tiny_config()
    store = open_source(config.data, config.seed)
    for _ in range(2):
        prepare(jobs(tmp_path, config, arms=USUAL), store)
    assert [run.path.parent.name for run in runs_in(tmp_path)] == ["pooled", "local", "fedavg"]


def test_runs_are_of_as_many_hospitals_as_the_partition_has_and_go_on_from_a_partition_that_was_moved(
    tmp_path: Path,
) -> None:
    config = tiny_config(hospitals__scheme="source")
    store = open_source(config.data, config.seed)
    for _ in range(2):
        found = prepare(jobs(tmp_path / "looks", config, arms=POOLED), store)
    assert [job.config.hospitals.count for job in found] == [5]  # the phantom's looks
    assert found[0].run.config().hospitals.count == 5
    for place in ("there", "here"):
        found[0].run.partition().save(tmp_path / place)
        given = noted_partition(tiny_config(hospitals__partition=str(tmp_path / place)))
        again = prepare(jobs(tmp_path / "given", given, arms=POOLED), store)
        assert again[0].run.partition() == found[0].run.partition()


def test_other_settings_are_refused_with_what_differs(tmp_path: Path) -> None:
    config = tiny_config()
    store = open_source(config.data, config.seed)
    prepare(jobs(tmp_path, config, arms=POOLED), store)
    with pytest.raises(UsageError) as refusal:
        prepare(jobs(tmp_path, tiny_config(training__batch_size=5), arms=POOLED), store)
    assert str(refusal.value) == (
        f"{tmp_path / 'pooled' / '0'} was made with other settings (training.batch_size 4 there, 5 here); give those "
        "again or choose another --out"
    )
    prepare(jobs(tmp_path, tiny_config(runtime__actors=7), arms=POOLED), store)


def test_another_partition_of_the_images_is_refused(tmp_path: Path) -> None:
    config = tiny_config()
    found = jobs(tmp_path, config, arms=POOLED)
    prepare(found, open_source(config.data, config.seed))
    other = open_source(load(overrides={"data.image_size": 32, "data.phantom_images": 61}).data, 0)
    with pytest.raises(UsageError, match="another partition"):
        prepare(found, other)


@pytest.mark.parametrize(
    ("text", "rounds"),
    [
        ("40", {"": 40}),
        ("pooled=40,fedavg=120", {"pooled": 40, "fedavg": 120}),
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
    found = jobs(Path("out"), tiny_config(), arms=PROX, learning_rates=rates)
    assert {job.config.label: job.config.training.learning_rate for job in found} == {
        "pooled": 0.001,
        "local": 0.005,
        "fedavg": 0.005,
        "fedprox": 0.002,
    }


@pytest.mark.parametrize("text", ["", "0", "fast", "pooled=", "1.5", "nan", "pooled=0.1,fedavg=-1"])
def test_learning_rates_that_are_no_rates_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--learning-rate must be a number above 0 and up to 1"):
        parse_learning_rates(text)


EVERY = (
    "pooled, local, fedavg, fedprox, fedavgm, fedadagrad, fedadam, fedyogi, scaffold, fedbn, finetune, median, "
    "trimmed-mean, krum, multi-krum, cyclic"
)


@pytest.mark.parametrize("names", [["pooled", "central"], [], ["fedavg", "fedavg"]])
def test_what_is_no_algorithm_is_refused_with_those_that_are(names: list[str]) -> None:
    with pytest.raises(UsageError) as refusal:
        named_arms(names)
    assert str(refusal.value) == f"--arms takes any of {EVERY}, each once; got {','.join(names) or 'nothing'}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arms": []}, "a comparison needs an arm: --arms, or --arm"),
        ({"arms": [*USUAL, Arm("local", {"algorithm.name": "fedavg"})]}, "two arms are called 'local': give one"),
        ({"learning_rates": {"fedprox": 0.1}}, "--learning-rate names fedprox; the arms are pooled, local, fedavg"),
        ({"seeds": 0}, "--seeds must be at least 1; got 0"),
        ({"arms": POOLED, "rounds": {"local": 3}}, "--rounds names local; the arms are pooled"),
        ({"rounds": {"centre": 3, "fedavg": 2}}, "--rounds names centre; the arms are pooled, local, fedavg"),
    ],
)
def test_what_is_not_an_arm_or_a_number_is_refused(settings: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(UsageError) as refusal:
        jobs(Path("out"), tiny_config(), **{"arms": USUAL} | settings)
    assert str(refusal.value).startswith(message)


def test_a_folder_without_runs_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no comparison"):
        runs_in(tmp_path)


def test_a_comparison_that_has_runs_tells_what_it_was_begun_with(tmp_path: Path) -> None:
    config = tiny_config(training__precision="mixed_bfloat16")
    assert begun_in(tmp_path / "nowhere") is None
    prepare(jobs(tmp_path, config, arms=named_arms(["local"])), open_source(config.data, config.seed))
    begun = begun_in(tmp_path)
    assert begun is not None and begun.training == config.training


def test_another_partition_beside_the_runs_of_a_comparison_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    first, other = tiny_config(), tiny_config(seed=1)
    prepare(jobs(tmp_path, first, arms=POOLED), open_source(first.data, 0))
    with pytest.raises(UsageError, match=r"pooled/0 was made with another partition .*--data-seed 0"):
        prepare(jobs(tmp_path, other, arms=USUAL), open_source(other.data, 1))
    assert len(runs_in(tmp_path)) == 1
    same_partition = tiny_config(seed=1, data__seed=0)
    prepare(jobs(tmp_path, same_partition, arms=USUAL), open_source(same_partition.data, 0))
    assert len(runs_in(tmp_path)) == 4


@pytest.mark.parametrize(
    ("settings", "arm", "said"),
    [
        ({}, "krum", "^the arm krum, seed 0: the algorithm krum with these settings needs 5 hospitals in a"),
        ({"federation__liars": "oslo"}, "fedavg", "^the arm fedavg, seed 0: federation.liars names oslo"),
    ],
)
def test_an_arm_whose_runs_would_stop_is_refused_before_another_is_carried_out(
    tmp_path: Path, settings: dict[str, str], arm: str, said: str
) -> None:
    config = tiny_config(**settings)
    with pytest.raises(UsageError, match=said):
        prepare(jobs(tmp_path, config, arms=named_arms([arm, "median"])), open_source(config.data, 0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["pooled=3,pooled=4", "3,4", "pooled=3,5, pooled=3"])
def test_two_numbers_for_one_arm_are_refused(text: str) -> None:
    for parse, option in ((parse_rounds, "--rounds"), (parse_learning_rates, "--learning-rate")):
        with pytest.raises(UsageError, match=f"^{option} gives (pooled|all arms) two numbers; got '{text}'$"):
            parse(text)


def test_a_number_for_all_arms_is_for_those_that_have_none_of_their_own(tmp_path: Path) -> None:
    found = jobs(tmp_path, tiny_config(), arms=USUAL, rounds=parse_rounds("local=3,40,fedavg=7"))
    assert {job.config.label: job.config.federation.rounds for job in found} == {
        "pooled": 40,
        "local": 3,
        "fedavg": 7,
    }


def test_images_that_changed_between_two_arms_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPOLYP_STORES", str(tmp_path / "stores"))
    config = tiny_config()
    store = open_source(config.data, config.seed)
    prepare(jobs(tmp_path / "c", config, arms=POOLED), store)
    content = bytearray((store.path / "masks.npy").read_bytes())
    content[-1] ^= 1
    (store.path / "masks.npy").write_bytes(content)
    changed = open_source(config.data, config.seed)
    with pytest.raises(UsageError, match="cannot be resumed: its masks have changed since it began"):
        prepare(jobs(tmp_path / "c", config, arms=USUAL), changed)
    assert len(runs_in(tmp_path / "c")) == 1


def test_a_comparison_goes_on_where_its_images_were_moved_to(tmp_path: Path) -> None:
    config = tiny_config()
    store = open_source(config.data, config.seed)
    prepare(jobs(tmp_path, config, arms=POOLED), store)
    moved = config.model_copy(update={"data": config.data.model_copy(update={"source": "/elsewhere"})})
    found = jobs(tmp_path, moved, arms=POOLED)
    prepare(found, store)
    assert found[0].run.config().data.source == "/elsewhere"
