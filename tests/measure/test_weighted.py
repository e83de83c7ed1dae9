"""Metrics of contests: each against a second implementation, written from the words of the contract."""

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.measure.metrics import metric_of, parse_metric
from rtserve.measure.statistics import Units, difference, interval

SEEDS = st.integers(0, 2**32 - 1)
EDGES = "binned_mae:edges=0,40,90,300,600:weights=10,5,3,1"


def people(rng, n):
    """Whose, which session, in which context: uneven, and not every one there."""
    return {
        "subject": rng.choice(["a", "b", "c"], n),
        "session": rng.choice(["1", "2"], n),
        "context": rng.choice(["home", "lab", "street"], n),
    }


@given(seed=SEEDS)
def test_balanced_accuracy_averaged_over_cells_of_subject_session_and_context(seed):
    rng = np.random.default_rng(seed)
    columns, y, p = people(rng, 80), rng.integers(0, 3, 80), rng.integers(0, 3, 80)
    cells = {}
    for k, cell in enumerate(zip(*columns.values(), strict=True)):
        cells.setdefault(cell, []).append(k)
    recalls = [[np.mean([p[k] == c for k in own if y[k] == c]) for c in {y[k] for k in own}] for own in cells.values()]
    metric = parse_metric("cell_balanced_accuracy:by=subject,session,context").on(columns)
    assert metric(y, p) == pytest.approx(np.mean([np.mean(each) for each in recalls]), abs=1e-12)
    one = parse_metric("cell_balanced_accuracy:by=session").on({"session": np.full(80, "1")})
    assert one(y, p) == pytest.approx(sk.balanced_accuracy_score(y, np.where(np.isin(p, y), p, y.max() + 1)))


@given(seed=SEEDS)
def test_binned_error_within_each_recording_then_within_seen_and_unseen_people(seed):
    rng = np.random.default_rng(seed)
    n = 60
    run = rng.integers(0, 5, n)
    columns = {"run_id": run.astype("U"), "known": np.where(run < 2, "seen", "unseen")}
    y = rng.choice([0.0, 12.5, 39.99, 40.0, 89.0, 90.0, 250.0, 300.0, 599.0, 600.0], n)
    p = y + 50 * rng.standard_normal(n)
    of_recording = {}
    for r in sorted(set(run)):
        bins, weights = [], []
        for low, high, weight in ((0, 40, 10), (40, 90, 5), (90, 300, 3), (300, 601, 1)):
            errors = [abs(p[k] - y[k]) for k in range(n) if run[k] == r and low <= y[k] < high]
            if errors:
                bins.append(weight * sum(errors) / len(errors))
                weights.append(weight)
        of_recording[r] = sum(bins) / sum(weights)
    groups = [[v for r, v in of_recording.items() if (r < 2) == seen] for seen in (True, False)]
    wanted = np.mean([np.mean(group) for group in groups if group])
    assert parse_metric(f"{EDGES}:by=recording:groups=known").on(columns)(y, p) == pytest.approx(wanted, rel=1e-12)
    assert parse_metric(f"{EDGES}:by=run_id").on(columns)(y, p) == pytest.approx(np.mean(list(of_recording.values())))
    bins = [(y >= low) & (y < high) for low, high in ((0, 40), (40, 90), (90, 300), (300, 601))]
    even = [np.mean(np.abs(p - y)[own]) for own in bins if own.any()]
    assert parse_metric("binned_mae:edges=0,40,90,300,600")(y, p) == pytest.approx(np.mean(even))


def test_edges_are_asked_for_and_hold_every_target():
    for text in ("binned_mae", "binned_mae:weights=10,5,3,1", "binned_mae:edges="):
        with pytest.raises(InputError, match="binned_mae needs edges"):
            parse_metric(text)
    with pytest.raises(InputError, match=r"1 targets lie in none of the bins from 0 to 600 \(window 1 has 601\)"):
        parse_metric(EDGES)([5.0, 601.0], [5.0, 5.0])
    for text in ("binned_mae:edges=0,10:weights=1,2", "binned_mae:edges=10,0", "binned_mae:edges=a"):
        with pytest.raises(InputError):
            parse_metric(text)


