"""The targets of `fuzz.py`: each target accepts any bytes, and raises `AssertionError` if a rule does not hold.

A target is a pure function of its input, so that a saved input reproduces a finding.
"""

import json
import re
import unicodedata
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import unescape
from random import Random
from typing import Any, NamedTuple
from urllib.parse import unquote

from jsonschema import Draft202012Validator

from checkout import ROOT, TESTS
from journals import record_of
from lossy_disk import SCRIBE, LossyDisk
from nested_engine import BATCH, engine_of
from reconciler.engines.bytenite.answers import may_repeat, result_from
from reconciler.engines.bytenite.auth import Credentials, Grant, Tokens
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.bytenite.wire import DETAIL_LIMIT, api_request, observation_from
from reconciler.engines.http.reply import Reply, json_document
from reconciler.engines.http.retries import retry_after_s
from reconciler.engines.http.transport import BODY_LIMIT_BYTES
from reconciler.engines.port import AnswerClass, Result, Step
from reconciler.host.safe_text import Style, field, log_field, printable, styled, width
from reconciler.manifest.document import Document
from reconciler.manifest.engine_schemas import narrow, schemas_of
from reconciler.manifest.events import LIBYAML
from reconciler.manifest.parse import parse
from reconciler.manifest.schema import Validator, part_of, schema_text
from reconciler.manifest.yaml import read
from reconciler.model.errors import CredentialsError, EngineError, ManifestError, StateError
from reconciler.model.jobs import Desired, Doubt, Evidence, Observation, Record, State, Status, Target, Verb
from reconciler.model.times import is_zero
from reconciler.rules.lost_calls import Trace, trace_of
from reconciler.state import codec, record_json
from reconciler.state.journal import RESERVE_BYTES, JournalDamaged, decode
from reconciler.state.loading import load
from reconciler.state.paths import paths_of
from reconciler.state.session import Session
from reconciler.state.state_files import Opened
from reconciler.state.writer import Writer
from reconciler.usecases.init import MANIFEST

CANARY = "canary/token+1"
TARGET = Target("bytenite", "https://api.example/v1/customer")
_STATE_PATH = "/f/jobs.state.json"
_BEFORE = Evidence(Status.COMPLETE, "JOB_STATE_COMPLETE", "2026-11-20T10:00:00Z", {"JOB_STATE_COMPLETE": "then"})
_DOUBT = Doubt(
    "op-1", Verb.RUN, {"jobTimeout": 7}, "t", _BEFORE, "2026-11-21T10:00:00Z", "HTTP 503", run=4, staged="42"
)
_STATE = State(
    "lineage-1",
    3,
    TARGET,
    {
        "a": Record(
            "id-a",
            Desired.RUNNING,
            {"jobTimeout": 7, "isTestJob": True},
            frozenset({"t", "u"}),
            run=3,
            end=Status.FAILED,
            last_active="2026-11-21T10:00:00Z",
            ref="uid-3",
            target=Target("sandbox", ""),
        ),
        "b": Record("id-b", Desired.ABORTED, resolved="run was applied, says ada@host"),
        "é": Record("id-c", None, doubt=_DOUBT),
    },
    {"id-a": 3, "id-gone": 5},
    {"cluster": "9d8e"},
)


class FuzzTarget(NamedTuple):
    """One target. `seeds` are real examples; `words` are pieces that inputs are built from."""

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[str] = ()
    max_bytes: int = 2000


# --- schemas -----------------------------------------------------------------------------------------------------

_SCHEMAS = [
    *(json.loads(schema_text(f"{name}.schema.json")) for name in ("manifest", "plan")),
    *(narrow(BATCH), part_of(schemas_of(BATCH).whole, "config")),
]
_JUDGES = [(Validator(schema), Draft202012Validator(schema)) for schema in _SCHEMAS]


def schema(content: bytes) -> None:
    """jsonschema-rs and jsonschema agree on a value. A value that both refuse gets a reason and a place."""
    document = read(content, "f")
    if not document.whole or document.faults:
        return
    for ours, theirs in _JUDGES:
        is_valid = ours.is_valid(document.value)
        assert theirs.is_valid(document.value) is is_valid
        refusals = list(ours.refusals(document.value))
        assert (refusals == []) is is_valid
        for path, of_key, message in refusals:
            assert message
            document.position(path, of_key)


# --- the manifest ------------------------------------------------------------------------------------------------


