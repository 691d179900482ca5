"""Whatever is read ends in a value or in one line that refuses it, and every metric is what a plain loop makes of it.

python -m pytest tests/test_properties.py --hypothesis-profile=thorough --hypothesis-show-statistics

The suite tries a few dozen inputs of each kind, the same ones every time; the profile `thorough` (tests/conftest.py)
six hundred of each, new ones every time.
"""

import json
import math
import statistics
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data.index import Record, read_index, read_set, write_set
from data.timeline import Catalogue, timeline
from utils import metrics
from utils.config import Config, config_hash, load_config, log_stem, parse_override, resolved, stream_hash
from utils.continual import task_figures
from utils.errors import ConfigError, DataError, LetheError
from utils.published import ALIASES, SHORTHANDS
from utils.requests import ForgetRequest, HybridClasses, LearnRequest, expand_requests
from utils.results import ClassChange, RequestResult
from utils.unlearning import calibration_error, harmonic, quality, utility

NAMES = {"dataset": "toymini", "model_name": "adapter", "convnet_type": "tiny_vit"}
MINIMAL = NAMES | {"init_cls": 4, "increment": 4}
# what JSON can hold, also what no file can: half of a surrogate pair
TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
WRITABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 10)
    | st.integers()
    | st.sampled_from([10**400, -(10**30), 1e308])
    | st.floats()
    | TEXT
    | st.sampled_from(["auto", "all", "none", "fine", "coarse", "hybrid", "last", "cuda", "{}", "x.json#a", "..", "/"])
)
GRAMMAR = ["learn", "forget", "classes", "fine", "coarse", "few", "ratio", "level", "take", "retain", "exemplars"]
GRAMMAR += ["missing", "repeat"]


def inside(inner):
    return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GRAMMAR, "x"]) | TEXT, inner, max_size=3)


VALUES = st.recursive(SCALARS, inside, max_leaves=6)
KEYS = st.sampled_from([*Config.model_fields, *ALIASES, *SHORTHANDS, "base", "vpt_type", "$schema", "junk"]) | TEXT


# what another program may write and Python's reader does not take
TOO_MUCH = st.sampled_from([b"[" * 5_000, b'{"x": ' * 5_000, b"1" * 5_000])


