"""The settings of a site and of the coordinator: site.toml and coordinator.toml, and what a site allows."""

import ipaddress
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedpolyp.algorithms.finding import FEDERATED
from fedpolyp.config import (
    CHECKED,
    ENCODERS,
    NAMED_WEIGHTS,
    PHANTOM,
    Config,
    Encoder,
    GroupBy,
    LesionValues,
    Masks,
    PrivacyConfig,
)
from fedpolyp.errors import Refusal, UsageError
from fedpolyp.files import read_toml
from fedpolyp.planning import trainer_bytes
from fedpolyp.privacy.keeper import LEDGER, SECRET, Keeper
from fedpolyp.privacy.ledger import Ledger, Limit
from fedpolyp.privacy.noise import site_secret
from fedpolyp.text import printable

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_LONGEST_PATH = 4096
_SAID = 100  # characters of what was received instead
_UNITS = ("image", "group", "patient")  # of a guarantee, each protects at least as much as those before it
_TAKEN = ("authority", "coordinator", "refused")  # the other folders of a federation, and nginx's own socket


class Table(BaseModel):
    """A table of a TOML file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="after")
    def _written(self) -> Self:
        for name in type(self).model_fields:
            if not isinstance(value := getattr(self, name), (str, Path)):
                continue
            if any(unicodedata.category(char) in ("Cc", "Cs") for char in str(value)):
                raise ValueError(f"{name} must not have control characters; got '{printable(value, _SAID)}'")
            if len(str(value)) > _LONGEST_PATH:
                raise ValueError(f"{name} may have {_LONGEST_PATH} characters; it has {len(str(value))}")
        return self

    @classmethod
    def of(cls, plain: Mapping[str, Any], file: Path) -> Self:
        """The table with the content `plain` of `file`.

        Raises:
            UsageError: a value is missing, unknown or out of bounds.
        """
        try:
            return cls.model_validate(plain)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "value_error":
                raise UsageError(f"{file}: {problem['ctx']['error']}") from None
            raise UsageError(
                f"{file}: {where}: {problem['msg']}; got {printable(repr(problem['input']), 200)}"
            ) from None


class Limits(Table):
    """The most that the coordinator may ask for; a request for more is refused."""

    local_epochs: int = Field(10, ge=1, description="passes over the training images in one round")
    steps: int = Field(20_000, ge=1, description="training steps in one round")
    batch_size: int = Field(64, ge=1, description="images in one step")
    image_size: int = Field(512, ge=32, description="side of the images, pixels")
    base_filters: int = Field(64, ge=1, description="filters of the U-Net's first block")
    threads: int = Field(16, ge=1, description="threads of a training")
    memory: float = Field(32.0, gt=0, description="estimated GB of a training")
    epsilon: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="privacy that all runs together may spend; training and scores without privacy are then refused",
    )
    delta: float = Field(1e-3, gt=0, lt=1, description="delta for which this epsilon is computed")
    unit: Literal["group", "image", "patient"] = Field(
        "group",
        description="the least that a guarantee must protect: an image, a group of near-duplicates (and of group_by), "
        "or a patient, which must be known for each image",
    )
    secure_sums: bool = Field(
        False, description="true: training without secure sums is refused, so no single update leaves"
    )
    secure_least: int = Field(3, ge=2, le=1000, description="fewest sites in a secure sum that this site takes part in")
    colluders: int = Field(
        1, ge=0, le=998, description="so many of them may help the coordinator; requests must allow for as many"
    )
    encoders: tuple[Encoder, ...] = Field(ENCODERS, description="encoders of the U-Net")
    algorithms: tuple[str, ...] = Field(
        FEDERATED, description="algorithms; one that is not built in is imported by the name given here"
    )

    def check(self, config: Config, trains: bool = True) -> None:
        """Refuse `config`, which came with a request, if it asks for more than is allowed or names a path.

        A request that does not train sends no update, so it may come without secure sums.

        Raises:
            Refusal: it does.
        """
        self.check_algorithm(config.algorithm.name)
        if config.data.source != PHANTOM or config.data.lists is not None:
            raise Refusal("a request must not name a folder: a site's images are where the site says")
        if config.hospitals.partition is not None or config.hospitals.own.get("csv") is not None:
            raise Refusal("a request must not name a file: a site splits its own images")
        if config.model.encoder_weights not in NAMED_WEIGHTS:
            raise Refusal("a request must not name a file: the weights of an encoder come with the request")
        if config.model.initial_weights is not None:
            raise Refusal("a request must not name a file: the initial weights come with the request")
        if simulated := config.federation.simulated_only:
            raise Refusal(
                f"{', '.join(simulated)} is for simulations: a real site does not pretend to be absent, slow or lying"
            )
        self._check_secure_sums(config.privacy, trains)
        if self.epsilon is not None and not config.privacy.on:
            raise Refusal(
                "this site trains only with privacy ([privacy] mode local or joint); the request asks for none"
            )
        if self.epsilon is not None:
            self._check_unit(config.privacy.unit)
        if config.model.encoder not in self.encoders:
            allowed = ", ".join(self.encoders)
            raise Refusal(f"this site allows the encoders {allowed}; the request asks for {config.model.encoder}")
        asked: dict[str, float] = {
            "local_epochs": max(config.training.local_epochs, _own_epochs(config)),
            "batch_size": config.training.batch_size,
            "image_size": config.data.image_size,
            "base_filters": config.model.base_filters,
            "threads": config.training.threads,
            "memory": round(trainer_bytes(config) / 1e9, 1),
        }
        for name, value in asked.items():
            if value > getattr(self, name):
                raise Refusal(f"this site allows {name} up to {getattr(self, name)}; the request asks for {value}")

    def _check_unit(self, asked: str) -> None:
        """Refuse a guarantee for smaller units than this site protects.

        With the limit 'group', 'patient' is no less: a hospital agrees to it only if each group is one patient. The
        reverse does not hold: images whose patient is not known are groups of their own.
        """
        protected = {"image": "single images", "group": "groups of images", "patient": "patients"}
        if _UNITS.index(asked) < _UNITS.index(self.unit):
            raise Refusal(f"this site protects {protected[self.unit]}; the request protects only {protected[asked]}")

    def _check_secure_sums(self, privacy: PrivacyConfig, trains: bool) -> None:
        if not privacy.secure_sums:
            if self.secure_sums and trains:
                raise Refusal("this site sends its updates only in secure sums; the request asks for none")
            return
        for name, least in (("secure_least", self.secure_least), ("colluders", self.colluders)):
            if (asked := getattr(privacy, name)) < least:
                raise Refusal(
                    f"this site takes part in secure sums with {name} from {least} on; the request has {asked}"
                )

    def check_algorithm(self, name: object) -> None:
        """Refuse an algorithm in a request that is not allowed: one that is not built in would be imported.

        Raises:
            Refusal: it is not allowed.
        """
        if name not in self.algorithms:
            allowed = ", ".join(self.algorithms)
            said = printable(name, _SAID)
            raise Refusal(f"this site allows the algorithms {allowed}; the request asks for {said}")

    def check_steps(self, images: int, config: Config) -> None:
        """Refuse a training on this many `images` that takes more steps than are allowed.

        Raises:
            Refusal: it does.
        """
        own = -(-images // config.training.batch_size) * _own_epochs(config)
        steps = max(config.training.steps(images), own)
        if steps > self.steps:
            raise Refusal(f"this site allows {self.steps} steps in a round; the request asks for {steps}")


def _own_epochs(config: Config) -> int:
    """The epochs that a hospital trains for itself after the last round, if the algorithm does this."""
    return int(config.algorithm.own.get("own_epochs", 0))


class Split(Table):
    """How the site's images are split into training, validation and test; it stays the same from run to run."""

    val: float = Field(0.1, ge=0, lt=0.5, description="fraction of the images kept for validation")
    test: float = Field(0.1, ge=0, lt=0.5, description="fraction of the images kept for the test")
    seed: int = Field(0, ge=0, lt=2**31, description="fixes which")
    file: str = Field(
        "", description="a JSON file with the lists train, val and test of image names, to be used instead"
    )


