"""Configs: when two are the same, and how they differ."""

from decisions import CONFIG, RUNNING, decided, job
from reconciler.model.plan import Change
from reconciler.rules.configs import agrees, config_changes, same_config


def test_a_boolean_left_out_is_false_so_it_is_no_change() -> None:
    assert same_config({"isTestJob": False}, {})
    assert decided(job(config={**CONFIG, "isTestJob": False}), RUNNING).kind == "noop"


def test_a_field_left_out_by_the_service_is_at_its_default() -> None:
    assert agrees({"isTestJob": False}, {})
    assert not agrees({"taskTimeout": 5}, {})
    assert agrees({"taskTimeout": 5}, None)


def test_config_changes_name_each_field_once_sorted() -> None:
    assert config_changes({"taskTimeout": 1, "jobTimeout": 2}, {"jobTimeout": 3, "isTestJob": True}) == (
        Change("config.isTestJob", None, True),
        Change("config.jobTimeout", 2, 3),
        Change("config.taskTimeout", 1, None),
    )
