"""Names, hosts and ports in site.toml and coordinator.toml are refused in one sentence, which prints and is short."""

from pathlib import Path
from typing import Any

import pytest

from fedpolyp.errors import UsageError
from fedpolyp.sites.folders import make_federation
from fedpolyp.sites.names import check_names
from fedpolyp.sites.settings import CoordinatorSettings, SiteSettings

NO_NAMES = [
    "",
    "Oslo",
    "a/b",
    "../b",
    "..",
    "a b",
    "a\nb",
    "a\x1b[2J",
    "a\0",
    "\ud800",
    "ø",
    "-a",
    "a" * 64,
    "a" * 10**6,
]


def refused(load: Any) -> str:
    with pytest.raises(UsageError) as raised:
        load()
    said = str(raised.value)
    assert said.isprintable() and len(said) < 1000
    return said


@pytest.mark.parametrize("declared", ["declared_units", "declared_test_units"])
def test_a_budget_at_a_delta_that_would_allow_to_publish_a_unit_is_refused(declared: str) -> None:
    def load(delta: float) -> SiteSettings:
        own = {"folder": Path("/opt"), "name": "oslo", "coordinator": "localhost:9443", declared: 2000}
        return SiteSettings.of(own | {"limits": {"epsilon": 8.0, "delta": delta}}, Path("site.toml"))

    assert refused(lambda: load(1e-3)).startswith("site.toml: [limits] delta must be below one over the 2000 declared")
    assert load(1e-4).limits.delta == 1e-4


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    make_federation(tmp_path / "deploy", "localhost", 9443, ["oslo", "bergen"])
    return tmp_path / "deploy"


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_is_none_is_refused_wherever_it_stands(name: str) -> None:
    file, folder = Path("site.toml"), Path("/opt")
    own = {"folder": folder, "name": name, "coordinator": "localhost:9443"}
    all_ = {"folder": folder, "host": "localhost", "sites": ["bergen", name]}
    for load in (
        lambda: SiteSettings.of(own, file),
        lambda: CoordinatorSettings.of(all_, file),
        lambda: check_names([name]),
    ):
        said = refused(load)
        known = ("a site's name has lower-case letters, digits and hyphens", "control characters", "4096 characters")
        assert any(reason in said for reason in known)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("port = 0", "port: Input should be greater than or equal to 1; got 0"),
        ("port = -1", "port: Input should be greater than or equal to 1; got -1"),
        ("port = 70000", "port: Input should be less than or equal to 65535; got 70000"),
        ('port = "9443"', "port: Input should be a valid integer; got '9443'"),
        ("port = true", "port: Input should be a valid integer; got True"),
        ("port = 9443.0", "port: Input should be a valid integer; got 9443.0"),
        (f'port = "{"9" * 10**4}"', "port: Input should be a valid integer; got '999"),
        ("port = 18080", "port and control_port must differ; both are 18080"),
        ("control_port = 99999999999", "control_port: Input should be less than or equal to 65535"),
        ("reply_megabytes = 0", "reply_megabytes: Input should be greater than or equal to 1"),
        ('host = "a:9443"', "host takes a host name or an IP address without a port; got 'a:9443'"),
        ('host = "a\\nb"', r"host must not have control characters; got 'a\nb'"),
        ('host = "a;b"', "host takes a host name or an IP address"),
        ("sites = []", "each site must be named once; got ''"),
        ('sites = ["oslo", "oslo"]', "each site must be named once; got 'oslo,oslo'"),
        ('sites = ["coordinator"]', "no site can be called authority, coordinator or refused"),
        ('runs = "a\\u0007"', r"runs must not have control characters; got 'a\x07'"),
        (f'runs = "{"a" * 5000}"', "runs may have 4096 characters; it has 5000"),
    ],
)
def test_a_setting_of_the_coordinator_that_is_none_is_one_sentence(deploy: Path, line: str, why: str) -> None:
    file = deploy / "coordinator" / "coordinator.toml"
    name = line.split()[0]
    kept = [known for known in file.read_text().splitlines() if not known.startswith(f"{name} =")]
    file.write_text("\n".join([line, *kept]))
    assert why in refused(lambda: CoordinatorSettings.load(deploy / "coordinator"))


def test_images_that_are_registered_for_nobody_are_refused(deploy: Path) -> None:
    file = deploy / "coordinator" / "coordinator.toml"
    file.write_text(file.read_text() + "[images]\noslow = 900\n")
    said = refused(lambda: CoordinatorSettings.load(deploy / "coordinator"))
    assert said.endswith("[images] names 'oslow', which is not among the sites")