def manifest(content: bytes) -> None:
    """The two parsers agree, each fault has its place, and a manifest that is accepted obeys its own rules."""
    documents = [read(content, "f", libyaml) for libyaml in (True, False) if LIBYAML or not libyaml]
    for document in documents:
        assert document.whole or document.faults, "it was not read, and nothing says why"
        for fault in document.faults:
            _assert_within(fault.position, content)
    if LIBYAML:
        _assert_same(*documents)
    try:
        made = parse([("f", content)], engine_of)
    except ManifestError as error:
        _assert_placed(error, content)
        return
    assert made.jobs
    assert list(made.jobs) == sorted(made.jobs)
    assert len({job.id for job in made.jobs.values()}) == len(made.jobs)
    for name, job in made.jobs.items():
        assert job.name == name
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", job.id), job.id
        assert ".." not in job.id
        _assert_within(made.position(name), content)
        for verb in Verb:
            call = api_request(Step(verb, job.id, config=job.config))
            assert call.path.isascii()
            json.dumps(call.body, allow_nan=False)
    again = (
        parse([("elsewhere", b"# a comment\n" + content)], engine_of)
        if not content.startswith(b"\xef\xbb\xbf")
        else made
    )
    assert again.digest == made.digest, "a comment changed what it means"


def _assert_placed(error: ManifestError, content: bytes) -> None:
    assert error.diagnostics
    for diagnostic in error.diagnostics:
        _assert_within(diagnostic.position, content)
        assert diagnostic.message


def _assert_same(by_c: Document, by_python: Document) -> None:
    # A tag is refused. PyYAML takes a comma behind it for a part of the tag, and libyaml does not.
    has_tag = any(fault.message.startswith("a tag ") for fault in by_c.faults)
    if by_c.whole and by_python.whole and not has_tag:
        assert repr(by_c.value) == repr(by_python.value)
        assert by_c.faults == by_python.faults
        assert list(_places(by_c)) == list(_places(by_python))


def _places(document: Document) -> Iterator[tuple[int, int]]:
    def walk(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[int, int]]:
        yield document.position(path)[1:]
        pairs = value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
        for key, inner in pairs:
            yield document.position((*path, key), of_key=True)[1:]
            yield from walk(inner, (*path, key))

    return walk(document.value, ())


def _assert_within(position: tuple[str, int, int], content: bytes) -> None:
    file, line, column = position
    assert file == "f"
    lines = re.split(r"\r\n?|\n", content.decode("utf-8-sig", "replace"))
    assert 1 <= line <= len(lines), position
    assert 1 <= column <= len(lines[line - 1]) + 1, position


# --- state and journal -------------------------------------------------------------------------------------------


def state(content: bytes) -> None:
    """Read the input as a state: as it is, with a correct digest, and as `state accept` reads it."""
    _state_or_refusal(codec.decode, content)
    _state_or_refusal(codec.decode_unchecked, content)
    rest = content.split(b"\n", 2)[2] if codec.stated_digest(content) else content
    _state_or_refusal(codec.decode, signed(rest))


def signed(rest: bytes) -> bytes:
    """Return a state file with a correct digest."""
    return b'{\n  "digest": "sha256:' + codec.digest_of(rest).encode() + b'",\n' + rest


def _state_or_refusal(decode_state: Callable[[bytes, str], State], content: bytes) -> None:
    try:
        found = decode_state(content, "the-file")
    except StateError as refusal:
        _assert_told(refusal, "the-file")
        return
    _assert_sound(found)


def _assert_told(refusal: StateError, where: str) -> None:
    assert where in refusal.message
    assert refusal.hint


def _assert_sound(found: State) -> None:
    """Each field has its type, and the state survives a write and a read."""
    assert isinstance(found.lineage, str)
    assert type(found.serial) is int
    for name, record in found.jobs.items():
        assert isinstance(name, str)
        assert isinstance(record.id, str)
        assert isinstance(record.resolved, str)
        assert all(isinstance(token, str) for token in record.run_tokens)
        _assert_config(record.config)
        if record.doubt is not None:
            _assert_config(record.doubt.config)
            for word in (record.doubt.op, record.doubt.sent_at, record.doubt.answer, record.doubt.run_token or ""):
                assert isinstance(word, str)
            before = record.doubt.before
            if before is not None:
                words = (before.word, before.submitted_at or "", *before.timestamps, *before.timestamps.values())
                assert all(isinstance(word, str) for word in words)
    content = codec.encode(found)
    again = codec.decode(content, "again")
    assert again == found
    assert codec.encode(again) == content


