"""The alert rules and the dashboard in `ops/` are right by Prometheus's own checker."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
from promtool import promtool
from running_service import PROJECT

OPS = PROJECT / "ops"


def rules() -> list[dict[str, Any]]:
    groups = msgspec.yaml.decode((OPS / "alerts.yml").read_bytes())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((OPS / "dashboard.json").read_text("utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    """Those of the dashboard, with what Grafana puts in."""
    targets = [target for panel in panels() for target in panel["targets"]]
    return [
        target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
        for target in targets
    ]


def test_the_rules_are_rules() -> None:
    """Prometheus would load them."""
    assert f"{len(rules())} rules found" in promtool("check", "rules", OPS / "alerts.yml")


def test_the_rules_fire_when_they_should_and_not_else() -> None:
    """Each alert is tested both ways, by its name, and promtool agrees."""
    tests = msgspec.yaml.decode((OPS / "alerts_test.yml").read_bytes())["tests"]
    tested = [(one["alert_rule_test"][0]["alertname"], one) for one in tests]
    fires = {name for name, one in tested if one["alert_rule_test"][0]["exp_alerts"]}
    quiet = {name for name, one in tested if not one["alert_rule_test"][0]["exp_alerts"]}
    assert fires == quiet == {rule["alert"] for rule in rules()}
    assert "SUCCESS" in promtool("test", "rules", OPS / "alerts_test.yml")


def test_the_dashboard_asks_what_prometheus_understands(tmp_path: Path) -> None:
    """Every query of every panel is PromQL; no two panels lie on one another."""
    as_rules = [
        {"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries())
    ]
    file = tmp_path / "queries.yml"
    file.write_bytes(msgspec.yaml.encode({"groups": [{"name": "dashboard", "rules": as_rules}]}))
    assert f"{len(as_rules)} rules found" in promtool("check", "rules", file)
    places = [
        (x, y)
        for panel in panels()
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24


def test_a_machine_that_cannot_have_promtool_is_told_so(tmp_path: Path) -> None:
    """One line says what is missing, and the exit code that it is."""
    done = subprocess.run(
        ["/bin/sh", OPS / "get_promtool.sh", tmp_path],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("promtool is missing (this is no Debian)")
