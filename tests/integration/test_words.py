"""What commands say where something is amiss: in words of ours, once, and with a next step that can be taken."""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from checkout import ROOT
from clone import served_clone
from git_races import team
from project import Project, served_project
from reconciler.engines.sandbox.faults import VERBS, Kind


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "error: --plan p.json can't be read: there is no such file\n"),
        (b"", "error: --plan p.json is no saved plan: it is empty\n"),
        (b"\xff", "error: --plan p.json is no saved plan: it is not UTF-8\n"),
    ],
    ids=["missing", "empty", "binary"],
)
def test_a_saved_plan_that_is_none_is_called_what_it_is(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "p.json").write_bytes(content)
    run = Project(tmp_path).run("apply", "--plan", "p.json")
    assert (run.code, run.err) == (1, f"{message}  make one: reconciler plan --out FILE\n")


@pytest.mark.parametrize(
    ("arguments", "message", "command"),
    [
        (["nope"], "No such command 'nope'", "reconciler"),
        (["plan", "--nope"], "No such option '--nope'", "reconciler plan"),
        (["state", "show", "--verbose"], "Missing argument 'JOB'", "reconciler state show"),
        (["aply"], "No such command 'aply'. Did you mean 'reconciler apply'?", "reconciler"),
        (["imprt", "a=b"], "No such command 'imprt'. Did you mean 'reconciler import'?", "reconciler"),
        (["state", "lst"], "No such command 'lst'. Did you mean 'reconciler state list'?", "reconciler state"),
        (
            ["kill", "a"],
            "No such command 'kill'. A job is what its manifest says: to stop a job, declare",
            "reconciler",
        ),
        (["rm"], "No such command 'rm'. A job is what its manifest says: to remove a job", "reconciler"),
        (["submit"], "No such command 'submit'. A job is what its manifest says: to run a job", "reconciler"),
        (["rollback"], "No such command 'rollback'. A job is what its manifest says: to go back", "reconciler"),
        (["state", "rm", "a"], "No such command 'rm'.\n", "reconciler state"),
        (["show", "a"], "No such command 'show'. Did you mean 'reconciler state show'?", "reconciler"),
        (["plan", "--refrsh"], "No such option '--refrsh'. Did you mean '--refresh'?", "reconciler plan"),
    ],
)
def test_wrong_usage_is_an_error_like_all_others(
    tmp_path: Path, arguments: list[str], message: str, command: str
) -> None:
    run = Project(tmp_path).run(*arguments)
    assert (run.code, run.out) == (64, "")
    assert run.err.startswith(f"error: {message}")
    assert run.err.endswith(f"\n  {command} --help shows how it is used\n")


@pytest.mark.parametrize(
    ("arguments", "first", "lists", "missing"),
    [
        ([], "Usage: reconciler [OPTIONS] COMMAND [ARGS]...", "  apply       Carry out the plan.", ""),
        (["state"], "Usage: reconciler state [OPTIONS] COMMAND [ARGS]...", "  accept  ", ""),
        (["rerun"], "Usage: reconciler rerun [OPTIONS] JOB [PATH]...", "  --token TEXT", "'JOB'"),
        (["diff"], "Usage: reconciler diff [OPTIONS] REV1 REV2 [PATH]...", "  --format", "'REV1'"),
        (["state", "mv"], "Usage: reconciler state mv [OPTIONS] OLD NEW [PATH]...", "  --lock-timeout", "'OLD'"),
        (
            ["completion"],
            "Usage: reconciler completion [OPTIONS] bash|zsh|fish",
            '  To use it: eval "$(recon',
            "'bash|",
        ),
    ],
)
def test_a_command_without_the_arguments_that_it_needs_prints_its_help_and_says_what_is_missing(
    tmp_path: Path, arguments: list[str], first: str, lists: str, missing: str
) -> None:
    run = Project(tmp_path).run(*arguments)
    assert run.code == 64
    assert run.err.startswith(f"error: Missing argument {missing}") if missing else run.err == ""
    lines = run.out.splitlines()
    assert lines[0] == first
    assert any(line.startswith(lists) for line in lines)


