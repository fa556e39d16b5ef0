"""A training script in AWS's script mode."""

import argparse
import os
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float)
alpha = parser.parse_args().alpha
channel = os.environ.get("SM_CHANNEL_TRAIN")
names = sorted(path.name for path in Path(channel).iterdir()) if channel else []
print(f"alpha={alpha}; channel={names}")
Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text(f"{alpha}")
