"""``python -m attention_core.cli``."""

from attention_core.cli import main

main()
