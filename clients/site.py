"""A hospital at a real site: the site says where its images are, and its limits apply to every request."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedpolyp.config import AlgorithmConfig, Config
from fedpolyp.data.digest import files_digest
from fedpolyp.data.partition.partition import Partition
from fedpolyp.errors import Refusal, UsageError
from fedpolyp.exchange.requests import Request, Train, Unmask
from fedpolyp.files import parse_json, read_bytes, write_text
from fedpolyp.hospital import private_state
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.sites.images import images_of
from fedpolyp.sites.roster import keyring_of
from fedpolyp.sites.settings import SiteSettings
from fedpolyp.text import printable

_RUN = re.compile(r"[0-9a-f]{32}")
_KEPT_BYTES = 4096


def is_site(node_config: Mapping[str, Any]) -> bool:
    """Whether this node is a site: its own config names a site.toml."""
    return "site" in node_config


def settings_of(node_config: Mapping[str, Any]) -> SiteSettings:
    """The settings of the site that this node's own config names.

    Raises:
        UsageError: they cannot be read.
    """
    return SiteSettings.load(Path(str(node_config["site"])), str(node_config.get("data", "")))


def hospital_at(settings: SiteSettings, request: Request) -> Hospital:
    """The hospital of this site, for a request that it accepts.

    Raises:
        Refusal: the request is for another hospital, names a path, or asks for more than the site allows.
        FedpolypError: the site's own images or settings cannot be used.
    """
    if request.hospital != settings.name:
        raise Refusal(f"this site is {settings.name}; a request for {printable(request.hospital)} is refused")
    if request.run_folder or request.store:
        raise Refusal("a request must not name a folder: a site's images are where the site says")
    if not _RUN.fullmatch(request.run):
        raise Refusal("a request to a site names its run by 32 hexadecimal digits")
    config = _config(settings, request.config)
    settings.limits.check(config, trains=isinstance(request, Train))
    try:
        config = config.ready()
    except UsageError:
        raise Refusal(f"this site cannot use the algorithm {config.algorithm.name} as the request has it") from None
    state = settings.state / request.run
    # Before the images are looked at: which of them are too small must not decide whether a request is refused.
    asked = json.dumps({"image_size": config.data.image_size})
    _refuse_changed(state / "asked.json", asked, "the sizes of images in the coordinator's requests")
    store, ids = images_of(settings, config.data.image_size)
    if not config.privacy.on:  # then a round is one pass, and a refusal would reveal the number of images
        settings.limits.check_steps(len(ids.train), config)
    files = files_digest(store, Partition((), {settings.name: ids}))
    _refuse_changed(state / "images.sha256", files, "this site's images, or how they are split,")
    lesions = json.dumps({"masks": settings.masks, "lesion_values": settings.lesion_values})
    _refuse_changed(state / "masks.json", lesions, "this site's masks and lesion_values in site.toml")
    private_state.prune(settings.state, request.run)
    keeper = settings.keeper if config.privacy.on else None
    keyring = None
    if config.privacy.secure_sums and isinstance(request, Train | Unmask):
        keyring = keyring_of(settings, request.roster)
    return Hospital(settings.name, config, store, ids, state, keeper=keeper, keyring=keyring)


def _config(settings: SiteSettings, text: str) -> Config:
    """The config that came as JSON.

    Raises:
        Refusal: it is not valid, or names an algorithm that the site does not allow; this is checked first.
    """
    try:
        plain = parse_json(text)
        algorithm = plain.get("algorithm", {})
        settings.limits.check_algorithm(algorithm.get("name", AlgorithmConfig.model_fields["name"].default))
        return Config.model_validate_json(text)
    except Refusal:
        raise
    except (ValueError, AttributeError):  # Pydantic's errors are ValueErrors
        raise Refusal("the request's config is not valid") from None


def _refuse_changed(kept: Path, now: str, what: str) -> None:
    """Refuse a request if `what` differs from the run's first request, which is recorded in the file `kept`.

    Raises:
        Refusal: it does; a training image of one round could be a test image of the next, and scores of two kinds of
            masks cannot be compared.
    """
    try:
        before = read_bytes(kept, _KEPT_BYTES).decode(errors="replace")
    except FileNotFoundError:
        write_text(kept, now)
        return
    if before != now:
        raise Refusal(f"{what} have changed since the run began: start another run")
