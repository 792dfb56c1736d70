"""The parts that a command is made of: which store, which engine, and what they take from the world around."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from reconciler.errors import Usage
from reconciler.history import Origin
from reconciler.jobs import EMPTY, Access, Config, Target, Verb
from reconciler.plan import Call

if TYPE_CHECKING:
    from threading import Event as Flag

    from reconciler.engines.base import Engine
    from reconciler.engines.sandbox.server import SandboxServer
    from reconciler.memory import Memory
    from reconciler.state.branch import BranchStore
    from reconciler.state.checkout import Checkout
    from reconciler.state.file import Surroundings
    from reconciler.state.store import Store

_SANDBOX_JOB_S = 30.0
"""How long a job of the embedded sandbox is active."""


class Place(NamedTuple):
    """Which manifest, state and service a command is about. "" and () stand for the defaults.

    `cache` is whether what was read before may be remembered.
    """

    paths: tuple[str, ...] = ()
    state_url: str = ""
    endpoint: str = ""
    cache: bool = True


class World(NamedTuple):
    """What comes from outside: the environment, and the flag that is set once nothing new may start.

    `tell` gets a remark for the person who waits, `noted` each credential that comes to be known: an access token that
    is lent to us, the password of a proxy.
    """

    env: Mapping[str, str]
    stop: "Flag"
    tell: Callable[[str], None] = lambda _: None
    noted: Callable[[str], None] = lambda _: None

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

    with ExitStack() as stack:
        endpoint = target.endpoint
        if endpoint:
            credentials = Credentials.from_environment(world.env)
        else:
            token = _fresh_token()
            credentials = Credentials(access_token=token)
            endpoint = stack.enter_context(_embedded_sandbox(place, token)).endpoint
        network = network_for(endpoint, access, world.env)
        for secret in network.proxy.secrets if network.proxy else ():
            world.noted(secret)
        engine = ByteniteEngine(
            endpoint,
            credentials,
            parallelism=options.parallelism,
            max_rps=options.max_rps,
            wait=world.pause,
            random=Random(),  # noqa: S311  jitter needs no cryptography
            network=network,
            insecure=access.insecure,
            noted=world.noted,
        )
        stack.callback(engine.close)
        yield engine


def _embedded_sandbox(place: Place, token: str) -> "SandboxServer":
    from reconciler.engines.sandbox.server import SandboxServer

    db_path = f"{state_path(place).removesuffix('.state.json')}.sandbox.db"
    return SandboxServer(db_path, access_token=token, create_missing=True, job_seconds=_SANDBOX_JOB_S)


def _fresh_token() -> str:
    import secrets

    return secrets.token_hex(16)


def manifest_paths(place: Place) -> tuple[str, ...]:
    """The paths of the manifest, as given or by default. Raises `ReconcilerError` where there is none."""
    if place.paths:
        return place.paths
    from reconciler.sources import default_paths

    return tuple(default_paths("."))


def target_of(declared: Target, place: Place, *, insecure: bool = False) -> Target:
    """The target that the manifest names, with --endpoint in place of its endpoint, `insecure` or not."""
    if not place.endpoint:
        return declared
    from reconciler.endpoints import endpoint_fault, normalize_endpoint

    fault = endpoint_fault(place.endpoint, insecure=insecure)
    if fault:
        raise Usage(f"--endpoint: {fault}")
    return Target(declared.engine, normalize_endpoint(place.endpoint))


def state_path(place: Place) -> str:
    """Where the state file stands: beside the first path of the manifest, unless --state names it.

    Where git keeps the state, it would stand there.
    """
    url = place.state_url
    if not url or is_on_branch(place):
        first = os.path.normpath(manifest_paths(place)[0])
        if os.path.isdir(first) and os.path.basename(first) in ("", ".", ".."):
            return os.path.join(first, "jobs.state.json")
        stem, extension = os.path.splitext(first)
        return f"{stem if extension in ('.yaml', '.yml') else first}.state.json"
    if url.startswith("file:"):
        return url.removeprefix("file://").removeprefix("file:")
    if "://" in url:
        raise Usage(
            "--state: state is kept in a file, or on a branch of a git remote",
            "give a path, or git+https://host/org/repo.git#reconciler-state:jobs.state.json",
        )
    return url


def anchored(place: Place) -> Place:
    """The same place, with a state file's folder by its own name, if that leads through a symbolic link.

    A link that is switched later then changes nothing: state and embedded sandbox stay in one folder.
    """
    if is_on_branch(place):
        return place
    path = state_path(place)
    folder = os.path.dirname(path)
    real = os.path.realpath(folder or ".")
    return (
        place
        if real == os.path.abspath(folder or ".")
        else place._replace(state_url=os.path.join(real, os.path.basename(path)))
    )


def is_on_branch(place: Place) -> bool:
    """Whether state is kept on a branch of a git remote, and not in a file."""
    return place.state_url.startswith("git+")


def open_store(place: Place, world: World) -> "Store":
    """The store of the manifest's state. Raises `Usage` for a URL of a kind that there is not."""
    if is_on_branch(place):
        return open_branch(place, world)
    from reconciler.state.file import FileStore

    return FileStore(state_path(place), _surroundings(place, world))


