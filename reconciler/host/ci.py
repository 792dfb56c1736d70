"""The person who runs a command, as a continuous integration service names them in the environment."""

from collections.abc import Mapping
from typing import NamedTuple

_LONGEST = 200
"""The number of characters of an identity that are kept. A variable may hold any text."""


class _Service(NamedTuple):
    """One service.

    `mark` is a variable that only this service sets. `people` are variables that may name a person. `run` pairs a word
    with the variable that holds its value.
    """

    name: str
    mark: str
    people: tuple[str, ...]
    run: tuple[tuple[str, str], ...]


_SERVICES = (
    # Where a person starts a run again, GITHUB_ACTOR still names the person who pushed.
    _Service(
        "GitHub Actions",
        "GITHUB_ACTIONS",
        ("GITHUB_TRIGGERING_ACTOR", "GITHUB_ACTOR"),
        (("run", "GITHUB_RUN_ID"), ("attempt", "GITHUB_RUN_ATTEMPT")),
    ),
    _Service("GitLab", "GITLAB_CI", ("GITLAB_USER_LOGIN",), (("job", "CI_JOB_ID"), ("pipeline", "CI_PIPELINE_ID"))),
    _Service("Buildkite", "BUILDKITE", ("BUILDKITE_BUILD_CREATOR",), (("build", "BUILDKITE_BUILD_NUMBER"),)),
    _Service("CircleCI", "CIRCLECI", ("CIRCLE_USERNAME",), (("build", "CIRCLE_BUILD_NUM"),)),
    _Service("Azure Pipelines", "TF_BUILD", ("BUILD_REQUESTEDFOR",), (("build", "BUILD_BUILDID"),)),
    _Service("Bitbucket", "BITBUCKET_BUILD_NUMBER", (), (("build", "BITBUCKET_BUILD_NUMBER"),)),
    _Service("Jenkins", "JENKINS_URL", ("BUILD_USER_ID",), (("build", "BUILD_TAG"),)),
    _Service("CI", "CI", ("BUILD_USER",), (("build", "BUILD_NUMBER"), ("pipeline", "CI_PIPELINE_NUMBER"))),
)


def ci_identity(env: Mapping[str, str]) -> str:
    """The person and the run: "ada, GitHub Actions run 7 attempt 1"; "" where the environment names neither."""
    for service in _SERVICES:
        if env.get(service.mark, "").lower() not in ("", "false", "0"):
            person = next(filter(None, map(env.get, service.people)), None)
            run = [f"{word} {env[variable]}" for word, variable in service.run if env.get(variable)]
            words = " ".join([service.name, *run])
            if person or run:
                return (f"{person}, {words}" if person else words)[:_LONGEST]
    return ""
