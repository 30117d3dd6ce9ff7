"""Names: their owners, broken plugins, and errors of making a scorer."""

import os
import subprocess
import sys
import threading
import time
import warnings

import fakes
import numpy as np
import pytest
from bundled import SCORERS
from fakes import SCORER, hooks

import attention_core as ac
from attention_core import (
    AmbiguousScorerError,
    OptionTypeError,
    PluginError,
    PluginWarning,
    Registry,
    Scorer,
    ScorerConfigError,
    ScorerContractError,
    ScorerSpec,
    UnknownScorerError,
)
from attention_core.registry import default, kinds

install = fakes.install
RBF = "name='rbf', factory='acme_attention.rbf:FakeScorer'"
FAULTS = {
    "fails at import": "import no_such_module",
    "leaves at import": "raise SystemExit",
    "fails half-way": hooks("name='early', factory='acme_attention.rbf:FakeScorer'")
    + "    raise RuntimeError('no GPU')\n",
    "yields junk": hooks("name='early', factory='a:b'") + "    yield 'rbf'\n",
    "misspells the hook": hooks(RBF).replace("core_scorers", "core_scorer"),
    "uses one name twice": hooks(RBF, "name='early', factory='a:b'", RBF),
    "uses a name as an alias": hooks(RBF, "name='early', factory='a:b', aliases=('rbf',)"),
    "repeats a name in its aliases": hooks("name='early', factory='a:b', aliases=('early',)"),
}


class Plain(Scorer):
    def __init__(self, gamma=1.0):
        self.gamma = gamma

    def score(self, query, key):
        return query @ key.swapaxes(-1, -2) * query.dtype.type(self.gamma)


def spec(name="rbf", **rest):
    return ScorerSpec(**{"name": name, "factory": Plain, **rest})


def names(registry):
    return [info.name for info in registry.scorers()]


@pytest.fixture
def registry():
    """One bundled scorer and one of a package."""
    registry = Registry()
    registry.register(spec("dot", aliases=("inner",)), distribution="attention-core", version="0.1")
    registry.register(spec("rbf", aliases=("gauss",)), distribution="acme-attention", version="0.3")
    return registry


# --- discovery ---


def test_an_empty_registry_knows_nothing():
    registry = Registry()
    assert registry.scorers() == registry.failures == registry.conflicts == ()
    with pytest.raises(UnknownScorerError, match=r"named 'dot'\n  available: none$"):
        registry.make("dot")


def test_everything_installed_is_listed_in_order(install):
    install(
        hooks=hooks(
            "name='rbf', factory='acme_attention.rbf:FakeScorer', summary='s', "
            "formula='f', reference='r', aliases=('gauss', 'bell')"
        )
    )
    registry = Registry.from_entry_points()
    assert names(registry) == sorted([*SCORERS, "rbf"])
    assert registry.info("bell") == ac.ScorerInfo(
        name="rbf",
        aliases=("gauss", "bell"),
        summary="s",
        formula="f",
        reference="r",
        distribution="acme-attention",
        version="0.3",
        qualified_name="acme-attention/rbf",
    )


def test_a_plugin_is_imported_step_by_step(install, tmp_path):
    """No step of a plugin runs before its result is needed."""
    install(hooks=hooks(RBF), rbf=SCORER)
    code = """if True:
        import sys
        def seen():
            return sorted(name for name in sys.modules if name.startswith("acme_attention"))
        import attention_core as ac
        print(seen())
        ac.make_scorer("dot")
        print(seen())
        try:
            ac.make_scorer("rfb")
        except ac.UnknownScorerError:
            print(seen())
        ac.make_scorer("rbf")
        print(seen())
        """
    (root,) = tmp_path.glob("acme_attention-*")
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    light = "['acme_attention', 'acme_attention.hooks']"
    heavy = "['acme_attention', 'acme_attention.hooks', 'acme_attention.rbf']"
    assert output.splitlines() == ["[]", light, light, heavy]


# --- broken plugins ---


