r"""Train a logistic regression, epoch by epoch, on the CSV files in channel `train`.

The script prints one line per epoch, from which the flow reads its metrics:

    epoch=3 loss=0.1234 auc=0.9876      {"loss": "loss=", "auc": "auc="}

`loss` is the loss of the training rows, `auc` the AUC of every fifth row, which is held back from training. Each epoch
ends with a checkpoint in the state directory, which outlives the job. A restarted job, or a later one with more
`--epochs`, resumes from there and ends with the same model as an uninterrupted job.
"""

import argparse
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from worker_toolkit import worker_lib


def read_csv_parts(directory: Path) -> tuple[list[str], list[str]]:
    """Return header and rows of all parts; sort the rows, so that the number of writing hosts does not matter."""
    parts = [path.read_text().splitlines() for path in sorted(directory.rglob("*.csv"))]
    header = next(part[0] for part in parts if part)
    return header.split(","), sorted(row for part in parts for row in part[1:])


def load_checkpoint(path: Path, made_from: str, epochs: int) -> dict[str, Any]:
    """Return the checkpoint if it has the same data, `C` and code and at most `epochs` epochs, else an empty one."""
    checkpoint: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if checkpoint.get("made_from") == made_from and checkpoint["epoch"] <= epochs:
        print(f"going on from the checkpoint of epoch {checkpoint['epoch']}", flush=True)
        return checkpoint
    return {"epoch": 0}


def save_json(path: Path, value: dict[str, Any]) -> None:
    """Write by rename: the state is copied to S3 while the job runs, and no partial file must get there."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1))
    partial.replace(path)


def main() -> None:
    """Train, and write `model.json`: plain numbers, so that a reader need not trust a pickle."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--C", type=float, default=1.0, help="inverse strength of the regularisation")
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    worker_config = worker_lib.WorkerConfig()

    header, rows = read_csv_parts(Path(worker_config.channel_train))
    table = np.array([row.split(",") for row in rows], dtype=float)
    train = np.arange(len(table)) % 5 != 0
    mean, std = table[train, :-1].mean(axis=0), table[train, :-1].std(axis=0)
    features, label = (table[:, :-1] - mean) / std, table[:, -1]

    state = Path(worker_config.instance_state, "checkpoint.json")
    made_from = hashlib.sha256("\n".join([str(args.C), Path(__file__).read_text(), *rows]).encode()).hexdigest()
    checkpoint = load_checkpoint(state, made_from, args.epochs)
    model = LogisticRegression(
        C=args.C, warm_start=True, max_iter=1
    )  # one step per epoch, each from the end of the last one
    if checkpoint["epoch"]:
        model.classes_ = np.array([0.0, 1.0])
        model.coef_, model.intercept_ = np.array(checkpoint["coef"]), np.array(checkpoint["intercept"])
    warnings.simplefilter("ignore", ConvergenceWarning)

    # Print the checkpoint's own epoch again, so that a job without remaining epochs has metrics too.
    for epoch in range(max(1, checkpoint["epoch"]), args.epochs + 1):
        if epoch > checkpoint["epoch"]:
            model.fit(features[train], label[train])
        probability = model.predict_proba(features)[:, 1]
        loss, auc = log_loss(label[train], probability[train]), roc_auc_score(label[~train], probability[~train])
        print(f"epoch={epoch} loss={loss:.4f} auc={auc:.4f}", flush=True)
        weights = {"coef": model.coef_.tolist(), "intercept": model.intercept_.tolist()}
        save_json(state, {"made_from": made_from, "epoch": epoch, **weights})

    scaling = {"mean": mean.tolist(), "std": std.tolist()}
    save_json(Path(worker_config.model_dir, "model.json"), {"C": args.C, "features": header[:-1], **scaling, **weights})


if __name__ == "__main__":
    main()
