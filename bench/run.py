"""Measures start-up, planning and applying against floors taken in the same run, and prints one table.

Whole processes are timed, in rounds: every case of a group once, then all again, so that a slow moment of the machine
falls on all of them. A ratio compares medians. Peak memory is the largest of the rounds, as the kernel counted it.
"""

import json
import multiprocessing
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LATENCY_S = 0.05
RUNS = 2000
TOKEN = "sandbox-token"
TOOL = str(Path(sys.executable).with_name("reconciler"))

YAML_EVENTS = "import sys, yaml\nfor _ in yaml.parse(open('jobs.yaml'), Loader=yaml.CSafeLoader): pass"
YAML_LOAD = "import yaml\nyaml.load(open('jobs.yaml'), Loader=yaml.CSafeLoader)"
SHA256 = "import hashlib\nhashlib.sha256(open('jobs.yaml', 'rb').read())"
FLUSHES = f"""
import os
fd = os.open("flushes", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
for _ in range({2 * RUNS}):
    os.write(fd, b"x" * 300)
    os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
"""
# The same calls by a client that does nothing else: what this machine and this server can do at all.
BARE_CLIENT = f"""
import http.client, sys, threading
from urllib.parse import urlsplit
url, parallelism = urlsplit(sys.argv[1]), int(sys.argv[2])
numbers = iter(range({RUNS}))
lock = threading.Lock()
def work():
    connection = http.client.HTTPConnection(url.hostname, url.port)
    headers = {{"Authorization": "{TOKEN}", "Content-Type": "application/json"}}
    while True:
        with lock:
            number = next(numbers, None)
        if number is None:
            return
        connection.request("POST", f"{{url.path}}/jobs/bare-{{number:05}}/run", b'{{"config":{{}}}}', headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
threads = [threading.Thread(target=work) for _ in range(parallelism)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""

HCL_BODY = """\
  input = {
    state       = "running"
    taskTimeout = 600
    jobTimeout  = 7200
  }
