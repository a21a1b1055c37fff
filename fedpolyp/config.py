"""The experiment's config: every setting, its default, its meaning and its bounds. TOML in, TOML out.

Defaults live here and nowhere else. A config is frozen once made; `load` merges, from weakest to strongest, the
defaults, a preset, a TOML file and single overrides (`{"training.batch_size": 4}`).
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from fedpolyp.errors import UsageError
from fedpolyp.files import read_toml

PHANTOM = "phantom"
Encoder = Literal["plain", "efficientnet-lite0", "mobilenet-v2", "efficientnet-v2-b0", "resnet50-v2"]
ENCODERS: tuple[Encoder, ...] = get_args(Encoder)
NAMED_WEIGHTS = ("imagenet", "random")  # any other `model.encoder_weights` is a file
_PROBLEMS, _SHOWN = 5, 200  # of a file that is wrong all over
CHECKED: Final = "checked"
AS_THEY_ARE: Final = "as-they-are"
_LESION_VALUE = re.compile(r"\d{1,5}|#[0-9a-fA-F]{6}")


def _lesion_values(given: Any) -> Any:
    """What was given as the text '1,2', the list [1, 2] or the number 1, as text."""
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
    Field(description="checked: stop where the masks look wrong; as-they-are: take them all the same"),
]
LesionValues = Annotated[
    str | None,
    BeforeValidator(_lesion_values),
    Field(description="values of the masks that are lesion, as in 1,2, or colours; unset: decided from all masks"),
]


class Section(BaseModel):
    """A table of the TOML file; unknown keys and later changes are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _written(self) -> Self:
        """Texts are paths, but for some that are checked more closely."""
        section = type(self).__name__.removesuffix("Config").lower()
        for name in type(self).model_fields:
            # The surrogates are how Python reads a name that is no UTF-8.
            if isinstance(text := getattr(self, name), str) and re.search("[\0\ud800-\udfff]", text):
                raise ValueError(f"{section}.{name} must be a path in UTF-8 without a NUL character; got {text!r}")
        return self


class DataConfig(Section):
    """Which images, at what size, and which of them no hospital ever sees."""

    source: str = Field(PHANTOM, description="'phantom', or a folder with images/ and masks/ of the same stems")
    image_size: int = Field(128, ge=32, le=1024, multiple_of=16, description="side of the square images, pixels")
    held_out: float = Field(0.12, gt=0, lt=0.9, description="fraction of the images in the held-out set")
    seed: int | None = Field(
        None, ge=0, lt=2**31, description="fixes the drawn images and the deal; unset: the experiment's seed"
    )
    lists: str | None = Field(
        None, description="folder with train.txt and val.txt: val.txt becomes the held-out set instead of a random one"
    )
    masks: Masks = CHECKED
    lesion_values: LesionValues = None
    phantom_images: int = Field(320, ge=20, le=100_000, description="how many frames the phantom draws")
    phantom_looks: int = Field(5, ge=1, le=1000, description="how many scope-and-lamp looks the phantom's frames have")


class HospitalsConfig(Section):
    """How the images that are not held out are dealt to hospitals."""

    count: int = Field(5, ge=1, le=10_000, description="number of hospitals")
    scheme: Literal["iid", "lesion-size"] = Field("iid", description="how images are dealt: iid, lesion-size")
    skew: float = Field(
        0.5,
        ge=0,
        le=1,
        description="strength of a skewed scheme: 0 deals like iid, 1 sorts completely (iid ignores it)",
    )
    val: float = Field(0.1, ge=0, lt=0.5, description="fraction of each hospital's images kept for validation")
    test: float = Field(0.1, ge=0, lt=0.5, description="fraction of each hospital's images kept for its own test")


