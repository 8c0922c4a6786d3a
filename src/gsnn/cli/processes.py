"""Commands that run in several processes and print once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from gsnn.base.errors import DataError, GsnnError

if TYPE_CHECKING:
    from gsnn.edges.parallel import Processes

AGAIN = "the same command goes on after the statistics that were saved"


@contextmanager
def together(timeout: float) -> Iterator[Processes]:
    """Join the other processes of the job; an error that all of them raise is printed once, by the first.

    Args:
        timeout: Seconds to wait for the others.

    Yields:
        The processes.

    Raises:
        DataError: If the timeout is not above 0.
        ProcessError: If another process dies, with what to do.
        typer.Exit: After SIGTERM, or where another process prints the error.
    """
    from gsnn.edges.parallel import ProcessError, Stopped, processes

    if not timeout > 0:
        raise DataError(f"timeout must be a number of seconds above 0, got {timeout:g}")
    first = True
    try:
        with processes(timeout) as joined:
            first = joined.first
            try:
                yield joined
            except GsnnError as error:
                if joined.told_by_first(str(error)):
                    raise typer.Exit(2) from None
                raise
    except ProcessError as error:
        raise ProcessError(f"{error}; {AGAIN}") from error
    except KeyboardInterrupt:
        if first:
            raise
        raise typer.Exit(130) from None
    except Stopped as stopped:
        if first:
            typer.echo(f"{stopped}; {AGAIN}", err=True)
        raise typer.Exit(128 + stopped.number) from None
