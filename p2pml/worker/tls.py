"""TLS between a node and a worker on another machine: a certificate that the worker makes for itself, which
the node knows by its fingerprint; or one that an authority has signed."""

from __future__ import annotations

import hashlib
import hmac
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

YEARS = 20


def make_certificate(certificate: Path, key: Path) -> None:
    """Write a self-signed certificate and its key, unless both are there. Raises OSError."""
    if certificate.exists() and key.exists():
        return
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "p2pml worker")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .sign(secret, hashes.SHA256())
    )
    text = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(text)
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For the worker's side. Raises OSError (ssl.SSLError is one)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    return context


def client_context(pinned: bool) -> ssl.SSLContext:
    """For the node's side; of a pinned certificate only the fingerprint counts, which is compared later."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if pinned:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate (DER), in hexadecimal digits."""
    return hashlib.sha256(certificate).hexdigest()


def file_fingerprint(certificate: Path) -> str:
    """That of the first certificate in a PEM file. Raises OSError or ValueError."""
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    return fingerprint(found.public_bytes(serialization.Encoding.DER))


def same_fingerprint(certificate: bytes, expected: str) -> bool:
    """Whether a certificate (DER) is the expected one; colons and capitals in the text do not matter."""
    return hmac.compare_digest(fingerprint(certificate), expected.replace(":", "").lower())
