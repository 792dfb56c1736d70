"""The environment in which git is run: nothing of it says which repository is meant."""

import re
from collections.abc import Mapping, Sequence

from reconciler.host.secrecy import without_credentials

# `git rev-parse --local-env-vars` lists those that name a repository; a hook, or an editor, sets them for its own.
# GIT_CONFIG_* stay: they hold the user's own settings.
_OF_A_REPOSITORY = re.compile(
    r"GIT_(DIR|WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|COMMON_DIR|NAMESPACE|PREFIX"
    r"|INTERNAL_SUPER_PREFIX|IMPLICIT_WORK_TREE|GRAFT_FILE|NO_REPLACE_OBJECTS|QUARANTINE_PATH|TEMPLATE_DIR"
    r"|EXTERNAL_DIFF|TRACE.*|CURL_VERBOSE|SHALLOW_FILE|REPLACE_REF_BASE|ATTR_SOURCE|DEFAULT_HASH)"
)


def git_environment(env: Mapping[str, str], settings: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """The environment for a git command that is told by its arguments which repository it is about.

    `settings` are entries of git's configuration; they win over those that `env` brings. Git asks nothing, and
    its messages are in English.
    """
    own = without_credentials(env)  # git hands its environment on to helpers, hooks and GIT_ASKPASS
    kept = {name: value for name, value in own.items() if not _OF_A_REPOSITORY.fullmatch(name)}
    try:
        first = int(kept.get("GIT_CONFIG_COUNT", "0"))
    except ValueError:
        first = 0
    for number, (name, value) in enumerate(settings, first):
        kept[f"GIT_CONFIG_KEY_{number}"], kept[f"GIT_CONFIG_VALUE_{number}"] = name, value
    return kept | {
        "GIT_CONFIG_COUNT": str(first + len(settings)),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
        "LANGUAGE": "C",
    }
