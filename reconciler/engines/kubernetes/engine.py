"""The engine: what a run, an abort, a delete and an observation are for a namespace of a Kubernetes cluster."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from reconciler.engines.dispatch import dispatch
from reconciler.engines.http.reply import Reply
from reconciler.engines.kubernetes.aborting import Aborting
from reconciler.engines.kubernetes.api import Api, Request, reason_of, segment
from reconciler.engines.kubernetes.differences import SAME, difference
from reconciler.engines.kubernetes.faults import config_fault, namespace_of, too_old
from reconciler.engines.kubernetes.fields import document, name, uid
from reconciler.engines.kubernetes.housekeeping import Housekeeping
from reconciler.engines.kubernetes.kueue import Kueue
from reconciler.engines.kubernetes.logs import log_of
from reconciler.engines.kubernetes.objects import job_object, marks_of
from reconciler.engines.kubernetes.observations import final_condition, status_of
from reconciler.engines.kubernetes.pods import job_uid_of, newest_of, observation_of_strays
from reconciler.engines.kubernetes.reading import Reading, Seen
from reconciler.engines.kubernetes.seeing import executing_first, observation_of
from reconciler.engines.kubernetes.settings import OLDEST, PROMISES, UNKNOWN
from reconciler.engines.kubernetes.spaces import Space
from reconciler.engines.port import (
    AnswerClass,
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
from reconciler.model.errors import EngineFailed


class KubernetesEngine:
    """The Jobs of one namespace. See `Engine`."""

    promises = PROMISES

    def __init__(self, api: Api, namespace: str, surroundings: Surroundings, *, allows_old_server: bool) -> None:
        """Raises `EngineError` for a server that is too old, unless `allows_old_server` is set."""
        self._api = api
        self._namespace = namespace
        self._surroundings = surroundings
        self._jobs_path = f"/apis/batch/v1/namespaces/{segment(namespace)}/jobs"
        self._pods_path = f"/api/v1/namespaces/{segment(namespace)}/pods"
        self._allows_old_server = allows_old_server
        self._housekeeping = Housekeeping(api, self._jobs_path)
        kueue = Kueue(api, namespace)
        self._space = Space(api, namespace)
        self._reading = Reading(api, self._space, kueue, surroundings.boot_s, self._housekeeping.note_seen)
        self._aborting = Aborting(api, self._jobs_path, self._pods_path, kueue)

    def identity(self) -> Mapping[str, str]:
        """Return the name of the own namespace, and the uids of it and of `kube-system`, as far as they can be read.

        Raises `EngineError` if the own one is not there.
        """
        self._check_version()
        uids = {"cluster": self._space.uid_of("kube-system"), "namespace": self._space.own_uid()}
        return {"namespaceName": self._namespace, **{part: found for part, found in uids.items() if found}}

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        """Return what the cluster says of one run; see `Engine.observe`."""
        self._check_version()
        return observation_of(self._reading.get(job_id), run_id)

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        """Return the observation of each job, from one list of Jobs and one of pods where that is cheaper."""
        self._check_version()
        return {job_id: observation_of(seen) for job_id, seen in self._reading.get_many(job_ids).items()}

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        """Yield each job of the namespace, those of other tools too."""
        self._check_version()
        for job_id, seen in sorted(self._reading.get_all().items()):
            yield job_id, observation_of(seen)

    def stage(self, step: Step) -> str:
        """Return "": a call needs no work before its intent."""
        return ""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        """Carry out one call; see `Engine.send`."""
        calls = {Verb.RUN: self._run, Verb.ABORT: self._abort, Verb.DELETE: self._delete}
        return dispatch(step, may_be_sent, calls, self._check_version)

    def log(
        self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: threading.Event
    ) -> Iterator[bytes]:
        """Yield what the pods of a run have printed; see `Engine.log`.

        Raises `EngineError` at the end if the Job was deleted while its log was followed.
        """
        is_gone = False

        def is_over() -> bool:
            nonlocal is_gone
            reply = self._api.read(f"{self._jobs_path}/{segment(run_id)}")
            is_gone = reply.status == 404
            return is_gone or final_condition(document(reply)) is not None

        yield from log_of(self._api, self._pods_path, run_id, is_over, tail=tail, follow=follow, stop=stop)
        if is_gone:
            raise EngineError(
                f"the Job {run_id} was deleted while its log was followed, so that the log may lack its end",
                "send logs that are needed later to a place of their own",
            )

    def close(self) -> None:
        """Do what is left to do about the runs of this command (`housekeeping`), and close the connections.

        Raises `EngineFailed` with what the cluster refuses of it. All calls are on record by then, so that a command
        tells this as a warning.
        """
        refused = self._housekeeping.carry_out() if self._surroundings.may_change else ""
        self._api.close()
        if refused:
            raise EngineFailed(refused)

    def _check_version(self) -> None:
        """Raise `EngineError` for a server that is too old."""
        version = self._reading.version()
        if version >= OLDEST or self._allows_old_server:
            return
        old, oldest = (".".join(map(str, each)) for each in (version, OLDEST))
        if version == UNKNOWN:
            raise EngineError(
                f"{self._api.server} does not tell its version, and may be older than {oldest}: such a server drops "
                "fields that it does not know without a word, and runs the Job nevertheless",
                "if it is new enough, or the configs need no such field, allow it: target.allowOldServer",
            )
        raise EngineError(
            f"{self._api.server} is Kubernetes {old}, and older than {oldest}: it drops "
            "fields that it does not know without a word, and runs the Job nevertheless",
            "use a newer cluster; or, if the configs need no such field, allow it: target.allowOldServer",
        )

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
        there = document(reply)
        if name(there) != step.run_id or marks_of(there) != step.marks:
            return result._replace(kind=AnswerClass.IN_DOUBT, message="the answer is about another Job")
        self._housekeeping.note_started(there)
        return result._replace(ref=uid(there), message=_changed(there, made))

    def _refusal(self, step: Step, made: Mapping[str, Any]) -> str:
        """Return why a Job is not sent; "" if it is."""
        wanted = namespace_of(step.config)
        if wanted not in ("", self._namespace):
            return f"{step.job_id} is for the namespace {wanted}, and the target is {self._namespace}"
        return config_fault(step.config) or too_old(step.config, made, self._reading.version())

    def _duplicate(self, step: Step, reply: Reply) -> Result:
        """Return what it means that a Job of the name of the run is there."""
        found = self._api.read(f"{self._jobs_path}/{segment(step.run_id)}")
        if found.status != 200:
            # It was there a moment ago. Whether that was our call of before is not known any more.
            return Result(AnswerClass.IN_DOUBT, message=self._api.message(reply), code="409")
        there = document(found)
        marks = marks_of(there)
        reason = reason_of_duplicate(marks, step.marks)
        owner = "" if marks.lineage == step.marks.lineage else f", and belongs to {_owner(there)}"
        ref = uid(there) if reason is Reason.WAS_THERE else ""
        if reason is Reason.WAS_THERE:
            self._housekeeping.note_started(there)
        return Result(AnswerClass.REJECTED, reason, f"the Job {step.run_id} was there already{owner}", "409", ref=ref)

    def _abort(self, step: Step, may_be_sent: Callable[[], bool]) -> Result:
        seen = self._reading.get(step.job_id)
        job = next((job for job in executing_first(seen) if step.seen in ("", uid(job))), None)
        if job is None:
            return self._abort_without_job(seen, step, may_be_sent)
        if refusal := _other_owner(job, step):
            return refusal
        if status_of(job, seen.pods_of(job)) is not Status.ACTIVE:
            return Result(AnswerClass.REJECTED, Reason.NOT_RUNNING, f"the Job {name(job)} has no active run")
        return self._aborting.abort(job, step.marks.op, may_be_sent)

    def _abort_without_job(self, seen: Seen, step: Step, may_be_sent: Callable[[], bool]) -> Result:
        """Abort a run whose Job is gone: end the pods that it has left, if there are any.

        They are those of the Job that was observed, or else of the newest one. Pods of another lineage stay.
        """
        left = [pod for pod in seen.strays if step.seen in ("", job_uid_of(pod))]
        ours = [pod for pod in left if _other_owner(pod, step) is None]
        if ours:
            return self._aborting.end_pods(newest_of(ours), may_be_sent)
        if left and (refusal := _other_owner(left[0], step)):
            return refusal
        reason = Reason.NOT_RUNNING if seen.jobs else Reason.NO_SUCH_JOB
        return Result(AnswerClass.REJECTED, reason, f"the Job of {step.run_id or step.job_id} is gone")

    def _delete(self, step: Step, may_be_sent: Callable[[], bool]) -> Result:
        """Delete the Jobs of a job that belong to the lineage, and the pods that they have left.

        The message names the Jobs that stay, since they bear no lineage: nobody can tell whose they are.
        """
        seen = self._reading.get(step.job_id)
        if strays := newest_of([pod for pod in seen.strays if _other_owner(pod, step) is None]):
            detail = observation_of_strays(strays).detail
            return Result(AnswerClass.REJECTED, Reason.INVALID, f"{detail}: abort it first")
        if not seen.jobs:
            return Result(AnswerClass.REJECTED, Reason.NO_SUCH_JOB, f"there is no Job of {step.job_id}")
        newest = seen.jobs[0]
        if refusal := _other_owner(newest, step):
            return refusal
        ours = [job for job in seen.jobs if _other_owner(job, step) is None]
        active = [job for job in ours if status_of(job, seen.pods_of(job)) is Status.ACTIVE]
        if active:
            return Result(AnswerClass.REJECTED, Reason.INVALID, f"the Job {name(active[0])} is active: abort it first")
        if step.seen and step.seen != uid(newest):
            return Result(AnswerClass.REJECTED, Reason.OTHER, f"the Job {name(newest)} is newer than the observed one")
        stays = self._staying(seen, step)
        # The oldest one first: whoever is killed midway leaves the newest one, by which the job is known.
        result = Result(AnswerClass.APPLIED)
        for job in reversed(ours):
            body = {"propagationPolicy": "Background", "preconditions": {"uid": uid(job)}}
            reply = self._api.call(Request("DELETE", f"{self._jobs_path}/{segment(name(job))}", body), may_be_sent)
            if reply.status in (404, 409):
                continue  # It is gone, or another Job has its name by now.
            result = self._api.result(reply)
            if result.kind is not AnswerClass.APPLIED:
                return result
        return result._replace(message=stays)

    def _staying(self, seen: Seen, step: Step) -> str:
        """Return which Jobs without a lineage a delete leaves, in words; "" for none.

        One of them may be the Job from which a person has imported the job. It has the name of the job, and no label.
        """
        found = [job for job in seen.jobs if not marks_of(job).lineage and step.seen != uid(job)]
        if all(name(job) != step.job_id for job in seen.jobs) and (own := self._reading.unlabelled(step.job_id)):
            found.append(own)
        names = ", ".join(map(name, found))
        return f"what bears no lineage stays: {names}" if names else ""


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


def _other_owner(there: Mapping[str, Any], step: Step) -> Result | None:
    """Return the refusal of a call for a Job or a pod that does not bear the lineage of the call.

    A Job without a lineage is of somebody else, whatever its labels say. A call may be about it only if the call names
    it by its uid, since a person has imported that very Job.
    """
    lineage = marks_of(there).lineage
    if step.marks.lineage in ("", lineage) or (not lineage and step.seen == uid(there)):
        return None
    return Result(AnswerClass.REJECTED, Reason.OTHER_OWNER, f"{name(there)} belongs to {_owner(there)}")


def _owner(job: Mapping[str, Any]) -> str:
    lineage = marks_of(job).lineage
    return f"another state, of lineage {lineage}" if lineage else "somebody else"
