"""`flask tenant number add|remove`: whose phone number is whose."""

from __future__ import annotations

import click

from businesses import Business
from database import db
from record_command import RecordGroup, json_option, print_json
from tenant_changes import add_number, begin_change, remove_number
from tenant_output import HOLDS, business_json

group = RecordGroup("number", help="The phone numbers at which a business is called.")


@group.command("add")
@click.argument("tenant_id", metavar="ID")
@click.argument("number")
@json_option
def add(tenant_id: str, number: str, as_json: bool) -> None:
    """Give the business ID one more NUMBER, written in full.

    \b
    Example:
      flask tenant number add clinic +97231234567
    """
    begin_change()
    business = add_number(tenant_id, number)
    db.session.commit()
    _say(business, f"{number} belongs to {tenant_id}. {HOLDS}", as_json)


@group.command("remove")
@click.argument("tenant_id", metavar="ID")
@click.argument("number")
@json_option
def remove(tenant_id: str, number: str, as_json: bool) -> None:
    """Take NUMBER from the business ID; what was said on its calls stays.

    \b
    Example:
      flask tenant number remove clinic +97231234567
    """
    begin_change()
    business = remove_number(tenant_id, number)
    db.session.commit()
    _say(business, f"{number} belongs to {tenant_id} no more. {HOLDS}", as_json)


def _say(business: Business, told: str, as_json: bool) -> None:
    if as_json:
        print_json(business_json(business))
    else:
        click.echo(told)