def test_the_sandbox_says_which_faults_there_are(tmp_path: Path) -> None:
    shown = Project(tmp_path).run("sandbox", "--help").out
    kinds = [kind.value for kind in Kind if kind is not Kind.STATUS]
    keys = ["times=", "skip=", "job=", "p=", "seed=", "seconds=", "retry-after=", "location="]
    assert [word for word in (*VERBS, "any", *kinds, "after", *keys) if word not in shown.partition("Rules:")[2]] == []
    assert "`" not in shown


def test_a_port_that_is_taken_is_said_to_be(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = Project(tmp_path).run("sandbox", "--port", str(port))
    assert run.code == 1
    assert run.err == (
        f"error: can't listen on 127.0.0.1:{port}: the port is taken\n  give another --port, or 0 for a free one\n"
    )


def test_what_is_skipped_says_so_once(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:403:job=bad") as project:
        project.write("old: {state: running}")
        assert project.run("apply", "--yes").code == 0
        project.write("old: {state: absent}\nbad: {state: running}")
        run = project.run("apply", "--yes")
        assert run.code == 3
        assert "skipped             nothing is deleted once another action has failed\n" in run.out


ALL_JOBS = "`reconciler status` lists all jobs; `reconciler plan --format json` lists them without credentials"


@pytest.mark.parametrize("command", ["plan", "drift"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exclude", "a", "--exclude", "b*"], "--exclude a --exclude b* leaves no job"),
        (["--target", "x"], "--target x matches no job"),
    ],
)
def test_a_choice_that_leaves_no_job_is_an_error(
    tmp_path: Path, command: str, arguments: list[str], message: str
) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}\nb: {state: running}")
    run = project.run(command, *arguments)
    assert (run.code, run.err) == (1, f"error: {message}\n  {ALL_JOBS}\n")
    for words in re.findall("`reconciler ([^`]+)`", run.err):
        listed = project.run(*words.split())
        assert (listed.code, '"a"' in listed.out or "\na " in listed.out) == (0, True), listed.err


def test_a_rerun_of_a_job_that_is_not_declared_names_what_lists_all_jobs(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}")
    run = project.run("rerun", "x")
    assert (run.code, run.err) == (1, f"error: no job x is declared\n  {ALL_JOBS}\n")


def test_a_saved_plan_that_a_guard_refuses_says_how_it_can_be_applied(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}\nb: {state: running}", more="guards: {maxRun: 1}")
    run = project.run("plan", "--out", "plan.json")
    assert run.code == 4
    message = "Saved. To do exactly this: reconciler apply --plan plan.json --allow run=2\n"
    assert message in run.err
    words = message.split(": reconciler ")[1].split()
    assert project.run(*words, "--yes").code == 0


def test_faults_of_a_manifest_are_under_a_title_of_their_own_and_are_no_jobs(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: wrong}\nb: {}")
    comment, page = (project.run("plan", "--format", form).out for form in ("markdown", "html"))
    assert "\n#### Faults (2)\n" in comment
    assert "Held" not in comment
    assert "<h2>Faults</h2>" in page
    assert "<dt>jobs.yaml:5:14</dt><dd>state: expected running" in page
    assert '<table id="jobs">' not in page


def test_a_person_who_resolves_is_the_one_that_the_history_names(tmp_path: Path) -> None:
    with served_clone(tmp_path, "run:503:times=1") as clone:
        assert clone.apply("a: {state: running}").code == 5
        assert clone.run("resolve", "a", "--applied").out.endswith(" was applied, says Ada <ada@example.org>\n")
        assert clone.history()[-1]["who"] == "Ada <ada@example.org>"


@contextmanager
def at_work(project: Project) -> "Iterator[subprocess.Popen[str]]":
    """An apply whose call is answered after a long while; it is killed at the end."""
    child = project.start("apply", "--yes")
    try:
        while not (project.folder / "jobs.state.json.journal").exists() or "intent" not in (
            project.folder / "jobs.state.json.journal"
        ).read_text(errors="replace"):
            assert child.poll() is None
        yield child
    finally:
        child.kill()
        child.communicate()


def test_while_an_apply_is_at_work_its_calls_are_under_way_and_not_in_doubt(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:slow:seconds=60:job=a") as project:
        project.write("a: {state: running}\nb: {state: running, after: [a]}")
        with at_work(project) as child:
            holder = f"ada@{os.uname().nodename} (process {child.pid}) has been running `apply` since 2"
            shown = {
                "plan": project.run("plan"),
                "list": project.run("state", "list"),
                "status": project.run("status"),
                "show": project.run("state", "show", "a"),
                "rerun": project.run("rerun", "a"),
                "drift": project.run("drift"),
                "page": project.run("plan", "--format", "html"),
                "comment": project.run("plan", "--refresh", "--format", "markdown"),
            }
            for name, run in shown.items():
                message = run.out + run.err
                plain = message.replace("<code>", "`").replace("</code>", "`")
                assert holder in plain or name == "comment", f"{name}: {message}"
                assert "has been running" in message
                assert "may still be answered" in message
                assert "in doubt" not in message
                assert "resolve" not in message
                assert run.code == 0
            assert "  ! hold     a  under way: run was sent at 2" in shown["plan"].out
            row = project.run("status", "--format", "json").json["jobs"][0]
            assert row["inDoubt"] is False
            assert row["underWay"].startswith(holder)
            refused = project.run("resolve", "a", "--applied")
            assert refused.code == 4
            assert holder in refused.err
        assert "in doubt: run was sent at" in project.run("plan").out


def test_on_a_branch_too_the_calls_of_a_command_at_work_are_under_way(tmp_path: Path) -> None:
    with team(tmp_path, job_seconds=10_000) as group:
        busy, other = group.machine(), group.machine()
        busy.write("a: {state: running}\nb: {state: running}")
        child = busy.start("apply", "--yes", "--max-rps", "0.4")
        while not group.intents:
            assert child.poll() is None
        other.write("a: {state: running}\nb: {state: running}")
        run = other.run("plan")
        assert "may still be answered: machine-1@" in run.out
        assert "resolve" not in run.out
        child.kill()
        child.communicate()


def test_a_state_file_that_can_t_be_accepted_is_not_advised_to_be(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}")
    for content, why in (
        (b"", "it is empty"),
        (b"{", "Expecting property name"),
        (b"[]\n", "a list stands where an object is to be"),
    ):
        (tmp_path / "jobs.state.json").write_bytes(content)
        for command in (["plan"], ["state", "accept"], ["apply", "--yes"]):
            run = project.run(*command)
            assert run.code == 1
            assert why in run.err or "it does not begin with its digest" in run.err
            assert "state accept" not in run.err
            assert "git checkout -- jobs.state.json" in run.err
            assert "reconciler plan --refresh --state jobs.state.json" in run.err


def test_a_manifest_may_say_that_there_are_no_jobs(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}\nb: {state: running}")
        assert project.run("apply", "--yes").code == 0
        path = tmp_path / "jobs.yaml"
        head = path.read_text().partition("jobs:")[0]
        path.write_text(f"{head}jobs: {{}}\n")
        assert project.run("validate").out == "Valid: 0 jobs in 1 file.\n"
        plan = project.run("plan")
        assert plan.code == 0
        assert plan.out.startswith("No changes: 0 jobs are as recorded.\n")
        assert "left alone: a, b" in plan.out
        assert project.run("apply", "--yes").code == 0
        assert project.run("apply", "--yes", "--prune").code == 0
        assert project.state["jobs"] == {}
        path.write_text(head)
        run = project.run("plan", "--prune")
        assert run.code == 1
        assert 'or write "jobs: {}" where there are none' in run.err


def test_init_has_git_ignore_what_is_not_to_be_committed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True, env=project.env)
    assert project.run("init").code == 0
    names = ("plan.json", "sandbox.db", "sandbox.db-wal", "jobs.sandbox.db", "jobs.state.json.lock")
    found = subprocess.run([*git, "check-ignore", *names], capture_output=True, text=True, check=False, env=project.env)
    assert found.stdout.split() == list(names)
    kept = subprocess.run([*git, "check-ignore", "jobs.state.json", "jobs.yaml"], check=False, env=project.env)
    assert kept.returncode == 1


def test_the_page_shows_the_config_that_is_in_the_file_and_counts_no_hold_among_the_changes(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}\nb: {state: running}\nc: {state: running}")
        assert project.run("apply", "--yes").code == 0
        config = "config: {jobTimeout: 7200}"
        held = f"b: {{state: running, {config}, onConfigChange: hold}}"
        project.write(f"a: {{state: aborted, {config}}}\n{held}\nc: {{state: running}}")
        page = project.run("plan", "--format", "html").out
        assert "<th scope=row>config.jobTimeout<td>7200<td>&#8211;<td>&#8211;" in page
        assert "<span>All <b>3</b>" in page
        assert "<span>Noteworthy <b>2</b>" in page
        assert "<span>Changes <b>1</b>" in page


def test_the_page_of_drift_finds_no_difference_where_there_is_no_drift(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 0
        project.write("a: {state: aborted, config: {jobTimeout: 7000}}\nb: {state: running, runToken: x}")
        page = project.run("drift", "--format", "html").out
        assert "<h1>No drift: 1 job is as recorded, 1 not recorded.</h1>" in page
        assert "difference" not in page.partition("<body>")[2]


# What was probably meant


@pytest.mark.parametrize(
    ("arguments", "message", "command"),
    [
        (["plan", "--state"], "Option '--state' requires an argument.", "plan"),
        (["state", "show", "--at"], "Option '--at' requires an argument.", "state show"),
        (["diff", "HEAD"], "Missing argument 'REV2'.", "diff"),
        (["state", "mv", "a"], "Missing argument 'NEW'.", "state mv"),
        (["import", "--dry-run"], "Missing argument 'NAME=ID'. Say which jobs, or give --all.", "import"),
        (["import", "--name", "x"], "--name picks from all jobs of the service: give --all", "import"),
        (["import", "--all", "a=b"], "--all takes every job: give no NAME=ID with it", "import"),
        (["resolve", "a"], "Missing option '--applied' / '--not-applied' / '--ended'.", "resolve"),
        (["resolve", "a", "--applied", "--not-applied"], "--applied and --not-applied contradict", "resolve"),
        (["history", "--check", "--since", "2026-01-01"], "--check looks through all of the history", "history"),
    ],
)
def test_wrong_usage_names_the_help_of_its_own_command(
    tmp_path: Path, arguments: list[str], message: str, command: str
) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}")
    run = project.run(*arguments)
    assert (run.code, run.out) == (64, "")
    assert run.err.startswith(f"error: {message}")
    assert run.err.endswith(f"\n  reconciler {command} --help shows how it is used\n")


def test_an_import_without_a_word_prints_its_help(tmp_path: Path) -> None:
    run = Project(tmp_path).run("import")
    assert (run.code, run.out.startswith("Usage: reconciler import ")) == (64, True)
    assert run.err.startswith("error: Missing argument 'NAME=ID'. Say which jobs, or give --all.")


@pytest.mark.parametrize(
    ("given", "seconds"), [("1h", "3600"), ("90s", "90"), ("1h30m", "5400"), ("1.5m", "90"), ("2d", "172800")]
)
def test_a_time_with_a_unit_is_answered_with_the_number_of_seconds(tmp_path: Path, given: str, seconds: str) -> None:
    project = Project(tmp_path)
    for command, option in (("apply", "--wait"), ("apply", "--lock-timeout"), ("sandbox", "--latency")):
        run = project.run(command, option, given)
        message = (
            f"Invalid value for '{option}': '{given}' has a unit, and this is a number of seconds: give {seconds}\n"
        )
        assert (run.code, message in run.err) == (64, True), run.err


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "3 days ago"])
def test_a_time_of_another_form_is_answered_with_the_forms_that_are_taken(tmp_path: Path, since: str) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}")
    for revision in ("commit the state to git", ", or a revision, such as a commit"):
        run = project.run("history", "--since", since)
        assert run.code in (1, 64)
        assert since in run.err.splitlines()[0]
        assert "  give a date or a time in UTC, such as 2026-11-28 or 2026-11-28T14:30" in run.err
        assert revision in run.err or run.code == 64
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, env=project.env)


