"""What the user's checkout and git configuration say: its top folder, its remotes, and who commits."""

import re
from collections.abc import Mapping

from reconciler.model.errors import StateError
from reconciler.state.backends.git_commands import error_text, remote_environment, run_git
from reconciler.state.backends.git_objects import Author

_ACCESS_SETTINGS = r"^(http|credential|url)\.|^core\.sshcommand$|^ssh\.variant$"
"""The names of the settings that decide how git reaches a remote."""


def settings_of_checkout(folder: str, env: Mapping[str, str]) -> list[tuple[str, str]]:
    """The (name, value) settings of a checkout by which git reaches remotes, [] where there are none.

    A CI service keeps its token in these settings.
    """
    found = run_git(
        ["-C", folder, "config", "--local", "--includes", "-z", "--get-regexp", _ACCESS_SETTINGS],
        remote_environment(env),
    )
    pairs = (entry.partition("\n") for entry in found.out.decode("utf-8", "replace").split("\0") if entry)
    return [(name, value) for name, _, value in pairs] if found.code == 0 else []


def top_of_checkout(folder: str, env: Mapping[str, str]) -> str:
    """The top folder of the checkout that contains `folder`.

    Raises `StateError` where `folder` is in no checkout that git will use.
    """
    found = run_git(["-C", folder, "rev-parse", "--show-toplevel"], remote_environment(env))
    if found.code != 0:
        text = error_text(found)
        is_another_users = "dubious ownership" in text
        raise StateError(
            f"{folder} can't be used as a git checkout: {text}",
            "let git use it: git config --global --add safe.directory FOLDER; or check it out as this user"
            if is_another_users
            else "run this in a checkout of the repository, or keep state on a branch of its own: --state git+URL",
        )
    return found.out.decode("utf-8", "surrogateescape").rstrip("\n")


def url_of_remote(name: str, folder: str, env: Mapping[str, str]) -> str:
    """The URL of the remote `name` of the checkout at `folder`. Raises `StateError` where there is no such remote."""
    found = run_git(["-C", folder, "remote", "get-url", "--", name], remote_environment(env))
    if found.code != 0:
        raise StateError(
            f"there is no git remote named {name} here: {error_text(found)}",
            "git remote -v shows the names; or give its URL, or a path such as ./repo.git",
        )
    return found.out.decode().strip()


def author_of(name: str, folder: str, env: Mapping[str, str]) -> Author:
    """The author for a person's name: "Ada <ada@example.org>", or "Ada" with the address in git's configuration."""
    named = re.fullmatch(r"(.*?) <(.*)>", name)
    if named is not None:
        return Author(named[1], named[2])
    found = run_git(["-C", folder, "config", "--get", "user.email"], remote_environment(env))
    return Author(name, found.out.decode("utf-8", "replace").strip() or "reconciler@localhost")
