"""Measure start-up, planning and applying against floors and peers that are measured in the same run.

    python bench/run.py            the whole table, in some twenty minutes
    python bench/run.py --quick    the main figures, in under a minute
    python bench/run.py --cluster  Jobs on a Kubernetes cluster of this machine alone, in a few minutes
    python bench/run.py --slurm    jobs on a Slurm cluster of this machine alone, in a few minutes
    python bench/run.py --ray      jobs on a Ray head of this machine alone, in a few minutes
    python bench/run.py --write    the whole table, into docs/performance.md with its plots

Compare the ratios, since they hold on any machine. Set BENCH_COUNTS=1000,10000 to plan other numbers of jobs.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cluster_jobs import bench_cluster
from data import recorded, write_manifest
from local import bench_observing, bench_starting
from peers import applies, no_op_plans
from ray_jobs import bench_ray
from slurm_jobs import bench_slurm
from timing import Case, Row, Timing, measure, middle, time_once

LATENCY_S = 0.05
TOKEN = "sandbox-token"
TOOL = str(Path(sys.executable).with_name("reconciler"))
DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
_BEGIN, _END = "<!-- figures -->\n", "<!-- end of figures -->\n"

NO_OP, APPLY = "reconciler plan", "reconciler apply"
START_UP, PLAN, APPLYING = (
    "start-up, nothing to do",
    "no-op plan",
    f"{{}} runs at a time, {LATENCY_S * 1000:.0f} ms an answer",
)
EVENTS, LOAD = "libyaml's events", "yaml.load with CSafeLoader"
JSON, SHA256 = "json.load of the state", "sha256 of the file"
# The imports that every plan needs, and the imports of all dependencies.
IMPORTS = ("import click, yaml, json, hashlib, jsonschema_rs", "import click, yaml, jsonschema, requests, deepdiff")
FLOORS = {
    EVENTS: "import yaml\nfor _ in yaml.parse(open('jobs.yaml'), Loader=yaml.CSafeLoader): pass",
    LOAD: "import yaml\nyaml.load(open('jobs.yaml'), Loader=yaml.CSafeLoader)",
    JSON: "import json\njson.load(open('jobs.state.json'))",
    SHA256: "import hashlib\nhashlib.sha256(open('jobs.yaml', 'rb').read())",
}
# The goals of the rows: seconds, and the ratio to the first row of the group. The ratio holds on any machine.
GOALS = {
    (START_UP, 10, "reconciler --help"): "0.1 s, 5 ×",
    (START_UP, 10, NO_OP): "0.15 s, 6 ×",
    (PLAN, 1_000, NO_OP): "0.15 s, 4.3 ×",
    (PLAN, 10_000, NO_OP): "0.6 s, 2.6 ×, 80 MB",
    (PLAN, 100_000, NO_OP): "5 s, 2.6 ×, 400 MB",
    (PLAN, 1_000_000, NO_OP): "60 s, 4.3 ×, 3,000 MB",
    (APPLYING.format(10), 1_000, APPLY): "95 % of the bound",
    (APPLYING.format(64), 1_000, APPLY): "85 % of the bound",
    (APPLYING.format(64), 2_000, APPLY): "75 % of the bound",
}
# A client that makes the same calls and does nothing else shows the limit of this machine and this Python.
BARE_CLIENT = """
import http.client, sys, threading
from urllib.parse import urlsplit
url, parallelism, count = urlsplit(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
numbers = iter(range(count))
lock = threading.Lock()
def work():
    connection = http.client.HTTPConnection(url.hostname, url.port)
    headers = {"Authorization": "sandbox-token", "Content-Type": "application/json"}
    while True:
        with lock:
            number = next(numbers, None)
        if number is None:
            return
        connection.request("POST", f"{url.path}/jobs/bare-{number:05}/run", b'{"config":{}}', headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
threads = [threading.Thread(target=work) for _ in range(parallelism)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


PLOTS: Sequence[tuple[str, str, str, Callable[[Row], float]]] = (
    ("plan-time", PLAN, "seconds", lambda row: row.timing.wall_s),
    ("plan-memory", PLAN, "MB at most", lambda row: row.timing.peak_bytes / 2**20),
    ("apply-time", APPLYING.format(64), "seconds", lambda row: row.timing.wall_s),
)


def bench_start_up(root: Path, rounds: int, *, peers: bool) -> Iterator[Row]:
    folder = recorded(root, 10)
    cases = [
        Case("python -c pass", [sys.executable, "-c", "pass"], folder),
        *(Case(line, [sys.executable, "-c", line], folder) for line in IMPORTS),
        Case("reconciler --help", [TOOL, "--help"], folder),
        _plan(folder),
        *(no_op_plans(root, 10) if peers else ()),
    ]
    time_once(_plan(folder))
    yield from _rows(START_UP, 10, measure(cases, rounds))


def bench_plan(root: Path, count: int, rounds: int, *, peers: bool) -> Iterator[Row]:
    folder = recorded(root, count)
    floors = [Case(name, [sys.executable, "-c", program], folder) for name, program in FLOORS.items()]
    if count > 100_000:
        floors = [floor for floor in floors if floor.name != LOAD]
    cases = [*floors, _plan(folder), *(no_op_plans(root, count) if peers else ())]
    time_once(_plan(folder))
    yield from _rows(PLAN, count, measure(cases, rounds))


def _plan(folder: Path) -> Case:
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state")}
    return Case(NO_OP, [TOOL, "plan", "--detailed-exitcode"], folder, own)


def _rows(group: str, count: int, timings: dict[str, Timing]) -> Iterator[Row]:
    base = next(iter(timings.values()))
    for name, timing in timings.items():
        yield Row(group, count, name, timing, timing.wall_s / base.wall_s, goal=GOALS.get((group, count, name), ""))


@contextmanager
def service(seconds: list[float]) -> Iterator[str]:
    """Run the service of server.py and yield its endpoint.

    At the end, append the seconds from the first call to the last answer to the given list.
    """
    command = [sys.executable, str(Path(__file__).with_name("server.py")), str(LATENCY_S)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        yield f"http://127.0.0.1:{port}/v1/customer"
        output, _ = server.communicate()
        seconds.append(json.loads(output)["seconds"])


def bench_apply(root: Path, count: int, parallelism: int, rounds: int, *, peers: bool) -> Iterator[Row]:
    """Apply `count` runs to a new service in each round, and compare the time with the time of the latency alone.

    Peers take part in the first round only, as some of them take minutes.
    """
    bound_s = count * LATENCY_S / parallelism
    timings: dict[str, list[Timing]] = {}
    busy: dict[str, list[float]] = {}
    for number in range(rounds):
        folder = root / f"apply-{parallelism}-{count}-{number}"
        folder.mkdir()
        makers = [
            partial(_bare, folder, count, parallelism),
            partial(_apply, folder, count, parallelism),
            *(applies(folder, count, parallelism, TOKEN) if peers and number == 0 else ()),
        ]
        for make in makers:
            taken: list[float] = []
            with service(taken) as endpoint:
                case = make(endpoint)
                timings.setdefault(case.name, []).append(time_once(case))
            busy.setdefault(case.name, []).extend(taken)
    group = APPLYING.format(parallelism)
    for name, rounds_of_it in timings.items():
        timing = middle(rounds_of_it)
        rate = bound_s / statistics.median(busy[name])
        note = f"{rate:.0%} of the bound of {parallelism / LATENCY_S:,.0f} a second"
        goal = GOALS.get((group, count, name), "")
        yield Row(group, count, name, timing, timing.wall_s / bound_s, note, goal)


def _bare(folder: Path, count: int, parallelism: int, endpoint: str) -> Case:
    (folder / "bare.py").write_text(BARE_CLIENT)
    return Case(
        "a bare http.client, the same calls",
        [sys.executable, "bare.py", endpoint, str(parallelism), str(count)],
        folder,
    )


def _apply(folder: Path, count: int, parallelism: int, endpoint: str) -> Case:
    write_manifest(folder, count, "bytenite", endpoint)
    environment = {"BYTENITE_ACCESS_TOKEN": TOKEN, "XDG_STATE_HOME": str(folder / "state")}
    return Case(APPLY, [TOOL, "apply", "--yes", "--parallelism", str(parallelism)], folder, environment)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| what | | median | CPU | peak | ratio | | goal |", "|---|---|--:|--:|--:|--:|---|---|"]
    last = ("", 0)
    for row in rows:
        shown = f"{row.group}, {row.jobs:,} jobs" if (row.group, row.jobs) != last else ""
        last = (row.group, row.jobs)
        wall_s, cpu_s, peak_bytes = row.timing
        figures = f"{wall_s:.3f} s | {cpu_s:.3f} s | {peak_bytes / 2**20:.0f} MB | {row.ratio:.2f}"
        lines.append(f"| {shown} | {row.name} | {figures} | {row.note} | {row.goal} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure, and print the table.")
    parser.add_argument("--quick", action="store_true", help="the main figures, in under a minute")
    parser.add_argument("--cluster", action="store_true", help="only Jobs on a Kubernetes cluster of this machine")
    parser.add_argument("--slurm", action="store_true", help="only jobs on a Slurm cluster of this machine")
    parser.add_argument("--ray", action="store_true", help="only jobs on a Ray head of this machine")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its plots")
    given = parser.parse_args()
    version = subprocess.run([TOOL, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    machine = f"{version}; {python}; {platform.system()} {platform.machine()}; {os.cpu_count()} cores"
    print(machine, flush=True)
    counts = [int(count) for count in os.environ.get("BENCH_COUNTS", "1000,10000,100000,1000000").split(",")]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="reconciler-bench-") as name:
        root = Path(name)
        if given.quick:
            rows += bench_start_up(root, 5, peers=False)
            rows += bench_plan(root, 10_000, 2, peers=False)
            rows += bench_apply(root, 2_000, 64, 1, peers=False)
            rows += bench_starting(root, 2, peers=False)
        elif given.cluster or given.slurm or given.ray:
            rows += bench_cluster(root, 3, TOOL) if given.cluster else ()
            rows += bench_slurm(root, 3, TOOL) if given.slurm else ()
            rows += bench_ray(root, 3, TOOL) if given.ray else ()
        else:
            rows += bench_start_up(root, 15, peers=True)
            for count in counts:
                rows += bench_plan(
                    root, count, 5 if count <= 10_000 else 3 if count <= 100_000 else 1, peers=count <= 10_000
                )
                print(f"planned {count:,}", file=sys.stderr, flush=True)
            for parallelism, numbers in ((10, (100, 1_000)), (64, (100, 1_000, 2_000, 4_000)), (256, (4_000,))):
                for count in numbers:
                    rows += bench_apply(root, count, parallelism, 3, peers=True)
                    print(f"applied {count:,}, {parallelism} at a time", file=sys.stderr, flush=True)
            rows += bench_starting(root, 5, peers=True)
            rows += bench_observing(root, 5)
            rows += bench_cluster(root, 3, TOOL)
            rows += bench_slurm(root, 3, TOOL)
            rows += bench_ray(root, 3, TOOL)
    print(table(rows), end="", flush=True)
    if given.write:
        from plots import draw

        for name, title, label, value in PLOTS:
            draw([row for row in rows if row.group == title], title, label, value, DOCUMENT.parent / name)
        before, _, rest = DOCUMENT.read_text().partition(_BEGIN)
        after = rest.partition(_END)[2]
        DOCUMENT.write_text(f"{before}{_BEGIN}{machine}\n\n{table(rows)}{_END}{after}")


if __name__ == "__main__":
    main()
