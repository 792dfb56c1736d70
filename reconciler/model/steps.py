"""Steps: one call to an engine as a value, before the engine has put the call into its own words."""

from typing import NamedTuple

from reconciler.model.jobs import EMPTY, Config, Marks, Verb


class Step(NamedTuple):
    """One call that changes a job, in the words of the reconciler.

    `run_id` names the run that the call is about; "" for an engine that has no ids of runs. `config` is the config of a
    run, and empty for any other verb. `seen` is the engine's handle of the object that was observed before the call,
    and `staged` is what `Engine.stage` returned; both are "" without one. `marks` say whose call this is. An abort or a
    delete of an object that was imported from another state bears the lineage that the object bears. `after` are the
    handles of the runs that have to complete before the run begins; it is empty for an engine that does not promise
    `chains`.
    """

    verb: Verb
    job_id: str
    run_id: str = ""
    config: Config = EMPTY
    seen: str = ""
    staged: str = ""
    marks: Marks = Marks()
    after: tuple[str, ...] = ()
