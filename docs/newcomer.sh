#!/usr/bin/env bash
# From a folder of photographs to a report: what a newcomer does, on generated pictures; less than two minutes on one core.
#
#   bash docs/newcomer.sh [DIR]        DIR: where to work; a temporary folder if left out
#
# PYTHON names the interpreter; Lethe's requirements must be installed in it.
set -euo pipefail
lethe=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
cd "${1:-$(mktemp -d)}"

# 1. Photographs: a folder for each class, in a folder for each kind. Here are some of our own making.
"$python" - <<'PYTHON'
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {
    "fruit/lemon": (235, 215, 40), "fruit/tomato": (210, 40, 30), "fruit/plum": (90, 40, 120),
    "leaf/maple": (220, 120, 30), "leaf/birch": (110, 170, 50), "leaf/ivy": (20, 80, 40),
}  # fmt: skip
dice = np.random.default_rng(0)
rows, columns = np.mgrid[:96, :96]
for name, colour in COLOURS.items():
    Path("photos", name).mkdir(parents=True, exist_ok=True)
    for number in range(12):
        (y, x), size = dice.integers(36, 60, 2), dice.integers(20, 30)
        wide, high = (1.0, 1.0) if name.startswith("fruit") else (2.2, 0.8)
        inside = ((columns - x) / wide) ** 2 + ((rows - y) / high) ** 2 < size**2
        picture = dice.normal(dice.integers(90, 200), 12, (96, 96, 3))
        picture[inside] = np.array(colour) * dice.uniform(0.8, 1.1) + dice.normal(0, 14, (inside.sum(), 3))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(f"photos/{name}/{number}.jpg")
PYTHON

# 2. An index of them: a quarter of each class is held out for testing.
"$python" "$lethe/main.py" prepare folder --root photos --name mine

# 3. What is to happen: learn four classes, learn two more, forget one.
cat > mine.json <<'JSON'
{
  "dataset": "mine",
  "model_name": "adapter",
  "convnet_type": "tiny_vit",
  "sessions": [{"learn": 4}, {"learn": 2}, {"forget": ["tomato"]}],
  "optimizer": "adamw",
  "init_lr": 0.003,
  "init_epochs": 5,
  "inc_epochs": 5,
  "forget_lr": 0.001,
  "forget_epochs": 6,
  "ffn_num": 16,
  "batch_size": 16,
  "coarse_weight": 0.5,
  "sigma": "auto",
  "ridge": "auto",
  "workers": 0
}
JSON
"$python" "$lethe/main.py" --config mine.json

# 4. The report, one page to open and to send.
"$python" "$lethe/main.py" report logs/adapter/mine/sessions/*/*_tiny_vit --out report.html
echo "the report is $PWD/report.html"
