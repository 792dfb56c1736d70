"""What is known of the execution of a run: where, since when, and how it ended."""

from typing import NamedTuple


class Execution(NamedTuple):
    """The execution of one run, as far as the engine knows it. What is not known has its default.

    `node` is the name of the machine, and `pid` the process id of the command there. `started_at` and `ended_at` are
    times of RFC 3339. `exit_code` is None if a signal ended the command, whose name is `signal`. `reason` says why the
    engine ended the run, in a few words such as "jobTimeout", "aborted" or "out of memory". `took_s` and `cpu_s` are in
    seconds. `max_memory_bytes` is the most memory that the run had. `attempts` counts the attempts. `failed_tasks`
    are the tasks of a run of many that failed, in the words in which the engine is asked for them, such as "3,7-9".
    """

    node: str = ""
    pid: int = 0
    started_at: str = ""
    ended_at: str = ""
    exit_code: int | None = None
    signal: str = ""
    reason: str = ""
    took_s: float | None = None
    cpu_s: float | None = None
    max_memory_bytes: int | None = None
    attempts: int = 0
    failed_tasks: str = ""


UNKNOWN = Execution()
"""Nothing is known of an execution."""
