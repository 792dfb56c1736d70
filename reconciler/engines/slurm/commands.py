"""Runs the commands of Slurm, and tells what their failures mean.

A command has a session of its own: Ctrl-C ends the tool, and not the command that is in the middle of a call.
"""

import os
import re
import subprocess
import threading
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from reconciler.engines.port import AnswerClass, CredentialsError, EngineError, Reason, Result, Surroundings
from reconciler.engines.slurm.settings import Settings

_WITHIN_S = 120.0
"""How long a command may take. `sbatch` tries again by itself for some time while the controller is busy."""

_MESSAGE_LENGTH = 1000
_PREFIX = re.compile(r"^(sbatch|squeue|scontrol|scancel|sacct|sacctmgr): (error: )?|^slurm_\w+ error: ")
_VARIABLES = ("SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SLURM_TIME_FORMAT", "SLURM_CLUSTERS")
"""The variables that change what a command does or prints. Those of the user would count for the commands of a plan."""

_OWN = {"SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
"""What the commands are to print: the indexes of arrays whole, and times in UTC."""


class Failure(StrEnum):
    """What a failed command means.

    UNREACHABLE  the controller was not reached, so that nothing was sent
    LOST         the request may have arrived, and its answer did not
    DENIED       the user may not do this
    UNTRUSTED    the controller does not accept the credentials
    UNKNOWN_JOB  the controller has no such job
    ENDED        the job has ended
    REFUSED      any other refusal
    """

    UNREACHABLE = "unreachable"
    LOST = "lost"
    DENIED = "denied"
    UNTRUSTED = "untrusted"
    UNKNOWN_JOB = "unknown job"
    ENDED = "ended"
    REFUSED = "refused"


_FAILURES: Sequence[tuple[Failure, re.Pattern[str]]] = tuple(
    (failure, re.compile(words, re.IGNORECASE))
    for failure, words in (
        (Failure.UNREACHABLE, "connect failure|unable to establish (controller|configuration) |no route to host"),
        (Failure.UNTRUSTED, "protocol authentication error|invalid authentication credential|munge encode failed"),
        (
            Failure.LOST,
            (
                "timed out|zero bytes were transmitted|unexpected message received|communication connection|"
                "connection (reset|refused|closed)|unable to contact|header lengths are longer|insane message length|"
                "temporarily unable|in standby|resource temporarily unavailable|transport endpoint"
            ),
        ),
        (Failure.DENIED, "access/permission denied|user does not have permission|doesn't have privilege"),
        (Failure.ENDED, "already finished|already completing or completed"),
        (Failure.UNKNOWN_JOB, "invalid job id"),
    )
)
"""The messages of slurm_strerror(), in the order in which they count. They are the same in all commands."""


class Answer(NamedTuple):
    """What came of a command. `code` is None if the command was ended after too long a time, or could not be run."""

    code: int | None
    out: str
    err: str

    @property
    def failure(self) -> Failure | None:
        """What the command failed by; None if it succeeded."""
        return None if self.code == 0 else failure_in(self.err, was_ended=self.code is None or self.code < 0)

    @property
    def message(self) -> str:
        """What the command complained of, in one line of bounded length."""
        return message_in(self.err) or ("no answer in time" if self.code is None else f"exit code {self.code}")


def failure_in(err: str, *, was_ended: bool = False) -> Failure:
    """Return what the complaint of a command means. A command that was ended has left its request in doubt."""
    if was_ended:
        return Failure.LOST
    return next((failure for failure, words in _FAILURES if words.search(err)), Failure.REFUSED)


def message_in(err: str) -> str:
    """Return the complaint of a command in one line of bounded length."""
    lines = dict.fromkeys(_PREFIX.sub("", line).strip() for line in err.splitlines())
    return "; ".join(filter(None, lines))[:_MESSAGE_LENGTH]


_CLASSES = {
    Failure.UNREACHABLE: (AnswerClass.NOT_SENT, Reason.OTHER),
    Failure.LOST: (AnswerClass.IN_DOUBT, Reason.OTHER),
    Failure.UNTRUSTED: (AnswerClass.REJECTED, Reason.NOT_AUTHENTICATED),
    Failure.DENIED: (AnswerClass.REJECTED, Reason.NOT_PERMITTED),
    Failure.UNKNOWN_JOB: (AnswerClass.REJECTED, Reason.NO_SUCH_JOB),
    Failure.ENDED: (AnswerClass.REJECTED, Reason.NOT_RUNNING),
    Failure.REFUSED: (AnswerClass.REJECTED, Reason.INVALID),
}


def result_of(failure: Failure, message: str) -> Result:
    """Return the result of a call whose command has failed."""
    kind, reason = _CLASSES[failure]
    return Result(kind, reason, message)


class Commands:
    """The commands of Slurm on this machine. Several threads may call any method at the same time."""

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self._settings = settings
        kept = {name: value for name, value in surroundings.env.items() if not name.startswith(_VARIABLES)}
        self._env = {**kept, **_OWN}
        if settings.conf:
            self._env["SLURM_CONF"] = settings.conf
        self._lock = threading.Lock()
        self._user = ""
        # With more processes at a time, the controller refuses some, and a small machine only takes turns.
        self._room = threading.BoundedSemaphore(max(1, min(surroundings.parallelism, 4 * (os.cpu_count() or 1))))

    def run(self, argv: Sequence[str], given: str = "") -> Answer:
        """Run a command with a text as its standard input. Raises `EngineError` if there is no such command."""
        with self._room:
            try:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=self._env,
                    cwd=self._settings.folder or None,
                    start_new_session=True,
                )
            except FileNotFoundError as fault:
                raise EngineError(
                    f"the command {argv[0]} of Slurm is not on this machine",
                    "run this on a machine with Slurm's commands, such as a login node; or name one: target.ssh",
                ) from fault
            except OSError as fault:
                raise EngineError(f"the command {argv[0]} can't be run: {fault.strerror}") from fault
            return _answer(process, given)

    def read(self, argv: Sequence[str]) -> str:
        """Return what a command prints that reads something.

        Raises `CredentialsError`, and `EngineError` for any other failure.
        """
        answer = self.run(argv)
        failure = answer.failure
        if failure is None:
            return answer.out
        if failure is Failure.UNTRUSTED:
            raise CredentialsError(f"Slurm does not accept the credentials: {answer.message}")
        raise EngineError(f"{argv[0]}: {answer.message}")

    def file_from(self, path: str, at: int) -> tuple[int, bytes]:
        """Return how long a file is, and what it has from a byte on. A file that is not there is empty.

        Raises `EngineError` if it can't be read.
        """
        try:
            with open(path, "rb") as file:
                file.seek(at)
                piece = file.read()
        except FileNotFoundError:
            return at, b""
        except OSError as fault:
            raise EngineError(f"the log {path} can't be read: {fault.strerror}") from fault
        return at + len(piece), piece

    def user(self) -> str:
        """Return the name of the user as whom the commands are run. Raises as `read` does."""
        with self._lock:
            if not self._user:
                self._user = self.read(["id", "-un"]).strip()
            return self._user

    def close(self) -> None:
        """Leave nothing open."""


def _answer(process: "subprocess.Popen[bytes]", given: str) -> Answer:
    """Wait for the end of a command. It is ended after too long a time, or if the program is interrupted."""
    with process:
        try:
            out, err = process.communicate(given.encode("utf-8", "surrogateescape"), timeout=_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            return Answer(None, _text(out), _text(err))
        except BaseException:
            process.kill()
            raise
    return Answer(process.returncode, _text(out), _text(err))


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")
