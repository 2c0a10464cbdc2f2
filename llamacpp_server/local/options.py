"""Options of a local server.

One table leads from an option's name to the binary's flag and to the wheel's parameter (b11434, xllamacpp 2026.10). The
options described here need words or conversions of ours; all others of the binary are generated, in `flags.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import SecretStr

from .._printable import did_you_mean
from ..errors import BadRequestError
from .flags import FLAGS, ServerFlags

__all__ = [
    "EXCLUDED",
    "OPTIONS",
    "FilePath",
    "LocalServerOptions",
    "api_keys",
    "argv_for",
    "known_options",
    "params_for",
]

FilePath = str | os.PathLike[str]
Argv = Callable[[str, Any], list[str]]
Params = Callable[[Any], dict[str, Any]]


class LocalServerOptions(ServerFlags, total=False):
    """Options of a server; None, or leaving one out, keeps the server's default.

    Attributes:
        host: Address to listen on. Default 127.0.0.1: only this machine has access.
        port: Port to listen on. Default 0: any free port.
        api_key: Key that requests must have; separate several with commas. It does not appear on a command line.
        api_prefix: Path before every endpoint, such as `/llama`; `base_url` includes it.
        alias: Name of the model. Default: the file name without its extension.
        ctx_size: Context in tokens. With `parallel`, each slot has `ctx_size / parallel`; otherwise all slots share it.
            Default: the trained context.
        parallel: Number of slots, which is the maximum of concurrent requests. Default: four that share one context, so
            a prompt may fill all of it, but prompts that don't fit together run one after the other.
        kv_unified: Whether all slots share one context instead of equal parts. Default: True without `parallel`, else
            False. False without `parallel` starts four slots with a quarter each.
        batch_size: Logical batch size for prompt processing, in tokens.
        ubatch_size: Physical batch size, in tokens; also the longest text that can be embedded.
        threads: Threads for generation.
        threads_batch: Threads for prompt processing.
        threads_http: Threads for HTTP requests.
        n_gpu_layers: Layers on the GPU: a number, `auto` or `all`.
        flash_attn: `on`, `off` or `auto`.
        cache_type_k: Data type of the keys in the KV cache, such as `q8_0`.
        cache_type_v: Data type of the values in the KV cache.
        cache_reuse: Minimum chunk of a prompt that is reused by shifting, in tokens.
        cache_ram: Limit of the prompt cache in MiB; 0 disables it, -1 sets no limit.
        slot_prompt_similarity: Share of a prompt that a slot must already contain to be selected for it; 0 always
            selects the least recently used slot, whose cache then comes from RAM. Default 0.1.
        warmup: Whether to run the model once after loading.
        embeddings: Whether to enable `/v1/embeddings`.
        pooling: Pooling type of embeddings; many chat models need it for embedding.
        reranking: Whether to enable `/v1/rerank`; requires a reranker model.
        mmproj: File of the projector for images and audio.
        media_path: Base directory of `file://` addresses in messages.
        lora: File of a LoRA adapter, a list of files, or files with scales.
        draft_model: File of a small draft model for speculative decoding.
        spec_type: Type of speculative decoding, such as `ngram-simple`. Default with a `draft_model`: `draft-simple`.
        slot_save_path: Directory for saved slots; must exist.
        slots: Whether to enable `/slots`. Default True.
        metrics: Whether to enable `/metrics`.
        jinja: Whether to use the Jinja engine for chat templates; tools need it. Default True.
        chat_template: A chat template instead of the model's: its source, or the name of a built-in one.
        chat_template_file: File of such a template.
        chat_template_kwargs: Template variables for every request.
        prefill_assistant: Whether to continue a conversation that ends with an assistant message. Default True.
        reasoning: Whether reasoning is on, if the template can control it.
        reasoning_format: Format of the reasoning: `none`, `deepseek`, `deepseek-legacy` or `auto`.
        reasoning_budget: Maximum reasoning tokens; -1 sets no limit, 0 ends the reasoning at once.
        reasoning_budget_message: Text inserted before a forced end of reasoning.
        seed: Default random seed, so that equal prompts get equal answers; -1 is random.
        sse_ping_interval: Seconds between keep-alive events on a silent stream; -1 sends none.
        sleep_idle_seconds: Seconds without a request after which the model is unloaded; -1 never unloads it.
        models_dir: Directory of models for a router (binary only; excludes `model`).
        models_preset: INI file of models for a router (binary only).
        models_max: Maximum models that a router keeps loaded; 0 sets no limit (binary only).
        models_autoload: Whether a router loads a model on request (binary only).
    """

    host: str
    port: int
    api_key: str | SecretStr | None
    api_prefix: str | None
    alias: str | None
    ctx_size: int | None
    parallel: int | None
    kv_unified: bool | None
    batch_size: int | None
    ubatch_size: int | None
    threads: int | None
    threads_batch: int | None
    threads_http: int | None
    n_gpu_layers: int | Literal["auto", "all"] | None
    flash_attn: Literal["on", "off", "auto"] | None
    cache_type_k: str | None
    cache_type_v: str | None
    cache_reuse: int | None
    cache_ram: int | None
    slot_prompt_similarity: float | None
    warmup: bool | None
    embeddings: bool | None
    pooling: Literal["none", "mean", "cls", "last", "rank"] | None
    reranking: bool | None
    mmproj: FilePath | None
    media_path: FilePath | None
    lora: FilePath | Sequence[FilePath] | Mapping[str, float] | None
    draft_model: FilePath | None
    spec_type: str | None
    slot_save_path: FilePath | None
    slots: bool | None
    metrics: bool | None
    jinja: bool | None
    chat_template: str | None
    chat_template_file: FilePath | None
    chat_template_kwargs: Mapping[str, Any] | None
    prefill_assistant: bool | None
    reasoning: bool | None
    reasoning_format: Literal["none", "auto", "deepseek", "deepseek-legacy"] | None
    reasoning_budget: int | None
    reasoning_budget_message: str | None
    seed: int | None
    sse_ping_interval: int | None
    sleep_idle_seconds: int | None
    models_dir: FilePath | None
    models_preset: FilePath | None
    models_max: int | None
    models_autoload: bool | None


@dataclass(frozen=True, slots=True)
class Option:
    """One option, on both backends.

    Attributes:
        flag: Of the binary.
        attribute: Dotted path in `xllamacpp.CommonParams`; None where the wheel can't do it.
        argv: Flag and value to arguments.
        params: Value to parameters, where it is more than the one at `attribute`.
        generated: Whether it is one of `flags.py`.
    """

    flag: str
    attribute: str | None
    argv: Argv
    params: Params | None = None
    generated: bool = False


def _value(flag: str, value: Any) -> list[str]:
    return [flag, str(value)]


def _switch(flag: str, value: Any) -> list[str]:
    """`--metrics`, `--no-metrics`: each switch of the server has both forms, or False is what it does anyway."""
    return [flag] if value else []


def _both(flag: str, value: Any) -> list[str]:
    return [flag if value else flag.replace("--", "--no-", 1)]


def _json(flag: str, value: Any) -> list[str]:
    return [flag, json.dumps(value)]


def _on_off(flag: str, value: Any) -> list[str]:
    return [flag, "on" if value else "off"]


def _no_argv(_flag: str, _value: Any) -> list[str]:
    """A key on a command line can be read by everybody on the machine; it goes into the environment."""
    return []


def _lora_argv(flag: str, value: Any) -> list[str]:
    return [part for file, scale in _adapters(value) for part in (flag, f"{file}:{scale}")]


def _adapters(value: Any) -> list[tuple[str, float]]:
    if isinstance(value, Mapping):
        return [(str(file), float(scale)) for file, scale in value.items()]
    files = [value] if isinstance(value, str | os.PathLike) else value
    return [(os.fspath(file), 1.0) for file in files]


def _named(prefix: str) -> Callable[[str], str]:
    """The wheel's enum members from the flag's values: `mean` is `LLAMA_POOLING_TYPE_MEAN`."""
    return lambda value: prefix + value.upper().replace("-", "_")


def _kinds(value: str) -> list[str]:
    return [_named("COMMON_SPECULATIVE_TYPE_")(kind) for kind in value.split(",")]


def _set(attribute: str, convert: Callable[[Any], Any] = lambda value: value) -> Params:
    return lambda value: {attribute: convert(value)}


_GPU_LAYERS = {"auto": -1, "all": -2}
_FLASH = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}
_RERANKER = {"embedding": True, "pooling_type": "LLAMA_POOLING_TYPE_RANK"}

_BY_HAND: Final[Mapping[str, Option]] = {
    "host": Option("--host", "hostnames", _value, _set("hostnames", lambda host: host.split(","))),
    "port": Option("--port", "port", _value),
    "api_key": Option("--api-key", "api_keys", _no_argv, _set("api_keys", lambda key: api_keys(key))),
    "api_prefix": Option("--api-prefix", "api_prefix", _value),
    "alias": Option("--alias", "model_alias", _value, _set("model_alias", lambda alias: [alias])),
    "ctx_size": Option("--ctx-size", "n_ctx", _value),
    "parallel": Option("--parallel", "n_parallel", _value),
    "kv_unified": Option("--kv-unified", "kv_unified", _both),
    "batch_size": Option("--batch-size", "n_batch", _value),
    "ubatch_size": Option("--ubatch-size", "n_ubatch", _value),
    "threads": Option("--threads", "cpuparams.n_threads", _value),
    "threads_batch": Option("--threads-batch", "cpuparams_batch.n_threads", _value),
    "threads_http": Option("--threads-http", "n_threads_http", _value),
    "n_gpu_layers": Option(
        "--n-gpu-layers", "n_gpu_layers", _value, _set("n_gpu_layers", lambda n: _GPU_LAYERS.get(n, n))
    ),
    "flash_attn": Option(
        "--flash-attn",
        "flash_attn_type",
        _value,
        _set("flash_attn_type", lambda mode: f"LLAMA_FLASH_ATTN_TYPE_{_FLASH[mode]}"),
    ),
    "cache_type_k": Option("--cache-type-k", "cache_type_k", _value, _set("cache_type_k", _named("GGML_TYPE_"))),
    "cache_type_v": Option("--cache-type-v", "cache_type_v", _value, _set("cache_type_v", _named("GGML_TYPE_"))),
    "cache_reuse": Option("--cache-reuse", "n_cache_reuse", _value),
    "cache_ram": Option("--cache-ram", "cache_ram_mib", _value),
    "slot_prompt_similarity": Option("--slot-prompt-similarity", "slot_prompt_similarity", _value),
    "warmup": Option("--warmup", "warmup", _both),
    "embeddings": Option("--embeddings", "embedding", _switch),
    "pooling": Option("--pooling", "pooling_type", _value, _set("pooling_type", _named("LLAMA_POOLING_TYPE_"))),
    "reranking": Option("--reranking", "pooling_type", _switch, lambda on: dict(_RERANKER) if on else {}),
    "mmproj": Option("--mmproj", "mmproj.path", _value, _set("mmproj.path", os.fspath)),
    "media_path": Option("--media-path", "media_path", _value, _set("media_path", lambda path: _directory(path))),
    "lora": Option("--lora-scaled", "lora_adapters", _lora_argv, _set("lora_adapters", _adapters)),
    "draft_model": Option(
        "--model-draft", "speculative.draft.mparams.path", _value, _set("speculative.draft.mparams.path", os.fspath)
    ),
    "spec_type": Option("--spec-type", "speculative.types", _value, _set("speculative.types", _kinds)),
    "slot_save_path": Option(
        "--slot-save-path", "slot_save_path", _value, _set("slot_save_path", lambda path: _directory(path))
    ),
    "slots": Option("--slots", "endpoint_slots", _both),
    "metrics": Option("--metrics", "endpoint_metrics", _switch),
    "jinja": Option("--jinja", "use_jinja", _both),
    "chat_template": Option("--chat-template", "chat_template", _value),
    "chat_template_file": Option(
        "--chat-template-file",
        "chat_template",
        _value,
        _set("chat_template", lambda path: _source(path)),
    ),
    "chat_template_kwargs": Option(
        "--chat-template-kwargs",
        "default_template_kwargs",
        _json,
        _set("default_template_kwargs", lambda kwargs: {name: json.dumps(value) for name, value in kwargs.items()}),
    ),
    "prefill_assistant": Option("--prefill-assistant", "prefill_assistant", _both),
    "reasoning": Option("--reasoning", "enable_reasoning", _on_off, _set("enable_reasoning", int)),
    "reasoning_format": Option(
        "--reasoning-format",
        "reasoning_format",
        _value,
        _set("reasoning_format", _named("COMMON_REASONING_FORMAT_")),
    ),
    "reasoning_budget": Option("--reasoning-budget", "sampling.reasoning_budget_tokens", _value),
    "reasoning_budget_message": Option("--reasoning-budget-message", "sampling.reasoning_budget_message", _value),
    "seed": Option("--seed", "sampling.seed", _value, _set("sampling.seed", lambda seed: seed % 2**32)),
    "sse_ping_interval": Option("--sse-ping-interval", "sse_ping_interval", _value),
    "sleep_idle_seconds": Option("--sleep-idle-seconds", "sleep_idle_seconds", _value),
    "models_dir": Option("--models-dir", None, _value),
    "models_preset": Option("--models-preset", None, _value),
    "models_max": Option("--models-max", None, _value),
    "models_autoload": Option("--models-autoload", None, _both),
}


# The log level of "listening on" (b11434).
_ADDRESS_LEVEL: Final = 3

EXCLUDED: Final[Mapping[str, str]] = {
    "--help": "only prints something and exits",
    "--version": "only prints something and exits",
    "--cache-list": "only prints something and exits",
    "--completion-bash": "only prints something and exits",
    "--list-devices": "only prints something and exits",
    "--model": "is the first argument",
    "--hf-repo": "is the first argument: LocalServer('org/repo:Q8_0')",
    "--log-disable": "LocalServer reads the address from the log",
    "--log-jsonl": "LocalServer reads the address from the log",
    "--log-colors": "LocalServer reads the address from the log",
    "--embd-gemma-default": "names a model: LocalServer('ggml-org/embeddinggemma-300M-qat-q4_0-GGUF')",
    "--fim-qwen-1.5b-default": "names a model, which is the first argument",
    "--fim-qwen-3b-default": "names a model, which is the first argument",
    "--fim-qwen-7b-default": "names a model, which is the first argument",
    "--fim-qwen-7b-spec": "names a model, which is the first argument",
    "--fim-qwen-14b-spec": "names a model, which is the first argument",
    "--fim-qwen-30b-default": "names a model, which is the first argument",
    "--gpt-oss-20b-default": "names a model, which is the first argument",
    "--gpt-oss-120b-default": "names a model, which is the first argument",
    "--vision-gemma-4b-default": "names a model, which is the first argument",
    "--vision-gemma-12b-default": "names a model, which is the first argument",
    "--lora": "is lora=, with or without scales",
    "--skip-chat-parsing": "the replies would not be what every client expects",
}
"""Flags of llama-server (b11434) that no option sets, and why."""

# Generated options that the wheel has too; a minus inverts, a word and a colon name the wheel's enum.
_IN_WHEEL: Final[Mapping[str, str]] = {
    "predict": "n_predict",
    "keep": "n_keep",
    "swa_full": "swa_full",
    "rope_freq_base": "rope_freq_base",
    "rope_freq_scale": "rope_freq_scale",
    "yarn_orig_ctx": "yarn_orig_ctx",
    "yarn_ext_factor": "yarn_ext_factor",
    "yarn_attn_factor": "yarn_attn_factor",
    "yarn_beta_slow": "yarn_beta_slow",
    "yarn_beta_fast": "yarn_beta_fast",
    "kv_offload": "-no_kv_offload",
    "repack": "-no_extra_bufts",
    "no_host": "no_host",
    "split_mode": "LLAMA_SPLIT_MODE_:split_mode",
    "main_gpu": "main_gpu",
    "check_tensors": "check_tensors",
    "op_offload": "-no_op_offload",
    "hf_token": "hf_token",
    "offline": "offline",
    "verbosity": "verbosity",
    "temp": "sampling.temp",
    "top_k": "sampling.top_k",
    "top_p": "sampling.top_p",
    "min_p": "sampling.min_p",
    "xtc_probability": "sampling.xtc_probability",
    "xtc_threshold": "sampling.xtc_threshold",
    "typical": "sampling.typ_p",
    "repeat_last_n": "sampling.penalty_last_n",
    "repeat_penalty": "sampling.penalty_repeat",
    "presence_penalty": "sampling.penalty_present",
    "frequency_penalty": "sampling.penalty_freq",
    "dry_multiplier": "sampling.dry_multiplier",
    "dry_base": "sampling.dry_base",
    "dry_allowed_length": "sampling.dry_allowed_length",
    "dry_penalty_last_n": "sampling.dry_penalty_last_n",
    "dynatemp_range": "sampling.dynatemp_range",
    "dynatemp_exp": "sampling.dynatemp_exponent",
    "ignore_eos": "sampling.ignore_eos",
    "spec_draft_n_max": "speculative.draft.n_max",
    "spec_draft_n_min": "speculative.draft.n_min",
    "spec_draft_p_min": "speculative.draft.p_min",
    "spec_draft_p_split": "speculative.draft.p_split",
    "kv_unified_per_slot": "kv_unified_per_slot",
    "ctx_checkpoints": "n_ctx_checkpoints",
    "checkpoint_min_step": "checkpoint_min_step",
    "cache_idle_slots": "cache_idle_slots",
    "context_shift": "ctx_shift",
    "special": "special",
    "cont_batching": "cont_batching",
    "mmproj_offload": "mmproj_use_gpu",
    "image_min_tokens": "image_min_tokens",
    "image_max_tokens": "image_max_tokens",
    "video_fps": "video_fps",
    "embd_normalize": "embd_normalize",
    "reuse_port": "reuse_port",
    "cors_origins": "cors_origins",
    "cors_methods": "cors_methods",
    "cors_headers": "cors_headers",
    "ui": "ui",
    "mcp_servers_config": "mcp_servers_config",
    "ssl_key_file": "ssl_file_key",
    "ssl_cert_file": "ssl_file_cert",
    "timeout": "timeout_read",
    "cache_prompt": "cache_prompt",
    "props": "endpoint_props",
    "lora_init_without_apply": "lora_init_without_apply",
}


def _list(flag: str, value: Any) -> list[str]:
    return [flag, value if isinstance(value, str) else ",".join(map(str, value))]


def _pair(flag: str, value: Any) -> list[str]:
    return [flag, *map(str, value)]


def _json_or_text(flag: str, value: Any) -> list[str]:
    return [flag, value if isinstance(value, str) else json.dumps(value)]


def _mode(flag: str, value: Any) -> list[str]:
    return [flag, {True: "on", False: "off"}.get(value, str(value))]


_KINDS: Final[Mapping[str, Argv]] = {
    "value": _value,
    "switch": _switch,
    "both": _both,
    "on_off": _mode,
    "list": _list,
    "pair": _pair,
    "json": _json_or_text,
}


def _generated(name: str) -> Option:
    """The option of a row of `FLAGS`."""
    flag, kind, _ = FLAGS[name]
    attribute = _IN_WHEEL.get(name)
    if name == "moe_cache_mib":
        return Option(
            flag, "moe_cache_size", _KINDS[kind], _set("moe_cache_size", lambda mib: mib << 20), generated=True
        )
    if attribute is None:
        return Option(flag, None, _KINDS[kind], generated=True)
    if name == "hf_token":
        return Option(
            flag, attribute, _no_argv, _set(attribute, lambda token: token.get_secret_value()), generated=True
        )
    prefix, _, enum = attribute.rpartition(":")
    if attribute.startswith("-"):
        return Option(flag, attribute[1:], _KINDS[kind], _set(attribute[1:], lambda value: not value), generated=True)
    convert = _set(enum, _named(prefix)) if prefix else None
    return Option(flag, enum, _KINDS[kind], convert, generated=True)


OPTIONS: Final[Mapping[str, Option]] = {**_BY_HAND, **{name: _generated(name) for name in FLAGS}}
"""Every option, by its name."""

OTHER_NAMES: Final[Mapping[str, str]] = {other: name for name, row in FLAGS.items() for other in row[2]}
"""Further long names of the binary's flags, such as `n_predict` for `predict`."""

