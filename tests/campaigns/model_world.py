"""A world in memory: the real use cases over a disk, a clock and a service that take no time."""

import re
from collections.abc import Callable
from datetime import datetime

from model_commands import CommandWorld
from model_how import Ended
from model_service import SETTLE_S
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import ActionKind


class ModelWorld(CommandWorld):
    """A world that can be brought to rest, and then shows that nothing is left to do."""

    def come_to_rest(self, apply: Callable[[], Ended]) -> Ended:
        """Apply with honest answers until nothing changes any more, and check that all is at rest."""
        ended = apply()
        for _ in range(4):
            # A job that needs no call may be recorded otherwise now. The apply after that finds nothing to record.
            if all(o.done is ActionKind.NOOP and o.outcome is not Outcome.RECORDED for o in ended.outcomes):
                break
            # Wait for the settle time, for the end of a run that others wait for, and for the end of an abort.
            self.forward(max(SETTLE_S, self.options.job_seconds, self._drain_s))
            before, ended = ended, apply()
            if _plainly(before) == _plainly(ended) and not before.changing and not ended.changing:
                break  # what is held stays held; a service may forget a run if one waits on
        if any(
            outcome.done is not ActionKind.NOOP and outcome.outcome is Outcome.SUCCEEDED for outcome in ended.outcomes
        ):
            ended = apply()  # the wait was just long enough for a service to forget a run that was in the way
        changes = self.disk.changes
        last = apply()
        self.check_at_rest(ended, last)
        assert last.changing or self.disk.changes == changes, "an apply with nothing to do wrote something"
        return last

    def is_out_of_reach(self, outcome: ActionOutcome) -> bool:
        """Whether a job is gone or unreadable, or is in a wrong status for the call at a service without reads.

        Such a rejection (400, 404) comes again with each apply until a person changes the manifest.
        """
        job_id = outcome.action.id
        rejected = not self.options.reads and outcome.status in (400, 404, 409)
        return rejected or self.is_gone(job_id) or job_id in self.unreadable

    def check_at_rest(self, ended: Ended, last: Ended) -> None:
        """Check that the second of two applies did nothing more, and that plans show only holds.

        A lasting obstacle is reported each time: a job that is out of reach is an error, a job that is held stays held,
        and nothing is deleted after an error.
        """
        assert _plainly(last) == _plainly(ended), f"two applies in a row did not do the same: {ended}, then {last}"
        for outcome in last.outcomes:
            match outcome.outcome:
                case Outcome.SUCCEEDED:
                    assert outcome.done is ActionKind.NOOP, f"not at rest: {outcome}"
                case Outcome.SKIPPED:
                    erring = any(other.outcome is Outcome.FAILED for other in last.outcomes)
                    after_error = outcome.action.kind is ActionKind.DELETE and erring
                    assert outcome.done is ActionKind.HOLD or after_error, outcome
                case Outcome.FAILED:
                    assert self.is_out_of_reach(outcome), f"it fails for ever: {outcome}"
                case Outcome.IN_DOUBT:
                    # A refusal of the repeated call says nothing of the first one, which a person has to settle.
                    assert self.is_out_of_reach(outcome), f"a call is sent again and again: {outcome}"
        assert not last.changing or not self.options.reads, last.changing
        self.check_plans(last)

    def check_plans(self, ended: Ended) -> None:
        """Check that no plan, offline or refreshed, asks for more of a job that an apply has finished."""
        unfinished = {o.action.job for o in ended.outcomes if o.outcome is not Outcome.SUCCEEDED}
        offline = {action.job: action for action in self.plan(refresh=False).actions}
        for action in offline.values():
            assert action.kind in QUIET or action.job in unfinished, f"still planned: {action}"
        if not self.options.reads:
            return
        for action in self.plan(refresh=True).actions:
            # A job that someone else ran or created again is drift, which only a refreshed plan can see.
            drift = offline[action.job].kind is ActionKind.NOOP and action.kind in _DRIFT
            assert action.kind in QUIET or action.job in unfinished or drift, f"still planned: {action}"


QUIET = (ActionKind.NOOP, ActionKind.HOLD)
_DRIFT = (ActionKind.ABORT, ActionKind.DELETE, ActionKind.ADOPT)


def _plainly(ended: Ended) -> list[tuple[str, Outcome, ActionKind, str]]:
    """Return what became of each job, with why. A job is not read any more once the end of its run is recorded."""
    return [
        (o.action.job, o.outcome, o.done, "" if o.done is ActionKind.NOOP else _TIME.sub(_instant, o.action.reason))
        for o in ended.outcomes
    ]


_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)")


def _instant(shown: re.Match[str]) -> str:
    return str(datetime.fromisoformat(shown[0]).timestamp())