@pytest.mark.parametrize(
    ("variable", "value", "command", "message"),
    [
        ("RECONCILER_APPLY_PARALLELISM", "x", ["apply"], "Invalid value for RECONCILER_APPLY_PARALLELISM: 'x'"),
        ("RECONCILER_APPLY_WAIT", "1h", ["apply"], "Invalid value for RECONCILER_APPLY_WAIT: '1h' has a unit"),
        ("RECONCILER_APPLY_ALLOW", "x", ["apply"], "Invalid value for RECONCILER_APPLY_ALLOW: 'x'"),
        ("RECONCILER_ENDPOINT", "x", ["plan"], "RECONCILER_ENDPOINT is no URL"),
        ("RECONCILER_STATE", "x://y", ["plan"], "RECONCILER_STATE: state is kept in a file"),
        ("RECONCILER_PLAN_STATE", "jobs.yaml", ["plan"], "RECONCILER_PLAN_STATE: jobs.yaml is a manifest"),
        ("RECONCILER_PLAN_TARGET", "x", ["plan"], "--target x matches no job (--target has its value from RECONC"),
        ("RECONCILER_APPLY_PLAN", "x", ["apply"], "--plan x can't be read: there is no such file (--plan has its"),
        ("RECONCILER_PLAN_OUT", "no/x", ["plan"], "--out no/x: No such file or directory (--out has its value"),
    ],
)
def test_an_error_about_a_variable_names_the_variable(
    tmp_path: Path, variable: str, value: str, command: list[str], message: str
) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}")
    run = project.run(*command, **{variable: value})
    assert run.code in (1, 64)
    assert run.err.startswith(f"error: {message}"), run.err
    assert variable in run.err


