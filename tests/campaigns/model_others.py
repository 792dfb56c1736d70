"""The steps of other people: files that change under an apply, states that are lost or old, and other owners."""

from datetime import datetime

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from model_commands import HISTORY, JOURNAL, MARKS, STATE
from model_hand import Hand
from model_how import How
from model_words import (
    DOCTORING,
    EDITS,
    IDS,
    INSTANT_S,
    NAMES,
    NAMING,
    TAKEN_AWAY,
    UNDOING,
    Doctoring,
    Edit,
    wishes,
    with_two_records,
)
from model_world import QUIET
from reconciler.model.errors import ExitCode, OtherIdentity, ReconcilerError, StateError
from reconciler.model.jobs import OnConfigChange, Verb, title
from reconciler.model.plan import ActionKind


class Files(Hand):
    """Someone changes files while an apply is at work."""

    @precondition(lambda self: JOURNAL not in self.world.disk.files)
    @rule(
        name=st.sampled_from(NAMES),
        edit=st.sampled_from(EDITS),
        gone=st.sampled_from(TAKEN_AWAY),
        at=st.integers(0, 40),
        other_begins=st.booleans(),
    )
    def lose_files_under_an_apply(
        self, name: str, edit: Edit, gone: tuple[str, ...], at: int, other_begins: bool
    ) -> None:
        """Someone removes files during an apply, then maybe starts another apply; the state is put back later."""
        disk = self.world.disk
        before = disk.read(STATE)
        self._edit(name, edit)
        reads = disk.reads[STATE]

        def clean() -> None:
            # A state that is removed before it is loaded, or after it was written anew, is a lost state, which
            # `lose_the_state` plays.
            if STATE not in gone or (disk.reads[STATE] > reads and disk.read(STATE) == before):
                for path in gone:
                    disk.put(path, None)
            # The other apply cannot know of calls that were sent already, nor of a state that is gone too.
            if other_begins and not self.world.changing and STATE not in gone:
                self.world.beside(self.world.apply)

        def put_back() -> None:
            if STATE not in disk.files and before is not None:
                disk.put(STATE, before)

        if JOURNAL in gone:
            self._lose_counts()
        self._apply(How(meanwhile=clean, meanwhile_at=at), mended_by=put_back)
        self.last = {}

    @precondition(lambda self: JOURNAL not in self.world.disk.files)
    @rule(
        name=st.sampled_from(NAMES),
        edit=st.sampled_from(EDITS),
        other=st.sampled_from(NAMES),
        other_edit=st.sampled_from((("token", "friday"), ("token", "friday"), *NAMING)),
        at=st.integers(0, 40),
    )
    def pull_a_newer_state_under_an_apply(self, name: str, edit: Edit, other: str, other_edit: Edit, at: int) -> None:
        """Another clone applies and commits, and `git pull` replaces the state while an apply is at work here."""
        world = self.world
        self._apply()
        if name == other or any(action.kind is not ActionKind.NOOP for action in world.plan(refresh=False).actions):
            return
        ours, first, disk = self.jobs, len(world.database.done), world.disk
        versions, old = self.versions, disk.read(STATE)
        self._edit(other, other_edit)
        theirs = self.jobs
        if wishes(theirs) | wishes(ours) != wishes(theirs):
            # Clones that ask opposite things of one job, each with its own state, are not part of this model.
            self._declare(ours)
            return
        with world.another_clone() as clone:
            theirs_ended = self._apply()
            pulled = {path: bytes(clone.files[path]) for path in (STATE, HISTORY) if path in clone.files}
        self.versions, taken, self.last = versions, [], {}

        def pull() -> None:
            # Git replaces a file only if the file is as it was committed.
            if disk.read(STATE) == old:
                taken.append(True)
                self.judged_until = first  # from here on, the runs of the other clone must be on record here
                for path, content in pulled.items():
                    disk.put(path, content)

        if theirs_ended.exit_code is not ExitCode.DONE:
            pull()  # only the other clone's state can continue an apply that is not finished
            return
        self._declare(ours)
        self._edit(name, edit)
        self.doubts = {}
        self._apply(How(meanwhile=pull, meanwhile_at=at), pulls=taken)
        self._declare(theirs)
        self._edit(name, edit)
        if not taken:
            # The two states have diverged, and a person takes one of them.
            before = self._state()
            for path, content in pulled.items():
                disk.put(path, content)
            disk.put(JOURNAL, None)
            world.accept()
            self._lose_counts()
            self._believe(before)
        self.versions, self.last = [], {}

    @rule(name=st.sampled_from(NAMES), edit=st.sampled_from(EDITS), at=st.integers(0, 40))
    def switch_the_folder_under_an_apply(self, name: str, edit: Edit, at: int) -> None:
        """A link is changed to another release, whose folder holds the same files; later the link is changed back."""
        disk = self.world.disk
        release = disk.files
        copies = {path: bytes(release[path]) for path in (STATE, HISTORY) if path in release}
        other = {path: bytearray(content) for path, content in copies.items()}
        self._edit(name, edit)
        reads = disk.reads[STATE]

        def switch() -> None:
            if disk.reads[STATE] > reads:
                disk.lead_to(other)

        self._apply(How(meanwhile=switch, meanwhile_at=at), mended_by=lambda: disk.lead_to(release))
        assert {path: bytes(content) for path, content in other.items()} == copies, "it wrote into another folder"

    @rule(name=st.sampled_from(NAMES), edit=st.sampled_from(UNDOING), how=st.sampled_from(DOCTORING))
    def apply_a_saved_plan_that_was_edited(self, name: str, edit: Edit, how: Doctoring) -> None:
        """Someone edits a saved plan. Its apply must do no more than the tool would plan."""
        self._edit(name, edit)
        self.world.set_guards({"maxDelete": 0, "maxAbort": 0})
        plan = self.world.plan(refresh=False, prune=True)
        shown = {tuple(call.text.split(" ")) for action in plan.actions for call in action.calls}
        at = len(self.world.database.done)
        ended = self._apply(saved=how(plan))
        assert shown.issuperset(ended.changing), f"the tool plans no {set(ended.changing) - shown}"
        guarded = [done for done in self.world.database.done[at:] if done.by_us and done.execution.verb is not Verb.RUN]
        alone = [
            done for done in guarded if done.execution.job_id not in {a.id for a in plan.actions if len(a.calls) > 1}
        ]
        assert not alone, f"a guard was passed on the word of a plan file: {alone}"
        self.world.set_guards({})


