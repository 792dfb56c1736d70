"""What the plugin of Slurm says of targets and configs without a connection."""

import json
from typing import Any

import pytest

from reconciler.engines.port import Config, Job, Step, Target, Verb
from reconciler.engines.slurm.plugin import PLUGIN, settings_of
from reconciler.engines.slurm.settings import Ssh
from reconciler.manifest.parse import parse
from reconciler.model.errors import ManifestError
from reconciler.model.jobs import Desired
from reconciler.usecases.engines import plugin_named

MANIFEST = """\
apiVersion: reconciler/v1
target: {engine: slurm, %s}
jobs:
  train:
    state: running
    config: %s
"""


def job(**config: Any) -> Job:
    return Job("train", "train", Desired.RUNNING, config)


def job_fault(**config: Any) -> str:
    return PLUGIN.job_fault(job(**{"command": ["x"], **config}))


def script_fault(line: str) -> str:
    return PLUGIN.job_fault(job(script=f"#!/bin/sh\n{line}\necho\n"))


def faults(config: str, target: str = "") -> str:
    """Return what is wrong with a manifest of one job, each fault in a line."""
    try:
        parse([("jobs.yaml", (MANIFEST % (target, config)).encode())], plugin_named)
    except ManifestError as error:
        return "\n".join(map(str, error.diagnostics))
    return ""


def target(**block: Any) -> Target:
    return PLUGIN.target(block, "/srv")


def test_a_target_without_fields_is_the_cluster_of_this_machine() -> None:
    assert str(target()) == "slurm at localhost"
    assert (settings_of(target()).ssh, settings_of(target()).conf, settings_of(target()).folder) == (None, "", "/srv")


def test_two_clusters_are_two_targets_and_a_key_makes_no_other_one() -> None:
    login = target(ssh="me@login", cluster="a")
    assert login.address == "me@login/a"
    assert login == target(ssh={"host": "login", "user": "me", "identity": "key"}, cluster="a")
    assert login != target(ssh="me@login", cluster="b")
    assert login != target(ssh={"host": "login", "user": "me", "port": 2222}, cluster="a")
    assert target(cluster="a") != target(cluster="b")


def test_files_of_ssh_are_beside_the_manifest_and_the_conf_is_where_the_commands_are() -> None:
    ssh = {"host": "login", "identity": "keys/id", "config": "/etc/ssh/mine"}
    settings = settings_of(target(ssh=ssh, conf="etc/slurm.conf"))
    assert settings.ssh == Ssh("login", "", 0, "/srv/keys/id", "/etc/ssh/mine")
    assert settings.conf == "etc/slurm.conf"
    assert settings_of(target(conf="etc/slurm.conf")).conf == "/srv/etc/slurm.conf"


@pytest.mark.parametrize("host", ["-oProxyCommand=id", "", "a b", "me@-login"])
def test_a_host_can_t_be_an_option_of_ssh(host: str) -> None:
    assert "expected a host" in faults("{command: [x]}", f"ssh: {json.dumps(host)}") or host == ""
    assert faults("{command: [x]}", f"ssh: {json.dumps(host)}") != ""
    assert faults("{command: [x]}", f"ssh: {{host: {json.dumps(host)}}}") != ""


def test_slurm_keeps_runs_for_as_long_as_the_target_says() -> None:
    assert PLUGIN.promises(target()).keeps_ended_s == 300
    assert PLUGIN.promises(target(forgets=86400)).keeps_ended_s == 86400


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{command: [x], partion: gpu}", 'unknown field "partion"; did you mean "partition"?'),
        ("{command: [x], nodes: 2-}", "nodes: expected a number, or text such as 2-4"),
        ("{command: [x], nodes: 0}", "nodes: expected 1 or more, found 0"),
        ("{command: [x], memory: 4GB}", "memory: expected text such as 512MiB or 4GiB"),
        ("{command: [x], gpu: a100}", "gpu: expected a number, or text such as a100:2"),
        ("{command: [x], array: a-b}", "array: expected indexes such as 0-9"),
        ("{command: [x], native: {C: a100}}", "expected the long name of an option of sbatch"),
        ("{command: [x], native: {signal: [a]}}", "signal: expected text, a number, true or false"),
        ("{command: [x], env: {A: 1}}", "A: expected text or {secret: NAME}"),
        ("{command: [x], resources: {cpu: 0.5}}", "cpu: expected a whole number, found 0.5"),
        ("{command: [x], array: 0-9, tasks: '3'}", "tasks: expected indexes and a runToken"),
        ("{command: [x], tasks: 3 of a}", "config.tasks are some of an array, and the config has no `array`"),
        ("{command: [x], retry: {times: 2}}", 'unknown field "retry"'),
    ],
)
def test_what_a_config_may_not_say_is_refused_at_its_place(config: str, message: str) -> None:
    assert message in faults(config)


