"""The README knows what there is."""

from __future__ import annotations

import re

from running_service import PROJECT


def test_every_make_target_is_told_of() -> None:
    """Nobody finds one that stands in the Makefile only."""
    makefile = (PROJECT / "Makefile").read_text()
    readme = " ".join((PROJECT / "README.md").read_text().split())
    (targets,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert {"demo", "bench-database"} <= set(targets.split())
    missing = [one for one in targets.split() if not re.search(rf"make {one}(?![\w-])", readme)]
    assert missing == []
