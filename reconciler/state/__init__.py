"""Where state lives: the port in `store`, and the backends behind it."""
