"""The packages under the rules, and their modules."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("llamacpp_server", "langchain_llamacpp_server", "llamaindex_llamacpp_server")
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@cache
def parsed(path):
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes_of(path):
    """All nodes of the syntax tree of a file."""
    return list(ast.walk(parsed(path)))


def name_of(path):
    """The dotted name of a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


# Packages of the core whose door is public; what lies behind a door never is.
DOORS = ("integration", "diagnostics", "local", "testing")


def is_public(path):
    """Whether users may import it."""
    name = name_of(path)
    if path.parent.parent.name == "llamacpp_server":
        return path.name == "__init__.py" and path.parent.name in DOORS
    return not any(part.startswith("_") for part in name.split("."))


def imports_of(path):
    """Names of all modules that a file imports, at run time or for types only, absolute; with their line."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] + "." if node.level else ""
            yield (base + (node.module or "")).rstrip("."), node.lineno


def imported_names(path):
    """Like `imports_of`, with each name that is imported from a module: `package.module.name`."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)
