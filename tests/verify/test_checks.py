"""The checks as values: found by themselves, named as their modules, in one order."""

from __future__ import annotations

from modelstore.verify.checks import all_checks, check_names


def test_every_module_holds_the_check_of_its_name() -> None:
    assert sorted(check.name for check in all_checks()) == list(check_names())


def test_reports_have_one_order() -> None:
    orders = [check.order for check in all_checks()]
    assert orders == sorted(set(orders))


def test_only_a_replica_and_the_drill_must_be_asked_for() -> None:
    assert [check.name for check in all_checks() if check.on_request] == [
        "replica",
        "drill",
    ]


def test_a_title_is_for_people() -> None:
    assert all(check.title and check.title != check.name for check in all_checks())
