"""Each "yes" of ours in the comparison of LangChain's classes was seen: by which test is written down here."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Rows whose first column begins so -> a file of tests and the beginning of a test's name in it.
SEEN = {
    "works with llama-server": "langchain/test_chat.py an_answer_is_the_same_in_all_ways",
    "without a key": "langchain/test_chat.py only_what_was_given_is_sent",
    "sends a key": "server/test_client_keys.py the_right_key_opens",
    "address with and": "unit/test_settings.py base_url_is_reduced_to_the_servers_root",
    "a misspelt argument": "langchain/test_chat_arguments.py a_misspelt_argument_is_an_error",
    "waits while the model loads": "wire/test_waiting.py a_loading_server_is_waited_for_by_every_request",
    "other servers": "server/test_origins.py",
    "starts and stops": "server/test_local.py a_server_is_ready_when_the_block_begins",
    "routers": "server/test_router.py loading_and_unloading_are_told",
    "thinking captured": "langchain/test_chat.py an_answer_is_the_same_in_all_ways",
    "thinking sent back": "langchain/test_chat.py thinking_is_sent_back",
    "one switch for thinking": "langchain/test_thinking.py the_clock_ends_the_thinking_in_every_form",
    "images, in every": "langchain/test_chat_media.py all_ways_to_ask_see_the_same",
    "sound": "server/test_media.py the_model_sees_and_hears_what_is_sent",
    "video": "server/test_media.py video_is_left_to_the_server",
    "text files": "server/test_media.py a_text_file_is_sent_as_text",
    "images in tool messages": "langchain/test_chat_media.py an_image_in_a_result_is_seen",
    "what the model can't see": "langchain/test_chat_messages.py a_medium_that_the_server_lacks_is_refused",
    "an answer that is begun": "langchain/test_chat.py an_answer_is_continued",
    "histories": "server/test_templates.py",
    "`chunk_position": "langchain/test_chat.py every_chunk_is_tagged_and_only_the_last_is_last",
    "v1 content": "langchain/test_chat_blocks.py all_calls_survive_streaming_as_blocks",
    "v3 events": "langchain/test_chat_blocks.py events_tell_thinking_text_and_calls",
    "an error in a stream": "wire/test_streams.py an_error_in_the_middle_is_typed",
    "a stream that was cut off": "wire/test_streams.py a_stream_that_is_cut_off_is_an_error",
    "progress": "langchain/test_progress.py callbacks_hear_it",
    "log probabilities": "langchain/test_chat.py streamed_log_probabilities_add_up",
    "timings of each": "langchain/test_chat.py probabilities_timings_and_progress_where_asked_for",
    "any, none": "langchain/test_chat_forced.py a_demanded_call_comes_in_every_form",
    "a tool forced": "langchain/test_chat.py the_named_tool_is_really_forced",
    "a name of no tool": "langchain/test_chat_errors.py wrong_requests",
    "a forced call": "langchain/test_chat_forced.py without_another_round_it_is_an_error",
    "one call at most": "langchain/test_chat_forced.py one_call_where_one_is_allowed",
    "broken arguments": "langchain/test_chat_forced.py a_streamed_call_that_was_cut_off_is_not_carried_out",
    "JSON schema": "langchain/test_chat_structured.py objects_in_all_ways",
    "function calling": "langchain/test_chat_structured.py objects_in_all_ways",
    "JSON mode": "langchain/test_chat_structured.py any_json",
    "GBNF": "langchain/test_chat_structured.py choices_and_expressions",
    "schema shown": "langchain/test_chat_structured.py the_schema_can_be_shown_to_the_model",
    "output that was cut off": "langchain/test_chat_structured.py an_answer_that_was_cut_off_is_named",
    "asked again": "langchain/test_chat_structured_repairs.py what_does_not_fit_is_asked_for_once_more",
    "objects that grow": "langchain/test_chat_structured.py objects_grow_while_streamed",
    "usage in streams": "langchain/test_chat.py counts_reach_the_handler_that_sums_them",
    "tokens from the cache": "server/test_client_chat.py usage_and_cached_tokens",
    "tokens of the thinking": "langchain/test_thinking.py tokens_of_the_thinking_are_counted",
    "the server's timings": "langchain/test_chat.py the_guesses_of_a_draft_model_are_told",
    "exact token counts": "langchain/test_chat_server.py counts_are_those_of_the_answer",
    "`trim_messages`": "langchain/test_chat_server.py trim_messages",
    "`profile`": "langchain/test_chat_server.py the_profile_is_the_servers",
    "every field": "server/test_client_sampling.py",
    "LangChain's `ModelError`": "langchain/test_chat_errors.py each_error_is_both",
    "`ContextOverflowError`": "langchain/test_chat_errors.py an_overflow_in_all_ways",
    "a refused connection": "langchain/test_chat_errors.py nobody_listens",
    "no repeats": "wire/test_waiting.py a_failed_server_is_never_asked_again",
    "a longest silence": "wire/test_waiting.py silence_is_a_timeout_and_never_repeated",
    "cancelling": "langchain/test_chat_leaving.py a_cancelled_task",
    "one model in many": "langchain/test_chat.py one_model_in_many_event_loops",
    "pickle": "langchain/test_chat_identity.py copies_work",
    "`close`": "server/test_client_lifetimes.py a_client_is_of_use_after_it_was_closed",
    "cache keys": "langchain/test_chat_identity.py whatever_changes_answers_is_in_the_key",
    "`dumpd`": "langchain/test_chat_identity.py a_dump_makes_the_model_again",
    "embeddings of the text": "langchain/test_embeddings.py texts_are_sent_as_they_are",
    "prefixes": "langchain/test_embeddings.py query_and_document_have_their_own",
    "a text that is too long": "langchain/test_embeddings.py error_names_the_text",
    "reranker": "langchain/test_rerankers.py order_and_scores_are_the_servers",
    "completion, several": "langchain/test_llms.py prompts_of_a_batch_are_one_request",
    "filling gaps": "langchain/test_llms.py suffix_fills_the_gap",
    "adapters": "langchain/test_lora.py adapters_by_name",
}


def claims() -> dict[str, str]:
    """What LangChain's part says of our class, by the row's first column."""
    text = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    part = text[text.index("## LangChain") : text.index("## LlamaIndex")]
    rows = re.findall(r"^\| (?!\*\*|\|)(.+?) \| (.+?) \|", part, re.MULTILINE)
    return {row: ours for row, ours in rows if re.match("yes|partly", ours)}


def test_every_yes_names_its_test_and_no_other_row_does() -> None:
    assert len(claims()) > 60
    found = {row: [name for name in SEEN if row.startswith(name)] for row in claims()}
    assert {row: names for row, names in found.items() if len(names) != 1} == {}
    assert {names[0] for names in found.values()} == SEEN.keys()


def test_the_tests_are_there() -> None:
    missing = []
    for shown in SEEN.values():
        file, _, name = shown.partition(" ")
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        if not re.search(rf"def test_{name}\w*\(", text):
            missing.append(shown)
    assert missing == []
