"""Names are of standard words: what is told of whom, and what is alike or whole in what way, only its author knows."""

import ast
import re

from tests.rules.packages import FILES, ROOT, TEST_FILES, parsed

PRIVATE_WORDS = re.compile(r"(?:^|_)(?:un)?(?:told|tells?|telling|alike|whole)(?:_|\d|$)")
RIDDLES = re.compile(
    r"_(?:anew|demanded|guilty|blamed|wedges?|hears?|heard|is_no(?!_more|_longer)|are_no|had_come|all_the_same)(?=_|$)"
)
"""Words of a test's name that hide what it holds: is not a, again, required, still, receives."""
OTHERS = [path for folder in ("benchmarks", "examples", "scripts", "models") for path in (ROOT / folder).rglob("*.py")]


def names_in(tree):
    """Names that a file gives, to functions, classes, arguments, variables and attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def private_words(names):
    """The names of which a word is one of ours alone."""
    words = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in names}
    return sorted(name for name, split in words.items() if PRIVATE_WORDS.search(split))


def test_the_rule_finds_such_words():
    tree = ast.parse("class WholeDecoder:\n    def _tell(self, alike): self.untold = told = 1\ndef teller(): pass")
    assert private_words(names_in(tree)) == ["WholeDecoder", "_tell", "alike", "told", "untold"]


def test_names_are_of_standard_words():
    files = [*FILES, *TEST_FILES, *OTHERS]
    found = {str(path.relative_to(ROOT)): private_words([path.stem, *names_in(parsed(path))]) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


def test_names_of_tests_say_plainly_what_holds():
    named = {str(path.relative_to(ROOT)): set(names_in(parsed(path))) for path in TEST_FILES}
    found = {
        path: sorted(n for n in names if n.startswith("test_") and RIDDLES.search(n)) for path, names in named.items()
    }
    assert {path: names for path, names in found.items() if names} == {}
    assert RIDDLES.search("test_a_failed_call_is_no_turn")
    assert RIDDLES.search("test_callbacks_hear_it")
    assert not RIDDLES.search("test_a_failed_call_is_not_a_turn")
