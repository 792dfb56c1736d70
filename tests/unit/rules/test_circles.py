"""The graph of `after`: its circles, and the jobs that come before a job."""

from reconciler.rules.circles import all_before, circles_in


def test_circles_are_found_once_each_however_long_the_way_to_them() -> None:
    assert list(circles_in({"a": ["b"], "b": ["c"], "c": []})) == []
    assert list(circles_in({"a": ["a"]})) == [("a",)]
    assert list(circles_in({"x": ["a"], "a": ["b"], "b": ["c", "a"], "c": ["a"]})) == [("a", "b", "c"), ("a", "b")]
    long = {f"{n}": [f"{n + 1}"] for n in range(50_000)} | {"50000": ["0"]}
    assert [len(circle) for circle in circles_in(long)] == [50_001]


def test_all_that_comes_before_is_found_at_any_distance() -> None:
    after = {"d": ("c", "b"), "c": ("a",), "b": ("a",)}
    assert all_before(["d"], lambda name: after.get(name, ())) == {"a", "b", "c"}
    assert all_before(["a"], lambda name: after.get(name, ())) == set()
