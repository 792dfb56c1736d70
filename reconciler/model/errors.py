"""The errors that end a command, and the exit code of each.

    ReconcilerError                 1   an error that ends a command before its first call
    ├── ManifestError               1   carries diagnostics
    ├── StateError                  1   a state or journal that is damaged, foreign or rolled back
    │   ├── OtherTarget             1   a state of another service
    │   ├── RolledBack              4   a state that is older than one that was written, or than its own history
    │   ├── NoOwnFolder             1   a folder of the user's own that can't be written to
    │   ├── NoRevisions             1   a place of a state that keeps no older revisions
    │   ├── NotFenced               1   a place that ignores the condition of a compare-and-swap
    │   ├── Unreachable             1   a remote that does not exist, refuses access, or does not answer
    │   │   ├── HomeFailed          1   a home of state of another package that breaks its port
    │   │   ├── Denied              1   a write that the remote refuses by a rule
    │   │   ├── Exhausted           1   no process or open file left to run git with
    │   │   └── _OtherHash          1   a remote with another hash function than the private repository
    │   ├── Elsewhere               1   a branch that holds another state, or another manifest
    │   ├── JournalDamaged          1   a record that is missing from the journal
    │   └── JournalBroken        1, 3   a write or a flush of the journal that failed
    │       ├── Unpublished      1, 3   a publish that did not arrive, or may not have
    │       └── Overtaken           4   a state that another program changed during the command
    │           └── Displaced    4, 3   a file of the state that was replaced during the command
    ├── CredentialsError            1   credentials that are missing, malformed or rejected
    ├── EngineError                 1   a service that can't be reached, or that breaks its contract
    │   ├── ListIncomplete          1   a list of jobs that may lack some jobs
    │   ├── EngineFailed            1   an engine of another package that breaks its port
    │   ├── OtherIdentity           1   another service than that of the state, at the same address
    │   └── UnknownEngine           1   an engine that no installed package has
    ├── PluginFailed                1   a plugin of another package that breaks its port
    │   ├── EngineFailed            1   the same as above
    │   └── HomeFailed              1   the same as above
    ├── MissingPath                 1   a path without a file or folder
    ├── UnknownJob                  1   a job that is neither declared nor recorded
    ├── Unrunnable                  1   a git that can't be started
    │   └── Exhausted               1   no process or open file left to run git with
    ├── Refused                     4   a guard, a stale plan, or a question that was not answered with `yes`
    │   └── LockTaken               4   another command holds the lock of the state
    ├── Halted                   3, 5   an apply that ended early, after calls were sent
    └── Usage                      64   a command line that contradicts itself
        └── UnknownPlace           64   a URL of a state that no plugin takes

A second code of an error of the journal is that of an apply that has sent calls (`exit_code_once_sent`). The errors of
the state are in `state`, and those of git and of folders in `host`; all other errors are here.

Some exit codes need no error. `usecases.apply.Applied.exit_code` and `rules.drift.Drift.exit_code` derive theirs from
outcomes and findings. `cli.interrupts` has those of signals (130 and 143), and `cli.plan` that of `--detailed-exitcode`
(2).
"""

from enum import IntEnum
from typing import Self

from reconciler.model.places import Diagnostic


class ExitCode(IntEnum):
    """The exit codes of the tool. The README has the table."""

    DONE = 0
    ERROR = 1
    PENDING = 2
    FAILED = 3
    REFUSED = 4
    IN_DOUBT = 5
    USAGE = 64
    INTERRUPTED = 130
    TERMINATED = 143


class ReconcilerError(Exception):
    """An error that ends the command. `hint` says what the user can do next, or is ""."""

    exit_code = ExitCode.ERROR

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def changed(self, *, message: str | None = None, hint: str | None = None) -> Self:
        """A copy of this error, of the same class, in which the texts that are given take the place of the old ones."""
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.message = self.message if message is None else message
        copy.hint = self.hint if hint is None else hint
        copy.args = (copy.message, *self.args[1:])
        return copy


MOST_DIAGNOSTICS = 1000
"""The number of faults of a manifest that a view shows. More faults than that mostly have one cause."""


class ManifestError(ReconcilerError):
    """A manifest with faults. `diagnostics` holds up to `MOST_DIAGNOSTICS` of them, in file order.

    `more` is the number of faults that `diagnostics` leaves out.
    """

    def __init__(self, diagnostics: tuple[Diagnostic, ...], hint: str = "") -> None:
        count = len(diagnostics)
        self.diagnostics = diagnostics[:MOST_DIAGNOSTICS]
        self.more = count - len(self.diagnostics)
        faults = f"{count} {'fault' if count == 1 else 'faults'}"
        # The checks of a manifest end early after a great number of faults.
        number = f"at least {faults}, of which the first {len(self.diagnostics)} are shown" if self.more else faults
        super().__init__(f"the manifest has {number}", hint)


class StateError(ReconcilerError):
    """A state or a journal that is damaged, foreign or rolled back. No call may rely on it."""


class CredentialsError(ReconcilerError):
    """Credentials that are missing, malformed, or rejected by the service."""


class EngineError(ReconcilerError):
    """A service that can't be reached, or that breaks its contract."""


class PluginFailed(ReconcilerError):
    """A plugin of another package that broke its port. The cause of the error is what the plugin raised."""


class EngineFailed(PluginFailed, EngineError):
    """An engine of another package that raised, or returned, what the port does not permit. The message names it."""


class OtherIdentity(EngineError):
    """The service at the address of the target is another one than the state is for. No job of it may be touched."""


class MissingPath(ReconcilerError):
    """A given `path` at which there is neither a file nor a folder."""

    def __init__(self, path: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.path = path


class UnknownJob(ReconcilerError):
    """A job name that stands neither in the manifest nor in the state, as far as the command reads them."""


class ListIncomplete(EngineError):
    """A list of jobs from the service that may lack some jobs."""


class UnknownEngine(EngineError):
    """An engine that no installed package has. The hint says which engines there are, and how to get another one."""


class Refused(ReconcilerError):
    """A refusal to do what the input asks for. `allow` holds the options that lift the refusal, or is ""."""

    exit_code = ExitCode.REFUSED

    def __init__(self, message: str, hint: str = "", *, allow: str = "") -> None:
        super().__init__(message, hint)
        self.allow = allow


class LockTaken(Refused):
    """A lock that another command holds. The message names its user, its command, and the time it was taken."""


class Halted(ReconcilerError):
    """An error that ended an apply after calls were sent. The results of these calls are recorded."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, is_in_doubt: bool) -> None:
        super().__init__(message, "`reconciler history` shows what was done; to go on, plan again and apply")
        if is_in_doubt:
            self.exit_code = ExitCode.IN_DOUBT


class Usage(ReconcilerError):
    """A command line whose words contradict each other."""

    exit_code = ExitCode.USAGE
