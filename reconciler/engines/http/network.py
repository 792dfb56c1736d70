"""The network between this machine and a service: the proxy, the trusted certificates and the client's certificate.

The settings come from the target of the manifest, and from the environment variables that requests and OpenSSL read.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from reconciler.engines.http.endpoints import is_loopback
from reconciler.engines.http.targets import Access
from reconciler.host.secrecy import secrets_in_url
from reconciler.model.errors import EngineError

_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h", "socks4", "socks4a")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SOCKS_PORT = 1080


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the variable that names the proxy. `url` holds the credentials of the proxy; `shown` does not."""

    url: str = field(repr=False)
    variable: str

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def place(self) -> tuple[str, int]:
        """The host and the port of the proxy."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, _SOCKS_PORT)

    @property
    def shown(self) -> str:
        """The proxy in words, such as "the proxy http://proxy.example:3128 (HTTPS_PROXY)"."""
        parts = urlsplit(self.url)
        return f"the proxy {parts.scheme}://{parts.netloc.rpartition('@')[2]} ({self.variable})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The parts of the URL that no text may show."""
        return secrets_in_url(self.url)


class Certificates(NamedTuple):
    """The trusted certificates of authorities: a file, a folder or both, and the settings that name them.

    Without a file and a folder, the certificates of the package `certifi` are trusted. `is_given` is set if the setting
    holds the certificates themselves, and the file is one of this program.
    """

    file: str = ""
    folder: str = ""
    named_by: str = ""
    is_given: bool = False

    def __str__(self) -> str:
        if not self.named_by:
            return "the certificates that come with certifi"
        if self.is_given:
            return self.named_by
        return f"{' and '.join(filter(None, (self.file, self.folder)))} ({self.named_by})"


class Settings(NamedTuple):
    """The settings that a message names to the user.

    They are those of the trusted authority, of the client's certificate, and of the address of the service. `is_given`
    is set if the setting of the client's certificate holds it, and its files are those of this program.
    """

    ca: str = "target.ca, or REQUESTS_CA_BUNDLE"
    certificate: str = "target.clientCertificate"
    endpoint: str = "the endpoint"
    is_given: bool = False


class Network(NamedTuple):
    """The proxy, the trusted certificates, and the files of the client's certificate and key.

    `server_name` is the name that the server is asked for (SNI) and that its certificate is for; "" for the host of the
    endpoint. `is_unverified` is set if any certificate of the server is accepted. A proxy's certificate is always
    checked. `settings` are named in messages.

    The default is a direct connection that trusts the certificates of `certifi`.
    """

    proxy: Proxy | None = None
    trusted: Certificates = Certificates()
    certificate: str = ""
    key: str = ""
    server_name: str = ""
    is_unverified: bool = False
    settings: Settings = Settings()


DIRECT = Network()


def network_for(endpoint: str, access: Access, env: Mapping[str, str]) -> Network:
    """Return the network settings for an endpoint. Raises `EngineError` for a proxy that can't be used."""
    return Network(
        proxy_for(endpoint, env),
        _trusted(access, env),
        os.path.expanduser(access.certificate),
        os.path.expanduser(access.key),
    )


def proxy_for(url: str, env: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for a URL.

    The answer is None if no proxy is set, if NO_PROXY names the host, or if the host is loopback.

    The lower-case name of a variable counts before the upper-case name. HTTP_PROXY does not count if REQUEST_METHOD is
    set, since a web server may have made HTTP_PROXY of a request header (https://httpoxy.org). Raises `EngineError` for
    a value that is not the URL of a proxy.
    """
    parts = urlsplit(url)
    if is_loopback(url):
        return None
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            value = env.get(variable, "").strip()
            if value and not (variable == "HTTP_PROXY" and "REQUEST_METHOD" in env):
                return None if _is_exempt(url, env) else named_proxy(value, variable)
    return None


def _is_exempt(url: str, env: Mapping[str, str]) -> bool:
    from requests.utils import should_bypass_proxies

    exempt = env.get("no_proxy") or env.get("NO_PROXY") or ""
    if "*" in exempt.replace(" ", "").split(","):
        return True
    return bool(exempt and should_bypass_proxies(url, exempt))


def named_proxy(value: str, variable: str) -> Proxy:
    """Return the proxy that the value of a variable, or of another setting, names.

    A value without a scheme is an HTTP proxy. Raises `EngineError` for a value that is not the URL of a proxy. No error
    quotes the value, since the value may hold a password.
    """
    url = value if "://" in value else f"http://{value}"
    scheme, _, rest = url.partition("://")
    proxy = Proxy(f"{scheme.lower()}://{rest}", variable)
    hint = f"set {variable} to http://HOST:PORT, https://HOST:PORT or socks5h://HOST:PORT"
    if proxy.scheme not in _PROXY_SCHEMES:
        raise EngineError(f"{variable} names a proxy of an unknown kind", hint)
    try:
        host, _ = proxy.place
    except ValueError:
        host = ""
    if not host or not all("!" <= character <= "~" for character in url):
        raise EngineError(f"{variable} is no URL of a proxy", hint)
    if proxy.scheme.startswith("socks"):
        from importlib.util import find_spec

        if find_spec("socks") is None:
            raise EngineError(
                f"{proxy.shown} speaks SOCKS, which needs PySocks, and that is not installed",
                "pip install 'job-reconciler[socks]', or PySocks itself",
            )
    return proxy


def _trusted(access: Access, env: Mapping[str, str]) -> Certificates:
    for name, value in (("target.ca", access.ca), *((name, env.get(name, "")) for name in _CA_VARIABLES)):
        if value:
            path = os.path.expanduser(value)
            return Certificates("", path, name) if os.path.isdir(path) else Certificates(path, "", name)
    file, folder = env.get("SSL_CERT_FILE", ""), env.get("SSL_CERT_DIR", "")
    named_by = " and ".join(name for name, path in (("SSL_CERT_FILE", file), ("SSL_CERT_DIR", folder)) if path)
    return Certificates(file, folder, named_by)
