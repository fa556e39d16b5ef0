"""Compare the models in channels `model_0`, `model_1`, … on the rows in channel `test`.

The output is `report.json` (AUC and accuracy of each model, and the best one) and `roc.png`. The same inputs give the
same bytes.
"""

import json
import os
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # a job has no screen
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from sklearn.metrics import accuracy_score, roc_auc_score, roc_curve


def read_csv_parts(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels of all parts; sort the rows, so that the number of writing hosts does not matter."""
    rows = sorted(row for path in directory.rglob("*.csv") for row in path.read_text().splitlines()[1:])
    table = np.array([row.split(",") for row in rows], dtype=float)
    return table[:, :-1], table[:, -1]


def read_models() -> list[dict[str, Any]]:
    """Return the models of all channels `model_…`, the weakest regularisation last."""
    channels = [Path(path) for name, path in os.environ.items() if name.startswith("SM_CHANNEL_MODEL_")]
    return sorted((json.loads((path / "model.json").read_text()) for path in channels), key=lambda model: model["C"])


def probability(model: dict[str, Any], features: np.ndarray) -> np.ndarray:
    """Return the probability of `malignant` for each row."""
    scaled = (features - model["mean"]) / np.array(model["std"])
    probabilities: np.ndarray = 1 / (1 + np.exp(-(scaled @ np.array(model["coef"][0]) + model["intercept"])))
    return probabilities


def plot(curves: dict[str, Any], scores: dict[str, Any], path: Path) -> None:
    """Draw the ROC curves on the left, and on the right only the corner where good models differ."""
    mpl.rcParams.update({"font.size": 13, "axes.titlesize": 13, "axes.spines.top": False, "axes.spines.right": False})
    figure, (whole, corner) = plt.subplots(1, 2, figsize=(10, 5.4), dpi=120, layout="constrained")
    places = np.linspace(0, 1, len(curves))
    for place, (name, (false_positives, true_positives)) in zip(places, curves.items(), strict=True):
        # Each curve is thinner than the one before, so that it does not hide those below it.
        style = {"color": plt.cm.plasma(0.75 * place), "linewidth": 6 - 4 * place, "where": "post"}
        for axes in (whole, corner):
            axes.step(false_positives, true_positives, label=f"{name}: AUC {scores[name]['auc']:.3f}", **style)
    whole.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="chance")
    whole.add_patch(Rectangle((0, 0.8), 0.2, 0.2, facecolor="0.93", edgecolor="0.6", zorder=0))
    whole.set(title="ROC on the test rows", xlim=(-0.02, 1.02), ylim=(0, 1.02))
    whole.legend(loc="lower right", frameon=False)
    corner.set(title="the grey corner of it", xlim=(-0.004, 0.2), ylim=(0.8, 1.004), facecolor="0.95")
    corner.set(xticks=[0, 0.05, 0.1, 0.15, 0.2], yticks=[0.8, 0.85, 0.9, 0.95, 1])
    figure.suptitle("How well do the models find malignant cells?", fontsize=17, fontweight="bold")
    figure.supxlabel("false positives, as a share of the benign", fontsize=13)
    figure.supylabel("true positives, as a share of the malignant", fontsize=13)
    figure.savefig(path, metadata={"Software": None})  # without matplotlib's version, so that the bytes are the same


def main() -> None:
    """Score every model, print a line for each, and write the report and the plot."""
    features, label = read_csv_parts(Path(os.environ["SM_CHANNEL_TEST"]))
    scores, curves = {}, {}
    for model in read_models():
        name, malignant = f"C={model['C']}", probability(model, features)
        scores[name] = {"auc": roc_auc_score(label, malignant), "accuracy": accuracy_score(label, malignant.round())}
        curves[name] = roc_curve(label, malignant)[:2]
        print(f"{name} auc={scores[name]['auc']:.4f} accuracy={scores[name]['accuracy']:.4f}", flush=True)
    best = max(scores, key=lambda name: scores[name]["auc"])
    output = Path(os.environ["SM_OUTPUT_DATA_DIR"])
    report = {"best": best, "test_rows": len(label), "models": scores}
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    plot(curves, scores, output / "roc.png")


if __name__ == "__main__":
    main()
