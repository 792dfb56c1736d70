"""The answers that commands give, as values. Each format registers the answers that the format can show.

An answer holds the facts that any format may need. Facts that take time to collect, and that few formats need, are
functions that a view calls.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from reconciler.model.errors import ManifestError, ReconcilerError

if TYPE_CHECKING:  # every command imports this module, even for its help
    from reconciler.model.executions import Execution
    from reconciler.model.history import HistoryEntry
    from reconciler.model.jobs import Desired, Observation, Record, State, Status
    from reconciler.model.outcomes import ActionOutcome
    from reconciler.model.places import Diagnostic, Position
    from reconciler.model.plan import Plan, Request
    from reconciler.rules.drift import Drift
    from reconciler.rules.review import Review


class MakeReview(Protocol):
    """Makes the review of an answer.

    With `with_history`, the function reads the history and adds to each job its entries.
    """

    def __call__(self, *, with_history: bool = False) -> "Review": ...


class PlanAnswer(NamedTuple):
    """A plan. `refusal` is the error of the guard that refuses the plan, or None."""

    plan: "Plan"
    refusal: ReconcilerError | None
    review: MakeReview


class DiffAnswer(NamedTuple):
    """The plan that leads from the manifest of one revision to the manifest of another, `revision`."""

    plan: "Plan"
    revision: str
    review: MakeReview


class DriftAnswer(NamedTuple):
    """The differences between the records, the manifest and the observed jobs."""

    drift: "Drift"
    review: MakeReview


class OutcomeAnswer(NamedTuple):
    """The result of an apply: one outcome for each action of the plan, in the order of the plan.

    `in_doubt` names all recorded jobs that have a call in doubt now. `was_shown` is True if the apply printed each
    action that was not carried out. `position_of` returns the position at which a job is declared, or None.
    """

    plan: "Plan"
    outcomes: "tuple[ActionOutcome, ...]"
    in_doubt: frozenset[str]
    was_shown: bool
    position_of: "Callable[[str], Position | None]"


class RequestsAnswer(NamedTuple):
    """The requests that an apply of a plan would send, in order. Their texts name the address of the service."""

    plan: "Plan"
    requests: Sequence["Request"]


class StatusRow(Protocol):
    """One job: the desired state, the record and the observation."""

    @property
    def name(self) -> str: ...
    @property
    def desired(self) -> "Desired | None": ...
    @property
    def record(self) -> "Record | None": ...
    @property
    def observed(self) -> "Observation": ...


class StatusAnswer(NamedTuple):
    """The desired state, the record and the observation of each job, sorted by name."""

    rows: Sequence[StatusRow]


class JobRunRow(Protocol):
    """One run of a job, as `usecases.runs.JobRun` has it."""

    @property
    def number(self) -> int: ...
    @property
    def run_id(self) -> str: ...
    @property
    def asked(self) -> "HistoryEntry | None": ...
    @property
    def status(self) -> "Status": ...
    @property
    def detail(self) -> str: ...
    @property
    def execution(self) -> "Execution": ...


class RunsAnswer(NamedTuple):
    """The runs of the job of a name, the newest one first. `more` is the number of older runs that are left out."""

    name: str
    runs: Sequence[JobRunRow]
    more: int = 0


class WaitedRow(Protocol):
    """A job that was waited for, as `usecases.wait.Waited` has it."""

    @property
    def name(self) -> str: ...
    @property
    def observed(self) -> "Observation": ...
    @property
    def is_in_doubt(self) -> bool: ...
    @property
    def run_id(self) -> str: ...
    @property
    def way_out(self) -> str: ...
    @property
    def is_over(self) -> bool: ...
    @property
    def is_complete(self) -> bool: ...


class WaitAnswer(NamedTuple):
    """The jobs that were waited for, sorted by name."""

    jobs: Sequence[WaitedRow]


class LogAnswer(NamedTuple):
    """What a run of the job of a name has printed. A byte that is no UTF-8 is replaced."""

    name: str
    run_id: str
    text: str


class HistoryAnswer(NamedTuple):
    """Entries of the history, in the order in which they are shown."""

    entries: "Sequence[HistoryEntry]"


class HistoryCheckAnswer(NamedTuple):
    """The result of a check of the history: the number of entries, the faults, and the remarks that are not faults."""

    entries: int
    faults: Sequence[str]
    remarks: Sequence[str]


class RecordsAnswer(NamedTuple):
    """The records of a state, or None if nothing was ever applied."""

    state: "State | None"


class RecordAnswer(NamedTuple):
    """The record of one job."""

    name: str
    record: "Record"


class ValidationAnswer(NamedTuple):
    """The result of a check of the manifest.

    `fault` is None for a valid manifest. `jobs` and `files` count the jobs and files of a valid manifest, and are 0
    otherwise.
    """

    fault: ManifestError | None
    jobs: int = 0
    files: int = 0

    @property
    def diagnostics(self) -> "Sequence[Diagnostic]":
        """The faults, in the order of files and lines. There are at most `MOST_DIAGNOSTICS` of them."""
        return self.fault.diagnostics if self.fault else ()

    @property
    def more(self) -> int:
        """The number of faults that `diagnostics` leaves out."""
        return self.fault.more if self.fault else 0


class FailureAnswer(NamedTuple):
    """The error that ended a command before the command had another answer.

    `title` is the name of the command, capitalized. `state_at` returns the address of the state, or "" if the manifest
    does not name one.
    """

    title: str
    fault: ReconcilerError
    state_at: Callable[[], str] = lambda: ""

    @property
    def diagnostics(self) -> "Sequence[Diagnostic]":
        """The faults of the manifest, in the order of files and lines; empty for any other error."""
        return self.fault.diagnostics if isinstance(self.fault, ManifestError) else ()

    @property
    def more(self) -> int:
        """The number of faults that `diagnostics` leaves out."""
        return self.fault.more if isinstance(self.fault, ManifestError) else 0

    def review(self) -> "Review":
        """Return the error as a review, for the formats that show reviews."""
        from reconciler.rules.review import review_error

        return review_error(self.title, self.fault, self.diagnostics, state_at=self.state_at())


def complete_review(review: "Review", complete: Callable[[str], str]) -> "Review":
    """Return the review with each command in its texts completed. `complete` is `ViewContext.complete`."""
    rows = tuple(row._replace(reason=complete(row.reason), way_out=complete(row.way_out)) for row in review.rows)
    return review._replace(trouble=complete(review.trouble), advice=complete(review.advice), rows=rows)