class ModelConfig(Section):
    """The U-Net."""

    encoder: Encoder = Field(
        "plain",
        description="the U-Net's encoder: plain, or one with ImageNet weights: efficientnet-lite0, mobilenet-v2, "
        "efficientnet-v2-b0, resnet50-v2",
    )
    encoder_weights: str = Field(
        "imagenet",
        description="what that encoder begins with: imagenet, random, or a file in Keras's format (not for "
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
        """The same without where its weights come from: what a hospital has to know, which is sent them."""
        return self.model_copy(update={"encoder_weights": "random", "encoder_sha256": None})


class TrainingConfig(Section):
    """What a hospital does with the global model in one round."""

    local_epochs: int = Field(1, ge=1, le=1000, description="passes over a hospital's training images in a round")
    batch_size: int = Field(8, ge=1, le=1024, description="images a step; a last partial batch is kept")
    optimizer: Literal["adam", "adamw", "muon", "sgd"] = Field(
        "adam",
        description="of each hospital: adam, adamw, muon (orthogonalized momentum for kernels, adam for the rest), "
        "sgd (Nesterov momentum 0.9)",
    )
    learning_rate: float = Field(3e-3, gt=0, le=1, description="the optimizer's learning rate in the first round")
    weight_decay: float = Field(
        0.01, ge=0, lt=1, description="adamw: what a step takes off each kernel, as a fraction of the learning rate"
    )
    schedule: Literal["constant", "cosine"] = Field("cosine", description="learning rate over the rounds")
    warmup_rounds: int = Field(0, ge=0, description="rounds over which the learning rate rises linearly at the start")
    loss: Literal["bce", "bce+dice"] = Field("bce+dice", description="binary cross-entropy, plus soft Dice per image")
    optimizer_state: Literal["reset", "keep", "average"] = Field(
        "average",
        description="the optimizer's moments across rounds: reset, kept at each hospital, or averaged by the server",
    )
    augment: bool = Field(True, description="random flips, rotations, scaled crops and colour")
    precision: Literal["float32", "mixed_bfloat16"] | None = Field(
        None,
        description="arithmetic of the U-Net's layers; unset: mixed_bfloat16 where the processor has it, else float32",
    )
    threads: int = Field(1, ge=1, le=256, description="intra-op threads of each trainer; part of what fixes the bits")


class FederationConfig(Section):
    """Who trains in a round, and how their weights become one model."""

    rounds: int = Field(120, ge=1, le=100_000, description="rounds of federation")
    strategy: Literal["fedavg", "fedprox"] = Field("fedavg", description="how the server combines weights")
    fraction: float = Field(1.0, gt=0, le=1, description="fraction of the hospitals sampled in each round")
    min_replies: float = Field(
        0.5, gt=0, le=1, description="fraction of the sampled hospitals whose replies a round needs to count"
    )
    max_update_norm: float = Field(
        10.0,
        gt=1,
        description="an update that changes weights or statistics over so many times as much as the median of its "
        "round does not count (the optimizer's moments: over its square; from three replies on)",
    )
    proximal_mu: float = Field(0.01, ge=0, description="FedProx: weight of the proximal term")
    round_timeout: float = Field(
        3600.0, gt=0, description="seconds until a missing reply is given up; at real sites, without a sign of life"
    )


class RuntimeConfig(Section):
    """How the run is carried out on this machine: changes its speed, never its bits."""

    actors: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="hospitals trained at the same time, one process each; unset: as cores, memory and GPUs allow",
    )
    gpus_per_client: float | None = Field(
        None, ge=0, le=1, description="share of a GPU for each actor, 0 for none; unset: equal shares of all GPUs"
    )
    ray_address: str | None = Field(
        None,
        description="Ray cluster to run on, host:port or auto; its machines need the images at the same path; "
        "unset: this machine",
    )
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints kept, besides the best on validation")


class Config(Section):
    """A whole experiment."""

    seed: int = Field(0, ge=0, lt=2**31, description="fixes the deal, the initial weights and every random draw")
    arm: Literal["federated", "pooled", "local"] = Field(
        "federated",
        description="federated; or, to compare with, pooled: one model on all hospitals' images; local: one at each",
    )
    data: DataConfig = DataConfig()
    hospitals: HospitalsConfig = HospitalsConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    federation: FederationConfig = FederationConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if self.hospitals.val + self.hospitals.test >= 0.9:
            raise ValueError("hospitals.val and hospitals.test together leave less than a tenth for training")
        return self

    @property
    def data_seed(self) -> int:
        """What fixes the drawn images and the deal."""
        return self.seed if self.data.seed is None else self.data.seed

    @property
    def arm_label(self) -> str:
        """The arm's name in a comparison: 'pooled', 'local', or the strategy of the federation."""
        return self.federation.strategy if self.arm == "federated" else self.arm


# 'paper' is the U-Net of Ronneberger et al. 2015 in size; 'seed' is the capstone project this one grew from;
# 'pretrained' begins with an encoder that has seen ImageNet, and so needs fewer rounds.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"data.image_size": 256, "model.base_filters": 64},
    "seed": {
        "data.image_size": 256,
        "model.base_filters": 16,
        "model.dropout": (0.1, 0.3),
        "model.normalization": "none",
        "training.loss": "bce",
    },
    "pretrained": {
        "model.encoder": "efficientnet-lite0",
        "training.optimizer": "adam",
        "training.learning_rate": 3e-3,
        "federation.rounds": 20,
    },
}


