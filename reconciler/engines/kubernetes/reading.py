"""Reads the Jobs of a namespace and their pods, with as few requests as what is asked for leaves."""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from reconciler.engines.gathering import Gathering
from reconciler.engines.kubernetes.api import Api
from reconciler.engines.kubernetes.fields import document, labels, metadata, name, uid
from reconciler.engines.kubernetes.kueue import Kueue
from reconciler.engines.kubernetes.objects import JOB_LABEL, job_id_of
from reconciler.engines.kubernetes.observations import lacks_pods, waits_in_a_queue
from reconciler.engines.kubernetes.refusals import refusals
from reconciler.engines.port import EngineError
from reconciler.model.jobs import EMPTY
from reconciler.rules.runs import number_of

_LIST_FROM = 10
"""The number of jobs from which on one list is cheaper than a list for each job."""

_MOST_IN_A_SELECTOR = 40
"""The jobs that one list names, so that the request stays short: an id has up to 52 characters."""

_FEW_OTHERS = 50
"""The number of Jobs of somebody else up to which one list of them is cheaper than a read for each job."""

_OTHERS_FOR_S = 5.0

_VERSION = re.compile(r"v([0-9]{1,4})\.([0-9]{1,4})")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

_UIDS_OF_JOB = ("batch.kubernetes.io/controller-uid", "controller-uid")
"""The labels of a pod with the uid of its Job. Servers before 1.27 have the second one alone."""


