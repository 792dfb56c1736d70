"""The report on a failure of reconciler itself."""

import os

from reconciler.host.secrecy import CREDENTIAL_VARIABLES, Secrets, proxy_secrets

SECRETS = Secrets()
"""The credentials that the engines reported. `traceback_of` adds those of the environment."""

HINT = "`reconciler history` shows what was done before; --verbose shows the traceback, without credentials"

_SHORTEST_PART = 8
"""In a variable of several words, each word of at least this many characters counts as a credential."""


def traceback_of(fault: BaseException) -> str:
    """The traceback of an exception, without credentials."""
    from traceback import format_exception

    for secret in proxy_secrets(os.environ):
        SECRETS.add(secret)
    for value in (os.environ.get(name, "") for name in CREDENTIAL_VARIABLES):
        parts = value.split()
        for part in parts if len(parts) == 1 else [part for part in parts if len(part) >= _SHORTEST_PART]:
            SECRETS.add(part)
    # Line by line: a line with an encoded credential is removed as a whole.
    return "\n".join(map(SECRETS.redact, "".join(format_exception(fault)).splitlines()))
