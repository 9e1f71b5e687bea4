import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.errors import MlopsError
from mlops_assets.monitoring.windows import Window, answered, full_windows, parse_window


@given(count=st.integers(0, 500), size=st.integers(1, 60), more=st.integers(0, 100))
def test_full_windows_tile_the_log_and_never_change_when_it_grows(count, size, more):
    log, grown = pl.DataFrame({"n": range(count)}), pl.DataFrame({"n": range(count + more)})
    windows = [Window(product="p", number=k, size=size) for k in range(1, full_windows(count, size) + 1)]
    rows = [row for window in windows for row in window.rows(log)["n"]]
    assert rows == list(range(size * len(windows)))
    assert count - len(rows) < size
    assert all(window.rows(log).equals(window.rows(grown)) for window in windows)


def test_a_window_is_full_at_exactly_its_size():
    window = Window(product="p", number=2, size=10)
    assert window.rows(pl.DataFrame({"n": range(20)}))["n"].to_list() == list(range(10, 20))
    with pytest.raises(MlopsError, match=r"p:2 needs 20 predictions, the log has 19"):
        window.rows(pl.DataFrame({"n": range(19)}))


def test_an_id_names_its_window():
    window = Window(product="p", number=7, size=10)
    assert parse_window("p", window.id, 10) == window


@pytest.mark.parametrize("wrong", ["p", "p:", "p:0", "p:-1", "p:1.5", "q:1", "p:1:2", "", "p:²"])
def test_another_id_is_refused(wrong):
    with pytest.raises(MlopsError, match="names no window"):
        parse_window("p", wrong, 10)


def test_a_log_that_counts_is_not_read(frame_log):
    class Counting(frame_log):
        def count(self, product):
            return 41

        def predictions(self, product):
            raise AssertionError("the sensor reads all rows")

    assert answered(Counting(pl.DataFrame()), "p") == 41
    assert answered(frame_log(pl.DataFrame({"n": [1, 2]})), "p") == 2
