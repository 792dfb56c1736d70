"""Where a state lives: who names the place, and whether an empty place is the right one.

A state that is looked for in the wrong place seems empty, and an apply on it would run every job again. So an empty
default place is refused where a state or a history nearby may be the one that is meant.
"""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from reconciler.manifest.files import is_manifest_name, is_within, repository_of
from reconciler.model.commands import command
from reconciler.model.errors import ManifestError, Refused, StateError, Usage
from reconciler.model.jobs import State, Target
from reconciler.model.places import Diagnostic
from reconciler.state.paths import JOURNAL_SUFFIX, STATE_SUFFIX, paths_of, states_with
from reconciler.state.registry import UnknownPlace, is_path, plugin_of, url_meant

if TYPE_CHECKING:
    from reconciler.manifest import DeclaredState
    from reconciler.state.history import StoredHistory
    from reconciler.state.port import Store
    from reconciler.state.session import Session

_FOLDER_STATE = f"jobs{STATE_SUFFIX}"
"""The state file of a manifest that is the working directory itself."""


class Home(NamedTuple):
    """The place of one state.

    `url` is a path, relative to the working directory or absolute, or a URL that a plugin takes. A path within a URL
    is relative to `folder`, and what git's configuration says is looked up in the checkout at `checkout`.
    `named_by` says what names the place: "--state", an environment variable, or a line of the manifest. It is "" for a
    default place.
    """

    url: str
    folder: str
    checkout: str
    named_by: str

    @property
    def path(self) -> str:
        """The path of the state, if the state is a file; else ""."""
        return self.url if is_path(self.url) else ""

    @property
    def full_url(self) -> str:
        """The path, or the URL with all of its defaults and without credentials. It tells one state from another."""
        return self.url if is_path(self.url) else plugin_of(self.url).full_url(self.url)


def given_home(url: str, named_by: str, checkout: str) -> Home:
    """The home that the command line or the environment names. `named_by` is the option or the variable.

    Raises `Usage` for a URL of an unknown kind, and for one that its plugin does not take.
    """
    proposed = url_meant(url, ".", checkout)
    if proposed:
        raise Usage(f"{named_by}: {url} names {_kind_of(proposed)}, and no file", _did_you_mean(proposed, url))
    if is_path(url):
        return Home(_without_file_scheme(url), ".", checkout, named_by)
    try:
        fault = plugin_of(url).fault_of(url)
    except UnknownPlace as unknown:
        fault = unknown.message, unknown.hint
    if fault:
        raise Usage(f"{named_by}: {fault[0]}", fault[1])
    return Home(url, ".", checkout, named_by)


def declared_home(declared: "DeclaredState") -> Home:
    """The home that `state:` of a manifest names, relative to the file of that line.

    Raises `ManifestError` for a URL of an unknown kind, and for a path outside of the file's repository. For a file in
    no repository, the path must be within the file's folder.
    """
    url, position = declared.url, declared.position
    folder = os.path.dirname(os.path.realpath(position.file))
    if proposed := url_meant(url, folder, folder):
        raise _misdeclared(declared, f"{url} names {_kind_of(proposed)}, and no file: {_did_you_mean(proposed, url)}")
    if not is_path(url):
        try:
            fault = plugin_of(url).fault_of(url)
        except UnknownPlace as unknown:
            words = "expected a path, or git+REMOTE#BRANCH:PATH, or a URL that an installed plugin takes"
            raise _misdeclared(declared, words) from unknown
        if fault:
            raise _misdeclared(declared, f"{fault[0]}: {fault[1]}")
        return Home(url, folder, folder, str(position))
    path = _without_file_scheme(url)
    root = repository_of(folder)
    real = os.path.realpath(os.path.join(folder, path))
    if not is_within(real, root or folder) or path.endswith("/") or real == (root or folder):
        boundary = "the repository" if root else "the folder"
        raise _misdeclared(declared, f"expected a file within {boundary} of this manifest")
    if ".git" in os.path.relpath(real, root or folder).split(os.sep):
        raise _misdeclared(declared, "a state can't be kept in the folder where git keeps its own files")
    # The file's own name is not resolved: a state that is a symbolic link must be refused when it is opened.
    whole = os.path.join(os.path.realpath(os.path.dirname(os.path.join(folder, path))), os.path.basename(path))
    return Home(os.path.relpath(whole, os.path.realpath(".")), folder, folder, str(position))