@pytest.mark.parametrize("source", FAULTS.values(), ids=FAULTS)
def test_a_broken_plugin_costs_one_warning_and_no_other_name(install, source):
    install(hooks=source)
    install(
        "good",
        "1.0",
        plugin="good",
        hooks=hooks("name='fine', factory='good.it:FakeScorer'"),
        it=SCORER,
    )
    with pytest.warns(PluginWarning) as caught:
        registry = Registry.from_entry_points()
    assert len(caught) == 1
    assert names(registry) == sorted([*SCORERS, "fine"])
    assert registry.make("fine").gamma == 1.0
    assert registry.make("dot")
    (failure,) = registry.failures
    assert (failure.plugin, failure.distribution, failure.version) == (
        "acme",
        "acme-attention",
        "0.3",
    )
    assert str(failure) in str(caught[0].message)
    with pytest.raises(UnknownScorerError) as error:
        registry.make("early")
    assert f"\n  not loaded: {failure}" in str(error.value)


@pytest.mark.parametrize("source", FAULTS.values(), ids=FAULTS)
def test_strict_mode_raises_what_would_be_a_warning(install, source):
    install(hooks=source)
    with pytest.raises(
        PluginError, match=r"^plugin not loaded: acme \(acme-attention 0.3\) - "
    ) as e:
        Registry.from_entry_points(strict=True)
    assert isinstance(e.value.__cause__, Exception | SystemExit)


@pytest.mark.parametrize(
    ("value", "strict"), [("1", True), ("yes", True), ("0", False), ("", False), (None, False)]
)
def test_the_environment_may_ask_for_strictness(install, monkeypatch, value, strict):
    monkeypatch.delenv("ATTENTION_CORE_STRICT", raising=False)
    if value is not None:
        monkeypatch.setenv("ATTENTION_CORE_STRICT", value)
    install(hooks="import no_such_module")
    if strict:
        with pytest.raises(PluginError):
            Registry.from_entry_points()
    else:
        with pytest.warns(PluginWarning):
            Registry.from_entry_points()
    with pytest.warns(PluginWarning):
        Registry.from_entry_points(strict=False)


def test_two_plugins_of_one_distribution_stay_apart(install):
    install(
        entry_points="[attention_core]\nbad = acme_attention.bad\ngood = acme_attention.hooks\n"
        "same = acme_attention.hooks\n",
        bad="import no_such_module",
        hooks=hooks(RBF),
    )
    with pytest.warns(PluginWarning):
        registry = Registry.from_entry_points()
    assert names(registry) == sorted([*SCORERS, "rbf"])
    assert [failure.plugin for failure in registry.failures] == ["bad", "same"]
    assert "already taken by scorer 'rbf' (acme-attention 0.3)" in str(registry.failures[1])


def test_a_warning_that_is_an_error_leaves_no_half_built_registry(install):
    install(hooks="import no_such_module")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(PluginWarning):
                Registry.from_entry_points()


# --- blocking ---


@pytest.mark.parametrize("block", ["acme", "other, acme_attention,", ["Acme-Attention"], ("acme",)])
def test_a_blocked_plugin_is_not_imported(install, block):
    install(hooks="import no_such_module")
    registry = Registry.from_entry_points(block=block)
    assert "acme_attention" not in sys.modules
    assert names(registry) == SCORERS
    assert registry.failures == ()
    with pytest.raises(UnknownScorerError, match=r"\n  blocked: acme \(acme-attention 0.3\)$"):
        registry.make("rbf")


def test_the_environment_blocks_unless_told_otherwise(install, monkeypatch):
    install(hooks=hooks(RBF))
    monkeypatch.setenv("ATTENTION_CORE_BLOCK", "other,acme")
    assert names(Registry.from_entry_points()) == SCORERS
    assert "rbf" in names(Registry.from_entry_points(block=()))


def test_a_blocked_distribution_cannot_register():
    registry = Registry(block="acme_attention")
    with pytest.raises(PluginError, match=r"^distribution 'acme-attention' is blocked"):
        registry.register(spec(), distribution="acme-attention", version="0.3")


# --- rivals ---


