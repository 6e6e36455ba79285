"""What all tests share: their order."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long ones: one that came last would keep the other workers waiting."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
