"""Names are of standard words: what is told of whom, and what is alike or whole in what way, only its author knows."""

import ast
import re
from functools import cache

from tests.rules.packages import FILES, ROOT, TEST_FILES, nodes_of

PRIVATE_WORDS = re.compile(r"(?:^|_)(?:un)?(?:told|tells?|telling|alike|whole)(?:_|\d|$)")
RIDDLES = re.compile(
    r"_(?:anew|demanded|guilty|blamed|wedges?|hears?|heard|is_no(?!_more|_longer)|are_no|had_come|all_the_same)(?=_|$)"
)
"""Words of a test's name that hide what it holds: is not a, again, required, still, receives."""
OTHERS = [path for folder in ("benchmarks", "examples", "scripts", "models") for path in (ROOT / folder).rglob("*.py")]

# Where a node has its name; a million of them are looked at.
NAMES = {
    **dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef), "name"),
    ast.arg: "arg",
    ast.Name: "id",
    ast.Attribute: "attr",
}


def names_in(nodes):
    """Names that a file gives, to functions, classes, arguments, variables and attributes."""
    for node in nodes:
        if (name := NAMES.get(type(node))) and (name not in ("id", "attr") or isinstance(node.ctx, ast.Store)):
            yield getattr(node, name)


@cache
def names_of(path):
    """The same of a file, each once."""
    return frozenset(names_in(nodes_of(path)))


def private_words(names):
    """The names of which a word is one of ours alone."""
    words = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in names}
    return sorted(name for name, split in words.items() if PRIVATE_WORDS.search(split))


def test_the_rule_finds_such_words():
    tree = ast.parse("class WholeDecoder:\n    def _tell(self, alike): self.untold = told = 1\ndef teller(): pass")
    assert private_words(names_in(ast.walk(tree))) == ["WholeDecoder", "_tell", "alike", "told", "untold"]


def test_names_are_of_standard_words():
    files = [*FILES, *TEST_FILES, *OTHERS]
    found = {str(path.relative_to(ROOT)): private_words([path.stem, *names_of(path)]) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


def test_names_of_tests_say_plainly_what_holds():
    named = {str(path.relative_to(ROOT)): names_of(path) for path in TEST_FILES}
    found = {
        path: sorted(n for n in names if n.startswith("test_") and RIDDLES.search(n)) for path, names in named.items()
    }
    assert {path: names for path, names in found.items() if names} == {}
    assert RIDDLES.search("test_a_failed_call_is_no_turn")
    assert RIDDLES.search("test_callbacks_hear_it")
    assert not RIDDLES.search("test_a_failed_call_is_not_a_turn")
