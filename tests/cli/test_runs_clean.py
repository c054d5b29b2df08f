"""``rushkit runs clean`` lists, and deletes only with --yes."""

from __future__ import annotations

import json

from commands import only


def test_clean_lists_first_and_deletes_with_yes(cli, runs):
    failed = runs / "20200101-000000-finetune-digits-000000"
    failed.mkdir()
    facts = {"verb": "finetune", "recipe": "digits", "status": "failed", "started": "2020-01-01T00:00:00+00:00"}
    (failed / "run.json").write_text(json.dumps(facts))
    said = cli("runs", "clean")
    assert failed.name in said.out
    assert "delete them with --yes" in said.out
    assert failed.exists()
    said = cli("runs", "clean", "--yes", "--json")
    assert said.code == 0, said.err
    assert [row["run"] for row in json.loads(said.out)["runs"]] == [f"runs/{failed.name}"]
    assert not failed.exists()
    assert only(runs, "finetune").exists()
    assert "nothing to clean" in cli("runs", "clean").out
