"""The configuration file: flags win, and what is wrong in it is named."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest

from gsnn.cli import app, main
from gsnn.cli.config import command_keys

from .conftest import write_problem


@pytest.fixture
def folder(tmp_path):
    """A folder with a problem, a configuration file for it, and a way to write another one."""
    write_problem(tmp_path)
    (tmp_path / "gsnn.toml").write_text(
        'run = "runs/a"\n[data]\ngraph = "network.csv"\ndata = "data.csv"\n'
        "[train]\nepochs = 2\nchannels = 2\nlayers = 3\nseed = 5\n[infer]\ntop = 4\nmethod = 'gradient'\n"
    )
    return tmp_path


def call(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def test_every_command_takes_a_file_and_the_switches():
    for command in app.registered_commands:
        keys = command_keys(command.callback)
        assert {"json", "quiet"} <= set(keys), command.callback.__name__
        assert "config" not in keys


def test_sections_fill_in_and_flags_win(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)  # paths in the file begin in its folder
    file = folder / "gsnn.toml"
    code, out, err = call(capsys, "train", "--config", file, "--epochs", 1, "--json")
    assert code == 0, err
    config = json.loads(out)["config"]
    assert (config["epochs"], config["channels"], config["layers"], config["seed"]) == (1, 2, 3, 5)
    assert (folder / "runs" / "a" / "model.safetensors").is_file()
    code, out, err = call(capsys, "infer", "--config", file, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["inference"]["method"], found["written"]) == ("gradient", 4)
    code, out, _ = call(capsys, "infer", "--config", file, "--json", "--top", 2, "--method", "magnitude")
    found = json.loads(out)
    assert (found["inference"]["method"], found["written"]) == ("magnitude", 2)
    assert call(capsys, "report", "--config", file, "--quiet")[:2] == (0, "")
    assert (folder / "runs" / "a" / "report.html").is_file()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[train]\nepoch = 3\n", ["unknown key 'epoch' in [train]", "did you mean 'epochs'"]),
        ("[trian]\nepochs = 3\n", ["unknown section 'trian'", "did you mean 'train'"]),
        ("rum = 'x'\n", ["unknown key 'rum'", "did you mean 'run'"]),
        ("epochs = 3\n", ["unknown key 'epochs'", "it belongs in [train]"]),
        ("[infer]\ngraph = 'x'\n", ["unknown key 'graph' in [infer]", "it belongs in [data]"]),
        ("[train]\nepochs = '3'\n", ["epochs in [train] must be an integer, got '3'"]),
        ("[train]\nepochs = 2.5\n", ["epochs in [train] must be an integer, got 2.5"]),
        ("[train]\nlr = true\n", ["lr in [train] must be a number, got True"]),
        ("[train]\nresume = 1\n", ["resume in [train] must be true or false, got 1"]),
        ("[train]\nnorm = ['none']\n", ["norm in [train] must be text, got a list"]),
        ("[data]\ngraph = 3\n", ["graph in [data] must be a path (text), got 3"]),
        ("[infer]\nmethod = ['gradient', 1]\n", ["method in [infer] must be text, got 1"]),
        ("[train]\nbatch-size = 3\nbatch_size = 4\n", ["given twice"]),
        ("data = 3\n", ["data must be a section, [data], got 3"]),
        ("[train\n", ["is not TOML"]),
    ],
)
def test_what_is_wrong_is_named_whatever_the_command(folder, capsys, text, words):
    file = folder / "wrong.toml"
    file.write_text(text)
    for command in (["train"], ["report"], ["simulate"]):
        code, out, err = call(capsys, *command, "--config", file)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        for word in (*words, "wrong.toml"):
            assert word in err


def test_files_that_are_none(folder, capsys):
    assert "no configuration file" in call(capsys, "train", "--config", folder / "nothing.toml")[2]
    assert "is a folder" in call(capsys, "train", "--config", folder)[2]


def test_both_spellings_lists_and_a_time_as_a_number(folder):
    from gsnn.cli.config import read_config

    file = folder / "some.toml"
    file.write_text(
        "[train]\nbatch_size = 3\nlr = 1\n[data]\ntime = 30\nsign-column = 'plus'\n[infer]\nmethod = ['a', 'b']\n"
    )
    commands = {c.callback.__name__: command_keys(c.callback) for c in app.registered_commands}
    found = read_config(file, commands)
    assert found["train"] == {"batch-size": 3, "lr": 1.0}
    assert isinstance(found["train"]["lr"], float)
    assert found["data"] == {"time": "30", "sign-column": ["plus"]}
    assert found["infer"] == {"method": ["a", "b"]}


def test_init_writes_a_file_that_every_command_takes(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    code, out, err = call(
        capsys, "init", "--graph", "network.csv", "--data", "data.csv", "-o", "new.toml", "--sign-column", "sign"
    )
    assert code == 0, err
    assert out.splitlines()[0] == "Configuration: new.toml"
    text = (folder / "new.toml").read_text()
    content = tomllib.loads(text)
    assert content["data"] == {"graph": "network.csv", "data": "data.csv", "sign-column": ["sign"]}
    assert "# Network: 6 species, 6 edges. Responses: 24 samples" in text
    # Every line that is switched off is right too: with all of them on, the file still passes.
    on = "\n".join(line[2:] if " = " in line and line.startswith("# ") else line for line in text.splitlines())
    content = tomllib.loads(on)
    assert content["train"]["epochs"] == 150
    (folder / "on.toml").write_text(on)
    for name in ("new.toml", "on.toml"):
        assert call(capsys, "check", "--config", name, "--quiet") == (0, "", "")
    code, _, err = call(capsys, "init", "--graph", "network.csv", "--data", "data.csv", "-o", "new.toml")
    assert (code, "--force" in err) == (2, True)
    assert (folder / "new.toml").read_text() == text
    assert (
        call(capsys, "init", "--graph", "network.csv", "--data", "data.csv", "-o", "new.toml", "--force", "-q")[0] == 0
    )
    assert not list(folder.glob(".*.tmp"))


def test_init_tells_what_training_would_refuse_and_needs_a_folder(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    code, _, err = call(capsys, "init", "--graph", "network.csv", "--data", "data.csv", "-o", "none/new.toml")
    assert (code, "there is no folder" in err) == (2, True)
    (folder / "data.csv").write_text((folder / "data.csv").read_text().replace("TR:b", "TR:bb", 1))
    files = ["--graph", "network.csv", "--data", "data.csv"]
    code, out, err = call(capsys, "init", *files, "-o", "new.toml", "--json")
    assert code == 0
    assert json.loads(out)["check"]["ok"] is False
    code, _, err = call(capsys, "init", *files, "-o", "new.toml", "--force")
    assert code == 0
    assert "warning: gsnn train would refuse these files: " in err
    assert "'bb'" in err
    assert call(capsys, "init", *files, "-o", "drop.toml", "--drop-unmatched", "-q")[0] == 0
    content = tomllib.loads((folder / "drop.toml").read_text())
    assert content["data"]["drop-unmatched"] is True
    assert call(capsys, "check", "--config", "drop.toml", "-q")[0] == 0


def test_shared_keys_reach_every_command(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "quiet.toml").write_text('quiet = true\n[data]\ngraph = "network.csv"\ndata = "data.csv"\n')
    assert call(capsys, "check", "--config", "quiet.toml") == (0, "", "")
    code, _, err = call(capsys, "train", "--config", "quiet.toml")
    assert (code, "give the run folder to write with -o" in err) == (2, True)


def test_init_paths_begin_where_the_file_stands(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "sub").mkdir()
    assert call(capsys, "init", "--graph", "network.csv", "--data", "data.csv", "-o", "sub/gsnn.toml", "-q")[0] == 0
    assert tomllib.loads((folder / "sub" / "gsnn.toml").read_text())["data"]["graph"] == "../network.csv"
    monkeypatch.chdir(folder.parent)
    assert call(capsys, "check", "--config", folder / "sub" / "gsnn.toml", "-q")[0] == 0


def test_init_paths_of_names_begin_there_too(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "sub").mkdir()
    rng = np.random.default_rng(0)
    for name, names in (("inputs", "ab"), ("outputs", "ef")):
        np.save(folder / f"{name}.npy", rng.normal(size=(24, 2)).astype("float32"))
        (folder / f"{name}.txt").write_text("\n".join(names))
    words = ["--graph", "network.csv", "--inputs", "inputs.npy", "--outputs", "outputs.npy"]
    words += ["--treatment-names", "inputs.txt", "--readout-names", "outputs.txt", "-o", "sub/gsnn.toml", "-q"]
    assert call(capsys, "init", *words)[0] == 0
    content = tomllib.loads((folder / "sub" / "gsnn.toml").read_text())["data"]
    assert {content[name] for name in ("treatment-names", "readout-names")} == {"../inputs.txt", "../outputs.txt"}
    monkeypatch.chdir(folder.parent)
    assert call(capsys, "check", "--config", folder / "sub" / "gsnn.toml", "-q")[0] == 0
