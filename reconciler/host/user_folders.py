"""Folders outside of any checkout, in which the tool keeps files for one user."""

import os

from reconciler.model.errors import StateError


class NoOwnFolder(StateError):
    """A folder of the user's own can't be made or written to. The state itself is not at fault."""


def make_own_folder(path: str, variable: str) -> None:
    """Make the folder `path`, which only this user can enter, and the folders above it.

    `variable` is the environment variable that moves the folder. An empty `path` means that no home folder is known.
    Raises `NoOwnFolder`, whose hint names `variable`.
    """
    advice = f"set {variable} to a folder that can be written"
    if not path:
        raise NoOwnFolder("there is no home folder: HOME is not set, and this user has no account", advice)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as fault:
        raise NoOwnFolder(f"{path} can't be made: {fault.strerror}", advice) from fault
    if not can_write_in(path):
        raise NoOwnFolder(f"{path} can't be written to", advice)


def can_write_in(folder: str) -> bool:
    """Whether this user can create files in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)
