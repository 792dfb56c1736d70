"""The rules: pure functions that turn values into values. They use no clock, no disk and no network."""
