"""Keys and certificates: an authority for a federation, a certificate for its coordinator, a key for each site."""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedpolyp.errors import FedpolypError, UsageError

AUTHORITY_DAYS, SERVER_DAYS = 3650, 397
_BEFORE = timedelta(hours=1)  # a site's clock may be a little behind


@dataclass(frozen=True)
class Authority:
    """Who signs the coordinator's certificate; sites trust what it has signed and nothing else."""

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
        """The authority whose files these are.

        Raises:
            FedpolypError: a file cannot be read as what it should be.
        """
        try:
            private = serialization.load_pem_private_key(key.read_bytes(), None)
            public = x509.load_pem_x509_certificate(certificate.read_bytes())
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
        """A new P-384 key and a certificate for a server that is reached by `names`: host names or IP addresses."""
        key = ec.generate_private_key(ec.SECP384R1())
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return key, (
            _builder(_name(names[0]), self.certificate.subject, key.public_key(), start, days)
            .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(authority, critical=False)
            .sign(self.key, hashes.SHA384())
        )


def write_site_key(private: Path, site: str) -> Path:
    """Write a new P-384 key pair as OpenSSH files: `private` (0600) and, beside it, `site`.pub, whose path is returned.

    Raises:
        UsageError: one of them exists already.
    """
    public = private.with_name(f"{site}.pub")
    for known in (private, public):
        if known.exists():
            raise UsageError(f"{known} exists already: a key is never overwritten")
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
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if b"PRIVATE KEY" in content:
        raise UsageError(f"{path} is a private key, which must not leave its site; the public key ends in .pub")
    try:
        key = serialization.load_ssh_public_key(content)
    except ValueError as error:
        raise UsageError(f"{path} is not a public key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise UsageError(f"{path} is not a key on the curve P-384, which 'fedpolyp site keygen' makes")
    return key


def public_key_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """`key` in PEM, as the SuperLink knows sites."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def write_secret(path: Path, content: bytes) -> None:
    """Write the new file `path`, which nobody but its owner can read at any moment.

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
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime | None, days: int
) -> x509.CertificateBuilder:
    begin = start or datetime.now(UTC) - _BEFORE
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
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
