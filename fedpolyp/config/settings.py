"""The experiment's settings: each with its default, its meaning and its bounds.

Defaults are defined only here. A config is frozen once made.
"""

import math
import re
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from fedpolyp.algorithms.finding import BUILT_IN, NAME, NAME_LIKE, find
from fedpolyp.data import places
from fedpolyp.data.partition.finding import SCHEMES
from fedpolyp.data.partition.finding import find as find_scheme
from fedpolyp.data.places import PHANTOM
from fedpolyp.errors import UsageError
from fedpolyp.section import Section, sentence
from fedpolyp.text import printable

Encoder = Literal["plain", "efficientnet-lite0", "mobilenet-v2", "efficientnet-v2-b0", "resnet50-v2"]
ENCODERS: tuple[Encoder, ...] = get_args(Encoder)
NAMED_WEIGHTS = ("imagenet", "random")  # any other `model.encoder_weights` is a file
CHECKED: Final = "checked"
AS_THEY_ARE: Final = "as-they-are"
LABEL = re.compile("[a-z0-9][a-z0-9._-]{0,39}")
LABEL_LIKE = "fedavg-muon: lower-case letters, digits, dots and hyphens, 40 at most"
_SETTING = re.compile("[a-z][a-z0-9_]{0,39}")  # of an algorithm, by its name
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_LESION_VALUE = re.compile(r"\d{1,5}|#[0-9a-fA-F]{6}")


def _lesion_values(given: Any) -> Any:
    """Lesion values given as the text '1,2', the list [1, 2] or the number 1, as text."""
    if given is None:
        return None
    words = [str(word).strip() for word in (given if isinstance(given, list) else str(given).split(","))]
    right = all(_LESION_VALUE.fullmatch(word) and (word[0] == "#" or int(word) < 2**16) for word in words)
    if not words or not right or len({word[0] == "#" for word in words}) > 1:
        raise ValueError(
            "lesion_values must be whole numbers from 0 to 65535, as in 1,2, or colours, as in #ff0000,#00ff00; "
            f"got '{given}'"
        )
    return ",".join(words)


Masks = Annotated[
    Literal["checked", "as-they-are"],
    Field(description="checked: stop if the masks look wrong; as-they-are: accept them"),
]
LesionValues = Annotated[
    str | None,
    BeforeValidator(_lesion_values),
    Field(description="values of the masks that are lesion, as in 1,2, or colours; unset: decided from all masks"),
]


def _expression(given: str | None) -> str | None:
    try:
        re.compile(given or "")
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"group_by must be a regular expression; got '{given}': {error}") from None
    return given


GroupBy = Annotated[
    str | None,
    AfterValidator(_expression),
    Field(
        description="regular expression, e.g. '^(p[0-9]+)_': images with the same match in their names stay together"
    ),
]


class DataConfig(Section):
    """Which images, at what size, and which of them no hospital ever sees."""

    source: str | dict[str, str] = Field(
        PHANTOM,
        description="'phantom', or a folder of images and masks (or .zip, .tar.gz, IMAGES:MASKS, .csv); give "
        "several by name, one option each: kvasir=FOLDER",
    )
    group_by: GroupBy = None
    image_size: int = Field(128, ge=32, le=1024, multiple_of=16, description="side of the square images, pixels")
    held_out: float = Field(0.12, gt=0, lt=0.9, description="fraction of the images in the held-out set")
    seed: int | None = Field(
        None, ge=0, lt=2**31, description="fixes the drawn images and the partition; unset: the experiment's seed"
    )
    lists: str | None = Field(
        None, description="folder with train.txt and val.txt: val.txt becomes the held-out set instead of a random one"
    )
    unseen: str | None = Field(
        None, description="sources that no hospital has, as in clinicdb,etis: every model is scored on their images"
    )
    unseen_every: int = Field(5, ge=1, description="score unseen sources every so many rounds")
    masks: Masks = CHECKED
    lesion_values: LesionValues = None
    phantom_images: int = Field(320, ge=20, le=100_000, description="how many frames the phantom draws")
    phantom_looks: int = Field(5, ge=1, le=1000, description="number of looks (scope and lamp) of the phantom's frames")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not isinstance(self.source, str):
            if not self.source:
                raise ValueError("data.source names no source")
            for name, place in self.source.items():
                if not places.NAME.fullmatch(name):
                    raise ValueError(f"the name of a source has {places.NAME_LIKE}; got '{printable(name, 80)}'")
                if not place or _NO_TEXT.search(place):
                    raise ValueError(
                        f"data.source.{name} must be a path in UTF-8 without a NUL character; got {place!r}"
                    )
        return self

    @property
    def places(self) -> dict[str, str]:
        """The places of the images, by the sources' names; '' is the name of the only one."""
        return places.by_name(self.source)

    @property
    def called(self) -> str:
        """A short name for the images."""
        return places.called(self.source)

    @property
    def unseen_sources(self) -> tuple[str, ...]:
        """The sources that no hospital has."""
        return tuple(name.strip() for name in (self.unseen or "").split(",") if name.strip())


