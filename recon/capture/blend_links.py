"""Which files a .blend needs beside itself, read from the file without Blender.

    header, then blocks: code, size, index of a structure, data
    LI, IM, VF, CF, VO   a library, image, font, cache or volume: its structure holds a path of 1024 bytes
    DNA1                 the names, types and sizes of all structures

A workflow asks this of every .blend each time it plans, where Blender would take seconds, or is not installed. What
Blender 5 compresses, Python unpacks from 3.14 on.
"""

import gzip
import importlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LINKING = (b"LI\0\0", b"IM\0\0", b"VF\0\0", b"CF\0\0", b"VO\0\0")
PATH_FIELDS = ("name[1024]", "filepath[1024]")
ZSTANDARD = b"\x28\xb5\x2f\xfd"


class UnreadableError(Exception):
    """The file is compressed in a way, or laid out in one, that is not known here."""


class Block(NamedTuple):
    code: bytes
    structure: int
    start: int
    size: int


def linked_files(path: Path) -> list[Path]:
    """The libraries, images, fonts, caches and volumes that are there, also those of libraries.

    Raises:
        UnreadableError: Blender alone knows.
    """
    found: dict[Path, None] = {}
    queue = [path]
    while queue:
        for kind, linked in _links(queue.pop()):
            if linked not in found and linked != path:
                found[linked] = None
                if kind == b"LI\0\0":
                    queue.append(linked)
    return sorted(found)


def _links(path: Path) -> Iterator[tuple[bytes, Path]]:
    try:
        data = _content(path)
        pointer, order, large = _header(data)
        blocks = list(_blocks(data, pointer, order, large))
        dna = next(block for block in blocks if block.code == b"DNA1")
        offsets = _path_offsets(data[dna.start : dna.start + dna.size], order, pointer)
    except (OSError, StopIteration, ValueError, IndexError, KeyError, struct.error, EOFError, gzip.BadGzipFile):
        raise UnreadableError(path) from None
    for block in blocks:
        if block.code in LINKING and (offset := offsets.get(block.structure)) is not None and offset < block.size:
            start = block.start + offset
            name = data[start : start + 1024].split(b"\0")[0]
            if name:
                yield from ((block.code, file) for file in _named(path.parent, os.fsdecode(name)))


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    return _unpacked(data) if data.startswith(ZSTANDARD) else data


def _unpacked(data: bytes) -> bytes:
    try:
        zstd = importlib.import_module("compression.zstd")  # Python 3.14
    except ImportError:
        raise ValueError from None
    try:
        return bytes(zstd.decompress(data))
    except zstd.ZstdError:
        raise ValueError from None


def _header(data: bytes) -> tuple[int, str, bool]:
    """Bytes of a pointer, byte order, and whether blocks are of Blender 5's layout."""
    if not data.startswith(b"BLENDER"):
        raise ValueError
    if data[7:9].isdigit():  # BLENDER17-01v0500
        return 8, "<", True
    return {b"_": 4, b"-": 8}[data[7:8]], {b"v": "<", b"V": ">"}[data[8:9]], False


def _blocks(data: bytes, pointer: int, order: str, large: bool) -> Iterator[Block]:
    place = int(data[7:9]) if large else 12
    head = struct.Struct("<4siQqq" if large else f"{order}4si{'Q' if pointer == 8 else 'I'}ii")
    while place + head.size <= len(data):
        code, second, _, fourth, _ = head.unpack_from(data, place)
        size, structure = (fourth, second) if large else (second, fourth)
        if size < 0:
            raise ValueError
        yield Block(code, structure, place + head.size, size)
        if code == b"ENDB":
            return
        place += head.size + size
    raise EOFError


def _path_offsets(dna: bytes, order: str, pointer: int) -> dict[int, int]:
    """Where the path lies in each structure that has one, by the structure's number."""
    place = 4

    def align() -> None:
        nonlocal place
        place = -(-place // 4) * 4

    def number(form: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from(f"{order}{form}", dna, place)
        place += struct.calcsize(form)
        return int(value)

    def words(tag: bytes) -> list[str]:
        nonlocal place
        align()
        if dna[place : place + 4] != tag:
            raise ValueError
        place += 4
        found = []
        for _ in range(number("I")):
            end = dna.index(b"\0", place)
            found.append(dna[place:end].decode("latin-1"))
            place = end + 1
        return found

    names, types = words(b"NAME"), words(b"TYPE")
    align()
    place += 4
    sizes = [number("H") for _ in types]
    align()
    place += 4
    offsets = {}
    for structure in range(number("I")):
        number("H")
        offset = 0
        for _ in range(number("H")):
            kind, name = number("H"), names[number("H")]
            if name in PATH_FIELDS and structure not in offsets:
                offsets[structure] = offset
            size = pointer if name.startswith(("*", "(*")) else sizes[kind]
            for part in name.split("[")[1:]:
                size *= int(part.rstrip("]"))
            offset += size
    return offsets


def _named(folder: Path, name: str) -> list[Path]:
    """The file, from `//` on relative to the .blend; all tiles where it stands for several."""
    name = name.replace("\\", "/")
    path = Path(os.path.normpath(folder / name[2:] if name.startswith("//") else Path(name)))
    if "<UDIM>" in path.name:
        return sorted(path.parent.glob(path.name.replace("<UDIM>", "[0-9]" * 4)))
    return [path] if path.is_absolute() or name.startswith("//") else []
