"""Each fault of a service, for each verb, with reads and without: the number of calls sent, and the record afterwards.

The ledger of the embedded server is the judge. All calls go over real sockets.
"""

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from fault_rows import ROWS, Row
from in_process import TARGET, carried_out, engine_at, planned, store_in
from project import TOKEN
from reconciler.engines.bytenite.auth import Credentials
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.http.reply import Reply
from reconciler.engines.sandbox.faults import parse_fault
from reconciler.engines.sandbox.life import calls, ledger
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.model.jobs import Desired, Job, Record, Verb
from reconciler.model.outcomes import ActionOutcome, Outcome
from steps import step_for

SHORT_TIMEOUT_S = 0.5
"""The timeout for a silent server. Every real answer must arrive within it too."""


class Trial(NamedTuple):
    """The result of one action on a service with a fault."""

    outcome: ActionOutcome
    sent: int
    done: int
    record: Record | None


def attempt(folder: Path, verb: Verb, fault: str, *, reads: bool) -> Trial:
    """Bring a job to the state in which `verb` is planned, and apply under the fault."""
    db = folder / "server.db"
    prior = {Verb.RUN: [], Verb.ABORT: [Verb.RUN], Verb.DELETE: [Verb.RUN, Verb.ABORT]}[verb]
    if prior:
        with SandboxServer(db, access_token=TOKEN, create_missing=True, job_seconds=1000, reads=reads) as server:
            engine = engine_at(server.endpoint)
            for earlier in prior:
                engine.send(step_for(earlier, "a", {}))
            engine.close()
    rules = [parse_fault(f"{verb}:{fault}")]
    timeout_s = SHORT_TIMEOUT_S if fault.startswith(("hang", "drip")) else 10.0
    with SandboxServer(
        db, access_token=TOKEN, create_missing=True, job_seconds=1000, reads=reads, faults=rules
    ) as server:
        calls_before, done_before = len(calls(db)), len(ledger(db))
        outcome, record = apply_one(folder, engine_at(server.endpoint, timeout_s), verb)
        path = {Verb.RUN: "/run", Verb.ABORT: "/abort", Verb.DELETE: "/jobs/a"}[verb]
        method = "DELETE" if verb is Verb.DELETE else "POST"
        sent = [c for c in calls(db)[calls_before:] if c.method == method and c.path.endswith(path)]
        followed = [c for c in calls(db) if "/followed/" in c.path]
        assert followed == []
        return Trial(outcome, len(sent), len(ledger(db)) - done_before, record)


def apply_one(folder: Path, engine: ByteniteEngine, verb: Verb) -> tuple[ActionOutcome, Record | None]:
    desired = {Verb.RUN: Desired.RUNNING, Verb.ABORT: Desired.ABORTED, Verb.DELETE: Desired.ABSENT}[verb]
    recorded = {
        Verb.RUN: {},
        Verb.ABORT: {"a": Record("a", Desired.RUNNING)},
        Verb.DELETE: {"a": Record("a", Desired.ABORTED)},
    }[verb]
    store = store_in(folder)
    with store.open(TARGET, "apply", 0) as session:
        for name, record in recorded.items():
            session.put(name, record)
        plan, subjects = planned({"a": Job("a", "a", desired, {})}, session.state.jobs)
        [outcome] = carried_out(plan, subjects, engine, session)
        engine.close()
    state = store.read(TARGET)
    return outcome, state.jobs.get("a") if state else None


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "no-reads"])
@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_a_misbehaving_service(tmp_path: Path, row: Row, verb: Verb, reads: bool) -> None:
    trial = attempt(tmp_path, verb, row.fault, reads=reads)
    outcome = trial.outcome.outcome

    assert trial.done == int(row.done), "the work is done once at the most"
    if not row.lost:
        assert outcome is Outcome.FAILED
        assert trial.sent == row.sends
        assert trial.record is None or trial.record.doubt is None
        assert trial.outcome.error
        return
    if row.done and reads:
        assert outcome is Outcome.SUCCEEDED
        assert trial.sent == 1
        assert trial.record is not None
        assert trial.record.doubt is None
        assert trial.record.state == {Verb.RUN: "running", Verb.ABORT: "aborted", Verb.DELETE: "absent"}[verb]
        return
    if row.fault == "truncated:after" and verb is not Verb.RUN:
        # The status of a cut answer was read. It tells the repeated call that nothing is left to do.
        assert (outcome, trial.sent) == (Outcome.SUCCEEDED, 2)
        return
    assert outcome is Outcome.IN_DOUBT
    assert trial.sent == (1 if verb is Verb.RUN else 3)
    assert trial.record is not None
    assert trial.record.doubt is not None
    assert trial.record.doubt.verb is verb
    assert "`reconciler resolve a --applied`, or the same with `--not-applied`" in trial.outcome.error


