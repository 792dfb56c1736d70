"""Submits runs. The submission id is the run id, and Ray takes no id twice as long as it knows the job of that id.

What the head answers for an id that is taken is a 500 as for any other fault, so that the job is looked up:

    a job of this id is there   the marks in its metadata say whose it is
    there is none               the call is in doubt, unless the agent has refused it. The request may still be on its
                                way inside of the head

A head keeps the package of a working_dir for some minutes, and then for as long as a job uses it. So it is asked for
again before each call.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from threading import Lock

from reconciler.engines.http.reply import Reply
from reconciler.engines.port import (
    AnswerClass,
    EngineError,
    Reason,
    Result,
    Step,
    Surroundings,
    reason_of_duplicate,
)
from reconciler.engines.ray.faults import config_fault
from reconciler.engines.ray.head import Head, OtherSession, json_request, was_refused_by_agent
from reconciler.engines.ray.marks import metadata_of
from reconciler.engines.ray.packages import package_of, packed
from reconciler.engines.ray.reading import JOBS, Reading
from reconciler.engines.ray.sessions import Sessions
from reconciler.engines.ray.settings import Settings
from reconciler.engines.ray.submission import submission

_SCHEME = "gcs://"
_LOOKS = 3
_LOOK_AGAIN_S = 0.3


class Sending:
    """Starts the runs of one head. Several threads may call any method at the same time."""

    def __init__(
        self, head: Head, reading: Reading, sessions: Sessions, settings: Settings, surroundings: Surroundings
    ) -> None:
        self._head = head
        self._reading = reading
        self._sessions = sessions
        self._settings = settings
        self._surroundings = surroundings
        self._lock = Lock()
        self._uploading: dict[str, Lock] = defaultdict(Lock)
        """One lock for each package, so that several runs upload it once."""

    def stage(self, step: Step) -> str:
        """Upload the package of a run if it has one, and return the session of the head, and the URI of the package.

        Raises the errors of `Engine.observe`, also if the head was restarted.
        """
        self._sessions.refuse_other()
        package = package_of(step.config)
        if not config_fault(step.config) and (unmade := self._provide(package, step)):
            raise unmade
        return f"{self._sessions.name} {package}".rstrip()

    def send(self, step: Step, may_be_sent: Callable[[], bool]) -> Result:
        """Submit a run. Raises the errors of `Engine.observe` if a read fails before that."""
        if fault := config_fault(step.config):
            return Result(AnswerClass.REJECTED, Reason.INVALID, fault)
        session, _, package = step.staged.partition(" ")
        if not session:
            return Result(AnswerClass.REJECTED, Reason.INVALID, f"{step.run_id} was not staged")
        if unmade := self._provide(package, step):
            return Result(AnswerClass.REJECTED, Reason.OTHER, f"the head dropped the files: {unmade.message}")
        body = submission(step.config, package)
        body |= {"submission_id": step.run_id, "metadata": {**body.get("metadata", {}), **metadata_of(step)}}
        try:
            reply = self._head.call(json_request("POST", JOBS, body, session), may_be_sent)
        except OtherSession as other:
            words = f"{other}; it is not known whether the head before has executed {step.run_id}"
            return Result(AnswerClass.REJECTED, Reason.OTHER, words)
        if reply.status == 500:
            return self._looked_up(step, reply)
        result = self._head.result(reply)
        if result.kind is not AnswerClass.APPLIED:
            return result
        if not isinstance(reply.document, Mapping) or reply.document.get("submission_id") != step.run_id:
            return result._replace(kind=AnswerClass.IN_DOUBT, message="the answer is about another job")
        return result._replace(ref=step.run_id)

    def _provide(self, package: str, step: Step) -> EngineError | None:
        """Let the head have a package, and keep it for some minutes. Returns why it can't be made, if so.

        Raises the errors of `Engine.observe`.
        """
        if not package:
            return None
        with self._lock:
            uploading = self._uploading[package]
        with uploading:
            path = f"/api/packages/gcs/{package.removeprefix(_SCHEME)}"
            reply = self._head.read(path)
            if reply.status == 404:
                try:
                    content = packed(step.config, self._settings)
                except EngineError as unmade:
                    return unmade
                reply = self._head.upload(path, content)
        if reply.status != 200:
            raise self._head.fault(path, reply)
        return None

    def _looked_up(self, step: Step, reply: Reply) -> Result:
        """Return what became of a run whose submission was answered with a fault."""
        message = self._head.message(reply)
        for look in range(_LOOKS):
            job = self._reading.one(step.run_id)
            if job is not None:
                marks = job.mark.marks if job.mark else step.marks._replace(lineage="", op="")
                reason = reason_of_duplicate(marks, step.marks)
                owner = "" if marks.lineage == step.marks.lineage else f", and belongs to {_owner(marks.lineage)}"
                ref = job.id if reason is Reason.WAS_THERE else ""
                words = f"{step.run_id} was there already{owner}"
                return Result(AnswerClass.REJECTED, reason, words, "500", ref=ref)
            if was_refused_by_agent(reply) and "already exists" not in reply.text:
                return Result(AnswerClass.REJECTED, Reason.INVALID, message, "500")
            if look < _LOOKS - 1 and self._surroundings.pause(_LOOK_AGAIN_S):
                break
        return Result(AnswerClass.IN_DOUBT, message=message, code="500")


def _owner(lineage: str) -> str:
    return f"another state, of lineage {lineage}" if lineage else "somebody else"