@given(seed=SEEDS)
def test_retrieval_averages_per_participant_and_image_before_it_normalises(seed):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((9, 4)).astype("f4")
    image, subject = rng.integers(0, 9, 70), rng.choice(["a", "b"], 70)
    y, p = images[image], images[image] + 2 * rng.lognormal(size=(70, 1)) * rng.standard_normal((70, 4))
    pool = [images[k] / np.linalg.norm(images[k].astype("f8")) for k in sorted(set(image))]
    names, right = sorted(set(image)), []
    for who in sorted(set(subject)):
        for k in sorted(set(image[subject == who])):
            mean = p[(subject == who) & (image == k)].mean(axis=0)
            near = sorted(names, key=lambda j: -float(pool[names.index(j)] @ (mean / np.linalg.norm(mean))))
            right.append(k in near[:5])
    metric = parse_metric("retrieval:average=subject").on({"subject": subject})
    assert metric(y, p) == pytest.approx(np.mean(right), abs=1e-12)
    named = parse_metric("retrieval:average=participant:image=image").on(
        {"subject": subject, "image": image.astype("U")}
    )
    assert named(y, p) == pytest.approx(metric(y, p))
    single = parse_metric("retrieval:top=1")
    cosine, places = sk.pairwise.cosine_similarity(p, np.stack(pool)), range(len(names))
    theirs = sk.top_k_accuracy_score(np.searchsorted(names, image), cosine, k=1, labels=places)
    assert single(y, p) == pytest.approx(theirs)


def test_an_answer_of_nothing_finds_nothing_and_one_image_has_one_embedding():
    y = np.eye(8)
    assert parse_metric("retrieval")(y, np.zeros((8, 8))) == 0.0
    assert parse_metric("retrieval")(y, y) == 1.0
    assert parse_metric("retrieval")(y, parse_metric("retrieval").constant(y)) <= 5 / 8
    with pytest.raises(InputError, match="one image has two different targets"):
        parse_metric("retrieval:image=image").on({"image": np.zeros(8).astype("U")})(y, y)


def test_angles_do_not_wrap_and_a_coarser_answer_is_held():
    rng = np.random.default_rng(0)
    y, p = rng.uniform(-np.pi, np.pi, (6, 20 * 8)), rng.uniform(-np.pi, np.pi, (6, 20 * 8))
    assert parse_metric("angular_mae")(y, p) == pytest.approx(sk.mean_absolute_error(y, p))
    assert parse_metric("angular_mae:unit=deg")(y, p) == pytest.approx(np.degrees(np.abs(y - p)).mean())
    assert parse_metric("angular_mae")([[np.pi, 0.0]], [[-np.pi, 0.0]]) == pytest.approx(np.pi)
    held = p.reshape(6, 20, 8)[:, :, [0, 0, 2, 2, 4, 4, 6, 6]].reshape(6, -1)
    coarse = p.reshape(6, 20, 8)[:, :, ::2].reshape(6, -1)
    assert parse_metric("angular_mae:joints=20")(y, coarse) == pytest.approx(parse_metric("angular_mae")(y, held))
    with pytest.raises(InputError, match="80 numbers per window for targets of 160"):
        parse_metric("angular_mae")(y, coarse)


TEXTS = [
    "cell_balanced_accuracy:by=subject,session",
    f"{EDGES}:by=run_id",
    "retrieval:average=subject",
    "angular_mae:unit=deg",
]


def case_of(text, seed=0, n=240):
    """Columns, targets and an answer that is half right."""
    rng = np.random.default_rng(seed)
    subject = np.arange(n) % 12
    columns = {"subject": subject.astype("U"), "session": rng.choice(["1", "2"], n)}
    columns["run_id"] = np.char.add(columns["subject"], columns["session"])
    if text.startswith("cell"):
        y = rng.integers(0, 3, n).astype(float)
        return columns, y, np.where(rng.random(n) < 0.5, y, rng.integers(0, 3, n))
    if text.startswith("binned"):
        y = rng.uniform(0, 600, n)
        return columns, y, 0.5 * y + 100 + 60 * rng.standard_normal(n)
    y = rng.standard_normal((40, 6))[rng.integers(0, 40, n)]
    return columns, y, 0.6 * y + 0.8 * rng.standard_normal(y.shape)


