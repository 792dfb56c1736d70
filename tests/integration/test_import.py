"""Jobs that the service has already are taken over: the next plan is empty, and nothing is run."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from checkout import CAMPAIGNS
from project import TOKEN, Project, Run, no_fault_in, sandbox_in
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.engines.sandbox.life import calls
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.manifest.faults import job_fault
from reconciler.model.jobs import NOT_OBSERVED, Config, Desired, Job, Observation, Record, Status
from reconciler.rules.adoption import Adopted, Candidate, LeftOut, adopt, candidates, with_empty_plan
from reconciler.rules.decide import decide
from reconciler.rules.matching import Subject

JOB_S = 100.0
NOTHING_TO_DO = "No changes: "


class Clock:
    """Time as the server sees it, in seconds since 1970; it stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Service:
    """A server, and the calls that a person makes to it."""

    def __init__(self, server: SandboxServer, clock: Clock) -> None:
        self._server = server
        self._clock = clock

    def ask(self, method: str, path: str, body: object = None) -> None:
        headers = {"Authorization": TOKEN, "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self._server.endpoint + path, content, headers, method=method), timeout=10) as answer:
            assert json.load(answer).get("ok", True)

    def create(self, name: str) -> str:
        """A draft with a name; the id is the server's."""
        headers = {"Authorization": TOKEN, "Content-Type": "application/json"}
        body = json.dumps({"name": name, "templateId": "t"}).encode()
        with urlopen(Request(f"{self._server.endpoint}/jobs", body, headers), timeout=10) as answer:
            return str(json.load(answer)["job"]["id"])

    def run(self, job_id: str, **config: int | bool) -> None:
        self.ask("POST", f"/jobs/{job_id}/run", {"config": config})

    def one_of_each(self) -> None:
        """Jobs named for what becomes of them."""
        for name in ("complete", "failed"):
            self.run(name, taskTimeout=60)
        self._clock.now_s += JOB_S
        for name in ("active", "aborted"):
            self.run(name, jobTimeout=3600, isTestJob=True)
        self.ask("POST", "/jobs/aborted/abort")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[Project, Service]]:
    clock = Clock()
    with sandbox_in(tmp_path, "run:fail:job=failed", job_seconds=JOB_S, clock=clock) as server:
        yield Project(tmp_path, server), Service(server, clock)


def sent(project: Project) -> list[str]:
    """The calls that change a job, in order."""
    return [f"{call.method} {call.path}" for call in calls(project.folder / "server.db") if call.method != "GET"]


def manifest(project: Project) -> str:
    return (project.folder / "jobs.yaml").read_text()


def test_whatever_became_of_a_job_the_next_plan_is_empty_and_nothing_is_run(service: tuple[Project, Service]) -> None:
    project, there = service
    there.one_of_each()
    before = sent(project)
    project.write("other: {state: aborted}")
    assert project.run("apply", "--yes").code == 0
    names = ["active", "complete", "failed", "aborted", "draft"]
    run = project.run("import", *[f"my-{name}={name}" for name in names])
    assert run.code == 0, run.err
    recorded = {name: project.state["jobs"][f"my-{name}"] for name in names}
    assert {name: (record["id"], record["state"], record.get("config")) for name, record in recorded.items()} == {
        "active": ("active", "running", {"jobTimeout": 3600, "isTestJob": True}),
        "complete": ("complete", "running", {"taskTimeout": 60}),
        "failed": ("failed", "running", {"taskTimeout": 60}),
        "aborted": ("aborted", "aborted", {"jobTimeout": 3600, "isTestJob": True}),
        "draft": ("draft", "aborted", None),
    }
    assert project.run("plan").out == "No changes: 6 jobs are as recorded.\n"
    assert project.run("plan", "--refresh").out.startswith("Plan: 1 failed; 5 unchanged.\n")
    assert project.run("apply", "--yes").code == 0
    assert sent(project) == before


