"""Plugins of engines with one bug each, in what they say without a connection; see `seeded_engines`.

Two bugs are not of the plugin, but of the tool. They are seeded here, since the tool loads the plugin.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from cluster_plugin import ClusterPlugin, ClusterService
from reconciler.apply import calls
from reconciler.engines.port import AnswerClass, Config, Engine, Job, Request, Schema, Step, Surroundings, Target
from reconciler.engines.sandbox.cluster import ATOMIC
from seeded_engines import Seeded, SeededService


class RefusesConfigs(ClusterPlugin):
    """Has a schema that takes no field of any config."""

    config_schema: Schema = MappingProxyType({"type": "object", "additionalProperties": False})


class NamesAnother(ClusterPlugin):
    """Makes targets of another engine."""

    def target(self, block: Mapping[str, Any], folder: str) -> Target:
        return super().target(block, folder)._replace(engine="another")


class ComparesObjects(ClusterPlugin):
    """Takes a config for the same only if it is the same object."""

    def same_config(self, a: Config, b: Config) -> bool:
        return a is b


class FindsNoFault(ClusterPlugin):
    """Returns None where a text is to be."""

    def job_fault(self, job: Job) -> Any:
        return None


class SaysOp(ClusterPlugin):
    """Shows in a plan the op of a call that no apply will make."""

    def wording(self, target: Target, step: Step) -> tuple[Request, ...]:
        return tuple(one._replace(text=f"{one.text} as {step.marks.op}") for one in super().wording(target, step))


class TakesAnyRefusal(ClusterPlugin):
    """Not a bug of the engine, but one of the tool: a refusal of a repeated run is taken for the end of the doubt."""

    def open(self, target: Target, surroundings: Surroundings) -> AbstractContextManager[Engine]:
        calls._is_about_run_id = lambda result: result.kind in (AnswerClass.APPLIED, AnswerClass.REJECTED)
        return super().open(target, surroundings)


class TakesRefusedAbortForDone(ClusterPlugin):
    """Another bug of the tool: a refusal of a repeated abort is taken for the end of the first one."""

    def open(self, target: Target, surroundings: Surroundings) -> AbstractContextManager[Engine]:
        calls._shows_done = lambda verb, again: again.kind in (AnswerClass.APPLIED, AnswerClass.REJECTED)
        return super().open(target, surroundings)


def __getattr__(name: str) -> ClusterPlugin:
    """Return the plugin of this module whose class has the name after `plugin_of_`."""
    kind = globals().get(name.removeprefix("plugin_of_")) if name.startswith("plugin_of_") else None
    if not isinstance(kind, type):
        raise AttributeError(name)
    assert issubclass(kind, ClusterPlugin)
    return kind()


class TestRefusesConfigs(Seeded):
    plugin = "seeded_plugins:plugin_of_RefusesConfigs"
    CAUGHT_BY = ("test_the_schemas_are_sound_and_take_what_the_author_gives",)


class TestNamesAnother(Seeded):
    plugin = "seeded_plugins:plugin_of_NamesAnother"
    CAUGHT_BY = ("test_a_target_names_its_engine_and_equals_itself",)


class TestComparesObjects(Seeded):
    plugin = "seeded_plugins:plugin_of_ComparesObjects"
    CAUGHT_BY = ("test_a_config_is_the_same_as_itself",)


class TestFindsNoFault(Seeded):
    plugin = "seeded_plugins:plugin_of_FindsNoFault"
    CAUGHT_BY = ("test_each_value_of_the_plugin_has_the_type_of_the_port",)


class TestSaysOp(Seeded):
    plugin = "seeded_plugins:plugin_of_SaysOp"
    CAUGHT_BY = ("test_the_wording_is_pure_and_holds_neither_op_nor_commit[run]",)


class TestApplyThatTakesAnyRefusal(Seeded):
    plugin = "seeded_plugins:plugin_of_TakesAnyRefusal"
    CAUGHT_BY = (
        "test_a_run_whose_answer_was_lost_stays_in_doubt_while_what_follows_is_refused[credentials]",
        "test_a_run_whose_answer_was_lost_stays_in_doubt_while_what_follows_is_refused[one call]",
    )


class TestApplyThatTakesARefusedAbortForDone(Seeded):
    plugin = "seeded_plugins:plugin_of_TakesRefusedAbortForDone"
    CAUGHT_BY = ("test_an_abort_whose_answer_was_lost_stays_in_doubt_while_what_follows_is_refused",)

    @pytest.fixture
    def service(self, tmp_path: Path) -> ClusterService:
        service = SeededService(tmp_path, ATOMIC._replace(reads=False))
        service.reads = False
        return service
