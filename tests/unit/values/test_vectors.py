"""What is checked, cut, scaled and put in front, without a socket."""

import asyncio
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_server.errors import BadRequestError, BadVectorError, ServerFaultError
from llamacpp_server.prefixes import PREFIXES, family_of
from llamacpp_server.transport import (
    Sleep,
    Together,
    arun_all,
    run_all,
)
from llamacpp_server.vectors import ScoreScale, batches, check_vectors, image_input, media_input, shorten, sigmoid
from tests.waiting import LONG

pytestmark = pytest.mark.usefixtures("fresh_notices")


class TestCheckVectors:
    @pytest.mark.parametrize(
        ("bad", "words"),
        [
            ([0.6, math.nan], "contains nan"),
            ([math.inf, 0.8], "contains inf"),
            ([-math.inf, math.inf], "contains -inf"),
            ([None, 0.8], "contains null"),
            ([0.0, -0.0], "is all zeros"),
            ([1.0], "has 1 numbers instead of 2"),
            ([], "is empty"),
        ],
    )
    def test_bad_vector_is_refused_by_its_index(self, bad, words):
        with pytest.raises(BadVectorError, match=f"text 12 {words}") as caught:
            check_vectors([[0.6, 0.8], [1.0, 0.0], bad, [0.6, 0.8]], first=10)
        assert caught.value.index == 12

    def test_good_vectors_pass_unchanged(self):
        vectors = [[0.6, 0.8], [-1.0, 0.0]]
        check_vectors(vectors, normalize=True)
        assert vectors == [[0.6, 0.8], [-1.0, 0.0]]

    def test_other_length_is_made_one_only_when_asked(self):
        vectors = [[3.0, 4.0], [1e-30, 0.0]]
        check_vectors(vectors)
        assert vectors == [[3.0, 4.0], [1e-30, 0.0]]
        check_vectors(vectors, normalize=True)
        assert vectors == [[0.6, 0.8], [1.0, 0.0]]

    def test_first_vector_of_a_batch_may_be_the_odd_one(self):
        with pytest.raises(BadVectorError, match="text 3 has 2 numbers instead of 3"):
            check_vectors([[0.6, 0.8]], 3, 3)

    @given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
    def test_no_finite_vector_but_zero_is_refused(self, vector):
        if any(vector):
            check_vectors([vector])
        else:
            with pytest.raises(BadVectorError):
                check_vectors([vector])


class TestShorten:
    def test_keeps_the_beginning_at_length_one(self):
        assert shorten([[0.3, 0.4, 0.5]], 2, normalize=True) == [pytest.approx([0.6, 0.8])]

    def test_keeps_raw_numbers_when_not_normalized(self):
        assert shorten([[0.3, 0.4, 0.5]], 2, normalize=False) == [[0.3, 0.4]]

    @pytest.mark.parametrize("dimensions", [None, 3])
    def test_full_vectors_are_not_copied(self, dimensions):
        vectors = [[0.3, 0.4, 0.5]]
        assert shorten(vectors, dimensions, normalize=True) is vectors

    @pytest.mark.parametrize("dimensions", [4, 0, -1])
    def test_more_than_there_is_is_refused(self, dimensions):
        with pytest.raises(BadRequestError, match="vectors have 3"):
            shorten([[0.3, 0.4, 0.5]], dimensions, normalize=True)

    def test_a_head_of_zeros_stays(self):
        assert shorten([[0.0, 0.0, 1.0]], 2, normalize=True) == [[0.0, 0.0]]


class TestBatches:
    @given(st.lists(st.text(max_size=3)), st.integers(1, 7))
    def test_parts_add_up_and_know_their_place(self, texts, size):
        parts = list(batches(texts, size))
        assert [text for _, part in parts for text in part] == texts
        for first, part in parts:
            assert 0 < len(part) <= size
            assert texts[first] == part[0]

    def test_long_texts_make_a_part_of_their_own(self):
        long = "x" * 150_000
        assert [len(part) for _, part in batches(["a", long, long, "b"], 64)] == [2, 2]

    def test_size_below_one_is_refused(self):
        with pytest.raises(BadRequestError):
            list(batches(["a"], 0))


class TestScoreScale:
    def test_probabilities_stay(self):
        assert ScoreScale().apply([0.0, 0.2, 1.0], "auto", "m") == [0.0, 0.2, 1.0]

    def test_logits_become_probabilities_and_are_remembered_by_model(self):
        scale = ScoreScale()
        assert scale.apply([-3.0, 0.0, 5.0], "auto", "m") == pytest.approx([0.0474, 0.5, 0.9933], abs=1e-4)
        assert scale.apply([0.5], "auto", "m") == [sigmoid(0.5)]
        assert scale.apply([0.5], "auto", "other") == [0.5]

    def test_none_and_sigmoid_do_not_look(self):
        scale = ScoreScale()
        assert scale.apply([-3.0, 9.0], "none", "m") == [-3.0, 9.0]
        assert scale.apply([0.5], "sigmoid", "m") == [sigmoid(0.5)]
        assert scale.apply([0.5], "auto", "m") == [0.5]

    def test_scores_next_to_zero_are_pointed_out(self, caplog):
        assert ScoreScale().apply([1e-20, -3e-22], "auto", "m") == [1e-20, -3e-22]
        assert "no rank head" in caplog.text

    @pytest.mark.parametrize("scores", [[1e-9, 1e-12], [0.0, 0.9], []])
    def test_small_probabilities_are_not_reported(self, scores, caplog):
        ScoreScale().apply(scores, "auto", "m")
        assert not caplog.records

    @given(st.floats(allow_nan=False))
    def test_sigmoid_never_overflows(self, score):
        assert 0 <= sigmoid(score) <= 1


