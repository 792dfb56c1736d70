"""What the files of a run say: its status, and what a person wants to know about it."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from reconciler.engines.local.files import FOLDER, Damaged, Holder, exists, get, holder
from reconciler.engines.local.processes import boot_id, in_words, is_stopped, mark_of, may_exist, survivors
from reconciler.engines.local.root import Root
from reconciler.engines.local.spawner import LOCK, TROUBLE
from reconciler.engines.local.times import rfc3339
from reconciler.engines.local.tombstones import TOMBSTONE, RemovedBy, bury, newest_first
from reconciler.engines.port import Execution, Marks, Observation, Status
from reconciler.model.jobs import EMPTY


class Look(NamedTuple):
    """One look at a run.

    `word` says what an active run does: queued, starting, running, stopping, or left, without a supervisor.
    `is_queued` is set if no supervisor has started the run, and `is_stranded` if there is no spawner either. `is_left`
    is set if processes of the run live on without a supervisor. `was_deleted` is set if a delete has taken the run
    away.
    """

    run_id: str
    status: Status
    word: str
    detail: str = ""
    spec: Mapping[str, Any] = EMPTY
    timestamps: Mapping[str, str] = EMPTY
    execution: Execution = Execution()
    is_queued: bool = False
    is_stranded: bool = False
    is_left: bool = False
    was_deleted: bool = False

    @property
    def marks(self) -> Marks:
        """The marks that the run bears."""
        return Marks(**self.spec["marks"])

    @property
    def observation(self) -> Observation:
        """The look as the port has it."""
        return Observation(
            self.status,
            self.word,
            config=self.spec.get("config"),
            submitted_at=self.spec["at"],
            timestamps={"accepted": self.spec["at"], **self.timestamps},
            detail=self.detail,
            run_id=self.run_id,
            ref=self.run_id,
            marks=self.marks,
            execution=self.execution,
        )


def path_of(job_id: str, run_id: str = "") -> str:
    """Return the folder of a run, or of a job, relative to the root."""
    return f"jobs/{job_id}/{run_id}" if run_id else f"jobs/{job_id}"


@contextmanager
def opened(root: Root, job_id: str, run_id: str = "") -> Iterator[int | None]:
    """Open the folder of a run, or of a job. Yields None if there is none.

    Raises `OSError`, and `Damaged` if a link or a file has the place of the folder.
    """
    path = path_of(job_id, run_id)
    try:
        folder = os.open(path, FOLDER | os.O_NOFOLLOW, dir_fd=root.folder)
    except FileNotFoundError:
        yield None
        return
    except OSError as fault:
        if fault.errno in (errno.ENOTDIR, errno.ELOOP):
            raise Damaged(f"{root.path}/{path} is no folder; remove what is there") from fault
        raise
    try:
        yield folder
    finally:
        os.close(folder)


def run_ids(root: Root, job_id: str) -> list[str]:
    """Return the run ids of a job, with those that were deleted, the newest one first. Raises as `opened` does."""
    with opened(root, job_id) as folder:
        # A file manager or a file system may leave files of its own, whose names begin with a dot.
        names = [] if folder is None else [name for name in os.listdir(folder) if not name.startswith(".")]
    return newest_first(names)


class Watcher:
    """Looks at runs. The processes that live on without a supervisor are searched once, when a run needs that."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._left: Mapping[str, tuple[int, ...]] | None = None

    def look(self, job_id: str, run_id: str) -> Look | None:
        """Return what the files and the kernel say of a run; None if there is no such run.

        The order counts. What makes a run final is read again after what may change it. Raises `OSError`, and
        `ValueError` if a file is damaged.
        """
        with opened(self._root, job_id, run_id) as folder:
            if folder is None:
                return None
            if tombstone := get(folder, TOMBSTONE):
                return _buried(run_id, tombstone)
            ended, spec = get(folder, "ended.json"), get(folder, "spec.json")
            if spec is None:
                return self.look(job_id, run_id) if exists(folder, TOMBSTONE) else None
            if ended:
                return _ended(run_id, spec, get(folder, "started.json"), ended)
            if spec["root"] != self._root.id:
                # The folder was copied, and taken as a root of its own. The original knows how this run goes on.
                return Look(run_id, Status.MISSING, "", spec=spec, was_deleted=True)
            abort_asked = exists(folder, "abort.json")
            supervisor = holder(folder, "lock")
            started, ended = get(folder, "started.json"), get(folder, "ended.json")
            if ended:
                return _ended(run_id, spec, started, ended)
            if supervisor.is_alive:
                return _with_supervisor(run_id, spec, started, supervisor, abort_asked=abort_asked)
            if started is None:
                return self._queued(run_id, spec, abort_asked=abort_asked)
            return self._without_supervisor(job_id, run_id, spec, started, abort_asked=abort_asked)

    def without_folder(self, job_id: str) -> str:
        """Return the runs of a job that execute, in words, for a job whose folder is missing; "" if none is found."""
        if self._left is None:
            self._left = survivors()
        return in_words(self._left, mark_of(self._root.id, job_id, ""))

    def newest_spec(self, job_id: str) -> Mapping[str, Any] | None:
        """Return what describes the newest run of a job, deleted or not; None if the job has no run."""
        for run_id in run_ids(self._root, job_id):
            with suppress(ValueError):
                if look := self.look(job_id, run_id):
                    return look.spec
        return None

    def _queued(self, run_id: str, spec: Mapping[str, Any], *, abort_asked: bool) -> Look:
        if abort_asked:
            return Look(run_id, Status.ABORTED, "", "aborted before it was started", spec)
        detail = "waits for a free slot"
        is_stranded = not holder(self._root.folder, LOCK).is_alive
        if is_stranded:
            detail = "waits; its spawner was killed, and whoever observes it starts another one"
        elif trouble := get(self._root.folder, TROUBLE):
            detail = f"waits: {trouble['trouble']}"
        return Look(run_id, Status.ACTIVE, "queued", detail, spec, is_queued=True, is_stranded=is_stranded)

    def _without_supervisor(
        self, job_id: str, run_id: str, spec: Mapping[str, Any], started: Mapping[str, Any], *, abort_asked: bool
    ) -> Look:
        timestamps, execution = {"started": rfc3339(started["at_s"])}, _execution(started)
        if started["boot"] != boot_id():
            status, detail = Status.FAILED, "the machine was restarted; how the command ended is not known"
        else:
            if self._left is None:
                self._left = survivors()
            if left := self._left.get(mark_of(self._root.id, job_id, run_id)):
                pids = ", ".join(map(str, left[:10]))
                detail = f"its supervisor was killed; what it started lives on (processes {pids})"
                execution = execution._replace(pid=left[0])  # the process that was recorded may have ended
                return Look(run_id, Status.ACTIVE, "left", detail, spec, timestamps, execution, is_left=True)
            status, detail = Status.FAILED, "its supervisor was killed; how the command ended is not known"
        if abort_asked:
            status, detail = Status.ABORTED, f"aborted; {detail}"
        return Look(run_id, status, "", detail, spec, timestamps, execution._replace(pid=0))


