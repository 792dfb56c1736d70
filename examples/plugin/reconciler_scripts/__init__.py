"""Two plugins for `reconciler`: an engine that runs a folder of shell scripts, and a home of state in a directory."""
