"""The identity of a service: named parts that tell one cluster from another one of its kind.

Only the parts that both sides know are compared. A part may become readable later, when somebody grants a right.
"""

from collections.abc import Mapping

from reconciler.model.commands import command
from reconciler.model.errors import OtherIdentity
from reconciler.model.jobs import Target


def parts_text(identity: Mapping[str, str]) -> str:
    """The parts of an identity in words, sorted by name: "cluster 9d8e, namespace 77a1"; "unknown" without parts."""
    return ", ".join(f"{name} {value}" for name, value in sorted(identity.items())) or "unknown"


def refuse_other_identity(recorded: Mapping[str, str], found: Mapping[str, str], target: Target) -> None:
    """Raise `OtherIdentity` if a part of the recorded identity differs from that of the service that was found."""
    other = {name for name in recorded.keys() & found.keys() if recorded[name] != found[name]}
    if other:
        was, now = ({name: one[name] for name in other} for one in (recorded, found))
        raise OtherIdentity(
            f"{target} is not the service that the state is for: it is {parts_text(now)}, and the state is for "
            f"{parts_text(was)}; nothing was called",
            "name the service that the state is for, or give this one a state of its own (--state FILE); if it was "
            f"rebuilt on purpose: {command('state accept', options=['--identity'])}",
        )
