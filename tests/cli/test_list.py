"""``pbs-push list``."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Cli


def test_text(cli: Cli, small_source: Path) -> None:
    lines = cli("list", small_source).succeeded().out.splitlines()
    assert lines[0] == "root namespace"
    assert "  vm/100  root@pam" in lines
    assert any(line.startswith("      drive-scsi0.img.fidx  ") for line in lines)


def test_json(cli: Cli, small_source: Path) -> None:
    document = json.loads(cli("list", small_source, "--json").succeeded().out)
    assert [item["ns"] for item in document["namespaces"]] == [
        "", "lab", "lab/a", "lab/a/b", "prod", "prod/eu",
    ]  # fmt: skip
    assert (document["format"], document["format-version"]) == ("pbs-push-list", 1)
    assert document["program"].startswith("pbs-push ")
    assert document["ended"] >= document["began"] > 1e9
    assert (document["exit-status"], document["error"], document["target"]) == (0, None, None)
    assert document["source"] == {"datastore": str(small_source), "ns": ""}
    part = json.loads(
        cli("list", small_source, "--json", "--ns", "lab", "--max-depth", 1).succeeded().out
    )
    assert [item["ns"] for item in part["namespaces"]] == ["lab", "lab/a"]


def test_one_of_other_making(cli: Cli, reference_datastore: Path, reference_dir: Path) -> None:
    document = json.loads(cli("list", reference_datastore, "--json").succeeded().out)
    expected = json.loads((reference_dir / "expected.json").read_text())
    assert document["datastore"] == expected["datastore"] == reference_datastore.name
    assert len(document["namespaces"]) == len(expected["namespaces"])
    assert "in progress or dead" in cli("list", reference_datastore).succeeded().out


def test_a_name_of_the_configuration(cli: Cli, small_source: Path, tmp_path: Path) -> None:
    (tmp_path / "datastore.cfg").write_text(f"datastore: here\n\tpath {small_source}\n")
    done = cli("list", "here", "--config-dir", tmp_path, "--json").succeeded()
    assert json.loads(done.out)["datastore"] == "here"
    cli("list", "there", "--config-dir", tmp_path).failed(1, "'there'", "datastore.cfg")


def test_errors(cli: Cli, small_source: Path, tmp_path: Path) -> None:
    cli("list", tmp_path).failed(1, str(tmp_path), "not a datastore")
    cli("list", small_source, "--ns", "nope").failed(2, "nope")
    cli("list", small_source, "--ns", "/").failed(2, "--ns")
