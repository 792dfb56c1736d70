"""Checksums, without hashlib where that does: it loads OpenSSL, which takes longer than to check a small file."""

import sys

_LARGE_BYTES = 1 << 20


def sha256(content: bytes | memoryview) -> str:
    """SHA-256 (FIPS 180-4) in hexadecimal."""
    if len(content) < _LARGE_BYTES:
        try:
            if sys.version_info >= (3, 12):
                from _sha2 import sha256 as lean
            else:
                from _sha256 import sha256 as lean  # type: ignore[import-not-found]
        except ImportError:
            from hashlib import sha256 as lean
    else:
        from hashlib import sha256 as lean
    digest: str = lean(content).hexdigest()
    return digest


def checksum(content: bytes, *, size_bytes: int, key: bytes = b"") -> bytes:
    """BLAKE2b (RFC 7693), keyed where there is a key."""
    try:
        from _blake2 import blake2b  # what hashlib itself takes
    except ImportError:
        from hashlib import blake2b
    digest: bytes = blake2b(content, digest_size=size_bytes, key=key).digest()
    return digest
