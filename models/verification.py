"""How alike a learner finds the images of pairs."""

import numpy as np
import torch.nn.functional as F

from data.pairs import Pairs
from models.learner import Learner
from utils.errors import DivergenceError
from utils.passes import gather


def similarities(learner: Learner, pairs: Pairs) -> np.ndarray:
    """The cosine of the two embeddings of every pair, [N]; every image is encoded once, and no mirror image of it.

    Raises:
        DivergenceError: an embedding is not finite.
    """

    def compute(batch):
        return {"feature": learner.predict(batch["image"]).features}

    device = learner.model.device
    features = gather(learner.model, compute, pairs.stream, device=device, title="verify")["feature"]  # [M, D]
    if not features.isfinite().all():
        raise DivergenceError("the model's features are no longer finite; lower the learning rate")
    features = F.normalize(features.double(), dim=1)
    return (features[pairs.first] * features[pairs.second]).sum(1).numpy()
