"""The settings of a site and of the coordinator: site.toml and coordinator.toml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from fedpolyp.config import CHECKED, GroupBy, LesionValues, Masks
from fedpolyp.errors import Refusal, UsageError
from fedpolyp.files import read_toml
from fedpolyp.privacy.keeper import LEDGER, SECRET, Keeper
from fedpolyp.privacy.ledger import Ledger, Limit
from fedpolyp.privacy.noise import site_secret
from fedpolyp.sites.limits import Limits
from fedpolyp.sites.names import check_host, check_names, fault_of_name
from fedpolyp.sites.table import SAID, Table
from fedpolyp.text import printable


class Split(Table):
    """How the site's images are split into training, validation and test; it stays the same from run to run."""

    val: float = Field(0.1, ge=0, lt=0.5, description="fraction of the images kept for validation")
    test: float = Field(0.1, ge=0, lt=0.5, description="fraction of the images kept for the test")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the split")
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
        description="for privacy: the approximate number of units (images, groups or patients) among the training "
        "images",
    )
    declared_test_units: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="for privacy: the same among the test images with a polyp, for a noisy score; unset: the site "
        "gives none",
    )
    limits: Limits = Limits()
    split: Split = Split()

    @model_validator(mode="after")
    def _named(self) -> Self:
        if fault := fault_of_name(self.name):
            raise ValueError(fault)
        units = max(self.declared_units or 0, self.declared_test_units or 0)
        if self.limits.epsilon is not None and self.limits.delta * units >= 1:
            raise ValueError(
                f"[limits] delta must be below one over the {units} declared units: a larger delta would "
                f"allow publishing one of them as it is; got {self.limits.delta:g}"
            )
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
        secret, ledger = site_secret(self.private / SECRET), Ledger(self.private / LEDGER)
        return Keeper(secret, ledger, self.declared_units, limit, self.declared_test_units)

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
            raise ValueError(f"[images] names '{printable(unknown[0], SAID)}', which is not among the sites")
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
