"""The part of the contract of an engine about what its plugin says without a connection."""

import json

import pytest
from jsonschema import Draft202012Validator

from reconciler.engines import answers
from reconciler.engines.port import EnginePlugin, Request, Verb
from reconciler.testing.engine_base import EngineUnderTest
from reconciler.testing.services import Service, job, step, target_of

LONGEST_TEXT = 20_000
"""The number of characters that a text for people may have."""


class PluginContract(EngineUnderTest):
    """What plans and manifests rest on: schemas, targets, and the words of a step."""

    def test_the_schemas_are_sound_and_take_what_the_author_gives(
        self, engine_plugin: EnginePlugin, service: Service
    ) -> None:
        for schema in (engine_plugin.target_schema, engine_plugin.config_schema):
            Draft202012Validator.check_schema(schema)
        assert json.loads(json.dumps(service.block, allow_nan=False)) == service.block, "a manifest holds JSON values"
        fields = {name: value for name, value in service.block.items() if name != "engine"}
        Draft202012Validator(engine_plugin.target_schema).validate(fields)
        for fails in (False, True):
            Draft202012Validator(engine_plugin.config_schema).validate(dict(service.config(fails=fails)))
        assert list(engine_plugin.target_faults(service.block)) == []

    def test_a_target_names_its_engine_and_equals_itself(self, engine_plugin: EnginePlugin, service: Service) -> None:
        first, second = target_of(engine_plugin, service.block), target_of(engine_plugin, service.block)
        assert first == second
        assert first.engine == engine_plugin.name == service.block["engine"]

    def test_a_config_is_the_same_as_itself(self, engine_plugin: EnginePlugin, service: Service) -> None:
        config = service.config()
        assert engine_plugin.same_config(config, json.loads(json.dumps(dict(config))))

    def test_each_value_of_the_plugin_has_the_type_of_the_port(
        self, engine_plugin: EnginePlugin, service: Service
    ) -> None:
        target, config = target_of(engine_plugin, service.block), service.config()
        answers.target(target, engine_plugin.name)
        answers.promises(engine_plugin.promises(target))
        answers.truth(engine_plugin.same_config(config, config))
        answers.truth(engine_plugin.is_on_this_machine(target))
        answers.text(engine_plugin.job_fault(job("nightly", config)))
        for text in (
            *engine_plugin.warnings(target, [job("nightly", config)]),
            *engine_plugin.secrets(service.environment),
        ):
            answers.text(text)
        for request in engine_plugin.wording(target, step(Verb.RUN, "nightly", config=config)):
            answers.request(request)

    @pytest.mark.parametrize("verb", list(Verb))
    def test_the_wording_is_pure_and_holds_neither_op_nor_commit(
        self, engine_plugin: EnginePlugin, service: Service, verb: Verb
    ) -> None:
        target, config = target_of(engine_plugin, service.block), service.config()
        wanted = step(verb, "nightly", config=config, op="op-of-a-plan", commit="c0ffee")
        other = step(verb, "nightly", config=config, op="op-of-an-apply", commit="f00d")
        words = engine_plugin.wording(target, wanted)
        assert words
        assert words == engine_plugin.wording(target, wanted) == engine_plugin.wording(target, other)
        for request in words:
            is_printable(request)
            addressed = engine_plugin.addressed(target, request)
            is_printable(addressed)
            assert (addressed.verb, addressed.body) == (request.verb, request.body)


def is_printable(request: Request) -> None:
    """Fail unless a plan can show a request."""
    assert json.loads(json.dumps(request.body)) == request.body
    assert request.text
    is_bounded(request.text)


def is_bounded(text: str) -> None:
    """Fail if a text is too long for people."""
    assert len(text) <= LONGEST_TEXT, "a text for people has a bounded length"