"""


@dataclass(frozen=True)
class Case:
    """One program to time: its folder is its working directory; any exit but 0 ends the benchmark."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """What one run of a program took: by the clock, of the processor, and of memory at most."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def time_once(case: Case) -> Timing:
    """Run the program once, to its end."""
    started = time.perf_counter()
    program = subprocess.Popen(
        case.command,
        cwd=case.folder,
        env=os.environ | case.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert program.stderr is not None
    said = program.stderr.read()
    _, status, usage = os.wait4(program.pid, 0)
    wall_s = time.perf_counter() - started
    program.returncode = os.waitstatus_to_exitcode(status)
    program.stderr.close()
    if program.returncode != 0:
        sys.exit(f"{case.name}: exit {program.returncode}\n{said.decode(errors='replace')}")
    return Timing(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def measure(cases: Sequence[Case], rounds: int) -> dict[str, list[Timing]]:
    """Each case's timings by name, one a round; the order turns around from round to round."""
    timings: dict[str, list[Timing]] = {case.name: [] for case in cases}
    for number in range(rounds):
        for case in cases if number % 2 == 0 else reversed(cases):
            timings[case.name].append(time_once(case))
    return timings


def median_s(timings: Sequence[Timing]) -> float:
    return statistics.median(timing.wall_s for timing in timings)


def report(title: str, timings: Mapping[str, Sequence[Timing]], base: str, notes: Mapping[str, str]) -> None:
    """Print one group of the table; `base` is the case that the others are compared with."""
    print(f"\n{title} ({len(timings[base])} rounds)")
    print(f"  {'':44}{'median':>10}{'fastest':>10}{'CPU':>10}{'ratio':>8}{'peak':>8}")
    for name, rounds in timings.items():
        times_s = (median_s(rounds), min(r.wall_s for r in rounds), statistics.median(r.cpu_s for r in rounds))
        columns = "".join(f"{time_s * 1000:7.0f} ms" for time_s in times_s)
        ratio = median_s(rounds) / median_s(timings[base])
        peak_mb = max(r.peak_bytes for r in rounds) / 2**20
        print(f"  {name:44}{columns}{ratio:8.2f}{peak_mb:5.0f} MB  {notes.get(name, '')}".rstrip())


def write_manifest(folder: Path, count: int, engine: str, endpoint: str) -> None:
    """Write a jobs.yaml of `count` jobs, six lines each."""
    with (folder / "jobs.yaml").open("w") as file:
        file.write(f"apiVersion: reconciler/v1\ntarget:\n  engine: {engine}\n  endpoint: {endpoint}\njobs:\n")
        for number in range(count):
            file.write(
                f"  transcode-{number:05}:\n    id: job-{number:05}\n    state: running\n"
                "    config:\n      taskTimeout: 600\n      jobTimeout: 7200\n"
            )


def write_recorded(folder: Path, count: int) -> None:
    """Write a manifest and the state in which all of it is recorded, so that there is nothing to plan."""
    from reconciler.jobs import Desired, Record, State, Target
    from reconciler.state.codec import encode

    target = Target("bytenite", "http://127.0.0.1:9/v1/customer")
    config = {"taskTimeout": 600, "jobTimeout": 7200}
    jobs = {f"transcode-{n:05}": Record(f"job-{n:05}", Desired.RUNNING, config) for n in range(count)}
    state = State("3f1c2f6e-8a55-4c0e-9f0a-6b1f0d9f4b11", 1, target, jobs)
    folder.mkdir()
    write_manifest(folder, count, target.engine, target.endpoint)
    (folder / "jobs.state.json").write_bytes(encode(state))


def recorded(root: Path, count: int) -> Path:
    """A folder made by `write_recorded` in a process of its own.

    A child's peak memory starts at that of the process that starts it, so this one must stay small.
    """
    folder = root / f"recorded-{count}"
    if not folder.exists():
        child = multiprocessing.get_context("spawn").Process(target=write_recorded, args=(folder, count))
        child.start()
        child.join()
        assert child.exitcode == 0
    return folder


def plan(folder: Path, count: int) -> Case:
    return Case(f"reconciler plan, {count:,} jobs", [TOOL, "plan", "--detailed-exitcode"], folder)


def bench_start_up(root: Path) -> None:
    few = plan(recorded(root, 10), 10)
    bare = Case("python -c pass", [sys.executable, "-c", "pass"], few.folder)
    usage = Case("reconciler --help", [TOOL, "--help"], few.folder)
    report("Start-up: nothing to do", measure([bare, usage, few], 15), bare.name, {})


def bench_plan(root: Path) -> None:
    many = recorded(root, 10_000)
    floors = [
        Case(name, [sys.executable, "-c", program], many)
        for name, program in [
            ("libyaml's events of the same file", YAML_EVENTS),
            ("yaml.load with CSafeLoader", YAML_LOAD),
            ("sha256 of the same file", SHA256),
        ]
    ]
    cases = [*floors, plan(many, 10_000)]
    report("Planning 10,000 recorded jobs, six lines each", measure(cases, 5), cases[0].name, {})
    counts = [1_000, 10_000, 30_000]
    cases = [plan(recorded(root, count), count) for count in counts]
    timings = measure(cases, 3)
    notes = {c.name: f"{median_s(timings[c.name]) / n * 1e6:.0f} us a job" for c, n in zip(cases, counts, strict=True)}
    report("Growth with the number of jobs", timings, cases[0].name, notes)


def bench_terraform(root: Path) -> None:
    terraform = shutil.which("terraform")
    if terraform is None:
        print("\nA peer: terraform is not installed, so it is not compared with")
        return
    folder = root / "terraform"
    folder.mkdir()
    blocks = (f'resource "terraform_data" "job_{n:05}" {{\n{HCL_BODY}}}\n' for n in range(1_000))
    (folder / "main.tf").write_text("".join(blocks))
    (folder / "terraform.tfstate").write_text(json.dumps(terraform_state(1_000)))
    environment = {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    time_once(Case("terraform init", [terraform, "init", "-input=false"], folder, environment))
    words = ["plan", "-refresh=false", "-input=false", "-detailed-exitcode"]
    peer = Case("terraform plan -refresh=false, 1,000 blocks", [terraform, *words], folder, environment)
    own = plan(recorded(root, 1_000), 1_000)
    report("A peer, with nothing to change", measure([peer, own], 5), own.name, {})


def terraform_state(count: int) -> dict[str, Any]:
    """A state in which every block of main.tf is recorded as it stands there; applying them would take a minute."""
    kind = ["object", {"state": "string", "taskTimeout": "number", "jobTimeout": "number"}]
    told = {"value": {"state": "running", "taskTimeout": 600, "jobTimeout": 7200}, "type": kind}
    resources = [
        {
            "mode": "managed",
            "type": "terraform_data",
            "name": f"job_{n:05}",
            "provider": 'provider["terraform.io/builtin/terraform"]',
            "instances": [
                {
                    "schema_version": 0,
                    "attributes": {"id": f"job-{n:05}", "input": told, "output": told, "triggers_replace": None},
                    "sensitive_attributes": [],
                }
            ],
        }
        for n in range(count)
    ]
    lineage = "3f1c2f6e-8a55-4c0e-9f0a-6b1f0d9f4b11"
    return {"version": 4, "serial": 1, "lineage": lineage, "outputs": {}, "resources": resources}


@contextmanager
def sandbox(folder: Path) -> Iterator[str]:
    """A server of its own that answers after `LATENCY_S` and offers no reads; yields its endpoint."""
    folder.mkdir()
    words = ["--port", "0", "--db", "sandbox.db", "--latency", str(LATENCY_S), "--create-missing"]
    faults = ["--fault", "read:404", "--fault", "list:404"]
    command = [TOOL, "sandbox", *words, *faults]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"BYTENITE_ACCESS_TOKEN": TOKEN},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            said = ""
            while not (found := re.search(r"http://\S+/customer", said)):
                line = server.stdout.readline()
                if not line:
                    sys.exit(f"the sandbox did not start:\n{said}")
                said += line
            yield found[0]
        finally:
            server.kill()


def bench_apply(root: Path, parallelism: int, rounds: int) -> None:
    """Apply `RUNS` runs to a new server each round, and compare with what the latency alone would take."""
    bound_s = RUNS * LATENCY_S / parallelism
    bare = "a bare client, the same calls"
    apply = "reconciler apply"
    flushes = f"{2 * RUNS:,} appends, each flushed to disk"
    timings: dict[str, list[Timing]] = {bare: [], apply: [], flushes: []}
    for number in range(rounds):
        folder = root / f"apply-{parallelism}-{number}"
        with sandbox(folder) as endpoint:
            write_manifest(folder, RUNS, "bytenite", endpoint)
            (folder / "bare.py").write_text(BARE_CLIENT)
            for name, command in (
                (bare, [sys.executable, "bare.py", endpoint, str(parallelism)]),
                (apply, [TOOL, "apply", "--yes", "--parallelism", str(parallelism)]),
                (flushes, [sys.executable, "-c", FLUSHES]),
            ):
                timings[name].append(time_once(Case(name, command, folder, {"BYTENITE_ACCESS_TOKEN": TOKEN})))
    notes = {name: f"{bound_s / median_s(timings[name]):4.0%} of the bound" for name in (bare, apply)}
    title = f"Applying {RUNS:,} runs, {parallelism} at a time, {LATENCY_S} s an answer: {bound_s:.2f} s at best"
    report(title, timings, bare, notes)


def main() -> None:
    version = subprocess.run([TOOL, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"{version}; {python}; {platform.system()} {platform.machine()}; {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="reconciler-bench-") as name:
        root = Path(name)
        bench_start_up(root)
        bench_plan(root)
        bench_terraform(root)
        bench_apply(root, 64, rounds=3)
        bench_apply(root, 10, rounds=1)


if __name__ == "__main__":
    main()