class Seen(NamedTuple):
    """The Jobs of a job, the newest one first, and by the uid of each its pods but for those that have succeeded.

    `refusals` tell by the uid of a Job that does not start why that is.
    """

    jobs: Sequence[Mapping[str, Any]]
    pods: Mapping[str, Sequence[Mapping[str, Any]]]
    refusals: Mapping[str, str] = EMPTY

    def pods_of(self, job: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Return the pods of one of the Jobs."""
        return self.pods.get(uid(job), ())


class Reading:
    """The Jobs of one namespace. Several threads may call any method at the same time."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        kueue: Kueue,
        boot_s: Callable[[], float],
        note_seen: Callable[[Sequence[Mapping[str, Any]]], None],
    ) -> None:
        """`boot_s` is as in `Surroundings`. `note_seen` is called with all Jobs that are read."""
        self._api = api
        self._kueue = kueue
        self._boot_s = boot_s
        self._note_seen = note_seen
        self._namespace_path = f"/api/v1/namespaces/{quote(namespace)}"
        self._jobs_path = f"/apis/batch/v1/namespaces/{quote(namespace)}/jobs"
        self._lock = threading.Lock()
        self._known_version: tuple[int, int] | None = None
        self._looks = Gathering(self._seen_of, _MOST_IN_A_SELECTOR)
        self._others: tuple[float, Collection[str] | None] = -inf, frozenset()
        """When the names of the Jobs of somebody else were read, and the names; None if they are many."""

    def get(self, job_id: str) -> Seen:
        """Return the Jobs of one job. Raises the errors of `Engine.observe`."""
        return self._looks.get(job_id)

    def get_many(self, job_ids: Collection[str]) -> Mapping[str, Seen]:
        """Return the Jobs of each job, from one list of Jobs and one of pods where that is cheaper."""
        if len(job_ids) < _LIST_FROM:
            return self._seen_of(tuple(job_ids))
        by_id = self._all()
        nothing = Seen((), {})
        return {job_id: by_id.get(job_id, nothing) for job_id in job_ids}

    def get_all(self) -> Mapping[str, Seen]:
        """Return all Jobs of the namespace, also those of other tools, by the ids of their jobs."""
        return self._all(selector="")

    def version(self) -> tuple[int, int]:
        """Return the version of the server, such as (1, 29). The server is asked once."""
        with self._lock:
            if self._known_version is None:
                told = self._api.document("/version")
                # A build may leave `major` and `minor` empty, and providers write a minor such as "24+".
                found = _VERSION.match(str(told.get("gitVersion")))
                self._known_version = (int(found[1]), int(found[2])) if found else (0, 0)
            return self._known_version

    def _seen(self, job_id: str) -> Seen:
        """Read the Jobs of one job, and their pods."""
        jobs = list(self._api.listed(self._jobs_path, f"{JOB_LABEL}={job_id}"))
        if not jobs:
            # A Job of somebody else is a job of its own name.
            read_s, others = self._others
            if others is not None and job_id not in others and self._boot_s() < read_s + _OTHERS_FOR_S:
                return Seen((), {})
            reply = self._api.read(f"{self._jobs_path}/{quote(job_id)}")
            if reply.status == 404:
                return Seen((), {})
            if reply.status != 200:
                raise EngineError(f"{self._api.server}: {reply.status}: {self._api.message(reply)}")
            jobs = [document(reply)]
            if JOB_LABEL in labels(jobs[0]):
                return Seen((), {})
        self._note_seen(jobs)
        pods = self._pods(jobs, f"{JOB_LABEL}={job_id}")
        return Seen(_newest_first(jobs), pods, self._refusals(jobs, pods))

    def _seen_of(self, job_ids: Sequence[str]) -> Mapping[str, Seen]:
        """Read the Jobs of a few jobs, and their pods, with a list of each kind."""
        if len(job_ids) < 2 or not all(map(_LABEL_VALUE.fullmatch, job_ids)):
            return {job_id: self._seen(job_id) for job_id in job_ids}
        found = self._all(f"{JOB_LABEL} in ({','.join(job_ids)})")
        left = [job_id for job_id in job_ids if job_id not in found]
        others = self._names_of_others() if left else None
        nothing = Seen((), {})
        return found | {
            job_id: self._seen(job_id) if others is None or job_id in others else nothing for job_id in left
        }

    def _names_of_others(self) -> Collection[str] | None:
        """Return the names of the Jobs of somebody else; None if they are so many that single reads are cheaper.

        The names are up to `_OTHERS_FOR_S` old. No run has such a name, so they keep no run from being created.
        """
        read_s, names = self._others
        now_s = self._boot_s()
        if names is None or now_s < read_s + _OTHERS_FOR_S:
            return names
        query = urlencode({"labelSelector": f"!{JOB_LABEL}", "limit": _FEW_OTHERS})
        document = self._api.document(f"{self._jobs_path}?{query}")
        is_whole = not metadata(document).get("continue")
        self._others = now_s, frozenset(map(name, document.get("items", []))) if is_whole else None
        return self._others[1]

    def _all(self, selector: str = JOB_LABEL) -> dict[str, Seen]:
        """Read all Jobs of the namespace with these labels, by the ids of their jobs."""
        by_id: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for job in self._api.listed(self._jobs_path, selector):
            by_id[job_id_of(job)].append(job)
        all_jobs = [job for jobs in by_id.values() for job in jobs]
        self._note_seen(all_jobs)
        pods = self._pods(all_jobs, selector)
        refused = self._refusals(all_jobs, pods)
        return {job_id: Seen(_newest_first(jobs), pods, refused) for job_id, jobs in by_id.items()}

    def _refusals(
        self, jobs: Sequence[Mapping[str, Any]], pods: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> Mapping[str, str]:
        """Return why those of the Jobs do not start for which the cluster makes no pods, or which wait in a queue."""
        lacking = {uid(job) for job in jobs if lacks_pods(job, pods.get(uid(job), ()))}
        waiting = {uid(job) for job in jobs if waits_in_a_queue(job)}
        return {**refusals(self._api, self._namespace_path, lacking), **self._kueue.why_waiting(waiting)}

    def _pods(self, jobs: Sequence[Mapping[str, Any]], selector: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return the pods by the uids of their Jobs, but for those that have succeeded."""
        found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        if not jobs:
            return found
        are_ours = all(JOB_LABEL in labels(job) for job in jobs)
        path = f"{self._namespace_path}/pods"
        for pod in self._api.listed(path, selector if are_ours else "", "status.phase!=Succeeded"):
            marks = labels(pod)
            found[next((marks[label] for label in _UIDS_OF_JOB if label in marks), "")].append(pod)
        return found


def _newest_first(jobs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the Jobs of one job in the order of their numbers, the newest one first."""
    return sorted(jobs, key=lambda job: (number_of(name(job), job_id_of(job)), _created(job)), reverse=True)


def _created(job: Mapping[str, Any]) -> str:
    found = metadata(job).get("creationTimestamp")
    return found if isinstance(found, str) else ""
