"""The credentials of requests to an API server: tokens that rotate, passwords, and programs that print a credential."""

import base64
import json
import os
import subprocess
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from reconciler.engines.kubernetes.kubeconfig import ExecPlugin, User
from reconciler.engines.port import CredentialsError, Surroundings

_FILE_LASTS_S = 60.0
"""How long a token of a file is used before the file is read again, as in client-go. A kubelet renews such files."""

_EXEC_WITHIN_S = 60.0
_RENEW_BEFORE_S = 30.0


class Credential(NamedTuple):
    """What a source of credentials returned. `expires_s` is in seconds since 1970; None if no time is known."""

    token: str = ""
    certificate: str = ""
    key: str = ""
    expires_s: float | None = None

    def __repr__(self) -> str:
        return f"Credential(expires_s={self.expires_s})"


class Credentials:
    """The value of the header `Authorization` for a user. Several threads may call any method at the same time."""

    def __init__(self, user: User, surroundings: Surroundings) -> None:
        self._user = user
        self._surroundings = surroundings
        self._lock = threading.Lock()
        self._current: Credential | None = None

    def current(self) -> Credential:
        """Return the credential, read anew once its time is over. Raises `CredentialsError` if there is none."""
        with self._lock:
            now_s = self._surroundings.wall_s()
            if self._current is None or (self._current.expires_s or float("inf")) <= now_s:
                self._current = self._fetched(now_s)
            return self._current

    def renewed(self, rejected: Credential) -> Credential | None:
        """Return another credential than the rejected one; None if there is no other one."""
        if not self._user.token_file and self._user.exec_plugin is None:
            return None
        with self._lock:
            if self._current is None or self._current.token == rejected.token:
                self._current = self._fetched(self._surroundings.wall_s())
            return None if self._current.token == rejected.token else self._current

    def header(self, credential: Credential) -> str:
        """Return the header `Authorization`, or ""."""
        if credential.token:
            return f"Bearer {credential.token}"
        if self._user.username:
            pair = f"{self._user.username}:{self._user.password}"
            return f"Basic {base64.b64encode(pair.encode()).decode()}"
        return ""

    def _fetched(self, now_s: float) -> Credential:
        user = self._user
        if user.exec_plugin is not None:
            found = _executed(user.exec_plugin, self._surroundings.env)
        elif user.token_file:
            found = Credential(_token_in(user.token_file), expires_s=now_s + _FILE_LASTS_S)
        else:
            found = Credential(user.token)
        if found.token and not all("!" <= character <= "~" for character in found.token):
            raise CredentialsError(
                "the token of the kubeconfig holds a character that can't be sent", "have it made anew"
            )
        for secret in (found.token, user.password):
            if secret:
                self._surroundings.note_credential(secret)
        return found


def _token_in(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            token = file.read().strip()
    except (OSError, UnicodeDecodeError) as fault:
        raise CredentialsError(f"the token in {path} can't be read: {fault}", "have the file written anew") from fault
    if not token:
        raise CredentialsError(f"{path} holds no token", "have the file written anew")
    return token


def _executed(plugin: ExecPlugin, env: Mapping[str, str]) -> Credential:
    """Return what a program prints. Its error output goes to the user, as kubectl does it."""
    spec: dict[str, Any] = {"interactive": False}
    if plugin.cluster:
        spec["cluster"] = dict(plugin.cluster)
    asked = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    named = os.path.basename(plugin.command)
    try:
        done = subprocess.run(
            [plugin.command, *plugin.args],
            env={**env, **plugin.env, "KUBERNETES_EXEC_INFO": json.dumps(asked)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_EXEC_WITHIN_S,
            check=False,
        )
    except (OSError, ValueError) as fault:
        raise CredentialsError(f"the exec plugin {named} can't be started: {fault}", plugin.install_hint) from fault
    except subprocess.TimeoutExpired as fault:
        raise CredentialsError(f"the exec plugin {named} took longer than {_EXEC_WITHIN_S:g} s") from fault
    if done.returncode:
        raise CredentialsError(f"the exec plugin {named} failed: exit code {done.returncode}", plugin.install_hint)
    return _parsed(done.stdout, named)


def _parsed(printed: bytes, named: str) -> Credential:
    try:
        document = json.loads(printed)
        status = document["status"]
        token, certificate, key, expires = (
            status.get(name, "") for name in ("token", "clientCertificateData", "clientKeyData", "expirationTimestamp")
        )
        expires_s = datetime.fromisoformat(expires).timestamp() - _RENEW_BEFORE_S if expires else None
    except (ValueError, KeyError, TypeError, AttributeError):
        # What was printed may hold a token, so no part of it is shown.
        raise CredentialsError(f"the exec plugin {named} printed no ExecCredential with a status") from None
    if not all(isinstance(each, str) for each in (token, certificate, key)) or not (token or (certificate and key)):
        raise CredentialsError(f"the exec plugin {named} printed a credential without a token and a certificate")
    return Credential(token, certificate, key, expires_s)
