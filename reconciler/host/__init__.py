"""What touches this machine: git, files, locks, clocks, signals, threads, the terminal, secrets."""