class HospitalsConfig(Section):
    """How the images that are not held out are assigned to hospitals: a scheme, with its own settings."""

    model_config = ConfigDict(extra="allow")

    count: int = Field(
        5, ge=1, le=10_000, description="number of hospitals (the schemes source and file set their own)"
    )
    scheme: str = Field("iid", description=f"how images are assigned to hospitals: {', '.join(SCHEMES)}")
    skew: float = Field(
        0.5,
        ge=0,
        le=1,
        description="strength of lesion-size, appearance and acquisition: 0 is like iid, 1 as skewed as can be",
    )
    min_images: int = Field(
        3, ge=3, le=1_000_000, description="fewest images of a hospital; with fewer, the partition is refused"
    )
    val: float = Field(0.1, ge=0, lt=0.5, description="fraction of each hospital's images kept for validation")
    test: float = Field(0.1, ge=0, lt=0.5, description="fraction of each hospital's images kept for its own test")
    partition: str | None = Field(
        None, description="a partition.json, as 'fedpolyp hospitals' saves one; it replaces all of the above"
    )
    partition_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 of that file; unset: noted when the run begins"
    )

    @model_validator(mode="after")
    def _own(self) -> Self:
        self.__pydantic_extra__ = self.settings.model_dump()  # its defaults are written out with all others
        return self

    @property
    def own(self) -> dict[str, Any]:
        """The scheme's own settings, by name."""
        return dict(self.model_extra or {})

    @property
    def settings(self) -> Section:
        """The scheme's own settings, checked by its `Settings`.

        Raises:
            ValueError: there is no such scheme, or a setting is unknown or out of bounds.
        """
        kind = find_scheme(self.scheme).Settings
        try:
            return kind.model_validate(self.own)
        except ValidationError as error:
            raise ValueError(sentence(error, "hospitals.")) from None


class ModelConfig(Section):
    """The U-Net."""

    encoder: Encoder = Field(
        "plain",
        description="the U-Net's encoder: plain, or one with ImageNet weights: efficientnet-lite0, mobilenet-v2, "
        "efficientnet-v2-b0, resnet50-v2",
    )
    encoder_weights: str = Field(
        "imagenet",
        description="initial weights of that encoder: imagenet, random, or a file in Keras's format (not for "
        "efficientnet-lite0); plain is always random",
    )
    encoder_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the file of these weights; unset: noted when the run begins",
    )
    encoder_rate: float = Field(
        1.0, ge=0, le=1, description="the encoder's learning rate, as a fraction of the decoder's (plain ignores it)"
    )
    frozen_statistics: bool = Field(
        False, description="keep the moving statistics of the encoder's weights (plain ignores it)"
    )
    initial_weights: str | None = Field(
        None, description="initial weights of the whole model: a run, or a model saved as .keras; unset: random"
    )
    initial_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 of these weights; unset: noted when the run begins"
    )
    base_filters: int = Field(
        16,
        ge=1,
        le=256,
        description="filters of the plain encoder's first block, doubled at each level, and of the last decoder block",
    )
    normalization: Literal["batch", "group", "none"] = Field(
        "batch", description="after each convolution; an encoder with ImageNet weights always has batch"
    )
    dropout: tuple[float, float] = Field(
        (0.0, 0.0),
        strict=False,
        description="dropout rate of the first encoder block and of the bridge; linear in between; plain only",
    )

    @model_validator(mode="after")
    def _rates(self) -> "ModelConfig":
        if not all(0 <= rate < 1 for rate in self.dropout):
            raise ValueError(f"model.dropout rates must be in [0, 1); got {list(self.dropout)}")
        return self

    @model_validator(mode="after")
    def _fits_the_encoder(self) -> "ModelConfig":
        if self.encoder == "plain":
            return self
        if any(self.dropout):
            raise ValueError(f"model.dropout is for the encoder plain; {self.encoder} takes 0 0; got {self.dropout}")
        if self.normalization != "batch" and not self.frozen_statistics:
            raise ValueError(
                f"the encoder {self.encoder} has batch normalizations: model.normalization must be batch, or "
                f"model.frozen_statistics true; got {self.normalization}"
            )
        if self.encoder_weights not in NAMED_WEIGHTS:
            a_file = self.encoder != "efficientnet-lite0"
            if not (a_file and self.encoder_weights.endswith(".h5")):
                allowed = "imagenet, random or a file (.h5)" if a_file else f"imagenet or random for {self.encoder}"
                raise ValueError(f"model.encoder_weights must be {allowed}; got '{self.encoder_weights}'")
        return self

    @property
    def architecture(self) -> "ModelConfig":
        """The same without the source of its weights: what a hospital must know, which is sent the weights."""
        return self.model_copy(
            update={
                "encoder_weights": "random",
                "encoder_sha256": None,
                "initial_weights": None,
                "initial_sha256": None,
            }
        )


