"""Writes `local/flags.py` from `llama-server --help`: `python scripts/generate_server_options.py [PROGRAM [BUILD]]`.

Options that `local/options.py` describes by hand are left out. `missing` names flags of a build that neither knows;
a test asks it of the installed program, so that a new build shows what is to be added.
"""

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llamacpp_server.local import EXCLUDED, OPTIONS, find_binary

TARGET = Path(__file__).parents[1] / "llamacpp_server" / "local" / "flags.py"
_ENTRY = re.compile(r"^(?P<flags>-[^\s,]+(?:, +-[^\s,]+)*)(?P<value> [^\s][^\n]*?)?(?: {2,}(?P<help>.*))?$")
_END_OF_SENTENCE = re.compile(
    r" ?allowed values| - |; |(?<!max)(?<!i\.e)(?<!e\.g)\. |, one of|,? (?:i\.e|e\.g)\.| ?see http| note:"
    r"|,? (?:for )?example"
)
_NGRAM = {"size_n": "Length of the lookup n-gram", "size_m": "Length of the draft m-gram", "min_hits": "Minimum hits"}
_PRIORITY = "Process and thread priority: -1 low, 0 normal, 1 medium, 2 high, 3 realtime."
_DEVICES = "devices to offload {} to, separated by commas; `none` to offload nothing, `--list-devices` lists them."
# Where the program's own text is not one sentence, or not a clear one.
_WORDED = {
    "cpu_mask": "CPU affinity mask, a hexadecimal number of any length.",
    "cpu_mask_batch": "CPU affinity mask for prompt processing, a hexadecimal number of any length.",
    "cpu_range": "Range of CPUs for affinity.",
    "cpu_range_batch": "Range of CPUs for affinity in prompt processing.",
    "cpu_strict_batch": "Use strict CPU placement in prompt processing.",
    "prio": _PRIORITY,
    "prio_batch": _PRIORITY.replace("priority", "priority for prompt processing"),
    "spec_draft_prio": _PRIORITY.replace("priority", "priority for the draft model"),
    "spec_draft_prio_batch": _PRIORITY.replace("priority", "priority for prompt processing of the draft model"),
    "poll": "Polling level while waiting for work, 0 (no polling) to 100.",
    "poll_batch": "Polling level for prompt processing.",
    "predict": "Maximum number of tokens to generate; -1 sets no limit.",
    "keep": "Number of tokens of the initial prompt to keep; -1 keeps all.",
    "swa_full": "Use a full-size cache for sliding-window attention (SWA).",
    "escape": "Whether to process escape sequences.",
    "rope_scale": "Factor by which RoPE expands the context.",
    "rope_freq_scale": "RoPE frequency scaling factor; the context is expanded by its inverse.",
    "yarn_orig_ctx": "Original context size of the model (YaRN).",
    "yarn_ext_factor": "Extrapolation mix factor (YaRN).",
    "yarn_attn_factor": "Scale of the attention magnitude (YaRN).",
    "yarn_beta_slow": "High correction dimension, or alpha (YaRN).",
    "yarn_beta_fast": "Low correction dimension, or beta (YaRN).",
    "no_host": "Bypass the host buffer, so that extra buffers can be used.",
    "defrag_thold": "KV cache defragmentation threshold (deprecated).",
    "load_mode": "How the model is loaded: `auto`, `none`, `mmap`, `mlock` and others.",
    "lazy_mode": "Whether certain tensors, such as per-layer embeddings, are read from disk on demand.",
    "numa": "NUMA optimization: `distribute`, `isolate` or `numactl`.",
    "device": _DEVICES.format("the model").capitalize(),
    "spec_draft_device": _DEVICES.format("the draft model").capitalize(),
    "override_tensor": "Override the buffer type of tensors.",
    "cpu_moe": "Keep all Mixture of Experts weights on the CPU.",
    "n_cpu_moe": "Keep the Mixture of Experts weights of the first N layers on the CPU.",
    "n_cpu_ffn": "Keep the dense FFN weights of the first N layers on the CPU.",
    "spec_draft_cpu_moe": "Keep all Mixture of Experts weights of the draft model on the CPU.",
    "spec_draft_n_cpu_moe": "Keep the Mixture of Experts weights of the draft model's first N layers on the CPU.",
    "moe_cache_mib": "GPU cache in MiB for Mixture of Experts weights that are kept on the CPU.",
    "split_mode": "How to split the model across GPUs: `none`, `layer`, `row` or `tensor`.",
    "tensor_split": "Proportions of the model for each GPU, separated by commas.",
    "main_gpu": "The GPU for the model (split mode `none`), or for intermediate results and KV (`row`).",
    "fit": "Whether to adjust unset arguments so that the model fits into device memory.",
    "fit_target": "Free memory in MiB to keep on each device with `fit`: one value, or one per device.",
    "fit_ctx": "Minimum context size that `fit` may choose.",
    "check_tensors": "Check the model's tensors for invalid values.",
    "override_kv": "Override entries of the model's metadata by key.",
    "control_vector_scaled": "Add a control vector with a scale.",
    "control_vector_layer_range": "First and last layer for control vectors.",
    "model_url": "URL of the model file.",
    "log_file": "Log file.",
    "verbose": "Log everything.",
    "offline": "Use only cached files; no network access.",
    "verbosity": "Verbosity of the log: 0 (generic output) to 5 (debug).",
    "log_prefix": "Prefix log messages with their level.",
    "log_timestamps": "Add timestamps to log messages.",
    "spec_draft_type_k": "Type of the draft model's keys in the cache.",
    "spec_draft_type_v": "Type of the draft model's values in the cache.",
    "samplers": "Names of the samplers in their order, separated by semicolons.",
    "sampler_seq": "The samplers in their order, as one letter each.",
    "ignore_eos": "Ignore the end-of-stream token and continue generating.",
    "temp": "Default temperature.",
    "xtc_probability": "XTC probability.",
    "xtc_threshold": "XTC threshold.",
    "repeat_last_n": "Number of recent tokens that `repeat_penalty` considers.",
    "repeat_penalty": "Penalty for repeated tokens; 1 is off.",
    "presence_penalty": "Flat penalty for tokens already used; 0 is off.",
    "frequency_penalty": "Penalty for each use of a token; 0 is off.",
    "dry_multiplier": "Strength of the DRY penalty; 0 is off.",
    "dry_base": "Base of the DRY penalty.",
    "dry_allowed_length": "Length of repetitions that DRY allows.",
    "dry_penalty_last_n": "Number of recent tokens that DRY considers.",
    "dry_sequence_breaker": "Text that ends a repetition for DRY, instead of the default ones.",
    "adaptive_target": "Target probability of adaptive-p; negative is off.",
    "adaptive_decay": "How slowly the target of adaptive-p changes.",
    "mirostat": "Mirostat version, 1 or 2; 0 is off.",
    "mirostat_lr": "Mirostat's learning rate (eta).",
    "mirostat_ent": "Mirostat's target entropy (tau).",
    "logit_bias": "Bias of a token, such as `15043+1` or `15043-1`.",
    "grammar": "GBNF grammar that constrains every answer.",
    "grammar_file": "File with a GBNF grammar that constrains every answer.",
    "json_schema": "JSON schema that constrains every answer.",
    "json_schema_file": "File with a JSON schema that constrains every answer.",
    "spec_draft_cpu_range": "Range of CPUs for the draft model.",
    "spec_draft_threads": "Threads for generating with the draft model.",
    "spec_draft_threads_batch": "Threads for prompt processing with the draft model.",
    "spec_draft_poll": "Polling level of the draft model while waiting for work.",
    "spec_draft_poll_batch": "Polling level of the draft model for prompt processing.",
    "spec_draft_cpu_strict_batch": "Use strict CPU placement for the draft model's prompt processing.",
    "spec_draft_cpu_mask_batch": "CPU affinity mask for the draft model's prompt processing.",
    "spec_draft_hf": "Hugging Face repository of the draft model.",
    "spec_synth_len": "Mean length of synthetic acceptance, for benchmarks.",
    "spec_synth_rates": "Probabilities of synthetic acceptance for each position, for benchmarks.",
    "reverse_prompt": "Text at which generation stops.",
    "lora_init_without_apply": "Load LoRA adapters without applying them; `set_lora_adapters` does.",
    "spec_draft_sampling": "How the draft is sampled: `greedy` or `probabilistic`.",
    "spec_draft_ngl": "Layers of the draft model on the GPU: a number, `auto` or `all`.",
    "spec_draft_p_min": "Minimum probability of a drafted token.",
    "spec_ngram_mod_n_min": "Minimum number of n-gram tokens for speculative decoding (ngram-mod).",
    "spec_ngram_mod_n_max": "Maximum number of n-gram tokens for speculative decoding (ngram-mod).",
    "spec_ngram_mod_n_match": "Lookup length (ngram-mod).",
    **{
        f"spec_ngram_{kind.replace('-', '_')}_{part}": f"{words} (ngram-{kind})."
        for kind in ("simple", "map-k", "map-k4v")
        for part, words in _NGRAM.items()
    },
    "kv_unified_per_slot": "Context limit of each slot.",
    "ctx_checkpoints": "Maximum number of context checkpoints for each slot.",
    "cache_idle_slots": "Save idle slots to the prompt cache when a task arrives; clear them if they share a context.",
    "context_shift": "Whether to shift the context during endless generation.",
    "special": "Output special tokens.",
    "spm_infill": "Use the order suffix, prefix, middle for infill, which some models prefer.",
    "mmproj_url": "URL of a multimodal projector.",
    "mmproj_auto": "Whether to use the multimodal projector that belongs to a Hugging Face model.",
    "mmproj_offload": "Whether to run the multimodal projector on the GPU.",
    "mmproj_device": "Device for the multimodal projector; `--list-devices` lists them.",
    "image_min_tokens": "Minimum tokens for each image, with vision models of dynamic resolution.",
    "image_max_tokens": "Maximum tokens for each image, with vision models of dynamic resolution.",
    "mtmd_batch_max_tokens": "Maximum number of image tokens in a batch.",
    "video_timestamp_interval": "Milliseconds between the text timestamps of a video.",
    "video_ffmpeg_dir": "Directory with ffmpeg and ffprobe.",
    "tags": "Tags of the model, separated by commas.",
    "embd_normalize": "Normalization of embeddings: -1 none, 0 max int16, 1 taxicab, 2 euclidean, above 2 p-norm.",
    "path": "Directory of static files.",
    "cors_origins": "Allowed origins for CORS, separated by commas; `localhost` allows only this machine's.",
    "cors_methods": "Allowed methods for CORS, separated by commas.",
    "cors_headers": "Allowed headers for CORS, separated by commas.",
    "ui_config": "Default settings of the web UI, as JSON.",
    "ui_config_file": "JSON file with default settings of the web UI.",
    "ui_mcp_proxy": "Enable the MCP CORS proxy (experimental; not in untrusted environments).",
    "tools": "Built-in tools for AI agents, such as `all` (experimental; not in untrusted environments).",
    "tools_runtime": "Container to run the tools in (experimental).",
    "mcp_servers_config": "JSON file with MCP servers (experimental; not in untrusted environments).",
    "mcp_servers_json": "MCP servers, as JSON (experimental; not in untrusted environments).",
    "agent": "Enable the CORS proxy and all built-in tools (not in untrusted environments).",
    "ui": "Whether to serve the web UI.",
    "api_key_file": "File with API keys, one per line.",
    "ssl_key_file": "File with the SSL private key, PEM-encoded.",
    "ssl_cert_file": "File with the SSL certificate, PEM-encoded.",
    "props": "Enable changing global properties with POST /props.",
    "reasoning_effort": "Default reasoning effort for the chat template, such as `low` or `high`.",
    "reasoning_preserve": "Keep the reasoning of the whole history, not just of the last assistant message.",
    "log_prompts_dir": "Directory to write prompts to, for debugging.",
}
_HEAD = '''\
"""Options of llama-server that need no conversion, from {build}. Generated, see scripts/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

Row = tuple[str, str, tuple[str, ...]]
"""Flag, kind of its value (`value`, `switch`, `both`, `on_off`, `list`, `pair`, `json`), and its other long names."""

'''


