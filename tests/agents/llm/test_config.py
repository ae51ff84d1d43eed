"""OAI_CONFIG_LIST: what is accepted, what is refused and how, and what counts as local."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medsegagent.agents.llm.config import Endpoint, load_endpoints, pick_endpoint, summary
from medsegagent.errors import ConfigError

SECRET = "sk-0123456789abcdef"
EXAMPLE = Path(__file__).resolve().parents[3] / "OAI_CONFIG_LIST.example"


def written(tmp_path: Path, data: Any) -> Path:
    file = tmp_path / "list.json"
    file.write_text(data if isinstance(data, str) else json.dumps(data))
    return file


class TestLoading:
    def test_nothing_configured_is_no_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert load_endpoints() == ()

    def test_the_variable_holds_json_or_names_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        entries = [{"model": "a", "base_url": "http://localhost:1/v1"}]
        monkeypatch.setenv("OAI_CONFIG_LIST", json.dumps(entries))
        from_json = load_endpoints()
        monkeypatch.setenv("OAI_CONFIG_LIST", str(written(tmp_path, entries)))
        assert load_endpoints() == from_json
        assert from_json[0].model == "a"

    def test_a_file_given_wins_over_the_variable_and_the_current_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "OAI_CONFIG_LIST").write_text('[{"model": "here"}]')
        assert load_endpoints()[0].model == "here"
        monkeypatch.setenv("OAI_CONFIG_LIST", '[{"model": "variable"}]')
        assert load_endpoints()[0].model == "variable"
        assert load_endpoints(written(tmp_path, [{"model": "given"}]))[0].model == "given"

    def test_the_example_is_valid_and_has_a_hosted_a_self_hosted_and_a_local_entry(self) -> None:
        entries = load_endpoints(EXAMPLE)
        assert {tag for entry in entries for tag in entry.tags} >= {"hosted", "self-hosted", "local"}
        assert pick_endpoint(entries, tag="local").is_local

    def test_lists_of_the_field_load(self, tmp_path: Path) -> None:
        entry = {"model": "m", "api_key": SECRET, "api_type": "openai", "price": [0, 0], "tags": ["x"], "cache_seed": 4}
        assert load_endpoints(written(tmp_path, [entry]))[0].tags == ("x",)

    @pytest.mark.parametrize(
        ("data", "complaint"),
        [
            ("[{", "not JSON"),
            ("[]", "non-empty"),
            ('"x"', "non-empty"),
            ([{"api_key": SECRET}], "entry 1: model"),
            ([{"model": "m"}, {"model": "n", "api_keys": SECRET}], "entry 2: api_keys"),
            ([{"model": "m", "api_key": [SECRET]}], "entry 1: api_key"),
            ([{"model": "m", "base_url": f"https://user:{SECRET}@host/v1"}], "entry 1: base_url"),
            ([{"model": "m", "base_url": f"https://user:{SECRET}@ho\N{ACCOUNT OF}st/v1"}], "entry 1: base_url"),
            ([{"model": "m", "base_url": "host:80"}], "entry 1: base_url"),
            ([{"model": "m", "base_url": "http://host:99999/v1"}], "entry 1: base_url"),
            ([{"model": "m", "base_url": "http://host:port/v1"}], "entry 1: base_url"),
            ([{"model": "m", "base_url": "http://a..b/v1"}], "entry 1: base_url"),
            ([{"model": "m", "base_url": f"http://{'a' * 64}.example/v1"}], "entry 1: base_url"),
            ([{"model": "m", "base_url": "http://[::1/v1"}], "entry 1: base_url"),
            ([{"model": "m", "base_url": "http://a b/v1"}], "entry 1: base_url"),
            ([{"model": "m", "api_key": f"{SECRET}\nX-Other: 1"}], "entry 1: api_key"),
            ([{"model": "m", "api_key": f"{SECRET} é"}], "entry 1: api_key"),
            ([{"model": "m", "timeout": 0}], "entry 1: timeout"),
            ([{"model": "m", "api_type": "azure"}], "azure"),
            ("[" * 100_000, "not JSON"),
        ],
    )
    def test_what_does_not_fit_is_named_without_its_value(self, tmp_path: Path, data: Any, complaint: str) -> None:
        with pytest.raises(ConfigError, match=complaint) as caught:
            load_endpoints(written(tmp_path, data))
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.exit_code == 5

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="nowhere"):
            load_endpoints(tmp_path / "nowhere")


class TestChoosing:
    ENTRIES = (
        Endpoint(model="a", tags=("hosted",)),
        Endpoint(model="b", tags=("local", "fast")),
        Endpoint(model="b", tags=("local", "big")),
    )

    def test_the_first_that_fits(self) -> None:
        assert pick_endpoint(self.ENTRIES).model == "a"
        assert pick_endpoint(self.ENTRIES, model="b").tags == ("local", "fast")
        assert pick_endpoint(self.ENTRIES, model="b", tag="big").tags == ("local", "big")

    def test_none_that_fits_lists_what_there_is(self) -> None:
        with pytest.raises(ConfigError, match=r"model 'c'.*a \[hosted\]; b \[local, fast\]"):
            pick_endpoint(self.ENTRIES, model="c")

    def test_none_at_all_says_how_to_configure_one(self) -> None:
        with pytest.raises(ConfigError, match="OAI_CONFIG_LIST"):
            pick_endpoint(())


class TestKeys:
    def test_a_key_is_never_in_a_representation(self) -> None:
        endpoint = Endpoint.model_validate({"model": "m", "api_key": SECRET})
        for text in (repr(endpoint), str(endpoint), endpoint.model_dump_json(), summary([endpoint])):
            assert SECRET not in text
        assert endpoint.key().get_secret_value() == SECRET

    def test_a_key_may_name_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        endpoint = Endpoint.model_validate({"model": "m", "api_key": "MY_SERVER_KEY"})
        monkeypatch.delenv("MY_SERVER_KEY", raising=False)
        assert "not set" in summary([endpoint])
        with pytest.raises(ConfigError, match="MY_SERVER_KEY, which is not set"):
            endpoint.key()
        monkeypatch.setenv("MY_SERVER_KEY", SECRET)
        assert endpoint.key().get_secret_value() == SECRET
        assert "key set" in summary([endpoint])

    def test_an_entry_that_does_not_fit_never_shows_its_values(self) -> None:
        for bad in ({"api_key": f"{SECRET}é"}, {"base_url": f"http://:{SECRET}@host"}, {"api_kee": SECRET}):
            with pytest.raises(ValidationError) as caught:
                Endpoint.model_validate({"model": "m", **bad})
            assert SECRET not in str(caught.value) + repr(caught.value)

    def test_the_line_end_that_comes_with_a_key_from_a_file_is_dropped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert Endpoint.model_validate({"model": "m", "api_key": f"{SECRET}\n"}).key().get_secret_value() == SECRET
        endpoint = Endpoint.model_validate({"model": "m", "api_key": "MY_SERVER_KEY"})
        monkeypatch.setenv("MY_SERVER_KEY", f" {SECRET}\r\n")
        assert endpoint.key().get_secret_value() == SECRET
        monkeypatch.setenv("MY_SERVER_KEY", f"{SECRET}\nX-Other: 1")
        with pytest.raises(ConfigError, match="MY_SERVER_KEY") as caught:
            endpoint.key()
        assert SECRET not in str(caught.value)

    def test_a_key_that_looks_like_a_variable_is_not_shown(self) -> None:
        with pytest.raises(ConfigError, match="none of that name is set") as caught:
            Endpoint.model_validate({"model": "m", "api_key": "GATEWAY_TOKEN_8F3A9C21D0"}).key()
        assert "8F3A" not in str(caught.value)

    def test_without_a_key_no_other_services_key_is_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        assert Endpoint(model="m", base_url="http://localhost:1/v1").key().get_secret_value() == "none"

    def test_the_usual_dummy_is_not_a_variable(self) -> None:
        assert Endpoint.model_validate({"model": "m", "api_key": "EMPTY"}).key().get_secret_value() == "EMPTY"


class TestWhere:
    @pytest.mark.parametrize(
        ("url", "local"),
        [
            ("http://localhost:11434/v1", True),
            ("http://127.0.0.1:8000/v1", True),
            ("http://[::1]:8000/v1", True),
            ("http://0.0.0.0:8000/v1", True),
            ("http://192.168.1.7/v1", True),
            ("http://10.1.2.3/v1", True),
            ("http://172.31.0.1/v1", True),
            ("http://[fd00::1]/v1", True),
            ("http://LOCALHOST:8000/v1", True),
            ("http://127.1:8000/v1", True),
            ("http://2130706433/v1", True),
            ("http://134744072/v1", False),
            ("http://169.254.169.254/v1", False),
            ("http://[fe80::1]/v1", False),
            ("http://[::ffff:8.8.8.8]/v1", False),
            ("http://[::ffff:10.0.0.1]/v1", True),
            ("http://172.32.0.1/v1", False),
            ("http://8.8.8.8/v1", False),
            ("http://100.64.0.1/v1", False),
            ("http://[2001:4860:4860::8888]/v1", False),
            ("http://localhost.example.invalid/v1", False),
            ("http://10.0.0.1.example.invalid/v1", False),
        ],
    )
    def test_local_is_this_machine_or_a_private_range(self, url: str, local: bool) -> None:
        assert Endpoint(model="m", base_url=url).is_local is local
