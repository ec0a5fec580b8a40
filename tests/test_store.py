"""An entry is whole or absent, is found by its content, and a damaged one is computed again."""

import errno
import json
import multiprocessing
import os
import string
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from labkit.base.store import Store, StoreError, key_of, ship, shipped_results

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
    assert list(store.damaged()) == [path]
    with pytest.warns(UserWarning, match="is damaged; computing it again"):
        assert store.get(KEY) is None
    assert not path.exists()


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
    (tmp_path / "two.zip").unlink()
    assert {k: json.loads(v) for k, v in shipped_results(tmp_path).items()} == entries


def test_the_environment_chooses_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABKIT_STORE", str(tmp_path / "mine"))
    assert Store().folder == tmp_path / "mine"
    monkeypatch.delenv("LABKIT_STORE")
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    assert Store().folder == tmp_path / "cache" / "results"
