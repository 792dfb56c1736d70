"""Measures start-up, planning and applying against floors and peers taken in the same run.

    python bench/run.py            the whole table, in some twenty minutes
    python bench/run.py --quick    the main figures, in under a minute
    python bench/run.py --write    the whole table, into docs/performance.md with its plots

Ratios are what counts: they hold on any machine. Set BENCH_COUNTS=1000,10000 to plan other numbers of jobs.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from data import recorded, write_manifest
from peers import no_op_plans
from timing import Case, Timing, measure, middle, time_once

LATENCY_S = 0.05
TOKEN = "sandbox-token"
TOOL = str(Path(sys.executable).with_name("reconciler"))
DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
_BEGIN, _END = "<!-- figures -->\n", "<!-- end of figures -->\n"

COLD, WARM = "reconciler plan, nothing remembered", "reconciler plan, files unchanged"
EVENTS, LOAD, SHA256 = "libyaml's events", "yaml.load with CSafeLoader", "sha256 of the file"
FLOORS = {
    EVENTS: "import yaml\nfor _ in yaml.parse(open('jobs.yaml'), Loader=yaml.CSafeLoader): pass",
    LOAD: "import yaml\nyaml.load(open('jobs.yaml'), Loader=yaml.CSafeLoader)",
    SHA256: "import hashlib\nhashlib.sha256(open('jobs.yaml', 'rb').read())",
}
# What each is to keep to, in seconds and as a ratio to the first row of its group, which is what holds on any machine.
GOALS = {
    ("start-up, nothing to do", 10, "reconciler --help"): "0.1 s, 5 ×",
    ("start-up, nothing to do", 10, COLD): "0.15 s, 6 ×",
    ("start-up, nothing to do", 10, WARM): "0.1 s, 5 ×",
    ("no-op plan", 1_000, COLD): "0.15 s, 4.3 ×",
    ("no-op plan", 10_000, COLD): "0.6 s, 3.6 ×, 80 MB",
    ("no-op plan", 100_000, COLD): "5 s, 3.5 ×, 400 MB",
    ("no-op plan", 100_000, WARM): "1 s, 0.7 ×",
    ("no-op plan", 1_000_000, COLD): "60 s, 4.3 ×, 3,000 MB",
    ("no-op plan", 1_000_000, WARM): "10 s, 0.7 ×",
    ("apply", 10, "reconciler apply"): "95 % of the bound",
    ("apply", 64, "reconciler apply"): "85 % of the bound",
}
# The same calls by a client that does nothing else: what this machine and this Python can do at all.
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


class Row(NamedTuple):
    """One line of the table. `ratio` compares with the group's first row; `note` says more, `goal` what it is to be."""

    group: str
    jobs: int
    name: str
    timing: Timing
    ratio: float
    note: str = ""
    goal: str = ""


def bench_start_up(root: Path, rounds: int) -> Iterator[Row]:
    folder = recorded(root, 10)
    cases = [
        Case("python -c pass", [sys.executable, "-c", "pass"], folder),
        Case("import click, yaml, json, hashlib", [sys.executable, "-c", "import click, yaml, json, hashlib"], folder),
        Case("reconciler --help", [TOOL, "--help"], folder),
        *_plans(folder),
    ]
    time_once(cases[-1])
    yield from _rows("start-up, nothing to do", 10, measure(cases, rounds))


def bench_plan(root: Path, count: int, rounds: int, *, peers: bool) -> Iterator[Row]:
    folder = recorded(root, count)
    floors = [Case(name, [sys.executable, "-c", program], folder) for name, program in FLOORS.items()]
    if count > 100_000:
        floors = [floor for floor in floors if floor.name != LOAD]
    cases = [*floors, *_plans(folder), *(no_op_plans(root, count) if peers else ())]
    time_once(_plans(folder)[1])
    yield from _rows("no-op plan", count, measure(cases, rounds))


def _plans(folder: Path) -> list[Case]:
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state")}
    words = [TOOL, "plan", "--detailed-exitcode"]
    return [Case(COLD, [*words, "--no-cache"], folder, own), Case(WARM, words, folder, own)]


