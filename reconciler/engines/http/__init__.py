"""HTTP that all engines share: one exchange within its deadline, the rate of requests, and when to send one again."""
