"""An engine of another package raises, or returns, what its port does not permit, and the real program goes on soundly.

Each message names the engine and its package. A call that the engine failed in is in doubt, and no state is written
that can't be read again.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import adverse_plugin
from cluster_project import ClusterProject
from cluster_world import CREATED
from project import Run
from reconciler.engines.port import Promises
from reconciler.engines.sandbox.cluster import Cluster

BLAME = "the engine adverse (package adverse-plugin 2.1) failed: "
REPORT = "; report it to that package"
PLAIN = Promises(False, False, reads=True, lists=True, keeps_ended_s=math.inf, has_logs=False)


class AdverseProject(ClusterProject):
    """A folder whose manifest names the adverse engine."""

    @property
    def target(self) -> str:
        return super().target.replace("engine: cluster", "engine: adverse")

    def run_with(self, adverse: str, *arguments: str) -> Run:
        return self.run(*arguments, ADVERSE=adverse)

    def runs(self) -> list[str]:
        return [run.run_id for run in self.cluster.runs("a")]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[AdverseProject]:
    with closing(Cluster(time.time, path=str(tmp_path / "cluster.db"))) as cluster:
        yield AdverseProject(tmp_path, cluster, CREATED, {"cluster": "one"})


@pytest.fixture(autouse=True)
def fleet(project: AdverseProject) -> None:
    """A job of which nothing is recorded yet."""
    adverse_plugin.install(project.folder / ".packages")
    project.cluster.create("a")
    project.write("a: {state: running, config: {text: A}}")


OF_THE_PLUGIN = ["target_schema", "config_schema", "target", "target_faults", "job_fault", "wording", "promises"]
OF_THE_ENGINE = ["promises", "identity", "observe", "stage"]
EVERY = [
    *OF_THE_PLUGIN,
    "secrets",
    "open",
    "warnings",
    *(f"engine.{one}" for one in OF_THE_ENGINE),
]


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("raised", ["KeyError", "SystemExit"])
def test_whatever_a_method_raises_before_a_call_ends_the_apply_with_the_name_of_the_package(
    project: AdverseProject, method: str, raised: str
) -> None:
    run = project.run_with(f"{method}={raised}", "apply", "--yes")
    assert run.code == 1, run
    told = {"KeyError": "KeyError: 'boom'", "SystemExit": "SystemExit: 0"}[raised]
    assert f"{BLAME}{told} in {method.rpartition('.')[2]}{REPORT}" in run.err, run
    assert "reconciler itself failed" not in run.err + run.out
    assert project.runs() == []
    assert project.run("apply", "--yes").code == 0
    assert len(project.runs()) == 1


@pytest.mark.parametrize("method", ["engine.observe_many", "engine.observe_all"])
def test_a_read_that_raises_ends_the_command_that_reads(project: AdverseProject, method: str) -> None:
    words = {"engine.observe_many": ["plan", "--refresh"], "engine.observe_all": ["import", "--all"]}[method]
    run = project.run_with(f"{method}=SystemExit", *words)
    assert run.code == 1, run
    assert f"{BLAME}SystemExit: 0 in {method.rpartition('.')[2]}{REPORT}" in run.err


def test_same_config_that_raises_names_the_package(project: AdverseProject) -> None:
    assert project.run("apply", "--yes").code == 0
    project.write("a: {state: running, config: {text: B}}")
    run = project.run_with("same_config=KeyError", "plan")
    assert (run.code, f"{BLAME}KeyError: 'boom' in same_config" in run.err) == (1, True), run


@pytest.mark.parametrize(
    ("method", "value", "told"),
    [
        ("engine.identity", "numbers", "identity returned an identity that has a value that is 77, and no text"),
        ("engine.identity", "number-key", "identity returned an identity that has a key that is 7, and no text"),
        ("engine.stage", "number", "stage returned a handle that is 5, and no text"),
        ("engine.promises", "nothing", "promises returned None where promises are to be"),
        ("promises", "text", "promises returned 'abc' where promises are to be"),
        ("same_config", "nothing", "same_config returned None where True or False is to be"),
        ("wording", "body-not-a-number", "wording returned a request whose body is no JSON: nan is no number of JSON"),
        ("job_fault", "number", "job_fault returned a value that is 5, and no text"),
        ("target", "target-of-other", "target returned a target whose engine is 'other', and not adverse"),
        ("target_schema", "number", "target_schema returned a int where a schema is to be"),
    ],
)
def test_a_value_that_the_port_does_not_permit_is_refused_before_any_intent(
    project: AdverseProject, method: str, value: str, told: str
) -> None:
    if method == "same_config":
        assert project.run("apply", "--yes").code == 0
        project.write("a: {state: running, config: {text: B}}")
    before = project.runs()
    run = project.run_with(f"{method}={value}", "apply", "--yes")
    assert (run.code, f"{BLAME}{told}{REPORT}" in run.err) == (1, True), run
    assert project.runs() == before
    assert project.run("apply", "--yes").code == 0


@pytest.mark.parametrize(
    "value",
    [
        "nothing",
        "submitted-number",
        "ref-number",
        "run-id-number",
        "word-number",
        "times-numbers",
        "execution-number",
        "execution-node-number",
        "execution-pid-true",
        "execution-endless",
        "marks-tuple",
        "status-text",
        "status-derived",
        "not-a-number",
        "config-object",
        "huge-number",
        "huge-run-id",
    ],
)
def test_an_observation_that_the_port_does_not_permit_is_an_unreadable_job(project: AdverseProject, value: str) -> None:
    run = project.run_with(f"engine.observe={value}", "apply", "--yes")
    assert run.code in (1, 3, 4), run
    assert f"{BLAME}observe returned " in run.err + run.out, run
    assert project.runs() == []
    assert project.run("plan").code == 0
    assert project.run("apply", "--yes").code == 0
    assert project.state["jobs"]["a"].get("run") == 1


@pytest.mark.parametrize("words", [("plan", "--refresh"), ("drift",), ("status",)])
def test_what_is_read_never_makes_a_view_that_is_no_json(project: AdverseProject, words: tuple[str, ...]) -> None:
    assert project.run("apply", "--yes").code == 0
    project.write("a: {state: running, runToken: t, config: {text: A}}")
    run = project.run_with("engine.observe_many=empty,engine.observe=not-a-number", *words, "--format", "json")
    assert json.loads(run.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_a_job_that_observe_many_leaves_out_is_unreadable(project: AdverseProject) -> None:
    run = project.run_with("engine.observe_many=empty", "apply", "--yes")
    assert (run.code, f"{BLAME}observe_many left the job out{REPORT}" in run.out) == (3, True), run
    assert project.runs() == []
    assert project.run("apply", "--yes").code == 0
    assert len(project.runs()) == 1


@pytest.mark.parametrize(
    "adverse",
    [
        "engine.send=KeyError",
        "engine.send=SystemExit",
        "engine.send=EngineError",
        "engine.send=nothing",
        "engine.send=result-kind-text",
        "engine.send=result-reason-none",
        "engine.send=result-long-code",
        "after=KeyError",
        "after=result-ref-number",
    ],
)
def test_a_call_that_the_engine_fails_in_is_in_doubt_and_the_line_says_how_to_settle_it(
    project: AdverseProject, adverse: str
) -> None:
    project.promises = PLAIN
    run = project.run_with(adverse, "apply", "--yes")
    ran = len(project.cluster.runs("a"))
    if adverse.startswith("after"):  # an observation shows that the call was carried out
        assert (run.code, ran) == (0, 1), run
        return
    assert run.code == 5, run
    assert "in doubt" in run.out, run
    assert "reconciler resolve a" in run.out + run.err, run
    assert f"{BLAME}" in run.out + run.err, run
    assert "inDoubt" in project.state["jobs"]["a"]
    again = project.run("apply", "--yes", "--settle", "0.1")
    assert (again.code, len(project.cluster.runs("a"))) == (0, 1), again


def test_after_a_call_in_which_the_engine_failed_no_other_call_is_sent(project: AdverseProject) -> None:
    project.promises = PLAIN
    jobs = [f"job-{number}" for number in range(30)]
    for job in jobs:
        project.cluster.create(job)
    project.write("\n".join(f"{job}: {{state: running}}" for job in jobs))
    run = project.run_with("engine.send=KeyError", "apply", "--yes", "--parallelism", "1", "--format", "json")
    assert run.code == 5, run
    doubtful = [name for name, record in project.state["jobs"].items() if "inDoubt" in record]
    assert len(doubtful) == 1
    again = project.run("apply", "--yes", "--settle", "0.1")
    assert (again.code, [len(project.cluster.runs(job)) for job in jobs]) == (0, [1] * 30), again


def test_an_engine_that_fails_on_closing_leaves_a_remark_and_the_exit_code(project: AdverseProject) -> None:
    run = project.run_with("engine.close=SystemExit", "apply", "--yes")
    assert run.code == 0, run
    assert f"warning: {BLAME}SystemExit: 0 in close{REPORT}" in run.err


def test_a_credential_in_what_an_engine_raises_is_not_shown(project: AdverseProject) -> None:
    run = project.run_with("engine.observe=secret", "apply", "--yes")
    assert run.code == 1
    assert "canary-4f1d" not in run.out + run.err
    assert "ValueError: the token [redacted] was refused in observe" in run.err
    project.run_with("engine.send=secret", "apply", "--yes")
    kept = b"".join(path.read_bytes() for path in project.folder.glob("jobs.*"))
    assert b"canary-4f1d" not in kept


def test_the_errors_of_the_port_stay_as_they_are(project: AdverseProject) -> None:
    run = project.run_with("engine.observe=EngineError", "apply", "--yes")
    assert (run.code, "error: the cluster is away" in run.err) == (1, True), run
    odd = project.run_with("engine.observe=odd-error", "apply", "--yes")
    assert (odd.code, f"{BLAME}EngineError: 5 in observe" in odd.err) == (1, True), odd


def test_a_fault_of_a_target_that_names_no_field_stands_at_the_target(project: AdverseProject) -> None:
    run = project.run_with("target_faults=fault-of-no-field", "validate")
    assert (run.code, "the nope is odd" in run.out) == (1, True), run
    assert "jobs.yaml:2:" in run.out


def test_a_list_with_ids_that_are_no_text_names_the_package(project: AdverseProject) -> None:
    run = project.run_with("engine.observe_all=listed-number", "import", "--all")
    assert (run.code, f"{BLAME}observe_all returned a job whose id is 5, and no text" in run.err) == (1, True), run
