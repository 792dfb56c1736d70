"""`reconciler apply`: carry out the plan of a manifest, or a saved plan."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from reconciler.host.crash_report import error_line
from reconciler.host.user_folders import can_write_in
from reconciler.model.commands import command
from reconciler.model.errors import ExitCode, Halted, ReconcilerError, Refused, StateError
from reconciler.model.jobs import EMPTY, title
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import STEPS, ActionKind, Plan, Request
from reconciler.state.journal import JournalBroken
from reconciler.usecases.apply_options import ApplyOptions, Interaction
from reconciler.usecases.engines import LazyEngine, plugin_for
from reconciler.usecases.planning import allowing, plan_of, refusal_of
from reconciler.usecases.saved_plans import made_again, workspace_of
from reconciler.usecases.selection import Selection, selected

if TYPE_CHECKING:
    from reconciler.state.backends.checkout import Checkout
    from reconciler.state.session import Session
    from reconciler.usecases.rounds import Rounds
    from reconciler.usecases.workspace import Workspace


class Applied(NamedTuple):
    """The end of an apply: the plan, and an outcome for each of its actions, in the order of the plan.

    `doubtful` names all recorded jobs with a call in doubt. `unwritten` says why the state file could not be written,
    or is ""; the journal then has everything, and `unwritten_code` is the exit code. `unpushed` says why the files of
    the state could not be pushed, or is "".
    """

    plan: Plan
    outcomes: tuple[ActionOutcome, ...]
    doubtful: frozenset[str] = frozenset()
    unwritten: str = ""
    unwritten_code: ExitCode = ExitCode.FAILED
    unpushed: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """The exit code. Doubt outweighs failure, and failure outweighs a hold."""
        found = {outcome.outcome for outcome in self.outcomes}
        if Outcome.IN_DOUBT in found or self.doubtful:
            return ExitCode.IN_DOUBT
        if Outcome.FAILED in found:
            return ExitCode.FAILED
        if self.unwritten:
            return self.unwritten_code
        if self.unpushed:
            return ExitCode.FAILED
        if any(outcome.done is ActionKind.HOLD for outcome in self.outcomes):
            return ExitCode.REFUSED
        return ExitCode.DONE


def apply(
    workspace: "Workspace",
    selection: Selection,
    options: ApplyOptions,
    interaction: Interaction,
    saved: Plan | None = None,
) -> Applied:
    """Carry out the plan of the manifest, or a saved plan that still fits.

    Raises `Refused` (a guard, a stale plan, a lock that is taken) and other errors only before the first call.
    Afterwards an error is part of the result, or `Halted` is raised.
    """
    if saved is not None:
        workspace = workspace_of(saved, workspace)
    workspace.check_manifest()  # before --push reaches for the remote
    checkout = workspace.stores.open_checkout(options.push) if options.push else None
    if checkout is None:
        return _apply(workspace, selection, options, interaction, saved)
    checkout.check()
    try:
        done = _apply(workspace, selection, options, interaction, saved, _announcing(checkout))
    except ReconcilerError:
        # The apply may have settled a doubt, and so have changed the state, before it failed.
        if trouble := checkout.conclude():
            workspace.world.remark(f"the state could not be pushed: {trouble}")
        raise
    trouble = checkout.conclude()
    return done._replace(unpushed=f"the state could not be pushed: {trouble}" if trouble else "")


def _announcing(checkout: "Checkout") -> Callable[[int], None]:
    """A function that pushes the journal before a number of calls may be sent."""

    def announce(calls: int) -> None:
        try:
            checkout.announce(calls)
        except StateError as fault:
            raise fault.changed(message=f"nothing was sent: {fault.message}") from fault

    return announce


def _apply(
    workspace: "Workspace",
    selection: Selection,
    options: ApplyOptions,
    interaction: Interaction,
    saved: Plan | None,
    announce: Callable[[int], None] | None = None,
) -> Applied:
    """Apply, with the lock of the state; `announce` is as in `Rounds`."""
    from reconciler.usecases.rounds import Rounds

    workspace = workspace.anchored()
    if trouble := _unnoticed_rollbacks(workspace):
        workspace.world.remark(f"warning: {trouble}")
    progress = _Progress()
    try:
        with (
            workspace.store.open(workspace.manifest.target, "apply", options.lock_timeout_s) as session,
            LazyEngine(lambda: workspace.open_engine(options.pace, session.identity, may_change=True)) as engine,
        ):
            progress.session = session
            interaction.began(lambda: session.in_flight)
            rounds = Rounds(workspace, options, interaction, session, engine, announce)
            progress.carry_out(rounds, saved, selection, interaction)
            progress.remark_on_doubts(workspace.world.remark)
    except JournalBroken as fault:
        progress.take_broken_journal(fault)
    except Exception as fault:
        if progress.has_sent:
            raise progress.halted(fault) from fault
        raise
    return progress.applied(rounds.plan)


class _Progress:
    """The outcomes of an apply so far. They decide what an error on the way means."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self._outcomes: dict[str, ActionOutcome] = {}
        self._doubtful: frozenset[str] = frozenset()
        self._unwritten = ""
        self._unwritten_code = ExitCode.FAILED

    @property
    def has_sent(self) -> bool:
        """Whether any call may have been sent."""
        return self.session is not None and self.session.has_sent

    def carry_out(self, rounds: "Rounds", saved: Plan | None, selection: Selection, interaction: Interaction) -> None:
        """Carry out all rounds, and keep the outcomes of each."""
        assert self.session is not None
        try:
            for outcomes in rounds.outcomes(saved, selection):
                self._outcomes |= {outcome.action.job: outcome for outcome in outcomes}
        except Refused as fault:
            if fault.allow and not self._outcomes:
                interaction.show_refused(rounds.plan)
            raise
        finally:
            # The exit code must show each call in doubt, also if the journal can't be written any more.
            self._doubtful = self.session.doubtful

    def remark_on_doubts(self, remark: Callable[[str], None]) -> None:
        """Remark on each call in doubt of a job that the plan was not about."""
        for name in sorted(self._doubtful - self._outcomes.keys()):
            look = command("state show", name)
            remark(f"{title(name)}, which this apply was not about, has a call in doubt: {look}")

    def take_broken_journal(self, fault: JournalBroken) -> None:
        """Make an error of the journal part of the result. Raises the error if the apply has no outcome yet."""
        if not self._outcomes and self.has_sent and not fault.is_unsent:
            raise Halted(f"{fault}; {fault.kept}", is_in_doubt=bool(fault.doubtful)) from fault
        if not self._outcomes or fault.is_unsent:
            raise fault.changed(message=f"nothing was sent: {fault}") from fault
        named = f": {', '.join(sorted(fault.doubtful))}" if fault.doubtful else ""
        self._unwritten, self._unwritten_code = f"{fault}; {fault.kept}{named}", fault.exit_code_once_sent
        self._doubtful |= fault.doubtful

    def halted(self, fault: Exception) -> Halted:
        """The error to raise for one that came after the first call."""
        assert self.session is not None
        message = fault.message if isinstance(fault, ReconcilerError) else error_line(fault)
        return Halted(message, is_in_doubt=bool(self.session.doubtful))

    def applied(self, plan: Plan) -> Applied:
        """The end of the apply."""
        actions = sorted((o.action for o in self._outcomes.values()), key=lambda a: (STEPS[a.kind], a.job))
        outcomes = tuple(self._outcomes[action.job] for action in actions)
        plan = plan._replace(actions=tuple(actions))
        return Applied(plan, outcomes, self._doubtful, self._unwritten, self._unwritten_code)


