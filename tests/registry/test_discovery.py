"""Discovery of installed packages: bad metadata of one does not affect others."""

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import fakes
import pytest
from bundled import SCORERS
from fakes import SCORER, hooks
from projects import ROOT

import attention_core as ac
from attention_core import PluginWarning, Registry
from attention_core.registry.discovery import BUNDLED, canonical, discover

install = fakes.install
RBF = hooks("name='rbf', factory='acme_attention.rbf:FakeScorer'")


def found(distribution):
    return [plugin for plugin in discover().plugins if plugin.distribution == distribution]


def installed():
    """The registry, and its warnings."""
    with pytest.warns(PluginWarning) as caught:
        registry = Registry.from_entry_points()
    return registry, [str(warning.message) for warning in caught]


def names(registry):
    return [info.name for info in registry.scorers()]


def test_importlib_metadata_is_not_imported_where_no_package_offers_plugins():
    code = "import sys, attention_core as ac; ac.scorers(); print('email' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


# --- the order ---


def test_the_bundled_plugin_comes_first_and_needs_no_metadata(monkeypatch):
    assert discover().plugins[0] is BUNDLED
    monkeypatch.setattr(sys, "meta_path", [])
    assert discover().plugins == [BUNDLED]


def test_order_is_that_of_names_not_of_the_path(install):
    for distribution in ("zeta", "alpha", "Beta"):
        install(distribution, hooks=RBF)
    install("acme", entry_points="[attention_core]\nb = acme.hooks\na = acme.hooks\n")
    order = [(p.distribution, p.name) for p in discover().plugins]
    fakes = [pair for pair in order if pair[0] in {"acme", "alpha", "Beta", "zeta"}]
    assert fakes == [
        ("acme", "a"),
        ("acme", "b"),
        ("alpha", "acme"),
        ("Beta", "acme"),
        ("zeta", "acme"),
    ]


# --- locations of distributions ---


@pytest.fixture
def archive(install, tmp_path, monkeypatch):
    """A plugin inside an archive that is on the path."""
    install(hooks=RBF, rbf=SCORER)
    (root,) = tmp_path.glob("acme_attention-*")
    with zipfile.ZipFile(tmp_path / "plugins.zip", "w") as file:
        for path in filter(Path.is_file, root.rglob("*")):
            file.write(path, path.relative_to(root))
    sys.path.remove(str(root))
    monkeypatch.syspath_prepend(tmp_path / "plugins.zip")


def test_an_archive_on_the_path_is_read(archive):
    assert Registry.from_entry_points().make("rbf").gamma == 1.0


@pytest.fixture
def import_hook(install, tmp_path):
    """Make an import hook that finds a distribution, and then fails, if an error is given."""
    install(hooks=RBF, rbf=SCORER)
    (folder,) = tmp_path.glob("acme_attention-*/*.dist-info")
    hidden = folder.rename(tmp_path / "hidden.dist-info")

    def make(error=None):
        class Hook:
            @staticmethod
            def find_spec(*args):
                return None

            @staticmethod
            def find_distributions(context):
                yield importlib.metadata.PathDistribution(hidden)
                if error is not None:
                    raise error

        return Hook

    return make


def test_an_import_hook_with_distributions_is_asked(import_hook, monkeypatch):
    assert "rbf" not in names(Registry.from_entry_points())
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, import_hook()])
    assert Registry.from_entry_points().make("rbf").gamma == 1.0


@pytest.mark.parametrize(
    "error", [RuntimeError("no luck"), SystemExit(0), type("Panic", (BaseException,), {})("no")]
)
@pytest.mark.parametrize("first", [True, False])
def test_an_import_hook_that_fails_costs_one_warning(import_hook, monkeypatch, error, first):
    hook = import_hook(error)
    hooks = [hook, *sys.meta_path] if first else [*sys.meta_path, hook]
    monkeypatch.setattr(sys, "meta_path", hooks)
    registry, (message,) = installed()
    assert registry.make("rbf").gamma == 1.0
    assert message.startswith("distributions of the import hook Hook cannot be listed - ")


