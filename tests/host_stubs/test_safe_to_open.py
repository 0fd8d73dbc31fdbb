"""A file from a stranger: whatever it claims, it is opened or refused at once, and nothing larger than it is made."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from host_stubs import header as header_module
from host_stubs.bundle import Bundle
from host_stubs.cli import build_cli
from host_stubs.errors import HostError
from host_stubs.header import AND_BYTES, BYTES_A_VALUE, DEEPEST, DTYPES, MOST_HEADER_BYTES, TIMES_ITS_SIZE, parsed
from host_stubs.manifest import LONGEST_PATH, MOST_FILES
from host_stubs.model import Model, open_model, save_model
from host_stubs.plugins import Plugins
from host_stubs.sda import read_sda
from host_stubs.serialized import pieces
from host_stubs.stored import TensorFile

MEASURE = """
import json, sys, time
from pathlib import Path
from host_stubs.errors import HostError
from host_stubs.legacy import read_legacy
from host_stubs.model import open_model
from host_stubs.plugins import Plugins

def memory(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

first, *paths = sys.argv[1:]
open_model(first, Plugins())
for path in paths:
    before = memory("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")  # forget the most that there was
    start = time.process_time()
    try:
        (open_model(path, Plugins()) if path.endswith(".sda") else read_legacy(Path(path)))
        message = None
    except HostError as error:
        message = str(error)
    print(json.dumps([message, time.process_time() - start, memory("VmHWM:") - before]))
"""


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def put(path: Path, header: dict[str, Any] | bytes, data: bytes, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)


def with_document(header: dict[str, Any], text: str) -> dict[str, Any]:
    return header | {"__metadata__": {"sda": text}}


def document_of(header: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(header["__metadata__"]["sda"])
    return document


def _members(count: int) -> str:
    return "".join(f', "n{number}": 0' for number in range(count))


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


def claims_ten_gigabytes(path: Path, header: dict[str, Any], data: bytes) -> None:
    put(path, b"{", b"", length=10 * 10**9)
    os.truncate(path, 10 * 10**9 + 8)  # and there are as many, none of them on the disk


def claims_more_than_there_is(path: Path, header: dict[str, Any], data: bytes) -> None:
    put(path, header, data, length=10 * 10**9)


def a_million_namespaces(path: Path, header: dict[str, Any], data: bytes) -> None:
    put(path, with_document(header, header["__metadata__"]["sda"][:-1] + _members(1_000_000) + "}"), data)


def a_million_hidden_namespaces(path: Path, header: dict[str, Any], data: bytes) -> None:
    """Their commas are written so that they can only be counted once the header is read."""
    text = json.dumps(header["__metadata__"]["sda"][:-1] + _members(500_000) + "}").replace(",", "\\u002c")
    put(
        path,
        json.dumps(header | {"__metadata__": {"sda": 0}}).replace('{"sda": 0}', f'{{"sda": {text}}}').encode(),
        data,
    )


def a_million_tensors(path: Path, header: dict[str, Any], data: bytes) -> None:
    end = {"dtype": "F32", "shape": [0], "data_offsets": [len(data), len(data)]}
    put(path, header | {f"future.{number}": end for number in range(300_000)}, data)


def a_wide_text(path: Path, header: dict[str, Any], data: bytes) -> None:
    """A single character makes Python keep four bytes for each of a text."""
    put(path, header | {"__metadata__": {**header["__metadata__"], "note": "x" * (18 * 2**20) + "\U0001f600"}}, data)


def ten_thousand_deep_header(path: Path, header: dict[str, Any], data: bytes) -> None:
    put(path, b'{"a":' * 10_000 + b"0" + b"}" * 10_000, data)


def ten_thousand_deep_namespace(path: Path, header: dict[str, Any], data: bytes) -> None:
    put(
        path,
        with_document(header, header["__metadata__"]["sda"][:-1] + ', "x": ' + "[" * 10_000 + "]" * 10_000 + "}"),
        data,
    )


def a_hundred_deep_namespace(path: Path, header: dict[str, Any], data: bytes) -> None:
    put(path, with_document(header, header["__metadata__"]["sda"][:-1] + f', "x": {"[" * 100 + "]" * 100}}}'), data)


def overlapping_tensors(path: Path, header: dict[str, Any], data: bytes) -> None:
    first, second = (name for name in header if name.endswith("proj.bias"))
    size = 4 * header[first]["shape"][0]
    begin = header[second]["data_offsets"][0]
    put(path, header | {first: header[first] | {"data_offsets": [begin, begin + size]}}, data)


def nan_weights(path: Path, header: dict[str, Any], data: bytes) -> None:
    begin, _ = header["codec.encoder.proj.bias"]["data_offsets"]
    put(path, header, data[:begin] + struct.pack("<f", float("nan")) + data[begin + 4 :])


def infinite_weights(path: Path, header: dict[str, Any], data: bytes) -> None:
    begin, _ = header["codec.encoder.proj.bias"]["data_offsets"]
    put(path, header, data[:begin] + struct.pack("<f", float("-inf")) + data[begin + 4 :])


def settings_of_a_giant(path: Path, header: dict[str, Any], data: bytes) -> None:
    document = document_of(header)
    document["codec"] |= {"dim": 4096, "levels": 32, "codebook_size": 65_536}
    put(path, with_document(header, json.dumps(document)), data)


def a_spectrogram_of_a_giant(path: Path, header: dict[str, Any], data: bytes) -> None:
    document = document_of(header)
    document["codec"]["mel"] |= {"n_fft": 65_536, "hop_length": 4096, "n_mels": 1024}
    put(path, with_document(header, json.dumps(document)), data)


def a_shape_beyond_all_numbers(path: Path, header: dict[str, Any], data: bytes) -> None:
    put(path, header | {"future.x": {"dtype": "F32", "shape": [2**33, 2**33, 0], "data_offsets": [0, 0]}}, data)


def a_gigantic_namespace(path: Path, header: dict[str, Any], data: bytes) -> None:
    """It opens: what nobody asks for is not read."""
    size = 20 * 2**30
    put(
        path,
        header | {"future.x": {"dtype": "U8", "shape": [size], "data_offsets": [len(data), len(data) + size]}},
        data,
    )
    os.truncate(path, path.stat().st_size + size)


def a_pickle_in_a_tensor(path: Path, header: dict[str, Any], data: bytes) -> None:
    """It opens: these are bytes like others, and stay where they are."""
    code = pickle.dumps(_Trap())
    end = len(data) + len(code)
    put(
        path,
        header | {"code.pkl": {"dtype": "U8", "shape": [len(code)], "data_offsets": [len(data), end]}},
        data + code,
    )


CASES: dict[Callable[[Path, dict[str, Any], bytes], None], str | None] = {
    claims_ten_gigabytes: "its header claims 10,000,000,000 bytes",
    claims_more_than_there_is: "its header claims 10,000,000,000 bytes",
    a_million_namespaces: "would take",
    a_million_hidden_namespaces: "would take",
    a_million_tensors: "would take",
    a_wide_text: "would take",
    ten_thousand_deep_header: "its header is not readable JSON",
    ten_thousand_deep_namespace: "its document is not readable JSON",
    a_hundred_deep_namespace: f"its document is more than {DEEPEST} levels deep",
    overlapping_tensors: "overlaps the one before it|does not begin where",
    nan_weights: r"codec's tensor encoder\.proj\.bias holds numbers that are not finite",
    infinite_weights: r"codec's tensor encoder\.proj\.bias holds numbers that are not finite",
    settings_of_a_giant: "its settings ask for|is missing",
    a_spectrogram_of_a_giant: "The spectrogram settings make no sense",
    a_shape_beyond_all_numbers: "of a shape that cannot be",
    a_gigantic_namespace: None,
    a_pickle_in_a_tensor: None,
}


def torch_save(path: Path, **entries: Any) -> None:
    torch.save({"format": "distill_model", "version": 2, "model_type": "vqvae", **entries}, path)


def zip_bomb(path: Path) -> None:
    """128 MiB of zeros in a hundredth of that, where the network should be."""
    torch_save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("x/data/0", "w") as entry:
        for _ in range(128):
            entry.write(bytes(2**20))


def zip_bomb_in_the_pickle(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"distill_model" + bytes(64 * 2**20))


def zip_of_overlapping_entries(path: Path) -> None:
    """A thousand entries, all of them the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({"format": "distill_model"}, protocol=2))
        archive.writestr("x/data/0", bytes(2**20))
        one = archive.getinfo("x/data/0")
        for number in range(1, 1000):
            copy = zipfile.ZipInfo(f"x/data/{number}")
            copy.header_offset, copy.CRC = one.header_offset, one.CRC
            copy.file_size = copy.compress_size = one.file_size
            archive.filelist.append(copy)


