"""A command is its file and one word: one that is added here has what the others have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import pytest
import typer

from gsnn.cli import app, main
from gsnn.cli.commands import COMMANDS
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Quiet
from gsnn.cli.output import print_json


def count(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")],
    times: Annotated[int, typer.Option(help="How often.")] = 1,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Count the files of a run folder."""
    from gsnn.base.errors import RunError

    if not run.is_dir():
        raise RunError(f"there is no run folder {run}")
    files = times * len(list(run.iterdir()))
    if as_json:
        print_json({"run": run, "files": files})
    elif not quiet:
        typer.echo(f"{files} files")


@pytest.fixture(autouse=True)
def added():
    app.command()(count)
    yield
    app.registered_commands.pop()


def run(*words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def test_it_is_called_and_told_of(tmp_path, capsys):
    (tmp_path / "one").touch()
    assert run("count", tmp_path) == 0
    assert capsys.readouterr().out == "1 files\n"
    assert run("count", tmp_path, "--json", "--times", "3") == 0
    assert json.loads(capsys.readouterr().out) == {"run": str(tmp_path), "files": 3}
    assert run("--help") == 0
    assert "Count the files of a run folder." in capsys.readouterr().out


def test_its_errors_are_one_line(tmp_path, capsys):
    assert run("count", tmp_path / "none") == 2
    assert capsys.readouterr().err == f"error: there is no run folder {tmp_path / 'none'}\n"
    assert run("count", tmp_path, "--tmes", "3") == 2
    assert "--times" in capsys.readouterr().err


def test_it_has_a_section_of_the_configuration(tmp_path, capsys):
    config = tmp_path / "gsnn.toml"
    config.write_text("[count]\ntimes = 5\n")
    assert run("count", tmp_path, "--config", config) == 0
    assert capsys.readouterr().out == "5 files\n"
    config.write_text("[count]\ntime = 5\n")
    assert run("count", tmp_path, "--config", config) == 2
    assert "did you mean 'times'" in capsys.readouterr().err


def test_ours_are_where_their_names_say():
    names = [command.callback.__name__ for command in app.registered_commands[:-1]]
    assert names == list(COMMANDS)
