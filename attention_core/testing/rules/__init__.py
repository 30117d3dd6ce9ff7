"""The rules a scorer is held to, by kind."""
