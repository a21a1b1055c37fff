"""Mask keys for secure sums: each site's own, and the roster of all public ones, signed by the federation's authority.

The coordinator sends the roster with its requests. It cannot change it: sites accept only the signature of the
authority in their `ca.crt`, and never a roster older than one that they have seen.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fedpolyp.errors import FedpolypError, Refusal, UsageError
from fedpolyp.files import read_bytes, write_text
from fedpolyp.privacy.keyring import Keyring
from fedpolyp.privacy.openings import OPENINGS, Openings
from fedpolyp.privacy.secure_sum import Member
from fedpolyp.sites.certificates import MOST_BYTES, Authority, read_authority, write_secret
from fedpolyp.sites.names import is_name
from fedpolyp.sites.settings import CoordinatorSettings, SiteSettings

_TITLE, _MADE, _SIGNED = "fedpolyp roster of mask keys 1", "made ", "signed "
_LINE = re.compile(r"(\S{1,64}) ([0-9a-f]{64})")
_KNOWN = "roster.txt"  # in a site's private folder: the newest roster that it has seen
_MOST_ROSTER_BYTES = 1 << 18
KEYGEN = "'fedpolyp site keygen' makes it"


class BadRoster(ValueError):
    """A roster that must not be used; the message is short and contains no names of files."""


@dataclass(frozen=True)
class Roster:
    """The public mask keys of all sites.

    As a text it can be read, and compared by telephone: a title, when it was made, a line with name and key in
    hexadecimal digits for each site, and the signature of all lines before.
    """

    made: str  # UTC, in ISO 8601 with microseconds: later rosters replace earlier ones
    keys: Mapping[str, bytes]  # X25519 (32 bytes each), by site

    @classmethod
    def new(cls, keys: Mapping[str, bytes]) -> "Roster":
        """A roster of these keys, made now."""
        return cls(datetime.now(UTC).isoformat(timespec="microseconds"), dict(sorted(keys.items())))

    def signed(self, authority: Authority) -> str:
        """The roster as a text, signed by `authority`."""
        lines = [_TITLE, _MADE + self.made, *(f"{site} {key.hex()}" for site, key in self.keys.items())]
        text = "\n".join(lines) + "\n"
        return f"{text}{_SIGNED}{authority.key.sign(text.encode(), ec.ECDSA(hashes.SHA384())).hex()}\n"

    @classmethod
    def read(cls, text: str, authority: x509.Certificate) -> "Roster":
        """The roster that `signed` made into `text`.

        Raises:
            BadRoster: it is not signed by `authority`, cannot be read, or has a site or a key twice.
        """
        body, mark, signature = text.rpartition(f"\n{_SIGNED}")
        public = authority.public_key()
        try:
            if not mark or not isinstance(public, ec.EllipticCurvePublicKey):
                raise InvalidSignature
            public.verify(bytes.fromhex(signature), f"{body}\n".encode(), ec.ECDSA(hashes.SHA384()))
        except (InvalidSignature, ValueError):
            raise BadRoster("the roster of mask keys is not signed by this federation's authority") from None
        title, made, *lines = *body.split("\n"), "", ""
        found = [_LINE.fullmatch(line) for line in lines[:-2]]
        if title != _TITLE or not made.startswith(_MADE) or not all(one and is_name(one[1]) for one in found):
            raise BadRoster("the roster of mask keys cannot be read")
        keys: dict[str, bytes] = {}
        for site, key in ((one[1], bytes.fromhex(one[2])) for one in found if one):
            if site in keys:
                raise BadRoster(f"{site} is in the roster of mask keys twice")
            if key in keys.values():
                raise BadRoster(f"{site} has the mask key of another site in the roster")
            keys[site] = key
        return cls(made.removeprefix(_MADE), keys)


def write_mask_key(private: Path, public: Path) -> None:
    """Write a new X25519 key pair in PEM: `private` (0600) and `public`.

    Raises:
        UsageError: one of them already exists.
    """
    for known in (private, public):
        if known.exists():
            raise UsageError(f"{known} already exists: a key is never overwritten")
    key = X25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    write_secret(private, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))


def read_mask_key(path: Path) -> X25519PrivateKey:
    """The private mask key in the file `path`.

    Raises:
        UsageError: there is none.
    """
    try:
        key = serialization.load_pem_private_key(read_bytes(path, MOST_BYTES), None)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; {KEYGEN}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise UsageError(f"{path} is not a private mask key as 'fedpolyp site keygen' makes it")
    return key


def read_public_mask_key(path: Path) -> bytes:
    """The public mask key (32 bytes) in the file `path`.

    Raises:
        UsageError: there is none.
    """
    try:
        content = read_bytes(path, MOST_BYTES)
        if b"PRIVATE KEY" in content:
            raise UsageError(f"{path} is a private key, which must not leave its site")
        key = serialization.load_pem_public_key(content)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, X25519PublicKey):
        raise UsageError(f"{path} is not a public mask key as 'fedpolyp site keygen' makes it")
    return key.public_bytes_raw()


def write_roster(authority: Authority, coordinator: CoordinatorSettings) -> tuple[str, ...]:
    """Write the coordinator's roster of all its sites whose public mask keys lie in its folder; returns their names.

    Raises:
        UsageError: a file is not a mask key, or two sites have the same.
    """
    files = {site: coordinator.public_mask_key(site) for site in coordinator.sites}
    keys = {site: read_public_mask_key(file) for site, file in files.items() if file.exists()}
    if keys:
        text = Roster.new(keys).signed(authority)
        try:
            Roster.read(text, authority.certificate)
        except BadRoster as error:
            raise UsageError(f"{coordinator.sites_folder}: {error}") from None
        write_text(coordinator.roster, text)
    return tuple(sorted(keys))


def roster_to_send(coordinator: CoordinatorSettings, sites: Collection[str]) -> str:
    """The coordinator's roster, which must have the mask keys of all `sites`.

    Raises:
        UsageError: there is none, it is not signed by the authority, or a site is missing.
    """
    file = coordinator.roster
    try:
        text = read_bytes(file, _MOST_ROSTER_BYTES).decode()
        roster = Roster.read(text, read_authority(coordinator.authority))
    except FileNotFoundError:
        raise UsageError(f"secure sums need {file}, the signed mask keys: 'fedpolyp site certify' makes it") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be used: {error}") from None
    if missing := sorted(set(sites) - roster.keys.keys()):
        raise UsageError(
            f"{file} has no mask key of {', '.join(missing)}: put {missing[0]}.mask.pub, which 'fedpolyp site keygen' "
            f"makes at the site, into {coordinator.sites_folder}, and call 'fedpolyp site certify'"
        )
    return text


def keyring_of(settings: SiteSettings, sent: str) -> Keyring:
    """What the site masks with, once the roster that was `sent` to it has been verified.

    Raises:
        Refusal: the roster is not signed by the site's authority, is older than one that the site has seen, or has
            another key for this site; or the site has no mask key.
        FedpolypError: a file of the site's own cannot be used.
    """
    if not settings.mask_key.exists():
        raise Refusal("this site has no mask key, so it takes part in no secure sum ('fedpolyp site keygen' makes one)")
    key, authority = read_mask_key(settings.mask_key), read_authority(settings.authority)
    try:
        roster = Roster.read(sent, authority)
    except BadRoster as error:
        raise Refusal(str(error)) from None
    member = Member(settings.name, key)
    if roster.keys.get(settings.name) != member.public:
        raise Refusal(f"the key of {settings.name} in the roster of mask keys is not that of this site")
    _refuse_older(settings.private / _KNOWN, roster, sent, authority)
    return Keyring(member, roster.keys, Openings(settings.private / OPENINGS))


def _refuse_older(file: Path, roster: Roster, text: str, authority: x509.Certificate) -> None:
    """Keep `roster` in `file`, and refuse one that is older than the one there: it may have a key that was stolen.

    Raises:
        Refusal: it is older.
        FedpolypError: the file cannot be used.
    """
    try:
        known = Roster.read(read_bytes(file, _MOST_ROSTER_BYTES).decode(), authority)
    except FileNotFoundError:
        known = None
    except ValueError as error:
        raise FedpolypError(f"{file} cannot be used: {error}; remove it if the authority has changed") from None
    if known is not None and roster.made < known.made:
        raise Refusal(f"this site has seen a newer roster of mask keys than this one of {roster.made[:19]}")
    if known is None or roster.made > known.made:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        write_text(file, text)