def test_a_bundled_name_stays_and_its_rival_is_qualified(install):
    install(hooks=hooks("name='dot', factory='acme_attention.rbf:FakeScorer'", RBF), rbf=SCORER)
    with pytest.warns(PluginWarning, match=r"^scorer name 'dot' is reserved for attention-core"):
        registry = Registry.from_entry_points()
    assert names(registry) == sorted([*SCORERS, "acme-attention/dot", "rbf"])
    assert type(registry.make("dot")).__module__.startswith("attention_core_standard")
    rival = registry.make("acme-attention/dot", gamma=2.0)
    assert type(rival).__name__ == "FakeScorer"
    assert str(rival) == "scorer 'acme-attention/dot' (acme-attention 0.3)"
    assert rival.to_config() == {"name": "acme-attention/dot", "gamma": 2.0}
    assert registry.resolve(rival.to_config()).gamma == 2.0
    (conflict,) = registry.conflicts
    assert conflict.kept_by == f"attention-core {ac.__version__}"
    assert conflict.claims == {"acme-attention/dot": "acme-attention 0.3"}
    assert not registry.failures


@pytest.mark.parametrize("bundled_first", [True, False])
def test_a_bundled_name_stays_whoever_comes_first(bundled_first):
    registry = Registry()
    sources = [("attention-core", spec("dot")), ("aaa", spec("dot"))]
    for distribution, one in sources if bundled_first else reversed(sources):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PluginWarning)
            registry.register(one, distribution=distribution, version="1")
    assert registry.info("dot").distribution == "attention-core"
    assert registry.info("aaa/dot").distribution == "aaa"


def test_an_alias_of_a_bundled_scorer_is_reserved_too(registry):
    with pytest.warns(PluginWarning, match=r"^scorer name 'inner' is reserved"):
        registry.register(spec("inner"), distribution="other", version="1")
    assert registry.info("inner").name == "dot"
    assert registry.info("other/inner").name == "other/inner"


def test_an_alias_does_not_take_a_bundled_name(registry):
    with pytest.warns(PluginWarning, match=r"^scorer name 'dot' is reserved"):
        registry.register(spec("mine", aliases=("dot", "own")), distribution="other", version="1")
    assert registry.info("dot").distribution == "attention-core"
    assert registry.info("mine").aliases == ("own",)
    assert registry.info("other/dot").name == "mine"


def test_strict_mode_refuses_a_rival():
    registry = Registry(strict=True)
    registry.register(spec("dot"), distribution="attention-core", version="0.1")
    with pytest.raises(PluginError, match=r"^scorer name 'dot' is reserved for attention-core 0.1"):
        registry.register(spec("dot"), distribution="other", version="1")


def test_a_name_that_two_packages_claim_is_nobodys(install):
    install(hooks=hooks(RBF, "name='mine', factory='acme_attention.rbf:FakeScorer'"), rbf=SCORER)
    install(
        "Other_Attention",
        "1.0",
        plugin="other",
        hooks=hooks("name='rbf', factory='other_attention.rbf:FakeScorer', aliases=('r',)"),
        rbf=SCORER,
    )
    registry = Registry.from_entry_points()  # no warning as long as the name is not used
    with pytest.raises(AmbiguousScorerError):
        registry.make("rbf")
    assert registry.make("mine")
    assert registry.make("dot")
    assert registry.make("acme-attention/rbf").origin.distribution == "acme-attention"
    for name in ("other-attention/rbf", "Other_Attention/rbf", "r", "other.attention/r"):
        other = registry.make(name)
        assert other.origin.distribution == "Other_Attention"
        assert other.origin.name == "Other_Attention/rbf"
        assert registry.resolve(other.to_config())
    assert [str(c).partition("\n")[0] for c in registry.conflicts] == [
        "scorer name 'rbf' is ambiguous; use 'acme-attention/rbf' or 'Other_Attention/rbf'"
    ]


def test_an_alias_conflicts_as_a_name_does(registry):
    registry.register(spec("bell", aliases=("gauss",)), distribution="other", version="1")
    with pytest.raises(AmbiguousScorerError, match="'acme-attention/gauss' or 'other/gauss'"):
        registry.make("gauss")
    assert registry.info("acme-attention/gauss").name == "rbf"
    assert registry.info("rbf").aliases == registry.info("bell").aliases == ()


def test_a_name_and_a_foreign_alias_conflict(registry):
    registry.register(spec("bell", aliases=("rbf",)), distribution="other", version="1")
    with pytest.raises(AmbiguousScorerError):
        registry.make("rbf")
    assert names(registry) == ["acme-attention/rbf", "bell", "dot"]
    assert registry.make("gauss").to_config() == {"name": "acme-attention/rbf"}