class TrainingConfig(Section):
    """What a hospital does with the global model in one round."""

    local_epochs: int = Field(1, ge=1, le=1000, description="passes over a hospital's training images in a round")
    local_steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="steps of a hospital in a round instead of epochs, so that unequal hospitals do equal work",
    )
    batch_size: int = Field(8, ge=1, le=1024, description="images a step; a last partial batch is kept")
    optimizer: Literal["adam", "adamw", "muon", "sgd"] = Field(
        "muon",
        description="of each hospital: adam, adamw, muon (orthogonalized momentum for kernels, adam for the rest), "
        "sgd (Nesterov momentum 0.9)",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="the optimizer's learning rate in the first round; unset: what suits the optimizer and the arm",
    )
    weight_decay: float = Field(
        0.01, ge=0, lt=1, description="adamw: how much a step shrinks each kernel, as a fraction of the learning rate"
    )
    schedule: Literal["constant", "cosine"] = Field("cosine", description="learning rate over the rounds")
    warmup_rounds: int = Field(0, ge=0, description="rounds over which the learning rate rises linearly at the start")
    loss: Literal["bce", "bce+dice"] = Field("bce+dice", description="binary cross-entropy, plus soft Dice per image")
    optimizer_state: Literal["reset", "keep", "average"] = Field(
        "average",
        description="the optimizer's moments across rounds: reset, kept at each hospital, or averaged by the server",
    )
    augment: bool = Field(True, description="random flips, rotations, scaled crops and colour")
    wire: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="type of the weights and updates that are sent in a federation: bfloat16 takes half the bytes",
    )
    precision: Literal["float32", "mixed_bfloat16"] | None = Field(
        None,
        description="arithmetic of the U-Net's layers; unset: mixed_bfloat16 if the processor has it, else float32",
    )
    threads: int = Field(1, ge=1, le=256, description="intra-op threads of each trainer; the bits depend on it")

    def steps(self, images: int) -> int:
        """How many steps a training on this many `images` takes: `local_steps`, or the steps of the epochs."""
        if self.local_steps is not None:
            return self.local_steps
        return -(-images // self.batch_size) * self.local_epochs

    def images_seen(self, images: int) -> int:
        """How many images the steps of a training on this many `images` use, counting each as often as it is used."""
        epochs, left = divmod(self.steps(images), -(-images // self.batch_size))
        return epochs * images + min(left * self.batch_size, images)


def _plain(name: str, value: Any) -> Any:
    """The setting `name` of an algorithm that has not checked it yet, with a list as a tuple.

    Raises:
        ValueError: a TOML file of settings could not contain it.
    """
    several = isinstance(value, (list, tuple))
    if not (_SETTING.fullmatch(name) and all(map(_is_plain, value if several else [value]))):
        said = printable(name, 100)
        raise ValueError(f"algorithm.{said} must be a number, true, false, a text, or a list of them")
    return tuple(value) if several else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return not _NO_TEXT.search(value)
    return value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))


class AlgorithmConfig(Section):
    """The algorithm, and its own settings.

    Reading a config imports no code that it names, whoever wrote it. The settings of a built-in algorithm are checked
    at once, those of another when they are needed; see `Config.ready`.
    """

    model_config = ConfigDict(extra="allow")

    name: str = Field(
        "fedavg",
        description=f"how hospitals train and the server combines: {', '.join(BUILT_IN)}, or "
        "module:Class; pooled and local are the references",
    )

    @model_validator(mode="after")
    def _own(self) -> Self:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"algorithm must be {NAME_LIKE}; got '{printable(self.name, 100)}'")
        if self.name in BUILT_IN:
            own = self.settings.model_dump()  # its defaults are written out with all others
        else:
            own = {name: _plain(name, value) for name, value in self.own.items()}
        self.__pydantic_extra__ = own
        return self

    @property
    def own(self) -> dict[str, Any]:
        """The algorithm's own settings as they are here, by name; imports nothing."""
        return dict(self.model_extra or {})

    @property
    def settings(self) -> Section:
        """The algorithm's own settings, checked by its `Settings`; imports the algorithm.

        Raises:
            ValueError: there is no such algorithm, or a setting is unknown or out of bounds.
        """
        kind = find(self.name).Settings
        try:
            return kind.model_validate(self.own)
        except ValidationError as error:
            raise ValueError(sentence(error, "algorithm.")) from None


