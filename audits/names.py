"""Names as directions in the space of features."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from convs.clip import ClipBackbone


@torch.no_grad()
def name_rows(backbone: ClipBackbone, names: Sequence[str], templates: tuple[str, ...]) -> np.ndarray:
    """What a text tower says of names, averaged over templates: [n, D], of unit length, double precision."""
    return F.normalize(backbone.name_features(list(names), templates).double(), dim=1).cpu().numpy()
