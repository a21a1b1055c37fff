"""Keys and certificates: a federation's authority, a certificate for its coordinator, a key and one for each site."""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.files import read_bytes

AUTHORITY_DAYS, SERVER_DAYS = 3650, 397
CIPHERS = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256"  # of TLS 1.2
MOST_BYTES = 64 * 1024  # of a file with a key or a certificate
_BEFORE = timedelta(hours=1)  # a site's clock may be a little behind


@dataclass(frozen=True)
class Authority:
    """Signs the certificates of coordinator and sites; both trust only its signatures."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(cls, name: str, start: datetime | None = None, days: int = AUTHORITY_DAYS) -> "Authority":
        """A new authority called `name` with a P-384 key, valid from `start` (now) for `days`."""
        key, subject = ec.generate_private_key(ec.SECP384R1()), _name(name)
        return cls(
            key,
            _builder(subject, subject, key.public_key(), start, days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA384()),
        )

    @classmethod
    def load(cls, key: Path, certificate: Path) -> "Authority":
        """The authority in these files.

        Raises:
            FedpolypError: a file cannot be read, or is not what it should be.
        """
        try:
            private = serialization.load_pem_private_key(read_bytes(key, MOST_BYTES), None)
            public = x509.load_pem_x509_certificate(read_bytes(certificate, MOST_BYTES))
        except (OSError, ValueError, TypeError) as error:
            raise FedpolypError(
                f"{key} and {certificate} are not an authority's key and certificate: {error}"
            ) from None
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != public.public_key():
            raise FedpolypError(f"{key} is not the key of {certificate}")
        return cls(private, public)

    def server_certificate(
        self, names: Sequence[str], start: datetime | None = None, days: int = SERVER_DAYS
    ) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        """A new P-384 key and a certificate for a server with these `names`: host names or IP addresses."""
        key = ec.generate_private_key(ec.SECP384R1())
        builder = _builder(_name(names[0]), self.certificate.subject, key.public_key(), start, days).add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
        )
        return key, self._signed(builder, ExtendedKeyUsageOID.SERVER_AUTH)

    def site_certificate(
        self, site: str, key: ec.EllipticCurvePublicKey, start: datetime | None = None, days: int | None = None
    ) -> x509.Certificate:
        """A certificate that identifies `site` to the coordinator, for its public key; valid as long as the
        authority's.

        The coordinator decides which sites it admits, by the certificates in its folder.
        """
        end = None if days is not None else self.certificate.not_valid_after_utc
        builder = _builder(_name(site), self.certificate.subject, key, start, days or 0, end)
        return self._signed(builder, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _signed(self, builder: x509.CertificateBuilder, use: x509.ObjectIdentifier) -> x509.Certificate:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(authority, critical=False)
            .sign(self.key, hashes.SHA384())
        )


def write_site_key(private: Path, site: str) -> Path:
    """Write a new P-384 key pair as OpenSSH files: `private` (0600) and beside it `site`.pub; returns the latter's
    path.

    Raises:
        UsageError: one of them already exists.
    """
    public = private.with_name(f"{site}.pub")
    for known in (private, public):
        if known.exists():
            raise UsageError(f"{known} already exists: a key is never overwritten")
    key = ec.generate_private_key(ec.SECP384R1())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    write_secret(private, key.private_bytes(encoding, form, serialization.NoEncryption()))
    plain = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    public.write_bytes(plain + b" " + site.encode() + b"\n")
    return public


def read_public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """The public key in the OpenSSH file `path`.

    Raises:
        UsageError: it is a private key, or no public key on P-384.
    """
    try:
        content = read_bytes(path, MOST_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if b"PRIVATE KEY" in content:
        raise UsageError(f"{path} is a private key, which must not leave its site; the public key ends in .pub")
    try:
        key = serialization.load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is not a public key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise UsageError(f"{path} is not a key on the curve P-384, which 'fedpolyp site keygen' makes")
    return key


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in the PEM file `path`.

    Raises:
        UsageError: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(read_bytes(path, MOST_BYTES))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} holds no certificate") from None


def read_authority(path: Path, now: datetime | None = None) -> x509.Certificate:
    """The certificate of the federation's authority in the PEM file `path`: exactly one, of an authority, valid `now`.

    With an empty file, a library would trust all authorities that the machine knows.

    Raises:
        UsageError: it is not an authority's, there is more than one, or it has expired.
    """
    about = f"cannot read the authority's certificate {path}"
    try:
        found = x509.load_pem_x509_certificates(read_bytes(path, MOST_BYTES))
        signs = [one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for one in found]
    except OSError as error:
        raise UsageError(f"{about}: {error.strerror}") from None
    except x509.ExtensionNotFound:
        signs = [False]
    except ValueError:
        raise UsageError(f"{about}: it holds no certificate") from None
    if len(signs) != 1:
        raise UsageError(f"{path} must hold one certificate, the authority's; it holds {len(signs)}")
    if not signs[0]:
        raise UsageError(f"{path} is not the certificate of an authority, but of a server or a site")
    ends = found[0].not_valid_after_utc
    if ends < (now or datetime.now(UTC)):
        raise UsageError(
            f"the authority's certificate {path} has expired on {ends:%Y-%m-%d}: the federation needs a new one, which "
            "'fedpolyp site init' makes (or this machine's clock is wrong)"
        )
    return found[0]


def check_pair(key: Path, certificate: Path) -> None:
    """Refuse a server's key and certificate that do not belong together: 'site renew' was killed between the two.

    Raises:
        FedpolypError: they do not, or one cannot be read.
    """
    try:
        private = serialization.load_pem_private_key(read_bytes(key, MOST_BYTES), None)
    except OSError as error:
        raise UsageError(f"cannot read {key}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError(f"{key} holds no private key") from None
    if private.public_key() != read_certificate(certificate).public_key():
        raise FedpolypError(f"{key} is not the key of {certificate}: 'fedpolyp site renew' makes both again")


def site_of(certificate: x509.Certificate) -> str:
    """The name that a site's certificate was made for."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def private_key_pem(path: Path) -> bytes:
    """The site's private key in the OpenSSH file `path`, in PEM, as TLS needs it.

    Raises:
        UsageError: it does not contain one.
    """
    try:
        key = serialization.load_ssh_private_key(read_bytes(path, MOST_BYTES), None)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{path} is not a private key as 'fedpolyp site keygen' makes it")
    return key_pem(key)


def public_key_pem(key: CertificatePublicKeyTypes) -> bytes:
    """`key` in PEM, as the SuperLink identifies sites."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def write_secret(path: Path, content: bytes) -> None:
    """Write the new file `path`, which only its owner can ever read.

    Raises:
        FileExistsError: there is such a file.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(content)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """`key` in PEM, unencrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """`certificate` in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    start: datetime | None,
    days: int,
    end: datetime | None = None,
) -> x509.CertificateBuilder:
    begin = start or datetime.now(UTC) - _BEFORE
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end or begin + timedelta(days=days))
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
