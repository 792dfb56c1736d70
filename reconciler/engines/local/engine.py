"""The engine: what a run, an abort, a delete and an observation are for processes on this machine."""

import errno
import os
import re
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from threading import Event, Lock
from typing import Any

from reconciler.engines.local.attempt import DEFAULT_GRACE_S
from reconciler.engines.local.env import NoSecret, environment
from reconciler.engines.local.files import FOLDER, exists, holder, is_at, put, write_flushed
from reconciler.engines.local.log import read_log
from reconciler.engines.local.processes import executing
from reconciler.engines.local.root import Root, machine_id, missing_root, open_root
from reconciler.engines.local.runs import (
    Look,
    Watcher,
    delete,
    opened,
    path_of,
    run_ids,
    signal_supervisor,
    why_not_over,
)
from reconciler.engines.local.settings import PROMISES, Settings, limits_of
from reconciler.engines.local.spawner import LOCK, QUEUE
from reconciler.engines.local.spawning import SpawnerLink
from reconciler.engines.local.times import later_than
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
from reconciler.engines.texts import text_fault

_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,149}")
"""The form of the ids of jobs and runs: each is the name of a folder."""

_KILLED_WITHIN_S = 5.0
"""How long an abort waits for the end of a run after SIGKILL."""

_STOPPED_S = 1.0
"""How long an abort waits for a supervisor that somebody has stopped to go on."""

_LOST = Observation(Status.MISSING)


