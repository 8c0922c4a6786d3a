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

# The run folder and the switch may stand once, above all sections.
SHARED: Mapping[str, type] = {"run": Path, "quiet": bool}
DATA = "data"  # the section of the files, for the commands that read them
_DATA_COMMANDS = ("check", "train")
# What the run folder is called by the commands that take one.
_RUN_NAMES = {"train": "out", "evaluate": "edges"}
# Text that a user may well write as a number.
_NUMBER_TOO = {"time", "source_column", "target_column", "sign_column"}
_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text", Path: "a path (text)"}


@dataclass(frozen=True)
class Key:
    """An option as a configuration file may give it.

    Attributes:
        parameter: Its name in the function of the command.
        kind: int, float, bool, str or Path.
        several: Whether it takes a list.
    """

    parameter: str
    kind: type
    several: bool


def apply_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make the values of a configuration file the defaults of the command that is called.

    Args:
        ctx: The context of the command.
        path: The file, or None.

    Raises:
        DataError: If the file cannot be read, or a section, a key or a type in it is wrong, whatever the command.
    """
    if path is None:
        return None
    root: Any = ctx.find_root().command
    commands = {name: command_keys(command.callback) for name, command in root.commands.items()}
    name = str(ctx.info_name)
    found = read_config(path, commands)
    values = {key.parameter: found[name][text] for text, key in commands[name].items() if text in found.get(name, {})}
    if name in _DATA_COMMANDS:
        own = commands[name]
        values = {own[text].parameter: value for text, value in found.get(DATA, {}).items()} | values
    shared = found.get("", {})
    if "run" in shared:
        folder = _RUN_NAMES.get(name, "run")
        if folder in {key.parameter for key in commands[name].values()}:
            values.setdefault(folder, shared["run"])
    if "quiet" in shared:
        values.setdefault("quiet", shared["quiet"])
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
    """What a section may hold: the flags of a command without their dashes, and its arguments.

    Returns:
        Keys by name, as on the command line (``batch-size``).
    """
    hints = get_type_hints(function, include_extras=True)
    keys = {}
    for name in inspect.signature(function).parameters:
        hint = hints[name]
        marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        # typer keeps the first flag of an annotation where a default would stand.
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
    """Read and check a configuration file.

    Args:
        path: The file. Relative paths in it start from its folder.
        commands: The keys of each command.

    Returns:
        Section -> key -> value; the keys above all sections stand under ``""``.

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
    except (ValueError, RecursionError) as error:  # numbers of 5000 digits and lists in lists in lists among them
        raise DataError(f"{path} is not TOML: {error}") from error
    sections = {DATA: _data_keys(commands), **commands}
    found: dict[str, dict[str, Any]] = {"": {}}
    for name, value in content.items():
        if name in SHARED:
            found[""][name] = _checked(value, Key(name, SHARED[name], False), name, path)
        elif name in sections and isinstance(value, dict):
            found[name] = _section(value, sections, name, path)
        elif name in sections:
            raise DataError(f"{path}: {name} must be a section, [{name}], got {value!r}")
        else:
            what = "section" if isinstance(value, dict) else "key"
            options = list(sections) if isinstance(value, dict) else list(SHARED)
            hint = _elsewhere(name, sections) if what == "key" else ""
            raise DataError(f"{path}: unknown {what} '{name}'{_near(name, options)}{hint}; use {', '.join(options)}")
    return found


def _section(
    values: Mapping[str, Any], sections: Mapping[str, Mapping[str, Key]], section: str, path: Path
) -> dict[str, Any]:
    keys, found = sections[section], {}
    for written, value in values.items():
        name = written if written in keys else written.replace("_", "-")
        if name not in keys:
            hint = _near(name, keys) or _elsewhere(name, sections) or f"; use {', '.join(keys)}"
            raise DataError(f"{path}: unknown key '{written}' in [{section}]{hint}")
        if name in found:
            raise DataError(f"{path}: '{written}' in [{section}] is given twice")
        found[name] = _checked(value, keys[name], f"{written} in [{section}]", path)
    return found


def _data_keys(commands: Mapping[str, Mapping[str, Key]]) -> dict[str, Key]:
    from gsnn.cli.files import FILE_OPTIONS

    some = commands[_DATA_COMMANDS[0]]
    return {name: key for name, key in some.items() if key.parameter in FILE_OPTIONS}


def _checked(value: Any, key: Key, where: str, path: Path) -> Any:  # noqa: ANN401 - a value of TOML
    if isinstance(value, list):
        if not key.several:
            raise DataError(f"{path}: {where} must be {_WORDS[key.kind]}, got a list")
        return [_one(item, key, where, path) for item in value]
    one = _one(value, key, where, path)
    return [one] if key.several else one


def _one(value: Any, key: Key, where: str, path: Path) -> Any:  # noqa: ANN401
    wrong = f"{path}: {where} must be {_WORDS[key.kind]}, got {value!r}"
    if key.kind is bool:
        if not isinstance(value, bool):
            raise DataError(wrong)
        return value
    if isinstance(value, bool):
        raise DataError(wrong)
    if key.kind in (int, float):
        if not isinstance(value, int) and not (key.kind is float and isinstance(value, float)):
            raise DataError(wrong)
        return key.kind(value)
    if key.parameter in _NUMBER_TOO and isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise DataError(wrong)
    # A path begins where the file stands, so that it means the same wherever the command is called.
    return str(path.parent / value) if key.kind is Path else value


def _near(name: str, options: Any) -> str:  # noqa: ANN401 - names
    near = closest(name, options, 1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _elsewhere(name: str, sections: Mapping[str, Mapping[str, Key]]) -> str:
    there = [f"[{section}]" for section, keys in sections.items() if name.replace("_", "-") in keys]
    return f" (it belongs in {', '.join(there)})" if there else ""
