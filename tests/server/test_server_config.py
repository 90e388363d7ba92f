"""The configuration is checked whole, and says all that is wrong."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from server.app import App
from server.config import Audit, ConfigError, Limits, is_loopback, load_config, split_address
from tests.server import helpers


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return helpers.init_folder(tmp_path / "server")


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def problems_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        App.build(load_config(path))
    return caught.value.problems


def test_what_init_writes_is_good(path: Path) -> None:
    config = load_config(path)
    assert App.build(config).materials.policy.demonstration
    assert config.tls is not None
    assert config.tls.certificate == path.parent / "server.pem"


def test_what_init_leaves_commented_out_is_good_too(path: Path) -> None:
    before = load_config(path)
    edit(path, lambda text: re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE))
    after = load_config(path)
    assert after.place.operator
    assert (after.audit, after.limits) == (before.audit, before.limits)
    assert set(Audit.model_fields) <= after.audit.model_fields_set
    assert set(Limits.model_fields) <= after.limits.model_fields_set
    assert App.build(after).materials.policy.operator == after.place.operator


def test_a_list_whose_entries_are_wrong_is_not_called_too_short_besides(path: Path) -> None:
    (path.parent / "device-roots.pem").unlink()
    assert problems_of(path) == (f"trust.roots.0: no file {path.parent / 'device-roots.pem'}",)
    edit(path, lambda text: text.replace('["device-roots.pem"]', "[]"))
    assert problems_of(path) == ("trust.roots: has 0 entries; 1 at least",)


def test_problems_are_told_in_plain_words(path: Path) -> None:
    edit(
        path,
        lambda text: (
            (
                text.replace("tolerated_domains = 1", 'tolerated_domains = "one"')
                .replace("border_margin_km = 5.0", "border_margin_km = 2000.0")
                .replace("sessions_per_device = 64", "sessions_per_device = 0.5")
                .replace("[desk]", "[desk]\nunheard_of = 3\nnode = 7")
                .replace('key = "ticket.key"', "")
            )
            + "\n[limits]\nmessage_bytes = 1\n"
        ),
    )
    assert sorted(problems_of(path)) == [
        "attestation.sessions_per_device: is not a whole number",
        "desk.node: is not text",
        "desk.unheard_of: unknown key",
        "limits.message_bytes: must be 65,536 or more",
        "place.border_margin_km: must be 1,000 or less",
        "place.tolerated_domains: is not a whole number",
        "tickets.key: is missing",
    ]


def test_a_production_policy_is_no_demonstration(path: Path) -> None:
    edit(
        path,
        lambda text: text.replace("audited_within_h = 0", "audited_within_h = 24").replace("days = 0", "days = 30"),
    )
    assert not App.build(load_config(path)).materials.policy.demonstration


def test_landmarks_audit_each_other_as_the_file_says(path: Path) -> None:
    assert load_config(path).audit.interval == timedelta(hours=6)
    audit = "[audit]\ninterval_h = 0.001\nbatch = 64\nrun_interval_s = 1\nrefresh_s = 0.5\n"
    edit(path, lambda text: text.replace("[place]", f'{audit}\n[place]\noperator = "The Verifier Ltd"'))
    config = load_config(path)
    assert config.audit.interval == timedelta(seconds=3.6)
    assert config.audit.batch == 64
    assert App.build(config).materials.policy.operator == "The Verifier Ltd"


def test_a_pair_is_ranged_once_a_day_at_least_and_a_batch_is_bounded(path: Path) -> None:
    """docs/protocol.md LA3; the schema takes 64 orders at once."""
    edit(path, lambda text: text + "\n[audit]\ninterval_h = 24.1\nbatch = 65\nrun_interval_s = 0\nrefresh_s = 0\n")
    text = "\n".join(problems_of(path))
    for key in ("audit.interval_h", "audit.batch", "audit.run_interval_s", "audit.refresh_s"):
        assert key in text


def test_every_problem_is_listed(path: Path) -> None:
    edit(
        path,
        lambda text: (
            text.replace('"127.0.0.1:0"', '"nowhere"', 1)
            .replace('"ca.pem"', '"absent.pem"')
            .replace("tolerated_domains = 1", "tolerated_domains = -1\nunheard_of = 3")
        ),
    )
    text = "\n".join(problems_of(path))
    for key in ("listen.address", "tls.client_ca", "place.tolerated_domains", "place.unheard_of"):
        assert key in text


def test_unknown_sections_are_refused(path: Path) -> None:
    edit(path, lambda text: text + "\n[surprise]\nkey = 1\n")
    assert any(problem.startswith("surprise") for problem in problems_of(path))


def test_a_secret_that_others_may_read_is_refused(path: Path) -> None:
    (path.parent / "ticket.key").chmod(0o644)
    assert any("chmod 600" in problem for problem in problems_of(path))


def test_without_tls_the_flag_must_be_set(path: Path) -> None:
    edit(path, without_tls)
    assert any("[tls] is missing" in problem for problem in problems_of(path))


def test_plaintext_is_for_loopback_alone(path: Path) -> None:
    edit(path, lambda text: "plaintext_on_loopback = true\n" + without_tls(text))
    assert load_config(path).plaintext_on_loopback
    edit(path, lambda text: text.replace('"127.0.0.1:0"', '"0.0.0.0:0"', 1))
    assert any("not a loopback address" in problem for problem in problems_of(path))


def test_plaintext_beside_tls_is_refused(path: Path) -> None:
    edit(path, lambda text: "plaintext_on_loopback = true\n" + text)
    assert any("exclude each other" in problem for problem in problems_of(path))


def test_files_are_parsed_and_all_faults_named(path: Path) -> None:
    folder = path.parent
    (folder / "device-roots.pem").write_text("not PEM")
    (folder / "reference-values.json").write_text("{}")
    (folder / "ticket.key").write_bytes((folder / "server.key").read_bytes())
    problems = problems_of(path)
    assert [problem.split(":")[0] for problem in problems] == ["trust.roots", "trust.reference_values", "tickets.key"]


def test_the_key_must_be_the_certificates(path: Path) -> None:
    folder = path.parent
    (folder / "server.key").write_bytes((folder / "ca.key").read_bytes())
    assert any("is not the key of" in problem for problem in problems_of(path))


def test_own_country_groups_need_a_name(path: Path) -> None:
    (path.parent / "groups.csv").write_text("group,iso2,as_of,source,sureness\n")
    edit(path, lambda text: text.replace("[place]", '[place]\ncountry_groups = "groups.csv"'))
    assert any("go together" in problem for problem in problems_of(path))


def test_what_is_no_toml_is_refused(path: Path) -> None:
    path.write_text("listen = [")
    assert any("not TOML" in problem for problem in problems_of(path))
    path.unlink()
    assert any("No such file" in problem for problem in problems_of(path))


@pytest.mark.parametrize("text", ["host", ":1", "host:", "host:x", "::1:80", "[::1]", "host:65536", "[host]:1", "h:-1"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        split_address(text)


def test_addresses() -> None:
    assert split_address("[::1]:80") == ("::1", 80)
    assert [is_loopback(a) for a in ("[::1]:1", "127.9.9.9:1", "localhost:1")] == [True] * 3
    assert [is_loopback(a) for a in ("10.0.0.1:1", "example.org:1", "[::]:1")] == [False] * 3


def without_tls(text: str) -> str:
    """Cut the [tls] section out."""
    before, rest = text.split("[tls]")
    return before + "[store]" + rest.split("[store]")[1]