@pytest.mark.parametrize("name", ["acme-attention/dot", "/rbf", "acme/rbf", "rbf/", "a/b/rbf", ""])
def test_a_qualified_name_is_exact(registry, name):
    with pytest.raises(UnknownScorerError):
        registry.make(name)


def test_a_qualified_name_is_kept_by_whoever_asks_for_it(registry):
    """A saved name keeps its meaning when a rival is installed."""
    assert registry.make("acme-attention/gauss").to_config() == {"name": "acme-attention/rbf"}
    assert registry.make("gauss").to_config() == {"name": "rbf"}


# --- registering at run time ---


def test_registering_again_replaces(registry):
    registry.register(spec("mine", aliases=("old",)))
    assert registry.resolve("mine").gamma == 1.0
    registry.register(spec("mine", factory=lambda gamma=2.0: Plain(gamma), aliases=("new",)))
    assert registry.resolve("mine").gamma == registry.resolve("new").gamma == 2.0
    assert names(registry) == ["dot", "mine", "rbf"]
    with pytest.raises(UnknownScorerError):
        registry.make("old")
    assert registry.info("mine").distribution is None
    assert registry.info("mine").qualified_name == "mine"


@pytest.mark.parametrize(
    ("one", "taken"),
    [
        (spec("dot"), "'dot' is already taken by scorer 'dot' (attention-core 0.1)"),
        (spec("inner"), "'inner' is already taken by scorer 'dot' (attention-core 0.1)"),
        (spec("new", aliases=("dot",)), "'dot' is already taken by scorer 'dot'"),
        (spec("rbf"), "'rbf' is already taken by scorer 'rbf' (acme-attention 0.3)"),
        (spec("new", aliases=("mine",)), "'mine' is already taken by scorer 'mine'"),
    ],
)
def test_a_name_that_is_taken_stays(registry, one, taken):
    registry.register(spec("mine"))
    before = registry.scorers()
    with pytest.raises(PluginError) as error:
        registry.register(one)
    assert str(error.value).startswith(f"scorer name {taken}")
    assert registry.scorers() == before


def test_a_failed_replacement_leaves_what_was_there(registry):
    registry.register(spec("mine", aliases=("own",)))
    with pytest.raises(PluginError):
        registry.register(spec("mine", aliases=("dot",)))
    assert registry.info("own").name == "mine"


def test_a_distribution_registers_a_name_once(registry):
    with pytest.raises(PluginError, match="already taken"):
        registry.register(spec("rbf"), distribution="Acme_Attention", version="0.4")


def test_a_spec_is_checked_when_it_is_registered(registry):
    with pytest.raises(PluginError, match="scorer name 'Mine' must be"):
        registry.register(spec("Mine"))
    with pytest.raises(PluginError, match="expected a ScorerSpec"):
        registry.register(Plain)


# --- making ---


def test_parameters_reach_the_factory(registry):
    scorer = registry.make("gauss", gamma=3.0)
    assert scorer.gamma == 3.0
    assert scorer.to_config() == {"name": "rbf", "gamma": 3.0}
    assert str(scorer) == "scorer 'rbf' (acme-attention 0.3)"


def test_each_wrong_parameter_is_told(registry):
    assert registry.problems("rbf", {"gama": 1, "x": 2, "gamma": 3}).keys() == {"gama", "x"}
    with pytest.raises(ScorerConfigError) as error:
        registry.make("rbf", gama=1, x=2)
    assert len(str(error.value).splitlines()) == 2


def raises(error):
    def factory(gamma=1.0):
        raise error

    return factory


def test_a_type_error_of_a_factory_is_its_own():
    registry = Registry()
    registry.register(spec(factory=raises(TypeError("missing 1 argument"))), distribution="acme")
    with pytest.raises(TypeError) as error:
        registry.make("rbf", gamma=1.0)
    assert not isinstance(error.value, ac.AttentionCoreError)
    assert str(error.value) == "missing 1 argument"
    assert error.value.__notes__ == ["raised by the factory of scorer 'rbf' (acme unknown)"]