SHORT_FLAGS: Final[Mapping[str, str]] = {
    "ctx_size": "-c",
    "parallel": "-np",
    "n_gpu_layers": "-ngl",
    "threads": "-t",
    "batch_size": "-b",
    "ubatch_size": "-ub",
}
"""The binary's short flags that `llamacpp-server serve` accepts too."""

# The binary's short flags, and the names in llama-cpp-python.
_NAMES_ELSEWHERE: Final = {short.lstrip("-"): name for name, short in SHORT_FLAGS.items()} | {
    "ctx": "ctx_size",
    "n_ctx": "ctx_size",
    "n_parallel": "parallel",
    "n_threads": "threads",
    "n_batch": "batch_size",
    "n_ubatch": "ubatch_size",
}


def known_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their first names.

    Raises:
        TypeError: For a name that no option has; the nearest is named. For an option given under two names.
        ValueError: For a log level without the server's address.
    """
    known: dict[str, Any] = {}
    for given, value in options.items():
        name = OTHER_NAMES.get(given, given)
        if name not in OPTIONS:
            raise TypeError(f"unknown LocalServer option {given}; {_hint(name)}")
        if name in known:
            raise TypeError(f"{given} and {name} are the same option of LocalServer")
        known[name] = value
    level = known.get("verbosity")
    if isinstance(level, int) and not isinstance(level, bool) and level < _ADDRESS_LEVEL:
        raise ValueError(f"verbosity below {_ADDRESS_LEVEL} hides the line with the address, which LocalServer reads")
    return known


def _hint(name: str) -> str:
    """Remedy for an unknown option."""
    flag = "--" + name.replace("_", "-")
    if flag in EXCLUDED:
        return f"{flag} {EXCLUDED[flag]}"
    if name in _NAMES_ELSEWHERE:
        return f"did you mean {_NAMES_ELSEWHERE[name]!r}?"
    return did_you_mean(name, [*OPTIONS, *OTHER_NAMES]) or "see LocalServerOptions for the list"


def argv_for(options: Mapping[str, Any]) -> list[str]:
    """The binary's arguments."""
    return [part for name, value in options.items() for part in OPTIONS[name].argv(OPTIONS[name].flag, value)]


def params_for(options: Mapping[str, Any]) -> dict[str, Any]:
    """The wheel's parameters, by dotted path."""
    params: dict[str, Any] = {}
    for name, value in options.items():
        option = OPTIONS[name]
        params |= option.params(value) if option.params else {str(option.attribute): value}
    return params


def api_keys(given: str | SecretStr | None) -> list[str]:
    """The keys in an option's value; the server takes several with commas between them."""
    text = given.get_secret_value() if isinstance(given, SecretStr) else given or ""
    if not isinstance(text, str):
        raise ValueError(f"api_key must be a string, not {type(text).__name__}")
    return [key for key in text.split(",") if key]


def _source(path: FilePath) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeError) else error.strerror
        raise BadRequestError(f"can't read chat_template_file {os.fspath(path)}: {why}") from None


def _directory(path: FilePath) -> str:
    """With a slash at its end: the wheel puts file names right behind it."""
    return os.path.join(path, "")