def default_home(paths: Sequence[str]) -> Home:
    """The home beside the manifest at `paths`. Raises `Refused` for several paths.

    With several paths, the order of the paths would decide which state is meant.
    """
    paths = tuple(dict.fromkeys(map(os.path.normpath, paths)))
    if len(paths) > 1:
        there = list(dict.fromkeys(path for path in map(default_state_path, paths) if os.path.lexists(path)))
        there += [path for path in _states_in(_folders_of(paths)) if path not in there]
        found = f"; {_listed(there)} there" if there else ""
        # The proposed name must stay the same when files are added, so no path's own name is in it.
        path = there[0] if there else os.path.join(os.path.dirname(paths[0]), _FOLDER_STATE)
        raise Refused(
            f"{len(paths)} paths are given, and nothing says where their state lives{found}",
            f"name it: {_with_state('plan', path)}; or for good, in one of the files: state: {os.path.basename(path)}",
        )
    return Home(default_state_path(paths[0]), ".", os.path.dirname(paths[0]) or ".", "")


def default_state_path(path: str) -> str:
    """The default state file of one path of a manifest: jobs.state.json for jobs/ and for jobs.yaml."""
    path = os.path.normpath(path)
    if os.path.isdir(path) and os.path.basename(path) in ("", ".", ".."):
        return os.path.join(path, _FOLDER_STATE)
    stem = os.path.splitext(path)[0] if is_manifest_name(path) else path
    return f"{stem}{STATE_SUFFIX}"


def _with_state(verb: str, state: str, *operands: str) -> str:
    """A command, as messages show it, with --state where `state` is not ""."""
    return command(verb, *operands, options=["--state", state] if state else [])