class TestPrefixes:
    @pytest.mark.parametrize(
        ("model", "family"),
        [
            ("nomic-embed-text-v1.5.Q8_0.gguf", "nomic"),
            ("/models/nomic-embed-text-v2-moe.gguf", "nomic"),
            ("multilingual-e5-large-q8_0.gguf", "e5"),
            ("intfloat/e5-base-v2", "e5"),
            ("multilingual-e5-large-instruct", "e5-instruct"),
            ("bge-small-en-v1.5", "bge"),
            ("bge-m3-Q8_0.gguf", None),
            ("mxbai-embed-large-v1-f16.gguf", "mxbai"),
            ("embeddinggemma-300M-Q8_0.gguf", "embeddinggemma"),
            ("embedding-gemma-300m", "embeddinggemma"),
            ("Qwen3-Embedding-0.6B-Q8_0.gguf", "qwen3"),
            ("Qwen3-0.6B", None),
            ("snowflake-arctic-embed-m-v1.5", "snowflake-arctic"),
            ("snowflake-arctic-embed-l-v2.0", "snowflake-arctic-v2"),
            ("all-MiniLM-L6-v2", None),
            ("", None),
        ],
    )
    def test_family_of_a_model(self, model, family):
        assert family_of(model) == family

    def test_texts_are_the_model_cards(self):
        assert PREFIXES["qwen3"].query.endswith("answer the query\nQuery:")
        assert PREFIXES["nomic"] == ("search_query: ", "search_document: ")
        assert PREFIXES["e5"] == ("query: ", "passage: ")
        assert PREFIXES["bge"].query == PREFIXES["mxbai"].query
        assert PREFIXES["none"] == ("", "")


class TestMedia:
    def test_a_text_is_put_behind_an_image(self):
        assert media_input([{"type": "image_url"}])["content"] == [
            {"type": "image_url"},
            {"type": "text", "text": "\n"},
        ]

    def test_a_text_at_the_end_stays_the_last(self):
        parts = [{"type": "image_url"}, {"type": "text", "text": "a cat"}]
        assert media_input(parts)["content"] == parts

    def test_image_of_bytes_file_and_address(self, tmp_path):
        path = tmp_path / "dot.png"
        path.write_bytes(b"\x89PNG")
        urls = [
            image_input(image)["content"][0]["image_url"]["url"]
            for image in (
                b"\x89PNG",
                path,
                str(path),
                f"file://{path}",
                "https://host/a.png",
                "data:image/png;base64,A",
            )
        ]
        assert urls == ["data:image/png;base64,iVBORw=="] * 4 + ["https://host/a.png", "data:image/png;base64,A"]

    def test_image_with_words(self):
        assert image_input(b"", "a cat")["content"][1] == {"type": "text", "text": "a cat"}


def fails(error):
    raise error
    yield


def gives(value):
    return value
    yield


class TestTogether:
    """Both ways to run programs at once, on programs that were made up."""

    @staticmethod
    def run(program, scope=None):
        try:
            while True:
                program.send(None)
        except StopIteration as stop:
            return stop.value

    def test_results_are_in_order(self):
        async def arun(program):
            return self.run(program)

        assert run_all(self.run, Together([gives(i) for i in range(9)], 4), lambda scope: None) == list(range(9))
        assert asyncio.run(arun_all(arun, Together([gives(i) for i in range(9)], 4))) == list(range(9))

    def test_an_error_takes_its_place_and_stops_the_rest(self):
        error = ServerFaultError("no")

        def programs():
            return [gives(0), fails(error), gives(2), gives(3)]

        async def arun(program):
            return self.run(program)

        assert run_all(self.run, Together(programs(), 1), lambda scope: None) == [0, error, None, None]
        assert asyncio.run(arun_all(arun, Together(programs(), 1))) == [0, error, None, None]

    def test_other_errors_are_raised(self):
        with pytest.raises(ZeroDivisionError):
            run_all(self.run, Together([fails(ZeroDivisionError()), gives(1)], 2), lambda scope: None)

    def test_no_more_run_at_once_than_allowed(self):
        lock, now, most, together = threading.Lock(), 0, 0, threading.Barrier(3)

        def program():
            yield Sleep(0.02)

        def run(program, scope):
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            together.wait(LONG)
            with lock:
                now -= 1

        run_all(run, Together([program() for _ in range(12)], 3), lambda scope: None)
        assert most == 3

    async def test_cancelling_cancels_all(self):
        began, ended = asyncio.Semaphore(0), []

        async def arun(program):
            began.release()
            try:
                await asyncio.sleep(30)
            finally:
                ended.append(program)

        task = asyncio.create_task(arun_all(arun, Together([gives(1), gives(2), gives(3)], 2)))
        for _ in range(2):
            await began.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(ended) == 2
