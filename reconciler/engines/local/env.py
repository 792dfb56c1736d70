"""The environment of a command: a few variables of the user, those of the config, and the values of secrets."""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from reconciler.engines.texts import unfit

INHERITED = ("HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER")
"""The variables that a command gets from the program, beside those that begin with LC_. No credential is among them."""

_MOST_BYTES = 1 << 17
"""The size of a variable that the kernel takes at most."""


class NoSecret(Exception):
    """A secret that a config names can't be had. The message says which one, and why."""


class Secrets(NamedTuple):
    """Where the values of secrets come from: a folder of files, or "", and variables that may be handed on."""

    folder: str = ""
    variables: tuple[str, ...] = ()

    def value(self, name: str, env: Mapping[str, str]) -> str:
        """Return the value of a secret. A file wins over a variable. Raises `NoSecret`."""
        if self.folder:
            path = os.path.join(self.folder, name)
            real, folder = os.path.realpath(path), os.path.realpath(self.folder)
            if os.path.commonpath([real, folder]) != folder:
                raise NoSecret(f"the secret {name} leads out of the folder {self.folder}")
            try:
                with open(real, "rb") as file:
                    content = file.read(_MOST_BYTES)
                # An editor ends a file with a newline, which is no part of the secret.
                return content.removesuffix(b"\n").decode("utf-8", "surrogateescape")
            except FileNotFoundError:
                pass
            except OSError as fault:
                raise NoSecret(f"the secret {name} can't be read: {path}: {fault.strerror}") from fault
        if name in self.variables and name in env:
            return env[name]
        raise NoSecret(f"there is no secret {name}: {self._advice(name)}")

    def _advice(self, name: str) -> str:
        if name in self.variables:
            return f"the variable {name} is not set"
        if self.folder:
            return f"make the file {os.path.join(self.folder, name)}"
        return "name a folder with target.secrets, or the variable under target.secretVariables"


def environment(
    config: Mapping[str, Any], secrets: Secrets, env: Mapping[str, str], note_credential: Callable[[str], None]
) -> dict[str, str]:
    """Return the whole environment of a command. `env` is that of this program.

    `note_credential` is called with each value of a secret. Raises `NoSecret`.
    """
    found = {name: env[name] for name in env if name in INHERITED or name.startswith("LC_")}
    found.setdefault("PATH", os.defpath)
    for name, value in config.get("env", {}).items():
        if isinstance(value, str):
            found[name] = value
        else:
            found[name] = secrets.value(value["secret"], env)
            note_credential(found[name])
        if fault := unfit(found[name], errors="surrogateescape"):
            raise NoSecret(f"the variable {name} holds {fault}")
    return found
