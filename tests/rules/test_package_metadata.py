"""The description and the URLs of the built package lead somewhere outside the repository, too."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from scripts import badges

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://host.example/owner/llamacpp-server"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The build's hook; hatchling itself is installed for builds only, so a class stands in for its base."""
    interface = SimpleNamespace(MetadataHookInterface=type("MetadataHookInterface", (), {"root": str(ROOT)}))
    monkeypatch.setitem(sys.modules, "hatchling.metadata.plugin.interface", interface)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "scripts" / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def relative(text: str) -> list[str]:
    return re.findall(r"\]\((?!https?:|#)[^)]*\)", text)


@pytest.mark.parametrize("repository", [REPOSITORY, REPOSITORY + "/", ""])
def test_no_link_of_the_description_is_relative(
    hook: ModuleType, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPOSITORY_URL", repository)
    metadata = {"version": "1.2.3"}
    hook.Hook().update(metadata)
    text = metadata["readme"]["text"]  # type: ignore[index]
    assert relative((ROOT / "README.md").read_text(encoding="utf-8"))
    assert relative(text) == []
    assert (f"({REPOSITORY}/blob/v1.2.3/docs/langchain.md)" in text) == bool(repository)


def test_the_urls_are_those_of_the_repository(hook: ModuleType) -> None:
    found = hook.urls(REPOSITORY, "v1.2.3")
    assert found["Changelog"] == f"{REPOSITORY}/blob/v1.2.3/CHANGELOG.md"
    assert set(found) == {"Homepage", "Documentation", "Source", "Changelog", "Issues"}
    for url in found.values():
        path = url.removeprefix(REPOSITORY).partition("/v1.2.3/")[2]
        assert (ROOT / path).exists()


def test_no_url_is_invented(hook: ModuleType) -> None:
    assert hook.urls("", "v1.2.3") == {}


def test_pictures_are_linked_as_files(hook: ModuleType) -> None:
    text = "![demo](docs/demo.svg) and [this](docs/index.md#top), [that](https://a.example), [here](#here)"
    assert hook.description(text, REPOSITORY, "v1") == (
        f"![demo]({REPOSITORY}/raw/v1/docs/demo.svg) and [this]({REPOSITORY}/blob/v1/docs/index.md#top), "
        "[that](https://a.example), [here](#here)"
    )
    assert hook.description(text, "", "v1") == " and this, [that](https://a.example), [here](#here)"


def test_the_badges_show_what_the_project_says() -> None:
    drawn = badges.badges()
    assert {path: path.read_text(encoding="utf-8") for path in drawn} == drawn, "python -m scripts.badges"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"docs/assets/{path.name}" in readme for path in drawn)
