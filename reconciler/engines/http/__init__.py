"""The HTTP that engines share: one exchange within its deadline, and when and how fast to ask again."""
