"""The embedded server, which speaks the jobs API over HTTP on loopback and simulates the jobs.

`server.SandboxServer` runs the server, and `faults.parse_fault` reads a fault that the server simulates. `life.ledger`
returns the calls that were carried out, and `life.calls` the calls that were received.
"""