def test_places_that_are_not_there_do_no_harm(install, tmp_path, monkeypatch):
    install(hooks=RBF)
    monkeypatch.syspath_prepend(tmp_path / "nowhere")
    monkeypatch.setattr(sys, "path", ["", None, b"bytes", "nul\0", *sys.path])
    assert found("acme-attention")


def test_older_metadata_is_read(install, tmp_path):
    install(hooks=RBF)
    (folder,) = tmp_path.glob("acme_attention-*/*.dist-info")
    (folder / "METADATA").rename(folder / "PKG-INFO")
    folder.rename(folder.with_suffix(".egg-info"))
    assert [str(plugin) for plugin in found("acme-attention")] == ["acme (acme-attention 0.3)"]


# --- names that are shared ---


@pytest.mark.parametrize("version", ["0.0.1", ac.__version__])
@pytest.mark.parametrize("name", ["attention-core", "Attention_Core", "attention.core"])
@pytest.mark.parametrize("entry_points", ["", "[attention_core]\nstandard = impostor.hooks\n"])
def test_bundled_names_are_what_this_package_ships(
    install, tmp_path, monkeypatch, name, version, entry_points
):
    install("impostor", entry_points="", hooks=RBF)
    folder = tmp_path / "first" / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "entry_points.txt").write_text(entry_points)
    monkeypatch.syspath_prepend(tmp_path / "first")
    registry, (message,) = installed()
    assert registry.info("dot").version == ac.__version__
    assert names(registry) == SCORERS
    assert message == (
        f"several distributions are named 'attention-core': {ac.__version__} in "
        f"{Path(ac.__file__).parent}, {version} in {folder}; the first of them is used"
    )


def test_of_two_distributions_of_one_name_the_first_on_the_path_counts(install, tmp_path):
    install(version="0.2", hooks=RBF)
    install(version="0.3", hooks=RBF)  # later, so earlier on the path
    registry, (message,) = installed()
    assert registry.info("rbf").version == "0.3"
    assert message == (
        "several distributions are named 'acme-attention': "
        f"0.3 in {tmp_path / 'acme_attention-0.3' / 'acme_attention-0.3.dist-info'}, "
        f"0.2 in {tmp_path / 'acme_attention-0.2' / 'acme_attention-0.2.dist-info'}; "
        "the first of them is used"
    )


def test_a_distribution_that_is_found_twice_is_one(install, tmp_path, monkeypatch):
    install(hooks=RBF)
    (root,) = tmp_path.glob("acme_attention-*")
    (tmp_path / "link").symlink_to(root)
    monkeypatch.syspath_prepend(tmp_path / "link")
    monkeypatch.syspath_prepend(root)
    assert len(found("acme-attention")) == 1
    assert not discover().notices


def test_a_distribution_whose_metadata_is_there_twice_is_one(install, tmp_path):
    """A package installed in place by setuptools: metadata in its sources and in site-packages."""
    install(hooks=RBF)
    (folder,) = tmp_path.glob("acme_attention-*/*.dist-info")
    source = folder.with_suffix(".egg-info")
    source.mkdir()
    (source / "PKG-INFO").write_text((folder / "METADATA").read_text())
    (source / "entry_points.txt").write_text((folder / "entry_points.txt").read_text())
    assert len(found("acme-attention")) == 1
    assert not discover().notices


# --- metadata in any state ---