class Others(Hand):
    """Other people act at the service, and states are lost, rolled back, merged and forgotten."""

    @rule(job_id=st.sampled_from(IDS), verb=st.sampled_from((Verb.RUN, Verb.RUN, Verb.ABORT, Verb.DELETE)))
    def someone_else_acts(self, job_id: str, verb: Verb) -> None:
        self.world.act(verb, job_id)
        self.disturbed.add(job_id)

    @rule(job_id=st.sampled_from(IDS))
    def someone_elses_run_fails(self, job_id: str) -> None:
        self.world.act(Verb.RUN, job_id, fault="run:fail")
        self.disturbed.add(job_id)

    @rule(seconds=st.sampled_from((10.0, 100.0, 10000.0, 50000.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.forward(seconds)

    @precondition(lambda self: self.world.promises.creates_on_run and not self.doubts)
    @rule(job_id=st.sampled_from(IDS))
    def someone_takes_a_job_away(self, job_id: str) -> None:
        self.world.database.forget(job_id)
        self.disturbed.add(job_id)
        self.lagged.add(job_id)

    @rule(job_id=st.sampled_from(IDS), is_foreign=st.booleans())
    def a_job_changes_its_owner(self, job_id: str, is_foreign: bool) -> None:
        (self.world.foreign.add if is_foreign else self.world.foreign.discard)(job_id)
        self.lagged.add(job_id)

    @precondition(lambda self: self.world.options.reads)
    @rule(edit=st.sampled_from(EDITS))
    def ask_something_of_a_job_of_another_owner(self, edit: Edit) -> None:
        name = min(self.jobs)
        self._edit(name, edit)
        ids = {job.id for job in self.jobs.values()} - self.world.foreign
        self.world.foreign |= ids
        self.lagged |= ids
        self._apply()
        self.world.foreign -= ids

    @precondition(lambda self: self.world.state.identity and not self.doubts)
    @rule(edit=st.sampled_from(EDITS), part=st.sampled_from(("cluster", "namespace")))
    def another_cluster_answers_at_the_address(self, edit: Edit, part: str) -> None:
        """Another cluster than the recorded one gets no call, and its answers change nothing that is recorded."""
        self._edit(min(self.jobs), edit)
        world = self.world
        ours, before = world.identity, world.state
        if part not in world.state.identity:
            return
        world.identity = {**ours, part: "of another cluster"}
        ended = world.apply()
        world.identity = ours
        assert not ended.changing, f"calls for another cluster: {ended.changing}"
        # An apply that has nothing to do does not ask who answers.
        asked = [one for one in ended.outcomes if one.done not in QUIET]
        assert isinstance(ended.refusal, OtherIdentity) or not asked, ended
        # Names, and what the manifest says of protection, are recorded without a look at any job.
        ids = [
            {record.id: record._replace(protect=False) for record in state.jobs.values()}
            for state in (before, world.state)
        ]
        assert ids[0] == ids[1]
        assert world.state.last == before.last

    @precondition(lambda self: self.world.state.identity)
    @rule(edit=st.sampled_from(EDITS))
    def a_right_to_read_the_identity_is_withdrawn(self, edit: Edit) -> None:
        """Parts of the identity that can't be read any more forbid nothing."""
        self._edit(min(self.jobs), edit)
        world = self.world
        ours, world.identity = world.identity, {}
        ended = self._apply()
        world.identity = ours
        assert not isinstance(ended.refusal, OtherIdentity), ended
        assert world.state.identity == ours

    @rule(name=st.sampled_from(NAMES), first=st.sampled_from((0, 1, 2)), second=st.sampled_from((0, 1, 2)))
    def ask_for_reruns_and_go_back(self, name: str, first: int, second: int) -> None:
        for edit in (("mode", OnConfigChange.RERUN), ("config", first), ("config", second), ("config", first)):
            self._edit(name, edit)
            self.world.come_to_rest(self._apply)

    @rule(journal_too=st.booleans())
    def lose_the_state(self, journal_too: bool) -> None:
        before = self._state()
        disk = self.world.disk
        if journal_too and JOURNAL in disk.files:
            self._lose_counts()
        disk.put(STATE, None)
        if journal_too:
            disk.put(JOURNAL, None)
        elif JOURNAL in disk.files:
            self._accept_after_refusal()
        self._name_the_state_where_it_is_gone()
        # The next state has a new lineage. The old state is whole, and a return to it is no roll-back.
        self.versions = []
        self._believe(before)

    @precondition(lambda self: self.versions and JOURNAL not in self.world.disk.files)
    @rule(back=st.sampled_from((1, 1, 2, 3)), mark_lost=st.booleans(), give_in=st.booleans())
    def roll_the_state_back(self, back: int, mark_lost: bool, give_in: bool) -> None:
        disk = self.world.disk
        newest, before = disk.read(STATE), self._state()
        older = self.versions[-back:][0]
        if newest is None or newest == older:
            return
        disk.put(STATE, older)
        if mark_lost:
            for path in [path for path in disk.files if path.startswith(MARKS)]:
                disk.put(path, None)
            # Nothing on this machine knows of newer versions of this lineage any more, so each version is valid.
            self.versions = []
            self.world.accept()
            self._lose_counts()
        else:
            ended = self.world.apply()
            assert isinstance(ended.refusal, StateError), "an apply took a state that was rolled back"
            assert not ended.changing
            if not give_in:
                disk.put(STATE, newest)
                return
            self.world.accept()
        self._believe(before)
        if mark_lost and self.world.options.reads:
            self._apply_an_older_state()

    def _apply_an_older_state(self) -> None:
        """Check that a run after the state was written is visible at the service, and is not repeated.

        If the run of a job is in doubt, the service cannot tell two runs apart: the run that it shows counts as the one
        in doubt.
        """
        ran_since = set()
        for record in self._state().jobs.values():
            if record.doubt is not None and record.doubt.verb is Verb.RUN:
                continue
            there = self.world.server_job(record.id)
            if there is None or there.submitted_at is None or record.submitted_at is None:
                continue
            began_s = datetime.fromisoformat(record.submitted_at).timestamp() if record.submitted_at else 0
            if abs(there.submitted_at - began_s) > INSTANT_S:
                ran_since.add(record.id)
        at = len(self.world.database.done)
        self._apply()
        for done in self.world.database.done[at:]:
            assert not (done.by_us and done.execution.verb is Verb.RUN and done.execution.job_id in ran_since), done

    @precondition(lambda self: STATE in self.world.disk.files and JOURNAL not in self.world.disk.files)
    @rule(other=st.sampled_from(NAMES), back=st.sampled_from((1, 2)), whole=st.booleans())
    def merge_the_state_by_hand(self, other: str, back: int, whole: bool) -> None:
        """Git merges two branches, one of which renamed a job. No command may accept two records of one job."""
        content = bytes(self.world.disk.files[STATE])
        merged, names = with_two_records(content, (self.versions or [content])[-back:][0], other)
        if not names:
            return
        try:
            if whole:
                self.world.push(merged)
            else:
                self.world.disk.put(STATE, merged)
                self.world.accept()
        except ReconcilerError as refusal:
            words_shown = f"{refusal.message} {refusal.hint}"
            assert all(title(name) in words_shown for name in names) or whole, (
                f"it names not both of {names}: {words_shown}"
            )
        else:
            raise AssertionError(f"one id under two names was taken: {names}")
        finally:
            self.world.disk.put(STATE, content)

    @precondition(lambda self: self.doubts)
    @rule()
    def resolve_truthfully(self) -> None:
        for key, record in self._state().jobs.items():
            if record.doubt is not None:
                self.world.settle_doubt(self._named(key, record), applied=self._worked(record.doubt.op))
                after = self.world.record_of(record.id)
                assert after is None or after.doubt is None, f"the doubt of {record.id} was left"
        self._check()

    @rule(name=st.sampled_from(NAMES))
    def forget(self, name: str) -> None:
        """`state forget` takes a name of the manifest, or a name of the state if the manifest has no such job."""
        before = self._state()
        record = self.world.record_of(self.jobs[name].id) if name in self.jobs else before.jobs.get(name)
        if record is not None and record.doubt is None:
            self.world.forget(name)
            assert self.world.record_of(record.id) is None, f"`state forget {name}` dropped another record"
            self._believe(before)