# Numbers with decimals whose help shows no default.
_FLOATS = {"rope_scale", "rope_freq_base", "rope_freq_scale"}


@dataclass(frozen=True)
class Entry:
    """One option of the program."""

    long: list[str]
    negative: bool
    value: str
    help: str

    @property
    def name(self) -> str:
        """As a keyword of Python."""
        return self.long[0].removeprefix("--").replace("-", "_").replace(".", "_")

    @property
    def kind(self) -> str:
        """How a value becomes arguments."""
        if not self.value:
            return "both" if self.negative else "switch"
        if "on|off" in self.value:
            return "on_off"
        if "JSON" in self.value or "SCHEMA" in self.value:
            return "json"
        if self.value == "START END":
            return "pair"
        return "list" if re.search(r",\.\.|1,", self.value) else "value"

    @property
    def annotation(self) -> str:
        """Its type."""
        if self.kind in ("both", "switch"):
            return "bool | None"
        if self.kind == "on_off":
            return "bool | str | None"
        if self.kind == "json":
            return "Mapping[str, Any] | str | None"
        if self.kind in ("list", "pair"):
            return "str | Sequence[Any] | None" if self.kind == "list" else "Sequence[int] | None"
        if re.fullmatch(r"N|P|INDEX|SECONDS|<0\|1>|<0\.\.\.100>|L|SEED", self.value):
            is_float = self.name in _FLOATS or re.search(r"default: -?\d+\.\d", self.help)
            return "float | None" if is_float else "int | None"
        return "str | None"