def delete(root: Root, job_id: str, run_id: str) -> None:
    """Take away a run that is over. Raises `OSError`, and `ValueError` if a file is damaged."""
    with opened(root, job_id, run_id) as folder:
        if folder is not None:
            bury(folder, RemovedBy.DELETE)


def signal_supervisor(root: Root, job_id: str, run_id: str, signum: int) -> bool:
    """Have the supervisor of a run look for `abort.json`. Return whether there is one. Raises `OSError`."""
    import signal

    with opened(root, job_id, run_id) as folder:
        if folder is None:
            return False
        found = holder(folder, "lock")
        if not found.is_alive or not found.pid:
            return found.is_alive
        if not hasattr(os, "pidfd_open"):
            os.kill(found.pid, signum)
            return True
        try:
            process = os.pidfd_open(found.pid)
        except ProcessLookupError:
            return False
        try:
            # The descriptor may be that of a later process with this id. It isn't if the lock is still held.
            if holder(folder, "lock") == found:
                signal.pidfd_send_signal(process, signum)
                return True
            return False
        except ProcessLookupError:
            return False
        finally:
            os.close(process)


class Wait(NamedTuple):
    """What an abort waits for. `is_stopped` is set if that does not end by itself."""

    text: str
    is_stopped: bool = False


def why_not_over(root: Root, look: Look) -> Wait:
    """Return what an abort of an active run waits for. Raises `OSError`."""
    with opened(root, look.spec["job_id"], look.run_id) as folder:
        supervisor = Holder(is_alive=False) if folder is None else holder(folder, "lock")
    pid = supervisor.pid
    if pid and is_stopped(pid):
        text = f"its supervisor, process {pid}, is stopped, and ends it once it goes on: kill -CONT {pid}"
        return Wait(text, is_stopped=True)
    if supervisor.is_alive:
        return Wait("its supervisor" + (f", process {pid}," if pid else "") + " has yet to record the end")
    return Wait(look.detail or "it has no supervisor")


