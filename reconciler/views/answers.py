"""The answers that commands give, as values. Each format says which of them it can show.

An answer holds what every format may need. What takes time to make, and what few formats need, is a function that a
view calls.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from reconciler.model.errors import ManifestError, ReconcilerError

if TYPE_CHECKING:  # every command imports this module, also to print its help
    from reconciler.model.history import HistoryEntry
    from reconciler.model.jobs import Desired, Observation, Record, State
    from reconciler.model.outcomes import ActionOutcome
    from reconciler.model.places import Diagnostic, Position
    from reconciler.model.plan import Plan
    from reconciler.rules.drift import Drift
    from reconciler.rules.review import Review


class MakeReview(Protocol):
    """Makes the review of an answer. With `with_history` it reads the history, and adds to each job its entries."""

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
    """What differs from the records."""

    drift: "Drift"
    review: MakeReview


class OutcomeAnswer(NamedTuple):
    """The end of an apply: an outcome for each action of the plan, in plan order.

    `in_doubt` names all recorded jobs that have a call in doubt now. `was_shown` is whether everything that was not
    done was printed while the apply went on. `position_of` returns where a job is declared, or None.
    """

    plan: "Plan"
    outcomes: "tuple[ActionOutcome, ...]"
    in_doubt: frozenset[str]
    was_shown: bool
    position_of: "Callable[[str], Position | None]"


class RequestsAnswer(NamedTuple):
    """The requests that an apply of a plan would send to `endpoint`."""

    plan: "Plan"
    endpoint: str


class StatusRow(Protocol):
    """One job: what is desired, what is recorded and what is observed."""

    @property
    def name(self) -> str: ...
    @property
    def desired(self) -> "Desired | None": ...
    @property
    def record(self) -> "Record | None": ...
    @property
    def observed(self) -> "Observation": ...


class StatusAnswer(NamedTuple):
    """Desired, recorded and observed of each job, sorted by name."""

    rows: Sequence[StatusRow]


class HistoryAnswer(NamedTuple):
    """Entries of the history, in the order in which they are shown."""

    entries: "Sequence[HistoryEntry]"


class HistoryCheckAnswer(NamedTuple):
    """The result of a check of the history: the number of its entries, its faults, and remarks that are no faults."""

    entries: int
    faults: Sequence[str]
    remarks: Sequence[str]


class RecordsAnswer(NamedTuple):
    """The records of a state; None where nothing was ever applied."""

    state: "State | None"


class RecordAnswer(NamedTuple):
    """The record of one job."""

    name: str
    record: "Record"


class ValidationAnswer(NamedTuple):
    """The result of a check of the manifest.

    `jobs` and `files` count those of a manifest without a fault, and are 0 for any other.
    """

    fault: ManifestError | None
    jobs: int = 0
    files: int = 0

    @property
    def diagnostics(self) -> "Sequence[Diagnostic]":
        """The faults, in file order, at most `MOST_DIAGNOSTICS` of them."""
        return self.fault.diagnostics if self.fault else ()

    @property
    def more(self) -> int:
        """How many faults are not among `diagnostics`."""
        return self.fault.more if self.fault else 0


class FailureAnswer(NamedTuple):
    """The error that ended a command before the command had another answer.

    `title` is the name of the command, capitalized. `state_at` returns the address of the state, or "" where the
    manifest does not tell.
    """

    title: str
    fault: ReconcilerError
    state_at: Callable[[], str] = lambda: ""

    @property
    def diagnostics(self) -> "Sequence[Diagnostic]":
        """The faults of the manifest, in file order; empty for any other error."""
        return self.fault.diagnostics if isinstance(self.fault, ManifestError) else ()

    @property
    def more(self) -> int:
        """How many faults are not among `diagnostics`."""
        return self.fault.more if isinstance(self.fault, ManifestError) else 0

    def review(self) -> "Review":
        """The error as a review, for the formats that show reviews."""
        from reconciler.rules.review import review_error

        return review_error(self.title, self.fault, self.diagnostics, state_at=self.state_at())


def complete_review(review: "Review", complete: Callable[[str], str]) -> "Review":
    """The review with each command in it as `ViewContext.complete` returns it."""
    rows = tuple(row._replace(reason=complete(row.reason), way_out=complete(row.way_out)) for row in review.rows)
    return review._replace(trouble=complete(review.trouble), advice=complete(review.advice), rows=rows)