@pytest.mark.parametrize(
    "config",
    [
        "{command: [x], nodes: 2-4, array: '0-99:10%4', gpu: 1, memory: 1048576}",
        "{command: [x], nodes: 1, array: 3, gpu: 'a100:2', native: {exclusive: true, nice: 5, signal: 'B:USR1@60'}}",
        "{script: 'echo', array: '1,3,5-9', onDisruption: continue, env: {A: x, B: {secret: a/b}}}",
    ],
)
def test_what_people_write_is_taken(config: str) -> None:
    assert faults(config) == ""


def test_a_job_needs_something_to_execute_and_not_two_things() -> None:
    assert "needs a config with" in PLUGIN.job_fault(job())
    assert PLUGIN.job_fault(job()._replace(state=Desired.ABSENT)) == ""
    assert "not two" in job_fault(script="x")
    assert "no program" in job_fault(command=[""])
    assert job_fault() == ""


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("job-name", "each run has its own"),
        ("comm", "each run has its own"),
        ("hold", "released"),
        ("requeue", "onDisruption: continue"),
        ("time", "`jobTimeout`"),
        ("partition", "`partition`"),
        ("part", "`partition`"),
        ("wait", "would not return"),
        ("test-only", "nothing would be submitted"),
        ("clusters", "a target of its own"),
        ("uid", "the user who applies"),
    ],
)
def test_native_can_t_say_what_is_reconciler_s_own(name: str, advice: str) -> None:
    found = job_fault(native={name: True})
    assert found.startswith(f"config.native.{name} ")
    assert advice in found


@pytest.mark.parametrize("name", ["time-min", "mem-per-cpu", "wait-all-nodes", "exclusive", "gres", "nodelist"])
def test_native_takes_the_other_options(name: str) -> None:
    assert job_fault(native={name: "1"}) == ""


@pytest.mark.parametrize("word", ["gpu", "resources"])
def test_gres_and_gpu_are_one_option(word: str) -> None:
    found = job_fault(native={"gres": "shard:1"}, **{word: 1 if word == "gpu" else {"gpu": 1}})
    assert found.startswith("config.native.gres and `gpu` are one option")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("#SBATCH --wait", "config.script: line 2: --wait can't be used: sbatch would not return"),
        ("#SBATCH -n1 -W", "config.script: line 2: --wait can't be used"),
        ("#SBATCH --test-only", "--test-only can't be used"),
        ("#SBATCH -M other", "--clusters can't be used"),
        ("#SBATCH hetjob", "heterogeneous"),
        ("#SBATCH -N1\r", "CR LF"),
    ],
)
def test_a_script_can_t_ask_for_what_breaks_a_run(line: str, message: str) -> None:
    assert message in script_fault(line)


@pytest.mark.parametrize("line", ["#SBATCH --parsable", "#SBATCH --mem=1G", "# SBATCH --wait", "#SBATCH --time-min=5"])
def test_a_script_may_ask_for_the_rest(line: str) -> None:
    assert script_fault(line) == ""


def test_two_words_for_one_thing_are_refused() -> None:
    assert (
        job_fault(cpus=2, resources={"cpu": 2})
        == "config.cpus and config.resources.cpu mean the same: leave out one of them"
    )


@pytest.mark.parametrize("name", ["SBATCH_PARTITION", "SLURM_CONF"])
def test_a_variable_of_slurm_is_no_variable_of_a_job(name: str) -> None:
    assert job_fault(env={name: "x"}) == f"config.env.{name}: the variables of Slurm are set by Slurm itself"


def test_text_that_is_no_text_is_refused() -> None:
    assert "surrogate" in job_fault(env={"A": "\ud800"})
    assert "surrogate" in job_fault(workdir="\udfff")


