"""The credentials of the jobs API, and the access token that is in use.

A value that holds a secret does not show the secret, neither in `repr` nor in an error.
"""

import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from reconciler.host.secrecy import BYTENITE_VARIABLES, Secrets
from reconciler.model.errors import CredentialsError, ReconcilerError

TOKEN_VARIABLE, API_KEY_VARIABLE = BYTENITE_VARIABLES
_LIFE_LIMIT_S = 10 * 365 * 86400
_REFUSAL_HOLDS_S = 60.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access token, an API key that buys access tokens, or both. With both, the token is used first."""

    access_token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Credentials":
        """Return the credentials of the environment.

        Raises `CredentialsError` if none are set, or if one is malformed.
        """
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
        # CI systems set the variable of a missing secret to an empty text.
        return None
    if not is_header_safe(value):
        raise CredentialsError(
            f"{name} holds a character that can't be sent: white space, a control character or one beyond ASCII",
            f"set {name} to the bare value: one line, without `Bearer` and without quotes",
        )
    return value


def is_header_safe(value: str) -> bool:
    """Return whether a header can carry the value unchanged: whether it is visible ASCII, and not empty."""
    return bool(value) and all("!" <= character <= "~" for character in value)


@dataclass(frozen=True, slots=True)
class Grant:
    """An access token, and its lifetime in seconds, or None if the service does not state the lifetime."""

    token: str = field(repr=False)
    life_s: float | None


def token_url(endpoint: str) -> str:
    """Return the URL at which an API key is exchanged.

    The URL is beside the customer API, or below any other endpoint.
    """
    return endpoint.removesuffix("/customer") + "/auth/access_token"


def life_s(value: object) -> float | None:
    """Return the seconds of an `expiresIn`, or None if the value has another form.

    The value is a number or a string of decimal digits.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 < value < _LIFE_LIMIT_S else None


def renew_after_s(life_s: float) -> float:
    """Return the seconds after which a token is renewed.

    The time is 80 % of the lifetime or 60 seconds before its end, whichever is earlier, and at least half of the
    lifetime.
    """
    return max(min(0.8 * life_s, life_s - 60), 0.5 * life_s)


class Tokens:
    """The access token in use, shared by all threads.

    One thread renews the token, and the other threads that need a new token wait for the result. A failure counts for
    60 seconds, so that not each call asks a service that is down. An API key that the service rejected is never sent
    again.

    `exchange` returns the grant for an API key, and its errors go to the callers. `noted` is called with each granted
    token.
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
        """Return the token for the next request, renewed if the time for the renewal has come.

        Raises the errors of `renewed` if there is no token at all. As long as the old token is valid, a failed renewal
        is ignored.
        """
        with self._lock:
            token = self._token
            # The old token is still valid while another thread renews it.
            if token is not None and (self._clock() < self._renew_at_s or self._renewal is not None):
                return token
        try:
            token = self.renewed(token)
        except ReconcilerError:
            if token is None:
                raise
            with self._lock:
                # The old token is still valid. From now on only a 401 renews the token, so other calls do not wait.
                self._renew_at_s = math.inf
                self._refusal_ends_s = self._clock()
        assert token is not None
        return token

    def renewed(self, outdated: str | None) -> str | None:
        """Return a token other than `outdated`, or None if there is no API key to get a token with.

        Raises the error of the exchange: `CredentialsError` or `EngineError`.
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
        """Add another credential, such as the password of a proxy, to the secrets that `redact` removes."""
        self._secrets.add(secret)

    def redact(self, text: str) -> str:
        """Return the text without the secrets that were ever used here."""
        return self._secrets.redact(text)

    def _raise_refusal(self) -> None:
        """Raise the last failure of a renewal again as long as the failure counts.

        A rejected API key counts for ever.
        """
        refusal = self._refusal
        if refusal is not None and (isinstance(refusal, CredentialsError) or self._clock() < self._refusal_ends_s):
            raise type(refusal)(refusal.message, refusal.hint)

    def _renew(self, api_key: str) -> None:
        try:
            grant = self._exchange(api_key)
        except ReconcilerError as error:
            with self._lock:
                # A copy of the error has no traceback. The frames of the traceback hold the API key.
                self._refusal = type(error)(error.message, error.hint)
                self._refusal_ends_s = self._clock() + _REFUSAL_HOLDS_S
            return
        self._secrets.add(grant.token)
        self._noted(grant.token)
        with self._lock:
            self._refusal = None
            self._renew_at_s = math.inf if grant.life_s is None else self._clock() + renew_after_s(grant.life_s)
            self._token = grant.token
