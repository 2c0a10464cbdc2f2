"""Writes docs/public-api.txt, the public names and signatures: `python -m tests.rules.public_api`.

It is read from the source, so it is the same on every Python. A changed API needs a changed CHANGELOG.md: the file
holds a digest of the changelog that it was written with, and is not written again until that differs.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterator

from tests.rules.packages import FILES, ROOT, is_public, name_of, parsed

PATH = ROOT / "docs" / "public-api.txt"
CHANGELOG = ROOT / "CHANGELOG.md"
MODULES = {name_of(path): path for path in FILES}
Class = tuple[str, ast.ClassDef]
_PLAIN = re.compile(r"\bdefault_value\((\w+|\(\))\)")


def offered(path):
    """The names in `__all__`."""
    for node in parsed(path).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            return ast.literal_eval(node.value)
    return []


def statements(body):
    """The statements of a module, also those for types only, and those of a `try`."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from statements([*node.body, *node.orelse])
        else:
            yield node


def definition(module, name, seen=()):
    """Module and node of what defines a name, through imports; None where it is not of these packages."""
    if module not in MODULES or (module, name) in seen:
        return None
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in statements(parsed(path).body):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    parts = package.split(".")
                    base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
                    origin = ".".join(part for part in (base, node.module) if part)
                    return definition(origin, alias.name, (*seen, (module, name)))
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return module, node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return module, node
    return None


def signature(node):
    """A function as it is called."""
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{kind} {node.name}({ast.unparse(node.args)}){returned}"


def members(module, node, public):
    """Fields, methods and properties of a class, with those of its private bases."""
    found = {}
    for base in reversed(node.bases):
        known = definition(module, ast.unparse(base).partition("[")[0])
        if known is not None and isinstance(known[1], ast.ClassDef) and known not in public:
            found.update(members(known[0], known[1], public))
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            # What `default_value` gives, for type checkers, is what it was given.
            default = "" if part.value is None else " = " + _PLAIN.sub(r"\1", ast.unparse(part.value))
            found[part.target.id] = f"{part.target.id}: {ast.unparse(part.annotation)}{default}"
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = [ast.unparse(one) for one in part.decorator_list]
            if "overload" in decorators or any(one.endswith((".setter", "validator")) for one in decorators):
                continue
            is_property = any(one in ("property", "cached_property", "functools.cached_property") for one in decorators)
            returned = f": {ast.unparse(part.returns)}" if part.returns else ""
            found[part.name] = f"property {part.name}{returned}" if is_property else signature(part)
    return {name: text for name, text in found.items() if not name.startswith("_") or name == "__init__"}


def _is_client_part(module, base):
    """Whether a base only holds some of the clients' methods, which are listed as the client's."""
    known = definition(module, ast.unparse(base))
    return known is not None and known[0].startswith("llamacpp_server._clients.")


def lines() -> Iterator[str]:
    """The public API, a line for each name and member."""
    modules = sorted(name_of(path) for path in FILES if is_public(path))
    found = {(module, name): definition(module, name) for module in modules for name in offered(MODULES[module])}
    public = [known for known in found.values() if known is not None]
    shown: set[int] = set()
    # A name is described once: where it is defined, or else where it is offered first.
    for (module, name), known in sorted(found.items(), key=lambda item: (item[0][0].count("."), item[0])):
        label = f"{module}.{name}"
        if known is None:
            yield label
            continue
        origin, node = known
        if id(node) in shown:
            continue
        shown.add(id(node))
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(ast.unparse(base) for base in node.bases if not _is_client_part(origin, base))
            yield f"class {label}({bases})"
            yield from (f"    {text}" for text in members(origin, node, public).values())
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{module}: {signature(node)}"
        else:
            yield f"{label} = {ast.unparse(node.value) if node.value else ''}"
    yield from sorted(f"{module}.{name}" for module, name in found)


def digest(text: str) -> str:
    """What tells one changelog from another."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def written(before: str, changelog: str, api: list[str]) -> str:
    """The file's new text.

    Raises:
        SystemExit: When the API has changed since, and the changelog has not.
    """
    head, _, rest = before.partition("\n")
    body = "\n".join([*api, ""])
    if rest == body:
        return before
    if head.rpartition(" ")[2] == digest(changelog):
        raise SystemExit("the public API has changed: say so in CHANGELOG.md first")
    return (
        f"# Public names and signatures, by `python -m tests.rules.public_api`; changelog {digest(changelog)}\n{body}"
    )


if __name__ == "__main__":
    old = PATH.read_text(encoding="utf-8") if PATH.exists() else ""
    PATH.write_text(written(old, CHANGELOG.read_text(encoding="utf-8"), list(lines())), encoding="utf-8")
    sys.exit()
