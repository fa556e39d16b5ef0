"""The scripts of the quickstart's jobs, run as in SageMaker's containers: configured only by the environment."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.quickstart import METRICS
from flows.quickstart_data import write_shards
from tasks_lib.jobs.metrics import metric_patterns

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
CODE = ROOT / "flows" / "quickstart_code"
EPOCHS = 8


def run(script: str, *arguments: str, **environment: str | Path) -> str:
    """Run one of the scripts, check that it succeeds, and return its output."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("SM_", "SSM_"))}
    done = subprocess.run(
        [sys.executable, str(CODE / script), *arguments],
        env={**given, "PYTHONPATH": str(ROOT), **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def prepare(raw: Path, output: Path, hosts: int, *arguments: str) -> str:
    """Run `prepare.py` on `hosts` hosts, with files distributed as by `ShardedByS3Key`; return the output of all."""
    printed = ""
    for number in range(hosts):
        shard = output.parent / f"{output.name}-raw-{number}"
        shard.mkdir(parents=True)
        for path in sorted(raw.glob("*.csv"))[number::hosts]:
            shutil.copy(path, shard)
        host = f"algo-{number + 1}"
        printed += run("prepare.py", *arguments, SM_CURRENT_HOST=host, SM_CHANNEL_RAW=shard, SM_OUTPUT_DATA_DIR=output)
    return printed


def fit(train: Path, place: Path, *arguments: str) -> tuple[str, bytes]:
    """Run `fit.py` with its model and state in `place`; return its output and the model's bytes."""
    for name in ("model", "state"):
        (place / name).mkdir(parents=True, exist_ok=True)
    printed = run(
        "fit.py",
        *arguments,
        SM_CHANNELS='["train"]',
        SM_CHANNEL_TRAIN=train,
        SM_HOSTS='["algo-1"]',
        SM_CURRENT_HOST="algo-1",
        SM_MODEL_DIR=place / "model",
        SSM_STATE=place / "state",
    )
    (model,) = (place / "model").iterdir()
    return printed, model.read_bytes()


def evaluate(test: Path, output: Path, *models: Path) -> str:
    """Run `evaluate.py` on models in channels `model_0`, `model_1`, …; return its output."""
    output.mkdir(parents=True)
    channels = {f"SM_CHANNEL_MODEL_{number}": model for number, model in enumerate(models)}
    return run("evaluate.py", SM_CHANNEL_TEST=test, SM_OUTPUT_DATA_DIR=output, **channels)


def rows(split: Path) -> list[str]:
    """Return all rows of a split, sorted."""
    return sorted(row for path in split.iterdir() for row in path.read_text().splitlines()[1:])


def epochs(printed: str) -> list[int]:
    return [int(number) for number in re.findall(r"^epoch=(\d+) ", printed, re.MULTILINE)]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of `prepare.py` on two hosts."""
    output = tmp_path_factory.mktemp("prepared") / "output"
    prepare(raw, output, 2)
    return output


@pytest.fixture(scope="module")
def fitted(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """The directory with model and state, and the printed output, for two values of `C`."""
    made = {}
    for strength in ("0.1", "10.0"):
        place = tmp_path_factory.mktemp(f"fit-C{strength}")
        made[strength] = (place, fit(prepared / "train", place, "--C", strength, "--epochs", str(EPOCHS))[0])
    return made


@pytest.mark.sampled(1)
@pytest.mark.parametrize("hosts", [1, 3, 9])
def test_the_split_does_not_depend_on_the_number_of_hosts(raw: Path, prepared: Path, tmp_path: Path, hosts: int):
    """Any number of hosts gives the same split as two hosts, even if there are more hosts than files."""
    prepare(raw, tmp_path / "output", hosts)

    for split in ("train", "test"):
        assert rows(prepared / split) == rows(tmp_path / "output" / split)


def test_every_row_is_in_one_split(raw: Path, prepared: Path):
    """No row is lost or in both splits, and the test split has about a quarter of the rows."""
    train, test = rows(prepared / "train"), rows(prepared / "test")

    assert len(rows(raw)) == len(train) + len(test)
    assert not set(train) & set(test)
    assert 0.2 < len(test) / len(rows(raw)) < 0.3


def test_scaling_keeps_order_and_label(raw: Path, prepared: Path):
    """Each feature is log(1 + x) of the raw value, and the label is unchanged."""
    scaled = np.array([row.split(",") for split in ("train", "test") for row in rows(prepared / split)], dtype=float)
    table = np.array([row.split(",") for row in rows(raw)], dtype=float)

    assert np.allclose(np.sort(np.log1p(table[:, :-1]), axis=0), np.sort(scaled[:, :-1], axis=0), atol=1e-6)
    assert sorted(table[:, -1]) == sorted(scaled[:, -1])


def test_prepare_prints_what_it_did(raw: Path, tmp_path: Path):
    """Each host prints its files with their row counts, and its totals per split match the files that it wrote."""
    printed = prepare(raw, tmp_path / "output", 2, "--test-fraction", "0.5")
    told = [int(number) for number in re.findall(r"csv: (\d+) rows", printed)]
    sums = [map(int, pair) for pair in re.findall(r"(\d+) rows to train, (\d+) to test", printed)]

    assert len(list(raw.iterdir())) == len(told)
    assert [len(rows(tmp_path / "output" / split)) for split in ("train", "test")] == [
        sum(column) for column in zip(*sums, strict=True)
    ]
    assert sum(told) == len(rows(raw))


def test_fit_prints_what_its_documentation_promises(fitted: dict[str, tuple[Path, str]]):
    """The metrics in the docstring of `fit.py` are those of the flow.

    Their patterns match once per epoch in the output, and match the example in the docstring.
    """
    documentation = ast.get_docstring(ast.parse((CODE / "fit.py").read_text()))
    metrics = dict(re.findall(r'"(\w+)": "([^"]+)"', documentation))
    example = next(line for line in documentation.splitlines() if "epoch=" in line)
    _, printed = fitted["10.0"]

    assert metrics == METRICS
    assert list(range(1, EPOCHS + 1)) == epochs(printed)
    for pattern in metric_patterns(metrics).values():
        assert len(re.findall(pattern, printed)) == EPOCHS
        assert re.search(pattern, example)


def test_fit_learns(fitted: dict[str, tuple[Path, str]]):
    """The loss falls by more than half, and the AUC of the validation rows ends above 0.97."""
    _, printed = fitted["10.0"]
    loss, auc = ([float(value) for value in re.findall(rf"{name}=([0-9.]+)", printed)] for name in ("loss", "auc"))

    assert loss[-1] < loss[0] / 2
    assert auc[-1] > 0.97


def test_a_model_is_plain_numbers(fitted: dict[str, tuple[Path, str]]):
    """The model is one JSON file, not a pickle, with a weight, a mean and a deviation for each named feature."""
    model = json.loads((fitted["0.1"][0] / "model" / "model.json").read_text())

    assert model["C"] == 0.1
    assert {30} == {len(model[name]) for name in ("features", "mean", "std")} | {len(model["coef"][0])}


@pytest.mark.sampled(2, group="code")
def test_a_model_does_not_depend_on_who_wrote_the_rows(raw: Path, fitted: dict[str, tuple[Path, str]], tmp_path: Path):
    """Parts from three hosts and from two give the same model: fits are deterministic and ignore row order."""
    prepare(raw, tmp_path / "prepared", 3)
    _, model = fit(tmp_path / "prepared" / "train", tmp_path, "--C", "0.1", "--epochs", str(EPOCHS))

    assert (fitted["0.1"][0] / "model" / "model.json").read_bytes() == model


@pytest.mark.sampled(2, group="code")
def test_a_fit_goes_on_where_the_last_one_ended(prepared: Path, fitted: dict[str, tuple[Path, str]], tmp_path: Path):
    """A fit with more epochs resumes from the checkpoint, and gives the same bytes as an uninterrupted fit."""
    fit(prepared / "train", tmp_path, "--C", "0.1", "--epochs", "3")
    printed, model = fit(prepared / "train", tmp_path, "--C", "0.1", "--epochs", str(EPOCHS))

    assert "going on from the checkpoint of epoch 3" in printed
    assert list(range(3, EPOCHS + 1)) == epochs(printed)
    assert (fitted["0.1"][0] / "model" / "model.json").read_bytes() == model


@pytest.mark.sampled(2, group="code")
def test_a_fit_without_anything_left_to_do_still_has_its_metrics(
    prepared: Path, fitted: dict[str, tuple[Path, str]], tmp_path: Path
):
    """With a checkpoint of the last epoch nothing is trained.

    The last epoch's line and the model are the same again.
    """
    place, before = fitted["0.1"]
    shutil.copytree(place / "state", tmp_path / "state")
    printed, model = fit(prepared / "train", tmp_path, "--C", "0.1", "--epochs", str(EPOCHS))

    assert before.splitlines()[-1] == printed.splitlines()[-1]
    assert epochs(printed) == [EPOCHS]
    assert (place / "model" / "model.json").read_bytes() == model


@pytest.mark.sampled(2, group="code")
@pytest.mark.parametrize("change", ["C", "data", "fewer epochs"])
def test_a_checkpoint_of_other_work_is_not_used(
    prepared: Path, fitted: dict[str, tuple[Path, str]], tmp_path: Path, change: str
):
    """With another `C`, other rows or fewer epochs the checkpoint is ignored, and the fit starts from epoch 1."""
    train = tmp_path / "train"
    shutil.copytree(prepared / "train", train)
    if change == "data":
        part = min(train.iterdir())
        part.write_text("".join(part.read_text().splitlines(keepends=True)[:-1]))
    arguments = ["--C", "1.0" if change == "C" else "0.1", "--epochs", "4" if change == "fewer epochs" else str(EPOCHS)]
    shutil.copytree(fitted["0.1"][0] / "state", tmp_path / "used" / "state")
    printed, model = fit(train, tmp_path / "used", *arguments)

    assert fit(train, tmp_path / "fresh", *arguments) == (printed, model)
    assert epochs(printed)[0] == 1


def test_the_state_holds_whole_files_only(fitted: dict[str, tuple[Path, str]]):
    """The state holds one checkpoint, of the last epoch, and no partial file."""
    files = [path for path in (fitted["0.1"][0] / "state").rglob("*") if path.is_file()]

    assert [path.name for path in files] == ["checkpoint.json"]
    assert json.loads(files[0].read_text())["epoch"] == EPOCHS


@pytest.mark.sampled(2, group="code")
def test_the_report_names_the_best_model(prepared: Path, fitted: dict[str, tuple[Path, str]], tmp_path: Path):
    """A model with reversed weights gets the complement of the AUC, and is not reported as the best."""
    good = fitted["10.0"][0] / "model"
    wrong = tmp_path / "wrong"
    shutil.copytree(good, wrong)
    model = json.loads((wrong / "model.json").read_text())
    model |= {"C": 0.5, "coef": [[-weight for weight in model["coef"][0]]], "intercept": [-model["intercept"][0]]}
    (wrong / "model.json").write_text(json.dumps(model))
    printed = evaluate(prepared / "test", tmp_path / "output", good, wrong)
    report = json.loads((tmp_path / "output" / "report.json").read_text())

    assert report["best"] == "C=10.0"
    assert report["test_rows"] == len(rows(prepared / "test"))
    assert list(report["models"]) == ["C=0.5", "C=10.0"]
    assert report["models"]["C=10.0"]["auc"] > 0.97
    assert report["models"]["C=10.0"]["accuracy"] > 0.93
    assert report["models"]["C=0.5"]["auc"] == pytest.approx(1 - report["models"]["C=10.0"]["auc"])
    for name, score in report["models"].items():
        assert f"{name} auc={score['auc']:.4f} accuracy={score['accuracy']:.4f}\n" in printed


@pytest.mark.sampled(2, group="code")
def test_the_plot_is_a_picture_worth_looking_at(prepared: Path, fitted: dict[str, tuple[Path, str]], tmp_path: Path):
    """`roc.png` is a valid PNG of at least 800 by 400 pixels, with more than one colour, smaller than 300 kB."""
    evaluate(prepared / "test", tmp_path / "output", *(place / "model" for place, _ in fitted.values()))
    path = tmp_path / "output" / "roc.png"
    with Image.open(path) as image:
        image.load()
        colours = image.convert("RGB").getcolors(maxcolors=1 << 24)

    assert image.format == "PNG"
    assert image.width >= 800
    assert image.height >= 400
    assert sum(1 for _, (red, green, blue) in colours if max(red, green, blue) - min(red, green, blue) > 100) > 1
    assert path.stat().st_size < 300_000


@pytest.mark.sampled(2, group="code")
def test_the_same_models_give_the_same_bytes(prepared: Path, fitted: dict[str, tuple[Path, str]], tmp_path: Path):
    """The report and the plot contain no date or version, and do not depend on the order of channels."""
    models = [place / "model" for place, _ in fitted.values()]
    evaluate(prepared / "test", tmp_path / "one", *models)
    evaluate(prepared / "test", tmp_path / "other", *reversed(models))

    for name in ("report.json", "roc.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
