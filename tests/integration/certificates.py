"""Certificates for tests of TLS and of signed messages: made for one test, by a CA of its own."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

_USAGES = (
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path
    name: x509.Name
    private_key: rsa.RSAPrivateKey

    @classmethod
    def make(cls, folder: Path, name: str, authority: "Certificate | None" = None) -> "Certificate":
        """Make one for localhost.

        Args:
            folder: Where its files go.
            name: Whose it is.
            authority: Who signs it; without one it is a CA and signs itself.
        """
        key = rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
        signer = authority.private_key.public_key() if authority else key.public_key()
        usage = dict.fromkeys(_USAGES, False) | ({"key_cert_sign": True} if authority is None else {})
        signed = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority.name if authority else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
            .add_extension(x509.KeyUsage(**usage, digital_signature=True), critical=True)
            .sign(authority.private_key if authority else key, hashes.SHA256())
        )
        certificate, key_file = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        return cls(certificate, key_file, subject, key)
