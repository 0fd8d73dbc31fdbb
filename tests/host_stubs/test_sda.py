"""The file format: what goes in comes out, nothing is lost, and what is no `.sda` is refused with a clear sentence."""

from __future__ import annotations

import json
import os
import pickle
import re
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from host_stubs.bundle import RESERVED, Bundle
from host_stubs.errors import HostError
from host_stubs.model import Model, save_model
from host_stubs.plugins import Plugins
from host_stubs.replace import check_writable
from host_stubs.sda import SdaFile, read_document, read_sda, write_sda


def sda(**changes: Any) -> SdaFile:
    parts: dict[str, Any] = {
        "name": "bells",
        "codec": {"levels": 2},
        "codec_tensors": {"weight": torch.arange(6.0).view(2, 3)},
        "training": {"epochs_trained": 3},
        "dataset": {"folder": "/sounds", "files": []},
        "bundle": Bundle(),
    }
    return SdaFile(**(parts | changes))


def raw_header(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header


def raw_tensor(path: Path, name: str) -> bytes:
    data = path.read_bytes()
    start, end = raw_header(path)[name]["data_offsets"]
    base = 8 + int.from_bytes(data[:8], "little")
    return data[base + start : base + end]


def write_with_document(path: Path, document: str, **tensors: torch.Tensor) -> Path:
    save_file({"codec.weight": torch.zeros(2), **tensors}, path, metadata={"sda": document})
    return path


VALID = {"format": "sda", "version": 2, "model_type": "vqvae", "name": "x", "has_prior": False, "codec": {}}


def test_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.sda"
    bundle = Bundle(has_prior=True)
    bundle.put("prior", {"settings": {"layers": 2}}, {"out.weight": torch.ones(3, dtype=torch.bfloat16)})
    write_sda(path, sda(bundle=bundle))
    back = read_sda(path)
    assert (back.name, back.codec, back.training) == ("bells", {"levels": 2}, {"epochs_trained": 3})
    assert back.dataset == {"folder": "/sounds", "files": []}
    assert torch.equal(back.codec_tensors["weight"], torch.arange(6.0).view(2, 3))
    assert back.bundle.has_prior
    assert back.bundle.names() == ["prior"]
    entry = back.bundle.get("prior")
    assert entry is not None
    assert entry.facts == {"settings": {"layers": 2}}
    assert entry.tensors["out.weight"].dtype == torch.bfloat16


def test_is_what_the_design_says(tmp_path: Path) -> None:
    path = tmp_path / "a.sda"
    write_sda(path, sda())
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()["sda"])
        assert all(name.startswith("codec.") for name in file.keys())  # noqa: SIM118 - the file is not a mapping
    assert document["format"] == "sda"
    assert document["version"] == 2
    assert document["model_type"] == "vqvae"
    assert document["has_prior"] is False
    assert document == read_document(path)


@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn, torch.int64, torch.uint8, torch.complex64],
    ids=str,
)
def test_unknown_tensors_are_kept_byte_for_byte(tmp_path: Path, dtype: torch.dtype) -> None:
    first, second = tmp_path / "a.sda", tmp_path / "b.sda"
    tensor = torch.frombuffer(bytearray(os.urandom(48)), dtype=torch.uint8).view(dtype)
    strange = {
        "future.a": tensor,
        "future.b.c": torch.zeros(0, 4),
        "nodot": torch.tensor(7),
        "bare.flag": torch.ones(1),
    }
    write_with_document(first, json.dumps(VALID), **strange)
    write_sda(second, read_sda(first))
    for name in strange:
        assert raw_tensor(first, name) == raw_tensor(second, name)
        assert {**raw_header(first)[name], "data_offsets": 0} == {**raw_header(second)[name], "data_offsets": 0}


def test_unknown_json_is_kept_byte_for_byte(tmp_path: Path) -> None:
    first, second = tmp_path / "a.sda", tmp_path / "b.sda"
    unknown = {
        "future": '{ "rate" : 1.50e0,\n "huge": 1e999, "digits": 0.10000000000000000555, "é": "\\u00e9" }',
        "list": "[1,  2, {}]",
        "text": '"a , } b"',
        "nothing": "null",
    }
    own = json.dumps(VALID | {"has_prior": True})[:-1]
    document = own + "".join(f' ,\n "{name}" : {text}' for name, text in unknown.items()) + "\n}"
    save_file({"codec.weight": torch.zeros(2)}, first, metadata={"sda": document, "other program": "its note"})
    write_sda(second, read_sda(first))
    metadata = raw_header(second)["__metadata__"]
    for name, text in unknown.items():
        assert f'"{name}": {text}' in metadata["sda"]
    assert metadata["other program"] == "its note"
    assert read_document(second)["has_prior"] is True


