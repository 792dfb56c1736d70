"""The engine: what a run, an abort, a delete and an observation are for a folder of scripts."""

import os
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

from reconciler.engines.port import (
    AnswerClass,
    EngineError,
    Marks,
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
from reconciler_scripts.plugin import PROMISES, Call
from reconciler_scripts.runs import NAME, Run, RunsFolder, Script

MACHINE_ID = Path("/etc/machine-id")
INHERITED = ("HOME", "LANG", "PATH", "TMPDIR", "TZ", "USER")
"""The environment variables that a script gets from the program. A credential of the program is none of them."""

DAMAGE = (ValueError, KeyError, TypeError)
"""What a file raises that somebody has changed by hand."""

LONGEST_MESSAGE = 500
"""The number of characters of a message for people."""

_FOLLOW_EVERY_S = 0.2


class ScriptsEngine:
    """Runs the scripts of one folder. See `Engine`."""

    promises = PROMISES

    def __init__(self, folder: str, grace_s: float, surroundings: Surroundings) -> None:
        """`grace_s` is the time between SIGTERM and SIGKILL of an abort. Raises `OSError` without the folder."""
        self._scripts = Path(folder)
        self._grace_s = grace_s
        self._surroundings = surroundings
        self._runs = RunsFolder(self._scripts)
        self._folder_id = self._runs.identity(may_make=surroundings.may_change)

    def identity(self) -> Mapping[str, str]:
        """Return the id of the folder and that of the machine, if there are such."""
        parts = {"folder": self._folder_id} if self._folder_id else {}
        if MACHINE_ID.exists():
            parts["machine"] = MACHINE_ID.read_text().strip()
        return parts

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        """Return what the files say of one run. Several programs may read them at a time."""
        if not NAME.fullmatch(job_id) or (run_id and not NAME.fullmatch(run_id)):
            return Observation(Status.MISSING)
        try:
            run = self._found(job_id, run_id)
            return self._observed(run) if run else Observation(Status.MISSING)
        except DAMAGE as fault:
            return Observation(Status.UNREADABLE, detail=f"a file of the run is damaged: {fault!r}")
        except OSError as fault:
            raise EngineError(f"{self._scripts} can't be read: {fault}") from fault

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        """Return the observation of each job."""
        return {job_id: self.observe(job_id) for job_id in job_ids}

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        """Yield each job that has a run."""
        for job_id in self._runs.jobs():
            observed = self.observe(job_id)
            if observed.status is not Status.MISSING:
                yield job_id, observed

    def stage(self, step: Step) -> str:
        """Return "": nothing has to be done before an intent."""
        return ""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        """Carry out one call. A file that can't be written leaves the call in doubt."""
        if fault := _fault_of(step):
            return Result(AnswerClass.REJECTED, Reason.INVALID, fault)
        if not may_be_sent():
            return Result(AnswerClass.NOT_SENT)
        try:
            return self._run(step) if step.verb is Verb.RUN else self._end(step)
        except (OSError, *DAMAGE) as fault:
            return Result(AnswerClass.IN_DOUBT, message=f"{self._scripts}: {fault!r}")

    def log(self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: Event) -> Iterator[bytes]:
        """Yield what a script printed. See `Engine.log`."""
        run = self._found(job_id, run_id)
        if run is None or not run.log.exists():
            return
        with run.log.open("rb") as file:
            if tail is not None:
                yield from deque(file, maxlen=tail)
            while True:
                goes_on = follow and not stop.is_set() and run.is_active()
                yield from iter(lambda: file.read(65_536), b"")
                if not goes_on:
                    return
                stop.wait(_FOLLOW_EVERY_S)

    def close(self) -> None:
        """Do nothing: a run goes on without the engine."""

    def _found(self, job_id: str, run_id: str) -> Run | None:
        """Return a run that is not deleted; "" as `run_id` stands for the newest run of the job."""
        # A delete begins with the oldest run. So if the newest run is deleted, all runs are.
        runs = [self._runs.run(job_id, run_id)] if run_id else self._runs.of(job_id)[-1:]
        documents = {run: run.document() for run in runs}
        return next((run for run, found in documents.items() if found is not None and "deleted" not in found), None)

    def _observed(self, run: Run) -> Observation:
        document = run.document() or {}
        # The code is read after the lock: the shell records the code before it gives the lock back.
        status = Status.ACTIVE if run.is_active() else _status_after(run)
        code, ended_at_s = run.exit_code(), run.ended_at_s()
        timestamps = {"began": document["began"]}
        if status is not Status.ACTIVE and ended_at_s is not None:
            timestamps[status.value] = _rfc3339(ended_at_s)
        return Observation(
            status,
            status.value,
            config=document["config"],
            submitted_at=document["began"],
            timestamps=timestamps,
            detail=_detail(status, code),
            run_id=run.id,
            ref=run.id,
            marks=_marks_of(document),
        )

    def _run(self, step: Step) -> Result:
        call = Call.of(step.job_id, step.config)
        script = self._scripts / call.script
        if not os.access(script, os.X_OK):
            return Result(AnswerClass.REJECTED, Reason.INVALID, f"{script} is no executable file: write it, chmod +x")
        run = self._runs.run(step.job_id, step.run_id)
        document = {
            "began": _rfc3339(self._surroundings.wall_s()),
            "config": dict(step.config),
            "marks": step.marks._asdict(),
            "sender": str(uuid4()),
        }
        printed = run.start(document, self._script(call))
        there = run.document()
        if there is None and printed:
            return Result(AnswerClass.REJECTED, Reason.OTHER, printed[:LONGEST_MESSAGE])
        if there is None:
            # Somebody has killed the shell, or has removed the folder at this moment.
            return Result(AnswerClass.IN_DOUBT, message="the run is gone")
        if there["sender"] == document["sender"]:
            return Result(AnswerClass.APPLIED, message=f"started as {run.id}", ref=run.id)
        reason = reason_of_duplicate(_marks_of(there), step.marks)
        return Result(AnswerClass.REJECTED, reason, f"{run.id} was there already", ref=run.id)

    def _end(self, step: Step) -> Result:
        """Abort one run, or delete all runs of a job."""
        run = self._found(step.job_id, step.run_id or step.seen)
        if run is None:
            return Result(AnswerClass.REJECTED, Reason.NO_SUCH_JOB, f"{step.job_id} has no such run")
        owner = _marks_of(run.document() or {}).lineage
        if owner != step.marks.lineage:
            return Result(AnswerClass.REJECTED, Reason.OTHER_OWNER, f"{run.id} belongs to the state {owner}")
        if step.verb is Verb.DELETE:
            return self._delete(run, self._runs.of(step.job_id))
        if not run.is_active():
            return Result(AnswerClass.REJECTED, Reason.NOT_RUNNING, f"{run.id} has ended")
        run.abort(self._grace_s, self._surroundings.boot_s, self._surroundings.pause)
        words = f"{run.id} was asked to end" if run.is_active() else f"{run.id} has ended"
        return Result(AnswerClass.APPLIED, message=words, ref=run.id)

    def _delete(self, seen: Run, runs: list[Run]) -> Result:
        """Delete the runs of a job, unless one of them is newer than the one that was seen, or active."""
        if runs[-1].id != seen.id:
            return Result(AnswerClass.REJECTED, Reason.OTHER, f"{runs[-1].id} is newer than {seen.id}")
        if active := next((run for run in runs if run.is_active()), None):
            return Result(AnswerClass.REJECTED, Reason.OTHER, f"{active.id} is active: abort it first")
        for run in runs:
            run.delete()
        return Result(AnswerClass.APPLIED, message=f"deleted {seen.id} and all runs before it")

    def _script(self, call: Call) -> Script:
        """Return the script of a run. The shell that watches the run does not get the variables of the config."""
        outer = self._surroundings.env
        inherited = {variable: outer[variable] for variable in INHERITED if variable in outer}
        assignments = [f"{variable}={value}" for variable, value in call.env.items()]
        command = ["env", *assignments, f"./{call.script}", *call.args]
        return Script(command, self._scripts, {"PATH": os.defpath, **inherited})


def _fault_of(step: Step) -> str:
    """Return why no file can have the names of a step; "" if one can."""
    if not NAME.fullmatch(step.job_id):
        return f"{step.job_id!r} can't be the name of a script"
    if step.verb is Verb.RUN and not NAME.fullmatch(step.run_id):
        return f"{step.run_id!r} can't be the name of a run"
    return Call.of(step.job_id, step.config).fault()


def _status_after(run: Run) -> Status:
    """Return how a run ended. A run without an exit code was killed with its shell, or by a restart of the machine."""
    if run.was_aborted():
        return Status.ABORTED
    return Status.COMPLETE if run.exit_code() == 0 else Status.FAILED


def _detail(status: Status, code: int | None) -> str:
    if status is not Status.FAILED:
        return ""
    return "killed, or ended by a restart of the machine" if code is None else f"exit code {code}"


def _marks_of(document: Mapping[str, Any]) -> Marks:
    return Marks(**document.get("marks", {}))


def _rfc3339(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
