"""Log lines, JSON and summary of invented runs whose figures are worked out by hand."""

import ast
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from tests.utils.invented import changes, level, mixed, request, stream
from utils import results as module
from utils.results import REQUEST_FIGURES, ClassChange, RequestResult, RunResults, SessionResult

NAN = math.nan


@pytest.fixture
def run() -> RunResults:
    """Learn three classes, learn one, forget one, on two levels."""
    return mixed()


@pytest.fixture
def plain() -> RunResults:
    """Two learn sessions of ten classes on one level, figures as a numpy evaluation leaves them."""
    first = level(np.float64(91.3), [np.float64(91.3)], None, np.float64(91.3), 1000, top5=np.float64(99.456))
    second = level(90.0, [88.0, 92.0], 88.0, 92.0, 2000)
    names = tuple(f"c{i}" for i in range(20))
    return RunResults(
        [
            SessionResult(0, "learn", 0, 9, names[:10], first, None, 3.0, 5),
            SessionResult(1, "learn", 10, 19, names[10:], second, None, 4.0, 5),
        ]
    )


def test_lines_after_the_first_session_are_the_published_ones(plain):
    lines = module.session_lines(RunResults(plain.sessions[:1]))
    assert lines == [
        "No NME accuracy.",
        "CNN: {'total': 91.3, '00-09': 91.3, 'old': 0, 'new': 91.3}",
        "CNN top1 curve: [91.3]",
        "CNN top5 curve: [99.46]",
        "Average Accuracy (CNN): 91.3",
    ]


def test_lines_parse_as_the_published_ones_do(plain):
    text = "\n".join(module.session_lines(plain) + module.final_lines(plain))
    grouped = ast.literal_eval(re.search(r"^CNN: (\{.*\})$", text, re.M).group(1))
    assert grouped == {"total": 90.0, "00-09": 88.0, "10-19": 92.0, "old": 88.0, "new": 92.0}
    assert list(grouped) == ["total", "00-09", "10-19", "old", "new"]
    assert ast.literal_eval(re.search(r"^CNN top1 curve: (.*)$", text, re.M).group(1)) == [91.3, 90.0]
    assert ast.literal_eval(re.search(r"^CNN top5 curve: (.*)$", text, re.M).group(1)) == [99.46, 99.5]
    assert float(re.search(r"^Average Accuracy \(CNN\): (.*)$", text, re.M).group(1)) == pytest.approx(90.65)
    assert float(re.search(r"^Forgetting \(CNN\): (.*)$", text, re.M).group(1)) == pytest.approx(3.3)
    assert "Coarse" not in text and "np.float" not in text and "top5' counts" not in text


def test_the_matrix_in_the_log_is_transposed_like_theirs(plain):
    assert module.final_lines(plain) == [
        "Accuracy Matrix (CNN):",
        "[[ 91.30  88.00]",
        " [  0.00  92.00]]",
        "Forgetting (CNN): 3.3",
        "Backward Transfer (CNN): -3.3",
    ]


def test_a_group_of_one_class_and_the_coarse_lines_follow(run):
    lines = module.session_lines(RunResults(run.sessions[:2]))
    assert lines[1] == "CNN: {'total': 80.0, '00-02': 78.0, '03-03': 86.0, 'old': 78.0, 'new': 86.0}"
    assert lines[5:] == [
        "Coarse: {'total': 90.0, '00-02': 89.0, '03-03': 93.0, 'old': 89.0, 'new': 93.0}",
        "Coarse top1 curve: [95.0, 90.0]",
        "Average Accuracy (Coarse): 92.5",
    ]


def test_the_capped_top5_is_noted_once(run):
    notes = [
        [line for line in module.session_lines(RunResults(run.sessions[:n])) if "'top5'" in line] for n in (1, 2, 3)
    ]
    assert [len(found) for found in notes] == [1, 0, 0]
    assert "(here 3)" in notes[0][0]


