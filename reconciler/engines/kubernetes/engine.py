"""The engine: what a run, an abort, a delete and an observation are for a namespace of a Kubernetes cluster."""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from reconciler.engines.http.reply import Reply
from reconciler.engines.kubernetes.api import MERGE_PATCH, Api, Request, reason_of
from reconciler.engines.kubernetes.differences import SAME, difference
from reconciler.engines.kubernetes.faults import config_fault, namespace_of, too_old
from reconciler.engines.kubernetes.gathering import Gathering
from reconciler.engines.kubernetes.housekeeping import Housekeeping
from reconciler.engines.kubernetes.logs import log_of
from reconciler.engines.kubernetes.objects import (
    ABORT_OP,
    JOB_LABEL,
    job_id_of,
    job_object,
    marks_of,
)
from reconciler.engines.kubernetes.observations import final_condition, lacks_pods, observation, status_of
from reconciler.engines.kubernetes.refusals import refusals
from reconciler.engines.kubernetes.settings import OLDEST, PROMISES
from reconciler.engines.port import (
    AnswerClass,
    CredentialsError,
    EngineError,
    Observation,
    Reason,
    Result,
    Status,
    Step,
    Surroundings,
    Verb,
    always,
    reason_of_duplicate,
)
from reconciler.model.jobs import EMPTY
from reconciler.rules.runs import number_of

_LIST_FROM = 10
"""The number of jobs from which on one list is cheaper than a list for each job."""

_MOST_IN_A_SELECTOR = 40
"""The jobs that one list names, so that the request stays short: an id has up to 52 characters."""

_FEW_OTHERS = 50
"""The number of Jobs of somebody else up to which one list of them is cheaper than a read for each job."""

_OTHERS_FOR_S = 5.0

_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

_UIDS_OF_JOB = ("batch.kubernetes.io/controller-uid", "controller-uid")
"""The labels of a pod with the uid of its Job. Servers before 1.27 have the second one alone."""