def zip_of_nothing_but_names(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"")
        for number in range(12_000):
            archive.writestr(f"{number}", b"")


class _Promise:
    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (10**10,)


def a_promise_of_ten_gigabytes(path: Path) -> None:
    torch_save(path, metadata=_Promise())
    assert b"bytearray" in path.read_bytes()


def one_number_seen_as_a_network(path: Path) -> None:
    """A view of a single number that pretends to be a codebook of a gigabyte."""
    book = torch.zeros(1).expand(1, 65_536, 4096)
    config = {"codebook_dim": 4096, "codebook_size": 65_536, "num_quantizers": 1}
    state = {"quantizer.rvq.layers.0._codebook.embed": book}
    torch_save(path, metadata={}, spectrogram_config={}, vqvae_config=config, model_state_dict=state)


IMPORTS: dict[Callable[[Path], None], str] = {
    zip_bomb: "is a compressed archive",
    zip_bomb_in_the_pickle: "is a compressed archive",
    zip_of_overlapping_entries: "what is in it is larger than the file",
    zip_of_nothing_but_names: "has more than 10,000 entries",
    a_promise_of_ten_gigabytes: "more than tensors and plain values",
    one_number_seen_as_a_network: "its network is larger than the file",
}


@pytest.fixture(scope="module")
def good(codec: Any, sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.sda"
    save_model(Model("tones", codec), path, Plugins())
    return path


@pytest.fixture(scope="module")
def outcomes(good: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str | None, float, int, int]]:
    """For each case what was said, the processor time and the memory that it took in a fresh process, and its size."""
    folder = tmp_path_factory.mktemp("cases")
    header, data = parts(good)
    paths = []
    for make in CASES:
        paths.append(folder / f"{make.__name__}.sda")
        make(paths[-1], header, data)
    for make_import in IMPORTS:
        paths.append(folder / f"{make_import.__name__}.distill")
        make_import(paths[-1])
    environment = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": "131072",
        "OMP_NUM_THREADS": "1",
    }  # what is freed is seen to be
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, good, *paths],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert not (folder / "sprung").exists()
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    return {path.stem: (*line, path.stat().st_size) for path, line in zip(paths, lines, strict=True)}


needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is only measured on Linux")


@needs_proc
@pytest.mark.parametrize(
    ("case", "says"),
    [(make.__name__, says) for make, says in [*CASES.items(), *IMPORTS.items()]],
    ids=[make.__name__ for make in [*CASES, *IMPORTS]],
)
def test_a_file_from_a_stranger(
    outcomes: dict[str, tuple[str | None, float, int, int]], case: str, says: str | None
) -> None:
    message, seconds, memory, size = outcomes[case]
    if says is None:
        assert message is None
    else:
        assert message is not None
        assert re.search(says, message), message
        assert message.isprintable()
    assert seconds < 1
    assert memory <= TIMES_ITS_SIZE * min(size, 100 * 2**20) + AND_BYTES


def test_what_json_takes_in_memory_is_no_more_than_it_is_taken_for() -> None:
    """For each kind of JSON that takes much memory for its length."""
    count = 11_000  # just beyond where Python makes a dictionary twice as large
    kinds = {
        "lists": "[" + ",".join(["[]"] * count) + "]",
        "objects": "[" + ",".join(f'{{"{n}": {{"{-n}": 1.5}}}}' for n in range(count)) + "]",
        "names": "{" + ",".join(f'"{n}":"ab{n}"' for n in range(count)) + "}",
        "numbers": "[" + ",".join(f"{n}.5" for n in range(count)) + "]",
        "wide": "[" + ",".join([json.dumps("\U0001f600")] * count) + "]",
    }
    for kind, text in kinds.items():
        assumed: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(header_module, "check_room", lambda needed, *_, into=assumed: into.append(needed))
            tracemalloc.start()
            parsed('{"a": ' + text + "}", "document", Path("x"), 0)
            taken = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert taken <= assumed[0], kind


