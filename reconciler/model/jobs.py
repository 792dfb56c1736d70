"""The values of the domain: a job in the manifest, its record in the state, and an observation of it.

All values are named tuples. Named tuples are immutable like frozen dataclasses, and Python makes them five times as
fast. Their definitions also take a fifth of the time at import, which counts for the start-up of each command.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, Union

from reconciler.model.executions import UNKNOWN, Execution
from reconciler.model.json_values import same_json
from reconciler.model.times import TimeOrder, compare, is_other

Json = Union[None, bool, int, float, str, Sequence["Json"], Mapping[str, "Json"]]  # noqa: UP007  it names itself
"""A value of JSON. A float is finite."""

Config = Mapping[str, Json]
"""The config of a job: any mapping of JSON. The schema of the engine says which fields it has.

Python takes 1, True and 1.0 for equal. So whether two configs are the same is for `same_config` of the engine to say,
and `json_values.same_json` compares them as JSON does.
"""


EMPTY: Mapping[str, Any] = MappingProxyType({})
"""A mapping without keys that cannot be changed. It is the default of fields that are mappings."""


class Desired(StrEnum):
    """The state that a manifest asks for. A record has one of the same three words for what was applied last."""

    RUNNING = "running"
    ABORTED = "aborted"
    ABSENT = "absent"


class OnConfigChange(StrEnum):
    """The effect of a new config on a job that was run before: `onConfigChange` in the manifest."""

    RESTART = "restart"
    RERUN = "rerun"
    NEXT_RUN = "next-run"
    HOLD = "hold"


class Verb(StrEnum):
    """A call that changes a job."""

    RUN = "run"
    ABORT = "abort"
    DELETE = "delete"


class Status(StrEnum):
    """The status of a job. Each status is a row of the decision table.

    An engine reports one of the statuses up to `UNREADABLE`. The rules replace a report by one of the others if the
    record says more (`rules/sight.py`): `MISSING` if the engine creates a job with its run, and any report about a run
    of another owner.
    """

    NOT_OBSERVED = "not observed"
    DRAFT = "draft"
    ACTIVE = "active"
    COMPLETE = "complete"
    FAILED = "failed"
    ABORTED = "aborted"
    WITHDRAWN = "withdrawn"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    NOTHING = "not there"
    TAKEN_AWAY = "taken away"
    FORGOTTEN_COMPLETE = "forgotten, complete"
    FORGOTTEN_FAILED = "forgotten, failed"
    FORGOTTEN_ABORTED = "forgotten, aborted"
    FORGOTTEN = "forgotten"
    OTHER_OWNER = "another owner's"


ENDS = frozenset({Status.COMPLETE, Status.FAILED, Status.ABORTED})
"""The statuses of a run that has ended."""


class Target(NamedTuple):
    """The service that a manifest is for, as its engine understands the `target:` block.

    `address` tells the service from another one of the engine, in a normal form; "" for the server that is embedded in
    the engine. `settings` is what else the engine needs to reach the service, which only the engine understands. Two
    targets are equal if they name the same service, whatever their settings.
    """

    engine: str
    address: str
    settings: object = None

    def __str__(self) -> str:
        return f"{self.engine} at {self.address}" if self.address else f"{self.engine} (embedded)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and self[:2] == other[:2]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self[:2])


class Freeze(NamedTuple):
    """The freeze of a job: the reason why the tool leaves the job alone, and the end of that time.

    `until` is the text of the manifest; "" if the freeze has no end. `ends_at_s` is the same time in seconds since
    1970, UTC. `over` is set once that time has passed.
    """

    reason: str
    until: str = ""
    ends_at_s: float = float("inf")
    over: bool = False

    @property
    def so_long(self) -> str:
        """The end of the freeze for a message, with a space before it; "" if the freeze has no end."""
        return f" until {self.until}" if self.until else ""


class Job(NamedTuple):
    """One job as the manifest declares it, with the manifest's defaults applied.

    `protect` is None if the manifest does not set it; the record counts then. `ignore` names the fields that
    comparisons with an observation leave out, such as `config.jobTimeout`. `after` names the jobs that have to complete
    before this job is run. `rerun_on` names the fields of the config, such as `config.image`, of which a new value asks
    for one more run if `on_config_change` is RERUN; all fields count if it is empty.
    """

    name: str
    id: str
    state: Desired
    config: Config
    run_token: str | None = None
    on_config_change: OnConfigChange = OnConfigChange.RESTART
    protect: bool | None = None
    labels: Mapping[str, str] = EMPTY
    freeze: Freeze | None = None
    ignore: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    rerun_on: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        # Python takes 1 and True for equal, and a config with the one is another config.
        return isinstance(other, Job) and tuple.__eq__(self, other) and same_json(self.config, other.config)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)


def displaced_key(name: str, job_id: str) -> str:
    """The key of a record whose name now belongs to another engine job: `" NAME@ID"`.

    The key is no job name, because no manifest permits a name that begins with a space.
    """
    return f" {name}@{job_id}"


def is_displaced(key: str) -> bool:
    """Whether `displaced_key` made the key of a record. Such a key is no job name."""
    return key.startswith(" ")


def title(key: str) -> str:
    """The key of a record as people read it: the job name, or `NAME (id ID)` if another job has the name."""
    if not is_displaced(key):
        return key
    name, _, job_id = key[1:].rpartition("@")
    return f"{name} (id {job_id})"


class Marks(NamedTuple):
    """The marks that an object at the engine bears, so that a later observation tells whose object it is.

    `lineage` is that of the state. `op` identifies the call. `config_digest` and `token_digest` stand for the config
    and the run token of the run. `commit` is the commit of the manifest. A mark that is not known is "".
    """

    lineage: str = ""
    op: str = ""
    config_digest: str = ""
    token_digest: str = ""
    commit: str = ""

    @property
    def name_a_call(self) -> bool:
        """Whether the marks say whose call made the object. Without lineage or op, they prove nothing about a call."""
        return self.lineage != "" and self.op != ""


class Evidence(NamedTuple):
    """The evidence that tells one run of a job from another run: words and times as the engine wrote them.

    `run_id` and `ref` are as in `Observation`.
    """

    status: Status
    word: str
    submitted_at: str | None = None
    timestamps: Mapping[str, str] = EMPTY
    run_id: str = ""
    ref: str = ""


class Observation(NamedTuple):
    """One observation of a job at the engine.

    `word` is the engine's own word for the state of the job, or "". `config` is None if the engine does not report it.
    `submitted_at` is when the last run began, as the engine wrote it; None if the engine does not report it.
    `timestamps` maps words of the engine to times. `detail` is the error message of the job, or the reason why the job
    can't be read. `name` is the engine's name for the job, or "". `run_id` is the run id of the observed run; "" if the
    engine has no run ids, or if this tool did not start the run. `ref` is the engine's own handle of the observed
    object, or "". An engine that promises `atomic_run` has a handle for each object without marks, since an imported
    object is known by its handle alone. `marks` are what the object bears; all of them are "" if the engine keeps none.
    `execution` is what people want to know of the run, and decides nothing. `owned_by` names the program beside this
    tool that makes the object and removes it, such as `CronJob nightly`; "" if there is none, or if the engine does not
    know. `is_answer` is False only in `NOT_ASKED`; an engine leaves it alone.
    """

    status: Status
    word: str = ""
    config: Config | None = None
    submitted_at: str | None = None
    timestamps: Mapping[str, str] = EMPTY
    detail: str = ""
    name: str = ""
    run_id: str = ""
    ref: str = ""
    marks: Marks = Marks()
    execution: Execution = UNKNOWN
    is_answer: bool = True
    owned_by: str = ""

    @property
    def run_began(self) -> str | None:
        """When the last run began, as the engine wrote it; "" if the job was never run, None if that is not known."""
        return "" if self.status is Status.DRAFT else self.submitted_at

    def stands_to(self, began: str | None) -> TimeOrder:
        """The relation of the start of the observed run to `began`, the start of another run."""
        return compare(self.submitted_at, began)

    def is_of_other_run(self, began: str | None) -> bool:
        """Whether the observed run is another run than the one that began at `began`; False if that is not known."""
        return is_other(self.submitted_at, began)

    @property
    def evidence(self) -> Evidence:
        """The part of the observation that identifies the run. A later observation is compared with it."""
        return Evidence(self.status, self.word, self.submitted_at, self.timestamps, self.run_id, self.ref)


NOT_OBSERVED = Observation(Status.NOT_OBSERVED)
"""The answer of an engine that offers no reads: nobody can tell whether the last run is active."""

NOT_ASKED = Observation(Status.NOT_OBSERVED, is_answer=False)
"""What a plan has instead of an observation if the engine was not asked. An apply asks before it acts."""


class Doubt(NamedTuple):
    """A call in doubt: the call may have been sent, and nobody knows whether the service carried it out.

    `op` identifies the call. `before` is the evidence from just before the call; None if nothing could be observed.
    `sent_at` is a time of RFC 3339 for people; no decision depends on it. `answer` words the answer, if there was one.
    `holder` names the command that sent the call and still waits for its answer; it is "" if there is no such command,
    and the state does not keep it. `run` is the number of the run that the call is about: the new one for a run, and
    the last one for an abort or a delete; 0 if that run has no number. `commit` is the commit of the manifest, and
    `staged` is what `Engine.stage` returned; both are "" without one. A call that is sent again bears the same.
    `first_sent_at` is when the first of several calls for one run was sent, if this call repeats it; else "".
    """

    op: str
    verb: Verb
    config: Config
    run_token: str | None
    before: Evidence | None
    sent_at: str
    answer: str
    holder: str = ""
    run: int = 0
    commit: str = ""
    staged: str = ""
    first_sent_at: str = ""

    @property
    def began_at(self) -> str:
        """The earliest time at which the engine may have begun to carry out the call, as a time of RFC 3339."""
        return self.first_sent_at or self.sent_at

    def __eq__(self, other: object) -> bool:
        # Python takes 1 and True for equal, and a config with the one is another config.
        return isinstance(other, Doubt) and tuple.__eq__(self, other) and same_json(self.config, other.config)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)


class Record(NamedTuple):
    """The record of one job in the state: what was last applied to the job.

    `state` is None while the first call for the job is in doubt. `config` is the config that was last applied: that of
    the last run, or a later one that was recorded for the next run. `run_tokens` holds all run tokens that were ever
    consumed, so that a manifest that goes back to an old token runs nothing. `submitted_at` is when the last run began,
    as the engine wrote it: "" if the job was never run, None if that is not known. `resolved` says who settled the last
    call in doubt, how and why; it is "" if no person did, and the next call clears it. `protect` stays set until a
    manifest has `protect: false`, even if no manifest declares the job any more.

    `run` is the number of the last run that was applied, counted from 1; 0 if this tool has not run the job. `end` says
    how that run ended: COMPLETE, FAILED, or ABORTED by someone else; None as long as no end is recorded. `last_active`
    is when that run was last seen active, as a time of RFC 3339; "" if the record does not say. `ref` is the engine's
    own handle of that run, or "". `target` is the target of the job; None stands for the target of the state.
    `keep_for_s` is for how many seconds the engine keeps that run once it has ended, as the config of the run says
    (`keepFor`); None if that config does not say. `config` may be a later one, which was adopted.

    `abort_unseen` is set after the abort of a restart, and after an abort in doubt that was settled because the service
    does not know the run any more. Nobody has seen then whether the abort ended the run, or whether the run ended by
    itself. A run that ended by itself is the run that was asked for before the abort.

    `ran_configs` holds all configs that a run of this job ever had (`reruns.text_of`), whatever `onConfigChange` was.
    So a manifest with `onConfigChange: rerun` that goes back to one of them runs nothing.
    """

    id: str
    state: Desired | None
    config: Config = EMPTY
    run_tokens: frozenset[str] = frozenset()
    submitted_at: str | None = None
    doubt: Doubt | None = None
    resolved: str = ""
    protect: bool = False
    run: int = 0
    end: Status | None = None
    last_active: str = ""
    ref: str = ""
    target: Target | None = None
    ran_configs: frozenset[str] = frozenset()
    keep_for_s: float | None = None
    abort_unseen: bool = False

    def __eq__(self, other: object) -> bool:
        # Python takes 1 and True for equal, and a config with the one is another config.
        return isinstance(other, Record) and tuple.__eq__(self, other) and same_json(self.config, other.config)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)


class State(NamedTuple):
    """The state of one target: the records by their keys.

    `lineage` is made once, with the first write. `serial` counts the writes that changed the state. `last` maps engine
    job ids to the number of the last run of the job: at least `Record.run` of its record. A number never decreases, and
    stays when the record is dropped, so that no run id comes twice. `identity` holds the named parts that tell the
    service of the target from another one (`Engine.identity`); it is empty until the first intent.
    """

    lineage: str
    serial: int
    target: Target
    jobs: Mapping[str, Record]
    last: Mapping[str, int] = EMPTY
    identity: Mapping[str, str] = EMPTY
