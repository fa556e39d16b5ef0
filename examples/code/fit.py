"""Train a classifier of scikit-learn's breast cancer data, epoch by epoch; leave `model.json`."""

import argparse
import json
import os
from pathlib import Path

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


def main() -> None:
    """Print one line per epoch, from which the caller reads its metrics."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--alpha", type=float, default=0.01, help="strength of the regularisation")
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()

    data = load_breast_cancer()
    train, test, train_label, test_label = train_test_split(data.data, data.target, random_state=0)
    scaler = StandardScaler().fit(train)
    model = SGDClassifier(loss="log_loss", alpha=args.alpha, random_state=0)
    for epoch in range(1, args.epochs + 1):
        model.partial_fit(scaler.transform(train), train_label, classes=[0, 1])
        probability = model.predict_proba(scaler.transform(test))[:, 1]
        loss, auc = log_loss(test_label, probability), roc_auc_score(test_label, probability)
        print(f"epoch={epoch} loss={loss:.4f} auc={auc:.4f}", flush=True)

    weights = dict(zip(data.feature_names.tolist(), model.coef_[0].round(4).tolist(), strict=True))
    Path(os.environ["SM_MODEL_DIR"], "model.json").write_text(json.dumps({"alpha": args.alpha, "weights": weights}))


if __name__ == "__main__":
    main()
