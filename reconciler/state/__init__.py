"""Where state lives: the port in `port`, the session with its journal, and the backends behind it."""
