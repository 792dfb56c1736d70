"""Reads the Jobs of a namespace and their pods, with as few requests as what is asked for leaves."""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple
from urllib.parse import urlencode

from reconciler.engines.gathering import Gathering
from reconciler.engines.kubernetes.api import Api, segment
from reconciler.engines.kubernetes.fields import document, labels, metadata, name, text, uid
from reconciler.engines.kubernetes.kueue import Kueue
from reconciler.engines.kubernetes.objects import JOB_LABEL, LINEAGE_LABEL, job_id_of, marks_of
from reconciler.engines.kubernetes.observations import is_terminal, lacks_pods, waits_in_a_queue
from reconciler.engines.kubernetes.pods import is_of_a_run, job_name_of, job_uid_of
from reconciler.engines.kubernetes.refusals import refusals
from reconciler.engines.kubernetes.settings import UNKNOWN
from reconciler.engines.kubernetes.spaces import Space
from reconciler.engines.port import EngineError
from reconciler.model.jobs import EMPTY
from reconciler.rules.runs import number_of

_LIST_FROM = 10
"""The number of jobs from which on one list is cheaper than a list for each job."""

_MOST_IN_A_SELECTOR = 40
"""The jobs that one list names, so that the request stays short: an id has up to 52 characters."""

_FEW_OTHERS = 50
"""The number of Jobs of somebody else up to which one list of them is cheaper than a read for each job."""

_MOST_READS = 40
"""The number of Jobs up to which a read of each is cheaper than a list of all."""

_OTHERS_FOR_S = 5.0

_VERSION = re.compile(r"v([0-9]{1,4})\.([0-9]{1,4})")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


