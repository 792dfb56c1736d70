"""The parts that a command is made of: which store, which engine, and what they take from the world around."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from reconciler.host.clocks import Clocks
from reconciler.model.errors import EngineError, ReconcilerError, Usage
from reconciler.model.history import Origin
from reconciler.model.jobs import EMPTY, Access, Config, Target, Verb
from reconciler.model.plan import Call
from reconciler.state.homes import CheckedStore, declared_home, default_home, default_state_path, given_home

if TYPE_CHECKING:
    from reconciler.engines.port import Engine
    from reconciler.engines.sandbox.server import SandboxServer
    from reconciler.host.stop import Flag
    from reconciler.manifest import DeclaredState
    from reconciler.state.backends.checkout import Checkout
    from reconciler.state.backends.file import Surroundings
    from reconciler.state.backends.git import BranchStore
    from reconciler.state.homes import Home
    from reconciler.state.port import Store

_SANDBOX_JOB_S = 30.0
"""How long a job of the embedded sandbox is active."""


class Place(NamedTuple):
    """Which manifest, state and service a command is about. "" and () stand for the defaults.

    `state_from` says what gave `state_url`: "--state", an environment variable, or what else a message calls it;
    `endpoint_from` says the same of `endpoint`. `home` is where the state lives, None until the manifest was asked too
    (`located`).
    """

    paths: tuple[str, ...] = ()
    state_url: str = ""
    endpoint: str = ""
    state_from: str = "--state"
    home: "Home | None" = None
    endpoint_from: str = "--endpoint"


class World(NamedTuple):
    """What comes from outside: the environment, and the flag that is set once nothing new may start.

    `tell` gets a remark for the person who waits, `noted` each credential that comes to be known: an access token that
    is lent to us, the password of a proxy.
    """

    env: Mapping[str, str]
    stop: "Flag"
    tell: Callable[[str], None] = lambda _: None
    noted: Callable[[str], None] = lambda _: None
    clocks: Clocks = Clocks()

    def pause(self, seconds: float) -> bool:
        """Wait, and return True where a stop was asked for."""
        return self.stop.wait(seconds)


class ApplyOptions(NamedTuple):
    """How an apply goes about it. `max_rps` is in requests a second; times are in seconds.

    `wait_s` is how long it waits for jobs that others come after. `allowed` is as in `Plan`. `push` is
    `[REMOTE:]BRANCH` where the files of the state are to be pushed, "" where they are not.
    """

    parallelism: int = 10
    max_rps: float | None = None
    settle_s: float = 60.0
    fail_fast: bool = False
    lock_timeout_s: float = 0.0
    wait_s: float = 0.0
    allowed: Mapping[str, int] = EMPTY
    push: str = ""


class LazyEngine:
    """The engine of a target, opened when it is first needed: a plan of holds needs no credentials."""

    def __init__(self, target: Target, access: Access, place: Place, world: World, options: ApplyOptions) -> None:
        self._arguments = (target, access, place, world, options)
        self._stack = ExitStack()
        self._engine: Engine | None = None

    def __enter__(self) -> "LazyEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def open(self) -> "Engine":
        if self._engine is None:
            self._engine = self._stack.enter_context(open_engine(*self._arguments))
        return self._engine


@contextmanager
def open_engine(
    target: Target, access: Access, place: Place, world: World, options: ApplyOptions
) -> "Iterator[Engine]":
    """The target's engine, and, for an embedded sandbox, its server. Raises `CredentialsError` for want of them.

    Raises `EngineError` for a proxy or certificates that can't be used.
    """
    from random import Random

    from reconciler.engines.bytenite.auth import Credentials
    from reconciler.engines.bytenite.engine import ByteniteEngine
    from reconciler.engines.http.network import network_for
    from reconciler.host.threads import affordable_connections

    with ExitStack() as stack:
        endpoint = target.endpoint
        if endpoint:
            credentials = Credentials.from_environment(world.env)
        else:
            token = _fresh_token()
            credentials = Credentials(access_token=token)
            endpoint = stack.enter_context(_embedded_sandbox(place, token)).endpoint
        # The embedded server has the other end of each connection.
        connections = affordable_connections(options.parallelism, 1 if target.endpoint else 2)
        network = network_for(endpoint, access, world.env)
        for secret in network.proxy.secrets if network.proxy else ():
            world.noted(secret)
        engine = ByteniteEngine(
            endpoint,
            credentials,
            parallelism=connections,
            max_rps=options.max_rps,
            wait=world.pause,
            random=Random(),  # noqa: S311  jitter needs no cryptography
            network=network,
            insecure=access.insecure,
            noted=world.noted,
            clock=world.clocks.boot_s,
            wall_clock=world.clocks.wall_s,
        )
        stack.callback(engine.close)
        yield engine


def _embedded_sandbox(place: Place, token: str) -> "SandboxServer":
    from reconciler.engines.sandbox.server import SandboxServer

    home = _home(place)
    state_path = default_state_path(manifest_paths(place)[0]) if home.is_on_branch else home.url
    db_path = f"{state_path.removesuffix('.state.json')}.sandbox.db"
    try:
        return SandboxServer(db_path, access_token=token, create_missing=True, job_seconds=_SANDBOX_JOB_S)
    except EngineError as fault:
        # Nobody named this file: the embedded server is a part of the target, and its file stands beside the state.
        folder = os.path.dirname(db_path) or "."
        if _can_write(folder):
            raise
        raise EngineError(
            f"the embedded sandbox keeps its jobs in {db_path}, and the folder {folder} can't be written to",
            "let it be written to, or name a state in another folder with --state: the file stands beside the state",
        ) from fault


def _can_write(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def lost_marks(place: Place, world: World) -> str:
    """Why a state file that is rolled back later will not be noticed on this machine; "" where it will be.

    A user who has no home folder has no place for such marks at all, which is not told each time.
    """
    folder = _state_folder(world)
    if is_on_branch(place) or not folder:
        return ""
    there = folder
    while not os.path.lexists(there) and os.path.dirname(there) != there:
        there = os.path.dirname(there)
    if os.path.isdir(there) and _can_write(there):
        return ""
    return (
        f"{there} can't be written to, so that this machine will not notice it if the state is rolled back: "
        "set XDG_STATE_HOME to a folder that can be written to"
    )


def _fresh_token() -> str:
    import secrets

    return secrets.token_hex(16)


def manifest_paths(place: Place) -> tuple[str, ...]:
    """The paths of the manifest, as given or by default. Raises `ReconcilerError` where there is none."""
    if place.paths:
        return place.paths
    from reconciler.manifest.files import default_paths

    return tuple(default_paths("."))


def target_of(declared: Target, place: Place, *, insecure: bool = False) -> Target:
    """The target that the manifest names, with --endpoint in place of its endpoint, `insecure` or not."""
    if not place.endpoint:
        return declared
    from reconciler.model.endpoints import endpoint_fault, normalize_endpoint

    fault = endpoint_fault(place.endpoint, insecure=insecure)
    if fault:
        raise Usage(f"{place.endpoint_from} {fault}")
    return Target(declared.engine, normalize_endpoint(place.endpoint))


def located(place: Place, declared: "DeclaredState | None") -> Place:
    """The place with its state's home: --state or its variable, else what the manifest declares, else the default.

    Raises `Usage` or `ManifestError` for a home that can't be, `Refused` where there is no default: for several paths.
    """
    if place.home is not None:
        return place
    if place.state_url:
        home = given_home(place.state_url, place.state_from, _manifest_folder(place))
    elif declared is not None:
        home = declared_home(declared)
    else:
        home = default_home(manifest_paths(place))
    return place._replace(home=home)


def _home(place: Place) -> "Home":
    assert place.home is not None, "the manifest was not asked where its state lives"
    return place.home


def state_address(place: Place) -> str:
    """Where the state of a located place lives, as it is named."""
    return _home(place).url


def state_path(place: Place) -> str:
    """Where the state file of a located place stands; the state is in a file."""
    return _home(place).url


def anchored(place: Place) -> Place:
    """A located place, with the state file's folder by its own name, if that leads through a symbolic link.

    A link that is switched later then changes nothing: state and embedded sandbox stay in one folder.
    """
    home = _home(place)
    folder = os.path.dirname(home.url) or "."
    real = os.path.realpath(folder)
    if home.is_on_branch or real == os.path.abspath(folder):
        return place
    return place._replace(home=home._replace(url=os.path.join(real, os.path.basename(home.url))))


def is_on_branch(place: Place) -> bool:
    """Whether the state of a located place is kept on a branch of a git remote, and not in a file."""
    return _home(place).is_on_branch


def open_store(place: Place, world: World, warn: Callable[[str], None] | None = None) -> CheckedStore:
    """The store of a located place's state. It refuses to be empty where something tells of records.

    `warn` is called where an empty state is taken all the same; without it the person is told.
    """
    store: Store
    if is_on_branch(place):
        store = open_branch(place, world)
    else:
        from reconciler.state.backends.file import FileStore

        _refuse_other_file(_home(place))
        store = FileStore(state_path(place), _surroundings(place, world))
    tell = warn or (lambda text: world.tell(f"Warning: {text}"))
    return CheckedStore(store, _home(place), manifest_paths(place), tell)


def _refuse_other_file(home: "Home") -> None:
    """Raise `ReconcilerError` where a state is to be kept in a file of another kind, or in a folder that is not there.

    A state that is not there yet is no fault, and what is wrong with one that is there is for the store to say.
    """
    from reconciler.manifest.kinds import FileKind, kind_at

    if not home.named_by:
        return
    folder = os.path.dirname(home.url)
    if folder and not os.path.isdir(folder):
        raise ReconcilerError(
            f"{home.named_by}: {home.url} can't be a state: there is no folder {folder}",
            f"check the path, or make the folder: mkdir -p {quote(folder)}",
        )
    kind = kind_at(home.url)
    if kind is not None and kind is not FileKind.STATE:
        raise ReconcilerError(
            f"{home.named_by}: {home.url} is {kind}, not a state",
            f"name the state, such as jobs.state.json; {kind.place}",
        )


def _surroundings(place: Place, world: World) -> "Surroundings":
    from reconciler.host.disk import OsDisk
    from reconciler.state.backends.file import Surroundings

    return Surroundings(
        disk=OsDisk(),
        marks_folder=_state_folder(world),
        who=_who(world.env),
        now=now,
        new_lineage=fresh_id,
        wait=world.pause,
        origin=lambda command: origin_of(place, world, command),
    )


def open_branch(place: Place, world: World) -> "BranchStore":
    """The store on the branch where a located place keeps its state."""
    from reconciler.state.backends.git import BranchStore, Means
    from reconciler.state.backends.git_settings import author_of, settings_of_checkout, url_of_remote
    from reconciler.state.backends.git_url import parse
    from reconciler.state.backends.repository import Repository

    home = _home(place)
    url, around = parse(home.url), _surroundings(place, world)
    checkout, env = home.checkout, world.env
    remote = url_of_remote(url.remote, checkout, env) if url.is_name else url.remote
    if "://" not in remote and ":" not in remote.partition("/")[0]:
        remote = os.path.abspath(os.path.join(home.folder, remote))
    means = Means(
        repository=Repository(
            _cache_folder(world),
            remote,
            url.branch,
            env=env,
            settings=settings_of_checkout(checkout, env),
            wait=world.pause,
        ),
        author=lambda: author_of(origin_of(place, world, "").who, checkout, env),
        tell=world.tell,
        folder=around.marks_folder,
        clocks=world.clocks,
    )
    return BranchStore(url._replace(remote=remote), means, around)


def open_checkout(place: Place, world: World, push: str) -> "Checkout | None":
    """The files of the state, to be pushed as `--push` says; None where a branch of a remote holds the state itself."""
    import time

    from reconciler.host.disk import OsDisk
    from reconciler.state.backends import checkout
    from reconciler.state.backends.git_settings import (
        author_of,
        settings_of_checkout,
        top_of_checkout,
        url_of_remote,
    )
    from reconciler.state.backends.repository import Repository

    to = checkout.parse_push(push)
    if is_on_branch(place):
        return None
    path, env = state_path(place), world.env
    folder = os.path.dirname(path) or "."

    def open_repository(branch: str) -> Repository:
        remote = url_of_remote(to.remote, folder, env)
        if "://" not in remote and ":" not in remote.partition("/")[0]:
            remote = os.path.join(top_of_checkout(folder, env), remote)
        return Repository(
            _cache_folder(world),
            remote,
            branch,
            env=env,
            settings=settings_of_checkout(folder, env),
            wait=world.pause,
            trees_alone=True,
        )

    return checkout.Checkout(
        path,
        manifest_paths(place),
        to,
        disk=OsDisk(),
        env=env,
        open_repository=open_repository,
        author=lambda: author_of(origin_of(place, world, "").who, folder, env),
        pause=time.sleep,
    )


def _state_folder(world: World) -> str:
    """Where marks and locks are kept, which must outlive the cache; "" where this user has no such place."""
    return _own_folder(world.env, "XDG_STATE_HOME", ".local/state")


def _cache_folder(world: World) -> str:
    """Where is kept what can be made again; "" where this user has no such place."""
    return _own_folder(world.env, "XDG_CACHE_HOME", ".cache")


def _own_folder(env: Mapping[str, str], variable: str, default: str) -> str:
    """This tool's folder of a kind; "" where neither the environment nor the account names one.

    A path that is not absolute counts for nothing, as the XDG Base Directory Specification 0.8 says of its own.
    """
    named = env.get(variable, "")
    if not os.path.isabs(named):
        home = env.get("HOME", "")
        home = home if os.path.isabs(home) else _home_of_account()
        named = os.path.join(home, default) if home else ""
    return os.path.join(named, "reconciler") if named else ""


def _home_of_account() -> str:
    """The home folder of whoever runs this, "" where the uid is no account's, as in many containers."""
    import pwd

    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""
    return home if os.path.isabs(home) else ""


