"""The way to the head of a cluster: its address, the headers of each request, and the token, as Ray's own client has
them.

    RAY_API_SERVER_ADDRESS, RAY_ADDRESS         the URL of the head, if the target names none
    RAY_JOB_HEADERS                             further headers: a JSON object of texts
    RAY_AUTH_MODE=token                         a token is sent: that of RAY_AUTH_TOKEN, of the file of
    RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH         RAY_AUTH_TOKEN_PATH, of the service account where
    RAY_ENABLE_K8S_TOKEN_AUTH=true              RAY_ENABLE_K8S_TOKEN_AUTH is set, or of ~/.ray/auth_token

Ray's client lets the environment override the address that it is given. Here the manifest counts first: it says which
jobs there are, and the environment of one person must not send them elsewhere.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from reconciler.engines.http.endpoints import endpoint_fault, normalize_endpoint
from reconciler.engines.http.network import Network, network_for
from reconciler.engines.port import CredentialsError, EngineError
from reconciler.engines.ray.settings import HEADERS, TOKEN, Settings

DEFAULT_ADDRESS = "http://localhost:8265"
"""The address of a head that was started without further options."""

_ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"
_OWN_TOKEN_PATH = "~/.ray/auth_token"
_SERVICE_ACCOUNT_PATHS = (
    "/var/run/secrets/ray.io/serviceaccount/token",
    "/var/run/secrets/kubernetes.io/serviceaccount/token",
)
_SHORTEST_SECRET = 8
"""A shorter value of a header is part of common words, and no text would be readable without it."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OF_THE_TRANSPORT = frozenset(("accept-encoding", "connection", "content-length", "host", "transfer-encoding"))


class Way(NamedTuple):
    """The way to a head: the normal form of its URL, and the proxy and certificates."""

    address: str
    network: Network


def way_to_head(settings: Settings, env: Mapping[str, str]) -> Way:
    """Return the way to the head of a target. Raises `EngineError` for an address or a proxy that can't be used."""
    address = settings.address or _address_in(env, is_insecure=settings.access.insecure)
    return Way(address, network_for(address, settings.access, env))


def headers_in(env: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of each request, with the token. A file with a token is read anew at each call.

    Raises `EngineError` for headers that can't be sent, and `CredentialsError` if there is no token although
    RAY_AUTH_MODE asks for one.
    """
    headers = dict(_job_headers(env))
    if env.get("RAY_AUTH_MODE", "").lower() == "token" and "authorization" not in map(str.lower, headers):
        headers["Authorization"] = f"Bearer {_token(env)}"
    return headers


def secrets_in(env: Mapping[str, str]) -> Iterator[str]:
    """Yield the token and the values of the headers that the environment holds."""
    if token := env.get(TOKEN, "").strip():
        yield token
    try:
        values = [value for _, value in _job_headers(env)]
    except EngineError:
        values = [env.get(HEADERS, "")]
    for value in values:
        yield from secrets_of_header(value)


def secrets_of_header(value: str) -> Iterator[str]:
    """Yield what of the value of a header no text may show: the value, and the credential behind its scheme."""
    scheme, _, credential = value.partition(" ")
    for text in (value, credential.strip() if scheme.isalpha() else ""):
        if len(text) >= _SHORTEST_SECRET:
            yield text


def _address_in(env: Mapping[str, str], *, is_insecure: bool) -> str:
    name = next((each for each in _ADDRESS_VARIABLES if env.get(each, "").strip()), "")
    if not name:
        return DEFAULT_ADDRESS
    address = env[name].strip()
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    hint = f"set {name} to the URL of the head's dashboard, such as {DEFAULT_ADDRESS}; or name it as target.address"
    if scheme == "ray":
        raise EngineError(f"{name} is an address for Ray Client (ray://), and jobs are sent to the dashboard", hint)
    if scheme not in ("", "http", "https"):
        raise EngineError(f"{name} is an address of another service ({scheme}://), which has its own client", hint)
    if address in ("auto", "local"):
        raise EngineError(f"{name} is {address}, which names no address", hint)
    # As in Ray: an address without a scheme is http.
    url = address if scheme else f"http://{address}"
    if fault := endpoint_fault(url, insecure=is_insecure):
        raise EngineError(f"the address of {name} {fault}", hint)
    return normalize_endpoint(url)


def _job_headers(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the headers of RAY_JOB_HEADERS. No error quotes them, since they may hold credentials."""
    text = env.get(HEADERS, "").strip()
    if not text:
        return
    hint = f"set {HEADERS} to a JSON object of texts, such as " + '{"Authorization": "Bearer …"}'
    try:
        headers = json.loads(text)
    except ValueError:
        raise EngineError(f"{HEADERS} is no JSON", hint) from None
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise EngineError(f"{HEADERS} is no JSON object of texts", hint)
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise EngineError(f"{HEADERS} has a name that no header can have", hint)
        if name.lower() in _OF_THE_TRANSPORT:
            raise EngineError(f"{HEADERS} has {name}, which belongs to the connection", f"leave it out of {HEADERS}")
        if not _is_sendable(value):
            raise EngineError(f"the value of {name} in {HEADERS} holds a character that can't be sent", hint)
        yield name, value


def _token(env: Mapping[str, str]) -> str:
    if token := env.get(TOKEN, "").strip():
        return _checked(token, TOKEN)
    if path := env.get(_TOKEN_PATH, "").strip():
        return _checked(_token_at(path), path)
    paths: tuple[str, ...] = (_OWN_TOKEN_PATH,)
    if env.get("RAY_ENABLE_K8S_TOKEN_AUTH", "").lower() in ("1", "true"):
        paths = (*_SERVICE_ACCOUNT_PATHS, *paths)
    for path in paths:
        if os.path.exists(_in_home(path, env)):
            return _checked(_token_at(_in_home(path, env)), path)
    raise CredentialsError(
        f"RAY_AUTH_MODE is token, and there is no token: neither {TOKEN} nor {_TOKEN_PATH}, nor {_OWN_TOKEN_PATH}",
        "ray get-auth-token prints the token of the cluster, where it was made",
    )


def _token_at(path: str) -> str:
    try:
        with open(os.path.expanduser(path), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError as fault:
        raise CredentialsError(f"{path} can't be read: {fault.strerror}", "have the file written anew") from fault


def _checked(token: str, where: str) -> str:
    if not token:
        raise CredentialsError(f"{where} holds no token", "have the file written anew")
    if not _is_sendable(token) or " " in token:
        raise CredentialsError(f"the token of {where} holds a character that can't be sent", "have it made anew")
    return token


def _in_home(path: str, env: Mapping[str, str]) -> str:
    home = env.get("HOME", "")
    return os.path.join(home, path[2:]) if path.startswith("~/") and home else os.path.expanduser(path)


def _is_sendable(text: str) -> bool:
    return all(" " <= character <= "~" for character in text)
