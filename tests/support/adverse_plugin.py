"""The plugin of the pretend cluster, whose methods raise, or return, what the environment variable ADVERSE says.

`observe=KeyError,send=nothing` names methods of the plugin or of its engine, each with what it does: the name of an
exception to raise, or that of a value of `VALUES` to return. `after` stands for `send`, once the call was carried out.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cluster_plugin
from reconciler.engines.port import (
    AnswerClass,
    CredentialsError,
    EngineError,
    Execution,
    Observation,
    Reason,
    Request,
    Result,
    Status,
    Target,
    Verb,
)
from reconciler.engines.sandbox.cluster import ClusterEngine

RAISED: Mapping[str, Callable[[], BaseException]] = {
    "KeyError": lambda: KeyError("boom"),
    "SystemExit": lambda: SystemExit(0),
    "RecursionError": lambda: RecursionError("too deep"),
    "secret": lambda: ValueError("the token canary-4f1d was refused"),
    "EngineError": lambda: EngineError("the cluster is away", "wait"),
    "odd-error": lambda: EngineError(5),  # type: ignore[arg-type]
    "CredentialsError": lambda: CredentialsError("no token"),
}
_ACTIVE = Observation(Status.ACTIVE, "c")
_DONE = Result(AnswerClass.APPLIED)
_Odd: Any = 5
VALUES: Mapping[str, Any] = {
    "nothing": None,
    "number": 5,
    "text": "abc",
    "empty": {},
    "list": [1, 2],
    "numbers": {"cluster": 77},
    "number-key": {7: "x"},
    "submitted-number": _ACTIVE._replace(submitted_at=_Odd),
    "ref-number": _ACTIVE._replace(ref=_Odd),
    "run-id-number": _ACTIVE._replace(run_id=_Odd),
    "word-number": _ACTIVE._replace(word=_Odd),
    "times-numbers": _ACTIVE._replace(timestamps={"began": _Odd}),
    "execution-number": _ACTIVE._replace(execution=_Odd),
    "execution-node-number": _ACTIVE._replace(execution=Execution(node=_Odd)),
    "execution-pid-true": _ACTIVE._replace(execution=Execution(pid=True)),
    "execution-endless": _ACTIVE._replace(execution=Execution(took_s=float("inf"))),
    "marks-tuple": _ACTIVE._replace(marks=_Odd),
    "status-text": _ACTIVE._replace(status="weird"),  # type: ignore[arg-type]
    "status-derived": _ACTIVE._replace(status=Status.FORGOTTEN_COMPLETE),
    "not-a-number": _ACTIVE._replace(config={"text": float("nan")}),
    "config-object": _ACTIVE._replace(config={"text": object()}),  # type: ignore[dict-item]
    "huge-number": Observation(Status.COMPLETE, "c", run_id="a-" + "9" * 30),
    "huge-run-id": Observation(Status.COMPLETE, "c", run_id="a-" + "9" * 5000),
    "result-ref-number": _DONE._replace(ref=_Odd),
    "result-kind-text": _DONE._replace(kind="applied"),  # type: ignore[arg-type]
    "result-long-code": _DONE._replace(code="9" * 5000),
    "result-reason-none": Result(AnswerClass.REJECTED, None),  # type: ignore[arg-type]
    "result-long-message": _DONE._replace(message="x" * 50_000),
    "rejected": Result(AnswerClass.REJECTED, Reason.INVALID, "no"),
    "listed-number": [(5, _ACTIVE)],
    "fault-of-no-field": [("nope", "is odd")],
    "body-not-a-number": (Request(Verb.RUN, "run", {"text": float("nan")}),),
    "target-of-other": Target("other", "there"),
}
"""What a method can be made to return, by name."""

METHODS = ("promises", "identity", "observe", "observe_many", "observe_all", "stage", "send", "close")
"""The methods of the engine that ADVERSE can name, with `engine.` before `promises`."""


def behaviours() -> Mapping[str, str]:
    """Return what each method is to do, as ADVERSE says."""
    return dict(each.split("=", 1) for each in os.environ.get("ADVERSE", "").split(",") if each)


class Adverse:
    """Something whose named methods do as ADVERSE says, and whose other attributes are those of `inner`."""

    def __init__(self, inner: Any, prefix: str = "") -> None:
        self._inner = inner
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        behaviour = behaviours().get(f"{self._prefix}{name}")
        after = behaviours().get("after") if name == "send" else None
        if behaviour is None and after is None:
            return found
        if not callable(found) or isinstance(found, Mapping):
            return _done(behaviour or "")

        def adverse(*arguments: Any, **named: Any) -> Any:
            if after is not None:
                found(*arguments, **named)
            return _done(behaviour or after or "")

        return adverse


def _done(behaviour: str) -> Any:
    if behaviour in RAISED:
        raise RAISED[behaviour]()
    return VALUES[behaviour]


class _Opened:
    """The engine as a context manager, which fails on leaving if ADVERSE names `close`."""

    def __init__(self, opening: AbstractContextManager[Any]) -> None:
        self._opening = opening

    def __enter__(self) -> Any:
        return Adverse(self._opening.__enter__(), "engine.")

    def __exit__(self, *exception: Any) -> None:
        self._opening.__exit__(*exception)
        if "engine.close" in behaviours():
            _done(behaviours()["engine.close"])


class _Plugin(cluster_plugin.ClusterPlugin):
    """The plugin under the name of its own entry point."""

    name = "adverse"
    engine_class = ClusterEngine

    def open(self, target: Target, surroundings: Any) -> AbstractContextManager[Any]:
        surroundings.note_credential("canary-4f1d")
        return _Opened(super().open(target, surroundings))


PLUGIN = Adverse(_Plugin())


def install(folder: Path) -> None:
    """Make the plugin known in this folder, as an installer would."""
    metadata = folder / "adverse_plugin-2.1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: adverse-plugin\nVersion: 2.1\n")
    (metadata / "entry_points.txt").write_text("[reconciler.engines]\nadverse = adverse_plugin:PLUGIN\n")