def test_a_variable_that_no_command_reads_is_named_with_the_one_that_was_meant(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}")
    env = {"RECONCILER_STAT": "x", "RECONCILER_APPLY_LOCKTIMEOUT": "3", "RECONCILER_ZZ": "1", "RECONCILER_NIL": ""}
    run = project.run("plan", "--format", "json", **env)
    assert (run.code, run.json["formatVersion"]) == (0, 2)
    warning = "warning: {} has no effect: no command reads it; {}"
    assert run.err.splitlines() == [
        warning.format("RECONCILER_APPLY_LOCKTIMEOUT", "did you mean RECONCILER_APPLY_LOCK_TIMEOUT?"),
        warning.format("RECONCILER_STAT", "did you mean RECONCILER_STATE?"),
        warning.format("RECONCILER_ZZ", "the variables are RECONCILER_<COMMAND>_<OPTION>"),
    ]
    known = {"RECONCILER_STATE_LIST_FORMAT": "text", "RECONCILER_APPLY_WAIT": "3", "RECONCILER_PATHS": "jobs.yaml"}
    assert project.run("plan", **known).err == ""


def test_the_variables_of_the_ci_files_are_known(tmp_path: Path) -> None:
    root = ROOT
    files = [root / "action.yml", *filter(Path.is_file, (root / "ci").iterdir())]
    found = {name for file in files for name in re.findall(r"\bRECONCILER_[A-Z][A-Z_]*[A-Z]", file.read_text())}
    assert len(found) > 6
    project = Project(tmp_path)
    project.write("a: {state: running}")
    env = dict.fromkeys(found - {"RECONCILER_STATE", "RECONCILER_PATHS"}, "x")
    assert project.run("plan", **env).err == ""