def load(file: Path | None = None, preset: str | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """The config made of the defaults, then `preset`, then the TOML `file`, then `overrides` (dotted names).

    Raises:
        UsageError: the file cannot be read, a name is unknown or a value is out of bounds.
    """
    tree: dict[str, Any] = {}
    if preset is not None:
        if preset not in PRESETS:
            raise UsageError(f"preset must be one of {', '.join(PRESETS)}; got '{preset}'")
        _merge(tree, PRESETS[preset])
    if file is not None:
        _merge(tree, _read_flat(file))
    _merge(tree, overrides or {})
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise UsageError(_sentence(error)) from None


def to_toml(config: Config, explain: bool = False) -> str:
    """`config` as TOML that `load` reads back to an equal config; with `explain`, each value's meaning as a comment."""
    lines = _toml_lines(config, explain)
    for name, section in config:
        if isinstance(section, Section):
            lines += ["", f"[{name}]", *_toml_lines(section, explain)]
    return "\n".join(lines) + "\n"


def fingerprint(file: Path) -> str:
    """SHA-256 of what the config.toml at `file` says of a run's bits.

    It is of what is written there, not of what a version makes of it: neither another default nor a new setting makes a
    run of old another. What does not decide the bits is left out: the machine's settings, where the images lie (they
    have a digest of their own), and how many rounds there shall be where the learning rate does not depend on that.

    Raises:
        UsageError: the file cannot be read.
    """
    said = {name: value for name, value in _read_flat(file).items() if name.partition(".")[0] != "runtime"}
    said.pop("data.source", None)
    if said.get("training.schedule") == "constant":
        said.pop("federation.rounds", None)
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def changed_toml(text: str, changes: Mapping[str, Any]) -> str:
    """The config.toml `text` with other values for the settings in `changes` (dotted names), and all else as it is.

    Raises:
        UsageError: it does not have one of them on a line of its own, as `to_toml` writes it.
    """
    lines, section, left = text.splitlines(), "", dict(changes)
    for number, line in enumerate(lines):
        if line.startswith("["):
            section = line.strip().strip("[]") + "."
        name = section + line.partition("=")[0].strip()
        if name in left:
            lines[number] = f"{name.removeprefix(section)} = {_toml_value(left.pop(name))}"
    changed = "\n".join(lines) + "\n"
    if left or _flatten(tomllib.loads(changed)) != _flatten(tomllib.loads(text)) | dict(changes):
        raise UsageError(f"config.toml is not as it was written, so {', '.join(changes)} cannot be changed in it")
    return changed


def _toml_lines(section: Section, explain: bool) -> list[str]:
    lines = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            continue
        # TOML has no null: an unset value is shown commented out.
        line = f"# {name} =" if value is None else f"{name} = {_toml_value(value)}"
        lines.append(f"{line:<32}  # {field.description}" if explain else line)
    return lines


def _toml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # Strings, numbers and booleans are written alike in JSON and TOML, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read_flat(file: Path) -> dict[str, Any]:
    tree = read_toml(file, "the config file ")
    try:
        return _flatten(tree)
    except RecursionError:
        raise UsageError(f"{file} is not a config: its tables are nested too deeply") from None


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _merge(tree: dict[str, Any], flat: Mapping[str, Any]) -> None:
    for dotted, value in flat.items():
        *sections, name = dotted.split(".")
        table = tree
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise UsageError(f"'{dotted}' is not a setting: '{section}' is a value, not a table")
        if value == {}:  # an empty table says nothing, but its name is checked
            table.setdefault(name, value)
        else:
            table[name] = value


def _sentence(error: ValidationError) -> str:
    parts: list[str] = []
    for problem in error.errors(include_url=False)[:_PROBLEMS]:
        where = ".".join(str(part) for part in problem["loc"]) or "config"
        if problem["type"] == "extra_forbidden":
            parts.append(f"{where} is not a setting ('fedpolyp config' lists them)")
        elif problem["type"] == "value_error":
            parts.append(str(problem["ctx"]["error"]))
        else:
            said = problem["msg"].replace("Input should be", "must be")
            got = repr(problem["input"])
            parts.append(f"{where} {said}; got {got if len(got) <= _SHOWN else got[:_SHOWN] + '…'}")
    return "; ".join(parts)
