"""The application: its commands, its version, and how errors come out."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from gsnn._version import __version__
from gsnn.base.errors import GsnnError
from gsnn.base.wording import flags

# Errors of the machine, not of the program: reported in one line, like a wrong file.
_ENVIRONMENT = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
}

app = typer.Typer(
    name="gsnn",
    help="Find the edges that are missing from a prior network, from perturbation data.",
    epilog="Begin with: gsnn demo",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"gsnn {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Find the edges that are missing from a prior network, from perturbation data."""


# In the order of the help. Each is a function in the file of its name beside this one.
COMMANDS = (
    *("init", "check", "train", "infer", "selfcheck", "report", "evaluate", "refine", "audit", "predict", "compare"),
    *("knockout", "explain", "design"),
    *("simulate", "demo"),
)
for _name in COMMANDS:
    app.command()(getattr(import_module(f"gsnn.cli.{_name}"), _name))


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        args: The arguments; by default those of the program.

    Raises:
        SystemExit: With 0; 2 after an error the user can mend, printed in one line; 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks must not stop the program.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if args is None else args)
    try:
        with flags(words):
            code = app(args=words or ["--help"], standalone_mode=False)
    except GsnnError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in _ENVIRONMENT:
            raise
        _fail(f"{error.filename or 'a file'}: {error.strerror}")
    except Exception as error:
        # Usage errors; typer has its own copy of click's classes in some versions.
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message())
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> NoReturn:
    print("error: " + " ".join(message.splitlines()), file=sys.stderr)
    sys.exit(2)