class SiteSettings(Table):
    """A site: its name, its images, and what it allows."""

    folder: Path  # the folder of site.toml
    name: str
    coordinator: str  # host:port
    data: str = ""  # the folder of images, or an archive or a CSV; '' until 'site join --data' names it
    masks: Masks = CHECKED
    lesion_values: LesionValues = None
    group_by: GroupBy = None
    declared_units: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="with privacy: the approximate number of training images, groups or patients that it declares",
    )
    limits: Limits = Limits()
    split: Split = Split()

    @model_validator(mode="after")
    def _named(self) -> Self:
        if fault := _fault_of_name(self.name):
            raise ValueError(fault)
        return self

    @classmethod
    def load(cls, file: Path, data: str = "") -> "SiteSettings":
        """The settings in `file`; `data` overrides its folder of images.

        Raises:
            UsageError: the file cannot be read or holds something else.
        """
        plain = read_toml(file) | ({"data": data} if data else {})
        return cls.of(plain | {"folder": file.resolve().parent}, file)

    @property
    def authority(self) -> Path:
        """The certificate of the federation's authority."""
        return self.folder / "ca.crt"

    @property
    def key(self) -> Path:
        """The site's private key."""
        return self.folder / "site.key"

    @property
    def mask_key(self) -> Path:
        """The private key with which the site masks its part of secure sums."""
        return self.folder / "mask.key"

    @property
    def certificate(self) -> Path:
        """The site's certificate for that key; with it the coordinator admits the site."""
        return self.folder / "site.crt"

    @property
    def images(self) -> Path:
        """The folder of images; a relative path starts at the site's folder."""
        return self.folder / self.data

    @property
    def private(self) -> Path:
        """The folder of everything that the site writes while it takes part; it only needs to read its other files."""
        return self.folder / "private"

    @property
    def stores(self) -> Path:
        """Where the ingested images are kept."""
        return self.private / "stores"

    @property
    def state(self) -> Path:
        """The folder of the hospital's private state, with a folder for each run."""
        return self.private / "state"

    @property
    def keeper(self) -> Keeper:
        """The keeper of its privacy guarantee; makes the site's secret if there is none.

        Raises:
            Refusal: the site declares no number of units.
            UsageError: its secret is damaged.
        """
        if self.declared_units is None:
            raise Refusal("this site has no declared_units in its site.toml, so it takes part in no run with privacy")
        self.private.mkdir(mode=0o700, exist_ok=True)
        limits = self.limits
        limit = None if limits.epsilon is None else Limit(limits.epsilon, limits.delta)
        return Keeper(site_secret(self.private / SECRET), Ledger(self.private / LEDGER), self.declared_units, limit)

    @property
    def audit(self) -> Path:
        """The audit log."""
        return self.private / "audit.jsonl"

    @property
    def flower(self) -> Path:
        """Flower's own folder."""
        return self.private / "flower"