class LocalEngine:
    """Runs commands as processes of this user. See `Engine`."""

    promises = PROMISES

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        """Raises `EngineError` for a root that can't be used."""
        self._settings = settings
        self._surroundings = surroundings
        self._lock = Lock()
        self._root: Root | None = None
        self._link: SpawnerLink | None = None
        self._left: list[Root] = []
        """Roots that are no longer at their path. Other threads may still read them, so they stay open."""
        root = self._there()
        if root is not None and not holder(root.folder, LOCK).is_alive:
            with suppress(EngineError, OSError):  # What is there can be read nevertheless.
                self._carry_on(root)

    def identity(self) -> Mapping[str, str]:
        """Return the id of the root, and that of the machine if it has one. See `Engine`.

        The first call needs a root, which is made. An engine that is opened to read makes none. A root that the state
        knows is not made anew: it may have been moved, or its disk may be missing at the moment. It is given up only
        if a person says so, and once nothing executes that it has started.
        """
        known = self._surroundings.known_identity.get("root", "")
        is_replaced, there = self._surroundings.is_replaced, self._there()
        if known and (there is None or (is_replaced and there.id != known)):
            goes_on = executing(known)
            if goes_on or not is_replaced:
                raise missing_root(self._settings.root, goes_on)
        root = self._opened() if self._surroundings.may_change else self._there()
        parts = {"machine": machine_id(), "root": root.id if root else ""}
        return {name: value for name, value in parts.items() if value}

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        """Return what the files and the kernel say of one run. See `Engine`."""
        return self._observe(job_id, run_id, None)

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        """Return the observation of each job."""
        root = self._there()
        watcher = Watcher(root) if root else None
        return {job_id: self._observe(job_id, "", watcher) for job_id in job_ids}

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        """Yield each job that has a run."""
        root = self._there()
        if root is None:
            return
        watcher = Watcher(root)
        for job_id in self._job_ids(root):
            observed = self._observe(job_id, "", watcher)
            if observed.status is not Status.MISSING:
                yield job_id, observed

    def stage(self, step: Step) -> str:
        """Return "": nothing has to be done before an intent."""
        return ""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        """Carry out one call. See `Engine`."""
        call = self._prepared(step)
        if isinstance(call, Result):
            return call
        if not may_be_sent():
            return Result(AnswerClass.NOT_SENT)
        try:
            return call()
        except (OSError, ValueError, EngineError) as fault:
            return Result(AnswerClass.IN_DOUBT, message=f"{self._settings.root}: {fault}")

    def _prepared(self, step: Step) -> Result | Callable[[], Result]:
        """Return what carries out a call, or the answer to a call that can't be carried out."""
        if fault := _fault_of(step):
            return Result(AnswerClass.REJECTED, Reason.INVALID, fault)
        try:
            return self._prepared_run(step) if step.verb is Verb.RUN else self._prepared_end(step)
        except NoSecret as fault:
            return Result(AnswerClass.REJECTED, Reason.INVALID, str(fault))
        except EngineError as fault:
            return Result(AnswerClass.NOT_SENT, message=fault.message)
        except ValueError as fault:
            return Result(AnswerClass.REJECTED, Reason.OTHER, f"{step.job_id}: {fault}")

    def log(self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: Event) -> Iterator[bytes]:
        """Yield what the command printed to both streams, in order. See `Engine`."""
        found, root = self._found(job_id, run_id), self._there()
        if found is None or root is None:
            return

        def goes_on() -> bool:
            return follow and not stop.is_set() and _is_active(Watcher(root).look(job_id, found.run_id))

        try:
            with opened(root, job_id, found.run_id) as folder:
                if folder is not None:
                    yield from read_log(folder, tail, goes_on, stop.wait)
        except OSError as fault:
            raise EngineError(f"the log of {found.run_id} can't be read: {fault}") from fault

    def close(self) -> None:
        """Leave the root. Runs go on, and so does the spawner until its queue is empty."""
        with self._lock:
            if self._link is not None:
                self._link.close()
            for root in [*self._left, self._root]:
                if root is not None:
                    os.close(root.folder)
            self._link, self._root, self._left = None, None, []

    def _there(self) -> Root | None:
        """Return the root that is at its path; None if there is none. Raises `EngineError`."""
        return self._at_path(make=False)

    def _opened(self) -> Root:
        """Return the root, which is made if it is not there. Raises `EngineError`."""
        root = self._at_path(make=True)
        assert root is not None
        return root

    def _at_path(self, *, make: bool) -> Root | None:
        with self._lock:
            if self._root is not None and not is_at(self._root.path, self._root.folder):
                if self._link is not None:
                    self._link.close()
                self._left.append(self._root)
                self._root = self._link = None
            if self._root is None:
                self._root = open_root(self._settings.root, make=make)
            return self._root

    def _spawner(self, root: Root) -> SpawnerLink:
        with self._lock:
            if self._link is None:
                self._link = SpawnerLink(root.path, root.folder, self._settings.slots, self._surroundings.pause)
            return self._link

    def _carry_on(self, root: Root) -> None:
        """Start what a lost spawner has left in its queue. A secret that can't be had leaves its run there.

        Raises `EngineError`.
        """
        if not exists(root.folder, QUEUE):
            return
        watcher = Watcher(root)
        for job_id in self._job_ids(root):
            ids: list[str] = []
            with suppress(ValueError):
                ids = run_ids(root, job_id)
            for run_id in ids:
                with suppress(NoSecret, ValueError):
                    look = watcher.look(job_id, run_id)
                    if look is None:
                        continue  # A power loss has left an empty folder.
                    if not look.is_queued:
                        break  # The runs before the last one that has begun have ended.
                    self._start(root, look, self._env_of(look.spec["config"]))

    def _start(self, root: Root, look: Look, env: Mapping[str, str]) -> bool:
        """Hand an accepted run over. Return whether that has started a spawner. Raises `EngineError`."""
        return self._spawner(root).start(path_of(look.spec["job_id"], look.run_id), env, look.marks.op)

    def _started(self, root: Root, look: Look) -> Look:
        """Start a run whose spawner is gone, and return how that looks. Where nothing can be started, it says why."""
        try:
            if self._start(root, look, self._env_of(look.spec["config"])):
                self._carry_on(root)
        except EngineError as fault:
            return look._replace(detail=f"waits: {fault.message}")
        except (OSError, NoSecret) as fault:
            return look._replace(detail=f"waits: {fault}")
        return look

    def _env_of(self, config: Mapping[str, Any]) -> dict[str, str]:
        return environment(config, self._settings.secrets, self._surroundings.env, self._surroundings.note_credential)

    def _job_ids(self, root: Root) -> list[str]:
        try:
            return sorted(os.listdir(os.path.join(root.path, "jobs")))
        except FileNotFoundError:
            return []
        except OSError as fault:
            raise EngineError(f"{root.path} can't be read: {fault.strerror}") from fault

    def _observe(self, job_id: str, run_id: str, watcher: Watcher | None) -> Observation:
        try:
            look = self._found(job_id, run_id, watcher)
            if look is None and watcher is not None and (goes_on := watcher.without_folder(job_id)):
                look = self._found(job_id, run_id)  # It may have been started after the first look.
                if look is None:
                    detail = f"its folder was removed, and it still executes: {goes_on}"
                    return Observation(Status.UNREADABLE, detail=detail)
        except ValueError as fault:
            return Observation(Status.UNREADABLE, detail=f"{job_id}: {fault}")
        if look is not None and look.is_stranded and (root := self._there()):
            look = self._started(root, look)
        return look.observation if look else _LOST

    def _found(self, job_id: str, run_id: str, watcher: Watcher | None = None) -> Look | None:
        """Return a look at a run that is not deleted; "" as `run_id` stands for the newest run of the job.

        Raises `EngineError`, and `ValueError` if a file is damaged.
        """
        root = self._there()
        if root is None or not _NAME.fullmatch(job_id) or (run_id and not _NAME.fullmatch(run_id)):
            return None
        watcher = watcher or Watcher(root)
        try:
            for each in [run_id] if run_id else run_ids(root, job_id):
                look = watcher.look(job_id, each)
                if look is not None and not look.was_deleted:
                    return look
        except OSError as fault:
            raise EngineError(f"{root.path} can't be read: {fault}") from fault
        return None

    def _prepared_run(self, step: Step) -> Callable[[], Result]:
        env = self._env_of(step.config)
        root = self._opened()
        # A spawner has to know of the run before it is accepted: what can't be started is not accepted, and what is
        # accepted is started, even if this program is killed between the two.
        if self._spawner(root).announce(path_of(step.job_id, step.run_id), env, step.marks.op):
            self._carry_on(root)
        return lambda: self._run(root, step, env)

    def _run(self, root: Root, step: Step, env: Mapping[str, str]) -> Result:
        is_new = self._accept(root, step)
        if isinstance(is_new, Result):
            return is_new
        there = Watcher(root).look(step.job_id, step.run_id)
        if there is None:
            return Result(AnswerClass.IN_DOUBT, message=f"{step.run_id} was removed by somebody else")
        reason = Reason.OTHER if is_new else reason_of_duplicate(there.marks, step.marks)
        if there.is_queued and reason in (Reason.OTHER, Reason.WAS_THERE):
            try:
                if self._start(root, there, env):
                    self._carry_on(root)
            except EngineError as fault:
                return Result(AnswerClass.IN_DOUBT, message=f"{step.run_id} is accepted and waits: {fault.message}")
        if is_new:
            return Result(AnswerClass.APPLIED, message=f"accepted as {step.run_id}", ref=step.run_id)
        return Result(AnswerClass.REJECTED, reason, f"{step.run_id} was there already", ref=step.run_id)

    def _accept(self, root: Root, step: Step) -> bool | Result:
        """Put the run on disk. Return False if its run id is taken, and a result if nothing was put on disk."""
        prepared = f"tmp/{uuid.uuid4().hex}"
        job, run = path_of(step.job_id), path_of(step.job_id, step.run_id)
        try:
            with suppress(FileExistsError):
                os.mkdir(job, 0o700, dir_fd=root.folder)
            os.mkdir(prepared, 0o700, dir_fd=root.folder)
            self._write_spec(root, prepared, step)
            os.rename(prepared, run, src_dir_fd=root.folder, dst_dir_fd=root.folder)
        except (OSError, ValueError) as fault:
            shutil.rmtree(prepared, ignore_errors=True, dir_fd=root.folder)
            if not isinstance(fault, OSError):
                return Result(AnswerClass.REJECTED, Reason.OTHER, f"{fault}; nothing was started")
            if fault.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            return Result(AnswerClass.REJECTED, Reason.OTHER, f"{root.path}: {fault.strerror}; nothing was started")
        # One after the other, so that the first flush writes all three folders where the file system has a log.
        for path in (run, job, "jobs"):
            _flush(root, path)
        return True

    def _write_spec(self, root: Root, prepared: str, step: Step) -> None:
        import json

        folder = os.open(prepared, FOLDER, dir_fd=root.folder)
        try:
            write_flushed(folder, "spec.json", json.dumps(self._spec(root, step)).encode())
        finally:
            os.close(folder)

    def _spec(self, root: Root, step: Step) -> dict[str, Any]:
        wall_s = self._surroundings.wall_s()
        newest = Watcher(root).newest_spec(step.job_id)
        return {
            "at": later_than(newest["at"] if newest else "1970-01-01T00:00:00Z", wall_s),
            "config": dict(step.config),
            "job_id": step.job_id,
            "log_bytes": self._settings.log_bytes,
            "marks": step.marks._asdict(),
            "limits": limits_of(step.config)._asdict(),
            "root": root.id,
            "run_id": step.run_id,
            "umask": self._settings.umask,
            "workdir": _within_project(self._settings.workdir(step.config), root.path),
        }

    def _prepared_end(self, step: Step) -> Result | Callable[[], Result]:
        """Return what aborts one run, or deletes all runs of a job."""
        look, root = self._found(step.job_id, step.run_id or step.seen), self._there()
        if look is None or root is None:
            return Result(AnswerClass.REJECTED, Reason.NO_SUCH_JOB, f"{step.job_id} has no such run")
        if look.marks.lineage != step.marks.lineage:
            owner = look.marks.lineage
            return Result(AnswerClass.REJECTED, Reason.OTHER_OWNER, f"{look.run_id} belongs to the state {owner}")
        if step.verb is Verb.DELETE:
            return lambda: self._delete(root, step)
        if not _is_active(look):
            return Result(AnswerClass.REJECTED, Reason.NOT_RUNNING, f"{look.run_id} has ended")
        return lambda: self._abort(root, look, step.marks)

    def _abort(self, root: Root, look: Look, marks: Marks) -> Result:
        """Have a run ended, and return once it is over."""
        job_id, run_id = look.spec["job_id"], look.run_id
        with opened(root, job_id, run_id) as folder:
            if folder is None:
                return Result(AnswerClass.REJECTED, Reason.NO_SUCH_JOB, f"{run_id} is gone")
            put(folder, "abort.json", {"at_s": self._surroundings.wall_s(), "op": marks.op})
        grace_s = look.spec["config"].get("abort", {}).get("grace", DEFAULT_GRACE_S)
        began_s, pause_s = time.monotonic(), 0.005
        is_handed_over = False
        while True:
            now = Watcher(root).look(job_id, run_id)
            if now is not None and now.status in (Status.COMPLETE, Status.FAILED):
                return Result(AnswerClass.REJECTED, Reason.NOT_RUNNING, f"{run_id} has ended by itself", ref=run_id)
            if now is None or now.status is not Status.ACTIVE:
                return Result(AnswerClass.APPLIED, message=f"aborted {run_id}", ref=run_id)
            if now.is_left and not is_handed_over:
                try:
                    if self._spawner(root).start_at_once(path_of(job_id, run_id)):
                        self._carry_on(root)
                except EngineError as fault:
                    return Result(AnswerClass.IN_DOUBT, message=fault.message, ref=run_id)
                is_handed_over = True
            else:
                signal_supervisor(root, job_id, run_id, signal.SIGTERM)
            waited_s, why = time.monotonic() - began_s, why_not_over(root, now)
            within_s = _STOPPED_S if why.is_stopped else grace_s + _KILLED_WITHIN_S
            if waited_s > within_s or self._surroundings.pause(pause_s):
                message = f"{run_id} is to end, and still executes: {why.text}"
                return Result(AnswerClass.IN_DOUBT, message=message, ref=run_id)
            pause_s = min(0.5, pause_s * 1.5)

    def _delete(self, root: Root, step: Step) -> Result:
        watcher = Watcher(root)
        looks = [look for run_id in run_ids(root, step.job_id) if (look := watcher.look(step.job_id, run_id))]
        there = [look for look in looks if not look.was_deleted]
        for look in there:
            if _is_active(look):
                return Result(AnswerClass.REJECTED, Reason.OTHER, f"{look.run_id} is active: abort it first")
            if look.marks.lineage != step.marks.lineage:
                return Result(AnswerClass.REJECTED, Reason.OTHER_OWNER, f"{look.run_id} belongs to another state")
        for look in there:
            delete(root, step.job_id, look.run_id)
        return Result(AnswerClass.APPLIED, message=f"deleted the runs of {step.job_id}")


def _within_project(workdir: str, root: str) -> str:
    """Return a working folder relative to the folder around the root, if it is in there; else as it is.

    The project may be moved, root and all, before the run starts or is tried again.
    """
    project = os.path.dirname(os.path.realpath(root))
    found = os.path.realpath(workdir)
    return os.path.relpath(found, project) if os.path.commonpath([found, project]) == project else workdir


def _is_active(look: Look | None) -> bool:
    return look is not None and look.status is Status.ACTIVE


def _fault_of(step: Step) -> str:
    """Return why no folder can have the names of a step, or why no process its config; "" if all is well."""
    if not _NAME.fullmatch(step.job_id):
        return f"{step.job_id!r} can't be the name of a folder"
    if step.verb is Verb.RUN and not _NAME.fullmatch(step.run_id):
        return f"{step.run_id!r} can't be the name of a run"
    return text_fault(step.config) if step.verb is Verb.RUN else ""


def _flush(root: Root, path: str) -> None:
    """Write the names in a folder below the root to the disk."""
    descriptor = os.open(path, FOLDER, dir_fd=root.folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
