"""What `reconciler init` writes."""

ATTRIBUTES = """\
# What reconciler keeps beside a manifest. Of two histories git takes the lines of both; a state is taken whole.
*.history.jsonl merge=union -text
*.state.json -text
*.state.json.journal binary
"""

IGNORED = """\
# What reconciler keeps for itself: locks, the journal of an apply that is under way, the jobs of the sandbox; and
# saved plans, which hold for one state alone, and rehearsals, which have a state of their own.
*.state.json.lock
*.state.json.journal
*.sandbox.db*
sandbox.db*
plan.json
rehearsal.*
"""

MANIFEST = """\
# What each batch job should be. `reconciler plan` shows what is to be done, `reconciler apply` does it.
# Completion in editors: reconciler schema > manifest.schema.json, then
# yaml-language-server: $schema=manifest.schema.json
apiVersion: reconciler/v1

target:
  engine: sandbox  # simulates, on this machine; for the real service: bytenite
# state: git+origin  # where the state lives; by default in a file beside this one

defaults:
  config: {taskTimeout: 3600}  # seconds

jobs:
  nightly-transcode:  # the name that people use
    state: running  # running | aborted | absent
    config: {jobTimeout: 7200}
    # id: the service's id of the job, where it is not the name
    # runToken: "1"      # a new value asks for one more run
"""
