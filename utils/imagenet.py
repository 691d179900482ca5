"""What ImageNet's classes are called: the same names for data and for classifiers that came with weights."""

from collections import Counter


def imagenet_names() -> dict[str, str]:
    """Wnid → name of ImageNet's 1,000 classes, sorted by wnid, which is the order of every library's classifier.

    The names are those that open_clip ships for zero-shot classification, which read better than WordNet's; where
    they give one name to two classes, both take the first name that WordNet has.
    """
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    taken = Counter(IMAGENET_CLASSNAMES)
    first = (info.index_to_description(at).split(", ")[0] for at in range(len(IMAGENET_CLASSNAMES)))
    names = (one if taken[one] == 1 else lemma for one, lemma in zip(IMAGENET_CLASSNAMES, first, strict=True))
    return dict(zip(info.label_names(), names, strict=True))
