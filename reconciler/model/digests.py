"""Digests of content."""

from hashlib import blake2b
from hashlib import sha256 as sha256_of


def sha256(content: bytes | memoryview) -> str:
    """The SHA-256 digest (FIPS 180-4), as 64 hex digits."""
    return sha256_of(content).hexdigest()


def checksum(content: bytes, *, size_bytes: int) -> bytes:
    """The BLAKE2b digest (RFC 7693) of a content. `size_bytes` is the length of the digest, from 1 to 64."""
    return blake2b(content, digest_size=size_bytes).digest()
