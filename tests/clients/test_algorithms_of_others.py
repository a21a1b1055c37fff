"""A site imports no algorithm that a request names, unless its own site.toml names it, too, and never a scheme."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.site import hospital_at
from fedpolyp.algorithms.finding import BUILT_IN, FEDERATED
from fedpolyp.config import Config
from fedpolyp.errors import Refusal
from fedpolyp.sites.limits import Limits
from fedpolyp.sites.settings import SiteSettings
from tests.real_sites import make_sites, scoring, send, tiny, training

MODULE = "algorithm_named_in_a_request"
NAME = f"{MODULE}:Own"
CODE = "from fedpolyp.algorithms.fedprox import FedProx\n\n\nclass Own(FedProx):\n    pass\n"


@pytest.fixture(scope="module")
def oslo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sites(tmp_path_factory.mktemp("sites") / "deploy", sites=["oslo"]) / "oslo"


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop(MODULE, None)


def naming(algorithm: Any, extra: str = "") -> str:
    """A request's config with something else for its algorithm."""
    plain = json.loads(tiny().model_dump_json()) | {"algorithm": algorithm}
    return json.dumps(plain, separators=(",", ":"))[:-1] + extra + "}"


@pytest.mark.parametrize(
    "name", ["os:system", NAME, "tests.x:Y", "offered-by-a-package", "pooled", "local", 7, None, []]
)
def test_a_request_whose_algorithm_the_site_does_not_allow_is_refused_and_nothing_is_imported(
    oslo: Path, name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Config, "model_validate_json", lambda *_: pytest.fail("it was made a config of"))
    asked = training()
    with pytest.raises(Refusal, match="^this site allows the algorithms fedavg, fedprox, .*; the request asks for "):
        send(oslo, type(asked)(**{**asked.__dict__, "config": naming({"name": name})}))
    assert MODULE not in sys.modules and "tests.x" not in sys.modules


@pytest.mark.parametrize("algorithm", [7, [NAME], NAME, None])
def test_an_algorithm_that_is_no_table_is_no_config(oslo: Path, algorithm: Any) -> None:
    asked = training()
    with pytest.raises(Refusal, match="^the request's config is not valid$"):
        send(oslo, type(asked)(**{**asked.__dict__, "config": naming(algorithm)}))


@pytest.mark.parametrize(
    "extra", [f', "algorithm": {{"name": "{NAME}"}}', f', "algorithm": {{"name": "{NAME}", "name": "fedavg"}}']
)
def test_two_algorithms_in_one_config_get_none_past_the_site(oslo: Path, extra: str) -> None:
    asked, before = training(), set(sys.modules)
    for text in (naming({"name": "fedavg"}, extra), naming({"name": NAME}, ', "algorithm": {"name": "fedavg"}')):
        try:
            send(oslo, type(asked)(**{**asked.__dict__, "config": text}))
        except Refusal:
            continue
    assert MODULE not in set(sys.modules) - before


def test_a_config_that_is_nested_too_deeply_is_none(oslo: Path) -> None:
    asked = training()
    with pytest.raises(Refusal, match="^the request's config is not valid$"):
        send(oslo, type(asked)(**{**asked.__dict__, "config": "[" * 30_000}))


def test_an_algorithm_that_the_site_names_itself_is_imported_and_asked(oslo: Path, tmp_path: Path) -> None:
    folder = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    text = (folder / "site.toml").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("algorithms = ")]
    (folder / "site.toml").write_text(text.replace(line, f'algorithms = ["fedavg", "{NAME}"]'))
    asked = training()
    reply = send(folder, type(asked)(**{**asked.__dict__, "config": naming({"name": NAME, "mu": 0.1})}))
    assert reply.content.metric_records["metrics"]["images"] == 10 and MODULE in sys.modules
    with pytest.raises(Refusal, match=f"^this site cannot use the algorithm {NAME} as the request has it$"):
        send(folder, type(asked)(**{**asked.__dict__, "config": naming({"name": NAME, "mu": -1})}))
    with pytest.raises(
        Refusal, match=f"^this site allows the algorithms fedavg, {NAME}; the request asks for fedprox$"
    ):
        send(folder, training(config=tiny(algorithm__name="fedprox")))


def test_a_scheme_that_a_request_names_is_not_imported_because_a_site_has_its_own_images(oslo: Path) -> None:
    asked, plain = scoring(), json.loads(tiny().model_dump_json()) | {"hospitals": {"scheme": NAME, "share": 0.5}}
    asked = type(asked)(**{**asked.__dict__, "config": json.dumps(plain)})
    assert hospital_at(SiteSettings.load(oslo / "site.toml"), asked).config.hospitals.scheme == NAME
    assert MODULE not in sys.modules


def test_a_site_allows_the_built_in_federated_algorithms_and_its_settings_say_so(oslo: Path) -> None:
    assert SiteSettings.load(oslo / "site.toml").limits == Limits()
    assert set(Limits().algorithms) == set(FEDERATED) == set(BUILT_IN) - {"pooled", "local"}
    for name in FEDERATED:
        Limits().check(tiny(algorithm__name=name))
