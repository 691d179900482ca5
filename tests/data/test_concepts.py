"""What is to be forgotten and kept, from folders and names to sets and one request."""

import json
from pathlib import Path

import pytest
from PIL import Image

from data.concepts import gather
from data.registry import find_set
from utils.errors import DataError
from utils.requests import expand_requests
from utils.schema import Config


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A function that fills folders of four images, named by path."""
    monkeypatch.chdir(tmp_path)

    def fill(*places: str) -> None:
        for place in places:
            Path(place).mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (8, 8)).save(Path(place) / f"{number}.png")

    return fill


def file(name: str, content) -> Path:
    Path(name).write_text(json.dumps(content))
    return Path(name)


def sessions(concepts, tmp_path):
    """The stream that a run would make of them."""
    from data.manager import DataManager

    concepts.write(tmp_path / "sets")
    said = {"dataset": concepts.dataset, "exclude": concepts.exclude, "sessions": [{"forget": concepts.request}]}
    config = Config.model_validate(said | {"model_name": "hinge", "convnet_type": "tiny_clip"})
    indexed = find_set(config.dataset, tmp_path / "sets")
    asked = expand_requests(config, 100)
    return DataManager(indexed, asked, train=None, test=None, shuffle=False, exclude=config.exclude).sessions()


def named(order, labels) -> set[str]:
    return {order.fine[label] for label in labels}


def test_concepts_without_parents_beside_everyday_names(photos, tmp_path):
    photos("ex/plum", "ex/red_fig")
    found = gather(Path("ex"), others=lambda: ["chair", "PLUM", "sky"])
    assert found.parents == {"plum": "plum", "red fig": "red fig"} and found.kept == {"chair": "chair", "sky": "sky"}
    assert (found.dataset, found.exclude, found.pictured) == ("exemplars", [], set())
    assert found.request == {"classes": ["plum", "red fig"], "level": "fine"}
    (session,) = sessions(found, tmp_path)
    assert named(session.order, session.classes) == {"plum", "red fig"} and not session.order.two_levels
    assert named(session.order, session.alive) == {"chair", "sky"}
    assert len(session.stream("plain")) == 6 and len(session.stream("test")) == 2  # three and one of four


def test_parents_are_kept_at_both_levels(photos, tmp_path):
    photos("ex/plum", "ex/oak")
    found = gather(Path("ex"), parents=file("p.json", {"plum": "fruit", "oak": "tree"}), others=lambda: ["sky"])
    assert found.kept == {"sky": "sky", "fruit": "fruit", "tree": "tree"}
    assert found.request == {"classes": ["oak", "plum"], "level": "fine"}
    (session,) = sessions(found, tmp_path)
    assert session.goals == {0: "fine", 1: "fine"}
    assert session.order.coarse == ("tree", "fruit", "sky")
    assert named(session.order, session.alive) == {"sky", "fruit", "tree"}


def test_a_tree_brings_parents_and_a_file_wins(photos):
    photos("ex/fruit/plum", "ex/fruit/fig")
    found = gather(Path("ex"), parents=file("p.json", {"fig": "tree"}))
    assert found.parents == {"fig": "tree", "plum": "fruit"}


def test_where_others_have_parents_a_concept_without_one_goes_whole(photos, tmp_path):
    photos("ex/plum", "ex/oak")
    found = gather(Path("ex"), parents=file("p.json", {"plum": "fruit"}), others=lambda: ["sky"])
    assert found.request == {"classes": {"fine": ["plum"], "coarse": ["oak"]}, "level": "hybrid"}
    (session,) = sessions(found, tmp_path)
    assert {session.order.fine[label]: goal for label, goal in session.goals.items()} == {
        "plum": "fine",
        "oak": "coarse",
    }
    found = gather(Path("ex"), retained=file("k.json", {"birch": "tree"}))
    assert found.request == {"classes": ["oak", "plum"], "level": "coarse"}
    assert sessions(found, tmp_path)[0].goals == {0: "coarse", 1: "coarse"}


def test_general_sets_measure_and_are_kept(photos, tmp_path):
    photos("ex/plum", "more/birds/owl", "more/birds/tit", "sea+side/crab")
    found = gather(Path("ex"), [Path("more/birds"), Path("sea+side")], others=lambda: ["never asked"])
    assert list(found.general) == ["birds", "sea-side"] and found.dataset == "exemplars+birds+sea-side"
    assert found.kept == {"owl": "owl", "tit": "tit", "crab": "crab"} and found.pictured == {"owl", "tit", "crab"}
    (session,) = sessions(found, tmp_path)
    assert len(session.stream("test")) == 1 + 3 * 2 and len(session.stream("plain")) == 3


def test_names_to_keep_leave_the_other_classes_out(photos, tmp_path):
    photos("ex/plum", "birds/owl", "birds/tit", "fish/cod")
    kept = file("k.json", {"owl": None, "fig": "fruit"})
    found = gather(Path("ex"), [Path("birds"), Path("fish")], file("p.json", {"plum": "fruit"}), kept)
    assert found.kept == {"owl": "owl", "fig": "fruit", "fruit": "fruit"}
    assert (found.dataset, found.exclude, found.pictured) == ("exemplars+birds", ["tit"], {"owl"})
    (session,) = sessions(found, tmp_path)
    assert named(session.order, session.seen) == {"plum", "owl", "fig", "fruit"}
    assert len(session.stream("test")) == 1 + 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parents": {"plumm": "fruit"}}, "p.json: 'plumm' is none of the concepts; did you mean 'plum'"),
        ({"parents": {"plum": None}}, "p.json: 'plum' has no parent; leave it out"),
        ({"parents": {"plum": "oak"}}, "parents are to be kept: 'oak' is to be forgotten"),
        ({"parents": {"plum": "Plum"}}, "parents are to be kept: 'Plum' is to be forgotten"),
        ({"retained": ["sky", "Oak"]}, "k.json: 'Oak' is to be forgotten; take it out"),
        ({"retained": {"acorn": "oak"}}, "parents are to be kept: 'oak' is to be forgotten"),
        ({"retained": ["Fruit"], "parents": {"plum": "fruit"}}, "the parents: 'Fruit' and 'fruit' are one name"),
        ({"parents": {"plum": "Tree", "oak": "tree"}}, "the parents: 'tree' and 'Tree' are one name"),
        ({"retained": {"sky": "Air", "sea": "air"}}, "the parents: 'Air' and 'air' are one name"),
        ({"general": ["trees"]}, "--zero-shot: a set of what has nothing to do with the request: 'oak'"),
        ({"general": ["birds", "more/birds"]}, "--zero-shot more/birds: a set is called 'birds' already"),
        ({"general": ["exemplars"]}, "--zero-shot exemplars: a set is called 'exemplars' already"),
        ({"general": ["nowhere"]}, "nowhere: no such folder"),
    ],
)
def test_what_contradicts_itself_is_refused(photos, options, message):
    photos("ex/plum", "ex/oak", "trees/oak", "birds/owl", "more/birds/tit", "exemplars/tit")
    files = {
        key: file(f"{key[0] if key == 'parents' else 'k'}.json", options[key]) for key in options if key != "general"
    }
    with pytest.raises(DataError, match=message) as caught:
        gather(Path("ex"), [Path(place) for place in options.get("general", ())], **files)
    assert "\n" not in str(caught.value)