def test_all_that_the_service_lists_comes_into_a_first_manifest(service: tuple[Project, Service]) -> None:
    project, there = service
    assert project.server is not None
    there.one_of_each()
    nightly, _, _ = there.create("  Nightly  transcode "), there.create("twin"), there.create("twin")
    before = sent(project)
    run = project.run("import", "--all", "--endpoint", project.server.endpoint)
    assert run.code == 0, run.err
    assert "Imported: 7 jobs into jobs.yaml." in run.out
    text = manifest(project)
    target = f"\ntarget:\n  engine: bytenite\n  endpoint: {project.server.endpoint}\n"
    assert text.startswith(f"apiVersion: reconciler/v1\n{target}\njobs:\n")
    assert f"\n  Nightly transcode:\n    id: {nightly}\n    state: aborted\n" in text
    assert "twin" not in text
    assert "\n  active:\n    state: running\n    config: {jobTimeout: 3600, isTestJob: true}\n" in text
    assert project.run("fmt", "--check").code == 0
    assert project.run("plan").out == "No changes: 7 jobs are as recorded.\n"
    assert project.run("plan", "--refresh").out.startswith("Plan: 1 failed; 6 unchanged.\n")
    assert sent(project) == before
    files = project.files
    again = project.run("import", "--all")
    message = "Nothing to import: the service lists no job beside those that are declared already.\n"
    assert (again.code, again.out) == (0, message)
    again = project.run("import", "active=active")
    assert (again.code, again.out) == (0, "Nothing to import: all of them are declared and recorded already.\n")
    picked = project.run("import", "--all", "--id", "x*")
    message = "Nothing to import: the service lists no job that matches, beside those that are declared already.\n"
    assert (picked.code, picked.out) == (0, message)
    assert project.files == files


@pytest.mark.parametrize(
    ("filters", "taken"),
    [
        (["--id", "a*t*"], {"active", "aborted"}),
        (["--status", "failed", "--status", "JOB_STATE_RUNNING"], {"failed", "active"}),
        (["--name", "night*"], {"nightly"}),
    ],
)
def test_filters_pick_from_all(service: tuple[Project, Service], filters: list[str], taken: set[str]) -> None:
    project, there = service
    there.one_of_each()
    there.create("nightly")
    project.write("other: {state: aborted}")
    run = project.run("import", "--all", *filters)
    assert run.code == 0, run.err
    state = project.folder / "jobs.state.json"
    assert set(project.state["jobs"] if state.exists() else ()) == taken


def test_the_files_to_commit_are_named_and_were_all_written(service: tuple[Project, Service]) -> None:
    project, there = service
    there.run("d")
    project.write("{}")
    run = project.run("import", "mine=d")
    assert run.err == "Nothing was sent. Review jobs.yaml, jobs.state.json and jobs.history.jsonl, and commit them.\n"
    for file in ("jobs.yaml", "jobs.state.json", "jobs.history.jsonl"):
        assert '"mine"' in (text := (project.folder / file).read_text()) or "  mine:" in text


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["x=1", "y=2", "x=3"], "the name x is given twice: x=1 and x=3"),
        (["x=1", "y=2", "z=1"], "the id 1 is given twice: x=1 and z=1"),
    ],
)
def test_a_name_or_an_id_that_is_given_twice_is_named(tmp_path: Path, pairs: list[str], message: str) -> None:
    run = Project(tmp_path).run("import", *pairs)
    assert (run.code, run.err.splitlines()[0]) == (64, f"error: {message}")


def test_comments_and_order_of_a_manifest_survive(service: tuple[Project, Service]) -> None:
    project, there = service
    assert project.server is not None
    there.run("b-id", taskTimeout=5)
    before = (
        "# top\napiVersion: reconciler/v1\n"
        f"target: {{endpoint: '{project.server.endpoint}', engine: bytenite}} # there\n"
        "jobs:   # all\n\n   # first\n   a: { state: 'aborted' }\n\n   # last\n   c:\n       state: aborted  # off\n"
    )
    (project.folder / "jobs.yaml").write_text(before)
    assert project.run("import", "b=b-id").code == 0
    new = "   b:\n       id: b-id\n       state: running\n       config: {taskTimeout: 5}\n"
    assert manifest(project) == before.replace("\n   # last", f"\n{new}\n   # last").replace("}\n\n   b", "}\n\n   b")


