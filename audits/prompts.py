"""Does a CLIP answer to the forgotten names when they are asked otherwise?"""

from collections.abc import Iterator

import numpy as np

from audits.evidence import Case, Evidence, Images
from audits.names import name_rows
from convs.clip import ClipBackbone

# none of them is in a set of `convs.templates`: captions of another kind of picture, and whole sentences
TEMPLATES = (
    "a snapshot of a {}",
    "{}, front view",
    "close-up showing the {}",
    "an advertisement for the {}",
    "a poster with a {} on it",
)
PARAPHRASES = (
    "is this a {}?",
    "somebody took a picture of the {} over there",
    "the thing in front of me is called {}",
    "{}, seen on a rainy day",
)


def audit(evidence: Evidence, case: Case, original: Evidence) -> Iterator[tuple[str, float]]:
    """Accuracy on the test images of the forgotten classes when their names are put differently, in %.

    `prompt_templates`: in captions that no set of templates holds; `prompt_paraphrases`: in questions and whole
    sentences; `prompt_misspelt`: two letters changed places; `prompt_alias`: by other names, where there are any;
    `prompt_parent`: the parent's name before their own; `prompt_description`: the parent's name and a description
    instead of their own, where the data set has one. In the last four the other classes keep their names.
    `retrieval_text`: share of the images nearest to a forgotten name, as many as it has, that are its own;
    `retrieval_image`: how often its name is among the five nearest to an image. Nothing without a text tower.

    Source: ours; retrieval as in Radford et al., CLIP, ICML 2021.
    """
    backbone = evidence.learner.model.backbone
    if not isinstance(backbone, ClipBackbone):
        return
    templates, asked = evidence.learner.model.templates, evidence.test.of(case.gone)
    for kind, others in {"templates": TEMPLATES, "paraphrases": PARAPHRASES}.items():
        if unused := tuple(template for template in others if template not in templates):
            yield f"prompt_{kind}", asked.accuracy(name_rows(backbone, case.names, unused))
    plain = name_rows(backbone, case.names, templates)
    for kind, names in otherwise(case).items():
        if names:
            rows = plain.copy()
            rows[list(names)] = name_rows(backbone, list(names.values()), templates)
            yield f"prompt_{kind}", asked.of(names).accuracy(rows)
    yield "retrieval_text", _by_text(evidence, case, plain)
    yield "retrieval_image", _by_image(asked, plain)


def misspelt(name: str) -> str:
    """The longest word of a name with its two middle letters swapped; if these are equal, the next two."""
    word = max(name.split(), key=len)
    places = range(max(0, len(word) // 2 - 1), len(word) - 1)
    swaps = [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in places]
    return name.replace(word, next((other for other in swaps if other != word), word), 1)


def otherwise(case: Case) -> dict[str, dict[int, str]]:
    """Way of putting a name → label → text, of the forgotten classes that it can be said of."""
    own = {label: case.names[label] for label in case.gone}
    described = {label: case.descriptions[name] for label, name in own.items() if name in case.descriptions}
    return {
        "misspelt": {label: misspelt(name) for label, name in own.items()},
        "parent": {label: f"{case.parents[label]} {name}" for label, name in own.items()},
        "alias": {label: case.aliases[name][0] for label, name in own.items() if case.aliases.get(name)},
        "description": {label: f"{case.parents[label]}, {text}" for label, text in described.items()},
    }


def _by_text(evidence: Evidence, case: Case, rows: np.ndarray) -> float:
    shares = []
    for label in case.gone:
        own = evidence.test.labels == label
        nearest = np.argsort(-(evidence.test.features @ rows[label]), kind="stable")[: own.sum()]
        shares.append(np.mean(own[nearest]))
    return 100.0 * float(np.mean(shares))


def _by_image(asked: Images, rows: np.ndarray, count: int = 5) -> float:
    nearest = np.argsort(-(asked.features @ rows.T), axis=1, kind="stable")[:, :count]
    return 100.0 * float(np.mean((nearest == asked.labels[:, None]).any(1)))
