"""Makes a plan from the decisions about all jobs.

An action is what a plan shows of a decision: the kind, the reason, the changes and the calls in the engine's words.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

from reconciler.model.jobs import EMPTY, NOT_ASKED, Job, Observation, State, Verb
from reconciler.model.plan import AS_RECORDED, STEPS, Action, ActionKind, Plan, Request
from reconciler.model.steps import Step
from reconciler.rules.decide import decide, is_as_recorded
from reconciler.rules.decisions import Decision
from reconciler.rules.matching import Matching, Subject, name_of
from reconciler.rules.order import Order
from reconciler.rules.records import run_of
from reconciler.rules.runs import run_id

Wording = Callable[[Step], Sequence[Request]]
"""Takes a step, and returns its requests in the words of the engine."""


def make_plan(
    matching: Matching,
    observed: Mapping[str, Observation],
    wording: Wording,
    selected: Callable[[str], bool],
    *,
    state: State,
    manifest_digest: str,
    commit: str | None,
    paths: Iterable[str],
    before: Mapping[str, Observation] = EMPTY,
) -> Plan:
    """The plan for the selected jobs, sorted by step and then by name. The same inputs make the same bytes.

    `observed` maps engine job ids to observations, and lacks the jobs that were not observed. `selected` takes a job's
    name, and returns whether the plan includes the job. `before` has further observations of jobs that others come
    after: they tell whether the turn of those others has come, and decide nothing about the observed jobs themselves.
    """
    steps: dict[int, list[Action]] = {step: [] for step in sorted(set(STEPS.values()))}
    noops = steps[STEPS[ActionKind.NOOP]]
    order = Order(matching.subjects, {**before, **observed}, selected)
    for subject in sorted([one for one in matching.subjects if selected(one.job.name)], key=name_of):
        observation = observed.get(subject.job.id, NOT_ASKED)
        if is_as_recorded(subject, observation):
            noops.append(Action(subject.job.name, subject.job.id, ActionKind.NOOP, AS_RECORDED))
            continue
        decision = decide(subject, observation)
        if decision.verbs:
            decision = order.defer(decision, subject)
        steps[STEPS[decision.kind]].append(action_for(subject, decision, wording))
    return Plan(
        target=state.target,
        lineage=state.lineage,
        serial=state.serial,
        manifest_digest=manifest_digest,
        commit=commit,
        paths=tuple(paths),
        actions=tuple(chain.from_iterable(steps.values())),
        undeclared=matching.undeclared,
    )


def action_for(subject: Subject, decision: Decision, wording: Wording) -> Action:
    """The action that a plan shows for a decision, with the calls that carry out the decision."""
    job = subject.job
    calls = tuple([request for verb in decision.verbs for request in wording(step_of(subject, verb))])
    run = step_of(subject, decision.verbs[-1]).run_id if decision.verbs else ""
    kind, reason, changes = decision.kind, decision.reason, decision.changes
    return Action(job.name, job.id, kind, reason, changes, calls, decision.error, decision.frozen, run_id=run)


def step_of(subject: Subject, verb: Verb) -> Step:
    """The step of a call for a job, as a plan knows it: without marks, and without handles of the engine.

    Only a run takes the config of the job.
    """
    job = subject.job
    config = job.config if verb is Verb.RUN else EMPTY
    return Step(verb, job.id, run_id(job.id, run_of(subject, verb)), config)


def is_within(calls: Sequence[Request], shown: Sequence[Request]) -> bool:
    """Whether the calls are among the shown calls, in the same order. An apply sends no other calls."""
    left = iter(shown)
    return all(call in left for call in calls)


def lapsed(jobs: Mapping[str, Job], now_s: float) -> Mapping[str, Job]:
    """The jobs whose freeze has ended, by name, with `over` set. `now_s` is in seconds since 1970, UTC."""
    frozen = [job for job in jobs.values() if job.freeze is not None]
    return {
        job.name: job._replace(freeze=job.freeze._replace(over=True))
        for job in frozen
        if job.freeze is not None and job.freeze.ends_at_s <= now_s
    }
