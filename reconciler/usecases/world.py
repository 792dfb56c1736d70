"""What a use case takes from outside: the environment, the stop flag, the clocks, and where remarks go."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from reconciler.host.clocks import Clocks

if TYPE_CHECKING:
    from reconciler.host.stop import Flag


class World(NamedTuple):
    """The environment variables, the flag that is set once nothing new may start, and the clocks.

    `remark` is called with each remark for the user. `note_credential` is called with each credential that becomes
    known while a command runs: a borrowed access token, or the password of a proxy.
    """

    env: Mapping[str, str]
    stop: "Flag"
    remark: Callable[[str], None] = lambda _: None
    note_credential: Callable[[str], None] = lambda _: None
    clocks: Clocks = Clocks()

    def pause(self, seconds: float) -> bool:
        """Wait for `seconds`, or until a stop is requested. Returns whether a stop was requested."""
        return self.stop.wait(seconds)

    def now(self) -> str:
        """The time on the wall clock, in UTC, as in RFC 3339."""
        import time

        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.clocks.wall_s()))

    @property
    def state_folder(self) -> str:
        """The folder for marks and locks, which must outlive the cache; "" if this user has no such folder."""
        return _own_folder(self.env, "XDG_STATE_HOME", ".local/state")

    @property
    def cache_folder(self) -> str:
        """The folder for files that can be made again; "" if this user has no such folder."""
        return _own_folder(self.env, "XDG_CACHE_HOME", ".cache")

    @property
    def user(self) -> str:
        """The user who runs the command, as USER@HOST."""
        user = self.env.get("USER") or self.env.get("LOGNAME") or f"user {os.getuid()}"
        return f"{user}@{os.uname().nodename}"


def fresh_id() -> str:
    """A new unique id."""
    import uuid

    return str(uuid.uuid4())


def now() -> str:
    """The time for people to read, in UTC, as in RFC 3339. No decision depends on it."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _own_folder(env: Mapping[str, str], variable: str, default: str) -> str:
    """The folder of this tool below the folder that a variable names; "" without a variable and a home folder.

    A relative path in the variable is ignored, as the XDG Base Directory Specification 0.8 demands.
    """
    named = env.get(variable, "")
    if not os.path.isabs(named):
        home = env.get("HOME", "")
        home = home if os.path.isabs(home) else _home_of_account()
        named = os.path.join(home, default) if home else ""
    return os.path.join(named, "reconciler") if named else ""


def _home_of_account() -> str:
    """The home folder of the user's account; "" if the uid has no account, as in many containers."""
    import pwd

    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""
    return home if os.path.isabs(home) else ""
