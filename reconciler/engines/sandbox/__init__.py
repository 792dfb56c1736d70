"""The embedded server: it speaks the jobs API over real HTTP on loopback and simulates the jobs.

`server.SandboxServer` runs it, `faults.parse_fault` makes it misbehave, and `life.ledger` and
`life.calls` tell afterwards what was done and what was asked.
"""