class _Seen(NamedTuple):
    """The Jobs of a job, the newest one first, and by the uid of each its pods but for those that have succeeded.

    `refusals` tell by the uid of a Job without pods why the cluster makes none.
    """

    jobs: Sequence[Mapping[str, Any]]
    pods: Mapping[str, Sequence[Mapping[str, Any]]]
    refusals: Mapping[str, str] = EMPTY

    def pods_of(self, job: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        return self.pods.get(_uid(job), ())


class KubernetesEngine:
    """The Jobs of one namespace. See `Engine`."""

    promises = PROMISES

    def __init__(self, api: Api, namespace: str, surroundings: Surroundings, *, allows_old_server: bool) -> None:
        """Raises `EngineError` for a server that is too old, unless `allows_old_server` is set."""
        self._api = api
        self._namespace = namespace
        self._surroundings = surroundings
        self._jobs_path = f"/apis/batch/v1/namespaces/{quote(namespace)}/jobs"
        self._namespace_path = f"/api/v1/namespaces/{quote(namespace)}"
        self._pods_path = f"{self._namespace_path}/pods"
        self._allows_old_server = allows_old_server
        self._housekeeping = Housekeeping(api, self._jobs_path)
        self._known_version: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._looks = Gathering(self._seen_of, _MOST_IN_A_SELECTOR)
        self._others: tuple[float, Collection[str] | None] = -inf, frozenset()
        """When the names of the Jobs of somebody else were read, and the names; None if they are many."""

    def identity(self) -> Mapping[str, str]:
        """Return the uids of the namespace `kube-system` and of the own one, as far as they can be read."""
        self._check_version()
        found = {}
        for part, name in (("cluster", "kube-system"), ("namespace", self._namespace)):
            reply = self._api.read(f"/api/v1/namespaces/{quote(name)}")
            if reply.status == 200 and (uid := _uid(_document(reply))):
                found[part] = uid
        return found

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        """Return what the cluster says of one run; see `Engine.observe`."""
        self._check_version()
        return self._observation(self._looks.get(job_id), run_id)

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        """Return the observation of each job, from one list of Jobs and one of pods where that is cheaper."""
        self._check_version()
        if len(job_ids) < _LIST_FROM:
            return {job_id: self._observation(seen, "") for job_id, seen in self._seen_of(tuple(job_ids)).items()}
        by_id = self._all()
        nothing = _Seen((), {})
        return {job_id: self._observation(by_id.get(job_id, nothing), "") for job_id in job_ids}

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        """Yield each job of the namespace, those of other tools too."""
        self._check_version()
        for job_id, seen in sorted(self._all(selector="").items()):
            yield job_id, self._observation(seen, "")

    def stage(self, step: Step) -> str:
        """Return "": a call needs no work before its intent."""
        return ""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        """Carry out one call; see `Engine.send`."""
        if not may_be_sent():
            return Result(AnswerClass.NOT_SENT)
        try:
            self._check_version()
            match step.verb:
                case Verb.RUN:
                    return self._run(step, may_be_sent)
                case Verb.ABORT:
                    return self._abort(step, may_be_sent)
                case Verb.DELETE:
                    return self._delete(step, may_be_sent)
        except CredentialsError as fault:
            return Result(AnswerClass.NOT_SENT, Reason.NOT_AUTHENTICATED, fault.message)
        except EngineError as fault:
            # A read before the call failed, and no call was sent.
            return Result(AnswerClass.NOT_SENT, message=fault.message)

    def log(
        self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: threading.Event
    ) -> Iterator[bytes]:
        """Yield what the pods of a run have printed; see `Engine.log`."""

        def is_over() -> bool:
            reply = self._api.read(f"{self._jobs_path}/{quote(run_id)}")
            return reply.status == 404 or final_condition(_document(reply)) is not None

        yield from log_of(self._api, self._pods_path, run_id, is_over, tail=tail, follow=follow, stop=stop)

    def close(self) -> None:
        """Do what is left to do about the runs of this command (`housekeeping`), and close the connections."""
        if self._surroundings.may_change:
            self._housekeeping.carry_out()
        self._api.close()

    def _check_version(self) -> None:
        """Raise `EngineError` for a server that is too old."""
        version = self._version()
        if version < OLDEST and not self._allows_old_server:
            old, oldest = (".".join(map(str, each)) for each in (version, OLDEST))
            raise EngineError(
                f"{self._api.server} is Kubernetes {old}, and older than {oldest}: it drops "
                "fields that it does not know without a word, and runs the Job nevertheless",
                "use a newer cluster; or, if the configs need no such field, allow it: target.allowOldServer",
            )

    def _version(self) -> tuple[int, int]:
        """Return the version of the server, such as (1, 29). The server is asked once."""
        with self._lock:
            if self._known_version is None:
                told = self._api.document("/version")
                self._known_version = (_number(told.get("major")), _number(told.get("minor")))
            return self._known_version

    # --- reading -----------------------------------------------------------------------------------------------------

    def _seen(self, job_id: str) -> _Seen:
        """Read the Jobs of one job, and their pods."""
        jobs = list(self._api.listed(self._jobs_path, f"{JOB_LABEL}={job_id}"))
        if not jobs:
            # A Job of somebody else is a job of its own name.
            read_s, others = self._others
            if others is not None and job_id not in others and self._surroundings.boot_s() < read_s + _OTHERS_FOR_S:
                return _Seen((), {})
            reply = self._api.read(f"{self._jobs_path}/{quote(job_id)}")
            if reply.status == 404:
                return _Seen((), {})
            if reply.status != 200:
                raise EngineError(f"{self._api.server}: {reply.status}: {self._api.message(reply)}")
            jobs = [_document(reply)]
            if JOB_LABEL in _labels(jobs[0]):
                return _Seen((), {})
        self._housekeeping.note_seen(jobs)
        pods = self._pods(jobs, f"{JOB_LABEL}={job_id}")
        return _Seen(_newest_first(jobs), pods, self._refusals(jobs, pods))

    def _seen_of(self, job_ids: Sequence[str]) -> Mapping[str, _Seen]:
        """Read the Jobs of a few jobs, and their pods, with a list of each kind."""
        if len(job_ids) < 2 or not all(map(_LABEL_VALUE.fullmatch, job_ids)):
            return {job_id: self._seen(job_id) for job_id in job_ids}
        found = self._all(f"{JOB_LABEL} in ({','.join(job_ids)})")
        left = [job_id for job_id in job_ids if job_id not in found]
        others = self._names_of_others() if left else None
        nothing = _Seen((), {})
        return found | {
            job_id: self._seen(job_id) if others is None or job_id in others else nothing for job_id in left
        }

    def _names_of_others(self) -> Collection[str] | None:
        """Return the names of the Jobs of somebody else; None if they are so many that single reads are cheaper.

        The names are up to `_OTHERS_FOR_S` old. No run has such a name, so they keep no run from being created.
        """
        read_s, names = self._others
        now_s = self._surroundings.boot_s()
        if names is None or now_s < read_s + _OTHERS_FOR_S:
            return names
        query = urlencode({"labelSelector": f"!{JOB_LABEL}", "limit": _FEW_OTHERS})
        document = self._api.document(f"{self._jobs_path}?{query}")
        is_whole = not _metadata(document).get("continue")
        self._others = now_s, frozenset(map(_name, document.get("items", []))) if is_whole else None
        return self._others[1]

    def _all(self, selector: str = JOB_LABEL) -> dict[str, _Seen]:
        """Read all Jobs of the namespace with these labels, by the ids of their jobs."""
        by_id: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for job in self._api.listed(self._jobs_path, selector):
            by_id[job_id_of(job)].append(job)
        self._housekeeping.note_seen(job for jobs in by_id.values() for job in jobs)
        all_jobs = [job for jobs in by_id.values() for job in jobs]
        pods = self._pods(all_jobs, selector)
        refused = self._refusals(all_jobs, pods)
        return {job_id: _Seen(_newest_first(jobs), pods, refused) for job_id, jobs in by_id.items()}

    def _refusals(
        self, jobs: Sequence[Mapping[str, Any]], pods: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> Mapping[str, str]:
        """Return why the cluster makes no pods for those of the Jobs that lack them."""
        return refusals(
            self._api, self._namespace_path, {_uid(job) for job in jobs if lacks_pods(job, pods.get(_uid(job), ()))}
        )

    def _pods(self, jobs: Sequence[Mapping[str, Any]], selector: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return the pods by the uids of their Jobs, but for those that have succeeded."""
        found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        if not jobs:
            return found
        are_ours = all(JOB_LABEL in _labels(job) for job in jobs)
        for pod in self._api.listed(self._pods_path, selector if are_ours else "", "status.phase!=Succeeded"):
            labels = _labels(pod)
            uid = next((labels[name] for name in _UIDS_OF_JOB if name in labels), "")
            found[uid].append(pod)
        return found

    def _observation(self, seen: _Seen, run_id: str) -> Observation:
        for job in seen.jobs:
            if run_id in ("", _name(job)):
                return observation(job, seen.pods_of(job), seen.refusals.get(_uid(job), ""))
        return Observation(Status.MISSING)

    # --- calls -------------------------------------------------------------------------------------------------------

    def _run(self, step: Step, may_be_sent: Callable[[], bool]) -> Result:
        made = job_object(step, self._namespace)
        if refusal := self._refusal(step, made):
            return Result(AnswerClass.REJECTED, Reason.INVALID, refusal)
        path = f"{self._jobs_path}?fieldValidation=Strict&fieldManager=reconciler"
        reply = self._api.call(Request("POST", path, made), may_be_sent)
        if reply.status == 409 and reason_of(reply) == "AlreadyExists":
            return self._duplicate(step, reply)
        result = self._api.result(reply)
        if result.kind is not AnswerClass.APPLIED:
            return result
        there = _document(reply)
        if _name(there) != step.run_id or marks_of(there) != step.marks:
            return result._replace(kind=AnswerClass.IN_DOUBT, message="the answer is about another Job")
        self._housekeeping.note_started(there)
        return result._replace(ref=_uid(there), message=_changed(there, made))

    def _refusal(self, step: Step, made: Mapping[str, Any]) -> str:
        """Return why a Job is not sent; "" if it is."""
        wanted = namespace_of(step.config)
        if wanted not in ("", self._namespace):
            return f"{step.job_id} is for the namespace {wanted}, and the target is {self._namespace}"
        return config_fault(step.config) or too_old(made, self._version())

    def _duplicate(self, step: Step, reply: Reply) -> Result:
        """Return what it means that a Job of the name of the run is there."""
        found = self._api.read(f"{self._jobs_path}/{quote(step.run_id)}")
        if found.status != 200:
            # It was there a moment ago. Whether that was our call of before is not known any more.
            return Result(AnswerClass.IN_DOUBT, message=self._api.message(reply), code="409")
        there = _document(found)
        marks = marks_of(there)
        reason = reason_of_duplicate(marks, step.marks)
        owner = "" if marks.lineage == step.marks.lineage else f", and belongs to {_owner(there)}"
        ref = _uid(there) if reason is Reason.WAS_THERE else ""
        if reason is Reason.WAS_THERE:
            self._housekeeping.note_started(there)
        return Result(AnswerClass.REJECTED, reason, f"the Job {step.run_id} was there already{owner}", "409", ref=ref)

    def _abort(self, step: Step, may_be_sent: Callable[[], bool]) -> Result:
        seen = self._looks.get(step.job_id)
        job = next((job for job in seen.jobs if step.seen in ("", _uid(job))), None)
        if job is None:
            reason = Reason.NOT_RUNNING if seen.jobs else Reason.NO_SUCH_JOB
            return Result(AnswerClass.REJECTED, reason, f"the Job of {step.run_id or step.job_id} is gone")
        if refusal := _other_owner(job, step):
            return refusal
        if status_of(job, seen.pods_of(job)) is not Status.ACTIVE:
            return Result(AnswerClass.REJECTED, Reason.NOT_RUNNING, f"the Job {_name(job)} has no active run")
        patch = {
            "metadata": {"uid": _uid(job), "annotations": {ABORT_OP: step.marks.op}},
            "spec": {"activeDeadlineSeconds": 1},
        }
        path = f"{self._jobs_path}/{quote(_name(job))}?fieldManager=reconciler"
        reply = self._api.call(Request("PATCH", path, patch, MERGE_PATCH), may_be_sent)
        if reply.status in (404, 422) and (reply.status == 404 or "uid" in self._api.message(reply)):
            return Result(AnswerClass.REJECTED, Reason.NOT_RUNNING, self._api.message(reply), str(reply.status))
        return self._api.result(reply)

    def _delete(self, step: Step, may_be_sent: Callable[[], bool]) -> Result:
        """Delete the Jobs of a job that belong to the lineage, and the pods that they have left."""
        seen = self._looks.get(step.job_id)
        if not seen.jobs:
            return Result(AnswerClass.REJECTED, Reason.NO_SUCH_JOB, f"there is no Job of {step.job_id}")
        newest = seen.jobs[0]
        if refusal := _other_owner(newest, step):
            return refusal
        ours = [job for job in seen.jobs if marks_of(job).lineage == marks_of(newest).lineage]
        active = [job for job in ours if status_of(job, seen.pods_of(job)) is Status.ACTIVE]
        if active:
            return Result(AnswerClass.REJECTED, Reason.INVALID, f"the Job {_name(active[0])} is active: abort it first")
        if step.seen and step.seen != _uid(newest):
            return Result(AnswerClass.REJECTED, Reason.OTHER, f"the Job {_name(newest)} is newer than the observed one")
        # The oldest one first: whoever is killed midway leaves the newest one, by which the job is known.
        result = Result(AnswerClass.APPLIED)
        for job in reversed(ours):
            body = {"propagationPolicy": "Background", "preconditions": {"uid": _uid(job)}}
            reply = self._api.call(Request("DELETE", f"{self._jobs_path}/{quote(_name(job))}", body), may_be_sent)
            if reply.status in (404, 409):
                continue  # It is gone, or another Job has its name by now.
            result = self._api.result(reply)
            if result.kind is not AnswerClass.APPLIED:
                return result
        return result


def _changed(there: Mapping[str, Any], sent: Mapping[str, Any]) -> str:
    """Return what the server holds otherwise than it was sent, in words; "" if it holds all of it."""
    found = difference(there, sent)
    paths = sorted(_leaves(found)) if found is not SAME else []
    if not paths:
        return ""
    shown = ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
    return f"the server dropped or changed what it was sent: {shown}"


def _leaves(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _leaves(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and all(isinstance(each, Mapping) and "name" in each for each in value):
        for each in value:
            parts = {name: part for name, part in each.items() if name != "name"}
            yield from _leaves(parts, f"{path}[{each['name']}]")
    else:
        yield path


def _other_owner(job: Mapping[str, Any], step: Step) -> Result | None:
    """Return the refusal of a call for a Job of another lineage. A Job without marks belongs to nobody."""
    lineage = marks_of(job).lineage
    if not lineage or not step.marks.lineage or lineage == step.marks.lineage:
        return None
    return Result(
        AnswerClass.REJECTED, Reason.OTHER_OWNER, f"the Job {_name(job)} belongs to another state, of lineage {lineage}"
    )


def _owner(job: Mapping[str, Any]) -> str:
    lineage = marks_of(job).lineage
    return f"another state, of lineage {lineage}" if lineage else "somebody else"


def _newest_first(jobs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the Jobs of one job in the order of their numbers, the newest one first."""
    return sorted(jobs, key=lambda job: (number_of(_name(job), job_id_of(job)), _created(job)), reverse=True)


def _created(job: Mapping[str, Any]) -> str:
    found = _metadata(job).get("creationTimestamp")
    return found if isinstance(found, str) else ""


def _metadata(value: Mapping[str, Any]) -> Mapping[str, Any]:
    found = value.get("metadata")
    return found if isinstance(found, Mapping) else {}


def _labels(value: Mapping[str, Any]) -> Mapping[str, Any]:
    found = _metadata(value).get("labels")
    return found if isinstance(found, Mapping) else {}


def _name(value: Mapping[str, Any]) -> str:
    found = _metadata(value).get("name")
    return found if isinstance(found, str) else ""


def _uid(value: Mapping[str, Any]) -> str:
    found = _metadata(value).get("uid")
    return found if isinstance(found, str) else ""


def _document(reply: Reply) -> Mapping[str, Any]:
    return reply.document if isinstance(reply.document, Mapping) else {}


def _number(value: object) -> int:
    """Return the number at the beginning of a part of a version, such as 24 for "24+"."""
    digits = "".join(character for character in str(value) if character.isdigit())
    return int(digits) if digits else 0