def wording_of(target: Target) -> Callable[[Verb, str, Config], Call]:
    """How the target's engine words a call. Both engines speak the jobs API; the next one gets its line here."""
    from reconciler.engines.bytenite.wire import call_for

    return {"bytenite": call_for, "sandbox": call_for}[target.engine]


def commit_of(place: Place, world: World) -> str | None:
    """The commit that is checked out where the manifest lies, None where git knows of none; why it does not is told."""
    return _commit_at(_manifest_folder(place), world.tell)


@lru_cache
def _commit_at(folder: str, tell: Callable[[str], None]) -> str | None:
    # Once a command: the plan names the same commit as the history does, and what is amiss is told once.
    from reconciler.manifest.revisions import commit_at

    commit, why = commit_at(folder)
    if why:
        tell(f"warning: the commit is not recorded, since git can't read the repository of {folder}: {why}")
    return commit


def _manifest_folder(place: Place) -> str:
    first = manifest_paths(place)[0]
    return first if os.path.isdir(first) else os.path.dirname(first) or "."


def state_name(place: Place) -> str:
    """Where a located place's state is kept, in the words that say so: what tells one plan's comment from another's."""
    if not is_on_branch(place):
        return state_path(place)
    from reconciler.state.backends.git_url import parse

    return str(parse(state_path(place)))