class PrivacyConfig(Section):
    """Differential privacy and secure sums: what hospitals protect about their images."""

    mode: Literal["off", "local", "joint"] = Field(
        "off",
        description="local: each hospital sends one gradient a round, clipped image by image, with its own noise; "
        "joint: with a share of the noise that the secure sum needs; off: ordinary training, without a guarantee",
    )
    epsilon: float = Field(
        8.0,
        gt=0,
        le=1e9,
        description="the guarantee for all rounds together; smaller is stronger, and 1e9 is clipping alone, without a "
        "guarantee",
    )
    delta: float = Field(1e-3, gt=0, lt=1, description="of the guarantee; below 1 / units of the smallest hospital")
    clip: float = Field(1.0, gt=0, le=1e6, description="length to which the gradient of a unit is clipped")
    unit: Literal["group", "image"] = Field(
        "group", description="what the guarantee protects: a group of near-duplicates (or of a patient), or an image"
    )
    secure_sums: bool = Field(
        False, description="hospitals mask their updates, so that the coordinator can read only their sum"
    )
    secure_least: int = Field(3, ge=2, le=1000, description="secure sums: the fewest hospitals whose sum may be read")
    colluders: int = Field(
        1,
        ge=0,
        le=998,
        description="secure sums: how many hospitals may tell the coordinator all they know without harm to others",
    )

    @model_validator(mode="after")
    def _hides_something(self) -> Self:
        if self.mode == "joint" and not self.secure_sums:
            raise ValueError(
                "privacy joint needs secure sums (--secure-sums): the noise of one hospital alone protects too little"
            )
        if self.secure_sums and self.secure_least < self.colluders + 2:
            raise ValueError(
                f"a sum over {self.secure_least} hospitals of which {self.colluders} tell all they know hides nothing: "
                f"privacy.secure_least must be {self.colluders + 2} at least, or privacy.colluders smaller"
            )
        return self

    @property
    def on(self) -> bool:
        """Whether the run has differential privacy."""
        return self.mode != "off"

    @property
    def sharers(self) -> int:
        """How many hospitals make the noise of a sum together: the fewest in a sum that keep their share secret."""
        return self.secure_least - self.colluders if self.mode == "joint" else 1

    def sigma(self, rounds: int) -> float:
        """The noise that this number of rounds needs, in units of the clip."""
        from fedpolyp.privacy.accounting import sigma_for  # SciPy takes a moment

        return sigma_for(self.epsilon, self.delta, rounds)


