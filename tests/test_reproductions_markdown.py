"""plateau_interp.reproductions.markdown: tables, and pages cut at their anchors or headings."""

from plateau_interp.reproductions.markdown import anchor, anchored, headed, table


def test_a_table_has_a_cell_for_each_text_whatever_is_in_it():
    lines = table(["claim", "holds"], [["a | b", "yes"], ["", "|"]]).splitlines()
    assert lines == ["| claim | holds |", "| --- | --- |", r"| a \| b | yes |", r"|  | \| |"]


def test_a_page_is_cut_at_its_anchors_and_nowhere_else():
    page = f"# Head\n\n{anchor('one')}\n\n## One\n\nNot {anchor('in a line')}.\n\n{anchor('two')}\n\nLast.\n"
    assert anchored(page) == {"one": f"## One\n\nNot {anchor('in a line')}.", "two": "Last."}
    assert anchored("# Head\n") == {}


def test_headings_of_another_level_stay_in_the_part():
    page = "Before.\n\n# Top\n\n##  one: a \n\nSeen.\n\n### Of a claim\n\nWhy.\n\n##none\n\n## two\n"
    assert headed(page, level=2) == {"one: a": "Seen.\n\n### Of a claim\n\nWhy.\n\n##none", "two": ""}
    assert headed(page, level=3) == {"Of a claim": "Why.\n\n##none\n\n## two"}
