"""The reader of GGUF heads: what it reads, and what it does with broken files."""

import struct
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamacpp_server.local import LocalServerError, estimate_memory, write_decisions_copy

TINY = Path(__file__).parents[3] / "models" / "tiny-chat.gguf"
SHARED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def model(path, **values):
    """A file without tensors, with one key for each kind of value."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in values.items():
        writer.add_key_value(name, value[0], value[1])
    writer.add_token_list(["<s>", "</s>", "it's", "a\\b"])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_chat_template("{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_copy_has_two_keys_more_and_the_same_weights(tmp_path):
    copy = write_decisions_copy(TINY, tmp_path / "copy.gguf")
    before, after = gguf.GGUFReader(TINY), gguf.GGUFReader(copy)
    assert list(after.fields)[-2:] == ["llama.decision.type", "tokenizer.chat_template.systemone"]
    assert set(after.fields) == {*before.fields, "llama.decision.type", "tokenizer.chat_template.systemone"}
    assert after.fields["llama.decision.type"].contents() == "openjev"
    for name, field in before.fields.items():
        if not name.startswith("GGUF."):
            assert field.contents() == after.fields[name].contents(), name
    assert len(before.tensors) == len(after.tensors) > 0
    for one, other in zip(before.tensors, after.tensors, strict=True):
        assert (one.name, one.tensor_type) == (other.name, other.tensor_type)
        assert (one.data == other.data).all()


def test_special_tokens_of_the_template_are_quoted(tmp_path):
    copy = write_decisions_copy(model(tmp_path / "model.gguf"), tmp_path / "copy.gguf")
    template = gguf.GGUFReader(copy).fields["tokenizer.chat_template.systemone"].contents()
    assert r"{%- set bos_token = 'it\'s' -%}{%- set eos_token = 'a\\b' -%}" in template


def test_the_copy_keeps_the_permissions_of_the_model(tmp_path):
    source = model(tmp_path / "model.gguf")
    source.chmod(0o640)
    assert write_decisions_copy(source, tmp_path / "copy.gguf").stat().st_mode & 0o777 == 0o640


def test_the_model_itself_is_never_overwritten(tmp_path):
    source = model(tmp_path / "model.gguf")
    data = source.read_bytes()
    (tmp_path / "link.gguf").symlink_to(source)
    (tmp_path / "hard.gguf").hardlink_to(source)
    for target in (source, tmp_path / "link.gguf", tmp_path / "hard.gguf", tmp_path / "." / "model.gguf"):
        for overwrite in (False, True):
            with pytest.raises(LocalServerError, match="can't replace the model itself"):
                write_decisions_copy(source, target, overwrite=overwrite)
    assert source.read_bytes() == data


def test_an_existing_copy_is_replaced_only_on_request(tmp_path):
    source, copy = model(tmp_path / "model.gguf"), tmp_path / "copy.gguf"
    copy.write_bytes(b"something else")
    with pytest.raises(LocalServerError, match="already exists -- pass overwrite=True"):
        write_decisions_copy(source, copy)
    assert copy.read_bytes() == b"something else"
    assert write_decisions_copy(source, copy, overwrite=True).read_bytes()[:4] == b"GGUF"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.gguf", "model.gguf"]


def test_a_file_that_appears_while_the_copy_is_written_is_kept(tmp_path, monkeypatch):
    source, copy = model(tmp_path / "model.gguf"), tmp_path / "copy.gguf"
    synced = []

    def appears(descriptor):
        synced.append(descriptor)
        copy.write_bytes(b"of another program")

    monkeypatch.setattr("os.fsync", appears)
    with pytest.raises(LocalServerError, match="already exists"):
        write_decisions_copy(source, copy)
    assert synced
    assert copy.read_bytes() == b"of another program"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.gguf", "model.gguf"]


def test_a_directory_that_can_not_be_written_is_named(tmp_path):
    with pytest.raises(LocalServerError, match=r"can't write .*missing/copy\.gguf: No such file"):
        write_decisions_copy(model(tmp_path / "model.gguf"), tmp_path / "missing" / "copy.gguf")


def test_models_that_can_not_decide_are_refused(tmp_path, models_dir):
    def refused(source, words):
        with pytest.raises(LocalServerError, match=words):
            write_decisions_copy(source, tmp_path / "copy.gguf")

    refused(models_dir / "missing.gguf", r"missing\.gguf is not a file")
    refused(models_dir, "is not a file")
    refused(models_dir / "encoder.gguf", "no chat template")
    refused(models_dir / "broken.gguf", "unexpected end of file")
    part = model(tmp_path / "part.gguf", **{"split.count": (2, gguf.GGUFValueType.UINT16)})
    refused(part, "one part of a split model")
    copy = write_decisions_copy(models_dir / "random.gguf", tmp_path / "once.gguf")
    refused(copy, "already a decision model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["once.gguf", "part.gguf"]


HEAD = TINY.read_bytes()[:4096]


@SHARED
@given(st.integers(0, len(HEAD)))
def test_a_file_that_ends_too_early_is_an_error_wherever_it_ends(tmp_path, length):
    path = tmp_path / "cut.gguf"
    path.write_bytes(HEAD[:length])
    for read in (estimate_memory, lambda path: write_decisions_copy(path, tmp_path / "copy.gguf")):
        with pytest.raises(LocalServerError, match=r"can't read the header of .*cut\.gguf"):
            read(path)
    assert [file.name for file in tmp_path.iterdir()] == ["cut.gguf"]


@SHARED
@given(st.integers(0, 600), st.sampled_from([b"\xff" * 8, b"\x00" * 8, struct.pack("<Q", 1 << 62), b"\x09\0\0\0" * 2]))
def test_wrong_numbers_in_a_head_are_an_error_or_are_read(tmp_path, at, wrong):
    path = tmp_path / "wrong.gguf"
    path.write_bytes(HEAD[:at] + wrong + HEAD[at + len(wrong) :])
    for read in (estimate_memory, lambda path: write_decisions_copy(path, tmp_path / "copy.gguf", overwrite=True)):
        try:
            read(path)
        except LocalServerError as error:
            assert "wrong.gguf" in str(error)