def _with_supervisor(
    run_id: str, spec: Mapping[str, Any], started: Mapping[str, Any] | None, supervisor: Holder, *, abort_asked: bool
) -> Look:
    word = "stopping" if abort_asked else "running" if started else "starting"
    if started is None:
        return Look(run_id, Status.ACTIVE, word, "", spec)
    attempt = f", attempt {started['attempt']}" if started["attempt"] > 1 else ""
    detail, execution = f"process {started['pid']}{attempt}", _execution(started)
    if supervisor.pid and not may_exist(started["pid"]):
        # Between two attempts for a moment, and for long on a full disk.
        detail = f"process {started['pid']}{attempt} has ended, and its supervisor has yet to record that"
        execution = execution._replace(pid=0)
    return Look(run_id, Status.ACTIVE, word, detail, spec, {"started": rfc3339(started["at_s"])}, execution)


def _execution(started: Mapping[str, Any] | None, ended: Mapping[str, Any] = EMPTY) -> Execution:
    """Return what is known of the execution of a run. The process of a run that has ended is no longer its own."""
    begun: Mapping[str, Any] = started or EMPTY
    return Execution(
        node=begun.get("node", ""),
        pid=0 if ended else begun.get("pid", 0),
        started_at=rfc3339(begun["at_s"]) if begun else "",
        ended_at=rfc3339(ended["at_s"]) if ended else "",
        exit_code=ended.get("exit_code"),
        signal=ended.get("signal", ""),
        reason=ended.get("reason", ""),
        took_s=ended.get("took_s"),
        cpu_s=ended.get("cpu_s"),
        max_memory_bytes=ended.get("max_memory_bytes"),
        attempts=len(ended["attempts"]) if ended else begun.get("attempt", 0),
    )


def _ended(run_id: str, spec: Mapping[str, Any], started: Mapping[str, Any] | None, ended: Mapping[str, Any]) -> Look:
    timestamps = {"started": rfc3339(started["at_s"])} if started else {}
    status = Status(ended["status"])
    timestamps[status.value] = rfc3339(ended["at_s"])
    execution = _execution(started, ended)
    return Look(run_id, status, "", _how_it_ended(spec, ended), spec, timestamps, execution)


def _buried(run_id: str, tombstone: Mapping[str, Any]) -> Look:
    spec, ended = tombstone["spec"], tombstone["ended"]
    if tombstone["by"] == RemovedBy.DELETE or ended is None:
        return Look(run_id, Status.MISSING, "", spec=spec, was_deleted=True)
    look = _ended(run_id, spec, tombstone["started"], ended)
    detail = "; ".join(filter(None, (look.detail, f"its log was removed, as {tombstone['by']} says")))
    return look._replace(detail=detail)


def _how_it_ended(spec: Mapping[str, Any], ended: Mapping[str, Any]) -> str:
    reason, code, name = ended["reason"], ended["exit_code"], ended["signal"]
    if reason in ("jobTimeout", "taskTimeout"):
        timeout_s = spec.get("config", {}).get(reason)
        how = f"timed out: {reason}" + (f" is {timeout_s} s" if timeout_s else "")
    elif reason and reason != "aborted":
        how = str(reason)
    elif ended["status"] == "failed":
        how = f"killed by {name}" if name else f"exit code {code}"
    else:
        how = ""
    attempts, lost_bytes = len(ended["attempts"]), ended.get("lost_log_bytes", 0)
    if how and attempts > 1:
        how = f"{how}, after {attempts} attempts"
    lost = f"{lost_bytes} bytes of its log could not be written" if lost_bytes else ""
    return "; ".join(filter(None, (how, lost)))