@pytest.mark.parametrize("name", DTYPES)
def test_numbers_of_every_type_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    tensor = torch.arange(2).to(DTYPES[name])
    path = tmp_path / "one.safetensors"
    path.write_bytes(b"".join(pieces({"x": tensor}, {})))
    assert f'"dtype":"{name}"'.encode() in path.read_bytes()
    found = TensorFile(path.open("rb", buffering=0), path).tensors()["x"]
    assert found.dtype == tensor.dtype
    assert found.view(torch.uint8).equal(tensor.view(torch.uint8))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dtype": "F31"}, "of a type that this host cannot read: 'F31'"),
        ({"dtype": "F64"}, "which 64 bytes cannot be"),
        ({"dtype": ["F32"]}, "of a type that this host cannot read"),
        ({"shape": [17]}, "which 64 bytes cannot be"),
        ({"shape": [-16]}, "of a shape that cannot be"),
        ({"shape": [16.0]}, "of a shape that cannot be"),
        ({"shape": [True, 16]}, "of a shape that cannot be"),
        ({"shape": [2**62, 2**62]}, "of a shape that cannot be"),
        ({"shape": [1] * 33}, "of a shape that cannot be"),
        ({"shape": 16}, "of a shape that cannot be"),
        ({"data_offsets": [0]}, "in a place that cannot be"),
        ({"data_offsets": [64, 0]}, "cannot be"),
        ({"data_offsets": [2**70, 2**70 + 64]}, "in a place that cannot be"),
        ({"data_offsets": [-64, 0]}, "in a place that cannot be"),
        ({"data_offsets": [4, 68]}, "overlaps|does not begin where the one before ends"),
        ({"extra": 1}, "does not describe tensors"),
    ],
    ids=str,
)
def test_a_tensor_that_cannot_be_is_named(good: Path, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    header, data = parts(good)
    name = "codec.encoder.proj.bias"
    assert header[name]["shape"] == [16]
    put(tmp_path / "bad.sda", header | {name: header[name] | change}, data)
    with pytest.raises(HostError, match=says) as caught:
        read_sda(tmp_path / "bad.sda")
    assert "bad.sda is " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 1}', "a name occurs twice"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": "\\ud800"}', "no text"),
        ('{"\\ud800": 1}', "no text"),
        ('{"a": ' + "1" * 5000 + "}", "not readable JSON"),
        ("[]", "not a JSON object"),
        ("{", "not readable JSON"),
    ],
)
def test_a_document_that_is_not_strict_json_is_refused(good: Path, tmp_path: Path, text: str, says: str) -> None:
    header, data = parts(good)
    put(tmp_path / "bad.sda", with_document(header, text), data)
    with pytest.raises(HostError, match=says):
        read_sda(tmp_path / "bad.sda")


def test_a_header_with_a_name_twice_or_bytes_that_are_no_text_is_refused(good: Path, tmp_path: Path) -> None:
    header, data = parts(good)
    text = json.dumps(header).encode()
    put(tmp_path / "bad.sda", text[:-1] + b', "codec.encoder.proj.bias": {}}', data)
    with pytest.raises(HostError, match="a name occurs twice"):
        read_sda(tmp_path / "bad.sda")
    put(tmp_path / "bad.sda", text.replace(b"tones", b"t\xffnes"), data)
    with pytest.raises(HostError, match="not UTF-8"):
        read_sda(tmp_path / "bad.sda")


