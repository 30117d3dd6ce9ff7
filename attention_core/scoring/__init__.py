"""The contract of a scorer, its parameters, and calling one."""
