"""The port to the services that run jobs: what an engine does, and what its plugin says about it without a connection.

An engine is one folder that exports one plugin. The values of the port live on the floor below, since rules and plans
use them too, and this module passes them on: an author of a plugin needs no other module.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from threading import Event
from typing import Any, NamedTuple, Protocol

from reconciler.model.errors import CredentialsError, EngineError, ListIncomplete
from reconciler.model.executions import Execution
from reconciler.model.jobs import EMPTY, NOT_OBSERVED, Config, Job, Json, Marks, Observation, Status, Target, Verb
from reconciler.model.json_values import same_json
from reconciler.model.plan import Request
from reconciler.model.promises import Promises
from reconciler.model.results import AnswerClass, Reason, Result
from reconciler.model.steps import Step

__all__ = [
    "NOT_OBSERVED",
    "AnswerClass",
    "Config",
    "CredentialsError",
    "Engine",
    "EngineError",
    "EnginePlugin",
    "Execution",
    "Job",
    "Json",
    "ListIncomplete",
    "Marks",
    "Observation",
    "Promises",
    "Reason",
    "Request",
    "Result",
    "Schema",
    "Status",
    "Step",
    "Surroundings",
    "Target",
    "Verb",
    "always",
    "reason_of_duplicate",
    "same_json",
]

Schema = Mapping[str, Any]
"""A JSON Schema, as JSON values."""


class Surroundings(NamedTuple):
    """What an engine takes from outside.

    `env` holds the environment variables. `pause` waits for a number of seconds, and returns True at once if a stop is
    requested. `note_credential` is called with each credential that becomes known while the engine is open. `boot_s`
    returns the seconds since the machine has started, and `wall_s` the seconds since 1970. `parallelism` is the number
    of calls that may be under way at a time, and `max_rps` the most requests in a second; None sets no limit. Files
    that the engine keeps for itself beside the state have names that begin with `beside_state`. `state_is_file` is set
    if the state is a file on this machine. Otherwise, whoever has the state need not have what is beside it: an engine
    whose target says too little then raises `EngineError` on opening.

    `may_change` is set if calls may be sent. An engine that is opened to read makes nothing that is not there: no
    folder, no server, no identity. `known_identity` is what the state has of the service
    (`Engine.identity`); it is empty before the first call. `is_replaced` is set if a person says that another service
    takes the place of that one, with `reconciler state accept --identity`.
    """

    env: Mapping[str, str]
    pause: Callable[[float], bool]
    note_credential: Callable[[str], None]
    boot_s: Callable[[], float]
    wall_s: Callable[[], float]
    parallelism: int
    max_rps: float | None
    beside_state: str
    state_is_file: bool = True
    may_change: bool = True
    known_identity: Mapping[str, str] = EMPTY
    is_replaced: bool = False


def always() -> bool:
    """Return True: the condition of a call that nothing holds back."""
    return True


def reason_of_duplicate(there: Marks, asked: Marks) -> Reason:
    """Return why an engine refuses a run whose run id is taken.

    `there` are the marks of the run that has this id, and `asked` are those of the refused call. The reason is
    OTHER_OWNER if the run belongs to another state. It is WAS_THERE if both calls are one call, or ask for the same
    config and the same run token: a program that lost its journal asks for the same run with a new call. Otherwise, the
    reason is OTHER_OP: the engine knows a run that this state does not know. A mark that is not known proves nothing.
    """
    if there.lineage != asked.lineage:
        return Reason.OTHER_OWNER
    is_same_call = asked.op != "" and asked.op == there.op
    was_asked_for = (there.config_digest, there.token_digest)
    is_same_run = asked.config_digest != "" and (asked.config_digest, asked.token_digest) == was_asked_for
    return Reason.WAS_THERE if is_same_call or is_same_run else Reason.OTHER_OP


class Engine(Protocol):
    """A service that runs jobs. Several threads may call any method at the same time."""

    @property
    def promises(self) -> Promises:
        """What the engine guarantees. The value stays the same as long as the engine is open."""

    def identity(self) -> Mapping[str, str]:
        """Return the named parts that tell this service from another one of its kind.

        The mapping is empty if the engine knows no such part. Raises the errors of `observe`.
        """

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        """Read one job from the service, and return what the service reports.

        `run_id` names a run of the job; "" stands for the newest run. The observation says which run it is of, and
        which marks that run bears. An engine without ids of runs ignores it.

        The status is `NOT_OBSERVED` if the service offers no reads, `MISSING` if the service reports that no such job
        exists, and `UNREADABLE`, with a detail, if this one job can't be read. The status is `ACTIVE` as long as
        anything of the run executes, also after an abort, and although the service may call the run failed by then: a
        restart, a delete and the jobs that come after this one wait for its end.

        Raises `CredentialsError` if the service rejects the token, and `EngineError` if the service can't be reached.
        Neither error is about one job.
        """

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        """Read many jobs in the way that takes the fewest requests. Returns an observation of each job, by its id.

        The observations are those of `observe`, and so are the errors.
        """

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        """Yield each job that the service lists, as (engine job id, observation).

        Each id comes once, in no promised order.

        A job that is not listed may exist nevertheless. Raises the errors of `observe`, `EngineError` if the service
        offers no list, and `ListIncomplete` if the service may have more jobs than it listed. `ListIncomplete` is
        raised after the last job was yielded.
        """

    def stage(self, step: Step) -> str:
        """Do the harmless work that comes before the intent of a call, and return the handle of that work.

        The work may be done twice, and may be left behind, without any effect on a job. The handle is "" if the engine
        needs no such work. Raises the errors of `observe`.
        """

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        """Send one call that changes a job, and return the answer with its class and its reason.

        A run that is REJECTED for WAS_THERE, OTHER_OP or OTHER_OWNER is refused because of its run id: an earlier call
        for that run id can't start a run any more, or has started it. Any other reason is about this call alone. It
        tells nothing about an earlier call whose answer was lost, so that the run stays in doubt.

        A delete removes all runs of the job that belong to the lineage of the marks, also those before the newest one.

        The engine sends the call again only if the class of the answer allows a repetition: after NOT_SENT, after BUSY
        once the time that the service asked for is over, and once after NOT_AUTHENTICATED with a new token. The engine
        calls `may_be_sent` right before each attempt, and sends nothing if the function returns False. Raises only what
        `may_be_sent` raises: a failure of the service or of the network is an answer.
        """

    def log(self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: Event) -> Iterator[bytes]:
        """Yield the log of a run in pieces, from its beginning or from its last `tail` lines on.

        With `follow` the pieces go on until the run is over or `stop` is set. Raises the errors of `observe`, and
        `EngineError` if the engine does not promise logs.
        """

    def close(self) -> None:
        """Close the connections, and stop the embedded server if the engine started one."""


class EnginePlugin(Protocol):
    """What an engine says without a connection, and how to open it. All methods but `open` are pure."""

    @property
    def name(self) -> str:
        """The word that a manifest gives as `target.engine`."""

    @property
    def target_schema(self) -> Schema:
        """The schema of the fields that a `target:` block may have beside `engine`."""

    @property
    def config_schema(self) -> Schema:
        """The schema of the config of a job."""

    def target(self, block: Mapping[str, Any], folder: str) -> Target:
        """Return the target that a `target:` block names. The block must be valid and free of `target_faults`.

        Relative paths in the block are relative to `folder`.
        """

    def target_faults(self, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the faults of a `target:` block that no schema finds, as (name of the field, what is wrong)."""

    def job_fault(self, job: Job) -> str:
        """Return why the engine can't have a job of this id or config, or "".

        A text that begins with the path of a field, such as `config.env.A`, is told at the place of that field.
        """

    def same_config(self, a: Config, b: Config) -> bool:
        """Return whether two configs ask for the same, with the defaults of the engine applied, at any depth.

        A config may be a part of one, with a single value in it. `same_json` compares values as JSON does: Python takes
        1, True and 1.0 for equal.
        """

    def wording(self, target: Target, step: Step) -> tuple[Request, ...]:
        """Return the requests that carry out a step, in order, in the engine's words.

        The step has neither marks nor handles of the engine (`seen`, `staged`), so that a plan stays true whatever the
        apply of it finds.
        """

    def addressed(self, target: Target, request: Request) -> Request:
        """Return a request of `wording` whose text also names the address of the service."""

    def warnings(self, target: Target, jobs: Collection[Job]) -> Iterable[str]:
        """Return what a person should know before a plan is carried out.

        `jobs` are the jobs that the plan runs, in the order of the plan. A warning about their configs names them.
        """

    def promises(self, target: Target) -> Promises:
        """Return what the engine of the target will guarantee once it is open. Plans rest on it."""

    def is_on_this_machine(self, target: Target) -> bool:
        """Return whether nothing that is sent to the target leaves this machine."""

    def secrets(self, env: Mapping[str, str]) -> Iterable[str]:
        """Return the credentials of the engine that the environment holds."""

    def open(self, target: Target, surroundings: Surroundings) -> AbstractContextManager[Engine]:
        """Return the engine of the target, as a context manager that closes it.

        Raises `CredentialsError` without credentials, and `EngineError` for settings that can't be used.
        """