def _assert_config(config: Mapping[Any, Any]) -> None:
    """A config is JSON, and its keys are in order at every level."""
    text = json.dumps(config, allow_nan=False, default=dict)  # EMPTY is a mapping that nobody can change
    assert text == json.dumps(json.loads(text), sort_keys=True), config


def journal(content: bytes) -> None:
    """Read the input as a journal: as it is, and with each line as a record with a correct checksum."""
    for written in (content, framed(content.split(b"\n"))):
        try:
            entries = decode(written, "the-file")
        except JournalDamaged as refusal:
            _assert_told(refusal, "the-file")
            entries = refusal.readable
        else:
            assert entries, "no header, and not refused"
            assert [entry["n"] for entry in entries] == list(range(len(entries)))
        assert all(isinstance(entry, dict) for entry in entries)


def framed(payloads: Sequence[bytes]) -> bytes:
    """Frame these payloads as the records of a journal, with the right numbers or as they are."""
    from reconciler.state.journal import _checksum

    lines = [b"%s %d %s\n\n" % (_checksum(payload), len(payload), payload) for payload in payloads]
    return b"".join(line + line for line in lines) + bytes(64)


_HEADER = {
    "type": "header",
    "format": 2,
    "lineage": _STATE.lineage,
    "serial": _STATE.serial,
    "digest": codec.stated_digest(codec.encode(_STATE)),
    "engine": TARGET.engine,
    "endpoint": TARGET.address,
}


def session(content: bytes) -> None:
    """Read lines of JSON as the records of a journal, beside a sound state unless the header names none.

    The journal is replayed and folded with the same result, or refused.
    """
    entries = [entry for line in content.split(b"\n") if isinstance(entry := json_document(line), dict)]
    if not entries or entries[0].get("type") != "header":
        entries.insert(0, _HEADER)
    for entry in entries:
        # The journal itself writes this field, and in front of the others.
        if type(entry.get("flushed", 0)) is not int:
            del entry["flushed"]
    written = b"".join(record_of(entry, number) for number, entry in enumerate(entries)) + bytes(64)
    disk = LossyDisk(Random(1))
    if entries[0].get("digest") != "":
        disk.create(_STATE_PATH, 0o600).write(0, codec.encode(_STATE))
    disk.create(paths_of(_STATE_PATH).journal, 0o600).write(0, written)
    try:
        loaded = load(disk, _STATE_PATH, TARGET)
    except StateError as refusal:
        _assert_told(refusal, _STATE_PATH)
        return
    assert loaded is not None
    _assert_sound(loaded.state)
    Session(Writer(Opened(disk, _STATE_PATH, loaded, lambda: _STATE, lambda state, digest: None)), SCRIBE).close()
    assert disk.read(paths_of(_STATE_PATH).journal) is None, "the journal is still there"
    folded = load(disk, _STATE_PATH, TARGET)
    assert loaded.state.jobs == (folded.state.jobs if folded else {})


def _journal_seed() -> bytes:
    """Return the records that a session writes, one on each line."""
    disk = LossyDisk(Random(1))
    started = Session(Writer(Opened(disk, _STATE_PATH, None, lambda: _STATE, lambda state, digest: None)), SCRIBE)
    started.intend("a", "id-a", _DOUBT)
    started.conclude("op-1", "a", Record("id-a", Desired.RUNNING, {"jobTimeout": 7}, frozenset({"t"})), "HTTP 200")
    started.put("b", None)
    started.move({"a": "z"})
    started.intend("c", "id-c", _DOUBT._replace(op="op-2"))
    found = decode(disk.read(paths_of(_STATE_PATH).journal) or b"", "seed")
    return b"\n".join(json.dumps(entry).encode() for entry in found)


# --- the answers of a service ------------------------------------------------------------------------------------

_STATUSES = (200, 201, 204, 299, 301, 302, 308, 400, 401, 403, 404, 405, 418, 429, 500, 501, 502, 503, 504, 599, 100, 0)


def reply_from(content: bytes) -> Reply:
    """Build a reply from bytes.

    The first byte says whether the request was sent and answered, and the second chooses the status. Three lines
    follow, one for each header, and then the body.
    """
    flags, chosen = (*content[:2], 0, 0)[:2]
    parts = content[2:].split(b"\n", 3)
    decoded = [part.decode("latin-1") for part in parts[:-1]]
    body = parts[-1][:BODY_LIMIT_BYTES]
    names = ("retry-after", "date", "location")
    sent = not flags & 1
    return Reply(
        sent=sent,
        status=_STATUSES[chosen % len(_STATUSES)] if sent and not flags & 2 else None,
        headers=dict(zip(names, decoded, strict=False)),
        text=body.decode(errors="replace"),
        document=json_document(body),
        fault="the answer broke off before its end" if flags & 4 else "",
    )


