"""The application: its commands, and one place that turns errors into messages and exit codes."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vecindex.cli import build, demo, measure, read, upkeep
from vecindex.errors import VecindexError

_HELP = """Put texts or vectors into a directory and get the nearest ones back.

An index is a directory, usually named *.vx. Start with: vecindex demo

Exit codes: 0 done, 1 the work failed (the message is on stderr), 2 wrong usage, 130 interrupted.
"""

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_PIPE_CLOSED = 141  # 128 + SIGPIPE, as for a C program


class GuardedGroup(TyperGroup):
    """Commands whose failures are one clear message instead of a traceback."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the command; say what failed on stderr and choose the exit code."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            _discard_stdout()
            raise typer.Exit(_PIPE_CLOSED) from error
        except KeyboardInterrupt as error:
            _say("interrupted", error)
            raise typer.Exit(_INTERRUPTED) from error
        except (VecindexError, OSError) as error:
            _say(_message(error), error)
            _flush_or_discard()
            raise typer.Exit(1) from error


def _say(message: str, error: BaseException) -> None:
    for line in (message, *getattr(error, "__notes__", ())):
        typer.echo(f"vecindex: {line}", err=True)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def _flush_or_discard() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _discard_stdout()


def _discard_stdout() -> None:
    """Send what is still buffered nowhere, or the interpreter complains when it exits."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except OSError:  # stdout has no descriptor, as under a test runner
        return


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vecindex {version('vecindex')}")
        raise typer.Exit


app = typer.Typer(
    cls=GuardedGroup,
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Take the options that stand before the command."""


for _command in (
    build.build,
    build.add,
    read.search,
    read.get,
    read.remove,
    upkeep.info,
    upkeep.optimize,
    upkeep.compact,
    upkeep.snapshot,
    upkeep.verify,
    upkeep.repair,
    measure.bench,
    read.export,
    demo.demo,
):
    app.command()(_command)
