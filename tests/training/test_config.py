from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gsnn.nn import NORMS as MODEL_NORMS
from gsnn.training import TrainConfig
from gsnn.training.config import NORMS


def test_survives_json():
    config = TrainConfig(lr=1 / 3, patience=7, split_seed=2, norm="none", restore_best=True)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_knows_the_norms_of_the_model():
    assert set(NORMS) == set(MODEL_NORMS)


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("epochs", 0, ValueError, "epochs must be at least 1, got 0"),
        ("epochs", True, TypeError, "epochs must be an integer"),
        ("channels", 2.0, TypeError, "channels must be an integer, got 2.0"),
        ("lr", 0, ValueError, "lr must be a finite number above 0"),
        ("lr", float("nan"), ValueError, "lr"),
        ("lr", "1e-3", TypeError, "lr"),
        ("weight_decay", -1e-9, ValueError, "weight_decay"),
        ("dropout", 1.0, ValueError, "dropout"),
        ("norm", "groupbach", ValueError, "did you mean 'groupbatch'"),
        ("patience", 0, ValueError, "patience"),
        ("seed", -1, ValueError, "seed"),
        ("seed", None, TypeError, "seed"),
        ("residual", 1, TypeError, "residual must be True or False"),
        ("test", 0.95, ValueError, "leave samples to train on"),
        ("validation", 0.0, ValueError, "validation"),
    ],
)
def test_refuses(field, value, error, message):
    with pytest.raises(error, match=message):
        TrainConfig(**{field: value})


@pytest.mark.parametrize("norm", NORMS)
def test_refuses_single_rows_where_the_norm_does(norm):
    if norm in ("batch", "edgebatch", "batch++"):
        with pytest.raises(ValueError, match="needs a batch_size of at least 2"):
            TrainConfig(norm=norm, batch_size=1)
    else:
        TrainConfig(norm=norm, batch_size=1)


def test_names_the_closest_option():
    with pytest.raises(ValueError, match=r"unknown training option 'epoch'.*did you mean 'epochs'"):
        TrainConfig.from_dict({"epoch": 3})


def test_settings_do_not_import_lightning():
    code = "import sys, gsnn.training; assert not {'lightning', 'torch'} & set(sys.modules), 'slow import'"
    subprocess.run([sys.executable, "-c", code], check=True)
