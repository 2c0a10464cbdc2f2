"""Options of llama-server that need no conversion, from llama.cpp b11549. Generated, see scripts/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

Row = tuple[str, str, tuple[str, ...]]
"""Flag, kind of its value (`value`, `switch`, `both`, `on_off`, `list`, `pair`, `json`), and its other long names."""


FLAGS: Final[Mapping[str, Row]] = {
    "cpu_mask": ("--cpu-mask", "value", ()),
    "cpu_range": ("--cpu-range", "value", ()),
    "cpu_strict": ("--cpu-strict", "value", ()),
    "prio": ("--prio", "value", ()),
    "poll": ("--poll", "value", ()),
    "cpu_mask_batch": ("--cpu-mask-batch", "value", ()),
    "cpu_range_batch": ("--cpu-range-batch", "value", ()),
    "cpu_strict_batch": ("--cpu-strict-batch", "value", ()),
    "prio_batch": ("--prio-batch", "value", ()),
    "poll_batch": ("--poll-batch", "value", ()),
    "predict": ("--predict", "value", ("n_predict",)),
    "keep": ("--keep", "value", ()),
    "swa_full": ("--swa-full", "switch", ()),
    "perf": ("--perf", "both", ()),
    "escape": ("--escape", "both", ()),
    "rope_scaling": ("--rope-scaling", "value", ()),
    "rope_scale": ("--rope-scale", "value", ()),
    "rope_freq_base": ("--rope-freq-base", "value", ()),
    "rope_freq_scale": ("--rope-freq-scale", "value", ()),
    "yarn_orig_ctx": ("--yarn-orig-ctx", "value", ()),
    "yarn_ext_factor": ("--yarn-ext-factor", "value", ()),
    "yarn_attn_factor": ("--yarn-attn-factor", "value", ()),
    "yarn_beta_slow": ("--yarn-beta-slow", "value", ()),
    "yarn_beta_fast": ("--yarn-beta-fast", "value", ()),
    "kv_offload": ("--kv-offload", "both", ()),
    "repack": ("--repack", "both", ()),
    "no_host": ("--no-host", "switch", ()),
    "defrag_thold": ("--defrag-thold", "value", ()),
    "rpc": ("--rpc", "value", ()),
    "load_mode": ("--load-mode", "value", ()),
    "lazy_mode": ("--lazy-mode", "value", ()),
    "numa": ("--numa", "value", ()),
    "device": ("--device", "list", ()),
    "override_tensor": ("--override-tensor", "list", ()),
    "cpu_moe": ("--cpu-moe", "switch", ()),
    "n_cpu_moe": ("--n-cpu-moe", "value", ()),
    "moe_cache_mib": ("--moe-cache-mib", "value", ()),
    "n_cpu_ffn": ("--n-cpu-ffn", "value", ()),
    "split_mode": ("--split-mode", "value", ()),
    "tensor_split": ("--tensor-split", "list", ()),
    "main_gpu": ("--main-gpu", "value", ()),
    "fit": ("--fit", "on_off", ()),
    "fit_target": ("--fit-target", "list", ()),
    "fit_ctx": ("--fit-ctx", "value", ()),
    "check_tensors": ("--check-tensors", "switch", ()),
    "override_kv": ("--override-kv", "list", ()),
    "op_offload": ("--op-offload", "both", ()),
    "control_vector": ("--control-vector", "value", ()),
    "control_vector_scaled": ("--control-vector-scaled", "list", ()),
    "control_vector_layer_range": ("--control-vector-layer-range", "pair", ()),
    "model_url": ("--model-url", "value", ()),
    "docker_repo": ("--docker-repo", "value", ()),
    "hf_file": ("--hf-file", "value", ()),
    "hf_token": ("--hf-token", "value", ()),
    "log_file": ("--log-file", "value", ()),
    "verbose": ("--verbose", "switch", ("log_verbose",)),
    "offline": ("--offline", "switch", ()),
    "verbosity": ("--verbosity", "value", ("log_verbosity",)),
    "log_prefix": ("--log-prefix", "both", ()),
    "log_timestamps": ("--log-timestamps", "both", ()),
    "spec_draft_type_k": ("--spec-draft-type-k", "value", ("cache_type_k_draft",)),
    "spec_draft_type_v": ("--spec-draft-type-v", "value", ("cache_type_v_draft",)),
    "samplers": ("--samplers", "value", ()),
    "sampler_seq": ("--sampler-seq", "value", ("sampling_seq",)),
    "ignore_eos": ("--ignore-eos", "switch", ()),
    "temp": ("--temp", "value", ("temperature",)),
    "top_k": ("--top-k", "value", ()),
    "top_p": ("--top-p", "value", ()),
    "min_p": ("--min-p", "value", ()),
    "top_nsigma": ("--top-nsigma", "value", ("top_n_sigma",)),
    "xtc_probability": ("--xtc-probability", "value", ()),
    "xtc_threshold": ("--xtc-threshold", "value", ()),
    "typical": ("--typical", "value", ("typical_p",)),
    "repeat_last_n": ("--repeat-last-n", "value", ()),
    "repeat_penalty": ("--repeat-penalty", "value", ()),
    "presence_penalty": ("--presence-penalty", "value", ()),
    "frequency_penalty": ("--frequency-penalty", "value", ()),
    "dry_multiplier": ("--dry-multiplier", "value", ()),
    "dry_base": ("--dry-base", "value", ()),
    "dry_allowed_length": ("--dry-allowed-length", "value", ()),
    "dry_penalty_last_n": ("--dry-penalty-last-n", "value", ()),
    "dry_sequence_breaker": ("--dry-sequence-breaker", "value", ()),
    "adaptive_target": ("--adaptive-target", "value", ()),
    "adaptive_decay": ("--adaptive-decay", "value", ()),
    "dynatemp_range": ("--dynatemp-range", "value", ()),
    "dynatemp_exp": ("--dynatemp-exp", "value", ()),
    "mirostat": ("--mirostat", "value", ()),
    "mirostat_lr": ("--mirostat-lr", "value", ()),
    "mirostat_ent": ("--mirostat-ent", "value", ()),
    "logit_bias": ("--logit-bias", "value", ()),
    "grammar": ("--grammar", "value", ()),
    "grammar_file": ("--grammar-file", "value", ()),
    "json_schema": ("--json-schema", "json", ()),
    "json_schema_file": ("--json-schema-file", "value", ()),
    "backend_sampling": ("--backend-sampling", "switch", ()),
    "spec_draft_hf": ("--spec-draft-hf", "value", ("hf_repo_draft",)),
    "spec_draft_threads": ("--spec-draft-threads", "value", ("threads_draft",)),
    "spec_draft_threads_batch": ("--spec-draft-threads-batch", "value", ("threads_batch_draft",)),
    "spec_draft_cpu_mask": ("--spec-draft-cpu-mask", "value", ("cpu_mask_draft",)),
    "spec_draft_cpu_range": ("--spec-draft-cpu-range", "value", ("cpu_range_draft",)),
    "spec_draft_cpu_strict": ("--spec-draft-cpu-strict", "value", ("cpu_strict_draft",)),
    "spec_draft_prio": ("--spec-draft-prio", "value", ("prio_draft",)),
    "spec_draft_poll": ("--spec-draft-poll", "value", ("poll_draft",)),
    "spec_draft_cpu_mask_batch": ("--spec-draft-cpu-mask-batch", "value", ("cpu_mask_batch_draft",)),
    "spec_draft_cpu_strict_batch": ("--spec-draft-cpu-strict-batch", "value", ("cpu_strict_batch_draft",)),
    "spec_draft_prio_batch": ("--spec-draft-prio-batch", "value", ("prio_batch_draft",)),
    "spec_draft_poll_batch": ("--spec-draft-poll-batch", "value", ("poll_batch_draft",)),
    "spec_draft_override_tensor": ("--spec-draft-override-tensor", "list", ("override_tensor_draft",)),
    "spec_draft_cpu_moe": ("--spec-draft-cpu-moe", "switch", ("cpu_moe_draft",)),
    "spec_draft_n_cpu_moe": ("--spec-draft-n-cpu-moe", "value", ("spec_draft_ncmoe", "n_cpu_moe_draft")),
    "spec_draft_n_max": ("--spec-draft-n-max", "value", ()),
    "spec_draft_n_min": ("--spec-draft-n-min", "value", ()),
    "spec_synth_len": ("--spec-synth-len", "value", ()),
    "spec_synth_rates": ("--spec-synth-rates", "list", ()),
    "spec_draft_p_split": ("--spec-draft-p-split", "value", ("draft_p_split",)),
    "spec_draft_p_min": ("--spec-draft-p-min", "value", ("draft_p_min",)),
    "spec_draft_backend_sampling": ("--spec-draft-backend-sampling", "both", ()),
    "spec_draft_sampling": ("--spec-draft-sampling", "value", ()),
    "spec_draft_device": ("--spec-draft-device", "list", ("device_draft",)),
    "spec_draft_ngl": ("--spec-draft-ngl", "value", ("gpu_layers_draft", "n_gpu_layers_draft")),
    "spec_ngram_mod_n_min": ("--spec-ngram-mod-n-min", "value", ()),
    "spec_ngram_mod_n_max": ("--spec-ngram-mod-n-max", "value", ()),
    "spec_ngram_mod_n_match": ("--spec-ngram-mod-n-match", "value", ()),
    "spec_ngram_simple_size_n": ("--spec-ngram-simple-size-n", "value", ()),
    "spec_ngram_simple_size_m": ("--spec-ngram-simple-size-m", "value", ()),
    "spec_ngram_simple_min_hits": ("--spec-ngram-simple-min-hits", "value", ()),
    "spec_ngram_map_k_size_n": ("--spec-ngram-map-k-size-n", "value", ()),
    "spec_ngram_map_k_size_m": ("--spec-ngram-map-k-size-m", "value", ()),
    "spec_ngram_map_k_min_hits": ("--spec-ngram-map-k-min-hits", "value", ()),
    "spec_ngram_map_k4v_size_n": ("--spec-ngram-map-k4v-size-n", "value", ()),
    "spec_ngram_map_k4v_size_m": ("--spec-ngram-map-k4v-size-m", "value", ()),
    "spec_ngram_map_k4v_min_hits": ("--spec-ngram-map-k4v-min-hits", "value", ()),
    "lookup_cache_static": ("--lookup-cache-static", "value", ()),
    "lookup_cache_dynamic": ("--lookup-cache-dynamic", "value", ()),
    "kv_unified_per_slot": ("--kv-unified-per-slot", "value", ()),
    "ctx_checkpoints": ("--ctx-checkpoints", "value", ("swa_checkpoints",)),
    "checkpoint_min_step": ("--checkpoint-min-step", "value", ()),
    "cache_idle_slots": ("--cache-idle-slots", "both", ()),
    "context_shift": ("--context-shift", "both", ()),
    "reverse_prompt": ("--reverse-prompt", "value", ()),
    "special": ("--special", "switch", ()),
    "spm_infill": ("--spm-infill", "switch", ()),
    "cont_batching": ("--cont-batching", "both", ()),
    "mmproj_url": ("--mmproj-url", "value", ()),
    "mmproj_auto": ("--mmproj-auto", "both", ()),
    "mmproj_offload": ("--mmproj-offload", "both", ()),
    "mmproj_device": ("--mmproj-device", "value", ()),
    "image_min_tokens": ("--image-min-tokens", "value", ()),
    "image_max_tokens": ("--image-max-tokens", "value", ()),
    "mtmd_batch_max_tokens": ("--mtmd-batch-max-tokens", "value", ()),
    "video_fps": ("--video-fps", "value", ()),
    "video_timestamp_interval": ("--video-timestamp-interval", "value", ()),
    "video_ffmpeg_dir": ("--video-ffmpeg-dir", "value", ()),
    "tags": ("--tags", "value", ()),
    "embd_normalize": ("--embd-normalize", "value", ()),
    "reuse_port": ("--reuse-port", "switch", ()),
    "path": ("--path", "value", ()),
    "cors_origins": ("--cors-origins", "value", ()),
    "cors_methods": ("--cors-methods", "value", ()),
    "cors_headers": ("--cors-headers", "value", ()),
    "cors_credentials": ("--cors-credentials", "both", ()),
    "ui_config": ("--ui-config", "json", ("webui_config",)),
    "ui_config_file": ("--ui-config-file", "value", ("webui_config_file",)),
    "ui_mcp_proxy": ("--ui-mcp-proxy", "both", ("webui_mcp_proxy",)),
    "tools": ("--tools", "list", ()),
    "tools_runtime": ("--tools-runtime", "value", ()),
    "mcp_servers_config": ("--mcp-servers-config", "value", ()),
    "mcp_servers_json": ("--mcp-servers-json", "json", ()),
    "agent": ("--agent", "both", ()),
    "ui": ("--ui", "both", ("webui",)),
    "api_key_file": ("--api-key-file", "value", ()),
    "ssl_key_file": ("--ssl-key-file", "value", ()),
    "ssl_cert_file": ("--ssl-cert-file", "value", ()),
    "timeout": ("--timeout", "value", ()),
    "cache_prompt": ("--cache-prompt", "both", ()),
    "props": ("--props", "switch", ()),
    "reasoning_effort": ("--reasoning-effort", "value", ()),
    "reasoning_preserve": ("--reasoning-preserve", "both", ()),
    "lora_init_without_apply": ("--lora-init-without-apply", "switch", ()),
    "log_prompts_dir": ("--log-prompts-dir", "value", ()),
    "spec_default": ("--spec-default", "switch", ()),
}


class ServerFlags(TypedDict, total=False):
    """Options by their flags; None is the server's own default.

    Attributes:
        cpu_mask: CPU affinity mask, a hexadecimal number of any length.
        cpu_range: Range of CPUs for affinity.
        cpu_strict: Use strict CPU placement.
        prio: Process and thread priority: -1 low, 0 normal, 1 medium, 2 high, 3 realtime.
        poll: Polling level while waiting for work, 0 (no polling) to 100.
        cpu_mask_batch: CPU affinity mask for prompt processing, a hexadecimal number of any length.
        cpu_range_batch: Range of CPUs for affinity in prompt processing.
        cpu_strict_batch: Use strict CPU placement in prompt processing.
        prio_batch: Process and thread priority for prompt processing: -1 low, 0 normal, 1 medium, 2 high, 3 realtime.
        poll_batch: Polling level for prompt processing.
        predict: Maximum number of tokens to generate; -1 sets no limit.
        keep: Number of tokens of the initial prompt to keep; -1 keeps all.
        swa_full: Use a full-size cache for sliding-window attention (SWA).
        perf: Whether to enable internal libllama performance timings.
        escape: Whether to process escape sequences.
        rope_scaling: RoPE frequency scaling method.
        rope_scale: Factor by which RoPE expands the context.
        rope_freq_base: RoPE base frequency, used by NTK-aware scaling.
        rope_freq_scale: RoPE frequency scaling factor; the context is expanded by its inverse.
        yarn_orig_ctx: Original context size of the model (YaRN).
        yarn_ext_factor: Extrapolation mix factor (YaRN).
        yarn_attn_factor: Scale of the attention magnitude (YaRN).
        yarn_beta_slow: High correction dimension, or alpha (YaRN).
        yarn_beta_fast: Low correction dimension, or beta (YaRN).
        kv_offload: Whether to enable KV cache offloading.
        repack: Whether to enable weight repacking.
        no_host: Bypass the host buffer, so that extra buffers can be used.
        defrag_thold: KV cache defragmentation threshold (deprecated).
        rpc: Comma-separated list of RPC servers.
        load_mode: How the model is loaded: `auto`, `none`, `mmap`, `mlock` and others.
        lazy_mode: Whether certain tensors, such as per-layer embeddings, are read from disk on demand.
        numa: NUMA optimization: `distribute`, `isolate` or `numactl`.
        device: Devices to offload the model to, separated by commas; `none` to offload nothing, `--list-devices`
            lists them.
        override_tensor: Override the buffer type of tensors.
        cpu_moe: Keep all Mixture of Experts weights on the CPU.
        n_cpu_moe: Keep the Mixture of Experts weights of the first N layers on the CPU.
        moe_cache_mib: GPU cache in MiB for Mixture of Experts weights that are kept on the CPU.
        n_cpu_ffn: Keep the dense FFN weights of the first N layers on the CPU.
        split_mode: How to split the model across GPUs: `none`, `layer`, `row` or `tensor`.
        tensor_split: Proportions of the model for each GPU, separated by commas.
        main_gpu: The GPU for the model (split mode `none`), or for intermediate results and KV (`row`).
        fit: Whether to adjust unset arguments so that the model fits into device memory.
        fit_target: Free memory in MiB to keep on each device with `fit`: one value, or one per device.
        fit_ctx: Minimum context size that `fit` may choose.
        check_tensors: Check the model's tensors for invalid values.
        override_kv: Override entries of the model's metadata by key.
        op_offload: Whether to offload host tensor operations to device.
        control_vector: Add a control vector.
        control_vector_scaled: Add a control vector with a scale.
        control_vector_layer_range: First and last layer for control vectors.
        model_url: URL of the model file.
        docker_repo: Docker Hub model repository.
        hf_file: Hugging Face model file.
        hf_token: Hugging Face access token.
        log_file: Log file.
        verbose: Log everything.
        offline: Use only cached files; no network access.
        verbosity: Verbosity of the log: 0 (generic output) to 5 (debug).
        log_prefix: Prefix log messages with their level.
        log_timestamps: Add timestamps to log messages.
        spec_draft_type_k: Type of the draft model's keys in the cache.
        spec_draft_type_v: Type of the draft model's values in the cache.
        samplers: Names of the samplers in their order, separated by semicolons.
        sampler_seq: The samplers in their order, as one letter each.
        ignore_eos: Ignore the end-of-stream token and continue generating.
        temp: Default temperature.
        top_k: Top-k sampling.
        top_p: Top-p sampling.
        min_p: Min-p sampling.
        top_nsigma: Top-n-sigma sampling.
        xtc_probability: XTC probability.
        xtc_threshold: XTC threshold.
        typical: Locally typical sampling, parameter p.
        repeat_last_n: Number of recent tokens that `repeat_penalty` considers.
        repeat_penalty: Penalty for repeated tokens; 1 is off.
        presence_penalty: Flat penalty for tokens already used; 0 is off.
        frequency_penalty: Penalty for each use of a token; 0 is off.
        dry_multiplier: Strength of the DRY penalty; 0 is off.
        dry_base: Base of the DRY penalty.
        dry_allowed_length: Length of repetitions that DRY allows.
        dry_penalty_last_n: Number of recent tokens that DRY considers.
        dry_sequence_breaker: Text that ends a repetition for DRY, instead of the default ones.
        adaptive_target: Target probability of adaptive-p; negative is off.
        adaptive_decay: How slowly the target of adaptive-p changes.
        dynatemp_range: Dynamic temperature range.
        dynatemp_exp: Dynamic temperature exponent.
        mirostat: Mirostat version, 1 or 2; 0 is off.
        mirostat_lr: Mirostat's learning rate (eta).
        mirostat_ent: Mirostat's target entropy (tau).
        logit_bias: Bias of a token, such as `15043+1` or `15043-1`.
        grammar: GBNF grammar that constrains every answer.
        grammar_file: File with a GBNF grammar that constrains every answer.
        json_schema: JSON schema that constrains every answer.
        json_schema_file: File with a JSON schema that constrains every answer.
        backend_sampling: Enable backend sampling.
        spec_draft_hf: Hugging Face repository of the draft model.
        spec_draft_threads: Threads for generating with the draft model.
        spec_draft_threads_batch: Threads for prompt processing with the draft model.
        spec_draft_cpu_mask: Draft model CPU affinity mask.
        spec_draft_cpu_range: Range of CPUs for the draft model.
        spec_draft_cpu_strict: Use strict CPU placement for draft model.
        spec_draft_prio: Process and thread priority for the draft model: -1 low, 0 normal, 1 medium, 2 high, 3
            realtime.
        spec_draft_poll: Polling level of the draft model while waiting for work.
        spec_draft_cpu_mask_batch: CPU affinity mask for the draft model's prompt processing.
        spec_draft_cpu_strict_batch: Use strict CPU placement for the draft model's prompt processing.
        spec_draft_prio_batch: Process and thread priority for prompt processing of the draft model: -1 low, 0 normal,
            1 medium, 2 high, 3 realtime.
        spec_draft_poll_batch: Polling level of the draft model for prompt processing.
        spec_draft_override_tensor: Override tensor buffer type for draft model.
        spec_draft_cpu_moe: Keep all Mixture of Experts weights of the draft model on the CPU.
        spec_draft_n_cpu_moe: Keep the Mixture of Experts weights of the draft model's first N layers on the CPU.
        spec_draft_n_max: Number of tokens to draft for speculative decoding.
        spec_draft_n_min: Minimum number of draft tokens to use for speculative decoding.
        spec_synth_len: Mean length of synthetic acceptance, for benchmarks.
        spec_synth_rates: Probabilities of synthetic acceptance for each position, for benchmarks.
        spec_draft_p_split: Speculative decoding split probability.
        spec_draft_p_min: Minimum probability of a drafted token.
        spec_draft_backend_sampling: Offload draft sampling to the backend.
        spec_draft_sampling: How the draft is sampled: `greedy` or `probabilistic`.
        spec_draft_device: Devices to offload the draft model to, separated by commas; `none` to offload nothing,
            `--list-devices` lists them.
        spec_draft_ngl: Layers of the draft model on the GPU: a number, `auto` or `all`.
        spec_ngram_mod_n_min: Minimum number of n-gram tokens for speculative decoding (ngram-mod).
        spec_ngram_mod_n_max: Maximum number of n-gram tokens for speculative decoding (ngram-mod).
        spec_ngram_mod_n_match: Lookup length (ngram-mod).
        spec_ngram_simple_size_n: Length of the lookup n-gram (ngram-simple).
        spec_ngram_simple_size_m: Length of the draft m-gram (ngram-simple).
        spec_ngram_simple_min_hits: Minimum hits (ngram-simple).
        spec_ngram_map_k_size_n: Length of the lookup n-gram (ngram-map-k).
        spec_ngram_map_k_size_m: Length of the draft m-gram (ngram-map-k).
        spec_ngram_map_k_min_hits: Minimum hits (ngram-map-k).
        spec_ngram_map_k4v_size_n: Length of the lookup n-gram (ngram-map-k4v).
        spec_ngram_map_k4v_size_m: Length of the draft m-gram (ngram-map-k4v).
        spec_ngram_map_k4v_min_hits: Minimum hits (ngram-map-k4v).
        lookup_cache_static: Path to static lookup cache to use for lookup decoding.
        lookup_cache_dynamic: Path to dynamic lookup cache to use for lookup decoding.
        kv_unified_per_slot: Context limit of each slot.
        ctx_checkpoints: Maximum number of context checkpoints for each slot.
        checkpoint_min_step: Minimum spacing between context checkpoints in tokens.
        cache_idle_slots: Save idle slots to the prompt cache when a task arrives; clear them if they share a context.
        context_shift: Whether to shift the context during endless generation.
        reverse_prompt: Text at which generation stops.
        special: Output special tokens.
        spm_infill: Use the order suffix, prefix, middle for infill, which some models prefer.
        cont_batching: Whether to enable continuous batching.
        mmproj_url: URL of a multimodal projector.
        mmproj_auto: Whether to use the multimodal projector that belongs to a Hugging Face model.
        mmproj_offload: Whether to run the multimodal projector on the GPU.
        mmproj_device: Device for the multimodal projector; `--list-devices` lists them.
        image_min_tokens: Minimum tokens for each image, with vision models of dynamic resolution.
        image_max_tokens: Maximum tokens for each image, with vision models of dynamic resolution.
        mtmd_batch_max_tokens: Maximum number of image tokens in a batch.
        video_fps: Target video frame rate.
        video_timestamp_interval: Milliseconds between the text timestamps of a video.
        video_ffmpeg_dir: Directory with ffmpeg and ffprobe.
        tags: Tags of the model, separated by commas.
        embd_normalize: Normalization of embeddings: -1 none, 0 max int16, 1 taxicab, 2 euclidean, above 2 p-norm.
        reuse_port: Allow multiple sockets to bind to the same port.
        path: Directory of static files.
        cors_origins: Allowed origins for CORS, separated by commas; `localhost` allows only this machine's.
        cors_methods: Allowed methods for CORS, separated by commas.
        cors_headers: Allowed headers for CORS, separated by commas.
        cors_credentials: Whether to allow credentials for CORS.
        ui_config: Default settings of the web UI, as JSON.
        ui_config_file: JSON file with default settings of the web UI.
        ui_mcp_proxy: Enable the MCP CORS proxy (experimental; not in untrusted environments).
        tools: Built-in tools for AI agents, such as `all` (experimental; not in untrusted environments).
        tools_runtime: Container to run the tools in (experimental).
        mcp_servers_config: JSON file with MCP servers (experimental; not in untrusted environments).
        mcp_servers_json: MCP servers, as JSON (experimental; not in untrusted environments).
        agent: Enable the CORS proxy and all built-in tools (not in untrusted environments).
        ui: Whether to serve the web UI.
        api_key_file: File with API keys, one per line.
        ssl_key_file: File with the SSL private key, PEM-encoded.
        ssl_cert_file: File with the SSL certificate, PEM-encoded.
        timeout: Server read/write timeout in seconds.
        cache_prompt: Whether to enable prompt caching.
        props: Enable changing global properties with POST /props.
        reasoning_effort: Default reasoning effort for the chat template, such as `low` or `high`.
        reasoning_preserve: Keep the reasoning of the whole history, not just of the last assistant message.
        lora_init_without_apply: Load LoRA adapters without applying them; `set_lora_adapters` does.
        log_prompts_dir: Directory to write prompts to, for debugging.
        spec_default: Enable default speculative decoding config.
    """

    cpu_mask: str | None
    cpu_range: str | None
    cpu_strict: int | None
    prio: int | None
    poll: int | None
    cpu_mask_batch: str | None
    cpu_range_batch: str | None
    cpu_strict_batch: int | None
    prio_batch: int | None
    poll_batch: int | None
    predict: int | None
    keep: int | None
    swa_full: bool | None
    perf: bool | None
    escape: bool | None
    rope_scaling: str | None
    rope_scale: float | None
    rope_freq_base: float | None
    rope_freq_scale: float | None
    yarn_orig_ctx: int | None
    yarn_ext_factor: float | None
    yarn_attn_factor: float | None
    yarn_beta_slow: float | None
    yarn_beta_fast: float | None
    kv_offload: bool | None
    repack: bool | None
    no_host: bool | None
    defrag_thold: int | None
    rpc: str | None
    load_mode: str | None
    lazy_mode: str | None
    numa: str | None
    device: str | Sequence[Any] | None
    override_tensor: str | Sequence[Any] | None
    cpu_moe: bool | None
    n_cpu_moe: int | None
    moe_cache_mib: int | None
    n_cpu_ffn: int | None
    split_mode: str | None
    tensor_split: str | Sequence[Any] | None
    main_gpu: int | None
    fit: bool | str | None
    fit_target: str | Sequence[Any] | None
    fit_ctx: int | None
    check_tensors: bool | None
    override_kv: str | Sequence[Any] | None
    op_offload: bool | None
    control_vector: str | None
    control_vector_scaled: str | Sequence[Any] | None
    control_vector_layer_range: Sequence[int] | None
    model_url: str | None
    docker_repo: str | None
    hf_file: str | None
    hf_token: str | None
    log_file: str | None
    verbose: bool | None
    offline: bool | None
    verbosity: int | None
    log_prefix: bool | None
    log_timestamps: bool | None
    spec_draft_type_k: str | None
    spec_draft_type_v: str | None
    samplers: str | None
    sampler_seq: str | None
    ignore_eos: bool | None
    temp: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    top_nsigma: float | None
    xtc_probability: float | None
    xtc_threshold: float | None
    typical: float | None
    repeat_last_n: int | None
    repeat_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    dry_multiplier: float | None
    dry_base: float | None
    dry_allowed_length: int | None
    dry_penalty_last_n: int | None
    dry_sequence_breaker: str | None
    adaptive_target: float | None
    adaptive_decay: float | None
    dynatemp_range: float | None
    dynatemp_exp: float | None
    mirostat: int | None
    mirostat_lr: float | None
    mirostat_ent: float | None
    logit_bias: str | None
    grammar: str | None
    grammar_file: str | None
    json_schema: Mapping[str, Any] | str | None
    json_schema_file: str | None
    backend_sampling: bool | None
    spec_draft_hf: str | None
    spec_draft_threads: int | None
    spec_draft_threads_batch: int | None
    spec_draft_cpu_mask: str | None
    spec_draft_cpu_range: str | None
    spec_draft_cpu_strict: int | None
    spec_draft_prio: int | None
    spec_draft_poll: int | None
    spec_draft_cpu_mask_batch: str | None
    spec_draft_cpu_strict_batch: int | None
    spec_draft_prio_batch: int | None
    spec_draft_poll_batch: int | None
    spec_draft_override_tensor: str | Sequence[Any] | None
    spec_draft_cpu_moe: bool | None
    spec_draft_n_cpu_moe: int | None
    spec_draft_n_max: int | None
    spec_draft_n_min: int | None
    spec_synth_len: int | None
    spec_synth_rates: str | Sequence[Any] | None
    spec_draft_p_split: float | None
    spec_draft_p_min: float | None
    spec_draft_backend_sampling: bool | None
    spec_draft_sampling: str | None
    spec_draft_device: str | Sequence[Any] | None
    spec_draft_ngl: int | None
    spec_ngram_mod_n_min: int | None
    spec_ngram_mod_n_max: int | None
    spec_ngram_mod_n_match: int | None
    spec_ngram_simple_size_n: int | None
    spec_ngram_simple_size_m: int | None
    spec_ngram_simple_min_hits: int | None
    spec_ngram_map_k_size_n: int | None
    spec_ngram_map_k_size_m: int | None
    spec_ngram_map_k_min_hits: int | None
    spec_ngram_map_k4v_size_n: int | None
    spec_ngram_map_k4v_size_m: int | None
    spec_ngram_map_k4v_min_hits: int | None
    lookup_cache_static: str | None
    lookup_cache_dynamic: str | None
    kv_unified_per_slot: int | None
    ctx_checkpoints: int | None
    checkpoint_min_step: int | None
    cache_idle_slots: bool | None
    context_shift: bool | None
    reverse_prompt: str | None
    special: bool | None
    spm_infill: bool | None
    cont_batching: bool | None
    mmproj_url: str | None
    mmproj_auto: bool | None
    mmproj_offload: bool | None
    mmproj_device: str | None
    image_min_tokens: int | None
    image_max_tokens: int | None
    mtmd_batch_max_tokens: int | None
    video_fps: float | None
    video_timestamp_interval: int | None
    video_ffmpeg_dir: str | None
    tags: str | None
    embd_normalize: int | None
    reuse_port: bool | None
    path: str | None
    cors_origins: str | None
    cors_methods: str | None
    cors_headers: str | None
    cors_credentials: bool | None
    ui_config: Mapping[str, Any] | str | None
    ui_config_file: str | None
    ui_mcp_proxy: bool | None
    tools: str | Sequence[Any] | None
    tools_runtime: str | None
    mcp_servers_config: str | None
    mcp_servers_json: Mapping[str, Any] | str | None
    agent: bool | None
    ui: bool | None
    api_key_file: str | None
    ssl_key_file: str | None
    ssl_cert_file: str | None
    timeout: int | None
    cache_prompt: bool | None
    props: bool | None
    reasoning_effort: str | None
    reasoning_preserve: bool | None
    lora_init_without_apply: bool | None
    log_prompts_dir: str | None
    spec_default: bool | None