def test_a_dry_run_shows_what_it_would_write_and_writes_nothing(service: tuple[Project, Service]) -> None:
    project, there = service
    there.one_of_each()
    project.write("other: {state: aborted}")
    before = project.files
    run = project.run("import", "--all", "--id", "active", "--dry-run")
    assert run.code == 0
    assert "+  active: {state: running, config: {jobTimeout: 3600, isTestJob: true}}" in run.out
    assert "To import: 1 job into jobs.yaml." in run.out
    assert project.files == before


def test_a_default_that_the_job_lacks_leaves_it_out_and_a_flag_is_unset(service: tuple[Project, Service]) -> None:
    project, there = service
    there.run("plain")
    there.run("full", taskTimeout=60, jobTimeout=5000)
    before = sent(project)
    project.write("other: {state: aborted}", more="defaults: {config: {taskTimeout: 600, isTestJob: true}}")
    run = project.run("import", "--all")
    assert run.code == 4
    assert "left out plain: the manifest's defaults ask for another config" in run.err
    assert "config.taskTimeout – → 600" in run.err
    assert "full: {state: running, config: {taskTimeout: 60, jobTimeout: 5000, isTestJob: false}}" in manifest(project)
    assert "plain" not in manifest(project)
    assert set(project.state["jobs"]) == {"full"}
    assert project.run("plan", "--refresh", "--exclude", "other").out.startswith(NOTHING_TO_DO)
    assert sent(project) == before


def test_what_is_not_there_is_left_out_and_the_others_are_taken(tmp_path: Path) -> None:
    with SandboxServer(tmp_path / "server.db", access_token=TOKEN, job_seconds=JOB_S) as server:
        project, there = Project(tmp_path, server), Service(server, Clock())
        real = there.create("real")
        run = project.run("import", f"real={real}", "ghost=no-such-id", "--endpoint", server.endpoint)
        assert run.code == 4
        assert "left out ghost (no-such-id): the service has no such job" in run.err
        assert set(project.state["jobs"]) == {"real"}


def test_a_service_without_reads_gives_nothing_to_take_over(tmp_path: Path) -> None:
    with SandboxServer(tmp_path / "server.db", access_token=TOKEN, create_missing=True, reads=False) as server:
        project = Project(tmp_path, server)
        run = project.run("import", "a=a", "--endpoint", server.endpoint)
        assert run.code == 4
        assert "the service offers no reads" in run.err
        assert "jobs.yaml" not in project.files


