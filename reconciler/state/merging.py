"""Merges a state with a journal that started from another state. All functions are pure.

Both sides may have run jobs. So a merge loses nothing that either side consumed or counted:

    run tokens, consumed configs       those of both sides
    the last run of a job              the one with the higher number, with its end, its handle and its times
    a call in doubt                    stays, unless the journal has its result; of two, the one that is left out
                                       counts as carried out
    protection                         stays if either side has it
    run counts                         the higher one, also of a record that one side has dropped
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from reconciler.model.jobs import Desired, Doubt, Record, State, Status, Verb, displaced_key, title
from reconciler.model.json_values import same_json
from reconciler.rules.records import without_old_doubt
from reconciler.rules.reruns import text_of
from reconciler.state import record_json
from reconciler.state.journal import Entry
from reconciler.state.replay import LoadedState, count_run, replayed, set_record


def merged(theirs: State, entries: Sequence[Entry], remarks: list[str]) -> LoadedState:
    """A three-way merge of a state and a journal that started from another state.

    A job that one side changed gets the record of that side. Where both sides changed a job, it gets the record with
    the newer run, with all that the other record consumed; for one and the same run, that is the record of `theirs`.
    `remarks` get a line for each such job. A journal of a killed command does not say which jobs it changed; its
    records then win. Raises the errors of `record_json.record_from_json`.
    """
    base = _merge_base(entries)
    known = {record.id: record for record in (base or {}).values() if record is not None}
    start = dict(theirs.jobs)
    for name, record in (base or {}).items():
        set_record(start, {}, name, record)
    ours = replayed(theirs._replace(jobs=start), "", entries, moved=moved_aside)
    our_ids = {record.id for record in ours.state.jobs.values()}
    touched = base or {name: start.get(name) for name in {*ours.state.jobs, *start}}
    settled = {entry["op"] for entry in entries if entry["type"] == "result"}
    jobs = dict(theirs.jobs)
    counts = ours.state.last
    key_of_id = {record.id: key for key, record in theirs.jobs.items()}
    for name, before in touched.items():
        our = ours.state.jobs.get(name)
        if our in (before, theirs.jobs.get(name)) or (our is None and before is not None and before.id in our_ids):
            continue  # nothing to take, or the record has another name now
        key = name if our is None else _key_of(our, name, theirs.jobs, key_of_id)
        their = theirs.jobs.get(key)
        if our is not None and our == their:
            continue  # the replay has displaced the record of the state
        if their is None or (base is not None and their in (before, known.get(their.id))):
            set_record(jobs, {}, key, our)
        elif our is not None:
            is_ours = base is None or (their.doubt is not None and their.doubt.op in settled)
            their = _without_settled(their, our, settled)
            jobs[key], left_out = united(*((our, their) if is_ours else (their, our)))
            remarks += [] if is_ours else [_both_words(key)]
            remarks += [_left_out_words(key, doubt) for doubt in left_out]
            burnt = [jobs[key]._replace(run=doubt.run) for doubt in left_out if doubt.verb is Verb.RUN]
            counts = counted(counts, burnt)
    last = counted(counts, [*known.values(), *theirs.jobs.values(), *ours.state.jobs.values()])
    return ours._replace(state=ours.state._replace(jobs=jobs, last=last))


def united(record: Record, other: Record) -> tuple[Record, Sequence[Doubt]]:
    """One record of two records of one engine job, and the calls in doubt that have no place in it.

    The record with the newer run counts. If both have the same run, it is the record that knows more of that run, or
    `record` if they know as much. A run in doubt that is left out counts as carried out: its run token and its config
    are consumed.
    """
    newer, older = (other, record) if _is_later(other, record) else (record, other)
    kept, left_out = _doubts_of(record, other)
    consumed = [doubt for doubt in left_out if doubt.verb is Verb.RUN]
    tokens = {doubt.run_token for doubt in consumed if doubt.run_token is not None}
    configs = {text_of(doubt.config) for doubt in consumed}
    made = newer._replace(
        run_tokens=record.run_tokens | other.run_tokens | tokens,
        ran_configs=record.ran_configs | other.ran_configs | configs,
        protect=record.protect or other.protect,
        doubt=kept,
    )
    if _is_one_run(record, other):
        ref, active = newer.ref or older.ref, newer.last_active or older.last_active
        end = newer.end or older.end
        made = made._replace(end=end, ref=ref, last_active=active, abort_unseen=made.abort_unseen and end is None)
    return made, left_out


def _is_later(other: Record, record: Record) -> bool:
    """Whether another record of a job has a later run, or knows what happened to this run later."""
    if other.run != record.run or record.state is None or other.state is None:
        return (other.run, other.state is not None) > (record.run, record.state is not None)
    return not _are_two_runs(record, other) and _stage_of(other) > _stage_of(record)


def _stage_of(record: Record) -> int:
    """How far a record has followed its run. A run that ended by itself was not aborted by the abort of a restart.

    That a run was aborted by someone else is how our own abort looks from another copy of the state.
    """
    if record.state is Desired.RUNNING:
        return 2 if record.end in (Status.COMPLETE, Status.FAILED) else 0
    if record.state is Desired.ABORTED:
        return 1 if record.abort_unseen else 3
    return 4


def counted(last: Mapping[str, int], records: Iterable[Record]) -> dict[str, int]:
    """The run counts of `last`, raised to those of the records. No count decreases."""
    raised = dict(last)
    for record in records:
        count_run(raised, record)
    return raised


def moved_aside(jobs: Mapping[str, Record], moves: Mapping[str, str]) -> dict[str, Record]:
    """The records under their new names, where the records may not be those that the moves were planned for.

    A record that stands at the new name of another record is displaced.
    """
    goals = {moves[name] for name in moves if name in jobs}
    kept = {
        displaced_key(name, record.id) if name in goals else name: record
        for name, record in jobs.items()
        if name not in moves
    }
    return kept | {moves[name]: jobs[name] for name in moves if name in jobs}


def _doubts_of(record: Record, other: Record) -> tuple[Doubt | None, Sequence[Doubt]]:
    """The call in doubt that two records of one job keep, and the calls that are left out.

    A run comes first: what became of an abort or of a delete shows in the job, whoever sent it. Of two calls for one
    and the same run, the earlier one stays, and the other one is not left out: what settles one of them settles both.
    An abort or a delete of an earlier run than the newer one is dropped.
    """
    run = max(record.run, other.run)
    open_ones = [without_old_doubt(one._replace(run=run)) for one in (record, other)]
    doubts = [one.doubt for one in open_ones if one.doubt is not None]
    if len(doubts) == 2 and _ask_the_same(*doubts):
        return min(doubts, key=lambda doubt: doubt.began_at), []
    doubts.sort(key=lambda doubt: doubt.verb is not Verb.RUN)
    return (doubts[0] if doubts else None), doubts[1:]


def _ask_the_same(one: Doubt, other: Doubt) -> bool:
    """Whether two calls in doubt are one call, or ask for the same."""
    asked = one.verb is other.verb and (one.run, one.run_token) == (other.run, other.run_token)
    return one.op == other.op or (asked and same_json(one.config, other.config))


def _is_one_run(record: Record, other: Record) -> bool:
    """Whether two records are certainly about one run. A number alone may have come twice on two machines."""
    is_same = (record.ref and record.ref == other.ref) or (
        record.submitted_at and record.submitted_at == other.submitted_at
    )
    return record.run == other.run and bool(is_same)


def _are_two_runs(record: Record, other: Record) -> bool:
    """Whether two records of one number are certainly about two runs, which two machines have numbered alike."""
    if record.ref and other.ref:
        return record.ref != other.ref
    return bool(record.submitted_at and other.submitted_at) and record.submitted_at != other.submitted_at


def _without_settled(their: Record, our: Record, settled: Collection[str]) -> Record:
    """The record of the state, without a call in doubt of which the journal has the result (`settled`)."""
    doubt = their.doubt
    is_open = doubt is None or doubt.op not in settled or (our.doubt is not None and our.doubt.op == doubt.op)
    return their if is_open else their._replace(doubt=None)


def _merge_base(entries: Sequence[Entry]) -> dict[str, Record | None] | None:
    """The record of each job from before the journal changed the job, None for a job that had no record; by name.

    Returns None where the journal does not say which jobs it changed.
    """
    bases = [entry["records"] for entry in entries if entry["type"] == "base"]
    if not bases:
        return None
    return {name: None if found is None else record_json.record_from_json(found) for name, found in bases[-1].items()}


def _key_of(record: Record, name: str, jobs: Mapping[str, Record], key_of_id: Mapping[str, str]) -> str:
    """The key in `jobs` for a record of the job `name`. Two keys must not stand for one engine job.

    `key_of_id` maps the id of each engine job in `jobs` to its key.
    """
    at_name = jobs.get(name)
    if at_name is not None and at_name.id == record.id:
        return name
    return key_of_id.get(record.id) or (name if at_name is None else displaced_key(name, record.id))


def _both_words(key: str) -> str:
    return (
        f"{title(key)}: the state file and the journal both hold calls of this job: its record is that of the newer "
        "run, with all that both sides have run; look at the job"
    )


def _left_out_words(key: str, doubt: Doubt) -> str:
    return (
        f"{title(key)}: two calls are in doubt, and a record has room for one: the {doubt.verb} that was sent at "
        f"{doubt.sent_at} is taken as carried out; look at the job"
    )
