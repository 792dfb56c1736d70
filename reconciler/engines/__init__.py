"""Engines: the services that run jobs. `port` holds the protocol of an engine, and each engine has a folder."""
