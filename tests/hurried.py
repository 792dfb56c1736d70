"""The program itself, with the waits of a state that git keeps set to what the first argument (JSON) says."""

import json
import sys

from reconciler import cli
from reconciler.state import branch, repository

if __name__ == "__main__":
    for name, value in json.loads(sys.argv.pop(1)).items():
        setattr(repository if hasattr(repository, name) else branch, name, value)
    cli.main()
