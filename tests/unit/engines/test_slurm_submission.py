"""What `sbatch` is given for a config. The scripts are executed here as a node executes them."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from reconciler.engines.port import Config
from reconciler.engines.slurm.chains import chain_fault, chain_options
from reconciler.engines.slurm.faults import config_fault
from reconciler.engines.slurm.logs import expanded
from reconciler.engines.slurm.rows import Row
from reconciler.engines.slurm.scripts import ScriptOption, is_heterogeneous, options_of, with_lines
from reconciler.engines.slurm.settings import Settings, Ssh
from reconciler.engines.slurm.submission import NO_SECRET_EXIT_CODE, asked_array, submission
from reconciler.rules.runs import digests

HERE = Settings("/srv/jobs")
THERE = HERE._replace(ssh=Ssh("login"))
TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"))


def options(config: Config, settings: Settings = HERE) -> list[str]:
    """Return the options but for those that every job has."""
    common = {"--ignore-pbs", "--no-requeue", "--chdir=/srv/jobs", "--output=%x-%j.out"}
    return [option for option in submission({"command": ["true"], **config}, settings).options if option not in common]


def executed(config: Config, folder: Path, settings: Settings = HERE) -> "subprocess.CompletedProcess[bytes]":
    """Execute the script of a config in the way in which a node does it: through its first line."""
    path = folder / "slurm_script"
    path.write_text(submission(config, settings).script)
    path.chmod(0o700)
    env = {"HOME": str(folder), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    return subprocess.run([path], cwd=folder, env=env, input=b"fed\n", capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("config", "dependency"),
    [
        ({}, "afterok:7:8"),
        ({"native": {"dependency": "singleton"}}, "singleton,afterok:7:8"),
        ({"native": {"depend": "singleton"}}, "singleton,afterok:7:8"),
        ({"script": "#!/bin/sh\n#SBATCH -d after:3\n"}, "after:3,afterok:7:8"),
        ({"script": "#!/bin/sh\n#SBATCH --depend=after:3\n"}, "after:3,afterok:7:8"),
    ],
)
def test_a_job_waits_for_the_jobs_of_the_handles_and_for_its_own(config: Config, dependency: str) -> None:
    after = ("7@2026-01-02T03:04:05Z", "8@2026-01-02T03:04:06Z")
    assert chain_options(config, after) == [f"--dependency={dependency}", "--kill-on-invalid-dep=yes"]
    assert chain_fault(config, after) == ""
    assert chain_options(config, ()) == []


def test_a_dependency_of_which_one_is_enough_can_not_be_joined_with_others() -> None:
    config: Config = {"native": {"dependency": "after:3?after:4"}}
    assert "can't be joined with `after`" in chain_fault(config, ("7@x",))
    assert chain_fault(config, ()) == ""


def test_the_name_of_the_folder_is_no_pattern_for_the_output() -> None:
    options = submission({"command": ["true"]}, Settings("/srv/100%j")).options
    assert {"--chdir=/srv/100%j", "--output=/srv/100%%j/%x-%j.out"} <= set(options)
    row = Row(7, "", "COMPLETED", "", "a-1", "", "", "", "", "", "", "", "", "/srv/100%j")
    assert expanded("/srv/100%%j/%x-%j.out", row) == "/srv/100%j/a-1-7.out"


def test_a_shortened_option_of_a_script_means_what_the_whole_one_means() -> None:
    script = "#!/bin/sh\n#SBATCH --arr=1-4%2\n#SBATCH --out=mine-%a.log --chd=/tmp\n"
    assert asked_array({"script": script}) == "1-4%2"
    told = submission({"script": script}, HERE).options
    assert not any(option.startswith(("--output", "--chdir")) for option in told)
    assert "--output=%x-%j.out" not in submission({"command": ["true"], "native": {"outp": "x"}}, HERE).options
    assert config_fault({"script": script, "tasks": "1 of x"}) == ""
    assert "one option" in config_fault({"command": ["true"], "gpu": 1, "native": {"gres": "gpu:2"}})
    assert "can't be joined" in chain_fault({"native": {"depen": "after:3?after:4"}}, ("7@x",))


def test_each_word_is_an_option() -> None:
    config: Config = {
        "partition": "gpu,main",
        "account": "physics",
        "qos": "high",
        "nodes": "2-4",
        "ntasks": 8,
        "cpus": 4,
        "memory": "4GiB",
        "gpu": "a100:2",
        "array": "0-9%4",
        "jobTimeout": 7200,
    }
    assert options(config) == [
        "--partition=gpu,main",
        "--account=physics",
        "--qos=high",
        "--nodes=2-4",
        "--ntasks=8",
        "--array=0-9%4",
        "--cpus-per-task=4",
        "--mem=4194304K",
        "--gres=gpu:a100:2",
        "--time=120",
        "--output=%x-%A_%a.out",
    ]


def test_the_words_of_all_engines_mean_the_same_as_those_of_slurm() -> None:
    shared: Config = {"resources": {"cpu": 4, "memory": "1GiB", "gpu": 2}}
    assert options(shared) == options({"cpus": 4, "memory": "1GiB", "gpu": 2})
    assert options(shared) == ["--cpus-per-task=4", "--mem=1048576K", "--gres=gpu:2"]


def test_a_node_that_fails_ends_the_run_unless_the_config_lets_it_continue() -> None:
    assert "--no-requeue" in submission({"command": ["x"]}, HERE).options
    assert "--no-requeue" in submission({"command": ["x"], "onDisruption": "fail"}, HERE).options
    again = submission({"command": ["x"], "onDisruption": "continue"}, HERE).options
    assert "--requeue" in again
    assert "--no-requeue" not in again


@pytest.mark.parametrize(("seconds", "minutes"), [(1, 1), (60, 1), (61, 2), (3600, 60), (86401, 1441)])
def test_slurm_counts_time_in_minutes_and_a_run_gets_no_less_than_it_asks_for(seconds: int, minutes: int) -> None:
    assert options({"jobTimeout": seconds}) == [f"--time={minutes}"]


@pytest.mark.parametrize(
    ("memory", "option"), [(1024, "1K"), (1025, "2K"), ("512KiB", "512K"), ("1TiB", "1073741824K")]
)
def test_memory_is_in_units_of_1024(memory: int | str, option: str) -> None:
    assert options({"memory": memory}) == [f"--mem={option}"]


def test_native_options_come_last_and_false_leaves_one_out() -> None:
    native: dict[str, Any] = {"exclusive": True, "constraint": "a100&ib", "nice": 5, "reboot": False}
    assert options({"partition": "p", "native": native}) == [
        "--partition=p",
        "--constraint=a100&ib",
        "--exclusive",
        "--nice=5",
    ]


@pytest.mark.parametrize(
    ("workdir", "here", "there"),
    [
        (None, "/srv/jobs", "."),
        ("out", "/srv/jobs/out", "out"),
        ("/scratch/x", "/scratch/x", "/scratch/x"),
        ("~/out", "/home/me/out", "out"),
        ("~", "/home/me", "."),
    ],
)
def test_a_workdir_is_relative_to_the_file_with_the_target_and_behind_ssh_to_the_home_folder(
    workdir: str | None, here: str, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config: Config = {"command": ["x"], **({} if workdir is None else {"workdir": workdir})}
    assert f"--chdir={here}" in submission(config, HERE).options
    assert f"--chdir={there}" in submission(config, THERE).options


def test_what_a_script_says_of_its_folder_and_its_output_counts_if_no_word_says_it() -> None:
    script = "#!/bin/sh\n#SBATCH -D /data -o log-%j\n#SBATCH --mem=1G\necho\n"
    assert options({"script": script}) == []
    assert [word.partition("=")[0] for word in submission({"script": script}, HERE).options] == [
        "--ignore-pbs",
        "--no-requeue",
    ]
    assert "--chdir=/srv/jobs" in submission({"script": script, "workdir": "."}, HERE).options
    native = submission({"command": ["x"], "native": {"output": "x.log"}}, HERE).options
    assert [word for word in native if word.startswith("--output")] == ["--output=x.log"]


def test_a_command_is_executed_without_a_shell_between(tmp_path: Path) -> None:
    words = ["printf", "%s|", "a b", "$HOME", "it's", '"', "*", "`id`", "", "a\nb"]
    assert executed({"command": words}, tmp_path).stdout == b"a b|$HOME|it's|\"|*|`id`||a\nb|"


@given(value=TEXTS)
@hypothesis_settings(max_examples=30, deadline=None)
def test_a_variable_holds_its_text_to_the_last_byte(value: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("job")
    ended = executed({"command": ["printenv", "A"], "env": {"A": value}}, folder)
    assert ended.stdout == value.encode() + b"\n"


PROGRAMS = {
    "no program named": 'printf "%s %s" "$A" "$(cat)"',
    "sh": '#!/bin/sh\n# made by hand\n\n#SBATCH -N1\nprintf "%s %s" "$A" "$(cat)"\n',
    "bash": '#!/bin/bash -e\n#SBATCH -N1\nprintf "%s %s" "$A" "$(cat)"',
    "env bash": '#!/usr/bin/env -S bash -e\nfalse || printf "%s %s" "$A" "$(cat)"\n',
    "python": "#!/usr/bin/env python3\n#SBATCH -N1\nimport os, sys\n"
    'print(os.environ["A"], sys.stdin.read().strip(), end="")\n',
    "awk": '#!/usr/bin/awk -f\n#SBATCH -N1\nBEGIN { getline; printf "%s %s", ENVIRON["A"], $0 }',
}


@pytest.mark.parametrize("script", PROGRAMS.values(), ids=PROGRAMS)
def test_variables_reach_a_script_for_any_program_and_its_input_stays_its_own(script: str, tmp_path: Path) -> None:
    ended = executed({"script": script, "env": {"A": 'it\'s "set"'}}, tmp_path)
    assert (ended.stdout, ended.stderr) == (b'it\'s "set" fed', b"")


@pytest.mark.parametrize("script", PROGRAMS.values(), ids=PROGRAMS)
def test_the_options_of_a_script_stay_where_sbatch_reads_them(script: str) -> None:
    made = submission({"script": script, "env": {"A": "x"}}, HERE).script
    assert [option[:2] for option in options_of(made)] == [option[:2] for option in options_of(script)]
    assert made.startswith("#!")


def test_a_script_that_needs_nothing_of_ours_is_sent_as_it_is() -> None:
    for script in (text for name, text in PROGRAMS.items() if name != "no program named"):
        assert submission({"script": script}, HERE).script == script
    assert submission({"script": "echo"}, HERE).script == "#!/bin/sh\necho"


def test_the_end_mark_of_a_script_may_stand_in_the_script(tmp_path: Path) -> None:
    script = "#!/usr/bin/env python3\nprint('''\nRECONCILER_END\n''', 'RECONCILER_END_')\n"
    ended = executed({"script": script, "env": {"A": "x"}}, tmp_path)
    assert ended.stdout == b"\nRECONCILER_END\n RECONCILER_END_\n"


_SPAWNS = """\
#!/usr/bin/env python3
import multiprocessing, os, signal, sys
def squared(number):
    return number * number