def answer(content: bytes) -> None:
    """The class of an answer follows the rules, and no text about the answer holds the token."""
    reply = reply_from(content)
    tokens = Tokens(Credentials(CANARY), lambda _: Grant("", None), lambda: 0.0)
    found = result_from(reply, tokens.redact, Verb.RUN)
    _assert_class(found, reply)
    assert may_repeat(reply, is_read=False) == (not reply.sent or reply.status == 429)
    for word in (found.message, found.trace_id):
        assert len(word) <= DETAIL_LIMIT
        assert not shows(CANARY, word), word
    asked_s = retry_after_s(reply.headers, 0.0)
    assert asked_s is None or asked_s >= 0
    _ask_all(reply)


def _assert_class(found: Result, reply: Reply) -> None:
    fields = reply.document if isinstance(reply.document, dict) else None
    is_2xx = reply.status is not None and 200 <= reply.status < 300
    decoded = None if fields is None else fields.get("error")
    nothing: tuple[object, ...] = (None, "", 0, "0", [], {})
    is_error = any(value not in nothing for value in decoded.values()) if isinstance(decoded, dict) else bool(decoded)
    match found.kind:
        case AnswerClass.NOT_SENT:
            assert not reply.sent
        case AnswerClass.REJECTED:
            assert reply.sent
            says_so = fields is not None and (fields.get("ok") is False or is_error)
            assert reply.status in (400, 401, 403, 404, 429) or (is_2xx and not reply.fault and says_so)
        case AnswerClass.APPLIED:
            assert reply.sent
            assert is_2xx
            assert not reply.fault
            assert fields is not None
            assert fields.get("ok") is True
            assert not is_error
        case AnswerClass.IN_DOUBT:
            assert reply.sent
            assert reply.status not in (400, 401, 403, 404, 429)