def test_bytes_that_belong_to_no_tensor_are_refused(good: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.sda").write_bytes(good.read_bytes() + b"more")
    with pytest.raises(HostError, match="4 bytes at its end belong to no tensor"):
        read_sda(tmp_path / "bad.sda")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.sda")
    with pytest.raises(HostError, match="no file that can be opened"):
        read_sda(tmp_path / "pipe.sda")


def with_namespace(folder: Path, codec: Any) -> Path:
    bundle = Bundle()
    bundle.put("future", {}, {"x": torch.arange(1000.0)})
    save_model(Model("tones", codec, bundle=bundle), folder / "a.sda", Plugins())
    return folder / "a.sda"


def test_a_namespace_that_was_not_read_yet_survives_a_save_over_its_file(codec: Any, tmp_path: Path) -> None:
    path = with_namespace(tmp_path, codec)
    opened = open_model(path, Plugins())
    save_model(Model("another", codec), path, Plugins())
    entry = opened.bundle.get("future")
    assert entry is not None
    assert torch.equal(entry.tensors["x"], torch.arange(1000.0))


@pytest.mark.parametrize("how", ["cut short", "written over"])
def test_a_file_that_another_program_changes_is_noticed(codec: Any, tmp_path: Path, how: str) -> None:
    path = with_namespace(tmp_path, codec)
    opened = open_model(path, Plugins())
    with path.open("r+b") as file:
        if how == "cut short":
            file.truncate(1000)
        else:
            file.seek(-4, 2)
            file.write(b"1234")
    os.utime(path, ns=(0, 0))
    with pytest.raises(HostError, match="has been changed by another program since it was opened"):
        opened.bundle.get("future")
    with pytest.raises(HostError, match="has been changed"):
        save_model(opened, tmp_path / "b.sda", Plugins())
    assert not (tmp_path / "b.sda").exists()


def test_the_page_on_the_format_states_the_limits() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sda-format.md").read_text()
    stated = {
        "bytes of the header": MOST_HEADER_BYTES,
        "levels of objects and lists inside each other": DEEPEST,
        "bytes that a JSON value counts for": BYTES_A_VALUE,
        "times the file's size": TIMES_ITS_SIZE,
        "bytes beside that": AND_BYTES,
        "sides of a shape": header_module.MOST_DIMENSIONS,
        "recordings of a dataset": MOST_FILES,
        "characters of a path": LONGEST_PATH,
    }
    rows = dict(re.findall(r"^\| ([^|]+) \| ([\d ]+) \|$", page, flags=re.MULTILINE))
    assert {name: int(number.replace(" ", "")) for name, number in rows.items() if name in stated} == stated
    assert all(f"`{name}`" in page for name in DTYPES)


@pytest.mark.parametrize("command", ["info", "models"])
def test_a_name_cannot_command_the_terminal(codec: Any, tmp_path: Path, command: str) -> None:
    save_model(Model("\x1b[2J\nhello", codec), tmp_path / "a.sda", Plugins())
    given = tmp_path / "a.sda" if command == "info" else tmp_path
    shown = CliRunner().invoke(build_cli(Plugins()), [command, str(given)]).stdout
    assert r"\x1b[2J\nhello" in shown
    assert "\x1b" not in shown


def check(path: Path, *flags: str) -> Any:
    return CliRunner().invoke(build_cli(Plugins()), ["check", str(path), *flags])


def test_host_check_lists_what_it_has_looked_at(codec: Any, tmp_path: Path) -> None:
    path = with_namespace(tmp_path, codec)
    result = check(path)
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["header", "ok"], ["document", "ok"], ["codec", "ok"], ["future", "?"]
    ]  # fmt: skip
    assert "no installed plugin knows" in result.stdout
    assert [part["known"] for part in json.loads(check(path, "--json").stdout)["parts"]] == [True, True, True, False]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"has_prior": True}, "fails the check of its document: has_prior is true"),
        ({"codec": {}}, "fails the check of its codec: The codec's settings hold no spectrogram"),
        (
            {"dataset": {"folder": "/x", "files": [{}]}},
            "fails the check of its dataset: The dataset manifest is damaged",
        ),
    ],
    ids=str,
)
def test_host_check_says_which_check_failed(good: Path, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    header, data = parts(good)
    put(tmp_path / "bad.sda", with_document(header, json.dumps(document_of(header) | change)), data)
    result = check(tmp_path / "bad.sda")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert says in line