def test_a_forget_session_has_no_new_classes(run):
    lines = module.session_lines(run)
    assert lines[1] == "CNN: {'total': 70.0, '00-02': 60.0, '03-03': 87.5, 'old': 70.0}"
    assert module.final_lines(run)[:4] == [
        "Accuracy Matrix (CNN):",
        "[[ 90.00  78.00  60.00]",
        " [  0.00  86.00  87.50]]",
        "Forgetting (CNN): 15.0",
    ]


def test_groups_stand_in_the_order_of_numbers():
    labels = ["00-89", "90-99", "100-109"]
    found = module._grouped(level(50.0, [1.0, 2.0, 3.0], 1.0, 3.0, 9), labels)
    assert list(found) == ["total", *labels, "old", "new"]


def test_a_group_without_images_is_left_out_of_the_line(run):
    odd = replace(run.sessions[1], fine=level(80.0, [NAN, 86.0], None, 86.0, 10))
    line = module.session_lines(RunResults([run.sessions[0], odd]))[1]
    assert line == "CNN: {'total': 80.0, '03-03': 86.0, 'old': 0, 'new': 86.0}"


def test_the_summary_by_hand(run):
    summary = run.summary(12.5, 300.0, 0.0128)
    known = binomtest(21, 30).proportion_ci(0.95, method="wilson")
    assert summary["accuracy_last"] == 70.0
    assert summary["accuracy_average"] == pytest.approx(80.0)
    assert summary["forgetting"] == pytest.approx((30 + 0) / 2)
    assert summary["bwt"] == pytest.approx((-30 + 1.5) / 2)
    assert summary["coarse_accuracy_last"] == 85.0
    assert summary["coarse_accuracy_average"] == pytest.approx(90.0)
    assert (summary["accuracy_last_low"], summary["accuracy_last_high"]) == pytest.approx(
        (100 * known.low, 100 * known.high), abs=1e-5
    )
    assert (summary["wall_s"], summary["peak_mb"], summary["tunable_ratio"]) == (12.5, 300.0, 0.0128)
    assert all(type(value) is float for value in summary.values())


def test_one_level_has_no_coarse_figures(plain):
    summary = plain.summary(1.0, 1.0, 1.0)
    assert not [name for name in summary if name.startswith("coarse")]
    assert plain.levels == ("fine",)
    assert all(math.isnan(value) for value in plain.curve("coarse"))


def test_a_run_without_sessions(tmp_path):
    assert module.final_lines(RunResults()) == []
    with pytest.raises(ValueError, match="without sessions"):
        RunResults().summary(0.0, 0.0, 0.0)


def test_json_keeps_every_bit(run, plain):
    odd = replace(run.sessions[0], seconds=0.1 + 0.2, fine=level(100 / 3, [200 / 7], None, math.pi, 3))
    for row in [*run.sessions, *plain.sessions, odd]:
        assert SessionResult.from_json(json.loads(json.dumps(row.to_json()))) == row


def test_json_has_no_nan(run):
    odd = replace(run.sessions[0], fine=level(NAN, [NAN, 5.0], None, None, 0), extra={"quality": NAN})
    text = json.dumps(odd.to_json(), allow_nan=False)
    back = SessionResult.from_json(json.loads(text))
    assert math.isnan(back.fine.top1) and math.isnan(back.fine.groups[0]) and math.isnan(back.extra["quality"])
    assert back.fine.groups[1] == 5.0 and back.fine.old is None


def test_the_interval_needs_images():
    assert all(math.isnan(end) for end in level(NAN, [], None, None, 0).interval())


def small(**figures) -> RequestResult:
    """Two classes forgotten, two kept; 10 images a class but for one without any."""
    classes = [
        ClassChange("a", "P", "forget", 10, 90.0, 0.0),
        ClassChange("b", "P", "adjacent", 10, 80.0, 70.0),
        ClassChange("c", "Q", "remote", 10, 80.0, 80.0),
        ClassChange("d", "Q", "past", 10, 10.0, 10.0),
        ClassChange("e", "Q", "remote", 0, NAN, NAN),
        ClassChange("f", "P", "forget", 10, 50.0, 60.0),
        ClassChange("g", "Q", "remote", 10, 100.0, 60.0),
    ]
    after = {"forget_fine": 30.0, "quality": 57.142857, "zero_shot": 50.0, "retain_fine": 70.0}
    before = {"forget_fine": 70.0, "zero_shot": 60.0, "retain_fine": 86.666}
    return RequestResult("fine", before | figures, after | figures, tuple(classes))


