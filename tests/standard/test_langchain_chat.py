"""LangChain's standard integration tests: for each way to structured output, and with thinking on."""

from tests.standard.langchain_chat import Standard


class TestJsonSchema(Standard):
    pass


class TestFunctionCalling(Standard):
    method = "function_calling"


class TestJsonMode(Standard):
    method = "json_mode"


class TestThinking(Standard):
    thinking = True


del Standard
