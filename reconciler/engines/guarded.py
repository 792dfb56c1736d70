"""The engines of other packages, behind a guard: whatever such an engine does, the tool sees what the port permits.

What a plugin or its engine raises becomes an error of the port that names the package. Each value that comes back is
checked (`reconciler.engines.answers`), before anything depends on it:

    an observation that the port does not permit   the job is UNREADABLE, and the detail says why
    a job that `observe_many` leaves out           the same
    any other value that the port does not permit  `EngineFailed`
    what `send` raises, and a malformed result     the call is in doubt, since nobody knows what became of it

`registry.plugin` puts each engine that does not come with the tool behind the guard.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from threading import Event
from typing import Any, NoReturn, TypeVar

from reconciler.engines import answers
from reconciler.engines.answers import Malformed
from reconciler.engines.conditions import Condition
from reconciler.engines.port import (
    AnswerClass,
    Config,
    CredentialsError,
    Engine,
    EngineError,
    Job,
    Observation,
    Promises,
    Request,
    Result,
    Schema,
    Status,
    Step,
    Surroundings,
    Target,
    always,
)
from reconciler.host.packages import HINT, RAISED, RAISED_IN_APPLY, Package
from reconciler.host.secrecy import Secrets
from reconciler.model.errors import EngineFailed

_Value = TypeVar("_Value")
_Check = Callable[[Any], _Value]


class _Guard:
    """Calls the methods of a plugin or of an engine, which is `inner`."""

    def __init__(self, inner: Any, package: Package) -> None:
        self._inner = inner
        self._package = package

    def _call(self, check: _Check[_Value], where: str, *arguments: Any) -> _Value:
        """Return what a method returns, checked. Raises `EngineError` or `CredentialsError`."""
        try:
            return check(getattr(self._inner, where)(*arguments))
        except RAISED as fault:
            self._refuse(fault, where)

    def _read(self, check: _Check[_Value], where: str) -> _Value:
        """Return an attribute, checked."""
        try:
            return check(getattr(self._inner, where))
        except RAISED as fault:
            self._refuse(fault, where)

    def _refuse(self, fault: BaseException, where: str) -> NoReturn:
        """Raise the error of the port about what was raised in a method. An error that the port permits stays."""
        if isinstance(fault, EngineError | CredentialsError) and _has_texts(fault):
            raise fault
        raise EngineFailed(self._words(fault, where), HINT) from fault

    def _words(self, fault: BaseException, where: str) -> str:
        if isinstance(fault, Malformed):
            return self._package.blamed(f"{where} returned {self._package.shown(lambda: str(fault))}")
        return self._package.failed(fault, where)


class GuardedPlugin(_Guard):
    """An `EnginePlugin` of another package."""

    def __init__(self, inner: Any, name: str, distribution: str) -> None:
        """`name` is that of the entry point, and `distribution` the name and the version of the package, or ""."""
        super().__init__(inner, Package(f"the engine {name}", distribution, Secrets()))
        self.name = name
        self._read(self._checked_name, "name")

    def _checked_name(self, value: object) -> str:
        if value != self.name:
            raise Malformed(f"{answers.text(value)!r:.60} where the name of its entry point is to be, {self.name}")
        return self.name

    @property
    def target_schema(self) -> Schema:
        """See `EnginePlugin.target_schema`."""
        return self._read(_schema, "target_schema")

    @property
    def config_schema(self) -> Schema:
        """See `EnginePlugin.config_schema`."""
        return self._read(_schema, "config_schema")

    def target(self, block: Mapping[str, Any], folder: str) -> Target:
        """See `EnginePlugin.target`."""
        return self._call(lambda value: answers.target(value, self.name), "target", block, folder)

    def target_faults(self, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """See `EnginePlugin.target_faults`."""
        return iter(self._call(_faults, "target_faults", block))

    def job_fault(self, job: Job) -> str:
        """See `EnginePlugin.job_fault`."""
        return self._call(answers.text, "job_fault", job)

    def same_config(self, a: Config, b: Config) -> bool:
        """See `EnginePlugin.same_config`."""
        return self._call(answers.truth, "same_config", a, b)

    def wording(self, target: Target, step: Step) -> tuple[Request, ...]:
        """See `EnginePlugin.wording`."""
        return self._call(_requests, "wording", target, step)

    def addressed(self, target: Target, request: Request) -> Request:
        """See `EnginePlugin.addressed`."""
        return self._call(answers.request, "addressed", target, request)

    def warnings(self, target: Target, jobs: Collection[Job]) -> Iterable[str]:
        """See `EnginePlugin.warnings`."""
        return self._call(_texts, "warnings", target, jobs)

    def promises(self, target: Target) -> Promises:
        """See `EnginePlugin.promises`."""
        return self._call(answers.promises, "promises", target)

    def is_on_this_machine(self, target: Target) -> bool:
        """See `EnginePlugin.is_on_this_machine`."""
        return self._call(answers.truth, "is_on_this_machine", target)

    def secrets(self, env: Mapping[str, str]) -> Iterable[str]:
        """See `EnginePlugin.secrets`."""
        found = self._call(_texts, "secrets", env)
        for secret in filter(None, found):
            self._package.secrets.add(secret)
        return found

    def open(self, target: Target, surroundings: Surroundings) -> AbstractContextManager[Engine]:
        """See `EnginePlugin.open`. The engine is behind the guard as well."""

        def note(credential: str) -> None:
            self._package.secrets.add(credential)
            surroundings.note_credential(credential)

        opening = self._call(lambda value: value, "open", target, surroundings._replace(note_credential=note))
        return _Opening(opening, self._package)


class _Opening(_Guard):
    """The context manager that `open` of a plugin returned. It hides no error of the command."""

    def __enter__(self) -> "GuardedEngine":
        return GuardedEngine(self._call(lambda value: value, "__enter__"), self._package)

    def __exit__(self, *exception: object) -> None:
        try:
            self._inner.__exit__(*exception)
        except RAISED as fault:
            if not exception or exception[0] is None:
                raise EngineFailed(self._words(fault, "close"), HINT) from fault


class GuardedEngine(_Guard):
    """An `Engine` of another package."""

    def __init__(self, inner: Any, package: Package) -> None:
        super().__init__(inner, package)
        self._failed: tuple[Step, str] | None = None
        """The call in which the engine failed, and the message about it."""
        self.promises: Promises = self._read(answers.promises, "promises")

    def identity(self) -> Mapping[str, str]:
        """See `Engine.identity`."""
        return self._call(answers.identity, "identity")

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        """See `Engine.observe`."""
        return self._call(lambda value: self._observation(value, "observe"), "observe", job_id, run_id)

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        """See `Engine.observe_many`. Each of the jobs has an observation."""
        where = "observe_many"
        found = self._call(_mapping, where, job_ids)
        left_out = Observation(Status.UNREADABLE, detail=self._package.blamed(f"{where} left the job out"))
        return {one: self._observation(found[one], where) if one in found else left_out for one in job_ids}

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        """See `Engine.observe_all`."""
        where = "observe_all"
        listed = self._call(iter, where)
        while True:
            try:
                job_id, observed = _listed(next(listed))
            except StopIteration:
                return
            except RAISED as fault:
                self._refuse(fault, where)
            yield job_id, self._observation(observed, where)

    def stage(self, step: Step) -> str:
        """See `Engine.stage`."""
        return self._call(lambda value: answers.word(value, "a handle that"), "stage", step)

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        """See `Engine.send`.

        A call in which the engine fails is in doubt. No other call is sent after it until that call was answered, since
        each of them would probably end in the same way.
        """
        failed = self._failed
        if failed is not None and failed[0] != step:
            return Result(AnswerClass.NOT_SENT, message=failed[1])
        asked = Condition(may_be_sent)
        try:
            result = answers.result(self._inner.send(step, asked))
        except RAISED_IN_APPLY as fault:
            if asked.raised is None:
                message = self._words(fault, "send")
                self._failed = step, message
                return Result(AnswerClass.IN_DOUBT, message=message)
        if asked.raised is not None:
            raise asked.raised
        if failed is not None:
            self._failed = None
        return result

    def log(self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: Event) -> Iterator[bytes]:
        """See `Engine.log`."""
        try:
            pieces = iter(self._inner.log(job_id, run_id, tail=tail, follow=follow, stop=stop))
        except RAISED as fault:
            self._refuse(fault, "log")
        while True:
            try:
                piece = _piece(next(pieces))
            except StopIteration:
                return
            except RAISED as fault:
                self._refuse(fault, "log")
            # Outside of the `try`: whoever closes this generator raises a `GeneratorExit` here.
            yield piece

    def close(self) -> None:
        """See `Engine.close`."""
        self._call(lambda value: None, "close")

    def _observation(self, value: object, where: str) -> Observation:
        """Return an observation; an unreadable one if the port does not permit the value."""
        try:
            return answers.observation(value)
        except RAISED as fault:
            return Observation(Status.UNREADABLE, detail=self._words(fault, where))


def _has_texts(fault: EngineError | CredentialsError) -> bool:
    texts: tuple[object, object] = fault.message, fault.hint
    return all(isinstance(text, str) for text in texts)


def _schema(value: object) -> Schema:
    if not isinstance(value, Mapping):
        raise Malformed(f"a {type(value).__name__} where a schema is to be")
    return value


def _mapping(value: object) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise Malformed(f"a {type(value).__name__} where a mapping is to be")
    return dict(value)


def _texts(value: Iterable[object]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise Malformed("one text where several are to be")
    return tuple(answers.text(each) for each in value)


def _faults(value: Iterable[tuple[object, object]]) -> tuple[tuple[str, str], ...]:
    return tuple((answers.text(field), answers.text(fault)) for field, fault in value)


def _requests(value: Iterable[object]) -> tuple[Request, ...]:
    return tuple(answers.request(each) for each in value)


def _listed(value: tuple[object, object]) -> tuple[str, object]:
    job_id, observed = value
    return answers.word(job_id, "a job whose id"), observed


def _piece(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise Malformed(f"a {type(value).__name__} where bytes are to be")
    return value
