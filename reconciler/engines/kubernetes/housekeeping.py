"""What is done about runs once their results are on record: the TTL of `keepFor`, and the older runs of `keepRuns`.

A Job is created without a TTL. Otherwise, the cluster could remove a run whose result no command has recorded, and an
apply would take it for one that never was. The TTL is patched in when the engine is closed, which comes after all
results are on record. A command that was killed before that leaves it to the next command that observes the run.

All of it is best effort: what can't be done now is done by a later command. What the cluster refuses is told as a
warning, since a later command would be refused too.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from reconciler.engines.http.reply import Reply
from reconciler.engines.kubernetes.api import MERGE_PATCH, Api, Request, segment
from reconciler.engines.kubernetes.objects import JOB_LABEL, job_id_of, marks_of
from reconciler.engines.kubernetes.observations import final_condition
from reconciler.engines.kubernetes.sent import config_of
from reconciler.engines.port import AnswerClass, CredentialsError, EngineError
from reconciler.rules.retention import keep_for_of
from reconciler.rules.runs import number_of

_KINDS = {"Complete": "complete", "Failed": "failed"}


class Housekeeping:
    """Notes the runs of one command, and does what their configs say at its end. Any thread may note a run."""

    def __init__(self, api: Api, jobs_path: str) -> None:
        self._api = api
        self._jobs_path = jobs_path
        self._lock = threading.Lock()
        self._started: dict[str, Mapping[str, Any]] = {}
        self._ended: dict[str, Mapping[str, Any]] = {}

    def note_started(self, job: Mapping[str, Any]) -> None:
        """Note a Job that this command has created, or found to be its own."""
        with self._lock:
            self._started[job["metadata"]["uid"]] = job

    def note_seen(self, jobs: Iterable[Mapping[str, Any]]) -> None:
        """Note the Jobs that this command has read, of which those that have ended may lack their TTL."""
        with self._lock:
            for job in jobs:
                if final_condition(job) is not None and _keep_for_s(job) is not None and not _has_ttl(job):
                    self._ended[job["metadata"]["uid"]] = job

    def carry_out(self) -> str:
        """Patch the TTLs, and remove what `keepRuns` does not keep. Return what the cluster refuses; "" for nothing."""
        lineages = {marks_of(job).lineage for job in self._started.values()}
        ended = [job for job in self._ended.values() if marks_of(job).lineage in lineages]
        refused: list[str] = []
        with suppress(CredentialsError, EngineError):
            for job in [*self._started.values(), *ended]:
                refused += self._set_ttl(job)
            for job in self._started.values():
                refused += self._remove_older(job)
        more = f"; {len(refused) - 1} more like it" if len(refused) > 1 else ""
        return f"{refused[0]}{more}" if refused else ""

    def _set_ttl(self, job: Mapping[str, Any]) -> Iterator[str]:
        """Set the TTL of a Job, and yield why it has none then."""
        seconds = _keep_for_s(job)
        if seconds is None:
            return
        metadata = job["metadata"]
        patch = {"metadata": {"uid": metadata["uid"]}, "spec": {"ttlSecondsAfterFinished": seconds}}
        reply = self._api.call(Request("PATCH", f"{self._jobs_path}/{segment(metadata['name'])}", patch, MERGE_PATCH))
        yield from self._refusal(reply, f"keepFor of {metadata['name']} is not set, so that the Job stays")

    def _refusal(self, reply: Reply, what: str) -> Iterator[str]:
        """Yield what was refused, and why. A Job that is gone, or is another one by now, needs nothing more."""
        result = self._api.result(reply)
        is_gone = reply.status in (404, 409) or (reply.status == 422 and "uid" in result.message)
        if result.kind is not AnswerClass.APPLIED and not is_gone:
            yield f"{what}: {result.message}"

    def _remove_older(self, newest: Mapping[str, Any]) -> Iterator[str]:
        """Delete the Jobs of the job and its lineage that have ended, beyond as many as are to be kept.

        Yields why one of them stays.
        """
        keep_runs = (config_of(newest) or {}).get("keepRuns")
        if not isinstance(keep_runs, Mapping):
            return
        job_id, lineage = job_id_of(newest), marks_of(newest).lineage
        jobs = [
            job
            for job in self._api.listed(self._jobs_path, f"{JOB_LABEL}={job_id}")
            if marks_of(job).lineage == lineage
        ]
        jobs.sort(key=lambda job: number_of(job["metadata"]["name"], job_id), reverse=True)
        counts = dict.fromkeys(_KINDS.values(), 0)
        for job in jobs:
            final = final_condition(job)
            if final is None:
                continue
            kind = _KINDS[final["type"]]
            counts[kind] += 1
            most = keep_runs.get(kind)
            if isinstance(most, int) and counts[kind] > most:
                body = {"propagationPolicy": "Background", "preconditions": {"uid": job["metadata"]["uid"]}}
                job_name = job["metadata"]["name"]
                reply = self._api.call(Request("DELETE", f"{self._jobs_path}/{segment(job_name)}", body))
                yield from self._refusal(reply, f"keepRuns of {job_id} does not remove {job_name}")


def _keep_for_s(job: Mapping[str, Any]) -> int | None:
    found = keep_for_of(config_of(job) or {})
    return None if found is None else int(found)


def _has_ttl(job: Mapping[str, Any]) -> bool:
    return "ttlSecondsAfterFinished" in job.get("spec", {})