def written(value) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One folder for all inputs of a test."""
    return tmp_path_factory.mktemp("inputs")


def refused(error: LetheError) -> None:
    assert str(error) and "\n" not in str(error)


# the config


def loads(file: Path, overrides: dict | None = None) -> None:
    try:
        config = load_config(file, overrides).config
    except ConfigError as error:
        return refused(error)
    assert Config.model_validate(json.loads(json.dumps(resolved(config)))) == config
    again = config.changed(logs="elsewhere")
    assert config_hash(again) == config_hash(config) and stream_hash(again) == stream_hash(config)
    assert not log_stem(config, 1).is_absolute() and ".." not in log_stem(config, 1).parts
    str(log_stem(config, 1)).encode()


@given(content=st.dictionaries(KEYS, VALUES, max_size=3), complete=st.sampled_from([MINIMAL, NAMES, {}]))
def test_any_object_is_a_config_or_is_refused(folder, content, complete):
    (folder / "x.json").write_bytes(written({**complete, **content}))
    loads(folder / "x.json")


@given(content=st.binary(max_size=40) | st.text('{}[]":,0123 \n\\ueE-', max_size=40).map(str.encode))
def test_any_bytes_are_refused_as_a_config(folder, content):
    (folder / "x.json").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(folder / "x.json")
    refused(caught.value)


@given(cut=st.integers(0, 400), junk=st.binary(max_size=4) | TOO_MUCH)
def test_a_damaged_file_is_a_config_or_is_refused(folder, cut, junk):
    whole = written({**MINIMAL, "sessions": None, "seed": [1, 2], "templates": ["a {}", "é {}"], "known": "rest"})
    (folder / "x.json").write_bytes(whole[: cut % len(whole)] + junk + whole[cut % len(whole) :])
    loads(folder / "x.json")


@given(
    text=TEXT
    | st.builds("{}={}".format, KEYS, VALUES.map(written).map(bytes.decode))
    | st.builds("sessions.0.{}={}".format, KEYS, TEXT)
)
def test_any_override_is_taken_or_refused(folder, text):
    (folder / "x.json").write_bytes(written(NAMES | {"sessions": [{"learn": 4}]}))
    try:
        key, value = parse_override(text)
    except ConfigError as error:
        return refused(error)
    loads(folder / "x.json", {key: value})


# the index


@given(content=st.binary(max_size=60) | st.text('{}[]":,0 \n\\uimg_path', max_size=60).map(str.encode))
def test_any_bytes_are_an_index_or_are_refused(folder, content):
    (folder / "x.jsonl").write_bytes(content)
    reads(folder / "x.jsonl")


FIELDS = ("img_path", "coarse_label", "fine_label")
ROWS = st.fixed_dictionaries(dict.fromkeys(FIELDS, WRITABLE) | {"fine_label": WRITABLE | TEXT}, optional={"x": VALUES})


@given(rows=st.lists(ROWS, max_size=3), last=TOO_MUCH | (ROWS | VALUES).map(written))
def test_any_rows_are_an_index_or_are_refused(folder, rows, last):
    (folder / "x.jsonl").write_bytes(b"\n".join([*map(written, rows), last]))
    found = reads(folder / "x.jsonl")
    if found is not None:
        taken = [[row[field] for field in FIELDS] for row in (*rows, json.loads(last))]
        assert [[r.path, r.coarse, r.fine] for r in found] == taken
        str(taken).encode()


def reads(file: Path) -> list[Record] | None:
    try:
        return read_index(file)
    except DataError as error:
        return refused(error)


RECORDS = st.lists(st.builds(Record, WRITABLE, WRITABLE, WRITABLE), min_size=1, max_size=4)


@given(train=RECORDS, test=RECORDS)
def test_any_records_come_back(folder, train, test):
    write_set(folder / "set", folder / "images", {"train": train, "test": test})
    assert read_set("s", folder / "set", outside=True).splits == {"train": train, "test": test}


@given(
    about=st.dictionaries(st.sampled_from(["root", "aliases", "x"]), VALUES, max_size=3),
    path=WRITABLE,
    root=TEXT,
    much=TOO_MUCH,
)
def test_any_set_file_is_read_or_refused(folder, about, path, root, much):
    record = [Record(path, "c", "f")]
    (folder / "set" / "set.json").unlink(missing_ok=True)  # what was written last would be refused here, too
    write_set(folder / "set", folder / "images", {"train": record, "test": record})
    for content in (written(about), written({"root": root}), much):
        (folder / "set" / "set.json").write_bytes(content)
        try:
            found = read_set("s", folder / "set")
        except DataError as error:
            refused(error)
        else:
            assert found.file("train", 0).resolve().is_relative_to(found.root)
            timeline([LearnRequest(classes=1)], Catalogue("s", ["f"], {"f": "c"}, found.aliases))


# the session grammar

FINE = ("a1", "b1", "a2", "c1", "b2", "a3")
CATALOGUE = Catalogue("letters", FINE, {name: name[0].upper() for name in FINE}, {"a1": ["one"], "b2": ["one", "two"]})
NAMED = st.lists(st.sampled_from([*FINE, "A", "B", "C", "one", "two", "z"]), min_size=1, max_size=3)
AMOUNT = st.integers(0, 4) | st.integers(5, 10**6) | NAMED | SCALARS
ASKED = AMOUNT | st.fixed_dictionaries({}, optional={"fine": AMOUNT, "coarse": AMOUNT})
OPTIONS = {
    "level": st.sampled_from(["fine", "coarse", "hybrid"]) | VALUES,
    "take": st.sampled_from(["first", "last"]) | VALUES,
    "retain": st.sampled_from(["none", "all", {"few": 2}, {"ratio": 0.5}]) | VALUES,
    "exemplars": st.integers(1, 4) | VALUES,
    "missing": st.integers(0, 4) | VALUES,
}
SPEC = st.fixed_dictionaries({"classes": ASKED}, optional=OPTIONS)
REPEAT = st.integers(0, 3) | st.sampled_from([10_000, 10**9])
ENTRY = (
    st.fixed_dictionaries({"learn": AMOUNT}, optional={"repeat": REPEAT})
    | st.fixed_dictionaries({"forget": ASKED | SPEC}, optional={"repeat": REPEAT})
    | VALUES
)
TASKS = st.fixed_dictionaries(
    {"num_tasks": st.integers(1, 4) | st.just(10**9), "per_forget_cls": st.integers(1, 3)},
    optional={"num_of_first_cls": st.integers(1, 10), "open_cls_num": st.integers(0, 3), "few_shot_num": AMOUNT},
)
STREAMS = st.fixed_dictionaries({"sessions": st.lists(ENTRY, max_size=4)}) | TASKS
STREAMS |= st.fixed_dictionaries({"init_cls": AMOUNT | st.just("all")}, optional={"increment": AMOUNT})


@given(stream=STREAMS, known=st.sampled_from(["auto", "none", "rest"]) | NAMED)
def test_any_stream_is_followed_or_refused(folder, stream, known):
    (folder / "x.json").write_bytes(written(NAMES | stream | {"known": known}))
    try:
        config = load_config(folder / "x.json").config
        requests = expand_requests(config, len(FINE))
        follow(requests, config.known)
    except LetheError as error:
        refused(error)


COUNT = st.integers(1, 3)
THOSE = st.lists(st.sampled_from(FINE), min_size=1, max_size=2, unique=True).map(tuple)
MAKES = st.lists(st.sampled_from("ABC"), min_size=1, max_size=2, unique=True).map(tuple)
REQUEST = (
    st.builds(LearnRequest, classes=COUNT | THOSE)
    | st.builds(ForgetRequest, classes=COUNT | THOSE, take=st.sampled_from(["first", "last"]))
    | st.builds(ForgetRequest, classes=COUNT | MAKES, level=st.just("coarse"))
    | st.builds(
        ForgetRequest, classes=st.builds(HybridClasses, fine=THOSE, coarse=COUNT | MAKES), level=st.just("hybrid")
    )
)


@given(requests=st.lists(REQUEST, min_size=1, max_size=5), known=st.sampled_from(["auto", "none", "rest"]))
def test_every_stream_keeps_its_books(requests, known):
    try:
        follow(requests, known)
    except DataError as error:
        refused(error)


def follow(requests, known) -> None:
    """Keep the books of a stream beside `timeline`: what each session takes is known then, what it gives is not."""
    found = timeline(requests, CATALOGUE, known)
    alive, seen = set(found.known), list(found.known)
    assert seen == [name for name in FINE if name in alive]
    for request, step in zip(requests, found.steps, strict=True):
        classes = set(step.classes)
        if isinstance(request, LearnRequest):
            assert not classes & alive and (request.classes == len(classes) or not isinstance(request.classes, int))
            alive |= classes
            assert set(step.seen) == set(seen) | classes
        else:
            assert classes <= alive and classes
            alive -= classes
            assert not [name for name in alive if name[0].upper() in step.coarse]
            assert list(step.seen) == seen
        assert list(step.seen[: len(seen)]) == seen and set(step.alive) == alive  # a label is for good
        seen = list(step.seen)
        assert list(step.alive) == [name for name in seen if name in alive]
        assert list(step.classes) == [name for name in seen if name in classes]


# the metrics, by plain loops and fractions

FEW = st.integers(-2, 2).map(float)  # few values, many ties
SHARES = st.builds(lambda hits, more: (hits, hits + more), st.integers(0, 30), st.integers(0, 30))


@given(
    rows=st.integers(1, 5).flatmap(lambda c: st.lists(st.lists(FEW, min_size=c, max_size=c), max_size=6)),
    data=st.data(),
)
def test_hits_and_groups_are_those_of_a_loop(rows, data):
    width = len(rows[0]) if rows else 1
    labels = data.draw(st.lists(st.integers(0, width - 1), min_size=len(rows), max_size=len(rows)))
    k = data.draw(st.integers(1, 7))
    expected = [
        label in sorted(range(width), key=lambda c: (-row[c], c))[:k] for row, label in zip(rows, labels, strict=True)
    ]
    hits = metrics.topk_hits(np.array(rows).reshape(len(rows), width), np.array(labels, dtype=int), k)
    assert hits.tolist() == expected
    groups = data.draw(st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=3))
    for group, found in zip(groups, metrics.group_accuracy(hits, np.array(labels, dtype=int), groups), strict=True):
        inside = [hit for hit, label in zip(expected, labels, strict=True) if label in group]
        assert found == pytest.approx(float(Fraction(100 * sum(inside), len(inside)))) if inside else math.isnan(found)


CELL = st.none() | st.just(math.nan) | st.integers(0, 100).map(float)


@given(matrix=st.lists(st.lists(CELL, max_size=4), max_size=5))
def test_forgetting_and_transfer_are_those_of_a_loop(matrix):
    best, moved = [], []
    for group in range(max((len(row) for row in matrix[:-1]), default=0)):
        column = [row[group] for row in matrix if group < len(row) and row[group] is not None]
        column = [value for value in column if value == value]
        last = matrix[-1][group] if group < len(matrix[-1]) else None
        if last is not None and last == last:
            best.append(max(column) - last)
            moved.append(last - column[0])
    assert metrics.forgetting(matrix) == pytest.approx(sum(best) / len(best) if best else 0)
    assert metrics.backward_transfer(matrix) == pytest.approx(sum(moved) / len(moved) if moved else 0)


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), share=SHARES)
def test_means_and_intervals_are_those_of_a_book(values, share):
    mean, deviation = metrics.mean_std(values)
    assert mean == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert deviation == pytest.approx(statistics.stdev(values) if len(values) > 1 else 0, abs=1e-6)
    hits, n = share
    low, high = metrics.wilson_interval(hits, n)
    assert 0 <= low <= high <= 100
    for bound in {low, high} if n else ():  # where the score test is at its limit: (p̂ − p)² = z² p (1 − p) / n
        p = bound / 100
        assert (hits / n - p) ** 2 == pytest.approx(1.959964**2 * p * (1 - p) / n, abs=1e-9)


@given(pairs=st.lists(st.tuples(SHARES, SHARES), max_size=5))
def test_quality_and_utility_are_those_of_fractions(pairs):
    given_pairs, gone, left = [], [], []
    for before, after in pairs:
        accuracies = [Fraction(100 * hits, n) if n else None for hits, n in (before, after)]
        given_pairs.append(tuple(math.nan if a is None else float(a) for a in accuracies))
        if None not in accuracies and accuracies[0]:
            gone.append(100 * (accuracies[0] - accuracies[1]) / accuracies[0])
            left.append(100 * min(1, accuracies[1] / accuracies[0]))
    q, u = quality(given_pairs), utility(given_pairs)
    if not gone:
        assert math.isnan(q) and math.isnan(u) and math.isnan(harmonic(q, u))
        return
    q_exact, u_exact = sum(gone) / len(gone), sum(left) / len(left)
    assert (q, u) == pytest.approx((float(q_exact), float(u_exact)), abs=1e-9)
    both = 2 / (1 / q_exact + 1 / u_exact) if q_exact > 0 and u_exact > 0 else 0
    assert harmonic(q, u) == pytest.approx(float(both), abs=1e-6)


@given(rows=st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=12), bins=st.integers(1, 20))
def test_calibration_is_that_of_fractions(rows, bins):
    expected = Fraction(0)
    for number in range(bins):
        inside = [row for row in rows if Fraction(number, bins) < Fraction(row[0], 60) <= Fraction(number + 1, bins)]
        inside += [row for row in rows if number == row[0] == 0]
        expected += abs(sum((Fraction(c, 60) - hit for c, hit in inside), Fraction(0)))
    edges = {Fraction(c, 60) * bins for c, _ in rows}
    assume(not any(edge.denominator == 1 and 0 < edge < bins for edge in edges))  # 1/3 as a float is beside the edge
    found = calibration_error([c / 60 for c, _ in rows], [hit for _, hit in rows], bins)
    assert found == pytest.approx(float(100 * expected / len(rows)), abs=1e-9) if rows else math.isnan(found)


ROLES = st.sampled_from(["forget", "adjacent", "remote", "past"])
TASK = st.lists(st.tuples(ROLES, st.booleans(), st.integers(0, 4), st.integers(0, 4)), min_size=4, max_size=4)


@given(images=st.lists(st.integers(0, 4), min_size=4, max_size=4), tasks=st.lists(TASK, min_size=1, max_size=3))
def test_figures_of_tasks_are_those_of_single_images(images, tasks):
    requests, first = [], {}
    for task in tasks:
        changes = []
        for name, (role, hidden, before, after) in enumerate(task):
            n = images[name]
            rates = [100 * min(hits, n) / n if n else math.nan for hits in (before, after)]
            first.setdefault(name, min(before, n))
            changes.append(ClassChange(str(name), "p", role, n, *rates, missing=hidden))
        requests.append(RequestResult("fine", {}, {}, tuple(changes)))

    def rate(roles, hits, hidden=None):
        """Hits of the last task's images one by one."""
        rows = [(n, row) for n, row in enumerate(tasks[-1]) if row[0] in roles and hidden in (None, row[1])]
        shown = [image < hits(n, row) for n, row in rows for image in range(images[n])]
        return 100 * sum(shown) / len(shown) if shown else math.nan

    def after(n, row):
        return min(row[3], images[n])

    found = task_figures(requests)
    stays = ("adjacent", "remote")
    expected = {
        "acc_f": rate(["forget"], after),
        "acc_r": rate(stays, after, False),
        "acc_o": rate(["past"], after),
        "acc_m": rate(stays, after, True),
        "drop": rate(["forget"], lambda n, _: first[n]) - rate(["forget"], after),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True, abs=1e-9)


ARRAYS = arrays.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@given(first=ARRAYS, second=ARRAYS, number=st.integers(-2, 6))
def test_any_arrays_are_measured_or_refused(first, second, number):
    for measure in (metrics.topk_hits, calibration_error, lambda a, b, n: metrics.group_accuracy(a, b, [range(n)])):
        try:
            measure(first, second, number)
        except ValueError as error:
            assert str(error) and "\n" not in str(error)
