"""Texts around class names."""

import pytest

from convs.templates import CARS, DRAWN, PLAIN, get_templates
from utils.errors import ConfigError


@pytest.mark.parametrize(("choice", "expected"), [("plain", PLAIN), ("cars", CARS), ("drawn", DRAWN)])
def test_named_sets(choice, expected):
    assert get_templates(choice) == expected
    assert all(text.count("{}") == 1 for text in expected)


def test_the_eighty_of_imagenet():
    texts = get_templates("imagenet")
    assert len(texts) == len(set(texts)) == 80
    assert all(text.count("{}") == 1 for text in texts)
    assert "a bad photo of a {}." in texts


def test_a_list_is_taken_as_it_stands():
    assert get_templates(["{}", "the {}!"]) == ("{}", "the {}!")


@pytest.mark.parametrize("text", ["a photo", "{} and {}", "{name}"])
def test_texts_without_exactly_one_place_are_refused(text):
    with pytest.raises(ConfigError, match="exactly once"):
        get_templates(["{}", text])


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'imagenet'"):
        get_templates("imagnet")