def test_an_entry_can_be_replaced_and_removed() -> None:
    bundle = Bundle(texts={"a": '{"x": 1}'}, tensors={"a.t": torch.ones(1), "ab.t": torch.ones(2)})
    bundle.put("a", {"x": 2}, {"u": torch.zeros(1)})
    entry = bundle.get("a")
    assert entry is not None
    assert entry.facts == {"x": 2}
    assert list(entry.tensors) == ["u"]
    bundle.remove("a")
    assert bundle.get("a") is None
    assert bundle.names() == ["ab"]


def test_what_is_put_is_a_copy() -> None:
    bundle, weight = Bundle(), torch.zeros(2)
    bundle.put("a", {}, {"w": weight})
    weight += 1
    entry = bundle.get("a")
    assert entry is not None
    assert entry.tensors["w"].tolist() == [0, 0]


@pytest.mark.parametrize("name", ["codec", "dataset", "has_prior", "", "a.b"])
def test_the_hosts_own_names_are_not_for_plugins(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name an entry"):
        Bundle().put(name, {}, {})


@pytest.mark.parametrize("facts", [{"x": float("nan")}, {"x": object()}], ids=["nan", "object"])
def test_facts_must_be_json_and_a_bad_put_changes_nothing(facts: dict[str, Any]) -> None:
    bundle = Bundle()
    bundle.put("a", {"x": 1}, {})
    with pytest.raises((ValueError, TypeError)):
        bundle.put("a", facts, {})
    entry = bundle.get("a")
    assert entry is not None
    assert entry.facts == {"x": 1}


def test_tensors_that_share_memory_or_lie_askew_are_saved(tmp_path: Path) -> None:
    path, tied = tmp_path / "a.sda", torch.arange(6.0).view(2, 3)
    write_sda(path, sda(codec_tensors={"one": tied, "two": tied, "turned": tied.T, "row": tied[1]}))
    saved = load_file(path)
    assert torch.equal(saved["codec.two"], tied)
    assert torch.equal(saved["codec.turned"], tied.T)
    assert torch.equal(saved["codec.row"], tied[1])


def test_a_loss_that_was_not_finite_becomes_null(tmp_path: Path) -> None:
    path = tmp_path / "a.sda"
    write_sda(path, sda(training={"losses": [1.0, float("nan"), float("inf")]}))
    assert read_sda(path).training == {"losses": [1.0, None, None]}


def test_saving_keeps_the_files_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.sda"
    write_sda(path, sda())
    path.chmod(0o640)
    write_sda(path, sda(name="other"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert read_sda(path).name == "other"


def test_a_new_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_sda(tmp_path / "a.sda", sda())
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.sda").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_saving_follows_a_symbolic_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "a.sda", tmp_path / "link.sda"
    real.parent.mkdir()
    write_sda(real, sda())
    link.symlink_to(real)
    write_sda(link, sda(name="through the link"))
    assert link.is_symlink()
    assert read_sda(real).name == "through the link"


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.sda"
    write_sda(path, sda())
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HostError, match=r"No space left.*Make room on that disk.*unchanged"):
        write_sda(path, sda(name="other"))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_flushed_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    write_sda(tmp_path / "a.sda", sda())
    assert read_sda(tmp_path / "a.sda").name == "bells"


def test_an_output_that_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="does not exist"):
        check_writable(tmp_path / "nowhere" / "a.sda")
    with pytest.raises(HostError, match="is a folder"):
        check_writable(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="does not exist"):
        check_writable(tmp_path / "file" / "a.sda")
    check_writable(tmp_path / "a.sda")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_an_unwritable_folder_is_refused_beforehand(tmp_path: Path) -> None:
    folder = tmp_path
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):  # root may write anywhere but here
        folder = Path("/proc")
    if not folder.is_dir():
        pytest.skip("no folder that this user cannot write to")
    with pytest.raises(HostError, match="cannot be written"):
        check_writable(folder / "a.sda")
    tmp_path.chmod(0o700)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sda"
    write_sda(path, sda())
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(HostError, match=r"truncated|not a \.sda"):
            read_sda(path)


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os._exit, (1,))