def asked(result: RequestResult, **changed) -> RunResults:
    """A stream of one forget session."""
    found = level(70.0, [], None, None, 60)
    return RunResults([SessionResult(0, "forget", 7, 7, ("a", "f"), found, None, 1.0, 5, request=result, **changed)])


def test_the_figures_of_a_request_stand_in_reading_order():
    shuffled = dict(reversed(list(request().after.items()))) | {"mine": 1.0}
    found = replace(request(), after=shuffled, before={"zero_shot.toyflags": 1.0}).figures
    parts = ["zero_shot.toyflags", "zero_shot.toyfruits"]
    assert [name for name in found if name not in (*parts, "mine")] == [n for n in REQUEST_FIGURES if n in shuffled]
    place = found.index("zero_shot")
    assert found[place] == "zero_shot" and sorted(found[place + 1 : place + 3]) == parts and found[-1] == "mine"


def test_a_figure_is_measured_where_one_side_is_known():
    found = replace(request(), before={"ece": 1.0}, after={"ece": NAN, "qu": 2.0, "past_fine": NAN})
    assert found.measured == ["qu", "ece"] and found.figures == ["past_fine", "qu", "ece"]


def test_classes_of_a_role_start_with_the_largest_loss():
    assert [change.name for change in small().of_role("remote", "adjacent")] == ["g", "b", "c", "e"]
    assert [change.change for change in small().of_role("forget")] == [-90.0, 10.0]
    assert small().of_role() == []


def test_the_images_behind_a_figure():
    counts = {name: small().count(name) for name in (*REQUEST_FIGURES, "zero_shot.toyflags")}
    twenty = ("forget_fine", "forget_coarse", "forget_fine_rows", "forget_fine_text")
    assert {counts.pop(name) for name in twenty} == {20}
    assert (counts.pop("retain_fine"), counts.pop("retain_coarse")) == (30, 30)
    assert (counts.pop("adjacent_fine"), counts.pop("remote_fine"), counts.pop("past_fine")) == (10, 20, 10)
    assert set(counts.values()) == {0}
    assert replace(small(), counts={"zero_shot": 400}).count("zero_shot") == 400


def test_the_interval_of_a_request_is_scipys():
    known = binomtest(6, 20).proportion_ci(0.95, method="wilson")
    assert small().interval("forget_fine") == pytest.approx((100 * known.low, 100 * known.high), abs=1e-5)
    for name in ("zero_shot", "quality", "remote_fine", "unknown"):
        assert all(math.isnan(end) for end in small().interval(name))


def test_the_lines_after_a_request():
    assert module.session_lines(asked(small()))[1:] == [
        "CNN: {'total': 70.0}",
        "CNN top1 curve: [70.0]",
        "CNN top5 curve: [99.5]",
        "Average Accuracy (CNN): 70.0",
        "Request (fine): forget_fine 70.0 -> 30.0, retain_fine 86.67 -> 70.0",
        "Quality 57.14, Zero-shot 60.0 -> 50.0",
        "Forgotten classes: a 90.0 -> 0.0, f 50.0 -> 60.0",
        "Adjacent classes: b 80.0 -> 70.0",
        "Remote classes: g 100.0 -> 60.0, 1 unchanged, 1 without test images",
        "Classes of past requests: d 10.0 -> 10.0",
    ]


def test_lines_of_a_request_with_little_known():
    bare = RequestResult("coarse", {"forget_coarse": 80.0}, {"forget_coarse": NAN}, ())
    assert module.session_lines(asked(bare))[5:] == ["Request (coarse): forget_coarse 80.0 -> –"]