def test_a_folder_of_several_files_gets_one_of_its_own(service: tuple[Project, Service]) -> None:
    project, there = service
    there.run("x")
    (project.folder / "jobs").mkdir()
    project.write("a: {state: aborted}", name="jobs/a.yaml")
    (project.folder / "jobs" / "b.yaml").write_text("apiVersion: reconciler/v1\njobs: {b: {state: aborted}}\n")
    assert project.run("import", "x=x").code == 0
    imported = (project.folder / "jobs" / "imported.yaml").read_text()
    assert imported == "apiVersion: reconciler/v1\njobs:\n  x:\n    state: running\n"
    assert project.run("plan", "--exclude", "[ab]").out.startswith(NOTHING_TO_DO)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--dry-run"], 64, "Say which jobs, or give --all."),
        (["--all", "a=b"], 64, "--all takes every job: give no NAME=ID with it"),
        (["a=b", "a=c"], 64, "given twice"),
        (["a=c", "b=c"], 64, "given twice"),
        (["a=b", "--id", "x", "--name", "y"], 64, "--id and --name pick from all jobs of the service: give --all too"),
        (["other=x"], 4, "another job of this name is declared, with the id other"),
        (["x=other"], 4, "the manifest has it already, as other"),
        (["a=.."], 64, "a=..: id: expected 1 to 128 letters"),
        (["x=../y"], 64, "x=../y: id: expected 1 to 128 letters"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_written(
    service: tuple[Project, Service], arguments: list[str], code: int, message: str
) -> None:
    project, _ = service
    project.write("other: {state: aborted}")
    before = project.files
    run = project.run("import", *arguments)
    assert run.code == code, run.err
    assert message in run.err
    assert {name: content for name, content in project.files.items() if ".lock" not in name} == before


@pytest.mark.parametrize("path", [(), ("jbos.yaml",), ("empty",)], ids=["none", "mistyped", "empty folder"])
def test_a_path_that_is_not_there_is_no_new_manifest_unless_the_service_is_known(
    service: tuple[Project, Service], path: tuple[str, ...]
) -> None:
    project, there = service
    assert project.server is not None
    there.run("a")
    (project.folder / "empty").mkdir()
    before = project.files
    run = project.run("import", "a=a", *path)
    assert run.code == 1
    assert "nothing says which service a new manifest would be for" in run.err
    assert "--endpoint URL" in run.err
    assert project.files == before
    assert project.run("import", "a=a", *path, "--endpoint", project.server.endpoint).code == 0


def test_a_new_file_beside_others_is_for_their_service(service: tuple[Project, Service]) -> None:
    project, there = service
    there.run("a")
    project.write("other: {state: aborted}")
    assert project.run("import", "a=a", "new.yaml", "jobs.yaml", "--state", "jobs.state.json").code == 0
    assert (project.folder / "new.yaml").read_text() == "apiVersion: reconciler/v1\njobs:\n  a:\n    state: running\n"


def test_an_import_killed_anywhere_leaves_no_entry_without_its_record() -> None:
    """Before each fourth of some 50 calls; `make crash` takes all."""
    no_fault_in(CAMPAIGNS.joinpath("import_crash.py"), "--every", "4")


BEGAN = "2026-01-01T00:00:00Z"
ACTIVE = Observation(Status.ACTIVE, "JOB_STATE_RUNNING", {"taskTimeout": 5}, BEGAN)
STATES = [
    (Status.ACTIVE, "running"),
    (Status.COMPLETE, "running"),
    (Status.FAILED, "running"),
    (Status.ABORTED, "aborted"),
    (Status.DRAFT, "aborted"),
]


@pytest.mark.parametrize(("status", "state"), STATES)
@pytest.mark.parametrize("service_config", [None, {}, {"taskTimeout": 5, "jobTimeout": 0, "isTestJob": False}])
@pytest.mark.parametrize("began", [None, BEGAN])
def test_the_decision_table_has_nothing_to_do_for_a_job_that_was_taken_over(
    status: Status, state: str, service_config: Config | None, began: str | None
) -> None:
    observed = Observation(status, "A_WORD", service_config, began)
    [made], left = adopt([Candidate("a", "id-1", observed)], {}, {}, job_fault, PLUGIN.same_config)
    assert left == []
    assert made.fields["state"] == made.record.state == state
    job = Job("a", "id-1", Desired(state), made.fields.get("config", {}))
    assert [decide(Subject(job, made.record, PLUGIN.same_config), seen).kind for seen in (NOT_OBSERVED, observed)] == [
        "noop",
        "noop",
    ]
    assert with_empty_plan(made, job, PLUGIN.same_config) == made


def test_a_record_without_an_entry_is_kept_with_its_tokens_and_takes_the_new_name() -> None:
    old = Record("id-1", Desired.ABORTED, {"taskTimeout": 1}, frozenset({"1"}))
    [made], left = adopt([Candidate("new", "id-1", ACTIVE)], {}, {"old": old}, lambda *_: "", PLUGIN.same_config)
    assert left == []
    assert made.recorded_as == "old"
    ran = frozenset({'{"taskTimeout":5}'})
    expected = Record("id-1", Desired.RUNNING, {"taskTimeout": 5}, frozenset({"1"}), BEGAN, ran_configs=ran)
    assert made.record == expected


def test_a_job_that_is_judged_by_the_table_to_need_a_run_is_left_out() -> None:
    lost = Adopted("a", {"state": "running"}, Record("a", Desired.RUNNING), Observation(Status.DRAFT))
    judged = with_empty_plan(lost, Job("a", "a", Desired.RUNNING, {}), PLUGIN.same_config)
    assert isinstance(judged, LeftOut)
    assert "lost run" in judged.why


def test_a_name_that_would_mislead_gives_way_to_the_id() -> None:
    names = ["right", "to\u202eleft", "declared", "recorded", "x-2", "", "many", "many"]
    jobs = [(f"x-{n}", Observation(Status.ACTIVE, name=name)) for n, name in enumerate(names)]
    records = {"recorded": Record("r", Desired.RUNNING), "known": Record("x-5", Desired.RUNNING)}
    found = [made.name for made in candidates(jobs, {"declared"}, records, bool)]
    assert found == ["right", "x-1", "x-2", "x-3", "x-4", "known", "x-6", "x-7"]


def test_a_job_whose_abort_has_yet_to_show_is_taken_over_as_aborted() -> None:
    record = Record("a", Desired.ABORTED, {}, submitted_at="2026-11-21T10:00:00Z")
    ending = Observation(Status.ACTIVE, "JOB_STATE_RUNNING", {}, "2026-11-21T10:00:00.000Z")
    taken, _ = adopt([Candidate("a", "a", ending)], {}, {"a": record}, lambda name, fields: "", PLUGIN.same_config)
    assert [one.record.state for one in taken] == [Desired.ABORTED]
    later = ending._replace(submitted_at="2026-11-21T11:00:00Z")
    taken, _ = adopt([Candidate("a", "a", later)], {}, {"a": record}, lambda name, fields: "", PLUGIN.same_config)
    assert [one.record.state for one in taken] == [Desired.RUNNING]


LISTED = 250


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """A project on a server that has run 250 jobs and lists them under some faults."""
    with ExitStack() as stack:

        def served(*faults: str) -> Project:
            clock = Clock()
            server = stack.enter_context(sandbox_in(tmp_path, *faults, job_seconds=JOB_S, clock=clock))
            there = Service(server, clock)
            for number in range(LISTED):
                clock.now_s += 1
                there.run(f"job-{number:03}")
            clock.now_s += JOB_S
            return Project(tmp_path, server)

        yield served


def import_all(project: Project) -> Run:
    assert project.server is not None
    return project.run("import", "--all", "--endpoint", project.server.endpoint)


@pytest.mark.parametrize(
    "faults",
    [
        ("list:no-pagination",),
        ("list:page-cap:jobs=40",),
        ("list:page-cap:jobs=1",),
        ("list:shift:skip=1:times=1",),
        ("list:shift:skip=1:times=2",),
        ("list:shift:skip=5:times=1",),
        ("list:same-page:skip=1:times=1",),
    ],
)
def test_all_jobs_are_imported_however_the_service_lists_them(full: Callable[..., Project], faults: tuple[str]) -> None:
    """Before, a list without `pagination` ended after 100 jobs, and one that shrank lacked some, without a word."""
    run = import_all(full(*faults))
    assert (run.code, run.out) == (0, run.out), run.err
    assert "Imported: 250 jobs into jobs.yaml." in run.out
    assert "may not be whole" not in run.err


def test_a_list_that_may_not_be_whole_is_said_to_be_that(full: Callable[..., Project]) -> None:
    run = import_all(full("list:same-page"))
    assert run.code == 3
    assert "Imported: 100 jobs into jobs.yaml." in run.out
    assert "the list of jobs may not be whole: the service says that it has 250 jobs, and lists 100" in run.err
    assert "reconciler import NAME=ID" in run.err


@pytest.mark.parametrize(
    "fault", ["list:same-page", "list:shift:skip=1", "list:no-pagination", "list:page-cap:jobs=7", "list:rpc-status"]
)
def test_a_job_that_an_odd_list_lacks_is_never_missing(full: Callable[..., Project], fault: str) -> None:
    project = full(fault)
    names = [f"job-{number:03}" for number in range(100, 160)]
    project.write("\n".join(f"{name}: {{state: running}}" for name in names))
    assert project.run("apply", "--yes").code == 0
    assert project.run("drift").out == "No drift: 60 jobs are as recorded.\n"
    assert project.run("plan", "--refresh").out == "No changes: 60 jobs are as recorded.\n"
    assert "missing" not in project.run("status").out


def test_a_list_that_writes_times_in_another_way_holds_no_rerun(full: Callable[..., Project]) -> None:
    """Before, each rerun was held as "run since this was recorded"."""
    project = full("list:time-format:format=millis")
    names = [f"job-{number:03}" for number in range(30)]
    project.write("\n".join(f"{name}: {{state: running}}" for name in names))
    assert project.run("apply", "--yes").code == 0
    assert "submittedAt" in project.state["jobs"]["job-000"]
    project.write("\n".join(f'{name}: {{state: running, runToken: "2"}}' for name in names))
    run = project.run("plan", "--refresh", "--format", "json")
    assert {action["action"] for action in run.json["actions"]} == {"run"}
