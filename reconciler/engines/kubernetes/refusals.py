"""Why a cluster makes no pods for a Job: a quota, an admission plugin, or a service account that is not there.

The Job itself says nothing of it. The controller of Jobs reports each attempt as an event with the reason FailedCreate
(https://kubernetes.io/docs/concepts/policy/resource-quotas/), which the cluster keeps for an hour. Events decide
nothing. So they are left out where they can't be read, such as by a user without the right to list them.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from reconciler.engines.kubernetes.api import Api
from reconciler.engines.kubernetes.fields import text
from reconciler.engines.port import EngineError, ListIncomplete

_REASON = "FailedCreate"


def refusals(api: Api, namespace_path: str, uids: Collection[str]) -> Mapping[str, str]:
    """Return the newest message about each of these Jobs by its uid, such as "FailedCreate: … exceeded quota: …".

    That takes one list, whatever the number of Jobs. Raises `CredentialsError`.
    """
    if not uids:
        return {}
    about = f"involvedObject.uid={next(iter(uids))}" if len(uids) == 1 else "involvedObject.kind=Job"
    events: list[Mapping[str, Any]] = []
    with suppress(EngineError, ListIncomplete):
        events += api.listed(f"{namespace_path}/events", "", f"reason={_REASON},{about}")
    found: dict[str, str] = {}
    for event in sorted(events, key=_time):
        about_uid = text(event, "involvedObject", "uid")
        if about_uid in uids and (message := text(event, "message")):
            found[about_uid] = f"{_REASON}: {message}"
    return found


def _time(event: Mapping[str, Any]) -> str:
    """Return when an event was seen last. Newer clients of the events API set `eventTime` alone."""
    return text(event, "lastTimestamp") or text(event, "eventTime")
