#!/usr/bin/env bash
# The main job on the real images that RUSHKIT_DATA holds, small enough for minutes on two cores.
# Usage: RUSHKIT_DATA=DIR tests/real_images.sh PATH_OF_RUSHKIT
set -euo pipefail
rushkit=$1

# Official-layout STL-10 files, made from CIFAR-10's pixels: the real ones cannot be had without a network.
"$(dirname "$rushkit")/python" - <<'PYTHON'
import os
from pathlib import Path

import numpy as np

root = Path(os.environ["RUSHKIT_DATA"])
records = np.frombuffer((root / "cifar-10-batches-bin" / "test_batch.bin").read_bytes(), np.uint8).reshape(-1, 3073)[:600]
images = records[:, 1:].reshape(-1, 3, 32, 32).repeat(3, axis=2).repeat(3, axis=3)
target = root / "stl10_binary"
target.mkdir(exist_ok=True)
for split, part in (("train", slice(0, 400)), ("test", slice(400, 600)), ("unlabeled", slice(0, 600))):
    # Column-major: each channel is stored transposed.
    (target / f"{split}_X.bin").write_bytes(images[part].transpose(0, 1, 3, 2).tobytes())
    if split != "unlabeled":
        (target / f"{split}_y.bin").write_bytes((records[part, 0] + 1).tobytes())
PYTHON

"$rushkit" data check cifar10
"$rushkit" pretrain --recipe cifar10 --set pretrain.epochs=1 --set data.limit=2000 --set backbone.name=resnet10-small
"$rushkit" finetune --from cifar10 --to cifar100 --set finetune.epochs=1 --set data.limit=2000
"$rushkit" finetune --from cifar10 --to stl10 --set finetune.epochs=1 --set finetune.batch_size=128
"$rushkit" evaluate --samples 1,64 --set data.limit=100
"$rushkit" attack --type pgd --limit 8 --samples 1,8
"$rushkit" attack --type pgd --norm l1 --eps 3 --limit 8 --samples 8 --protocol strict
"$rushkit" runs list