# What is said where nothing was to be done, or too much


def test_there_is_nothing_to_accept_where_nothing_was_applied(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}")
    for words in ([], ["--state", "other.state.json"], ["--moved-to", "sandbox"]):
        run = project.run("state", "accept", *words)
        assert (run.code, run.out) == (64, "")
        assert " is not there, so there is nothing to accept\n" in run.err
    assert list(tmp_path.glob("*.state.json*")) == []
    assert project.run("apply", "--yes").code == 0
    assert project.run("state", "accept").out.startswith("Nothing to accept: the state is sound")


def test_what_a_plan_does_about_a_forgotten_job_that_is_still_declared_is_said(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}\nb: {state: aborted}")
    assert project.run("apply", "--yes").code == 0
    run = project.run("state", "forget", "a")
    message = "jobs.yaml:5:3: a is still declared running: the next plan is to run it; "
    assert run.err == f"{message}`reconciler plan --refresh` shows what the service says of it\n"
    assert "  + run      a  first run" in project.run("plan").out
    assert "b is still declared aborted: the next plan is to " in project.run("state", "forget", "b").err
    project.write("b: {state: running}")
    assert project.run("apply", "--yes").code == 0
    project.write("c: {state: running}")
    assert project.run("state", "forget", "b").err == ""


def test_an_apply_that_a_guard_refuses_shows_what_was_refused(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}\nb: {state: running}", more="guards: {maxRun: 0}")
    for words in (["--yes"], ["--dry-run"], ["--yes", "--allow", "run=1"]):
        run = project.run("apply", *words)
        assert run.code == 4
        assert run.out.startswith("Plan: 2 to run.\n")
        assert "  + run      a  first run" in run.out
        assert "error: refused by a guard: 2 to run, and guards.maxRun is 0" in run.err
        too_little = "; --allow run=1 is too little: 2 are needed\n" in run.err
        assert too_little is ("--allow" in words)
    run = project.run("apply", "--yes", "--format", "json")
    assert (run.code, "refused by a guard" in run.json["error"]["message"]) == (4, True)
    assert "  + run      a  first run" in run.err
    assert project.run("plan", "--out", "plan.json").code == 4
    saved = project.run("apply", "--plan", "plan.json", "--yes")
    assert (saved.code, "  + run      a  first run" in saved.out) == (4, True)