def entries(text: str) -> Iterator[Entry]:
    """The options of a help text."""
    for block in re.split(r"\n(?=-[^-\s]|--[a-z]|-----)", text):
        first, _, rest = block.partition("\n")
        found = _ENTRY.match(first)
        if found is None or block.startswith("-----"):
            continue
        flags = re.split(r", +", found["flags"])
        more = " ".join(
            [found["help"] or "", *(line.strip() for line in rest.split("\n") if line.startswith(" " * 20))]
        )
        long = [flag for flag in flags if flag.startswith("--") and not flag.startswith("--no-")]
        negative = [flag for flag in flags if flag.startswith("--no-")]
        long = long or negative
        if long and "argument has been removed" not in more:
            yield Entry(long, bool(negative) and long != negative, (found["value"] or "").strip(), more.strip())


def missing(text: str) -> list[str]:
    """Flags of a help text that no option of `LocalServer` sets and `EXCLUDED` does not name."""
    from llamacpp_server.local import FLAGS

    known = {option.flag for option in OPTIONS.values()} | {row[0] for row in FLAGS.values()} | set(EXCLUDED)
    return [entry.long[0] for entry in entries(text) if not known & set(entry.long)]


def written(text: str, build: str) -> str:
    """The module for a help text."""
    by_hand = {option.flag for name, option in OPTIONS.items() if not option.generated}
    kept = [entry for entry in entries(text) if not set(entry.long) & (by_hand | set(EXCLUDED))]
    lines = [_HEAD.format(build=build), "FLAGS: Final[Mapping[str, Row]] = {"]
    for entry in kept:
        others = tuple(flag.removeprefix("--").replace("-", "_") for flag in entry.long[1:])
        lines.append(f"    {entry.name!r}: {(entry.long[0], entry.kind, others)!r},")
    lines += ["}", "", "", "class ServerFlags(TypedDict, total=False):"]
    lines += ['    """Options by their flags; None is the server\'s own default.', "", "    Attributes:"]
    lines += [_described(entry) for entry in kept]
    lines += ['    """', "", *(f"    {entry.name}: {entry.annotation}" for entry in kept), ""]
    return "\n".join(lines)