class CheckedStore:
    """A `Store` that refuses an empty state where there are signs of a lost state, or of a state in another place.

    Everything else is left to the store within. Where --state names the home, a lost state is only reported, with
    `warn`.
    """

    def __init__(self, store: "Store", home: Home, paths: Sequence[str], warn: Callable[[str], None]) -> None:
        self._store = store
        self._home = home
        self._paths = paths
        self._warn = warn

    @property
    def where(self) -> str:
        return self._store.where

    def read(self, target: Target) -> State | None:
        state = self._store.read(target)
        self._check(state is None, target)
        return state

    @contextmanager
    def open(self, target: Target, what: str, timeout_s: float) -> "Iterator[Session]":
        with self._store.open(target, what, timeout_s) as session:
            state = session.state
            self._check(not state.serial and not state.jobs, target)
            yield session

    def _check(self, is_empty: bool, target: Target) -> None:
        """Refuse an empty state, or warn of the loss of a state, where there are signs of records."""
        if not is_empty:
            return
        loss = self._loss()
        if loss and self._home.named_by != "--state":
            raise self._gone(loss)
        if loss:
            self._warn(loss)
        if not self._home.named_by:
            self._refuse_beside_another(target)

    def _loss(self) -> str:
        """The message that the state is lost, where the history beside it has entries of a state; else ""."""
        try:
            stored = self._store.read_history()
        except StateError:  # A command that would append to an unreadable history is refused later.
            return ""
        if not stored.content.strip():
            return ""
        written = [entry for entry in stored.entries if entry.serial]
        if not written and stored.entries:  # Calls that were rejected leave a history and no state.
            return ""
        last = "has only lines that can't be read"
        if written:
            last = f"has entries up to serial {written[-1].serial}, of {written[-1].at}"
        return f"the state is gone: {self.where} is not there, and {stored.where} {last}"

    def _gone(self, loss: str) -> Refused:
        """The error for a lost state, with the ways to get the state back or to start anew."""
        where = self._home.url
        back = ""
        if self._home.path and repository_of(os.path.dirname(os.path.abspath(where))):
            path = shlex.quote(where)
            back = (
                f"`git log -- {path}` shows the commits that had it, `git checkout COMMIT -- {path}` brings it back; "
            )
        push = _with_state("state push", where if self._home.named_by else "", "FILE")
        rebuild = _with_state("state rebuild", where)
        again = command("plan", options=["--refresh", "--state", where])
        return Refused(
            loss,
            f"{back}{push} takes a copy of it; {rebuild} makes its records anew from the runs that bear its mark; or "
            f"begin anew, and see first which jobs would be taken over, and which run: {again}",
        )

    def _refuse_beside_another(self, target: Target) -> None:
        """Raise `Refused` where an empty default place is near a state of this target, or near a history without a
        state.
        """
        (path,) = dict.fromkeys(map(os.path.normpath, self._paths))
        for whole, state_path in _states_of_folders_above(path):
            if found := self._found_at(state_path, target):
                raise Refused(
                    f"nothing is recorded of {path} by itself, and it lies in {whole}, whose state may hold its "
                    f"jobs: {state_path} {found}",
                    f"if {path} was applied as a part of {whole}, go on with that: {command('plan', whole)}; if the "
                    f"manifest was renamed: {_with_state('plan', state_path)}; {self._apart()}",
                )
        for state_path in _states_left_behind(path):
            if found := self._found_at(state_path, target):
                raise Refused(
                    f"nothing is recorded of {path}, and the manifest of {state_path} is not there any more: "
                    f"{state_path} {found}",
                    f"if the manifest was moved, go on with its state: {_with_state('plan', state_path)}; "
                    f"{self._apart()}",
                )
        for folder in _folders_of([path]):
            for state_path in _states_in([folder]):
                if found := self._found_at(state_path, target):
                    raise Refused(
                        f"nothing is recorded in {self.where}, and beside it {state_path} {found}",
                        f"go on with that one: {_with_state('plan', state_path)}; {self._apart()}",
                    )
            for history_path in _histories_without_state(folder):
                if history_path == paths_of(self._home.url).history:
                    continue
                state_path, *_ = states_with(history_path)
                raise Refused(
                    f"nothing is recorded in {self.where}, and beside it {history_path} is the history of a state that "
                    "is gone",
                    f"bring {state_path} back, or name the state: {_with_state('plan', self._home.url)}",
                )

    def _found_at(self, state_path: str, target: Target) -> str:
        """`_description_of` a state file at another place than this one; else ""."""
        is_own = os.path.realpath(state_path) == os.path.realpath(self._home.url)
        return "" if is_own else _description_of(state_path, target)

    def _apart(self) -> str:
        return f"if its state is meant to stand apart: {_with_state('plan', self._home.url)}"

    def read_history(self) -> "StoredHistory":
        return self._store.read_history()

    def at(self, revision: str) -> "StoredHistory":
        return self._store.at(revision)

    def put(self, state: State, target: Target, timeout_s: float) -> bool:
        return self._store.put(state, target, timeout_s)

    def accept(self, target: Target, timeout_s: float, *, has_moved: bool = False) -> tuple[State, list[str]]:
        return self._store.accept(target, timeout_s, has_moved=has_moved)


def _kind_of(proposed: str) -> str:
    """What a URL names that a path is likely to mean, in words."""
    return "a git remote" if proposed.startswith("git+") else "a home of states that an installed package has"


def _did_you_mean(proposed: str, path: str) -> str:
    file = "" if "://" in path else f" For a file of that name: ./{path}"
    return f"did you mean {proposed}?{file}"


def _without_file_scheme(url: str) -> str:
    return url.removeprefix("file://").removeprefix("file:")


def _misdeclared(declared: "DeclaredState", fault: str) -> ManifestError:
    return ManifestError((Diagnostic(declared.position, f"state: {fault}"),))


