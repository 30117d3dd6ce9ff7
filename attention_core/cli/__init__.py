"""The ``attention-core`` command (extra ``cli``); nothing is imported until it runs."""

import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    try:
        import rich  # noqa: F401  # found missing here, not halfway through
        import typer  # noqa: F401
    except ImportError:
        sys.stderr.write(
            "attention-core: the command line needs typer and rich: "
            "pip install 'attention-core[cli]'\n"
        )
        sys.exit(2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up as after an interrupt
    try:
        from attention_core.cli.app import app

        app(prog_name="attention-core")
    except KeyboardInterrupt:  # while importing; the commands see to their own
        sys.exit(130)
