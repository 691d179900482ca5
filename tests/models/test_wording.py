"""Against which rows a step is taken: names in a random template, encoded once where the text tower is frozen."""

import pytest
import torch
import torch.nn.functional as F

from data.sessions import ClassOrder
from models.wording import Wording, ensemble_rows, known_names, reword

ORDER = ClassOrder(("Ford Fiesta", "Opel Astra", "Ford Focus", "Kia Rio"), ("Ford", "Opel", "Kia"), (0, 1, 0, 2))
NAMES = {"fine": ORDER.fine[:3], "coarse": ORDER.coarse[:2]}  # what has been seen so far
TEMPLATES = ("a photo of a {}.", "my {}!", "{}")


@pytest.fixture
def clip(tiny_model):
    """A CLIP whose rows are no longer those of the names."""
    model = tiny_model("tiny_clip").eval()
    model.templates = TEMPLATES
    model.grow("fine", NAMES["fine"][:2])
    model.grow("fine", NAMES["fine"][2:])
    model.grow("coarse", NAMES["coarse"])
    for level in NAMES:
        model.head(level).replace({0: torch.full((128,), 0.1)})
    return model


@pytest.fixture
def heard(clip, monkeypatch) -> list[str]:
    """Every text that is encoded."""
    texts, encode = [], clip.backbone.encode_text
    monkeypatch.setattr(clip.backbone, "encode_text", lambda some: texts.extend(some) or encode(some))
    return texts


@torch.no_grad()
def worded(model, level: str, template: str) -> torch.Tensor:
    """One row a name, encoded alone."""
    rows = [model.backbone.encode_text([template.replace("{}", name)])[0] for name in NAMES[level]]
    return torch.stack([row / row.norm() for row in rows])


def test_names_are_those_behind_the_rows(clip, tiny_model):
    assert known_names(clip, ORDER) == NAMES
    model = tiny_model()
    assert known_names(model, ORDER) == {}
    model.grow("fine", ORDER.fine)
    assert known_names(model, ORDER) == {"fine": ORDER.fine}


def test_the_ensemble_is_the_mean_over_the_templates_whatever_the_rows(clip, heard):
    found = ensemble_rows(clip, ORDER)
    assert sorted(heard) == sorted(t.replace("{}", name) for some in NAMES.values() for name in some for t in TEMPLATES)
    assert found.keys() == NAMES.keys()
    for level, rows in found.items():
        expected = torch.stack([worded(clip, level, template) for template in TEMPLATES]).double().mean(0)
        torch.testing.assert_close(rows.double(), F.normalize(expected, dim=1), rtol=1e-5, atol=1e-6)
        assert not rows.requires_grad


def test_without_a_text_tower_there_is_no_ensemble(tiny_model):
    model = tiny_model()
    model.grow("fine", ORDER.fine)
    with pytest.raises(TypeError, match="VitBackbone has no text tower"):
        ensemble_rows(model, ORDER)


def steps_of(wording: Wording):
    return lambda: wording.rows(wording.draw())


@pytest.mark.parametrize("text_moves", [False, True])
def test_a_step_words_all_names_by_one_template(clip, text_moves):
    rows = steps_of(Wording(clip, ORDER, text_moves))
    expected = {template: {level: worded(clip, level, template) for level in NAMES} for template in TEMPLATES}
    torch.manual_seed(0)
    drawn = []
    for _ in range(30):
        found = rows()
        assert {level: weight.shape for level, weight in found.items()} == {"fine": (3, 128), "coarse": (2, 128)}
        drawn.append(template_of(found, expected))
    assert set(drawn) == set(TEMPLATES)
    torch.manual_seed(0)
    assert [template_of(rows(), expected) for _ in range(30)] == drawn


def template_of(found, expected) -> str:
    (template,) = [
        template
        for template, rows in expected.items()
        if all(torch.allclose(found[level], rows[level], rtol=1e-4, atol=1e-5) for level in rows)
    ]
    return template


def test_a_frozen_text_tower_is_asked_once(clip, heard):
    rows = steps_of(Wording(clip, ORDER, text_moves=False))
    assert len(heard) == len(set(heard)) == 5 * len(TEMPLATES)
    found = [rows() for _ in range(5)]
    assert len(heard) == 5 * len(TEMPLATES)
    assert not any(weight.requires_grad for step in found for weight in step.values())


def test_a_tower_in_training_is_asked_every_step_for_one_template(clip, heard):
    rows = steps_of(Wording(clip, ORDER, text_moves=True))
    assert heard == []
    for step in range(1, 4):
        found = rows()
        assert len(heard) == 5 * step
        (suffix,) = {text.replace(name, "{}") for text, name in zip(heard[-5:], sum(NAMES.values(), ()), strict=True)}
        assert suffix in TEMPLATES
    sum(weight.square().sum() for weight in (found["fine"][:, :7], found["coarse"])).backward()
    assert any(p.grad is not None and p.grad.any() for p in clip.backbone.net.transformer.parameters())


def test_what_a_moving_tower_said_at_the_start_is_kept_on_request(clip):
    assert Wording(clip, ORDER, text_moves=True).originals is None
    wording = Wording(clip, ORDER, text_moves=True, remember=True)
    expected = {template: {level: worded(clip, level, template) for level in NAMES} for template in TEMPLATES}
    with torch.no_grad():
        clip.backbone.net.text_projection.mul_(torch.linspace(0.5, 2.0, 128))
    for place, template in enumerate(TEMPLATES):
        for level in NAMES:
            then, now = wording.originals[place][level], wording.rows(place)[level]
            assert torch.allclose(then, expected[template][level], rtol=1e-4, atol=1e-5)
            assert torch.allclose(now, worded(clip, level, template), rtol=1e-4, atol=1e-5)
            assert not torch.allclose(now, then, atol=1e-2)


def test_only_rows_that_are_named_are_worded_anew(clip):
    before = {level: rows.detach().clone() for level, rows in clip.rows().items()}
    with torch.no_grad():
        clip.backbone.net.text_projection.mul_(torch.linspace(0.5, 2.0, 128))
    reword(clip, ORDER, {"fine": [2], "coarse": []})
    expected = ensemble_rows(clip, ORDER)["fine"]
    assert torch.equal(clip.rows()["fine"][:2], before["fine"][:2])
    assert torch.allclose(clip.rows()["fine"][2], expected[2]) and not torch.allclose(expected[2], before["fine"][2])
    assert torch.equal(clip.rows()["coarse"], before["coarse"])