def test_a_slow_answer_within_the_deadline_is_an_answer(tmp_path: Path) -> None:
    trial = attempt(tmp_path, Verb.RUN, "slow:seconds=0.1", reads=True)
    assert (trial.outcome.outcome, trial.sent, trial.done) == (Outcome.SUCCEEDED, 1, 1)


@pytest.mark.parametrize("verb", [Verb.ABORT, Verb.DELETE])
def test_a_repeat_that_finds_nothing_left_to_do_is_a_success(tmp_path: Path, verb: Verb) -> None:
    trial = attempt(tmp_path, verb, "503:after:times=1", reads=False)
    assert (trial.outcome.outcome, trial.sent, trial.done) == (Outcome.SUCCEEDED, 2, 1)


@pytest.mark.parametrize("verb", [Verb.ABORT, Verb.DELETE])
def test_a_lost_abort_or_delete_that_was_not_done_is_done_by_its_repeat(tmp_path: Path, verb: Verb) -> None:
    trial = attempt(tmp_path, verb, "reset:times=2", reads=True)
    assert (trial.outcome.outcome, trial.sent, trial.done) == (Outcome.SUCCEEDED, 3, 1)


def test_a_stale_read_after_a_lost_run_leaves_it_in_doubt_and_does_not_run_it_again(tmp_path: Path) -> None:
    db = tmp_path / "server.db"
    rules = [parse_fault("run:503:after"), parse_fault("read:stale")]
    with SandboxServer(db, access_token=TOKEN, create_missing=True, job_seconds=1000, faults=rules) as server:
        outcome, record = apply_one(tmp_path, engine_at(server.endpoint), Verb.RUN)
    assert outcome.outcome is Outcome.IN_DOUBT
    assert record is not None
    assert record.doubt is not None
    assert [execution.verb for execution in ledger(db)] == [Verb.RUN]


@pytest.mark.parametrize(
    "fault",
    ["500", "403", "html", "reset", "hang:seconds=3", "wrong-type", "no-ok", "two-oks", "rpc-status", "other-job"],
)
def test_a_job_that_cannot_be_read_is_not_touched(tmp_path: Path, fault: str) -> None:
    db = tmp_path / "server.db"
    with SandboxServer(db, access_token=TOKEN, create_missing=True, faults=[parse_fault(f"read:{fault}")]) as server:
        outcome, record = apply_one(tmp_path, engine_at(server.endpoint, SHORT_TIMEOUT_S), Verb.RUN)
    assert outcome.outcome is Outcome.FAILED
    assert "unreadable" in outcome.error
    assert (ledger(db), record) == ([], None)


class _Raising:
    """A transport that breaks the contract of transports: it sends a request, and then raises."""

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        if method == "GET":
            return Reply(sent=True, status=404)
        raise RuntimeError(f"with {headers['Authorization']} in its words")

    def close(self) -> None:
        return


def test_where_reconciler_itself_fails_after_sending_the_call_is_in_doubt(tmp_path: Path) -> None:
    engine = ByteniteEngine(
        "http://127.0.0.1:9/v1",
        Credentials(TOKEN),
        parallelism=1,
        max_rps=None,
        wait=lambda seconds: False,
        random=Random(1),
        transport=_Raising(),
    )
    outcome, record = apply_one(tmp_path, engine, Verb.RUN)
    assert outcome.outcome is Outcome.IN_DOUBT
    assert "reconciler itself failed: RuntimeError in exchange" in outcome.error
    assert "settle it: `reconciler resolve" in outcome.error
    assert TOKEN not in outcome.error
    assert record is not None
    assert record.doubt is not None