def _unnoticed_rollbacks(workspace: "Workspace") -> str:
    """Why this machine will not notice if the state file is rolled back; "" if it will.

    Also "" for a user without a home folder: such a user has no place for marks, and would get the warning each time.
    """
    folder = workspace.world.state_folder
    if not workspace.home.path or not folder:
        return ""
    there = folder
    while not os.path.lexists(there) and os.path.dirname(there) != there:
        there = os.path.dirname(there)
    if os.path.isdir(there) and can_write_in(there):
        return ""
    return (
        f"{there} can't be written to, so that this machine will not notice it if the state is rolled back: "
        "set XDG_STATE_HOME to a folder that can be written to"
    )


def dry_run(
    workspace: "Workspace", selection: Selection, saved: Plan | None, allowed: Mapping[str, int] = EMPTY
) -> tuple[Plan, list[Request], Refused | None]:
    """The plan that an apply would carry out, its requests with all that is sent, and the error of a guard.

    The error is None if no guard refuses the plan.

    Sends nothing. The plan is made without reading the service.
    """
    if saved is not None:
        workspace = workspace_of(saved, workspace)
    manifest, state = workspace.manifest, workspace.read_state()
    if saved is not None:
        plan = made_again(saved, workspace, state)
    else:
        plan = plan_of(workspace, state, selected(manifest, state, selection), selection, {})
    plan = allowing(plan, allowed)
    engine = plugin_for(manifest.target)
    exact = [engine.addressed(manifest.target, call) for action in plan.actions for call in action.calls]
    return plan, exact, refusal_of(plan, manifest, state, is_read=False)
