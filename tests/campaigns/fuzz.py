"""Fuzz the readers of untrusted bytes with atheris, guided by code coverage.

    python tests/campaigns/fuzz.py --seconds N [--target NAME]... [--seed S]  each target for N seconds, in a process
    python tests/campaigns/fuzz.py --target NAME --input FILE                 one saved input again

The assertions of each target stand in `fuzz_targets.py`. Corpora and findings are kept under .fuzz/NAME, so that the
next run continues with the corpus. The exit code is 1 if a target has a finding.
"""

import argparse
import hashlib
import importlib
import importlib.util
import os
import random
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import tally

NAMES = ("manifest", "schema", "state", "journal", "session", "answer", "observation", "text")
INSTRUMENTED = ["reconciler"]
SLOW_S = 20
"""An input that takes longer than this is a finding too."""


class Report(NamedTuple):
    """The result of one target; `finding` is the input that was saved, None if there is none."""

    name: str
    inputs: int
    seconds: float
    edges: int
    corpus: int
    finding: Path | None
    output: str


def fuzz(name: str, seconds: int, seed: int, room: Path) -> Report:
    """Fuzz one target in a child process."""
    folder = room / name
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    before = set(folder.glob("finding-*"))
    started_s = time.monotonic()
    child = subprocess.run(
        [sys.executable, __file__, "--child", name, f"--seconds={seconds}", f"--seed={seed}", f"--room={room}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    found = sorted(set(folder.glob("finding-*")) - before)
    executed = re.findall(r"stat::number_of_executed_units: (\d+)", child.stdout)
    edges = re.findall(r"\bcov: (\d+)", child.stdout)
    failed = child.returncode != 0 or not executed
    return Report(
        name,
        int(executed[-1]) if executed else 0,
        time.monotonic() - started_s,
        int(edges[-1]) if edges else 0,
        sum(1 for _ in (folder / "corpus").iterdir()),
        (found or [folder])[0] if failed else None,
        child.stdout if failed else "",
    )


def run_child(name: str, seconds: int, seed: int, folder: Path) -> NoReturn:
    """Run in the child: instrument the product as it is imported, then fuzz until the time is over."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        targets = importlib.import_module("fuzz_targets")
    target = targets.TARGETS[name]
    seeds = folder / "seeds"
    seeds.mkdir(exist_ok=True)
    for content in target.seeds:
        (seeds / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    flags = {
        "max_total_time": seconds,
        "seed": seed,
        "max_len": target.max_bytes,
        "timeout": SLOW_S,
        "rss_limit_mb": 2000,
        "dict": words,
        "artifact_prefix": f"{folder}/finding-",
        "print_final_stats": 1,
    }
    arguments = [
        sys.argv[0],
        *(f"-{flag}={value}" for flag, value in flags.items()),
        str(folder / "corpus"),
        str(seeds),
    ]
    atheris.Setup(arguments, target.run)
    atheris.Fuzz()
    sys.exit(0)


def _escaped(word: str) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02X}" for byte in word.encode())


def show(reports: list[Report]) -> None:
    """Print the table, and each finding with the command that reproduces it."""
    row = "{:12} {:>12} {:>9} {:>7} {:>8}  {}"
    print(row.format("target", "inputs", "seconds", "edges", "corpus", ""))
    for r in reports:
        print(row.format(r.name, r.inputs, f"{r.seconds:.0f}", r.edges, r.corpus, "FOUND" if r.finding else ""))
    print(row.format("in all", sum(r.inputs for r in reports), f"{sum(r.seconds for r in reports):.0f}", "", "", ""))
    for r in reports:
        if r.finding:
            again = f"{tally.PYTHON} tests/campaigns/fuzz.py --target {r.name} --input {r.finding}"
            print(f"\n{r.name}: {again}\n{r.output[-3000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=60, metavar="N", help="seconds for each target [60]")
    parser.add_argument("--target", action="append", choices=NAMES, help="this target only; may be repeated")
    parser.add_argument("--seed", type=int, default=None, metavar="S", help="seed of the run; a new seed is printed")
    parser.add_argument("--input", type=Path, metavar="FILE", help="try this input only")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="targets at once")
    parser.add_argument(
        "--room", type=Path, default=Path(".fuzz"), metavar="DIR", help="folder of corpora and findings [.fuzz]"
    )
    parser.add_argument("--child", choices=NAMES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.input is not None:
        importlib.import_module("fuzz_targets").TARGETS[given.target[0]].run(given.input.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("skipped: atheris is not here; it comes for Linux on x86-64, Python 3.11 to 3.13")
        return 0
    if given.child:
        run_child(given.child, given.seconds, given.seed, given.room / given.child)
    seed = random.randrange(1, 10**6) if given.seed is None else given.seed
    print(f"{given.seconds} s for each target, --seed {seed}", flush=True)
    with ThreadPoolExecutor(given.workers) as pool:
        reports = list(pool.map(lambda name: fuzz(name, given.seconds, seed, given.room), given.target or NAMES))
    show(reports)
    return 1 if any(r.finding for r in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
