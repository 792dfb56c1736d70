"""The credentials of requests to an API server: tokens that rotate, and programs that print a credential."""

import json
import os
import subprocess
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from reconciler.engines.kubernetes.files import content_of
from reconciler.engines.kubernetes.kubeconfig import ExecPlugin, User
from reconciler.engines.port import CredentialsError, Surroundings
from reconciler.host.secrecy import REDACTED, without_credentials

_FILE_LASTS_S = 60.0
"""How long a token of a file is used before the file is read again, as in client-go. A kubelet renews such files."""

_EXEC_WITHIN_S, _EXEC_WITH_A_PERSON_WITHIN_S = 60.0, 300.0
"""How long a program may take. It may have a person log in if the error output is a terminal."""

_LONGEST_ERROR = 400
_RENEW_BEFORE_S = 30.0


class Credential(NamedTuple):
    """What a source of credentials returned: a token, or a client certificate and its key in PEM, or both.

    `expires_s` is in seconds since 1970; None if no time is known.
    """

    token: str = ""
    certificate: str = ""
    key: str = ""
    expires_s: float | None = None

    def __repr__(self) -> str:
        return f"Credential(expires_s={self.expires_s})"


class Credentials:
    """The credentials of a user. Several threads may call any method at the same time.

    A token counts before a token of a program, as in client-go.
    """

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
            if self._current is None or self._current[:3] == rejected[:3]:
                self._current = self._fetched(self._surroundings.wall_s())
            return None if self._current[:3] == rejected[:3] else self._current

    def _fetched(self, now_s: float) -> Credential:
        user = self._user
        if user.token_file:
            found = Credential(_token_in(user.token_file), expires_s=now_s + _FILE_LASTS_S)
        elif user.token or user.exec_plugin is None:
            found = Credential(user.token)
        else:
            for secret in user.exec_plugin.secrets:
                self._surroundings.note_credential(secret)
            found = _executed(user.exec_plugin, self._surroundings.env)
        if found.token and not all("!" <= character <= "~" for character in found.token):
            raise CredentialsError(
                "the token of the kubeconfig holds a character that can't be sent", "have it made anew"
            )
        if found.token:
            self._surroundings.note_credential(found.token)
        return found


def _token_in(path: str) -> str:
    try:
        token = content_of(path).decode("ascii").strip()
    except UnicodeDecodeError:
        raise CredentialsError(f"{path} holds no token: it is no ASCII", "have the file written anew") from None
    except OSError as fault:
        raise CredentialsError(f"{path} can't be read: {fault.strerror}", "have the file written anew") from fault
    if not token:
        raise CredentialsError(f"{path} holds no token", "have the file written anew")
    return token


def _executed(plugin: ExecPlugin, env: Mapping[str, str]) -> Credential:
    """Return what a program prints.

    Its error output goes to the terminal, where it may ask a person to log in. Without a terminal, its end is told if
    the program fails. Raises `CredentialsError`.
    """
    has_person = os.isatty(2)
    within_s = _EXEC_WITH_A_PERSON_WITHIN_S if has_person else _EXEC_WITHIN_S
    spec: dict[str, Any] = {"interactive": False}
    if plugin.cluster:
        spec["cluster"] = dict(plugin.cluster)
    asked = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    named = os.path.basename(plugin.command)
    try:
        done = subprocess.run(
            [plugin.command, *plugin.args],
            env={**without_credentials(env), **plugin.env, "KUBERNETES_EXEC_INFO": json.dumps(asked)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if has_person else subprocess.PIPE,
            timeout=within_s,
            check=False,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its arguments hold a null byte"
        raise CredentialsError(f"the exec plugin {named} can't be started: {reason}", plugin.install_hint) from None
    except subprocess.TimeoutExpired:
        fault = f"the exec plugin {named} took longer than {within_s:g} s"
        raise CredentialsError(fault, plugin.install_hint) from None
    if done.returncode:
        fault = f"the exec plugin {named} failed: exit code {done.returncode}{_said(done.stderr or b'', plugin)}"
        raise CredentialsError(fault, plugin.install_hint)
    return _parsed(done.stdout, named, plugin.api_version)


def _said(printed: bytes, plugin: ExecPlugin) -> str:
    """Return the end of the error output of a program, to follow a message, without what is a secret by its name."""
    text = " ".join(printed.decode(errors="replace").split())
    for secret in plugin.secrets:
        text = text.replace(secret, REDACTED)
    shown = text if len(text) <= _LONGEST_ERROR else f"…{text[-_LONGEST_ERROR:]}"
    return f": {shown}" if shown else ""


def _parsed(printed: bytes, named: str, api_version: str) -> Credential:
    try:
        document = json.loads(printed)
        version = document.get("apiVersion")
        status = document["status"]
        token, certificate, key, expires = (
            status.get(name, "") for name in ("token", "clientCertificateData", "clientKeyData", "expirationTimestamp")
        )
        expires_s = datetime.fromisoformat(expires).timestamp() - _RENEW_BEFORE_S if expires else None
    except (ValueError, KeyError, TypeError, AttributeError):
        # What was printed may hold a token, so no part of it is shown.
        raise CredentialsError(f"the exec plugin {named} printed no ExecCredential with a status") from None
    if version != api_version:
        raise CredentialsError(
            f"the exec plugin {named} printed another version than {api_version}, which the kubeconfig names",
            "have the kubeconfig made anew by the version of the program that is installed",
        )
    if not all(isinstance(each, str) for each in (token, certificate, key)) or not (token or (certificate and key)):
        raise CredentialsError(f"the exec plugin {named} printed a credential without a token and a certificate")
    return Credential(token, certificate, key, expires_s)
