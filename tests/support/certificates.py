"""Certificates of a made-up authority, as files and as contexts for servers."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trustme

NAME = "jobs.example.test"
"""A name that no name server knows; a proxy connects this name to this machine."""


class Authority(NamedTuple):
    """An authority, and the file that holds its certificate."""

    ca: trustme.CA
    file: Path

    def server(self, *names: str, asks_client: bool = False, expired: bool = False) -> ssl.SSLContext:
        """Return a server's context with a certificate for these names; the server may demand a client certificate."""
        ends = datetime.now(UTC) - timedelta(days=1) if expired else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names or (NAME, "localhost", "127.0.0.1"), not_after=ends).configure_cert(context)
        if asks_client:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return context

    def client(self, folder: Path) -> tuple[Path, Path, Path]:
        """Make a client's certificate: return its file, the file of its key, and the file that holds both."""
        issued = self.ca.issue_cert("ada@example.test")
        paths = folder / "client.pem", folder / "client.key", folder / "both.pem"
        issued.cert_chain_pems[0].write_to_path(str(paths[0]))
        issued.private_key_pem.write_to_path(str(paths[1]))
        issued.private_key_and_cert_chain_pem.write_to_path(str(paths[2]))
        return paths


def authority(folder: Path, name: str = "ca.pem") -> Authority:
    """Make a new authority; its certificate is a file of the folder."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / name))
    return Authority(ca, folder / name)
