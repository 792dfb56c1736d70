"""The steps of one person: edits and applies while programs crash, answers are lost and reads lag."""

import re
import shlex

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from model_hand import Hand
from model_how import How, OddAnswer
from model_judge import is_held_for_an_end
from model_words import CONFIGS, EDITS, FAULTS, LOST, NAMES, NAMING, SAY_NOTHING, TIMES, UNDOING, Edit
from reconciler.engines.sandbox.life import JobState
from reconciler.model.jobs import Desired, OnConfigChange, Status, Verb

ENDED = frozenset({JobState.COMPLETE, JobState.FAILED, JobState.ABORTED})


class Steps(Hand):
    """Edits, applies, crashes and faults."""

    @rule(name=st.sampled_from(NAMES), edit=st.sampled_from(EDITS))
    def edit(self, name: str, edit: Edit) -> None:
        self._edit(name, edit)

    @rule(name=st.sampled_from(NAMES), edit=st.sampled_from(EDITS))
    def edit_and_apply(self, name: str, edit: Edit) -> None:
        self._edit(name, edit)
        self._apply()

    @rule(name=st.sampled_from(NAMES), edit=st.sampled_from(EDITS), crash_at=st.integers(0, 45))
    def edit_and_crash(self, name: str, edit: Edit, crash_at: int) -> None:
        self._edit(name, edit)
        self._apply(How(crash_at=crash_at))

    @rule(
        name=st.sampled_from(NAMES),
        edit=st.sampled_from(EDITS),
        fault=st.sampled_from(FAULTS),
        times=st.sampled_from(TIMES),
        skip=st.sampled_from((0, 0, 1, 2)),
    )
    def edit_and_meet_a_fault(self, name: str, edit: Edit, fault: str, times: int, skip: int) -> None:
        self._edit(name, edit)
        self._apply(How(faults=(f"{fault}:times={times}:skip={skip}",)))

    @rule(name=st.sampled_from(NAMES), edit=st.sampled_from(UNDOING), prune=st.booleans())
    def protect_then_say_no_more_of_it(self, name: str, edit: Edit, prune: bool) -> None:
        self._edit(name, ("protect", True))
        self._apply()
        self._edit(name, ("protect", None))
        self._edit(name, edit)
        self._apply(prune=prune)

    @rule(
        policy=st.sampled_from((*OnConfigChange, OnConfigChange.RERUN, OnConfigChange.RERUN)),
        rerun_on=st.sampled_from(((), ("config.taskTimeout",), ("config.jobTimeout", "config.taskTimeout"))),
        config=st.integers(0, len(CONFIGS) - 1),
        finish=st.booleans(),
    )
    def give_a_config_under_a_policy(
        self, policy: OnConfigChange, rerun_on: tuple[str, ...], config: int, finish: bool
    ) -> None:
        if finish:
            self.world.forward(self.world.options.job_seconds)
        for edit in (("mode", policy), ("rerun_on", rerun_on), ("config", config)):
            self._edit("a", edit)
        self._apply()

    @rule(token=st.sampled_from(("monday", "tuesday")), finish=st.booleans())
    def ask_again(self, token: str, finish: bool) -> None:
        if finish:
            self.world.forward(self.world.options.job_seconds)
        self._edit("a", ("token", token))
        self._apply()

    @rule(token=st.sampled_from(("monday", "tuesday")), crash_at=st.integers(0, 45))
    def ask_again_and_crash_and_take_it_back_and_ask_once_more(self, token: str, crash_at: int) -> None:
        self._edit("a", ("token", token))
        self._apply(How(crash_at=crash_at))
        for value in (None, token):
            self._edit("a", ("token", value))
            self._apply()

    @rule(token=st.sampled_from(("monday", "tuesday")), stop_at=st.integers(0, 8))
    def ask_again_and_stop_midway(self, token: str, stop_at: int) -> None:
        self._edit("a", ("token", token))
        self._apply(How(stop_at=stop_at))
        self._apply()

    @rule(name=st.sampled_from(NAMES), seconds=st.sampled_from((0.0, 0.0, 100.0)))
    def stop_a_job_and_run_it_soon_after(self, name: str, seconds: float) -> None:
        self._edit(name, ("state", Desired.ABORTED))
        self._apply()
        self.world.forward(seconds)
        self._edit(name, ("state", Desired.RUNNING))
        self._apply()

    @rule(
        name=st.sampled_from(NAMES),
        edit=st.sampled_from(EDITS),
        verb=st.sampled_from((Verb.RUN, Verb.RUN, Verb.ABORT, Verb.DELETE)),
        body=st.sampled_from(SAY_NOTHING),
        after=st.booleans(),
        skip=st.sampled_from((0, 0, 1)),
    )
    def edit_and_be_told_nothing(self, name: str, edit: Edit, verb: Verb, body: bytes, after: bool, skip: int) -> None:
        self._edit(name, edit)
        self._apply(How(odd=OddAnswer(verb, body, after, skip)))

    @rule(
        name=st.sampled_from(NAMES),
        first=st.sampled_from(NAMING),
        second=st.sampled_from(NAMING),
        crash_at=st.sampled_from((None, None, 3, 9, 15)),
    )
    def give_names_around(self, name: str, first: Edit, second: Edit, crash_at: int | None) -> None:
        for edit in (first, second):
            self._edit(name, edit)
            self._apply(How(crash_at=crash_at))

    @rule(
        name=st.sampled_from(NAMES),
        naming=st.sampled_from(NAMING),
        kind=st.sampled_from(LOST),
        done=st.booleans(),
        crash_at=st.integers(3, 30),
        apply=st.booleans(),
    )
    def be_in_doubt_and_give_names_around_and_resolve(
        self, name: str, naming: Edit, kind: str, done: bool, crash_at: int, apply: bool
    ) -> None:
        for one in self.jobs:
            self._edit(one, ("token", "monday"))
        reads = self.world.options.reads
        lost = f"run:{kind}{':after' if done else ''}:times=2"
        self._apply(How(crash_at=crash_at) if reads else How(faults=(lost,)))
        self._edit(name, naming)
        if apply and not reads:
            self._apply()
        self.resolve_as_the_plan_says()

    @rule(prune=st.booleans())
    def apply(self, prune: bool) -> None:
        self._apply(prune=prune)

    @rule(crash_at=st.integers(0, 60), prune=st.booleans())
    def crash(self, crash_at: int, prune: bool) -> None:
        self._apply(How(crash_at=crash_at), prune=prune)

    @rule(stop_at=st.integers(0, 6))
    def interrupt(self, stop_at: int) -> None:
        self._apply(How(stop_at=stop_at))

    @rule(fault=st.sampled_from(FAULTS), other=st.sampled_from(FAULTS), times=st.sampled_from(TIMES))
    def meet_faults(self, fault: str, other: str, times: int) -> None:
        self._apply(How(faults=(f"{fault}:times={times}", f"{other}:times=1")))

    @rule(
        name=st.sampled_from(NAMES),
        edit=st.sampled_from(EDITS),
        kind=st.sampled_from(LOST),
        lag=st.booleans(),
        crash_at=st.sampled_from((None, None, 20, 30)),
    )
    def edit_and_lose_answers_while_reads_lag(
        self, name: str, edit: Edit, kind: str, lag: bool, crash_at: int | None
    ) -> None:
        self._edit(name, edit)
        self._apply(How(crash_at=crash_at, faults=(f"any:{kind}:after:times=1:skip=1", "read:stale:skip=1")))
        self._apply(How(faults=("read:stale",) if lag else ()))

    @rule(fault=st.sampled_from(FAULTS), crash_at=st.integers(0, 60))
    def meet_a_fault_and_crash(self, fault: str, crash_at: int) -> None:
        self._apply(How(crash_at=crash_at, faults=(f"{fault}:times=1",)))

    @rule(refresh=st.booleans(), prune=st.booleans(), keep=st.booleans())
    def plan(self, refresh: bool, prune: bool, keep: bool) -> None:
        before = self.world.disk.changes, len(self.world.database.done), len(self.world.changing)
        plan = self.world.plan(refresh=refresh, prune=prune)
        if not refresh:
            assert self.world.plan(refresh=refresh, prune=prune) == plan
        after = self.world.disk.changes, len(self.world.database.done), len(self.world.changing)
        assert after == before, "a plan wrote something"
        if keep:
            self.saved = plan

    @precondition(lambda self: self.saved is not None)
    @rule(crash_at=st.sampled_from((None, None, 3, 9, 15)))
    def apply_the_saved_plan(self, crash_at: int | None) -> None:
        self._apply(How(crash_at=crash_at), saved=self.saved)

    @rule()
    def say_how_runs_ended_as_the_plan_says(self) -> None:
        """A person pastes the command of a hold once the run before has ended, and the held run is then started."""
        for action in self.world.plan(refresh=True).actions:
            advised = re.search(r"reconciler resolve (.+?) --ended complete", action.reason)
            life = self.world.life_of(action.id)
            if advised is None or not is_held_for_an_end(action.reason) or life not in ENDED:
                continue
            (name,) = [word for word in shlex.split(advised[1]) if not word.startswith("--")]
            self.world.state_end(name, Status.COMPLETE)
            record = self.world.record_of(action.id)
            assert record is not None
            assert record.end is Status.COMPLETE, record
            # The person's word counts, also for a run that was aborted to be run anew: nobody has seen its end.
            self.account.ended_by_itself(action.id, self._executed()[action.id])
        self._apply()

    @precondition(lambda self: self.doubts)
    @rule()
    def resolve_as_the_plan_says(self) -> None:
        """A person pastes the command that the plan shows. The command must settle that call and no other."""
        for action in self.world.plan(refresh=False).actions:
            record = self.world.record_of(action.id)
            if record is None or record.doubt is None:
                continue
            if self.world.promises.atomic_run and "is sent again as" in action.reason:
                continue  # nobody has to settle a run that can't be started twice
            advised = re.search(r"reconciler resolve (.+?) --applied", action.reason)
            assert advised is not None, f"{action.job} is in doubt, and no command settles it: {action.reason}"
            (name,) = [word for word in shlex.split(advised[1]) if not word.startswith("--")]
            others = {one.id: one for one in self._state().jobs.values() if one.id != action.id}
            words_shown = self.world.settle_doubt(name, applied=self._worked(record.doubt.op))
            after = self.world.record_of(action.id)
            assert after is None or after.doubt is None, (
                f"`resolve {name}` left the doubt of {action.id}: {words_shown}"
            )
            left = {one.id: one for one in self._state().jobs.values() if one.id != action.id}
            assert left == others, f"`resolve {name}` was to settle {action.id}, and touched others: {words_shown}"
            assert record.doubt.verb in words_shown, words_shown
            assert action.id in words_shown, f"it does not say of which job: {words_shown}"
        self._check()