def _surroundings(place: Place, world: World) -> "Surroundings":
    from reconciler.state.disk import OsDisk
    from reconciler.state.file import Surroundings

    return Surroundings(
        disk=OsDisk(),
        memory=memory_of(place, world),
        marks_folder=_state_folder(world),
        who=_who(world.env),
        now=now,
        new_lineage=fresh_id,
        wait=world.pause,
        origin=lambda command: origin_of(place, world, command),
    )


def open_branch(place: Place, world: World) -> "BranchStore":
    """The store on the branch that --state names."""
    from reconciler.state import repository
    from reconciler.state.branch import BranchStore, Means
    from reconciler.state.branch_url import parse

    url, around = parse(place.state_url), _surroundings(place, world)
    checkout, env = os.path.dirname(manifest_paths(place)[0]) or ".", world.env
    remote = repository.url_of_remote(url.remote, checkout, env) if url.is_name else url.remote
    if "://" not in remote and ":" not in remote.partition("/")[0]:
        remote = os.path.abspath(remote)
    means = Means(
        repository=repository.Repository(
            _cache_folder(world),
            remote,
            url.branch,
            env=env,
            settings=repository.settings_of_checkout(checkout, env),
            wait=world.pause,
        ),
        author=lambda: repository.author_of(origin_of(place, world, "").who, checkout, env),
        tell=world.tell,
        folder=around.marks_folder,
    )
    return BranchStore(url._replace(remote=remote), means, around)


def open_checkout(place: Place, world: World, push: str) -> "Checkout | None":
    """The files of the state, to be pushed as `--push` says; None where a branch of a remote holds the state itself."""
    import time

    from reconciler.state import checkout, repository
    from reconciler.state.disk import OsDisk

    to = checkout.parse_push(push)
    if is_on_branch(place):
        return None
    path, env = state_path(place), world.env
    folder = os.path.dirname(path) or "."

    def open_repository(branch: str) -> repository.Repository:
        remote = repository.url_of_remote(to.remote, folder, env)
        if "://" not in remote and ":" not in remote.partition("/")[0]:
            remote = os.path.join(repository.top_of_checkout(folder, env), remote)
        return repository.Repository(
            _cache_folder(world),
            remote,
            branch,
            env=env,
            settings=repository.settings_of_checkout(folder, env),
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
        author=lambda: repository.author_of(origin_of(place, world, "").who, folder, env),
        pause=time.sleep,
    )


def memory_of(place: Place, world: World) -> "Memory":
    """What remembers the files that were read before."""
    cache, keys = _cache_folder(world), _state_folder(world)
    if not (place.cache and cache and keys):
        from reconciler.memory import FORGETFUL

        return FORGETFUL
    from reconciler.cache import FolderCache

    return FolderCache(cache, os.path.join(keys, "cache-key"))


def _state_folder(world: World) -> str:
    """Where marks, locks and keys are kept, which must outlive the cache; "" where this user has no such place."""
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
    from reconciler.revisions import commit_at

    commit, why = commit_at(folder)
    if why:
        tell(f"warning: the commit is not recorded, since git can't read the repository of {folder}: {why}")
    return commit


def _manifest_folder(place: Place) -> str:
    first = manifest_paths(place)[0]
    return first if os.path.isdir(first) else os.path.dirname(first) or "."


def state_name(place: Place) -> str:
    """Where state is kept, in the words that say so: what tells one plan's comment from another's."""
    if not is_on_branch(place):
        return place.state_url or state_path(place)
    from reconciler.state.branch_url import parse

    return str(parse(place.state_url))


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
    from reconciler.identity import ci_identity
    from reconciler.revisions import git_user

    return ci_identity(world.env) or git_user(_manifest_folder(place)) or _user_of(world.env)


def _user_of(env: Mapping[str, str]) -> str:
    """Who runs the command: user@host."""
    user = env.get("USER") or env.get("LOGNAME") or f"user {os.getuid()}"
    return f"{user}@{os.uname().nodename}"
