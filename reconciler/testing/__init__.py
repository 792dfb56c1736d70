"""Contract suites for authors of plugins: pytest classes that an author subclasses.

    reconciler.testing.engines    EngineContract, for a plugin of an engine; the author describes a `Service`
    reconciler.testing.states     StateContract, for a plugin of a home of state
    reconciler.testing.remotes    RemoteContract, for the `Remote` that such a home is made of

A subclass provides fixtures, and gets all tests. The suites need pytest (`pip install 'job-reconciler[testing]'`).
"""

import sys

_SUITES = (
    "engine_base",
    "engines",
    "homes",
    "lost_answers",
    "plugins",
    "races",
    "refusals",
    "remotes",
    "run_ids",
    "states",
)
"""The modules whose asserts tests fail by."""

if "pytest" in sys.modules:
    # Failed asserts then show their values, as they do in the author's own tests.
    sys.modules["pytest"].register_assert_rewrite(*(f"reconciler.testing.{name}" for name in _SUITES))
