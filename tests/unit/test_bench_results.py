"""The file of results."""

from bench.results import merged

OLD = "# Results\n\nold\n\n## Launch\n\n1 s\n\n## On a cluster\n\n2 s\n"


def test_what_was_measured_again_is_new_and_what_another_command_measured_stays() -> None:
    new = "# Results\n\nnew\n\n## Launch\n\n3 s\n\n## Record\n\n4\n"
    whole = "# Results\n\nnew\n\n## Launch\n\n3 s\n\n## Record\n\n4\n\n## On a cluster\n\n2 s\n"
    assert merged(OLD, new) == whole
    assert merged(whole, new) == whole
    assert merged("", new) == new
