"""``gsnn check``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsnn.base.progress import stage
from gsnn.base.wording import command_line
from gsnn.cli.config import Config
from gsnn.cli.files import Files, reads_files
from gsnn.cli.options import AsJson, Quiet
from gsnn.cli.output import figure, interruptible, left_out_line, percent, print_json, show_notes, show_warnings

if TYPE_CHECKING:
    from gsnn.runs.check import Checkup

_NAMES = 8  # how many names of a list are printed
_TITLES = {"masked": "Values and known edges"}
_HOW = {"reach": "the same treatments before it, the same readouts behind it", "hops": "and in as many steps"}


@reads_files
def check(
    files: Files = Files(),  # noqa: B008 - frozen
    write_map: Annotated[
        Path | None,
        typer.Option(help="Write a guess of what labels stand for, a table for --map to correct by hand."),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Read a network and its data as training would, and tell what fits, what does not, and what can be learnt.

    Writes nothing, unless --write-map asks for it. Exit code 0 if gsnn train would take the files, 2 if not.

    Example: gsnn check --graph network.sif --data responses.csv
    """
    with interruptible("nothing was written"), stage("reading network and data", show=not quiet):
        from gsnn.base.errors import DataError
        from gsnn.base.files import write_text
        from gsnn.runs.check import check_up

        if write_map is not None and write_map.exists():
            raise DataError(f"{write_map} exists; choose another name for the map, so that no correction is lost")
        checkup = check_up(**files.reading())
        if write_map is not None:
            write_text(write_map, checkup.proposal)
    if as_json:
        print_json({**checkup.to_dict(), **({"map": write_map} if write_map else {})})
    elif not quiet:
        _show(checkup, config)
        if write_map is not None:
            typer.echo(
                f"Map: {write_map}; correct it by hand, above all where its note says so, and give it with --map"
            )
        if checkup.error and any(map(checkup.sections.get("unmatched", {}).get, ("treatments", "readouts"))):
            if write_map is None:
                typer.echo(f"Next: {_again('check', ' --write-map names.csv')}, which guesses what the names stand for")
            else:
                typer.echo(
                    f"Next: correct {write_map}, then {_again('check', f' --map {shlex.quote(str(write_map))}')}"
                )
    show_warnings(checkup.warnings, quiet=quiet or as_json)
    if checkup.error:
        raise DataError(checkup.error)


def _show(checkup: Checkup, config: Path | None) -> None:
    for title, section in checkup.sections.items():
        if title == "aliases":
            _show_aliases(section)
        elif title == "to beat":
            typer.echo(left_out_line(section))
        else:
            typer.echo(_TITLES.get(title, title.capitalize()))
            width = max(map(len, section))
            for label, value in section.items():
                typer.echo(f"  {label.ljust(width)}  {_text(value)}")
    show_notes(checkup.notes)
    if checkup.error:
        typer.echo("The files cannot be trained on as they are.")
    elif checkup.odd:
        typer.echo("gsnn train would take these files, but something looks wrong; see the warnings.")
    else:
        typer.echo("gsnn train would take these files.")
        typer.echo(f"Next: {_again('train', '' if config else ' -o runs/first')}")


def _again(command: str, more: str) -> str:
    """The shell line of a command on the files of this one."""
    dropped = ("--write-map", *(("--map",) if " --map " in more else ()))
    kept, skip = [], False
    for word in shlex.split(command_line())[2:]:
        own = word in ("--json", "--quiet", "-q", *dropped) or word.startswith(tuple(f"{flag}=" for flag in dropped))
        if not skip and not own:
            kept.append(word)
        skip = word in dropped
    return shlex.join(["gsnn", command, *kept]) + more


def _show_aliases(section: Mapping[str, Mapping[str, Any]]) -> None:
    typer.echo("Aliases: candidate edges that the data cannot tell apart")
    for by, groups in section.items():
        share, largest = groups["share_aliased"], groups["largest_share"]
        typer.echo(
            f"  by {by.ljust(5)}  {percent(share)} have at least one alias; {groups['groups']} groups, the largest "
            f"with {percent(largest)} of the candidates ({_HOW[by]})"
        )


def _text(value: Any) -> str:  # noqa: ANN401 - a number, a text or a list
    if isinstance(value, list):
        if value and all(isinstance(item, str) for item in value):
            more = f" and {len(value) - _NAMES} more" if len(value) > _NAMES else ""
            return f"{len(value)}: {', '.join(value[:_NAMES])}{more}"
        return ", ".join(f"{item:g}" for item in value) or "none"
    return figure(value) if isinstance(value, float) else str(value)