class _Always:
    """A transport that always gives the same reply."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        return self._reply

    def close(self) -> None:
        pass


def _ask_all(reply: Reply) -> None:
    """Pass a reply to each part of the engine."""
    engine = ByteniteEngine(
        TARGET.address,
        Credentials(CANARY),
        parallelism=1,
        max_rps=None,
        wait=lambda seconds: True,
        random=Random(1),
        clock=lambda: 0.0,
        wall_clock=lambda: 0.0,
        transport=_Always(reply),
    )
    shown: list[object] = [engine.send(Step(Verb.RUN, "j"))]
    for ask in (lambda: engine.observe("j"), lambda: list(engine.observe_all())):
        try:
            shown.append(ask())
        except (CredentialsError, EngineError) as error:
            shown.append(error.message + error.hint)
    assert not shows(CANARY, repr(shown)), shown


def shows(secret: str, text: str) -> bool:
    """Whether a text reveals a secret, as it is or in an encoding that any reader can undo."""
    forms = [text, unquote(text), unescape(text)]
    for _ in range(3):
        units = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), forms[-1])
        forms.append(re.sub(r"\\(.)", r"\1", units))
    for packed in re.findall("[A-Za-z0-9+/_-]{12,}", text):
        for cut in range(4):
            part = packed[cut : cut + (len(packed) - cut) // 4 * 4].translate(str.maketrans("-_", "+/"))
            forms.append(b64decode(part).decode("utf-8", "replace"))
    return any(secret in form.replace("\\/", "/") for form in forms)


def observation(content: bytes) -> None:
    """Observe any JSON as a job: every part of the observation is bounded, and a state can hold it."""
    job = json_document(content)
    if not isinstance(job, dict):
        return
    found = observation_from(job)
    _assert_status(found, job)
    assert len(found.word) <= DETAIL_LIMIT
    assert len(found.detail) <= DETAIL_LIMIT
    for name, value in (found.config or {}).items():
        assert name in ("taskTimeout", "jobTimeout", "isTestJob")
        assert type(value) is (bool if name == "isTestJob" else int)
        assert -(2**63) <= value < 2**63
    doubt = _DOUBT._replace(before=found.evidence)
    _assert_sound(State("l", 1, TARGET, {"a": Record("1", None, doubt=doubt)}))
    record = record_json.record_to_json(Record("1", None, doubt=doubt))
    assert len(record_of({"type": "result", "op": "o", "job": "a", "record": record}, 1)) <= RESERVE_BYTES
    for verb in Verb:
        for before in (None, _BEFORE, found.evidence):
            assert isinstance(trace_of(verb, before, found), Trace)
    assert trace_of(Verb.RUN, found.evidence, found) is not Trace.DONE, "what did not change proves a run"


def _assert_status(found: Observation, job: Mapping[str, object]) -> None:
    word = job.get("state")
    deleted_at = job.get("deletedAt")
    if isinstance(deleted_at, str) and is_zero(deleted_at):
        assert found.status is not Status.MISSING
    elif deleted_at not in (None, ""):
        assert found.status is Status.MISSING
    elif not isinstance(word, str) or not word:
        assert found.status is Status.UNREADABLE
    elif word in ("JOB_STATE_NEW", "JOB_STATE_COMPLETE", "JOB_STATE_FAILED"):
        assert found.status.value == {"NEW": "draft"}.get(word[10:], word[10:].lower())
    else:
        assert found.status in (Status.ABORTED, Status.ACTIVE)


# --- text for terminals ------------------------------------------------------------------------------------------

_JOINERS = "\u200c\u200d"
"""They shape letters and emoji, and do not change the direction of text."""
_SIGNS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
"""Format characters that are visible."""
_COLOUR = re.compile(r"\x1b\[[0-9]{1,2}m")


def text(content: bytes) -> None:
    """No text that is shown controls a terminal, reverses or hides text, or gives a command to a CI log."""
    decoded = content.decode("utf-8", "surrogateescape")
    decoded += content.decode("utf-16-le", "surrogatepass") if len(content) % 2 == 0 else ""
    cell = field(decoded)
    assert _harms(cell) == ""
    assert "\n" not in cell
    assert "\t" not in cell
    assert field(cell) == cell
    logged = log_field(decoded)
    assert _harms(logged) == ""
    assert not re.search(r"##\w*\[", logged), "a command of Azure"
    middle = len(decoded) // 2
    views = [decoded, cell, f"{styled(Style.RED, cell)}{cell}", styled(Style.BOLD, decoded[:middle]) + decoded[middle:]]
    for view in views:
        plain = printable(view, color=False)
        assert _harms(plain.replace("\n", "").replace("\t", "")) == ""
        assert not re.search(r"##\w*\[", plain), "a command of Azure"
        assert not any(line.strip().startswith("::") for line in plain.split("\n")), "a command of GitHub"
        assert _harms(_COLOUR.sub("", printable(view, color=True)).replace("\n", "").replace("\t", "")) == ""
        assert width(view) >= 0


def _harms(shown: str) -> str:
    """Return the harmful characters of a text."""
    return "".join(
        c
        for c in shown
        if c not in _JOINERS
        and c not in _SIGNS
        and (unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") or 0xE0000 <= ord(c) < 0xE1000)
    )


# --- all of them -------------------------------------------------------------------------------------------------

_EXAMPLE = ROOT / "examples" / "sandbox" / "jobs.yaml"
_NESTED_MANIFEST = b"""\
apiVersion: reconciler/v1
target: {engine: batch, cluster: east}
defaults: {config: {env: {REGION: eu}, resources: {memory: 4GiB}}}
jobs:
  train:
    state: running
    ignore: ['config.env["A.B"]', "config.command[1]"]
    config:
      command: [python, train.py]
      env: {LEVEL: "3", TOKEN: {secret: a}}
      resources: {cpu: 2.0}
      retry: never
      ratio: 1.5e+3
      note: null
      annotations: {x-a: b}
      volumes: [{path: /}]
      native: {a: [1, true, null, {}]}
"""
_ODD_MANIFEST = b"""\
apiVersion: reconciler/v1
target: {engine: bytenite, endpoint: 'https://api.example/v1'}
guards: {maxDelete: "10%", maxRun: 5}
jobs:
  "a":
    id: 7728ba38-f0a0-4319-ae28-07734448a334
    state: running
    config: {taskTimeout: 0x10, jobTimeout: 7200.0, isTestJob: false}
    runToken: |-
      2026-11-21
    labels: {? team : "me\\u0064ia"}
