"""What a command says where reconciler itself failed."""

import os

from reconciler.secrecy import CREDENTIAL_VARIABLES, Secrets, proxy_secrets

SECRETS = Secrets()
"""The credentials that this program came to know; those of the environment are read where they are needed."""

HINT = "`reconciler history` shows what was done before; --verbose shows the traceback, without credentials"

_SHORTEST_PART = 8
"""Of a variable that holds more than a credential, parts as long as this are taken for one."""


def traceback_of(fault: BaseException) -> str:
    """The whole traceback, without credentials."""
    from traceback import format_exception

    for secret in proxy_secrets(os.environ):
        SECRETS.add(secret)
    for value in (os.environ.get(name, "") for name in CREDENTIAL_VARIABLES):
        parts = value.split()
        for part in parts if len(parts) == 1 else [part for part in parts if len(part) >= _SHORTEST_PART]:
            SECRETS.add(part)
    # Line by line: one that holds a credential in an encoding goes as a whole.
    return "\n".join(map(SECRETS.redact, "".join(format_exception(fault)).splitlines()))