def test_only_the_latest_session_tells_of_its_request():
    run = stream("lfl")
    assert not [line for line in module.session_lines(run) if line.startswith(("Request", "Quality", "Forgotten"))]
    told = "\n".join(module.session_lines(RunResults(run.sessions[:2])))
    assert "forget_fine 92.7 -> 1.3, forget_coarse 95.0 -> 93.0, retain_fine 93.1 -> 91.9" in told
    assert "\nQuality 98.6, Utility 98.87, Q-U 98.73, Zero-shot 71.3 -> 70.2, zero_shot.toyfruits 80.0 -> 79.1" in told


def test_a_stream_that_only_forgets_has_no_matrix():
    run = stream("ff")
    summary = run.summary(1.0, 1.0, 1.0)
    assert run.matrix() == [[], []] and run.group_labels == [] and module.final_lines(run) == []
    assert (summary["forgetting"], summary["bwt"], summary["coarse_forgetting"]) == (0.0, 0.0, 0.0)
    assert summary["accuracy_last"] == 89.0


def test_a_group_that_is_all_forgotten():
    run = stream("lflf")
    last = run.sessions[-1]
    run.sessions[-1] = replace(last, fine=replace(last.fine, groups=(NAN, 90.0)))
    assert "CNN: {'total': 87.0, '08-15': 90.0, 'old': 0}" in module.session_lines(run)
    assert module.final_lines(run)[1:4] == [
        "[[ 93.00  93.00  91.00   0.00]",
        " [  0.00   0.00  93.00  90.00]]",
        "Forgetting (CNN): 3.0",
    ]


def test_the_summary_has_the_figures_of_the_last_request():
    run = stream("lflfl")
    run.sessions[1] = replace(run.sessions[1], request=replace(request(), after={"forget_fine": 77.0, "mine": 1.0}))
    summary = run.summary(1.0, 2.0, 0.5)
    named = "forget_fine forget_coarse retain_fine retain_coarse adjacent_fine remote_fine quality utility qu zero_shot"
    assert all(math.isfinite(summary[name]) and math.isfinite(summary[f"{name}_before"]) for name in named.split())
    assert (summary["forget_fine"], summary["forget_fine_before"]) == (1.3, 92.7) and "mine" not in summary
    assert (summary["zero_shot.toyfruits_before"], summary["zero_shot.toyfruits"]) == (80.0, 79.1)
    # what the formulas give for a model that has not changed
    assert [summary[f"{name}_before"] for name in ("quality", "utility", "qu")] == [0.0, 100.0, 0.0]
    assert summary["forget_fine_low"] < 1.3 < summary["forget_fine_high"] and "zero_shot_low" not in summary
    assert list(summary)[-3:] == ["wall_s", "peak_mb", "tunable_ratio"]


def test_without_a_request_the_summary_has_none_of_its_figures(run):
    names = {name.removesuffix("_before") for name in run.summary(1.0, 1.0, 1.0)}
    assert not names & set(REQUEST_FIGURES) and run.forgets == []


def test_json_keeps_a_request():
    run = stream("lf", forget=3)
    row = replace(run.sessions[1], request=replace(run.sessions[1].request, counts={"zero_shot": 400}))
    missing = row.request.after.pop("past_fine"), row.request.before.pop("past_fine")
    assert all(map(math.isnan, missing))
    assert SessionResult.from_json(json.loads(json.dumps(row.to_json(), allow_nan=False))) == row
    assert run.sessions[0].to_json()["request"] is None


def test_json_of_a_request_has_no_nan():
    row = asked(small(past_fine=NAN)).sessions[0]
    back = SessionResult.from_json(json.loads(json.dumps(row.to_json(), allow_nan=False))).request
    empty = next(change for change in back.classes if change.name == "e")
    assert math.isnan(back.after["past_fine"]) and math.isnan(back.before["past_fine"]) and math.isnan(empty.before)
    assert back.classes[0] == ClassChange("a", "P", "forget", 10, 90.0, 0.0)


def test_rows_of_a_run_from_before_there_were_requests(run):
    old = run.sessions[0].to_json()
    del old["request"]
    assert SessionResult.from_json(old) == run.sessions[0]


def test_the_invented_requests_have_every_role():
    assert {change.role for change in changes(4, past=2)} == set(module.ROLES)