if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    with multiprocessing.Pool(2) as pool:
        print(pool.map(squared, [1, 2, 3]), open(__file__).readline().strip(), os.environ["A"], flush=True)
    os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_script_for_another_program_can_be_read_again_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The processes that Python spawns read the script, and a signal ends the program itself."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    ended = executed({"script": _SPAWNS, "env": {"A": "x", "TMPDIR": str(temporary)}}, tmp_path)
    assert (ended.returncode, ended.stdout) == (-signal.SIGUSR1, b"[1, 4, 9] #!/usr/bin/env python3 x\n")
    assert list(temporary.iterdir()) == []


def test_a_secret_is_read_by_the_job_and_stands_in_no_script(tmp_path: Path) -> None:
    (tmp_path / "se crets" / "train").mkdir(parents=True)
    (tmp_path / "se crets" / "train" / "token").write_text("sesame 'open'\n")
    config: Config = {"command": ["printenv", "TOKEN"], "env": {"TOKEN": {"secret": "train/token"}}}
    for folder in ("~/se crets", str(tmp_path / "se crets")):
        settings = HERE._replace(secrets=folder)
        assert "sesame" not in submission(config, settings).script
        assert executed(config, tmp_path, settings).stdout == b"sesame 'open'\n"


def test_a_job_without_its_secret_does_not_start(tmp_path: Path) -> None:
    config: Config = {"script": "#!/bin/bash\ntouch started\n", "env": {"TOKEN": {"secret": "token"}}}
    ended = executed(config, tmp_path, HERE._replace(secrets="~/none"))
    assert ended.returncode == NO_SECRET_EXIT_CODE
    assert ended.stderr.endswith(b"reconciler: the secret token can't be read, so the job does not start\n")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("#SBATCH -N2", [("nodes", "2")]),
        ("#SBATCH -N 2 -o a --error b", [("nodes", "2"), ("output", "a"), ("error", "b")]),
        ("#SBATCH -HWN2", [("hold", ""), ("wait", ""), ("nodes", "2")]),
        ("#SBATCH --array=1-3 # three of them", [("array", "1-3")]),
        ("#SBATCH --comment='a \"b\"' -J a\\ b", [("comment", 'a "b"'), ("job-name", "a b")]),
        ("#SBATCH --exclusive --nice --mem 1G", [("exclusive", ""), ("nice", ""), ("mem", "1G")]),
        ("#SBATCH --test --arr 1", [("test", ""), ("array", "1")]),
        ("#SBATCH--wait", [("wait", "")]),
        ("#SBATCH", []),
        ("#SBATCH # --wait", []),
        ("#SLURM --wait", [("wait", "")]),
        ("# SBATCH --wait", []),
        ("##SBATCH --wait", []),
        (" #SBATCH --wait", []),
        ("#PBS -W block=true", []),
    ],
)
def test_a_line_of_a_script_is_read_as_sbatch_reads_it(line: str, found: list[tuple[str, str]]) -> None:
    read = options_of(f"#!/bin/sh\n# a comment\n\n{line}\necho\n#SBATCH --wait\n")
    assert read == tuple(ScriptOption(name, value, 4) for name, value in found)


