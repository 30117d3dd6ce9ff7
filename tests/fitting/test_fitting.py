"""Learning parameters: the minimizer, the losses, and their arguments."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import numpy as np
import pytest

import attention_core as ac
from attention_core.fitting import fit
from attention_core.fitting.progress import progress_line
from attention_core.leave_one_out import leave_one_out, log_loss, squared_error


class Bowl(ac.InnerProductScorer):
    """A scorer whose loss is known in closed form."""

    def __init__(self, place):
        self.place = place


def bowl(center, scale=1.0):
    def loss(scorer):
        away = scorer.place - np.asarray(center)
        return scale * float(away @ away), 2 * scale * away

    return loss


START = Bowl(np.array([3.0, -1.0]))


class Model:
    """An object with a vector that is not a scorer."""

    def __init__(self, vector):
        self.parameter_vector = vector

    def with_parameter_vector(self, vector):
        return Model(np.array(vector))


# --- the minimizer ---


def test_it_finds_the_least_loss_and_leaves_the_start_alone():
    found = fit(START, bowl([1.0, 2.0]), tol=1e-12)
    np.testing.assert_allclose(found.scorer.place, [1, 2], atol=1e-5)
    assert START.place.tolist() == [3, -1]
    assert found.losses[0] == 13
    assert found.losses[-1] < 1e-9
    assert found.n_iter == len(found.losses) - 1 > 0
    assert found.validation_losses == ()
    assert "CONVERGENCE" in found.message
    assert found.is_converged


def test_parameters_keep_their_dtype():
    found = fit(Bowl(START.place.astype(np.float32)), bowl([1.0, 2.0]))
    assert found.scorer.place.dtype == np.float32


def test_the_number_of_iterations_is_bounded():
    valley = np.array([1.0, 1000.0])

    def loss(scorer):
        away = scorer.place - 1
        return float(valley @ away**2), 2 * valley * away

    found = fit(START, loss, max_iter=2, tol=0)
    assert found.n_iter == 2
    assert not found.is_converged


def test_a_penalty_holds_parameters_near_their_start():
    # |p - c|^2 + w |p - s|^2 is least at (c + w s) / (1 + w)
    found = fit(START, bowl([1.0, 2.0]), penalty=3.0, tol=1e-12)
    np.testing.assert_allclose(found.scorer.place, [2.5, -0.25], atol=1e-5)
    assert found.losses[-1] == pytest.approx(13 * 0.75)


def test_several_losses_are_minimized_one_after_the_other():
    begun = []

    def losses():
        for center in ([1.0, 2.0], [0.0, 5.0]):
            begun.append(center)
            yield bowl(center)

    found = fit(START, losses(), tol=1e-12)
    assert len(begun) == 2
    np.testing.assert_allclose(found.scorer.place, [0, 5], atol=1e-5)


def test_the_best_of_validation_is_returned_and_learning_stops_after_it():
    steps = [START.place + np.array([0.0, step]) for step in np.linspace(0, 4, 20)]

    def validation(scorer):
        return abs(float(scorer.place[1]) - 1)

    found = fit(START, map(bowl, steps), validation=validation, patience=4, tol=1e-12)
    assert found.scorer.place[1] == pytest.approx(1, abs=0.15)
    assert found.validation_losses.index(min(found.validation_losses)) == found.n_iter - 4
    assert len(found.validation_losses) == len(found.losses)
    assert found.message == "no better validation loss for 4 iterations"


@pytest.mark.parametrize("outside", [np.nan, np.inf, -np.inf])
def test_steps_to_where_the_loss_is_not_finite_are_taken_back(outside):
    def loss(scorer):
        (place,) = scorer.place
        if place > 1:
            return outside, [outside]
        return -float(place), [-1.0]

    found = fit(Bowl(np.array([0.0])), loss, tol=0, max_iter=20)
    assert 0 <= found.scorer.place[0] <= 1
    assert np.isfinite(found.losses).all()


# the distance of the minimum from the barrier, and the scale of the slope
@pytest.mark.parametrize("gap", [0.5, 1e-1, 1e-3])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e6])
@pytest.mark.parametrize(
    "outside", [(np.nan, 0.0), (np.inf, np.inf), (-np.inf, 1.0), (1.0, np.nan)]
)
def test_the_least_loss_is_found_beside_a_wall(gap, scale, outside):
    """``-x / gap - log(0.9 - x)`` is least at ``0.9 - gap``, and undefined from 0.9 on."""
    asked = []

    def loss(model):
        (place,) = model.parameter_vector
        asked.append(place)
        left = 0.9 - place
        if left <= 0:
            return outside[0], [outside[1]]
        return scale * (-place / gap - np.log(left)), [scale * (1 / left - 1 / gap)]

    found = fit(Model(np.zeros(1)), loss, tol=1e-12)
    assert max(asked) >= 0.9
    assert found.scorer.parameter_vector[0] == pytest.approx(0.9 - gap, abs=1e-3 * gap)
    assert "CONVERGENCE" in found.message
    assert found.is_converged
    assert list(found.losses) == sorted(found.losses, reverse=True)


@pytest.mark.parametrize("seed", range(20))
def test_the_least_loss_is_found_among_walls(seed):
    """``-c x - sum log(b - A x)``, with a small penalty that keeps x bounded."""
    random = np.random.default_rng(seed)
    walls, room = random.normal(size=(5, 3)), random.uniform(0.1, 2, size=5)
    slope = 10 ** random.uniform(-1, 2) * random.normal(size=3)

    def loss(model):
        place = model.parameter_vector
        left = room - walls @ place
        if left.min() <= 0:
            return np.nan, np.full(3, np.nan)
        value = place @ place - slope @ place - np.log(left).sum()
        return float(value), 2 * place - slope + walls.T @ (1 / left)

    found = fit(Model(np.zeros(3)), loss, tol=1e-12, max_iter=500)
    _, slopes = loss(found.scorer)
    np.testing.assert_allclose(slopes, 0, atol=1e-3 * np.abs(slope).max())


def test_anything_with_a_parameter_vector_can_be_learned():
    def loss(model):
        away = model.parameter_vector - 2
        return float(away @ away), Model(2 * away)

    found = fit(Model(np.zeros(3)), loss, tol=1e-12)
    np.testing.assert_allclose(found.scorer.parameter_vector, 2, atol=1e-5)


def test_a_layer_of_heads_is_learned_with_its_scorers(rng):
    """A layer learns to imitate another: projections, output and the scorers of its heads."""
    query, key, value = rng.normal(size=(3, 6, 2)), rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    start, truth = (
        ac.MultiHeadAttention.initialize(
            2,
            heads=2,
            scorer=[ac.make_scorer("general", query_dim=1, key_dim=1, rng=seed), "scaled_dot"],
            biases=True,
            rng=seed,
        )
        for seed in (0, 1)
    )
    target = truth(query, key, value).output

    def loss(layer):
        result = layer(query, key, value)
        error = result.output - target
        return float((error**2).sum()), result.vjp(2 * error)

    found = fit(start, loss, tol=1e-12, max_iter=500)
    assert isinstance(found.scorer, ac.MultiHeadAttention)
    assert found.losses[-1] < 1e-3 * found.losses[0]
    assert loss(found.scorer)[0] == pytest.approx(min(found.losses))
    learned = set(start.parameters) - {"key_bias"}  # adds the same to every score of a query
    assert "heads.0.weight" in learned
    for name in learned:
        assert not np.allclose(found.scorer.parameters[name], start.parameters[name]), name


def test_a_loss_that_is_not_finite_at_the_start():
    with pytest.raises(ac.OptionError) as error:
        fit(START, lambda scorer: (np.nan, np.zeros(2)))
    assert str(error.value) == (
        "loss must be finite at its start, got nan: the arrays hold NaN or Inf, "
        "or scorer Bowl gives them such scores"
    )


def test_gradients_that_are_not_finite_at_the_start():
    with pytest.raises(ac.OptionError) as error:
        fit(START, lambda scorer: (1.0, np.array([np.nan, 0.0])))
    assert str(error.value) == (
        "loss must have finite gradients at its start, got 1 of 2 that are NaN or Inf: "
        "fix those of the loss, or of scorer Bowl"
    )


def test_a_later_loss_that_is_not_finite_where_the_one_before_ended():
    with pytest.raises(ac.OptionError, match=r"^loss must be finite at its start, got inf"):
        fit(START, [bowl([1.0, 2.0]), lambda scorer: (np.inf, np.zeros(2))])


def test_a_validation_loss_that_is_nan_at_the_start():
    with pytest.raises(ac.OptionError) as error:
        fit(START, bowl([1.0, 2.0]), validation=lambda scorer: np.nan)
    assert str(error.value) == (
        "validation must not be NaN at the start: its arrays hold NaN or Inf, "
        "or scorer Bowl gives them such scores"
    )


def test_a_validation_loss_that_is_infinite_at_the_start_may_get_better():
    found = fit(
        START,
        bowl([1.0, 2.0]),
        validation=lambda scorer: np.inf if scorer.place[0] == 3 else bowl([1.0, 2.0])(scorer)[0],
    )
    np.testing.assert_allclose(found.scorer.place, [1, 2], atol=1e-3)


@pytest.mark.parametrize("none", [[], iter([])])
def test_no_loss_at_all(none):
    with pytest.raises(ac.OptionError) as error:
        fit(START, none)
    assert str(error.value) == ("loss must be a function of a scorer, or several of them, got none")


def test_a_validation_that_is_no_function():
    with pytest.raises(ac.OptionTypeError) as error:
        fit(START, bowl([1.0, 2.0]), validation=5)
    assert str(error.value) == "validation must be a function of a scorer, got 5"


def test_the_start_of_a_loss_is_evaluated_once():
    asked = []

    def loss(scorer):
        asked.append(scorer.place.tolist())
        return bowl([1.0, 2.0])(scorer)

    fit(START, loss)
    assert asked.count([3.0, -1.0]) == 1


@pytest.mark.parametrize("returned", [1.0, (1.0,), np.zeros(2)])
def test_a_loss_without_gradients(returned):
    with pytest.raises(ac.OptionTypeError) as error:
        fit(START, lambda scorer: returned)
    assert str(error.value) == (
        f"loss must return a number and its gradients, as result.vjp returns them, got {returned!r}"
    )


def test_gradients_of_another_shape():
    with pytest.raises(ac.ShapeError) as error:
        fit(START, lambda scorer: (1.0, np.zeros(3)))
    assert str(error.value) == (
        "loss must return the gradients of all parameters in one vector of shape (2,), got (3,)"
    )


def test_nothing_to_learn():
    with pytest.raises(ac.ScorerConfigError) as error:
        fit(ac.make_scorer("dot"), bowl([1.0, 2.0]))
    assert str(error.value) == "scorer 'dot' (attention-core 0.1.0) has no parameters to learn"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_iter": 0}, ac.OptionError, "max_iter must be an integer of at least 1, got 0"),
        (
            {"max_iter": "a"},
            ac.OptionTypeError,
            "max_iter must be an integer of at least 1, got 'a'",
        ),
        (
            {"max_iter": 2.5},
            ac.OptionTypeError,
            "max_iter must be an integer of at least 1, got 2.5",
        ),
        ({"patience": 0}, ac.OptionError, "patience must be an integer of at least 1, got 0"),
        (
            {"patience": 1.5},
            ac.OptionTypeError,
            "patience must be an integer of at least 1, got 1.5",
        ),
        (
            {"patience": True},
            ac.OptionTypeError,
            "patience must be an integer of at least 1, got True",
        ),
        ({"tol": -1e-3}, ac.OptionError, "tol must be a finite number of at least 0, got -0.001"),
        ({"tol": "x"}, ac.OptionTypeError, "tol must be a finite number of at least 0, got 'x'"),
        ({"tol": np.inf}, ac.OptionError, "tol must be a finite number of at least 0, got inf"),
        (
            {"penalty": np.nan},
            ac.OptionError,
            "penalty must be a finite number of at least 0, got nan",
        ),
    ],
)
def test_impossible_options(options, error, message):
    with pytest.raises(error) as raised:
        fit(START, bowl([1.0, 2.0]), **options)
    assert type(raised.value) is error
    assert str(raised.value) == message


def test_options_may_be_numbers_of_numpy():
    found = fit(START, bowl([1.0, 2.0]), max_iter=np.int32(1), tol=np.float32(0), penalty=0)
    assert found.n_iter == 1


@pytest.mark.parametrize("loss", [None, [None]])
def test_losses_that_are_no_functions(loss):
    with pytest.raises(ac.OptionTypeError) as error:
        fit(START, loss)
    assert str(error.value) == ("loss must be a function of a scorer, or several of them, got None")


@pytest.mark.parametrize(
    ("scorer", "got"),
    [
        ("general", "'general'; make_scorer('general', ...) makes one"),
        (Bowl, f"{Bowl!r}; call the class to make one"),
        (None, "None"),
    ],
)
def test_scorers_that_are_none(scorer, got):
    with pytest.raises(ac.OptionTypeError) as error:
        fit(scorer, bowl([1.0, 2.0]))
    assert str(error.value) == (
        "scorer must be a Scorer, a MultiHeadAttention or another object with a parameter_vector, "
        f"got {got}"
    )


# --- progress ---


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_in_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    fit(START, bowl([1.0, 2.0]), max_iter=7, progress=True)
    output = sys.stderr.getvalue()
    assert output.startswith("\rlearning [####     ")
    assert re.search(r" 1/7  \d+ s  loss ", output)
    assert output.count("\r") > 1
    assert output.endswith("\n")


def test_progress_elsewhere_is_a_line_for_each_iteration(capsys):
    found = fit(START, bowl([1.0, 2.0]), max_iter=7, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"learning {step}/7  loss {loss:.4g}" for step, loss in enumerate(found.losses[1:], 1)
    ]


def test_progress_without_a_known_end(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_line("learning") as report:
        report(3, note="loss 0.5")
        report(4, note="short")
    output = re.sub(r"\d+ s", "0 s", sys.stderr.getvalue())
    assert output == "\rlearning 3  0 s  loss 0.5\rlearning 4  0 s  short   \n"


def test_progress_of_one_step_is_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_line("attending", in_lines=True) as report:
        report(1, 1)
    assert sys.stderr.getvalue() == ""


def test_progress_without_a_stream(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert fit(START, bowl([1.0, 2.0]), progress=True).n_iter > 1


# --- leaving one out ---


@pytest.fixture
def labeled(rng):
    key = rng.normal(size=(30, 4))
    codes = rng.integers(0, 3, 30)
    return key, np.eye(3)[codes]


SCORERS = {
    "general": {"query_dim": 4, "key_dim": 4, "rng": 1},
    "additive": {"query_dim": 4, "key_dim": 4, "hidden_dim": 6, "rng": 1},
}


@pytest.mark.parametrize("measure", [log_loss, squared_error])
@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("rows", [None, [2, 7, 29]])
def test_each_row_is_predicted_from_the_others(labeled, name, measure, rows):
    key, value = labeled
    scorer = ac.make_scorer(name, **SCORERS[name])
    contexts = []
    for row in range(30) if rows is None else rows:
        others = np.arange(30) != row
        contexts.append(ac.attend(key[row], key[others], value[others], scorer=scorer).context)
    expected, _ = measure(np.array(contexts), value if rows is None else value[rows])
    loss, _ = leave_one_out(key, value, measure, rows=rows)(scorer)
    assert loss == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("measure", [log_loss, squared_error])
@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("rows", [None, [2, 7, 29]])
def test_gradients_agree_with_finite_differences(labeled, rng, name, measure, rows):
    key, value = labeled
    scorer = ac.make_scorer(name, **SCORERS[name])
    loss = leave_one_out(key, value, measure, rows=rows)
    _, gradients = loss(scorer)
    along = rng.normal(size=scorer.parameter_vector.shape)
    step = 1e-6 * along
    ends = [
        loss(scorer.with_parameter_vector(scorer.parameter_vector + sign * step))[0]
        for sign in (1, -1)
    ]
    assert gradients.parameter_vector @ along == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)
    # the rows are both queries and keys
    change = 1e-6 * rng.normal(size=key.shape)
    ends = [
        leave_one_out(key + sign * change, value, measure, rows=rows)(scorer)[0] for sign in (1, -1)
    ]
    slope = (gradients.key * change).sum()
    slope += (gradients.query * (change if rows is None else change[rows])).sum()
    assert slope == pytest.approx((ends[0] - ends[1]) / 2, rel=1e-4)


@pytest.mark.parametrize("measure", [log_loss, squared_error])
@pytest.mark.parametrize("rows", [None, [2, 7, 29]])
def test_a_weight_is_a_number_of_equal_rows(labeled, measure, rows):
    key, value = labeled
    scorer = ac.make_scorer("additive", **SCORERS["additive"])
    weight = 1 + np.arange(30) % 3
    number = np.repeat(np.arange(30), weight)
    chosen = None if rows is None else np.isin(number, rows)
    found, gradients = leave_one_out(key, value, measure, rows=rows, weight=weight)(scorer)
    expected, others = leave_one_out(
        key[number], value[number], measure, rows=chosen, groups=number
    )(scorer)
    assert found == pytest.approx(expected)
    np.testing.assert_allclose(gradients.parameter_vector, others.parameter_vector, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"groups": [1]},
            ac.ShapeError,
            "groups must have one entry for each of 30 rows, got (1,)",
        ),
        (
            {"groups": [[1], [1, 2]]},
            ac.ShapeError,
            "groups must be an array, got nested lists of different lengths",
        ),
        ({"weight": 1.0}, ac.ShapeError, "weight must have one entry for each of 30 rows, got ()"),
        ({"weight": np.arange(30)}, ac.OptionError, "weight must hold positive, finite numbers"),
    ],
)
def test_groups_and_weights_that_cannot_be(labeled, options, error, message):
    with pytest.raises(error) as raised:
        leave_one_out(*labeled, log_loss, **options)
    assert str(raised.value) == message


def test_a_measure_is_a_function(labeled):
    with pytest.raises(ac.OptionTypeError) as raised:
        leave_one_out(*labeled, "log_loss")
    assert str(raised.value) == "measure must be a function, such as log_loss, got 'log_loss'"


def test_a_wrong_label_costs_no_infinity():
    loss, grad = log_loss(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]))
    assert loss == pytest.approx(np.log(2 / 1e-3))
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("measure", [log_loss, squared_error])
def test_no_rows_cost_nothing(measure):
    loss, grad = measure(np.zeros((0, 2)), np.zeros((0, 2)))
    assert loss == 0
    assert grad.shape == (0, 2)


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 2), (3, 2), (4, 1)),
        ((3, 2), (3, 2), (3,)),
        ((1, 3, 2), (1, 3, 2), (3, 1)),
        ((2, 2), (3, 2), (3, 1)),
    ],
)
def test_arrays_that_are_no_rows(shapes):
    query, key, value = map(np.zeros, shapes)
    with pytest.raises(ac.ShapeError) as error:
        leave_one_out(key, value, log_loss, query=query)
    assert str(error.value) == (
        "query (n, D), key (n, D) and value (n, Dv) must have two axes and the same n, "
        f"got {', '.join(map(str, shapes))}"
    )


@pytest.mark.parametrize(
    ("rows", "same"),
    [
        ([-1, 2, -30], [29, 2, 0]),
        (np.arange(30) % 7 == 0, [0, 7, 14, 21, 28]),
        (np.array([2, 29], np.uint8), [2, 29]),
    ],
)
def test_rows_are_chosen_as_numpy_does(labeled, rows, same):
    key, value = labeled
    scorer = ac.make_scorer("general", **SCORERS["general"])
    found, gradients = leave_one_out(key, value, log_loss, rows=rows)(scorer)
    expected, others = leave_one_out(key, value, log_loss, rows=same)(scorer)
    assert found == expected
    np.testing.assert_array_equal(gradients.parameter_vector, others.parameter_vector)


def test_no_row_is_predicted_without_loss(labeled):
    scorer = ac.make_scorer("general", **SCORERS["general"])
    loss, gradients = leave_one_out(*labeled, log_loss, rows=[])(scorer)
    assert loss == 0
    assert not gradients.parameter_vector.any()


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([1.0], ac.OptionTypeError, "rows must be integers or booleans, got dtype float64"),
        ([[1, 2]], ac.ShapeError, "rows must have one axis, (m,), got shape (1, 2)"),
        (3, ac.ShapeError, "rows must have one axis, (m,), got shape ()"),
        ([0, 30], ac.OptionError, "rows: row 30 is out of bounds for 30 rows"),
        ([-31], ac.OptionError, "rows: row -31 is out of bounds for 30 rows"),
        (
            [True, False],
            ac.ShapeError,
            "rows must hold one boolean for each of 30 rows, got 2",
        ),
    ],
)
def test_rows_that_cannot_be_chosen(labeled, rows, error, message):
    with pytest.raises(error) as raised:
        leave_one_out(*labeled, log_loss, rows=rows)
    assert type(raised.value) is error
    assert str(raised.value) == message


def test_rows_may_be_recognized_from_copies(labeled, rng):
    key, value = labeled
    copies = key + 0.1 * rng.normal(size=key.shape)
    scorer = ac.make_scorer("general", **SCORERS["general"])
    mask = ~np.eye(30, dtype=bool)
    for rows in (None, [4, 1]):
        chosen = slice(None) if rows is None else rows
        context = ac.attend(copies, key, value, scorer=scorer, mask=mask).context[chosen]
        expected, _ = log_loss(context, value[chosen])
        loss, _ = leave_one_out(key, value, log_loss, query=copies, rows=rows)(scorer)
        assert loss == pytest.approx(expected)


def test_learning_by_leaving_one_out(rng):
    """Labels depend on one feature of five, which gets nearly all of the learned weight."""
    key = rng.normal(size=(300, 5))
    value = np.eye(2)[(key[:, 2] > 0).astype(int)]
    start = ac.make_scorer("general", weight=0.3 * np.eye(5))
    loss = leave_one_out(key, value, log_loss)
    found = fit(start, loss, max_iter=50, penalty=1e-3)
    assert found.losses[-1] < 0.4 * found.losses[0]
    strength = np.abs(np.diag(found.scorer.weight))
    assert strength[2] > 3 * np.delete(strength, 2).max()


def test_fitting_needs_no_scikit_learn():
    code = (
        "import sys; sys.modules['sklearn'] = None; "
        "import attention_core.fitting, attention_core.leave_one_out"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
