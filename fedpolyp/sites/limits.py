"""What a site allows the coordinator to ask for: `[limits]` of site.toml."""

from pydantic import Field

from fedpolyp.algorithms.finding import FEDERATED
from fedpolyp.config import ENCODERS, NAMED_WEIGHTS, PHANTOM, UNITS, Config, Encoder, PrivacyConfig, Unit
from fedpolyp.errors import Refusal
from fedpolyp.planning import trainer_bytes
from fedpolyp.sites.table import SAID, Table
from fedpolyp.text import printable


class Limits(Table):
    """The most that the coordinator may ask for; a request for more is refused."""

    local_epochs: int = Field(10, ge=1, description="passes over the training images in one round")
    steps: int = Field(20_000, ge=1, description="training steps in one round")
    batch_size: int = Field(64, ge=1, description="images in one step")
    image_size: int = Field(512, ge=32, description="side of the images, pixels")
    base_filters: int = Field(64, ge=1, description="filters of the U-Net's first block")
    threads: int = Field(16, ge=1, description="threads of a training")
    memory: float = Field(32.0, gt=0, description="estimated memory of a training, GB")
    epsilon: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="privacy that all runs together may spend; training and scores without privacy are then refused",
    )
    delta: float = Field(1e-3, gt=0, lt=1, description="delta for which this epsilon is computed")
    unit: Unit = Field(
        "group",
        description="the least that a guarantee must protect, also where epsilon is unset: an image, a group of "
        "near-duplicates (and of group_by), or a patient, which must be known for each image",
    )
    secure_sums: bool = Field(
        False, description="true: training without secure sums is refused, so no single update leaves"
    )
    secure_least: int = Field(
        3, ge=2, le=1000, description="smallest number of sites in a secure sum that this site takes part in"
    )
    colluders: int = Field(
        1,
        ge=0,
        le=998,
        description="how many sites may help the coordinator without harm to this one; a request must allow for at "
        "least as many",
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
        if config.privacy.on:
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

    def _check_unit(self, asked: Unit) -> None:
        """Refuse a guarantee for smaller units than this site protects.

        With the limit 'group', 'patient' is no less: a hospital agrees to it only if each group is one patient. The
        reverse does not hold: images whose patient is not known are groups of their own.
        """
        protected = {"image": "single images", "group": "groups of images", "patient": "patients"}
        if UNITS.index(asked) < UNITS.index(self.unit):
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
            said = printable(name, SAID)
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
