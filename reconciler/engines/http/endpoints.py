"""Endpoints: the URLs of services. A rule says which URLs are allowed, and which two URLs are the same endpoint."""

import re

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?!\.))*")
_LOOPBACK = re.compile(r"localhost|127(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}", re.IGNORECASE)
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_DEFAULT_PORTS = {"https": "443", "http": "80"}


def endpoint_fault(url: str, *, insecure: bool = False) -> str:
    """What is wrong with an endpoint, and how to correct it; "" if the endpoint is valid.

    An endpoint is an https URL. An http URL is valid for loopback, and for any host if the target is `insecure`. The
    text never quotes the URL, because a URL may hold a password before its "@".
    """
    if not all("!" <= character <= "~" for character in url):
        return "has white space, a control character or a character outside ASCII: remove it, or percent-encode it"
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator:
        return "is no URL: write it as https://HOST/PATH"
    if scheme not in _DEFAULT_PORTS:
        return "has another scheme than https: write it as https://HOST/PATH"
    for mark, name in (("?", "query"), ("#", "fragment")):
        if mark in rest:
            return f'has a {name}: remove the "{mark}" and what follows it'
    authority, _, path = rest.partition("/")
    if "@" in authority:
        return 'has user info: remove what stands before the "@"; credentials are read from the environment'
    host, port = _split(authority)
    if not host:
        return "has no host: write it as https://HOST/PATH"
    if host.startswith("["):
        if not _is_ipv6(host):
            return "has no valid IPv6 address between its brackets: write it as https://[ADDRESS]/PATH"
    elif not _HOST.fullmatch(host):
        return "has a host that is no host name: use letters, digits, dots and hyphens"
    if port is not None and not (port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        return "has no valid port: use a number from 1 to 65535, or leave the colon out"
    if not _PATH.fullmatch(path):
        return "has a character in its path that a URL can't carry: percent-encode it"
    if scheme == "http" and not insecure and not _is_loopback(host):
        return "is http: use https; http is for localhost, 127.0.0.0/8, [::1], and a target that is `insecure: true`"
    return ""


def is_loopback(url: str) -> bool:
    """Whether a valid endpoint is on this machine: localhost, 127.0.0.0/8 or [::1]."""
    return _is_loopback(_split(url.partition("://")[2].partition("/")[0])[0])


def is_in_clear(url: str) -> bool:
    """Whether requests to a valid endpoint cross the network without encryption."""
    return url.startswith("http://") and not is_loopback(url)


def _is_loopback(host: str) -> bool:
    if host.startswith("["):
        from ipaddress import IPv6Address

        return IPv6Address(host[1:-1]) == IPv6Address("::1")
    return bool(_LOOPBACK.fullmatch(host))


def normalize_endpoint(url: str) -> str:
    """The normal form of a valid endpoint. Two URLs of the same endpoint have the same normal form.

    Scheme and host are in lower case. The default port and trailing slashes are left out.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    authority, slash, path = rest.partition("/")
    host, port = _split(authority.lower())
    shown_port = "" if port is None or port == _DEFAULT_PORTS[scheme] else f":{port}"
    return f"{scheme}://{host}{shown_port}{slash}{path}".rstrip("/")


def _split(authority: str) -> tuple[str, str | None]:
    """The host and the port. An IPv6 address keeps its brackets. The port is None if there is no colon."""
    bracket = authority.rfind("]") + 1
    host, colon, port = authority[bracket:].partition(":")
    return authority[:bracket] + host, port if colon else None


def _is_ipv6(host: str) -> bool:
    from ipaddress import AddressValueError, IPv6Address

    try:
        return bool(IPv6Address(host[1:-1])) if host.endswith("]") else False
    except AddressValueError:
        return False