class FederationConfig(Section):
    """Which hospitals train in a round, and how their weights are aggregated."""

    rounds: int = Field(
        40,
        ge=0,
        le=100_000,
        description="rounds of federation; with 0 only the initial weights are scored",
    )
    fraction: float = Field(1.0, gt=0, le=1, description="fraction of the hospitals sampled in each round")
    min_replies: float = Field(
        0.5, gt=0, le=1, description="fraction of the sampled hospitals that must reply for a round to be valid"
    )
    max_update_norm: float = Field(
        10.0,
        gt=1,
        description="an update is rejected if it changes weights or statistics more than so many times the median of "
        "its round (the optimizer's moments: more than its square; from three replies on)",
    )
    weights: Literal["images", "equal"] = Field(
        "images", description="weight of a hospital in a mean: its number of training images, or equal for all"
    )
    max_weight: float | None = Field(
        None, gt=0, le=1, description="the largest share of a mean that one hospital may have; unset: no limit"
    )
    per_step: bool = Field(
        False, description="average the hospitals' progress for each step, not for each round (FedNova)"
    )
    drop_rate: float = Field(
        0.0, ge=0, lt=1, description="simulation: probability that a hospital drops out of a round, drawn from the seed"
    )
    slow: str | None = Field(
        None,
        pattern=r"^[^=,]+=\d{1,6}(\.\d{1,6})?(,[^=,]+=\d{1,6}(\.\d{1,6})?)*$",
        description="simulation: slow hospitals, and how many times as long they take, as in hospital-2=3,hospital-4=9",
    )
    deadline: float | None = Field(
        None,
        gt=0,
        description="simulation: leave out hospitals that take more than so many times the round's median time",
    )
    liars: str | None = Field(
        None, description="simulation: hospitals that lie about their updates, as in hospital-1,hospital-2"
    )
    lie: Literal["sign-flip", "scale", "noise", "label-flip"] = Field(
        "sign-flip",
        description="what liars send: the negative of their update, ten times it, noise of its size, or an update "
        "trained on inverted masks",
    )
    patience: int | None = Field(
        None, ge=1, description="stop after so many rounds in a row without a new best validation score; unset: never"
    )
    round_timeout: float = Field(
        3600.0, gt=0, description="seconds to wait for a missing reply; at real sites, since the last sign of life"
    )

    @model_validator(mode="after")
    def _once(self) -> Self:
        slow = [part.partition("=")[0].strip() for part in (self.slow or "").split(",")]
        for option, names in (("slow", slow), ("liars", list(self.lying))):
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"federation.{option} names {twice} twice")
        return self

    @property
    def slowness(self) -> dict[str, float]:
        """How many times as long each slow hospital takes."""
        pairs = (part.partition("=") for part in (self.slow or "").split(",") if part)
        return {name.strip(): float(factor) for name, _, factor in pairs}

    @property
    def lying(self) -> tuple[str, ...]:
        """The hospitals that lie."""
        return tuple(name.strip() for name in (self.liars or "").split(",") if name.strip())

    @property
    def simulated_only(self) -> tuple[str, ...]:
        """The settings in use that have a meaning only in a simulation."""
        given = {"drop_rate": self.drop_rate, "slow": self.slow, "deadline": self.deadline, "liars": self.liars}
        given["lie"] = self.lie != "sign-flip"
        return tuple(f"federation.{name}" for name, value in given.items() if value)


class RuntimeConfig(Section):
    """How the run is carried out on this machine: this changes its speed, never its bits."""

    actors: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="hospitals trained at the same time, one process each; unset: what cores, memory and GPUs allow",
    )
    gpus_per_client: float | None = Field(
        None, ge=0, le=1, description="share of a GPU for each actor, 0 for none; unset: equal shares of all GPUs"
    )
    ray_address: str | None = Field(
        None,
        description="Ray cluster to run on, host:port or auto; its machines need the images at the same path; "
        "unset: this machine",
    )
    track: Literal["mlflow"] | None = Field(
        None, description="mlflow: log settings and scores to MLflow, too (pip install 'fedpolyp[mlflow]')"
    )
    observers: str | None = Field(
        None,
        pattern=r"^\s*[A-Za-z_][\w.]*:[A-Za-z_]\w*\s*(,\s*[A-Za-z_][\w.]*:[A-Za-z_]\w*\s*)*$",
        description="observers of your own, as in my_module:MyObserver,my_module:Another",
    )
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints kept, besides the best on validation")

    @property
    def own_observers(self) -> tuple[str, ...]:
        """The observers of the user's own, each as module:Class."""
        return tuple(place.strip() for place in (self.observers or "").split(",") if place.strip())


