"""Read a saved plan on stdin and print the report for GitLab's merge requests on stdout: counts, as for Terraform.

https://docs.gitlab.com/ci/yaml/artifacts_reports/#artifactsreportsterraform
"""

import json
import sys

_KINDS = {"create": ("run",), "update": ("abort", "restart", "adopt", "forget"), "delete": ("delete",)}

summary = json.load(sys.stdin)["summary"]
json.dump({name: sum(summary[kind] for kind in kinds) for name, kinds in _KINDS.items()}, sys.stdout)
