"""An entry is whole or absent, is found by its content, and a damaged one is computed again."""

import errno
import hashlib
import itertools
import json
import multiprocessing
import os
import string
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from labkit.base.store import (
    LEFT_OVER,
    InMemory,
    Store,
    StoreError,
    enlist,
    key_of,
    listed,
    read_zip,
    sha256_of,
    ship,
    shipped_results,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
results = st.dictionaries(st.text(), values, max_size=4)
KEY, OTHER = "0" * 32, "f" * 32


# Few examples, since a busy disk takes a tenth of a second to flush each.
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(result=results)
def test_what_was_put_is_got(store: Store, result):
    store.put(KEY, result)
    assert store.get(KEY) == result


def test_what_was_never_put_is_none(store: Store):
    assert store.get(KEY) is None and store.get_tensors(KEY) is None
    assert not store.has_tensors(KEY)


def test_tensors_come_back_bit_for_bit(store: Store):
    tensors = {"masks": {"a": torch.rand(2, 3) > 0.5}, "moments": [{"b": torch.randn(2, 2)}]}
    store.put_tensors(KEY, tensors)
    found = store.get_tensors(KEY)
    assert torch.equal(found["masks"]["a"], tensors["masks"]["a"])
    assert torch.equal(found["moments"][0]["b"], tensors["moments"][0]["b"])
    assert store.has_tensors(KEY) and store.get(KEY) is None


finite = values.filter(lambda value: "Infinity" not in json.dumps(value))


@given(lineage=st.dictionaries(st.sampled_from("abcd"), finite, min_size=2))
def test_a_key_depends_on_the_content_and_not_on_the_order(lineage):
    backwards = dict(reversed(lineage.items()))
    assert key_of(backwards) == key_of(lineage) != key_of({**lineage, "e": 1})
    assert set(key_of(lineage)) <= set(string.hexdigits) and len(key_of(lineage)) == 32


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(data=st.data())
def test_a_damaged_entry_is_reported_and_gone(store: Store, data):
    store.put(KEY, {"accuracy": 0.98})
    path = store.folder / f"{KEY}.json"
    content = path.read_bytes()
    if data.draw(st.booleans(), label="truncated"):
        damaged = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        at = data.draw(st.integers(0, len(content) - 1))
        damaged = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    path.write_bytes(damaged)
    ((odd, error),) = store.entries()
    assert odd == path and isinstance(error, StoreError)
    with pytest.warns(UserWarning, match="is damaged or another's; computing it again"):
        assert store.get(KEY) is None
    assert not path.exists()


@pytest.mark.parametrize("kind", ["json", "pt"])
def test_swapped_and_renamed_entries_are_found(store: Store, kind: str):
    for key in (KEY, OTHER):
        store.put(key, {"filed under": key})
        store.put_tensors(key, {"filed under": torch.ones(1)})
    one, other = (store.folder / f"{key}.{kind}" for key in (KEY, OTHER))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert [path for path, found in store.entries() if isinstance(found, StoreError)] == [
        one,
        other,
    ]
    read = store.get if kind == "json" else store.get_tensors
    for key in (KEY, OTHER):
        with pytest.warns(UserWarning, match="another's"):
            assert read(key) is None


def old(content: bytes) -> bytes:
    """An entry as it was written before names were in digests."""
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def test_an_entry_from_before_names_were_in_digests_is_read(store: Store):
    store.check_writable()
    (store.folder / f"{KEY}.json").write_bytes(old(b'{"a": 1}'))
    assert store.get(KEY) == {"a": 1}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_unusable_content_with_a_good_digest_is_set_aside(store: Store, content: bytes):
    store.check_writable()
    for kind, read in (("json", store.get), ("pt", store.get_tensors)):
        path = store.folder / f"{KEY}.{kind}"
        path.write_bytes(old(content))
        assert [odd for odd, found in store.entries() if isinstance(found, StoreError)] == [path]
        with pytest.warns(UserWarning, match="computing it again"):
            assert read(KEY) is None
        assert not path.exists()


def test_tensors_that_lack_a_part_are_set_aside(store: Store):
    store.put_tensors(KEY, {"network": {}, "moments": []})
    assert store.has_tensors(KEY, ("network", "moments"))
    with pytest.warns(UserWarning, match="computing it again"):
        assert not store.has_tensors(KEY, ("final", "masks"))
    assert store.get_tensors(KEY) is None


def test_what_killed_runs_left_is_removed_and_what_is_being_written_is_not(store: Store):
    store.put(KEY, {})
    for name, age in (("tmpold.part", 2 * LEFT_OVER), ("tmpnew.part", 0)):
        path = store.folder / name
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    store.check_writable()  # as every command does before it trains
    assert {path.name for path in store.folder.iterdir()} == {f"{KEY}.json", "tmpnew.part"}
    assert store.remove_leftovers() == 0


def test_what_is_no_file_is_an_error_and_no_wait(store: Store):
    store.check_writable()
    os.mkfifo(store.folder / f"{KEY}.json")
    (store.folder / f"{KEY}.pt").mkdir()
    for read, suffix in ((store.get, "json"), (store.get_tensors, "pt")):
        with pytest.raises(StoreError, match=rf"cannot read .*{KEY}\.{suffix}"):
            read(KEY)


def test_a_home_of_nobody_is_a_clear_error():
    with pytest.raises(StoreError, match="must be a folder, not ~nosuchuser/x"):
        Store("~nosuchuser/x")


def test_a_full_disk_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch):
    store.put(KEY, {"old": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for key in (KEY, OTHER):
        with pytest.raises(StoreError, match="No space left on device"):
            store.put(key, {"new": 2})
    assert store.get(KEY) == {"old": 1} and store.get(OTHER) is None
    assert [path.name for path in store.folder.iterdir()] == [f"{KEY}.json"]


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match="choose another folder with LABKIT_STORE or --store"):
        store.put(KEY, {})


def _write_many(folder: Path, number: int) -> None:
    store = Store(folder, shipped=False)
    for turn in range(20):
        store.put(KEY, {"writer": number, "turn": turn, "filler": "x" * 20_000})


def test_two_processes_may_write_the_same_entry(store: Store):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(store.folder, n)) for n in (1, 2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        time.sleep(0.001)  # or this reader takes the processor from the writers
        found = store.get(KEY)  # a half-written entry would warn, and warnings are errors
        assert found is None or len(found["filler"]) == 20_000
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert store.get(KEY)["turn"] == 19


def test_shipped_results_are_found_and_never_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "data" / "results" / "lottery.zip"
    ship({KEY: {"a": 1}}, path)
    enlist(path)
    before = path.read_bytes()
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    with_shipped = Store(store.folder)
    assert with_shipped.get(KEY) == {"a": 1} and store.get(KEY) is None
    with_shipped.put(KEY, {"a": 2})
    assert with_shipped.get(KEY) == {"a": 2}  # one's own comes first
    assert path.read_bytes() == before


def test_shipping_makes_the_same_bytes_every_time(tmp_path: Path):
    entries = {KEY: {"a": 1}, OTHER: {"b": 2}}
    ship(entries, tmp_path / "one.zip")
    ship(dict(reversed(entries.items())), tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert shipped_results(tmp_path) == {}
    for name in ("one.zip", "two.zip"):
        enlist(tmp_path / name)
    shipped_results.cache_clear()
    assert {k: json.loads(v) for k, v in shipped_results(tmp_path).items()} == entries


def test_a_foreign_zip_is_never_mixed_in_and_is_a_source_of_its_own(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "data" / "results"
    ship({KEY: {"a": 1}}, folder / "lottery.zip")
    enlist(folder / "lottery.zip")
    ship({KEY: {"a": -1}, OTHER: {"b": 2}}, folder / "zzz.zip")
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    assert Store(store.folder).get(KEY) == {"a": 1} and Store(store.folder).get(OTHER) is None
    foreign = Store(store.folder, shipped=folder / "zzz.zip")
    assert foreign.get(KEY) == {"a": -1} and foreign.get(OTHER) == {"b": 2}


def test_every_bit_of_a_shipped_zip_is_checked(tmp_path: Path):
    path = tmp_path / "lottery.zip"
    ship({KEY: {"a": 1}}, path)
    enlist(path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        shipped_results.cache_clear()
        with pytest.raises(StoreError, match=r"lottery\.zip are damaged"):
            shipped_results(tmp_path)


def test_a_bit_in_a_foreign_zip_is_an_error_in_words_or_changes_nothing(tmp_path: Path):
    path = tmp_path / "foreign.zip"
    ship({KEY: {"a": 1}}, path)
    whole, refused = path.read_bytes(), set()
    for at, bit in itertools.product(range(len(whole)), range(8)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        try:
            assert list(read_zip(path).values()) == [b'{"a": 1}']
        except StoreError as error:
            refused |= {word for word in ("encrypted", "compression") if word in str(error)}
    assert refused == {"encrypted", "compression"}


def test_the_check_sums_of_the_lab_are_those_of_its_zip_files(root: Path):
    folder = root / "data" / "results"
    found = {path.name: sha256_of(path) for path in folder.glob("*.zip")}
    assert listed(folder) == found, "cd data/results && sha256sum *.zip > SHA256SUMS"


def test_the_environment_chooses_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABKIT_STORE", str(tmp_path / "mine"))
    assert Store().folder == tmp_path / "mine"
    monkeypatch.delenv("LABKIT_STORE")
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    assert Store().folder == tmp_path / "cache" / "results"


def test_a_store_in_memory_hands_over_the_very_files_of_a_folder(tmp_path: Path):
    memory, folder = InMemory(), Store(tmp_path / "folder", shipped=False)
    for store in (memory, folder):
        store.put_tensors("a" * 32, {"weights": torch.arange(3)})
        store.put("a" * 32, {"accuracy": 0.5})
    assert list(memory.written) == [f"{'a' * 32}.pt", f"{'a' * 32}.json"], "in their order"
    assert memory.get("a" * 32) == {"accuracy": 0.5} and memory.get("b" * 32) is None
    assert torch.equal(memory.get_tensors("a" * 32)["weights"], torch.arange(3))
    other = Store(tmp_path / "other", shipped=False)
    for name, content in memory.written.items():
        other.write(name, content)
        assert (other.folder / name).read_bytes() == (folder.folder / name).read_bytes()
    later = InMemory(memory.written)
    assert later.get("a" * 32) == {"accuracy": 0.5} and not later.written
