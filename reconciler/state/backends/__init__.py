"""Where state is kept: in a file on this machine, or on a branch of a git remote."""
