"""The contract on a dictionary: what it asks can be kept without a disk or a server."""

import pytest
from store_contract import StoreContract

from hefjoin.stores import Store
from tests.memory_store import MemoryStore


class TestMemoryStore(StoreContract):
    test_a_large_file_takes_little_memory = None  # type: ignore[assignment]  # it takes as much as the file

    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    def files(self, store: Store) -> dict[str, bytes]:
        assert isinstance(store, MemoryStore)
        return store.files

    def stored(self, store: Store) -> set[str]:
        return set(self.files(store))

    def bytes_of(self, store: Store, name: str) -> bytes:
        return self.files(store)[name]

    def overwrite(self, store: Store, name: str, body: bytes) -> None:
        self.files(store)[name] = body

    def remove(self, store: Store, name: str) -> None:
        del self.files(store)[name]

    def leave(self, store: Store, body: bytes) -> str:
        name = f".partial/{len(body)}"
        self.files(store)[name] = body
        return name

    def reopen(self, store: Store) -> Store:
        return MemoryStore(self.files(store))
