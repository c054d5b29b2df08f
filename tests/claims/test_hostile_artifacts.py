"""Files that are no artifact, or that somebody laid out to harm: each is refused with the right word."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable

import pytest
from claimed import IMAGES

from rushkit.claims.artifact import read_artifact, write_artifact
from rushkit.claims.canonical import decode, encode
from rushkit.claims.container import write_container
from rushkit.claims.problem import ArtifactError

# What would call print, were it unpickled.
PICKLE = b"cbuiltins\nprint\n(S'executed'\ntR."
MEMBERS = "manifest.json", "images.safetensors", "weights.safetensors"


@pytest.fixture(scope="module")
def whole(fixed, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "a.rushkit"
    write_artifact(path, fixed.artifact)
    return path.read_bytes()


def members_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries: list[tuple[zipfile.ZipInfo, bytes]], comment: bytes = b"") -> bytes:
    """What Python's zipfile writes, as somebody else would pack an artifact."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for info, data in entries:
            archive.writestr(info, data)
        archive.comment = comment
    return out.getvalue()


def info(name: str, **changes: object) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def entries_of(data: bytes) -> list[tuple[zipfile.ZipInfo, bytes]]:
    return [(info(name), content) for name, content in members_of(data).items()]


def central(data: bytes) -> int:
    """Where the entry of the first member in the directory begins."""
    return struct.unpack_from("<I", data, len(data) - 6)[0]


def patched(data: bytes, place: int, value: bytes) -> bytes:
    return data[:place] + value + data[place + len(value) :]


def compressed(data: bytes) -> bytes:
    return zipped(
        [(info(name, compress_type=zipfile.ZIP_DEFLATED), content) for name, content in members_of(data).items()]
    )


def bomb(data: bytes) -> bytes:
    """Ten gigabytes of zeros in some megabytes, were it read: here the size is only said."""
    out = data
    for place in (central(data) + 20, central(data) + 24):
        out = patched(out, place, struct.pack("<I", 0xFFFFFFF0))
    return out


def twice(data: bytes) -> bytes:
    with pytest.warns(UserWarning, match="Duplicate name"):
        return zipped([*entries_of(data)[:2], entries_of(data)[0]])


def renamed(name: str) -> Callable[[bytes], bytes]:
    return lambda data: zipped([(info(name), entries_of(data)[0][1]), *entries_of(data)[1:]])


def between(data: bytes) -> bytes:
    """A byte behind the last member, with all offsets made to fit."""
    place = central(data)
    out = data[:place] + b"x" + data[place:]
    return patched(out, len(out) - 6, struct.pack("<I", place + 1))