def _rows(group: str, count: int, timings: dict[str, Timing]) -> Iterator[Row]:
    base = next(iter(timings.values()))
    for name, timing in timings.items():
        yield Row(group, count, name, timing, timing.wall_s / base.wall_s, goal=GOALS.get((group, count, name), ""))


@contextmanager
def service(told: list[float]) -> Iterator[str]:
    """The service of server.py; yields its endpoint, and appends the seconds from its first call to its last answer."""
    command = [sys.executable, str(Path(__file__).with_name("server.py")), str(LATENCY_S)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        yield f"http://127.0.0.1:{port}/v1/customer"
        said, _ = server.communicate()
        told.append(json.loads(said)["seconds"])


def bench_apply(root: Path, count: int, parallelism: int, rounds: int) -> Iterator[Row]:
    """Apply `count` runs to a new service each round, and compare with what the latency alone would take."""
    bound_s = count * LATENCY_S / parallelism
    bare, own = "a bare http.client, the same calls", "reconciler apply"
    timings: dict[str, list[Timing]] = {bare: [], own: []}
    busy: dict[str, list[float]] = {bare: [], own: []}
    for number in range(rounds):
        folder = root / f"apply-{parallelism}-{count}-{number}"
        folder.mkdir()
        (folder / "bare.py").write_text(BARE_CLIENT)
        for name in (bare, own):
            with service(busy[name]) as endpoint:
                write_manifest(folder, count, "bytenite", endpoint)
                command = [TOOL, "apply", "--yes", "--parallelism", str(parallelism)]
                if name == bare:
                    command = [sys.executable, "bare.py", endpoint, str(parallelism), str(count)]
                environment = {"BYTENITE_ACCESS_TOKEN": TOKEN, "XDG_STATE_HOME": str(folder / "state")}
                timings[name].append(time_once(Case(name, command, folder, environment)))
    group = f"{count:,} runs, {parallelism} at a time, {LATENCY_S * 1000:.0f} ms an answer"
    for name, taken in timings.items():
        timing = middle(taken)
        rate = bound_s / sorted(busy[name])[len(busy[name]) // 2]
        note = f"{rate:.0%} of the bound of {parallelism / LATENCY_S:,.0f} a second"
        goal = GOALS.get(("apply", parallelism, name), "")
        yield Row(group, parallelism, name, timing, timing.wall_s / bound_s, note, goal)


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | | median | CPU | peak | ratio | | goal |", "|---|---|--:|--:|--:|--:|---|---|"]
    last = ("", 0)
    for row in rows:
        group = f"{row.group}, {row.jobs:,} jobs" if row.group == "no-op plan" else row.group
        shown = group if (row.group, row.jobs) != last else ""
        last = (row.group, row.jobs)
        wall_s, cpu_s, peak_bytes = row.timing
        figures = f"{wall_s:.3f} s | {cpu_s:.3f} s | {peak_bytes / 2**20:.0f} MB | {row.ratio:.2f}"
        lines.append(f"| {shown} | {row.name} | {figures} | {row.note} | {row.goal} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure, and print the table.")
    parser.add_argument("--quick", action="store_true", help="the main figures, in under a minute")
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
            rows += bench_start_up(root, 5)
            rows += bench_plan(root, 10_000, 2, peers=False)
            rows += bench_apply(root, 2_000, 64, 1)
        else:
            rows += bench_start_up(root, 15)
            for count in counts:
                rows += bench_plan(
                    root, count, 5 if count <= 10_000 else 3 if count <= 100_000 else 1, peers=count <= 10_000
                )
                print(f"planned {count:,}", file=sys.stderr, flush=True)
            for count, parallelism in ((1_000, 10), (1_000, 64), (2_000, 64), (4_000, 256)):
                rows += bench_apply(root, count, parallelism, 3)
    print(table(rows), end="", flush=True)
    if given.write:
        from plots import draw

        draw(rows, DOCUMENT.parent)
        before, _, rest = DOCUMENT.read_text().partition(_BEGIN)
        after = rest.partition(_END)[2]
        DOCUMENT.write_text(f"{before}{_BEGIN}{machine}\n\n{table(rows)}{_END}{after}")


if __name__ == "__main__":
    main()
