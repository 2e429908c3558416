"""The file of results."""

from bench.figure import Row, Section
from bench.results import merged, placed

OLD = "# Results\n\nold\n\n## Launch\n\n1 s\n\n## On a cluster\n\n2 s\n"


def test_what_was_measured_again_is_new_and_what_another_command_measured_stays() -> None:
    new = "# Results\n\nnew\n\n## Launch\n\n3 s\n\n## Record\n\n4\n"
    whole = "# Results\n\nnew\n\n## Launch\n\n3 s\n\n## Record\n\n4\n\n## On a cluster\n\n2 s\n"
    assert merged(OLD, new) == whole
    assert merged(whole, new) == whole
    assert merged("", new) == new


def test_what_one_command_measures_takes_its_own_place() -> None:
    launch = "## Launch\n\n9 s\n"
    assert placed(OLD, [launch]) == "# Results\n\nold\n\n## Launch\n\n9 s\n\n## On a cluster\n\n2 s\n"
    assert placed(OLD, [launch, "## Disk\n\n5\n"]).endswith("## On a cluster\n\n2 s\n\n## Disk\n\n5\n")
    assert placed(OLD, []) == OLD
    assert placed(placed(OLD, [launch]), [launch]) == placed(OLD, [launch])


def test_a_figure_that_is_no_time_has_its_unit_everywhere() -> None:
    rows = [
        Row(name="ours", samples=[55.8, 56.8], unit="MiB", goal=130.0),
        Row(name="theirs", samples=[111.6], unit="MiB"),
    ]
    text = Section(title="Size", text="", rows=rows).markdown()
    assert "| ours | 56.3 MiB | 55.8 MiB to 56.8 MiB (2 runs) | 1.00 | ≤ 130 MiB | yes |" in text
    assert "1.98" in text
