"""Each "yes" of ours in the comparison with other classes was seen: by which test is written down here."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Rows whose first column begins so -> a file of tests and the beginning of a test's name in it.
LANGCHAIN = {
    "works with llama-server": "langchain/test_chat.py an_answer_is_the_same_in_all_ways",
    "works without a key": "langchain/test_chat.py only_what_was_given_is_sent",
    "sends a key": "server/test_client_keys.py the_right_key_opens",
    "address with and": "unit/values/test_settings.py base_url_is_reduced_to_the_servers_root",
    "a misspelled argument": "langchain/test_chat_arguments.py a_misspelt_argument_is_an_error",
    "waits while the model loads": "wire/test_waiting.py a_loading_server_is_waited_for_by_every_request",
    "other OpenAI": "server/test_origins.py",
    "starts and stops": "server/test_local.py a_server_is_ready_when_the_block_begins",
    "routers": "server/test_router.py loading_and_unloading_are_reported",
    "reasoning returned": "langchain/test_chat.py an_answer_is_the_same_in_all_ways",
    "reasoning sent back": "langchain/test_chat.py thinking_is_sent_back",
    "one setting for reasoning": "langchain/test_thinking.py the_clock_ends_the_thinking_in_every_form",
    "images, in every": "langchain/test_chat_media.py all_ways_to_ask_see_the_same",
    "sound": "server/test_media.py images_and_audio_reach_the_model",
    "video": "server/test_media.py video_is_left_to_the_server",
    "text files": "server/test_media.py a_text_file_is_sent_as_text",
    "images in tool messages": "langchain/test_chat_media.py an_image_in_a_result_is_seen",
    "unsupported media": "langchain/test_chat_messages.py a_medium_that_the_server_lacks_is_refused",
    "continues a prefilled": "langchain/test_chat.py an_answer_is_continued",
    "histories": "server/test_templates.py",
    "`chunk_position": "langchain/test_chat.py every_chunk_is_tagged_and_only_the_last_is_last",
    "v1 content": "langchain/test_chat_blocks.py all_calls_survive_streaming_as_blocks",
    "v3 events": "langchain/test_chat_blocks.py events_report_thinking_text_and_calls",
    "an error in a stream": "wire/test_streams.py an_error_in_the_middle_is_typed",
    "a stream that was cut off": "wire/test_streams.py a_stream_that_is_cut_off_is_an_error",
    "prompt processing progress": "langchain/test_progress.py callbacks_receive_it",
    "log probabilities": "langchain/test_chat.py streamed_log_probabilities_add_up",
    "timings of each": "langchain/test_chat.py probabilities_timings_and_progress_where_asked_for",
    "`tool_choice`": "langchain/test_chat_forced.py every_form_of_tool_choice_returns_a_required_call",
    "a tool required": "langchain/test_chat.py the_named_tool_is_really_forced",
    "an unknown tool name": "langchain/test_chat_errors.py wrong_requests",
    "a missing required call": "langchain/test_chat_forced.py without_another_round_it_is_an_error",
    "at most one call": "langchain/test_chat_forced.py one_call_where_one_is_allowed",
    "invalid arguments": "langchain/test_chat_forced.py a_streamed_call_that_was_cut_off_is_not_carried_out",
    "JSON schema": "langchain/test_chat_structured.py objects_in_all_ways",
    "function calling": "langchain/test_chat_structured.py objects_in_all_ways",
    "JSON mode": "langchain/test_chat_structured.py any_json",
    "GBNF": "langchain/test_chat_structured.py choices_and_expressions",
    "schema in the prompt": "langchain/test_chat_structured.py the_schema_can_be_shown_to_the_model",
    "truncated output": "langchain/test_chat_structured.py an_answer_that_was_cut_off_is_named",
    "retried on mismatch": "langchain/test_chat_structured_repairs.py what_does_not_fit_is_asked_for_once_more",
    "partial objects": "langchain/test_chat_structured.py objects_grow_while_streamed",
    "usage in streams": "langchain/test_chat.py counts_reach_the_handler_that_sums_them",
    "cached tokens": "server/test_client_chat.py usage_and_cached_tokens",
    "reasoning tokens": "langchain/test_thinking.py tokens_of_the_thinking_are_counted",
    "the server's timings": "langchain/test_chat.py the_guesses_of_a_draft_model_are_reported",
    "exact token counts": "langchain/test_chat_server.py counts_are_those_of_the_answer",
    "`trim_messages`": "langchain/test_chat_server.py trim_messages",
    "`profile`": "langchain/test_chat_server.py the_profile_is_the_servers",
    "every field": "server/test_client_sampling.py",
    "LangChain's `ModelError`": "langchain/test_chat_errors.py each_error_is_both",
    "`ContextOverflowError`": "langchain/test_chat_errors.py an_overflow_in_all_ways",
    "a refused connection": "langchain/test_chat_errors.py nobody_listens",
    "no retries": "wire/test_waiting.py a_failed_server_is_never_asked_again",
    "a time limit": "wire/test_waiting.py silence_is_a_timeout_and_never_repeated",
    "cancelling": "langchain/test_chat_leaving.py a_cancelled_task",
    "one model in many": "langchain/test_chat.py one_model_in_many_event_loops",
    "pickle": "langchain/test_chat_identity.py copies_work",
    "`close`": "server/test_client_lifetimes.py a_client_is_of_use_after_it_was_closed",
    "cache keys": "langchain/test_chat_identity.py whatever_changes_answers_is_in_the_key",
    "`dumpd`": "langchain/test_chat_identity.py a_dump_makes_the_model_again",
    "embeddings of the unchanged": "langchain/test_embeddings.py texts_are_sent_as_they_are",
    "query and document": "langchain/test_embeddings.py query_and_document_have_their_own",
    "a text that is too long": "langchain/test_embeddings.py error_names_the_text",
    "reranker": "langchain/test_rerankers.py order_and_scores_are_the_servers",
    "core's decision models": "langchain/test_decisions.py answers_are_langchains_own",
    "completion, several": "langchain/test_llms.py prompts_of_a_batch_are_one_request",
    "fill-in-the-middle": "langchain/test_llms.py suffix_fills_the_gap",
    "adapters": "langchain/test_lora.py adapters_by_name",
}

LLAMAINDEX = {
    "works with llama-server": "standard/test_llamaindex_llm.py llama_server_stream_chat",
    "works without a key": "standard/test_llamaindex_llm.py completion",
    "chat template": "llamaindex/test_complete.py complete",
    "raw completion": "llamaindex/test_complete.py formatted_text_is_sent_as_it_is",
    "fill-in-the-middle": "llamaindex/test_complete.py infill",
    "context window": "llamaindex/test_metadata.py what_the_server_says",
    "`metadata` never": "llamaindex/test_metadata.py a_server_that_is_not_there_raises_nothing",
    "native async": "llamaindex/test_lifetime.py leaving_an_awaited_stream",
    "sampling defaults": "llamaindex/test_chat.py nothing_is_sent_that_nobody_gave",
    "every field": "llamaindex/test_chat.py nothing_is_sent_that_nobody_gave",
    "per-call values": "llamaindex/test_chat.py call_wins_over_field",
    "regular expressions": "llamaindex/test_complete.py choices_and_expressions",
    "as `ThinkingBlock`": "llamaindex/test_chat.py stream_chat",
    "sent back": "llamaindex/test_messages.py thinking_reaches_the_model_again",
    "on and off": "llamaindex/test_chat.py thinking_is_switched_by_field_and_by_call",
    "limits in tokens": "llamaindex/test_thinking.py the_clock_ends_the_thinking",
    "calls, in streams": "llamaindex/test_tools.py two_calls_in_one_turn",
    "a tool required": "llamaindex/test_tools.py one_tool_is_forced_by_name",
    "a required call": "llamaindex/test_tools.py a_required_call_that_did_not_come_is_an_error_with_the_text",
    "at most one call": "llamaindex/test_tools.py one_call_where_one_is_allowed",
    "arguments that are": "llamaindex/test_tools.py malformed_arguments_are_surfaced",
    "your `chat_history`": "llamaindex/test_tools.py the_callers_history_stays",
    "by the server's JSON": "llamaindex/test_structured.py all_four_ways",
    "`pydantic_program_mode`": "llamaindex/test_structured.py the_function_mode_is_the_cores_own",
    "system prompt kept": "llamaindex/test_structured.py all_four_ways",
    "optional fields": "llamaindex/test_structured.py all_four_ways",
    "truncated output": "llamaindex/test_structured.py output_that_was_cut_off",
    "retried on mismatch": "llamaindex/test_structured.py what_does_not_fit_is_asked_for_once_more",
    "`as_structured_llm`": "llamaindex/test_structured.py a_structured_llm_streams_in_all_four_ways",
    "usage in streams": "llamaindex/test_events.py one_pair_of_events_with_model_temperature_and_usage",
    "`TokenCountingHandler`": "llamaindex/test_tokens.py the_token_counting_handler",
    "timings, finish reason": "llamaindex/test_observability.py events_see_speed_cache",
    "log probabilities": "llamaindex/test_chat.py log_probabilities_name_the_token",
    "exact token counts": "llamaindex/test_tokens.py counts_are_what_the_server_then_reads",
    "progress of": "llamaindex/test_progress.py event_handlers_receive_it",
    "images and sound": "llamaindex/test_messages.py a_server_with_eyes_and_ears",
    "documents, citations": "llamaindex/test_messages.py documents_and_citations_become_text",
    "unsupported media": "llamaindex/test_messages.py a_medium_that_the_server_lacks",
    "a refused connection": "server/test_error_index.py",
    "waits for a model": "wire/test_waiting.py a_loading_server_is_waited_for",
    "a read timeout": "wire/test_waiting.py silence_is_a_timeout_and_never_repeated",
    "a context overflow": "llamaindex/test_chat.py an_overflow_is_typed",
    "leaving a stream": "llamaindex/test_lifetime.py leaving_a_stream_frees_the_slot",
    "one object in": "llamaindex/test_lifetime.py one_event_loop_after_another",
    "pickle and": "llamaindex/test_lifetime.py it_can_be_copied_and_pickled_after_use",
    "no secret": "llamaindex/test_lifetime.py no_secret_is_in_any_dump",
    "slots, metrics": "llamaindex/test_router.py the_llm",
    "router selector, reranker": "llamaindex/test_decisions.py a_router_runs_the_chosen_engine",
    "embeds with": "llamaindex/test_embeddings.py awaited_is_the_same",
    "text is sent unchanged": "llamaindex/test_embeddings.py texts_are_sent_as_they_are",
    "instructions for": "llamaindex/test_embeddings.py each_side_has_its_own",
    "kept apart in": "llamaindex/test_embeddings.py query_and_text_do_not_collide",
    "a text that is too long": "llamaindex/test_embeddings.py too_long_text_is_named",
    "at most as many": "llamaindex/test_embeddings.py awaited_batches_do_not_exceed_the_slots",
    "NaN, zeros": "llamaindex/test_embeddings.py broken_vectors_are_refused",
    "`dimensions`": "llamaindex/test_embeddings.py dimensions_and_raw_numbers",
    "image embeddings": "llamaindex/test_embeddings.py images",
    "token usage": "examples/test_guides.py llamaindex",
    "reranks without": "llamaindex/test_rerank.py awaited_is_the_same",
    "the server's error": "llamaindex/test_rerank.py server_without_reranking",
    "timeouts": "wire/test_waiting.py silence_is_a_timeout",
    "includes the metadata": "llamaindex/test_rerank.py metadata_that_embedding_shows_is_read",
    "your nodes": "llamaindex/test_rerank.py callers_nodes_stay",
    "scores between": "llamaindex/test_rerank.py order_and_scores",
}

BOTH = pytest.mark.parametrize(("title", "seen"), [("LangChain", LANGCHAIN), ("LlamaIndex", LLAMAINDEX)])


def claims(title: str) -> dict[str, str]:
    """What this part says of our class, by the row's first column."""
    text = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    part = text[text.index(f"## {title}") :]
    part = part[: part.index("\n## ")] if "\n## " in part else part
    rows = re.findall(r"^\| (?!\*\*|\|)(.+?) \| (.+?) \|", part, re.MULTILINE)
    return {row: ours for row, ours in rows if re.match("yes|partly", ours)}


@BOTH
def test_every_yes_names_its_test_and_no_other_row_does(title: str, seen: dict[str, str]) -> None:
    assert len(claims(title)) > 55
    found = {row: [name for name in seen if row.startswith(name)] for row in claims(title)}
    assert {row: names for row, names in found.items() if len(names) != 1} == {}
    assert {names[0] for names in found.values()} == seen.keys()


@BOTH
def test_the_tests_are_there(title: str, seen: dict[str, str]) -> None:
    missing = []
    for shown in seen.values():
        file, _, name = shown.partition(" ")
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        if not re.search(rf"def test_{name}\w*\(", text):
            missing.append(shown)
    assert missing == []
