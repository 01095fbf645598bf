"""Any results.csv is read honestly: what is there is kept, what is odd is repaired, and each repair is told."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from launcher.analysis import read_results
from launcher.analysis.model import Results
from launcher.errors import DataError, NotFoundError
from tests.analysis.published import HEADER, csv_text, phase2_rows

ROWS = phase2_rows()
TEXT = csv_text(ROWS)
LINES = TEXT.splitlines(keepends=True)


def codes(results: Results) -> list[str]:
    return [repair.code for repair in results.repairs]


def small(*lines: str) -> Results:
    return read_results(("\n".join(lines) + "\n").encode())


def test_a_whole_table_is_read_as_it_is_and_nothing_is_repaired(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    file.write_text(TEXT)
    results = read_results(file)
    assert results.epochs == tuple(range(1, 16))
    assert results.repairs == ()
    assert tuple(results.columns) == HEADER[1:]
    assert results.at("metrics/mAP50-95(B)", 12) == 0.045
    assert results.last("val/cls_loss") == 5.139


def test_padded_headers_and_values_of_old_versions_are_read() -> None:
    results = small("                  epoch,      metrics/mAP50(B)", "                      1,               0.25")
    assert (results.epochs, results.columns) == ((1,), {"metrics/mAP50(B)": (0.25,)})


def test_columns_go_by_name_in_whatever_order() -> None:
    results = small("train/box_loss,time,epoch", "1.5,10,1", "1.25,20,2")
    assert results.columns == {"train/box_loss": (1.5, 1.25), "time": (10.0, 20.0)}
    assert results.epochs == (1, 2)


@pytest.mark.parametrize("count", [3, 8])
def test_three_or_eight_learning_rates_are_both_read(count: int) -> None:
    names = [f"lr/pg{index}" for index in range(count)]
    results = small(",".join(["epoch", *names]), ",".join(["1", *["0.5"] * count]))
    assert list(results.columns) == names
    assert not results.repairs


def test_more_learning_rates_than_the_header_has_are_named_on_where_several_rows_have_them() -> None:
    results = small("epoch,lr/pg0", "1,0.5", "2,0.5,0.25,0.125", "3,0.5,0.25,0.125")
    assert results.columns["lr/pg2"][1:] == (0.125, 0.125)
    assert math.isnan(results.columns["lr/pg2"][0])


def test_a_single_line_that_is_too_long_is_two_that_grew_together_and_is_left_out() -> None:
    results = small("epoch,time,lr/pg0", "1,10,2.0", "2,20,1.2,25,1.9", "3,30,1.8")
    assert results.epochs == (1, 3)
    assert list(results.columns) == ["time", "lr/pg0"]
    assert codes(results) == ["long-line", "missing-epochs"]
    assert results.missing == (2,)
    assert math.isnan(results.seconds[1])


def test_yolov5_names_are_read_as_todays() -> None:
    results = small("epoch,metrics/mAP_0.5,metrics/mAP_0.5:0.95,x/lr0", "0,0.5,0.25,0.01", "1,0.6,0.3,0.01")
    assert results.at("metrics/mAP50-95(B)", 2) == 0.3
    assert list(results.columns) == ["metrics/mAP50(B)", "metrics/mAP50-95(B)", "lr/pg0"]
    assert codes(results) == ["other-names", "epochs-from-0"]


def test_seconds_are_differences_of_the_cumulative_time() -> None:
    results = small("epoch,time", "1,979", "2,39322", "3,39832")
    assert results.seconds == (979.0, 38343.0, 510.0)


def test_time_that_begins_again_is_a_new_process_and_not_a_negative_epoch() -> None:
    results = small("epoch,time", "1,36.3", "2,72.6", "3,8.6", "4,17.0")
    assert results.restarts == (3,)
    assert results.seconds == pytest.approx((36.3, 36.3, 8.6, 8.4))
    assert codes(results) == ["time-again"]


def test_of_an_epoch_that_was_written_again_the_last_row_counts_and_is_counted() -> None:
    results = small("epoch,time,train/box_loss", "1,10,3", "2,20,2", "3,30,1.5", "3,12,1.75", "4,24,1.25")
    assert results.column("train/box_loss") == (3.0, 2.0, 1.75, 1.25)
    assert results.rewritten == {3: 1}
    assert results.restarts == (3,)
    assert results.seconds == (10.0, 10.0, 12.0, 12.0)
    assert "epoch-again" in codes(results)


def test_rows_from_before_the_training_went_back_are_left_out() -> None:
    results = small("epoch,time", "1,10", "2,20", "3,30", "4,40", "2,11", "3,22")
    assert results.epochs == (1, 2, 3)
    assert "went-back" in codes(results)
    assert small("epoch,time", "1,10", "2,20", "3,30", "2,11").epochs == (1, 2)


def test_the_same_line_twice_is_no_restart() -> None:
    results = small("epoch,time", "1,10", "2,20", "2,20", "3,30", "1,10")
    assert (results.restarts, results.rewritten) == ((), {})
    assert [(repair.code, repair.count) for repair in results.repairs] == [("line-twice", 2)]
    assert results.seconds == (10.0, 10.0, 10.0)


def test_rows_out_of_order_are_sorted_and_said() -> None:
    results = small("epoch,time", "3,30", "1,10", "2,20")
    assert (results.epochs, results.seconds, results.restarts) == ((1, 2, 3), (10.0, 10.0, 10.0), ())
    assert codes(results) == ["out-of-order"]


def test_missing_epochs_are_named_and_have_no_time() -> None:
    results = small("epoch,time", "1,10", "4,40", "5,50")
    assert results.missing == (2, 3)
    assert results.seconds[0] == 10.0
    assert math.isnan(results.seconds[1])
    assert results.seconds[2] == 10.0


def test_a_table_that_begins_at_a_resumed_epoch_says_so() -> None:
    results = small("epoch,time", "6,8", "7,16")
    assert codes(results) == ["late-start"]
    assert math.isnan(results.seconds[0])


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "NaN", "1e300"])
def test_what_is_no_number_is_missing_and_said(word: str) -> None:
    results = small("epoch,train/box_loss,train/cls_loss", f"1,{word},2")
    assert math.isnan(results.column("train/box_loss")[0])
    assert results.at("train/cls_loss", 1) == 2.0
    assert codes(results) == ["not-finite"]


def test_a_last_line_that_is_cut_off_is_left_out() -> None:
    results = read_results(TEXT[: -len(LINES[-1]) + 20].encode())
    assert results.epochs == tuple(range(1, 15))
    assert codes(results) == ["cut-line"]


def test_a_last_value_without_a_line_end_may_be_cut_and_counts_as_missing() -> None:
    results = read_results(b"epoch,time,lr/pg0\n1,10,0.5\n2,20,0.4")
    assert results.at("lr/pg0", 2) is None
    assert results.at("time", 2) == 20.0
    assert codes(results) == ["no-line-end"]


def test_an_epoch_that_may_be_cut_is_no_epoch() -> None:
    results = read_results(b"time,epoch\n10,11\n20,1")
    assert results.epochs == (11,)
    assert "no-epoch" in codes(results)


def test_zero_bytes_of_a_power_cut_spoil_what_they_touch_and_no_more() -> None:
    data = b"epoch,time\n1,10\n2,2\0\0\0\0\0\n4,40\n"
    results = read_results(data)
    assert results.epochs == (1, 2, 4)
    assert results.at("time", 2) is None
    assert "nul-bytes" in codes(results)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_other_encodings_are_read(encoding: str) -> None:
    text = TEXT if encoding != "latin-1" else TEXT.replace("lr/pg2", "größe")
    results = read_results(text.encode(encoding))
    assert results.epochs == tuple(range(1, 16))
    assert results.last("val/cls_loss") == 5.139


def test_semicolons_tabs_and_decimal_commas_of_a_spreadsheet_are_read() -> None:
    assert small("epoch;time", "1;10,5").columns == {"time": (10.5,)}
    assert small("epoch\ttime", "1\t10.5").columns == {"time": (10.5,)}
    assert small('"epoch","time"', '"1","10.5"').columns == {"time": (10.5,)}


def test_the_headers_separator_is_that_of_the_rows_whose_numbers_have_commas() -> None:
    assert small("epoch\ttime", "1\t10,5").columns == {"time": (10.5,)}


def test_zeros_of_a_validation_that_was_off_are_missing_and_a_measured_zero_is_not() -> None:
    header = "epoch,train/box_loss,metrics/mAP50-95(B),val/box_loss,val/cls_loss"
    results = small(header, "1,2,0,0,0", "2,2,0,0,1.5", "3,2,0.25,1.5,1.5")
    assert math.isnan(results.column("metrics/mAP50-95(B)")[0])
    assert results.column("metrics/mAP50-95(B)")[1:] == (0.0, 0.25)
    assert results.column("train/box_loss") == (2.0, 2.0, 2.0)
    assert [(repair.code, repair.count) for repair in results.repairs] == [("not-validated", 1)]


def test_a_header_that_stands_there_again_begins_another_order() -> None:
    results = small("epoch,time,train/box_loss", "1,10,3", "epoch,train/box_loss,time", "2,2,20")
    assert results.columns == {"time": (10.0, 20.0), "train/box_loss": (3.0, 2.0)}
    assert codes(results) == ["header-again"]


def test_a_table_without_epochs_is_numbered_and_said() -> None:
    results = small("train/box_loss,val/box_loss", "3,4", "2,3")
    assert results.epochs == (1, 2)
    assert codes(results) == ["no-epoch-column"]


@pytest.mark.parametrize("line", ["1e9,1", "2.5,1", "-1,1", "x,1"])
def test_what_is_no_epoch_is_left_out(line: str) -> None:
    results = small("epoch,time", line, "1,10")
    assert results.epochs == (1,)
    assert "no-epoch" in codes(results)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"epo", b"\xff\xfe", b"<html>no</html>", b"1,2,3\n", bytes(100)])
def test_what_holds_no_table_is_told_as_such(data: bytes) -> None:
    with pytest.raises(DataError, match="no table"):
        read_results(data)


def test_a_header_alone_is_a_table_without_epochs() -> None:
    results = read_results(LINES[0].encode())
    assert (results.epochs, results.seconds) == ((), ())


def test_a_file_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        read_results(tmp_path / "results.csv")