class Config(Section):
    """A whole experiment."""

    seed: int = Field(0, ge=0, lt=2**31, description="fixes the partition, the initial weights and every random draw")
    arm_label: str | None = Field(
        None,
        pattern=f"^{LABEL.pattern}$",
        description="name of this arm in comparisons and reports; unset: that of its algorithm",
    )
    data: DataConfig = DataConfig()
    hospitals: HospitalsConfig = HospitalsConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    federation: FederationConfig = FederationConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if self.hospitals.val + self.hospitals.test >= 0.9:
            raise ValueError("hospitals.val and hospitals.test together leave less than a tenth for training")
        itself = (self.label, f"fedpolyp.algorithms.{BUILT_IN.get(self.label)}")
        if self.label in BUILT_IN and self.algorithm.name not in itself:
            raise ValueError(
                f"arm_label '{self.label}' is the name of another algorithm than the arm's, {self.algorithm.name}; "
                "choose another label"
            )
        if self.privacy.on and (reason := self._not_image_by_image()):
            raise ValueError(f"privacy {self.privacy.mode} {reason}")
        if self.privacy.secure_sums and (reason := self._no_plain_sum()):
            raise ValueError(reason)
        if self.algorithm.name in BUILT_IN:
            self._refused()
        return self

    def _not_image_by_image(self) -> str:
        """What of the model does not treat an image by itself, or by halves, as privacy needs it; '' for nothing."""
        model = self.model
        if model.normalization == "batch" or (model.encoder != "plain" and not model.frozen_statistics):
            frozen = " and --frozen-statistics" if model.encoder != "plain" else ""
            return (
                "needs a normalization that treats each image separately: --normalization group (or none)"
                f"{frozen}; batch mixes images, and its statistics would reveal them"
            )
        if model.encoder != "plain" and model.encoder_rate not in (0.0, 1.0):
            return f"needs --encoder-rate 0 or 1: the server's optimizer cancels any other; got {model.encoder_rate:g}"
        return ""

    def _no_plain_sum(self) -> str:
        """What of the settings makes of updates what a sum of them cannot tell; '' for nothing."""
        if self.privacy.mode == "joint" and self.federation.weights == "equal":
            return (
                "privacy joint takes --weights images: with equal ones a small hospital's images would need more noise "
                "than large hospitals add; got equal"
            )
        if self.federation.max_weight is not None or self.federation.per_step:
            return (
                "secure sums take a mean with weights that each hospital knows by itself: not --max-weight, nor "
                "--per-step"
            )
        if self.training.optimizer_state == "average" and not self.privacy.on:
            return (
                "secure sums are of fixed-point numbers, which an optimizer's moments are too small for: "
                "--optimizer-state reset or keep; got average"
            )
        return ""

    def _refused(self) -> None:
        """
        Raises:
            ValueError: the algorithm, which is imported, cannot be used in this config.
        """
        kind = find(self.algorithm.name)
        if self.privacy.secure_sums and not kind.takes_sums():
            raise ValueError(
                "secure sums are for algorithms that make a weighted mean of what hospitals send, as fedavg, fedprox, "
                f"fedbn or fedadam; got {self.algorithm.name}"
            )
        if self.privacy.on and not kind.takes_gradients:
            known = ", ".join(name for name in BUILT_IN if find(name).takes_gradients)
            raise ValueError(
                f"privacy {self.privacy.mode} needs an algorithm whose server takes the steps ({known}); got "
                f"{self.algorithm.name}"
            )
        if reason := kind.refuse(self, self.algorithm.settings):
            raise ValueError(reason)

    def ready(self) -> "Config":
        """The same, for an experiment that will be carried out: checked by its algorithm, which is imported.

        All settings of the algorithm are written out.

        Raises:
            UsageError: there is no such algorithm, or it refuses the config.
        """
        if self.algorithm.name in BUILT_IN:
            return self
        try:
            self._refused()
            own = self.algorithm.settings.model_dump()
            return self.model_copy(update={"algorithm": AlgorithmConfig(name=self.algorithm.name, **own)})
        except ValidationError as error:
            raise UsageError(sentence(error)) from None
        except ValueError as error:
            raise UsageError(str(error)) from None

    @property
    def data_seed(self) -> int:
        """The seed of the drawn images and the partition."""
        return self.seed if self.data.seed is None else self.data.seed

    @property
    def federated(self) -> bool:
        """Whether hospitals train, each on its own images; not in the reference arms, pooled and local.

        Imports the algorithm.
        """
        return find(self.algorithm.name).federated

    @property
    def label(self) -> str:
        """The arm's name in a comparison."""
        return self.arm_label or label_of(self.algorithm.name)


def label_of(algorithm: str) -> str:
    """The label of an arm of `algorithm`: its name; for one given as module:Class, the class's."""
    return algorithm.rpartition(":")[2].lower()