def test_two_distributions_without_names_stay_two(install):
    install("acme", metadata="", hooks=hooks("name='one', factory='a:b'"))
    install("other-attention", "2", metadata="", hooks=hooks("name='two', factory='a:b'"))
    registry, messages = installed()
    assert [registry.info(name).distribution for name in ("one", "two")] == [
        "acme",
        "other_attention",
    ]
    assert [registry.info(name).version for name in ("one", "two")] == ["0.3", "2"]
    assert len(messages) == 2
    for message, name in zip(sorted(messages), ["acme", "other_attention"], strict=True):
        assert message.startswith("the metadata of ")
        assert message.endswith(f"; the distribution is named {name!r}, after its folder")
    assert registry.info("other-attention/two").name == "two"


@pytest.mark.parametrize("damage", [b"Name: \xff\xfe", b"\x00", b"Name: acme\n", None, "folder"])
def test_metadata_that_cannot_be_read(install, tmp_path, damage):
    install(hooks=RBF)
    (file,) = tmp_path.glob("acme_attention-*/*.dist-info/METADATA")
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage is not None:
        file.write_bytes(damage)
    sys.path.insert(0, str(file.parents[1]))  # repeated, without a new warning
    registry, messages = installed()
    assert len(messages) == 1
    assert registry.info("rbf").qualified_name == "acme_attention/rbf"


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\xfe[attention_core]",
        "[attention_core]\nacmé = acme.hooks".encode("latin-1"),
        b"[attention_core]\nno equals sign\nacme = acme_attention.hooks\n",
    ],
)
def test_entry_points_that_cannot_be_read_cost_one_warning(install, tmp_path, damage):
    install()
    (file,) = tmp_path.glob("acme_attention-*/*.dist-info/entry_points.txt")
    file.write_bytes(damage)
    install("good", hooks=hooks("name='fine', factory='a:b'"))
    registry, (message,) = installed()
    assert message.startswith("plugin not loaded: acme_attention (acme_attention 0.3) - ")
    assert names(registry) == sorted([*SCORERS, "fine"])
    assert [failure.distribution for failure in registry.failures] == ["acme_attention"]
    assert Registry.from_entry_points(block="acme-attention").failures == ()


@pytest.mark.parametrize("text", ["[console_scripts]\nno equals sign\n", "", "\n\n[]\n="])
def test_a_package_with_damaged_entry_points_does_no_harm(install, text):
    install("stranger", entry_points=text)
    install(hooks=RBF)
    assert found("acme-attention")
    assert not found("stranger")
    assert not discover().unreadable


def test_control_characters_of_metadata_are_escaped(install):
    install(
        metadata=f"Metadata-Version: 2.1\nName: acme\x1b[2J{'a' * 60_000}\nVersion: 1\n 2\n",
        entry_points="[attention_core]\n\x1b[31m = acme_attention.hooks\n",
    )
    (plugin,) = [plugin for plugin in discover().plugins if plugin.value == "acme_attention.hooks"]
    assert str(plugin).startswith(r"\x1b[31m (acme\x1b[2Jaaa")
    assert str(plugin).isprintable()
    assert len(str(plugin)) < 300


# --- without metadata ---


def test_bundled_scorers_need_no_installed_metadata(tmp_path):
    """As in a frozen program, or where the package was copied into another."""
    code = f"""if True:
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "plugins")!r}]
        import attention_core as ac
        import attention_core_standard
        import importlib.metadata
        importlib.metadata.MetadataPathFinder.find_distributions = lambda *_: iter(())
        sys.meta_path[:] = [f for f in sys.meta_path if not hasattr(f, "find_distributions")] + [
            type("Only", (), {{"find_spec": importlib.machinery.PathFinder.find_spec}})
        ]
        print(ac.__version__, [str(info.version) for info in ac.scorers()])
        print(ac.attend([[1.0]], [[1.0]], [[2.0]], scorer="dot").context)
        """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{ac.__version__} {[ac.__version__] * 5}\n[[2.]]\n"


@pytest.mark.parametrize("name", ["Acme_Attention", "acme.attention", "ACME--attention"])
def test_names_are_compared_as_packaging_tools_do(name):
    assert canonical(name) == "acme-attention"
