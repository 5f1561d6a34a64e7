"""`flask tenant add|list|show|set|remove|purge`: the businesses and their records.

They run in a process of their own, beside a running service or without one. Whoever may run them
may see and change every business; a business itself has keys (`flask tenant key`).
"""

from __future__ import annotations

from typing import Any

import click
import msgspec

import retention
import tenant_key_commands
import tenant_number_commands
import webhook_commands
from business_records import load_tenant
from businesses import Business
from database import db, now, writes
from errors import BadBusiness
from record_command import RecordGroup, json_option, print_json
from tenant_changes import begin_change, change_business, create_business, load_business
from tenant_directory import read_businesses
from tenant_options import changes_of, settings_options
from tenant_output import (
    HOLDS,
    business_json,
    print_business,
    print_businesses,
    print_changes,
    told_counts,
)
from tenant_removal import count_live_calls, count_records, remove_business

group = RecordGroup("tenant", help="The businesses that share this service, and their records.")
group.add_command(tenant_number_commands.group)
group.add_command(tenant_key_commands.group)
group.add_command(webhook_commands.group)


@group.command("add")
@click.argument("tenant_id", metavar="ID")
@click.option("--number", "numbers", multiple=True, help="A number in full; may be repeated.")
@settings_options
@json_option
def add(tenant_id: str, numbers: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Add a business; ID is its short name in commands, logs and addresses.

    \b
    Examples:
      flask tenant add clinic --number +97231234567 --language iw-IL
      flask tenant add garage --number +97237654321 --forward +972541234567 \\
          --when-full forward --max-calls 40
    """
    business = Business(tenant_id, numbers)
    changes = changes_of(options)
    begin_change()
    business = create_business(msgspec.structs.replace(business, **changes))
    db.session.commit()
    if as_json:
        print_json(business_json(business))
    else:
        print_business(business)
        click.echo(f"Added. {HOLDS}")


@group.command("list")
@json_option
def list_businesses(as_json: bool) -> None:
    """List all businesses: id, language, numbers, name.

    \b
    Examples:
      flask tenant list
      flask tenant list --json | jq -r '.[].id'
    """
    businesses = read_businesses(db.session())
    if as_json:
        print_json([business_json(business) for business in businesses])
    elif businesses:
        print_businesses(businesses)
    else:
        click.echo("There are no businesses; flask tenant add makes one.")


@group.command("show")
@click.argument("tenant_id", metavar="ID")
@json_option
def show(tenant_id: str, as_json: bool) -> None:
    """Show all settings of the business ID, and how many records it has.

    \b
    Example:
      flask tenant show clinic
    """
    business, records = load_business(tenant_id), count_records(tenant_id)
    if as_json:
        print_json(business_json(business) | {"records": records})
    else:
        print_business(business)
        click.echo(f"  {'records':<17} {told_counts(records)}")


@group.command("set")
@click.argument("tenant_id", metavar="ID")
@settings_options
@json_option
def set_fields(tenant_id: str, as_json: bool, **options: Any) -> None:
    """Change settings of the business ID. An empty value ("") unsets what may be unset.

    All hints are replaced by those that are given.

    \b
    Examples:
      flask tenant set clinic --language en-US --model telephony
      flask tenant set clinic --hints-file names.txt --hint "root canal"
      flask tenant set clinic --model "" --hint "" --no-punctuation
      flask tenant set clinic --google-key-env CLINIC_GOOGLE_KEY --region eu
    """
    changes = changes_of(options)
    if not changes:
        raise BadBusiness("say what to set (see: flask tenant set --help)")
    begin_change()
    before, after = change_business(tenant_id, changes)
    db.session.commit()
    if as_json:
        print_json(business_json(after))
    elif print_changes(before, after):
        click.echo(f"Changed. {HOLDS}")
    else:
        click.echo("Nothing is to be changed: it is set so.")


@group.command("remove")
@click.argument("tenant_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Remove it; without this nothing is changed.")
@click.option("--force", is_flag=True, help="Remove it although calls of it are live.")
@json_option
def remove(tenant_id: str, yes: bool, force: bool, as_json: bool) -> None:
    """Remove the business ID and all its records, for good.

    \b
    Examples:
      flask tenant remove garage          # says what would be deleted
      flask tenant remove garage --yes    # deletes it
    """
    records, live = count_records(tenant_id), count_live_calls(tenant_id)
    if yes and live and not force:
        raise BadBusiness(
            f"{tenant_id} has {told_counts({'live_calls': live})}; wait for the end, or use --force"
        )
    db.session.rollback()  # what follows begins transactions of its own
    if yes:
        remove_business(tenant_id)
    if as_json:
        told = {"id": tenant_id, "removed": yes, "records": records, "live_calls": live}
        print_json(told)
        return
    verb = "Deleted" if yes else "Would be deleted"
    click.echo(f"{verb}: the business {tenant_id}, {told_counts(records)}.")
    if not yes:
        if live:
            click.echo(f"  Mind: it has {told_counts({'live_calls': live})}: --force is needed.")
        click.echo("Nothing was changed; with --yes it is.")


@group.command("purge")
@click.argument("tenant_id", metavar="[ID]", required=False)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@json_option
def purge(tenant_id: str | None, dry_run: bool, as_json: bool) -> None:
    """Delete what is older than its business keeps (--keep-days), of all businesses or of ID.

    The service does so itself every day.

    \b
    Examples:
      flask tenant purge --dry-run
      flask tenant purge clinic
    """
    if tenant_id is not None:
        load_tenant(tenant_id)
    at = now()
    old = {
        business.tenant_id: retention.count_old(
            db.session(), at, business.tenant_id, business.keep_days
        )
        for business in read_businesses(db.session())
        if tenant_id in (None, business.tenant_id)
    }
    db.session.rollback()
    if not dry_run:
        for business_id in old:
            _purge(business_id)
    if as_json:
        print_json({"deleted": not dry_run, "businesses": old})
        return
    verb = "would be deleted" if dry_run else "deleted"
    for business_id, counts in old.items():
        click.echo(f"{business_id}: {verb}: {told_counts(counts)}")


def _purge(tenant_id: str) -> None:
    some = 1
    while some:
        writes()
        some = retention.purge_some(db.session(), now(), tenant_id)
        db.session.commit()
