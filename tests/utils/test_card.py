"""The model card of an invented run."""

from tests.utils.invented import stream
from utils.card import model_card
from utils.schema import Config

CONFIG = Config(dataset="toycars", model_name="hinge", convnet_type="tiny_clip", sessions=[{"forget": 4}])
TEXTS = {"inputs": "64 pixels.", "loading": "import x\n", "notes": ["note one"]}


def test_figures_before_and_after_and_what_was_asked():
    run = stream("f")
    card = model_card(CONFIG, run.sessions, run.summary(1.0, 2.0, 0.5), audits="# A\n\n| a |", **TEXTS)
    assert "| forget fine | 92.70 | 1.30 |" in card and "| Quality |  | 98.60 |" in card
    assert "| last |  | 90.00 |" in card and "forgetting |" not in card  # nothing was learned: there is none
    assert "- session 0: forget (fine) Veltro Arrow, Brandle Arrow" in card
    assert "\n| a |\n" in card and "# A\n" not in card and "- note one\n- Names that were" in card
    assert "```python\nimport x\n```" in card


def test_without_audits_and_requests():
    run = stream("l")
    card = model_card(CONFIG, run.sessions, run.summary(1.0, 2.0, 0.5), audits="", **TEXTS)
    assert "None was made." in card and "Names that were" not in card
