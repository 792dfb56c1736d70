"""The credentials of the jobs API, and the access token that they stand for at a time.

What holds a secret shows none: not in `repr`, not in an error.
"""

import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from reconciler.host.secrecy import CREDENTIAL_VARIABLES, Secrets
from reconciler.model.errors import CredentialsError, ReconcilerError

TOKEN_VARIABLE, API_KEY_VARIABLE = CREDENTIAL_VARIABLES
_LIFE_LIMIT_S = 10 * 365 * 86400
_REFUSAL_HOLDS_S = 60.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access token, an API key to exchange for one, or both: then the token is used first."""

    access_token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Credentials":
        """The credentials that the environment holds. Raises `CredentialsError` for none or malformed ones."""
        found = cls(*(_checked(environment, name) for name in (TOKEN_VARIABLE, API_KEY_VARIABLE)))
        if found.access_token is None and found.api_key is None:
            raise CredentialsError(
                f"no credentials: neither {TOKEN_VARIABLE} nor {API_KEY_VARIABLE} is set",
                f"set {TOKEN_VARIABLE} to an access token, or {API_KEY_VARIABLE} to an API key",
            )
        return found


def _checked(environment: Mapping[str, str], name: str) -> str | None:
    value = environment.get(name, "").strip()
    if not value:
        # CI systems set the variable of a secret that is not there to nothing.
        return None
    if not is_header_safe(value):
        raise CredentialsError(
            f"{name} holds a character that can't be sent: white space, a control character or one beyond ASCII",
            f"set {name} to the bare value: one line, without `Bearer` and without quotes",
        )
    return value


def is_header_safe(value: str) -> bool:
    """Whether a header can carry the value unchanged: visible ASCII, and not empty."""
    return bool(value) and all("!" <= character <= "~" for character in value)


@dataclass(frozen=True, slots=True)
class Grant:
    """An access token and the seconds that it lives, None where that is not told."""

    token: str = field(repr=False)
    life_s: float | None


def token_url(endpoint: str) -> str:
    """Where an API key is exchanged: beside the customer API, or below any other endpoint."""
    return endpoint.removesuffix("/customer") + "/auth/access_token"


def life_s(value: object) -> float | None:
    """The seconds of an `expiresIn`: a number, or a string of decimal digits; None where it is neither."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 < value < _LIFE_LIMIT_S else None


def renew_after_s(life_s: float) -> float:
    """When to renew: at 80 % of a token's life or 60 s before its end, but not before half of it."""
    return max(min(0.8 * life_s, life_s - 60), 0.5 * life_s)


class Tokens:
    """The access token in use, shared by all threads.

    One thread renews the token, and every other thread that needs a new one meanwhile waits for the same verdict.
    The verdict that there is none holds for a minute: a service that is down is asked once, and not by each call.

    `exchange` turns the API key into a grant; what it raises goes to the callers. An API key that the service
    rejects is not tried again. `noted` is told of each token that is granted.
    """

    def __init__(
        self,
        credentials: Credentials,
        exchange: Callable[[str], Grant],
        clock: Callable[[], float],
        noted: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._api_key = credentials.api_key
        self._exchange = exchange
        self._clock = clock
        self._lock = threading.Lock()
        self._token = credentials.access_token
        self._renew_at_s = math.inf
        self._renewal: Future[None] | None = None
        self._refusal: ReconcilerError | None = None
        self._refusal_ends_s = 0.0
        self._noted = noted
        self._secrets = Secrets((credentials.access_token, credentials.api_key))

    def token(self) -> str:
        """The token to send next, renewed where its time has come."""
        with self._lock:
            token = self._token
            # A token that still lives is good enough while another thread renews it.
            if token is not None and (self._clock() < self._renew_at_s or self._renewal is not None):
                return token
        try:
            token = self.renewed(token)
        except ReconcilerError:
            if token is None:
                raise
            with self._lock:
                # The token still lives. From here on only a 401 renews it, so that not every call waits for this.
                self._renew_at_s = math.inf
                self._refusal_ends_s = self._clock()
        assert token is not None
        return token

    def renewed(self, outdated: str | None) -> str | None:
        """A token other than the outdated one; None where there is no API key to get it with.

        Raises what came of the exchange: `CredentialsError` or `EngineError`.
        """
        with self._lock:
            if self._token != outdated:
                return self._token
            if self._api_key is None:
                return None
            renewal, is_ours = self._renewal, self._renewal is None
            if renewal is None:
                self._raise_refusal()
                renewal = self._renewal = Future()
        if is_ours:
            try:
                self._renew(self._api_key)
            finally:
                with self._lock:
                    self._renewal = None
                renewal.set_result(None)
        renewal.result()
        with self._lock:
            if self._token == outdated:
                self._raise_refusal()
            return self._token

    def withhold(self, secret: str) -> None:
        """Count another credential, such as a proxy's, among what no text may show."""
        self._secrets.add(secret)

    def redact(self, text: str) -> str:
        """The text without any secret ever used here."""
        return self._secrets.redact(text)

    def _raise_refusal(self) -> None:
        """Raise the last refusal while it holds; that of the key itself holds for good."""
        refusal = self._refusal
        if refusal is not None and (isinstance(refusal, CredentialsError) or self._clock() < self._refusal_ends_s):
            raise type(refusal)(refusal.message, refusal.hint)

    def _renew(self, api_key: str) -> None:
        try:
            grant = self._exchange(api_key)
        except ReconcilerError as error:
            with self._lock:
                # Without its traceback, whose frames hold the key.
                self._refusal = type(error)(error.message, error.hint)
                self._refusal_ends_s = self._clock() + _REFUSAL_HOLDS_S
            return
        self._secrets.add(grant.token)
        self._noted(grant.token)
        with self._lock:
            self._refusal = None
            self._renew_at_s = math.inf if grant.life_s is None else self._clock() + renew_after_s(grant.life_s)
            self._token = grant.token