"""
_JOB = {
    "id": "j",
    "state": "JOB_STATE_RUNNING",
    "config": {"taskTimeout": "600", "jobTimeout": 7200, "isTestJob": True},
    "submittedAt": "2026-11-20T10:00:00Z",
    "stateTimestamps": {"JOB_STATE_NEW": "2026-11-20T09:00:00Z"},
    "deletedAt": None,
    "errorMessage": "",
}


def _small_plan() -> dict[str, Any]:
    """Return a saved plan of one action."""
    plan: dict[str, Any] = json.loads((TESTS / "golden" / "plan.json").read_text())
    return plan | {"actions": plan["actions"][:1]}


def _replies() -> Iterator[bytes]:
    bodies: list[object] = [
        {"ok": True, "requestId": "r", "message": "started"},
        {"ok": False, "error": {"code": "7", "message": "no", "description": f"not with {CANARY}"}},
        {"ok": True, "error": {"code": 0, "message": ""}},
        {"code": 3, "message": "bad", "details": [{"@type": "t"}]},
        {"job": _JOB},
        {"data": [_JOB], "pagination": {"total": "1", "offset": 0, "hasNext": False}},
        [],
    ]
    for chosen in (0, 7, 8, 13, 17):
        for body in bodies:
            yield bytes((0, chosen)) + b"3\n\n\n" + json.dumps(body).encode()
    yield bytes((0, 5)) + b"Sat, 21 Nov 2026 10:00:00 GMT\nSat, 21 Nov 2026 09:59:00 GMT\n/login?t=canary%2Ftoken%2B1\n"
    yield bytes((0, 16)) + b'\n\n\n<p>{"canary\\u002ftoken+1'
    yield bytes((1, 0)) + b"\n\n\n"
    yield bytes((4, 0)) + b'\n\n\n{"ok": true}'


_FIELDS = ["id", "state", "config", "runTokens", "inDoubt", "resolved", "before", "timestamps", "verb", "jobs"]

TARGETS: Mapping[str, FuzzTarget] = {
    "manifest": FuzzTarget(
        manifest,
        [MANIFEST.encode(), _ODD_MANIFEST, _NESTED_MANIFEST, *([_EXAMPLE.read_bytes()] if _EXAMPLE.exists() else [])],
        ["apiVersion: reconciler/v1", "target:", "engine: sandbox", "jobs:", "state: running", "state: absent",
         "config: {", "runToken: ", "labels: {", "? ", "- ", "|2-", ">+", "&a", "*a", "!!str", "<<", "---", "...", "'"],
    ),
    "schema": FuzzTarget(
        schema,
        [MANIFEST.encode(), _ODD_MANIFEST, _NESTED_MANIFEST, json.dumps(_small_plan()).encode()],
        ["apiVersion: reconciler/v1", "state: running", "config: {", "labels: {", '"id": ', '"kind": "run"', "600.0",
         "9223372036854775808", "9223372036854775807.5", "-0.0", ".inf", "true", "null", '"10%"', r'"\ufeff"',
         r'"\x85"', r'"a\n"', "\u00a0", "[", "]", "{}", "{"],
    ),
    "state": FuzzTarget(
        state,
        [codec.encode(_STATE), codec.encode(_STATE).split(b"\n", 2)[2], codec.encode(State("", 0, TARGET, {}))],
        [f'"{name}": ' for name in (*_FIELDS, "formatVersion", "lineage", "serial", "target", "engine")],
    ),
    "journal": FuzzTarget(
        journal, [_journal_seed(), framed(_journal_seed().split(b"\n"))], ['"n": ', '"flushed": ', "{", "}", "\n"]
    ),
    "session": FuzzTarget(
        session,
        [_journal_seed(), *_journal_seed().split(b"\n")],
        [f'"{name}": ' for name in (*_FIELDS, "type", "record", "result", "intent", "moves", "checkpoint", "op")],
    ),
    "answer": FuzzTarget(
        answer,
        list(_replies()),
        ['"ok": true', '"ok": false', '"error": ', '"message": ', '"requestId": ', CANARY, "canary\\/token+1", "%2F"],
    ),
    "observation": FuzzTarget(
        observation,
        [json.dumps(_JOB).encode(), b'{"state": "JOB_STATE_NEW"}', b'{"deletedAt": "then"}'],
        [f'"{name}": ' for name in _JOB] + ["JOB_STATE_", "COMPLETE", "FAILED", "ABORT", "CANCEL", "1e400", "NaN"],
    ),
    "text": FuzzTarget(
        text,
        [b"a\x1b[31mred\x01r#[\n::set-output name=x::y", "\u202eleft\u2066x ##vso[t]".encode(), b"##[error]"],
        ["::", "##[", "##vso[", "\x01r", "\x02", "\x1b[2J", "\u202e", "\u2028", "\u200b", "\n"],
        300,
    ),
}  # fmt: skip
