"""The ``attention-core`` command (extra ``cli``); nothing is imported until it runs."""

import os
import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; after an interrupt it cleans up and exits with 130."""
    stopped_by: list[int] = []

    def stop(signum: int, _: object) -> None:
        stopped_by.append(signum)
        stopped = sys.modules.get("attention_core.cli.errors")
        raise SystemExit(128 + signum) if stopped is None else stopped.Stopped(128 + signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # as under nohup
            signal.signal(signum, stop)
    try:
        _run()
    except BaseException:  # an interrupted import may raise any exception
        if stopped_by:
            os._exit(128 + stopped_by[0])  # an interrupted thread pool might hang
        raise


def _run() -> None:
    try:
        import rich  # noqa: F401 - found missing here, not halfway through
        import typer  # noqa: F401 - likewise
    except ImportError:
        sys.stderr.write(
            "attention-core: the command line needs typer and rich: "
            "pip install 'attention-core[cli]'\n"
        )
        sys.exit(2)
    from attention_core.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # escapes characters that the encoding of a stream lacks
            reconfigure(errors="backslashreplace")
    app(prog_name="attention-core")