# Where a first manifest goes


@pytest.mark.parametrize(
    ("path", "made", "following"),
    [
        ("jobs.yaml", ["jobs.yaml", ".gitattributes", ".gitignore"], "plan"),
        ("web.yml", ["web.yml", ".gitattributes", ".gitignore"], "plan web.yml"),
        ("jobs/", ["jobs/jobs.yaml", ".gitattributes", ".gitignore"], "plan"),
        ("a/b/", ["a/b/jobs.yaml", "a/.gitattributes", "a/.gitignore"], "plan a/b/"),
        ("a/new.yaml", ["a/new.yaml", "a/.gitattributes", "a/.gitignore"], "plan a/new.yaml"),
    ],
)
def test_init_says_what_it_made_and_where_and_the_next_command_works(
    tmp_path: Path, path: str, made: list[str], following: str
) -> None:
    project = Project(tmp_path)
    run = project.run("init", path)
    *most, last = made
    assert (run.code, run.err) == (0, "")
    assert run.out == f"Wrote {', '.join(most)} and {last}. Next: reconciler {following}\n"
    assert sorted(project.files) == sorted(made)
    assert project.run(*following.split()).out.startswith("Plan: 1 to run, 1 waiting.")
    before = project.files
    again = project.run("init", path)
    assert (again.code, again.out) == (1, "")
    assert again.err.startswith(f"error: {made[0]} is there already")
    assert project.files == before


@pytest.mark.parametrize(
    ("path", "ways"),
    [
        ("jobs/new", ("reconciler init jobs/new.yaml", "reconciler init jobs/new/")),
        ("dir.txt", ("reconciler init dir.yaml", "reconciler init dir.txt/")),
    ],
)
def test_init_writes_nothing_under_a_name_that_no_manifest_has(
    tmp_path: Path, path: str, ways: tuple[str, str]
) -> None:
    project = Project(tmp_path)
    run = project.run("init", path)
    assert run.code == 64
    assert run.err == (
        f"error: the name of a manifest ends in .yaml or .yml, and {path} does not\n"
        f"  for a file: `{ways[0]}`; for a folder: {ways[1]}\n"
    )
    assert project.files == {}
    for way in ways:
        assert project.run(*way.split()[1:]).code == 0


def test_init_adds_no_second_manifest_to_a_folder_and_no_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "jobs").mkdir()
    project.write("a: {state: running}", name="jobs/a.yaml")
    before = project.files
    for path, there in (("jobs", "jobs/a.yaml"), ("jobs/", "jobs/a.yaml"), ("jobs/a.yaml/b.yaml", "jobs/a.yaml")):
        run = project.run("init", path)
        assert run.code == 1
        assert run.err.startswith(f"error: {there}"), run.err
    assert project.files == before


# Files that are not to be written


