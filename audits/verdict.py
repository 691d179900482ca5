"""From all figures to one word: what became of the concepts?"""

from collections.abc import Mapping

Figures = Mapping[str, float]

KNOWS = 0.5  # share of the original's accuracy from which on a concept counts as known
SAME = 0.99  # CKA of the forgotten images' features from which on nothing has moved
NEAR = 10.0  # points around what one image a class brings back in the oracle, within which nothing more can be told
DAMAGE = 0.9  # share of the original's retained accuracy below which there is collateral damage
WORST = 0.35  # AUC of the loss attack below which the exemplars stand out by being known worst

VERDICTS = {
    "not forgotten": f"by its rows or its names at least {KNOWS:.0%} of the original's accuracy is there",
    "hidden in the head": "the classifier denies what the features hold as before: their CKA with the original is at "
    f"least {SAME}; where the oracle's is so, too (a locked tower), what counts is whether plain names still find it",
    "over-unlearned": f"the exemplars stand out by being known worst (AUC < {WORST}), or one image a class brings back "
    f"over {NEAR:.0f} points less than in the oracle",
    "suppressed": f"one image a class brings back over {NEAR:.0f} points more than in the oracle or, where there is "
    f"none, over {KNOWS:.0%} of what it brings back in the original",
    "erased": "none of these",
}
COLLATERAL = "collateral damage"
NEEDED = ("forget", "retain", "cka_gone", "prototype_1", "mia_loss_auc")


def can_judge(figures: Figures) -> bool:
    """Whether all that a verdict is made of was measured."""
    return all(name in figures for name in NEEDED)


def verdict(own: Figures, original: Figures, oracle: Figures | None = None) -> str:
    """A word of `VERDICTS`, and `collateral damage` beside it where less than 90 % of the retained accuracy is left.

    Args:
        own: figures of the model, by the audits' names.
        original: of the model before the request.
        oracle: of a model that has never seen the concepts; None: there is none, and what it would find is not known.

    Source: ours.
    """
    word = _word(own, original, oracle)
    damaged = own["retain"] < DAMAGE * original["retain"]
    return f"{word}, {COLLATERAL}" if damaged else word


def _word(own: Figures, original: Figures, oracle: Figures | None) -> str:
    by_rows, by_names = (own.get(name, 0.0) >= KNOWS * original["forget"] for name in ("forget", "forget_names"))
    locked = oracle is not None and oracle["cka_gone"] >= SAME  # the features hold nothing learned from the concepts
    if own["cka_gone"] >= SAME and not by_rows and (by_names or not locked):
        return "hidden in the head"
    if by_rows or by_names:
        return "not forgotten"
    found, reference = own["prototype_1"], oracle["prototype_1"] if oracle else None
    if own["mia_loss_auc"] < WORST or (oracle and found < reference - NEAR):
        return "over-unlearned"
    bound = reference + NEAR if oracle else KNOWS * original["prototype_1"]
    return "suppressed" if found > bound else "erased"


def against_oracle(own: Figures, oracle: Figures) -> dict[str, float]:
    """How far a model is from one that has never seen the concepts.

    Returns:
        `gap`: mean absolute difference of forgotten and retained accuracy and of the loss attack's AUC (in %), points
        (0: none; Fan et al., SalUn, ICLR 2024, "average gap"). `tug_of_war`: Π (1 − |difference|) over the same, 0…1
        (1: none; Zhao et al., NeurIPS 2024). Nothing where these were not measured.
    """
    if not {"forget", "retain", "mia_loss_auc"} <= own.keys():
        return {}
    away = [abs(own[name] - oracle[name]) for name in ("forget", "retain")]
    away.append(100.0 * abs(own["mia_loss_auc"] - oracle["mia_loss_auc"]))
    score = 1.0
    for points in away:
        score *= 1.0 - points / 100.0
    return {"gap": sum(away) / len(away), "tug_of_war": score}