# What is done to the file -> the check that it fails, and a word of the message.
LAYOUTS: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "empty": (lambda data: b"", "RV18", "no artifact"),
    "a web page": (lambda data: b"<!doctype html><p>404", "RV18", "no artifact"),
    "a pickle": (lambda data: PICKLE, "RV18", "no artifact"),
    "cut short by a byte": (lambda data: data[:-1], "RV16", "cut short"),
    "cut in the middle": (lambda data: data[: len(data) // 2], "RV16", "cut short"),
    "cut to its start": (lambda data: data[:20], "RV16", "20 bytes"),
    "bytes behind": (lambda data: data + b"x", "RV16", "extra bytes"),
    "bytes before": (lambda data: b"PK\x03\x04xx" + data, "RV16", "extra bytes"),
    "bytes between": (between, "RV16", "extra bytes"),
    "a comment": (lambda data: zipped(entries_of(data), b"hello"), "RV16", "extra bytes"),
    "a member twice": (twice, "RV16", "two members"),
    "compressed": (compressed, "RV16", "is compressed"),
    "encrypted": (lambda data: patched(data, central(data) + 8, b"\x01\x00"), "RV16", "is encrypted"),
    "a data descriptor": (lambda data: patched(data, central(data) + 8, b"\x08\x00"), "RV16", "data descriptor"),
    "zip64": (lambda data: patched(data, central(data) + 20, b"\xff" * 8), "RV16", "zip64"),
    "an extra field": (
        lambda data: zipped([(info(name, extra=b"xx\x00\x00"), content) for name, content in members_of(data).items()]),
        "RV16",
        "extra field",
    ),
    "gigabytes of zeros": (bomb, "RV16", "more than the file"),
    "two descriptions": (lambda data: patched(data, 14, b"\x00\x00\x00\x00"), "RV16", "in two ways"),
    "a flipped bit": (
        lambda data: patched(data, central(data) - 1, bytes([data[central(data) - 1] ^ 1])),
        "RV16",
        "checksum",
    ),
    "a path up": (renamed("../../manifest.json"), "RV17", "'../../manifest.json'"),
    "an absolute path": (renamed("/etc/passwd"), "RV17", "'/etc/passwd'"),
    "a drive": (renamed("C:\\manifest.json"), "RV17", "C:"),
    "an escape in a name": (renamed("a\x1b[2J.json"), "RV17", "has a member"),
    "a name of another letter case": (renamed("Manifest.json"), "RV17", "'Manifest.json'"),
    "a pickle inside": (
        lambda data: zipped([*entries_of(data)[:2], (info("data.pkl"), PICKLE)]),
        "RV17",
        "'data.pkl'",
    ),
    "a link": (
        lambda data: zipped(
            [(info("manifest.json", external_attr=0o120777 << 16), b"/etc/passwd"), *entries_of(data)[1:]]
        ),
        "RV17",
        "is a link",
    ),
    "another order": (lambda data: zipped(entries_of(data)[::-1]), "RV16", "order"),
    "four members": (lambda data: zipped([*entries_of(data), (info("more"), b"")]), "RV16", "4 members"),
    "a member too few": (lambda data: zipped(entries_of(data)[:1]), "RV16", "1 members"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_that_is_laid_out_otherwise_is_refused(whole, tmp_path, name):
    mutate, code, words = LAYOUTS[name]
    refused(tmp_path, mutate(whole), code, words)


def refused(folder, data: bytes, code: str, words: str) -> None:
    path = folder / "mutated.rushkit"
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as error:
        read_artifact(path)
    assert words in str(error.value), str(error.value)
    assert error.value.code == code
    assert error.value.hint
    assert "\x1b" not in str(error.value)


def rewritten(data: bytes, **changes: object) -> bytes:
    """The members of an artifact in a container of rushkit's, some of them replaced."""
    members = {name: changes.get(name.partition(".")[0], content) for name, content in members_of(data).items()}
    out = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "rushkit.claims.container.write_atomic", lambda path, chunks, needed: [out.write(one) for one in chunks]
        )
        write_container(None, {name: content for name, content in members.items() if content is not None})
    return out.getvalue()


def told(**changes: object) -> Callable[[bytes], bytes]:
    """The manifest with keys changed; ``a__b`` is the key b of the table a, and None takes it away."""

    def change(data: bytes) -> bytes:
        table = decode(data)
        for key, value in changes.items():
            *above, last = key.split("__")
            place = table
            for one in above:
                place = place[one]
            if value is None:
                del place[last]
            else:
                place[last] = value
        return encode(table)

    return change


MANIFESTS: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "another schema": (told(schema=2), "RV18", "schema 2"),
    "no schema": (told(schema=None), "RV18", "schema None"),
    "a schema that is no number": (told(schema=True), "RV18", "schema True"),
    "votes without end": (told(attack__votes=10**15), "RV16", "attack.votes"),
    "another kind": (told(kind="rushkit certificate"), "RV18", "no claim"),
    "no table": (lambda data: b"[]", "RV18", "no claim"),
    "no JSON": (lambda data: b"{", "RV16", "was altered"),
    "other spaces": (lambda data: json.dumps(json.loads(data)).encode(), "RV16", "canonical"),
    "a key twice": (lambda data: data.replace(b'"images":40', b'"images":40,"images":40'), "RV16", "canonical"),
    "decimals": (lambda data: data.replace(b'{"hex":"' + (0.1).hex().encode() + b'"}', b"0.1"), "RV16", "decimals"),
    "NaN": (lambda data: data.replace(b'"images":40', b'"images":NaN'), "RV16", "was altered"),
    "a number of many digits": (
        lambda data: data.replace(b'"images":40', b'"images":' + b"4" * 5000),
        "RV16",
        "digits",
    ),
    "deep nesting": (lambda data: b"[" * 100_000 + b"]" * 100_000, "RV16", "nested too deeply"),
    "half a character": (
        lambda data: data.replace(b'"made_by":"', b'"made_by":"\\ud800'),
        "RV16",
        "half of a character",
    ),
    "an escape": (told(made_by="rush\x1b[2Jkit"), "RV17", "control characters"),
    "a turn of the direction of writing": (told(data__split="\u202etset/01rafic"), "RV17", "control characters"),
    "a line end in a name": (told(data__classes=["a\nb", "c"]), "RV17", "control characters"),
    "a long name": (told(made_by="x" * 500), "RV17", "letters"),
    "a long recipe": (told(recipe="#" * 100_000), "RV17", "letters"),
    "an unknown key": (told(more=1), "RV16", "more"),
    "a missing key": (told(data=None), "RV16", "data"),
    "a negative radius": (told(attack__eps=-0.1), "RV16", "eps"),
    "a text for a number": (told(images="40"), "RV16", "images"),
    "more images than the file has": (told(images=41), "RV16", "41"),
    "a billion images": (told(images=10**9), "RV16", "is malformed: more images"),
    "images of a terabyte": (told(data__shape=[3, 10**6, 10**6]), "RV16", "larger"),
    "a short chain": (told(chain=["0" * 64]), "RV16", "chain"),
    "sizes of other members": (told(sizes={"images.safetensors": 1}), "RV16", "other sizes"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_is_none_is_refused(whole, tmp_path, name):
    mutate, code, words = MANIFESTS[name]
    manifest = mutate(members_of(whole)["manifest.json"])
    assert manifest != members_of(whole)["manifest.json"]
    refused(tmp_path, rewritten(whole, manifest=manifest), code, words)


def header(change: Callable[[dict], None]) -> Callable[[bytes], bytes]:
    """The images with another header."""

    def apply(data: bytes) -> bytes:
        length = struct.unpack_from("<Q", data)[0]
        table = json.loads(data[8 : 8 + length])
        change(table)
        text = json.dumps(table).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    return apply


TENSORS: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "no bytes": (lambda data: b"", "RV16", "cut short"),
    "a header of petabytes": (lambda data: struct.pack("<Q", 1 << 50) + data[8:], "RV16", "header is too long"),
    "no JSON": (lambda data: data[:8] + b"?" + data[9:], "RV16", "malformed"),
    "a tensor twice": (lambda data: data.replace(b'"labels"', b'"images"'), "RV16", "malformed"),
    "metadata": (header(lambda table: table.update(__metadata__={"a": "b"})), "RV17", "__metadata__"),
    "an escape in a name": (header(lambda table: table.update({"a\x1b[2J": table.pop("labels")})), "RV17", "odd name"),
    "another type": (header(lambda table: table["labels"].update(dtype="F64")), "RV16", "float64"),
    "an unknown type": (header(lambda table: table["labels"].update(dtype="OBJECT")), "RV16", "malformed"),
    "another shape": (header(lambda table: table["images"].update(shape=[IMAGES, 192])), "RV16", "40x192"),
    "a negative shape": (header(lambda table: table["labels"].update(shape=[-40])), "RV16", "malformed"),
    "a shape of 2^60": (header(lambda table: table["labels"].update(shape=[1 << 60])), "RV16", "malformed"),
    "no shape": (header(lambda table: table["labels"].pop("shape")), "RV16", "malformed"),
    "offsets that overlap": (
        header(lambda table: table["labels"].update(data_offsets=table["right"]["data_offsets"])),
        "RV16",
        "not at its place",
    ),
    "a missing tensor": (header(lambda table: table.update(other=table.pop("right"))), "RV16", "in an artifact"),
    "bytes of no tensor": (lambda data: data + b"xxxx", "RV16", "belong to no tensor"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_are_none_are_refused(whole, tmp_path, name):
    mutate, code, words = TENSORS[name]
    images = mutate(members_of(whole)["images.safetensors"])
    sizes = {"images.safetensors": len(images), "weights.safetensors": len(members_of(whole)["weights.safetensors"])}
    manifest = told(sizes=sizes)(members_of(whole)["manifest.json"])
    refused(tmp_path, rewritten(whole, manifest=manifest, images=images), code, words)


def test_a_member_larger_than_its_images_is_not_read(whole, tmp_path):
    images = members_of(whole)["images.safetensors"] + bytes(1 << 21)
    sizes = {"images.safetensors": len(images), "weights.safetensors": len(members_of(whole)["weights.safetensors"])}
    manifest = told(sizes=sizes)(members_of(whole)["manifest.json"])
    refused(tmp_path, rewritten(whole, manifest=manifest, images=images), "RV16", "more bytes than 40 images take")


@pytest.mark.parametrize("kind", ["folder", "pipe", "nothing"])
def test_what_is_no_file_is_refused(tmp_path, kind):
    path = tmp_path / "a.rushkit"
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_artifact(path)


def test_every_byte_counts(whole, tmp_path):
    """A flipped bit anywhere is found while the file is read, or breaks the chain: here at 60 places."""
    path = tmp_path / "a.rushkit"
    for place in range(0, len(whole), len(whole) // 60):
        path.write_bytes(patched(whole, place, bytes([whole[place] ^ 0x10])))
        with pytest.raises(ArtifactError):
            read_artifact(path)


def test_checksums_alone_do_not_make_a_file_whole(whole, tmp_path):
    """Somebody who fits the checksums to altered images breaks the chain instead."""
    images = bytearray(members_of(whole)["images.safetensors"])
    images[-400] ^= 1
    path = tmp_path / "a.rushkit"
    path.write_bytes(rewritten(whole, images=bytes(images)))
    assert zlib.crc32(images) != zlib.crc32(members_of(whole)["images.safetensors"])
    artifact = read_artifact(path)
    assert artifact.manifest.chain != artifact.chain()