def repository_path(file: str, env: Mapping[str, str]) -> str:
    """A file as its repository names it, where a CI run says which folder that is; else as given."""
    root = env.get("GITHUB_WORKSPACE")
    if not root:
        return file
    path = os.path.relpath(os.path.realpath(file), os.path.realpath(root))
    return file if path.split(os.sep)[0] == os.pardir else path.replace(os.sep, "/")


def fresh_id() -> str:
    """A new id."""
    import uuid

    return str(uuid.uuid4())


def now() -> str:
    """The time for people to read, RFC 3339 in UTC; no decision rests on it."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _who(env: Mapping[str, str]) -> str:
    return f"{_user_of(env)} (process {os.getpid()})"


def origin_of(place: Place, world: World, command: str) -> Origin:
    """Who acts by a command, and at which commit, for the history."""
    return Origin(who_acts(place, world), commit_of(place, world), command=command)


def who_acts(place: Place, world: World) -> str:
    """Who acts, as records and the history name them: a CI run, else the git user, else user@host."""
    from reconciler.host.ci import ci_identity
    from reconciler.manifest.revisions import git_user

    return ci_identity(world.env) or git_user(_manifest_folder(place)) or _user_of(world.env)


def _user_of(env: Mapping[str, str]) -> str:
    """Who runs the command: user@host."""
    user = env.get("USER") or env.get("LOGNAME") or f"user {os.getuid()}"
    return f"{user}@{os.uname().nodename}"
