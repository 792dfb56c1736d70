"""Configs: when two are the same, and how they differ."""

from operator import eq

from decisions import CONFIG, RUNNING, decided, job
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.model.jobs import NOT_OBSERVED, Desired, Job, Observation, Record, Status
from reconciler.model.plan import ActionKind, Change
from reconciler.rules.configs import agrees, config_changes
from reconciler.rules.decide import decide
from reconciler.rules.drift import compare
from reconciler.rules.matching import Subject
from reconciler.rules.table import Kind


def test_a_boolean_left_out_is_false_so_it_is_no_change() -> None:
    assert PLUGIN.same_config({"isTestJob": False}, {})
    assert decided(job(config={**CONFIG, "isTestJob": False}), RUNNING).kind == "noop"


def test_a_field_left_out_by_the_service_is_at_its_default() -> None:
    assert agrees({"isTestJob": False}, {}, PLUGIN.same_config)
    assert not agrees({"taskTimeout": 5}, {}, PLUGIN.same_config)
    assert agrees({"taskTimeout": 5}, None, PLUGIN.same_config)


def test_config_changes_name_each_field_once_sorted() -> None:
    assert config_changes(
        {"taskTimeout": 1, "jobTimeout": 2}, {"jobTimeout": 3, "isTestJob": True}, PLUGIN.same_config
    ) == (
        Change("config.isTestJob", None, True),
        Change("config.jobTimeout", 2, 3),
        Change("config.taskTimeout", 1, None),
    )


def test_whether_a_field_that_is_left_out_means_its_default_is_for_the_engine_to_say() -> None:
    job = Job("a", "a", Desired.RUNNING, {"isTestJob": False})
    record = Record("a", Desired.RUNNING, {})
    assert decide(Subject(job, record, PLUGIN.same_config), NOT_OBSERVED).kind is ActionKind.NOOP
    assert decide(Subject(job, record, eq), NOT_OBSERVED).kind is ActionKind.RESTART
    active = Observation(Status.ACTIVE, "JOB_STATE_RUNNING", {})
    assert compare(Subject(job, record._replace(config=job.config), PLUGIN.same_config), active).kind is Kind.SAME
    assert compare(Subject(job, record._replace(config=job.config), eq), active).kind is Kind.CONFIG
