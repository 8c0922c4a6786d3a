"""Options from a TOML file: a section per command, checked against the flags of that command; flags win."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from gsnn.base.errors import DataError, closest

# Keys that belong above all sections, too.
SHARED: Mapping[str, type] = {"run": Path, "quiet": bool}
DATA = "data"  # section of the files, for these commands
_DATA_COMMANDS = ("check", "train")
# Commands whose parameter for the run folder is not called run.
_RUN_NAMES = {"train": "out", "evaluate": "edges"}
# Text that a user may write as a number.
_TEXT_OR_NUMBER = {"time", "source_column", "target_column", "sign_column"}
_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text", Path: "a path (text)"}


@dataclass(frozen=True)
class Key:
    """An option that a configuration file can set.

    Attributes:
        parameter: Its name in the function of the command.
        kind: int, float, bool, str or Path.
        several: Whether it takes a list.
    """

    parameter: str
    kind: type
    several: bool


def apply_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make the values of a configuration file, if one is given, the defaults of the command that is called.

    Raises:
        DataError: If the file cannot be read, or a section, a key or a type in it is wrong, also of another command.
    """
    if path is None:
        return None
    root: Any = ctx.find_root().command
    commands = {name: command_keys(command.callback) for name, command in root.commands.items()}
    name = str(ctx.info_name)
    content, keys = read_config(path, commands), commands[name]
    sections = (DATA, name) if name in _DATA_COMMANDS else (name,)
    values = {keys[text].parameter: value for part in sections for text, value in content.get(part, {}).items()}
    for text, value in content[""].items():
        parameter = _RUN_NAMES.get(name, text) if text == "run" else text
        if parameter in {key.parameter for key in keys.values()}:
            values.setdefault(parameter, value)
    ctx.default_map = values
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file with a section per command; flags win over it (gsnn init writes one).",
        callback=apply_config,
        is_eager=True,
    ),
]


def command_keys(function: Any) -> dict[str, Key]:  # noqa: ANN401 - the callback of a command
    """The keys of a command's section by name: its flags without their dashes (``batch-size``), and its arguments."""
    hints = get_type_hints(function, include_extras=True)
    keys = {}
    for name in inspect.signature(function).parameters:
        hint = hints[name]
        marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        # typer keeps the first flag of an annotation as its default.
        flags = [flag for mark in marks for flag in (mark.default, *(mark.param_decls or ()))]
        long = [flag.split("/")[0][2:] for flag in flags if isinstance(flag, str) and flag.startswith("--")]
        label = long[0] if long else name.replace("_", "-")
        if label != "config":
            kind, several = _plain_type(hint)
            keys[label] = Key(name, kind, several)
    return keys


def _plain_type(hint: Any) -> tuple[type, bool]:  # noqa: ANN401 - a type
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    if get_origin(hint) is list:
        return get_args(hint)[0], True
    return hint, False


def read_config(path: Path, commands: Mapping[str, Mapping[str, Key]]) -> dict[str, dict[str, Any]]:
    """Read a configuration file and check it against the keys of each command.

    Returns:
        Section -> key -> value; the keys above all sections are under ``""``. Relative paths start from its folder.

    Raises:
        DataError: As for :func:`apply_config`.
    """
    import tomllib

    try:
        with path.open("rb") as handle:
            content = tomllib.load(handle)
    except FileNotFoundError:
        raise DataError(f"there is no configuration file {path}; write one with gsnn init") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; --config wants a TOML file") from None
    except (ValueError, RecursionError) as error:  # also numbers of 5000 digits and deeply nested lists
        raise DataError(f"{path} is not TOML: {error}") from error
    sections = {DATA: _data_keys(commands), **commands}
    values: dict[str, dict[str, Any]] = {"": {}}
    for name, value in content.items():
        if name in SHARED:
            values[""][name] = _checked(value, Key(name, SHARED[name], False), name, path)
        elif name in sections and isinstance(value, dict):
            values[name] = _section(value, sections, name, path)
        elif name in sections:
            raise DataError(f"{path}: {name} must be a section, [{name}], got {value!r}")
        else:
            section = isinstance(value, dict)
            options = list(sections if section else SHARED)
            hint = _near(name, options) + ("" if section else _elsewhere(name, sections))
            kind = "section" if section else "key"
            raise DataError(f"{path}: unknown {kind} '{name}'{hint}; use {', '.join(options)}")
    return values


def _section(
    values: Mapping[str, Any], sections: Mapping[str, Mapping[str, Key]], section: str, path: Path
) -> dict[str, Any]:
    keys, checked = sections[section], {}
    for written, value in values.items():
        name = written if written in keys else written.replace("_", "-")
        if name not in keys:
            hint = _near(name, keys) or _elsewhere(name, sections) or f"; use {', '.join(keys)}"
            raise DataError(f"{path}: unknown key '{written}' in [{section}]{hint}")
        if name in checked:
            raise DataError(f"{path}: '{written}' in [{section}] is given twice")
        checked[name] = _checked(value, keys[name], f"{written} in [{section}]", path)
    return checked


def _data_keys(commands: Mapping[str, Mapping[str, Key]]) -> dict[str, Key]:
    from gsnn.cli.files import FILE_OPTIONS

    return {name: key for name, key in commands[_DATA_COMMANDS[0]].items() if key.parameter in FILE_OPTIONS}


def _checked(value: Any, key: Key, where: str, path: Path) -> Any:  # noqa: ANN401 - a value of TOML
    if isinstance(value, list) and not key.several:
        raise DataError(f"{path}: {where} must be {_WORDS[key.kind]}, got a list")
    values = [_one(item, key, where, path) for item in (value if isinstance(value, list) else [value])]
    return values if key.several else values[0]


def _one(value: Any, key: Key, where: str, path: Path) -> Any:  # noqa: ANN401
    accepted: Any = {bool: bool, int: int, float: int | float}.get(key.kind, str)
    if key.parameter in _TEXT_OR_NUMBER:
        accepted = str | int | float
    # In Python a bool is an int.
    if not isinstance(value, accepted) or (isinstance(value, bool) and key.kind is not bool):
        raise DataError(f"{path}: {where} must be {_WORDS[key.kind]}, got {value!r}")
    # A path is relative to the folder of the file, so that it means the same wherever the command is called.
    return str(path.parent / value) if key.kind is Path else key.kind(value)


def _near(name: str, options: Any) -> str:  # noqa: ANN401 - names
    near = closest(name, options, 1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _elsewhere(name: str, sections: Mapping[str, Mapping[str, Key]]) -> str:
    places = [f"[{section}]" for section, keys in sections.items() if name.replace("_", "-") in keys]
    return f" (it belongs in {', '.join(places)})" if places else ""