def not_sda_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no `.sda`, and what the refusal has to say."""
    names = ["empty", "text", "pickle", "torch", "zip", "other", "headerless", "badjson", "trailing", "nan"]
    path = {name: folder / f"{name}.sda" for name in names}
    path["empty"].touch()
    path["text"].write_text("these are not the bytes you are looking for")
    path["pickle"].write_bytes(pickle.dumps(_Bomb()))
    torch.save({"format": "something"}, path["torch"])
    with zipfile.ZipFile(path["zip"], "w") as archive:
        archive.writestr("readme", "hello")
    save_file({"w": torch.zeros(2)}, path["other"], metadata={"format": "pt"})
    save_file({"w": torch.zeros(2)}, path["headerless"])
    path["badjson"].write_bytes((20).to_bytes(8, "little") + b"{" * 20)
    path["trailing"].write_bytes((2).to_bytes(8, "little") + b'{"' + b"x" * 40)
    write_with_document(path["nan"], "[1, 2]")
    says = ["empty", "not a .sda", "pickle", "zip", "zip", "another program", "another program"]
    says += ["damaged", "damaged", "damaged"]
    return {name: (path[name], text) for name, text in zip(names, says, strict=True)}


def test_what_is_no_sda_is_refused_with_its_own_sentence(tmp_path: Path) -> None:
    for path, text in not_sda_files(tmp_path).values():
        with pytest.raises(HostError) as caught:
            read_sda(path)
        message = str(caught.value)
        assert text in message, message
        assert str(path) in message
        assert "\n" not in message
    with pytest.raises(HostError, match="There is no file"):
        read_sda(tmp_path / "missing.sda")
    with pytest.raises(HostError, match="is a folder"):
        read_sda(tmp_path)


def test_a_model_of_the_existing_host_is_named_and_so_is_the_way_in(tmp_path: Path) -> None:
    path = tmp_path / "old.distill"
    torch.save({"format": "distill_model", "version": 2, "weight": torch.zeros(1)}, path)
    with pytest.raises(HostError, match="host import"):
        read_sda(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 3}, "version 3; this host reads up to 2"),
        ({"version": 1}, "version 1"),
        ({"version": "2"}, "version '2'"),
        ({"version": True}, "version True"),
        ({"format": "other"}, "format 'other'"),
        ({"model_type": "diffusion"}, "type 'diffusion'"),
        ({"name": 7}, "'name'"),
        ({"has_prior": "yes"}, "'has_prior'"),
        ({"codec": None}, "'codec'"),
        ({"dataset": [1]}, "'dataset'"),
        ({"dataset": ""}, "'dataset'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_document_that_is_not_ours_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = write_with_document(tmp_path / "a.sda", json.dumps(VALID | change))
    with pytest.raises(HostError) as caught:
        read_sda(path)
    assert says in str(caught.value)


def test_the_page_on_the_format_has_a_reader_that_works(tmp_path: Path, model: Model, no_plugins: Plugins) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sda-format.md").read_text()
    match = re.search(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert match is not None
    reader: dict[str, Any] = {}
    exec(compile(match[1], "docs/sda-format.md", "exec"), reader)
    path = tmp_path / "a.sda"
    save_model(model, path, no_plugins)
    document, tensors = reader["read_sda"](path)
    assert document == read_document(path)
    mine = read_sda(path).codec_tensors
    assert tensors.keys() == {f"codec.{name}" for name in mine}
    assert all(np.array_equal(tensors[f"codec.{name}"], tensor.numpy()) for name, tensor in mine.items())


def test_the_page_on_the_format_names_every_member_and_tensor(model: Model) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sda-format.md").read_text()
    first_cells = [name for cell in re.findall(r"^\| ([^|]+) \|", page, flags=re.MULTILINE) for name in _code(cell)]
    assert model.manifest is not None
    facts = {*model.codec.settings(), "mel", "folder", "files", *(f"files[].{key}" for key in _entry_keys(model))}
    assert RESERVED | facts <= set(first_cells)
    assert all(f"`{name}`" in page for name in model.codec.settings()["mel"])
    documented = [_pattern(name) for name in first_cells if name.startswith(("encoder", "decoder", "quantizer"))]
    for name in model.codec.tensors():
        assert any(re.fullmatch(pattern, name) for pattern in documented), name


def _pattern(name: str) -> str:
    """A regular expression for a tensor name of the page: {0,4} is one of these, * anything, LEVEL a number."""
    for old, new in ((".", r"\."), ("{", "("), ("}", ")"), (",", "|"), ("*", r"\w+"), ("LEVEL", r"\d+")):
        name = name.replace(old, new)
    return name


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _entry_keys(model: Model) -> list[str]:
    assert model.manifest is not None
    return list(model.manifest.to_json()["files"][0])
