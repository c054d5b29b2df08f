from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from rushkit.errors import CheckpointError, NumericsError
from rushkit.run.checkpoint import load_checkpoint, save_checkpoint

META = {"step": 12, "epoch": 3, "recipe": 'name = "é"', "lr": 0.1, "nested": {"list": [1, None, True]}}


def example_tensors() -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=made)
    return {
        "encoder.weight": base,
        "shared with weight": base,
        "a column": base[:, 1],
        "transposed": base.t(),
        "channels_last": torch.randn(2, 3, 4, 5, generator=made).to(memory_format=torch.channels_last),
        "bf16": torch.randn(3, 3, generator=made).bfloat16(),
        "half": torch.randn(3, generator=made).half(),
        "double": torch.randn(3, generator=made).double(),
        "int64": torch.tensor([-(2**62), 7]),
        "step": torch.tensor(5.0),
        "bool": torch.tensor([True, False, True]),
        "uint8": torch.arange(5, dtype=torch.uint8),
        "empty": torch.empty(0, 3),
        "not finite": torch.tensor([float("nan"), float("inf"), -0.0]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }


def bits(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[torch.dtype, torch.Size, bytes]]:
    return {
        name: (t.dtype, t.shape, t.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, t in tensors.items()
    }


def saved(path: Path) -> bytes:
    save_checkpoint(path, example_tensors(), META)
    return path.read_bytes()


def with_header(data: bytes, change) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def test_tensors_and_meta_come_back_bit_for_bit(tmp_path):
    path = tmp_path / "a.safetensors"
    saved(path)
    loaded = load_checkpoint(path)
    assert bits(loaded.tensors) == bits(example_tensors())
    assert loaded.meta == META
    assert loaded.path == path
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_no_tensors_at_all_can_be_stored(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", {}, {})
    assert load_checkpoint(tmp_path / "a.safetensors").tensors == {}


def test_loaded_tensors_do_not_share_memory(tmp_path):
    saved(tmp_path / "a.safetensors")
    loaded = load_checkpoint(tmp_path / "a.safetensors").tensors
    before = loaded["shared with weight"].clone()
    loaded["encoder.weight"].add_(1)
    assert torch.equal(loaded["shared with weight"], before)


def test_the_safetensors_library_reads_the_file_and_its_one_metadata_key(tmp_path):
    path = tmp_path / "a.safetensors"
    saved(path)
    with safetensors.safe_open(path, "pt") as file:
        assert list(file.metadata()) == ["rushkit"]
        assert bits({name: file.get_tensor(name) for name in file.keys()}) == bits(example_tensors())  # noqa: SIM118


def test_every_tensor_starts_at_a_multiple_of_its_element_size(tmp_path):
    data = saved(tmp_path / "a.safetensors")
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    tensors = example_tensors()
    assert all(header[name]["data_offsets"][0] % t.element_size() == 0 for name, t in tensors.items())


def test_a_tensor_without_a_safetensors_type_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"'odd'.*complex64"):
        save_checkpoint(tmp_path / "a.safetensors", {"odd": torch.zeros(2, dtype=torch.complex64)}, {})
    with pytest.raises(CheckpointError, match=r"'odd'.*sparse"):
        save_checkpoint(tmp_path / "a.safetensors", {"odd": torch.eye(2).to_sparse()}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_nan_in_the_metadata_is_named(tmp_path):
    with pytest.raises(NumericsError, match="best: loss"):
        save_checkpoint(tmp_path / "a.safetensors", {}, {"best": {"loss": float("nan")}})


def test_each_kind_of_damage_has_its_own_message(tmp_path):
    path = tmp_path / "a.safetensors"
    data = saved(path)
    length = int.from_bytes(data[:8], "little")
    flipped = bytearray(data)
    flipped[-1] ^= 1

    def set_document(change):
        def apply(header):
            document = json.loads(header["__metadata__"]["rushkit"])
            change(document)
            header["__metadata__"]["rushkit"] = json.dumps(document)

        return with_header(data, apply)

    cases = {
        "is empty": b"",
        "is cut short: 5 bytes": data[:5],
        "is cut short: 100 bytes": data[:100],
        "is cut short: .* of ": data[:-3],
        "is not a safetensors file": b"PK\x03\x04" + bytes(200),
        "not a safetensors file": data[:20] + b"\xff" + data[21:],
        "altered: its content does not match": bytes(flipped),
        "damaged: .*": data + b"more",
        "not a rushkit checkpoint": safetensors.torch.save({"w": torch.ones(2)}, {"format": "pt"}),
        "metadata is malformed": with_header(data, lambda h: h["__metadata__"].update(rushkit="{")),
        "its metadata is malformed": with_header(data, lambda h: h["__metadata__"].update(rushkit="[1]")),
        "metadata is malformed$": set_document(lambda d: d.pop("hash")),
        "has format 2; this rushkit reads up to 1": set_document(lambda d: d.update(schema=2)),
        "altered": set_document(lambda d: d["meta"].update(step=13)),
        "altered: its": with_header(data, lambda h: h.update(other=h.pop("double"))),
        "altered: its content": with_header(data, lambda h: h["double"].update(dtype="I64")),
        "altered: its content does": with_header(data, lambda h: h["encoder.weight"].update(shape=[6, 4])),
    }
    assert length > 100
    for message, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        assert str(path) in caught.value.message
        assert caught.value.hint
        assert re.search(message, caught.value.message), (message, caught.value.message)


HOSTILE = {
    "a type that torch lacks": lambda h: h["uint8"].update(dtype="F4", shape=[10]),
    "an unknown type": lambda h: h["uint8"].update(dtype="Q9"),
    "a huge empty shape": lambda h: h["empty"].update(shape=[0, 2**62, 4]),
    "a shape past 64 bits": lambda h: h["empty"].update(shape=[0, 2**63]),
    "a shape past every integer": lambda h: h["empty"].update(shape=[0, 10**30]),
    "a negative shape": lambda h: h["empty"].update(shape=[0, -1]),
    "offsets that are texts": lambda h: h["uint8"].update(data_offsets=["0", "5"]),
    "offsets that are missing": lambda h: h["uint8"].pop("data_offsets"),
    "one offset": lambda h: h["uint8"].update(data_offsets=[0]),
    "offsets of infinite size": lambda h: h["uint8"].update(data_offsets=[0, float("inf")]),
    "offsets that are not numbers": lambda h: h["uint8"].update(data_offsets=[0, float("nan")]),
    "overlapping offsets": lambda h: h["uint8"].update(data_offsets=[0, 5]),
    "a tensor that is a number": lambda h: h.update(uint8=3),
    "metadata that is a list": lambda h: h.update(__metadata__=["rushkit"]),
    "a document that is a number": lambda h: h["__metadata__"].update(rushkit=3),
    "a document of brackets": lambda h: h["__metadata__"].update(rushkit="[" * 100_000),
    "a document with a number past every limit": lambda h: h["__metadata__"].update(rushkit="9" * 10_000),
    "a version that is a text": lambda h: h["__metadata__"].update(rushkit='{"schema": "1"}'),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("verify", [True, False])
def test_a_hostile_header_is_refused(tmp_path, change, verify):
    path = tmp_path / "a.safetensors"
    path.write_bytes(with_header(saved(path), change))
    with pytest.raises(CheckpointError):
        load_checkpoint(path, verify=verify)


def test_a_header_of_brackets_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    header = b'{"a":' + b"[" * 100_000
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        load_checkpoint(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path)


def test_verify_false_skips_only_the_hash(tmp_path):
    path = tmp_path / "a.safetensors"
    data = bytearray(saved(path))
    data[-1] ^= 1
    path.write_bytes(data)
    assert load_checkpoint(path, verify=False).meta == META
    path.write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match="cut short"):
        load_checkpoint(path, verify=False)


def test_every_flipped_bit_is_found_or_changes_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"w": torch.arange(4.0), "n": torch.tensor(3)}, {"step": 1})
    data = path.read_bytes()
    expected = bits(load_checkpoint(path).tensors)
    start_of_tensors = 8 + int.from_bytes(data[:8], "little")
    chance = random.Random(0)
    loaded = 0
    for position in range(len(data)):
        altered = bytearray(data)
        altered[position] ^= 1 << chance.randrange(8)
        path.write_bytes(altered)
        try:
            found = load_checkpoint(path)
        except CheckpointError:
            continue
        loaded += 1
        assert position < start_of_tensors
        assert bits(found.tensors) == expected
        assert found.meta == {"step": 1}
    # Such as a space of the padding that became another white space.
    assert loaded < 10


def test_mutated_files_load_the_same_or_raise_a_checkpoint_error(tmp_path):
    path = tmp_path / "a.safetensors"
    data = saved(path)
    expected = bits(load_checkpoint(path).tensors)
    header_end = 8 + int.from_bytes(data[:8], "little")
    chance = random.Random(1)
    words = [
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b"-",
        b"9" * 30,
        b"1e999",
        b"null",
        b"F4",
        b"\\ud800",
        b"\x00",
        b"[" * 5000,
    ]
    outcomes = {"loaded": 0, "refused": 0}
    for _ in range(600):
        mutated = bytearray(data)
        for _ in range(chance.choice([1, 1, 2, 5])):
            # The header is where a reader can be led astray: it gets most of the damage.
            at = chance.randrange(header_end if chance.random() < 0.8 else len(mutated))
            action = chance.randrange(5)
            if action == 0:
                mutated[at : at + 1] = bytes([chance.randrange(256)])
            elif action == 1:
                word = chance.choice(words)
                mutated[at : at + len(word)] = word
            elif action == 2:
                del mutated[at : at + chance.randrange(1, 20)]
            elif action == 3:
                mutated[at:at] = mutated[at : at + chance.randrange(1, 40)]
            else:
                del mutated[at:]
                mutated.extend(bytes(max(header_end - at, 1)))
            if chance.random() < 0.5:
                # A header of the right length, so that the damage reaches the parsers behind.
                grown = len(mutated) - len(data)
                mutated[:8] = max(header_end - 8 + grown, 0).to_bytes(8, "little")
        path.write_bytes(mutated)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError:
            outcomes["refused"] += 1
        else:
            outcomes["loaded"] += 1
            assert bits(loaded.tensors) == expected
            assert loaded.meta == META
    assert outcomes["refused"] > 500
