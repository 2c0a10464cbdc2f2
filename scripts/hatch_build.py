"""Metadata created at build time: a README whose links work outside the repository, and the project's URLs.

The repository's address is not stored here, because forks and mirrors have others. A release sets `REPOSITORY_URL`;
without it, links into the repository become plain text in the package's description.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE_LINK = re.compile(r"(!?)\[([^\]]+)\]\((?![a-z]+:|#)([^)]+)\)")
URLS = {
    "Homepage": "",
    "Documentation": "/blob/{tag}/docs/index.md",
    "Source": "/tree/{tag}",
    "Changelog": "/blob/{tag}/CHANGELOG.md",
    "Issues": "/issues",
}


def description(readme: str, repository: str, tag: str) -> str:
    """Return the README with absolute links, or without relative links and pictures if no repository is known."""

    def link(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        if not repository:
            return "" if picture else text
        return f"{picture}[{text}]({repository}/{'raw' if picture else 'blob'}/{tag}/{target})"

    return RELATIVE_LINK.sub(link, readme)


def urls(repository: str, tag: str) -> dict[str, str]:
    """Return the project's URLs; none if no repository is known."""
    return {name: repository + path.format(tag=tag) for name, path in URLS.items()} if repository else {}


class Hook(MetadataHookInterface):
    """Sets `readme` and `urls`, which pyproject.toml declares as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set both fields."""
        repository = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        tag = f"v{metadata['version']}"
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": description(text, repository, tag)}
        metadata["urls"] = urls(repository, tag)