def test_a_value_error_of_a_factory_is_about_its_parameters(registry):
    registry.register(spec("mine", factory=raises(ValueError("gamma must be positive"))))
    with pytest.raises(
        ScorerConfigError, match=r"^scorer 'mine': gamma must be positive$"
    ) as error:
        registry.make("mine")
    assert type(error.value.__cause__) is ValueError


def test_our_own_errors_pass_through(registry):
    registry.register(spec("mine", factory=raises(ac.ShapeError("no"))))
    with pytest.raises(ac.ShapeError, match=r"^no$"):
        registry.make("mine")


def test_a_dependency_missing_inside_a_factory(registry):
    registry.register(spec("mine", factory=raises(ImportError("No module named 'cupy'"))))
    with pytest.raises(PluginError, match=r"^scorer 'mine': ImportError: No module named 'cupy'$"):
        registry.make("mine")


@pytest.mark.parametrize("result", [None, Plain, {}])
def test_a_factory_that_makes_no_scorer(registry, result):
    registry.register(spec("mine", factory=lambda: result))
    with pytest.raises(ScorerContractError, match=r"^scorer 'mine': its factory returned "):
        registry.make("mine")


FACTORIES = {
    "no module": ("acme_attention.nothing:FakeScorer", "", PluginError, "No module named"),
    "no attribute": ("acme_attention.rbf:Nothing", "", PluginError, "no attribute 'Nothing'"),
    "fails": ("acme_attention.rbf:x", "1/0", PluginError, "ZeroDivisionError: division by zero"),
    "number": ("acme_attention.rbf:x", "x = 3", PluginError, "must be callable .*, got 3"),
    "args": ("acme_attention.rbf:x", "def x(*a): ...", PluginError, r"takes \(\*a\)"),
    "kwargs": ("acme_attention.rbf:x", "def x(**k): ...", PluginError, r"takes \(\*\*k\)"),
    "none": ("acme_attention.rbf:x", "def x(): ...", ScorerContractError, "returned None"),
    "abstract": (
        "acme_attention.rbf:X",
        "from attention_core import Scorer\nclass X(Scorer): ...",
        PluginError,
        "X does not implement score",
    ),
}


@pytest.mark.parametrize(
    ("factory", "source", "error", "message"), FACTORIES.values(), ids=FACTORIES
)
def test_a_factory_that_fails_on_first_use_costs_only_its_name(
    install, factory, source, error, message
):
    good = "name='good', factory='acme_attention.good:FakeScorer'"
    install(hooks=hooks(f"name='rbf', factory={factory!r}", good), rbf=source, good=SCORER)
    registry = Registry.from_entry_points()
    assert "rbf" in names(registry)
    for _ in range(2):
        with pytest.raises(error, match=message) as raised:
            registry.make("rbf")
        assert str(raised.value).startswith("scorer 'rbf' (acme-attention 0.3): ")
    assert registry.make("good")


def test_the_cause_of_a_failed_import_is_kept(install):
    install(hooks=hooks(RBF), rbf="import no_such_module")
    with pytest.raises(PluginError) as error:
        Registry.from_entry_points().make("rbf")
    assert isinstance(error.value.__cause__, ModuleNotFoundError)


def test_missing_packages_can_be_installed_while_running(install, tmp_path):
    install(hooks=hooks(RBF))
    registry = Registry.from_entry_points()
    with pytest.raises(PluginError):
        registry.make("rbf")
    install("late", rbf=SCORER)
    (late,) = tmp_path.glob("late-*/late/rbf.py")
    late.rename(next(tmp_path.glob("acme*/acme_attention")) / "rbf.py")
    assert registry.make("rbf").gamma == 1.0


# --- resolving ---


def test_a_name_alone_is_made_once(registry, monkeypatch):
    scorer = registry.resolve("gauss")
    monkeypatch.delattr(registry.of(kinds.SCORER), "claims")  # later look-ups need a dict only
    assert registry.resolve("gauss") is scorer


def test_a_mapping_is_a_name_and_parameters(registry):
    mapping = {"name": "rbf", "gamma": 2.0}
    scorer = registry.resolve(mapping)
    assert scorer.gamma == 2.0
    assert mapping == {"name": "rbf", "gamma": 2.0}
    assert registry.resolve(scorer) is scorer


