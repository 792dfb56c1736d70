"""The errors that end a command, and the exit code of each.

    ReconcilerError                 1   an error before anything was done
    ├── ManifestError               1   carries diagnostics
    ├── StateError                  1   damaged, foreign or rolled-back state or journal
    ├── CredentialsError            1   none found, malformed, or rejected by the service
    ├── EngineError                 1   the service can't be reached or breaks its contract
    ├── MissingPath                 1   a path of a manifest where nothing is
    ├── UnknownJob                  1   a job that is neither declared nor recorded
    ├── Refused                     4   a guard, a stale plan, no `yes`
    │   └── LockTaken               4   another command holds the state
    ├── Halted                   3, 5   an apply that ended in its midst, after calls were sent
    └── Usage                      64   wrong words on the command line

What becomes of single actions (exit 3 and 5) and of signals (130, 143) is no error of the command:
`app` derives those codes from the outcomes.
"""

from enum import IntEnum

from reconciler.model.places import Diagnostic


class ExitCode(IntEnum):
    """What the process ends with; the table stands in the README."""

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
    """Something that ends the command; `hint` says what to do next, or is empty."""

    exit_code = ExitCode.ERROR

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


MOST_DIAGNOSTICS = 1000
"""So many faults of a manifest are shown, in each form: more are of one kind, and would fill a log."""


class ManifestError(ReconcilerError):
    """The manifest can't be used. The faults found are in `diagnostics`, in file order; of many the first.

    `more` counts those that are left out.
    """

    def __init__(self, diagnostics: tuple[Diagnostic, ...], hint: str = "") -> None:
        count = len(diagnostics)
        self.diagnostics = diagnostics[:MOST_DIAGNOSTICS]
        self.more = count - len(self.diagnostics)
        faults = f"{count} {'fault' if count == 1 else 'faults'}"
        # Of a great many, not each is looked for.
        said = f"at least {faults}, of which the first {len(self.diagnostics)} are shown" if self.more else faults
        super().__init__(f"the manifest has {said}", hint)


class StateError(ReconcilerError):
    """The state or its journal can't be trusted; no call is made on its word."""


class CredentialsError(ReconcilerError):
    """No credentials, malformed ones, or ones that the service rejects."""


class EngineError(ReconcilerError):
    """The service can't be reached, or it does not keep to its contract at all."""


class MissingPath(ReconcilerError):
    """At a `path` that was given there is neither a file nor a folder."""

    def __init__(self, path: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.path = path


class UnknownJob(ReconcilerError):
    """A job was named of which neither manifest nor state knows, as far as the command needs them."""


class ListIncomplete(EngineError):
    """The service's list of jobs was read, and may lack some."""


class Refused(ReconcilerError):
    """Nothing is wrong with the input, but doing it now is refused; `allow` is what else to say to pass, or empty."""

    exit_code = ExitCode.REFUSED

    def __init__(self, message: str, hint: str = "", *, allow: str = "") -> None:
        super().__init__(message, hint)
        self.allow = allow


class LockTaken(Refused):
    """Another command holds the lock; the message says who, what and since when."""


class Halted(ReconcilerError):
    """Something ended an apply after it had sent calls. Their results are recorded."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, is_in_doubt: bool) -> None:
        super().__init__(message, "`reconciler history` shows what was done; to go on, plan again and apply")
        if is_in_doubt:
            self.exit_code = ExitCode.IN_DOUBT


class Usage(ReconcilerError):
    """The words on the command line contradict each other."""

    exit_code = ExitCode.USAGE
