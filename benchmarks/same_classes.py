"""What a finished run knows of the classes that another stream has left alive.

python benchmarks/same_classes.py exps/learn_toycars.json exps/learn_forget_toycars.json

For every seed of the first experiment: its last checkpoint's accuracy on the classes that the second, over the same
class order, is to know at its end. All classes that the first has learned are candidates.
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from models.build import build
from models.evaluation import score
from models.runs import reopen, restore, trained
from utils.config import load_config
from utils.metrics import accuracy, topk_hits
from utils.place import find_place


def main(finished: Path, other: Path) -> None:
    """Write one line a seed."""
    config, stream = load_config(finished).config, load_config(other).config
    cpu = torch.device("cpu")
    for seed in config.seed:
        alive = build(stream, seed, cpu).sessions[-1].alive
        folder = find_place(config, seed, resume=True).folder
        run, ours = reopen(folder, cpu)
        restore(ours.learner, trained(folder, run), ours.manager.order, folder)
        scores = score(ours.learner, ours.sessions[-1])
        hits = topk_hits(scores.logits["fine"], scores.labels["fine"], 1)
        kept = np.isin(scores.labels["fine"], alive)
        sys.stdout.write(f"seed {seed}: {accuracy(hits[kept]):.2f} % on {len(alive)} classes, {kept.sum()} images\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