@pytest.mark.parametrize("wrong", [3, None, ["dot"], b"dot"])
def test_objects_that_are_not_scorers(registry, wrong):
    with pytest.raises(OptionTypeError, match=r"^scorer must be a name, a mapping with a 'name'"):
        registry.resolve(wrong)


@pytest.mark.parametrize("wrong", [{}, {"nam": "dot"}, {"name": 3}, {"name": None}])
def test_a_mapping_without_a_name(registry, wrong):
    with pytest.raises(ScorerConfigError, match="needs its 'name'"):
        registry.resolve(wrong)


def test_keys_that_are_no_names_are_unknown_parameters(registry):
    with pytest.raises(ScorerConfigError, match="has no parameter 3; accepts: gamma"):
        registry.resolve({"name": "rbf", 3: 4})


# --- the default registry ---


@pytest.fixture
def no_default(monkeypatch):
    monkeypatch.setattr(default, "_default", None)


def test_the_default_is_built_once_by_many_threads(no_default, monkeypatch):
    built = []

    def build():
        time.sleep(0.05)
        built.append(Registry())
        return built[-1]

    monkeypatch.setattr(Registry, "from_entry_points", build)
    barrier = threading.Barrier(8)
    got = []

    def work():
        barrier.wait()
        got.append(default.default_registry())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert {id(registry) for registry in got} == {id(built[0])}


def test_a_plugin_cannot_look_up_scorers_while_it_loads(no_default, install):
    install(hooks="import attention_core\nattention_core.scorers()")
    with pytest.warns(PluginWarning, match="a plugin cannot look up scorers while it is being"):
        assert [info.name for info in ac.scorers()] == SCORERS


def test_the_functions_use_the_default(no_default):
    ac.register_scorer(spec("mine"))
    assert "mine" in [info.name for info in ac.scorers()]
    assert ac.make_scorer("mine", gamma=2.0).gamma == 2.0
    assert ac.attend(np.eye(2), np.eye(2), np.eye(2), scorer="mine").context.shape == (2, 2)


# --- misbehaving in use ---

MISCHIEF = {
    "exits": ("raise SystemExit(0)", "raised SystemExit in score"),
    "shape": ("return super().score(key, query)", r"returned shape \(3, 2\); expected .* \(2, 3\)"),
    "dtype": ("return super().score(query, key).astype('f4')", "returned dtype float32"),
    "type": ("return super().score(query, key).tolist()", "returned list from score"),
}


@pytest.mark.parametrize(("body", "message"), MISCHIEF.values(), ids=MISCHIEF)
def test_a_scorer_that_misbehaves_in_use_is_named(no_default, install, body, message):
    source = (
        "from acme_attention.good import FakeScorer\n"
        f"class Bad(FakeScorer):\n    def score(self, query, key):\n        {body}\n"
    )
    good = "name='good', factory='acme_attention.good:FakeScorer'"
    install(
        hooks=hooks("name='bad', factory='acme_attention.bad:Bad'", good), bad=source, good=SCORER
    )
    query, key = np.ones((2, 4)), np.ones((3, 4))
    with pytest.raises(
        ScorerContractError, match=rf"^scorer 'bad' \(acme-attention 0\.3\) {message}"
    ):
        ac.attend(query, key, key, scorer="bad")
    assert ac.attend(query, key, key, scorer="good").context.shape == (2, 4)
    assert ac.attend(query, key, key, scorer="dot").context.shape == (2, 4)


def test_a_plugin_that_imports_slowly_costs_who_uses_it(install):
    slow = "import time\ntime.sleep(0.3)\nfrom acme_attention.good import FakeScorer\n"
    install(hooks=hooks(RBF), rbf=slow, good=SCORER)
    registry = Registry.from_entry_points()
    registry.make("dot")
    assert registry.info("rbf").version == "0.3"
    assert "acme_attention.rbf" not in sys.modules
    assert registry.make("rbf")
    assert "acme_attention.rbf" in sys.modules


def test_a_config_is_what_makes_the_scorer_again():
    scorer = ac.make_scorer("general", query_dim=2, key_dim=3, rng=0)
    again = ac.make_scorer(**scorer.to_config())
    np.testing.assert_array_equal(again.weight, scorer.weight)
