"""Questions and the passages that answer them, with others that look alike."""

from dataclasses import dataclass

from chat_context import fact, facts, general_fact
from chat_words import Words


@dataclass
class Example:
    """A question, the passage that answers it, and passages that do not."""

    question: str
    answer: str
    others: list[str]


def _passage(words: Words, sentence: str) -> str:
    """The sentence, sometimes among others."""
    rng = words.rng
    sentences = [sentence, *(words.sentence() for _ in range(rng.choices([0, 1, 2], [5, 3, 2])[0]))]
    rng.shuffle(sentences)
    return " ".join(sentences)


def _similar(words: Words, question: str) -> str:
    """A sentence that shares words with the question but answers another one."""
    rng = words.rng
    asked = [word.strip("?.,").lower() for word in question.split() if len(word) > 3]
    for _ in range(20):
        sentence, questions = fact(words) if rng.random() < 0.8 else general_fact(words)
        shared = set(asked) & {word.strip("?.,").lower() for word in f"{sentence} {questions[0]}".split()}
        if shared and question not in questions:
            return sentence
    return words.sentence()


def example(words: Words, others: int) -> Example:
    """One question with its answer and `others` wrong passages, about half of them alike."""
    rng = words.rng
    ((sentence, questions),) = facts(words, 1)
    question = rng.choice(questions)
    if rng.random() < 0.15:
        # A statement looks for itself in other words: drop some, change the order.
        kept = [word for word in sentence.rstrip(".").split() if rng.random() < 0.7] or [sentence]
        question = " ".join(kept)
    wrong = [_similar(words, question) if rng.random() < 0.5 else words.sentence() for _ in range(others)]
    return Example(question, _passage(words, sentence), [_passage(words, text) for text in wrong])