class CoordinatorSettings(Table):
    """The coordinator: its address, its sites, and the folder of its runs."""

    folder: Path  # the folder of coordinator.toml
    host: str
    sites: tuple[str, ...]
    port: int = Field(9443, ge=1, le=65535, strict=True)  # where sites connect
    control_port: int = Field(18080, ge=1, le=65535, strict=True)  # of the SuperLink, on loopback only
    held_out: str = ""  # a folder with images/ and masks/ that no site has; '' for none
    runs: str = "runs"
    reply_megabytes: int = Field(1024, ge=1, le=1_000_000, strict=True)  # of one reply of a site, in all
    images: Mapping[str, Annotated[int, Field(ge=1)]] = {}  # registered for a site: its largest number, in all sets

    @model_validator(mode="after")
    def _named(self) -> Self:
        try:
            check_host(self.host, "host")
            check_names(list(self.sites))
        except UsageError as error:
            raise ValueError(str(error)) from None
        if unknown := sorted(self.images.keys() - set(self.sites)):
            raise ValueError(f"[images] names '{printable(unknown[0], _SAID)}', which is not among the sites")
        if self.port == self.control_port:
            raise ValueError(f"port and control_port must differ; both are {self.port}")
        return self

    @classmethod
    def load(cls, folder: Path) -> "CoordinatorSettings":
        """The settings in coordinator.toml in `folder`.

        Raises:
            UsageError: the file cannot be read or holds something else.
        """
        file = folder / "coordinator.toml"
        return cls.of(read_toml(file) | {"folder": folder.resolve()}, file)

    @property
    def authority(self) -> Path:
        """The certificate of the federation's authority."""
        return self.folder / "ca.crt"

    @property
    def certificate(self) -> Path:
        """The server's certificate."""
        return self.folder / "server.crt"

    @property
    def key(self) -> Path:
        """The server's private key."""
        return self.folder / "server.key"

    @property
    def flower(self) -> Path:
        """Flower's own folder."""
        return self.folder / "flower"

    @property
    def database(self) -> Path:
        """The SuperLink's database of registered sites and runs."""
        return self.folder / "superlink.db"

    @property
    def runs_folder(self) -> Path:
        """The folder of run folders."""
        return self.folder / self.runs

    @property
    def sites_folder(self) -> Path:
        """The folder of the sites' public keys and certificates."""
        return self.folder / "sites"

    def public_key(self, site: str) -> Path:
        """The path of the public key of `site`."""
        return self.sites_folder / f"{site}.pub"

    def public_mask_key(self, site: str) -> Path:
        """The path of the public mask key of `site`; without it, the site takes part in no secure sum."""
        return self.sites_folder / f"{site}.mask.pub"

    @property
    def roster(self) -> Path:
        """The roster of the sites' public mask keys, which the authority signed."""
        return self.folder / "roster.txt"

    def site_certificate(self, site: str) -> Path:
        """The path of the certificate of `site`; without it, the site is not admitted."""
        return self.sites_folder / f"{site}.crt"