@pytest.mark.parametrize("text", TEXTS)
def test_each_has_a_signature_an_interval_a_constant_a_direction_and_verdicts(text):
    columns, y, p = case_of(text)
    metric, units = parse_metric(text).on(columns), Units.of(columns["subject"], len(y))
    value, found = metric(y, p), interval(metric, y, p, units, resamples=200)
    assert found.over == "subjects"
    assert found.low < value < found.high
    constant = metric.constant(y)
    assert constant.shape == p.shape
    assert (value > metric(y, constant)) == metric.higher_is_better
    better = y + 0.1 * (p - y) if not metric.classes else y
    gain = difference(metric, y, p, better, units, resamples=200)
    assert gain.verdict == "helps"
    assert gain.corrected > gain.corrupted
    signature = metric.signature(n=len(y), data="d" * 64)
    again = metric_of(type(signature).parse(str(signature)))
    assert again.on(columns)(y, p) == value
    assert again.on(columns).signature(n=len(y), data="d" * 64) == signature


@pytest.mark.parametrize("text", TEXTS)
def test_no_constant_is_better_than_the_one_it_is_compared_with(text):
    columns, y, _ = case_of(text, seed=3)
    metric = parse_metric(text).on(columns)
    sign = -1 if metric.higher_is_better else 1
    best = sign * metric(y, metric.constant(y))
    others = [np.tile(row, (len(y), 1)) for row in y[:20]] if y.ndim > 1 else [np.full(len(y), v) for v in y[:60]]
    margin = 2 / 40 if text.startswith("retrieval") else 1e-9  # targets are not shown equally often
    assert all(best <= sign * metric(y, other) + margin for other in others)


def test_other_groups_are_another_score():
    columns, y, p = case_of(TEXTS[0])
    metric = parse_metric(TEXTS[0])
    other = columns | {"session": np.roll(columns["session"], 1)}
    one, two = (metric.on(c).signature(n=len(y), data="d") for c in (columns, other))
    assert [d.partition(":")[0] for d in one.differences(two)] == ["keys"]
    renamed = columns | {"session": np.where(columns["session"] == "1", "first", "second")}
    assert metric.on(renamed).signature(n=len(y), data="d") == one


def test_a_missing_column_is_named_with_its_cure():
    columns, y, p = case_of(TEXTS[0])
    metric = parse_metric("cell_balanced_accuracy:by=subject,session,context")
    with pytest.raises(InputError, match=r"needs the column 'context'.*have subject, session, run_id") as error:
        metric.on(columns)
    assert "rtserve annotate W.npz --columns" in error.value.hint
    with pytest.raises(InputError, match="reads columns"):
        metric(y, p)


@pytest.mark.parametrize("nothing", [np.nan, "n/a", ""])
def test_a_window_without_an_entry_is_of_no_group(nothing):
    values = np.array([1.0, nothing, 2.0]) if isinstance(nothing, float) else np.array(["1", nothing, "2"])
    with pytest.raises(InputError, match=r"groups by session, and window 1 has none \(1 of 3\)"):
        parse_metric("cell_balanced_accuracy:by=session").on({"session": values})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("retrieval:top=5:top=4", "has one twice"),
        ("retrieval:best=5", "has no setting 'best'"),
        ("retrieval:top", "has no setting 'top'"),
        ("retrieval:top=0", "top=0"),
        ("cell_balanced_accuracy", "needs by"),
        ("angular_mae:unit=grad", "unit=grad"),
        ("auc:by=x", "unknown metric"),
    ],
)
def test_settings_that_are_none_are_named(text, said):
    with pytest.raises(InputError, match=said):
        parse_metric(text)
