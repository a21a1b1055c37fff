import inspect
from unittest.mock import create_autospec

from fedpolyp.watcher import Watcher, Watchers


def test_several_watchers_hear_everything_in_order() -> None:
    first, second = create_autospec(Watcher, instance=True), create_autospec(Watcher, instance=True)
    both = Watchers(first, second)
    for name, method in inspect.getmembers(Watcher, inspect.isfunction):
        arguments = [f"{name}-{parameter}" for parameter in list(inspect.signature(method).parameters)[1:]]
        getattr(both, name)(*arguments)
        getattr(first, name).assert_called_once_with(*arguments)
        getattr(second, name).assert_called_once_with(*arguments)
