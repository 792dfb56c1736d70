"""Checksums of content."""

from hashlib import blake2b
from hashlib import sha256 as sha256_of


def sha256(content: bytes | memoryview) -> str:
    """SHA-256 (FIPS 180-4) in hexadecimal."""
    return sha256_of(content).hexdigest()


def checksum(content: bytes, *, size_bytes: int) -> bytes:
    """BLAKE2b (RFC 7693) of so many bytes."""
    return blake2b(content, digest_size=size_bytes).digest()
