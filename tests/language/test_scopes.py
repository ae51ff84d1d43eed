"""Each rule of the table of scopes, by its own example."""

from __future__ import annotations

import pytest

from medsegagent.language import parse
from medsegagent.language.scope_rules import RULES, Rule
from medsegagent.vocabulary import load


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.example)
def test_a_rule_does_what_its_example_says(rule: Rule) -> None:
    request = parse(rule.example, load())
    assert tuple(id_ for target in request.targets for id_ in target.concepts) == rule.wanted
