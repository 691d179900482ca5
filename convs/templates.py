"""Sets of templates that turn a class name into texts."""

from collections.abc import Sequence

from utils.errors import ConfigError, nearest

PLAIN = ("a photo of a {}.",)

CARS = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of my {}.",
    "i love my {}!",
    "a photo of my dirty {}.",
    "a photo of my clean {}.",
    "a photo of my new {}.",
    "a photo of my old {}.",
)

DRAWN = (
    "a drawing of a {}.",
    "a picture of a {}.",
    "a small image of the {}.",
    "an illustration of a {}.",
    "this is a {}.",
    "a {} in front of a background.",
)


def get_templates(choice: str | Sequence[str]) -> tuple[str, ...]:
    """The templates a config asks for.

    Args:
        choice: `plain`, `cars`, `drawn`, `imagenet` (open_clip's 80), or a list of texts that each hold `{}`.

    Raises:
        ConfigError: an unknown set, or a text without `{}`.
    """
    named = {"plain": PLAIN, "cars": CARS, "drawn": DRAWN}
    if choice == "imagenet":
        return _imagenet()
    if isinstance(choice, str):
        if choice not in named:
            raise ConfigError(
                f"key 'templates': '{choice}' is no set of templates{nearest(choice, [*named, 'imagenet'])}"
            )
        return named[choice]
    for text in choice:
        if text.count("{}") != 1:
            raise ConfigError(f"key 'templates': {text!r} must hold '{{}}' exactly once, where the class name goes")
    return tuple(choice)


def _imagenet() -> tuple[str, ...]:
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    # open_clip keeps functions of the name; a placeholder gives the text back.
    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