class Seen(NamedTuple):
    """The Jobs of a job, and by the uid of each its pods but for those that have succeeded.

    The Jobs that bear a lineage come first, and the newest one first of these and of the others. A Job without one is
    of somebody else, or was imported. `refusals` tell by the uid of a Job that does not start why that is. `strays` are
    the pods of the job that still execute, though their Job is gone: it was deleted a moment ago, or without its pods.
    Each of them bears a lineage and the uid of that Job. Any other pod with the label of the job is no run of it.
    """

    jobs: Sequence[Mapping[str, Any]]
    pods: Mapping[str, Sequence[Mapping[str, Any]]]
    refusals: Mapping[str, str] = EMPTY
    strays: Sequence[Mapping[str, Any]] = ()

    def pods_of(self, job: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Return the pods of one of the Jobs."""
        return self.pods.get(uid(job), ())


class Reading:
    """The Jobs of one namespace. Several threads may call any method at the same time."""

    def __init__(
        self,
        api: Api,
        space: Space,
        kueue: Kueue,
        boot_s: Callable[[], float],
        note_seen: Callable[[Sequence[Mapping[str, Any]]], None],
    ) -> None:
        """`boot_s` is as in `Surroundings`. `note_seen` is called with all Jobs that are read."""
        self._api = api
        self._kueue = kueue
        self._boot_s = boot_s
        self._note_seen = note_seen
        self._space = space
        self._namespace_path = f"/api/v1/namespaces/{segment(space.name)}"
        self._jobs_path = f"/apis/batch/v1/namespaces/{segment(space.name)}/jobs"
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
        return self._of(job_ids, JOB_LABEL)

    def get_all(self) -> Mapping[str, Seen]:
        """Return all Jobs of the namespace, also those of other tools, by the ids of their jobs."""
        found = self._with_pods(list(self._api.listed(self._jobs_path, "")), "")
        return {job_id: seen for job_id, seen in found.items() if seen.jobs}

    def unlabelled(self, job_id: str) -> Mapping[str, Any] | None:
        """Return the Job that has the id of a job as its name, and no label of ours; None if there is none."""
        found = self._named(job_id)
        return None if found is None or JOB_LABEL in labels(found) else found

    def version(self) -> tuple[int, int]:
        """Return the version of the server, such as (1, 29), or `UNKNOWN`. The server is asked once."""
        with self._lock:
            if self._known_version is None:
                told = self._api.document("/version")
                # A build may leave `major` and `minor` empty, and providers write a minor such as "24+".
                found = _VERSION.match(str(told.get("gitVersion")))
                self._known_version = (int(found[1]), int(found[2])) if found else UNKNOWN
            return self._known_version

    def _seen_of(self, job_ids: Sequence[str]) -> Mapping[str, Seen]:
        """Read the Jobs of a few jobs, and their pods, with a list of each kind."""
        if len(job_ids) == 1:
            return self._of(job_ids, f"{JOB_LABEL}={job_ids[0]}")
        if not all(map(_LABEL_VALUE.fullmatch, job_ids)):
            return {job_id: self._seen_of((job_id,))[job_id] for job_id in job_ids}
        return self._of(job_ids, f"{JOB_LABEL} in ({','.join(job_ids)})") if job_ids else {}

    def _of(self, job_ids: Collection[str], selector: str) -> Mapping[str, Seen]:
        """Read the Jobs of these jobs, which have these labels, or are of somebody else and have the id as name."""
        jobs = list(self._api.listed(self._jobs_path, selector))
        known = set(map(job_id_of, jobs))
        found = self._with_pods([*jobs, *self._others_named([each for each in job_ids if each not in known])], selector)
        nothing = Seen((), {})
        return {job_id: found.get(job_id, nothing) for job_id in job_ids}

    def _others_named(self, names: Sequence[str]) -> list[Mapping[str, Any]]:
        """Return the Jobs of somebody else that have these names. Such a Job is a job of its own name."""
        if not names:
            return []
        known = self._names_of_others(may_ask=len(names) > 1)
        if known is None and len(names) > _MOST_READS:
            wanted = set(names)
            return [job for job in self._api.listed(self._jobs_path, f"!{JOB_LABEL}") if name(job) in wanted]
        read = (self.unlabelled(each) for each in names if known is None or each in known)
        return [job for job in read if job is not None]

    def _named(self, job_name: str) -> Mapping[str, Any] | None:
        """Return the Job of a name; None if there is none."""
        reply = self._api.read(f"{self._jobs_path}/{segment(job_name)}")
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise EngineError(f"{self._api.server}: {reply.status}: {self._api.message(reply)}")
        return document(reply)

    def _names_of_others(self, *, may_ask: bool) -> Collection[str] | None:
        """Return the names of the Jobs of somebody else; None if they are not known.

        They are not asked for if they are so many that single reads are cheaper. They are up to `_OTHERS_FOR_S` old. No
        run has such a name, so they keep no run from being created.
        """
        read_s, names = self._others
        now_s = self._boot_s()
        if now_s < read_s + _OTHERS_FOR_S:
            return names
        if not may_ask or (names is None and read_s > -inf):
            return None
        query = urlencode({"labelSelector": f"!{JOB_LABEL}", "limit": _FEW_OTHERS})
        document = self._api.document(f"{self._jobs_path}?{query}")
        is_whole = not metadata(document).get("continue")
        self._others = now_s, frozenset(map(name, document.get("items", []))) if is_whole else None
        return self._others[1]

    def _with_pods(self, jobs: list[Mapping[str, Any]], selector: str) -> dict[str, Seen]:
        """Return what is there of each job by its id: the Jobs that were read with a selector, and the pods.

        The pods are read even if there is no Job, since those of a Job that is gone may still execute. They are read
        after the Jobs, so that a pod without a Job is of a Job that is gone, is newer than the list, or has lost its
        label.
        """
        all_pods = self._pods(selector if all(JOB_LABEL in labels(job) for job in jobs) else "")
        known = {(job_id_of(job), uid(job)) for job in jobs}
        strays = [
            pod
            for pod in all_pods
            if is_of_a_run(pod) and (job_id_of(pod), job_uid_of(pod)) not in known and not is_terminal(pod)
        ]
        unlisted = self._jobs_of(strays)
        found = {uid(job) for job in unlisted}
        jobs = [*(job for job in jobs if uid(job) not in found), *unlisted]
        if not jobs and not strays:
            self._space.refuse_if_gone()
        return self._sorted(jobs, all_pods, [pod for pod in strays if job_uid_of(pod) not in found])

    def _sorted(
        self, jobs: Sequence[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]], strays: Iterable[Mapping[str, Any]]
    ) -> dict[str, Seen]:
        """Return what is there of each job, by its id."""
        self._note_seen(jobs)
        jobs_of, strays_of = _by(job_id_of, jobs), _by(job_id_of, strays)
        pods_of = _by(job_uid_of, pods)
        refused = self._refusals(jobs, pods_of)
        return {
            job_id: Seen(_in_order(jobs_of.get(job_id, ())), pods_of, refused, strays_of.get(job_id, ()))
            for job_id in {**jobs_of, **strays_of}
        }

    def _jobs_of(self, pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the Jobs of pods that no list with our label had, as far as they are there.

        Somebody has taken the label from such a Job, or it was made after the list. Its pods say what it is.
        """
        pod_of = {job_uid_of(pod): pod for pod in pods}
        names = {job_name_of(pod) for pod in pods} - {""}
        read = map(self._named, names) if len(names) <= _MOST_READS else self._api.listed(self._jobs_path, "")
        found: list[Mapping[str, Any]] = []
        for job in read:
            if job is not None and (pod := pod_of.get(uid(job))) is not None:
                marks = {label: labels(pod)[label] for label in (JOB_LABEL, LINEAGE_LABEL) if label in labels(pod)}
                found.append({**job, "metadata": {**metadata(job), "labels": {**labels(job), **marks}}})
        return found

    def _refusals(
        self, jobs: Sequence[Mapping[str, Any]], pods: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> Mapping[str, str]:
        """Return why those of the Jobs do not start for which the cluster makes no pods, or which wait in a queue."""
        lacking = {uid(job) for job in jobs if lacks_pods(job, pods.get(uid(job), ()))}
        waiting = {uid(job) for job in jobs if waits_in_a_queue(job)}
        return {**refusals(self._api, self._namespace_path, lacking), **self._kueue.why_waiting(waiting)}

    def _pods(self, selector: str) -> list[Mapping[str, Any]]:
        """Return the pods with these labels, but for those that have succeeded."""
        return list(self._api.listed(f"{self._namespace_path}/pods", selector, "status.phase!=Succeeded"))


def _by(
    key_of: Callable[[Mapping[str, Any]], str], objects: Iterable[Mapping[str, Any]]
) -> dict[str, list[Mapping[str, Any]]]:
    """Return the objects by a key that each of them has."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for each in objects:
        found[key_of(each)].append(each)
    return dict(found)


def _in_order(jobs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the Jobs of one job in the order of `Seen.jobs`. Their numbers say which one is the newest."""

    def rank(job: Mapping[str, Any]) -> tuple[bool, int, str]:
        number = number_of(name(job), job_id_of(job))
        return marks_of(job).lineage != "", number, text(job, "metadata", "creationTimestamp")

    return sorted(jobs, key=rank, reverse=True)
