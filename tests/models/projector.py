"""Random multimodal projectors: with one of these as `mmproj`, the server takes images and audio."""

from pathlib import Path

import gguf
import numpy as np

from llamacpp_server.testing import write_file

_IMAGE, _PATCH = 56, 14
_MEL_BINS, _STACK, _AUDIO_POSITIONS = 80, 60, 1500


def build_projector(
    path: Path, *, text_embedding_length: int = 64, vision: bool = True, audio: bool = True, seed: int = 0
) -> Path:
    """Write a random projector for a text model of width `text_embedding_length`.

    An image of any size costs 16 prompt tokens, each started half minute of a WAV 25.
    """
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_name("projector")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_bool("clip.has_vision_encoder", vision)
    writer.add_bool("clip.has_audio_encoder", audio)
    tensors: dict[str, np.ndarray] = {}
    if vision:
        tensors |= _vision(writer, rng, text_embedding_length)
    if audio:
        tensors |= _audio(writer, rng, text_embedding_length)
    write_file(writer, tensors)
    return path


def _encoder(writer: gguf.GGUFWriter, part: str, width: int, hidden: int, projection: int, kind: str) -> None:
    writer.add_uint32(f"clip.{part}.embedding_length", width)
    writer.add_uint32(f"clip.{part}.feed_forward_length", hidden)
    writer.add_uint32(f"clip.{part}.block_count", 1)
    writer.add_uint32(f"clip.{part}.attention.head_count", 2)
    writer.add_uint32(f"clip.{part}.projection_dim", projection)
    writer.add_float32(f"clip.{part}.attention.layer_norm_epsilon", 1e-5)
    writer.add_string(f"clip.{part}.projector_type", kind)


def _vision(writer: gguf.GGUFWriter, rng: np.random.Generator, text_width: int) -> dict[str, np.ndarray]:
    width, hidden = 16, 32
    _encoder(writer, "vision", width, hidden, text_width, "mlp")
    writer.add_uint32("clip.vision.image_size", _IMAGE)
    writer.add_uint32("clip.vision.patch_size", _PATCH)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    writer.add_bool("clip.use_gelu", True)
    return {
        "v.patch_embd.weight": _random(rng, width, 3, _PATCH, _PATCH),
        "v.position_embd.weight": _random(rng, (_IMAGE // _PATCH) ** 2, width),
        **_block(rng, "v.blk.0", width, hidden),
        "mm.0.weight": _random(rng, 16, width),
        "mm.0.bias": np.zeros(16, np.float32),
        "mm.2.weight": _random(rng, text_width, 16),
        "mm.2.bias": np.zeros(text_width, np.float32),
    }


def _audio(writer: gguf.GGUFWriter, rng: np.random.Generator, text_width: int) -> dict[str, np.ndarray]:
    width, hidden = 8, 16
    _encoder(writer, "audio", width, hidden, text_width, "ultravox")
    writer.add_uint32("clip.audio.num_mel_bins", _MEL_BINS)
    writer.add_uint32("clip.audio.projector.stack_factor", _STACK)
    return {
        "a.conv1d.1.weight": _random(rng, width, _MEL_BINS, 3).astype(np.float16),
        "a.conv1d.1.bias": np.zeros((width, 1), np.float32),
        "a.conv1d.2.weight": _random(rng, width, width, 3).astype(np.float16),
        "a.conv1d.2.bias": np.zeros((width, 1), np.float32),
        "a.position_embd.weight": _random(rng, _AUDIO_POSITIONS, width),
        "a.post_ln.weight": np.ones(width, np.float32),
        "a.post_ln.bias": np.zeros(width, np.float32),
        **_block(rng, "a.blk.0", width, hidden),
        "a.blk.0.attn_q.bias": np.zeros(width, np.float32),
        "a.blk.0.attn_v.bias": np.zeros(width, np.float32),
        "mm.a.norm_pre.weight": np.ones(width * _STACK, np.float32),
        "mm.a.mlp.1.weight": _random(rng, 2 * 16, width * _STACK),
        "mm.a.norm_mid.weight": np.ones(16, np.float32),
        "mm.a.mlp.2.weight": _random(rng, text_width, 16),
    }


def _block(rng: np.random.Generator, prefix: str, width: int, hidden: int) -> dict[str, np.ndarray]:
    block = {f"{prefix}.attn_{name}.weight": _random(rng, width, width) for name in ("q", "k", "v", "out")}
    for norm in ("ln1", "ln2"):
        block[f"{prefix}.{norm}.weight"] = np.ones(width, np.float32)
        block[f"{prefix}.{norm}.bias"] = np.zeros(width, np.float32)
    block[f"{prefix}.ffn_up.weight"] = _random(rng, hidden, width)
    block[f"{prefix}.ffn_up.bias"] = np.zeros(hidden, np.float32)
    block[f"{prefix}.ffn_down.weight"] = _random(rng, width, hidden)
    block[f"{prefix}.ffn_down.bias"] = np.zeros(width, np.float32)
    return block


def _random(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
