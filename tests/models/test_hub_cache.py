"""The hub's cache: what is in it, what is fetched into it, what is removed from it. Over real HTTP, from a hub here."""

import shutil

import pytest
from hub_server import COMMIT, REPOSITORY, Hub, redirect

from ipcv.errors import ModelError
from ipcv.models.catalog import list_models
from ipcv.models.checkpoints import DEMO_CHECKPOINT, KNOWN
from ipcv.models.download import plan
from ipcv.models.hub import find_cached, find_folder
from ipcv.models.hub_cache import cached_models, cached_names, plan_removal

OTHER = "ffffffffffffffffffffffffffffffffffffffff"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with a copy of the demo model, to be changed."""
    with Hub(shutil.copytree(find_folder("demo"), tmp_path / "repository")) as hub:
        redirect(monkeypatch, hub.address)
        yield hub


def pull(revision=None):
    """Fetch the repository."""
    return plan(REPOSITORY, revision=revision).fetch()


def size(hub):
    return sum(file.stat().st_size for file in hub.folder.iterdir() if file.name != "README.md")


def renamed(cache, name):
    """The repository once more, under another name, with the same commits."""
    return shutil.copytree(cache / "models--owner--model", cache / f"models--{name.replace('/', '--')}", symlinks=True)


# ------------------------------------------------------------------------------------------------------ fetching


def test_what_is_fetched_is_what_is_loaded_and_its_size_is_known_before(hub):
    download = plan(REPOSITORY)
    assert download.size == download.missing == size(hub)
    assert cached_names() == []
    folder = download.fetch()
    assert {file.name for file in folder.iterdir()} == {file.name for file in hub.folder.iterdir()} - {"README.md"}
    assert find_cached(REPOSITORY) == find_folder(REPOSITORY, offline=True) == folder
    again = plan(REPOSITORY)
    assert (again.size, again.missing) == (size(hub), 0)


def test_a_branch_that_has_moved_on_is_fetched_anew_but_for_what_is_the_same(hub):
    old = pull()
    hub.commit = OTHER
    config = hub.folder / "config.json"
    config.write_text(config.read_text() + "\n")
    assert find_folder(REPOSITORY) == old
    assert plan(REPOSITORY).missing == config.stat().st_size
    hub.sent.clear()
    assert pull().name == OTHER
    assert {*filter(None, hub.sent)} == {"config.json"}
    assert find_cached(REPOSITORY).name == OTHER
    assert find_cached(REPOSITORY, revision=COMMIT) == old


def test_an_update_that_breaks_off_leaves_what_was_there_in_use(hub):
    old = pull()
    hub.commit = OTHER
    weights = hub.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"more")
    hub.lost = ("model.safetensors",)
    download = plan(REPOSITORY)
    assert find_cached(REPOSITORY) == old
    with pytest.raises(ModelError, match=r"cannot fetch .*500 .*: try again later"):
        download.fetch()
    assert find_cached(REPOSITORY) == old
    hub.lost = ()
    assert download.fetch() == find_cached(REPOSITORY) != old


def test_fetching_goes_on_where_it_broke_off(hub):
    hub.lost = ("model.safetensors",)
    with pytest.raises(ModelError, match=rf"cannot fetch '{REPOSITORY}': .*500 .*: try again later") as caught:
        pull()
    assert "\n" not in str(caught.value)
    assert plan(REPOSITORY).missing == (hub.folder / "model.safetensors").stat().st_size
    hub.lost = ()
    hub.sent.clear()
    pull()
    assert hub.sent.count("model.safetensors") == 1
    assert "tokenizer.json" not in hub.sent
    assert plan(REPOSITORY).missing == 0


def test_a_gated_repository_says_what_to_do_and_nothing_is_fetched(hub):
    hub.gated = True
    with pytest.raises(
        ModelError, match=r"authors ask for consent first: accept on its hub page, then `hf auth login`"
    ):
        plan(REPOSITORY)
    assert cached_names() == []


@pytest.mark.parametrize(
    ("name", "revision", "why"),
    [
        ("owner/other", None, "cannot fetch 'owner/other': there is no such repository, or it is private"),
        (REPOSITORY, "v9", f"cannot fetch '{REPOSITORY}': the repository has no revision 'v9'"),
        ("owner/a--b", None, r"Cannot have -- or \.\. in repo_id"),
    ],
)
def test_what_the_hub_does_not_have_is_said(name, revision, why, hub):
    with pytest.raises(ModelError, match=why) as caught:
        plan(name, revision=revision)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            '{"model_type": "llama"}',
            r"of the family 'llama', which is not supported; supported: .*internvl, .*qwen2_vl",
        ),
        ("{}", "has no config.json that names its family"),
        (None, "has no config.json that names its family"),
    ],
)
def test_a_model_that_could_not_be_asked_is_not_fetched(config, says, hub):
    (hub.folder / "config.json").unlink() if config is None else (hub.folder / "config.json").write_text(config)
    with pytest.raises(ModelError, match=says):
        plan(REPOSITORY)
    assert cached_names() == []


def test_a_repository_without_safetensors_is_not_fetched(hub):
    (hub.folder / "model.safetensors").rename(hub.folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"has no weights as \.safetensors"):
        plan(REPOSITORY)


def test_a_model_that_there_is_no_room_for_is_not_fetched(hub):
    hub.sizes = {"model.safetensors": 10**15}
    with pytest.raises(
        ModelError, match=r"takes 1,000,000\.\d\d GB and .* GB are free in .*cache: make room .*HF_HOME"
    ):
        plan(REPOSITORY)


def test_an_environment_that_forbids_fetching_is_named(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE in the environment forbids fetching it: unset it"):
        plan(REPOSITORY)
    assert hub.asked == []


# ------------------------------------------------------------------------------------------------------- finding


def test_a_model_that_is_not_here_or_not_whole_has_no_folder(hub):
    with pytest.raises(ModelError, match=f"is not in the cache: `ipcv models pull {REPOSITORY} --revision v1` fetch"):
        find_cached(REPOSITORY, revision="v1")
    (pull() / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"in part only \(no model.safetensors\): `ipcv models pull owner/model` f"):
        find_cached(REPOSITORY)


def test_the_bundled_model_and_folders_have_theirs(tmp_path):
    assert find_cached("demo") == find_folder("demo")
    assert find_cached(str(tmp_path)) == tmp_path


# ------------------------------------------------------------------------------------------------------- listing


def test_the_list_names_every_published_model_with_its_numbers():
    listing = list_models()
    assert [model.name for model in listing.models] == [
        "demo", *(each.name for known in KNOWN.values() for each in known.checkpoints)
    ]  # fmt: skip
    assert [family.family for family in listing.families] == list(KNOWN)
    demo, qwen = listing.models[:2]
    assert (demo.bundled, demo.parameters, demo.tested_with) == (True, DEMO_CHECKPOINT.parameters, "trained weights")
    assert (qwen.parameters, qwen.bytes_16bit, qwen.bytes_4bit) == (2_208_985_600, 4_417_971_200, 2_473_469_312)
    assert not any(model.cached for model in listing.models)
    assert (listing.others, listing.others_size) == (0, 0)


def test_a_model_in_the_cache_is_in_the_list_under_its_family(hub, cache):
    folder = pull()
    published = renamed(cache, "Qwen/Qwen2-VL-7B-Instruct")
    models = {model.name: model for model in list_models().models}
    assert [*models][1:5] == [*(each.name for each in KNOWN["qwen2_vl"].checkpoints), REPOSITORY]
    found = models[REPOSITORY]
    assert (found.family, found.parameters, found.cached.path) == ("qwen2_vl", None, str(folder))
    assert (found.cached.lacks, found.cached.revisions) == (None, ("main",))
    assert 0 <= found.cached.size - size(hub) < 3000  # and the hub library's notes
    both = models["Qwen/Qwen2-VL-7B-Instruct"]
    assert (both.parameters, both.cached.path) == (8_291_375_616, str(published / "snapshots" / COMMIT))


def test_a_copy_that_is_not_whole_says_what_it_lacks(hub):
    (pull() / "model.safetensors").unlink()
    (model,) = cached_models()
    assert (model.path, model.lacks, model.revisions) == (None, "no model.safetensors", ())


def test_a_revision_that_is_whole_is_named_though_main_is_not_there(hub):
    pull(COMMIT)
    (model,) = cached_models()
    assert (model.path, model.lacks, model.revisions) == (None, "only other revisions are there", (COMMIT,))


def test_what_cannot_be_asked_is_counted_and_not_listed(hub, cache):
    bert = pull() / "config.json"
    bert.unlink()
    bert.write_text('{"model_type": "bert"}')
    renamed(cache, "a/b/c")
    (cache / "models--broken").mkdir()
    (cache / "datasets--owner--model" / "snapshots").mkdir(parents=True)
    listing = list_models()
    assert (listing.others, [model.name for model in listing.models if model.cached]) == (2, [])
    assert listing.others_size >= size(hub) - 3000


# ------------------------------------------------------------------------------------------------------ removing


def test_a_model_is_removed_with_all_of_its_revisions_and_nothing_else(hub, cache):
    pull()
    hub.commit = OTHER
    pull()
    others = [renamed(cache, f"owner/renamed-{number}") for number in range(4)]
    before = {path: path.read_bytes() for other in others for path in other.rglob("*") if path.is_file()}
    (removal,) = plan_removal([REPOSITORY, REPOSITORY])
    assert 0 <= removal.size - size(hub) < 3000
    removal.execute()
    assert cached_names() == [f"owner/renamed-{number}" for number in range(4)]
    assert {path: path.read_bytes() for path in before} == before


def test_what_an_interruption_leaves_is_in_the_list_and_can_be_removed(hub, cache):
    hub.lost = ("model.safetensors",)
    with pytest.raises(ModelError, match="try again later"):
        pull()
    (cache / "models--owner--model" / "blobs" / "a.1.incomplete").write_bytes(bytes(10))
    (model,) = cached_models()
    (removal,) = plan_removal([REPOSITORY])
    assert (model.path, model.lacks) == (None, "no model.safetensors")
    assert model.size == removal.size > 10
    removal.execute()
    assert cached_names() == []
    assert not [path for path in cache.glob("models--*/**/*") if path.is_file()]


def test_what_stays_though_it_was_to_be_removed_is_an_error(hub, cache, monkeypatch):
    pull()
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    (removal,) = plan_removal([REPOSITORY])
    with pytest.raises(ModelError, match=r"not all of 'owner/model' can be removed from .*models--owner--model"):
        removal.execute()


def test_files_outside_of_the_cache_stay(hub, tmp_path):
    weights = pull() / "model.safetensors"
    (tmp_path / "mine").write_text("mine")
    weights.unlink()
    weights.symlink_to(tmp_path / "mine")
    (removal,) = plan_removal([REPOSITORY])
    removal.execute()
    assert cached_names() == []
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_model_that_is_not_there_is_an_error_that_names_those_that_are(hub, cache):
    with pytest.raises(ModelError, match=r"'owner/model' is not in the cache .*cache; it holds no models"):
        plan_removal([REPOSITORY])
    pull()
    renamed(cache, "owner/renamed")
    with pytest.raises(ModelError, match=r"'owner/modle' is not in the cache .*; there are owner/model, owner/renamed"):
        plan_removal([REPOSITORY, "owner/modle"])
    assert len(cached_names()) == 2


@pytest.mark.parametrize("name", ["../../etc", "..", "/etc", ""])
def test_a_name_that_leads_elsewhere_is_not_in_the_cache(name, hub):
    pull()
    with pytest.raises(ModelError, match="is not in the cache"):
        plan_removal([name])


def test_the_bundled_model_cannot_be_removed():
    with pytest.raises(ValueError, match="'demo' is part of ipcv and cannot be removed"):
        plan_removal(["demo"])