def test_a_file_that_is_read_only_is_left_as_it_is_and_named(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("b:   {state:   running}", name="b.yaml")
        text = (tmp_path / "b.yaml").read_text()
        (tmp_path / "a.yaml").write_text("apiVersion: reconciler/v1\njobs:\n  a:   {state:   running}\n")
        (tmp_path / "b.yaml").chmod(0o444)
        files = ("a.yaml", "b.yaml")
        before = project.files
        state = ("--state", "x.state.json")
        for words in (["fmt", *files], ["rerun", "b", *files, *state], ["import", "c=c", "b.yaml", "a.yaml", *state]):
            run = project.run(*words)
            assert (run.code, run.out) == (1, "")
            assert run.err == (
                "error: b.yaml is read-only, and is left as it is\n  let it be written first: chmod u+w b.yaml\n"
            )
            assert project.files == before
        assert project.run("fmt", "--check", *files).out == "a.yaml\nb.yaml\n"
        assert (tmp_path / "b.yaml").read_text() == text
        assert project.run("import", "c=c", "b.yaml", "a.yaml", *state, "--dry-run").code == 0


# Where a state is, and the sandbox's credentials


def test_a_command_s_help_lists_only_the_options_that_it_uses(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}")
    unused = {"validate": ["--state"], "fmt": ["--state", "--endpoint"], "diff": ["--state"]}
    for command in ("apply", "diff", "drift", "fmt", "history", "import", "plan", "rerun", "resolve", "validate"):
        shown = project.run(command, "--help").out
        hidden = unused.get(command, [])
        assert [option for option in ("--state", "--endpoint") if f"  {option} " not in shown] == hidden, command
    # They are taken all the same, so that the same words can follow each command.
    assert project.run("validate", "--state", "x", "--endpoint", "http://127.0.0.1:9/v1").code == 0
    assert project.run("fmt", "--check", "--state", "x", "--endpoint", "http://127.0.0.1:9/v1").code == 0


def test_the_help_of_push_says_which_way_the_state_goes(tmp_path: Path) -> None:
    shown = Project(tmp_path).run("state", "push", "--help").out
    assert "Put the state in FILE where the state is kept." in shown


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({}, "It takes the access token sandbox-token (BYTENITE_ACCESS_TOKEN=sandbox-token), or the API key "),
        ({"BYTENITE_ACCESS_TOKEN": "own"}, "It takes the access token of BYTENITE_ACCESS_TOKEN, or the API key "),
    ],
)
def test_the_sandbox_says_which_token_it_takes(tmp_path: Path, env: dict[str, str], message: str) -> None:
    project = Project(tmp_path)
    child = subprocess.Popen(
        project.command("sandbox"),
        cwd=tmp_path,
        env=project.env | {"BYTENITE_ACCESS_TOKEN": ""} | env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(4)]
    child.terminate()
    child.communicate()
    assert lines[-1] == f"{message}sandbox-key (BYTENITE_API_KEY=sandbox-key)\n"
    assert "own" not in "".join(lines).replace("known", "")


@pytest.mark.parametrize("command", [["plan", "--refresh"], ["status"]])
def test_it_is_said_that_nothing_could_be_observed(tmp_path: Path, command: list[str]) -> None:
    with served_project(tmp_path, "read:404", "list:404") as project:
        project.write("a: {state: running}")
        run = project.run(*command)
        assert run.code == 0
        assert "offers no reads, so no job was observed" in run.err
    (tmp_path / "reads").mkdir()
    with served_project(tmp_path / "reads") as project:
        project.write("a: {state: running}")
        assert project.run(*command).err == ""


def test_an_apply_that_settles_a_call_in_doubt_says_so(tmp_path: Path) -> None:
    # The service shows the run to the second apply.
    with served_project(tmp_path, "run:503:after:times=1", "read:stale:times=3") as project:
        project.write("a: {state: running}")
        first = project.run("apply", "--yes")
        assert (first.code, "settled" in first.err) == (5, False)
        second = project.run("apply", "--yes")
        assert (second.code, second.out) == (0, "Nothing to do: 1 job is as recorded.\n")
        assert second.err == "1 in doubt: settled, since the service shows what came of the call\n"
        assert project.run("apply", "--yes").err == ""