def _folders_of(paths: Sequence[str]) -> list[str]:
    """The folders that contain these paths of a manifest, and the paths that are folders themselves."""
    around = [os.path.dirname(path) for path in paths]
    return list(dict.fromkeys([*around, *filter(os.path.isdir, paths)]))


def _states_in(folders: Sequence[str]) -> list[str]:
    """The state files in these folders. A file that an unfinished first apply has yet to write is one of them."""
    found = [
        os.path.join(folder, name.removesuffix(JOURNAL_SUFFIX))
        for folder in folders
        for name in _names_in(folder)
        if name.removesuffix(JOURNAL_SUFFIX).endswith(STATE_SUFFIX)
    ]
    return list(dict.fromkeys(found))


def _histories_without_state(folder: str) -> list[str]:
    """The histories in a folder that have entries of a state, and whose state file is not there."""
    found = []
    for name in _names_in(folder):
        path = os.path.join(folder, name)
        states = states_with(path)
        found_there = any(os.path.lexists(one) for state in states for one in paths_of(state)[:2])
        if states and not found_there and _holds_something(path):
            found.append(path)
    return found


def _names_in(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or "."))
    except OSError:
        return []


def _holds_something(path: str) -> bool:
    """Whether a history has an entry of a state that was written, or a line that can't be read."""
    from reconciler.host.disk import OsDisk
    from reconciler.state.history import read

    try:
        written, damaged = read(OsDisk().read(path) or b"")
    except StateError:
        return True
    return bool(damaged) or any(one.entry.serial for one in written)


def _states_left_behind(path: str) -> Iterator[str]:
    """The state files above and just below the folder of a path whose own manifest is not there.

    A manifest that was moved leaves its state behind. The folders above count up to the top of the repository, or of
    the file system, and so do those directly in the folder of the path.
    """
    around = os.path.dirname(os.path.abspath(path))
    top = repository_of(around)
    above, folders = around, []
    while above not in (top, os.path.dirname(above)):
        above = os.path.dirname(above)
        folders.append(above)
    folders += [os.path.join(around, name) for name in _names_in(around)]
    for state_path in _states_in([os.path.relpath(folder) for folder in folders if os.path.isdir(folder)]):
        stem = state_path.removesuffix(STATE_SUFFIX)
        if not any(os.path.exists(f"{stem}{ending}") for ending in ("", ".yaml", ".yml")):
            yield state_path


def _states_of_folders_above(path: str) -> Iterator[tuple[str, str]]:
    """(folder, state file) for each folder above a path that may have been applied as a whole.

    The innermost folder comes first, and the top of the repository last. Outside of any repository, only the path's own
    folder is yielded.
    """
    above = os.path.dirname(os.path.abspath(path))
    root = repository_of(above)
    while True:
        if above == root:
            yield _shown(above), os.path.join(os.path.relpath(above), _FOLDER_STATE)
            return
        yield _shown(above), f"{os.path.relpath(above)}{STATE_SUFFIX}"
        if root is None or os.path.dirname(above) == above:
            return
        above = os.path.dirname(above)


def _shown(folder: str) -> str:
    return os.path.join(os.path.relpath(folder), "")


def _description_of(path: str, target: Target) -> str:
    """A description of the state file at `path`, where it can't be read or has records of this target; else ""."""
    from reconciler.host.disk import OsDisk
    from reconciler.state.loading import load

    try:
        loaded = load(OsDisk(), path, None)
    except StateError as fault:
        return f"is a state that can't be read: {fault.message}"
    if loaded is None or loaded.state.target != target or not (loaded.state.jobs or loaded.state.serial):
        return ""
    count = len(loaded.state.jobs)
    return f"records {count} {'job' if count == 1 else 'jobs'} of the same service, {target}"


def _listed(paths: Sequence[str]) -> str:
    """The paths in words, with "is" or "are": "a, b and c are"."""
    *most, last = paths
    return f"{', '.join(most)} and {last} are" if most else f"{last} is"