def test_a_variable_that_no_program_can_have_is_refused() -> None:
    assert job_fault(env={"A": "a" * 131_069}) == ""
    long = {"A": "a" * 131_070}
    assert job_fault(env=long).startswith("config.env.A is longer than the 131,071 bytes")
    # A script may use the variable by itself, and a job that is not to run gives it to nobody.
    assert PLUGIN.job_fault(job(script="#!/bin/sh\necho ${#A}\n", env=long)) == ""
    for state in (Desired.ABORTED, Desired.ABSENT):
        assert PLUGIN.job_fault(job(command=["x"], env=long)._replace(state=state)) == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"cpus": 2}, {"resources": {"cpu": 2}}),
        ({"memory": "1GiB"}, {"memory": 1 << 30}),
        ({"jobTimeout": 61}, {"jobTimeout": 120}),
        ({}, {"onDisruption": "fail", "env": {}, "gpu": 0, "native": {}}),
        ({"nodes": 2}, {"nodes": "2"}),
        ({"array": 5}, {"array": "5"}),
        ({"native": {"exclusive": False}}, {}),
        ({}, {"workdir": "."}),
        ({"array": "0-9"}, {"array": "0-9", "tasks": "3 of 2026-11-28"}),
    ],
)
def test_configs_that_submit_the_same_job_are_the_same(one: Config, other: Config) -> None:
    assert PLUGIN.same_config({"command": ["x"], **one}, {"command": ["x"], **other})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"cpus": 2}, {"cpus": 3}),
        ({"jobTimeout": 60}, {"jobTimeout": 61}),
        ({"native": {"nice": 1}}, {"native": {"nice": True}}),
        ({"env": {"A": "1"}}, {"env": {"A": "2"}}),
        ({}, {"onDisruption": "continue"}),
    ],
)
def test_configs_that_submit_other_jobs_differ(one: Config, other: Config) -> None:
    assert not PLUGIN.same_config({"command": ["x"], **one}, {"command": ["x"], **other})


def test_the_folder_that_a_script_names_is_not_the_default() -> None:
    script = "#!/bin/sh\n#SBATCH -D /data\necho\n"
    assert not PLUGIN.same_config({"script": script}, {"script": script, "workdir": "."})


def test_a_plan_says_which_lines_of_a_script_never_count() -> None:
    script = "#!/bin/sh\n#SBATCH --requeue -J mine\n#PBS -l nodes=1\n#SBATCH -H\necho\n"
    assert list(PLUGIN.warnings(target(), [job(script=script)])) == [
        "train: line 2 of the script does not count (--requeue): write `onDisruption: continue`",
        "train: line 2 of the script does not count (--job-name): the name of the job is the run id",
        "train: line 4 of the script does not count (--hold): each run is submitted held, and then released",
        "train: line 3 of the script does not count (of another batch system): write such lines as #SBATCH",
    ]
    continued = job(script="#!/bin/sh\n#SBATCH --requeue\necho\n", onDisruption="continue")
    assert list(PLUGIN.warnings(target(), [continued])) == []


def test_a_plan_says_which_run_is_of_some_tasks_alone() -> None:
    limited = job(command=["x"], array="0-9", tasks="3,7 of 2026-11-28")
    assert list(PLUGIN.warnings(target(), [limited._replace(run_token="2026-11-28")])) == [
        "train: this run takes the tasks 3,7 of its array alone"
    ]
    assert list(PLUGIN.warnings(target(), [limited, limited._replace(run_token="2026-11-29")])) == []


def test_a_plan_says_whose_secrets_are_nowhere() -> None:
    asking = job(command=["x"], env={"TOKEN": {"secret": "token"}})
    (warning,) = PLUGIN.warnings(target(), [asking])
    assert warning.startswith(
        "train: config.env.TOKEN: no folder of secrets is known: name the one on the cluster with "
    )
    assert list(PLUGIN.warnings(target(secrets="~/secrets"), [asking])) == []


@pytest.mark.parametrize(
    ("block", "place"),
    [
        ({}, "to the cluster of this machine"),
        ({"cluster": "a"}, "to the cluster a"),
        ({"ssh": "me@login"}, "to the cluster through me@login"),
        ({"ssh": "login", "cluster": "a"}, "to the cluster a through login"),
    ],
)
def test_a_request_is_worded_with_its_place(block: dict[str, Any], place: str) -> None:
    (run,) = PLUGIN.wording(target(), Step(Verb.RUN, "train", "train-1", {"command": ["x"]}))
    assert (run.text, run.body) == ("submit train-1", {"command": ["x"]})
    assert PLUGIN.addressed(target(**block), run).text == f"submit train-1 {place}"
