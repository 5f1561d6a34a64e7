"""`flask tenant key new|list|revoke`: the keys with which a business reads its records."""

from __future__ import annotations

import click

from api_keys import make_key, revoke_key
from business_records import keys_of, load_tenant
from database import db, writes
from errors import BadBusiness
from models import ApiKey
from record_command import RecordGroup, json_option, print_json
from tenant_output import key_json, print_key

_NAME_LENGTH = 100

group = RecordGroup("key", help="The keys with which a business reads its records.")


@group.command("new")
@click.argument("tenant_id", metavar="ID")
@click.option("--name", default="", help="Who will have it, or what it is for.")
@json_option
def new(tenant_id: str, name: str, as_json: bool) -> None:
    """Make a key for the business ID. It is shown now, and never again.

    \b
    Examples:
      flask tenant key new clinic --name "the website"
      flask tenant key new clinic --json | jq -r .key
    """
    if len(name) > _NAME_LENGTH or not name.isprintable():
        raise BadBusiness(f"a key's name has at most {_NAME_LENGTH} printable characters")
    writes()
    key, text = make_key(tenant_id, name)
    told = key_json(key)
    db.session.commit()
    if as_json:
        print_json(told | {"key": text})
    else:
        click.echo(text)
        click.echo("Keep it now: only its hash is stored, so it is never shown again.", err=True)


@group.command("list")
@click.argument("tenant_id", metavar="ID")
@json_option
def list_keys(tenant_id: str, as_json: bool) -> None:
    """List the keys of the business ID, without their secrets.

    \b
    Example:
      flask tenant key list clinic
    """
    load_tenant(tenant_id)
    keys = db.session.scalars(keys_of(tenant_id).order_by(ApiKey.created_at, ApiKey.id)).all()
    if as_json:
        print_json([key_json(key) for key in keys])
        return
    for key in keys:
        print_key(key)
    if not keys:
        click.echo(f"{tenant_id} has no keys; flask tenant key new {tenant_id} makes one.")


@group.command("revoke")
@click.argument("tenant_id", metavar="ID")
@click.argument("key_id", metavar="KEY")
@json_option
def revoke(tenant_id: str, key_id: str, as_json: bool) -> None:
    """Have a KEY of the business ID (or the key of that id) count no more, at once.

    \b
    Example:
      flask tenant key revoke clinic 0123456789abcdef
    """
    writes()
    key = revoke_key(tenant_id, key_id)
    told = key_json(key)
    db.session.commit()
    if as_json:
        print_json(told)
    else:
        click.echo(f"{told['id']} of {tenant_id} is revoked; requests with it are refused.")