def is_name(text: str) -> bool:
    """Whether a site can be called so."""
    return _NAME.fullmatch(text) is not None and text not in _TAKEN


def check_names(names: list[str]) -> None:
    """Refuse names of sites that are not allowed, or are given twice.

    Raises:
        UsageError: one is.
    """
    for name in names:
        if fault := _fault_of_name(name):
            raise UsageError(fault)
    if len(set(names)) < len(names) or not names:
        raise UsageError(f"each site must be named once; got '{printable(','.join(names), _SAID)}'")


def _fault_of_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        said = printable(name, _SAID)
        return f"a site's name has lower-case letters, digits and hyphens, 63 at most; got '{said}'"
    if name in _TAKEN:
        return f"no site can be called {', '.join(_TAKEN[:-1])} or {_TAKEN[-1]}: these names are taken"
    return ""


def check_host(host: str, option: str = "--coordinator") -> None:
    """Refuse a value of `option` that is neither a host name nor an IP address.

    Raises:
        UsageError: it is neither.
    """
    if not _is_host(host):
        said = printable(host, _SAID)
        raise UsageError(f"{option} takes a host name or an IP address without a port; got '{said}'")


def address_of(coordinator: str) -> tuple[str, int] | None:
    """Host and port of 'HOST:PORT', where an IPv6 address is in brackets; None if it is not such an address."""
    host, _, port = coordinator.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not (_is_host(host) and port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        return None
    return host, int(port)


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None
    return True
