"""Arguments of OpenAIEmbeddings become ours; a misspelt one is an error."""

import pytest

from langchain_llamacpp_server import LlamaServerEmbeddings


class TestMeaning:
    def test_names_of_the_peer(self) -> None:
        made = LlamaServerEmbeddings(
            openai_api_base="http://host/v1", openai_api_key="k", chunk_size=7, model_kwargs={"a": 1}, request_timeout=9
        )
        assert (made.base_url, made.batch_size, made.extra_body) == ("http://host/v1", 7, {"a": 1})
        assert made.api_key is not None and made.api_key.get_secret_value() == "k"
        assert (made.connect_timeout, made.read_timeout) == (5.0, 9.0)

    @pytest.mark.parametrize(("wrong", "right"), [("demensions", "dimensions"), ("preset_", "preset")])
    def test_misspelt_argument_is_an_error(self, wrong: str, right: str) -> None:
        with pytest.raises(ValueError, match=f"did you mean '{right}'"):
            LlamaServerEmbeddings(**{wrong: 1})

    def test_unknown_preset_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="nomic"):
            LlamaServerEmbeddings(preset="gpt")
