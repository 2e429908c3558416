"""The file of results."""

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