def _sentence(entry: Entry) -> str:
    """The first sentence of a help text, without what is in parentheses; or the one of `_WORDED`."""
    if entry.name in _WORDED:
        return _WORDED[entry.name]
    text = re.sub(r"\s*\[?\([^()]*(\([^()]*\)[^()]*)*\)\]?", "", entry.help)
    text = _END_OF_SENTENCE.split(text)[0]
    text = re.split(r"[,;]? ?[(\[]|, default", text)[0].partition("\\")[0].replace("max. ", "maximum ").strip(" ,.;:('")
    return (text[:1].upper() + text[1:] or "No description") + "."


def _described(entry: Entry) -> str:
    """A line of the docstring, wrapped."""
    wrapped = textwrap.wrap(f"{entry.name}: {_sentence(entry)}", 110, subsequent_indent=" " * 4, break_on_hyphens=False)
    return "\n".join(" " * 8 + line for line in wrapped)


def main() -> None:
    """Write the module, and format it."""
    program = Path(sys.argv[1]) if len(sys.argv) > 1 else find_binary()
    if program is None:
        raise SystemExit("name a llama-server program")
    text = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    build = sys.argv[2] if len(sys.argv) > 2 else "of an unknown build"
    TARGET.write_text(written(text, f"llama.cpp {build}"), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", TARGET], check=True)


if __name__ == "__main__":
    main()
