"""The package of a plugin: its name for messages, and the words for what it does against its port."""

from collections.abc import Callable
from typing import NamedTuple

from reconciler.host.crash_report import exhausted_resource
from reconciler.host.secrecy import Secrets

RAISED = (Exception, SystemExit, GeneratorExit)
"""What a plugin may raise by mistake. A `KeyboardInterrupt` is the user's, except where `RAISED_IN_APPLY` is caught."""

RAISED_IN_APPLY = (*RAISED, KeyboardInterrupt)
"""What a plugin may raise by mistake while an apply sends its calls.

An apply handles Ctrl-C itself (`cli.interrupts`), so that a `KeyboardInterrupt` is not the user's.
"""

HINT = "--verbose shows the traceback, without credentials"

_LONGEST_TEXT = 300
"""The most characters of a text of a plugin in a message."""


class Package(NamedTuple):
    """The package of one plugin.

    `plugin` names the plugin in words, such as "the engine scripts". `distribution` is the name and the version of the
    distribution that it is installed with, or "". `secrets` holds the credentials that no message may show.
    """

    plugin: str
    distribution: str
    secrets: Secrets

    def failed(self, fault: BaseException, where: str) -> str:
        """Return the message about an exception that a method of the plugin raised. `where` names the method."""
        if exhausted := exhausted_resource(fault):
            return exhausted
        text = self.shown(lambda: str(fault))
        return self.blamed(f"{type(fault).__name__}{': ' if text else ''}{text} in {where}")

    def blamed(self, what: str) -> str:
        """Return the message about what the plugin did against its port. `what` comes from `shown`, or is our own."""
        return f"{self._title} failed: {what}; report it to that package"

    def shown(self, text_of: Callable[[], str]) -> str:
        """Return a text of the plugin on one line, shortened, without credentials; "" if it can't be had."""
        try:
            text = self.secrets.redact(" ".join(text_of().split()))
        except RAISED:
            return ""
        return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"

    @property
    def _title(self) -> str:
        return f"{self.plugin} (package {self.distribution})" if self.distribution else self.plugin