@given(TEXTS)
@hypothesis_settings(deadline=None)
def test_any_text_can_be_a_script(text: str) -> None:
    assert with_lines(text, "") == (text if text.startswith("#!") else f"#!/bin/sh\n{text}")
    options_of(text)
    is_heterogeneous(text)


def test_an_array_is_asked_for_by_the_config_or_else_by_the_script() -> None:
    script = "#!/bin/sh\n#SBATCH -a 1-3\n#SBATCH --array=0-8\necho\n"
    assert asked_array({"script": script}) == "0-8"
    assert asked_array({"script": script, "array": "5"}) == "5"
    assert asked_array({"command": ["x"], "array": 5}) == "5"
    assert asked_array({"command": ["x"]}) == ""
    assert "--output=%x-%A_%a.out" in submission({"script": script}, HERE).options


def test_a_run_is_limited_to_some_tasks_if_its_token_is_the_named_one() -> None:
    config: Config = {"command": ["x"], "array": "0-99%4", "tasks": "3,7-9 of 2026-11-28.2"}
    mine, other = digests({}, "2026-11-28.2").token_digest, digests({}, "2026-11-29").token_digest
    assert "--array=3,7-9%4" in submission(config, HERE, mine).options
    for digest in (other, ""):
        assert "--array=0-99%4" in submission(config, HERE, digest).options
    script = "#!/bin/sh\n#SBATCH -a 0-99\necho\n"
    assert asked_array({"script": script, "tasks": "3 of a of b"}, digests({}, "a of b").token_digest) == "3"
